"""Texts of another hand than the rules: floors below the figures of `tests/vectors/unseen/README.md`."""

from functools import cache

import pytest
from evy_core import Triage

from tests.eval.labelled import Row, ours, templates, vectors
from tests.eval.report import precision, recall

FLOORS = {"batch1": (0.92, 0.93, 0.10), "batch2": (0.70, 0.85, 0.20)}
"""Emergency recall, precision, most wrong templates of each batch; those of batch 2 are loose on purpose."""


@cache
def verdicts(batch: str) -> list[tuple[Row, Triage]]:
    rows = vectors(f"unseen/{batch}.jsonl")
    return list(zip(rows, ours(rows), strict=True))


@pytest.mark.parametrize("batch", FLOORS)
def test_emergencies_are_found_and_alarms_are_right(batch: str) -> None:
    pairs = [(row.priority, got.priority) for row, got in verdicts(batch)]
    wrong = [
        (row.id, row.text)
        for row, got in verdicts(batch)
        if (row.priority == "emergency") != (got.priority == "emergency")
    ]
    found, right = recall("emergency", pairs), precision("emergency", pairs)
    assert found.value >= FLOORS[batch][0], (str(found), wrong)
    assert right.value >= FLOORS[batch][1], (str(right), wrong)


@pytest.mark.parametrize("batch", FLOORS)
def test_the_wrong_template_is_rare(batch: str) -> None:
    wrong, named = templates(*zip(*verdicts(batch), strict=True))
    assert named > 100
    assert wrong <= FLOORS[batch][2] * named


@pytest.mark.parametrize("batch", FLOORS)
def test_languages_are_told_apart(batch: str) -> None:
    long = [(row, got) for row, got in verdicts(batch) if len(row.text.split()) >= 3]
    wrong = [(row.id, row.lang, got.lang) for row, got in long if got.lang != row.lang]
    assert len(wrong) <= 0.03 * len(long), wrong
