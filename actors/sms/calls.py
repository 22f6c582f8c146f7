"""Incoming calls, from what a modem says unasked: RING, +CRING and +CLIP (3GPP TS 27.007 §6.11, §7.6)."""

import re
from typing import Final

RINGS: Final = ("RING", "+CRING:")
CALLER: Final = '+CLIP: "'
"""As it is said unasked; the answer to AT+CLIP? begins with a number."""
ENDED: Final = "NO CARRIER"
SAID: Final = (*RINGS, CALLER, ENDED)
"""What the lines about a call begin with."""

RINGS_TILL_HIDDEN: Final = 2
"""The caller's number comes with the first ring or the second; a caller without one has hidden it."""
SILENCE_S: Final = 12.0
"""A modem rings every 3 to 6 s; after such a silence the next ring is another call."""

HANG_UP: Final = ("AT+CHUP", "ATH")
"""Commands that reject a call, tried in turn: TS 27.007 §6.5, V.250 §6.3.6."""

_NUMBER: Final = re.compile(r'\+CLIP: "(\+?[0-9]*)", ?(\d+)')
INTERNATIONAL: Final = 145


class Calls:
    """One call after another, each told once."""

    def __init__(self) -> None:
        self._rings = 0
        self._number: str | None = None
        self._told = False
        self._heard_s = 0.0

    def hear(self, line: str, now_s: float) -> bool:
        """Takes in a line; False when it is not about a call."""
        if not line.startswith(SAID):
            return False
        if line.startswith(ENDED) or now_s - self._heard_s > SILENCE_S:
            self.end()
        self._heard_s = now_s
        if line.startswith(RINGS):
            self._rings += 1
        elif caller := _NUMBER.match(line):
            number, kind = caller[1], int(caller[2])
            self._number = f"+{number}" if kind == INTERNATIONAL and number[:1].isdigit() else number
        return True

    def end(self) -> None:
        """The call is over: the next ring is another one."""
        self._rings, self._number, self._told = 0, None, False

    def caller(self) -> str | None:
        """Number of a call that has begun, empty when it is hidden; None when there is none to tell of."""
        known = self._number is not None or self._rings >= RINGS_TILL_HIDDEN
        if self._told or not known:
            return None
        self._told = True
        return self._number or ""
