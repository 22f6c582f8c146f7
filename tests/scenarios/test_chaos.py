"""What an edge acknowledged is answered once, whatever breaks between it, the centre and back.

Two edges and a centre of three servers (:mod:`tests.scenarios.land`). Feeders publish queries and note what
was acknowledged; the edges' modems note what they sent. After each scenario everything that was acknowledged
must have been sent exactly once, every stream must be empty, which also says that nothing can come later, and
there must be no dead letter. ``EVY_CHAOS_MESSAGES`` and ``EVY_CHAOS_SEED`` choose size and seed: `make chaos`
runs the long form.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import msgspec
import pytest
import pytest_asyncio

from simulators.link_control import Cut, Drop, Flap, Heal, Refuse, Shape, Stall
from subjects.names import LANES
from tests.scenarios.hosts import Hosts, why_not
from tests.scenarios.land import EDGES, SERVERS, Land, Program
from tests.scenarios.truth import Name, Seen, query_name
from tests.scenarios.worker import Plan

MESSAGES: Final = int(os.environ.get("EVY_CHAOS_MESSAGES", "300"))
SEED: Final = int(os.environ.get("EVY_CHAOS_SEED", "1"))
LONG: Final = MESSAGES >= 3000
"""The form of `make chaos`: every scenario, each for minutes."""
SENDERS: Final = 6
"""Of each edge; two for each lane."""
WITHIN_S: Final = 400.0
"""Longest wait for everything to be delivered after the last fault; what it took is printed."""

pytestmark = [
    pytest.mark.nats,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(1800 if LONG else 600),
]

Faults = Callable[[Land, random.Random, float], Awaitable[None]]
"""Breaks things for so many seconds; what is still broken at the end is mended afterwards."""


async def nothing(land: Land, chance: random.Random, seconds: float) -> None:
    """All is well."""


async def cut(land: Land, chance: random.Random, seconds: float) -> None:
    """The link is gone, and everybody is told."""
    await land.order(Refuse())
    await land.order(Cut())
    await asyncio.sleep(seconds)


async def blackhole(land: Land, chance: random.Random, seconds: float) -> None:
    """The link is gone, and nobody is told."""
    await land.order(Drop())
    await asyncio.sleep(seconds)


async def half_open(land: Land, chance: random.Random, seconds: float) -> None:
    """Only one way works, then only the other."""
    for way in ("up", "down"):
        await land.order(Stall(way))
        await asyncio.sleep(seconds / 2)
        await land.order(Heal())


async def flapping(land: Land, chance: random.Random, seconds: float) -> None:
    """Up and down in every way there is, differently at each edge."""
    await land.order(Flap(up_s=(0.3, 4.0), down_s=(0.2, 3.0), for_s=seconds))
    await asyncio.sleep(seconds + 3)


async def thin(land: Land, chance: random.Random, seconds: float) -> None:
    """A line of 50 kbit/s whose echo takes 600 ms."""
    for edge in land.edges.values():
        edge.host.rate(6250)
    await land.order(Shape(delay_s=0.3))
    await asyncio.sleep(seconds)
    await land.drained(seconds)
    for edge in land.edges.values():
        edge.host.rate(None)


async def rolling_restart(land: Land, chance: random.Random, seconds: float) -> None:
    """The centre's servers are restarted one after the other, as for an upgrade."""
    for hub in land.hubs.values():
        await hub.server.down(gently=True)
        await asyncio.sleep(seconds / 12)
        await hub.server.up()
        await land.centre_is_whole()
        await asyncio.sleep(seconds / 12)


async def minority(land: Land, chance: random.Random, seconds: float) -> None:
    """One of the centre's servers dies and comes back, then one is cut off from the others."""
    lost = chance.choice(SERVERS)
    await land.hubs[lost].server.down()
    await asyncio.sleep(seconds / 2)
    await land.hubs[lost].server.up()
    await land.centre_is_whole()
    alone = chance.choice(SERVERS)
    others = [name for name in SERVERS if name != alone]
    land.hosts.part([alone], others)
    await asyncio.sleep(seconds / 2)
    land.hosts.heal([alone], others)


async def majority(land: Land, chance: random.Random, seconds: float) -> None:
    """Two of the centre's servers die at once and come back."""
    lost = chance.sample(SERVERS, 2)
    await asyncio.gather(*(land.hubs[name].server.down() for name in lost))
    await asyncio.sleep(seconds)
    await asyncio.gather(*(land.hubs[name].server.up() for name in lost))


async def edge_servers(land: Land, chance: random.Random, seconds: float) -> None:
    """kill -9 of the edges' servers, again and again."""
    await kill_at_random(chance, seconds, [edge.server for edge in land.edges.values()])


async def every_actor(land: Land, chance: random.Random, seconds: float) -> None:
    """kill -9 of every actor, again and again."""
    victims = [actor for machine in land.machines for actor in machine.actors.values()]
    for victim in victims:
        victim.kill()
    await kill_at_random(chance, seconds, [*victims, *land.feeding])


async def both_sides(land: Land, chance: random.Random, seconds: float) -> None:
    """Everything everywhere loses its power at once, and comes back at different times."""
    programs = [
        program for machine in land.machines for program in (machine.server, *machine.actors.values())
    ]
    await asyncio.gather(*(program.down() for program in programs))
    chance.shuffle(programs)
    for program in programs:
        await program.up()
        await asyncio.sleep(seconds / len(programs))


async def mixed(land: Land, chance: random.Random, seconds: float) -> None:
    """All of it, one after the other and at the same time."""
    until = time.monotonic() + seconds
    quick = [cut, blackhole, half_open, flapping, minority, majority, edge_servers, every_actor, both_sides]
    while time.monotonic() < until:
        some = chance.sample(quick, 2)
        await asyncio.gather(*(one(land, chance, chance.uniform(2, 8)) for one in some))
        await land.heal()
        await asyncio.sleep(chance.uniform(0, 6))


async def kill_at_random(chance: random.Random, seconds: float, victims: Sequence[Program]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        chance.choice(victims).kill()
        await asyncio.sleep(chance.uniform(0.2, 2.5))


class Scenario(msgspec.Struct, frozen=True):
    faults: Faults
    seconds: float
    """Of the short form."""
    long_seconds: float
    share: float = 1.0
    """Of the messages, beside the other scenarios."""

    @property
    def name(self) -> str:
        return self.faults.__name__


SCENARIOS: Final = (
    Scenario(nothing, 0, 0),
    Scenario(cut, 0, 45),
    Scenario(blackhole, 0, 60),
    Scenario(half_open, 0, 60),
    Scenario(flapping, 15, 180, 2.0),
    Scenario(thin, 0, 60, 0.2),
    Scenario(rolling_restart, 0, 60),
    Scenario(minority, 0, 60),
    Scenario(majority, 0, 40),
    Scenario(edge_servers, 0, 40),
    Scenario(every_actor, 0, 60),
    Scenario(both_sides, 6, 30),
    Scenario(mixed, 0, 240, 2.0),
)
CHOSEN: Final = [one for one in SCENARIOS if LONG or one.seconds or one.faults is nothing]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def land(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Land]:
    if reason := why_not():
        pytest.skip(reason)
    with Hosts() as hosts:
        async with Land(tmp_path_factory.mktemp("land"), hosts, SEED) as made:
            yield made


class Outcome(msgspec.Struct):
    """What is known when a scenario is over, printed as one line."""

    name: str
    acknowledged: Seen
    sent: Seen
    faults_s: float
    healed_s: float
    at_healing: int
    """Texts that had been sent when the last fault ended."""
    again: dict[str, int]
    """Messages that came again, by hop."""
    overtakes: dict[str, int]
    kills: int
    waiting: dict[str, int] | None
    letters: list[str]

    @property
    def lost(self) -> list[str]:
        return sorted(map(str, self.acknowledged.unique - self.sent.unique))

    def doubled(self, lanes: Sequence[str]) -> list[str]:
        counted: list[Name] = list(self.sent.names)
        for name in self.sent.unique:
            counted.remove(name)
        return sorted(str(name) for name in counted if LANES[name.sender % len(LANES)] in lanes)

    def line(self) -> str:
        after_s = max(0.0, self.sent.last_s - self.healed_s)
        late = len(self.sent.unique) - self.at_healing
        rate = f"{late / after_s:.0f}/s" if late and after_s > 0.5 else "-"
        twice = f"{len(self.doubled(LANES[1:]))} + {len(self.doubled(LANES[:1]))} flash"
        return (
            f"{self.name:16} {len(self.acknowledged.unique):5} acknowledged, lost {len(self.lost)}, "
            f"twice {twice}; faults {self.faults_s:.0f} s, "
            f"kills {self.kills}; after healing {late} in {after_s:.1f} s ({rate}); "
            f"again {self.again}, overtakes {self.overtakes}"
        )


async def play(land: Land, scenario: Scenario, count: int, seconds: float) -> Outcome:
    """Feeds while things break, mends everything, and waits until nothing is under way."""
    batch = scenario.name.replace("_", "")
    chance = random.Random(f"{SEED} {scenario.name}")
    each = max(1, round(count / len(EDGES) / SENDERS))
    plan = Plan(batch, SENDERS, each, pause_s=0.8 * seconds / each)
    kills = sum(program.kills for program in land.programs)
    feeders = await land.feed(plan)
    began_s = time.monotonic()
    await scenario.faults(land, chance, seconds)
    await land.heal()
    healed_s = time.monotonic()
    at_healing = len(land.seen("sms", batch).unique)
    planned = {
        query_name(batch, edge, sender, number)
        for edge in EDGES
        for sender in range(SENDERS)
        for number in range(each)
    }
    waiting: dict[str, int] | None = None
    try:
        async with asyncio.timeout(WITHIN_S):
            while not all(feeder.finished for feeder in feeders):
                await asyncio.sleep(0.1)
            while (
                set(map(str, land.seen("sms", batch).unique)) != planned
                or (waiting := await land.waiting()) != {}
            ):
                await asyncio.sleep(0.5)
    except TimeoutError:
        waiting = await land.waiting()
    await asyncio.gather(*(feeder.down() for feeder in feeders))
    hops = {hop: land.seen(hop, batch) for hop in ("infer_large", "compress", "sms")}
    return Outcome(
        name=scenario.name,
        acknowledged=land.seen("acknowledged", batch),
        sent=hops["sms"],
        faults_s=healed_s - began_s,
        healed_s=healed_s,
        at_healing=at_healing,
        again={hop: seen.again for hop, seen in hops.items()},
        overtakes={hop: seen.overtakes for hop, seen in hops.items()},
        kills=sum(program.kills for program in land.programs) - kills,
        waiting=waiting,
        letters=await land.letters(),
    )


@pytest.mark.parametrize("scenario", CHOSEN, ids=lambda scenario: scenario.name)
async def test_nothing_is_lost_and_nothing_doubled(
    land: Land, scenario: Scenario, capsys: pytest.CaptureFixture[str]
) -> None:
    share = scenario.share / sum(one.share for one in CHOSEN)
    seconds = scenario.long_seconds if LONG else scenario.seconds
    outcome = await play(land, scenario, round(MESSAGES * share), seconds)
    with capsys.disabled():
        print(f"\n{outcome.line()}", flush=True)
    report = land.tails()
    assert outcome.acknowledged.unique, report
    assert outcome.lost == [], report
    assert outcome.doubled(LANES) == [], report
    assert outcome.waiting == {}, report
    assert outcome.letters == [], report
