"""Old and new workers on one bus: what an old one cannot read is kept, and delivered after the upgrade."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest

from actors._runtime import clock
from actors._runtime.actor import Actor, Handler, Output
from actors._runtime.bus import NatsBus
from actors._runtime.letters import Letter, Letters
from actors._runtime.worker import run_actors
from subjects import names
from subjects.messages import Query, encode
from tests.conftest import NODE

pytestmark = pytest.mark.nats


@asynccontextmanager
async def working(bus: NatsBus, handler: Handler) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(run_actors(bus, [Actor("route", {names.ROUTE: handler})], stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


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


async def one_letter(bus: NatsBus) -> Letter:
    async with asyncio.timeout(30):
        while True:
            if found := [letter async for letter in Letters(bus).every()]:
                [letter] = found
                return letter
            await asyncio.sleep(0.05)


async def test_an_older_worker_keeps_a_newer_message_until_the_upgrade(
    bus: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled: list[tuple[str, int]] = []

    async def handle(message: Query) -> Sequence[Output]:
        handled.append((message.id, message.v))
        return []

    with monkeypatch.context() as newer:
        newer.setattr(Query, "SCHEMA", 2)
        await bus.publish(Output(names.ROUTE, "routine", query("newer"), "newer"), "test")
    await bus.publish(Output(names.ROUTE, "routine", query("older"), "older"), "test")
    async with working(bus, handle):
        letter = await one_letter(bus)
        async with asyncio.timeout(20):
            while not handled:
                await asyncio.sleep(0.02)
    assert handled == [("older", 1)]  # which was behind it
    assert letter.letter.error == (
        f"not a Query ({len(letter.letter.payload)} octets): schema version 2, this node reads up to 1"
    )
    assert letter.letter.deliveries == 1  # no delivery can mend it
    assert "upgrade this node's EVY" in letter.refuses(letter.letter.payload)

    monkeypatch.setattr(Query, "SCHEMA", 2)
    assert letter.refuses(letter.letter.payload) == ""
    async with working(bus, handle):
        assert await Letters(bus).replay(letter, letter.letter.payload)
        async with asyncio.timeout(20):
            while len(handled) < 2:
                await asyncio.sleep(0.02)
    assert handled[1] == ("newer", 2)
    assert [each async for each in Letters(bus).every()] == []


async def test_a_newer_worker_reads_older_messages_and_fields_it_does_not_know(
    bus: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled: list[int] = []

    async def handle(message: Query) -> Sequence[Output]:
        handled.append(message.v)
        return []

    more = msgspec.json.decode(encode(query("more"))) | {"a_field_of_tomorrow": {"x": 1}}
    await bus.js.publish("route.routine", msgspec.json.encode(more))
    monkeypatch.setattr(Query, "SCHEMA", 2)
    await bus.publish(Output(names.ROUTE, "routine", query("new"), "new"), "test")
    async with working(bus, handle):
        async with asyncio.timeout(20):
            while len(handled) < 2:
                await asyncio.sleep(0.02)
    assert handled == [1, 2]
