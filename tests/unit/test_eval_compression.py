"""The scorer of shortened answers must see what it is there for: every damage done on purpose to a text."""

import pytest

from tests.eval.compression import alignment, endings, meaning, score, ways
from tests.eval.compression.corpus import RULED, Answer, Fact, answers
from tests.eval.compression.words import protected, tokens

# One answer of each language, not the same kind: what is damaged in them stands for the rest.
DAMAGED = [answer for answer in answers(*RULED) if answer.id in {"en-001", "es-003", "fr-008", "pt-023"}]
ANSWER = Answer(
    id="made",
    lang="en",
    kind="numbered",
    held=False,
    text=(
        "1. Press for 10 minutes. Do not lift the cloth.\n2. Give 500 mg of aspirin unless allergic.\n"
        "3. Above 2000 m boil for 3 minutes."
    ),
    facts=(Fact("exception", "unless allergic", 74, critical=True),),
)


def kinds(answer: Answer, short: str) -> set[str]:
    reading = alignment.align(answer.text, short, answer.lang)
    return {suspect.kind for suspect in meaning.suspects(answer, short, reading)}


@pytest.mark.parametrize("answer", answers(*RULED)[::5], ids=lambda answer: answer.id)
def test_an_unchanged_answer_raises_no_suspicion(answer: Answer) -> None:
    assert not kinds(answer, answer.text)


@pytest.mark.parametrize("answer", DAMAGED, ids=lambda answer: answer.id)
def test_each_lost_negation_is_seen(answer: Answer) -> None:
    denials = [
        t for t in tokens(answer.text, answer.lang) if t.kind == "negator" and t.form not in {"ne", "n"}
    ]
    assert len(denials) >= 2
    for token in denials:
        shorter = answer.text[: token.start] + answer.text[token.end :]
        assert kinds(answer, shorter), answer.text[token.start - 10 : token.end + 20]


@pytest.mark.parametrize("answer", DAMAGED, ids=lambda answer: answer.id)
def test_each_lost_condition_is_seen(answer: Answer) -> None:
    for fact in answer.facts:
        if fact.kind in {"condition", "exception"}:
            shorter = answer.text[: fact.start] + answer.text[fact.end :]
            assert {f"{fact.kind} lost"} <= kinds(answer, shorter), fact


@pytest.mark.parametrize(
    ("short", "kind"),
    [
        ("1. Press for 10 minutes. Lift the cloth.", "negation dropped"),
        ("1. Do not press for 10 minutes.", "negation inserted"),
        ("1. Never press. Do not lift the cloth.", "negation inserted"),
        ("1. Press for 10 minutes.\n2. Give 500 mg of aspirin.", "exception lost"),
        ("3. 2000 m boil for 3 minutes.", "limit lost"),
        ("1. Press for 10.", "number without its unit"),
        ("2. Give 10 mg of aspirin unless allergic. 1. Press for 500 minutes.", "number moved"),
    ],
)
def test_each_kind_of_damage_has_its_name(short: str, kind: str) -> None:
    assert kind in kinds(ANSWER, short)


def test_what_is_shortened_well_raises_nothing() -> None:
    short = "1. Press 10 min. Don't lift cloth.\n2. Give 500mg aspirin unless allergic."
    assert not kinds(ANSWER, short)
    assert not alignment.new_words(alignment.align(ANSWER.text, short, "en"), "en")


def test_words_that_were_not_there_are_seen() -> None:
    reading = alignment.align(ANSWER.text, "1. Squeeze for 15 min", "en")
    assert alignment.new_words(reading, "en") == ["squeeze", "15"]


@pytest.mark.parametrize(
    ("short", "place"),
    [
        ("1. Press for 10 minutes. Do not lift the clo", "word"),
        ("1. Press for 1", "number"),
        ("1. Press for 10", "number"),
        ("1. Press for 10 minutes. Do not lift", "sentence"),
        ("1. Press for 10 minutes.", "step"),
    ],
)
def test_a_cut_is_seen_where_it_is(short: str, place: str) -> None:
    reading = alignment.align(ANSWER.text, short, "en")
    assert getattr(endings.cuts(ANSWER, short, reading, 150), place)


def test_a_text_that_ends_with_a_step_is_not_cut() -> None:
    short = "1. Press for 10 minutes. Do not lift the cloth."
    found = endings.cuts(ANSWER, short, alignment.align(ANSWER.text, short, "en"), 150)
    assert found == endings.Cuts(word=False, number=False, sentence=False, step=False, long_step=False)


def test_tokens_are_comparable_across_ways_of_writing() -> None:
    assert protected("Take 500mg, don't wait 10 min; call 0800 555-119 at 18h30", "en") == protected(
        "Take 500 mg, do not wait 10 minutes; call 0800555119 at 18:30", "en"
    )


def test_the_naive_ways_are_caught_at_what_they_do() -> None:
    scored = [score(answer, ways.naive, 1) for answer in DAMAGED]
    assert any(row.bad_cut for row in scored)
    # Its alphabet is left as it was: a curly quotation mark makes the whole text UCS-2.
    assert not all(row.gsm7 for row in scored)


def test_segments_are_counted_as_the_standard_says() -> None:
    for text in ("a" * 160, "a" * 161, "€" * 80, "€" * 81, "ó" * 70, "ó" * 71, "é" * 306, "é" * 307):
        for budget in (1, 2):
            assert ways.fits(text, budget) == (ways.segments(text) <= budget), (text[0], len(text), budget)


@pytest.mark.parametrize(
    ("short", "points"),
    [
        ("If it is not better after 30 minutes, go to a clinic.", True),
        ("Paracetamol does not help here.", True),
        ("Cool the head. If it is not better after 30 minutes, go to a clinic.", False),
        ("Drink water. Paracetamol does not help here.", False),
    ],
)
def test_a_sentence_without_the_one_it_points_to_is_seen(short: str, points: bool) -> None:
    text = (
        "Cool the head. If it is not better after 30 minutes, go to a clinic. Drink water. "
        "Paracetamol does not help here."
    )
    answer = Answer(id="back", lang="en", kind="prose", held=False, text=text, facts=())
    assert bool(endings.pointing_back(answer, alignment.align(text, short, "en"))) == points


@pytest.mark.parametrize(
    "short", [". Press hard", "Press hard.: now", "¡! Llame", "Press , hard", "Press,, hard"]
)
def test_punctuation_left_behind_is_seen(short: str) -> None:
    assert endings.untidy(short, "Of course. Press hard, now!")
    assert not endings.untidy("Press hard, now!", "Of course. Press hard, now!")
