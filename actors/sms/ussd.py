"""USSD: a code such as *100# goes to the network, its answer comes back as text (3GPP TS 27.007 §7.15)."""

import re
import time
from collections.abc import Callable
from typing import Final

from evy_core import Deliver, PduError, decode_received

from actors.sms.at_line import AtLine
from actors.sms.modem import UssdError

ANSWER_S: Final = 20.0
"""Networks answer within 3 to 10 s."""
LOOK_S: Final = 0.2
"""How often the wait for the network looks whether something more important has come up."""
MAX_LINES: Final = 64
"""An answer has at most 182 characters; whatever goes on is none."""

_SAID: Final = re.compile(r'\+CUSD: ?(\d)(?:, ?"(.*)"(?:, ?(\d+))?)?', re.DOTALL)
_BEGUN: Final = re.compile(r'\+CUSD: ?\d, ?".*', re.DOTALL)
_ACTION: Final = 1
"""The network waits for a choice from a menu; none is made."""
_WITHOUT_ANSWER: Final = {
    2: "the network ended it",
    3: "another client answered",
    4: "not supported",
    5: "time-out",
}
_CHUNK_OCTETS: Final = 140
"""160 septets exactly, as many as one SMS holds."""
_PACKED_AT_LEAST: Final = 12
"""Shorter strings of digits are a text, such as a balance without a word around it."""


def ask_ussd(line: AtLine, code: str, interrupted: Callable[[], bool]) -> str:
    """The network's answer to a code. Raises :class:`UssdError` when there is none, or ``interrupted``."""
    charset = line.ask("AT+CSCS?").field("+CSCS:").strip('" ')
    given = code.encode("utf-16-be").hex().upper() if charset == "UCS2" else code
    answer = line.ask(f'AT+CUSD=1,"{given}",15')
    if answer.refusal:
        raise UssdError(f"{code}: {answer.refusal}")
    lines, until_s = answer.lines, time.monotonic() + ANSWER_S
    while (said := _said(lines)) is None:
        if interrupted() or time.monotonic() > until_s or len(lines) > MAX_LINES:
            line.ask("AT+CUSD=2")
            raise UssdError(f"{code}: {'interrupted by a text' if interrupted() else 'no answer'}")
        if (more := line.next(time.monotonic() + LOOK_S)) is not None:
            lines.append(more)
    action, text, coding = said
    if action == _ACTION:
        line.ask("AT+CUSD=2")
    if not text:
        raise UssdError(f"{code}: {_WITHOUT_ANSWER.get(action, 'an empty answer')}")
    return decoded(text, coding, charset)


def _said(lines: list[str]) -> tuple[int, str, int] | None:
    """What the network said once it is whole; its text may have several lines."""
    for number, line in enumerate(lines):
        if line.startswith("+CUSD:"):
            whole = "\n".join(lines[number:])
            if match := _SAID.fullmatch(whole):
                return int(match[1]), match[2] or "", int(match[3] or 15)
            if not _BEGUN.match(whole):
                raise UssdError(f"the modem garbled the answer: {line[:40]!r}")
            return None
    return None


def decoded(text: str, coding: int, charset: str) -> str:
    """The words of an answer: plain, UCS-2 or packed septets in hexadecimal, as modems differ.

    ``coding`` is the CBS data coding scheme (TS 23.038 §5), ``charset`` what AT+CSCS said.
    """
    try:
        octets = bytes.fromhex(text)
    except ValueError:
        return _tidy(text)
    if (coding & 0xC0 == 0x40 and coding & 0x0C == 0x08) or charset == "UCS2":
        return _tidy(octets[: len(octets) & ~1].decode("utf-16-be", "replace"))
    if len(text) < _PACKED_AT_LEAST:
        return _tidy(text)
    return _tidy(
        "".join(_unpacked(octets[n : n + _CHUNK_OCTETS]) for n in range(0, len(octets), _CHUNK_OCTETS))
    )


def _unpacked(octets: bytes) -> str:
    """Text of packed septets (TS 23.038 §6.1.2.3), by way of an SMS that holds them."""
    septets = len(octets) * 8 // 7
    head = bytes.fromhex("000404811032000052110221436500")  # no SMSC, from 0123, GSM 7-bit, some day
    try:
        (message,) = decode_received([head + bytes([septets]) + octets])
    except PduError:
        return ""
    text = (message.text or "") if isinstance(message, Deliver) else ""
    # Seven spare bits are filled with CR, or with zeros, which read as «@».
    return text[:-1] if len(octets) % 7 == 0 and text[-1:] in {"\r", "@"} else text


def _tidy(text: str) -> str:
    return " ".join(text.split())
