"""Receipts for what a modem shows and does not store: class 0 and status reports (3GPP TS 27.005 §3.4.4).

A modem of phase 2+ (AT+CSMS=1) tells the network that a shown message arrived only when the client says so
(AT+CNMA). Until then the network has it: a crash in between costs nothing, it comes again. A modem that waits
in vain stops showing anything, so what it shall announce is asked for again and again.
"""

from typing import Final

from actors.sms.at_line import AtLine
from actors.sms.profiles import Profile

PHASE_2_PLUS: Final = "AT+CSMS=1"
PHASE_2: Final = "AT+CSMS=0"
RECEIPT: Final = "AT+CNMA"
TOO_LATE: Final = "+CMS ERROR: 340"
"""No acknowledgement is expected: the modem has waited long enough, and the network will send again."""

REPORT: Final = 0
"""Stands for a shown status report, where a shown text has its location below 0."""


class Receipts:
    """What one modem waits for: a message at a time, since it shows the next one only after the receipt."""

    def __init__(self) -> None:
        self._profile: Profile | None = None
        self._owed: int | None = None

    def begin(self, line: AtLine, profile: Profile) -> None:
        """Asks a modem that has just been opened for phase 2+; one that cannot confirms all by itself."""
        self._profile = profile if line.ask(PHASE_2_PLUS).ok else None

    def end(self) -> None:
        """The line is closed."""
        self._profile = self._owed = None

    def shown(self, location: int | None) -> None:
        """Something was shown and is at this location now; None when it was not kept, and gets no receipt."""
        self._owed = location

    def give(self, line: AtLine, location: int) -> None:
        """What was shown at this location is safe, or as safe as it gets."""
        if self._profile is None or location != self._owed:
            return
        self._owed = None
        refused = line.ask(RECEIPT).refusal
        if refused and refused.result != TOO_LATE:
            # It shows and takes no receipts: better none at all than a modem that has stopped to show.
            line.ask(PHASE_2)
            line.ask(self._profile.announcing)
            self._profile = None
        elif refused:
            self.renew(line)

    def renew(self, line: AtLine) -> None:
        """Asks again for announcements, which a modem ends that got no receipt in time."""
        if self._profile is not None:
            line.ask(self._profile.announcing)
