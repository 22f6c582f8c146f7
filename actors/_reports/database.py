"""The two databases that reports are kept in, as far as they differ: both speak the same SQL here."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from subjects.errors import ConfigError

BUSY_S: Final = 10.0
CONNECT_WITHIN_S: Final = 5
STATEMENT_WITHIN_S: Final = 60
LOCK_KEY: Final = 0x6576795F
"""Of the advisory lock that writers of one database share: "evy_"."""
FETCHED: Final = 2000
"""Rows in memory at a time."""


class Database(Protocol):
    """A kind of database. Connections are used by one thread at a time."""

    name: str
    """What it is, for people: without a password."""
    errors: tuple[type[Exception], ...]
    """What its calls raise."""

    def connect(self) -> Any:
        """A connection on which ``BEGIN`` and ``COMMIT`` are said by hand."""

    def sql(self, statement: str) -> str:
        """A statement with ``?`` for its values, as this database writes it."""

    def begin(self, connection: Any) -> None:
        """Begins to write, alone: writers of other processes wait."""

    def rows(self, connection: Any, statement: str, values: Sequence[object]) -> Iterator[tuple[Any, ...]]:
        """What a question finds, without having it all in memory."""


class Sqlite:
    """A file beside the centre's other ones, in WAL mode."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self.errors: tuple[type[Exception], ...] = (sqlite3.Error, OSError)

    def connect(self) -> Any:
        """Opens the file, and makes it if need be."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a report is taken off its stream after this
        connection.execute("PRAGMA secure_delete = ON")
        return connection

    def sql(self, statement: str) -> str:
        """As it is."""
        return statement

    def begin(self, connection: Any) -> None:
        """SQLite has one writer at a time."""
        connection.execute("BEGIN IMMEDIATE")

    def rows(self, connection: Any, statement: str, values: Sequence[object]) -> Iterator[tuple[Any, ...]]:
        """SQLite gives rows as they are asked for."""
        yield from connection.execute(statement, values)


class Postgres:
    """A PostgreSQL server, 13 or newer; tables are made in the first schema of the user's search path."""

    def __init__(self, url: str) -> None:
        """Raises :class:`ConfigError` for an address that is none."""
        # Only where a server is configured: the library takes 15 MB and most machines are edges.
        import psycopg  # noqa: PLC0415

        parts = urlsplit(url)
        if parts.scheme not in {"postgresql", "postgres"}:
            raise ConfigError(
                "[analytics] database_url is no address such as postgresql://evy@db.example.org/evy; "
                "a password belongs into EVY_DATABASE_URL or ~/.pgpass"
            )
        self._psycopg = psycopg
        self._url = url
        self.name = f"PostgreSQL {parts.hostname or 'on a local socket'}{parts.path}"
        self.errors: tuple[type[Exception], ...] = (psycopg.Error, OSError)

    def connect(self) -> Any:
        """Connects within :data:`CONNECT_WITHIN_S`. A server that falls silent is given up after 20 s."""
        return self._psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=CONNECT_WITHIN_S,
            application_name="evy",
            keepalives_idle=5,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=20_000,
            options=f"-c statement_timeout={STATEMENT_WITHIN_S * 1000} -c timezone=UTC",
        )

    def sql(self, statement: str) -> str:
        """With ``%s`` for values. No statement of ours has a ``?`` or a ``%`` otherwise."""
        return statement.replace("?", "%s")

    def begin(self, connection: Any) -> None:
        """Writers of all centres on one database wait for each other, for milliseconds."""
        connection.execute("BEGIN")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))

    def rows(self, connection: Any, statement: str, values: Sequence[object]) -> Iterator[tuple[Any, ...]]:
        """By a cursor at the server."""
        with connection.transaction(), connection.cursor(name="evy") as cursor:
            cursor.itersize = FETCHED
            yield from cursor.execute(statement, values)
