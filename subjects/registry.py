"""The one table: subject → message → stream → durable → limits.

Streams, durables and key-value buckets are created from it at start, `evy subjects` prints it, and a test
holds the files in ``nats/`` against it. ``{node}`` stands for the node's name: stream and durable names must
be unique across all connected nodes, because a v1 acknowledgement carries no JetStream domain.
"""

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from subjects import names
from subjects.bulletin import Bulletin
from subjects.event_report import EventReport
from subjects.mesh import MeshPacket
from subjects.messages import (
    Alert,
    Answer,
    Forget,
    InboundSms,
    Message,
    OutboundSms,
    Query,
    ResponderReply,
    SyncReport,
    Unanswered,
)
from subjects.names import HUB, LANES, Lane

Profile = Literal["lilevy", "bigevy", "hybrid"]
"""lilevy: an edge node. bigevy: the centre. hybrid: both on one server."""

MAX_MESSAGE_OCTETS: Final = 1024 * 1024
"""Largest message on the wire; the longest SMS there is (255 parts) is under 40 kB."""

MAX_WORK_OCTETS: Final = MAX_MESSAGE_OCTETS // 2
"""Largest message of work: a dead letter holds it in Base64, and must fit on the wire itself."""


class Slots(msgspec.Struct, frozen=True):
    """How many messages of each lane one worker handles at a time; a lane's slots are its own."""

    flash: int = 4
    priority: int = 2
    routine: int = 2

    def of(self, lane: Lane) -> int:
        """Slots of one lane."""
        count: int = getattr(self, lane)
        return count


class Work(msgspec.Struct, frozen=True):
    """One work subject: a row of the table. Durations are seconds."""

    subject: str
    message: type[Message]
    actor: str
    ack_wait_s: float
    """Without an acknowledgement for so long the message is delivered again; in-progress acks every third."""
    max_deliver: int
    backoff_s: tuple[float, ...]
    """Waits before delivery 2, 3, …; the last one repeats."""
    max_per_subject: int
    """Messages of one lane that may wait; more are refused, so a full ``sms.in`` leaves texts on the SIM."""
    slots: Slots = Slots()
    max_pending: int = 64
    """Messages of a lane that may be delivered and not acknowledged, those put off with a delay included."""
    name: str = ""
    """Stands for ``actor`` in the durables' names where one actor consumes a second subject."""
    at: Literal["node", "centre"] = "node"
    """"centre": the node only stores the message, and the centre takes it over the link."""

    def retry_delay_s(self, deliveries: int) -> float:
        """Wait before the delivery after number ``deliveries`` (from 1)."""
        return self.backoff_s[min(deliveries, len(self.backoff_s)) - 1]

    def durable(self, node: str, lane: Lane) -> str:
        """Name of the consumer of one lane."""
        return f"{node}_{self.name or self.actor}_{lane}"

    def stream(self, node: str, lane: Lane) -> str:
        """Name of the stream that one lane is worked off from; at the centre each node has its own."""
        if self.at == "centre":
            return f"IN_{node}"
        return f"{'FLASH' if lane == 'flash' else 'WORK'}_{node}"

    def filter_subject(self, node: str, lane: Lane) -> str:
        """Subject of one lane in that stream; at the centre it says which node the message came from."""
        return names.work_subject(f"{self.subject}.{node}" if self.at == "centre" else self.subject, lane)

    def subjects(self) -> Iterator[tuple[Lane, str]]:
        """Each lane with its full subject."""
        for lane in LANES:
            yield lane, names.work_subject(self.subject, lane)


class Source(msgspec.Struct, frozen=True):
    """Another stream whose messages a stream takes over, as soon as and whenever a link exists.

    All strings are templates over ``{node}``. In profile hybrid both streams are on one server, and
    ``domain`` and ``deliver`` are not used.
    """

    stream: str
    domain: str
    """JetStream domain of the other stream."""
    deliver: str
    """Prefix of the subjects on which its messages cross the link."""
    transforms: tuple[tuple[str, str], ...]
    """Subjects taken, each with the subject it gets here."""


class Stream(msgspec.Struct, frozen=True):
    """One stream of a node. ``name`` and ``subjects`` are templates over ``{node}``."""

    name: str
    subjects: tuple[str, ...]
    retention: Literal["workqueue", "limits"]
    dedup_window_s: float
    max_age_s: float = 0.0
    max_octets: int = -1
    max_per_subject: int = -1
    discard: Literal["new", "old"] = "new"
    persist: Literal["default", "async"] = "default"
    """"async": the server answers before the write reaches the card; for events, whose loss is bearable."""
    at: Literal["node", "both", "uplink", "centre", "hub"] = "node"
    """"node": on every edge node. "both": on the centre too. "uplink": on a node that has a centre.
    "centre": on the centre, once for each of its nodes. "hub": on the centre, once."""
    source: Source | None = None
    """Where it takes messages from besides its own subjects; only with a centre."""
    objects: bool = False
    """It is an object store (NATS ADR-20): read message by message without a consumer."""

    def subjects_of(self, node: str) -> list[str]:
        """Its subjects on a node."""
        return [subject.format(node=node) for subject in self.subjects]


class Bucket(msgspec.Struct, frozen=True):
    """One key-value bucket. It has exactly one writer; others see the snapshot carried in ``Query``."""

    name: str
    writer: str
    holds: str
    ttl_s: float = 0.0
    max_octets: int = 64 * 1024 * 1024
    storage: Literal["file", "memory"] = "file"
    """"memory": it ends with the server, and its writer makes it again."""

    def bucket(self, node: str) -> str:
        """Bucket name on a node; unique across nodes like a stream name."""
        return f"{self.name}_{node}"


_QUICK: Final = (1.0, 5.0, 15.0, 60.0)
_MODEM: Final = (5.0, 15.0, 30.0, 60.0, 300.0)

_MANY: Final = Slots(8, 16, 16)
"""A big model answers many at once for little more than one; its actor bounds what all nodes ask together."""

_FEW: Final = Slots(1, 1, 1)
"""Reports are stored one after the other; nobody waits for them."""

A_DAY_OF_TRIES: Final = 300
"""A tower may be dead for hours while the modem refuses every text, and so may the big model's server: with
a last wait of five minutes a message is kept for a day, as long as the network itself would keep trying,
before it is a dead letter."""

WORK: Final[tuple[Work, ...]] = (
    Work(names.SMS_IN, InboundSms, "intake", 10, 6, _QUICK, 2000),
    Work(names.ROUTE, Query, "route", 10, 6, _QUICK, 2000),
    Work(names.RAG, Query, "rag", 20, 6, _QUICK, 2000, max_pending=1000),
    Work(names.INFER_SMALL, Query, "infer_small", 30, 3, _QUICK, 200, Slots(2, 1, 1)),
    Work(names.INFER_LARGE, Query, "infer_large", 30, A_DAY_OF_TRIES, _MODEM, 2000, _MANY, at="centre"),
    Work(names.COMPRESS, Answer, "compress", 10, 6, _QUICK, 2000),
    Work(names.ALERT, Alert, "alert", 10, 6, _QUICK, 2000),
    Work(names.ALERT_REPLY, ResponderReply, "alert", 10, 6, _QUICK, 2000, name="alert-reply"),
    Work(names.BULLETIN, Bulletin, "bulletin", 30, 6, _QUICK, 2000),
    Work(names.FORGET, Forget, "forget", 30, A_DAY_OF_TRIES, _MODEM, 2000, at="centre"),
    Work(names.REPORT, EventReport, "analytics", 10, A_DAY_OF_TRIES, _MODEM, 2000, _FEW, 2000, at="centre"),
    Work(names.SYNCED, SyncReport, "sync", 10, A_DAY_OF_TRIES, _MODEM, 200, at="centre"),
    # One at a time: what a question is like depends on those before it.
    Work(names.UNANSWERED, Unanswered, "collect", 60, 6, _MODEM, 2000, Slots(1, 1, 1), at="centre"),
    # Handled until the mesh knows what became of it: its slots are what is on the way at once.
    Work(names.MESH_OUT, MeshPacket, "mesh", 30, A_DAY_OF_TRIES, _MODEM, 200, Slots(8, 12, 12)),
    Work(names.MESH_IN, MeshPacket, "mesh", 10, 6, _QUICK, 2000, name="mesh-in"),
    Work(names.SMS_OUT, OutboundSms, "sms", 10, A_DAY_OF_TRIES, _MODEM, 2000),
)
"""The work subjects, in the order of the pipeline."""

DOWN: Final = (names.COMPRESS, names.BULLETIN)
"""Work that the centre may send to a node."""

UP: Final = tuple(row.subject for row in WORK if row.at == "centre")
"""Work that a node sends to the centre."""

_HERE: Final = tuple(row for row in WORK if row.at == "node")

DEDUP_WINDOW_S: Final = 2 * 3600.0
"""How long JetStream remembers message ids: a network that delivers an SMS twice does so within minutes."""


def _from_centre(*lanes: Lane) -> Source:
    transforms = tuple(
        (names.work_subject(names.down("{node}", base), lane), names.work_subject(base, lane))
        for base in DOWN
        for lane in lanes
    )
    return Source("DOWN_{node}", HUB, "dlv.down.{node}", transforms)


ADVISORIES: Final = Stream(
    "ADV_{node}",
    ("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>",),
    "workqueue",
    dedup_window_s=120,
    max_octets=8 * 1024 * 1024,
    discard="old",
    at="both",
)
"""What the server says once about a message that it will not deliver any more; the reaper works it off."""

BUNDLE_STORE: Final = "bundles"
"""Object store of the centre from which nodes pull texts (`evy sync`)."""

BUNDLES: Final = Stream(
    f"OBJ_{BUNDLE_STORE}",
    (f"$O.{BUNDLE_STORE}.C.>", f"$O.{BUNDLE_STORE}.M.>"),
    "limits",
    dedup_window_s=120,
    max_octets=1024 * 1024 * 1024,
    at="hub",
    objects=True,
)
"""Signed manifest and packs, in the layout of an object store, which `nats object ls bundles` shows."""

STREAMS: Final[tuple[Stream, ...]] = (
    Stream(
        "FLASH_{node}",
        tuple(names.work_subject(row.subject, "flash") for row in _HERE),
        "workqueue",
        DEDUP_WINDOW_S,
        max_per_subject=max(row.max_per_subject for row in _HERE),
        source=_from_centre("flash"),
    ),
    Stream(
        "WORK_{node}",
        tuple(names.work_subject(row.subject, lane) for row in _HERE for lane in LANES if lane != "flash"),
        "workqueue",
        DEDUP_WINDOW_S,
        max_per_subject=max(row.max_per_subject for row in _HERE),
        source=_from_centre("priority", "routine"),
    ),
    Stream(
        "UP_{node}",
        tuple(names.work_subject(base, lane) for base in UP for lane in LANES),
        "workqueue",
        DEDUP_WINDOW_S,
        max_per_subject=2000,
        at="uplink",
    ),
    Stream(
        "IN_{node}",
        # From the node they come by sourcing; subjects of its own let a person replay a dead letter.
        tuple(names.work_subject(f"{base}.{{node}}", lane) for base in UP for lane in LANES),
        "workqueue",
        DEDUP_WINDOW_S,
        max_per_subject=2000,
        at="centre",
        source=Source(
            "UP_{node}",
            "{node}",
            "dlv.up.{node}",
            tuple(
                (names.work_subject(base, lane), names.work_subject(f"{base}.{{node}}", lane))
                for base in UP
                for lane in LANES
            ),
        ),
    ),
    Stream(
        "DOWN_{node}",
        tuple(names.work_subject(names.down("{node}", base), lane) for base in DOWN for lane in LANES),
        "workqueue",
        DEDUP_WINDOW_S,
        max_per_subject=2000,
        at="centre",
    ),
    Stream(
        "EVT_{node}",
        (f"{names.EVT}.>",),
        "limits",
        dedup_window_s=120,
        max_age_s=14 * 86400.0,
        max_octets=64 * 1024 * 1024,
        discard="old",
        persist="async",
        at="both",
    ),
    Stream(
        "DLQ_{node}",
        (f"{names.DLQ}.>",),
        "limits",
        DEDUP_WINDOW_S,
        max_age_s=90 * 86400.0,
        max_octets=64 * 1024 * 1024,
        discard="old",
        at="both",
    ),
    ADVISORIES,
    BUNDLES,
)

BUCKETS: Final[tuple[Bucket, ...]] = (
    Bucket("consent", "intake", "STOP, START and ALERTS of each person, with their history"),
    Bucket("session", "intake", "language, topic, recent texts of each person", ttl_s=7 * 86400.0),
    Bucket("numbers", "intake", "the phone number behind each reference", ttl_s=30 * 86400.0),
    Bucket("ledger", "sms", "what became of each part of each text sent", ttl_s=30 * 86400.0),
    Bucket("outbox", "sms", "texts with a part whose fate nobody knows, for a person", ttl_s=30 * 86400.0),
    Bucket("parts", "sms", "parts of multipart texts that are not complete", ttl_s=2 * 86400.0),
    Bucket("modems", "sms", "the modem each person texted last; what each modem sent", ttl_s=30 * 86400.0),
    Bucket("more", "compress", "the rest of the last answer, for MORE", ttl_s=86400.0),
    Bucket(
        "answered", "compress", "what a person was told whose query the centre has too", ttl_s=2 * 86400.0
    ),
    Bucket(
        "masked",
        "rag",
        "what placeholders in a question to the centre stand for, which is never sent",
        ttl_s=2 * 86400.0,
        max_octets=8 * 1024 * 1024,
    ),
    Bucket(
        "mesh",
        "mesh",
        "questions and cases of this node that are elsewhere on the mesh, and of others here",
        ttl_s=2 * 86400.0,
        max_octets=8 * 1024 * 1024,
    ),
    Bucket("bulletins", "bulletin", "public alerts, and who was told which", ttl_s=30 * 86400.0),
    Bucket("alerts", "alert", "cases by person, and what each responder was sent and asked", ttl_s=86400.0),
    Bucket(
        "unanswered",
        "compress",
        "questions without an answer, as nobody's, until the centre has them",
        ttl_s=30 * 86400.0,
        max_octets=4 * 1024 * 1024,
    ),
    Bucket(
        "node",
        "node",
        "power, memory, clock, link and modems of this node",
        ttl_s=120.0,
        max_octets=1024 * 1024,
        storage="memory",
    ),
)


def reaper(node: str) -> str:
    """Durable by which a server's advisories are worked off."""
    return f"{node}_reaper"


def most_octets() -> int:
    """What all streams and buckets of a node that keep records may hold together; its queues are bounded by
    the number of their messages, :func:`most_waiting`."""
    records = [row.max_octets for row in STREAMS if row.at in {"node", "both"} and row.max_octets > 0]
    return sum(records) + sum(row.max_octets for row in BUCKETS if row.storage == "file")


def most_waiting() -> int:
    """How many messages may wait in all work queues of a node together."""
    return sum(
        row.max_per_subject * len(row.subjects)
        for row in STREAMS
        if row.retention == "workqueue" and row.at != "centre" and row.max_octets <= 0
    )


def work(subject: str) -> Work:
    """Row of a work subject, given with or without its lane, at the centre with the node it came from.

    Raises KeyError for an unknown one.
    """
    base = subject
    if subject.rpartition(".")[2] in LANES:
        base = subject.rpartition(".")[0]
    for row in WORK:
        if row.subject in (base, base.rpartition(".")[0] if row.at == "centre" else base):
            return row
    raise KeyError(subject)


def bucket(name: str) -> Bucket:
    """Row of a bucket. Raises KeyError for an unknown one."""
    for row in BUCKETS:
        if row.name == name:
            return row
    raise KeyError(name)
