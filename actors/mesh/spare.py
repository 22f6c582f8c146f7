"""Air that nobody needs: when there is some, and sending in it what gives way to everything else."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

from evy_core import MeshError, time_on_air_us

from actors.mesh.loop import Loop, State
from subjects.node_state import NodeState

IDLE_PERCENT: Final = 25.0
"""Share of the lawful airtime from which on a node sends nothing spare."""
QUIET: Final = 0.10
"""Share of the last two minutes in which the channel may have been occupied, by this node too: while it sends
spare messages, it rests some ten times as long."""
DAY_S: Final = 86400.0
LAWFUL_SHARE: Final = 0.02
"""Of the airtime that the law gives a node in a day, at most so much is spare."""
GIVES_WAY_S: Final = 0.5
"""So often it is looked whether something else waits while a spare message does."""
WITHIN_S: Final = 900.0
"""A spare message that has no receipt by then is not tried again; its destination asks again when it can."""
MESSAGE_FRAMES: Final = 3
"""A message of more takes the air for longer than a person's routine text should wait for it; one of fewer
costs a receipt for each frame."""
FRAME_HEAD_OCTETS: Final = 18 + 2
PAIR_OCTETS: Final = 4


class Way(NamedTuple):
    """A node within reach."""

    destination: int
    hops: int
    cost: float


class SpareAir:
    """What of the radio's time may be used for what nobody waits for."""

    def __init__(
        self,
        *,
        loop: Loop,
        now_us: Callable[[], int],
        state: Callable[[], NodeState],
        spreading_factor: int,
        battery_from: float,
        day_s: float,
    ) -> None:
        """``battery_from``: per cent below which nothing is sent; ``day_s``: airtime of a day for what this
        node gives others."""
        self._loop = loop
        self._now_us = now_us
        self._state = state
        self._spreading_factor = spreading_factor
        self._battery_from = battery_from
        self._day_s = day_s
        self._spent: deque[tuple[float, float]] = deque()
        """When, and how much; of a day, and the law bounds how many there are."""

    def now_s(self) -> float:
        """Time by the radio's clock, which never goes back."""
        return self._now_us() / 1e6

    def why_not(self) -> str:
        """Why nothing spare is sent now; empty: the air is idle."""
        core, battery = self._loop.core, self._state().battery_rule_percent
        if core is None or self._loop.trouble:
            return "the radio is down"
        if battery is not None and battery < self._battery_from:
            return f"battery {battery:.0f} %, it takes {self._battery_from:.0f}"
        airtime = core.airtime(self._now_us())
        if airtime.limit_us and 100 * airtime.used_us >= IDLE_PERCENT * airtime.limit_us:
            return f"{IDLE_PERCENT:.0f} % of the lawful airtime is used"
        if airtime.busy >= QUIET:
            return "the channel is busy"
        return "messages wait" if self._loop.presses else ""

    def ways(self) -> Sequence[Way]:
        """Who is within reach."""
        core = self._loop.core
        return (
            [Way(one.destination, one.hops, one.cost) for one in core.routes(self._now_us())] if core else []
        )

    async def send(self, destination: int | None, payload: bytes) -> State | Literal["gave_way"]:
        """Sends it in the lane routine; "refused" when the core cannot, "gave_way" when something else waited
        and it is to be sent again."""
        sending = asyncio.ensure_future(
            self._loop.send(destination, payload, "routine", within_s=WITHIN_S, spare=True)
        )
        try:
            while not sending.done():
                await asyncio.wait([sending], timeout=GIVES_WAY_S)
                if self._loop.presses and not sending.done():
                    return "gave_way"
            return sending.result()
        except MeshError:
            return "refused"
        finally:
            if not sending.done():
                sending.cancel()
                await asyncio.wait([sending])

    # What is given to others: bounded by the day.

    @property
    def message_octets(self) -> int:
        """The longest spare message."""
        return MESSAGE_FRAMES * self._room - PAIR_OCTETS

    @property
    def _room(self) -> int:
        facts = self._loop.facts
        return (facts.longest_frame if facts else 237) - FRAME_HEAD_OCTETS

    def airtime_s(self, octets: int) -> float:
        """Of a message, sent once; without what carries it further and confirms it."""
        facts = self._loop.facts
        left, total_us = octets + PAIR_OCTETS, 0
        while left > 0:
            frame = min(left, self._room) + FRAME_HEAD_OCTETS + (facts.hidden_octets if facts else 0)
            total_us += time_on_air_us(frame, spreading_factor=self._spreading_factor)
            left -= self._room
        return total_us / 1e6

    def of_day_s(self) -> float:
        """Airtime that may be given in a day."""
        core = self._loop.core
        airtime = core.airtime(self._now_us()) if core else None
        if airtime is None or not airtime.limit_us:
            return self._day_s
        lawful_s = DAY_S * airtime.limit_us / airtime.window_us
        return min(self._day_s, LAWFUL_SHARE * lawful_s)

    def left_s(self) -> float:
        """What is left of it."""
        since_s = self.now_s() - DAY_S
        while self._spent and self._spent[0][0] < since_s:
            self._spent.popleft()
        return self.of_day_s() - sum(spent for _, spent in self._spent)

    def spend(self, octets: int) -> None:
        """A message of so many octets was given."""
        self._spent.append((self.now_s(), self.airtime_s(octets)))
