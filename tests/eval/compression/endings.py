"""How a short text ends and hangs together: cuts, the order of steps, sentences that point to others."""

import re
from itertools import pairwise

import msgspec

from tests.eval.compression.alignment import Reading, content, inside, items, units
from tests.eval.compression.corpus import Answer
from tests.eval.compression.words import BACK, HERE, OUTCOME, SHORT_FORMS, plain


class Cuts(msgspec.Struct, frozen=True):
    """Where the first text ends, if it ends in the wrong place."""

    word: bool
    number: bool
    sentence: bool
    step: bool
    """Within a numbered step that would have fitted whole."""
    long_step: bool
    """Within a numbered step that is longer than the whole budget."""


def cuts(answer: Answer, short: str, reading: Reading, octets_left: int) -> Cuts:
    """How the first text ends. ``octets_left``: characters a step may have to fit by itself."""
    nothing = Cuts(word=False, number=False, sentence=False, step=False, long_step=False)
    if not reading.short or not reading.match:
        return nothing
    last = len(reading.short) - 1
    token = reading.short[last]
    source = reading.source
    if last not in reading.match:
        near = reading.match.get(last - 1, -2) + 1
        stump = near < len(source) and source[near].form.startswith(token.form)
        return Cuts(
            word=token.kind in {"word", "unit", "negator"} and stump,
            number=token.kind in {"number", "time", "phone"},
            sentence=True,
            step=False,
            long_step=False,
        )
    place = reading.match[last]
    here = source[place]
    end = next((b for a, b in units(answer.text) if a <= here.start < b), 0)
    after = [p for p in inside(source, here.end, end) if content(source[p], answer.lang)]
    if len(after) == 1 and re.search(r"[^.][.!?]$", short.rstrip()):
        # «the injured person.» may become «the injured.»: a sentence with a word less, not a cut one.
        after = []
    partial = (
        here.kind == "word" and here.form != token.form and plain(short)[token.end : token.end + 1] != "."
    )
    known = token.form in SHORT_FORMS.get(answer.lang, {}).values()
    number = (
        token.kind == "number" and bool(after) and source[after[0]].kind == "unit" and after[0] == place + 1
    )
    within = next(((a, b) for a, b in items(answer.text) if a <= here.start < b), None)
    cut_step = within is not None and any(
        content(source[p], answer.lang) for p in inside(source, here.end, within[1])
    )
    too_long = within is not None and within[1] - within[0] > octets_left
    return Cuts(
        word=partial and not known,
        number=number,
        sentence=bool(after),
        step=cut_step and not too_long,
        long_step=cut_step and too_long,
    )


def order_broken(answer: Answer, reading: Reading, short: str) -> bool:
    """Whether two marked steps, known by words that occur once, stand in another order."""
    counts: dict[str, int] = {}
    for token in reading.source:
        counts[token.form] = counts.get(token.form, 0) + 1
    first = {token.form: place for place, token in reversed(list(enumerate(reading.short)))}
    places = []
    for fact in answer.facts:
        if fact.kind == "step":
            rare = [
                first[token.form]
                for p in inside(reading.source, fact.start, fact.end)
                if counts[(token := reading.source[p]).form] == 1
                and token.form in first
                and content(token, answer.lang)
            ]
            if rare:
                places.append(min(rare))
    return any(a > b for a, b in pairwise(places))


def pointing_back(answer: Answer, reading: Reading) -> list[str]:
    """Kept sentences that begin with «this» or «then», or say «here», without the one before them."""
    found = []
    kept = reading.kept
    before: list[int] = []
    for start, end in units(answer.text):
        here = inside(reading.source, start, end)
        words = [p for p in here if reading.source[p].kind in {"word", "negator"}]
        back = BACK.get(answer.lang, frozenset())
        pointing = any(reading.source[p].form in back for p in words[:1]) or any(
            reading.source[p].form in HERE for p in words[2:]
        )
        outcome = OUTCOME.get(answer.lang)
        pointing = pointing or bool(outcome and outcome.search(plain(answer.text[start:end]).strip()))
        there = [p for p in here if p in kept and content(reading.source[p], answer.lang)]
        if pointing and len(there) >= 2 and before and not any(p in kept for p in before):
            found.append(answer.text[start:end].strip())
        before = here or before
    return found


def whole_sentences(short: str) -> str:
    """A text that breaks off, without the sentence that does."""
    ends = [b for _, b in units(short)][:-1]
    return short[: ends[-1]] if ends else ""


def untidy(short: str, source: str) -> bool:
    """Punctuation left behind by what was taken out: at the start, doubled, or after a space."""
    wrong = re.compile(r"^[.,;:!?)]|,,|,\.| [,.](?=\s|$)|\.\s+\.(?=\s)|\.[:;]|[¡¿] ?[!?]")
    return bool(wrong.search(short)) and not wrong.search(source)


def steps_skipped(answer: Answer, reading: Reading) -> int:
    """Numbered steps that are gone while a later one is there."""
    present = [
        any(
            p in reading.kept and content(reading.source[p], answer.lang)
            for p in inside(reading.source, a + 2, b)
        )
        for a, b in items(answer.text)
    ]
    last = max((place for place, there in enumerate(present) if there), default=-1)
    return present[: last + 1].count(False) if last >= 0 else 0
