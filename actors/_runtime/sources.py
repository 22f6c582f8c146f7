"""Keeps what crosses the link crossing, by itself, at either end: a node has nobody who could.

Two things that nats-server 2.15.1 leaves to others. It believes whoever speaks under a durable's name, also
when that is another stream than before (:data:`QUIET_S`); and it may leave a source alone for minutes that
answers again (:data:`STALLED_S`). Every process of actors looks after both, and several do no harm.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import Final

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from nats.js.errors import NotFoundError

from actors._runtime.bus import BusError, NatsBus, bus_errors
from actors._runtime.crossing import taken
from actors._runtime.provision import Place, edges, provide_takers
from actors._runtime.stream_info import NotThereError, ask
from subjects.messages import Event

log = logging.getLogger("evy.sources")

QUIET_S: Final = 25.0
"""How long a durable for the other end must have been missing before it is made.

When a stream that is taken from is new under its old name (a new card, a restored node, a purged centre), its
numbers begin again. The taker does not know it while it holds its old subscription: it takes the new messages
for old ones, and acknowledges them, also those that are not written yet. All of them are lost. It gives that
subscription up when it has heard nothing for 10 s, looked at every 10 s (``sourceHealthCheckInterval``), a
fifth of a second later; after that it asks first which stream it is."""

STALLED_S: Final = 60.0
"""A source that has been silent for so long while the other end is there is renewed. The server looks by
itself within 20 s, but after errors it waits up to two minutes more (``retryMaximum``)."""

AGAIN_S: Final = 60.0
"""A source that was renewed is left alone for so long, whether that helped or not."""

LOOK_EVERY_S: Final = 10.0
THERE_WITHIN_S: Final = 2.0


class Sources:
    """The sources of one server's streams, and the durables by which others take from its streams."""

    def __init__(  # its times are arguments, as in all that decides
        self,
        bus: NatsBus,
        place: Place,
        *,
        now: Callable[[], float] = time.monotonic,
        unix_time: Callable[[], float] = time.time,
        quiet_s: float = QUIET_S,
        stalled_s: float = STALLED_S,
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        """``now`` is a monotonic clock in seconds, ``unix_time`` the clock of events."""
        self._bus = bus
        self._place = place
        self._now = now
        self._unix_time = unix_time
        self._quiet_s = quiet_s
        self._stalled_s = stalled_s
        self._every_s = every_s
        # By name of the durable and of the stream: a few of each for every node.
        self._missing_since: dict[str, float] = {}
        self._silent_since: dict[str, float] = {}
        self._renewed_at: dict[str, float] = {}

    async def run(self) -> None:
        """Looks until cancelled or the bus is closed."""
        if not self._place.linked:
            return
        while not self._bus.client.is_closed:
            try:
                await self.look()
            except BusError as error:
                if not self._bus.client.is_closed:
                    log.warning("%s", error)
            # Processes that began together shall not do the same at the same moment.
            await asyncio.sleep(self._every_s * random.uniform(0.8, 1.2))  # noqa: S311  # nothing secret

    async def look(self) -> None:
        """Looks once. Raises :class:`BusError` when the server does not answer."""
        nodes = [self._place.node]
        if self._place.profile == "bigevy":
            with bus_errors("list the nodes of this centre"):
                nodes = await edges(self._bus.client)
        known = set()
        for node in nodes:
            await self._let_take(node)
            for wanted in _takers(self._place, node):
                known.add(wanted.name)
                await self._keep(wanted)
        for table, names in (
            (self._silent_since, known),
            (self._renewed_at, known),
            (self._missing_since, set(nodes)),
        ):
            for name in table.keys() - names:
                del table[name]

    async def _let_take(self, node: str) -> None:
        """Makes the durables by which the other end takes from streams of ``node``, when it is quiet."""
        missing = False
        takers = self._place.takers(node)
        for stream, durable in takers:
            name = durable.durable_name or ""
            try:
                with bus_errors(f"look at {name}"):
                    try:
                        await self._bus.js.consumer_info(stream, name)
                    except NotFoundError:
                        missing = True
            except BusError:
                self._missing_since.pop(node, None)  # who knows
                raise
        if not missing:
            self._missing_since.pop(node, None)
            return
        since = self._missing_since.setdefault(node, self._now())
        if self._now() - since < self._quiet_s:
            return
        with bus_errors(f"make the durables of {node}"):
            try:
                await provide_takers(self._bus.js, self._place, node)
            except NotFoundError:
                return  # its streams are gone, or not made yet
        del self._missing_since[node]
        log.info("%s may be taken from", ", ".join(stream for stream, _ in takers))

    async def _keep(self, wanted: StreamConfig) -> None:
        """Renews the source of a stream when it has stalled."""
        stream = wanted.name or ""
        with bus_errors(f"look at {stream}"):
            try:
                info, _ = await ask(self._bus.client, "$JS.API", stream, 5.0)
            except NotThereError:
                return
        found = list(taken(info, up=True))
        if found and all(source.verdict != "stalled" for source in found):
            self._silent_since.pop(stream, None)
            return
        now = self._now()
        since = self._silent_since.setdefault(stream, now)
        heard_s = max((source.heard_s or 0.0 for source in found), default=0.0)
        silent_s = max(now - since, heard_s)
        if found:
            just_done = now - self._renewed_at.get(stream, -AGAIN_S) < AGAIN_S
            if silent_s < self._stalled_s or just_done or not await self._is_there(wanted):
                return
        with bus_errors(f"renew the source of {stream}"):
            await renew(self._bus.js, wanted)
        self._renewed_at[stream] = now
        self._silent_since.pop(stream, None)
        why = "; ".join(source.error for source in found if source.error)
        why = why or ("silent" if found else "taken out")
        log.warning("the source of %s is renewed after %.0f s: %s", stream, silent_s, why)
        fields = {"stream": stream, "silent_s": round(silent_s), "reason": why}
        self._bus.emit(
            Event(
                kind="source_renewed",
                node=self._bus.node,
                actor="link",
                at=self._unix_time(),
                fields=fields,
            )
        )

    async def _is_there(self, wanted: StreamConfig) -> bool:
        """Whether every stream that one takes from can be spoken to: its durable listens for flow control,
        and what is no answer to a question of its own it ignores."""
        for source in wanted.sources or ():
            if source.consumer is None:
                continue  # a hybrid's: on this server
            subject = f"$JS.FC.{source.name}.{source.consumer.name}.{self._bus.client.new_inbox()[-8:]}"
            with bus_errors(f"look for {source.name}"):
                try:
                    await self._bus.client.request(subject, b"", timeout=THERE_WITHIN_S)
                except nats.errors.NoRespondersError:
                    return False
                except nats.errors.TimeoutError:
                    continue
        return True


def _takers(place: Place, node: str) -> Iterator[StreamConfig]:
    """Streams of ``node`` on this server that take from others."""
    streams = place.streams_of(node) if place.profile == "bigevy" else place.streams()
    return (config for config in streams if config.sources)


async def renew(js: JetStreamContext, wanted: StreamConfig) -> None:
    """Takes the sources out of a stream and puts them in again; the server then asks at once.

    It goes on after the last message that it has acknowledged, or has in its store: nothing is lost. A
    message that it took, that was worked off, and whose acknowledgement was lost, it takes again, and knows
    it by its id for :data:`registry.DEDUP_WINDOW_S`; past that the one answer for each query (bucket
    ``answered``) and the ledger stand. Who is cut off in between leaves a stream without a source; who looks
    next puts it in.
    """
    found = (await js.stream_info(wanted.name or "")).config
    if found.sources:
        await js.update_stream(found.evolve(sources=None))
    await js.update_stream(found.evolve(sources=wanted.sources))
