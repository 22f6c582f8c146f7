"""What `analytics` does at a centre: stores what the nodes report, and lets the old go.

A report whose database is away stays in its stream and comes again, as the registry says.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from actors._reports import AwayError, ReportStore
from actors._runtime.actor import Emit, Output
from subjects.errors import ConfigError, RetryLaterError
from subjects.event_report import EventReport
from subjects.messages import Event

log = logging.getLogger("evy.analytics")

T = TypeVar("T")

PRUNE_EVERY_S: Final = 3600.0
SILENT_S: Final = 5.0
"""A database that was away a moment ago is not asked for each report that waits."""


class Centre:
    """The handler and what it needs."""

    def __init__(
        self,
        node: str,
        store: ReportStore,
        emit: Emit,
        *,
        keep_days: float,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        silent_s: float = SILENT_S,
        retry_s: float | None = None,
    ) -> None:
        """``now`` is Unix time, ``clock`` counts seconds; ``retry_s`` None: the registry's waits."""
        self._node = node
        self._store = store
        self._emit = emit
        self._keep_days = keep_days
        self._now = now
        self._clock = clock
        self._silent_s = silent_s
        self._retry_s = retry_s
        self._away = ""
        self._ask_at = float("-inf")
        # A thread of its own: a server that does not answer would hold all those that others wait for.
        self._thread = ThreadPoolExecutor(1, "reports")

    async def handle(self, report: EventReport) -> Sequence[Output]:
        """Stores a report; nothing follows from it."""
        if self._away and self._clock() < self._ask_at:
            raise RetryLaterError(self._away, delay_s=self._retry_s)
        try:
            await self._in_thread(partial(self._store.add, report, self._now()))
        except (AwayError, ConfigError) as error:
            self._ask_at = self._clock() + self._silent_s
            if not self._away:
                log.error("reports of the nodes wait in their streams: %s", error)
                self._say("report_store_paused", reason=str(error))
            self._away = str(error)
            raise RetryLaterError(str(error), delay_s=self._retry_s) from error
        if self._away:
            log.warning("reports of the nodes are stored again")
            self._say("report_store_resumed", reason=self._away)
            self._away = ""
        return []

    async def prune(self) -> None:
        """Deletes what is too old, now and then, for ever."""
        while True:
            older_than = self._now() - self._keep_days * 86400
            try:
                if count := await self._in_thread(partial(self._store.prune, older_than)):
                    log.info("%d old events of the nodes were deleted", count)
            except (AwayError, ConfigError) as error:
                log.warning("old events of the nodes stay for now: %s", error)
            await asyncio.sleep(PRUNE_EVERY_S)

    async def close(self) -> None:
        """Leaves the database."""
        await self._in_thread(self._store.close)
        self._thread.shutdown(wait=False)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _say(self, kind: str, **fields: object) -> None:
        self._emit(Event(kind=kind, node=self._node, actor="analytics", at=self._now(), fields=fields))
