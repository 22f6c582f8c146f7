"""What a modem's refusal means: 3GPP TS 27.005 §3.2.5 (+CMS ERROR) and TS 27.007 §9.2 (+CME ERROR).

A refused submission did not leave. One exception is lived with: 332 says that the network did not answer in
time, and now and then it has the text all the same. It is tried again: a person who gets an answer twice is
better off than one who gets none.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

Remedy = Literal["later", "never", "open_again"]
"""Try again later; give the part up; open the modem again, because it is not the text that is wrong."""

Scope = Literal["outage", "rate", "recipient", "text"]
"""Whom a refusal concerns: every text until the network or modem is well again; every text, because there
were too many; perhaps only this recipient (barred, no credit for that country); this text alone."""

FINAL: Final = re.compile(r"(?:\+CM([SE]) )?ERROR(?:: ?(\w.*))?")
"""A refusal as a whole line; "ERROR" alone says nothing, and words instead of a number no more than that."""

WORDS: Final = {
    "S1": "number unassigned",
    "S8": "barred by the operator",
    "S10": "call barred",
    "S21": "refused: often no credit left",
    "S27": "the phone is out of order",
    "S28": "number unidentified",
    "S30": "subscriber unknown",
    "S38": "network out of order",
    "S41": "temporary failure",
    "S42": "congestion",
    "S47": "resources unavailable",
    "S50": "service not subscribed: often no credit left",
    "S69": "service not implemented",
    "S208": "storage on the SIM is full",
    "S302": "operation not allowed",
    "S304": "PDU refused",
    "S310": "no SIM",
    "S311": "the SIM wants a PIN",
    "S313": "SIM failure",
    "S314": "SIM busy",
    "S315": "wrong SIM",
    "S316": "the SIM wants its PUK",
    "S322": "memory full",
    "S330": "service centre unknown",
    "S331": "no network",
    "S332": "the network did not answer in time",
    "S500": "unknown error",
    "S512": "the modem is busy",
    "S515": "the modem is starting",
    "E3": "operation not allowed",
    "E4": "operation not supported",
    "E10": "no SIM",
    "E11": "the SIM wants a PIN",
    "E12": "the SIM wants its PUK",
    "E13": "SIM failure",
    "E14": "SIM busy",
    "E15": "wrong SIM",
    "E16": "wrong PIN",
    "E30": "no network",
    "E31": "the network did not answer in time",
    "E32": "emergency calls only",
}
"""Codes with S for +CMS and E for +CME. RP causes 1 to 127 are those of TS 24.011 annex E-2."""

_NEVER: Final = frozenset({"S1", "S28", "S30", "S304"})
"""Number unassigned, unidentified or unknown, PDU refused. Barring and empty credit (S8, S10, S21, S50) end
with a top-up, so they are tried again."""
_OUTAGE: Final = frozenset({"S38", "S41", "S314", "S331", "S332", "S500", "S512", "S515", ""})
"""The network or the modem is not able to, whoever the text is for."""
_TOO_MANY: Final = frozenset({"S42", "S47"})
"""Congestion: what carriers say to a SIM that sends too much, and to everybody when a cell is crowded."""
_NO_CREDIT: Final = frozenset({"S8", "S10", "S21", "S50"})
_OPEN_AGAIN: Final = frozenset({"S310", "S311", "S313", "S315", "S316", "E10", "E11", "E12", "E13", "E15"})
"""The SIM is gone, locked or broken."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A final result that is not OK."""

    result: str
    remedy: Remedy

    @property
    def scope(self) -> Scope:
        """Whom it concerns."""
        code = _code(self.result)
        if self.remedy == "never":
            return "text"
        if code in _OUTAGE or self.remedy == "open_again":
            return "outage"
        return "rate" if code in _TOO_MANY else "recipient"

    @property
    def is_about_credit(self) -> bool:
        """Whether an empty prepaid card is refused like this."""
        return _code(self.result) in _NO_CREDIT

    def __str__(self) -> str:
        """The modem's line, and what it means if we know."""
        words = WORDS.get(_code(self.result))
        return f"{self.result} ({words})" if words else self.result


def refusal(line: str) -> Refusal | None:
    """The refusal a line is, None for any other line."""
    if FINAL.fullmatch(line) is None:
        return None
    code = _code(line)
    return Refusal(line, "never" if code in _NEVER else "open_again" if code in _OPEN_AGAIN else "later")


def _code(line: str) -> str:
    match = FINAL.fullmatch(line)
    return f"{match[1]}{match[2]}" if match and match[1] and match[2] else ""
