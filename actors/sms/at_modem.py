"""A modem spoken to directly: texts are pushed by +CMTI, and nothing waits longer than the modem takes."""

import re
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from evy_core import PduError, Submit, encode_pdus

from actors.sms.at_line import ANSWER_WAIT_S, ESC, AtLine, restart
from actors.sms.calls import Calls
from actors.sms.modem import ModemLostError, Opened, Part, Received, Report, SendFailedError
from actors.sms.profiles import ANY, BOOTED, Profile
from actors.sms.readying import last_reference, ready, status
from actors.sms.receipts import REPORT, Receipts
from actors.sms.sim import Pin
from actors.sms.stored import Storage, is_whole
from actors.sms.ussd import ask_ussd
from actors.sms.validity import tp_vp

LIST_EVERY_S: Final = 10.0
"""The SIM is looked at so often even if no +CMTI came: it may have been garbled. It also shows that the modem
lives."""
UCS2: Final = 0x08
"""TP-DCS (3GPP TS 23.038 §4)."""

_PLACE: Final = re.compile(r'\+C(?:MTI|DSI): ?"(\w\w)", ?(\d+)')
_NUMBER: Final = re.compile(r"\+?[0-9]{1,20}")


class AtModem:
    """Driver for `actors.sms.line`. ``device`` is a serial line, real or simulated.

    ``answer_s`` bounds the answer to a command, ``send_s`` one submission: networks answer within 60 s or not
    at all. ``profile`` names the row of
    `profiles.py`; empty: by what it says it is. ``hang_up`` rejects calls.
    """

    def __init__(
        self,
        device: str,
        baud: int = 115200,
        *,
        pin: Pin | None = None,
        profile: str = "",
        answer_s: float = ANSWER_WAIT_S,
        send_s: float = 90.0,
        hang_up: bool = True,
    ) -> None:
        self._device = device
        self._baud = baud
        self._pin = pin or Pin()
        self._named = profile
        self._answer_s = answer_s
        self._send_s = send_s
        self._hang_up = hang_up
        self._calls = Calls()
        self._receipts = Receipts()
        self._at: AtLine | None = None
        self._profile: Profile = ANY
        self._storage = Storage()
        self._announced: list[tuple[str, int]] = []
        """Places in storage that the modem told of and nobody has looked at."""
        self._list_at_s = 0.0
        self._trouble = ""
        """Why the line must be opened again, heard between the lines."""

    @property
    def _line(self) -> AtLine:
        if self._at is None:
            raise ModemLostError(f"{self._device} is not open")
        return self._at

    # Opening and closing.

    def open(self) -> Opened:
        """Readies the modem, and asks it what it sent last."""
        self.close()
        self._at = AtLine(self._device, self._baud, self._heard, answer_s=self._answer_s)
        opened, self._profile = ready(self._at, self._pin, self._named)
        self._receipts.begin(self._at, self._profile)
        self._trouble = ""  # what a modem says while it starts is no news
        self._list_at_s = 0.0
        return opened

    def move(self, device: str) -> None:
        """The modem is at another device from the next opening on."""
        self._device = device

    def close(self) -> None:
        """Lets go of the line."""
        if self._at is not None:
            self._at.close()
            self._at = None
        self._storage.clear()
        self._receipts.end()
        self._announced.clear()

    def restart(self) -> None:
        """Starts the modem's firmware anew."""
        self.close()
        restart(self._device, self._baud)

    def status(self) -> dict[str, str]:
        """Registration, operator, signal and storage as they are now."""
        return status(self._line, self._profile)

    def ussd(self, code: str, interrupted: Callable[[], bool]) -> str:
        """The network's answer to a code."""
        return ask_ussd(self._line, code, interrupted)

    # Receiving.

    def wait(self, wake: int, timeout_s: float) -> bool:
        """Until the modem says something, or has said it already."""
        if self._announced or self._storage.has_reports or self._trouble:
            return True
        return self._line.wait(wake, timeout_s)

    def poll(self, in_hand: frozenset[int]) -> tuple[list[Received], list[Report]]:
        """Hears what the modem says and reads what it announced; now and then all that it stores."""
        line = self._line
        if line.is_gone:
            raise ModemLostError(f"{self._device} was unplugged")
        line.listen()
        if self._trouble:
            raise ModemLostError(self._trouble)
        if time.monotonic() >= self._list_at_s:
            self._announced = [(memory, n) for memory, n in self._announced if memory != "SM"]
            self._list_at_s = time.monotonic() + LIST_EVERY_S
            self._list()
            self._receipts.renew(line)
        while self._announced:
            self._fetch(*self._announced.pop(0))
        self._receipts.give(line, REPORT)
        if (caller := self._calls.caller()) is not None:
            self._storage.ring(caller, time.time())
            if self._hang_up and line.hang_up():
                self._calls.end()
        return self._storage.offer(in_hand)

    def _heard(self, line: str, pdu: str) -> None:
        """Takes in what the modem says unasked (TS 27.005 §3.4.1)."""
        if line in BOOTED:
            self._trouble = f"the modem has restarted by itself: {line}"
        elif line.startswith(("+CDS:", "+CMT:")):
            self._receipts.shown(self._storage.show(pdu))
        elif self._calls.hear(line, time.monotonic()):
            pass
        elif place := _PLACE.match(line):
            self._announced.append((place[1], int(place[2])))
        else:
            self._list_at_s = 0.0  # garbled: something is there, nobody knows where

    def _fetch(self, memory: str, location: int) -> None:
        """Reads one place in storage."""
        if memory != "SM":
            self._line.ask(f'AT+CPMS="{memory}"')
        answer = self._line.ask(f"AT+CMGR={location}")
        pdus = (
            pdu for head, pdu in pairwise(answer.lines) if head.startswith("+CMGR:") and is_whole(head, pdu)
        )
        pdu = next(pdus, None)
        if memory != "SM":
            if pdu is not None:
                self._storage.show(pdu)
            self._line.ask(f"AT+CMGD={location}")
            self._line.ask('AT+CPMS="SM","SM","SM"')
        elif pdu is None:
            self._list_at_s = 0.0  # empty, refused or garbled: the list tells, in a moment
        else:
            self._storage.take(location, pdu)

    def _list(self) -> None:
        """Reads the SIM. A modem that has marked a text as read shows it again until it is deleted."""
        answer = self._line.ask("AT+CMGL=4")
        if answer.refusal:
            if answer.refusal.remedy == "later":
                return  # SIM busy: next time
            raise ModemLostError(f"the modem does not list its SIM: {answer.refusal}")
        if self._storage.relist(answer.lines):
            self._list_at_s = 0.0

    def delete(self, location: int) -> None:
        """Removes one SMS from the SIM; one that was never stored is forgotten."""
        self._storage.forget(location)
        if location > 0:
            self._line.ask(f"AT+CMGD={location}")
        else:
            self._receipts.give(self._line, location)

    # Sending.

    def send_part(self, part: Part) -> int:
        """Submits one segment, asks for a status report, and gives its TP-MR."""
        pdu = self._submission(part)
        line = self._line
        line.listen()
        self._receipts.give(line, REPORT)  # while the text is on air the modem might wait too long for it
        # The length leaves out the service centre in front (TS 27.005 §3.1), here one octet: take the SIM's.
        command = f"AT+CMGS={len(pdu) - 1}"
        try:
            refused = line.prompt(command)
        except ModemLostError as error:
            # Without the end of the text nothing left: ESC takes back what the modem may be waiting for.
            line.write(ESC)
            line.rouse(self._answer_s)
            raise SendFailedError(
                "the modem did not ask for the text", permanent=False, last_reference=last_reference(line)
            ) from error
        if refused is None:
            line.write(pdu.hex().upper().encode() + b"\x1a")
            answer = line.answer(command, self._send_s)
            refused = answer.refusal
            if refused is None:
                told = answer.field("+CMGS:").partition(",")[0]
                reference = int(told) if told.isdecimal() else last_reference(line)
                if reference is None:
                    raise ModemLostError("the modem took a text and did not tell its reference")
                return reference
        if refused.remedy == "open_again":
            self._trouble = str(refused)
        raise SendFailedError(
            str(refused),
            permanent=refused.remedy == "never",
            last_reference=last_reference(line),
            refusal=refused,
        )

    def _submission(self, part: Part) -> bytes:
        if not _NUMBER.fullmatch(part.number):
            raise SendFailedError("the recipient is no phone number", permanent=True)
        concat = (part.reference, part.total, part.index) if part.total > 1 else None
        try:
            (pdu,) = encode_pdus(
                [
                    Submit(
                        part.number,
                        part.text,
                        validity=tp_vp(part.validity_s),
                        concat=concat,
                        coding=UCS2 if part.encoding == "ucs2" else 0,
                    )
                ]
            )
        except PduError as error:
            raise SendFailedError(f"the part is no SMS: {error}", permanent=True) from error
        return pdu
