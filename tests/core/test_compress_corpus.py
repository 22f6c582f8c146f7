"""evy_core.Compressor on the half of the corpus its author may look at, judged by another reading."""

import pytest

from tests.eval.compression import PROTECTED, Scored, score, share
from tests.eval.compression.corpus import RULED, answers
from tests.eval.compression.post_check import FAITHFUL, attacks, refused
from tests.eval.compression.ways import lead, ours

OPEN = [answer for answer in answers() if not answer.held]
RULED_OPEN = [answer for answer in OPEN if answer.lang in RULED]
MINE = {(answer.id, budget): score(answer, ours, budget) for answer in OPEN for budget in (1, 2)}


def found(what: str) -> dict[tuple[str, int], object]:
    return {key: there for key, scored in MINE.items() if (there := getattr(scored, what))}


def rows(budget: int) -> list[Scored]:
    return [MINE[answer.id, budget] for answer in RULED_OPEN]


def test_the_marks_of_the_corpus_lie_where_they_say() -> None:
    every = answers()
    assert len({answer.id for answer in every}) == len(every) >= 140
    for answer in every:
        assert answer.facts, answer.id
        for fact in answer.facts:
            assert answer.text[fact.start : fact.end] == fact.text, (answer.id, fact)


def test_no_meaning_is_turned_around() -> None:
    assert not found("suspects")


def test_nothing_is_said_that_the_answer_did_not_say() -> None:
    assert not found("new")


def test_no_word_number_or_step_is_cut() -> None:
    assert not {key for key, scored in MINE.items() if scored.cuts.word or scored.cuts.number}
    assert not {key for key, scored in MINE.items() if scored.cuts.step}


def test_steps_keep_their_order_and_none_is_jumped_over() -> None:
    assert not found("order_broken")
    assert not found("skipped")


def test_everything_protected_comes_with_more() -> None:
    lost = {key for key, scored in MINE.items() if scored.protected_after_more < scored.protected_of}
    assert not lost


def test_budgets_are_kept() -> None:
    assert not found("over_budget")


@pytest.mark.parametrize("budget", [1, 2])
def test_more_is_kept_than_by_lead_sentences(budget: int) -> None:
    plain = [score(answer, lead, budget) for answer in RULED_OPEN]
    assert share(rows(budget), PROTECTED) > share(plain, PROTECTED)


def test_no_altered_answer_passes_the_post_check() -> None:
    altered = [attack for attack in attacks() if attack.kind != FAITHFUL]
    assert len(altered) >= 60
    missed = [attack.id for attack, no in zip(altered, refused(altered), strict=True) if not no]
    assert not missed


def test_most_faithful_answers_pass_the_post_check() -> None:
    faithful = [attack for attack in attacks() if attack.kind == FAITHFUL]
    assert len(faithful) >= 60
    # A refusal costs eloquence only; that all were refused would hide behind the test above.
    assert sum(refused(faithful)) < len(faithful) / 2
