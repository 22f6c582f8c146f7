"""One RYLR896: what it says at its serial line, what it keeps, and the faults it was ordered to have.

Commands, answers, limits and errors are those of REYAX's AT command guide (56322E33). Where the guide is
silent the module does what is worst for its host: the payload is a C string (NUL ends it, CR or LF end the
command), frequency and parameters are forgotten without power, +OK comes when the frame has left, and the
SNR counts quarters of a decibel as the chip's register does.
"""

import asyncio
import random
import re
from collections import deque
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from simulators.terminal import Terminal

HEADER_OCTETS: Final = 8
"""What the module puts before the payload (guide, «The sequence of using AT command», 5)."""
MOST_OCTETS: Final = 240
LINE_OCTETS: Final = 320
RATES: Final = (300, 1200, 4800, 9600, 19200, 28800, 38400, 57600, 115200)
BANDWIDTHS: Final = (7800, 10400, 15600, 20800, 31250, 41700, 62500, 125_000, 250_000, 500_000)
PATIENCE_S: Final = 0.5
"""A command without its end is refused after this long."""
BOOT_S: Final = 0.05
TURN_S: Final = 0.001
"""From the end of a frame to +OK."""
EVERYBODY: Final = 0

NO_ENTER, NO_AT, NO_EQUALS, UNKNOWN, TX_BUSY, CRC, TOO_LONG, FAILED = 1, 2, 3, 4, 10, 12, 13, 15
"""+ERR codes."""


class Tuning(NamedTuple):
    """What AT+BAND and AT+PARAMETER set; forgotten when the power goes."""

    frequency_hz: int = 915_000_000
    spreading_factor: int = 12
    bandwidth_hz: int = 125_000
    coding_rate: int = 5
    preamble_symbols: int = 4


class Sent(NamedTuple):
    """A frame on the air, and how it was sent."""

    sender: int
    frame: bytes
    tuning: Tuning


class Surroundings(Protocol):
    """What a module needs of the air."""

    speed: float
    channel: Any

    @property
    def now_us(self) -> int:
        """Simulated time."""

    def begin(self, module: "Module", frame: bytes, tuning: Tuning) -> int:
        """A frame begins; gives its end."""

    def set_power(self, number: int, power_dbm: float) -> None:
        """The module sends so loud."""


class Module:
    """The device. Address, network, power and baud rate are kept without power; the rest is not."""

    def __init__(self, name: str, link: Path, number: int, air: Surroundings, *, seed: int = 0) -> None:
        self.name = name
        self.number = number
        self._air = air
        self._chance = random.Random(f"{seed} {name}")  # noqa: S311  # noise, not a secret
        self.terminal = Terminal(link, self._take)
        self.address, self.network, self.power_dbm, self.baud = 0, 0, 15, 115200
        self.tuning = Tuning()
        self.password = ""
        self.alive = True
        """Whether it has power."""
        self.asleep = False
        self.wedged = False
        """Takes everything, says and hears nothing, as hung firmware."""
        self.deaf = False
        """Answers, and hears nothing from the air."""
        self.late_s = 0.0
        """How much later it answers, in real seconds."""
        self.garble = 0.0
        """The chance of each octet it says to arrive as another."""
        self.half: int | None = None
        """So many octets of the next line get through."""
        self.lie = 0
        """Added to the length in the next +RCV."""
        self.resets_while_sending = False
        self.fail: deque[int] = deque()
        """+ERR codes for the next AT+SEND."""
        self.commands: deque[str] = deque(maxlen=1000)
        """What the host asked, for tests of drivers; of AT+SEND the head."""
        self._buffer = bytearray()
        self._patience: asyncio.TimerHandle | None = None
        self._sends: asyncio.TimerHandle | None = None
        self._boot: asyncio.TimerHandle | None = None

    # Power.

    def plug(self) -> None:
        """Powers up, when it has no power."""
        if self.terminal.is_open:
            return
        self.terminal.open()
        self.alive = True
        self._air.channel.set_alive(self.number, True)
        self._air.set_power(self.number, self.power_dbm)
        self._start()

    def unplug(self) -> None:
        """The power goes: the terminal vanishes, a frame on the air is cut off."""
        self.alive = False
        self._stop()
        self.terminal.close()
        self._air.channel.set_alive(self.number, False)

    def _stop(self) -> None:
        for timer in (self._patience, self._sends, self._boot):
            if timer:
                timer.cancel()
        self._patience = self._sends = self._boot = None
        self._buffer.clear()
        self.tuning, self.password, self.asleep = Tuning(), "", False

    def _start(self) -> None:
        self._boot = asyncio.get_running_loop().call_later(BOOT_S, self._ready)

    def _ready(self) -> None:
        self._boot = None
        self._say("+READY")

    def reset(self, *, silent: bool = False) -> None:
        """Starts anew; ``silent`` is a dip of the voltage that it says nothing about."""
        self._stop()
        self._air.channel.set_alive(self.number, False)
        self._air.channel.set_alive(self.number, True)
        if not silent:
            self._start()

    @property
    def is_starting(self) -> bool:
        """Whether it has not yet said +READY."""
        return self._boot is not None

    @property
    def is_sending(self) -> bool:
        """Whether a frame of its own is on the air."""
        return self._sends is not None

    # The line.

    def _say(self, line: str | bytes) -> None:
        octets = (line.encode() if isinstance(line, str) else line) + b"\r\n"
        if self.wedged:
            return
        if self.half is not None:
            octets, self.half = octets[: self.half], None
        if self.garble:
            octets = bytes(
                self._chance.randrange(256) if self._chance.random() < self.garble else octet
                for octet in octets
            )
        if self.late_s:
            asyncio.get_running_loop().call_later(self.late_s, self._write, octets)
        else:
            self._write(octets)

    def _write(self, octets: bytes) -> None:
        self.terminal.write(self._at_other_speed(octets))

    def _at_other_speed(self, octets: bytes) -> bytes:
        """What arrives when the two ends of the line are not set to the same speed: noise."""
        rate = self.terminal.baud
        if rate in (0, self.baud):
            return octets
        return self._chance.randbytes(max(1, len(octets) * min(rate, 4 * self.baud) // self.baud))

    def noise(self, octets: bytes, count: int = 0) -> None:
        """Octets that nobody sent appear at the host."""
        self.terminal.write(octets + self._chance.randbytes(count))

    def _take(self, octets: bytes) -> None:
        if self._boot or self.wedged:
            return
        self.asleep = False  # any edge at its input wakes it
        self._buffer += self._at_other_speed(octets)
        while (match := re.search(rb"[\r\n]+", self._buffer)) is not None:
            line = bytes(self._buffer[: match.start()])
            del self._buffer[: match.end()]
            if line:
                self._obey(line)
        if self._patience:
            self._patience.cancel()
            self._patience = None
        if len(self._buffer) > LINE_OCTETS:
            self._buffer.clear()
            self._error(FAILED)
        elif self._buffer:
            self._patience = asyncio.get_running_loop().call_later(PATIENCE_S, self._give_up)

    def _give_up(self) -> None:
        self._patience = None
        self._buffer.clear()
        self._error(NO_ENTER)

    def _error(self, code: int) -> None:
        self._say(f"+ERR={code}")

    # Commands.

    def _obey(self, line: bytes) -> None:
        line = line.split(b"\0", 1)[0]
        command, equals, value = line.partition(b"=")
        name = command.decode("ascii", "replace").upper()
        self.commands.append(name if name == "AT+SEND" else line.decode("ascii", "replace"))
        if not name.startswith("AT"):
            self._error(NO_AT)
        elif name == "AT":
            self._say("+OK")
        elif name == "AT+RESET":
            self._say("+RESET")
            self.reset()
        elif name == "AT+FACTORY":
            self.address, self.network, self.power_dbm, self.baud = 0, 0, 15, 115200
            self._air.set_power(self.number, self.power_dbm)
            self.tuning, self.password = Tuning(), ""
            self._say("+FACTORY")
        elif name.endswith("?"):
            self._show(name[3:-1])
        elif not equals:
            self._error(NO_EQUALS if name[3:] in {*self._settings(), "SEND"} else UNKNOWN)
        elif name == "AT+SEND":
            self._send(value)
        else:
            self._set(name[3:], value.decode("ascii", "replace"))

    def _settings(self) -> dict[str, str]:
        tuning = self.tuning
        width = BANDWIDTHS.index(tuning.bandwidth_hz)
        return {
            "MODE": str(int(self.asleep)),
            "IPR": str(self.baud),
            "PARAMETER": (
                f"{tuning.spreading_factor},{width},{tuning.coding_rate - 4},{tuning.preamble_symbols}"
            ),
            "BAND": str(tuning.frequency_hz),
            "ADDRESS": str(self.address),
            "NETWORKID": str(self.network),
            "CPIN": self.password or "No Password!",
            "CRFOP": str(self.power_dbm),
            "VER": "RYLR89C_V1.2.7",
            "UID": f"{self.number:024X}",
        }

    def _show(self, name: str) -> None:
        settings = self._settings()
        if name in settings:
            self._say(f"+{name}={settings[name]}")
        else:
            self._error(UNKNOWN)

    def _set(self, name: str, value: str) -> None:
        taken: bool | None
        if name == "CPIN":
            taken = re.fullmatch(r"[0-9A-Fa-f]{32}", value) is not None
            self.password = value if taken else self.password
        else:
            numbers = [int(word) for word in value.split(",") if word.isascii() and word.isdecimal()]
            taken = len(numbers) == value.count(",") + 1 and self._set_numbers(name, numbers)
        if taken is None:
            self._error(UNKNOWN)
        elif not taken:
            self._error(FAILED)
        elif name == "IPR":
            self._say(f"+IPR={value}")
            self.baud = int(value)
        else:
            self._say("+OK")

    def _set_numbers(self, name: str, numbers: list[int]) -> bool | None:
        """Whether it took a setting; None when there is none of that name."""
        match name, numbers:
            case "PARAMETER", [
                7 | 8 | 9 | 10 | 11 | 12 as factor,
                width,
                1 | 2 | 3 | 4 as rate,
                preamble,
            ] if width < len(BANDWIDTHS) and 4 <= preamble <= 7:
                self.tuning = Tuning(self.tuning.frequency_hz, factor, BANDWIDTHS[width], rate + 4, preamble)
            case "BAND", [hertz] if 862_000_000 <= hertz <= 1_020_000_000:
                self.tuning = self.tuning._replace(frequency_hz=hertz)
            case "ADDRESS", [address] if address <= 0xFFFF:
                self.address = address
            case "NETWORKID", [network] if network <= 16:
                self.network = network
            case "CRFOP", [power_dbm] if power_dbm <= 15:
                self.power_dbm = power_dbm
                self._air.set_power(self.number, power_dbm)
            case "MODE", [0 | 1 as mode]:
                self.asleep = bool(mode)
            case "IPR", [rate] if rate in RATES:
                pass  # the answer still comes at the old speed
            case _:
                return False if name in self._settings() else None
        return True

    # The air.

    def _send(self, value: bytes) -> None:
        if self.fail:
            self._error(self.fail.popleft())
            return
        if self.is_sending:
            self._error(TX_BUSY)
            return
        words = value.split(b",", 2)
        if len(words) < 3 or not (words[0].isdigit() and words[1].isdigit()) or len(words[0]) > 5:
            self._error(UNKNOWN)
            return
        address, length, data = int(words[0]), int(words[1][:4]), words[2]
        if length > MOST_OCTETS or len(data) > MOST_OCTETS:
            self._error(TOO_LONG)
        elif length != len(data) or not data or address > 0xFFFF:
            self._error(FAILED)
        else:
            self._transmit(address, data)

    def _transmit(self, address: int, data: bytes) -> None:
        header = (
            bytes((self.network, len(data)))
            + address.to_bytes(2, "big")
            + self.address.to_bytes(2, "big")
            + bytes(2)
        )
        try:
            ends_us = self._air.begin(self, header + data, self.tuning)
        except ValueError:
            self._error(FAILED)
            return
        left_s = (ends_us - self._air.now_us) / 1e6 / self._air.speed
        loop = asyncio.get_running_loop()
        if self.resets_while_sending:
            self.resets_while_sending = False
            self._sends = loop.call_later(left_s / 2, self.reset)
        else:
            self._sends = loop.call_later(max(0.0, left_s) + TURN_S, self._left)

    def _left(self) -> None:
        self._sends = None
        self._say("+OK")

    def listens_to(self, tuning: Tuning) -> bool:
        """Whether it would notice a frame sent so: awake, and on the same carrier and parameters."""
        mine = self.tuning
        return (
            not (self.asleep or self.deaf or self.wedged or self._boot)
            and self.terminal.is_open
            and (mine.frequency_hz, mine.spreading_factor, mine.bandwidth_hz)
            == (tuning.frequency_hz, tuning.spreading_factor, tuning.bandwidth_hz)
        )

    def hear(self, sent: Sent, rssi_dbm: float, snr_db: float, *, whole: bool) -> None:
        """A frame in reach has ended."""
        if not whole:
            self._error(CRC)
            return
        frame = sent.frame
        if len(frame) < HEADER_OCTETS or frame[0] != self.network:
            return
        to, sender = int.from_bytes(frame[2:4], "big"), int.from_bytes(frame[4:6], "big")
        if to not in (EVERYBODY, self.address):
            return
        data = frame[HEADER_OCTETS:]
        length, self.lie = len(data) + self.lie, 0
        quarters = max(-128, min(127, round(4 * min(snr_db, 13))))
        self._say(b"+RCV=%d,%d,%b,%d,%d" % (sender, length, data, round(rssi_dbm), quarters))
