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
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Final, TypeVar

import gammu

from actors.sms.at_line import AtLine, restart
from actors.sms.calls import Calls
from actors.sms.modem import ModemLostError, Opened, Part, Received, Report, SendFailedError
from actors.sms.profiles import ANY, Profile
from actors.sms.readying import last_reference, ready, status
from actors.sms.receipts import REPORT, Receipts
from actors.sms.refusals import refusal
from actors.sms.sim import Pin
from actors.sms.stored import Storage
from actors.sms.ussd import ask_ussd
from actors.sms.validity import gammu_validity

T = TypeVar("T")

OPERATION_S: Final = 30.0
"""How long Gammu may take for anything but sending; opening takes it 5 s."""
LIST_EVERY_S: Final = 10.0
"""The SIM is looked at so often even if no +CMTI came: one may fall between Gammu and us."""
WATCH_S: Final = 0.1
_SAID = re.compile(r'^\d+ "(.*)"$', re.MULTILINE)
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


def speed_of(connection: str) -> int:
    """Baud of a line by Gammu's name of its connection; 115200 where it names none."""
    speed = re.search(r"\d+$", connection.removeprefix("dku2"))
    return int(speed[0]) if speed else 115200


class GammuModem:
    """Driver for `actors.sms.line`. ``device`` is a serial line, real or simulated; there is no difference.

    ``connection`` is Gammu's name: "at115200" for a UART, behind USB or not. "dku2at" sets no speed and opens
    in 0.5 s instead of 5, for lines that have none: pseudo terminals, and modems that are USB themselves.
    ``send_s`` bounds one submission: networks answer within 60 s or not at all. ``hang_up`` rejects
    calls.
    """

    def __init__(
        self,
        device: str,
        connection: str = "at115200",
        *,
        pin: Pin | None = None,
        profile: str = "",
        send_s: float = 90.0,
        hang_up: bool = True,
    ) -> None:
        self._device = device
        self._connection = connection
        self._baud = speed_of(connection)
        self._pin = pin or Pin()
        self._named = profile
        self._send_s = send_s
        self._hang_up = hang_up
        self._calls = Calls()
        self._receipts = Receipts()
        self._service_centre = ""
        self._machine: Any = None
        self._line: AtLine | None = None
        self._profile: Profile = ANY
        self._transcript: Transcript | None = None
        self._limit_s: float | None = None
        self._closed = threading.Event()
        self._storage = Storage()
        self._look = True
        self._listed_s = 0.0

    # Opening and closing.

    def open(self) -> Opened:
        """Readies the modem and asks what Gammu cannot, then lets Gammu take the line beside us."""
        self.close()
        self._line = AtLine(self._device, self._baud, lambda head, pdu: self._hear([head, pdu]), shared=True)
        opened, self._profile = ready(self._line, self._pin, self._named)
        self._receipts.begin(self._line, self._profile)
        self._service_centre = opened.details["smsc"]
        self._transcript = Transcript()
        self._machine = gammu.StateMachine()
        with _memory_file(
            f"[gammu]\ndevice={self._device}\nconnection={self._connection}\n"
            f"logformat=textall\nlogfile={self._transcript.path}\n"
        ) as path:
            self._machine.ReadConfig(Filename=path)
        self._closed = threading.Event()
        watched = (self._machine, self._line, self._closed)
        threading.Thread(target=self._watch, args=watched, name="modem-watchdog", daemon=True).start()
        self._call(self._machine.Init)
        self._look = True
        return opened

    def _bare(self) -> AtLine:
        """The line itself, for moments when Gammu is idle."""
        if self._line is None:
            raise ModemLostError(f"{self._device} is not open")
        self._line.forget()
        return self._line

    def restart(self) -> None:
        """Starts the modem's firmware anew."""
        self.close()
        restart(self._device, self._baud)

    def status(self) -> dict[str, str]:
        """Registration, operator, signal and storage as they are now."""
        return status(self._bare(), self._profile)

    def ussd(self, code: str, interrupted: Callable[[], bool]) -> str:
        """The network's answer to a code, over the bare line: what a network says Gammu need not parse."""
        return ask_ussd(self._bare(), code, interrupted)

    def move(self, device: str) -> None:
        """The modem is at another device from the next opening on."""
        self._device = device

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
        self._storage.clear()
        self._receipts.end()

    def _watch(self, machine: Any, line: AtLine, closed: threading.Event) -> None:
        """Aborts Gammu when the line hangs up or an operation takes too long."""
        while not closed.wait(WATCH_S):
            limit_s = self._limit_s
            if line.is_gone or (limit_s is not None and time.monotonic() > limit_s):
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

    def wait(self, wake: int, timeout_s: float) -> bool:
        """Until the modem says something; it is Gammu that reads it, in :meth:`poll`."""
        return self._bare().wait(wake, timeout_s)

    def poll(self, in_hand: frozenset[int]) -> tuple[list[Received], list[Report]]:
        """Hears what the modem says, and looks into its storage when there may be something new."""
        if self._line is None or self._line.is_gone:
            # Gammu reads on from a dead line without a word.
            raise ModemLostError(f"{self._device} was unplugged")
        if self._line.has_octets:  # libgammu waits 50 ms for the first one
            self._call(self._machine.ReadDevice)
        self._overheard()
        if self._look or time.monotonic() - self._listed_s > LIST_EVERY_S:
            self._look = False
            self._list()
            self._receipts.renew(self._bare())
            self._listed_s = time.monotonic()
        self._receipts.give(self._bare(), REPORT)
        if (caller := self._calls.caller()) is not None:
            self._storage.ring(caller, time.time())
            if self._hang_up and self._bare().hang_up():
                self._calls.end()
        return self._storage.offer(in_hand)

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
            elif head.startswith(("+CDS:", "+CMT:")):
                self._receipts.shown(self._storage.show(pdu))
            else:
                self._calls.hear(head, time.monotonic())

    def _list(self) -> None:
        """Reads the SIM. A modem that has marked a text as read shows it again until it is deleted."""
        answer = self._bare().ask("AT+CMGL=4")
        if answer.refusal:
            raise ModemLostError(f"{self._device} does not list its SIM: {answer.refusal}")
        self._look = self._storage.relist(answer.lines)

    def delete(self, location: int) -> None:
        """Removes one SMS from the SIM; one that was never stored is forgotten."""
        self._storage.forget(location)
        self._look = True  # the network fills a freed slot at once, and its +CMTI may get lost in our answer
        if location > 0:
            self._bare().ask(f"AT+CMGD={location}")
        else:
            self._receipts.give(self._bare(), location)

    # Sending.

    def send_part(self, part: Part) -> int:
        """Submits one segment, asks for a status report, and gives its TP-MR.

        The modem's +CMS ERROR means that the segment did not leave. Anything else that goes wrong leaves its
        fate open, and the line is given up so that the modem can be asked.
        """
        if not _NUMBER.fullmatch(part.number):
            raise SendFailedError("the recipient is no phone number", permanent=True)
        self._overheard()
        self._receipts.give(self._bare(), REPORT)  # while the text is on air the modem might wait too long
        refused = (gammu.ERR_UNKNOWN,)
        reference: int | None = self._call(
            self._machine.SendSMS, self._submission(part), limit_s=self._send_s, bearable=refused
        )
        said = self._overheard()
        failed = next(filter(None, map(refusal, said)), None)
        if reference is None and failed:
            raise SendFailedError(
                str(failed),
                permanent=failed.remedy == "never",
                last_reference=last_reference(self._bare()),
                refusal=failed,
            )
        if reference is not None and reference >= 0:
            return reference
        if taken := _TAKEN.search("\n".join(said)):
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
            "SMSC": {"Number": self._service_centre, "Validity": gammu_validity(part.validity_s)},
            "Coding": "Unicode_No_Compression" if part.encoding == "ucs2" else "Default_No_Compression",
            "Class": -1,
            "Type": "Status_Report",
        }
        if part.total > 1:
            header = bytes([5, 0, 3, part.reference, part.total, part.index])  # TS 23.040 §9.2.3.24.1
            submission["UDH"] = {"Type": "UserUDH", "Text": header}
        return submission


@contextlib.contextmanager
def _memory_file(text: str) -> Iterator[str]:
    """Path of a file that exists in memory only, for a library that insists on files."""
    descriptor = os.memfd_create("gammurc")
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
