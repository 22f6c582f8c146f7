"""Which spreading factor this node uses now: the agreed one by its clock, or the one it finds others on.

A planned change is in the network's file (`evy mesh plan`). Whoever knows the time goes at that time. A clock
may be unset, or wrong by hours, and a file old: so a node that hears nobody looks with the other spreading
factor now and then, and stays where it hears somebody (docs/mesh.md, M70).
"""

import random
from collections.abc import Callable
from typing import Final, NamedTuple

from evy_core import time_on_air_us

from actors._roster.network import Network

FRAME_OCTETS: Final = 75
"""A typical frame with what a module hides."""
BEACON_FRAMES: Final = 2400
BEACON_LEAST_S: Final = 1800.0
"""Beacons are at most so many frames' airtime apart where nothing changes, and never less than this (M21)."""
WINDOW: Final = 1.5
"""A look lasts so many of these intervals: two beacons of one node are never further apart."""
QUIET: Final = 3
"""After so many in which nobody was heard a node looks elsewhere: each around was missed twice at least."""
LOOK_AGAIN_S: Final = 12 * 3600.0
"""How often on average a node that hears others looks where its clock, or the plan, has it that all should be
by now; at random, so that two who do meet. It is deaf here for 6 % of the time then, and what is for it
waits with its neighbours."""


class Tuning(NamedTuple):
    """How the radio is set from now on."""

    spreading_factor: int
    listen: bool
    """Nothing is sent until somebody is heard."""
    why: str
    """planned: its time has come; looking: for others; back: nobody was heard there."""


class Schedule:
    """One node's. Times in seconds of a clock that never goes back (``now_s``), and Unix time as the node has
    it. ``spreading_factor`` is the one that the radio is to be set to."""

    def __init__(
        self, network: Network, now_s: float, unix: float, draw: Callable[[], float] = random.random
    ) -> None:
        """``draw`` gives numbers from 0 to 1."""
        self._planned = network.planned
        self._former = network.spreading_factor
        self.spreading_factor = network.holds_at(unix)
        self.looking = False
        """It is elsewhere, and nobody was heard there yet."""
        self._draw = draw
        self._lives_on = self.spreading_factor
        """Where it goes back to from a look."""
        self._left_others = False
        """Somebody is heard there."""
        self._by_clock: int | None = None
        self._since_s = now_s
        """When the radio was set so."""
        self._look_again_s = now_s + LOOK_AGAIN_S
        self._looked_once = False
        self._looked_on_time = False

    @property
    def _other(self) -> int:
        assert self._planned is not None  # noqa: S101  # asked only where a change is planned
        later = self._planned.spreading_factor
        return self._former if self.spreading_factor == later else later

    def next(
        self, now_s: float, unix: float, heard_s: float | None, *, known: bool, urgent: bool = False
    ) -> Tuning | None:
        """How the radio is to be set from now on; None: as it is.

        ``heard_s`` is when somebody of the network was heard last; ``known`` whether somebody set the clock;
        ``urgent`` whether a flash waits here, for which nobody looks elsewhere while others are in reach.
        """
        planned = self._planned
        if planned is None:
            return None
        heard = heard_s is not None and heard_s > self._since_s
        if self.looking and heard:
            self.looking, self._lives_on = False, self.spreading_factor
        is_past = unix >= planned.at
        by_clock = (planned.spreading_factor if is_past else self._former) if known else None
        before, self._by_clock = self._by_clock, by_clock
        if by_clock is not None and by_clock not in {before, self._lives_on}:
            return self._live_on(by_clock, now_s, "planned")
        if self.looking:
            return self._end_look(now_s, urgent=urgent)
        last_s = heard_s if heard_s is not None and heard else self._since_s
        if now_s - last_s >= self._patience_s(heard=heard):
            gone = by_clock == self._other  # who was followed here
            return self._live_on(self._other, now_s, "planned") if gone else self._look(now_s)
        wanted = planned.spreading_factor if by_clock is None else by_clock
        on_time = by_clock is None and is_past and not self._looked_on_time
        due = on_time or now_s >= self._look_again_s
        if due and not urgent and wanted != self.spreading_factor:
            self._looked_on_time |= is_past
            # Where nobody knows the time, nobody would be the first if none of those who look spoke.
            speaks = is_past and wanted == planned.spreading_factor
            return self._look(now_s, left_others=True, listen=not speaks)
        return None

    def _patience_s(self, *, heard: bool) -> float:
        """How long nobody is heard until this node looks elsewhere; right after its start less."""
        first = not heard and not self._looked_once
        return window_s(self.spreading_factor) if first else quiet_s(self.spreading_factor)

    def _end_look(self, now_s: float, *, urgent: bool) -> Tuning | None:
        over = now_s - self._since_s >= window_s(self.spreading_factor)
        if over or (urgent and self._left_others):
            return self._live_on(self._lives_on, now_s, "back")
        return None

    def stay_on(self, spreading_factor: int) -> None:
        """The radio cannot be set as planned: it stays as it is for as long as this file is in use."""
        self._planned, self.looking = None, False
        self.spreading_factor = self._lives_on = spreading_factor

    def _look(self, now_s: float, *, left_others: bool = False, listen: bool = True) -> Tuning:
        self.spreading_factor = self._other
        self.looking = self._looked_once = True
        self._left_others = left_others
        self._since_s = now_s
        self._look_again_s = now_s + LOOK_AGAIN_S * (0.5 + self._draw())
        return Tuning(self.spreading_factor, listen=listen, why="looking")

    def _live_on(self, spreading_factor: int, now_s: float, why: str) -> Tuning | None:
        changes = self.looking or spreading_factor != self.spreading_factor
        self.spreading_factor = self._lives_on = spreading_factor
        self.looking = False
        if not changes:
            return None
        self._since_s = now_s
        return Tuning(spreading_factor, listen=False, why=why)


def interval_s(spreading_factor: int) -> float:
    """The longest interval between two beacons of one node."""
    frame_s = time_on_air_us(FRAME_OCTETS, spreading_factor=spreading_factor) / 1e6
    return max(BEACON_LEAST_S, BEACON_FRAMES * frame_s)


def window_s(spreading_factor: int) -> float:
    """How long a look lasts."""
    return WINDOW * interval_s(spreading_factor)


def quiet_s(spreading_factor: int) -> float:
    """How long nobody must have been heard before a node looks elsewhere."""
    return QUIET * interval_s(spreading_factor)
