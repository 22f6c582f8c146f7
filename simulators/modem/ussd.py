"""USSD: a client sends a code into the network, and the network answers (3GPP TS 27.007 §7.15, TS 22.090)."""

import asyncio
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from evy_core import Submit, encode_pdus, segment

if TYPE_CHECKING:
    from simulators.modem.device import Modem

Form = Literal["text", "ucs2", "packed"]
"""How modems show the network's answer: as it is, as UCS-2 or as packed septets in hexadecimal."""

GSM: Final = 15
UCS2: Final = 72
"""CBS data coding schemes (TS 23.038 §5)."""
_CODE: Final = re.compile(r'=1, ?"([^"]+)"(?:, ?\d+)?')


@dataclass
class Ussd:
    """What the network answers to each code; to any other one that it knows none."""

    answers: dict[str, str] = field(default_factory=dict)
    form: Form = "text"
    delay_s: float = 0.05

    def command(self, modem: "Modem", value: str) -> None:
        """AT+CUSD."""
        session = modem.session
        if value == "?":
            session.final("+CUSD: 1")
        elif value in {"=0", "=1", "=2"}:
            session.final()
        elif (match := _CODE.fullmatch(value)) and modem.in_network:
            code = match[1]
            if session.charset == "UCS2":
                code = bytes.fromhex(code).decode("utf-16-be")
            session.final()
            asyncio.get_running_loop().call_later(
                self.delay_s, session.say, self._said(code, session.charset)
            )
        else:
            session.final("", "ERROR")

    def _said(self, code: str, charset: str) -> str:
        text = self.answers.get(code)
        if text is None:
            return "\r\n+CUSD: 4\r\n"
        coding = GSM
        if self.form == "ucs2" or charset == "UCS2":
            text, coding = text.encode("utf-16-be").hex().upper(), UCS2
        elif self.form == "packed":
            text = packed(text).hex().upper()
        return f'\r\n+CUSD: 0,"{text}",{coding}\r\n'


def packed(text: str) -> bytes:
    """Septets of a text of at most 160 characters, seven spare bits filled with CR (TS 23.038 §6.1.2.3.1)."""
    septets = segment([text])[0].units
    (pdu,) = encode_pdus([Submit("+1", f"{text}\r" if septets % 8 == 7 else text)])
    octets = math.ceil(septets * 7 / 8)
    return pdu[-octets:]
