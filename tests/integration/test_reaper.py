"""Messages whose workers died at the last delivery, on a real server."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from nats.js.api import ConsumerConfig

from actors._runtime import clock, reaper
from actors._runtime.actor import Output
from actors._runtime.bus import MSG_ID, BusError, NatsBus
from actors._runtime.letters import Letter, Letters
from actors._runtime.process import serve
from actors._runtime.provision import provision
from actors._runtime.reaper import Queue, Reaper
from subjects import names, registry
from subjects.messages import DeadLetter, Query, decode, encode
from subjects.registry import ADVISORIES
from tests.conftest import NODE, PLACE, Server
from tests.linked import Linked, running

pytestmark = pytest.mark.nats

ROUTE = Queue(registry.work(names.ROUTE), NODE, "routine")
ADVISORY_STREAM = ADVISORIES.name.format(node=NODE)


def query(name: str) -> Query:
    return Query(
        id=name,
        node=NODE,
        sender_ref=name,
        text="text",
        lang="en",
        lane="routine",
        deadline=clock.deadline_in(15),
    )


async def publish(bus: NatsBus, *texts: str) -> None:
    for name in texts:
        await bus.publish(Output(names.ROUTE, "routine", query(name), name), "test")


async def letters(bus: NatsBus) -> list[Letter]:
    return [letter async for letter in Letters(bus).every()]


async def left(bus: NatsBus, stream: str = ROUTE.stream) -> int:
    return (await bus.js.stream_info(stream)).state.messages


async def until_left(bus: NatsBus, count: int, stream: str = ROUTE.stream) -> None:
    async with asyncio.timeout(40):
        while await left(bus, stream) != count:
            await asyncio.sleep(0.05)


@asynccontextmanager
async def hasty(bus: NatsBus, deliveries: int = 1) -> AsyncIterator[None]:
    """A durable that gives up soon: the registry's would take minutes."""
    config = (await bus.js.consumer_info(ROUTE.stream, ROUTE.durable)).config
    await bus.js.add_consumer(ROUTE.stream, config.evolve(ack_wait=0.3, max_deliver=deliveries))
    yield


async def take(bus: NatsBus, count: int, *, wait_s: float = 10.0) -> list[Any]:
    """What a worker does that dies while it has the messages."""
    pull = await bus.js.pull_subscribe_bind(consumer=ROUTE.durable, stream=ROUTE.stream)
    taken: list[Any] = []
    async with asyncio.timeout(wait_s):
        while len(taken) < count:
            taken += await pull.fetch(count - len(taken), timeout=wait_s)
    await pull.unsubscribe()
    return taken


async def given_up(bus: NatsBus, *texts: str) -> None:
    """Texts that the server has stopped delivering; each is an advisory."""
    before = await left(bus, ADVISORY_STREAM)
    await publish(bus, *texts)
    async with hasty(bus):
        await take(bus, len(texts))
        pull = await bus.js.pull_subscribe_bind(consumer=ROUTE.durable, stream=ROUTE.stream)
        async with asyncio.timeout(30):
            while await left(bus, ADVISORY_STREAM) < before + len(texts):
                try:  # it notices when somebody asks
                    await pull.fetch(1, timeout=0.5)
                except nats.errors.TimeoutError:
                    continue
        await pull.unsubscribe()


async def test_a_message_that_kills_every_worker_becomes_a_letter(bus: NatsBus, server: Server) -> None:
    async with hasty(bus, deliveries=2):
        await publish(bus, "q1")
        for _ in range(2):
            worker = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.integration.dying_worker", server.url
            )
            assert await asyncio.wait_for(worker.wait(), 60) == -signal.SIGKILL
        stop = asyncio.Event()

        async def build(_: NatsBus) -> list[Any]:
            return []

        serving = asyncio.create_task(serve(bus.identity, PLACE, server.url, ["link"], build, stop))
        survivor = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.dying_worker", server.url
        )
        await until_left(bus, 0)
        survivor.kill()
        await survivor.wait()
        await until_left(bus, 0, ADVISORY_STREAM)
        stop.set()
        assert await serving == 0
    [letter] = await letters(bus)
    assert (letter.letter.subject, letter.letter.payload) == ("route.routine", encode(query_of(letter)))
    assert (letter.letter.actor, letter.letter.deliveries) == ("route", 2)
    assert "died in 2 deliveries" in letter.letter.error
    assert letter.letter.headers[MSG_ID].startswith(NODE)
    assert await Letters(bus).replay(letter, letter.letter.payload)
    assert await left(bus) == 1


def query_of(letter: Letter) -> Query:
    return decode(letter.letter.payload, Query)


async def test_two_reapers_and_a_crash_between_make_one_letter(
    bus: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await given_up(bus, "q1", "q2")
    delete = bus.js.delete_msg

    async def dies(*_: object) -> bool:
        raise nats.errors.Error("kill -9")

    monkeypatch.setattr(bus.js, "delete_msg", dies)
    with pytest.raises(BusError, match="kill -9"):
        await Reaper(bus, PLACE).reap(ROUTE, 1, 9)
    monkeypatch.setattr(bus.js, "delete_msg", delete)
    assert (await left(bus), len(await letters(bus))) == (2, 1)

    reapers = [asyncio.create_task(Reaper(bus, PLACE).run()) for _ in range(2)]
    await until_left(bus, 0)
    await until_left(bus, 0, ADVISORY_STREAM)
    for task in reapers:
        task.cancel()
    await asyncio.gather(*reapers, return_exceptions=True)
    assert sorted(query_of(letter).id for letter in await letters(bus)) == ["q1", "q2"]


async def test_the_letter_of_a_worker_that_died_before_term_is_not_doubled(bus: NatsBus) -> None:
    await given_up(bus, "q1")
    raw = await bus.js.get_msg(ROUTE.stream, 1)
    letter = DeadLetter(
        subject=raw.subject or "",
        payload=raw.data or b"",
        headers=raw.headers or {},
        error="a bug",
        actor="route",
        node=NODE,
        deliveries=6,
        at=1.0,
    )
    await bus.dead_letter(letter, (raw.headers or {})[MSG_ID])
    assert await Reaper(bus, PLACE).reap(ROUTE, 1, 9)
    assert [each.letter.error for each in await letters(bus)] == ["a bug"]
    assert not await Reaper(bus, PLACE).reap(ROUTE, 1, 9)


async def test_what_no_advisory_told_of_is_found_and_nothing_else(
    bus: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may die between giving a message up and storing that it did."""
    monkeypatch.setattr(reaper, "SURE_AFTER_S", 0.1)
    await given_up(bus, "lost")
    await bus.js.purge_stream(ADVISORY_STREAM)
    assert await Reaper(bus, PLACE).look() == 1
    assert [query_of(letter).id for letter in await letters(bus)] == ["lost"]

    await provision(bus.js, PLACE, apply=True)  # patient again
    await publish(bus, "put off", "in hand", "acknowledged", "unseen", "lost too")
    taken = {decode(msg.data, Query).id: msg for msg in await take(bus, 3)}
    await taken["acknowledged"].ack_sync()
    await taken["put off"].nak(delay=60)
    assert await Reaper(bus, PLACE).look() == 0
    assert await left(bus) == 4


async def test_advisories_that_are_none_or_not_ours_are_put_away(bus: NatsBus) -> None:
    head = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES"
    for payload in (b"\xff", b"{}", b'{"stream":"X","consumer":"y","stream_seq":1}'):
        await bus.js.publish(f"{head}.X.y", payload)
    await publish(bus, "stays")
    task = asyncio.create_task(Reaper(bus, PLACE).run())
    await until_left(bus, 0, ADVISORY_STREAM)
    task.cancel()
    assert await left(bus) == 1
    assert await letters(bus) == []


async def test_the_durable_outlives_a_restart_of_everything(bus: NatsBus, server: Server) -> None:
    await given_up(bus, "q1")
    server.kill()
    server.start()
    async with asyncio.timeout(30):
        while True:
            try:
                await bus.client.request("$JS.API.INFO", timeout=1)
                break
            except nats.errors.Error:
                await asyncio.sleep(0.1)
    task = asyncio.create_task(Reaper(bus, PLACE).run())
    await until_left(bus, 0)
    task.cancel()
    assert len(await letters(bus)) == 1
    config: ConsumerConfig = (await bus.js.consumer_info(ADVISORY_STREAM, registry.reaper(NODE))).config
    assert config.max_deliver in {None, -1}


async def test_at_a_centre_and_what_its_server_says_stays_there(tmp_path: Path) -> None:
    """A node's server and the centre's each keep their own advisories, and no one else's."""
    linked = Linked(tmp_path, edges=("e1",))
    row = registry.work(names.INFER_LARGE)
    queue = Queue(row, "e1", "flash")
    async with running(linked) as (hub, edges):
        edge = edges["e1"]
        config = (await hub.js.consumer_info(queue.stream, queue.durable)).config
        await hub.js.add_consumer(queue.stream, config.evolve(ack_wait=0.3, max_deliver=1))
        await hub.js.publish(queue.subject, encode(query("q1")))
        pull = await hub.js.pull_subscribe_bind(consumer=queue.durable, stream=queue.stream)
        await pull.fetch(1, timeout=10)
        async with asyncio.timeout(30):
            while not await left(hub, "ADV_hub"):
                try:
                    await pull.fetch(1, timeout=0.5)
                except nats.errors.TimeoutError:
                    continue
        assert await left(edge, "ADV_e1") == 0
        task = asyncio.create_task(Reaper(hub, linked.place).run())
        await until_left(hub, 0, queue.stream)
        await until_left(hub, 0, "ADV_hub")
        task.cancel()
        [letter] = await letters(hub)
        assert (letter.letter.subject, letter.letter.actor) == ("infer.large.e1.flash", "infer_large")
        assert await letters(edge) == []

        subject = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.X.y"
        await edge.js.publish(subject, b"{}")
        await edge.client.flush()
        assert await left(edge, "ADV_e1") == 1
        assert await left(hub, "ADV_hub") == 0
