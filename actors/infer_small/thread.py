"""One thread that owns the model: one generation at a time, the most urgent lane first."""

import asyncio
import itertools
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from actors.infer_small.model import Generation, Model
from subjects.names import LANES, Lane

_GRACE_S: Final = 1.0
"""How long past its deadline a generation is waited for: it ends at a token, not in the middle of one."""

_Job = Callable[[], None]


class ModelThread:
    """Queue in front of a model, unloaded after ``idle_s`` seconds without work.

    The queue holds no more than the handlers that wait on it, so the registry's slots bound it.
    """

    def __init__(self, model: Model, idle_s: float) -> None:
        self._model: Final = model
        self._idle_s: Final = idle_s
        self._queue: Final[queue.PriorityQueue[tuple[int, int, _Job | None]]] = queue.PriorityQueue()
        self._order: Final = itertools.count()
        self._thread: threading.Thread | None = None

    async def run(self, lane: Lane, generate: Callable[[float], Generation], deadline_s: float) -> Generation:
        """What ``generate`` makes in the seconds it is given: those of ``deadline_s`` that waiting left."""
        started = time.monotonic()
        future: Future[Generation] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return  # nobody waits any more
            try:
                future.set_result(generate(deadline_s - (time.monotonic() - started)))
            except BaseException as error:  # noqa: BLE001  it is raised where the answer is awaited
                future.set_exception(error)

        self._put(LANES.index(lane), job)
        try:
            async with asyncio.timeout(deadline_s + _GRACE_S):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            return Generation("", 0, (time.monotonic() - started) * 1000, "deadline")

    def unload(self) -> None:
        """Gives the model's memory back after the generation that runs, before any that waits."""
        if self._thread is not None:
            self._put(-1, self._model.unload)

    async def close(self) -> None:
        """Stops a running generation, unloads the model and ends the thread."""
        self._model.stop()
        if self._thread is not None:
            self._put(-1, None)
            await asyncio.to_thread(self._thread.join)

    def _put(self, rank: int, job: _Job | None) -> None:
        if self._thread is None:
            # A daemon: a process that dies without close() must not hang on a generation.
            self._thread = threading.Thread(target=self._run, name="infer-small", daemon=True)
            self._thread.start()
        self._queue.put((rank, next(self._order), job))

    def _run(self) -> None:
        while True:
            try:
                job = self._queue.get(timeout=self._idle_s if self._model.loaded else None)[2]
            except queue.Empty:
                self._model.unload()
                continue
            if job is None:
                break
            job()
        self._model.unload()
