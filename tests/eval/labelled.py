"""Labelled texts: where they are, and how ours and others' answers are scored against them."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec
import numpy as np
from evy_core import Triage, Triager

from actors.knowledge.engines import triage_files
from tests.eval.report import ROOT, Share, SkippedError, Table

PRIORITIES: Final = ("emergency", "urgent", "normal")
NEEDS: Final = (
    "medical", "rescue", "fire", "violence", "water", "food", "shelter", "missing_person", "evacuation",
    "utilities", "hazard_info", "aid_info", "mental_health", "childbirth", "hygiene", "none",
)  # fmt: skip
DEV: Final = ROOT.parent / "shared" / "data" / "sms_priority_dev.jsonl"
VECTORS: Final = ROOT / "tests" / "vectors"


class Row(msgspec.Struct, frozen=True):
    """A text and what a person says of it; ``clear`` is false where a careful person could differ."""

    text: str
    priority: str
    needs: tuple[str, ...] = ()
    template: str | None = None
    lang: str = "en"
    clear: bool = True
    also: tuple[str, ...] = ()
    kind: str = ""
    id: str = ""
    held: bool = False


def vectors(name: str) -> list[Row]:
    """Rows of a file of `tests/vectors`."""
    return [msgspec.json.decode(line, type=Row) for line in (VECTORS / name).read_bytes().splitlines()]


def dev() -> list[Row]:
    """The 400 messages with priorities and needs. Raises :class:`SkippedError` where they are not at hand."""
    if not DEV.exists():
        raise SkippedError(
            f"{DEV.name} is not in {DEV.parent}: the labelled messages are not part of this repository"
        )
    rows = [json.loads(line) for line in DEV.read_text(encoding="utf-8").splitlines()]
    return [
        Row(
            row["text"],
            row["priority"],
            tuple(row["needs"]),
            clear=row["confidence"] == 1,
            id=f"{row['source']}-{row['id']}",
        )
        for row in rows
    ]


@cache
def triager() -> Triager:
    """Ours, with the data as shipped."""
    return Triager(triage_files())


def ours(rows: Sequence[Row]) -> list[Triage]:
    """Our answer to each row."""
    return triager().classify([row.text for row in rows])


def templates(rows: Sequence[Row], verdicts: Sequence[Triage]) -> tuple[int, int]:
    """How many recognised emergencies with a clear topic got another one's text, of how many."""
    named = [
        (row, got)
        for row, got in zip(rows, verdicts, strict=True)
        if row.template and row.priority == got.priority == "emergency"
    ]
    return sum(got.template not in {row.template, "general_danger", *row.also} for row, got in named), len(
        named
    )


def misses(name: str) -> list[tuple[Row, Triage]]:
    """Rows of a batch whose alarm or template is wrong, for the authors of the rules."""
    rows = vectors(name)
    return [
        (row, got)
        for row, got in zip(rows, ours(rows), strict=True)
        if (row.priority == "emergency") != (got.priority == "emergency")
        or (row.template and got.template not in {row.template, "general_danger", *row.also})
    ]


def at_recall(truth: Sequence[bool], scores: Sequence[float], least: float) -> tuple[Share, Share] | None:
    """Recall and precision at the highest threshold whose recall is at least ``least``.

    A score of 0 or less is never an alarm; None where even every score above 0 does not reach that recall.
    """
    positives = sum(truth)
    for threshold in sorted({score for score in scores if score > 0}, reverse=True):
        alarms = [label for label, score in zip(truth, scores, strict=True) if score >= threshold]
        found = Share(sum(alarms), positives)
        if found.value >= least:
            return found, Share(sum(alarms), len(alarms))
    return None


def precision_at(
    truth: np.ndarray[Any, np.dtype[np.bool_]], scores: np.ndarray[Any, np.dtype[np.float64]], least: float
) -> tuple[Share, Share]:
    """Recall and precision where recall first is at least ``least``, for many texts.

    Unlike :func:`at_recall` any score can be an alarm. Texts of one score come in together.
    """
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(truth[order])
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    positives = int(truth.sum())
    for end in ends[np.searchsorted(found[ends], np.ceil(least * positives - 1e-9)) :]:
        return Share(int(found[end]), positives), Share(int(found[end]), int(end) + 1)
    return Share(0, positives), Share(0, 0)


def equal_recall(
    title: str, truth: Sequence[bool], alarms: Sequence[bool], others: Mapping[str, Sequence[float]]
) -> tuple[Table, dict[str, float]]:
    """Ours, which has one point, beside others that score: precision where recall reaches ours.

    One that cannot reach it says how far it comes; its figure is then that of an alarm for every text.
    """
    caught = sum(label and alarm for label, alarm in zip(truth, alarms, strict=True))
    found, right = Share(caught, sum(truth)), Share(caught, sum(alarms))
    rows = [("ours", str(found), str(right))]
    figures = {"ours_recall": found.value, "ours_precision": right.value}
    for name, scores in others.items():
        reached = at_recall(truth, scores, found.value)
        every = Share(sum(truth), len(truth))
        if reached:
            rows.append((name, *map(str, reached)))
        else:
            hits = [label for label, score in zip(truth, scores, strict=True) if score > 0]
            most, there = Share(sum(hits), sum(truth)), Share(sum(hits), len(hits))
            rows.append((name, f"at most {most}", f"there {there}; all texts: {every.value:.3f}"))
        figures[f"{name}_precision_at_ours_recall"] = (reached[1] if reached else every).value
    return Table(title, ("at ours' recall", "recall", "precision"), tuple(rows)), figures


def f1_rows(
    truth: Sequence[Sequence[str]], answers: Mapping[str, Sequence[Sequence[str]]]
) -> tuple[Table, dict[str, float]]:
    """Precision, recall and F1 of each need that occurs, then micro and macro, for each way of answering."""
    present = [need for need in NEEDS if any(need in needs for needs in truth)]
    scores: dict[str, dict[str, tuple[int, int, int]]] = {}
    for name, given in answers.items():
        scores[name] = {
            need: (
                sum(need in a and need in b for a, b in zip(truth, given, strict=True)),
                sum(need in b for b in given),
                sum(need in a for a in truth),
            )
            for need in NEEDS
        }
    labelled = {need: sum(need in needs for needs in truth) for need in present}
    rows = [(need, str(labelled[need]), *(_prf(*s[need]) for s in scores.values())) for need in present]
    figures = {}
    sums = {name: tuple(map(sum, zip(*s.values(), strict=True))) for name, s in scores.items()}
    rows.append(("micro", str(sum(labelled.values())), *(_prf(*s) for s in sums.values())))
    macros = {name: sum(_f1(*s[need]) for need in present) / len(present) for name, s in scores.items()}
    rows.append(("macro F1", str(len(present)), *(f"{macro:.2f}" for macro in macros.values())))
    for name in answers:
        figures[f"{name}_needs_micro_f1"] = _f1(*sums[name])
        figures[f"{name}_needs_macro_f1"] = macros[name]
    header = ("need", "rows", *(f"{name} P / R / F1" for name in answers))
    return Table("needs, a text may have three", header, tuple(rows)), figures


def _f1(hits: int, answered: int, labelled: int) -> float:
    return 2 * hits / (answered + labelled) if answered + labelled else 0.0


def _prf(hits: int, answered: int, labelled: int) -> str:
    right = f"{hits / answered:.2f}" if answered else "–"
    found = f"{hits / labelled:.2f}" if labelled else "–"
    return f"{right} / {found} / {_f1(hits, answered, labelled):.2f}"
