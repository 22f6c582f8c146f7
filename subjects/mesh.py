"""What crosses the LoRa mesh, and what a node says of its mesh. The octets are in `docs/mesh.md`, from M50.

Outwards a packet names one message of the bus, which the actor ``mesh`` makes as small as it can; inwards it
is the octets as they came, which the same actor reads. So only that actor knows what is on the air.
"""

from typing import Annotated, Final, Literal

import msgspec

from subjects.bulletin import Bulletin
from subjects.messages import Alert, Answer, Deadline, Message, OutboundSms, Query
from subjects.names import Lane

EVERYBODY: Final = 255
"""Address of all nodes of a network; 1 to 254 are nodes, 0 is nobody."""

FEED: Final = "mesh"
"""Feed of a public alert that came by mesh: it is not sent by mesh again, the core has spread it."""

MAX_PAYLOAD_OCTETS: Final = 2048
"""Largest payload of one mesh message, before it is cut into frames."""

Address = Annotated[int, msgspec.Meta(ge=0, le=EVERYBODY)]

CaseState = Literal["asking", "coming", "unheard"]
"""What another node's responders have said about a case of ours."""


class MeshReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of somebody else's alert at this node, for the node whose person it is."""

    ref: str
    """What that node calls the case on the air: eight hex digits."""
    state: CaseState


class MeshNeeds(msgspec.Struct, frozen=True):
    """How many people lack what at one place: counts of an hour, nobody's name."""

    place: str
    counts: dict[str, int]


class MeshPacket(Message, frozen=True, kw_only=True):
    """One payload for the mesh or from it.

    Outwards (``mesh.out``) exactly one of ``query``, ``answer``, ``alert``, ``reply``, ``bulletin``,
    ``needs`` and ``sms`` is there; ``peer`` 0 leaves it to the actor ``mesh`` to find who can use it.
    Inwards (``mesh.in``) it is ``payload`` from ``peer``, opened with that node's key, and ``id`` is its
    number there.
    """

    node: str
    lane: Lane
    query_id: str = ""
    """The text that it is about; empty: nobody's."""
    peer: Address = 0
    network: int = 0
    id: int = 0
    payload: bytes = b""
    broadcast: bool = False
    """Inwards: it was for everybody."""
    until: Deadline | None = None
    """When nobody wants it any more; None: the lane decides."""
    query: Query | None = None
    answer: Answer | None = None
    alert: Alert | None = None
    reply: MeshReply | None = None
    bulletin: Bulletin | None = None
    needs: MeshNeeds | None = None
    sms: OutboundSms | None = None

    @property
    def person(self) -> str:
        """Whom it concerns, where the order matters: that somebody is safe comes after where they are. A
        question does not wait for another one that may be on its way for hours."""
        return self.alert.person if self.alert else ""

    @property
    def sender_ref(self) -> str:
        """Whom it is about, for events; empty: nobody of this node."""
        inner = self.query or self.alert or self.sms
        return inner.sender_ref if inner else ""


class MeshStatusRequest(Message, frozen=True, kw_only=True):
    """How the mesh looks from here."""


class MeshNeighbourSeen(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node whose frames are heard directly. Shares of frames are 0 to 1."""

    address: int
    rssi_dbm: float
    snr_db: float
    delivery_out: float
    delivery_in: float
    heard_s_ago: float
    name: str = ""


class MeshRouteSeen(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a node is reached, and what it has."""

    destination: int
    next_hop: int
    hops: int
    cost: float
    uplink: bool = False
    modem: bool = False
    model: bool = False
    battery_percent: int | None = None
    name: str = ""


class MeshTexts(msgspec.Struct, frozen=True, omit_defaults=True):
    """The centre's texts here, and newer ones at another node."""

    version: int
    """In use; 0: what was shipped."""
    sent_s: float = 0.0
    """Airtime of this day in which others were given texts."""
    newer: int = 0
    """The newest that another node has; 0: none is newer."""
    peer: int = 0
    name: str = ""
    """Who has it."""
    octets: int = 0
    of: int = 0
    """How much of it has come; ``of`` alone: so much would be needed."""
    by_stick: bool = False
    """Nobody can give it by radio: it must be brought."""
    reason: str = ""
    """Why it does not come now."""


class MeshStatus(Message, frozen=True, kw_only=True):
    """The mesh as this node sees it. ``radio`` is "none" without ``[mesh] device``."""

    radio: Literal["none", "up", "down"]
    name: str = ""
    """What the radio calls itself."""
    reason: str = ""
    """Why the radio is down."""
    cannot_know: tuple[str, ...] = ()
    """What this radio cannot tell, a sentence each."""
    network: int = 0
    number: int = 0
    """Of the network's file: it grows with each change of the roster."""
    address: int = 0
    region: str = ""
    frequency_hz: int = 0
    spreading_factor: int = 0
    """In use now."""
    agreed_spreading_factor: int = 0
    """What the network's file has for this time, by this node's clock; 0 from an older release."""
    planned_spreading_factor: int = 0
    planned_at: float = 0.0
    """The change in the network's file, past or to come, and its Unix time; 0: there is none."""
    looking: bool = False
    """It only listens now whether others are on this spreading factor."""
    uplink: bool = False
    modem: bool = False
    model: bool = False
    flash_only: bool = False
    """What others are told of this node: it has a link, a modem that works, a small model that may run,
    hardly any battery."""
    neighbours: tuple[MeshNeighbourSeen, ...] = ()
    routes: tuple[MeshRouteSeen, ...] = ()
    airtime_used_ms: float = 0.0
    airtime_limit_ms: float = 0.0
    airtime_window_s: float = 0.0
    waits_s: dict[str, float] = msgspec.field(default_factory=dict)
    """For each lane, until when the law has it wait."""
    waiting: dict[str, int] = msgspec.field(default_factory=dict)
    """For each lane, own messages that the mesh has and that are not settled."""
    counters: dict[str, int] = msgspec.field(default_factory=dict)
    """What happened since the actor began: the state machine's, the radio's with "radio_" before them, and
    the actor's own with "actor_"."""
    needs: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    """Needs by place, as this node and others told them within the day."""
    texts: MeshTexts | None = None
    """None: this node knows no centre, or takes and gives no texts by mesh."""
