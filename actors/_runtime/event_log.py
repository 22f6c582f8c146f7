"""The events of this node as its server keeps them, read page by page from any place on.

The reader keeps no place at the server: who reads says after which event, and stores that with what it made
of the events. So there is nothing to acknowledge, nothing to get out of step, and a reader whose own store
was lost reads again all that the stream still has.
"""

import asyncio
import contextlib
import logging
import time
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from actors._runtime.bus import BusError, NatsBus, bus_errors
from actors._runtime.stream_info import NotThereError, StreamInfo, ask
from subjects.errors import MessageError
from subjects.messages import Event, decode

log = logging.getLogger("evy.events")

ANSWER_WITHIN_S: Final = 5.0
LOST_AT_MOST: Final = 2000
"""Events looked through, one by one, for the end of what is still there; the server writes within seconds."""
IDLE_S: Final = 120.0
"""A reader that has asked nothing for so long has gone, and the server forgets it."""


class Position(msgspec.Struct, frozen=True):
    """A place in an event stream: up to ``sequence`` of the stream that was made at ``stream``.

    Sequences begin again when a stream is made again, so its time of making is part of the place. They also
    go back when the power takes the end of it, since events do not wait for the card: then ``stream`` has the
    number of such losses behind a "+".
    """

    stream: str = ""
    sequence: int = 0
    at_ns: int = 0
    """When the stream stored that event, Unix nanoseconds; with another time there it is another event."""


class Kept(msgspec.Struct, frozen=True):
    """One event with its sequence; None where a newer EVY wrote what this one cannot read."""

    sequence: int
    event: Event | None


class Page(msgspec.Struct, frozen=True):
    """Events in the order of the stream; ``position`` is the place after them."""

    position: Position
    events: tuple[Kept, ...] = ()


class EventLog(Protocol):
    """Where events are read from: the node's server, or memory in tests."""

    async def read(self, after: Position, limit: int) -> Page:
        """The next events, at most ``limit``; an empty page when there are none yet."""


class NatsEventLog:
    """The stream ``EVT_<node>`` of the node's server."""

    def __init__(self, bus: NatsBus) -> None:
        self._bus = bus
        self._stream = f"EVT_{bus.node}"
        self._consumer = ""
        self._at = Position()

    async def look(self) -> StreamInfo:
        """The stream as its server tells it. Raises :class:`BusError` when it does not."""
        doing = f"look at {self._stream}"
        with bus_errors(doing):
            try:
                return (await ask(self._bus.client, "$JS.API", self._stream, ANSWER_WITHIN_S))[0]
            except NotThereError as error:
                raise BusError(f"{doing}: {error}") from error

    async def read(self, after: Position, limit: int) -> Page:
        """The next events. A place in another stream than the server's is its beginning.

        Raises :class:`BusError` when the server does not answer; reading again is right.
        """
        for _ in range(2):  # a server that was started again has forgotten its reader
            if not self._bus.client.is_connected:
                raise BusError(f"read {self._stream}: no connection to the server")
            if not self._consumer or after != self._at:
                await self._begin(after)
            with bus_errors(f"read {self._stream}"):
                found, status = await self._pull(limit)
            if not status or (status != "404" and len(found) < limit):
                self._consumer = ""  # what it may still send is not waited for: it has no place that we know
            if found or status == "404":
                break
        else:
            raise BusError(f"read {self._stream}: {f'status {status}' if status else 'no answer'}")
        if found:
            last = found[-1]
            self._at = Position(self._at.stream, last.metadata.sequence.stream, _stored_ns(last))
        return Page(self._at, tuple(map(_kept, found)))

    async def _begin(self, after: Position) -> None:
        info = await self.look()
        place = Position(info.created)
        made, _, losses = after.stream.partition("+")
        if made == info.created:
            place = after
            last = info.state.last_seq
            if after.sequence and (
                after.sequence > last or await self._stored_ns(after.sequence) not in {None, after.at_ns}
            ):
                name = f"{made}+{int(losses or 0) + 1}"
                place = Position(name, await self._shared(min(after.sequence, last), after.at_ns))
                log.warning("%s has lost its end, from %d on", self._stream, place.sequence + 1)
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=place.sequence + 1,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=IDLE_S,
            mem_storage=True,
            num_replicas=1,
        )
        with bus_errors(f"read {self._stream}"):
            if self._consumer:
                with contextlib.suppress(nats.js.errors.NotFoundError):
                    await self._bus.js.delete_consumer(self._stream, self._consumer)
            self._consumer = (await self._bus.js.add_consumer(self._stream, config)).name
        self._at = place

    async def _shared(self, sequence: int, at_ns: int) -> int:
        """The last event, from ``sequence`` back, that is not younger than ``at_ns``: what came before the
        loss. Where the clock went back with the power, as many events as were lost may be missed."""
        for _ in range(LOST_AT_MOST):
            stored = await self._stored_ns(sequence) if sequence > 0 else 0
            if stored is not None and stored <= at_ns:
                break
            sequence -= 1
        return max(0, sequence)

    async def _stored_ns(self, sequence: int) -> int | None:
        """When the stream stored an event; None when it is not there."""
        request = msgspec.json.encode({"seq": sequence})
        with bus_errors(f"read {self._stream}"):
            reply = await self._bus.client.request(
                f"$JS.API.STREAM.MSG.GET.{self._stream}", request, timeout=ANSWER_WITHIN_S
            )
        found = msgspec.json.decode(reply.data, type=_Found).message
        return unix_ns(found.time) if found else None

    async def _pull(self, limit: int) -> tuple[list[Msg], str]:
        """What there is now, and how the server ended it: "404" when there is no more, "" when it said
        nothing, "limit" when it gave as much as was asked."""
        found: list[Msg] = []
        done, ended = asyncio.Event(), ""

        async def take(msg: Msg) -> None:
            nonlocal ended
            status = (msg.headers or {}).get("Status", "")
            if not status:
                found.append(msg)
                status = "limit" if len(found) == limit else ""
            if status:
                ended = ended or status
                done.set()

        client = self._bus.client
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, cb=take)
        try:
            request = msgspec.json.encode({"batch": limit, "no_wait": True})
            await client.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}", request, reply=inbox
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    await done.wait()
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()
        return found[:limit], ended


class _Stored(msgspec.Struct):
    time: str


class _Found(msgspec.Struct):
    message: _Stored | None = None


def unix_ns(time: str) -> int:
    """Unix nanoseconds of a server's time, such as ``2026-11-21T18:22:06.680364153Z``."""
    whole, _, fraction = time.removesuffix("Z").partition(".")
    seconds = datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()
    return int(seconds) * 10**9 + int(fraction.ljust(9, "0") or 0)


def _stored_ns(msg: Msg) -> int:
    """When the stream stored a message, from its reply subject (NATS ADR-15) of 9 tokens or more."""
    tokens = msg.reply.split(".")
    return int(tokens[7 if len(tokens) == 9 else 9])


def _kept(msg: Msg) -> Kept:
    try:
        return Kept(msg.metadata.sequence.stream, decode(msg.data, Event))
    except MessageError:
        return Kept(msg.metadata.sequence.stream, None)


class MemoryEventLog:
    """Events in memory, for tests and for a node without a server."""

    def __init__(self, events: list[Event]) -> None:
        self._events = events
        self.made = f"in memory at {time.time_ns()}"

    async def read(self, after: Position, limit: int) -> Page:
        """The next events."""
        start = after.sequence if after.stream == self.made else 0
        kept = tuple(
            Kept(start + number, event) for number, event in enumerate(self._events[start : start + limit], 1)
        )
        return Page(Position(self.made, start + len(kept)), kept)
