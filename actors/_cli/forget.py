"""`evy forget`: one person taken out of the node."""

import asyncio
import contextlib
import re
import secrets
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Final

import click
import msgspec

from actors._event_store import EventStore, forget_in, path_in
from actors._people.cases import Case, Rota, case_key, record, rota_key
from actors._runtime.actor import Output
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.clock import boot_id, boot_s
from actors._runtime.config import Config, load_config
from actors._runtime.erase import (
    SWEEP_OCTETS,
    Person,
    Stored,
    erase,
    streams,
    sweep,
    under_way,
)
from actors._runtime.identity import Identity, load_identity
from actors._runtime.process import log_to_stderr
from actors._runtime.server_files import settings
from actors._runtime.state import change
from subjects import names, registry
from subjects.errors import ConfigError, EvyError
from subjects.messages import Event, Forget

_REF: Final = re.compile(r"[0-9a-f]{20}")
_NUMBER: Final = re.compile(r"\+?[0-9]{3,15}")
REPORTED_AT_ONCE: Final = 5000
"""Texts of one request to the centre, 100 kB."""
ROOM_OCTETS: Final = 4 * SWEEP_OCTETS
"""Free space below which nothing is swept: a failed write stops a stream until the server is restarted."""

ELSEWHERE: Final = (
    "backups made before now: destroy them, or forget again after a restore",
    "questions that left as nobody's, for the centre to learn from: nobody can tell whose they were",
    "the phones of this person and of responders, and what the networks keep",
    "the SIM: a deleted slot keeps its octets until the next text; what waits there comes anew",
    "old logs of the system (`journalctl --vacuum-time=`), and contacts.toml if it names this person",
)


class EmergencyError(EvyError):
    """The person has an emergency under way."""


class Forgotten(msgspec.Struct, frozen=True):
    """What was done, for people and for ``--json``."""

    erased: dict[str, int]
    opt_out_kept: bool
    swept: bool
    later: tuple[str, ...]
    elsewhere: tuple[str, ...] = ELSEWHERE


async def person_of(who: str, bus: NatsBus) -> Person:
    """The person behind a number in any usual spelling, or a reference. Raises ConfigError for neither."""
    if _REF.fullmatch(who):
        entry = None
        with contextlib.suppress(BusError):  # a centre has no numbers
            entry = await (await bus.bucket("numbers")).get(who)
        if entry is None:
            return Person(frozenset({who}))
        who = entry[0].decode()
    number = re.sub(r"[\s()./-]", "", who)
    if not _NUMBER.fullmatch(number):
        raise ConfigError(
            f"{who!r} is neither a phone number, such as +49171234567, nor a reference of 20 hex digits, "
            "as events and dead letters show it"
        )
    bare = number.removeprefix("+")
    numbers = frozenset({bare, f"+{bare}"})  # networks write it either way
    return Person(frozenset(map(bus.identity.sender_ref, numbers)), numbers)


def opt_out(message: Stored) -> bytes | None:
    """What stays of a person who said STOP: the reference and that fact, or they would be texted again."""
    if not message.subject.startswith("$KV.consent_"):
        return None
    return b'{"stopped":true}' if msgspec.json.decode(message.payload).get("stopped") else None


async def _is_in_danger(bus: NatsBus, person: Person) -> bool:
    with contextlib.suppress(BusError):  # a centre has no alerts
        alerts = await bus.bucket("alerts")
        for ref in person.refs:
            case = await record(alerts, case_key(ref), Case)
            if case and case.asked and case.is_open(boot_id(), boot_s()):
                return True
    return False


async def _out_of_rotas(bus: NatsBus, person: Person) -> None:
    """Takes the person out of the responders' records, which are about others too."""
    with contextlib.suppress(BusError):  # likewise
        alerts = await bus.bucket("alerts")

        def step(rota: Rota | None) -> tuple[Rota | None, None]:
            return rota and rota.without(person.refs), None

        for key in await alerts.keys(rota_key("")):
            with contextlib.suppress(msgspec.DecodeError):  # `alert` takes such a one away
                await change(alerts, key, Rota, step)


async def forget_person(
    bus: NatsBus,
    who: str,
    *,
    everything: bool,
    now: bool,
    store: Path | None = None,
    events: Path | None = None,
    linked: bool = False,
) -> Forgotten:
    """Erases a person on the server of ``bus``. Raises :class:`EmergencyError` unless ``now``."""
    room = shutil.disk_usage(store).free if store else ROOM_OCTETS  # a server elsewhere looks after itself
    person = await person_of(who, bus)
    configs = await streams(bus.client, bus.js, lambda _: True)
    waiting = 0 if now else await under_way(bus.js, configs, person, "flash")
    if not now and await _is_in_danger(bus, person):
        raise EmergencyError(
            "responders are asked about this person now (`evy cases`): wait until that is over, or --now"
        )
    if waiting:
        raise EmergencyError(
            f"an emergency of this person is under way ({waiting} messages in the flash lane): "
            "wait until it is answered, or --now to erase that too"
        )
    kept = False

    def keep(message: Stored) -> bytes | None:
        nonlocal kept
        rest = opt_out(message)
        kept = kept or rest is not None
        return rest

    await _out_of_rotas(bus, person)
    erased = await (erase(bus.client, person) if everything else erase(bus.client, person, keep=keep))
    later = await _sweep_all(bus, room)
    swept = not later
    if store and (places := await asyncio.to_thread(_still_in, store, person)):
        later.append(
            f"the number is still in files of {', '.join(places)}: in texts of others, or in octets that the "
            "server has not taken out yet, which it does when half of a block is deleted"
        )
    by_place = _by_place(erased, bus.node)
    texts = set(person.queries)
    if events:  # after the stream, whose reader has written by now what it had read
        texts |= await asyncio.to_thread(_texts_of, events, person)
        count, trouble = await asyncio.to_thread(_erase_events, events, person)
        by_place |= {"event store": count} if count else {}
        later += [trouble] if trouble else []
    if linked:
        later.append(await _ask_centre(bus, person, sorted(map(bus.identity.report_ref, texts))))
    report = Forgotten(by_place, kept, swept, tuple(later))
    bus.emit(Event(kind="forgotten", node=bus.node, actor="forget", at=time.time(), fields=report.erased))
    return report


async def _ask_centre(bus: NatsBus, person: Person, reported: list[str]) -> str:
    """``reported`` is what the node's reports call the person's texts."""
    queries = tuple(sorted(person.queries))[:1000]
    try:
        for begin in range(0, max(1, len(reported)), REPORTED_AT_ONCE):
            some = tuple(reported[begin : begin + REPORTED_AT_ONCE])
            request = Forget(node=bus.node, refs=tuple(person.refs), queries=queries, reported=some)
            await bus.publish(Output(names.FORGET, "routine", request, secrets.token_hex(16)), "forget")
    except BusError as error:
        return f"the centre keeps its copies: {error}; `evy subjects --apply`, then do this again"
    return "the centre erases its copies when it has this request, which waits for the link"


async def _sweep_all(bus: NatsBus, room: int) -> list[str]:
    """Takes deleted octets out of all streams; gives what could not be done, and what to do."""
    if room < ROOM_OCTETS:
        free, wanted = room / 2**20, ROOM_OCTETS / 2**20
        return [f"deleted octets stay: make room ({free:.0f} of {wanted:.0f} MB are free) and do this again"]
    troubles = []
    for config in await streams(bus.client, bus.js, lambda _: True):
        try:
            await sweep(bus.client, config)
        except BusError as error:
            troubles.append(f"deleted octets stay in {config.name} for now: {error}; do this again")
    return troubles


def _texts_of(path: Path, person: Person) -> set[str]:
    """Ids of the person's texts that only the event store still knows."""
    try:
        with contextlib.closing(EventStore.existing(path)) as store:
            return set().union(*(store.queries_of(ref) for ref in person.refs))
    except EvyError:  # there is none, or it cannot be read: erasing from it says so
        return set()


def _erase_events(path: Path, person: Person) -> tuple[int, str]:
    """Events and spans erased from the event store, and why not."""
    try:
        return forget_in(path, person.refs, person.queries), ""
    except EvyError as error:
        return 0, f"the event store keeps its copies: {error}"


def _still_in(store: Path, person: Person) -> list[str]:
    """Streams in whose files a number of the person is, as far as the store is in the clear."""
    marks = [number.removeprefix("+").encode() for number in person.numbers]
    files = store.glob("jetstream/*/streams/*/msgs/*.blk")
    return sorted({path.parents[1].name for path in files if any(mark in _octets(path) for mark in marks)})


def _octets(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # the server has just done with it
        return b""


def _by_place(erased: Counter[str], node: str) -> dict[str, int]:
    named = {f"KV_{row.bucket(node)}": f"bucket {row.name}" for row in registry.BUCKETS}
    return {named.get(name, f"stream {name}"): count for name, count in sorted(erased.items()) if count}


def _store(config: Config) -> Path | None:
    """Where the server of this node keeps its store; None when it is somebody else's server."""
    installed = settings(config.node.server_directory)
    store = Path(installed.store) if installed else config.node.directory / "nats"
    return store if store.exists() else None


async def _run(config: Config, identity: Identity, who: str, *, everything: bool, now: bool) -> Forgotten:
    bus = await NatsBus.connect(identity, config.node.url, "forget", wait_s=10)
    try:
        return await forget_person(
            bus,
            who,
            everything=everything,
            now=now,
            store=_store(config),
            events=path_in(config.node.directory),
            linked=config.node.centre,
        )
    finally:
        await bus.close()


@click.command()
@click.argument("who", metavar="NUMBER|REFERENCE")
@click.option("--all", "everything", is_flag=True, help="Also that the person opted out with STOP.")
@click.option("--now", is_flag=True, help="Also an emergency that is under way: nobody will answer it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.pass_obj
def forget(path: Path | None, who: str, *, everything: bool, now: bool, as_json: bool) -> None:
    """Erase one person everywhere on this node: settings, number, texts, events, dead letters.

    What is under way for them is not answered any more. An opt-out stays as a bare reference, or the next
    alert would reach somebody who wanted none; --all takes that too. The centre is asked over the link.
    Doing it again is harmless.

    \b
    Example: evy forget +49171234567
    """  # noqa: D301  # \b is click's mark against re-wrapping
    log_to_stderr("WARNING")
    config = load_config(path)
    identity = load_identity(config.node.name, config.node.directory)
    report = asyncio.run(_run(config, identity, who, everything=everything, now=now))
    if as_json:
        click.echo(msgspec.json.encode(report))
        return
    for place, count in report.erased.items():
        click.echo(f"{count:>6}  {place}")
    click.echo(
        "nothing is known of this person" if not report.erased else f"{sum(report.erased.values())} erased"
    )
    if report.swept:
        click.echo("the octets are gone from the store")
    if report.opt_out_kept:
        click.echo("kept: that this reference opted out (--all removes it)")
    for line in report.later:
        click.echo(f"later: {line}")
    for line in report.elsewhere:
        click.echo(f"not erased: {line}")
