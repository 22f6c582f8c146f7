"""The event store: what happened on this node, in one SQLite file that looks after its own size.

Everything is in the file: also how far the event stream was read, in the same transaction as the events. What
a power cut takes from the file is therefore read again, and nothing is kept twice. Of people it knows what
events carry: pseudonyms and query ids.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from actors._runtime.event_log import Kept, Page, Position
from actors._runtime.telemetry import SPANS, Span
from subjects.errors import ConfigError, EvyError
from subjects.messages import Event

log = logging.getLogger("evy.analytics")

FILE: Final = "events.sqlite3"
ASIDE: Final = "events.unreadable.sqlite3"
"""Where a file goes that SQLite cannot read; one is kept, the last."""
CACHE_OCTETS: Final = 32 * 1024 * 1024
MMAP_OCTETS: Final = 256 * 1024 * 1024
BUSY_S: Final = 10.0
"""How long a writer waits for another one: `evy forget` beside the actor."""
PRUNE_ROWS: Final = 2000
"""Rows deleted in one transaction: a reader or a flash text never waits for a long one."""
CLOCK_WAS_SET: Final = 1_577_836_800.0
"""2020-01-01: an earlier time is that of a clock that nobody had set, and says nothing of an event's age."""

MIGRATIONS: Final = (
    """
    CREATE TABLE streams (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, sequence INTEGER NOT NULL, at_ns INTEGER NOT NULL
    );
    CREATE TABLE events (
        stream INTEGER NOT NULL, sequence INTEGER NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL,
        actor TEXT NOT NULL, node TEXT NOT NULL, query_id TEXT, sender_ref TEXT, lane TEXT NOT NULL,
        fields TEXT NOT NULL, PRIMARY KEY (stream, sequence)
    ) WITHOUT ROWID;
    CREATE INDEX events_by_query ON events (query_id) WHERE query_id IS NOT NULL;
    CREATE INDEX events_by_person ON events (sender_ref) WHERE sender_ref IS NOT NULL;
    CREATE INDEX events_by_time ON events (at);
    CREATE TABLE spans (
        stream INTEGER NOT NULL, sequence INTEGER NOT NULL, place INTEGER NOT NULL, at REAL NOT NULL,
        query_id TEXT, span TEXT NOT NULL, PRIMARY KEY (stream, sequence, place)
    ) WITHOUT ROWID;
    CREATE INDEX spans_by_query ON spans (query_id) WHERE query_id IS NOT NULL;
    CREATE INDEX spans_by_time ON spans (at);
    """,
    """
    CREATE TABLE marks (
        name TEXT PRIMARY KEY, stream INTEGER NOT NULL, sequence INTEGER NOT NULL
    ) WITHOUT ROWID;
    """,
)
"""What each version of the file adds to the one before it; never changed once it was shipped."""

_WAITS: Final = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN")
_EVENT: Final = "at, kind, actor, node, query_id, sender_ref, lane, fields"


class StoreError(EvyError):
    """The store cannot be written or read now; it is as it was, and trying again later is right."""


class StoreBrokenError(EvyError):
    """The file is no event store that this EVY can read."""


class Forgotten(msgspec.Struct, frozen=True):
    """What :meth:`EventStore.forget` erased."""

    events: int
    spans: int


class Mark(msgspec.Struct, frozen=True, order=True):
    """How far somebody has read the store."""

    stream: int = 0
    """The file's own number of an event stream."""
    sequence: int = 0


class Noted(msgspec.Struct, frozen=True):
    """An event with its place."""

    mark: Mark
    stream: str
    """Name of its stream, as a `Position` has it."""
    event: Event


class _errors(contextlib.AbstractContextManager[None]):  # noqa: N801  # reads as a statement
    """Turns SQLite's errors into the two that matter."""

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, sqlite3.Error | OSError):
            name = getattr(error, "sqlite_errorname", "") or ""
            text = f"{self._doing}: {error}"
            if isinstance(error, OSError) or name.startswith((*_WAITS, "SQLITE_READONLY")):
                raise StoreError(text) from error
            raise StoreBrokenError(text) from error


class EventStore:
    """One open file. Its methods block, and are for one thread at a time."""

    def __init__(self, path: Path, connection: sqlite3.Connection, max_octets: int) -> None:
        self.path = path
        self._connection = connection
        self._max_octets = max_octets
        self._inode = path.stat().st_ino
        self.position = self._read_position()

    @classmethod
    def open(cls, path: Path, *, max_octets: int = 512 * 1024 * 1024) -> "EventStore":
        """Opens or makes the file and brings it up to this version, for the one actor that writes events.

        Raises :class:`StoreBrokenError` for what is no event store or a newer EVY's, :class:`StoreError`
        when there is no room or no permission.
        """
        with _errors(f"open {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = _connect(f"{path.absolute().as_uri()}?mode=rwc")
            try:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA journal_size_limit = 8388608")
                [[page_octets]] = connection.execute("PRAGMA page_size")
                # The hard bound, a quarter above what pruning aims at.
                connection.execute(f"PRAGMA max_page_count = {max_octets * 5 // 4 // page_octets}")
                _migrate(connection)
                return cls(path, connection, max_octets)
            except BaseException:
                connection.close()
                raise

    @classmethod
    def existing(cls, path: Path, *, write: bool = False) -> "EventStore":
        """Opens a file that is there, for a command beside the actor; ``write`` to erase from it.

        Raises :class:`ConfigError` when there is none, and as :meth:`open`.
        """
        if not path.exists():
            raise ConfigError(f"no event store at {path}: the actor `analytics` has not run on this node yet")
        with _errors(f"read {path}"):
            connection = _connect(f"{path.absolute().as_uri()}?mode={'rw' if write else 'ro'}")
            try:
                _check_version(connection)
                return cls(path, connection, 0)
            except BaseException:
                connection.close()
                raise

    def close(self) -> None:
        """Closes the file; what was committed stays."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    @property
    def replaced(self) -> bool:
        """Whether the path no longer leads to the open file: somebody took it away or put another there."""
        try:
            return self.path.stat().st_ino != self._inode
        except OSError:
            return True

    @property
    def octets(self) -> int:
        """Size of what it holds, free pages within the file left out."""
        counts = [
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        ]
        pages: int = counts[0] - counts[1]
        return pages * int(counts[2])

    def _read_position(self) -> Position:
        row = self._connection.execute(
            "SELECT name, sequence, at_ns FROM streams ORDER BY id DESC LIMIT 1"
        ).fetchone()
        return Position(*row) if row else Position()

    # Writing.

    def add(self, page: Page) -> None:
        """Stores a page of the event stream and its place, in one transaction. A page that is stored already
        changes nothing. Raises :class:`StoreError` when there is no room; nothing of it is kept then."""
        with _errors(f"write {self.path}"), self._transaction():
            cursor = self._connection.cursor()
            found = cursor.execute(
                "SELECT id FROM streams WHERE name = ?", (page.position.stream,)
            ).fetchone()
            if found is None:
                cursor.execute(
                    "INSERT INTO streams (name, sequence, at_ns) VALUES (?, 0, 0)", (page.position.stream,)
                )
            stream = found[0] if found else cursor.lastrowid
            cursor.executemany(
                "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                _event_rows(stream, page),
            )
            cursor.executemany(
                "INSERT OR IGNORE INTO spans VALUES (?, ?, ?, ?, ?, ?)", _span_rows(stream, page)
            )
            cursor.execute(
                "UPDATE streams SET sequence = ?2, at_ns = ?3 WHERE id = ?1 AND sequence < ?2",
                (stream, page.position.sequence, page.position.at_ns),
            )
        self.position = page.position

    def prune(self, older_than: float) -> int:
        """Deletes what is older than that Unix time, and the oldest while there is too much; gives the number
        of events. Events of a clock that was not set have no age."""
        deleted = 0
        with _errors(f"prune {self.path}"):
            for table, key in (("events", "stream, sequence"), ("spans", "stream, sequence, place")):
                old = f"SELECT {key} FROM {table} WHERE at >= ? AND at < ? LIMIT {PRUNE_ROWS}"  # noqa: S608  # ours
                while count := self._delete(
                    f"DELETE FROM {table} WHERE ({key}) IN ({old})",  # noqa: S608  # likewise
                    (CLOCK_WAS_SET, older_than),
                ):
                    deleted += count if table == "events" else 0
            while self.octets > self._max_octets and (oldest := self._oldest()):
                deleted += self._delete("DELETE FROM events WHERE (stream, sequence) <= (?, ?)", oldest)
                self._delete("DELETE FROM spans WHERE (stream, sequence) <= (?, ?)", oldest)
            if deleted:
                self._connection.execute(f"PRAGMA incremental_vacuum({PRUNE_ROWS})").fetchall()
        return deleted

    def _oldest(self) -> tuple[int, int] | None:
        """Place up to which the oldest :data:`PRUNE_ROWS` rows lie; None when nothing is left."""
        rows = self._connection.execute(
            "SELECT stream, sequence FROM (SELECT stream, sequence FROM events UNION ALL "
            "SELECT stream, sequence FROM spans) ORDER BY stream, sequence LIMIT ?",
            (PRUNE_ROWS,),
        ).fetchall()
        return rows[-1] if rows else None

    def _delete(self, statement: str, values: Sequence[object]) -> int:
        with self._transaction():
            return self._connection.execute(statement, values).rowcount

    def forget(self, sender_ref: str, query_ids: Sequence[str] = ()) -> Forgotten:
        """Erases a person: every event with the pseudonym or with one of the queries, the person's own and
        those given, and their spans. What was there is overwritten with zeros before this returns, in the
        file and in its log; a copy that was set aside as unreadable is removed.

        Events that lie in the node's stream and are not stored yet come after it: erase them there first.
        """
        with _errors(f"erase from {self.path}"):
            with self._transaction():
                cursor = self._connection.cursor()
                queries = self.queries_of(sender_ref) | set(query_ids)
                events = cursor.execute("DELETE FROM events WHERE sender_ref = ?", (sender_ref,)).rowcount
                spans = 0
                for query in queries:
                    events += cursor.execute("DELETE FROM events WHERE query_id = ?", (query,)).rowcount
                    spans += cursor.execute("DELETE FROM spans WHERE query_id = ?", (query,)).rowcount
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            for name in (ASIDE, f"{ASIDE}-wal", f"{ASIDE}-shm"):
                self.path.with_name(name).unlink(missing_ok=True)
        return Forgotten(events, spans)

    def set_mark(self, name: str, mark: Mark) -> None:
        """Notes how far ``name`` has read."""
        with _errors(f"write {self.path}"), self._transaction():
            self._connection.execute(
                "INSERT INTO marks VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE "
                "SET stream = excluded.stream, sequence = excluded.sequence",
                (name, mark.stream, mark.sequence),
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # A full disk rolls back by itself; asking again would be an error of its own.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    # Reading.

    def events(
        self,
        *,
        since: float = 0.0,
        until: float | None = None,
        kinds: Sequence[str] = (),
        query_id: str = "",
        sender_ref: str = "",
        last: int = 0,
    ) -> Iterator[Event]:
        """Events in the order in which they were kept; a ``query_id`` of less than its 32 digits is a prefix;
        ``last`` are that many of the end."""
        where, values = ["1"], list[object]()
        if since or until is not None:
            where.append("at >= ? AND at <= ?")
            values += [since, until if until is not None else 1e18]
        if kinds:
            where.append(f"kind IN ({','.join('?' * len(kinds))})")
            values += kinds
        if query_id:
            where.append("query_id >= ? AND query_id < ?")
            values += [query_id, query_id + "\U0010ffff"]
        if sender_ref:
            where.append("sender_ref = ?")
            values.append(sender_ref)
        order = "ORDER BY stream, sequence"
        if last:
            order = f"ORDER BY stream DESC, sequence DESC LIMIT {last}"
        found: Iterator[tuple[Any, ...]] = self._rows(
            f"SELECT {_EVENT} FROM events WHERE {' AND '.join(where)} {order}",  # noqa: S608  # ours alone
            values,
        )
        if last:
            found = reversed(list(found))
        yield from map(_event, found)

    def spans(self, query_id: str) -> list[Span]:
        """Spans of one query, as they began."""
        rows = self._rows("SELECT span FROM spans WHERE query_id = ? ORDER BY at", [query_id])
        return [msgspec.json.decode(row[0], type=Span) for row in rows]

    def mark(self, name: str) -> Mark:
        """How far ``name`` has read; the beginning when it never noted it."""
        for stream, sequence in self._rows("SELECT stream, sequence FROM marks WHERE name = ?", [name]):
            return Mark(stream, sequence)
        return Mark()

    @property
    def end(self) -> Mark:
        """The place of the last event."""
        last = "SELECT stream, sequence FROM events ORDER BY stream DESC, sequence DESC LIMIT 1"
        return next((Mark(*row) for row in self._rows(last, [])), Mark())

    def after(self, mark: Mark, limit: int) -> list[Noted]:
        """The next events of one stream, at most ``limit``, in their order."""
        rows = self._rows(
            f"SELECT stream, sequence, name, {_EVENT} FROM (SELECT * FROM events "  # noqa: S608  # ours alone
            "WHERE (stream, sequence) > (?, ?) ORDER BY stream, sequence LIMIT ?) AS events "
            "JOIN (SELECT id, name FROM streams) AS streams ON id = stream ORDER BY stream, sequence",
            [mark.stream, mark.sequence, limit],
        )
        found = [Noted(Mark(row[0], row[1]), row[2], _event(row[3:])) for row in rows]
        return [one for one in found if one.mark.stream == found[0].mark.stream]

    def queries_of(self, sender_ref: str) -> set[str]:
        """Ids of a person's texts."""
        rows = self._rows(
            "SELECT DISTINCT query_id FROM events WHERE sender_ref = ? AND query_id IS NOT NULL", [sender_ref]
        )
        return {query for (query,) in rows}

    def _rows(self, statement: str, values: Sequence[object]) -> Iterator[tuple[Any, ...]]:
        with _errors(f"read {self.path}"):
            yield from self._connection.execute(statement, values)


def _event(row: tuple[Any, ...]) -> Event:
    at, kind, actor, node, query, ref, lane, fields = row
    return Event(
        kind=kind,
        node=node,
        actor=actor,
        at=at,
        query_id=query or "",
        sender_ref=ref or "",
        lane=lane,
        fields=msgspec.json.decode(fields),
    )


def set_aside(path: Path) -> Path:
    """Moves a file that cannot be read out of the way, for a person to look at; gives where it is."""
    aside = path.with_name(ASIDE)
    for suffix in ("", "-wal", "-shm"):
        source, target = Path(f"{path}{suffix}"), Path(f"{aside}{suffix}")
        target.unlink(missing_ok=True)
        if source.exists():
            source.rename(target)
    return aside


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA cache_size = -{CACHE_OCTETS // 1024}")
        connection.execute(f"PRAGMA mmap_size = {MMAP_OCTETS}")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA secure_delete = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_version(connection: sqlite3.Connection) -> None:
    [[version]] = connection.execute("PRAGMA user_version")
    known = len(MIGRATIONS)
    if version > known:
        raise StoreBrokenError(f"the event store is of version {version}, and this EVY knows {known}")
    if version < known:
        raise StoreError(
            f"the event store is of version {version}, not {known}: the actor `analytics` mends it"
        )


def _migrate(connection: sqlite3.Connection) -> None:
    [[version]] = connection.execute("PRAGMA user_version")
    if version > len(MIGRATIONS):
        raise StoreBrokenError(f"it is of version {version}, and this EVY knows {len(MIGRATIONS)}")
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")


def _event_rows(stream: int | None, page: Page) -> Iterator[tuple[object, ...]]:
    for kept in page.events:
        event = kept.event
        if event is not None and event.kind != SPANS:
            yield (
                stream,
                kept.sequence,
                event.at,
                event.kind,
                event.actor,
                event.node,
                event.query_id or None,
                event.sender_ref or None,
                event.lane,
                msgspec.json.encode(event.fields).decode(),
            )


def _span_rows(stream: int | None, page: Page) -> Iterator[tuple[object, ...]]:
    for kept in page.events:
        for place, span in enumerate(spans_of(kept)):
            yield (
                stream,
                kept.sequence,
                place,
                span.begun_us / 1e6,
                span.query_id or None,
                msgspec.json.encode(span).decode(),
            )


def spans_of(kept: Kept) -> list[Span]:
    """Spans that an event carries; none when it is of another kind or unreadable."""
    if kept.event is None or kept.event.kind != SPANS:
        return []
    try:
        return msgspec.convert(kept.event.fields.get("spans", ()), list[Span])
    except msgspec.ValidationError as error:
        log.warning("spans of %s cannot be read: %s", kept.event.actor, error)
        return []


def forget_in(path: Path, refs: Iterable[str], query_ids: Iterable[str]) -> int:
    """Erases a person from the store at ``path``, if there is one; gives the number of events and spans.

    Raises as :meth:`EventStore.existing` and :meth:`EventStore.forget`; doing it again is harmless.
    """
    if not path.exists():
        return 0
    queries = sorted(query_ids)
    with contextlib.closing(EventStore.existing(path, write=True)) as store:
        done = [store.forget(ref, queries) for ref in refs]
    return sum(found.events + found.spans for found in done)


def path_in(directory: Path) -> Path:
    """The store of the node with that data directory."""
    return directory / FILE
