"""A serial line with an RYLR896 at its other end: one command at a time, and what the module says unasked.

Nothing blocks: the descriptor is read when the event loop finds it ready. Nothing that comes over the line is
believed: a line has its end or is dropped, and an answer is looked for by its name, so that a late one is not
taken for that of a later command.
"""

import asyncio
import contextlib
import errno
import os
import re
from collections import Counter
from collections.abc import Callable
from typing import Final

import serial

from actors.mesh.radio import Heard, RadioError

BAUD: Final = 115200
OTHER_BAUDS: Final = (9600, 57600, 38400, 19200, 28800, 4800, 1200, 300)
"""What else a module may be set to (AT+IPR), the likely ones first."""
LINE_OCTETS: Final = 320
"""Longest line: 240 octets with their numbers."""
ANSWER_S: Final = 1.0
"""How long an answer may take besides what is on air; on a quiet machine it is 5 ms."""

_RECEIVED = re.compile(rb"\+RCV=(\d{1,5}),(\d{1,3}),(.*),(-?\d{1,3}),(-?\d{1,3})", re.DOTALL)
_REFUSED = re.compile(rb"\+ERR=(\d{1,3})$")
_UNASKED_ERRORS: Final = frozenset({11, 12})
"""A frame that came too late or broken: they are about the air and answer no command."""

MEANING: Final = {
    1: "the end of the command got lost on the line: check the wiring, keep the cable short",
    2: "the beginning of the command got lost on the line: check the wiring, keep the cable short",
    3: "the command has no «=»: is this an RYLR896?",
    4: "the module does not know the command: is this an RYLR896 (or 895, 406, 405)?",
    10: "the module is still sending: it is asked again after the frame's time on air",
    13: "the frame is longer than 240 octets",
    15: "the module does not say why: check the supply (3.3 V, 43 mA and more while it sends)",
}
"""What +ERR codes mean (guide, «Error result codes») and what to do."""


_MEND: Final = {
    errno.ENOENT: "is it plugged in? `ls /dev/serial/by-id` shows what is",
    errno.EACCES: "add this user to the group dialout",
    errno.EAGAIN: "another program has it open",
    errno.EBUSY: "another program has it open",
}


def why(error: OSError | ValueError) -> str:
    """Why a device cannot be used, and what to do."""
    number = error.errno if isinstance(error, OSError) and error.errno else 0
    reason = os.strerror(number) if number else str(error)
    return f"{reason}: {_MEND[number]}" if number in _MEND else reason


class ModuleError(RadioError):
    """The module answered +ERR."""

    def __init__(self, device: str, command: str, code: int) -> None:
        meaning = MEANING.get(code, "a code that the guide for the RYLR896 does not have")
        super().__init__(f"{device}: {command} gave +ERR={code}: {meaning}")
        self.code = code


class SilentError(RadioError):
    """The module did not answer in time."""


class LostError(RadioError):
    """The device is gone."""


class Line:
    """The line. ``heard`` gets frames, ``restarted`` is told when the module says it has started anew,
    ``lost`` when the device is gone."""

    def __init__(
        self,
        device: str,
        heard: Callable[[bytes, Heard], None],
        restarted: Callable[[], None],
        lost: Callable[[str], None],
        counters: Counter[str],
    ) -> None:
        """Opens the device. Raises :class:`LostError`."""
        self.device = device
        self._heard = heard
        self._restarted = restarted
        self._lost = lost
        self._counters = counters
        self._partial = b""
        self._waits: tuple[bytes, asyncio.Future[bytes]] | None = None
        self._loop = asyncio.get_running_loop()
        try:
            self._serial = serial.Serial(device, BAUD, timeout=0, write_timeout=0, exclusive=True)
        except (OSError, ValueError) as error:  # serial.SerialException is an OSError
            raise LostError(f"{device} cannot be opened: {why(error)}") from error
        self._loop.add_reader(self._serial.fileno(), self._read)

    @property
    def is_open(self) -> bool:
        """Whether the device is there as far as is known."""
        return bool(self._serial.is_open)

    def close(self) -> None:
        """Lets go of the device; never raises."""
        if self._serial.is_open:
            self._loop.remove_reader(self._serial.fileno())
        with contextlib.suppress(OSError):
            self._serial.close()
        self._fail(LostError(f"{self.device} was closed"))

    def _gone(self, reason: str) -> None:
        self.close()
        self._lost(f"{self.device} is gone ({reason}): is it plugged in?")

    # What comes.

    def _read(self) -> None:
        try:
            octets = os.read(self._serial.fileno(), 4096)
        except BlockingIOError:
            return
        except OSError as error:
            self._gone(error.strerror or str(error))
            return
        if not octets:
            self._gone("it was unplugged")
            return
        self.feed(octets)

    def feed(self, octets: bytes) -> None:
        """Takes what has come over the line, in whatever pieces. Never raises for any octets."""
        *lines, self._partial = (self._partial + octets).split(b"\n")
        for line in lines:
            if said := line.rstrip(b"\r"):
                self._take(said)
        if len(self._partial) > LINE_OCTETS:
            self._counters["garbled"] += 1
            self._partial = b""

    def _take(self, line: bytes) -> None:
        if line.startswith(b"+RCV="):
            understood = self._receive(line) or self._answers(line)
        elif line in {b"+READY", b"+RESET"}:
            understood = True
            self._fail(SilentError(f"{self.device}: the module started anew"))
            self._restarted()
        else:
            understood = self._answers(line) or line == b"+OK"
        self._counters["lines" if understood else "garbled"] += 1

    def _answers(self, line: bytes) -> bool:
        """Whether the line is an answer, or ends with one after half a line of something else."""
        refused = _REFUSED.search(line)
        if refused and int(refused[1]) in _UNASKED_ERRORS:
            self._counters["broken"] += 1
            return True
        expects = self._waits[0] if self._waits else b""
        if refused:
            self._answer(refused[0])
        elif expects == b"+OK" and line.endswith(expects):
            self._answer(expects)
        elif expects not in {b"", b"+OK"} and expects in line:
            self._answer(line.rpartition(expects)[2])
        else:
            return False
        return True

    def _receive(self, line: bytes) -> bool:
        """Whether the line was a whole frame."""
        found = _RECEIVED.fullmatch(line)
        if found is None or int(found[2]) != len(found[3]):
            return False
        # The SX1276's register counts quarters of a decibel, and the module shows it as it is.
        self._heard(found[1], Heard(found[3], float(found[4]), int(found[5]) / 4))
        return True

    def _answer(self, said: bytes) -> None:
        if self._waits and not self._waits[1].done():
            self._waits[1].set_result(said)

    def _fail(self, error: RadioError) -> None:
        if self._waits and not self._waits[1].done():
            self._waits[1].set_exception(error)

    # What is asked.

    def _write(self, octets: bytes) -> None:
        try:
            written = os.write(self._serial.fileno(), octets)
        except BlockingIOError:
            written = 0
        except (OSError, serial.SerialException) as error:
            self._gone(str(error))
            raise LostError(f"{self.device} is gone: {error}") from error
        if written < len(octets):
            raise SilentError(f"{self.device} takes nothing more: the module or its adapter hangs")

    def _speed(self, baud: int) -> None:
        """Sets this end's speed. Raises :class:`LostError`."""
        try:
            self._serial.baudrate = baud
        except (OSError, ValueError) as error:
            self._gone(str(error))
            raise LostError(f"{self.device} is gone: {error}") from error

    async def ask(self, command: bytes, expects: bytes = b"+OK", wait_s: float | None = None) -> str:
        """What follows ``expects`` in the module's answer to a command; empty for +OK.

        Raises :class:`ModuleError` for +ERR, :class:`SilentError` when no answer comes in time, and
        :class:`LostError`. Not for two at once.
        """
        shown = command.split(b",", 1)[0].decode("ascii", "replace")
        wait_s = ANSWER_S if wait_s is None else wait_s
        if not self._serial.is_open:
            raise LostError(f"{self.device} is closed")
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._waits = (expects, future)
        try:
            self._write(command + b"\r\n")
            async with asyncio.timeout(wait_s):
                said = await future
        except TimeoutError:
            raise SilentError(
                f"{self.device}: no answer to {shown} within {wait_s:.1f} s: is it an RYLR896, are TX and RX "
                "crossed, has it power?"
            ) from None
        finally:
            self._waits = None
            if future.done() and not future.cancelled():
                future.exception()  # a failure that came with the time's end is not a second one
        if refused := _REFUSED.fullmatch(said):
            raise ModuleError(self.device, shown, int(refused[1]))
        return "" if expects == b"+OK" else said.decode("ascii", "replace")

    async def rouse(self, *, search: bool) -> None:
        """Gets an answer out of a module, with ``search`` at any speed, and leaves the line at :data:`BAUD`.

        Raises :class:`SilentError` when there is none.
        """
        others = ((baud, 0.5) for baud in OTHER_BAUDS if search)
        for baud, wait_s in ((BAUD, ANSWER_S / 2), (BAUD, 2 * ANSWER_S), *others):
            self._speed(baud)
            with contextlib.suppress(SilentError, ModuleError):
                # The first octets wake a module that sleeps, and end what a broken command left.
                self._write(b"\r\n")
                await self.ask(b"AT", wait_s=wait_s + 200 / baud)
                if baud != BAUD:
                    self._counters["other_baud"] += 1
                    with contextlib.suppress(SilentError, ModuleError):
                        await self.ask(b"AT+IPR=%d" % BAUD, b"+IPR=", wait_s + 400 / baud)
                    self._speed(BAUD)
                    await self.ask(b"AT")
                return
        self._speed(BAUD)
        raise SilentError(
            f"{self.device} does not answer{' at any speed' if search else ''}: is it an RYLR896, are TX and "
            "RX crossed, has it power?"
        )
