"""What a centre keeps of its nodes' events: PostgreSQL, or SQLite where none is configured."""

import os
from pathlib import Path
from typing import Annotated, Final

import msgspec

from actors._reports.database import Database, Postgres, Sqlite
from actors._reports.store import AwayError, ReportStore, Row, Stored
from actors._runtime.config import Config

__all__ = ["AnalyticsConfig", "AwayError", "Postgres", "ReportStore", "Row", "Sqlite", "Stored", "open_store"]

FILE: Final = "reports.sqlite3"


class AnalyticsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[analytics]`` table."""

    report: bool = True
    """A node that has a centre tells it what happened, without texts, numbers and who it was. What happened
    while it is off is never told. ``[node] node_only`` turns it off too."""
    database_url: str = ""
    """At the centre: ``postgresql://user@host/name``, or ``EVY_DATABASE_URL``; empty: a file in the data
    directory."""
    keep_days: Annotated[float, msgspec.Meta(ge=1)] = 90.0
    """At the centre: how long the events of the nodes are kept, at most ``[node] keep_days``."""


def database(config: Config) -> Database:
    """The database of a centre, not opened yet. Raises :class:`ConfigError` for an address that is none."""
    wanted = config.section("analytics", AnalyticsConfig)
    url = os.environ.get("EVY_DATABASE_URL") or wanted.database_url
    return Postgres(url) if url else Sqlite(config.node.directory / FILE)


def open_store(config: Config) -> ReportStore:
    """The store of a centre; nothing is opened yet. Raises :class:`ConfigError`."""
    return ReportStore(database(config))


def path_in(directory: Path) -> Path:
    """The file of a centre without a database."""
    return directory / FILE
