"""The air between the modules: the core's channel in real time or faster, and a record of what happened."""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from evy_core import Landing, RadioChannel

from simulators.radio.ground import Ground
from simulators.radio.module import Module, Sent, Tuning

log = logging.getLogger("simulators.radio")

REMEMBERED: Final = 10_000
"""Frames and violations that are kept; an event is some 300 octets."""
STEP_S: Final = 0.25
"""How often a radio on the move is somewhere else."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One frame that left a radio: who heard it whole, who heard it broken, and who broke the law."""

    at_s: float
    sender: str
    octets: int
    airtime_ms: float
    heard: tuple[str, ...] = ()
    collided: tuple[str, ...] = ()
    """In reach, and another frame was stronger or as strong."""
    busy: tuple[str, ...] = ()
    """In reach, and sending itself."""
    lost: tuple[str, ...] = ()
    """Lost by order or by the chance that was asked for."""
    violation: str = ""


@dataclass(slots=True)
class Count:
    """What one radio made of the air."""

    frames: int = 0
    octets: int = 0
    airtime_us: int = 0
    heard: int = 0
    collided: int = 0
    busy: int = 0
    lost: int = 0
    violations: int = 0


@dataclass(slots=True)
class Hearing:
    """What one radio got of another."""

    frames: int = 0
    broken: int = 0
    rssi_dbm: float = 0.0
    """Of the last one."""


class _Lost(NamedTuple):
    sender: int | None
    receiver: int | None


@dataclass(slots=True)
class _Journey:
    module: int
    begin: tuple[float, float]
    end: tuple[float, float]
    begins_s: float
    lasts_s: float


@dataclass(slots=True)
class Air:
    """All modules of a map and what is between them. ``speed``: how much faster than real time the air is;
    ``loss``: the chance that a frame which came whole is lost all the same."""

    ground: Ground
    directory: Path
    speed: float = 1.0
    loss: float = 0.0
    seed: int = 0
    clock: Callable[[], float] = time.monotonic
    modules: list[Module] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    hearings: dict[tuple[int, int], Hearing] = field(default_factory=dict)
    """By sender and receiver: at most all ordered pairs."""
    routes: dict[str, dict[str, str]] = field(default_factory=dict)
    """What nodes told: by name, the next hop to each destination."""
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    listeners: list[Callable[[Event], None]] = field(default_factory=list)
    channel: RadioChannel = field(init=False)
    _chance: random.Random = field(init=False)
    _began_s: float = field(init=False, default=0.0)
    _timer: asyncio.TimerHandle | None = field(init=False, default=None)
    _moving: asyncio.TimerHandle | None = field(init=False, default=None)
    _journeys: dict[int, _Journey] = field(init=False, default_factory=dict)
    _shadows: list[list[float]] = field(init=False)
    _places: list[tuple[float, float]] = field(init=False)
    _sent: dict[int, Sent] = field(init=False, default_factory=dict)
    _sending: list[deque[tuple[int, int]]] = field(init=False)
    """When each radio's last frames began and ended."""
    _to_lose: dict[_Lost, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Makes the channel and a module for each place."""
        if not 0.01 <= self.speed <= 10_000 or not 0 <= self.loss < 1:
            raise ValueError(f"speed {self.speed} and loss {self.loss}: 0.01 to 10000, and 0 to below 1")
        places = self.ground.radio
        self._chance = random.Random(f"{self.seed} air")  # noqa: S311  # weather, not a secret
        self._shadows = self.ground.shadows(self.seed)
        self._places = [(place.x_m, place.y_m) for place in places]
        count = len(places)
        self.channel = RadioChannel(
            self._places,
            [place.gain_db for place in places],
            [self._between_db(one, other) for one in range(count) for other in range(count)],
            frequency_hz=self.ground.channel.frequency_hz,
            bandwidth_hz=self.ground.channel.bandwidth_hz,
            height_m=self.ground.channel.height_m,
            region=self.ground.channel.region,
        )
        self.counts = [Count() for _ in places]
        self._sending = [deque(maxlen=8) for _ in places]
        self.modules = [
            Module(place.name, self.directory / place.name, number, self, seed=self.seed)
            for number, place in enumerate(places)
        ]

    # Life.

    def start(self) -> None:
        """Powers every module up; needs a running loop."""
        self._began_s = self.clock()
        for module in self.modules:
            module.plug()

    def stop(self) -> None:
        """Takes every terminal away."""
        for timer in (self._timer, self._moving):
            if timer:
                timer.cancel()
        for module in self.modules:
            module.unplug()

    @property
    def now_us(self) -> int:
        """Simulated microseconds since :meth:`start`."""
        return int((self.clock() - self._began_s) * 1e6 * self.speed) if self._began_s else 0

    def named(self, name: str) -> int:
        """A module's number. Raises ValueError that lists the names."""
        for module in self.modules:
            if module.name == name:
                return module.number
        raise ValueError(f"no radio is called {name!r}; there are {', '.join(m.name for m in self.modules)}")

    def place(self, number: int) -> tuple[float, float]:
        """Where a radio stands now, metres east and north."""
        return self._places[number]

    # What changes in the world.

    def _between_db(self, one: int, other: int) -> float:
        if one == other:
            return 0.0
        gain_db = self.ground.radio[other].gain_db
        walls_db = self.ground.obstacles_db(self._places[one], self._places[other])
        return self._shadows[one][other] + walls_db - gain_db

    def set_power(self, number: int, power_dbm: float) -> None:
        """A module sends so loud; its antenna's gain is added."""
        self.channel.set_power(number, power_dbm + self.ground.radio[number].gain_db)

    def set_shadow(self, one: int, other: int, loss_db: float, *, one_way: bool) -> None:
        """Something stands in the way between two radios, instead of what stood there."""
        for sender, receiver in ((one, other), (other, one))[: 1 if one_way else 2]:
            self._shadows[sender][receiver] = loss_db
            self.channel.set_shadow(sender, receiver, self._between_db(sender, receiver))

    def move(self, number: int, x_m: float, y_m: float, within_s: float = 0.0) -> None:
        """A radio goes elsewhere, in a straight line, and is there after so many simulated seconds."""
        if not within_s:
            self._journeys.pop(number, None)
            self._stand(number, (x_m, y_m))
            return
        self._journeys[number] = _Journey(
            number, self._places[number], (x_m, y_m), self.now_us / 1e6, within_s
        )
        if self._moving is None:
            self._walk()

    def _walk(self) -> None:
        self._moving = None
        now_s = self.now_us / 1e6
        for journey in list(self._journeys.values()):
            done = min(1.0, (now_s - journey.begins_s) / journey.lasts_s)
            (x0, y0), (x1, y1) = journey.begin, journey.end
            self._stand(journey.module, (x0 + (x1 - x0) * done, y0 + (y1 - y0) * done))
            if done >= 1:
                del self._journeys[journey.module]
        if self._journeys:
            self._moving = asyncio.get_running_loop().call_later(STEP_S, self._walk)

    def _stand(self, number: int, place: tuple[float, float]) -> None:
        self._places[number] = place
        self.channel.move_to(number, *place)
        for other in range(len(self.modules)):
            if other != number and self.ground.obstacle:
                self.channel.set_shadow(number, other, self._between_db(number, other))
                self.channel.set_shadow(other, number, self._between_db(other, number))

    def lose(self, sender: int | None, receiver: int | None, frames: int) -> None:
        """The next frames from one to another do not come; None is anybody."""
        self._to_lose[_Lost(sender, receiver)] = frames

    # Frames.

    def begin(self, module: Module, frame: bytes, tuning: Tuning) -> int:
        """A module sends; gives when it ends, in simulated microseconds. Raises ValueError when it cannot."""
        now_us = self.now_us
        self._land(now_us)
        number, ends_us = self.channel.begin(
            module.number,
            frame,
            now_us,
            frequency_hz=tuning.frequency_hz,
            spreading_factor=tuning.spreading_factor,
            bandwidth_hz=tuning.bandwidth_hz,
            coding_rate=tuning.coding_rate,
            preamble_symbols=tuning.preamble_symbols,
        )
        self._sent[number] = Sent(module.number, frame, tuning)
        self._sending[module.number].append((now_us, ends_us))
        self._wait()
        return ends_us

    def _wait(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        ends_us = self.channel.next_end_us
        if ends_us is not None:
            wait_s = max(0.0, (ends_us - self.now_us) / 1e6 / self.speed)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._turn)

    def _turn(self) -> None:
        self._timer = None
        self._land(self.now_us)
        self._wait()

    def _land(self, now_us: int) -> None:
        for landing in self.channel.advance(now_us):
            self._hand_over(landing, self._sent.pop(landing.id))

    def _hand_over(self, landing: Landing, sent: Sent) -> None:
        count = self.counts[landing.sender]
        count.frames += 1
        count.octets += len(landing.frame)
        count.airtime_us += landing.ends_us - landing.began_us
        fates: dict[str, list[str]] = {"heard": [], "collided": [], "busy": [], "lost": []}
        for receiver, rssi_dbm, snr_db, whole in landing.receptions:
            module = self.modules[receiver]
            if not module.listens_to(sent.tuning):
                continue
            if whole:
                fate = "lost" if self._loses(landing.sender, receiver) else "heard"
            else:
                fate = "busy" if self._was_sending(receiver, landing) else "collided"
            fates[fate].append(module.name)
            got = self.counts[receiver]
            setattr(got, fate, getattr(got, fate) + 1)
            hearing = self.hearings.setdefault((landing.sender, receiver), Hearing())
            hearing.rssi_dbm = rssi_dbm
            if fate == "heard":
                hearing.frames += 1
            else:
                hearing.broken += 1
            if fate != "busy":
                module.hear(sent, rssi_dbm, snr_db, whole=fate == "heard")
        if landing.violation:
            count.violations += 1
            log.warning("%s breaks the law: %s", self.modules[landing.sender].name, landing.violation)
        self._tell(
            Event(
                at_s=landing.ends_us / 1e6,
                sender=self.modules[landing.sender].name,
                octets=len(landing.frame),
                airtime_ms=(landing.ends_us - landing.began_us) / 1e3,
                violation=landing.violation or "",
                **{fate: tuple(names) for fate, names in fates.items()},
            )
        )

    def _was_sending(self, receiver: int, landing: Landing) -> bool:
        return any(
            began_us < landing.ends_us and landing.began_us < ends_us
            for began_us, ends_us in self._sending[receiver]
        )

    def _loses(self, sender: int, receiver: int) -> bool:
        for which in (
            _Lost(sender, receiver),
            _Lost(sender, None),
            _Lost(None, receiver),
            _Lost(None, None),
        ):
            if self._to_lose.get(which, 0) > 0:
                self._to_lose[which] -= 1
                return True
        return self._chance.random() < self.loss

    def _tell(self, event: Event) -> None:
        self.events.append(event)
        for listener in self.listeners:
            listener(event)
