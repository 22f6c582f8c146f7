"""What a node's events cost on their way to the centre: octets on the link, and storing them."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from actors._reports import Postgres, ReportStore, Sqlite
from actors._reports.database import Database
from actors._runtime.actor import Output
from actors._runtime.identity import Identity
from actors.analytics.leaving import batch, leaving
from subjects import names
from subjects.event_report import EventReport
from subjects.messages import Event, encode
from tests.bench.bridges import leaf
from tests.bench.link import LONG_LINK
from tests.bench.node import on_uvloop
from tests.bench.rows import Figure, Row, Setting
from tests.linked import holds
from tests.postgres import Cluster, why_not

NOW = 1_790_000_000
IDENTITY = Identity(leaf.EDGE, b"a secret of the bench", "0000")


def events_of(text: int) -> list[Event]:
    """What the centre learns of one ordinary question."""
    steps: list[tuple[str, dict[str, object]]] = [
        ("received", {"what": "text", "parts": 1, "missing": 0}),
        ("triaged", {"needs": [("water", "medical", "food")[text % 3]], "topic": "", "lang": "es"}),
        ("retrieved", {"article": f"article-{text % 40}", "confidence": text % 97 / 97, "next": "compress"}),
        ("fitted", {"step": "verbatim", "by_centre": False, "refused": []}),
        ("sent", {"step": "verbatim", "purpose": "reply", "segments": 2, "ms": 150 + text * 7 % 900}),
        ("delivered", {}),
    ]
    return [
        Event(kind=kind, node=leaf.EDGE, actor="a", at=NOW + text, query_id=f"{text:032x}", fields=fields)
        for kind, fields in steps
    ]


def reports(texts: int) -> list[EventReport]:
    """Reports of so many questions, as full as they may be."""
    events = [event for text in range(texts) for event in events_of(text)]
    left = [leaving(number, event, IDENTITY.report_ref) for number, event in enumerate(events, 1)]
    rest, made = [one for one in left if one is not None], list[EventReport]()
    while rest:
        made.append(batch(leaf.EDGE, "0" * 12, rest))
        rest = rest[len(made[-1].events) :]
    return made


def stored_a_second(database: Database, made: list[EventReport]) -> float:
    """Events a second, a transaction for each report."""
    store = ReportStore(database)
    store.nodes()  # it connects and makes the tables
    began = time.perf_counter()
    stored = sum(store.add(report, NOW).new for report in made)
    took_s = time.perf_counter() - began
    store.close()
    return stored / took_s


async def _on_the_link(directory: Path, compression: str, made: list[EventReport]) -> float:
    async with leaf.pair(directory, compression, through_relay=True) as pair:
        assert pair.relay is not None
        await pair.provision()
        await holds(pair.centre, f"IN_{leaf.EDGE}", 0)
        await asyncio.sleep(6)  # what the sources say to each other at first
        before = await pair.relay.count()
        for number, report in enumerate(made):
            await pair.edge.publish(Output(names.REPORT, "routine", report, f"r{number}"), "bench")
        await holds(pair.centre, f"IN_{leaf.EDGE}", len(made))
        return float((await pair.relay.count()).since(before).up)


def measure(setting: Setting) -> list[Row]:
    """Both databases, and the link without compression and with a long link's."""
    made = reports(setting.count(2000, 60))
    count = sum(len(report.events) for report in made)
    message = sum(len(encode(report)) for report in made) / count
    figures = [Figure("message", "octets/event", (message,))]
    few = made[: setting.count(20, 3)]
    in_few = sum(len(report.events) for report in few)
    for name, compression in (("link", "off"), ("link, s2", LONG_LINK)):
        up = on_uvloop(_on_the_link(setting.directory / f"reports-{compression}", compression, few))
        figures.append(Figure(name, "octets/event", (up / in_few,)))
    turns = range(setting.repeats)

    def repeated(name: str, database: Callable[[int], Database]) -> Figure:
        return Figure(name, "events/s", tuple(stored_a_second(database(turn), made) for turn in turns))

    figures.append(repeated("SQLite", lambda turn: Sqlite(setting.directory / f"reports-{turn}.sqlite3")))
    notes = [f"{count} events of {count // 6} questions in {len(made)} reports, a transaction each"]
    if missing := why_not():
        notes.append(f"PostgreSQL: {missing}")
    else:
        cluster = Cluster()
        try:
            cluster.start()
            figures.append(repeated("PostgreSQL", lambda _: Postgres(cluster.database())))
        finally:
            cluster.remove()
    return [Row("reports", "events of nodes stored at the centre", tuple(figures), notes=tuple(notes))]
