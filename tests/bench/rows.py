"""What a measurement is: figures with their spread over repeats, a goal, and whether it is met."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """One number, measured once in each repeat."""

    name: str
    unit: str
    repeats: tuple[float, ...]

    @property
    def median(self) -> float:
        """What counts against a goal: a shared machine spoils single repeats, not their median."""
        return statistics.median(self.repeats)

    @property
    def low(self) -> float:
        """Smallest repeat."""
        return min(self.repeats)

    @property
    def high(self) -> float:
        """Largest repeat."""
        return max(self.repeats)


class Goal(msgspec.Struct, frozen=True):
    """A limit for the figure of one name."""

    figure: str
    limit: float
    at_least: bool = False


class Row(msgspec.Struct, frozen=True):
    """One line of the table. ``skipped`` says why nothing was measured."""

    name: str
    what: str
    figures: tuple[Figure, ...] = ()
    goals: tuple[Goal, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: str = ""

    def figure(self, name: str) -> Figure:
        """Figure by name. Raises KeyError."""
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(name)

    @property
    def met(self) -> bool | None:
        """Whether every goal is met; None when there is none or nothing was measured."""
        if not self.goals or not self.figures:
            return None
        values = [(self.figure(goal.figure).median, goal) for goal in self.goals]
        return all(value >= goal.limit if goal.at_least else value <= goal.limit for value, goal in values)


class Setting(msgspec.Struct, frozen=True):
    """How to measure. ``directory`` lies on the disk in question; a row makes folders of its own in it."""

    directory: Path
    repeats: int = 5
    quick: bool = False

    def count(self, full: int, quick: int) -> int:
        """How much of something to do."""
        return quick if self.quick else full


class SkippedError(Exception):
    """A row cannot be measured here; the text says why."""


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that ``percent`` of all do not exceed (nearest rank). Raises ValueError for none."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def spread(
    repeats: Sequence[Sequence[float]], unit: str, percents: Sequence[int] = (50, 99)
) -> tuple[Figure, ...]:
    """A figure for each percentile, its repeats the percentiles of each run."""
    return tuple(
        Figure(f"p{percent}", unit, tuple(percentile(run, percent) for run in repeats))
        for percent in percents
    )
