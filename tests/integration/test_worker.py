"""The worker loop against a real nats-server."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest
from nats.aio.msg import Msg

from actors._runtime import clock, worker
from actors._runtime.actor import Actor, Handler, Output
from actors._runtime.bus import BusError, NatsBus, StreamFullError
from actors._runtime.provision import provision
from actors._runtime.telemetry import SPANS, Span
from actors._runtime.worker import run_actors
from subjects import names, registry
from subjects.errors import RefusedError, RetryLaterError
from subjects.messages import DeadLetter, Event, Query, decode, encode
from subjects.names import Lane
from tests.conftest import NODE, PLACE, Server

pytestmark = pytest.mark.nats


def query(number: int, lane: Lane = "routine") -> Query:
    return Query(
        id=f"q{number}",
        node=NODE,
        sender_ref=f"someone {number}",
        text=f"text {number}",
        lang="en",
        lane=lane,
        deadline=clock.deadline_in(15),
    )


def to(subject: str, message: Query) -> Output:
    return Output(subject, message.lane, message, message.id)


@asynccontextmanager
async def running(bus: NatsBus, *handlers: tuple[str, Handler]) -> AsyncIterator[None]:
    stop = asyncio.Event()
    actors = [Actor(registry.work(subject).actor, {subject: handler}) for subject, handler in handlers]
    task = asyncio.create_task(run_actors(bus, actors, stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


# Polling, because what is waited for is on the server or in another task's list.
async def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


async def waiting_in(bus: NatsBus) -> int:
    infos = [await bus.js.stream_info(f"{name}_{NODE}") for name in ("FLASH", "WORK")]
    return sum(info.state.messages for info in infos)


async def empty(bus: NatsBus, timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while await waiting_in(bus):
            await asyncio.sleep(0.02)


async def test_a_message_passes_two_actors_and_leaves_nothing_behind(bus: NatsBus) -> None:
    seen: list[str] = []

    async def first(message: Query) -> Sequence[Output]:
        return [to(names.RAG, message)]

    async def second(message: Query) -> Sequence[Output]:
        seen.append(message.text)
        return []

    async with running(bus, (names.ROUTE, first), (names.RAG, second)):
        for number in range(20):
            await bus.publish(to(names.ROUTE, query(number)), "test")
        await until(lambda: len(seen) == 20)
        await empty(bus)
    assert sorted(seen) == sorted(f"text {number}" for number in range(20))


async def test_the_same_output_published_twice_is_handled_once(bus: NatsBus) -> None:
    seen: list[str] = []

    async def handle(message: Query) -> Sequence[Output]:
        seen.append(message.id)
        return []

    for _ in range(3):
        await bus.publish(to(names.ROUTE, query(1)), "test")
    await bus.publish(to(names.ROUTE, query(2)), "test")
    async with running(bus, (names.ROUTE, handle)):
        await until(lambda: "q2" in seen)
        await empty(bus)
    assert seen == ["q1", "q2"]


async def test_a_bus_that_refuses_its_handler_uses_up_no_delivery(
    bus: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "BACK_PRESSURE_WAIT_S", (0.01,))
    tries = 0

    async def handle(message: Query) -> Sequence[Output]:
        nonlocal tries
        tries += 1
        if tries <= 2 * registry.work(names.ROUTE).max_deliver:
            raise BusError("the disk is full")
        return [to(names.RAG, message)]

    await bus.publish(to(names.ROUTE, query(1)), "test")
    async with running(bus, (names.ROUTE, handle)):
        async with asyncio.timeout(20):
            while (await bus.js.consumer_info(f"WORK_{NODE}", f"{NODE}_rag_routine")).num_pending != 1:
                await asyncio.sleep(0.02)
    assert (await bus.js.stream_info(f"DLQ_{NODE}")).state.messages == 0


async def test_what_one_person_sends_is_handled_in_order(bus: NatsBus) -> None:
    """Although the first one takes longest, and there are slots for more."""
    done: list[str] = []

    async def handle(message: Query) -> Sequence[Output]:
        await asyncio.sleep(0.2 if message.id.endswith("0") else 0)
        done.append(message.id)
        return []

    texts = [msgspec.structs.replace(query(n), sender_ref="ab"[n // 4]) for n in (0, 1, 2, 3, 4, 5, 6, 7)]
    for message in texts:
        await bus.publish(to(names.ROUTE, message), "test")
    async with running(bus, (names.ROUTE, handle)):
        await until(lambda: len(done) == len(texts))
    assert [text for text in done if text < "q4"] == ["q0", "q1", "q2", "q3"]
    assert [text for text in done if text >= "q4"] == ["q4", "q5", "q6", "q7"]


async def test_flash_has_slots_that_a_flood_of_routine_cannot_take(bus: NatsBus) -> None:
    gate = asyncio.Event()
    done: list[str] = []

    async def handle(message: Query) -> Sequence[Output]:
        if message.lane == "routine":
            await gate.wait()
        done.append(message.lane)
        return []

    async with running(bus, (names.ROUTE, handle)):
        for number in range(30):
            await bus.publish(to(names.ROUTE, query(number)), "test")
        await bus.publish(to(names.ROUTE, query(99, "flash")), "test")
        await until(lambda: done == ["flash"])
        gate.set()
        await until(lambda: len(done) == 31)


async def test_never_more_in_hand_than_slots(bus: NatsBus) -> None:
    now = most = done = 0

    async def handle(_: Query) -> Sequence[Output]:
        nonlocal now, most, done
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        done += 1
        return []

    async with running(bus, (names.ROUTE, handle)):
        for number in range(40):
            await bus.publish(to(names.ROUTE, query(number)), "test")
        await until(lambda: done == 40)
    assert most == registry.work(names.ROUTE).slots.routine


async def test_retry_later_comes_back_and_then_passes(bus: NatsBus) -> None:
    tries = 0

    async def handle(_: Query) -> Sequence[Output]:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise RetryLaterError("not yet", delay_s=0.05)
        return []

    async with running(bus, (names.ROUTE, handle)):
        await bus.publish(to(names.ROUTE, query(1)), "test")
        await until(lambda: tries == 3)
        await empty(bus)


async def dead_letters(bus: NatsBus) -> list[DeadLetter]:
    info = await bus.js.stream_info(f"DLQ_{NODE}")
    letters = []
    for sequence in range(info.state.first_seq, info.state.last_seq + 1):
        raw = await bus.js.get_msg(f"DLQ_{NODE}", sequence)
        assert raw.data is not None
        letters.append(decode(raw.data, DeadLetter))
    return letters


async def test_poison_is_dead_lettered_whole_and_the_next_is_served(bus: NatsBus) -> None:
    served: list[str] = []

    async def handle(message: Query) -> Sequence[Output]:
        if message.id == "q1":
            raise RefusedError("cannot be read by anybody")
        served.append(message.id)
        return []

    garbage = b"\xff{not json"
    await bus.js.publish("route.routine", garbage, headers={"Nats-Msg-Id": "garbage"})
    newer = json.dumps({"v": 99}).encode()
    await bus.js.publish("route.routine", newer, headers={"Nats-Msg-Id": "newer"})
    poison = query(1)
    await bus.publish(to(names.ROUTE, poison), "test")
    await bus.publish(to(names.ROUTE, query(2)), "test")
    async with running(bus, (names.ROUTE, handle)):
        await until(lambda: served == ["q2"])
        await empty(bus)
    letters = {letter.payload: letter for letter in await dead_letters(bus)}
    assert set(letters) == {garbage, newer, encode(poison)}
    assert "not a Query" in letters[garbage].error
    assert "schema version 99" in letters[newer].error
    assert letters[encode(poison)].error == "cannot be read by anybody"
    assert letters[garbage].headers["Nats-Msg-Id"] == "garbage"


async def test_a_handler_that_always_fails_ends_as_a_dead_letter(
    bus: NatsBus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registry.Work, "retry_delay_s", lambda _self, _deliveries: 0.02)
    caplog.set_level(logging.CRITICAL, "evy.worker")
    tries = 0

    async def handle(_: Query) -> Sequence[Output]:
        nonlocal tries
        tries += 1
        raise ZeroDivisionError("a bug")

    async with running(bus, (names.ROUTE, handle)):
        await bus.publish(to(names.ROUTE, query(1)), "test")
        await until(lambda: tries == registry.work(names.ROUTE).max_deliver)
        await empty(bus)
    [letter] = await dead_letters(bus)
    assert letter.error == "ZeroDivisionError: a bug"
    assert letter.deliveries == registry.work(names.ROUTE).max_deliver


async def test_a_full_subject_holds_its_producer_and_loses_nothing(bus: NatsBus) -> None:
    info = await bus.js.stream_info(f"WORK_{NODE}")
    info.config.max_msgs_per_subject = 5
    await bus.js.update_stream(info.config)
    arrived: list[str] = []

    async def first(message: Query) -> Sequence[Output]:
        return [to(names.RAG, message)]

    async def second(message: Query) -> Sequence[Output]:
        await asyncio.sleep(0.05)
        arrived.append(message.id)
        return []

    async with running(bus, (names.ROUTE, first)):
        published = 0
        for number in range(12):
            async with asyncio.timeout(20):
                while True:
                    try:
                        await bus.publish(to(names.ROUTE, query(number)), "test")
                        published += 1
                        break
                    except StreamFullError:
                        if published >= 5 + 5:  # five wait in `rag`, the rest is held upstream
                            break
                        await asyncio.sleep(0.02)
        async with running(bus, (names.RAG, second)):
            await until(lambda: len(arrived) >= published)
    assert sorted(arrived) == sorted({f"q{number}" for number in range(12)} & set(arrived))
    assert len(arrived) == len(set(arrived)) == published


async def test_server_killed_and_started_again_loses_nothing(bus: NatsBus, server: Server) -> None:
    seen: set[str] = set()

    async def first(message: Query) -> Sequence[Output]:
        return [to(names.RAG, message)]

    async def second(message: Query) -> Sequence[Output]:
        seen.add(message.id)
        return []

    async with running(bus, (names.ROUTE, first), (names.RAG, second)):
        for number in range(10):
            await bus.publish(to(names.ROUTE, query(number)), "test")
        server.kill()
        server.start()
        await until(lambda: bus.client.is_connected)
        for number in range(10, 20):
            async with asyncio.timeout(30):
                while True:
                    try:
                        await bus.publish(to(names.ROUTE, query(number)), "test")
                        break
                    except BusError:
                        await asyncio.sleep(0.1)
        await until(lambda: len(seen) == 20, 60)
        await empty(bus, 60)


async def test_the_trace_goes_on_from_hop_to_hop(bus: NatsBus) -> None:
    traces: list[str] = []

    async def first(message: Query) -> Sequence[Output]:
        return [to(names.RAG, message)]

    async def note(msg: Msg) -> None:
        traces.append((msg.headers or {})["traceparent"])

    subscription = await bus.client.subscribe("rag.>", cb=note)

    trace = "0af7651916cd43dd8448eb211c80319c"
    await bus.js.publish(
        "route.routine", encode(query(1)), headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    )
    async with running(bus, (names.ROUTE, first)):
        await until(lambda: len(traces) == 1)
    await subscription.unsubscribe()
    assert traces[0].split("-")[1] == trace
    assert traces[0].split("-")[2] != "b7ad6b7169203331"


async def test_spans_tell_what_waited_what_worked_and_what_became_of_it(bus: NatsBus) -> None:
    events: list[Event] = []
    tries = 0

    async def note(event: Event) -> None:
        events.append(event)

    async def first(message: Query) -> Sequence[Output]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RetryLaterError("not yet", delay_s=0.05)
        return [to(names.RAG, message)]

    async def second(_: Query) -> Sequence[Output]:
        raise RefusedError("never")

    stop = await bus.follow_events(note, (SPANS, "dead_letter"))
    bus.spans.sample(1)
    await bus.publish(to(names.ROUTE, query(7)), "intake")
    spans: list[Span] = []
    async with running(bus, (names.ROUTE, first), (names.RAG, second)):
        async with asyncio.timeout(30):
            while len(spans) < 4:
                await asyncio.sleep(0.05)
                bus.spans.flush()
                rows = [row for event in events if event.kind == SPANS for row in event.fields["spans"]]
                spans = msgspec.convert(rows, list[Span])
    await stop()
    root, again, done, dead = sorted(spans, key=lambda span: span.begun_us)
    assert [(span.name, span.subject, span.outcome, span.delivery) for span in (root, again, done, dead)] == [
        ("intake", "", "done", 1),
        ("route", names.ROUTE, "again", 1),
        ("route", names.ROUTE, "done", 2),
        ("rag", names.RAG, "dead", 1),
    ]
    assert len({span.trace for span in spans}) == 1
    assert {span.query_id for span in spans} == {query(7).id}
    assert [span.parent for span in (root, again, done, dead)] == ["", root.id, root.id, done.id]
    assert [name for name, _, _ in done.steps] == ["publish rag.routine"]
    assert root.queue_us == 0
    assert again.queue_us > 0
    assert done.queue_us >= again.queue_us + 50_000
    assert all(took <= span.work_us for span in spans for _, _, took in span.steps)
    letters = [event for event in events if event.kind == "dead_letter"]
    assert [(e.query_id, e.fields["subject"], e.fields["reason"]) for e in letters] == [
        (query(7).id, "rag.routine", "never")
    ]


async def test_provision_is_idempotent_and_reports_drift(bus: NatsBus) -> None:
    assert await provision(bus.js, PLACE) == []
    info = await bus.js.stream_info(f"WORK_{NODE}")
    info.config.max_msgs_per_subject = 7
    await bus.js.update_stream(info.config)
    assert await provision(bus.js, PLACE) == [
        f"stream WORK_{NODE}: max_msgs_per_subject is 7, the registry says 2000"
    ]
    await provision(bus.js, PLACE, apply=True)
    assert await provision(bus.js, PLACE) == []


async def test_bucket_keeps_create_update_delete_apart(bus: NatsBus) -> None:
    ledger = await bus.bucket("ledger")
    first = await ledger.create("q1.reply.1", b"INTENT")
    assert first
    assert await ledger.create("q1.reply.1", b"AGAIN") is None
    second = await ledger.update("q1.reply.1", b"SUBMITTED", first)
    assert second
    assert await ledger.update("q1.reply.1", b"LATE", first) is None
    assert await ledger.get("q1.reply.1") == (b"SUBMITTED", second)
    await ledger.put("q2.reply.1", b"x")
    assert sorted(await ledger.keys("q1.")) == ["q1.reply.1"]
    assert sorted(await ledger.keys()) == ["q1.reply.1", "q2.reply.1"]
    assert await ledger.recent(5) == [("q2.reply.1", b"x"), ("q1.reply.1", b"SUBMITTED")]
    assert await ledger.recent(1) == [("q2.reply.1", b"x")]
    await ledger.delete("q1.reply.1")
    assert await ledger.get("q1.reply.1") is None
    assert await ledger.create("q1.reply.1", b"new") is not None


async def test_events_reach_a_follower(bus: NatsBus) -> None:
    got: list[Event] = []

    async def receive(event: Event) -> None:
        got.append(event)

    stop = await bus.follow_events(receive)
    bus.emit(Event(kind="received", node=NODE, actor="sms", at=1.0, fields={"parts": 2}))
    await until(lambda: bool(got))
    await stop()
    assert got[0].fields == {"parts": 2}
