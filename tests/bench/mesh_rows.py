"""Ours and the baseline on the same ground: what is compared, and the figures of one run.

15 × 15 km, LONG_FAST (SF11 at 250 kHz, 4/5), 869.525 MHz, 27 dBm radiated, a tenth of an hour on air for
each node, an hour a run. Places, shadows, message times, deaths and moves come from the run's seed alone, so
both stand on the same ground, with the sixteen symbols of preamble that the baseline has.
"""

import math
import random
import statistics
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from evy_core import MeshOutcome, RadioScene

Scene = Literal["static", "dying", "healed", "returning", "deaf"]
Strategy = Literal["flood", "evy", "spread"]
Place = tuple[float, float]
Change = tuple[float, int, Place | None]

SIDE_M: Final = 15_000.0
POWER_DBM: Final = 27.0
"""What Meshtastic's regions have for EU_868: 2.15 dB below what the law allows (27 dBm ERP)."""
FREQUENCY_HZ: Final = 869.525e6
SENSITIVITY_DBM: Final = -131.5
NOISE_DBM: Final = -119.25
ASYMMETRY_DB: Final = 2.0
OCTETS: Final = 40
SECONDS: Final = 3600.0
DUTY_PER_MILLE: Final = 100
GAP_M: Final = 3000.0
"""Between the halves of a partition: 10 dB too far for a link, near enough for a node in its middle."""
PREAMBLE: Final[dict[Strategy, int]] = {"flood": 16, "evy": 16, "spread": 16}

AWAY_S: Final = (10.0, 600.0)
"""How long a node that returns was without power."""

VOLTS: Final = 3.3
SENDING_A: Final = 0.120
"""SX1276 at +20 dBm on PA_BOOST, its usual figure; the antenna adds the rest, for both alike."""
LISTENING_A: Final = 0.0108
"""SX1276 in receive mode, LnaBoost off, its usual figure."""


class Row(NamedTuple):
    """One set-up."""

    nodes: int
    period_s: int
    unicast: bool
    scene: Scene

    @property
    def name(self) -> str:
        """As ``--rows`` takes it: ``60/900/broadcast/dying``."""
        return f"{self.nodes}/{self.period_s}/{'unicast' if self.unicast else 'broadcast'}/{self.scene}"


SCENES: Final[tuple[Scene, ...]] = ("static", "dying", "healed", "returning", "deaf")
"""The last: static, with radios that cannot tell whether the channel is busy, as the RYLR896."""
ROWS: Final = tuple(
    Row(nodes, period_s, unicast, scene)
    for scene in SCENES
    for unicast in (False, True)
    for period_s in (100, 900)
    for nodes in (10, 30, 60, 100)
)


def runs_of(row: Row, runs: int) -> int:
    """Seeds of a row: ten times as many among ten nodes, which have forty letters in a run where others have
    hundreds, and take a tenth of the time."""
    return 10 * runs if row.nodes == 10 else runs


class Figures(NamedTuple):
    """One run: percent delivered, seconds, airtime and energy for each receiver reached."""

    delivery: float
    median_s: float
    p95_s: float
    airtime_ms: float
    energy_j: float
    airtime_s: float


class Ground(NamedTuple):
    """Where the nodes stand, what stands between them, and what happens to them."""

    places: list[Place]
    shadows: list[float]
    changes: list[Change]


def loss_db(metres: float) -> float:
    """3GPP suburban macro at one metre of height, as the core has it."""
    return 44.9 * (math.log10(max(metres, 1.0)) - 3) + 45.5 + 34.36 * (math.log10(FREQUENCY_HZ) - 6) + 0.7


def _scatter(nodes: int, width_m: float, chance: random.Random) -> list[Place]:
    """Anywhere, at least 10 m apart and in reach of an earlier one."""
    found: list[Place] = []
    while len(found) < nodes:
        place = (chance.random() * width_m, chance.random() * SIDE_M)
        far = all(math.dist(place, other) >= 10 for other in found)
        near = any(POWER_DBM - loss_db(math.dist(place, other)) >= SENSITIVITY_DBM for other in found)
        if far and (near or not found):
            found.append(place)
    return found


def _partition(nodes: int, chance: random.Random) -> tuple[list[Place], list[Change]]:
    """Two halves that do not hear each other, and one node that goes between them and stays.

    The eastern half is set down so that its westernmost node is a gap east of the western half's easternmost,
    beside which the walker begins; after a quarter of the run it goes, 10 m/s.
    """
    west = _scatter(nodes // 2, SIDE_M / 2, chance)
    east = _scatter(nodes - 1 - len(west), SIDE_M / 2, chance)
    near, first = max(west), min(east)
    east = [(x - first[0] + near[0] + GAP_M, y - first[1] + near[1]) for x, y in east]
    start = (near[0] - 300.0, near[1])
    goal = (near[0] + GAP_M / 2, near[1])
    steps = max(1, math.ceil(math.dist(start, goal) / 100))
    walker = nodes - 1
    changes: list[Change] = []
    for step in range(1, steps + 1):
        share = step / steps
        place = (start[0] + share * (goal[0] - start[0]), start[1] + share * (goal[1] - start[1]))
        changes.append((SECONDS / 4 + 10 * step, walker, place))
    return [*west, *east, start], changes


def ground(row: Row, seed: int) -> Ground:
    """The ground of a row's run, the same for broadcast and unicast and for any load."""
    chance = random.Random(f"{row.nodes} {row.scene} {seed}")
    changes: list[Change] = []
    if row.scene == "healed":
        places, changes = _partition(row.nodes, chance)
    else:
        places = _scatter(row.nodes, SIDE_M, chance)
    shadows = [
        chance.gauss(0, ASYMMETRY_DB) if sender != receiver else 0.0
        for sender in range(row.nodes)
        for receiver in range(row.nodes)
    ]
    if row.scene == "dying":
        dead = chance.sample(range(row.nodes), row.nodes // 5)
        changes = [(chance.uniform(0.1, 0.9) * SECONDS, node, None) for node in dead]
    if row.scene == "returning":
        for node in chance.sample(range(row.nodes), row.nodes // 5):
            dies_s = chance.uniform(0.1, 0.8) * SECONDS
            changes += [(dies_s, node, None), (dies_s + chance.uniform(*AWAY_S), node, None)]
    return Ground(places, shadows, changes)


def figures(outcome: MeshOutcome) -> Figures:
    """What one run shows; energy is of the radios alone, which listen whenever they do not send."""
    reached = max(outcome.reached, 1)
    delays = sorted(outcome.delays_us) or [0]
    sending_s = outcome.airtime_us / 1e6
    listening_s = outcome.alive_us / 1e6 - sending_s
    joules = VOLTS * (SENDING_A * sending_s + LISTENING_A * listening_s)
    return Figures(
        delivery=100 * outcome.reached / max(outcome.wanted, 1),
        median_s=delays[len(delays) // 2] / 1e6,
        p95_s=delays[len(delays) * 95 // 100] / 1e6,
        airtime_ms=1000 * sending_s / reached,
        energy_j=joules / reached,
        airtime_s=sending_s,
    )


def measure(row: Row, strategy: Strategy, seed: int) -> Figures:
    """One run; raises AssertionError when a radio sent more than the law allows."""
    stand = ground(row, seed)
    scene = RadioScene(
        stand.places,
        stand.shadows,
        power_dbm=POWER_DBM,
        frequency_hz=FREQUENCY_HZ,
        sensitivity_dbm=SENSITIVITY_DBM,
        noise_dbm=NOISE_DBM,
        spreading_factor=11,
        bandwidth_hz=250_000,
        preamble_symbols=PREAMBLE[strategy],
    )
    outcome = scene.run(
        strategy,
        octets=OCTETS,
        period_s=row.period_s,
        seconds=SECONDS,
        seed=seed,
        unicast=row.unicast,
        duty_per_mille=DUTY_PER_MILLE,
        changes=stand.changes,
        senses=row.scene != "deaf",
    )
    if outcome.violations:
        raise AssertionError(f"{row.name} {strategy} seed {seed}: {outcome.violations} frames beyond the law")
    return figures(outcome)


class Difference(NamedTuple):
    """Ours less the baseline's, run by run: mean and half the width of its 95 % interval."""

    mean: float
    half: float

    @property
    def sure(self) -> bool:
        """Whether the interval leaves zero out."""
        return abs(self.mean) > self.half


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Paired, by Student's t (its quantile from the normal one, Abramowitz and Stegun 26.7.5)."""
    apart = [mine - other for mine, other in zip(ours, theirs, strict=True)]
    if len(apart) < 2:
        return Difference(apart[0], math.inf)
    degrees = len(apart) - 1
    z = statistics.NormalDist().inv_cdf(0.975)
    quantile = z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    return Difference(statistics.fmean(apart), quantile * statistics.stdev(apart) / math.sqrt(len(apart)))


def verdict(row: Row, delivery: Difference, airtime: Difference) -> str:
    """Whether ours is better in delivery and in airtime; a broadcast may be equal in delivery."""
    delivers = delivery.mean >= 0 if not row.unicast else delivery.mean > 0
    saves = airtime.mean < 0
    if delivers and saves:
        return "better in both" if delivery.sure and airtime.sure else "better in both, not sure"
    return "delivery only" if delivers else "airtime only" if saves else "worse"
