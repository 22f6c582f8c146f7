"""The power goes at random moments: what JetStream acknowledged is there when it comes back.

A real nats-server keeps its store on a simulated card (`simulators.disk`) that forgets what was not synced.
Questions run through two durable hops into a bucket, by the runtime that the actors use. Then the server is
killed with -9, the card loses its power, with odd seeds tearing what was being written, and everything
starts again. Nothing acknowledged may be missing; what was delivered and not yet acknowledged comes again.

The same with nats-server's own default for ``sync_interval`` loses messages: that test shows that this one
can fail. ``EVY_CHAOS_CUTS`` and ``EVY_CHAOS_SEED`` choose length and seed (`make chaos CUTS=40 SEED=1`).
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats.errors
import nats.js.errors
import pytest

from actors._runtime.actor import Actor, Output
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.clock import deadline_in
from actors._runtime.identity import Identity
from actors._runtime.provision import provision
from actors._runtime.supervisor import nats_configuration
from actors._runtime.worker import run_actors
from simulators.disk.client import MountedDisk, mounted, why_not
from simulators.disk.orders import Cut
from subjects import names
from subjects.messages import OutboundSms, Query, decode
from tests.conftest import NODE, PLACE, Server

CUTS = int(os.environ.get("EVY_CHAOS_CUTS", "4"))
SEED = int(os.environ.get("EVY_CHAOS_SEED", "1"))
CUT_AFTER = (20, 120)
"""Questions acknowledged in a life before the power goes."""
CUT_WITHIN_S = 0.1
"""And up to so long after."""
IN_FLIGHT = 6
STREAMS = (f"WORK_{NODE}", f"FLASH_{NODE}")
HELD_SUBJECT = "infer.small.routine"
"""Nobody works on it here: a plain consumer of the test takes from it."""

pytestmark = [
    pytest.mark.nats,
    pytest.mark.timeout(60 + 15 * CUTS),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "a card can be mounted"),
]


@dataclass
class Ledger:
    """What was tried, what was acknowledged, and what proved untrue after a cut."""

    asked: set[str] = field(default_factory=set)
    stored: set[str] = field(default_factory=set)
    created: Counter[str] = field(default_factory=Counter)
    values: dict[str, int] = field(default_factory=dict)
    tried_values: dict[str, int] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    consumed: set[int] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    undone: set[str] = field(default_factory=set)


def question(number: str) -> Query:
    return Query(
        id=number,
        node=NODE,
        sender_ref="somebody",
        text="how do i make river water safe to drink",
        lang="en",
        lane=random.choice(names.LANES),
        deadline=deadline_in(3600),
    )


def workers(bus: NatsBus, ledger: Ledger) -> list[Actor]:
    """Two hops: a question becomes a text, a text becomes an entry of the bucket, created once."""

    async def route(query: Query) -> Sequence[Output]:
        text = OutboundSms(
            query_id=query.id,
            node=NODE,
            text=query.text,
            lang="en",
            lane=query.lane,
            step="notice",
            sender_ref=query.sender_ref,
        )
        return [Output(names.SMS_OUT, query.lane, text, query.id)]

    async def sms(text: OutboundSms) -> Sequence[Output]:
        bucket = await bus.bucket("ledger")
        if await bucket.create(text.query_id, b"sent") is not None:
            ledger.created[text.query_id] += 1
        return []

    return [Actor("route", {names.ROUTE: route}), Actor("sms", {names.SMS_OUT: sms})]


class Life:
    """One life of the node, from power on to power off: everything that runs in it."""

    def __init__(self, bus: NatsBus, ledger: Ledger, number: int) -> None:
        self.bus = bus
        self.ledger = ledger
        self.number = number
        self.stop = asyncio.Event()

    def jobs(self) -> list[Coroutine[Any, Any, None]]:
        return [
            run_actors(self.bus, workers(self.bus, self.ledger), self.stop),
            *(self.until_off(self.ask, worker) for worker in range(IN_FLIGHT)),
            self.until_off(self.write, 0),
            self.until_off(self.write_and_delete, 0),
            self.until_off(self.hold, 0),
            self.consume(),
        ]

    async def until_off(self, job: Callable[[str], Coroutine[Any, Any, None]], worker: int) -> None:
        """Does a job again and again; a job that the power cut interrupted was not acknowledged."""
        count = 0
        while not self.stop.is_set():
            count += 1
            with suppress(BusError, nats.errors.Error, nats.js.errors.Error, TimeoutError):
                await job(f"{self.number}-{worker}-{count}")

    async def ask(self, number: str) -> None:
        self.ledger.asked.add(number)
        query = question(number)
        await self.bus.publish(Output(names.ROUTE, query.lane, query, number), "test")
        self.ledger.stored.add(number)

    async def write(self, number: str) -> None:
        key = f"person{int(number.rpartition('-')[2]) % 5}"
        bucket = await self.bus.bucket("session")
        value = self.ledger.tried_values.get(key, 0) + 1
        self.ledger.tried_values[key] = value
        await bucket.put(key, b"%d" % value)
        self.ledger.values[key] = value

    async def write_and_delete(self, number: str) -> None:
        bucket = await self.bus.bucket("parts")
        await bucket.put(number, b"part")
        await bucket.delete(number)
        self.ledger.deleted.add(number)

    async def hold(self, number: str) -> None:
        await self.bus.js.publish(HELD_SUBJECT, number.encode())

    async def consume(self) -> None:
        durable = f"{NODE}_infer_small_routine"
        pull = await self.bus.js.pull_subscribe_bind(durable=durable, stream=f"WORK_{NODE}")
        while not self.stop.is_set():
            with suppress(nats.errors.Error, TimeoutError):
                for message in await pull.fetch(4, timeout=0.5):
                    await message.ack_sync(timeout=5)
                    self.ledger.consumed.add(message.metadata.sequence.stream)


async def stored(bus: NatsBus, stream: str, ledger: Ledger) -> list[tuple[int, str, bytes]]:
    """Sequence, subject and payload of everything in a stream."""

    async def one(sequence: int) -> list[tuple[int, str, bytes]]:
        with suppress(nats.js.errors.NotFoundError):
            message = await bus.js.get_msg(stream, sequence)
            return [(sequence, message.subject or "", message.data or b"")]
        return []

    try:
        state = (await bus.js.stream_info(stream)).state
    except nats.js.errors.NotFoundError:
        ledger.undone.add(stream)
        return []
    sequences = range(max(1, state.first_seq), state.last_seq + 1)
    return [entry for found in await asyncio.gather(*map(one, sequences)) for entry in found]


async def check(bus: NatsBus, ledger: Ledger) -> None:
    """Looks through streams and buckets for what is missing or came back."""
    waiting = set()
    for stream in STREAMS:
        for sequence, subject, data in await stored(bus, stream, ledger):
            if subject == HELD_SUBJECT:
                ledger.undone |= {f"consumed {sequence}"} if sequence in ledger.consumed else set()
            elif names.SMS_OUT in subject:
                waiting.add(decode(data, OutboundSms).query_id)
            else:
                waiting.add(decode(data, Query).id)
    try:
        done = set(await (await bus.bucket("ledger")).keys())
        parts = set(await (await bus.bucket("parts")).keys())
        session = await bus.bucket("session")
    except BusError as error:
        ledger.undone.add(str(error))
        ledger.lost |= ledger.stored - waiting
        return
    ledger.lost |= ledger.stored - waiting - done
    ledger.undone |= {f"created {number}" for number in set(ledger.created) - done}
    ledger.undone |= {f"deleted {number}" for number in ledger.deleted & parts}
    for key, value in ledger.values.items():
        found = await session.get(key)
        if found is None or not value <= int(found[0]) <= ledger.tried_values[key]:
            ledger.undone.add(f"written {key}={value}, found {found}")


def off(disk: MountedDisk, logs: Path, configuration: Path | None = None) -> Server:
    """A server with its store on the card, not running."""
    server = Server(disk.path / "nats", logs=logs, configuration=configuration)
    server.kill()
    return server


@asynccontextmanager
async def power_on(server: Server) -> AsyncIterator[NatsBus]:
    """The server runs and a connection to it, until the power goes."""
    server.start()
    bus = await NatsBus.connect(Identity(NODE, b"secret of the tests", "0000"), server.url, "test", wait_s=20)
    bus.client.options["allow_reconnect"] = False  # its process dies with the power
    try:
        yield bus
    finally:
        server.kill()
        with suppress(nats.errors.Error, OSError):
            await bus.client.close()


async def live(disk: MountedDisk, server: Server, cuts: int, seed: int) -> Ledger:
    """Lives of a node, each ended by a power cut, the last by none."""
    rng = random.Random(seed)
    ledger = Ledger()
    for number in range(cuts):
        async with power_on(server) as bus:
            if number:
                await check(bus, ledger)
                if ledger.lost or ledger.undone:
                    return ledger
            await provision(bus.js, PLACE)  # events are stored without waiting for the card
            life = Life(bus, ledger, number)
            before = asyncio.all_tasks()
            for job in life.jobs():
                asyncio.create_task(job)  # noqa: RUF006  all_tasks finds them below
            enough = len(ledger.stored) + rng.randint(*CUT_AFTER)
            while len(ledger.stored) < enough:
                await asyncio.sleep(0.01)
            await asyncio.sleep(rng.uniform(0, CUT_WITHIN_S))
            server.kill()
            life.stop.set()
            await die(asyncio.all_tasks() - before)
        disk.do(Cut(seed=rng.randrange(1000) if number % 2 else None))
    async with power_on(server) as bus:
        await check(bus, ledger)
        if cuts > 10 and not ledger.lost and not ledger.undone:
            await drain(bus, ledger)
    return ledger


async def die(tasks: set[asyncio.Task[Any]]) -> None:
    """Ends tasks as a process ends: at once, also handlers that a worker would wait for."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=0.1)  # nats-py turns some cancellations into time-outs


async def drain(bus: NatsBus, ledger: Ledger) -> None:
    """Works until nothing waits: everything acknowledged has come out at the end, once."""
    stop = asyncio.Event()
    running = asyncio.create_task(run_actors(bus, workers(bus, ledger), stop))
    subjects = {f"{base}.>" for base in (names.ROUTE, names.SMS_OUT)}
    async with asyncio.timeout(120):
        while any([await waiting(bus, stream, subject) for stream in STREAMS for subject in subjects]):
            await asyncio.sleep(0.2)
    stop.set()
    await running
    done = set(await (await bus.bucket("ledger")).keys())
    ledger.lost |= ledger.stored - done


async def waiting(bus: NatsBus, stream: str, subject: str) -> int:
    info = await bus.js.stream_info(stream, subjects_filter=subject)
    return sum((info.state.subjects or {}).values())


async def test_nothing_acknowledged_is_lost_when_the_power_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path) as disk:
        server = off(disk, tmp_path)
        ledger = await live(disk, server, CUTS, SEED)
    with capsys.disabled():
        print(
            f"\n{CUTS} power cuts, seed {SEED}: {len(ledger.stored)} of {len(ledger.asked)} questions "
            f"acknowledged, {len(ledger.lost)} lost; {len(ledger.created)} entries created, "
            f"{len(ledger.consumed)} consumed, {len(ledger.deleted)} deleted, {len(ledger.undone)} undone"
        )
    assert ledger.consumed
    assert ledger.deleted
    assert ledger.lost == set()
    assert ledger.undone == set()
    assert set(ledger.created.values()) == {1}


async def test_what_was_provisioned_is_there_after_a_power_cut(tmp_path: Path) -> None:
    with mounted(tmp_path) as disk:
        server = off(disk, tmp_path)
        async with power_on(server) as bus:
            assert await provision(bus.js, PLACE) == []
            before = await found(bus)
        disk.do(Cut())
        async with power_on(server) as bus:
            # Events do not wait for the card, nor does their stream's description: it is made again.
            assert await found(bus) == before - {f"EVT_{NODE}"}
            assert await provision(bus.js, PLACE) == []
            assert await found(bus) == before


async def found(bus: NatsBus) -> set[str]:
    """Names of streams and durables."""
    streams = await bus.js.streams_info()
    names = {stream.config.name or "" for stream in streams}
    for name in list(names):
        names |= {consumer.name for consumer in await bus.js.consumers_info(name)}
    return names


async def test_without_sync_interval_always_messages_are_lost(tmp_path: Path) -> None:
    """With nats-server's default; so it is the shipped configuration that keeps the promise."""
    weakened = 0
    for file in nats_configuration().parent.glob("*.conf"):
        text = file.read_text(encoding="utf-8")
        weakened += text.count("sync_interval: always")
        (tmp_path / file.name).write_text(text.replace("sync_interval: always", ""), encoding="utf-8")
    assert weakened
    weak = tmp_path / nats_configuration().name
    with mounted(tmp_path) as disk:
        server = off(disk, tmp_path, weak)
        ledger = await live(disk, server, 1, SEED)
    assert ledger.lost == ledger.stored != set()
    assert f"WORK_{NODE}" in ledger.undone
