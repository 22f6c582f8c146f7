"""What keeps the link's streams going by itself: patience with durables, and sources that are renewed."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from nats.js.api import AckPolicy
from nats.js.errors import NotFoundError

from actors._cli.doctor import check_link
from actors._runtime.bus import NatsBus
from actors._runtime.crossing import look
from actors._runtime.provision import Place, provide_takers, provision, provision_edge
from actors._runtime.sources import AGAIN_S, QUIET_S, STALLED_S, Sources
from actors._runtime.stream_info import SourceInfo, ask
from subjects.messages import Event
from subjects.names import HUB
from tests.linked import Linked, holds, running

pytestmark = [pytest.mark.nats, pytest.mark.asyncio(loop_scope="module")]

OWN = Place("e1", centre=True)


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Pair:
    """A centre and an edge, each with its guard, who look when a test says so."""

    def __init__(self, linked: Linked, hub: NatsBus, edge: NatsBus) -> None:
        self.hub = hub
        self.edge = edge
        self.clock = Clock()
        self.at_hub = Sources(hub, linked.place, now=self.clock)
        self.at_edge = Sources(edge, OWN, now=self.clock)
        self.events: list[Event] = []

    async def source(self, bus: NatsBus, stream: str) -> SourceInfo:
        info, _ = await ask(bus.client, "$JS.API", stream, 5.0)
        [source] = info.sources
        return source

    async def renewed(self, count: int = 0) -> list[tuple[str, str]]:
        """Who renewed which stream since the last call, which was at least so often."""
        async with asyncio.timeout(20):
            while len(self.events) < count:
                await asyncio.sleep(0.02)
        await asyncio.gather(self.hub.client.flush(), self.edge.client.flush())
        found = [(event.node, event.fields["stream"]) for event in self.events]
        self.events.clear()
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    linked = Linked(tmp_path_factory.mktemp("pair"), edges=("e1",))
    async with running(linked) as (hub, edges):
        made = Pair(linked, hub, edges["e1"])

        async def note(event: Event) -> None:
            made.events.append(event)

        ends = [await bus.follow_events(note, ("source_renewed",)) for bus in (hub, edges["e1"])]
        yield made
        for end in ends:
            await end()


@pytest_asyncio.fixture(loop_scope="module")
async def pair(servers: Pair) -> Pair:
    """Both ends empty, and hearing each other."""
    for bus, streams in ((servers.hub, ("IN_e1", "DOWN_e1")), (servers.edge, ("WORK_e1", "UP_e1"))):
        for stream in streams:
            await bus.js.purge_stream(stream)
    async with asyncio.timeout(60):
        for bus, stream in ((servers.hub, "IN_e1"), (servers.edge, "WORK_e1"), (servers.edge, "FLASH_e1")):
            while (await servers.source(bus, stream)).heard_s is None:
                await asyncio.sleep(0.05)
    for sources in (servers.at_hub, servers.at_edge):
        await sources.look()
    servers.clock.now_s += AGAIN_S
    await servers.renewed()
    return servers


async def ask_up(pair: Pair, *numbers: int) -> None:
    for number in numbers:
        await pair.edge.js.publish(
            "infer.large.routine", str(number).encode(), headers={"Nats-Msg-Id": f"q{number}"}
        )


async def arrived(pair: Pair) -> list[int]:
    """What lies at the centre, in its order."""
    state = (await pair.hub.js.stream_info("IN_e1")).state
    sequences = range(state.first_seq, state.last_seq + 1)
    return [int((await pair.hub.js.get_msg("IN_e1", sequence)).data or b"") for sequence in sequences]


async def test_a_durable_for_the_other_end_is_made_only_when_it_was_missing_for_long(pair: Pair) -> None:
    """At either end: another stream of that name may have been taken from a moment ago."""
    for bus, sources, stream, taker in (
        (pair.edge, pair.at_edge, "UP_e1", "IN_e1"),
        (pair.hub, pair.at_hub, "DOWN_e1", "WORK_e1"),
    ):
        await bus.js.delete_consumer(stream, taker)
        for later_s in (0.0, QUIET_S - 1):
            pair.clock.now_s += later_s
            await sources.look()
            with pytest.raises(NotFoundError):
                await bus.js.consumer_info(stream, taker)
        pair.clock.now_s += 1
        await sources.look()
        assert (await bus.js.consumer_info(stream, taker)).config.ack_policy == AckPolicy.FLOW_CONTROL


async def test_the_time_a_durable_was_missing_begins_again_when_it_was_there(pair: Pair) -> None:
    await pair.edge.js.delete_consumer("UP_e1", "IN_e1")
    await pair.at_edge.look()
    await provide_takers(pair.edge.js, OWN, "e1")
    pair.clock.now_s += QUIET_S
    await pair.at_edge.look()
    await pair.edge.js.delete_consumer("UP_e1", "IN_e1")
    await pair.at_edge.look()
    with pytest.raises(NotFoundError):
        await pair.edge.js.consumer_info("UP_e1", "IN_e1")
    await provide_takers(pair.edge.js, OWN, "e1")


async def test_no_start_and_no_enrolment_makes_them(pair: Pair) -> None:
    await pair.edge.js.delete_consumer("UP_e1", "IN_e1")
    await pair.hub.js.delete_consumer("DOWN_e1", "WORK_e1")
    assert await provision(pair.edge.js, OWN, apply=True) == []
    assert await provision_edge(pair.hub.js, Place(HUB, "bigevy"), "e1", apply=True) == []
    for bus, stream, taker in ((pair.edge, "UP_e1", "IN_e1"), (pair.hub, "DOWN_e1", "WORK_e1")):
        with pytest.raises(NotFoundError):
            await bus.js.consumer_info(stream, taker)
    await provide_takers(pair.edge.js, OWN, "e1")
    await provide_takers(pair.hub.js, Place(HUB, "bigevy"), "e1")


async def test_a_stalled_source_is_renewed_and_nothing_is_lost_or_doubled(pair: Pair) -> None:
    """Stalled by an answer that the centre's server does not like: after it, it waits 10 s and more."""
    await ask_up(pair, 1, 2, 3)
    await holds(pair.hub, "IN_e1", 3)
    [(stream, right)] = OWN.takers("e1")
    await pair.edge.js.delete_consumer(stream, "IN_e1")
    await pair.edge.js.add_consumer(stream, right.evolve(ack_policy=AckPolicy.EXPLICIT))
    config = (await pair.hub.js.stream_info("IN_e1")).config
    await pair.hub.js.update_stream(config.evolve(sources=None))
    await pair.hub.js.update_stream(config)  # so that it asks now
    await ask_up(pair, 4, 5)
    async with asyncio.timeout(60):
        while not (await pair.source(pair.hub, "IN_e1")).error:
            await asyncio.sleep(0.05)
    await pair.edge.js.delete_consumer(stream, "IN_e1")
    await provide_takers(pair.edge.js, OWN, "e1")
    await pair.at_hub.look()
    assert await pair.renewed() == []  # not for so long yet
    pair.clock.now_s += STALLED_S
    await pair.at_hub.look()
    assert (await pair.source(pair.hub, "IN_e1")).error == {}
    assert await pair.renewed(1) == [("hub", "IN_e1")]
    await holds(pair.hub, "IN_e1", 5)
    await ask_up(pair, 6)
    await holds(pair.hub, "IN_e1", 6)
    await holds(pair.edge, "UP_e1", 0)
    assert await arrived(pair) == [1, 2, 3, 4, 5, 6]


async def test_a_stream_that_was_left_without_its_source_gets_it_back_at_either_end(pair: Pair) -> None:
    """Who renews may be killed between taking it out and putting it in."""
    await ask_up(pair, 11)
    await holds(pair.hub, "IN_e1", 1)
    for bus, stream in ((pair.hub, "IN_e1"), (pair.edge, "WORK_e1")):
        config = (await bus.js.stream_info(stream)).config
        await bus.js.update_stream(config.evolve(sources=None))
    await ask_up(pair, 12)
    await pair.hub.js.publish("down.e1.compress.routine", b"x")
    await asyncio.gather(pair.at_hub.look(), pair.at_edge.look())
    assert sorted(await pair.renewed(2)) == [("e1", "WORK_e1"), ("hub", "IN_e1")]
    [link] = await look(pair.edge, OWN)
    assert [one.stream for one in link.taking if one.renewed] == ["WORK_e1"]
    [renewal] = [found for found in check_link([link], time.time()) if "renewed" in found.found]
    assert renewal.verdict == "warn"
    assert "WORK_e1" in renewal.found
    assert not any("renewed" in found.found for found in check_link([link], time.time() + 100_000))
    await holds(pair.hub, "IN_e1", 2)
    await holds(pair.edge, "WORK_e1", 1)
    assert await arrived(pair) == [11, 12]


async def test_what_was_taken_is_not_taken_again_by_a_renewed_source(pair: Pair) -> None:
    """Its place is kept also when everything was worked off; without ids by which doubles are known."""
    for number in range(20):
        await pair.edge.js.publish("infer.large.routine", str(number).encode())
    await holds(pair.hub, "IN_e1", 20)
    await holds(pair.edge, "UP_e1", 0)
    await pair.hub.js.purge_stream("IN_e1")
    config = (await pair.hub.js.stream_info("IN_e1")).config
    for _ in range(3):
        await pair.hub.js.update_stream(config.evolve(sources=None))
        await pair.at_hub.look()
        await pair.edge.js.publish("infer.large.routine", b"99")
        await holds(pair.hub, "IN_e1", 1)
        assert await arrived(pair) == [99]
        await holds(pair.edge, "UP_e1", 0)
        await pair.hub.js.purge_stream("IN_e1")


async def test_what_was_not_acknowledged_is_known_by_its_id(pair: Pair) -> None:
    """Worked off at the centre before it said so to the edge: a renewed source takes it again."""
    await ask_up(pair, *range(31, 41))
    await holds(pair.hub, "IN_e1", 10)
    await pair.hub.js.purge_stream("IN_e1")
    assert (await pair.edge.js.stream_info("UP_e1")).state.messages == 10
    config = (await pair.hub.js.stream_info("IN_e1")).config
    await pair.hub.js.update_stream(config.evolve(sources=None))
    await pair.at_hub.look()
    await ask_up(pair, 41)
    await holds(pair.edge, "UP_e1", 0)
    assert await arrived(pair) == [41]


async def test_a_source_is_left_alone_while_the_other_end_is_away(pair: Pair) -> None:
    await pair.edge.js.delete_consumer("UP_e1", "IN_e1")
    config = (await pair.hub.js.stream_info("IN_e1")).config
    await pair.hub.js.update_stream(config.evolve(sources=None))
    await pair.at_hub.look()
    assert await pair.renewed(1) == [("hub", "IN_e1")]
    for _ in range(3):
        pair.clock.now_s += AGAIN_S + STALLED_S
        await pair.at_hub.look()
    assert (await pair.source(pair.hub, "IN_e1")).heard_s is None
    assert await pair.renewed() == []
    await provide_takers(pair.edge.js, OWN, "e1")
