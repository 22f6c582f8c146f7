"""The public messages: near-repeats are found, ties are not cut, the mapping is to needs of ours."""

import numpy as np
import pytest

from tests.eval.labelled import NEEDS, precision_at
from tests.eval.messages import DEV_IDS, MAPPED, URGENT, dev_ids, groups
from tests.eval.report import Share


def test_texts_that_nearly_repeat_each_other_are_one_group() -> None:
    a, b, c, d = groups(
        [
            "We are hungry in the camp of Leogane, please send food and water for the children",
            "we are hungry in the camp of leogane please send food and water for the children THANKS",
            "We have no tent in the camp of Leogane and the rain is coming for the children",
            "",
        ]
    )
    assert a == b
    assert len({a, c, d}) == 3
    same, other, empty = groups(
        ["we are hungry", "we have hunger", "hi"], ["nou grangou anpil", "nou grangou anpil", ""]
    )
    assert same == other != empty
    assert len(set(groups(["", "", "a"]))) == 3


@pytest.mark.parametrize(
    ("least", "found", "right"),
    [(0.5, Share(1, 2), Share(1, 1)), (0.6, Share(2, 2), Share(2, 4)), (1.0, Share(2, 2), Share(2, 4))],
)
def test_texts_of_one_score_come_in_together(least: float, found: Share, right: Share) -> None:
    truth = np.array([True, False, True, False, False])
    assert precision_at(truth, np.array([3.0, 1.0, 1.0, 1.0, -2.0]), least) == (found, right)


def test_the_mapping_names_needs() -> None:
    assert set(MAPPED) - {URGENT} < set(NEEDS)


def test_what_no_weight_may_have_seen_is_listed_once() -> None:
    assert len(dev_ids()) == len(DEV_IDS.read_text(encoding="utf-8").split()) == 320
