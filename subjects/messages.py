"""Every message on the wire: frozen, versioned, JSON by msgspec.

Times named ``*_at`` are Unix seconds by the node's clock and are for people; a Pi may have no clock at
all, so anything that decides uses :class:`Deadline`, which counts seconds since boot.
"""

from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

import msgspec

from subjects.errors import MessageError, SchemaVersionError
from subjects.names import Lane, Priority

Privacy = Literal["private", "enhanced", "public"]
"""private: EVY's own machines only. enhanced: outside providers after anonymisation. public: no limit."""

Step = Literal["template", "verbatim", "joined", "model", "unsure", "command", "notice", "alert"]
"""What produced a text: a reviewed template, a passage as written, two passages, a model under the
post-check, an honest "I do not know", a reply to a keyword, a system notice, a responder's alert."""

OutboundKind = Literal["reply", "notice", "followup", "alert"]
"""Why a text is sent. The ledger key of a part is ``<query>.<kind><ordinal>.<part>``."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all messages. ``v`` is the schema version of its writer, always present."""

    SCHEMA: ClassVar[int] = 1

    v: int = 0

    def __post_init__(self) -> None:
        if self.v == 0:
            msgspec.structs.force_setattr(self, "v", self.SCHEMA)

    @property
    def person(self) -> str:
        """Whom it concerns, as far as the order of texts goes; empty: nobody."""
        return ""


class Deadline(msgspec.Struct, frozen=True):
    """A moment on the node's boot clock: ``at_s`` seconds after the boot named ``boot_id``.

    After a reboot the two clocks cannot be compared and the deadline counts as passed: the answer is then
    made with what the node has.
    """

    boot_id: str
    at_s: float

    def remaining_s(self, boot_id: str, now_s: float) -> float:
        """Seconds left, never negative; 0 when the node has rebooted since."""
        return max(0.0, self.at_s - now_s) if boot_id == self.boot_id else 0.0


class InboundSms(Message, frozen=True, kw_only=True):
    """One text as the modem received it, all its parts joined.

    ``id`` is the query id: an HMAC over sender, SMSC timestamp, concatenation reference and payload, so the
    same SMS delivered twice by the network has the same id. ``missing`` counts parts that never came. Of a
    ``kind`` that cannot be read, a picture or a call, there is only the sender, who may be told so.
    """

    id: str
    node: str
    sender: str
    text: str
    lane: Lane
    deadline: Deadline
    kind: Literal["text", "picture", "call"] = "text"
    smsc_at: float | None = None
    received_at: float = 0.0
    modem: str = ""
    parts: int = 1
    missing: int = 0

    @property
    def person(self) -> str:
        """Whom it concerns."""
        return self.sender


class Session(msgspec.Struct, frozen=True, omit_defaults=True):
    """What intake knows of a person at this moment; a snapshot, written by intake alone."""

    lang: str = "en"
    lang_chosen: bool = False
    """The person chose ``lang`` with LANG; otherwise it is a guess that clear words may overrule."""
    repeat: int = 0
    """How many times this very text came before within the panic window."""
    unsolicited_ok: bool = True
    """False after STOP: replies only, nothing the person did not ask for."""
    topic: str = ""
    """Topic of the template that answered the person's emergency of the last hours, before this text."""
    reply: int = 0
    """Branch of the topic that this text chose; 0: it is another text. See `actors/knowledge/follow/`."""
    before: str = ""
    """The question the person asked before this one, within half an hour, shortened to 200 characters."""


class Passage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A text that an answer may rest on. ``score`` is retrieval confidence, 0 to 1.

    With a ``licence`` it is from the centre's library: nobody at EVY reviewed it, and it is never sent by
    itself. ``date`` is then that of its document, ISO 8601.
    """

    id: str
    text: str
    title: str = ""
    source: str = ""
    lang: str = "en"
    score: float = 0.0
    licence: str = ""
    date: str = ""

    @property
    def reviewed(self) -> bool:
        """An article, as opposed to a passage of somebody's document."""
        return not self.licence


class Query(Message, frozen=True, kw_only=True):
    """A person's question on its way to an answer. The number is not in it, only ``sender_ref``."""

    id: str
    node: str
    sender_ref: str
    text: str
    lang: str
    lane: Lane
    deadline: Deadline
    session: Session = Session()
    priority: Priority = "normal"
    needs: tuple[str, ...] = ()
    privacy: Privacy = "private"
    node_only: bool = False
    origin: str = ""
    """Of a question that came by mesh: the asking node's address there and what it calls the question,
    "7.0a1b2c3d"; empty at home."""
    incomplete: bool = False
    """Parts of the text never came; what is here is its beginning."""
    confidence: float | None = None
    """Retrieval confidence of the best passage; None until ``rag`` has looked."""
    passages: tuple[Passage, ...] = ()
    asked: bool = False
    """The centre has this query too; whichever answers second must not double the first."""
    wait: Deadline | None = None
    """Until when a late answer of the centre is still wanted; None: it is not."""
    received_at: float = 0.0

    @property
    def person(self) -> str:
        """Whom it concerns."""
        return self.sender_ref


class Answer(Message, frozen=True, kw_only=True):
    """A text that answers a query, before it is checked and fitted into segments.

    ``verbatim`` marks a reviewed text: it gets lossless clean-up only. Everything else must pass the
    post-check against ``passages``. ``more`` asks ``compress`` for the rest of the last answer instead.
    """

    query_id: str
    node: str
    sender_ref: str
    text: str
    lang: str
    lane: Lane
    step: Step
    question: str = ""
    verbatim: bool = False
    more: bool = False
    kind: OutboundKind = "reply"
    ordinal: int = 0
    """Tells texts of one kind to one query apart."""
    passages: tuple[Passage, ...] = ()
    sources: tuple[str, ...] = ()
    asked: bool = False
    """See `Query.asked`."""
    wait: Deadline | None = None
    """See `Query.wait`."""
    by_centre: bool = False
    """The centre made this answer."""
    needs: tuple[str, ...] = ()
    node_only: bool = False
    """See `Query.node_only`: nothing of it may leave the node."""
    origin: str = ""
    """See `Query.origin`: the answer goes there instead of to a phone."""
    received_at: float = 0.0

    @property
    def person(self) -> str:
        """Whom it concerns."""
        return self.sender_ref


def answer_to(  # a query, what answers it, and where that comes from
    query: Query, step: Step, text: str, passages: tuple[Passage, ...] = (), *, by_centre: bool = False
) -> Answer:
    """The answer to a query: what a model wrote is to be checked, everything else is a reviewed text."""
    return Answer(
        query_id=query.id,
        node=query.node,
        sender_ref=query.sender_ref,
        text=text,
        lang=query.lang,
        lane=query.lane,
        step=step,
        question=query.text,
        verbatim=step != "model",
        passages=passages,
        sources=tuple(dict.fromkeys(passage.source for passage in passages if passage.source)),
        asked=query.asked,
        wait=query.wait,
        by_centre=by_centre,
        needs=query.needs,
        node_only=query.node_only,
        origin=query.origin,
        received_at=query.received_at,
    )


class OutboundSms(Message, frozen=True, kw_only=True):
    """A text ready for the modem: already fits its segments.

    Exactly one of ``sender_ref`` (a person of this node) and ``number`` (a responder) says where it goes.
    ``about_ref`` is the person an alert speaks of; ``sms`` replaces ``{number}`` in the text by that
    person's number, so that the number leaves the node by SMS only.
    """

    query_id: str
    node: str
    text: str
    lang: str
    lane: Lane
    step: Step
    kind: OutboundKind = "reply"
    ordinal: int = 0
    sender_ref: str = ""
    number: str = ""
    about_ref: str = ""
    sources: tuple[str, ...] = ()
    received_at: float = 0.0
    bulletin: str = ""
    """Key of the public alert that it tells of; it goes only to who asked for alerts, and not once the alert
    is replaced or cancelled."""
    expires_at: float = 0.0
    """Unix time from which it must not be sent any more; 0: none."""

    @property
    def person(self) -> str:
        """Whom it concerns."""
        return self.sender_ref or self.number

    def ledger_key(self, part: int) -> str:
        """Key of one part in the send ledger; ``part`` counts from 1."""
        return f"{self.query_id}.{self.kind}{self.ordinal or ''}.{part}"


AlertKind = Literal["danger", "place", "words", "safe"]
"""danger: somebody may be in danger. The others are what that person says after: where they are, something
that may be of use to who goes, that they are safe."""

ResponderAnswer = Literal["coming", "cannot"]
"""What a responder answers to an alert: 1 or 2."""


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where somebody says they are: the words as given, and degrees (WGS 84) where the words hold them."""

    text: str
    latitude: float | None = None
    longitude: float | None = None


class Alert(Message, frozen=True, kw_only=True):
    """Somebody may be in danger: for the responders of the node."""

    query_id: str
    node: str
    sender_ref: str
    text: str
    lang: str
    lane: Lane
    priority: Priority
    needs: tuple[str, ...] = ()
    topic: str = ""
    kind: AlertKind = "danger"
    place: Place | None = None
    """What the person answered to "where are you?"."""
    place_asked: bool = False
    """The reply to this text asks for the place already."""
    origin: str = ""
    """Of an alert that came by mesh: see `Query.origin`; the person is at that node."""
    received_at: float = 0.0

    @property
    def person(self) -> str:
        """Whom it concerns."""
        return self.sender_ref


class ResponderReply(Message, frozen=True, kw_only=True):
    """A responder's answer to an alert. ``case`` is the number they gave; 0: the latest."""

    query_id: str
    node: str
    sender_ref: str
    responder: str
    """Key of the responder: see `Contact.key`."""
    answer: ResponderAnswer
    lane: Lane
    case: int = 0
    received_at: float = 0.0

    @property
    def person(self) -> str:
        """Whom it concerns."""
        return self.sender_ref


class Event(Message, frozen=True, kw_only=True):
    """Something that happened; for people and statistics, never work."""

    kind: str
    node: str
    actor: str
    at: float
    query_id: str = ""
    sender_ref: str = ""
    lane: Lane = "routine"
    fields: dict[str, Any] = {}


class Forget(Message, frozen=True, kw_only=True):
    """A person of a node is to be forgotten at the centre too, where no number ever was."""

    node: str
    refs: tuple[str, ...]
    queries: tuple[str, ...] = ()
    """Ids of the person's queries, as far as the node knew them."""
    reported: tuple[str, ...] = ()
    """The same texts as the node's reports call them."""


class SyncReport(Message, frozen=True, kw_only=True):
    """What became of a bundle at a node: the centre's list of which node has which texts."""

    node: str
    at: float
    state: Literal["applied", "refused", "rolled_back"]
    version: int
    """What the node has now; 0 is only what it was shipped with."""
    bundle: int = 0
    """The bundle that it is about; 0 where that could not be read."""
    reason: str = ""
    octets: int = 0
    """What was fetched for it."""


MAX_UNANSWERED: Final = 320
"""Characters of a question that leaves its node unanswered: a longer one tells a story, and whose it is."""

_Short = Annotated[str, msgspec.Meta(max_length=40)]


class Unanswered(Message, frozen=True, kw_only=True):
    """A question that a node's knowledge did not answer, as nobody's: redacted, and of a day.

    ``id`` names one question of one person and day, and says nothing of either.
    """

    id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}$")]
    node: str
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_UNANSWERED)]
    lang: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2,3}$")]
    day: Annotated[str, msgspec.Meta(pattern=r"^(\d{4}-\d{2}-\d{2})?$")] = ""
    """Empty: the node did not know the date."""
    needs: Annotated[tuple[_Short, ...], msgspec.Meta(max_length=8)] = ()
    regions: Annotated[tuple[_Short, ...], msgspec.Meta(max_length=8)] = ()
    near: bool = False
    """The person was sent a passage that may fit, under its title."""


class DeadLetter(Message, frozen=True, kw_only=True):
    """A message that could not be handled, whole, with the reason and how to replay it."""

    subject: str
    payload: bytes
    headers: dict[str, str]
    error: str
    actor: str
    node: str
    deliveries: int
    at: float
    replay: str = ""


M = TypeVar("M", bound=Message)

_ENCODER: Final = msgspec.json.Encoder()
_DECODERS: Final[dict[type[Message], msgspec.json.Decoder[Any]]] = {}


class _Versioned(msgspec.Struct):
    v: int = 1


def encode(message: Message) -> bytes:
    """JSON octets of a message."""
    return _ENCODER.encode(message)


def decode(octets: bytes, of: type[M]) -> M:
    """Message of type ``of`` from JSON octets.

    Raises :class:`SchemaVersionError` when a newer EVY wrote it, :class:`MessageError` when it is not such a
    message at all. Unknown fields are ignored: a newer writer of the same version may add some.
    """
    decoder = _DECODERS.get(of)
    if decoder is None:
        decoder = _DECODERS[of] = msgspec.json.Decoder(of)
    try:
        message: M = decoder.decode(octets)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        try:
            version = msgspec.json.decode(octets, type=_Versioned).v
        except (msgspec.DecodeError, UnicodeDecodeError):
            version = of.SCHEMA
        if version > of.SCHEMA:
            raise SchemaVersionError(of.__name__, version, of.SCHEMA, len(octets)) from error
        raise MessageError(of.__name__, str(error), len(octets)) from error
    if message.v > of.SCHEMA:
        raise SchemaVersionError(of.__name__, message.v, of.SCHEMA, len(octets))
    return message
