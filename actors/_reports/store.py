"""The events of all nodes of a centre, each once.

Nothing in it names a person or could be led back to one: events carry a text's own reference, made with a
secret that stays on its node. When somebody is forgotten their node names those references, and they are
erased, and refused from then on, since a report may come after its erasure.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from actors._reports.database import Database
from subjects.errors import ConfigError, EvyError
from subjects.event_report import EventReport
from subjects.names import Lane

CLOCK_WAS_SET: Final = 1_577_836_800
"""2020-01-01: an earlier time is that of a clock that nobody had set."""
AHEAD_S: Final = 86400
"""A later time than this ahead of the centre's is wrong too; either is filed under the time of arrival."""
PRUNE_ROWS: Final = 5000
"""Rows deleted in one transaction: a report never waits for a long one."""

MIGRATIONS: Final = (
    (
        """CREATE TABLE evy_events (
            node TEXT NOT NULL, stream TEXT NOT NULL, sequence BIGINT NOT NULL, at BIGINT NOT NULL,
            kind TEXT NOT NULL, lane TEXT NOT NULL, text_ref TEXT NOT NULL, fields TEXT NOT NULL,
            stored_at BIGINT NOT NULL, PRIMARY KEY (node, stream, sequence)
        )""",
        "CREATE INDEX evy_events_by_time ON evy_events (at)",
        "CREATE INDEX evy_events_by_text ON evy_events (node, text_ref) WHERE text_ref <> ''",
        """CREATE TABLE evy_forgotten (
            node TEXT NOT NULL, text_ref TEXT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (node, text_ref)
        )""",
    ),
)
"""What each version of the schema adds to the one before it; never changed once it was shipped."""


class AwayError(EvyError):
    """The database cannot be used now; nothing was changed, and trying again later is right."""


class Stored(msgspec.Struct, frozen=True):
    """What became of a report."""

    new: int
    known: int
    """Events that were there already, or are of somebody who was forgotten."""


class Row(msgspec.Struct, frozen=True):
    """One stored event."""

    node: str
    at: int
    kind: str
    lane: Lane
    text: str
    fields: dict[str, Any]
    stored_at: int


class ReportStore:
    """The store. Its methods block; any thread may call them, one after the other."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Any = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Where it is, for people."""
        return self._database.name

    def close(self) -> None:
        """Leaves the database."""
        with self._lock:
            self._drop()

    def add(self, report: EventReport, now: float) -> Stored:
        """Stores a report in one transaction; what is there already stays as it is. ``now`` is Unix time.

        Raises :class:`AwayError`.
        """
        rows = [
            (
                report.node,
                report.stream,
                event.sequence,
                event.at if CLOCK_WAS_SET <= event.at <= now + AHEAD_S else int(now),
                event.kind,
                event.lane,
                event.text,
                msgspec.json.encode(event.fields).decode(),
                int(now),
            )
            for event in report.events
        ]

        def insert(connection: Any) -> int:
            gone = self._all(connection, "SELECT text_ref FROM evy_forgotten WHERE node = ?", (report.node,))
            forgotten = {text for (text,) in gone} if gone else set()
            cursor = connection.cursor()
            kept = [row for row in rows if row[6] not in forgotten]
            if not kept:
                return 0
            cursor.executemany(
                self._database.sql(
                    "INSERT INTO evy_events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
                ),
                kept,
            )
            return int(cursor.rowcount)

        new = self._write(insert)
        return Stored(new, len(rows) - new)

    def forget(self, node: str, texts: Sequence[str], now: float) -> int:
        """Erases texts of a node, and keeps them out from now on; gives the number of events.

        Raises :class:`AwayError`.
        """

        def erase(connection: Any) -> int:
            cursor = connection.cursor()
            named = [(node, text) for text in texts if text]
            if not named:
                return 0
            sql = self._database.sql
            cursor.executemany(
                sql("INSERT INTO evy_forgotten VALUES (?, ?, ?) ON CONFLICT DO NOTHING"),
                [(node, text, int(now)) for node, text in named],
            )
            cursor.executemany(sql("DELETE FROM evy_events WHERE node = ? AND text_ref = ?"), named)
            return int(cursor.rowcount)

        return self._write(erase)

    def prune(self, older_than: float) -> int:
        """Deletes what is older than that Unix time; gives how many events. Raises :class:`AwayError`."""
        old = (
            "DELETE FROM evy_events WHERE (node, stream, sequence) IN "  # noqa: S608  # ours alone
            f"(SELECT node, stream, sequence FROM evy_events WHERE at < ? LIMIT {PRUNE_ROWS})"
        )
        deleted = 0
        while count := self._write(lambda connection: self._count(connection, old, (int(older_than),))):
            deleted += count
        gone = "DELETE FROM evy_forgotten WHERE at < ?"
        self._write(lambda connection: self._count(connection, gone, (int(older_than),)))
        return deleted

    def rows(self, since: float, until: float, node: str = "") -> Iterator[Row]:
        """Events of a time by node, each node's in the order of its clock. Raises :class:`AwayError`."""
        statement = (
            "SELECT node, at, kind, lane, text_ref, fields, stored_at FROM evy_events "  # noqa: S608  # ours
            f"WHERE at >= ? AND at < ?{' AND node = ?' if node else ''} ORDER BY node, at, stream, sequence"
        )
        values = [int(since), int(until), *([node] if node else [])]
        with self._lock, self._told("read"):
            found = self._database.rows(self._ready(), self._database.sql(statement), values)
            for name, at, kind, lane, text, fields, stored_at in found:
                yield Row(name, at, kind, lane, text, msgspec.json.decode(fields), stored_at)

    def nodes(self) -> dict[str, int]:
        """Every node of which anything is stored, with the time of its last report.

        Raises :class:`AwayError`.
        """
        question = "SELECT node, MAX(stored_at) FROM evy_events GROUP BY node ORDER BY node"
        with self._lock, self._told("read"):
            return {node: int(at) for node, at in self._all(self._ready(), question, ())}

    # The connection.

    def _write(self, step: Callable[[Any], int]) -> int:
        with self._lock, self._told("write"):
            connection = self._ready()
            self._database.begin(connection)
            try:
                done = step(connection)
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(*self._database.errors):
                    connection.execute("ROLLBACK")
                raise
            return done

    def _count(self, connection: Any, statement: str, values: Sequence[object]) -> int:
        return int(connection.execute(self._database.sql(statement), values).rowcount)

    def _all(self, connection: Any, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = connection.execute(self._database.sql(statement), values).fetchall()
        return found

    def _ready(self) -> Any:
        """The connection, with the schema of this version."""
        if self._connection is None:
            self._connection = self._database.connect()
            self._migrate(self._connection)
        return self._connection

    def _migrate(self, connection: Any) -> None:
        self._database.begin(connection)
        try:
            connection.execute("CREATE TABLE IF NOT EXISTS evy_schema (version BIGINT NOT NULL)")
            [[version]] = connection.execute("SELECT COALESCE(MAX(version), 0) FROM evy_schema").fetchall()
            if version > len(MIGRATIONS):
                raise ConfigError(  # noqa: TRY301  # what was begun is rolled back
                    f"{self.name} is of version {version}, and this EVY knows {len(MIGRATIONS)}: a newer EVY "
                    "wrote it; upgrade this one, or give it a database of its own"
                )
            for statements in MIGRATIONS[version:]:
                for statement in statements:
                    connection.execute(statement)
            if version < len(MIGRATIONS):
                connection.execute("DELETE FROM evy_schema")
                connection.execute(
                    self._database.sql("INSERT INTO evy_schema VALUES (?)"), (len(MIGRATIONS),)
                )
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(*self._database.errors):
                connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """Turns the database's errors into :class:`AwayError`; a connection that met one is given up."""
        try:
            yield
        except self._database.errors as error:
            self._drop()
            words = " ".join(str(error).split()) or type(error).__name__
            raise AwayError(f"cannot {doing} {self.name}: {words}") from error
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(*self._database.errors):
                self._connection.close()
            self._connection = None
