"""The boundary between the mesh and whatever radio hangs on the node: frames out, frames in, and what the
radio cannot tell.

A driver owns one radio. It opens it, sets it up, sends a frame, hands over what it hears, and mends what can
be mended without a person; what a frame means, when it may be sent and how much air it costs is the mesh's.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Final, Literal, NamedTuple, Protocol

import msgspec
from msgspec import Meta

from subjects.errors import EvyError

LONGEST_FRAME: Final = 237
"""Octets that an RYLR896 carries: its 240 less what binary costs there. A radio that carries less says so."""


class RadioError(EvyError):
    """The radio did not send, or cannot be used; the text says why and what to do.

    A frame whose ``transmit`` raised may have left all the same: the ledger counts it.
    """


class RadioSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the radios of one network are set. The same at every node, or they do not hear each other."""

    frequency_hz: Annotated[int, Meta(ge=137_000_000, le=1_020_000_000)] = 869_525_000
    spreading_factor: Annotated[int, Meta(ge=7, le=12)] = 9
    bandwidth_hz: Literal[125_000, 250_000, 500_000] = 125_000
    coding_rate: Annotated[int, Meta(ge=5, le=8)] = 5
    """The denominator of 4/5 to 4/8."""
    preamble_symbols: Annotated[int, Meta(ge=4, le=255)] = 8
    """Without the 4.25 that the modem adds. A module that knows fewer sends what it can: see the facts."""
    power_dbm: Annotated[int, Meta(ge=0, le=22)] = 14
    """Radiated with the module's own antenna; EU868 allows 14 dBm, and 27 dBm in 869.4–869.65 MHz."""
    network: Annotated[int, Meta(ge=1, le=15)] = 6
    """What the module itself filters by, 1 to 15; frames of other networks never reach the host."""


class RadioFacts(NamedTuple):
    """What a radio is, and what it cannot know; given by ``open``."""

    name: str
    hidden_octets: int
    """Most octets that go on air with a frame besides its own; for the ledger."""
    longest_frame: int
    """Octets of the longest frame that it carries."""
    senses: bool
    """Whether it can look for another's signal before it sends (channel activity detection)."""
    preamble_symbols: int
    """What is really sent."""
    cannot_know: tuple[str, ...] = ()
    """For people, a sentence each."""


class Heard(NamedTuple):
    """One frame that came whole."""

    frame: bytes
    rssi_dbm: float
    snr_db: float


class Radio(Protocol):
    """One radio. All of it runs in the event loop, and nothing in it blocks."""

    @property
    def trouble(self) -> str:
        """What is wrong now and what to do about it; empty while the radio works."""

    @property
    def counters(self) -> dict[str, int]:
        """How often what happened since ``open``: frames out and in, errors, resets, re-openings."""

    async def open(self) -> RadioFacts:
        """Makes the radio ready. Raises :class:`RadioError` when it cannot: wrong device, no answer, a
        setting it refuses. Once open, a radio that goes away is looked for again until ``close``."""

    async def transmit(self, frame: bytes) -> None:
        """Sends a frame and returns when it has left. One at a time: a second call waits.

        Raises :class:`RadioError` when it did not leave, at the latest after its time on air and a bounded
        wait, and ValueError when it is empty or longer than ``longest_frame``.
        """

    async def tune(self, spreading_factor: int) -> None:
        """Sends and hears with another spreading factor from now on; between two frames. Raises
        :class:`RadioError` when the radio does not take it; one that is away takes it when it is back."""

    def frames(self) -> AsyncIterator[Heard]:
        """What is heard, until ``close``. For one reader; when nobody reads, the oldest are dropped and
        counted."""

    async def close(self) -> None:
        """Lets go of the radio; never raises."""
