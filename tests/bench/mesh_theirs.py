"""The mesh's baseline, held against what its own simulator gives.

Meshtasticator places its nodes and times its messages by Python's generator with fixed seeds, so the same
places, links and times can be made here; what stays random is contention. Its figures are of one run each.
"""

import math
import random
from collections.abc import Iterator
from typing import Final, NamedTuple

from evy_core import RadioScene

SEED: Final = 44
SIDE_M: Final = 15_000.0
POWER_DBM: Final = 30.0
FREQUENCY_HZ: Final = 902e6 + 27 * 250e3
SENSITIVITY_DBM: Final = -131.5
NOISE_DBM: Final = -119.25
ASYMMETRY_DB: Final = 2.0
OCTETS: Final = 40
SECONDS: Final = 1800.0
INTERFERENCE: Final = 0.1
"""A node finds the channel busy for no reason of ours: setting 0.05, which its test makes one in ten."""

THEIR_CODING_RATE: Final = 9
"""It counts four symbols too many for each group: 4/5 takes nine symbols there and five on air."""


class Row(NamedTuple):
    """One set-up, and the percent that Meshtasticator delivers (one run, static nodes, broadcasts).

    ``rebuilt`` and ``rebuilt_spread``: mean and spread of ten runs of its logic on its own places, links and
    times, only contention drawn anew (``docs/mesh.md``, M2).
    """

    nodes: int
    period_s: float
    theirs: float
    rebuilt: float
    rebuilt_spread: float


ROWS: Final = (
    Row(10, 100, 95.1, 94.0, 0.7),
    Row(30, 100, 56.9, 56.7, 0.6),
    Row(60, 100, 31.0, 30.6, 0.3),
    Row(30, 900, 79.3, 78.5, 1.2),
    Row(60, 900, 62.5, 59.1, 0.8),
)


def loss_db(metres: float) -> float:
    """3GPP suburban macro at one metre of height, as the core has it."""
    return 44.9 * (math.log10(metres) - 3) + 45.5 + 34.36 * (math.log10(FREQUENCY_HZ) - 6) + 0.7


def places(nodes: int) -> list[tuple[float, float]]:
    """Where Meshtasticator puts its nodes: anywhere, at least 10 m apart and in reach of an earlier one."""
    chance = random.Random(SEED)
    found: list[tuple[float, float]] = []
    while len(found) < nodes:
        place = (chance.random() * SIDE_M - SIDE_M / 2, chance.random() * SIDE_M - SIDE_M / 2)
        far = all(math.dist(place, other) >= 10 for other in found)
        near = any(POWER_DBM - loss_db(math.dist(place, other)) >= SENSITIVITY_DBM for other in found)
        if far and (near or not found):
            found.append(place)
    return found


def shadows(nodes: int) -> Iterator[float]:
    """What each direction of a link has besides distance; drawn by row, nothing for a node with itself."""
    chance = random.Random(SEED)
    for sender in range(nodes):
        for receiver in range(nodes):
            yield chance.gauss(0, ASYMMETRY_DB) if sender != receiver else 0.0


def waits(nodes: int, period_s: float) -> list[list[float]]:
    """Each node's waits between messages; 60 are more than half an hour at 100 s takes."""
    made = []
    for node in range(nodes):
        chance = random.Random(node)
        made.append([chance.expovariate(1 / (period_s * 1000)) / 1000 for _ in range(60)])
    return made


def scene(nodes: int, coding_rate: int) -> RadioScene:
    """LONG_FAST on Meshtasticator's ground."""
    return RadioScene(
        places(nodes),
        list(shadows(nodes)),
        power_dbm=POWER_DBM,
        frequency_hz=FREQUENCY_HZ,
        sensitivity_dbm=SENSITIVITY_DBM,
        noise_dbm=NOISE_DBM,
        spreading_factor=11,
        bandwidth_hz=250_000,
        coding_rate=coding_rate,
        preamble_symbols=16,
    )


def delivery(row: Row, coding_rate: int, runs: int) -> list[float]:
    """Percent of the wanted receivers that were reached, one number a run."""
    radios = scene(row.nodes, coding_rate)
    times = waits(row.nodes, row.period_s)
    shares = []
    for seed in range(runs):
        outcome = radios.run(
            "flood",
            octets=OCTETS,
            period_s=row.period_s,
            seconds=SECONDS,
            seed=seed,
            interference=INTERFERENCE,
            waits_s=times,
        )
        shares.append(100 * outcome.reached / outcome.wanted)
    return shares
