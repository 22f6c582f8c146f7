"""`evy sync`: texts on their way from a centre to its nodes, signed, over the link or on a stick."""

import asyncio
import datetime as dt
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from actors._bundles.arrive import MANIFEST, apply, find, over_the_link, read_manifest, rollback
from actors._bundles.check import tried
from actors._bundles.manifest import Manifest
from actors._bundles.nodes import Nodes
from actors._bundles.pack import regions_of
from actors._bundles.settings import key_of, terms_of
from actors._bundles.versions import Entry, Versions
from actors._bundles.workshop import Stick, Workshop
from actors._runtime.authority import Authority
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.config import Config, load_config
from actors._runtime.identity import load_identity
from actors._runtime.objects import NatsObjects, Shelf
from actors._runtime.provision import Place
from actors.knowledge import OWN
from subjects.errors import ConfigError
from subjects.messages import SyncReport

_OUT: Final = Console(highlight=False, soft_wrap=True)
_json = click.option("--json", "as_json", is_flag=True, help="For a program.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def sync() -> None:
    """Bring texts from the centre to its nodes: articles, templates, triage words, responders.

    \b
    At the centre
      1. put the texts where they belong          /var/lib/evy/knowledge/articles/….toml
         only for the nodes of a region           /var/lib/evy/knowledge/regions/valley/articles/….toml
      2. evy sync build                           checks them, signs them, gives them the next number
      3. evy sync publish                         nodes fetch it when their link is up
      4. evy sync status                          which node has which version

    \b
    At a node nothing has to be done; by hand:
      evy sync status                             what it has, what is on its way
      evy sync pull                               now, whatever the hours
      evy sync rollback                           the version before, at once
      evy sync history                            what became of each bundle, and why

    \b
    Without a link, by a USB stick:
      evy sync export /media/stick/texts.evy      at the centre
      evy sync apply /media/stick/texts.evy       at the node

    A node takes only what its own centre has signed, only a higher version than it had, and only what passes
    `evy knowledge lint` and the self-test of the triage; it takes all of it or nothing.
    """  # noqa: D301  # \b is click's mark against re-wrapping


@sync.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False), required=False)
@click.option("--critical", is_flag=True, help="Nodes apply it at once, also outside their hours.")
@click.option("--note", default="", help="What is new, for who reads `evy sync history` at a node.")
@click.option("--version", type=click.IntRange(1), help="Number. Default: the next one.")
@click.option(
    "--keys", type=click.Path(path_type=Path), help="The centre's key directory, as for `evy nats`."
)
@_json
@click.pass_obj
def build(  # one parameter per option
    path: Path | None,
    directory: Path | None,
    note: str,
    version: int | None,
    keys: Path | None,
    *,
    critical: bool,
    as_json: bool,
) -> None:
    """At the centre: check the texts of DIRECTORY, sign them, keep them as the next version.

    DIRECTORY is laid out like actors/knowledge: articles/, templates/, follow/, notices/, sources/, triage/,
    contacts.toml; below regions/NAME/ the same for the nodes of a region. Default: the centre's own texts,
    knowledge in its data directory. The same texts again make no new version.

    \b
    Example: evy sync build --note "cholera at the river" --critical
    """  # noqa: D301  # \b is click's mark against re-wrapping
    config = load_config(path)
    source = directory or config.node.directory / OWN
    if not source.is_dir():
        raise ConfigError(f"{source}: no such directory; name the one with the texts")
    authority = Authority(keys or config.node.directory / "keys")
    folders = regions_of(source)
    click.echo("trying the texts: lint, triage, responders", err=True)
    wrong = asyncio.run(tried(list(folders.values()), dt.datetime.now(dt.UTC).date()))
    if wrong:
        raise ConfigError("; ".join(wrong))
    workshop = Workshop(config.node.directory, authority.account.public)
    made = workshop.build(
        source, authority.sign_texts, now=time.time(), critical=critical, note=note, version=version
    )
    if made is None:
        _OUT.print(f"nothing changed since version {workshop.built()[-1]}")
        return
    _show(made, as_json=as_json)


def _show(made: Manifest, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(made))
        return
    _OUT.print(f"version {made.version}" + (", critical" if made.critical == made.version else ""))
    table = Table("for", "files", "octets", "whole", "only what changed", box=None, pad_edge=False)
    for part in made.parts:
        whole = next(pack.octets for pack in part.packs if pack.form == "whole")
        others = [f"{pack.octets} ({pack.form})" for pack in part.packs if pack.form != "whole"]
        table.add_row(
            part.region or "all", str(part.files), str(part.octets), str(whole), ", ".join(others) or "-"
        )
    _OUT.print(table)


@sync.command()
@click.option("--version", type=click.IntRange(1), help="Default: the newest that was built.")
@click.pass_obj
def publish(path: Path | None, version: int | None) -> None:
    """At the centre: put a version where the nodes look for it. Run again, it mends what is damaged there."""
    config = _centre(path)
    workshop = Workshop(config.node.directory, key_of(config))
    number = version or (workshop.built() or [0])[-1]

    async def put(bus: NatsBus) -> None:
        done = await workshop.publish(Shelf(bus), number)
        _OUT.print(
            f"version {number} is published" + (f": {len(done)} objects put" if done else ", as before")
        )

    _connected(config, put)


@sync.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--version", type=click.IntRange(1), help="Default: the newest that was built.")
@click.pass_obj
def export(path: Path | None, file: Path, version: int | None) -> None:
    """At the centre: write a version into FILE, to be carried to nodes without a link."""
    config = _centre(path)
    workshop = Workshop(config.node.directory, key_of(config))
    number = version or (workshop.built() or [0])[-1]
    octets = workshop.export(number, file)
    _OUT.print(f"{file}: version {number}, {octets} octets; at a node: evy sync apply {file.name}")


@sync.command()
@click.option("--again", is_flag=True, help="Also a bundle that was refused or rolled back here.")
@click.pass_obj
def pull(path: Path | None, *, again: bool) -> None:
    """At a node: fetch and apply the centre's newest version now. What arrived stays when the link breaks.

    Exit code 1 when it was refused, with the reason.
    """
    config = _node(path)
    versions, terms = Versions(config.node.directory), terms_of(config)

    async def fetch(bus: NatsBus) -> Entry | None:
        objects = NatsObjects(bus, Place.of(config.node))
        found = await find(objects, MANIFEST)
        if found is None:
            raise ConfigError("the centre has published nothing: `evy sync publish` there")
        sealed = await read_manifest(objects, found)
        with _progress() as progress:
            task = progress.add_task("fetching", total=None)

            def told(have: int, of: int) -> None:
                progress.update(task, completed=have, total=of)

            return await apply(
                versions,
                sealed,
                terms,
                over_the_link(objects, versions.incoming, told),
                by="pull",
                now=time.time(),
                person=again,
            )

    _became(versions, _connected(config, fetch))


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


@sync.command(name="apply")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--downgrade", is_flag=True, help="Also an earlier version than this node had.")
@click.pass_obj
def apply_file(path: Path | None, file: Path, *, downgrade: bool) -> None:
    """At a node: apply a version from FILE, as `evy sync export` wrote it. Needs no link.

    Exit code 1 when it was refused, with the reason.
    """
    config = _node(path)
    versions, stick = Versions(config.node.directory), Stick(file)
    entry = asyncio.run(
        apply(
            versions,
            stick.sealed,
            terms_of(config),
            stick.get,
            by="stick",
            now=time.time(),
            person=downgrade,
        )
    )
    _became(versions, entry)


def _became(versions: Versions, entry: Entry | None) -> None:
    if entry is None:
        now = versions.current()
        _OUT.print(f"version {now.version if now else 0} is in use already")
    elif entry.what == "refused":
        stays = entry.was or "what was shipped"
        raise ConfigError(f"version {entry.version} is refused, {stays} stays: {entry.reason}")
    else:
        _OUT.print(
            f"version {entry.version} is in use, was {entry.was or 'what was shipped'}; "
            f"{entry.octets} octets came. Actors start again on it within seconds."
        )


@sync.command(name="rollback")
@click.option("--to", type=click.IntRange(0), help="Version; 0 is what was shipped. Default: the one before.")
@click.pass_obj
def roll_back(path: Path | None, to: int | None) -> None:
    """At a node: put the version before in its place, at once.

    The one that goes is not taken again by itself."""
    config = _node(path)
    entry = rollback(Versions(config.node.directory), to, by="command", now=time.time())
    _OUT.print(
        f"version {entry.version} is in use, was {entry.was}. A newer one than {entry.was} is taken when the "
        "centre has it; that one again by `evy sync pull --again`"
    )


@sync.command()
@_json
@click.pass_obj
def history(path: Path | None, *, as_json: bool) -> None:
    """At a node: what became of each bundle, the newest last."""
    entries = Versions(load_config(path).node.directory).state().history
    if as_json:
        for entry in entries:
            click.echo(msgspec.json.encode(entry))
        return
    for entry in entries:
        _OUT.print(
            f"{_when(entry.at)}  {entry.what:11} version {entry.version} (was {entry.was}) by {entry.by}, "
            f"{entry.octets} octets{': ' if entry.reason else ''}{entry.reason}",
            markup=False,
        )
    if not entries:
        _OUT.print("no bundle ever came: this node has what was shipped")


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


class AtNode(msgspec.Struct, frozen=True):
    """What `evy sync status --json` prints at a node."""

    version: int
    regions: tuple[str, ...]
    kept: tuple[int, ...]
    highest: int
    held_because: str
    arrived_octets: int
    """Of a bundle that is on its way."""


class AtCentre(msgspec.Struct, frozen=True):
    """What it prints at a centre."""

    key: str
    built: tuple[int, ...]
    published: int | None
    """None: nothing, or the server does not answer."""
    nodes: tuple[SyncReport, ...]


@sync.command()
@_json
@click.pass_obj
def status(path: Path | None, *, as_json: bool) -> None:
    """At a node: the version in use, and what comes. At a centre: what is published, and who has it."""
    config = load_config(path)
    if config.node.profile == "lilevy":
        _status_of_node(Versions(config.node.directory), as_json=as_json)
    else:
        _status_of_centre(config, as_json=as_json)


def _status_of_node(versions: Versions, *, as_json: bool) -> None:
    state, now = versions.state(), versions.current()
    arrived = sum(each.stat().st_size for each in versions.incoming.glob("*.part") if ".at." not in each.name)
    found = AtNode(
        now.version if now else 0,
        tuple(sorted(now.regions - {""})) if now else (),
        tuple(one.version for one in versions.kept()),
        state.highest,
        state.held_because,
        arrived,
    )
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    of = f" with {', '.join(found.regions)}" if found.regions else ""
    _OUT.print(
        f"version {found.version}{of} is in use" if found.version else "only what was shipped is in use"
    )
    if found.kept:
        _OUT.print(f"on the card: {', '.join(map(str, found.kept))}")
    if found.held_because:
        _OUT.print(f"not taken by itself: {found.held_because}", markup=False)
    if arrived:
        _OUT.print(f"on its way: {arrived} octets have arrived")


def _status_of_centre(config: Config, *, as_json: bool) -> None:
    key = key_of(config)
    workshop = Workshop(config.node.directory, key)

    async def look(bus: NatsBus) -> Manifest | None:
        return await workshop.published(Shelf(bus))

    try:
        published = _connected(config, look)
    except BusError as error:
        click.echo(f"evy: {error}", err=True)
        published = None
    reports = tuple(sorted(Nodes(config.node.directory).all().values(), key=lambda one: one.node))
    found = AtCentre(key, tuple(workshop.built()), published.version if published else None, reports)
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    _OUT.print(f"key {found.key}")
    built = ", ".join(map(str, found.built)) or "nothing"
    _OUT.print(f"built: {built}; published: {found.published or 'nothing'}")
    for one in found.nodes:
        behind = f", {one.state} version {one.bundle}: {one.reason}" if one.state != "applied" else ""
        _OUT.print(f"{one.node}  version {one.version} since {_when(one.at)}{behind}", markup=False)
    if not found.nodes:
        _OUT.print("no node has told of a bundle yet")


def _node(path: Path | None) -> Config:
    config = load_config(path)
    if config.node.profile != "lilevy":
        raise ConfigError(
            f"a {config.node.profile} takes no bundles, it has its own texts; run this at a node"
        )
    return config


def _centre(path: Path | None) -> Config:
    config = load_config(path)
    if config.node.profile == "lilevy":
        raise ConfigError("a node has nothing to send: run this at the centre")
    return config


def _connected(config: Config, work: Callable[[NatsBus], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        identity = load_identity(config.node.name, config.node.directory)
        bus = await NatsBus.connect(identity, config.node.url, "sync", wait_s=5)
        try:
            return await work(bus)
        finally:
            await bus.close()

    return asyncio.run(main())
