"""Streams that take messages over from another server, and the watch that starts a silent one again.

A source whose other end was away for more than some ten seconds asks there once, waits half a minute for an
answer that cannot come, and asks again later: nats-server 2.15 needs 35 to 45 s after a link is back. Taking
the source out of its stream and putting it back makes it ask at once. Nothing is lost or doubled by that: it
goes on behind the last message it has, and what it has worked off already is known by its ``Nats-Msg-Id``.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import StreamConfig

from actors._runtime.actor import Emit
from actors._runtime.bus import NatsBus
from actors._runtime.provision import Place, edges
from subjects.errors import EvyError
from subjects.messages import Event
from subjects.names import HUB

log = logging.getLogger("evy.sources")

ANSWERS_WITHIN_S: Final = 3.0
LOOK_EVERY_S: Final = 2.0
SILENT_AFTER_S: Final = 10.0
"""A source hears every second, or with each message; one over a thin line may need some seconds."""
AGAIN_AFTER_S: Final = (10.0, 20.0, 40.0, 80.0)
"""Waits between two starts of the same source; the last one repeats. What is slow must not be started again
and again."""


class Transform(msgspec.Struct, frozen=True):
    """Where a source puts what it takes."""

    dest: str


class SourceInfo(msgspec.Struct, frozen=True):
    """A source as its server tells it; ``active`` is in nanoseconds, -1 for never."""

    name: str
    lag: int = 0
    active: int = -1
    error: dict[str, Any] = {}
    subject_transforms: list[Transform] = []

    @property
    def heard_s(self) -> float | None:
        """Seconds since it last heard from the other stream; None: not since its server's start."""
        return self.active / 1e9 if self.active >= 0 else None


class State(msgspec.Struct, frozen=True):
    """What a stream holds; the time of the oldest message is what nats-py leaves out."""

    messages: int = 0
    first_ts: datetime | None = None
    subjects: dict[str, int] = {}


class StreamInfo(msgspec.Struct, frozen=True):
    """A stream as its server tells it, at the server's time ``ts``."""

    config: dict[str, Any] = {}
    state: State = State()
    sources: list[SourceInfo] = []
    ts: datetime | None = None
    error: dict[str, Any] = {}


class NotThereError(EvyError):
    """The server answered that it has no such stream, or may not tell."""

    def __init__(self, reason: str, rtt_ms: float) -> None:
        super().__init__(reason)
        self.rtt_ms = rtt_ms


async def ask(client: Client, api: str, stream: str, within_s: float) -> tuple[StreamInfo, float]:
    """A stream of any connected server, and the round trip in milliseconds.

    ``api`` is the prefix of its JetStream API. The reply comes on ``$JSC.R.*``, the one inbox that both ends
    of a link may use. Raises NoRespondersError when nobody is connected there, TimeoutError when nobody
    answered, :class:`NotThereError` when the server has no such stream.
    """
    inbox = f"$JSC.R.{secrets.token_hex(11)}"
    subscription = await client.subscribe(inbox, max_msgs=1)
    began = time.monotonic()
    try:
        await client.publish(f"{api}.STREAM.INFO.{stream}", b'{"subjects_filter":">"}', reply=inbox)
        reply = await subscription.next_msg(within_s)
    finally:
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()
    rtt_ms = (time.monotonic() - began) * 1e3
    if (reply.headers or {}).get("Status") == "503":
        raise nats.errors.NoRespondersError
    info = msgspec.json.decode(reply.data, type=StreamInfo)
    if info.error:
        raise NotThereError(str(info.error.get("description", "error")), rtt_ms)
    return info, rtt_ms


class Sources:
    """The sources of one server that cross the link."""

    def __init__(
        self, bus: NatsBus, place: Place, emit: Emit, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._bus = bus
        self._place = place
        self._emit = emit
        self._now = now
        self._started: dict[str, tuple[float, int]] = {}
        """When each silent source was last started, and how often since it was last heard. Bounded by the
        streams of this server."""

    async def watch(self) -> None:
        """Looks every :data:`LOOK_EVERY_S`, for ever."""
        while True:
            try:
                await self.look()
            except (EvyError, nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError) as error:
                log.debug("cannot look at the sources now: %s", error)
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Looks once at every source, and starts those that are silent although the other end is there."""
        place = self._place
        if place.profile == "bigevy":
            for edge in await edges(self._bus.client):
                for config in place.streams_of(edge):
                    await self._look_at(config, f"$JS.{edge}.API")
        elif place.profile == "lilevy":
            for config in place.streams():
                await self._look_at(config, f"$JS.{HUB}.API")

    async def _look_at(self, wanted: StreamConfig, api: str) -> None:
        if not wanted.sources or not wanted.name:
            return
        info, _ = await ask(self._bus.client, "$JS.API", wanted.name, ANSWERS_WITHIN_S)
        for source in info.sources:
            heard_s = source.heard_s
            if heard_s is not None and heard_s <= SILENT_AFTER_S:
                self._started.pop(wanted.name, None)
            elif self._may_start(wanted.name) and await self._is_there(api, source.name):
                await self._start(wanted, source)

    def _may_start(self, stream: str) -> bool:
        last, times = self._started.get(stream, (0.0, 0))
        return not times or self._now() - last >= AGAIN_AFTER_S[min(times, len(AGAIN_AFTER_S)) - 1]

    async def _is_there(self, api: str, stream: str) -> bool:
        try:
            await ask(self._bus.client, api, stream, ANSWERS_WITHIN_S)
        except (NotThereError, nats.errors.Error, TimeoutError):
            return False
        return True

    async def _start(self, wanted: StreamConfig, source: SourceInfo) -> None:
        """Takes the source out and puts it back. Two processes that do this at once both end with the
        registry's source."""
        stream = wanted.name or ""
        _, times = self._started.get(stream, (0.0, 0))
        self._started[stream] = self._now(), times + 1
        found = (await self._bus.js.stream_info(stream)).config
        await self._bus.js.update_stream(found.evolve(sources=[]))
        await self._bus.js.update_stream(found.evolve(sources=wanted.sources))
        log.info("%s takes from %s again", stream, source.name)
        fields = {"stream": stream, "source": source.name, "silent_s": source.heard_s, "lag": source.lag}
        self._emit(
            Event(kind="source_started", node=self._bus.node, actor="link", at=time.time(), fields=fields)
        )
