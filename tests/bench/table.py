"""The table for people; plain text when it does not go to a terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from tests.bench.rows import Figure, Goal, Row


def number(value: float) -> str:
    """Three significant digits, thousands apart."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    for limit, form in ((100, ".0f"), (10, ".1f"), (1, ".2f")):
        if abs(value) >= limit:
            return format(value, form)
    return f"{value:.3f}"


def _measured(figure: Figure) -> str:
    return f"{figure.name} {number(figure.median)} {figure.unit}".rstrip()


def _spread(figure: Figure) -> str:
    if len(figure.repeats) == 1:
        return "once"
    return f"{number(figure.low)} to {number(figure.high)}"


def _goal(goal: Goal) -> str:
    sign = "≥" if goal.at_least else "≤"
    return f"{goal.figure} {sign} {number(goal.limit)}"


def _verdict(row: Row) -> str:
    if row.met is None:
        return ""
    return "[green]met[/]" if row.met else "[bold red]MISSED[/]"


def show(rows: Sequence[Row], console: Console) -> None:
    """Prints the table and the notes under it."""
    table = Table(box=box.SIMPLE if console.is_terminal else box.ASCII2, show_lines=False)
    for heading in ("what", "median of repeats", "lowest to highest", "goal", ""):
        table.add_column(heading, justify="left", no_wrap=heading != "what")
    for row in rows:
        if row.skipped:
            table.add_row(row.what, f"[dim]skipped: {row.skipped}[/]", "", "", "")
            continue
        table.add_row(
            row.what,
            "\n".join(map(_measured, row.figures)),
            "\n".join(map(_spread, row.figures)),
            "\n".join(map(_goal, row.goals)),
            _verdict(row),
        )
    console.print(table)
    for row in rows:
        for note in row.notes:
            console.print(f"{row.name}: {note}", style="dim", markup=False, highlight=False)
