"""A serial line with a modem at its other end: commands, answers, and what is said unasked in between.

Nothing here waits longer than the modem takes, and nothing that comes over the line is believed: octets that
are no text are dropped, a line without an end is cut, an answer is looked for by its name.
"""

import contextlib
import os
import select
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import serial

from actors.sms.calls import HANG_UP, SAID
from actors.sms.modem import ModemLostError
from actors.sms.profiles import BOOTED
from actors.sms.refusals import Refusal, refusal

ANSWER_WAIT_S: Final = 10.0
"""How long one answer may take; a full SIM is listed within 2 s."""
LINE_OCTETS: Final = 2048
"""Longest line: a PDU has at most 2 × 176 digits."""

ESC: Final = b"\x1b"
_UNSEEN: Final = bytes(octet for octet in range(256) if not 0x20 <= octet < 0x7F)
_WITH_PDU: Final = ("+CMT:", "+CDS:", "+CBM:")
"""What is said unasked and goes on in the next line (TS 27.005 §3.4.1)."""
_ALONE: Final = ("+CMTI:", "+CDSI:", *SAID)
_HEX: Final = frozenset("0123456789ABCDEFabcdef")

Heard = Callable[[str, str], None]
"""Takes what the modem says unasked: the line, and the PDU that follows some lines."""


@dataclass(slots=True)
class Answer:
    """Lines of an answer without its end; ``refusal`` when the end was not OK."""

    lines: list[str] = field(default_factory=list)
    refusal: Refusal | None = None

    @property
    def ok(self) -> bool:
        """Whether the modem took the command."""
        return self.refusal is None

    def field(self, name: str) -> str:
        """What follows ``name``, such as "+CSQ:"; empty when no line has it."""
        found = (line[len(name) :].strip() for line in self.lines if line.startswith(name))
        return next(found, "")


class AtLine:
    """Line to one modem. Raises :class:`ModemLostError` whenever it is gone or silent.

    Unless it is ``shared`` with a library that opens it too, nobody else who asks politely can take it.
    ``answer_s`` is how long an answer may take.
    """

    def __init__(
        self, device: str, baud: int, heard: Heard, *, shared: bool = False, answer_s: float = ANSWER_WAIT_S
    ) -> None:
        self._device = device
        self._heard = heard
        self._answer_s = answer_s
        self._head = ""
        self._partial = b""
        self._lines: deque[str] = deque()
        """At most what one read brings."""
        try:
            self._serial = serial.Serial(device, baud, timeout=0, write_timeout=1, exclusive=not shared)
        except (OSError, ValueError) as error:  # serial.SerialException is an OSError
            raise ModemLostError(f"{device}: {error}") from error

    @property
    def has_octets(self) -> bool:
        """Whether the modem has said something that nobody has read."""
        ready, _, _ = select.select([self._serial.fileno()], [], [], 0)
        return bool(ready)

    @property
    def is_gone(self) -> bool:
        """Whether the device is gone, found without asking the modem."""
        line = select.poll()
        line.register(self._serial.fileno(), 0)  # POLLHUP and POLLERR come unasked
        return bool(line.poll(0))

    def close(self) -> None:
        """Lets go of the line; never raises."""
        with contextlib.suppress(OSError):
            self._serial.close()

    # Octets.

    def write(self, octets: bytes) -> None:
        """Gives octets to the modem."""
        try:
            self._serial.write(octets)
        except OSError as error:
            raise ModemLostError(f"{self._device}: {error}") from error

    def wait(self, wake: int, timeout_s: float) -> bool:
        """Waits till the modem says something (True), ``wake`` can be read, or the time is over."""
        descriptor = self._serial.fileno()
        ready, _, _ = select.select([descriptor, wake], [], [], timeout_s)
        return descriptor in ready

    def _read(self, timeout_s: float) -> None:
        """Takes what has come, waiting up to ``timeout_s`` for it."""
        try:
            ready, _, _ = select.select([self._serial.fileno()], [], [], max(0.0, timeout_s))
            if not ready:
                return
            octets = os.read(self._serial.fileno(), 4096)
        except BlockingIOError:
            return
        except OSError as error:
            raise ModemLostError(f"{self._device}: {error}") from error
        if not octets:
            raise ModemLostError(f"{self._device} was unplugged")
        *lines, self._partial = (self._partial + octets).replace(b"\r", b"\n").split(b"\n")
        if len(self._partial) > LINE_OCTETS:
            self._partial = b""
        for line in lines:
            if words := line.translate(None, _UNSEEN).decode("ascii").strip():
                self._lines.append(words)

    # Lines.

    def _line(self, until_s: float) -> str | None:
        """Next line that belongs to an answer, None when the time is over; the others go to ``heard``."""
        while True:
            while self._lines:
                line = self._lines.popleft()
                if not self._unasked(line):
                    return line
            left_s = until_s - time.monotonic()
            self._read(left_s)
            if not self._lines and left_s <= 0:
                return None

    def _unasked(self, line: str) -> bool:
        if self._head:
            head, self._head = self._head, ""
            if _HEX.issuperset(line):
                self._heard(head, line)
                return True
            self._heard(head, "")  # its PDU got lost on the line
        if line.startswith(_WITH_PDU):
            self._head = line
        elif line.startswith(_ALONE) or line in BOOTED:
            self._heard(line, "")
        else:
            return False
        return True

    def next(self, until_s: float) -> str | None:
        """Next line that was not said unasked, None when the time is over."""
        return self._line(until_s)

    def listen(self, wait_s: float = 0.0) -> None:
        """Hears what the modem has said unasked; answers that nobody waits for any more are dropped."""
        self._line(time.monotonic() + wait_s)
        while self._lines:
            self._line(0.0)

    def forget(self) -> None:
        """Drops half a line: somebody else has read what came after it."""
        self._partial, self._head = b"", ""

    # Commands.

    def ask(self, command: str, wait_s: float | None = None, *, must: str = "") -> Answer:
        """The modem's answer to a command.

        With ``must``, an OK that comes before a line with this beginning belongs to an earlier command and
        is passed over.
        """
        self.write(f"{command}\r".encode())
        return self.answer(command, self._answer_s if wait_s is None else wait_s, must=must)

    def answer(self, command: str, wait_s: float, *, must: str = "") -> Answer:
        """What the modem answers to something already given to it."""
        until_s = time.monotonic() + wait_s
        answer = Answer()
        while (line := self._line(until_s)) is not None:
            answer.refusal = refusal(line)
            if line == "OK" or answer.refusal:
                if answer.refusal or not must or answer.field(must):
                    return answer
            elif line != command:
                answer.lines.append(line)
        said = f", only {answer.lines[-1]!r}" if answer.lines else ""
        raise ModemLostError(f"{self._device} does not answer {command[:12]}{said}")

    def hang_up(self) -> bool:
        """Rejects a call; False when the modem cannot, and lets it ring."""
        return any(self.ask(command).ok for command in HANG_UP)

    def prompt(self, command: str) -> Refusal | None:
        """Gives a command that asks for more, and waits for «> »; None when it came."""
        self.write(f"{command}\r".encode())
        until_s = time.monotonic() + self._answer_s
        while (left_s := until_s - time.monotonic()) > 0:
            while self._lines:
                line = self._lines.popleft()
                if not self._unasked(line) and (refused := refusal(line)):
                    return refused
            if self._partial.rstrip(b" ").endswith(b">"):
                self._partial = b""
                return None
            self._read(left_s)
        raise ModemLostError(f"{self._device} does not answer {command[:12]}")

    def rouse(self, within_s: float) -> None:
        """Gets an answer out of a modem in any state, and leaves no answer to anything earlier behind.

        It may be starting, deaf while a text is on air, or wait for the rest of a text it was given.
        """
        until_s = time.monotonic() + within_s
        while True:
            with contextlib.suppress(ModemLostError):
                # A plain AT first: ESC might cut off a text that is on air.
                self.ask("AT", 1.0)
                self.ask("AT+CMEE?", 1.0, must="+CMEE:")
                return
            if self.is_gone:
                raise ModemLostError(f"{self._device} was unplugged")
            if time.monotonic() > until_s:
                raise ModemLostError(f"{self._device} is mute: no answer to AT")
            self.write(ESC)


def restart(device: str, baud: int) -> None:
    """Tells a modem to start anew (AT+CFUN=1,1, TS 27.007 §8.2), whether it answers or not."""
    with contextlib.suppress(ModemLostError):
        line = AtLine(device, baud, lambda _head, _pdu: None)
        try:
            line.write(ESC + b"\rAT+CFUN=1,1\r")
            line.listen(1.0)
        finally:
            line.close()
