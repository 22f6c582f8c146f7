"""`evy logs`."""

import asyncio
import contextlib
import re
import sys
import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from actors._runtime.bus import BusError, NatsBus
from actors._runtime.config import Config, load_config
from actors._runtime.identity import load_identity
from actors._runtime.process import log_to_stderr, run_until_signal
from actors.analytics.history import History, history, matches
from subjects.messages import Event

LOOK_EVERY_S: Final = 0.5
SHOWN: Final = 200
"""Events shown without --since."""
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def moment(value: str) -> float:
    """Unix time of "24h" ago, "7d" ago, or of "2026-11-21", "2026-11-21 18:22" in local time."""
    if ago := _AGO.fullmatch(value.strip()):
        return time.time() - float(ago[1]) * _UNITS[ago[2]]
    try:
        return datetime.fromisoformat(value).timestamp()
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} is neither like 24h, 30m or 7d nor like 2026-11-21 or '2026-11-21 18:22'"
        ) from error


@contextlib.asynccontextmanager
async def opened(config: Config) -> AsyncIterator[tuple[History, NatsBus | None]]:
    """The history of a node for a command."""
    log_to_stderr("ERROR")
    identity = load_identity(config.node.name, config.node.directory)
    async with history(config, identity) as found:
        yield found


def warn(found: History) -> None:
    """Says on stderr what is out of reach."""
    for line in found.warnings:
        click.echo(f"evy: {line}", err=True)


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens from now, until Ctrl-C.")
@click.option(
    "--kind", "kinds", multiple=True, metavar="K", help="Only events of this kind; may be repeated."
)
@click.option("--query", metavar="ID", default="", help="One text: a query id, its begin, a number, or last.")
@click.option(
    "--since", type=moment, help=f"24h, 30m, 7d, or a date and time. Default: the last {SHOWN} events."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
@click.pass_obj
def logs(  # noqa: PLR0917  # click's options
    path: Path | None,
    follow: bool,
    kinds: tuple[str, ...],
    query: str,
    since: float | None,
    as_json: bool,
) -> None:
    """Show what happened on this node, one line an event: time, actor, kind, query, lane, the rest.

    Events name people by pseudonyms; `evy trace ID` puts one text's together. What a process says for itself
    (warnings, errors) is elsewhere: of the actors in the system's journal (`journalctl -u evy`) or where
    `evy up` runs, of nats-server in `nats-server.log` of the data directory.

    \b
    Example: evy logs --follow --kind received --kind sent
             evy logs --query +49171234567 --since 2d
    """  # noqa: D301  # \b is click's mark against re-wrapping
    config = load_config(path)

    def show(event: Event) -> None:
        click.echo(msgspec.json.encode(event) if as_json else line_of(event))

    async def main(stop: asyncio.Event) -> int:
        async with opened(config) as (found, bus):
            warn(found)
            wanted = found.queries(query) if query else [""]
            last = 0 if since is not None or query else SHOWN
            shown = [
                event
                for one in wanted
                for event in found.events(since=since or 0.0, kinds=kinds, query_id=one, last=last)
            ]
            for event in shown:
                show(event)
            if follow and bus is None:
                click.echo("evy: nothing to follow: the server does not answer", err=True)
                return 1
            while follow and not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), LOOK_EVERY_S)
                with contextlib.suppress(BusError):  # it comes back, and nothing is missed
                    for event in await found.read_on():
                        if any(matches(event, 0.0, kinds, one, "") for one in wanted):
                            show(event)
                sys.stdout.flush()
        return 0

    sys.exit(run_until_signal(main))


def line_of(event: Event) -> str:
    """An event as a line for people."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at)) + f".{int(event.at % 1 * 1000):03}"
    about = f" {event.query_id[:12]} {event.lane}" if event.query_id else ""
    words = fields_of(event.fields)
    return f"{at} {event.actor:<11} {event.kind}{about}{'  ' if words else ''}{words}"


def fields_of(fields: Mapping[str, Any]) -> str:
    """What an event says, as words; empty values are left out."""
    said = []
    for name, value in fields.items():
        if value in (None, "", [], {}):
            continue
        if isinstance(value, list):
            text = ", ".join(map(str, value))
        elif isinstance(value, dict):
            text = " ".join(f"{key}:{inner}" for key, inner in value.items())
        elif isinstance(value, bool):
            text = "yes" if value else "no"
        elif isinstance(value, float):
            text = f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
        else:
            text = str(value)
        text = _one_line(text)
        said.append(f'{name}="{text}"' if " " in text else f"{name}={text}")
    return " ".join(said)


def _one_line(text: str) -> str:
    """Without what would move the terminal's cursor or end the line."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
