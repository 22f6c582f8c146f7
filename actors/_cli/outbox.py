"""`evy outbox`: what waits for the modem, and what a person must decide."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors._runtime.bus import NatsBus
from actors._runtime.config import load_config
from actors._runtime.identity import load_identity
from actors._runtime.services import NobodyAnswersError, ask
from actors._runtime.waiting import Waiting, waiting
from subjects import names
from subjects.errors import ConfigError
from subjects.services import HeldPart, OutboxDecided, OutboxDecision, OutboxReply, OutboxRequest

R = TypeVar("R")


def _on_bus(path: Path | None, work: Callable[[NatsBus], Awaitable[R]]) -> R:
    config = load_config(path)
    identity = load_identity(config.node.name, config.node.directory)

    async def main() -> R:
        bus = await NatsBus.connect(identity, config.node.url, "outbox", wait_s=3)
        try:
            return await work(bus)
        finally:
            await bus.close()

    return asyncio.run(main())


@click.group(name="outbox")
def outbox() -> None:
    """Texts that wait for the modem, and parts whose fate nobody knows.

    A part is HELD when the machine or the modem died between handing it over and hearing that it left, and
    neither the modem's counter nor a status report can tell. Sending it again may double it, dropping it may
    lose it: a person decides. Emergencies are never held, they are sent again.

    \b
    evy outbox ls           what waits, what is held, since when and why
    evy outbox ls --full    … with texts and numbers: they are somebody's
    evy outbox send ID      send it (again)
    evy outbox drop ID      never send it
    """  # noqa: D301  # \b is click's mark against re-wrapping


@outbox.command(name="ls")
@click.option("--full", is_flag=True, help="Numbers and texts too: they are somebody's.")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def ls_command(path: Path | None, *, full: bool, as_json: bool) -> None:
    """List what waits in sms.out and what is held. Exit 1 when something is held."""

    async def work(bus: NatsBus) -> tuple[list[Waiting], tuple[HeldPart, ...] | None]:
        lanes = await waiting(bus, names.SMS_OUT)
        try:
            reply: OutboxReply = await ask(bus, "sms.outbox", OutboxRequest(full=full))
        except NobodyAnswersError:
            return lanes, None
        return lanes, reply.held

    lanes, held = _on_bus(path, work)
    if as_json:
        told: dict[str, Any] = {"waiting": lanes, "held": held}
        click.echo(msgspec.json.format(msgspec.json.encode(told)))
    else:
        _print(lanes, held)
    sys.exit(int(bool(held)))


@outbox.command(name="send")
@click.argument("key", metavar="ID")
@click.pass_obj
def send_command(path: Path | None, key: str) -> None:
    """Send a held part (again). Whoever has it already gets it twice."""
    _decide(path, OutboxDecision(key=key, send=True))


@outbox.command(name="drop")
@click.argument("key", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def drop_command(path: Path | None, key: str, *, yes: bool) -> None:
    """Never send a held part. If it did not leave, nobody gets it."""
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError(f"drop {key}? Say --yes: nobody is there to ask")
        click.confirm(f"drop {key}?", abort=True, err=True)
    _decide(path, OutboxDecision(key=key, send=False))


def _decide(path: Path | None, decision: OutboxDecision) -> None:
    async def work(bus: NatsBus) -> OutboxDecided:
        reply: OutboxDecided = await ask(bus, "sms.outbox.decide", decision)
        return reply

    decided = _on_bus(path, work)
    said = "it waits for the modem" if decided.state == "UNSENT" else "it is not sent"
    click.echo(f"{decided.key}: {decided.note}; {said}")


def _print(lanes: list[Waiting], held: tuple[HeldPart, ...] | None) -> None:
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    for lane in lanes:
        age = "" if lane.oldest_s is None else f", the oldest for {_age(lane.oldest_s)}"
        console.print(Text(f"{lane.lane:9} {lane.count} texts wait, {lane.in_hand} of them in hand{age}"))
    if held is None:
        console.print("what is held is not known: the actor sms does not answer; `evy up` starts it")
        return
    if not held:
        console.print("nothing is held")
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("id", "held for", "part", "to", "text"):
        table.add_column(column, overflow="fold")
    table.add_column("why", overflow="fold")
    for part in held:
        table.add_row(
            part.key,
            _age(time.time() - part.since),
            f"{part.part} of {part.parts}, {part.kind}",
            part.number or part.sender_ref,
            Text(part.text or f"<{part.characters} characters>"),
            Text(part.note),
        )
    console.print(table)
    console.print("`evy outbox send ID` sends it again, `evy outbox drop ID` never")


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
