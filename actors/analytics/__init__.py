"""analytics keeps what happened: events and spans of this node, from the event stream into the event store.

A node with a centre tells it, without who and what (`uplink`, `leaving`); a centre stores that of all its
nodes (`centre`). No fault of its own stops the node: while the store cannot be written, events wait in the
stream; a store that cannot be read is set aside and begun anew from what the stream still has.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from actors._event_store import EventStore, StoreBrokenError, StoreError, path_in, set_aside, spans_of
from actors._reports import AnalyticsConfig, open_store
from actors._runtime.actor import Actor, Emit, Handler
from actors._runtime.bus import BusError
from actors._runtime.config import Config
from actors._runtime.context import Context
from actors._runtime.event_log import EventLog, Page
from actors._runtime.telemetry import TelemetryConfig
from actors.analytics.centre import Centre
from actors.analytics.uplink import Uplink, keep_back
from subjects import names
from subjects.messages import Event

log = logging.getLogger("evy.analytics")

EVERY_S: Final = 1.0
"""How often it looks for events: one transaction for all that happened meanwhile."""
LIMIT: Final = 500
"""Events of one transaction, about 200 kB."""
REST: Final = 25.0
"""It rests for so many times what its last page took: at most 4 % of a core, however much is to catch up."""
PRUNE_EVERY_S: Final = 600.0
RETRY_S: Final = 10.0
ROOM_OCTETS: Final = 64 * 1024 * 1024
"""Free space that is left to the streams: texts need the card more than statistics do."""

Seen = Callable[[Page], None]
"""Is told of each page that was stored, once, in a thread; a backlog that fills a new store is not told."""


def free_octets(directory: Path) -> int:
    """Free space where the store is."""
    return shutil.disk_usage(directory).free


class Analytics:
    """The loop and what it needs."""

    def __init__(
        self,
        *,
        node: str,
        path: Path,
        events: EventLog,
        emit: Emit,
        config: TelemetryConfig,
        seen: Sequence[Seen] = (),
        tells: bool = True,
        free: Callable[[Path], int] = free_octets,
        now: Callable[[], float] = time.time,
        every_s: float = EVERY_S,
        retry_s: float = RETRY_S,
    ) -> None:
        """``now`` gives Unix time; ``free`` the octets free on the disk of a directory. ``tells``: an uplink
        reads the store too; what is stored while none does is never told."""
        self._node = node
        self._path = path
        self._events = events
        self._emit = emit
        self._config = config
        self._seen = seen
        self._tells = tells
        self._free = free
        self._now = now
        self._every_s = every_s
        self._retry_s = retry_s
        self._store: EventStore | None = None
        self._paused = ""
        self._prune_at = 0.0
        self._backlog = False
        self.caught_up = False
        """Whether the last look found nothing new."""

    @property
    def store(self) -> EventStore | None:
        """The store, while it is open."""
        return self._store

    async def run(self) -> None:
        """Stores events until cancelled. Raises nothing."""
        while True:
            began = time.monotonic()
            wait_s = self._retry_s
            try:
                more = await self._turn()
                wait_s = max(0.0 if more else self._every_s, REST * (time.monotonic() - began))
            except StoreBrokenError as error:
                await self._begin_anew(str(error))
            except StoreError as error:
                self._pause(str(error))
            except BusError as error:
                log.warning("events wait in their stream: %s", error)
            except Exception:  # policy boundary: statistics must not end a process of the node
                log.exception("the event store failed; trying again in %.0f s", self._retry_s)
            await asyncio.sleep(wait_s)

    async def close(self) -> None:
        """Closes the store."""
        if self._store:
            self._store.close()
            self._store = None

    async def _turn(self) -> bool:
        """Stores a page; True when it was a full one."""
        store = await self._opened()
        if (free := self._free(self._path.parent)) < ROOM_OCTETS:
            raise StoreError(
                f"{free / 1e6:.0f} MB free in {self._path.parent}; events are stored from "
                f"{ROOM_OCTETS / 1e6:.0f} MB on: make room there"
            )
        page = await self._events.read(store.position, LIMIT)
        self.caught_up = not page.events
        if page.events or page.position.stream != store.position.stream:
            await asyncio.to_thread(self._keep, store, page)
        if (now := time.monotonic()) > self._prune_at:
            self._prune_at = now + PRUNE_EVERY_S
            older_than = self._now() - self._config.keep_days * 86400
            if count := await asyncio.to_thread(store.prune, older_than):
                log.info("%d old events left the store", count)
        if self._paused:
            log.warning("events are stored again")
            self._say("event_store_resumed", reason=self._paused)
            self._paused = ""
        return len(page.events) == LIMIT

    def _keep(self, store: EventStore, page: Page) -> None:
        store.add(page)
        if not self._tells:
            keep_back(store)
        self._backlog = self._backlog and len(page.events) == LIMIT
        if not self._backlog:
            for seen in self._seen:
                seen(page)

    async def _opened(self) -> EventStore:
        if self._store and self._store.replaced:
            self._store.close()
            self._store = None
            log.error("%s was taken away while it was open: it is begun anew", self._path)
            self._say("event_store_begun_anew", reason="the file was taken away")
        if self._store is None:
            limit = self._config.store_max_mb * 1_000_000
            self._store = await asyncio.to_thread(EventStore.open, self._path, max_octets=limit)
            self._backlog = not self._store.position.sequence
        return self._store

    async def _begin_anew(self, reason: str) -> None:
        await self.close()
        try:
            aside = await asyncio.to_thread(set_aside, self._path)
        except OSError as error:
            self._pause(f"{reason}; it cannot be moved: {error}")
            return
        log.error("%s; it is now %s, and the store is begun anew", reason, aside)
        self._say("event_store_begun_anew", reason=reason, aside=str(aside))

    def _pause(self, reason: str) -> None:
        if not self._paused:
            log.error("events wait in their stream: %s", reason)
            self._say("event_store_paused", reason=reason)
        self._paused = reason

    def _say(self, kind: str, **fields: object) -> None:
        self._emit(Event(kind=kind, node=self._node, actor="analytics", at=self._now(), fields=fields))


async def build(context: Context) -> Actor:
    """The actor of a node. Raises :class:`ConfigError` for a wrong ``[telemetry]``."""
    config = context.config.section("telemetry", TelemetryConfig)
    keep_days = min(config.keep_days, context.config.node.keep_days)
    config = msgspec.structs.replace(config, keep_days=keep_days)
    node = context.identity.node
    log_of_events = context.event_log()
    seen: list[Seen] = []
    tasks: list[Callable[[], Coroutine[Any, Any, None]]] = []
    closing: list[Callable[[], None]] = []
    handlers: dict[str, Handler] = {}
    centre = _centre(context)
    if centre:
        handlers[names.REPORT] = centre.handle
        tasks.append(centre.prune)
    path = path_in(context.config.node.directory)
    tells = _tells(context.config)
    if tells:
        uplink = Uplink(context.identity, path, context.link().look, context.publish)
        tasks.append(uplink.run)
    if config.otlp_endpoint:
        # Only here: the libraries of OpenTelemetry take 20 MB and most nodes have no collector.
        from actors.analytics.otlp import Otlp  # noqa: PLC0415

        otlp = Otlp(config.otlp_endpoint)
        seen.append(lambda page: otlp.export([span for kept in page.events for span in spans_of(kept)]))
        closing.append(otlp.close)
    analytics = Analytics(
        node=node,
        path=path,
        events=log_of_events,
        emit=context.emit,
        config=config,
        seen=seen,
        tells=tells,
    )
    if config.metrics_port:
        from actors.analytics.scrape import Scrape  # noqa: PLC0415  # likewise

        scrape = Scrape(node, context.node_state(), context.streams, lambda: analytics.store)
        seen.append(scrape.metrics.seen)
        tasks.append(lambda: scrape.serve(config.metrics_port))

    async def close() -> None:
        await analytics.close()
        if centre:
            await centre.close()
        for end in closing:
            await asyncio.to_thread(end)

    return Actor("analytics", handlers, tasks=(analytics.run, *tasks), close=close)


def _tells(config: Config) -> bool:
    """Whether this node reports to a centre."""
    node = config.node
    wanted = config.section("analytics", AnalyticsConfig).report and not node.node_only
    return wanted and (node.profile == "hybrid" or (node.profile == "lilevy" and node.centre))


def _centre(context: Context) -> Centre | None:
    """What stores the reports of the nodes, where there are any."""
    config = context.config
    if config.node.profile == "lilevy":
        return None
    keep_days = min(config.section("analytics", AnalyticsConfig).keep_days, config.node.keep_days)
    return Centre(context.identity.node, open_store(config), context.emit, keep_days=keep_days)
