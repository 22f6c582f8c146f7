"""`evy stats`."""

import asyncio
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from actors._cli.logs import moment, opened, warn
from actors._runtime.config import load_config
from actors.analytics.stats import Latency, Stats, stats_of

HOURS_SHOWN: Final = 48


@click.command()
@click.option(
    "--since", type=moment, default="24h", show_default=True, help="24h, 30m, 7d, or a date and time."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.pass_obj
def stats(path: Path | None, *, since: float, as_json: bool) -> None:
    """Show how this node did: texts in, what answered them, how fast, what was refused, alerts, outages.

    \b
    submitted   from the receipt of a text until the modem had taken all parts of its reply
    delivered   until the network's status report said that the phone has it
    refused     texts not answered, texts not sent, and model answers that did not pass the post-check

    Counted from the event store, `[telemetry] keep_days` back, and the end of the event stream.
    """  # noqa: D301  # \b is click's mark against re-wrapping
    config = load_config(path)

    async def main() -> Stats:
        async with opened(config) as (found, _):
            warn(found)
            return stats_of(config.node.name, found.events(since=since), since, time.time())

    made = asyncio.run(main())
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(made)))
    else:
        _print(made)


def _print(made: Stats) -> None:
    def when(at: float) -> str:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))

    lines = [
        f"{made.node}, {when(made.since)} to {when(made.until)}",
        f"texts in     {made.received}{_counted(made.lanes)}",
        f"languages    {_listed(made.languages)}",
        f"answered     {made.answered}{_counted(made.steps)}, {made.segments} SMS sent in all",
        f"submitted    {_latency(made.submitted)}",
        f"delivered    {_latency(made.delivered)}, {made.undelivered} undelivered",
        f"alerts       {_listed(made.alerts)}",
        f"dead letters {_listed(made.dead_letters)}",
        f"modem        {made.modem_outages} outages, {_span(made.modem_down_s)} without it",
    ]
    click.echo("\n".join(lines))
    for number, (reason, count) in enumerate(made.refusals.items()):
        click.echo(f"{'refused' if not number else '':12} {count:>5}  {reason}")
    if not made.hours:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("hour", "texts in", "answered"):
        table.add_column(column, justify="left" if column == "hour" else "right")
    for hour in made.hours[-HOURS_SHOWN:]:
        table.add_row(hour.begin, str(hour.received), str(hour.answered))
    Console(width=None if sys.stdout.isatty() else 80, highlight=False).print(table)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _counted(counts: Mapping[str, int]) -> str:
    return f" ({_listed(counts)})" if counts else ""


def _latency(found: Latency) -> str:
    if found.p50_s is None or found.p95_s is None:
        return "no text"
    return f"p50 {_span(found.p50_s)}, p95 {_span(found.p95_s)} ({found.texts} texts)"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
