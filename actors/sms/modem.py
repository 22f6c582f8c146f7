"""The boundary between EVY and a modem: small, blocking, the same for every driver.

All methods are called from one thread, see `actors.sms.line`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from actors.sms.kinds import Kind
from actors.sms.refusals import Refusal
from subjects.errors import EvyError


class ModemLostError(EvyError):
    """The line is gone or mute. What was being sent may or may not have left."""


class UssdError(EvyError):
    """The network did not answer a code, or was not waited for."""


class SendFailedError(EvyError):
    """The modem or the network refused a part; it did not leave.

    ``permanent`` means that trying again cannot help (3GPP TS 24.011 Annex E-2, causes 1, 28, 30).
    ``last_reference`` is the modem's last TP-MR after the refusal, which may have used one up; None when it
    does not tell. ``refusal`` is what the network said, if it was the network.
    """

    def __init__(
        self,
        reason: str,
        *,
        permanent: bool,
        last_reference: int | None = None,
        refusal: Refusal | None = None,
    ) -> None:
        super().__init__(reason)
        self.permanent = permanent
        self.last_reference = last_reference
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Concat:
    """Concatenation element of a user data header (3GPP TS 23.040 §9.2.3.24.1 and .8)."""

    reference: int
    total: int
    index: int
    """From 1."""


@dataclass(frozen=True, slots=True)
class Received:
    """One SMS in the modem's storage, or what it showed and did not store (below location 0): also a call.

    ``text`` may hold half a surrogate pair: some phones split an emoji between two parts. ``sender`` is empty
    when nobody can be answered. ``error`` says why an ``unreadable`` one is; then only ``location`` and
    perhaps ``raw`` mean something.
    """

    location: int
    sender: str = ""
    text: str = ""
    smsc_at: float | None = None
    concat: Concat | None = None
    raw: bytes = b""
    """The PDU as stored, if the driver can have it."""
    error: str = ""
    kind: Kind = "text"


@dataclass(frozen=True, slots=True)
class Report:
    """A status report (3GPP TS 23.040 §9.2.2.3). ``final`` is False while the SMSC still tries."""

    reference: int
    recipient: str
    delivered: bool
    final: bool
    status: int
    """TP-ST, TS 23.040 §9.2.3.15."""
    location: int = 0
    """Where it is stored until it is in the ledger; 0: nowhere."""


@dataclass(frozen=True, slots=True)
class Part:
    """One segment to submit. ``total`` 1 means no concatenation header. ``reference`` is 8-bit."""

    number: str
    text: str
    encoding: str
    reference: int = 0
    index: int = 1
    total: int = 1
    validity_s: int = 86400
    """How long the network keeps trying to deliver it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What the modem said of itself when the line was opened.

    ``last_reference`` is the TP-MR of the last submission, read from EF_SMSS (3GPP TS 51.011 §10.5.7) before
    anything is sent; None when the modem does not tell.
    """

    last_reference: int | None = None
    details: dict[str, str] = field(default_factory=dict)


class Modem(Protocol):
    """A driver."""

    def open(self) -> Opened:
        """Takes the line and readies the modem. Raises :class:`ModemLostError`."""

    def wait(self, wake: int, timeout_s: float) -> bool:
        """Waits until the modem has said something, the descriptor ``wake`` can be read, or the time is over.

        True when :meth:`poll` may have something new. Raises :class:`ModemLostError`.
        """

    def poll(self, in_hand: frozenset[int]) -> tuple[list[Received], list[Report]]:
        """New SMS in storage and status reports, except those at the locations ``in_hand``.

        Raises :class:`ModemLostError`.
        """

    def delete(self, location: int) -> None:
        """Removes one SMS from storage; an empty location is fine. Raises :class:`ModemLostError`."""

    def send_part(self, part: Part) -> int:
        """Submits one segment with a status report requested and gives its TP-MR.

        Raises :class:`SendFailedError` when it surely did not leave, :class:`ModemLostError` when nobody
        knows.
        """

    def ussd(self, code: str, interrupted: Callable[[], bool]) -> str:
        """The network's answer to a code such as "*100#", given up as soon as ``interrupted`` says so.

        Raises :class:`UssdError` when there is none, :class:`ModemLostError`.
        """

    def status(self) -> dict[str, str]:
        """Registration, operator, signal and storage, as far as the modem tells.

        Raises :class:`ModemLostError`.
        """

    def restart(self) -> None:
        """Starts the modem's firmware anew if it still listens, and lets go of the line; never raises."""

    def close(self) -> None:
        """Lets go of the line; never raises."""
