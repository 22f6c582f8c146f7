"""What an area of `make eval` hands back: tables for people, figures for machines, and honest intervals."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

ROOT: Final = Path(__file__).parents[2]
Z_95: Final = 1.959964
"""Standard normal quantile of a two-sided 95 % interval."""


class SkippedError(Exception):
    """The area cannot be measured here; the message says what is missing and how to get it."""


class Table(msgspec.Struct, frozen=True):
    """Rows of cells under a header; the first column is text, the others are aligned to the right."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Report(msgspec.Struct, frozen=True):
    """The result of one area. ``figures`` are named for machines; ``notes`` say how they were measured."""

    title: str
    tables: tuple[Table, ...] = ()
    figures: Mapping[str, float | int | str] = {}
    notes: tuple[str, ...] = ()
    skipped: str = ""


class Share(msgspec.Struct, frozen=True):
    """``hits`` of ``of``, with its Wilson 95 % interval, without continuity correction."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        """The share; NaN of nothing."""
        return self.hits / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound; 0 to 1 of nothing."""
        if not self.of:
            return 0.0, 1.0
        spread = Z_95**2 / self.of
        middle = (self.value + spread / 2) / (1 + spread)
        half = Z_95 / (1 + spread) * math.sqrt(self.value * (1 - self.value) / self.of + spread / self.of / 4)
        return max(0.0, middle - half), min(1.0, middle + half)

    @property
    def short(self) -> str:
        """Two digits and the interval, for a cell beside its counts."""
        low, high = self.interval
        return f"{self.value:.2f} [{low:.2f}, {high:.2f}]" if self.of else "–"

    def __str__(self) -> str:
        if not self.of:
            return "0 of 0"
        low, high = self.interval
        return f"{self.hits} of {self.of} = {self.value:.3f} [{low:.3f}, {high:.3f}]"


def goal(name: str, value: float, at_least: float) -> str:
    """The note that says whether a figure reached what DESIGN.md or the issue asks of it."""
    if math.isnan(value):
        return f"{name}: not measured, goal ≥ {at_least:g}"
    return f"{name}: {value:.3f}, goal ≥ {at_least:g}: {'met' if value >= at_least else 'MISSED'}"


def quick() -> bool:
    """Whether `--quick` asks for a short run: fewer folds, fewer repeats, a sample of a large set."""
    return os.environ.get("EVY_EVAL_QUICK") == "1"


def show(name: str, report: Report, console: Console) -> None:
    """Prints one area: its tables, then its notes."""
    console.rule(f"{name}: {report.title}", align="left")
    if report.skipped:
        console.print(f"skipped: {report.skipped}", markup=False, highlight=False)
    for table in report.tables:
        console.print(_drawn(table, console))
    for note in report.notes:
        console.print(f"- {note}", markup=False, highlight=False)


def _drawn(table: Table, console: Console) -> RichTable:
    drawn = RichTable(
        title=table.title, title_justify="left", box=box.SIMPLE if console.is_terminal else box.ASCII2
    )
    for position, heading in enumerate(table.header):
        drawn.add_column(heading, justify="right" if position else "left")
    for row in table.rows:
        drawn.add_row(*(cell.replace("[", r"\[") for cell in row))
    return drawn


def confusion(title: str, classes: Sequence[str], pairs: Sequence[tuple[str, str]]) -> Table:
    """Counts of (labelled, answered) with the recall of each row and the precision under each column."""
    rows = []
    for label in classes:
        counts = [sum(pair == (label, answer) for pair in pairs) for answer in classes]
        rows.append((label, *map(str, counts), recall(label, pairs).short))
    rows.append(("precision", *(precision(answer, pairs).short for answer in classes), ""))
    return Table(title, ("labelled ↓ answered →", *classes, "recall"), tuple(rows))


def recall(label: str, pairs: Sequence[tuple[str, str]]) -> Share:
    """Of those labelled so, how many were answered so."""
    answers = [answer for labelled, answer in pairs if labelled == label]
    return Share(answers.count(label), len(answers))


def precision(answer: str, pairs: Sequence[tuple[str, str]]) -> Share:
    """Of those answered so, how many are labelled so."""
    labels = [labelled for labelled, answered in pairs if answered == answer]
    return Share(labels.count(answer), len(labels))
