"""Whose turn it is at the modem: one part at a time, flash before priority before routine."""

import asyncio
import contextlib
import heapq
from collections.abc import AsyncIterator
from typing import Final

from actors._runtime.telemetry import step
from subjects.names import LANES, Lane

_RANK: Final = {lane: rank for rank, lane in enumerate(LANES)}


class Turn:
    """A lock whose waiters are served by lane, and in order of arrival within a lane.

    Waiters are bounded by the slots of the ``sms.out`` worker.
    """

    def __init__(self) -> None:
        self._taken = False
        self._count = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @property
    def is_free(self) -> bool:
        """Nobody has it, and nobody waits."""
        return not self._taken

    @contextlib.asynccontextmanager
    async def take(self, lane: Lane) -> AsyncIterator[None]:
        """The modem, for the length of the block."""
        if self._taken:
            self._count += 1
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (_RANK[lane], self._count, future))
            try:
                with step("wait for the modem"):
                    await future
            except asyncio.CancelledError:
                if future.done() and not future.cancelled():
                    self._pass_on()  # it became ours at the very moment we left
                raise
        self._taken = True
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)  # stays taken: it passes from hand to hand
                return
        self._taken = False
