"""`/metrics` on the loopback: one page for all processes of the node, for Prometheus to scrape."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import psutil
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from actors._event_store import EventStore
from actors._runtime.bus import BusError
from actors._runtime.http import Page, serve_pages
from actors._runtime.stream_info import StreamInfo
from actors.analytics.metrics import Metrics
from subjects.errors import ConfigError
from subjects.node_state import NodeState

log = logging.getLogger("evy.analytics")

PATH: Final = "/metrics"
RETRY_S: Final = 30.0


class Scrape:
    """Counts, and serves what it counted."""

    def __init__(
        self,
        node: str,
        state: Callable[[], NodeState],
        streams: Callable[[], Awaitable[Sequence[StreamInfo]]],
        store: Callable[[], EventStore | None],
    ) -> None:
        self.metrics = Metrics(node, state)
        self._events = f"EVT_{node}"
        self._streams = streams
        self._store = store

    async def serve(self, port: int) -> None:
        """Serves until cancelled. A port that is taken is tried again: it must not end the process."""
        while True:
            try:
                async with serve_pages(port, {PATH: self.page}):
                    log.info("metrics at http://127.0.0.1:%d%s", port, PATH)
                    await asyncio.Event().wait()
            except ConfigError as error:
                log.error("[telemetry] metrics_port: %s; tried again in %.0f s", error, RETRY_S)
                await asyncio.sleep(RETRY_S)

    async def page(self) -> Page:
        """The page now; without the server it lacks the streams."""
        try:
            streams = await self._streams()
        except BusError as error:
            log.warning("metrics without streams: %s", error)
            streams = ()
        store = self._store()
        stored = None
        if store:
            last = [info.state.last_seq for info in streams if info.config.get("name") == self._events]
            lag = max(0, last[0] - store.position.sequence) if last else 0
            with contextlib.suppress(OSError):  # taken away just now
                stored = store.path.stat().st_size, lag
        memory = await asyncio.to_thread(resident)
        body = await asyncio.to_thread(self.metrics.page, streams, memory, stored)
        return Page(body, CONTENT_TYPE_PLAIN_0_0_4)


def resident() -> dict[str, int]:
    """Resident octets of each process of this node: the server and the actors beside this process."""
    own = psutil.Process()
    parent = own.parent()
    found: dict[str, int] = {}
    for process in [own, *(child for child in (parent.children() if parent else ()) if child.pid != own.pid)]:
        try:
            command = _command(process)
            if "run" in command:
                name = "+".join(command[command.index("run") + 1 :])
            elif process.pid == own.pid or process.name() == "nats-server":
                name = process.name()
            else:
                continue
            found[name] = found.get(name, 0) + process.memory_info().rss
        except (psutil.Error, OSError):  # it has just ended
            continue
    return found


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except (psutil.Error, OSError):
        return []
