"""Whether a short text still says what the long one said: denials, conditions, bounds, and nothing new."""

import re
from typing import Final

import msgspec

from tests.eval.compression.alignment import (
    CLAUSE_END,
    Reading,
    content,
    fact_kept,
    inside,
    spans,
    units,
)
from tests.eval.compression.corpus import Answer
from tests.eval.compression.words import LIMITS, Token

HEAD: Final = 1
"""Words of content behind a negation that it surely denies."""


class Suspect(msgspec.Struct, frozen=True):
    """A place where the short text may say something else; it counts as wrong until a person has looked."""

    kind: str
    what: str


def suspects(answer: Answer, short: str, reading: Reading) -> list[Suspect]:
    """Every place where the short text may mean something else than the long one."""
    return [
        *_negations(answer, reading),
        *_conditions(answer, reading),
        *_limits(answer, reading),
        *_inserted(answer, short, reading),
        *_moved(short, reading),
    ]


def _negations(answer: Answer, reading: Reading) -> list[Suspect]:
    """Negations that are gone while what they denied is still there."""
    found = []
    kept, source = reading.kept, reading.source
    clauses = spans(answer.text, CLAUSE_END)
    for place, token in enumerate(source):
        if token.kind != "negator" or place in kept:
            continue
        start, end = next(((a, b) for a, b in clauses if a <= token.start < b), (0, 0))
        clause = inside(source, start, end)
        if any(_one_denial(place, p, source) for p in clause if p in kept and source[p].kind == "negator"):
            continue
        heads = [p for p in clause if p > place and content(source[p], answer.lang)][:HEAD]
        heads = heads or [p for p in clause if p < place and content(source[p], answer.lang)][-HEAD:]
        if any(p in kept for p in heads):
            found.append(Suspect("negation dropped", answer.text[start:end].strip()))
    return found + _restrictions(answer, reading, clauses)


def _one_denial(gone: int, there: int, source: list[Token]) -> bool:
    """French «ne … pas» in one: without «ne» it still denies."""
    return (
        source[gone].form in {"ne", "n"}
        and gone < there <= gone + 4
        and source[there].form not in {"ne", "n"}
    )


def _restrictions(answer: Answer, reading: Reading, clauses: list[tuple[int, int]]) -> list[Suspect]:
    """French «ne … que»: one half alone denies or allows everything."""
    found = []
    for start, end in clauses if answer.lang == "fr" else []:
        forms = {reading.source[p].form: p in reading.kept for p in inside(reading.source, start, end)}
        half = [forms[form] for form in ("ne", "n") if form in forms]
        other = [forms[form] for form in ("que", "qu") if form in forms]
        full = {"pas", "jamais", "rien", "ni", "aucun", "aucune"} & set(forms)
        if half and other and not full and any(half) != any(other):
            found.append(Suspect("negation dropped", answer.text[start:end].strip()))
    return found


def _conditions(answer: Answer, reading: Reading) -> list[Suspect]:
    """Conditions and exceptions that are gone while what they govern is still there."""
    found = []
    boundaries = units(answer.text)
    for fact in answer.facts:
        if fact.kind not in {"condition", "exception"} or fact_kept(fact, reading, answer.lang):
            continue
        start, end = next(((a, b) for a, b in boundaries if a <= fact.start < b), (fact.start, fact.end))
        if answer.text[start:end].rstrip().endswith(":"):
            # A heading governs the list below it.
            end = (answer.text.find("\n\n", end) + 1 or len(answer.text) + 1) - 1
        governed = [
            p
            for p in inside(reading.source, start, end)
            if not fact.start <= reading.source[p].start < fact.end
            and content(reading.source[p], answer.lang)
        ]
        left = [p for p in governed if p in reading.kept]
        if len(left) >= 2 or (governed and len(left) == len(governed)):
            found.append(Suspect(f"{fact.kind} lost", f"{fact.text} ← {answer.text[start:end].strip()}"))
    return found


def _limits(answer: Answer, reading: Reading) -> list[Suspect]:
    """Numbers that lost the word that makes them a bound: «above 2000 m», «no more than 4»."""
    found = []
    bounds = LIMITS.get(answer.lang, frozenset())
    for place, token in enumerate(reading.source):
        if token.kind not in {"number", "time"} or place not in reading.kept:
            continue
        follower = place + 1
        if follower < len(reading.source) and follower not in reading.kept:
            unit = reading.source[follower]
            if unit.kind == "unit" and unit.start - token.end <= 1:
                found.append(Suspect("number without its unit", answer.text[token.start : unit.end]))
        before = [
            p
            for p in range(max(place - 3, 0), place)
            if reading.source[p].form in bounds
            and not CLAUSE_END.search(answer.text[reading.source[p].end : token.start])
        ]
        if before and before[-1] not in reading.kept:
            around = answer.text[reading.source[before[-1]].start : token.end + 12]
            found.append(Suspect("limit lost", around))
    return found


def _inserted(answer: Answer, short: str, reading: Reading) -> list[Suspect]:
    """Negations that the long text has not there: new, over other words, or over nothing."""
    found = []
    clauses = spans(answer.text, CLAUSE_END)
    for place, token in enumerate(reading.short):
        if token.kind != "negator":
            continue
        shown = short[max(token.start - 20, 0) : token.end + 30]
        if place not in reading.match:
            found.append(Suspect("negation inserted", shown))
            continue
        origin = reading.source[reading.match[place]]
        start, end = next(((a, b) for a, b in clauses if a <= origin.start < b), (0, 0))
        following = [
            other
            for other in range(place + 1, min(place + 5, len(reading.short)))
            if not CLAUSE_END.search(short[token.end : reading.short[other].start])
            and content(reading.short[other], answer.lang)
        ]
        denied = inside(reading.source, origin.start + 1, end)
        if following and following[0] in reading.match:
            head = reading.source[reading.match[following[0]]]
            if not start <= head.start < end and _strong(answer.text[origin.end : head.start]):
                found.append(Suspect("negation moved", shown))
        elif not following and any(content(reading.source[p], answer.lang) for p in denied):
            found.append(Suspect("negation over nothing", shown))
    return found


def _strong(between: str) -> bool:
    return bool(re.search(r"[.!?;:\n]", between))


def _moved(short: str, reading: Reading) -> list[Suspect]:
    """Numbers and units that the long text has elsewhere: another order, or another's number."""
    return [
        Suspect("number moved", short[max(token.start - 20, 0) : token.end + 20])
        for place, token in enumerate(reading.short)
        if token.kind in {"number", "time", "phone", "unit"} and place not in reading.match
    ]
