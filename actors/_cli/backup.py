"""`evy backup`: everything that makes a node this node, in one file."""

import asyncio
import contextlib
import importlib.metadata
import io
import os
import re
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import pyrage

from actors._runtime.archive import FORMAT, ArchiveError, Header, Writer, recipient
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.config import Config, load_config
from actors._runtime.erase import streams
from actors._runtime.identity import RESTORING, load_identity
from actors._runtime.own_server import own_server
from actors._runtime.process import log_to_stderr
from actors._runtime.server_files import settings, write_secret
from actors._runtime.snapshot import buckets_in_memory, in_order, pack
from actors._runtime.supervisor import DirectoryLock
from subjects.errors import ConfigError

MAX_FILE_OCTETS: Final = 64 * 1024 * 1024
"""Larger files than this in the data directory are models: they come again from where they came."""
ENTRY_OCTETS: Final = 4 * 1024 * 1024
"""How much of a stream is kept in memory until it is written."""
LEFT_BEHIND: Final = ("nats", RESTORING, "index", "index-centre", "library", "up.lock", "unreadable")
"""In the data directory, but made again or of no use elsewhere; the store is packed by its server."""
COUNTED: Final = ("mesh/state", "mesh/fresh")
"""The mesh's frame counters: an older one would come again on the air under the same key, which breaks the
encryption; without any, counting goes on by the clock."""
SCRATCH: Final = ".backup-"
_SQLITE: Final = b"SQLite format 3\x00"
_NAMED: Final = re.compile(r"evy-(?P<node>.+)-(?P<serial>[0-9]{6})-[0-9TZ]+\.tar\.gz(\.age)?")


class BackedUp(msgspec.Struct, frozen=True):
    """What was written, for people and for ``--json``."""

    file: str
    octets: int
    running: bool
    streams: dict[str, int]
    queues: dict[str, int]
    left_out: tuple[str, ...]
    removed: tuple[str, ...] = ()


@contextlib.asynccontextmanager
async def reached(config: Config) -> AsyncIterator[tuple[NatsBus | None, bool]]:
    """The node's server, and whether the node runs: else one of our own on its store. None for a centre.

    Raises :class:`ConfigError` when it runs and does not answer.
    """
    if config.node.profile == "bigevy":
        yield None, True
        return
    identity = load_identity(config.node.name, config.node.directory)
    with contextlib.suppress(BusError):
        bus = await NatsBus.connect(identity, config.node.url, "backup", wait_s=3)
        try:
            yield bus, True
        finally:
            await bus.close()
        return
    if config.node.nats_url:
        raise ConfigError(
            f"the server at {config.node.nats_url} does not answer: start it, it holds the data"
        )
    lock = DirectoryLock(config.node.directory)  # an `evy up` that does not answer keeps it
    try:
        installed = settings(config.node.server_directory)
        store = Path(installed.store) if installed else config.node.directory / "nats"
        key = installed.store_key() if installed else ""
        log = config.node.directory / "nats-server.log"
        async with own_server(config.node.name, store, key, log) as bus:
            yield bus, False
    finally:
        lock.release()


def files_of(directory: Path) -> Iterator[Path]:
    """Files of a data directory that belong into a backup."""
    for path in sorted(directory.rglob("*")):
        inside = path.relative_to(directory)
        journal = path.name.endswith(("-wal", "-shm", "-journal"))
        made = inside.parts[0].startswith(SCRATCH) or _NAMED.fullmatch(path.name)
        left = inside.parts[0] in LEFT_BEHIND or inside.as_posix() in COUNTED
        skipped = left or path.suffix in {".log", ".part"} or journal or made
        if path.is_file() and not path.is_symlink() and not skipped:
            yield path


def named_in(tables: Any, directory: Path) -> Iterator[Path]:
    """Files elsewhere that `evy.toml` names by an absolute path, such as the responders' or the PIN's."""
    if isinstance(tables, dict | list):
        for value in tables.values() if isinstance(tables, dict) else tables:
            yield from named_in(value, directory)
    elif isinstance(tables, str) and tables.startswith("/"):
        path = Path(tables)
        if path.is_file() and not path.is_relative_to(directory):
            yield path


def _add_file(writer: Writer, name: str, path: Path, scratch: Path) -> None:
    """One file as it is at a moment; a database by SQLite's own online backup."""
    try:
        with path.open("rb") as file:
            if file.read(len(_SQLITE)) == _SQLITE:
                copy = scratch / "database"
                with contextlib.closing(sqlite3.connect(path)) as source:
                    source.execute("VACUUM INTO ?", (str(copy),))
                with copy.open("rb") as packed:
                    writer.add(name, packed, copy.stat().st_size)
                copy.unlink()
                return
            file.seek(0)
            octets = file.read(MAX_FILE_OCTETS + 1)
    except (PermissionError, FileNotFoundError, sqlite3.Error) as error:
        writer.left_out.append(f"{path}: {error}")
        return
    if len(octets) > MAX_FILE_OCTETS:
        writer.left_out.append(f"{path}: {path.stat().st_size / 2**20:.0f} MB, more than a backup takes")
        return
    writer.add_octets(name, octets)


async def _add_streams(writer: Writer, bus: NatsBus) -> None:
    there = await streams(bus.client, bus.js, lambda name: name not in buckets_in_memory(bus.node))
    for name in in_order([config.name or "" for config in there]):
        snapshot, chunks = await pack(bus.client, name)
        writer.add_octets(f"streams/{name}.json", msgspec.json.encode(snapshot))
        buffer, count = io.BytesIO(), 0
        async for chunk in chunks:
            buffer.write(chunk)
            if buffer.tell() >= ENTRY_OCTETS:
                writer.add_octets(f"streams/{name}/{count:06}", buffer.getvalue())
                buffer, count = io.BytesIO(), count + 1
        writer.add_octets(f"streams/{name}/{count:06}", buffer.getvalue())
        writer.streams[name] = snapshot.messages
        if snapshot.is_queue:
            writer.queues[name] = snapshot.messages


async def back_up(config: Config, target: Path, recipients: Sequence[Any]) -> BackedUp:
    """Writes a backup of a node, whole or not at all. Raises :class:`ArchiveError`, :class:`ConfigError`."""
    directory = config.node.directory
    async with reached(config) as (bus, running):
        header = Header(
            FORMAT,
            importlib.metadata.version("evy"),
            config.node.name,
            config.node.profile,
            time.time(),
            str(directory.resolve()),
            str(config.path.resolve()) if config.path else "",
            running,
        )
        with (
            tempfile.TemporaryDirectory(prefix=SCRATCH, dir=directory) as scratch,
            Writer(target, header, recipients) as writer,
        ):
            if config.path:
                writer.add_octets("config/evy.toml", config.path.read_bytes())
            if bus:
                await _add_streams(writer, bus)
            for path in files_of(directory):
                if path != target:
                    _add_file(writer, f"files/{path.relative_to(directory)}", path, Path(scratch))
            for path in dict.fromkeys(named_in(config.tables, directory)):
                _add_file(writer, f"named{path}", path, Path(scratch))
    return BackedUp(
        str(target),
        os.stat(target).st_size,  # noqa: PTH116  # one call, and no other task waits for it
        running,
        writer.streams,
        writer.queues,
        tuple(writer.left_out),
    )


def next_name(directory: Path, node: str, *, encrypted: bool) -> Path:
    """Name of the next backup in a directory. A number leads: the clock of a Pi may say 1970."""
    serial = max((int(found["serial"]) for _, found in _ours(directory, node)), default=0) + 1
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return directory / f"evy-{node}-{serial:06}-{moment}.tar.gz{'.age' if encrypted else ''}"


def _ours(directory: Path, node: str) -> list[tuple[Path, "re.Match[str]"]]:
    found = [(path, _NAMED.fullmatch(path.name)) for path in directory.iterdir()]
    ours = [(path, match) for path, match in found if match and match["node"] == node]
    return sorted(ours, key=lambda pair: pair[1]["serial"])


def rotate(directory: Path, node: str, keep: int) -> list[str]:
    """Removes all but the newest backups of a node, and gives their names."""
    old = [path for path, _ in _ours(directory, node)][:-keep]
    for path in old:
        path.unlink()
    return [path.name for path in old]


def _recipients(named: Sequence[str]) -> list[Any]:
    """Public keys, given as they are or as files with one a line."""
    texts: list[str] = []
    for name in named:
        if name.startswith(("age1", "ssh-")):
            texts.append(name)
            continue
        try:
            lines = Path(name).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ArchiveError(f"{name} is neither a public key nor a file with some ({error})") from error
        texts += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [recipient(text) for text in texts]


def _new_key(path: Path) -> None:
    made = pyrage.x25519.Identity.generate()
    public = made.to_public()
    write_secret(path, f"# public key: {public}\n{made}\n", replace=False)
    click.echo(f"secret key in {path}: keep it off this machine, without it no backup can be opened")
    click.echo(f"public key, for --for: {public}")


@click.command()
@click.argument("target", metavar="FILE|DIRECTORY", type=click.Path(path_type=Path), required=False)
@click.option(
    "--for", "named", multiple=True, metavar="KEY|FILE", help="Encrypt for this public key (age, SSH)."
)
@click.option("--plain", is_flag=True, help="Do not encrypt: whoever finds the file reads numbers and texts.")
@click.option("--keep", type=click.IntRange(1), metavar="N", help="Remove all but the newest N in DIRECTORY.")
@click.option(
    "--new-key", type=click.Path(path_type=Path), help="Make a key pair; the secret goes to this file."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.pass_obj
def backup(  # one argument per option
    path: Path | None,
    target: Path | None,
    named: tuple[str, ...],
    *,
    plain: bool,
    keep: int | None,
    new_key: Path | None,
    as_json: bool,
) -> None:
    """Write everything that makes this node this node into one file, while it works on.

    Identity, keys, configuration, responders, databases, and every stream and bucket: settings of people,
    what was sent, what waits. Not in it: models and other files above 64 MB, search indexes, the centre's
    library, logs, and the key of an encrypted store. The file is whole or not there.

    \b
    evy backup --new-key backup.key                      once; keep backup.key elsewhere
    evy backup /media/stick/ --for age1… --keep 7        every night
    evy restore /media/stick/evy-….tar.gz.age --key backup.key
    """  # noqa: D301  # \b is click's mark against re-wrapping
    log_to_stderr("WARNING")
    if new_key:
        _new_key(new_key)
    if target is None:
        if new_key:
            return
        raise click.UsageError("name a file or a directory to write to")
    if plain == bool(named):
        raise click.UsageError(
            "a backup holds phone numbers and texts: --for KEY encrypts it, --plain leaves it open; "
            "`evy backup --new-key FILE` makes a key"
        )
    config = load_config(path)
    into = target.is_dir()
    if keep and not into:
        raise click.UsageError(f"--keep is for a directory that exists, and {target} is none")
    if not into and not target.parent.is_dir():
        raise ConfigError(f"{target.parent} is no directory: is the medium mounted?")
    recipients = _recipients(named)
    file = next_name(target, config.node.name, encrypted=bool(named)) if into else target
    if file.exists():
        raise ConfigError(f"{file} exists: a backup never replaces another")
    done = asyncio.run(back_up(config, file, recipients))
    if keep:
        done = msgspec.structs.replace(done, removed=tuple(rotate(target, config.node.name, keep)))
    if as_json:
        click.echo(msgspec.json.encode(done))
        return
    _tell(done, config)


def _tell(done: BackedUp, config: Config) -> None:
    messages, waiting = sum(done.streams.values()), sum(done.queues.values())
    click.echo(f"{done.file}: {done.octets / 2**20:.1f} MB, {len(done.streams)} streams, {messages} messages")
    if waiting:
        click.echo(f"{waiting} of them are work that waits")
    for line in done.left_out:
        click.echo(f"left out: {line}")
    for name in done.removed:
        click.echo(f"removed: {name}")
    installed = settings(config.node.server_directory)
    if installed and installed.store_key_file:
        click.echo(f"not in it: the key of the store, {installed.store_key_file}; a restored node needs it")
    free = shutil.disk_usage(Path(done.file).parent).free
    if free < 2 * done.octets:
        click.echo(f"only {free / 2**20:.0f} MB are left there: the next one may not fit", err=True)
    sys.stdout.flush()
