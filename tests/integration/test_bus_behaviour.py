"""What a bus does, on a real nats-server and in memory: one suite, so a test in memory means something."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors._runtime import clock, handling, provision
from actors._runtime.actor import Actor, Handler, KeyValue, Output, ServiceHandler
from actors._runtime.bus import MSG_ID, BusError, NatsBus, StreamFullError
from actors._runtime.identity import Identity
from actors._runtime.letters import Letters
from actors._runtime.memory import MemoryBus
from actors._runtime.services import NobodyAnswersError, ask
from actors._runtime.worker import run_actors
from subjects import names, registry
from subjects.errors import RefusedError, RetryLaterError
from subjects.messages import DeadLetter, Event, Message, Query, decode, encode
from subjects.names import Lane
from subjects.services import SearchReply, SearchRequest
from tests.conftest import NODE, PLACE, Server

IDENTITY = Identity(NODE, b"secret of the tests", "0000")
PATIENCE_S = 30.0


class Stage:
    """A bus and what a test may ask of its surroundings."""

    def __init__(self, bus: NatsBus | MemoryBus) -> None:
        self.bus = bus

    async def store(self, subject: str, octets: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Octets that nobody has checked, as another program publishes them."""
        if isinstance(self.bus, MemoryBus):
            self.bus.store(subject, octets, headers)
        else:
            await self.bus.js.publish(subject, octets, headers=dict(headers or {}) or None)

    async def bound(self, count: int) -> None:
        """From now on a lane of a subject holds so many messages."""
        if isinstance(self.bus, MemoryBus):
            self.bus.bound = count
            return
        config = (await self.bus.js.stream_info(f"WORK_{NODE}")).config
        await self.bus.js.update_stream(config.evolve(max_msgs_per_subject=count))

    async def waiting(self) -> dict[str, int]:
        """Messages that are not done, by subject."""
        if isinstance(self.bus, MemoryBus):
            return self.bus.waiting()
        found: dict[str, int] = {}
        for stream in ("FLASH", "WORK"):
            info = await self.bus.js.stream_info(f"{stream}_{NODE}", subjects_filter=">")
            found |= info.state.subjects or {}
        return found

    async def letters(self) -> list[DeadLetter]:
        if isinstance(self.bus, MemoryBus):
            return self.bus.letters
        return [found.letter async for found in Letters(self.bus).every()]

    async def ask(self, name: str, question: Message) -> Any:
        if isinstance(self.bus, MemoryBus):
            return await self.bus.ask(name, question)
        return await ask(self.bus, name, question)

    @asynccontextmanager
    async def running(
        self, *handlers: tuple[str, Handler], services: Mapping[str, ServiceHandler] | None = None
    ) -> AsyncIterator[None]:
        stop = asyncio.Event()
        actors = [Actor(registry.work(subject).actor, {subject: handler}) for subject, handler in handlers]
        if services:
            actors.append(Actor("rag", {}, services=services))
        run = self.bus.run_actors if isinstance(self.bus, MemoryBus) else _on_server(self.bus)
        task = asyncio.create_task(run(actors, stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(task, PATIENCE_S)

    async def text(self, number: int, lane: Lane = "routine", **fields: Any) -> None:
        await self.bus.publish(to(names.ROUTE, query(number, lane, **fields)), "test")

    async def until_empty(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await self.waiting():
                await asyncio.sleep(0.02)


def _on_server(bus: NatsBus) -> Callable[[Sequence[Actor], asyncio.Event], Awaitable[None]]:
    return lambda actors, stop: run_actors(bus, actors, stop)


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> registry.Work:
    """The row of `route`, less patient than the registry's, so that a test need not wait for minutes."""
    hasty = msgspec.structs.replace(
        registry.work(names.ROUTE), ack_wait_s=3.0, max_deliver=3, backoff_s=(0.05, 0.1)
    )
    table = tuple(hasty if row.subject == names.ROUTE else row for row in registry.WORK)
    monkeypatch.setattr(registry, "WORK", table)
    monkeypatch.setattr(provision, "WORK", table)
    monkeypatch.setattr(handling, "BACK_PRESSURE_WAIT_S", (0.01, 0.05))
    return hasty


@pytest.fixture(params=["memory", pytest.param("server", marks=pytest.mark.nats)])
async def stage(request: pytest.FixtureRequest, tmp_path: Path, row: registry.Work) -> AsyncIterator[Stage]:
    if request.param == "memory":
        yield Stage(MemoryBus(IDENTITY))
        return
    server = Server(tmp_path / "nats")
    try:
        bus = await NatsBus.connect(IDENTITY, server.url, "test", wait_s=20)
        assert await provision.provision(bus.js, PLACE) == []
        yield Stage(bus)
        await bus.close()
        await asyncio.sleep(0)
    finally:
        server.stop()


def query(number: int, lane: Lane = "routine", **fields: Any) -> Query:
    settings: dict[str, Any] = {
        "id": f"q{number}",
        "node": NODE,
        "sender_ref": f"someone {number}",
        "text": f"text {number}",
        "lang": "en",
        "lane": lane,
        "deadline": clock.deadline_in(15),
    }
    return Query(**{**settings, **fields})


def to(subject: str, message: Query, **fields: Any) -> Output:
    return Output(subject, message.lane, message, message.id, **fields)


# Polling, because what is waited for is on the server or in another task's list.
async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


async def onward(message: Query) -> Sequence[Output]:
    return [to(names.RAG, message)]


class Seen:
    """A handler that notes what it is given."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def __call__(self, message: Query) -> Sequence[Output]:
        self.ids.append(message.id)
        return []


async def test_a_message_passes_two_actors_and_leaves_nothing_behind(stage: Stage) -> None:
    seen = Seen()
    async with stage.running((names.ROUTE, onward), (names.RAG, seen)):
        for number in range(20):
            await stage.text(number)
        await until(lambda: len(seen.ids) == 20)
        await stage.until_empty()
    assert sorted(seen.ids) == sorted(f"q{number}" for number in range(20))
    assert await stage.letters() == []


async def test_the_same_output_is_stored_once_in_each_stream(stage: Stage) -> None:
    for _ in range(3):
        await stage.text(1)
    await stage.bus.publish(to(names.ROUTE, query(1), kind="another"), "test")
    await stage.bus.publish(to(names.ROUTE, query(1), ordinal=1), "test")
    await stage.bus.publish(to(names.ROUTE, query(1)), "another actor")
    await stage.text(1, "flash")
    assert await stage.waiting() == {"route.routine": 4, "route.flash": 1}


async def test_an_id_is_remembered_after_its_message_is_done(stage: Stage) -> None:
    seen = Seen()
    async with stage.running((names.ROUTE, seen)):
        await stage.text(1)
        await stage.until_empty()
        await stage.text(1)
        await stage.text(2)
        await until(lambda: "q2" in seen.ids)
        await stage.until_empty()
    assert seen.ids == ["q1", "q2"]


async def test_flash_has_slots_that_a_flood_of_routine_cannot_take(stage: Stage) -> None:
    gate = asyncio.Event()
    done: list[str] = []

    async def handle(message: Query) -> Sequence[Output]:
        if message.lane == "routine":
            await gate.wait()
        done.append(message.lane)
        return []

    async with stage.running((names.ROUTE, handle)):
        for number in range(30):
            await stage.text(number)
        await stage.text(99, "flash")
        await until(lambda: done == ["flash"])
        gate.set()
        await until(lambda: len(done) == 31)


async def test_never_more_in_hand_than_slots(stage: Stage, row: registry.Work) -> None:
    now = most = done = 0

    async def handle(_: Query) -> Sequence[Output]:
        nonlocal now, most, done
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        done += 1
        return []

    async with stage.running((names.ROUTE, handle)):
        for number in range(40):
            await stage.text(number)
        await until(lambda: done == 40)
    assert most == row.slots.routine


async def test_what_one_person_sends_is_handled_in_order(stage: Stage) -> None:
    """Although the first one takes longest, and there are slots for more."""
    done: list[str] = []

    async def handle(message: Query) -> Sequence[Output]:
        await asyncio.sleep(0.2 if message.id.endswith(("0", "4")) else 0)
        done.append(message.id)
        return []

    for number in range(8):
        await stage.text(number, sender_ref="ab"[number // 4])
    async with stage.running((names.ROUTE, handle)):
        await until(lambda: len(done) == 8)
    assert [text for text in done if text < "q4"] == ["q0", "q1", "q2", "q3"]
    assert [text for text in done if text >= "q4"] == ["q4", "q5", "q6", "q7"]


async def test_put_off_comes_back_and_others_pass_meanwhile(stage: Stage) -> None:
    order: list[str] = []

    async def handle(message: Query) -> Sequence[Output]:
        order.append(message.id)
        if message.id == "q1" and order.count("q1") < 3:
            raise RetryLaterError("not yet", delay_s=0.2)
        return []

    await stage.text(1)
    await stage.text(2)
    async with stage.running((names.ROUTE, handle)):
        await until(lambda: order.count("q1") == 3)
        await stage.until_empty()
    assert order.index("q2") < 3
    assert await stage.letters() == []


async def test_a_handler_that_always_fails_ends_as_a_dead_letter(
    stage: Stage, row: registry.Work, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "evy.worker")
    tries = 0

    async def handle(_: Query) -> Sequence[Output]:
        nonlocal tries
        tries += 1
        raise ZeroDivisionError("a bug")

    async with stage.running((names.ROUTE, handle)):
        await stage.text(1)
        await stage.until_empty()
    [letter] = await stage.letters()
    assert (tries, letter.deliveries) == (row.max_deliver, row.max_deliver)
    assert (letter.error, letter.actor, letter.subject) == (
        "ZeroDivisionError: a bug",
        "route",
        "route.routine",
    )


async def test_poison_is_kept_whole_at_once_and_the_next_is_served(stage: Stage) -> None:
    served: list[str] = []

    async def handle(message: Query) -> Sequence[Output]:
        if message.id == "q1":
            raise RefusedError("cannot be read by anybody")
        served.append(message.id)
        return []

    garbage, newer, poison = b"\xff{not json", json.dumps({"v": 99}).encode(), query(1)
    await stage.store("route.routine", garbage, {MSG_ID: "garbage"})
    await stage.store("route.routine", newer)
    await stage.store("route.routine", b"")
    await stage.bus.publish(to(names.ROUTE, poison), "test")
    await stage.text(2)
    async with stage.running((names.ROUTE, handle)):
        await until(lambda: served == ["q2"])
        await stage.until_empty()
    letters = {letter.payload: letter for letter in await stage.letters()}
    assert set(letters) == {garbage, newer, b"", encode(poison)}
    assert "not a Query" in letters[garbage].error
    assert "schema version 99" in letters[newer].error
    assert letters[encode(poison)].error == "cannot be read by anybody"
    assert letters[garbage].headers[MSG_ID] == "garbage"
    assert {letter.deliveries for letter in letters.values()} == {1}


async def test_a_full_subject_holds_its_producer_and_loses_nothing(stage: Stage) -> None:
    await stage.bound(3)
    seen, published = Seen(), 0
    async with stage.running((names.ROUTE, onward)):
        async with asyncio.timeout(PATIENCE_S):
            while published < 6:  # three wait in `rag`, two are in hand, one and more wait in `route`
                try:
                    await stage.text(published)
                    published += 1
                except StreamFullError:
                    await asyncio.sleep(0.02)
            while (await stage.waiting()).get("rag.routine") != 3:
                await asyncio.sleep(0.02)
        assert seen.ids == []
        async with stage.running((names.RAG, seen)):
            await until(lambda: len(seen.ids) == published)
            await stage.until_empty()
    assert sorted(seen.ids) == [f"q{number}" for number in range(6)]
    assert await stage.letters() == []


async def test_a_full_subject_is_an_error_and_an_optional_output_is_left_out(stage: Stage) -> None:
    await stage.bound(1)
    events: list[Event] = []

    async def receive(event: Event) -> None:
        events.append(event)

    stop = await stage.bus.follow_events(receive, {"left_out"})
    await stage.text(1)
    with pytest.raises(StreamFullError):
        await stage.text(2)
    await stage.bus.publish(to(names.ROUTE, query(2), optional=True), "test")
    await until(lambda: bool(events))
    await stop()
    assert events[0].fields == {"subject": "route.routine", "reason": "full"}
    assert (events[0].query_id, events[0].actor) == ("q2", "test")
    assert await stage.waiting() == {"route.routine": 1}


async def test_a_bus_that_refuses_its_handler_uses_up_no_delivery(stage: Stage, row: registry.Work) -> None:
    tries = 0

    async def handle(message: Query) -> Sequence[Output]:
        nonlocal tries
        tries += 1
        if tries <= 3 * row.max_deliver:
            raise BusError("the disk is full")
        return []

    await stage.text(1)
    async with stage.running((names.ROUTE, handle)):
        await stage.until_empty()
    assert tries == 3 * row.max_deliver + 1
    assert await stage.letters() == []


async def test_an_output_that_no_stream_takes_is_the_input_s_dead_letter(stage: Stage) -> None:
    async def handle(message: Query) -> Sequence[Output]:
        return [to(names.RAG, msgspec.structs.replace(message, text="x" * registry.MAX_WORK_OCTETS))]

    await stage.text(1)
    async with stage.running((names.ROUTE, handle)):
        await stage.until_empty()
    [letter] = await stage.letters()
    assert "rag.routine: a Query of" in letter.error
    assert decode(letter.payload, Query).text == "text 1"


async def test_long_work_is_kept_alive(stage: Stage, row: registry.Work) -> None:
    runs = 0

    async def handle(_: Query) -> Sequence[Output]:
        nonlocal runs
        runs += 1
        await asyncio.sleep(1.6 * row.ack_wait_s)
        return []

    await stage.text(1)
    async with stage.running((names.ROUTE, handle)):
        await stage.until_empty()
    assert runs == 1


async def test_what_a_stopped_worker_had_comes_to_the_next(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handling, "DRAIN_S", 0.05)
    begun = asyncio.Event()
    seen = Seen()

    async def hangs(_: Query) -> Sequence[Output]:
        begun.set()
        await asyncio.Event().wait()
        return []

    await stage.text(1)
    async with stage.running((names.ROUTE, hangs)):
        await begun.wait()
    assert await stage.waiting() == {"route.routine": 1}
    async with stage.running((names.ROUTE, seen)):
        await until(lambda: seen.ids == ["q1"])
        await stage.until_empty()


async def test_a_short_name_means_routine_and_an_unknown_one_is_an_error(stage: Stage) -> None:
    await stage.store("route", encode(query(1)))
    assert await stage.waiting() == {"route.routine": 1}
    with pytest.raises(BusError):
        await stage.bus.publish(to("nobody.knows", query(2)), "test")


async def test_a_bucket_keeps_create_update_and_delete_apart(stage: Stage) -> None:
    ledger: KeyValue = await stage.bus.bucket("ledger")
    other: KeyValue = await stage.bus.bucket("session")
    assert await ledger.get("q1.reply.1") is None
    first = await ledger.create("q1.reply.1", b"INTENT")
    assert first
    assert await ledger.create("q1.reply.1", b"AGAIN") is None
    second = await ledger.update("q1.reply.1", b"SUBMITTED", first)
    assert second
    assert second > first
    assert await ledger.update("q1.reply.1", b"LATE", first) is None
    assert await ledger.get("q1.reply.1") == (b"SUBMITTED", second)
    assert await other.get("q1.reply.1") is None
    assert await ledger.put("q2.reply.1", b"") > second
    found = await ledger.get("q2.reply.1")
    assert found
    assert found[0] == b""
    assert await ledger.keys("q1.") == ["q1.reply.1"]
    assert await ledger.keys("q1.re") == ["q1.reply.1"]
    assert sorted(await ledger.keys()) == ["q1.reply.1", "q2.reply.1"]
    assert await ledger.keys("q3") == []
    assert await ledger.recent(5) == [("q2.reply.1", b""), ("q1.reply.1", b"SUBMITTED")]
    assert await ledger.recent(1) == [("q2.reply.1", b"")]
    await ledger.delete("q1.reply.1")
    await ledger.delete("q1.reply.1")
    assert await ledger.get("q1.reply.1") is None
    assert await ledger.update("q1.reply.1", b"LATE", second) is None
    again = await ledger.create("q1.reply.1", b"new")
    assert again
    assert again > second
    assert (await (await stage.bus.bucket("ledger")).get("q1.reply.1")) == (b"new", again)


async def test_a_key_that_no_bucket_takes_is_an_error(stage: Stage) -> None:
    bucket: KeyValue = await stage.bus.bucket("session")
    for key in ("+34600111222", "two words", "", ".first", "last.", "ñ"):
        for write in (bucket.put, bucket.create):
            with pytest.raises(BusError):
                await write(key, b"x")
        with pytest.raises(BusError):
            await bucket.update(key, b"x", 1)
        with pytest.raises(BusError):
            await bucket.get(key)
    assert await bucket.keys() == []


async def test_events_come_in_order_and_by_kind_until_stopped(stage: Stage) -> None:
    every: list[str] = []
    some: list[str] = []

    async def note(event: Event) -> None:
        every.append(event.kind)

    async def choose(event: Event) -> None:
        some.append(event.kind)

    stop_every, stop_some = await stage.bus.follow_events(note), await stage.bus.follow_events(choose, {"b"})
    for kind in ("a", "b", "c"):
        stage.bus.emit(Event(kind=kind, node=NODE, actor="sms", at=1.0))
    await until(lambda: len(every) == 3)
    await until(lambda: some == ["b"])
    await stop_some()
    stage.bus.emit(Event(kind="b", node=NODE, actor="sms", at=1.0))
    await until(lambda: len(every) == 4)
    await stop_every()
    assert every == ["a", "b", "c", "b"]
    assert some == ["b"]


async def test_services_answer_refuse_and_are_gone(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "evy.services")
    raises: dict[str, Exception] = {
        "refused": RefusedError("with a\nreason"),
        "later": RetryLaterError("in a moment"),
        "bug": ZeroDivisionError("somebody's number"),
    }

    async def search(question: SearchRequest) -> SearchReply:
        if error := raises.get(question.text):
            raise error
        return SearchReply(passages=())

    async with stage.running(services={"rag.search": search}):
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    assert await stage.ask("rag.search", SearchRequest(text="x")) == SearchReply(passages=())
                    break
                except NobodyAnswersError:
                    await asyncio.sleep(0.02)
        with pytest.raises(RefusedError, match=r"rag\.search: with a reason"):
            await stage.ask("rag.search", SearchRequest(text="refused"))
        with pytest.raises(RetryLaterError, match="in a moment"):
            await stage.ask("rag.search", SearchRequest(text="later"))
        with pytest.raises(BusError, match="ZeroDivisionError") as bug:
            await stage.ask("rag.search", SearchRequest(text="bug"))
        assert "number" not in str(bug.value)
    with pytest.raises(NobodyAnswersError, match="is the actor rag running"):
        await stage.ask("rag.search", SearchRequest(text="x"))
