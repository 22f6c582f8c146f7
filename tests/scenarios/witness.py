"""Work that shows what was acknowledged, for tests that break the disk under nats-server: two durable hops
by the runtime that the actors use, writes to buckets, and a ledger of what must be there afterwards."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import nats.errors
import nats.js.errors

from actors._runtime.actor import Actor, Output
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.clock import deadline_in
from actors._runtime.worker import run_actors
from subjects import names
from subjects.messages import OutboundSms, Query, decode
from tests.conftest import NODE

IN_FLIGHT = 6
STREAMS = (f"WORK_{NODE}", f"FLASH_{NODE}")
HELD_SUBJECT = "infer.small.routine"
"""Nobody works on it here: a plain consumer of the test takes from it."""


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
    refused: Counter[str] = field(default_factory=Counter)


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
            try:
                await job(f"{self.number}-{worker}-{count}")
            except (BusError, nats.errors.Error, nats.js.errors.Error, TimeoutError):
                await asyncio.sleep(0.01)  # some errors come without waiting for anything

    async def ask(self, number: str) -> None:
        self.ledger.asked.add(number)
        query = question(number)
        try:
            await self.bus.publish(Output(names.ROUTE, query.lane, query, number), "test")
        except BusError as error:
            self.ledger.refused[str(error)] += 1
            raise
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
    js = bus.client.jetstream(timeout=30)

    async def one(sequence: int) -> list[tuple[int, str, bytes]]:
        with suppress(nats.js.errors.NotFoundError):
            message = await js.get_msg(stream, sequence)
            return [(sequence, message.subject or "", message.data or b"")]
        return []

    try:
        state = (await js.stream_info(stream)).state
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


async def die(tasks: set[asyncio.Task[Any]]) -> None:
    """Ends tasks as a process ends: at once, also handlers that a worker would wait for."""
    living = tasks
    while living:
        for task in living:
            task.cancel()
        _, living = await asyncio.wait(living, timeout=0.1)  # nats-py turns some cancellations into time-outs
    await asyncio.gather(*tasks, return_exceptions=True)


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
