"""The way of a node's events to its centre: a report now and then, while nothing more urgent waits.

It reads the event store behind the actor's back, through a connection of its own, and notes there how far it
came once a report lies in the uplink. A report that is made again after a crash tells the same events by the
same numbers, and the centre knows those it has.
"""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from actors._event_store import EventStore, Mark, StoreBrokenError, StoreError
from actors._runtime.actor import Output
from actors._runtime.bus import BusError
from actors._runtime.identity import Identity
from actors._runtime.link import LinkState
from actors.analytics.leaving import batch, leaving
from subjects import names
from subjects.errors import ConfigError
from subjects.event_report import MOST_EVENTS, EventReport

log = logging.getLogger("evy.analytics")

MARK: Final = "report"
LOOK_EVERY_S: Final = 15.0
FULL_EVERY_S: Final = 60.0
"""A node with much to tell sends a report a minute. While a centre's database is away reports wait in its
stream, each for a day (`A_DAY_OF_TRIES`): 1,500 of the 2,000 that a subject holds, so that they never hold up
a question behind them."""
ANY_EVERY_S: Final = 300.0
"""A node with little to tell sends what there is."""
SCANNED: Final = 4 * MOST_EVENTS


class Pending(msgspec.Struct, frozen=True):
    """What is to be told next."""

    report: EventReport | None
    mark: Mark
    """Where the store is read to once that is told."""
    full: bool
    """More is behind it."""


def stream_id(name: str) -> str:
    """An event stream's name as a report has it."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def pending(store: EventStore, identity: Identity) -> Pending:
    """The next report of a store."""
    mark = store.mark(MARK)
    noted = store.after(mark, SCANNED)
    told = []
    for one in noted:
        if (left := leaving(one.mark.sequence, one.event, identity.report_ref)) is not None:
            told.append((one.mark, left))
            if len(told) == MOST_EVENTS:
                break
    if not told:
        return Pending(None, noted[-1].mark if noted else mark, full=len(noted) == SCANNED)
    report = batch(identity.node, stream_id(noted[0].stream), [left for _, left in told])
    rest = len(report.events) < len(told) or len(told) == MOST_EVENTS
    # Behind the last event told, or behind all that was looked at when nothing of it is left to tell.
    last = told[len(report.events) - 1][0] if rest else noted[-1].mark
    return Pending(report, last, full=rest or len(noted) == SCANNED)


class Uplink:
    """The loop. ``publish`` returns when the report is safe in the uplink."""

    def __init__(
        self,
        identity: Identity,
        path: Path,
        look: Callable[[], Awaitable[LinkState]],
        publish: Callable[[Output, str], Awaitable[None]],
        *,
        now: Callable[[], float] = time.monotonic,
        look_every_s: float = LOOK_EVERY_S,
        full_every_s: float = FULL_EVERY_S,
        any_every_s: float = ANY_EVERY_S,
    ) -> None:
        """``look`` sees how the link is; ``now`` counts seconds."""
        self._identity = identity
        self._path = path
        self._look = look
        self._publish = publish
        self._now = now
        self._look_every_s = look_every_s
        self._full_every_s = full_every_s
        self._any_every_s = any_every_s
        self._sent_at = float("-inf")
        self.sent = 0
        """Reports since the start."""

    async def run(self) -> None:
        """Tells the centre, until cancelled. Raises nothing that the store or the bus may meet."""
        while True:
            with contextlib.suppress(ConfigError):  # no store yet
                try:
                    await self.turn()
                except (StoreError, StoreBrokenError, BusError) as error:
                    log.warning("no report to the centre now, it is made again: %s", error)
            await asyncio.sleep(self._look_every_s)

    async def turn(self) -> bool:
        """Sends a report when one is due and the link is idle; True when it did.

        Raises :class:`ConfigError` while there is no store, `StoreError`, `StoreBrokenError`, `BusError`.
        """
        found = await asyncio.to_thread(self._read)
        waited_s = self._now() - self._sent_at
        if found.report is None or waited_s < (self._full_every_s if found.full else self._any_every_s):
            return False
        link = await self._look()
        if not link.up or link.waiting:
            return False
        first, last = found.report.events[0].sequence, found.report.events[-1].sequence
        output = Output(names.REPORT, "routine", found.report, f"{found.report.stream}-{first}-{last}")
        await self._publish(output, "analytics")
        self._sent_at = self._now()
        self.sent += 1
        await asyncio.to_thread(self._note, found.mark)
        return True

    def _read(self) -> Pending:
        with contextlib.closing(EventStore.existing(self._path, write=True)) as store:
            found = pending(store, self._identity)
            if found.report is None and found.mark != store.mark(MARK):  # nothing of it leaves
                store.set_mark(MARK, found.mark)
        return found

    def _note(self, mark: Mark) -> None:
        with contextlib.closing(EventStore.existing(self._path, write=True)) as store:
            store.set_mark(MARK, mark)


def keep_back(store: EventStore) -> None:
    """Nothing of what the store has until now is ever told."""
    if store.mark(MARK) != (end := store.end):
        store.set_mark(MARK, end)
