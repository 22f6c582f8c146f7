"""What the bucket ``alerts`` keeps: a case of each person in danger, and what each responder was asked.

Only `alert` writes it. `intake` reads it, to know that a text answers something.
"""

import logging
from collections.abc import Collection
from typing import Final, Literal, TypeVar

import msgspec

from actors._runtime.actor import KeyValue
from actors._runtime.state import read
from subjects.messages import OutboundKind, Place, ResponderAnswer
from subjects.names import Lane

log = logging.getLogger("evy.people")

State = Literal["asking", "coming", "unheard", "closed"]
"""asking: nobody has said yes. coming: somebody has. unheard: all were asked in vain. closed: they said that
they are safe."""

NEIGHBOUR: Final = "mesh"
"""Begins what stands for other nodes of the mesh: whom a text in the outbox is for, a responder who is a
whole node, a person who is at another one. Our own keys and pseudonyms are hex digits."""

OPEN_S: Final = 2 * 3600.0
"""A case ends when its person was silent for so long; what is texted later is a new one."""


class Said(msgspec.Struct, frozen=True, array_like=True):
    """A text that is decided and not on the bus yet. ``to`` is a responder's key, empty: the person."""

    to: str
    text: str
    lang: str
    query_id: str
    ordinal: int
    brief: str = ""
    """What a digest says of it instead, where the responder has had too many texts."""
    asks: bool = False
    """It asks the responder to answer 1 or 2."""
    owed: bool = False
    """It answers the responder's own text: no cap holds it."""
    received_at: float = 0.0

    @property
    def kind(self) -> OutboundKind:
        """Why it is sent."""
        return "alert" if self.to else "notice"


class Asked(msgspec.Struct, frozen=True, omit_defaults=True):
    """A responder who was asked, and the answer so far."""

    key: str
    answer: ResponderAnswer | Literal["unreached"] | None = None
    """unreached: they were not sent the text after all, because of a STOP or too many others."""

    @property
    def may_go(self) -> bool:
        """Whether they go, or may still say so."""
        return self.answer in {"coming", None}


class Case(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The alerts of one person that belong together. Times ``*_s`` are seconds of the boot clock."""

    number: int = 0
    """What a responder calls it by; counts up through the day."""
    query_id: str = ""
    """The text that opened it; what is said about the case carries this id."""
    boot_id: str = ""
    lane: Lane = "flash"
    lang: str = "en"
    topic: str = ""
    priority: str = ""
    text: str = ""
    """The person's latest words, shortened."""
    needs: tuple[str, ...] = ()
    received_at: float = 0.0
    count: int = 0
    heard_at_s: float = 0.0
    """When the person last texted about it."""
    told_at_s: float = 0.0
    """When responders were last told of the person's texts."""
    asked_at_s: float = 0.0
    """When responders were last asked to go."""
    handled: tuple[str, ...] = ()
    """Ids of texts that it has in it: one that is delivered again changes nothing."""
    own_key: str = ""
    """Key of the person in danger where that is a responder: nobody is asked to go to themselves."""
    asked: tuple[Asked, ...] = ()
    unheard: bool = False
    closed: bool = False
    discreet: bool = False
    """Somebody dangerous may see the phone: nothing is sent to it that it did not ask for."""
    place: Place | None = None
    place_asked: bool = False
    updates: int = 0
    """Texts to the responders about what was no further emergency."""
    told: tuple[str, ...] = ()
    """What the person was told, in order."""
    consents: int = 0
    """Entries that the person's consent had when the case opened: a STOP after that counts."""
    outbox: tuple[Said, ...] = ()
    origin: str = ""
    """See `Query.origin`: the person is at another node, and what becomes of the case is told there."""
    neighbours: int = 0
    """How often other nodes were told of it over the mesh."""

    @property
    def state(self) -> State:
        """Where it stands."""
        if self.closed:
            return "closed"
        if any(one.answer == "coming" for one in self.asked):
            return "coming"
        return "unheard" if self.unheard else "asking"

    def is_open(self, boot_id: str, now_s: float) -> bool:
        """Whether a text of the person still belongs to it. One of an earlier boot is open: how long the
        node was off is not known, and the danger may not be over."""
        return not self.closed and (self.boot_id != boot_id or now_s - self.heard_at_s <= OPEN_S)


class Whereabouts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a person said they are, in the bucket ``session``, and when, by two clocks; the one since boot
    is the better."""

    place: Place
    query_id: str
    """The text that said so."""
    at: float
    boot_id: str
    at_s: float


class AskedAbout(msgspec.Struct, frozen=True, array_like=True):
    """A case that a responder was asked about."""

    number: int
    ref: str
    lane: Lane = "flash"
    in_full: bool = True
    """False: in a digest only, so that the number and the words are still to be sent."""


class Held(msgspec.Struct, frozen=True, array_like=True):
    """A case that waits for a responder's next digest."""

    number: int
    ref: str
    lane: Lane
    brief: str
    query_id: str
    at_s: float
    text_id: str = ""


class Rota(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one responder was sent within the hour, what they were asked, and what they are not sent yet.

    It is about many people. What it has of each is an array, in which `evy forget` looks for nobody, so that
    forgetting one does not take the others' cases away; :meth:`without` does that.
    """

    boot_id: str = ""
    sent: tuple[tuple[float, str], ...] = ()
    """When (boot clock) which text."""
    asked: tuple[AskedAbout, ...] = ()
    """The latest last."""
    held: tuple[Held, ...] = ()
    digested: tuple[str, ...] = ()
    """Texts that were in a digest."""
    digest_at_s: float = -1.0
    outbox: tuple[Said, ...] = ()

    def without(self, refs: Collection[str]) -> "Rota":
        """The record with some people taken out."""
        return msgspec.structs.replace(
            self,
            asked=tuple(one for one in self.asked if one.ref not in refs),
            held=tuple(one for one in self.held if one.ref not in refs),
        )


R = TypeVar("R", Case, Rota)


async def record(bucket: KeyValue, key: str, of: type[R]) -> R | None:
    """The record at a key; None also for one that cannot be read: whatever wrote it, a person in danger is
    answered all the same."""
    try:
        return await read(bucket, key, of)
    except msgspec.DecodeError as error:
        log.error("%s of the bucket alerts cannot be read and counts as absent: %s", key, error)
        return None


def case_key(ref: str) -> str:
    """Key of a person's case."""
    return f"case.{ref}"


def rota_key(contact_key: str) -> str:
    """Key of a responder's rota."""
    return f"rota.{contact_key}"
