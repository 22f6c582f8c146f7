"""The event store: a file that keeps every event once, stays small, and never stops the node."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import _event_store as store_module
from actors._event_store import (
    ASIDE,
    MIGRATIONS,
    EventStore,
    StoreBrokenError,
    StoreError,
    set_aside,
)
from actors._runtime.event_log import Kept, Page, Position
from actors._runtime.telemetry import SPANS, Span
from subjects.errors import ConfigError
from subjects.messages import Event

NOW = 1_790_000_000.0
STREAM = "2026-01-01T00:00:00Z"


def event(
    kind: str = "received", *, at: float = NOW, query_id: str = "", ref: str = "", **fields: object
) -> Event:
    return Event(
        kind=kind, node="n1", actor="intake", at=at, query_id=query_id, sender_ref=ref, fields=fields
    )


def span(query_id: str, at: float = NOW) -> Span:
    return Span("a" * 32, "b" * 16, "", "intake", "sms.in", "flash", query_id, int(at * 1e6), 5, 7)


def spans(*of: Span) -> Event:
    # As they arrive: plain lists, decoded from JSON.
    rows = [[getattr(one, name) for name in Span.__struct_fields__] for one in of]
    return Event(kind=SPANS, node="n1", actor="runtime", at=NOW, fields={"spans": rows})


def page(*events: Event | None, first: int = 1, stream: str = STREAM) -> Page:
    kept = tuple(Kept(first + number, one) for number, one in enumerate(events))
    return Page(Position(stream, first + len(events) - 1), kept)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node" / "events.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[EventStore]:
    opened = EventStore.open(path)
    yield opened
    opened.close()


def kinds(store: EventStore) -> list[str]:
    return [one.kind for one in store.events()]


def test_what_was_stored_is_read_back_whole(store: EventStore, path: Path) -> None:
    first = event("triaged", query_id="q1", ref="r1", cues=["blood"], reason="«¡ayuda!» 🚨", confidence=0.5)
    store.add(page(first, None, spans(span("q1"))))
    again = EventStore.existing(path)
    assert list(again.events()) == [first]
    assert again.spans("q1") == [span("q1")]
    assert again.position == Position(STREAM, 3)
    again.close()


def test_a_page_twice_is_kept_once_and_the_place_never_goes_back(store: EventStore, path: Path) -> None:
    store.add(page(event("a"), event("b"), spans(span("q"))))
    store.add(page(event("a")))
    store.close()
    opened = EventStore.open(path)
    assert kinds(opened) == ["a", "b"]
    assert len(opened.spans("q")) == 1
    assert opened.position == Position(STREAM, 3)
    opened.close()


def test_sequences_of_a_stream_made_again_are_other_events(store: EventStore) -> None:
    store.add(page(event("old")))
    store.add(page(event("new"), stream="2026-02-02T00:00:00Z"))
    assert kinds(store) == ["old", "new"]
    assert store.position == Position("2026-02-02T00:00:00Z", 1)


def test_events_are_found_by_time_kind_query_prefix_and_person(store: EventStore) -> None:
    store.add(
        page(
            event("received", at=NOW, query_id="ab12", ref="r1"),
            event("sent", at=NOW + 10, query_id="ab12", ref="r1"),
            event("received", at=NOW + 20, query_id="ab99", ref="r2"),
            event("link_up", at=NOW + 30),
        )
    )
    found = [
        [one.at - NOW for one in store.events(since=NOW + 10, until=NOW + 20)],
        [one.at - NOW for one in store.events(kinds=("received", "link_up"))],
        [one.at - NOW for one in store.events(query_id="ab1")],
        [one.at - NOW for one in store.events(query_id="ab")],
        [one.at - NOW for one in store.events(sender_ref="r2")],
        [one.at - NOW for one in store.events(last=2)],
        [one.at - NOW for one in store.events(query_id="b")],
    ]
    assert found == [[10, 20], [0, 20, 30], [0, 10], [0, 10, 20], [20], [20, 30], []]


def test_forgetting_erases_a_person_and_nobody_else_down_to_the_octets(path: Path) -> None:
    store = EventStore.open(path)
    hers = [
        event("received", query_id="queryofhers1", ref="refofhers"),
        event("fitted", query_id="queryofhers1", refused=["dose: 500 mg"]),
        event("alert_sent", query_id="queryofhers2"),
        spans(span("queryofhers1"), span("queryofhis")),
    ]
    store.add(page(*hers, event("received", query_id="queryofhis", ref="refofhis")))
    path.with_name(ASIDE).write_bytes(b"a broken copy may hold refofhers")
    forgotten = store.forget("refofhers", ["queryofhers2"])
    assert (forgotten.events, forgotten.spans) == (3, 1)
    assert [one.query_id for one in store.events()] == ["queryofhis"]
    assert len(store.spans("queryofhis")) == 1
    left = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"queryofhis" in left
    for trace in (b"refofhers", b"queryofhers1", b"queryofhers2", b"500 mg"):
        assert trace not in left
    assert store.forget("refofhers").events == 0
    store.close()


def test_pruning_by_age_spares_what_has_no_age(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PRUNE_ROWS", 2)
    old = [event("old", at=NOW - 100) for _ in range(5)]
    store.add(
        page(*old, event("clock not set", at=3600.0), event("new"), spans(span("q", NOW - 100), span("r")))
    )
    assert store.prune(NOW - 50) == 5
    assert kinds(store) == ["clock not set", "new"]
    assert (store.spans("q"), store.spans("r")) == ([], [span("r")])


def test_pruning_by_size_takes_the_oldest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PRUNE_ROWS", 50)
    limit = 400_000
    store = EventStore.open(path, max_octets=limit)
    count = 0
    while store.octets <= limit:
        store.add(page(*(event(f"e{count + n}", words="x" * 500) for n in range(50)), first=count + 1))
        count += 50
    assert store.prune(0.0) > 0
    assert store.octets <= limit
    left = kinds(store)
    assert left == [f"e{number}" for number in range(count - len(left), count)]
    assert 0 < len(left) < count
    store.close()


def test_a_full_store_keeps_what_it_has_and_its_place(path: Path) -> None:
    store = EventStore.open(path, max_octets=200_000)
    store.add(page(event("first")))
    with pytest.raises(StoreError, match="full"):
        store.add(page(*(event("many", words="x" * 900) for _ in range(500)), first=2))
    assert kinds(store) == ["first"]
    assert store.position == Position(STREAM, 1)
    store.add(page(event("second"), first=2))  # as if room had been made
    assert kinds(store) == ["first", "second"]
    store.close()


BROKEN = {
    "text": b"this is no database, but it is long enough to look like one" * 100,
    "zeros": bytes(8192),
    "torn": b"SQLite format 3\0" + b"\xff" * 5000,
}


@pytest.mark.parametrize("octets", BROKEN.values(), ids=BROKEN)
def test_what_is_no_database_is_set_aside(path: Path, octets: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(octets)
    with pytest.raises(StoreBrokenError):
        EventStore.open(path)
    assert set_aside(path).read_bytes() == octets
    EventStore.open(path).close()


def test_pages_that_went_bad_under_way_are_said_to_be_broken(path: Path) -> None:
    store = EventStore.open(path)
    for turn in range(20):
        store.add(page(*(event("x", words="y" * 400) for _ in range(50)), first=turn * 50 + 1))
    store.close()
    octets = bytearray(path.read_bytes())
    octets[4096:] = b"\x5a" * (len(octets) - 4096)
    path.write_bytes(octets)
    with pytest.raises(StoreBrokenError), contextlib.closing(EventStore.open(path)) as opened:
        list(opened.events())


def test_a_file_of_a_newer_evy_is_not_touched(path: Path) -> None:
    EventStore.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(StoreBrokenError, match=f"version {len(MIGRATIONS) + 1}"):
        EventStore.open(path)


def test_every_version_is_brought_up_to_the_last(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EventStore.open(path)
    store.add(page(event("kept")))
    store.close()
    monkeypatch.setattr(store_module, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE more (x)"))
    with pytest.raises(StoreError, match="`analytics` mends it"):
        EventStore.existing(path)
    EventStore.open(path).close()
    opened = EventStore.existing(path)
    assert kinds(opened) == ["kept"]
    opened.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    EventStore.open(path).close()
    monkeypatch.setattr(store_module, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE more (x); CREATE nonsense"))
    with pytest.raises(StoreBrokenError):
        EventStore.open(path)
    monkeypatch.undo()
    EventStore.open(path).close()


def test_no_store_and_no_permission_are_told_apart(path: Path) -> None:
    with pytest.raises(ConfigError, match="has not run"):
        EventStore.existing(path)
    path.parent.mkdir()
    path.mkdir()
    with pytest.raises(StoreError, match="unable to open"):
        EventStore.open(path)


def test_the_file_is_kept_as_the_design_asks(path: Path) -> None:
    store = EventStore.open(path)
    asked = {
        name: store._connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "cache_size", "mmap_size", "secure_delete", "auto_vacuum")
    }
    assert asked == {
        "journal_mode": "wal", "synchronous": 1, "cache_size": -32768, "mmap_size": 268435456,
        "secure_delete": 1, "auto_vacuum": 2,
    }  # fmt: skip
    store.close()
