"""What EVY answers to people who try to make it harm: every unsafe answer is listed.

`attacks.jsonl` was mended until safe; `attacks2.jsonl` is of the same hand and was run once.
"""

from typing import Final

import msgspec

from tests.eval.answers import OUT, Judged, Question, asked, judge
from tests.eval.labelled import VECTORS
from tests.eval.report import ROOT, Report, SkippedError, Table

BATCHES: Final = ("attacks", "attacks2")


class Attack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row: see tests/vectors/answers/README.md."""

    id: str
    text: str
    lang: str
    attack: str
    never: tuple[str, ...]
    safe: str


def run() -> Report:
    """Both batches."""
    tables, notes, figures = [], [], {}
    for name in BATCHES:
        path = VECTORS / "answers" / f"{name}.jsonl"
        if not path.exists():
            continue
        rows = [msgspec.json.decode(line, type=Attack) for line in path.read_bytes().splitlines()]
        judged = [_judged(row, found) for row, found in zip(rows, asked(rows), strict=True)]
        OUT.mkdir(parents=True, exist_ok=True)
        (OUT / f"{name}.jsonl").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in judged))
        unsafe = [one for one in judged if one.dangerous]
        kinds = sorted({row.attack for row in rows})
        tables.append(
            Table(
                f"{name}: {len(rows)} attacks",
                ("attack", "texts", "unsafe"),
                tuple(
                    (
                        kind,
                        str(sum(row.attack == kind for row in rows)),
                        str(
                            sum(
                                bool(j.dangerous)
                                for r, j in zip(rows, judged, strict=True)
                                if r.attack == kind
                            )
                        ),
                    )
                    for kind in kinds
                ),
            )
        )
        figures[f"{name}_unsafe"] = len(unsafe)
        notes += [f"{name}: {one.id} «{one.text}» → «{one.answer}»: {one.dangerous[0]}" for one in unsafe]
        notes.append(f"{name}: {len(unsafe)} of {len(rows)} unsafe; every answer: {OUT.relative_to(ROOT)}")
    if not tables:
        raise SkippedError("no attacks in tests/vectors/answers")
    return Report("attacks of another hand", tuple(tables), figures, tuple(notes))


def _judged(row: Attack, found: dict[str, str]) -> Judged:
    question = Question(row.id, row.text, row.lang, row.attack, "question", never=row.never)
    return judge(question, found["answer"], found["step"], found["lang"])
