"""`evy restore`: a node again from its backup, on an empty machine."""

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import click
import msgspec

from actors._runtime.archive import ArchiveError, Header, Manifest, Octets, identity, read, verify
from actors._runtime.config import Config, load_config
from actors._runtime.identity import RESTORING, Identity
from actors._runtime.own_server import own_server
from actors._runtime.process import log_to_stderr
from actors._runtime.server_files import Settings, settings
from actors._runtime.snapshot import Snapshot, unpack
from actors._runtime.supervisor import DirectoryLock
from subjects.errors import ConfigError, EvyError

CHUNK_OCTETS: Final = 128 * 1024
"""What nats-server takes at a time, well below what one message may hold."""

Queues = Literal["answer", "drop"]


class RestoreError(EvyError):
    """A node cannot be restored here; nothing was touched, or doing it again goes on."""


class Restored(msgspec.Struct, frozen=True):
    """What was done, for people and for ``--json``."""

    node: str
    streams: dict[str, int]
    waiting: int
    kept: tuple[str, ...]
    """Files of the backup that were put aside, because others are in their place."""


def unfinished(directory: Path) -> bool:
    """Whether a restore into a data directory was begun and not finished."""
    return (directory / RESTORING).exists()


def _store(directory: Path) -> Path:
    installed = settings(directory / "server")
    return Path(installed.store) if installed else directory / "nats"


def check_place(config: Config, header: Header, *, force: bool) -> None:
    """Raises :class:`RestoreError` when this is another node, or one that is not empty."""
    directory = config.node.directory
    if config.path and (config.node.name, config.node.profile) != (header.node, header.profile):
        raise RestoreError(
            f"this is a backup of {header.node} ({header.profile}), and {config.path} makes this machine "
            f"{config.node.name} ({config.node.profile}): move that file away, or bring the right backup"
        )
    taken = [path for path in (directory / "identity.json", directory / "nats") if path.exists()]
    if taken and not unfinished(directory) and not force:
        raise RestoreError(
            f"{directory} is not empty ({taken[0].name} is there): --force puts aside what it holds"
        )


def _choose(header: Header, manifest: Manifest, wanted: Queues | None) -> Queues:
    """What becomes of work that waited. Raises :class:`RestoreError` when only a person can know."""
    waiting = {name: count for name, count in manifest.queues.items() if count}
    if wanted or not waiting or not header.running:
        return wanted or "answer"
    listed = ", ".join(f"{count} in {name}" for name, count in waiting.items())
    raise RestoreError(
        f"work waited when this backup was made ({listed}), and the node went on. If it died at that moment: "
        "--queues answer, and each is answered once. If it worked on: --queues drop, or people get an answer "
        "for the second time"
    )


class _Stage:
    """Where a backup is unpacked before anything of it is in its place."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = directory / "files"
        self.named = directory / "named"
        self.packed = directory / "packed"
        self.snapshots: dict[str, Snapshot] = {}

    def take(self, name: str, source: Octets) -> None:
        """One entry of the backup."""
        top, _, rest = name.partition("/")
        if top == "streams" and rest.endswith(".json"):
            self.snapshots[rest.removesuffix(".json")] = msgspec.json.decode(source.read(), type=Snapshot)
            return
        target = {"files": self.files, "named": self.named, "streams": self.packed}.get(top, self.directory)
        path = target / rest
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            _copy(source, file)
            file.flush()
            os.fsync(file.fileno())

    async def chunks(self, stream: str) -> AsyncIterator[bytes]:
        """The octets of a stream in pieces that a server takes."""
        for part in sorted((self.packed / stream).iterdir()):  # nothing else runs here
            with part.open("rb") as file:  # likewise
                while chunk := file.read(CHUNK_OCTETS):
                    yield chunk


def _copy(source: Octets, file: BinaryIO) -> None:
    while octets := source.read(1024 * 1024):
        file.write(octets)


async def _fill_store(stage: _Stage, node: str, store_key: str, queues: Queues) -> dict[str, int]:
    found: dict[str, int] = {}
    log = stage.directory / "nats-server.log"
    async with own_server(node, stage.directory / "nats", store_key, log) as bus:
        for name, snapshot in stage.snapshots.items():
            count = await unpack(bus.client, snapshot, stage.chunks(name))
            if count < snapshot.messages and not snapshot.config.get("max_age"):
                raise RestoreError(f"{name} has {count} messages after unpacking, {snapshot.messages} before")
            if snapshot.is_queue and queues == "drop":
                await bus.js.purge_stream(name)  # its numbers go on: the other end counts by them
                count = 0
            found[name] = count
    return found


def _at_home(stage: _Stage, header: Header, directory: Path) -> None:
    """Puts into the unpacked files what is different here: the place, and a nonce for this life.

    Messages of a node that was restored must not be taken for those of its former life, which may have sent
    others under the same ids since. That no text is sent twice does not rest on these ids but on the ledger.
    """
    path = stage.files / "identity.json"
    if path.exists():
        before = msgspec.json.decode(path.read_bytes(), type=Identity)
        made = msgspec.structs.replace(before, nonce=secrets.token_hex(4))
        path.write_bytes(msgspec.json.encode(made))
    bundle = stage.files / "server" / "bundle.json"
    if bundle.exists():
        installed = msgspec.json.decode(bundle.read_bytes(), type=Settings)
        former = Path(installed.store)
        if former.is_relative_to(header.data_dir):
            store = str(directory / former.relative_to(header.data_dir))
            bundle.write_bytes(msgspec.json.encode(msgspec.structs.replace(installed, store=store)))


def _replace(source: Path, target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)  # the store may be on another file system


def _move_in(stage: _Stage, directory: Path, store: Path) -> None:
    """Puts everything in its place, the identity last: with it, and without the stage, it is a node."""
    if (stage.directory / "nats").exists():
        _replace(stage.directory / "nats", store)
    last = stage.files / "identity.json"
    for path in sorted(stage.files.iterdir()) if stage.files.exists() else ():
        if path != last:
            _replace(path, directory / path.name)
    os.sync()
    if last.exists():
        last.rename(directory / last.name)
    os.sync()


def _named_files(stage: _Stage, directory: Path) -> list[str]:
    """Files that `evy.toml` names elsewhere: to where they were, or aside when something is there."""
    aside = []
    for path in sorted(stage.named.rglob("*")) if stage.named.exists() else ():
        if not path.is_file():
            continue
        home = Path("/") / path.relative_to(stage.named)
        try:
            if home.exists():
                raise FileExistsError(home)
            home.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, home)
        except OSError:
            kept = directory / "restored" / path.relative_to(stage.named)
            _replace(path, kept)
            aside.append(f"{home} is now {kept}")
    return aside


def _configuration(stage: _Stage, config: Config, header: Header, directory: Path) -> list[str]:
    """`evy.toml` of the backup: where it was, unless this machine has one."""
    packed = stage.directory / "evy.toml"
    if not packed.exists() or (config.path and packed.read_bytes() == config.path.read_bytes()):
        return []
    home = Path(header.config_path)
    if not config.path and not home.exists():
        try:
            home.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(packed, home)
        except OSError:
            pass
        else:
            return []
    kept = directory / "restored" / "evy.toml"
    _replace(packed, kept)
    return [f"the backup's evy.toml is {kept}; {config.path or home} was left as it is"]


def put_aside(directory: Path) -> Path | None:
    """Moves what is in a data directory into one of its own; gives that, or None when there was nothing."""
    there = [path for path in directory.iterdir() if path.name != "up.lock"]
    if not there or unfinished(directory):
        return None
    aside = Path(tempfile.mkdtemp(prefix="before-restore-", dir=directory))
    for path in there:
        if not path.name.startswith("before-restore-"):
            path.rename(aside / path.name)
    return aside


async def restore_node(
    path: Path,
    config: Config,
    identities: Sequence[Any],
    *,
    queues: Queues | None = None,
    force: bool = False,
) -> Restored:
    """Makes the node of a backup in the data directory of ``config``.

    Checks all of the backup first. Until the last step nothing that `evy up` would take for a node is there,
    and doing it again begins anew. Raises :class:`ArchiveError` and :class:`RestoreError`.
    """
    header, manifest = verify(path, identities)
    check_place(config, header, force=force)
    chosen = _choose(header, manifest, queues)
    directory = config.node.directory
    lock = DirectoryLock(directory)
    try:
        if force and (aside := put_aside(directory)):
            click.echo(f"what was here is now in {aside}", err=True)
        shutil.rmtree(directory / RESTORING, ignore_errors=True)
        stage = _Stage(directory / RESTORING)
        stage.directory.mkdir(mode=0o700)
        read(path, stage.take, identities)
        if set(stage.snapshots) != set(manifest.streams):
            raise ArchiveError(f"{path} is damaged: its streams are not those of its list")
        _at_home(stage, header, directory.resolve())
        installed = settings(stage.files / "server")
        key = installed.store_key() if installed else ""
        streams: dict[str, int] = {}
        if stage.snapshots:
            streams = await _fill_store(stage, header.node, key, chosen)
        _move_in(stage, directory, Path(installed.store) if installed else directory / "nats")
        kept = [*_named_files(stage, directory), *_configuration(stage, config, header, directory)]
        shutil.rmtree(stage.directory)
    except OSError as error:
        raise RestoreError(f"{error}: nothing of it works yet; mend that and do this again") from error
    finally:
        lock.release()
    waiting = sum(count for name, count in streams.items() if manifest.queues.get(name))
    return Restored(header.node, streams, waiting, tuple(kept))


def _identities(keys: Sequence[Path]) -> list[Any]:
    try:
        return [identity(key.read_text(encoding="utf-8")) for key in keys]
    except (OSError, UnicodeDecodeError) as error:
        raise ArchiveError(f"no key: {error}") from error


def _place(path: Path | None, header: Header) -> Config:
    """Configuration of this machine; without one the backup's own place."""
    config = load_config(path if path and path.exists() else None)
    if config.path:
        return config
    node = {"name": header.node, "profile": header.profile}
    directory = os.environ.get("EVY_DATA") or header.data_dir
    return Config({"node": {**node, "data_dir": directory}})


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--key", "keys", multiple=True, type=click.Path(path_type=Path), help="File with the secret key."
)
@click.option("--queues", type=click.Choice(["answer", "drop"]), help="What becomes of work that waited.")
@click.option("--check", is_flag=True, help="Only check the file, and say what is in it.")
@click.option("--force", is_flag=True, help="Put aside what is in the data directory.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.pass_obj
def restore(  # one argument per option
    path: Path | None,
    file: Path,
    keys: tuple[Path, ...],
    *,
    queues: Queues | None,
    check: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Make a node again from its backup, on a machine that has none.

    The old node must never run again: two with one identity would both answer. The whole file is checked
    before anything is touched; a restore that was cut off is done again from its beginning, and until it is
    done `evy up` does not start.

    \b
    evy restore --check evy-valley-1-000007-….tar.gz.age --key backup.key
    evy restore evy-valley-1-000007-….tar.gz.age --key backup.key
    """  # noqa: D301  # \b is click's mark against re-wrapping
    log_to_stderr("WARNING")
    identities = _identities(keys)
    header, manifest = verify(file, identities)
    if check:
        made = {"header": header, "streams": manifest.streams, "queues": manifest.queues}
        click.echo(msgspec.json.encode(made) if as_json else _described(file, header, manifest))
        return
    config = _place(path, header)
    if config.node.nats_url:
        raise ConfigError("the server at [node] nats_url is not ours to fill: `nats stream restore` there")
    done = asyncio.run(restore_node(file, config, identities, queues=queues, force=force))
    if as_json:
        click.echo(msgspec.json.encode(done))
        return
    click.echo(f"{done.node}: {len(done.streams)} streams, {sum(done.streams.values())} messages")
    if done.waiting:
        click.echo(f"{done.waiting} of them are work that waits: answered once, after `evy up`")
    for line in done.kept:
        click.echo(line)
    click.echo("now `evy up`; the old node must never run again, or both answer")


def _described(file: Path, header: Header, manifest: Manifest) -> str:
    running = "while it worked" if header.running else "while it was stopped"
    waiting = sum(manifest.queues.values())
    return (
        f"{file}: whole. {header.node} ({header.profile}), EVY {header.evy}, {running}; "
        f"{len(manifest.streams)} streams, {sum(manifest.streams.values())} messages, {waiting} of them work "
        "that waits"
    )
