"""What is asked of every bridge: one message at a time, then a backlog that waited while the link was down.

A bridge is a pair of servers, edge and centre, joined through :class:`~tests.bench.bridges.relay.Relay`. A
publisher at the edge counts a message as published when the edge has acknowledged it; a consumer at the
centre acknowledges each. The messages are questions as EVY sends them up.
"""

import asyncio
import functools
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final

import msgspec
import psutil

from actors._runtime import clock
from actors.knowledge import Article, Texts
from subjects.messages import Passage, Query, encode
from tests.bench import flow
from tests.bench.bridges.relay import Octets, Relay

EDGE: Final = "n1"
IN_FLIGHT: Final = 64
"""Publishes of the backlog that wait for their acknowledgement at a time."""
WINDOW: Final = 1000
"""Messages that a bridge or a consumer may hold unacknowledged, where that can be set: RabbitMQ's default."""
WARM_UP: Final = 20
_ID: Final = slice(start := len('{"v":1,"id":"'), start + 32)


@functools.cache
def _material() -> tuple[list[str], list[Article]]:
    return list(flow.questions()), [a for a in Texts.load().articles() if a.lang == "en"]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def id_of(query: bytes) -> str:
    """Id of an encoded question, without decoding it."""
    return query[_ID].decode()


def queries(count: int, first: int = 0) -> Iterator[bytes]:
    """Encoded questions in several languages, each with three passages of the node's knowledge."""
    asked, articles = _material()
    deadline = clock.deadline_in(3600)
    for index in range(first, first + count):
        around = [articles[(index * 3 + place) % len(articles)] for place in range(3)]
        query = Query(
            id=_digest(f"query {index}")[:32],
            node=EDGE,
            sender_ref=_digest(f"sender {index}")[:20],
            text=asked[index % len(asked)],
            lang="en",
            lane="routine",
            deadline=deadline,
            confidence=0.41,
            passages=tuple(
                Passage(a.id, a.text, a.title, a.source.tag, a.lang, 0.41 - place / 10)
                for place, a in enumerate(around)
            ),
            received_at=time.time(),
        )
        yield encode(query)


class Arrivals:
    """What the consumer at the centre has got: called by it for each message, in the event loop."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.doubled = 0
        self.first_at = 0.0
        self.last_at = 0.0
        self._wanted = 0
        self._there = asyncio.Event()

    def note(self, query_id: str) -> None:
        """The question of this id, or its answer, has come."""
        self.last_at = time.perf_counter()
        self.first_at = self.first_at or self.last_at
        if query_id in self.ids:
            self.doubled += 1
        self.ids.add(query_id)
        if len(self.ids) >= self._wanted:
            self._there.set()

    def expect(self, count: int) -> None:
        """From now on, ``count`` different messages more are waited for."""
        self._wanted = len(self.ids) + count
        self.first_at = 0.0
        self._there.clear()

    async def all(self, timeout_s: float) -> None:
        """Waits for what is expected. What has not come by then is lost, which the figures say."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._there.wait()

    @property
    def missing(self) -> int:
        """How many of the expected have not come."""
        return max(0, self._wanted - len(self.ids))


class Bridge(msgspec.Struct, frozen=True):
    """A running bridge with its link up, and a consumer at the centre that acknowledges."""

    publish: Callable[[bytes], Awaitable[None]]
    """Returns when the edge has acknowledged."""
    arrivals: Arrivals
    relay: Relay
    edge: psutil.Process
    centre: psutil.Process


def resident_mb(process: psutil.Process) -> float:
    """Resident memory of a server with the processes it started."""
    together = [process, *process.children(recursive=True)]
    return float(sum(each.memory_info().rss for each in together)) / 1e6


class Crossed(msgspec.Struct, frozen=True):
    """One run over one bridge. Octets are TCP payload per message."""

    latency_ms: list[float]
    single: Octets
    backlog: int
    stored_rate: float
    """Messages per second that the edge acknowledged while the link was down."""
    resumed_s: float
    """From the link's return to the first message at the centre: how long the bridge waits to dial again."""
    rate: float
    """Messages per second of the backlog, from the first at the centre to the last."""
    bulk: Octets
    idle_mb: tuple[float, float]
    used_mb: tuple[float, float]
    lost: int
    doubled: int
    payload_octets: int


async def in_flight(publish: Callable[[bytes], Awaitable[None]], payloads: Iterable[bytes]) -> float:
    """Seconds to publish everything, ``IN_FLIGHT`` at a time."""
    waiting = iter(payloads)

    async def one_after_another() -> None:
        for payload in waiting:
            await publish(payload)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(one_after_another())
    return time.perf_counter() - started


async def one_by_one(bridge: Bridge, payloads: Sequence[bytes]) -> list[float]:
    """Milliseconds from the edge's publish to the consumer at the centre, one message in flight."""
    times = []
    for payload in payloads:
        bridge.arrivals.expect(1)
        started = time.perf_counter()
        await bridge.publish(payload)
        await bridge.arrivals.all(30)
        if bridge.arrivals.missing:
            raise RuntimeError(f"message {len(times)} has not crossed within 30 s")
        times.append((bridge.arrivals.last_at - started) * 1000)
    return times


async def cross(bridge: Bridge, single: int, backlog: int) -> Crossed:
    """One run: ``single`` messages one by one, then ``backlog`` of them after the link was down."""
    idle = resident_mb(bridge.edge), resident_mb(bridge.centre)
    await one_by_one(bridge, list(queries(WARM_UP)))
    before = await bridge.relay.count()
    times = await one_by_one(bridge, list(queries(single, WARM_UP)))
    alone = (await bridge.relay.count()).since(before)
    await bridge.relay.down()
    waiting = list(queries(backlog, WARM_UP + single))
    stored = await in_flight(bridge.publish, waiting)
    bridge.arrivals.expect(backlog)
    before = await bridge.relay.count()
    await bridge.relay.up()
    up_at = time.perf_counter()
    await bridge.arrivals.all(600)
    first, last = bridge.arrivals.first_at, bridge.arrivals.last_at
    bulk = (await bridge.relay.count()).since(before)
    return Crossed(
        latency_ms=times,
        single=_per(alone, single),
        backlog=backlog,
        stored_rate=backlog / stored,
        resumed_s=first - up_at,
        rate=(backlog - bridge.arrivals.missing) / (last - first),
        bulk=_per(bulk, backlog),
        idle_mb=idle,
        used_mb=(resident_mb(bridge.edge), resident_mb(bridge.centre)),
        lost=bridge.arrivals.missing,
        doubled=bridge.arrivals.doubled,
        payload_octets=round(sum(map(len, waiting)) / backlog),
    )


def _per(octets: Octets, count: int) -> Octets:
    return Octets(round(octets.up / count), round(octets.down / count))
