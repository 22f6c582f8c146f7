"""The post-check under attack: answers that say something else than their passage, and faithful ones.

A miss may harm; a false refusal costs eloquence only, since the passage itself is sent instead.
"""

from collections.abc import Sequence

import msgspec

from tests.eval.compression.corpus import FOLDER, RULED
from tests.eval.compression.ways import COMPRESSOR
from tests.eval.report import Share, Table

FAITHFUL = "faithful"


class Attack(msgspec.Struct, frozen=True):
    """An answer and the passage it claims to rest on; ``kind`` says what was altered."""

    id: str
    lang: str
    kind: str
    passage: str
    answer: str


def attacks() -> list[Attack]:
    """All of them, in order."""
    lines = (FOLDER / "post_check.jsonl").read_text().splitlines()
    return [msgspec.json.decode(line, type=Attack) for line in lines]


def refused(every: Sequence[Attack]) -> list[bool]:
    """Whether the engine found something unsupported, for each."""
    found = COMPRESSOR.check(
        [attack.answer for attack in every],
        [[attack.passage] for attack in every],
        [attack.lang for attack in every],
    )
    return [bool(unsupported) for unsupported in found]


def tables() -> tuple[list[Table], dict[str, float | int | str]]:
    """Catches and false refusals by language and by alteration, and every wrong verdict."""
    every = attacks()
    verdicts = list(zip(every, refused(every), strict=True))
    altered = [(attack, no) for attack, no in verdicts if attack.kind != FAITHFUL]
    faithful = [(attack, no) for attack, no in verdicts if attack.kind == FAITHFUL]
    by_lang = [
        (
            lang,
            str(_share([no for attack, no in altered if lang in {"all", attack.lang}])),
            str(_share([no for attack, no in faithful if lang in {"all", attack.lang}])),
        )
        for lang in ("all", *RULED)
    ]
    kinds = list(dict.fromkeys(attack.kind for attack, _ in altered))
    by_kind = [
        (kind, f"{sum(no for attack, no in altered if attack.kind == kind)}", f"{_count(altered, kind)}")
        for kind in kinds
    ]
    wrong = [
        (attack.id, "FALSE REFUSAL" if no else "MISSED", attack.kind, attack.answer[:100])
        for attack, no in verdicts
        if no == (attack.kind == FAITHFUL)
    ]
    figures: dict[str, float | int | str] = {
        "post_check_altered": len(altered),
        "post_check_caught": sum(no for _, no in altered),
        "post_check_faithful": len(faithful),
        "post_check_false_refusals": sum(no for _, no in faithful),
    }
    return [
        Table(
            "post-check, answers that rest on one passage",
            ("language", "caught", "refused wrongly"),
            tuple(by_lang),
        ),
        Table("post-check by what was altered", ("altered", "caught", "of"), tuple(by_kind)),
        Table(
            "post-check, wrong verdicts",
            ("answer", "verdict", "altered", "text"),
            tuple(sorted(wrong, key=_worst)),
        ),
    ], figures


def _share(refusals: Sequence[bool]) -> Share:
    return Share(sum(refusals), len(refusals))


def _count(altered: Sequence[tuple[Attack, bool]], kind: str) -> int:
    return sum(attack.kind == kind for attack, _ in altered)


def _worst(row: tuple[str, ...]) -> tuple[bool, str]:
    return row[1] != "MISSED", row[0]
