"""`evy subjects`."""

import asyncio
import sys
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from actors._runtime.bus import NatsBus
from actors._runtime.config import Config, load_config
from actors._runtime.identity import load_identity
from actors._runtime.provision import Place, provision
from subjects.names import LANES
from subjects.registry import BUCKETS, STREAMS, WORK, Bucket, Stream
from subjects.services import SERVICES


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The table as JSON.")
@click.option("--check", is_flag=True, help="Compare a running server with the table; exit 1 on drift.")
@click.option("--apply", is_flag=True, help="Like --check, and make the server as the table says.")
@click.pass_obj
def subjects(path: Path | None, *, as_json: bool, check: bool, apply: bool) -> None:
    """Print the wire contract: subject, message, stream, durable and limits of every hop."""
    config = load_config(path)
    if check or apply:
        sys.exit(asyncio.run(_check(config, apply=apply)))
    if as_json:
        click.echo(_as_json(config.node.name))
    else:
        _print(config.node.name)


async def _check(config: Config, *, apply: bool) -> int:
    identity = load_identity(config.node.name, config.node.directory)
    bus = await NatsBus.connect(identity, config.node.url, "subjects", wait_s=3)
    try:
        drift = await provision(bus.js, Place.of(config.node), apply=apply)
    finally:
        await bus.close()
    for line in drift:
        click.echo(f"{'mended: ' if apply else ''}{line}")
    if not drift:
        click.echo("the server is as the registry says")
    return int(bool(drift) and not apply)


def _as_json(node: str) -> str:
    rows = [
        {
            "subject": subject,
            "message": row.message.__name__,
            "schema": row.message.SCHEMA,
            "actor": row.actor,
            "stream": row.stream(node, lane),
            "durable": row.durable(node, lane),
            "ack_wait_s": row.ack_wait_s,
            "max_deliver": row.max_deliver,
            "max_per_subject": row.max_per_subject,
            "slots": row.slots.of(lane),
        }
        for row in WORK
        for lane, subject in row.subjects()
    ]
    return msgspec.json.format(msgspec.json.encode(rows)).decode()


def _print(node: str) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    _table(
        console,
        "Work: each subject has the lanes flash, priority, routine as its last token",
        ("subject", "message", "actor", "ack wait", "deliveries", "bound", "slots"),
        [
            (
                row.subject,
                f"{row.message.__name__} v{row.message.SCHEMA}",
                row.actor,
                f"{row.ack_wait_s:g} s",
                str(row.max_deliver),
                str(row.max_per_subject),
                " ".join(str(row.slots.of(lane)) for lane in LANES),
            )
            for row in WORK
        ],
    )
    console.print(
        f"Durable of a lane: {node}_<actor>_<lane>. Bound and slots count one lane (of one node).\n"
    )
    _table(
        console,
        "Streams: «< UP_…» is taken over from there by sourcing; a centre has IN_ and DOWN_ for each node",
        ("stream", "on", "holds", "retention", "dedup", "kept", "when full", "fsync"),
        [
            (
                row.name.format(node=node),
                _PLACES[row.at],
                _held(row),
                row.retention,
                f"{row.dedup_window_s / 60:g} min",
                f"{row.max_age_s / 86400:g} d" if row.max_age_s else "until done",
                "refuse new" if row.discard == "new" else "drop oldest",
                "later" if row.persist == "async" else "before PubAck",
            )
            for row in STREAMS
        ],
    )
    console.print()
    _table(
        console,
        "Key-value buckets",
        ("bucket", "written by", "holds", "kept"),
        [
            (
                row.bucket(node),
                row.writer,
                row.holds,
                _kept(row),
            )
            for row in BUCKETS
        ],
    )
    console.print()
    _table(
        console,
        "Services: questions answered at once, by the NATS micro protocol",
        ("subject", "asked with", "answered with", "answers"),
        [(row.subject(node), row.request.__name__, row.reply.__name__, row.says) for row in SERVICES],
    )


def _kept(row: Bucket) -> str:
    if row.storage == "memory":
        return f"{row.ttl_s:g} s, in memory"
    return f"{row.ttl_s / 86400:g} d" if row.ttl_s else "always"


_PLACES: Final = {"node": "node", "both": "both", "uplink": "node", "centre": "centre", "hub": "centre"}


def _held(row: Stream) -> str:
    if not row.subjects:
        held = ""
    elif row.objects:
        held = "signed bundles, in chunks"
    elif len(row.subjects) == 1:
        held = row.subjects[0]
    else:
        held = "work of " + ", ".join(dict.fromkeys(subject.rpartition(".")[2] for subject in row.subjects))
    taken = row.source.stream.format(node="") + "…" if row.source else ""
    return " < ".join(part for part in (held, taken) if part)


def _table(console: Console, title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)
