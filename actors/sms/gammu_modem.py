"""A modem behind libgammu: Gammu readies the modem and sends; what anybody may send us it never reads.

Received octets come from strangers, and libgammu 1.45 is not to be trusted with them: an empty PDU in the
listing is a segmentation fault, an unreadable one ends the listing for good, extension characters bring
uninitialised memory into the text, and it ignores national shift tables. So the SIM is listed and cleared
over the bare line while Gammu is idle, and read by our codec; one thread does both, in turn. What the modem
says while Gammu holds the line, and why the network refused, stands in Gammu's debug transcript, which goes
to a file in memory, never on a disk.

A vanished modem makes Gammu wait for up to 100 s. A watchdog aborts it; it touches nothing but the
descriptor that tells of a hang-up.
"""

import contextlib
import os
import re
import select
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Final, TypeVar

import gammu
import serial
from evy_core import PduError, StatusReport, decode_received

from actors.sms.modem import Concat, ModemLostError, Opened, Part, Received, Report, SendFailedError

T = TypeVar("T")

PROBE_WAIT_S: Final = 20.0
"""How long a modem may stay silent before it is given up; it is deaf while a text is on air."""
ANSWER_WAIT_S: Final = 10.0
"""How long one answer may take; a full SIM is listed within 2 s."""
OPERATION_S: Final = 30.0
"""How long Gammu may take for anything but sending; opening takes it 5 s."""
LIST_EVERY_S: Final = 10.0
"""The SIM is looked at so often even if no +CMTI came: one may fall between Gammu and us."""
WATCH_S: Final = 0.1
PERMANENT: Final = frozenset({1, 28, 30, 304})
"""+CMS ERROR codes that no further try can change: number unassigned, unidentified or unknown, PDU refused
(3GPP TS 24.011 annex E-2, TS 27.005 §3.2.5). Barring and empty credit (8, 10, 21, 50) end with a top-up, so
they are tried again."""

LAST_REFERENCE: Final = "AT+CRSM=176,28483,0,0,2"
"""READ BINARY of EF_SMSS, whose first octet is the last TP-MR used (3GPP TS 51.011 §10.5.7)."""
SETTINGS: Final = ("AT+CMGF=0", 'AT+CPMS="SM","SM","SM"', "AT+CNMI=2,1,0,1,0")
"""PDU mode, texts to the SIM, texts and status reports announced (3GPP TS 27.005 §3)."""

_SAID = re.compile(r'^\d+ "(.*)"$', re.MULTILINE)
_LISTED = re.compile(r"\+CMGL: ?(\d+),")
_FAILED = re.compile(r"(?:\+CM[SE] )?ERROR(?:: ?(\d+))?$", re.MULTILINE)
_TAKEN = re.compile(r"\+CMGS: ?(\d+)")
_NUMBER = re.compile(r"\+?[0-9]{1,20}")


class Transcript:
    """What the modem says to Gammu, line by line, from Gammu's debug output in a file in memory."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("gammu")
        self._read_to = 0

    @property
    def path(self) -> str:
        """Where Gammu writes."""
        return f"/proc/self/fd/{self._descriptor}"

    def lines(self) -> list[str]:
        """Lines the modem said since the last call; their memory is given back."""
        end = os.fstat(self._descriptor).st_size
        if end <= self._read_to:
            return []
        octets = os.pread(self._descriptor, end - self._read_to, self._read_to)
        self._read_to = end
        # Gammu goes on writing at its own offset: the file grows a hole, not memory.
        os.truncate(self._descriptor, 0)
        return _SAID.findall(octets.decode("latin-1"))

    def close(self) -> None:
        """Frees the memory."""
        os.close(self._descriptor)


class GammuModem:
    """Driver for `actors.sms.line`. ``device`` is a serial line, real or simulated; there is no difference.

    ``connection`` is Gammu's name: "at115200" for a UART, behind USB or not. "dku2at" sets no speed and opens
    in 0.5 s instead of 5, for lines that have none: pseudo terminals, and modems that are USB themselves.
    ``send_s`` bounds one submission: networks answer within 60 s or not at all. ``validity`` is how long the
    network keeps trying, in Gammu's words ("1D"); without one Gammu asks for 5 minutes.
    """

    def __init__(
        self, device: str, connection: str = "at115200", *, send_s: float = 90.0, validity: str = "1D"
    ) -> None:
        self._device = device
        self._connection = connection
        speed = re.search(r"\d+$", connection.removeprefix("dku2"))
        self._baud = int(speed[0]) if speed else 115200
        self._send_s = send_s
        self._validity = validity
        self._service_centre = ""
        self._machine: Any = None
        self._line: serial.Serial | None = None
        self._transcript: Transcript | None = None
        self._limit_s: float | None = None
        self._closed = threading.Event()
        self._stored: dict[int, Received] = {}
        """What is on the SIM, by location; below 0 what the modem showed without storing it."""
        self._reports: list[Report] = []
        self._look = True
        self._listed_s = 0.0
        self._unstored = 0

    # Opening and closing.

    def open(self) -> Opened:
        """Asks the modem what it sent last, then lets Gammu take the line beside us."""
        self.close()
        try:
            self._line = serial.Serial(self._device, self._baud, timeout=0.1, write_timeout=1)
        except OSError as error:  # serial.SerialException is one
            raise ModemLostError(f"{self._device}: {error}") from error
        opened = self._probe()
        self._transcript = Transcript()
        self._machine = gammu.StateMachine()
        with _memory_file(
            f"[gammu]\ndevice={self._device}\nconnection={self._connection}\n"
            f"logformat=textall\nlogfile={self._transcript.path}\n"
        ) as path:
            self._machine.ReadConfig(Filename=path)
        self._closed = threading.Event()
        watched = (self._machine, self._line.fileno(), self._closed)
        threading.Thread(target=self._watch, args=watched, name="modem-watchdog", daemon=True).start()
        self._call(self._machine.Init)
        self._look = True
        return opened

    def _probe(self) -> Opened:
        """Readies a modem in any state, even with a half-given text, and asks what Gammu cannot."""
        silent_until_s = time.monotonic() + PROBE_WAIT_S
        # A plain AT first: ESC might cut off a text that is on air.
        while "OK" not in self._exchange("AT", 1.0):
            if time.monotonic() > silent_until_s:
                raise ModemLostError(f"{self._device} is mute: no answer to AT")
            self._exchange("\x1b", 0.2)
        if not any("READY" in line for line in self._exchange("AT+CPIN?")):
            raise ModemLostError("the SIM is missing or wants a PIN: insert it, or take the PIN off")
        for setting in SETTINGS:
            if "OK" not in self._exchange(setting):
                raise ModemLostError(f"{self._device} refuses {setting}")
        service_centre = re.search(r'\+CSCA: ?"([^"]+)"', "\n".join(self._exchange("AT+CSCA?")))
        if service_centre is None:
            raise ModemLostError("the SIM names no service centre: set it once with AT+CSCA")
        self._service_centre = service_centre[1]
        details = {"smsc": self._service_centre}
        for name, command in (("model", "AT+CGMM"), ("signal", "AT+CSQ"), ("network", "AT+COPS?")):
            answer = self._exchange(command)
            if "OK" in answer[1:]:
                details[name] = answer[0].partition(": ")[2] or answer[0]
        return Opened(self._last_reference(), details)

    def _last_reference(self) -> int | None:
        answer = "\n".join(self._exchange(LAST_REFERENCE))
        smss = re.search(r'\+CRSM: ?144,\d+,"?([0-9A-F]{2})', answer)
        return int(smss[1], 16) if smss else None

    def _exchange(self, command: str, wait_s: float = ANSWER_WAIT_S) -> list[str]:
        """Lines of the modem's answer to a command over the bare line; without an end what came in time.

        Only for moments when Gammu is idle. Raises :class:`ModemLostError` when the line is gone.
        """
        if self._line is None:
            raise ModemLostError(f"{self._device} is not open")
        said: list[str] = []
        ended = False
        until_s = time.monotonic() + wait_s
        try:
            self._line.write(f"{command}\r".encode())
            while time.monotonic() < until_s:
                if words := self._line.read_until(b"\n", 2048).decode("latin-1").strip():
                    said.append(words)
                    ended = ended or words == "OK" or _FAILED.fullmatch(words) is not None
                # What follows the end was said unasked.
                if ended and not self._line.in_waiting:
                    break
        except OSError as error:
            raise ModemLostError(f"{self._device}: {error}") from error
        self._hear(said)
        return [words for words in said if words != command]

    def close(self) -> None:
        """Lets go of the line, at once even when the modem is gone."""
        self._closed.set()
        machine, self._machine = self._machine, None
        if machine is not None:
            machine.Abort()  # Terminate waits for a dead line otherwise
            with contextlib.suppress(gammu.GSMError):
                machine.Terminate()
        if self._line is not None:
            self._line.close()
            self._line = None
        if self._transcript is not None:
            self._transcript.close()
            self._transcript = None
        self._stored.clear()
        self._reports.clear()

    def _watch(self, machine: Any, descriptor: int, closed: threading.Event) -> None:
        """Aborts Gammu when the line hangs up or an operation takes too long."""
        while not closed.wait(WATCH_S):
            limit_s = self._limit_s
            if _hung_up(descriptor) or (limit_s is not None and time.monotonic() > limit_s):
                machine.Abort()
                return

    def _call(
        self,
        operation: Callable[..., T],
        *arguments: Any,
        limit_s: float = OPERATION_S,
        bearable: tuple[type[Exception], ...] = (),
    ) -> T | None:
        """One Gammu operation under the watchdog's limit; None after a ``bearable`` error.

        Raises :class:`ModemLostError` for any other: what Gammu cannot do on a line, nobody can.
        """
        self._limit_s = time.monotonic() + limit_s
        try:
            return operation(*arguments)
        except bearable:
            return None
        except gammu.GSMError as error:
            details = error.args[0]
            raise ModemLostError(f"Gammu, {details['Where']}: {details['Text']}") from error
        finally:
            self._limit_s = None

    # Receiving.

    def poll(self, in_hand: frozenset[int]) -> tuple[list[Received], list[Report]]:
        """Hears what the modem says, and looks into its storage when there may be something new."""
        if self._line is None or _hung_up(self._line.fileno()):
            # Gammu reads on from a dead line without a word.
            raise ModemLostError(f"{self._device} was unplugged")
        self._call(self._machine.ReadDevice)
        self._overheard()
        if self._look or time.monotonic() - self._listed_s > LIST_EVERY_S:
            self._look = False
            self._list()
            self._listed_s = time.monotonic()
        reports, self._reports = self._reports, []
        return [sms for location, sms in self._stored.items() if location not in in_hand], reports

    def _overheard(self) -> list[str]:
        """What the modem said to Gammu since the last call."""
        lines = self._transcript.lines() if self._transcript else []
        self._hear(lines)
        return lines

    def _hear(self, lines: list[str]) -> None:
        """Takes in what the modem says unasked (TS 27.005 §3.4.1)."""
        for head, pdu in pairwise([*lines, ""]):
            if head.startswith(("+CMTI:", "+CDSI:")):
                self._look = True
            elif head.startswith("+CDS:"):
                self._received(0, pdu)
            elif head.startswith("+CMT:"):
                # Class 0: shown once and not stored, so this is the only copy.
                self._unstored -= 1
                if sms := self._received(self._unstored, pdu):
                    self._stored[self._unstored] = sms

    def _list(self) -> None:
        """Reads the SIM. A modem that has marked a text as read shows it again until it is deleted."""
        lines = self._exchange("AT+CMGL=4")
        if "OK" not in lines:
            raise ModemLostError(
                f"{self._device} does not list its SIM: {' '.join(lines[-1:]) or 'no answer'}"
            )
        self._stored = {location: sms for location, sms in self._stored.items() if location < 0}
        for head, pdu in pairwise(lines):
            if listed := _LISTED.match(head):
                location = int(listed[1])
                # A slot without octets shows the next entry, or the end, in their place.
                sms = self._received(location, "" if _LISTED.match(pdu) or pdu == "OK" else pdu)
                if sms:
                    self._stored[location] = sms
                else:
                    self.delete(location)

    def _received(self, location: int, pdu: str) -> Received | None:
        """One SMS from its PDU in hexadecimal; None when it is a status report, which is taken in."""
        try:
            raw = bytes.fromhex(pdu)
            (message,) = decode_received([raw])
        except PduError as error:
            return Received(location, raw=raw, error=str(error))
        except ValueError:
            return Received(location, raw=pdu.encode(), error="the PDU is not hexadecimal")
        if isinstance(message, StatusReport):
            delivered, final = message.outcome == "delivered", message.outcome != "pending"
            report = Report(message.reference, message.recipient, delivered, final, message.status)
            self._reports.append(report)
            return None
        text = message.text
        if text is None:
            return Received(location, message.sender, raw=raw, error="8-bit data, not a text")
        if message.alphabet == "ucs2":
            text = message.data[: len(message.data) & ~1].decode("utf-16-be", "surrogatepass")
        concat = Concat(*message.concat) if message.concat else None
        return Received(location, message.sender, text, message.smsc_at, concat, raw)

    def delete(self, location: int) -> None:
        """Removes one SMS from the SIM; one that was never stored is forgotten."""
        self._stored.pop(location, None)
        self._look = True  # the network fills a freed slot at once, and its +CMTI may get lost in our answer
        if location > 0 and not self._exchange(f"AT+CMGD={location}"):
            raise ModemLostError(f"{self._device} does not answer")

    # Sending.

    def send_part(self, part: Part) -> int:
        """Submits one segment, asks for a status report, and gives its TP-MR.

        The modem's +CMS ERROR means that the segment did not leave. Anything else that goes wrong leaves its
        fate open, and the line is given up so that the modem can be asked.
        """
        if not _NUMBER.fullmatch(part.number):
            raise SendFailedError("the recipient is no phone number", permanent=True)
        self._overheard()
        refused = (gammu.ERR_UNKNOWN,)
        reference: int | None = self._call(
            self._machine.SendSMS, self._submission(part), limit_s=self._send_s, bearable=refused
        )
        said = "\n".join(self._overheard())
        if reference is None and (failed := _FAILED.search(said)):
            permanent = failed[1] is not None and int(failed[1]) in PERMANENT
            raise SendFailedError(failed[0], permanent=permanent, last_reference=self._last_reference())
        if reference is not None and reference >= 0:
            return reference
        if taken := _TAKEN.search(said):
            return int(taken[1])
        raise ModemLostError("Gammu, SendSMS: neither a reference nor a refusal")

    def _submission(self, part: Part) -> dict[str, Any]:
        """Gammu's description of a segment."""
        text = part.text
        if part.encoding == "ucs2":
            # Gammu sends these as U+0001 and as the end of the text, for phones of the 1990s.
            text = text.replace("~", "∼").replace("\0", " ")
        submission: dict[str, Any] = {
            "Number": part.number,
            "Text": text,
            # With a location Gammu would take the SIM's entry, and the longest validity there is.
            "SMSC": {"Number": self._service_centre, "Validity": self._validity},
            "Coding": "Unicode_No_Compression" if part.encoding == "ucs2" else "Default_No_Compression",
            "Class": -1,
            "Type": "Status_Report",
        }
        if part.total > 1:
            header = bytes([5, 0, 3, part.reference, part.total, part.index])  # TS 23.040 §9.2.3.24.1
            submission["UDH"] = {"Type": "UserUDH", "Text": header}
        return submission


def _hung_up(descriptor: int) -> bool:
    line = select.poll()
    line.register(descriptor, 0)  # POLLHUP and POLLERR come unasked
    return bool(line.poll(0))


@contextlib.contextmanager
def _memory_file(text: str) -> Iterator[str]:
    """Path of a file that exists in memory only, for a library that insists on files."""
    descriptor = os.memfd_create("gammurc")
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
