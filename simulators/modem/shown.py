"""How a modem shows what it has and takes what it should send: PDU and text mode (3GPP TS 27.005 §3, §4)."""

import time
from typing import Final

from evy_core import Deliver, PduError, StatusReport, Submit, decode_received, encode_pdus

REPORT: Final = 0x20
"""TP-SRR in the first octet that AT+CSMP sets."""
STATES: Final = ("REC UNREAD", "REC READ")


def tpdu_octets(pdu: bytes) -> int:
    """Length that modems state: without the SMSC address in front (TS 27.005 §3.1)."""
    return max(0, len(pdu) - 1 - pdu[0]) if pdu else 0


def is_class_0(pdu: bytes) -> bool:
    """Whether a text is shown at once and not stored (TS 23.038 §4)."""
    message = _decoded(pdu)
    return isinstance(message, Deliver) and message.message_class == 0


def _decoded(pdu: bytes) -> Deliver | StatusReport | None:
    try:
        (message,) = decode_received([pdu])
    except PduError:
        return None
    return message


def in_pdu_mode(head: str, pdu: bytes) -> str:
    """A line that ends in the length, and the PDU."""
    return f"{head}{tpdu_octets(pdu)}\r\n{pdu.hex().upper()}"


def in_text_mode(head: str, pdu: bytes, charset: str, read: bool | None = None) -> str:
    """Sender, time and text. UCS-2 that the character set cannot show comes as digits, as firmware does."""
    state = "" if read is None else f'"{STATES[read]}",'
    message = _decoded(pdu)
    if isinstance(message, StatusReport):
        number = coded(message.recipient, charset)
        times = ",".join(f'"{_time(at)}"' for at in (message.smsc_at, message.discharged_at))
        return f'{head}{state}6,{message.reference},"{number}",145,{times},{message.status}'
    if message is None:
        return f'{head}{state}"","",""\r\n'
    text = message.text or message.data.hex().upper()
    if charset != "UCS2" and message.alphabet == "ucs2":
        text = message.data.hex().upper()
    else:
        text = coded(text, charset)
    return f'{head}{state}"{coded(message.sender, charset)}","","{_time(message.smsc_at)}"\r\n{text}'


def coded(text: str, charset: str) -> str:
    """Text in the client's character set; what plain characters cannot show is a question mark."""
    if charset == "UCS2":
        return text.encode("utf-16-be", "surrogatepass").hex().upper()
    return text.encode("ascii", "replace").decode()


def _time(at: float | None) -> str:
    return time.strftime("%y/%m/%d,%H:%M:%S+00", time.gmtime(at or 0))


def typed(number: str, text: str, charset: str, first_octet: int) -> bytes:
    """PDU of a text that a client gave in text mode. Raises ValueError (PduError too) when it is none."""
    if charset == "UCS2":
        number = bytes.fromhex(number).decode("utf-16-be")
        text = bytes.fromhex(text).decode("utf-16-be")
    (pdu,) = encode_pdus([Submit(number, text, report=bool(first_octet & REPORT))])
    return pdu
