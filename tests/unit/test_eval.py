"""The scoring behind `make eval`: counts, intervals, precision at equal recall."""

import pytest

from tests.eval.labelled import Row, at_recall, equal_recall, f1_rows
from tests.eval.report import Share, confusion, goal, precision, recall


def test_the_interval_is_wilsons() -> None:
    low, high = Share(81, 263).interval  # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert Share(0, 0).interval == (0.0, 1.0)
    assert Share(8, 8).interval == (pytest.approx(0.6756, abs=1e-4), 1.0)


def test_recall_and_precision_count_the_right_way_round() -> None:
    pairs = [("a", "a"), ("a", "b"), ("b", "a"), ("b", "a"), ("b", "b")]
    assert recall("a", pairs) == Share(1, 2)
    assert precision("a", pairs) == Share(1, 3)
    assert confusion("", ("a", "b"), pairs).rows[0][:3] == ("a", "1", "1")


def test_precision_is_compared_where_recall_is_equal() -> None:
    truth = [True, True, False, False, False]
    assert at_recall(truth, [0.9, 0.4, 0.5, 0.1, 0.0], 1.0) == (Share(2, 2), Share(2, 3))
    assert at_recall(truth, [0.9, 0.0, 0.5, 0.1, 0.0], 1.0) is None
    _, figures = equal_recall(
        "", truth, [True, True, False, False, False], {"other": [0.9, 0.4, 0.5, 0.1, 0]}
    )
    assert figures["ours_precision"] == 1.0
    assert figures["other_precision_at_ours_recall"] == pytest.approx(2 / 3)


def test_needs_are_averaged_by_text_and_by_need() -> None:
    truth = [("food", "water"), ("none",)]
    table, figures = f1_rows(truth, {"ours": [["food"], ["water"]]})
    assert figures["ours_needs_micro_f1"] == pytest.approx(2 / 5)
    assert figures["ours_needs_macro_f1"] == pytest.approx(1 / 3)
    assert [row[0] for row in table.rows] == ["water", "food", "none", "micro", "macro F1"]


def test_a_missed_goal_is_said() -> None:
    assert goal("recall", 0.5, 0.99).endswith("MISSED")
    assert goal("recall", 0.99, 0.99).endswith("met")
    assert Row("x", "normal").needs == ()


def test_the_keyword_baseline_reads_its_list() -> None:
    pytest.importorskip("sklearn", reason="a program of the group eval: make eval brings it")
    from tests.eval import baselines  # noqa: PLC0415 - only where the group is installed

    rows = [Row("he is BLEEDING, call an ambulance", "emergency"), Row("we need water", "urgent")]
    assert baselines.keyword_alarms(rows) == [2.0, 0.0]
    assert baselines.keyword_priorities(rows) == ["emergency", "urgent"]
