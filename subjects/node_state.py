"""What a node knows of itself: power, memory, clock, link and modems; decisions take it as an argument.

None is unknown, and a decision treats it as the worst that is still useful. The one writer is the actor
``node``, which keeps it in the bucket of that name; readers hold `Context.node_state`, a live view.
"""

from typing import Any, Final, Literal

import msgspec

from subjects.messages import Message

ModemCondition = Literal["up", "away", "dead"]
"""up: it answers. away: it does not, and is being brought back. dead: nothing brought it back."""

MEGABYTE: Final = 1024 * 1024

STATE_KEY: Final = "state"
"""The one key of the bucket ``node``."""


class ModemState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One modem as the actor ``sms`` last told of it, by the event kind ``modem_state``."""

    name: str
    state: ModemCondition
    registered: bool | None = None
    """Whether the network has accepted it (home or roaming), 3GPP TS 27.007 §7.2."""
    operator: str = ""
    signal_dbm: float | None = None
    """Received signal strength, 3GPP TS 27.007 §8.5."""
    storage_used: int | None = None
    """Texts in the storage that texts arrive in, 3GPP TS 27.005 §3.2.2."""
    storage_size: int | None = None
    credit: float | None = None
    """Balance of a prepaid card, in its own currency."""
    credit_text: str = ""
    """What the network said about it."""
    sent_hour: int | None = None
    """Parts sent in the last hour."""
    limit_hour: int | None = None
    """Parts that the carrier lets through in an hour, as far as it was learned or configured."""

    @classmethod
    def of_event(cls, fields: dict[str, Any]) -> "ModemState":
        """State told by an event's fields, where the name is called ``modem``. Unknown fields are ignored.

        Raises :class:`msgspec.ValidationError` for fields that are not such a state.
        """
        return msgspec.convert({"name": fields.get("modem"), **fields}, type=cls)


class MeshState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The mesh as the actor ``mesh`` last told of it, by the event kind ``mesh_state``."""

    radio: Literal["up", "down"]
    neighbours: int = 0
    """Nodes whose frames are heard directly."""
    uplink: bool = False
    """A node that is within reach has a link to the centre."""
    modem: bool = False
    """A node that is within reach has a modem that works."""
    model: bool = False
    """A node that is within reach has a small model that may run."""
    airtime_percent: float | None = None
    """Of what the law allows in the window that it looks at."""

    @classmethod
    def of_event(cls, fields: dict[str, Any]) -> "MeshState":
        """State told by an event's fields; unknown ones are ignored. Raises
        :class:`msgspec.ValidationError`."""
        return msgspec.convert(fields, type=cls)


class NodeState(Message, frozen=True, kw_only=True):
    """A node at the moment ``at``, Unix seconds by its own idea of the time."""

    node: str
    at: float = 0.0
    """0: nothing was seen yet."""
    battery_percent: float | None = None
    battery_rule_percent: float | None = None
    """The same as the rules take it: a limit once crossed downwards holds until a margin above it."""
    charging: bool | None = None
    voltage_v: float | None = None
    draw_w: float | None = None
    """What the battery gives, in watts; negative while it is charged."""
    cpu_percent: float | None = None
    """Of all cores together, 0 to 100."""
    memory_free_octets: int | None = None
    """What a new program could use, caches that the kernel would give up included."""
    memory_rule_octets: int | None = None
    """The same as the rules take it, with a margin like the battery's."""
    temperature_c: float | None = None
    under_voltage: bool | None = None
    """The board's supply is too low now."""
    throttled: bool | None = None
    """The board slows its processor down now, for heat or for voltage."""
    storage_free_octets: int | None = None
    link: Literal["up", "down", "none"] = "none"
    """none: there is no centre, or nobody has looked."""
    clock: Literal["network", "sms", "unset"] = "unset"
    """Where the node's idea of the time comes from."""
    ahead_s: float = 0.0
    """How far that idea is ahead of the system's clock; only ``sms`` ever sets it."""
    modems: tuple[ModemState, ...] = ()
    model: bool | None = None
    """A small model could be loaded: its file is right and there is memory. None: nobody has told."""
    mesh: MeshState | None = None
    """None: this node has no radio, or nobody has told."""

    @property
    def memory_rule_mb(self) -> float | None:
        """``memory_rule_octets`` in the unit of the rules."""
        return None if self.memory_rule_octets is None else self.memory_rule_octets / MEGABYTE
