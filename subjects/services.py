"""Questions that actors answer at once: subject ``svc.<node>.<name>``, request and reply.

Unlike work a question is neither stored nor asked again: without an answer the asker goes on alone. They are
NATS micro services (NATS ADR-32), so `nats service ls`, `info` and `stats` show them, and they never cross
the link to the centre.
"""

from typing import Annotated, Final

import msgspec

from subjects.mesh import MeshStatus, MeshStatusRequest
from subjects.messages import MAX_UNANSWERED, Message, OutboundKind, Passage
from subjects.names import Lane, Priority

SVC: Final = "svc"


class SearchRequest(Message, frozen=True, kw_only=True):
    """Which reviewed passages fit a text best.

    ``regions`` are where it is asked from, the node's own when not given; ``area`` limits it to one of
    health, water and the like.
    """

    text: str
    lang: str = "en"
    limit: int = 3
    regions: tuple[str, ...] | None = None
    area: str = ""


class SearchReply(Message, frozen=True, kw_only=True):
    """Passages, the best first; ``score`` is the confidence that decides what is sent."""

    passages: tuple[Passage, ...]


class TriageRequest(Message, frozen=True, kw_only=True):
    """How a text would be judged."""

    text: str


class TriageReply(Message, frozen=True, kw_only=True):
    """The verdict of triage. ``topic`` is the template that answers; empty: it goes on to retrieval."""

    priority: Priority
    lane: Lane
    needs: tuple[str, ...]
    topic: str
    lang: str
    confidence: float
    cues: tuple[str, ...]


class OutboxRequest(Message, frozen=True, kw_only=True):
    """What is held. ``full``: with texts and numbers, which otherwise stay in the actor."""

    full: bool = False


class HeldPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part of a text whose fate nobody knows. ``since`` is Unix time, ``number`` where it goes."""

    key: str
    state: str
    since: float
    note: str
    modem: str
    lane: Lane
    kind: OutboundKind
    sender_ref: str
    part: int
    parts: int
    characters: int
    text: str = ""
    number: str = ""


class OutboxReply(Message, frozen=True, kw_only=True):
    """All held parts, the oldest first."""

    held: tuple[HeldPart, ...]


class OutboxDecision(Message, frozen=True, kw_only=True):
    """What a person decided about a held part: send it (again), or never."""

    key: str
    send: bool


class OutboxDecided(Message, frozen=True, kw_only=True):
    """What the ledger says now."""

    key: str
    state: str
    note: str


class DraftRequest(Message, frozen=True, kw_only=True):
    """An answer from passages to what many asked, for a person to judge; ``text`` is how one put it."""

    text: Annotated[str, msgspec.Meta(max_length=MAX_UNANSWERED)]
    lang: str


class DraftReply(Message, frozen=True, kw_only=True):
    """What the big model wrote, unchecked, and all passages it was shown; no ``text``, and ``why``."""

    passages: tuple[Passage, ...] = ()
    title: str = ""
    text: str = ""
    used: tuple[str, ...] = ()
    """Ids of the passages it names as what it rests on."""
    why: str = ""


class Service(msgspec.Struct, frozen=True):
    """One service: a row of the table."""

    name: str
    actor: str
    request: type[Message]
    reply: type[Message]
    says: str

    def subject(self, node: str) -> str:
        """Where a node's actor is asked."""
        return f"{SVC}.{node}.{self.name}"


def alive(node: str) -> str:
    """Where `evy up` asks all processes of its node at once whether they are alive; each answers its name."""
    return f"{SVC}.{node}.alive"


SERVICES: Final[tuple[Service, ...]] = (
    Service("rag.search", "rag", SearchRequest, SearchReply, "reviewed passages that fit a text"),
    Service("route.triage", "route", TriageRequest, TriageReply, "how a text is judged"),
    Service("sms.outbox", "sms", OutboxRequest, OutboxReply, "parts whose fate nobody knows"),
    Service("sms.outbox.decide", "sms", OutboxDecision, OutboxDecided, "sends a held part, or never"),
    Service("mesh.status", "mesh", MeshStatusRequest, MeshStatus, "neighbours, routes, airtime of the mesh"),
    Service("infer_large.draft", "infer_large", DraftRequest, DraftReply, "a draft from passages"),
)


def service(name: str) -> Service:
    """Row of a service. Raises KeyError for an unknown one."""
    for row in SERVICES:
        if row.name == name:
            return row
    raise KeyError(name)
