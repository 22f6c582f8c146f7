"""A modem behind libgammu: Gammu holds the line and knows the modems, we read the octets it saw.

Gammu opens, lists, deletes and sends. Its reading of a text is not used: it ignores national shift tables,
makes U+FFFD of a surrogate pair divided between two parts, and appends uninitialised memory to a text with
extension characters; nor does it say why the network refused. So its debug transcript goes to a file in
memory, never on a disk, and PDUs, reports and error codes are taken from there.

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
OPERATION_S: Final = 30.0
"""How long Gammu may take for anything but sending; opening takes it 5 s."""
LIST_EVERY_S: Final = 10.0
"""The storage is looked at so often even if no +CMTI came: some get lost while Gammu opens the line."""
WATCH_S: Final = 0.1
PERMANENT: Final = frozenset({1, 28, 30, 304})
"""+CMS ERROR codes that no further try can change: number unassigned, unidentified or unknown, PDU refused
(3GPP TS 24.011 annex E-2, TS 27.005 §3.2.5). Barring and empty credit (8, 10, 21, 50) end with a top-up, so
they are tried again."""
LAST_REFERENCE: Final = "AT+CRSM=176,28483,0,0,2"
"""READ BINARY of EF_SMSS, whose first octet is the last TP-MR used (3GPP TS 51.011 §10.5.7)."""

_SAID = re.compile(r'^\d+ "(.*)"$', re.MULTILINE)
_LISTED = re.compile(r"\+CMGL: ?(\d+),")
_REFUSED = re.compile(r"\+CM[SE] ERROR: ?(\d+)")
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

    ``send_s`` bounds one submission: networks answer within 60 s or not at all. ``validity`` is how long the
    network keeps trying, in Gammu's words ("1D"); without one Gammu asks for 5 minutes.
    """

    def __init__(
        self, device: str, connection: str = "at115200", *, send_s: float = 90.0, validity: str = "1D"
    ) -> None:
        self._device = device
        self._connection = connection
        self._baud = int(connection.removeprefix("at") or 115200)
        self._send_s = send_s
        self._validity = validity
        self._service_centre = ""
        self._machine: Any = None
        self._line: serial.Serial | None = None
        """Our own descriptor of the line: talks before Gammu does, then only tells of a hang-up."""
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
        """Asks the modem what it sent last, then lets Gammu take the line."""
        self.close()
        try:
            self._line = serial.Serial(self._device, self._baud, timeout=0.1, write_timeout=1)
            opened = self._probe(self._line)
        except OSError as error:  # serial.SerialException is one
            raise ModemLostError(f"{self._device}: {error}") from error
        self._transcript = Transcript()
        self._machine = gammu.StateMachine()
        with _memory_file(self._gammurc(self._transcript)) as path:
            self._machine.ReadConfig(Filename=path)
        self._closed = threading.Event()
        watched = (self._machine, self._line.fileno(), self._closed)
        threading.Thread(target=self._watch, args=watched, name="modem-watchdog", daemon=True).start()
        self._call(self._machine.Init)
        self._machine.SetIncomingCallback(lambda *_: None)  # without one python-gammu crashes at +CMTI
        self._call(self._machine.SetIncomingSMS, True, bearable=(gammu.ERR_NOTSUPPORTED,))
        self._look = True
        return opened

    def _gammurc(self, transcript: Transcript) -> str:
        """SIM storage only: left alone Gammu makes the modem's own memory the place of new texts. +CNMI is
        given because Gammu 1.45 misreads the ranges a SIM800 offers."""
        return (
            f"[gammu]\ndevice={self._device}\nconnection={self._connection}\n"
            f"features=SMS_NO_ME\natgen_setcnmi=2,1,0,1,0\n"
            f"logformat=textall\nlogfile={transcript.path}\n"
        )

    def _probe(self, line: serial.Serial) -> Opened:
        """Readies a modem in any state, even with a half-given text, and asks what Gammu cannot."""
        silent_until_s = time.monotonic() + PROBE_WAIT_S
        # A plain AT first: ESC might cut off a text that is on air.
        while "OK" not in _ask(line, "AT", 1.0):
            if time.monotonic() > silent_until_s:
                raise ModemLostError(f"{self._device} is mute: no answer to AT")
            line.write(b"\x1b\r")
        if not any("READY" in said for said in _ask(line, "AT+CPIN?", 5.0)):
            raise ModemLostError("the SIM is missing or wants a PIN: insert it, or take the PIN off")
        service_centre = re.search(r'\+CSCA: ?"([^"]+)"', "\n".join(_ask(line, "AT+CSCA?", 5.0)))
        if service_centre is None:
            raise ModemLostError("the SIM names no service centre: set it once with AT+CSCA")
        self._service_centre = service_centre[1]
        details = {"smsc": self._service_centre}
        for name, command in (("model", "AT+CGMM"), ("signal", "AT+CSQ"), ("network", "AT+COPS?")):
            said = _ask(line, command, 5.0)
            if said[-1:] == ["OK"] and len(said) > 1:
                details[name] = said[0].partition(": ")[2] or said[0]
        smss = re.search(r'\+CRSM: ?144,\d+,"?([0-9A-F]{2})', "\n".join(_ask(line, LAST_REFERENCE, 5.0)))
        return Opened(int(smss[1], 16) if smss else None, details)

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
        self._hear()
        if self._look or time.monotonic() - self._listed_s > LIST_EVERY_S:
            self._look = False
            self._list()
            self._listed_s = time.monotonic()
        reports, self._reports = self._reports, []
        return [sms for location, sms in self._stored.items() if location not in in_hand], reports

    def _hear(self) -> list[str]:
        """What the modem said since the last call; what it said unasked is taken in (TS 27.005 §3.4.1)."""
        lines = self._transcript.lines() if self._transcript else []
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
        return lines

    def _list(self) -> None:
        """Has Gammu list the SIM, and reads the PDUs that it saw, even those it cannot read itself."""
        self._hear()
        unreadable = (gammu.ERR_EMPTY, gammu.ERR_CORRUPTED, gammu.ERR_UNKNOWN)
        self._call(self._machine.GetNextSMS, 0, True, bearable=unreadable)
        lines = self._hear()
        self._stored = {location: sms for location, sms in self._stored.items() if location < 0}
        for head, pdu in pairwise(lines):
            if listed := _LISTED.match(head):
                location = int(listed[1])
                if sms := self._received(location, pdu):
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
            final = message.outcome != "pending"
            delivered = message.outcome == "delivered"
            self._reports.append(
                Report(message.reference, message.recipient, delivered, final, message.status)
            )
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
        if location > 0:
            gone = (gammu.ERR_EMPTY, gammu.ERR_INVALIDLOCATION)
            self._call(self._machine.DeleteSMS, 0, location, bearable=gone)
            self._hear()

    # Sending.

    def send_part(self, part: Part) -> int:
        """Submits one segment, asks for a status report, and gives its TP-MR.

        The modem's +CMS ERROR means that the segment did not leave. Anything else that goes wrong leaves its
        fate open, and the line is given up so that the modem can be asked.
        """
        if not _NUMBER.fullmatch(part.number):
            raise SendFailedError("the recipient is no phone number", permanent=True)
        self._hear()
        refused = (gammu.ERR_UNKNOWN,)
        reference: int | None = self._call(
            self._machine.SendSMS, self._submission(part), limit_s=self._send_s, bearable=refused
        )
        said = "\n".join(self._hear())
        if code := _REFUSED.search(said):
            raise SendFailedError(code[0], permanent=int(code[1]) in PERMANENT)
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
            "SMSC": {"Location": 1, "Number": self._service_centre, "Validity": self._validity},
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


def _ask(line: serial.Serial, command: str, wait_s: float) -> list[str]:
    """Lines of a modem's answer up to its final result; without one, what came within ``wait_s``."""
    line.reset_input_buffer()
    line.write(f"{command}\r".encode())
    until_s = time.monotonic() + wait_s
    said: list[str] = []
    while time.monotonic() < until_s:
        octets = line.readline()
        if words := octets.decode("latin-1").strip():
            said.append(words)
            if words in {"OK", "ERROR"} or _REFUSED.match(words):
                break
    return [words for words in said if words != command]


@contextlib.contextmanager
def _memory_file(text: str) -> Iterator[str]:
    """Path of a file that exists in memory only, for a library that insists on files."""
    descriptor = os.memfd_create("gammurc")
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
