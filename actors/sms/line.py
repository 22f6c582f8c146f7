"""One modem, one thread: everything that touches the device happens here, in turn.

The asyncio side asks with :meth:`Line.delete` and :meth:`Line.send`; the thread polls in between, opens the
line again when it is lost, and never gives up.
"""

import asyncio
import contextlib
import logging
import os
import queue
import subprocess
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from actors._runtime.telemetry import step
from actors.sms.ladder import Ladder
from actors.sms.modem import Modem, ModemLostError, Opened, Part, Received, Report
from actors.sms.sim import SimError

log = logging.getLogger("evy.sms.line")

STATUS_EVERY_S: Final = 60.0
POWER_KEY_S: Final = 30.0
"""How long the command at the power key may take."""
REOPEN_WAIT_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits between tries to open a modem that is lost; the last one repeats for ever."""


class Owner(Protocol):
    """Who is told of what happens on the line, in the event loop; the thread waits for ``opened``."""

    async def opened(self, opened: Opened) -> None:
        """The line is open and nothing has been sent yet."""

    async def lost(self, reason: str) -> None:
        """The line is gone."""

    async def dead(self, reason: str) -> None:
        """Everything was tried and the modem stays away: a person must look. Told once."""

    async def status(self, status: dict[str, str]) -> None:
        """How the modem is, told when something has changed since the line was opened."""

    async def received(self, sms: Received) -> bool:
        """An SMS lies in storage; True once it is safe elsewhere and may be deleted."""

    async def reported(self, report: Report) -> None:
        """A status report came; it may be removed when this returns."""


class Line:
    """The thread and its queue: one command per waiting task, so never more than the worker's slots and the
    modem's storage together."""

    def __init__(
        self,
        modem: Modem,
        owner: Owner,
        poll_interval_s: float,
        power_key: Sequence[str] = (),
        is_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """``is_ready`` is called in the event loop whenever texts can be sent again."""
        self._modem = modem
        self._owner = owner
        self._poll_interval_s = poll_interval_s
        self._commands: queue.Queue[tuple[Callable[[], Any], asyncio.Future[Any]]] = queue.Queue()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        """Can be read when there is a command: the thread waits for it and for the modem at once."""
        weakref.finalize(self, os.close, self._wake)
        self._power_key = tuple(power_key)
        self._is_ready = is_ready
        self._ladder = Ladder()
        self._is_dead = False
        self._status: dict[str, str] = {}
        self._in_hand: set[int] = set()
        self._stopping = threading.Event()
        self._ready = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether the modem is there now."""
        return self._ready.is_set()

    def _set_ready(self) -> None:
        self._ready.set()
        self._is_ready()

    async def run(self) -> None:
        """Runs the thread until the task is cancelled."""
        thread = threading.Thread(target=self._work, name="modem", daemon=True)
        thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            self._stopping.set()
            os.eventfd_write(self._wake, 1)
            for task in self._tasks:
                task.cancel()
            # A send in progress ends first: its outcome goes into the ledger.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), 30)

    async def send(self, part: Part) -> int:
        """Submits one part and gives its TP-MR. Raises what :meth:`Modem.send_part` raises.

        Nothing is queued for a line that is lost: its INTENT is settled when the line opens, and must not
        be acted on afterwards.
        """
        if not self.is_open:
            raise ModemLostError("the line is lost")
        with step("modem submit"):
            reference: int = await self._ask(lambda: self._modem.send_part(part))
        return reference

    async def ussd(self, code: str) -> str:
        """The network's answer to a code; whatever else is asked of the line ends the wait for it.

        Raises what :meth:`Modem.ussd` raises.
        """
        if not self.is_open:
            raise ModemLostError("the line is lost")
        answer: str = await self._ask(lambda: self._modem.ussd(code, lambda: bool(self._commands.qsize())))
        return answer

    async def _ask(self, command: Callable[[], Any]) -> Any:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._commands.put((command, future))
        os.eventfd_write(self._wake, 1)
        return await future

    def _work(self) -> None:
        tries = 0
        while not self._stopping.is_set():
            try:
                opened = self._modem.open()
                tries = 0
                self._ladder.opened(time.monotonic())
                self._is_dead = False
                self._status = {}
                self._drop_commands(ModemLostError("the line was lost"))
                self._wait(self._owner.opened(opened))
                self._loop.call_soon_threadsafe(self._set_ready)
                self._serve()
            except ModemLostError as error:
                self._lose(error)
                self._climb(error)
            except _LoopGoneError:
                break
            except Exception as error:  # a driver's bug must not end reception for good
                log.exception("the modem's driver failed")
                self._lose(ModemLostError(f"{type(error).__name__}: {error}"))
            self._modem.close()
            self._in_hand.clear()
            self._stopping.wait(REOPEN_WAIT_S[min(tries, len(REOPEN_WAIT_S) - 1)])
            tries += 1
        self._modem.close()
        with contextlib.suppress(RuntimeError):  # the loop may be closed already
            self._loop.call_soon_threadsafe(self._stopped.set)

    def _climb(self, error: ModemLostError) -> None:
        """Tries harder the longer the modem is away; no rung helps against a SIM that wants a person."""
        if self._stopping.is_set():
            return
        now_s = time.monotonic()
        rung = "open" if isinstance(error, SimError) else self._ladder.failed(now_s)
        if rung == "restart":
            log.warning("restarting the modem")
            self._modem.restart()
        elif rung == "power_key" and self._power_key:
            self._modem.close()
            self._press_power_key()
        if not self._is_dead and (isinstance(error, SimError) or self._ladder.is_dead(now_s)):
            self._is_dead = True
            with contextlib.suppress(_LoopGoneError):
                self._wait(self._owner.dead(str(error)))

    def _press_power_key(self) -> None:
        log.warning("pressing the modem's power key: %s", " ".join(self._power_key))
        try:
            subprocess.run(self._power_key, check=True, timeout=POWER_KEY_S, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError) as error:
            log.error("[sms] power_key_command: %s", error)

    def _serve(self) -> None:
        polled_at, status_at = 0.0, time.monotonic()
        while not self._stopping.is_set():
            said = self._modem.wait(self._wake, 0.0 if self._commands.qsize() else self._poll_interval_s)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            with contextlib.suppress(queue.Empty):
                self._answer(*self._commands.get_nowait())
            now_s = time.monotonic()
            if said or now_s - polled_at >= self._poll_interval_s:
                self._poll()
                polled_at = now_s
            if now_s - status_at >= STATUS_EVERY_S and not self._commands.qsize():
                self._tell_status()
                status_at = now_s

    def _tell_status(self) -> None:
        status = self._modem.status()
        if status != self._status:
            self._status = status
            self._spawn(self._owner.status(status))

    def _lose(self, error: ModemLostError) -> None:
        log.warning("modem lost: %s", error)
        with contextlib.suppress(RuntimeError, _LoopGoneError):
            self._loop.call_soon_threadsafe(self._ready.clear)
            self._drop_commands(error)
            self._wait(self._owner.lost(str(error)))

    def _drop_commands(self, error: ModemLostError) -> None:
        """Voids what was asked of the lost line: a location may mean another SMS when it is back."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._settle(self._commands.get_nowait()[1], error)

    def _answer(self, command: Callable[[], Any], future: "asyncio.Future[Any]") -> None:
        try:
            result = command()
        except ModemLostError as error:
            # First closed, then told: who asked must not find the line open and write the next INTENT.
            self._loop.call_soon_threadsafe(self._ready.clear)
            self._settle(future, error)
            raise
        except Exception as error:  # noqa: BLE001  # handed to the task that asked, whatever it is
            self._settle(future, error)
        else:
            self._settle(future, result)

    def _settle(self, future: "asyncio.Future[Any]", result: Any) -> None:
        def settle() -> None:
            if future.done():
                return
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(settle)

    def _poll(self) -> None:
        texts, reports = self._modem.poll(frozenset(self._in_hand))
        for report in reports:
            if report.location:
                self._in_hand.add(report.location)
            self._spawn(self._enter(report))
        for sms in texts:
            self._in_hand.add(sms.location)
            self._spawn(self._take(sms))

    async def _take(self, sms: Received) -> None:
        """Has the owner keep the SMS, then deletes it; what could not be kept is offered again later."""
        offer_again = True
        try:
            if await self._owner.received(sms):
                await self._ask(lambda: self._delete(sms.location))
                offer_again = False
            else:
                await asyncio.sleep(1)
        except ModemLostError:
            pass  # still in storage: it comes again and is recognised as the same
        finally:
            if offer_again:
                self._loop.call_soon(self._in_hand.discard, sms.location)

    async def _enter(self, report: Report) -> None:
        """Has the owner enter a status report, then removes it from where it is stored, if it is."""
        await self._owner.reported(report)
        if report.location:
            with contextlib.suppress(ModemLostError):  # it comes again, and changes nothing
                await self._ask(lambda: self._delete(report.location))

    def _delete(self, location: int) -> None:
        """Frees a place in storage; at once, because the next text may lie there already."""
        self._modem.delete(location)
        self._in_hand.discard(location)

    def _spawn(self, work: Awaitable[None]) -> None:
        def start() -> None:
            task = asyncio.ensure_future(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(_log_failure)

        try:
            self._loop.call_soon_threadsafe(start)
        except RuntimeError as error:
            raise _LoopGoneError from error

    def _wait(self, work: Any) -> None:
        """Runs a coroutine in the event loop and waits, but not longer than the line lives."""
        try:
            running = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:
            raise _LoopGoneError from error
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                running.result(timeout=0.2)
                return
        running.cancel()


class _LoopGoneError(Exception):
    """The event loop has closed while the thread was working."""


def _log_failure(task: "asyncio.Future[None]") -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("while handling what the modem brought: %s", error, exc_info=error)
