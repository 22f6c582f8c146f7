"""What a received SMS is, and what becomes of each kind: docs/architecture.md has it in words («Reception»).

Who may write to us is anybody, and much of what comes was written by no person: the operator's data for the
SIM, pictures' notifications, hints at voice mail. A machine is never answered, a person always.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from evy_core import Deliver

Kind = Literal[
    "text", "unreadable", "silent", "waiting", "voice_mail", "picture", "push", "data", "sim_data", "call"
]


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a kind that is no text. Each is an event; ``reason`` says why it was not read.

    ``kept`` as a dead letter, for a person to look at; ``told`` means that intake tells the sender, now and
    then, that only texts are read.
    """

    reason: str
    kept: bool = False
    told: bool = False


FATES: Final[Mapping[Kind, Fate]] = {
    "unreadable": Fate("no PDU of the standard", kept=True),
    "silent": Fate("type 0: nobody may see or answer it (TS 23.040 §9.2.3.9)"),
    "waiting": Fate("a hint at waiting voice mail, to be discarded (TS 23.038 §4)"),
    "voice_mail": Fate("a hint at waiting voice mail, to be stored (TS 23.038 §4)", kept=True),
    "picture": Fate("an MMS notification: pictures cannot be read", kept=True, told=True),
    "push": Fate("a WAP push that is no picture: a machine wrote it", kept=True),
    "data": Fate("data for a program, not a text", kept=True, told=True),
    "sim_data": Fate("data for the SIM or the modem (TS 23.040 §9.2.3.9)", kept=True),
    "call": Fate("a call", told=True),
}
"""Every kind but "text", which goes to ``sms.in`` and is answered."""

TYPE_0: Final = 0x40
RETURN_CALL: Final = 0x5F
FIRST_DEVICE_PID: Final = 0x7C
LAST_DEVICE_PID: Final = 0x7F
"""ANSI-136 R-DATA, ME data download, ME de-personalization, (U)SIM data download: TP-PID 0x7C to 0x7F. The
types 0x41 to 0x47, which replace an earlier text on a phone, are texts: the earlier one was answered."""

DISCARD_WAITING: Final = 0xC
STORE_WAITING: Final = frozenset({0xD, 0xE})
"""Message waiting groups of TP-DCS (TS 23.038 §4): upper four bits."""

SPECIAL_INDICATION: Final = 0x01
"""Element of the header that says what waits; its highest bit asks to store (TS 23.040 §9.2.3.24.2)."""
ENHANCED_VOICE_MAIL: Final = 0x23
PORTS_8: Final = 0x04
PORTS_16: Final = 0x05
WAP_PUSH: Final = 2948
"""Registered port of connectionless push (IANA); MMS notifications come there."""

_NOTIFICATION: Final = b"\x8c\x82"
"""X-Mms-Message-Type: m-notification-ind (OMA-TS-MMS_ENC §7.3.30)."""
_FROM: Final = re.compile(rb"\x89.{1,3}\x80(?:[\x00-\x1e].)?(\+?[0-9]{3,15})/TYPE=PLMN\x00", re.DOTALL)
"""From: an address in the encapsulation of a notification (OMA-TS-MMS_ENC §7.3.16, §8)."""


_DIGITS: Final = re.compile(r"[+0-9 ]+").fullmatch


def kind_of(message: Deliver) -> Kind:
    """Kind of a message that could be decoded: what TP-PID, TP-DCS and the header say, in this order."""
    if message.protocol == TYPE_0:
        return "silent"
    if FIRST_DEVICE_PID <= message.protocol <= LAST_DEVICE_PID:
        return "sim_data"
    if waiting := _waiting(message):
        return waiting
    port = destination_port(message)
    if port == WAP_PUSH:
        return "picture" if _NOTIFICATION in message.data else "push"
    if port is not None or message.text is None:
        return "data"
    return "text"


def _waiting(message: Deliver) -> Literal["waiting", "voice_mail"] | None:
    """Whether it says that voice mail, a fax or an e-mail waits; to be stored if anything in it says so."""
    group = message.coding >> 4
    elements = [value for element, value in message.header if element == SPECIAL_INDICATION and value]
    enhanced = any(element == ENHANCED_VOICE_MAIL for element, _ in message.header)
    if group in STORE_WAITING or any(value[0] & 0x80 for value in elements):
        return "voice_mail"
    if group == DISCARD_WAITING or elements or enhanced or message.protocol == RETURN_CALL:
        return "waiting"
    return None


def destination_port(message: Deliver) -> int | None:
    """Port of the program it is for (TS 23.040 §9.2.3.24.3 and .4); None for people."""
    for element, value in reversed(message.header):
        if element == PORTS_16 and len(value) == 4:
            return int.from_bytes(value[:2], "big")
        if element == PORTS_8 and len(value) == 2:
            return value[0]
    return None


def writer(message: Deliver, kind: Kind) -> str:
    """Who wrote it: of a picture not the machine that announces it, but the phone it names, if it does.

    A name of digits stands in quotation marks: a bulk sender chose it, and it must not be answered as if that
    number had written (TS 23.040 §9.1.2.5, type of number 101).
    """
    if kind != "picture":
        return f'"{message.sender}"' if message.sender_is_name and _DIGITS(message.sender) else message.sender
    found = _FROM.search(message.data)
    return found[1].decode() if found else ""
