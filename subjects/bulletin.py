"""A public alert on its way to the people of a node: the Common Alerting Protocol (OASIS CAP-v1.2), read.

Element names and values are the standard's (§3.2); what EVY does not use is left out. Times are Unix seconds.
"""

import hashlib
from typing import Final, Literal

import msgspec

from subjects.messages import Message
from subjects.names import Lane

Status = Literal["Actual", "Exercise", "System", "Test", "Draft"]
MsgType = Literal["Alert", "Update", "Cancel", "Ack", "Error"]
Scope = Literal["Public", "Restricted", "Private"]
Category = Literal[
    "Geo",
    "Met",
    "Safety",
    "Security",
    "Rescue",
    "Fire",
    "Health",
    "Env",
    "Transport",
    "Infra",
    "CBRNE",
    "Other",
]
ResponseType = Literal[
    "Shelter", "Evacuate", "Prepare", "Execute", "Avoid", "Monitor", "Assess", "AllClear", "None"
]
Urgency = Literal["Immediate", "Expected", "Future", "Past", "Unknown"]
Severity = Literal["Extreme", "Severe", "Moderate", "Minor", "Unknown"]
Certainty = Literal["Observed", "Likely", "Possible", "Unlikely", "Unknown"]

SEVERITIES: Final[tuple[Severity, ...]] = ("Extreme", "Severe", "Moderate", "Unknown", "Minor")
"""Worst first. What nobody has judged comes before what was judged to be minor."""

Point = tuple[float, float]
"""Latitude and longitude, degrees (WGS 84)."""


def identity(sender: str, identifier: str, sent_at: float) -> str:
    """Names an alert in keys and message ids: the three of §3.2.1 that make it unique, as 24 hex digits."""
    said = f"{sender.strip()}\n{identifier.strip()}\n{int(sent_at)}"
    return hashlib.blake2b(said.encode(), digest_size=12).hexdigest()


class Reference(msgspec.Struct, frozen=True):
    """An earlier alert that this one is about (§3.2.1, references)."""

    sender: str
    identifier: str
    sent_at: float

    @property
    def key(self) -> str:
        """See :func:`identity`."""
        return identity(self.sender, self.identifier, self.sent_at)


class Area(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where it holds (§3.2.4): the union of all that is given."""

    description: str
    polygons: tuple[tuple[Point, ...], ...] = ()
    """Rings, first point and last the same."""
    circles: tuple[tuple[float, float, float], ...] = ()
    """Latitude, longitude, kilometres."""
    geocodes: tuple[tuple[str, str], ...] = ()
    """Scheme and code: ("SAME", "006037")."""


class Info(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is the matter, in one language (§3.2.2)."""

    event: str
    urgency: Urgency
    severity: Severity
    certainty: Certainty
    lang: str = "en"
    """The first part of ``language``: "en" of "en-US"."""
    categories: tuple[Category, ...] = ()
    responses: tuple[ResponseType, ...] = ()
    """What the sender recommends, as a code."""
    codes: tuple[tuple[str, str], ...] = ()
    """Codes of the event: ("SAME", "TOR")."""
    onset_at: float | None = None
    expires_at: float | None = None
    sender_name: str = ""
    headline: str = ""
    description: str = ""
    instruction: str = ""
    areas: tuple[Area, ...] = ()


class Bulletin(Message, frozen=True, kw_only=True):
    """One alert, update or cancel. ``as_of`` is when the centre handed it down: it is that late by now."""

    identifier: str
    sender: str
    sent_at: float
    status: Status
    msg_type: MsgType
    scope: Scope
    references: tuple[Reference, ...] = ()
    infos: tuple[Info, ...] = ()
    note: str = ""
    feed: str = ""
    """Name of the feed it came by; empty: a person gave it by a file."""
    as_of: float = 0.0

    @property
    def key(self) -> str:
        """See :func:`identity`."""
        return identity(self.sender, self.identifier, self.sent_at)

    @property
    def lane(self) -> Lane:
        """Extreme goes before people's ordinary questions; flash is for people's own emergencies."""
        return "priority" if any(info.severity == "Extreme" for info in self.infos) else "routine"

    def expires_at(self, default_s: float) -> float:
        """When the last of its infos is over; one that does not say, ``default_s`` after it was sent."""
        ends = (self._end(info, default_s) for info in self.infos)
        return max(ends, default=self.sent_at + default_s)

    def _end(self, info: Info, default_s: float) -> float:
        return self.sent_at + default_s if info.expires_at is None else info.expires_at
