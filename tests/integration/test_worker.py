"""The worker loop against a real nats-server."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest
from nats.aio.msg import Msg

from actors._runtime import clock
from actors._runtime.actor import Actor, Handler, Output
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.provision import provision
from actors._runtime.telemetry import SPANS, Span
from actors._runtime.worker import run_actors
from subjects import names, registry
from subjects.errors import RefusedError, RetryLaterError
from subjects.messages import Event, Query, encode
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
