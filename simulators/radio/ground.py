"""The ground that radios stand on: a map from a TOML file, or one that is made."""

import itertools
import math
import random
import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import msgspec
from evy_core import RadioChannel
from msgspec import Meta

MOST_RADIOS: Final = 300
"""Modules at once: a terminal and two descriptors each, of 1024 that a process has."""
MOST_OCTETS: Final = 1024 * 1024
REACH_MARGIN_DB: Final = (6.0, 14.0)
"""How much better than the weakest that is heard a made link is, by distance alone."""

Metres = Annotated[float, Meta(ge=-1e6, le=1e6)]
Decibels = Annotated[float, Meta(ge=-200, le=200)]


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ``[[radio]]``: where it stands, and what its antenna and cable add to what the module sends and
    hears; negative is a bad one."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$")]
    x_m: Metres
    y_m: Metres
    gain_db: Decibels = 0.0


class Link(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"sender": "from", "receiver": "to"}
):
    """A ``[[link]]``: what stands between two radios besides distance, in dB, in place of the shadow that
    chance would give it; ``one_way`` leaves the other direction as it is."""

    sender: str
    receiver: str
    loss_db: Decibels
    one_way: bool = False


class Obstacle(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"begin_m": "from", "end_m": "to"}
):
    """An ``[[obstacle]]``: a hill or a wall as a line; every link that crosses it loses so much."""

    begin_m: tuple[Metres, Metres]
    end_m: tuple[Metres, Metres]
    loss_db: Decibels
    name: str = ""


class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[channel]``. ``height_m`` is every antenna's; ``shadow_db`` the spread (standard deviation) of
    what chance puts in the way of a link, ``asymmetry_db`` of what it adds one way only."""

    region: Literal["EU868", "US915", "none"] = "EU868"
    frequency_hz: Annotated[int, Meta(ge=137_000_000, le=1_020_000_000)] = 869_525_000
    spreading_factor: Annotated[int, Meta(ge=7, le=12)] = 9
    """For the picture and for made maps; modules send as they are told."""
    bandwidth_hz: Literal[125_000, 250_000, 500_000] = 125_000
    height_m: Annotated[float, Meta(ge=1, le=100)] = 5.0
    shadow_db: Annotated[float, Meta(ge=0, le=40)] = 4.0
    asymmetry_db: Annotated[float, Meta(ge=0, le=40)] = 1.0


class Ground(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A map. Tables that are left out have their defaults."""

    radio: tuple[Place, ...]
    channel: Channel = Channel()
    link: tuple[Link, ...] = ()
    obstacle: tuple[Obstacle, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """A map from a file. Raises ValueError that names the entry, and OSError."""
        with path.open("rb") as file:
            text = file.read(MOST_OCTETS + 1)
        if len(text) > MOST_OCTETS:
            raise ValueError(f"{path}: more than {MOST_OCTETS} octets: no map of radios")
        try:
            ground = msgspec.convert(tomllib.loads(text.decode()), cls)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
            raise ValueError(f"{path}: {error}") from error
        ground.check(str(path))
        return ground

    @classmethod
    def made(cls, nodes: int, seed: int, channel: Channel | None = None) -> Self:
        """A map of ``nodes`` radios, the same for the same seed: each within reach of an earlier one, and
        most out of reach of the first.

        Raises ValueError for fewer than 1 or more than :data:`MOST_RADIOS`.
        """
        channel = channel or Channel()
        chance = random.Random(seed)  # noqa: S311  # places, not secrets
        probe = RadioChannel(
            [(0, 0), (1000, 0)],
            [14, 14],
            [0, 0, 0, 0],
            frequency_hz=channel.frequency_hz,
            bandwidth_hz=channel.bandwidth_hz,
            height_m=channel.height_m,
        )
        floor_dbm = probe.sensitivity_dbm(channel.spreading_factor, channel.bandwidth_hz)

        def margin_db(distance_m: float) -> float:
            probe.move_to(1, distance_m, 0)
            return probe.rssi_dbm(0, 1) - floor_dbm

        def distance_m(margin: float) -> float:
            low, high = 1.0, 1e5
            while high - low > 1:
                middle = (low + high) / 2
                low, high = (middle, high) if margin_db(middle) > margin else (low, middle)
            return low

        places: list[tuple[float, float]] = [(0.0, 0.0)]
        while len(places) < nodes:
            # The newest quarter: a country grows outwards, and messages have to hop.
            near = chance.choice(places[-max(1, len(places) // 4) :])
            length = distance_m(chance.uniform(*REACH_MARGIN_DB))
            angle = chance.uniform(0, 2 * math.pi)
            place = (near[0] + length * math.cos(angle), near[1] + length * math.sin(angle))
            if all(math.dist(place, other) > 0.6 * length for other in places):
                places.append(place)
        ground = cls(
            radio=tuple(
                Place(f"n{number}", round(x), round(y)) for number, (x, y) in enumerate(places[:nodes], 1)
            ),
            channel=channel,
        )
        ground.check(f"{nodes} nodes")
        return ground

    def check(self, whose: str) -> None:
        """Raises ValueError when radios are missing, too many or twice, or a link names none."""
        if not 1 <= len(self.radio) <= MOST_RADIOS:
            raise ValueError(f"{whose}: {len(self.radio)} radios, 1 to {MOST_RADIOS} are possible")
        names = [place.name for place in self.radio]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"{whose}: two radios are called {min(twice)!r}: names are unique")
        for link in self.link:
            for name in (link.sender, link.receiver):
                if name not in names:
                    raise ValueError(f"{whose}: a link names {name!r}, and no radio is called so")

    def shadows(self, seed: int) -> list[list[float]]:
        """What chance and the map's links put in the way from row to column, in dB; obstacles not counted."""
        chance = random.Random(f"{seed} shadow")  # noqa: S311  # likewise
        count = len(self.radio)
        losses = [[0.0] * count for _ in range(count)]
        for one, other in itertools.combinations(range(count), 2):
            both = chance.gauss(0, self.channel.shadow_db)
            apart = chance.gauss(0, self.channel.asymmetry_db)
            losses[one][other], losses[other][one] = both + apart, both - apart
        index = {place.name: number for number, place in enumerate(self.radio)}
        for link in self.link:
            sender, receiver = index[link.sender], index[link.receiver]
            losses[sender][receiver] = link.loss_db
            if not link.one_way:
                losses[receiver][sender] = link.loss_db
        return losses

    def obstacles_db(self, one: tuple[float, float], other: tuple[float, float]) -> float:
        """What the map's obstacles take from a link between two places."""
        return sum(
            obstacle.loss_db
            for obstacle in self.obstacle
            if crosses(one, other, obstacle.begin_m, obstacle.end_m)
        )


def crosses(
    a: tuple[float, float], b: tuple[float, float], c: tuple[float, float], d: tuple[float, float]
) -> bool:
    """Whether the line from a to b crosses the one from c to d; touching counts."""

    def side(p: tuple[float, float], q: tuple[float, float], r: tuple[float, float]) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) <= 0 and side(c, d, a) * side(c, d, b) <= 0
