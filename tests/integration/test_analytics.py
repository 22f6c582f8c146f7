"""The actor that keeps what happened, on a real server, through what may become of server and file."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from actors._event_store import ASIDE, EventStore, StoreError, path_in
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.config import Config
from actors._runtime.context import BusContext, build_actors
from actors._runtime.event_log import NatsEventLog, Page, Position
from actors._runtime.handling import end
from actors._runtime.provision import provision
from actors._runtime.telemetry import TelemetryConfig
from actors._runtime.worker import run_actors
from actors.analytics import ROOM_OCTETS, Analytics
from subjects.errors import ConfigError
from subjects.messages import Event
from tests.conftest import NODE, PLACE, Server, free_port
from tests.linked import Linked, running
from tests.scenarios.disks import fill, small_disk, why_not
from tests.unit.test_metrics import read, scraped, value

pytestmark = pytest.mark.nats

WITHIN_S = 30.0


def event(kind: str, **fields: object) -> Event:
    return Event(kind=kind, node=NODE, actor="test", at=1_790_000_000.0, query_id="q", fields=fields)


class Watched:
    """The actor on a bus, with what it stored and what is in its file."""

    def __init__(self, bus: NatsBus, path: Path) -> None:
        self.path = path
        self.free = 10 * ROOM_OCTETS
        self.seen: list[Page] = []
        self.said: list[Event] = []
        self.actor = Analytics(
            node=NODE,
            path=path,
            events=NatsEventLog(bus),
            emit=self.said.append,
            config=TelemetryConfig(),
            seen=[self.seen.append],
            free=lambda _: self.free,
            every_s=0.02,
            retry_s=0.05,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.actor.run())
        try:
            yield
        finally:
            await end([task])
            await self.actor.close()

    def kinds(self) -> list[str]:
        try:
            with contextlib.closing(EventStore.existing(self.path)) as store:
                return [one.kind for one in store.events()]
        except (ConfigError, StoreError):  # it is being made
            return []

    def says(self) -> list[str]:
        return [one.kind for one in self.said]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():
            await asyncio.sleep(0.02)


async def emitted(bus: NatsBus, *kinds: str) -> None:
    for kind in kinds:
        bus.emit(event(kind))
    await asyncio.sleep(0)
    await bus.client.flush()


async def restarted(server: Server, bus: NatsBus) -> None:
    server.kill()
    await until(lambda: not bus.client.is_connected)
    server.start()
    await until(lambda: bus.client.is_connected)


async def all_of(log: NatsEventLog, after: Position, count: int) -> Page:
    """A page that holds so many events: they are stored after the server has answered."""
    async with asyncio.timeout(WITHIN_S):
        while len((page := await log.read(after, count)).events) < count:
            await asyncio.sleep(0.02)
    return page


@pytest.fixture
def watched(bus: NatsBus, tmp_path: Path) -> Watched:
    return Watched(bus, tmp_path / "events.sqlite3")


async def test_a_reader_gets_every_event_once_page_by_page(bus: NatsBus) -> None:
    log = NatsEventLog(bus)
    assert (await log.read(Position(), 3)).events == ()
    await emitted(bus, "a", "b", "c", "d")
    await bus.client.publish("evt.broken", b"{no event")
    await bus.client.flush()
    first = await all_of(log, Position(), 3)
    second = await all_of(log, first.position, 2)
    found = [kept.event.kind if kept.event else None for kept in (*first.events, *second.events)]
    assert found == ["a", "b", "c", "d", None]
    assert (await log.read(second.position, 3)).events == ()
    # Another reader, or this one after a restart, goes on from any place.
    again = await NatsEventLog(bus).read(first.position, 10)
    assert [kept.sequence for kept in again.events] == [4, 5]


async def test_a_reader_comes_back_after_its_server_was_killed(bus: NatsBus, server: Server) -> None:
    log = NatsEventLog(bus)
    await emitted(bus, "a")
    before = await all_of(log, Position(), 1)
    await restarted(server, bus)
    await emitted(bus, "b")
    async with asyncio.timeout(WITHIN_S):
        while True:
            with contextlib.suppress(BusError):
                after = await log.read(before.position, 10)
                if after.events:
                    break
            await asyncio.sleep(0.05)
    assert [kept.event.kind for kept in after.events if kept.event] == ["b"]


async def test_what_happens_is_stored_and_goes_on_after_a_restart(watched: Watched, bus: NatsBus) -> None:
    await emitted(bus, "a", "b")
    async with watched.running():
        await until(lambda: watched.kinds() == ["a", "b"])
        await emitted(bus, "c")
        await until(lambda: watched.kinds() == ["a", "b", "c"])
    await emitted(bus, "d")
    async with watched.running():
        await until(lambda: watched.kinds() == ["a", "b", "c", "d"])
    told = [kept.event.kind for page in watched.seen for kept in page.events if kept.event]
    assert told == ["a", "b", "c", "d"]
    assert watched.said == []


async def test_a_lost_or_broken_file_is_begun_anew_from_the_stream(watched: Watched, bus: NatsBus) -> None:
    async with watched.running():
        await emitted(bus, "a", "b")
        await until(lambda: watched.kinds() == ["a", "b"])
        for file in watched.path.parent.glob("events.sqlite3*"):
            file.unlink()
        await until(lambda: watched.kinds() == ["a", "b"])
    assert watched.says() == ["event_store_begun_anew"]
    watched.path.write_bytes(b"neither a database nor empty " * 300)
    async with watched.running():
        await until(lambda: len(watched.said) == 2)
        await until(lambda: watched.kinds() == ["a", "b"])
    assert watched.says() == ["event_store_begun_anew"] * 2
    assert "not a database" in str(watched.said[1].fields["reason"])
    assert watched.path.with_name(ASIDE).read_bytes().startswith(b"neither")


async def test_without_room_events_wait_in_the_stream_and_are_caught_up(
    watched: Watched, bus: NatsBus
) -> None:
    async with watched.running():
        await emitted(bus, "a")
        await until(lambda: watched.kinds() == ["a"])
        watched.free = ROOM_OCTETS - 1
        await until(lambda: watched.says() == ["event_store_paused"])
        await emitted(bus, "b", "c")
        await asyncio.sleep(0.3)
        assert watched.kinds() == ["a"]
        watched.free = ROOM_OCTETS
        await until(lambda: watched.kinds() == ["a", "b", "c"])
        await until(lambda: watched.says() == ["event_store_paused", "event_store_resumed"])


async def test_a_full_disk_is_waited_out_and_leaves_the_store_whole(bus: NatsBus) -> None:
    if reason := why_not():
        pytest.skip(reason)
    with small_disk(4 << 20) as disk:
        watched = Watched(bus, disk / "events.sqlite3")  # it believes that there is room
        async with watched.running():
            await emitted(bus, "before")
            await until(lambda: watched.kinds() == ["before"])
            filler = fill(disk)
            count = 0
            async with asyncio.timeout(WITHIN_S):
                while "event_store_paused" not in watched.says():
                    await emitted(bus, *(f"e{count + number}" for number in range(50)))
                    count += 50
                    await asyncio.sleep(0.05)
            assert "full" in str(watched.said[0].fields["reason"])
            filler.unlink()
            await until(lambda: watched.kinds() == ["before", *(f"e{number}" for number in range(count))])
            await until(lambda: watched.says() == ["event_store_paused", "event_store_resumed"])


async def test_a_stream_that_was_made_again_is_read_on(watched: Watched, bus: NatsBus) -> None:
    async with watched.running():
        await emitted(bus, "a", "b")
        await until(lambda: watched.kinds() == ["a", "b"])
    await bus.js.delete_stream(f"EVT_{NODE}")
    await provision(bus.js, PLACE)
    await emitted(bus, "c")
    async with watched.running():
        await until(lambda: watched.kinds() == ["a", "b", "c"])


async def test_events_that_a_power_cut_took_from_the_stream_do_not_hide_later_ones(bus: NatsBus) -> None:
    """The server gives the numbers of lost events again, to others."""
    log = NatsEventLog(bus)
    await emitted(bus, "a", "b", "c")
    before = await all_of(log, Position(), 3)
    made, last = before.position.stream, before.position.at_ns
    assert [kept.sequence for kept in before.events] == [1, 2, 3]
    first = (await log.read(Position(), 1)).position
    # A store that has read more than there is now, and one whose last event has become another.
    for place in (Position(made, 9, first.at_ns), Position(made, 2, first.at_ns)):
        page = await log.read(place, 9)
        assert [kept.sequence for kept in page.events] == [2, 3]
        assert page.position == Position(f"{made}+1", 3, last)
        assert (await log.read(page.position, 9)).events == ()
    again = await log.read(Position(f"{made}+1", 9, last), 9)
    assert again == Page(Position(f"{made}+2", 3))


async def test_the_node_works_on_while_the_server_is_away(
    watched: Watched, bus: NatsBus, server: Server
) -> None:
    async with watched.running():
        await restarted(server, bus)
        await emitted(bus, "a")
        await until(lambda: watched.kinds() == ["a"])


async def test_a_centre_keeps_its_own_events_and_serves_its_own_figures(tmp_path: Path) -> None:
    linked = Linked(tmp_path, edges=("e1",))
    port = free_port()
    async with running(linked) as (hub, _):
        tables = {"node": {"profile": "bigevy", "data_dir": str(tmp_path / "centre")}}
        context = BusContext(Config({**tables, "telemetry": {"metrics_port": port}}), hub)
        [actor] = await build_actors(("analytics",), context)
        stop = asyncio.Event()
        working = asyncio.create_task(run_actors(hub, [actor], stop))
        hub.emit(Event(kind="decided", node="hub", actor="infer_large", at=1_790_000_000.0, query_id="q"))
        path = path_in(tmp_path / "centre")

        def stored() -> list[str]:
            try:
                with contextlib.closing(EventStore.existing(path)) as store:
                    return [one.kind for one in store.events()]
            except (ConfigError, StoreError):
                return []

        await until(lambda: "decided" in stored())
        found: dict[Any, float] = {}
        async with asyncio.timeout(WITHIN_S):
            while value(found, "evy_events_total", kind="decided", actor="infer_large") != 1:
                with contextlib.suppress(OSError):  # it is not there yet
                    found = read(await asyncio.to_thread(scraped, port))
        assert value(found, "evy_stream_messages", stream="IN_e1") == 0
        assert value(found, "evy_battery_ratio") is None
        stop.set()
        await working
