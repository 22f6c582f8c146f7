"""Orders for a simulated link and what it says back; the link itself is :mod:`simulators.link`."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from simulators.orders import Order, OrderClient

Way = Literal["up", "down"]
"""``up`` is from who dialled to the target."""
Ways = Literal["up", "down", "both"]
End = Literal["reset", "close"]
Outage = Literal["cut", "close", "stall", "drop", "half_up", "half_down"]
"""What flapping does while it is down. ``cut`` and ``close`` end connections and refuse new ones; the halves
stall one way."""

Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Octets = Annotated[int, Meta(ge=0)]


class Shape(Order, frozen=True):
    """Delay, jitter on top of it, and rate in octets per second; what is not given is set to nothing."""

    way: Ways = "both"
    delay_s: Seconds = 0.0
    jitter_s: Seconds = 0.0
    rate: Annotated[float, Meta(ge=1)] | None = None


class Cut(Order, frozen=True):
    """Ends every connection; new ones are taken."""

    how: End = "reset"


class Truncate(Order, frozen=True):
    """Passes ``after_octets`` more, then a part of what is sent next, and ends that connection."""

    way: Way
    after_octets: Octets = 0


class Stall(Order, frozen=True):
    """Nothing passes and nothing is lost; one way only is a half-open link."""

    way: Ways = "both"


class Drop(Order, frozen=True):
    """Octets vanish; connections that lost some are reset by the healing."""

    way: Ways = "both"


class Refuse(Order, frozen=True):
    """Who dials is refused; connections that stand, stand."""


class Flap(Order, frozen=True):
    """Up and down for ``for_s``, each time for seconds between two bounds, by the link's seed."""

    up_s: tuple[Seconds, Seconds] = (1.0, 5.0)
    down_s: tuple[Seconds, Seconds] = (0.5, 3.0)
    how: Annotated[tuple[Outage, ...], Meta(min_length=1)] = (
        "cut",
        "close",
        "stall",
        "drop",
        "half_up",
        "half_down",
    )
    for_s: Seconds = 60.0

    def __post_init__(self) -> None:
        if self.up_s[1] + self.down_s[1] <= 0:
            raise ValueError("flapping needs time: up_s and down_s are both zero")


class Heal(Order, frozen=True):
    """Ends stall, drop, refusal, a waiting truncation and flapping; the shape stays."""


class Show(Order, frozen=True):
    """Asks for the state."""


LinkOrder = Shape | Cut | Truncate | Stall | Drop | Refuse | Flap | Heal | Show


class Counted(msgspec.Struct):
    """Octets of one way since the start: taken from senders, passed to receivers, lost, and now under way."""

    taken: int = 0
    passed: int = 0
    lost: int = 0
    held: int = 0


class LinkReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """State after an order; ``error`` is empty when all is well."""

    error: str = ""
    listen: str = ""
    connections: int = 0
    accepted: int = 0
    refusing: bool = False
    flapping: bool = False
    stalled: tuple[Way, ...] = ()
    dropping: tuple[Way, ...] = ()
    up: Counted = msgspec.field(default_factory=Counted)
    down: Counted = msgspec.field(default_factory=Counted)


class LinkControl(OrderClient[LinkReply]):
    """A client of the control socket: ``async with LinkControl(path) as link: await link.do(Stall())``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, LinkReply)
