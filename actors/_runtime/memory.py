"""A bus in memory: the same handlers with no server, for `evy ask` and for tests of behaviour."""

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
from nats.micro.request import ServiceError

from actors._runtime.actor import Actor, Handler, Output, ServiceHandler
from actors._runtime.bus import MSG_ID, BusError, StreamFullError, encode_work, left_out
from actors._runtime.handling import Handling, run_lanes
from actors._runtime.identity import Identity
from actors._runtime.provision import SPARE_DELIVERIES
from actors._runtime.services import answered, nobody, refusal
from actors._runtime.telemetry import TRACEPARENT, Spans, current
from subjects import names, registry, services
from subjects.errors import EvyError
from subjects.messages import DeadLetter, Event, Message, decode, encode
from subjects.names import Lane
from subjects.registry import Work

_KEY: Final = re.compile(r"(?!\.)[-/_=.a-zA-Z0-9]+(?<!\.)")
"""Keys that a JetStream bucket takes (NATS ADR-8)."""


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise BusError(f"no bucket takes the key {key!r}")
    return key


class MemoryKeyValue:
    """A bucket in memory; bounded by what one run of a program puts into it."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[bytes, int]] = {}
        self._revision = 0

    async def get(self, key: str) -> tuple[bytes, int] | None:
        """Value and revision, or None."""
        return self._entries.get(_checked(key))

    async def put(self, key: str, value: bytes) -> int:
        """Writes whatever is there."""
        _checked(key)
        self._revision += 1
        self._entries[key] = (value, self._revision)
        return self._revision

    async def create(self, key: str, value: bytes) -> int | None:
        """Writes only if absent."""
        return None if _checked(key) in self._entries else await self.put(key, value)

    async def update(self, key: str, value: bytes, revision: int) -> int | None:
        """Writes only if unchanged."""
        entry = self._entries.get(_checked(key))
        return await self.put(key, value) if (entry[1] if entry else 0) == revision else None

    async def delete(self, key: str) -> None:
        """Removes the key."""
        self._entries.pop(key, None)

    async def keys(self, prefix: str = "") -> list[str]:
        """Keys that begin with ``prefix``."""
        return [key for key in self._entries if key.startswith(prefix)]

    async def recent(self, count: int) -> list[tuple[str, bytes]]:
        """The entries written last, newest first."""
        newest = sorted(self._entries.items(), key=lambda item: item[1][1], reverse=True)
        return [(key, value) for key, (value, _) in newest[:count]]


class _Place(NamedTuple):
    stream: int


class _Metadata(NamedTuple):
    num_delivered: int
    stream: str
    sequence: _Place
    timestamp: datetime


class _Stored:
    """A message in its queue."""

    def __init__(self, sequence: int, octets: bytes, headers: dict[str, str]) -> None:
        self.sequence = sequence
        self.octets = octets
        self.headers = headers
        self.at = datetime.now(UTC)
        self.deliveries = 0


class _Queue:
    """One lane of one work subject, as a work queue and its durable are on a server."""

    def __init__(self, row: Work, node: str, lane: Lane, moved: Callable[[], None]) -> None:
        self.subject = names.work_subject(row.subject, lane)
        self.stream = row.stream(node, lane)
        self.row = row
        self.held: dict[int, _Stored] = {}
        """What is not done: waiting, in hand, or put off."""
        self._waiting: deque[_Stored] = deque()
        self._again: deque[_Stored] = deque()
        self._moved = moved
        self.wakers: set[Callable[[], None]] = set()

    def add(self, stored: _Stored) -> None:
        self.held[stored.sequence] = stored
        self._waiting.append(stored)
        self._wake()

    def again(self, stored: _Stored) -> None:
        """It is delivered once more, before what is new."""
        if stored.sequence in self.held:
            self._again.append(stored)
            self._wake()

    def done(self, stored: _Stored) -> None:
        self.held.pop(stored.sequence, None)
        self._moved()

    def next(self) -> "_Delivery | None":
        for waiting in (self._again, self._waiting):
            while waiting:
                stored = waiting.popleft()
                spare = stored.deliveries < self.row.max_deliver + SPARE_DELIVERIES
                if spare and stored.sequence in self.held:
                    stored.deliveries += 1
                    return _Delivery(self, stored)
        return None

    def _wake(self) -> None:
        for wake in self.wakers:
            wake()


class _Delivery:
    """One delivery, with the methods of nats-py's message that handling uses."""

    def __init__(self, queue: _Queue, stored: _Stored) -> None:
        self.subject = queue.subject
        self.data = stored.octets
        self.headers = stored.headers
        self.metadata = _Metadata(stored.deliveries, queue.stream, _Place(stored.sequence), stored.at)
        self._queue = queue
        self._stored = stored
        self._loop = asyncio.get_running_loop()
        self._timer = self._expires()

    def _expires(self) -> asyncio.TimerHandle:
        return self._loop.call_later(self._queue.row.ack_wait_s, self._queue.again, self._stored)

    async def ack_sync(self, timeout: float = 1.0) -> None:  # noqa: ASYNC109, ARG002  # nats-py's
        """It is done."""
        self._timer.cancel()
        self._queue.done(self._stored)

    async def nak(self, delay: float | None = None) -> None:
        """Deliver it again after a wait."""
        self._timer.cancel()
        self._loop.call_later(delay or 0.0, self._queue.again, self._stored)

    async def term(self) -> None:
        """Never deliver it again."""
        await self.ack_sync()

    async def in_progress(self) -> None:
        """Somebody still works on it."""
        self._timer.cancel()
        self._timer = self._expires()


class MemoryBus:
    """A node's bus in one process: work queues, dead letters, events, buckets and services, nothing kept.

    What becomes of a message is decided by the same code as on a server (`actors._runtime.handling`).
    ``deliveries`` overrides the registry's: 1 where somebody waits for an answer rather than for a retry.
    Message ids are remembered for as long as the bus lives.
    """

    def __init__(self, identity: Identity, *, deliveries: int | None = None) -> None:
        self.identity = identity
        self.bound: int | None = None
        """Messages that a lane of a subject holds; None: as the registry says."""
        self.letters: list[DeadLetter] = []
        self.spans = Spans(identity.node, self.emit)
        self._buckets: dict[str, MemoryKeyValue] = {}
        self._services: dict[str, ServiceHandler] = {}
        self._followers: set[asyncio.Queue[Event]] = set()
        self._ids: set[tuple[str, str]] = set()
        self._count = 0
        self._moved = asyncio.Event()
        self._queues: dict[str, _Queue] = {}
        for row in registry.WORK:
            used = row if deliveries is None else msgspec.structs.replace(row, max_deliver=deliveries)
            for lane, subject in row.subjects():
                self._queues[subject] = _Queue(used, self.node, lane, self._moved.set)

    @property
    def node(self) -> str:
        """Name of the node."""
        return self.identity.node

    async def bucket(self, name: str) -> MemoryKeyValue:
        """Bucket of the registry by its short name."""
        return self._buckets.setdefault(registry.bucket(name).name, MemoryKeyValue())

    async def publish(self, output: Output, actor: str) -> None:
        """Publishes work, with the errors of a server."""
        subject = names.work_subject(output.subject, output.lane)
        hop = current()
        headers = {MSG_ID: f"{output.query_id}.{actor}.{output.kind or output.subject}.{output.ordinal}"}
        if hop:
            headers[TRACEPARENT] = hop.traceparent
        try:
            self.store(subject, encode_work(subject, output.message), headers)
        except StreamFullError:
            if not output.optional:
                raise
            self.emit(left_out(self.node, actor, output))

    def store(self, subject: str, octets: bytes, headers: Mapping[str, str] | None = None) -> bool:
        """Stores octets on a work subject; False when a message of that id was stored before."""
        queue = self._queues.get(subject) or self._queues.get(names.work_subject(subject, "routine"))
        if queue is None:
            raise BusError(f"publish {subject}: no stream takes it")
        message_id = (headers or {}).get(MSG_ID)
        if message_id and (queue.stream, message_id) in self._ids:
            return False
        bound = queue.row.max_per_subject if self.bound is None else self.bound
        if len(queue.held) >= bound:
            raise StreamFullError(f"publish {subject}: maximum messages per subject exceeded")
        if message_id:
            self._ids.add((queue.stream, message_id))
        self._count += 1
        queue.add(_Stored(self._count, octets, dict(headers or {})))
        return True

    def waiting(self) -> dict[str, int]:
        """Messages that are not done, by subject."""
        return {subject: len(queue.held) for subject, queue in self._queues.items() if queue.held}

    async def dead_letter(self, letter: DeadLetter, message_id: str = "") -> None:
        """Keeps a message that cannot be handled."""
        if message_id and ("dlq", message_id) in self._ids:
            return
        self._ids.add(("dlq", message_id))
        self.letters.append(letter)
        self._moved.set()

    def emit(self, event: Event) -> None:
        """Tells who follows."""
        for follower in self._followers:
            follower.put_nowait(event)

    async def follow_events(
        self, receive: Callable[[Event], Awaitable[None]], kinds: Collection[str] | None = None
    ) -> Callable[[], Awaitable[None]]:
        """Calls ``receive`` with each event from now on, in order; gives a function that stops it."""
        queue: asyncio.Queue[Event] = asyncio.Queue()

        async def follow() -> None:
            while True:
                event = await queue.get()
                if kinds is None or event.kind in kinds:
                    await receive(event)

        self._followers.add(queue)
        following = asyncio.create_task(follow())

        async def stop() -> None:
            self._followers.discard(queue)
            following.cancel()

        return stop

    async def ask(self, name: str, question: Message) -> Any:
        """The reply of a service, with the errors of :func:`actors._runtime.services.ask`."""
        row = services.service(name)
        handler = self._services.get(name)
        if handler is None:
            raise nobody(row, self.node)
        try:
            octets = await answered(row, handler, encode(question))
        except ServiceError as error:
            raise refusal(name, error.code, error.description) from error
        return decode(octets, row.reply)

    async def run_actors(self, actors: Sequence[Actor], stop: asyncio.Event) -> None:
        """Runs actors until ``stop`` is set, then drains and closes them."""
        offered = {name: handler for actor in actors for name, handler in actor.services.items()}

        async def silence() -> None:
            for name in offered:
                self._services.pop(name, None)

        self._services |= offered
        try:
            await run_lanes(actors, self._lanes(actors, stop), stop, silence)
        finally:
            for actor in actors:
                await actor.close()

    async def run(self, actors: Sequence[Actor], first: Output) -> list[Message]:
        """Handles ``first`` and all that follows from it; gives the messages that no actor here takes.

        The actors' own tasks do not run, and the actors stay open. Raises :class:`EvyError` with the reason
        as soon as a message is a dead letter.
        """
        stop, handled = asyncio.Event(), {subject for actor in actors for subject in actor.handlers}
        ours = [queue for queue in self._queues.values() if queue.row.subject in handled]
        await self.publish(first, "first")
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes(actors, stop):
                group.create_task(lane())
            while any(queue.held for queue in ours) and not self.letters:
                self._moved.clear()
                await self._moved.wait()
            stop.set()
        if self.letters:
            raise EvyError(f"{self.letters[0].actor}: {self.letters[0].error}")
        left = sorted(
            (stored.sequence, queue.row, stored)
            for queue in self._queues.values()
            for stored in queue.held.values()
        )
        return [decode(stored.octets, row.message) for _, row, stored in left]

    def _lanes(
        self, actors: Sequence[Actor], stop: asyncio.Event
    ) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        return [
            partial(self._lane, self._queues[subject], lane, actor.name, handler, stop)
            for actor in actors
            for base, handler in actor.handlers.items()
            for lane, subject in registry.work(base).subjects()
        ]

    async def _lane(  # see LaneWorker
        self, queue: _Queue, lane: Lane, actor: str, handler: Handler, stop: asyncio.Event
    ) -> None:
        changed = asyncio.Event()
        handling = Handling(self, self.node, queue.row, lane, actor, handler, changed.set)
        slots = queue.row.slots.of(lane)

        async def wake() -> None:
            await stop.wait()
            changed.set()

        waking = asyncio.create_task(wake())
        queue.wakers.add(changed.set)
        try:
            while not stop.is_set():
                changed.clear()
                while len(handling.running) < slots and (delivery := queue.next()):
                    handling.start(delivery)
                await changed.wait()
        finally:
            queue.wakers.discard(changed.set)
            waking.cancel()
            await handling.drain()
