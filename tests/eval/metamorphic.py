"""Area `metamorphic`: a text rewritten with its meaning keeps its verdict, one that turns calm loses it.

Counted are pairs whose base text is answered as an emergency: recall is measured by the area `unseen`.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from tests.eval.labelled import VECTORS, Row, ours, triager, vectors
from tests.eval.report import Report, Share, Table, goal
from tests.eval.transform import TRANSFORMS, transformed

SEEDS: Final = (1, 2)
CLEAN: Final = ("plain", "third", "indirect")
GOAL: Final = 0.97
SHOWN: Final = 60


class Family(msgspec.Struct, frozen=True):
    """An emergency and texts that a person wrote from it; ``keep`` says whether they are still one."""

    id: str
    relation: str
    keep: bool
    lang: str
    base: str
    variants: tuple[str, ...]
    langs: tuple[str, ...] = ()


class Pair(msgspec.Struct, frozen=True):
    """One base text and one text made of it."""

    id: str
    relation: str
    keep: bool
    lang: str
    base: str
    variant: str


def families() -> list[Family]:
    """The families written by hand."""
    lines = (VECTORS / "unseen" / "metamorphic.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Family) for line in lines]


def bases() -> list[Row]:
    """Clean emergencies: those of batch 1, and what each family starts from, in every language it has."""
    written = [
        row for row in vectors("unseen/batch1.jsonl") if row.priority == "emergency" and row.kind in CLEAN
    ]
    for family in families():
        written.append(Row(family.base, "emergency", lang=family.lang, id=family.id))
        if family.langs:
            written += [
                Row(text, "emergency", lang=lang, id=f"{family.id}-{lang}")
                for lang, text in zip(family.langs, family.variants, strict=True)
            ]
    return written


def pairs() -> list[Pair]:
    """Every pair: written by hand, then made by each transformation and seed where it changes the text."""
    out = [
        Pair(family.id, family.relation, family.keep, lang, family.base, variant)
        for family in families()
        for variant, lang in zip(
            family.variants, family.langs or [family.lang] * len(family.variants), strict=True
        )
    ]
    for row in bases():
        for relation in TRANSFORMS:
            made = dict.fromkeys(transformed(relation, row.text, row.lang, seed) for seed in SEEDS)
            out += [
                Pair(row.id, relation, True, row.lang, row.text, text) for text in made if text != row.text
            ]
    return out


def judged(all_pairs: Sequence[Pair]) -> tuple[dict[str, Share], list[Pair], Share]:
    """Share that keeps or changes its verdict by relation, the violations, how many base texts are found."""
    texts = list(dict.fromkeys([pair.base for pair in all_pairs] + [pair.variant for pair in all_pairs]))
    verdicts = dict(zip(texts, triager().classify(texts), strict=True))
    alarm = {text: got.priority == "emergency" for text, got in verdicts.items()}
    counted = [pair for pair in all_pairs if alarm[pair.base]]
    shares = {}
    for relation in dict.fromkeys(pair.relation for pair in all_pairs):
        right = [alarm[pair.variant] == pair.keep for pair in counted if pair.relation == relation]
        shares[relation] = Share(sum(right), len(right))
    broken = [pair for pair in counted if alarm[pair.variant] != pair.keep]
    start = {pair.base for pair in all_pairs}
    return shares, broken, Share(sum(alarm[text] for text in start), len(start))


def run() -> Report:
    """Share kept or changed by relation and by language, and the violations themselves."""
    all_pairs = pairs()
    shares, broken, found = judged(all_pairs)
    kind = {pair.relation: "keeps" if pair.keep else "changes" for pair in all_pairs}
    rows = [(relation, kind[relation], str(share)) for relation, share in shares.items()]
    by_lang = []
    for lang in sorted({pair.lang for pair in all_pairs}):
        kept, _, _ = judged([pair for pair in all_pairs if pair.lang == lang and pair.keep])
        by_lang.append(
            (lang, str(Share(sum(s.hits for s in kept.values()), sum(s.of for s in kept.values()))))
        )
    listed = tuple((p.id, p.relation, p.lang, p.base[:60], p.variant.replace("\n", " ")[:70]) for p in broken)
    templates_kept = _templates(all_pairs)
    return Report(
        "an emergency rewritten, and turned calm",
        (
            Table("by relation", ("relation", "verdict", "share"), tuple(rows)),
            Table("kept, by language of the variant", ("language", "share"), tuple(by_lang)),
            Table(
                f"violations, the first {SHOWN} of {len(listed)}",
                ("id", "relation", "lang", "base", "variant"),
                listed[:SHOWN],
            ),
        ),
        {relation: share.value for relation, share in shares.items()}
        | {"bases": found.of, "bases_found": found.value, "same_template": templates_kept.value},
        (
            f"{found.of} base texts by another hand than the rules; found {found}. Seeds {SEEDS}.",
            f"Same template or general_danger, of generated variants still an emergency: {templates_kept}.",
            "language: English to the other eight; other relations stay in their language.",
            *(goal(relation, share.value, GOAL) for relation, share in shares.items()),
        ),
    )


def _templates(all_pairs: Sequence[Pair]) -> Share:
    made = [pair for pair in all_pairs if pair.relation in TRANSFORMS]
    before, after = ours([_row(pair.base) for pair in made]), ours([_row(pair.variant) for pair in made])
    both = [(a, b) for a, b in zip(before, after, strict=True) if a.priority == b.priority == "emergency"]
    return Share(sum(b.template in {a.template, "general_danger"} for a, b in both), len(both))


def _row(text: str) -> Row:
    return Row(text, "emergency")
