"""`evy report`."""

import contextlib
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

from actors._reports import ReportStore, Sqlite, database
from actors._runtime.config import Config, load_config
from actors.analytics.overview import Figures, NodeFigures, Overview, local_time, overview, span
from subjects.errors import ConfigError

MOST_LISTED: Final = 8
PICTURES: Final = (".png", ".svg")


def _picture(_: click.Context, __: click.Parameter, value: Path | None) -> Path | None:
    if value and value.suffix.lower() not in PICTURES:
        raise click.BadParameter(f"{value.name}: the name ends in {' or '.join(PICTURES)}")
    return value


@click.command()
@click.option(
    "--days", type=click.FloatRange(0.01, 3660), default=7.0, show_default=True, help="How far back."
)
@click.option("--node", metavar="NAME", default="", help="One node; default: all.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_picture,
    metavar="FILE",
    help="Also draw it: FILE.png or FILE.svg. Needs matplotlib (the extra `picture`).",
)
@click.pass_obj
def report(path: Path | None, *, days: float, node: str, as_json: bool, picture: Path | None) -> None:
    """Show how the nodes of this centre did, what needs a look first.

    \b
    texts       that came in; «answered» counts replies of any kind, «unsure» those that said «I do not know»
    reply       from the receipt of a text until the modem had its reply: the middle one, and 19 of 20
    delivered   SMS that the network's status report says have arrived
    battery     as last told, and the lowest of that time

    Counted from what the nodes reported (docs/operations.md, «What the centre learns of its nodes»), which
    arrives some minutes late. A node shows its own figures with `evy stats`.
    """  # noqa: D301  # \b is click's mark against re-wrapping
    made = read(load_config(path), days, node)
    if picture:
        draw(made, picture)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(made)))
    else:
        show(made)
        if picture:
            click.echo(f"drawn: {picture}")


def read(config: Config, days: float, node: str = "") -> Overview:
    """Counts what is stored. Raises :class:`ConfigError`, `AwayError`."""
    found = database(config)
    if isinstance(found, Sqlite) and not found.path.exists():
        here = "its own figures: `evy stats`" if config.node.profile == "lilevy" else "none has come yet"
        raise ConfigError(f"no reports at {found.path}: they are at a centre; {here}")
    until = time.time()
    since = until - days * 86400
    with contextlib.closing(ReportStore(found)) as store:
        heard = store.nodes()
        if node and node not in heard:
            raise ConfigError(f"no node {node!r} has reported; there are {', '.join(heard) or 'none'}")
        wanted = {node: heard[node]} if node else heard
        return overview(store.rows(since, until + 1, node), wanted, since, until)


def draw(made: Overview, file: Path) -> None:
    """Draws it. Raises :class:`ConfigError` without a library for it, or when the file cannot be written."""
    try:
        # Only here: the library takes 60 MB of disk and a second to load.
        from actors._cli.report_picture import picture_of  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"--picture needs matplotlib ({error}): `uv sync --extra picture`, or use --json elsewhere"
        ) from error
    try:
        picture_of(made).savefig(file)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error}") from error


def show(made: Overview) -> None:
    """Prints it."""
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    nodes = f"{len(made.nodes)} nodes" if len(made.nodes) != 1 else made.nodes[0].node
    click.echo(f"{nodes}, {local_time(made.since)} to {local_time(made.until)}")
    for line in made.attention:
        console.print(f"! {line}", style="bold red", markup=False)
    if not made.attention:
        click.echo("nothing needs a look")
    every = made.all
    lines = {
        "texts": f"{every.texts}{_counted(every.lanes)}",
        "answered": f"{_share(every.answered, every.texts)}{_counted(every.steps)}",
        "unsure": f"{_share(every.unanswered, every.texts)}{_counted(every.unanswered_topics)}",
        "needs": _listed(every.needs),
        "languages": _listed(every.languages),
        "reply": _reply(every),
        "delivered": f"{_delivered(every)} by the networks' reports; {every.sms_sent} SMS sent",
        "alerts": _listed(every.alerts),
    }
    click.echo()
    for name, text in lines.items():
        console.print(f"{name:10} {text}", markup=False, soft_wrap=True)
    _nodes(made.nodes, console)
    if made.areas:
        table = _table("danger near", "told", "needs")
        for area in made.areas[:MOST_LISTED]:
            table.add_row(f"{area.latitude:.1f}, {area.longitude:.1f}", str(area.told), _listed(area.needs))
        console.print(table)


def _nodes(nodes: list[NodeFigures], console: Console) -> None:
    table = _table(
        "node", "heard", "texts", "answered", "unsure", "reply", "delivered", "battery", "most needed"
    )
    for one in nodes:
        found = one.figures
        battery = "-" if one.battery_percent is None else f"{one.battery_percent:.0f} %"
        if one.battery_lowest_percent is not None:
            battery += f" ({one.battery_lowest_percent:.0f})"
        table.add_row(
            one.node,
            local_time(one.heard_at)[5:] if one.heard_at else "never",
            str(found.texts),
            str(found.answered),
            str(found.unanswered),
            "-" if found.replied.p50_s is None else span(found.replied.p50_s),
            _delivered(found),
            battery,
            _listed(dict(list(found.needs.items())[:2])),
        )
    console.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        right = column in {"texts", "answered", "unsure", "told", "reply"}
        table.add_column(column, justify="right" if right else "left")
    return table


def _listed(counts: Mapping[str, int]) -> str:
    shown = [f"{name} {count}" for name, count in list(counts.items())[:MOST_LISTED]]
    if len(counts) > MOST_LISTED:
        shown.append(f"{len(counts) - MOST_LISTED} more")
    return ", ".join(shown) or "none"


def _counted(counts: Mapping[str, int]) -> str:
    return f" ({_listed(counts)})" if counts else ""


def _share(count: int, of: int) -> str:
    return f"{count}, {100 * count / of:.0f} %" if of else str(count)


def _delivered(found: Figures) -> str:
    reports = found.sms_delivered + found.sms_undelivered
    return f"{100 * found.sms_delivered / reports:.0f} %" if reports else "-"


def _reply(found: Figures) -> str:
    if found.replied.p50_s is None or found.replied.p95_s is None:
        return "no reply"
    return f"{span(found.replied.p50_s)}, 19 of 20 within {span(found.replied.p95_s)}"
