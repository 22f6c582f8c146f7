"""Node and centre on one server: the way of a query there, of its answer back, and what waits in between."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from actors._runtime import clock
from actors._runtime.actor import Actor, Output
from actors._runtime.bus import NatsBus
from actors._runtime.identity import Identity
from actors._runtime.link import LATE_FOR_S, NatsLink
from actors._runtime.provision import Place, provision
from actors._runtime.worker import run_actors
from actors.link import passed
from subjects import names
from subjects.messages import Answer, Deadline, Query, answer_to
from tests.conftest import NODE, Server

pytestmark = pytest.mark.nats

PLACE = Place(NODE, "hybrid")
PASSED = Deadline("another boot", 0.0)


@pytest.fixture
async def bus(server: Server) -> AsyncIterator[NatsBus]:
    connected = await NatsBus.connect(Identity(NODE, b"secret of the tests", "0000"), server.url, "test")
    assert await provision(connected.js, PLACE) == []
    yield connected
    await connected.close()
    await asyncio.sleep(0)


def query(number: int = 1, node: str = NODE, wait: Deadline = PASSED) -> Query:
    return Query(
        id=f"q{number}",
        node=node,
        sender_ref="ana",
        text="?",
        lang="en",
        lane="routine",
        deadline=PASSED,
        asked=True,
        wait=wait,
    )


def asking(asked: Query) -> Output:
    return Output(names.INFER_LARGE, asked.lane, asked, asked.id, optional=True)


async def messages(bus: NatsBus, stream: str) -> int:
    return (await bus.js.stream_info(f"{stream}_{NODE}")).state.messages


async def test_a_query_goes_to_the_centre_and_its_answer_comes_back(bus: NatsBus) -> None:
    heard: list[Answer] = []
    stop = asyncio.Event()

    async def centre(asked: Query) -> Sequence[Output]:
        answer = answer_to(asked, "unsure", "I do not know.", by_centre=True)
        return [Output(names.down(asked.node, names.COMPRESS), asked.lane, answer, asked.id)]

    async def compress(answer: Answer) -> Sequence[Output]:
        heard.append(answer)
        stop.set()
        return ()

    actors = [
        Actor("infer_large", {names.INFER_LARGE: centre}),
        Actor("compress", {names.COMPRESS: compress}),
    ]
    running = asyncio.create_task(run_actors(bus, actors, stop))
    await bus.publish(asking(query()), "rag")
    async with asyncio.timeout(20):
        await running
        while any([await messages(bus, stream) for stream in ("UP", "IN", "DOWN", "WORK")]):
            await asyncio.sleep(0.1)  # both ends end empty
    assert heard == [answer_to(query(), "unsure", "I do not know.", by_centre=True)]


async def test_what_another_node_says_it_is_becomes_a_dead_letter(bus: NatsBus) -> None:
    async def centre(_: Query) -> Sequence[Output]:
        raise AssertionError("handled")

    stop = asyncio.Event()
    actors = [Actor("infer_large", {names.INFER_LARGE: centre})]
    running = asyncio.create_task(run_actors(bus, actors, stop))
    await bus.publish(asking(query(node="other")), "rag")
    async with asyncio.timeout(20):
        while not await messages(bus, "DLQ"):
            await asyncio.sleep(0.05)
    stop.set()
    await running


async def test_the_link_tells_what_waits_and_ends_what_waited_too_long(bus: NatsBus) -> None:
    link = NatsLink(bus, PLACE)
    state = await link.look()
    assert state.up
    assert state.rtt_ms is not None
    later_s = 0.0
    link = NatsLink(bus, PLACE, now=lambda: time.monotonic() + later_s)
    link.missed()
    assert (await link.look()).up is False
    later_s = LATE_FOR_S + 1
    assert (await link.look()).up
    await bus.js.delete_stream(f"IN_{NODE}")  # nobody takes the queries any more
    for number in (1, 2):
        await bus.publish(asking(query(number)), "rag")
    await bus.publish(asking(query(3, wait=clock.deadline_in(60))), "rag")
    assert (await link.look()).waiting == 3
    assert [gone.id for gone in await link.expire(passed)] == ["q1", "q2"]
    assert await link.expire(passed) == []
    assert (await link.look()).waiting == 1
    await bus.js.delete_stream(f"DOWN_{NODE}")
    state = await link.look()
    assert state.up is False
    assert "evy nats enrol" in state.reason


async def test_a_full_uplink_keeps_nobody_waiting(bus: NatsBus) -> None:
    await bus.js.delete_stream(f"IN_{NODE}")
    info = await bus.js.stream_info(f"UP_{NODE}")
    await bus.js.update_stream(info.config.evolve(max_msgs_per_subject=1))
    for number in (1, 2):
        await bus.publish(asking(query(number)), "rag")
    assert await messages(bus, "UP") == 1
