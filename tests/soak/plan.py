"""What happens in a soak, by seed: who texts when and what is promised to them, and what breaks when.

Time is compressed by one rule, :meth:`Pace.real_s`. Texts and the beginnings of faults keep their place in
the simulated days, divided by a factor. A length is real up to :data:`REAL_S`, so that a mute modem is mute
for longer than a driver's patience, and what goes beyond is divided by the factor. That holds for faults and
for the product's own waits that are matters of minutes and hours: for a link, for missing parts, and before
a message that failed is tried again. What else the product waits for is as shipped.

So a soak has days' worth of events, not of wear: it shows nothing of leaks, of files that grow, of windows
of deduplication and of entries that expire. And what breaks meets what is mended more often than in life.
"""

import math
import random
from collections.abc import Sequence
from typing import Final

import msgspec

HOUR_S: Final = 3600.0
DAY_HOURS: Final = 24
REAL_S: Final = 20.0
TEXTS_PER_HOUR: Final = 10.0
FAULTS_PER_HOUR: Final = 1.2
BURST_TEXTS: Final = 20
"""Texts within ten minutes when something happens to many at once; once a day."""
BURST_S: Final = 600.0


class Pace(msgspec.Struct, frozen=True):
    """Simulated ``hours`` in real ``minutes``."""

    hours: float
    minutes: float
    real_up_to_s: float = REAL_S
    """A length is real up to here."""

    @property
    def factor(self) -> float:
        """Simulated seconds in a real one."""
        return self.hours * 60 / self.minutes

    def real_s(self, simulated_s: float) -> float:
        """What a simulated length takes in reality."""
        return min(simulated_s, self.real_up_to_s) + max(0.0, simulated_s - self.real_up_to_s) / self.factor


class Kind(msgspec.Struct, frozen=True):
    """A kind of text and its ``share`` of all. Each is owed one reply, or, where parts are missing when the
    node has waited long enough, the request to send it again."""

    name: str
    share: float
    words: tuple[str, ...]
    nobody: bool = False
    """Comes from a name, not a number: owed nothing."""
    times: int = 1
    """How often the network delivers it."""
    loses_part: bool = False
    late_part: bool = False
    """A part comes long after the node has given it up."""


QUESTIONS: Final = (
    "how do i make river water safe to drink",
    "how long is food safe in the fridge without power",
    "how can i keep warm without heating",
    "how do i use a latrine bucket without water",
    "is it safe to run a generator indoors",
    "¿cómo hago segura el agua del río? Está turbia, señor",
    "how do i clean a small wound 🙏🏽🌊 the water is dirty",
)
LONG: Final = (
    """hello we are the family at the end of the river road and we have three children with us;
since the flood came the tap is brown and smells, and we wonder how do i make river water safe to drink when
there is no power and only some wood for a fire""",
    """good day to you, the power has been out since yesterday evening and the fridge is getting warm. We have
meat, milk and some cooked rice in it, and nobody here knows: how long is food safe in the fridge without
power, and what should we throw away first 🥛🍚""",
)
KINDS: Final = (
    Kind("question", 0.34, QUESTIONS),
    Kind(
        "emergency",
        0.16,
        (
            "my brother is bleeding badly from the leg",
            "my father has no pulse and does not breathe",
            "the house is burning",
        ),
    ),
    Kind("command", 0.1, ("LANG", "INFO", "HELP", "STOP")),
    Kind(
        "of the centre",
        0.12,
        (
            "when does the ferry leave today?",
            "what time is the clinic open",
            "when does the water truck come?",
        ),
    ),
    Kind("long", 0.1, LONG),
    Kind("long, part late", 0.04, LONG, late_part=True),
    Kind("long, part lost", 0.03, LONG, loses_part=True),
    Kind("delivered twice", 0.06, QUESTIONS, times=2),
    Kind("from nobody", 0.05, ("You won a prize!",), nobody=True),
)


class Text(msgspec.Struct, frozen=True):
    """One text of one phone, which texts only once."""

    at_s: float
    number: str
    kind: Kind
    text: str


class Fault(msgspec.Struct, frozen=True):
    """What breaks, from when, for how long (simulated)."""

    at_s: float
    name: str
    for_s: float
    seed: int


def weight(at_s: float) -> float:
    """Texts at a time of the day against the mean: few at night, most in the evening."""
    hour = at_s / HOUR_S % DAY_HOURS
    return max(0.1, 1.0 - 0.9 * math.cos((hour - 3) / DAY_HOURS * 2 * math.pi))


def number_of(count: int) -> str:
    """Number of the phone that sends the text of this number."""
    return f"+1556{count:07}"


def texts(seed: int, hours: float) -> list[Text]:
    """All texts, in order of time."""
    chance = random.Random(f"{seed} texts")
    span_s = hours * HOUR_S
    times: list[float] = []
    while len(times) < round(hours * TEXTS_PER_HOUR):
        at_s = chance.uniform(0, span_s)
        if chance.uniform(0, 2) < weight(at_s):
            times.append(at_s)
    for _ in range(int(hours // DAY_HOURS)):
        began_s = chance.uniform(0, span_s - BURST_S)
        times += [began_s + chance.uniform(0, BURST_S) for _ in range(BURST_TEXTS)]
    kinds = chance.choices(KINDS, [kind.share for kind in KINDS], k=len(times))
    return [
        Text(at_s, number_of(n), kind, chance.choice(kind.words))
        for n, (at_s, kind) in enumerate(zip(sorted(times), kinds, strict=True))
    ]


def faults(seed: int, hours: float, lengths: Sequence[tuple[str, float, float]]) -> list[Fault]:
    """All faults, in order of time; ``lengths`` are names with the shortest and longest length (simulated).

    Each name comes once before any comes again, and in a day all do. The last tenth of the time is left to
    recover.
    """
    chance = random.Random(f"{seed} faults")
    count = max(len(lengths) if hours >= DAY_HOURS else 1, round(hours * FAULTS_PER_HOUR))
    deck: list[tuple[str, float, float]] = []
    while len(deck) < count:
        deck += chance.sample(list(lengths), len(lengths))
    times = sorted(chance.uniform(0, 0.9 * hours * HOUR_S) for _ in range(count))
    found = []
    for at_s, (name, least_s, most_s) in zip(times, deck, strict=False):
        for_s = math.exp(chance.uniform(math.log(least_s), math.log(most_s)))
        found.append(Fault(at_s, name, for_s, chance.randrange(1 << 30)))
    return found
