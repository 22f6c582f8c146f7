"""What an edge acknowledged is answered once, whatever breaks between it, the centre and back.

Two edges and a centre of three servers (:mod:`tests.scenarios.land`). Feeders publish queries and note what
was acknowledged; the edges' modems note what they sent. After each scenario everything that was acknowledged
must have been sent exactly once, every stream must be empty, which also says that nothing can come later, and
there must be no dead letter. ``EVY_CHAOS_MESSAGES`` and ``EVY_CHAOS_SEED`` choose size and seed: `make chaos`
runs the long form.
"""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec
import pytest
import pytest_asyncio

from simulators.link_control import Cut, Flap, Heal, Refuse
from subjects.names import LANES
from tests.scenarios import disks, faults
from tests.scenarios.faults import Faults, nothing
from tests.scenarios.hosts import Hosts, why_not
from tests.scenarios.land import EDGES, Land, Letter
from tests.scenarios.truth import Name, Seen
from tests.scenarios.worker import Plan

MESSAGES: Final = int(os.environ.get("EVY_CHAOS_MESSAGES", "300"))
SEED: Final = int(os.environ.get("EVY_CHAOS_SEED", "1"))
LONG: Final = MESSAGES >= 3000
"""The form of `make chaos`: every scenario, each for minutes."""
SENDERS: Final = 6
"""Of each edge; two for each lane."""
WITHIN_S: Final = 240.0 if LONG else 180.0
"""Longest wait for everything to be delivered after the last fault; what it took is printed."""

pytestmark = [
    pytest.mark.nats,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(1800 if LONG else 600),
]


class Scenario(msgspec.Struct, frozen=True):
    faults: Faults
    seconds: float
    """Of the short form."""
    long_seconds: float
    share: float = 1.0
    """Of the messages, beside the other scenarios."""
    leaves: bool = False
    """nats-server 2.15 confirms an acknowledgement also when it cannot remove the message from a full disk;
    it is then never delivered again and stays. Only such messages may be left."""

    @property
    def name(self) -> str:
        return self.faults.__name__


SCENARIOS: Final = (
    Scenario(faults.nothing, 0, 0),
    Scenario(faults.cut, 0, 30),
    Scenario(faults.blackhole, 0, 40),
    Scenario(faults.half_open, 0, 40),
    Scenario(faults.flapping, 15, 130, 2.0),
    Scenario(faults.thin, 0, 60, 0.2),
    Scenario(faults.rolling_restart, 0, 40),
    Scenario(faults.minority, 0, 40),
    Scenario(faults.majority, 0, 30),
    Scenario(faults.edge_servers, 0, 40),
    Scenario(faults.every_actor, 0, 40),
    Scenario(faults.both_sides, 6, 20),
    Scenario(faults.clock_jump, 8, 24),
    Scenario(faults.mixed, 0, 150, 2.0),
    Scenario(faults.full_disk, 8, 30, leaves=True),
)
ONLY: Final = os.environ.get("EVY_CHAOS_ONLY", "")
"""Names of scenarios, with blanks between them, instead of all of the form."""
CHOSEN: Final = [one for one in SCENARIOS if (one.name in ONLY.split() if ONLY else LONG or one.seconds)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def land(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Land]:
    if reason := why_not() or disks.why_not():
        pytest.skip(reason)
    with Hosts() as hosts:
        async with Land(tmp_path_factory.mktemp("land"), hosts, SEED) as made:
            yield made


class Outcome(msgspec.Struct):
    """What is known when a scenario is over, printed as one line."""

    name: str
    acknowledged: Seen
    planned: int
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
    letters: list[Letter]
    left: str
    kept: int
    """Messages that were acknowledged and are still there."""

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
            f"again {self.again}, overtakes {self.overtakes}" + (f"; kept {self.kept}" if self.kept else "")
        )


async def play(land: Land, scenario: Scenario, batch: str, count: int, seconds: float) -> Outcome:
    """Feeds while things break, mends everything, and waits until nothing is under way."""
    chance = random.Random(f"{SEED} {scenario.name}")
    each = max(1, round(count / len(EDGES) / SENDERS))
    kills = sum(program.kills for program in land.programs)
    feeders = await land.feed(Plan(batch, SENDERS, each, pause_s=0.8 * seconds / each))
    began_s = time.monotonic()
    await scenario.faults(land, chance, seconds)
    await land.heal()
    healed_s = time.monotonic()
    at_healing = len(land.seen("sms", batch).unique)
    waiting: dict[str, int] | None = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WITHIN_S):
            await asyncio.gather(*(feeder.finished() for feeder in feeders))
            planned = land.seen("acknowledged", batch).unique
            while land.seen("sms", batch).unique != planned:
                await asyncio.sleep(0.5)
    waiting = await land.settled(20.0 if scenario.leaves else WITHIN_S)
    left, owed = await land.left() if waiting else ("", 0)
    if waiting and scenario.leaves and not owed:
        kept, waiting = sum(waiting.values()), {}
    else:
        kept = 0
    hops = {hop: land.seen(hop, batch) for hop in ("infer_large", "compress", "sms")}
    return Outcome(
        name=scenario.name,
        acknowledged=land.seen("acknowledged", batch),
        planned=each * SENDERS * len(EDGES),
        sent=hops["sms"],
        faults_s=healed_s - began_s,
        healed_s=healed_s,
        at_healing=at_healing,
        again={hop: seen.again for hop, seen in hops.items()},
        overtakes={hop: seen.overtakes for hop, seen in hops.items()},
        kills=sum(program.kills for program in land.programs) - kills,
        waiting=waiting,
        letters=await land.letters(batch),
        left=left,
        kept=kept,
    )


def is_whole(outcome: Outcome, land: Land) -> None:
    """Asserts that everything was acknowledged and sent, once, and that nothing is left anywhere."""
    unfed = outcome.planned - len(outcome.acknowledged.unique)
    report = (
        f"not acknowledged {unfed}, lost {outcome.lost}, waiting {outcome.waiting}, "
        f"letters {outcome.letters}\n{outcome.left}\n{land.tails()}"
    )
    assert len(outcome.acknowledged.unique) == outcome.planned, report
    assert outcome.lost == [], report
    assert outcome.doubled(LANES) == [], report
    assert outcome.waiting == {}, report
    assert outcome.letters == [], report


def tell(capsys: pytest.CaptureFixture[str], line: str) -> None:
    with capsys.disabled():
        print(f"\n{line}", flush=True)


@pytest.mark.skipif(bool(ONLY) and "order" not in ONLY.split(), reason="EVY_CHAOS_ONLY")
async def test_the_link_keeps_the_order_and_doubles_nothing(
    land: Land, capsys: pytest.CaptureFixture[str]
) -> None:
    """Looked at in the streams themselves, behind a line that flaps, in both directions; and with one worker
    for each actor the order holds until the modem."""
    batch, count, seconds = "order", 600 if LONG else 60, 60.0 if LONG else 8.0
    each = count // len(EDGES) // SENDERS
    model, *others = (hub.actors["infer_large"] for hub in land.hubs.values())
    held = [model, *others, *(edge.actors["compress"] for edge in land.edges.values())]
    flap = Flap(up_s=(0.3, 3.0), down_s=(0.2, 2.0), for_s=seconds)
    try:
        await asyncio.gather(*(program.down() for program in held))
        await land.order(flap)
        feeders = await land.feed(Plan(batch, SENDERS, each, pause_s=0.8 * seconds / each))
        await asyncio.gather(*(feeder.finished() for feeder in feeders))
        await land.order(Heal())
        fed = land.seen("acknowledged", batch)
        await land.hold(
            {f"IN_{edge}": SENDERS * each for edge in EDGES} | {f"UP_{edge}": 0 for edge in EDGES}
        )
        arrived = Seen(await land.stored(*(f"IN_{edge}" for edge in EDGES)), 0)
        await land.order(flap)
        await model.up()
        await asyncio.sleep(seconds)
        await land.order(Heal())
        await land.hold({f"{kind}_{edge}": 0 for kind in ("IN", "DOWN") for edge in EDGES})
        returned = Seen(
            await land.stored(*(f"{kind}_{edge}" for edge in EDGES for kind in ("FLASH", "WORK"))), 0
        )
        await asyncio.gather(*(program.up() for program in held if program not in others))
        waiting = await land.settled(WITHIN_S)
    finally:
        await land.heal()
    sent = land.seen("sms", batch)
    tell(
        capsys,
        f"order            {len(fed.unique):5} acknowledged over a flapping line, {len(sent.names)} sent",
    )
    for hop in (arrived, returned, sent):
        assert hop.unique == fed.unique, land.tails()
        assert (hop.again, hop.overtakes) == (0, 0)
    assert waiting == {}, land.tails()


@pytest.mark.skipif(bool(ONLY) and "wiped" not in ONLY.split(), reason="EVY_CHAOS_ONLY")
async def test_an_edge_that_was_wiped_goes_on(land: Land, capsys: pytest.CaptureFixture[str]) -> None:
    """A new card with the old credentials: what had been answered is not answered again, what was under way
    is withheld with an event, because the number it is for was on the old card, and what comes now flows."""
    count = 1200 if LONG else 24
    each = max(1, count // len(EDGES) // SENDERS)
    wiped, other = (land.edges[name] for name in EDGES)
    models = [hub.actors["infer_large"] for hub in land.hubs.values()]
    healthy = Scenario(nothing, 0, 0)
    is_whole(await play(land, healthy, "wipe0", count, 0), land)
    try:
        await asyncio.gather(*(model.down() for model in models))
        for batch, streams in (("wipe1", ("IN_edge1", "IN_edge2")), ("wipe2", ("UP_edge1",))):
            feeders = await land.feed(Plan(batch, SENDERS, each))
            await asyncio.gather(*(feeder.finished() for feeder in feeders))
            await land.hold(dict.fromkeys(streams, SENDERS * each))
            await land.hold({"UP_edge1": 0} if batch == "wipe1" else {})
            await land.order(Refuse(), wiped.name)
            await land.order(Cut(), wiped.name)
        await asyncio.gather(*(program.down() for program in (*wiped.actors.values(), wiped.server)))
        wiped.wipe()
        await wiped.server.up()
        await land.provide_edge(wiped)
    finally:
        await land.heal()
    outcome = await play(land, healthy, "wipe3", count, 0)
    is_whole(outcome, land)
    for batch in ("wipe0", "wipe1", "wipe2", "wipe3"):
        sent, fed = land.seen("sms", batch), land.seen("acknowledged", batch)
        assert sent.again == 0
        mine = {name for name in sent.unique if name.node == wiped.name}
        assert sent.unique - mine == {name for name in fed.unique if name.node == other.name}
        assert len(mine) == (SENDERS * each if batch in {"wipe0", "wipe3"} else 0)
    withheld = await land.withheld("wipe1")
    assert withheld.keys() == {
        name for name in land.seen("acknowledged", "wipe1").unique if name.node == wiped.name
    }
    assert all("no number" in reason for reason in withheld.values())
    assert await land.letters("wipe1") == []
    assert await land.letters("wipe2") == []
    tell(capsys, f"{outcome.line()}, wiped; {len(withheld)} of what was under way withheld")


@pytest.mark.parametrize("scenario", CHOSEN, ids=lambda scenario: scenario.name)
async def test_nothing_is_lost_and_nothing_doubled(
    land: Land, scenario: Scenario, capsys: pytest.CaptureFixture[str]
) -> None:
    share = scenario.share / sum(one.share for one in CHOSEN)
    seconds = scenario.long_seconds if LONG else scenario.seconds
    batch = scenario.name.replace("_", "")
    outcome = await play(land, scenario, batch, round(MESSAGES * share), seconds)
    tell(capsys, outcome.line())
    is_whole(outcome, land)
