"""What a centre keeps of its nodes' events: one behaviour on SQLite and on PostgreSQL, and the way there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from actors._event_store import EventStore, path_in
from actors._reports import AwayError, Postgres, ReportStore, Row, Sqlite, database
from actors._reports.store import MIGRATIONS
from actors._runtime.actor import Actor
from actors._runtime.bus import NatsBus
from actors._runtime.config import Config
from actors._runtime.context import MemoryContext, build_actors
from actors._runtime.event_log import MemoryEventLog, NatsEventLog
from actors._runtime.handling import end
from actors._runtime.identity import Identity
from actors._runtime.link import NatsLink
from actors._runtime.provision import Place, provision
from actors._runtime.server_files import join
from actors._runtime.telemetry import TelemetryConfig
from actors._runtime.worker import run_actors
from actors.analytics import Analytics
from actors.analytics.centre import Centre
from actors.analytics.uplink import Uplink, pending
from simulators.link import Link
from subjects import names
from subjects.errors import ConfigError, RetryLaterError
from subjects.event_report import EventReport, Reported
from subjects.messages import Event
from tests.conftest import free_port
from tests.linked import Linked, Machine, holds, running
from tests.postgres import Cluster, why_not

NOW = 1_790_000_000
TEXT = "0123456789abcdef"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if reason := why_not():
        pytest.skip(reason)
    made = Cluster()
    made.start()
    yield made
    made.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Sqlite | Postgres:
    if request.param == "sqlite":
        return Sqlite(tmp_path / "reports.sqlite3")
    cluster: Cluster = request.getfixturevalue("cluster")
    return Postgres(cluster.database())


@pytest.fixture
def store(made: Sqlite | Postgres) -> Iterator[ReportStore]:
    opened = ReportStore(made)
    yield opened
    opened.close()


def reported(sequence: int, kind: str = "received", at: int = NOW, text: str = TEXT) -> Reported:
    return Reported(sequence, at, kind, "routine", text, {"lang": "es", "needs": ("water", "food")})


def report(*events: Reported, node: str = "n1", stream: str = "0" * 12) -> EventReport:
    return EventReport(node=node, stream=stream, events=events)


def all_of(store: ReportStore, node: str = "") -> list[Row]:
    return list(store.rows(0, 2**40, node))


def kinds(store: ReportStore, node: str = "") -> list[str]:
    return [row.kind for row in all_of(store, node)]


def test_every_event_is_kept_once_by_node_stream_and_sequence(store: ReportStore) -> None:
    first = report(reported(1), reported(2, "sent"))
    assert store.add(first, NOW).new == 2
    again = store.add(report(reported(2, "other"), reported(3, "delivered")), NOW)
    assert (again.new, again.known) == (1, 1)
    assert store.add(first, NOW).new == 0
    assert store.add(report(reported(1), stream="1" * 12), NOW).new == 1
    assert store.add(report(reported(1), node="n2"), NOW).new == 1
    assert kinds(store, "n1") == ["received", "sent", "delivered", "received"]
    assert store.nodes() == {"n1": NOW, "n2": NOW}
    [row] = all_of(store, "n2")
    assert row == Row("n2", NOW, "received", "routine", TEXT, {"lang": "es", "needs": ["water", "food"]}, NOW)


def test_what_was_stored_is_there_for_the_next_process(made: Sqlite | Postgres, store: ReportStore) -> None:
    store.add(report(reported(1)), NOW)
    other = ReportStore(made)
    assert kinds(other) == ["received"]
    assert other.add(report(reported(1), reported(2)), NOW).new == 1
    other.close()
    assert len(kinds(store)) == 2


def test_a_time_that_cannot_be_is_that_of_arrival(store: ReportStore) -> None:
    store.add(report(reported(1, at=3600), reported(2, at=NOW + 10**6), reported(3, at=NOW - 60)), NOW)
    assert [row.at for row in all_of(store)] == [NOW - 60, NOW, NOW]


def test_events_of_a_time(store: ReportStore) -> None:
    store.add(report(*(reported(n, at=NOW - 100 * n) for n in range(1, 5))), NOW)
    assert [row.at - NOW for row in store.rows(NOW - 300, NOW - 100)] == [-300, -200]


def test_the_old_goes_and_the_rest_stays(store: ReportStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors._reports.store.PRUNE_ROWS", 2)
    store.add(report(*(reported(n, at=NOW - 100) for n in range(1, 6)), reported(9, "sent")), NOW)
    store.forget("n1", ["f" * 16], NOW - 100)
    assert store.prune(NOW - 50) == 5
    assert kinds(store) == ["sent"]
    assert store.add(report(reported(10, text="f" * 16)), NOW).new == 1  # its erasure is as old


def test_who_is_forgotten_is_gone_and_stays_away(store: ReportStore) -> None:
    store.add(report(reported(1), reported(2, text="a" * 16), reported(3, "modem_up", text="")), NOW)
    store.add(report(reported(1), node="n2"), NOW)
    assert store.forget("n1", [TEXT, ""], NOW) == 1
    assert store.forget("n1", [TEXT], NOW) == 0
    late = store.add(report(reported(7), reported(8, text="b" * 16)), NOW)  # it was under way
    assert (late.new, late.known) == (1, 1)
    assert store.add(report(reported(9)), NOW).new == 0
    assert [(row.node, row.text[:1]) for row in all_of(store)] == [
        ("n1", "a"), ("n1", ""), ("n1", "b"), ("n2", "0"),
    ]  # fmt: skip


def test_a_newer_schema_is_left_alone(made: Sqlite | Postgres, store: ReportStore) -> None:
    store.add(report(reported(1)), NOW)
    store.close()
    connection = made.connect()
    connection.execute("UPDATE evy_schema SET version = version + 1")
    connection.close()
    with pytest.raises(ConfigError, match="a newer EVY wrote it"):
        store.add(report(reported(2)), NOW)


def test_a_schema_of_an_earlier_version_is_brought_up_to_date(
    made: Sqlite | Postgres, store: ReportStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(report(reported(1)), NOW)
    more = ("ALTER TABLE evy_events ADD COLUMN extra BIGINT", "CREATE TABLE evy_more (a BIGINT)")
    monkeypatch.setattr("actors._reports.store.MIGRATIONS", (*MIGRATIONS, more))
    newer = ReportStore(made)
    assert kinds(newer) == ["received"]
    newer.close()
    connection = made.connect()
    assert connection.execute("SELECT version FROM evy_schema").fetchall() == [(2,)]
    assert connection.execute("SELECT extra FROM evy_events").fetchall() == [(None,)]
    connection.close()


def test_a_database_that_is_away_is_said_and_comes_back(cluster: Cluster) -> None:
    store = ReportStore(Postgres(cluster.database()))
    store.add(report(reported(1)), NOW)
    cluster.kill()
    for _ in range(2):
        with pytest.raises(AwayError, match="cannot write PostgreSQL on a local socket/d"):
            store.add(report(reported(2)), NOW)
    with pytest.raises(AwayError, match="cannot read"):
        all_of(store)
    cluster.start()
    assert store.add(report(reported(1), reported(2)), NOW).new == 1
    assert len(all_of(store)) == 2
    store.close()


def test_an_error_in_the_middle_of_a_report_leaves_nothing_of_it(made: Sqlite | Postgres) -> None:
    store = ReportStore(made)
    store.add(report(reported(1)), NOW)
    broken = report(reported(2), Reported(2**70, NOW, "sent", "routine"))  # no column takes it
    with contextlib.suppress(AwayError, OverflowError):
        store.add(broken, NOW)
    assert len(all_of(store)) == 1
    store.close()


def test_an_address_that_is_none_is_refused_without_showing_a_password(tmp_path: Path) -> None:
    wrong = {"database_url": "mysql://me:secret@db/x"}
    config = Config({"analytics": wrong, "node": {"data_dir": str(tmp_path)}})
    with pytest.raises(ConfigError) as error:
        database(config)
    assert "secret" not in str(error.value)
    away = ReportStore(Postgres("postgresql://me:secret@127.0.0.1:1/x"))
    with pytest.raises(AwayError) as told:
        away.nodes()
    assert "secret" not in str(told.value)


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    file = tmp_path / "reports.sqlite3"
    file.write_bytes(b"neither empty nor a database" * 99)
    with pytest.raises(AwayError, match="not a database"):
        ReportStore(Sqlite(file)).nodes()


async def test_a_report_waits_while_the_database_is_away_and_that_is_said_once(tmp_path: Path) -> None:
    said: list[Event] = []
    clock = [0.0]
    file = tmp_path / "data" / "reports.sqlite3"
    centre = Centre(
        "hub", ReportStore(Sqlite(file)), said.append, keep_days=90, now=lambda: NOW, clock=lambda: clock[0]
    )
    (tmp_path / "data").write_text("no folder")
    for _ in range(3):
        with pytest.raises(RetryLaterError) as error:
            await centre.handle(report(reported(1)))
        assert error.value.delay_s is None
    (tmp_path / "data").unlink()
    with pytest.raises(RetryLaterError):  # it is not asked again at once
        await centre.handle(report(reported(1)))
    clock[0] = 6
    assert await centre.handle(report(reported(1))) == []
    assert [one.kind for one in said] == ["report_store_paused", "report_store_resumed"]
    await centre.close()


class Edge:
    """A node's `analytics`, in a hurry."""

    def __init__(self, bus: NatsBus, directory: Path) -> None:
        self.bus = bus
        self.path = path_in(directory)
        self.happened = 0
        self._kept = Analytics(
            node=bus.node, path=self.path, events=NatsEventLog(bus), emit=bus.emit, config=TelemetryConfig(),
            every_s=0.05, retry_s=0.05,
        )  # fmt: skip
        look = NatsLink(bus, Place(bus.node, centre=True)).look
        self._told = Uplink(
            bus.identity, self.path, look, bus.publish, look_every_s=0.05, full_every_s=0.1, any_every_s=0.1
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._kept.run()), asyncio.create_task(self._told.run())]
        try:
            yield
        finally:
            await end(tasks, 2)
            await self._kept.close()

    async def texts(self, count: int) -> None:
        """So many texts more: of each three events that leave and two that stay."""
        for number in range(self.happened, self.happened + count):
            for kind in ("received", "spans", "sent", "decided", "delivered"):
                fields = {"purpose": "reply", "step": "verbatim", "text": "Maria, +49 171 1234567"}
                event = Event(
                    kind=kind, node=self.bus.node, actor="t", at=float(NOW + number), sender_ref="s" * 20,
                    query_id=f"{number:032x}", fields=fields if kind != "spans" else {"spans": []},
                )  # fmt: skip
                self.bus.emit(event)
            if not number % 20:
                await asyncio.sleep(0)
        self.happened += count
        await asyncio.sleep(0)
        await self.bus.client.flush()

    def expected(self) -> set[tuple[str, str, str]]:
        refs = [self.bus.identity.report_ref(f"{number:032x}") for number in range(self.happened)]
        return {(self.bus.node, kind, ref) for kind in ("received", "sent", "delivered") for ref in refs}


@contextlib.asynccontextmanager
async def through_a_link(linked: Linked, *names: str) -> AsyncIterator[Link]:
    """Enrols nodes that reach their centre by a link which a test breaks."""
    leaf = linked.authority.state.servers[0].leaf_port
    async with Link(("127.0.0.1", 0), ("127.0.0.1", leaf)) as link:
        for name in names:
            bundle, port = linked.authority.enrol(name), free_port()
            assert bundle.edge is not None
            detour = msgspec.structs.replace(bundle.edge, urls=(f"tls://127.0.0.1:{link.address[1]}",))
            through = msgspec.structs.replace(bundle, edge=detour)
            linked.edges[name] = Machine(join(linked.directory / name / "server", through, port=port), port)
        yield link


async def until_stored(store: ReportStore, wanted: int) -> None:
    found = -1
    try:
        async with asyncio.timeout(90):
            while found < wanted:
                with contextlib.suppress(AwayError):
                    found = len(await asyncio.to_thread(all_of, store))
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"{found} events are stored, not {wanted}") from None


@pytest.mark.nats
async def test_every_event_of_two_nodes_is_stored_once_whatever_breaks_on_the_way(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The database is killed with -9 and the link of both is cut while events are under way."""
    linked = Linked(tmp_path, edges=())
    url = cluster.database()
    reader = ReportStore(Postgres(url))
    async with contextlib.AsyncExitStack() as stack:
        link = await stack.enter_async_context(through_a_link(linked, "e1", "e2"))
        hub, buses = await stack.enter_async_context(running(linked))
        for name, bus in buses.items():  # they were enrolled by a release that had no reports
            place = Place(name, centre=True)
            for stream, taker in place.takers(name):
                older = [subject for subject in taker.filter_subjects or () if "report" not in subject]
                await bus.js.add_consumer(stream, taker.evolve(filter_subjects=older))
            assert any("filter_subjects" in line for line in await provision(bus.js, place))
            assert await provision(bus.js, place) == []
        edges = [Edge(bus, tmp_path / name) for name, bus in buses.items()]
        said: list[Event] = []
        centre = Centre(
            "hub", ReportStore(Postgres(url)), said.append, keep_days=90, silent_s=0.1, retry_s=0.3
        )
        stop = asyncio.Event()
        actor = Actor("analytics", {names.REPORT: centre.handle}, close=centre.close)
        working = asyncio.create_task(run_actors(hub, [actor], stop))
        for edge in edges:
            await stack.enter_async_context(edge.running())
            await edge.texts(100)
        await until_stored(reader, 2 * 300)
        cluster.kill()
        for edge in edges:
            await edge.texts(100)
        async with asyncio.timeout(30):
            while not said:
                await asyncio.sleep(0.05)
        link.suffer("cut")
        for edge in edges:
            await edge.texts(100)
        link.heal()
        await asyncio.to_thread(cluster.start)
        await until_stored(reader, 2 * 900)
        for bus in buses.values():
            await holds(bus, f"UP_{bus.node}", 0)
            await holds(hub, f"IN_{bus.node}", 0)
        rows = all_of(reader)
        assert len(rows) == 2 * 900
        assert {(row.node, row.kind, row.text) for row in rows} == edges[0].expected() | edges[1].expected()
        assert not any("1234567" in str(row) or "Maria" in str(row) or "sss" in str(row) for row in rows)
        assert [one.kind for one in said] == ["report_store_paused", "report_store_resumed"]
        assert (await hub.js.stream_info("DLQ_hub")).state.messages == 0
        stop.set()
        await working
    reader.close()


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"profile": "lilevy", "centre": True}, True),
        ({"profile": "lilevy"}, False),
        ({"profile": "lilevy", "centre": True, "node_only": True}, False),
        ({"profile": "hybrid"}, True),
        ({"profile": "bigevy"}, False),
    ],
)
async def test_a_node_tells_its_centre_unless_it_has_none_or_shall_not(
    tmp_path: Path, tables: dict[str, object], *, told: bool
) -> None:
    for wanted in (True, False):
        config = Config({"node": {**tables, "data_dir": str(tmp_path)}, "analytics": {"report": wanted}})
        context = MemoryContext(config, Identity(config.node.name, b"x", "0"))
        [actor] = await build_actors(("analytics",), context)
        assert set(actor.handlers) == ({"report"} if tables["profile"] != "lilevy" else set())
        assert any("Uplink" in str(task) for task in actor.tasks) is (told and wanted)
        await actor.close()


async def test_what_a_node_without_a_centre_stored_is_not_told_once_it_has_one(tmp_path: Path) -> None:
    path = path_in(tmp_path)
    for name, tells in (("a", False), ("b", True)):
        event = Event(kind="received", node="n1", actor="t", at=NOW, query_id=name)
        kept = Analytics(
            node="n1", path=path, events=MemoryEventLog([event]), emit=lambda _: None,
            config=TelemetryConfig(), tells=tells, every_s=0.01,
        )  # fmt: skip
        task = asyncio.create_task(kept.run())
        async with asyncio.timeout(20):
            while not kept.caught_up:
                await asyncio.sleep(0.01)
        await end([task], 2)
        await kept.close()
    with contextlib.closing(EventStore.existing(path)) as store:
        found = pending(store, Identity("n1", b"x", "0")).report
    assert found is not None
    assert [one.text for one in found.events] == [Identity("n1", b"x", "0").report_ref("b")]
