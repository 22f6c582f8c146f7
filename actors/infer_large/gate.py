"""How many questions are at the server at once, and who goes first when it has room."""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from subjects.names import LANES, Lane

T = TypeVar("T")


class Gate:
    """``slots`` questions at a time; of those that wait the most urgent lane goes first, then the oldest."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._slots = slots
        self._spare: asyncio.Task[object] | None = None
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    @asynccontextmanager
    async def slot(self, lane: Lane) -> AsyncIterator[None]:
        """Holds a slot; waits for one first. What nobody waits for is broken off."""
        if self._spare is not None:
            self._spare.cancel()
        if self._free:
            self._free -= 1
        else:
            turn = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (LANES.index(lane), next(self._order), turn))
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():  # given the slot in the same moment
                    self._leave()
                raise
        try:
            yield
        finally:
            self._leave()

    async def spare(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """What nobody waits for: asked while nobody's question is at the server, one at a time. None when it
        was not, or when a question came and broke it off."""
        if self._free < self._slots or self._spare is not None:
            return None
        asking = asyncio.create_task(ask())
        self._spare = asking
        try:
            await asyncio.wait([asking])
        finally:
            asking.cancel()
            self._spare = None
        return None if asking.cancelled() else asking.result()

    def _leave(self) -> None:
        while self._waiting:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
