"""`evy cases`: who is in danger, who was asked, and what they answered."""

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors._people.cases import Case, State, record
from actors._people.contacts import AlertConfig, Contact, contacts_of
from actors._people.place import shown
from actors._runtime.bus import NatsBus
from actors._runtime.clock import boot_id, boot_s
from actors._runtime.config import load_config
from actors._runtime.identity import load_identity

STYLES: Final[dict[State, str]] = {
    "unheard": "bold red",
    "asking": "yellow",
    "coming": "green",
    "closed": "dim",
}
"""Each state with how it looks, in the order in which they need somebody to look."""


class Listed(msgspec.Struct, frozen=True):
    """One case, for a person or a program. ``sender_ref`` is the person's pseudonym."""

    number: int
    state: State
    is_open: bool
    silent_s: float | None
    """Since the person's last text; None when the node was restarted since."""
    needs: tuple[str, ...]
    topic: str
    place: str
    asked: dict[str, str]
    """Each responder's name with the answer: "coming", "cannot", or "" for none yet."""
    told: tuple[str, ...]
    texts: int
    sender_ref: str
    phone: str = ""
    words: str = ""


@click.command()
@click.option("--all", "every", is_flag=True, help="Also those of the last day that are over.")
@click.option("--full", is_flag=True, help="With numbers, words and places: they are somebody's.")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def cases(path: Path | None, *, every: bool, full: bool, as_json: bool) -> None:
    """List the people in danger whose alert is open: who was asked, and who goes.

    Exit 1 while there is a case that all responders were asked about and nobody goes to: that one is yours.
    Nothing is changed here. A case ends when its person texts SAFE, or nothing for two hours.

    \b
    asking    responders were asked, nobody has said yes yet; the next are asked when it is time
    coming    a responder said yes, and the person knows
    unheard   all were asked, nobody goes; the person was told to call the emergency number
    """  # noqa: D301  # \b is click's mark against re-wrapping
    config = load_config(path)
    identity = load_identity(config.node.name, config.node.directory)
    contacts = contacts_of(config.node.directory, config.section("alert", AlertConfig).contacts)

    async def read() -> list[Listed]:
        bus = await NatsBus.connect(identity, config.node.url, "cases", wait_s=3)
        try:
            return await listed(bus, contacts, full=full)
        finally:
            await bus.close()

    found = [case for case in asyncio.run(read()) if every or case.is_open]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        _print(found, full=full)
    sys.exit(int(any(case.state == "unheard" and case.is_open for case in found)))


async def listed(bus: NatsBus, contacts: Sequence[Contact], *, full: bool) -> list[Listed]:
    """Every case of the bucket, those that need somebody first; numbers and words only when ``full``."""
    alerts, numbers = await bus.bucket("alerts"), await bus.bucket("numbers")
    names = {contact.key: contact.name for contact in contacts}
    found = []
    for key in await alerts.keys("case."):
        case = await record(alerts, key, Case)
        if case is None or not case.number:
            continue  # gone meanwhile, or of an earlier EVY
        ref = key.removeprefix("case.")
        phone = await numbers.get(ref) if full else None
        found.append(
            Listed(
                number=case.number,
                state=case.state,
                is_open=case.is_open(boot_id(), boot_s()),
                silent_s=boot_s() - case.heard_at_s if case.boot_id == boot_id() else None,
                needs=case.needs,
                topic=case.topic,
                place=shown(case.place) if full and case.place else "known" if case.place else "",
                asked={names.get(one.key, "(no longer in the file)"): one.answer or "" for one in case.asked},
                told=case.told,
                texts=case.count,
                sender_ref=ref,
                phone=phone[0].decode() if phone else "",
                words=case.text if full else "",
            )
        )
    order = list(STYLES)
    return sorted(found, key=lambda case: (order.index(case.state), case.number))


def _print(found: Sequence[Listed], *, full: bool) -> None:
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    if not found:
        console.print("nobody is in danger, as far as this node knows")
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("case", "state", "silent for", "texts", "what", "place", "asked"):
        table.add_column(column, overflow="fold")
    if full:
        table.add_column("phone")
        table.add_column("words", overflow="fold")
    for case in found:
        asked = ", ".join(f"{name}: {answer or 'no answer'}" for name, answer in case.asked.items())
        row: list[str | Text] = [
            str(case.number),
            Text(case.state if case.is_open else f"{case.state}, over", style=STYLES[case.state]),
            "?" if case.silent_s is None else time.strftime("%H:%M:%S", time.gmtime(case.silent_s)),
            str(case.texts),
            case.topic or ", ".join(case.needs),
            Text(case.place),
            Text(asked or "nobody is there for it"),
        ]
        table.add_row(*row, *([Text(case.phone), Text(case.words)] if full else []))
    console.print(table)
