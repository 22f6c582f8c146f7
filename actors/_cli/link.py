"""`evy link`."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from actors._runtime.bus import NatsBus
from actors._runtime.config import load_config
from actors._runtime.crossing import Crossing, Held, Taking, look
from actors._runtime.identity import load_identity
from actors._runtime.process import run_until_signal
from actors._runtime.provision import Place

EVERY_S: Final = 2.0


class Report(msgspec.Struct, frozen=True):
    """What `evy link --json` prints."""

    node: str
    profile: str
    ok: bool
    """No link down, no source stalled or full, nobody missing who should answer."""
    links: list[Crossing]
    troubles: list[tuple[str, str]]
    """What is wrong, each with its mend."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For a program; with --watch, one object a line.")
@click.option("--watch", is_flag=True, help="Look again every two seconds, until Ctrl-C.")
@click.pass_obj
def link(path: Path | None, *, as_json: bool, watch: bool) -> None:
    """Show the link between node and centre, and what waits on either side of it. Exit 1 when it is down,
    when a stream has stopped taking over from the other side, or when nobody works at the centre.

    \b
    At a node:    is the centre there, how far away, what waits for it, what comes back
    At a centre:  one row for each enrolled node, judged by what is heard of it; how far away it is tells
                  `nats server report leafnodes` (docs/operations.md)

    \b
    leaving    queries in UP_<node>, at the node; they leave it for good a few seconds after they arrived
    arrived    queries in IN_<node>, at the centre, that are not answered yet
    returning  answers in DOWN_<node>, at the centre, that the node has not confirmed yet
    heard      when a stream last heard from the one it takes from; every second when all is well

    Numbers of messages are flash/priority/routine. Nothing that waits is lost when the link goes down:
    queries wait until [node] wait_s, answers without end.
    """  # noqa: D301  # \b is click's mark against re-wrapping
    config = load_config(path)
    identity = load_identity(config.node.name, config.node.directory)
    place = Place.of(config.node)
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 110)

    async def once(bus: NatsBus) -> Report:
        links = await look(bus, place)
        troubles = [trouble for found in links for trouble in found.troubles]
        return Report(place.node, place.profile, not troubles, links, troubles)

    async def main(stop: asyncio.Event) -> int:
        bus = await NatsBus.connect(identity, config.node.url, "link", wait_s=3)
        try:
            report = await once(bus)
            with Live(console=console, auto_refresh=False, transient=False) as live:
                while True:
                    if as_json:
                        encoded = msgspec.json.encode(report)
                        click.echo(encoded if watch else msgspec.json.format(encoded))
                    elif watch and console.is_terminal:
                        live.update(_shown(report), refresh=True)
                    else:
                        console.print(_shown(report))
                    if not watch:
                        break
                    try:
                        await asyncio.wait_for(stop.wait(), EVERY_S)
                    except TimeoutError:
                        report = await once(bus)
                    else:
                        break
        finally:
            await bus.close()
        return int(not report.ok)

    sys.exit(run_until_signal(main))


def _shown(report: Report) -> Group:
    page: list[RenderableType] = []
    if not report.links:
        page.append(_none(report))
    elif report.profile == "bigevy" or len(report.links) > 1:
        page.append(_table(report))
    else:
        page += _lines(report.links[0])
    for what, mend in report.troubles:
        page += [Text(f"! {what}", style="bold red"), Text(f"  -> {mend}")]
    return Group(*page)


def _none(report: Report) -> Text:
    if report.profile == "lilevy":
        return Text(
            f"{report.node} has no centre and answers with what it has. "
            "To give it one: `evy nats enrol` at the centre, then `evy nats join` here."
        )
    return Text("No node is enrolled at this centre: `evy nats enrol NODE` lets one in.")


def _lines(crossing: Crossing) -> list[Text]:
    """One node's link, at the node."""
    state = "up" if crossing.up else "down"
    if crossing.since is not None:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(crossing.since))
        state += f" since {when} ({age(time.time() - crossing.since)})"
    if crossing.rtt_ms is not None:
        state += f", round trip {crossing.rtt_ms:.0f} ms"
    lines = [
        Text.assemble((f"link {state}", "bold green" if crossing.up else "bold red"), f": {crossing.reason}")
    ]
    for title, held in (
        ("leaving", crossing.leaving),
        ("arrived", crossing.arrived),
        ("returning", crossing.returning),
    ):
        if held:
            oldest = "" if held.oldest_s is None else f", the oldest for {age(held.oldest_s)}"
            counts = ", ".join(f"{lane} {count}" for lane, count in held.lanes.items())
            lines.append(Text(f"{title:10} {held.total} in {held.stream}: {counts}{oldest}"))
    lines += [
        Text(f"{'':10} {taking.stream} takes from {taking.source}: {_hears(taking)}, {taking.lag} behind")
        for taking in crossing.taking
    ]
    return lines


def _table(report: Report) -> Table:
    """One row for each node, at a centre."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in (
        "node",
        "link",
        "arrived",
        "oldest",
        "returning",
        "heard",
        "behind",
    ):
        table.add_column(column, no_wrap=True)
    for crossing in report.links:
        arrived = crossing.arrived
        table.add_row(
            crossing.node,
            Text("up", style="green") if crossing.up else Text("down", style="bold red"),
            _counts(arrived),
            "-" if arrived is None or arrived.oldest_s is None else age(arrived.oldest_s),
            _counts(crossing.returning),
            ", ".join(_hears(taking) for taking in crossing.taking),
            str(sum(taking.lag for taking in crossing.taking)),
        )
    return table


def _counts(held: Held | None) -> str:
    return "?" if held is None else "/".join(map(str, held.lanes.values()))


def _hears(taking: Taking) -> str:
    heard = "never heard" if taking.heard_s is None else f"heard {age(taking.heard_s)} ago"
    if taking.renewed is not None:
        heard += f", renewed {age(time.time() - taking.renewed)} ago"
    return heard if taking.verdict in {"ok", "down"} else f"{taking.verdict}, {heard}"


def age(seconds: float) -> str:
    """Seconds as people say them: "4 s", "12 min", "3.5 h", "2.0 d"."""
    for unit, length in (("d", 86400.0), ("h", 3600.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{max(0.0, seconds):.0f} s"
