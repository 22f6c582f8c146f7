"""`evy nats`: keys, certificates and server configurations of edge and centre."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import click

from actors._runtime.accounts import publish_account
from actors._runtime.authority import Authority
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.config import Config, NodeConfig, load_config
from actors._runtime.identity import Identity
from actors._runtime.provision import Place, provision, provision_edge, remove_edge
from actors._runtime.server_files import (
    Bundle,
    HubServer,
    create_store_key,
    join,
    load_bundle,
    refresh,
    settings,
)
from subjects.errors import ConfigError
from subjects.names import HUB
from subjects.registry import Profile

MONITOR_ABOVE: Final = 4000
"""The server's monitoring listens so far above its client port: 8222 beside 4222, on the loopback."""

_keys = click.option(
    "--keys",
    type=click.Path(path_type=Path),
    help="The centre's key directory. Default: keys in the data directory; it may lie on a stick.",
)
_directory = click.option(
    "--dir", "directory", type=click.Path(path_type=Path), help="Default: server in the data directory."
)
_store_key = click.option(
    "--store-key",
    type=click.Path(path_type=Path),
    help="File with the key that encrypts JetStream's files; made if missing. Keep it off their card.",
)


@click.group(name="nats", context_settings={"help_option_names": ["-h", "--help"]})
def nats_group() -> None:
    """Keys, certificates and server configurations of edge and centre.

    \b
    In this order:
      1. at the centre   evy nats init --profile bigevy --hosts centre.example.org,203.0.113.7
                         evy up                          # [node] profile = "bigevy" in evy.toml
      2. at the centre   evy nats enrol e1               # writes e1.bundle: carry it to the edge
      3. at the edge     evy nats join e1.bundle         # [node] name = "e1" in evy.toml
                         evy up
      When an edge is lost or stolen, at the centre:
                         evy nats revoke e1              # cut at once, on every server

    \b
    A centre of three machines:
      1. on one machine  evy nats init --profile bigevy --server hub1=10.0.0.1 \\
                             --server hub2=10.0.0.2 --server hub3=10.0.0.3
      2. on each         evy nats join hub1.bundle       # its own, then evy up

    A node without a centre needs none of this, except to encrypt its store:
    evy nats init --store-key /media/stick/evy.key
    """  # noqa: D301  # \b is click's mark against re-wrapping


nats = nats_group
"""As the table of commands names it."""


def _key_directory(config: Config, keys: Path | None) -> Path:
    return keys or config.node.directory / "keys"


def _say(text: str) -> None:
    click.echo(text)


def _want(config: Config, **wanted: object) -> None:
    """Tells what `evy.toml` must say where it does not."""
    lines = [
        f"  {key} = {json.dumps(value)}"
        for key, value in wanted.items()
        if getattr(config.node, key) != value
    ]
    if lines:
        _say(f"Put into {config.path or 'evy.toml'}, table [node]:\n" + "\n".join(lines))


@nats_group.command()
@click.option("--profile", type=click.Choice(get_args(Profile)), help="Default: that of evy.toml.")
@click.option("--node", help="Name of an edge node. Default: that of evy.toml.")
@_directory
@_keys
@click.option("--hosts", help="A centre of one server: names and addresses that reach it, with commas.")
@click.option(
    "--server", "servers", multiple=True, metavar="NAME=HOST[,HOST]", help="A centre of three: each of them."
)
@click.option("--port", type=int, help="Port for clients. Default: [node] nats_port.")
@click.option("--leaf-port", type=int, default=7422, show_default=True, help="Where edges connect.")
@click.option("--cluster-port", type=int, default=6222, show_default=True, help="Between a centre's servers.")
@click.option("--listen", default="0.0.0.0", show_default=True, help="Address a centre listens on.")  # noqa: S104  # every listener asks for TLS and keys
@_store_key
@click.option("--force", is_flag=True, help="Change what is there. No key is ever replaced by it.")
@click.pass_obj
def init(  # noqa: PLR0917  # one parameter per option
    path: Path | None,
    profile: Profile | None,
    node: str | None,
    directory: Path | None,
    keys: Path | None,
    hosts: str | None,
    servers: tuple[str, ...],
    port: int | None,
    leaf_port: int,
    cluster_port: int,
    listen: str,
    store_key: Path | None,
    *,
    force: bool,
) -> None:
    """Make keys, certificates and a filled server configuration. Run again, it changes nothing.

    Certificates have no end date, since a Raspberry Pi may not know the date: what has to end is revoked.
    """
    config = load_config(path)
    profile = profile or config.node.profile
    directory = directory or config.node.server_directory
    port = port or config.node.nats_port
    if profile == "bigevy":
        ports = (port, leaf_port, cluster_port)
        wanted = _servers(hosts, servers, ports, listen)
        _init_centre(config, directory, _key_directory(config, keys), wanted, store_key, force=force)
        return
    if hosts or servers:
        raise click.UsageError(f"--hosts and --server are for the profile bigevy, not {profile}")
    name = node or (config.node.name if config.node.profile == profile else profile)
    NodeConfig(profile=profile, name=name)  # refuses what is no name
    before = settings(directory)
    link = before.bundle.edge if before and before.bundle.node == name else None
    if before and before.bundle.node != name and not force:
        raise ConfigError(f"{directory} is that of {before.bundle.node}; --force makes it {name}'s")
    bundle = Bundle(1, profile, name, before.bundle.ca if before and link else "", edge=link)
    _install(config, directory, bundle, port, store_key)
    _want(config, profile=profile, name=name, nats_port=port)


def _servers(
    hosts: str | None, named: Sequence[str], ports: tuple[int, int, int], listen: str
) -> list[HubServer]:
    if hosts and named:
        raise click.UsageError("--hosts is for a centre of one server, --server for one of three")
    entries = [("hub1", hosts)] if hosts else [tuple(entry.partition("=")[::2]) for entry in named]
    if len(entries) not in {0, 1, 3}:
        raise click.UsageError(f"a centre has one server or three, not {len(entries)}")
    made = []
    for name, listed in entries:
        reached = tuple(host.strip() for host in (listed or "").split(",") if host.strip())
        if not name or not reached:
            raise click.UsageError(f"--server {name!r}: write NAME=HOST, such as hub1=10.0.0.1")
        made.append(HubServer(name, reached, *ports, listen))
    if len({server.name for server in made}) != len(made):
        raise click.UsageError("each server needs a name of its own")
    return made


def _init_centre(  # where, and what
    config: Config,
    directory: Path,
    keys: Path,
    wanted: list[HubServer],
    store_key: Path | None,
    *,
    force: bool,
) -> None:
    if (keys / "state.json").exists():
        authority = Authority(keys)
        there = authority.state.servers
        if wanted and tuple(wanted) != there:
            if not force:
                was = "; ".join(f"{s.name} at {', '.join(s.hosts)}:{s.leaf_port}" for s in there)
                raise ConfigError(
                    f"this centre is {was}; --force gives it these addresses and keeps its keys"
                )
            authority.move(wanted)
            _say("New addresses. Edges know the old ones: `evy nats enrol NODE --again` for each.")
        elif settings(directory) and len(there) == 1:
            _install(config, directory, None, there[0].client_port, store_key)
            _want(config, profile="bigevy", nats_port=there[0].client_port)
            return
    else:
        if not wanted:
            raise ConfigError(
                "say how edges reach this centre: --hosts ADDRESS, or --server NAME=ADDRESS thrice"
            )
        authority = Authority.create(keys, wanted)
        _say(f"Keys in {keys}: whoever has them is the centre. Keep a copy off this machine.")
    servers = authority.state.servers
    if len(servers) == 1:
        _install(
            config, directory, authority.server_bundle(servers[0].name), servers[0].client_port, store_key
        )
        _want(config, profile="bigevy", nats_port=servers[0].client_port)
        return
    for server in servers:
        file = Path(f"{server.name}.bundle")
        if file.exists() and not force:
            _say(f"{file} is there and stays")
            continue
        file.unlink(missing_ok=True)  # it is made again from the keys, which stay
        authority.server_bundle(server.name).save(file)
        _say(f"{file}: carry it to {server.hosts[0]} and run `evy nats join {file}` there; it holds secrets")
    _want(config, profile="bigevy", nats_port=servers[0].client_port)


def _install(
    config: Config, directory: Path, bundle: Bundle | None, port: int, store_key: Path | None
) -> None:
    before = settings(directory)
    if bundle is None:
        assert before is not None  # noqa: S101  # the caller looked
        bundle = before.bundle
    if store_key and not store_key.exists():
        if before and before.store_key_file:
            raise ConfigError(
                f"the store is encrypted with the key in {before.store_key_file}; bring that one"
            )
        create_store_key(store_key)
        _say(f"{store_key}: the key of the store. Without it nothing stored can be read: keep a copy.")
    configuration = join(
        directory,
        bundle,
        port=port,
        store=Path(before.store) if before else config.node.directory / "nats",
        monitor_port=port + MONITOR_ABOVE,
        store_key_file=store_key,
    )
    if settings(directory) == before:
        _say(f"{configuration}: nothing changed")
    else:
        _say(f"{configuration} written; `evy up` starts it")


@nats_group.command(name="join")
@click.argument("bundle", type=click.Path(path_type=Path))
@_directory
@click.option("--port", type=int, help="Port for clients of an edge. Default: [node] nats_port.")
@_store_key
@click.option("--force", is_flag=True, help="Replace another enrolment; its file is kept beside the new one.")
@click.pass_obj
def join_command(  # one parameter per option
    path: Path | None,
    bundle: Path,
    directory: Path | None,
    port: int | None,
    store_key: Path | None,
    *,
    force: bool,
) -> None:
    """Install a bundle of `evy nats enrol` (at an edge) or `init` (on a server of a centre of three)."""
    config = load_config(path)
    directory = directory or config.node.server_directory
    loaded = load_bundle(bundle)
    before = settings(directory)
    if before and (before.bundle.edge or before.bundle.hub) and before.bundle != loaded and not force:
        raise ConfigError(
            f"{directory} is enrolled as {before.bundle.node}; --force replaces that and keeps its file"
        )
    port = loaded.hub.server.client_port if loaded.hub else port or config.node.nats_port
    _install(config, directory, loaded, port, store_key)
    if loaded.hub:
        _want(config, profile="bigevy", nats_port=port)
    else:
        _want(config, profile=loaded.profile, name=loaded.node, nats_port=port)
    _say(f"{bundle} holds secrets: remove it now (shred -u {bundle})")


@nats_group.command()
@click.argument("node")
@_keys
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Default: NODE.bundle here.")
@click.option("--again", is_flag=True, help="A new credential for an enrolled edge; the former is revoked.")
@click.pass_obj
def enrol(  # one parameter per option
    path: Path | None, node: str, keys: Path | None, output: Path | None, *, again: bool
) -> None:
    """Let an edge connect: write its bundle, and make its streams at this centre.

    Run again it only checks the streams. Nothing needs to be edited or restarted on any server.
    """
    config = load_config(path)
    NodeConfig(name=node)  # refuses what is no name
    authority = Authority(_key_directory(config, keys))
    output = output or Path(f"{node}.bundle")
    enrolled = node in authority.state.edges
    if (again or not enrolled) and output.exists():
        raise ConfigError(f"{output} exists and is kept; move it away, or name another with --output")
    if again and enrolled:
        authority.revoke(node)
        _tell(config, authority)
    if again or not enrolled:
        authority.enrol(node).save(output)
        _say(f"{output}: carry it to the edge and run `evy nats join {output.name}` there; it holds secrets")
    else:
        _say(f"{node} is enrolled; --again makes a new credential for it")

    async def make(bus: NatsBus) -> None:
        place = _place(authority)
        for line in [*await provision(bus.js, place), *await provision_edge(bus.js, place, node)]:
            _say(f"drift: {line} (`evy subjects --apply` mends it)")

    problem = _at_centre(authority, make)
    if problem:
        _say(f"The streams of {node} are not there yet ({problem}): start the centre, then run this again.")
        sys.exit(3)
    _say(f"the streams of {node} are there")


@nats_group.command()
@click.argument("node")
@_keys
@click.option("--purge", is_flag=True, help="Also remove its streams with all that waits in them.")
@click.pass_obj
def revoke(path: Path | None, node: str, keys: Path | None, *, purge: bool) -> None:
    """Cut an edge off, at once and on every server; its streams stay unless --purge."""
    config = load_config(path)
    authority = Authority(_key_directory(config, keys))
    if not authority.revoke(node):
        _say(f"{node} was revoked before; the servers are told again")
    _tell(config, authority)
    if not purge:
        return

    async def remove(bus: NatsBus) -> None:
        await remove_edge(bus.js, _place(authority), node)

    problem = _at_centre(authority, remove)
    if problem:
        raise ConfigError(f"the streams of {node} are still there: {problem}; run this again")
    _say(f"the streams of {node} are removed")


@nats_group.command(name="list")
@_keys
@click.pass_obj
def list_command(path: Path | None, keys: Path | None) -> None:
    """The centre's servers, its edges, and how many keys are revoked."""
    authority = Authority(_key_directory(load_config(path), keys))
    for server in authority.state.servers:
        hosts = ", ".join(server.hosts)
        _say(f"server {server.name}: {hosts}, clients {server.client_port}, leaf {server.leaf_port}")
    for node in sorted(authority.state.edges):
        _say(f"edge {node}")
    for revoked in sorted(authority.state.revoked.values(), key=lambda each: each.node):
        _say(f"revoked {revoked.node}")


def _tell(config: Config, authority: Authority) -> None:
    refresh(config.node.server_directory, authority.account.public, authority.account_token)
    try:
        told = asyncio.run(publish_account(authority))
    except BusError as error:
        raise ConfigError(
            f"revoked in the keys, but the servers do not know it yet: {error}; start one and run this again"
        ) from error
    missing = sorted({server.name for server in authority.state.servers} - set(told))
    _say(f"told {', '.join(told)}")
    if missing:
        _say(f"not reached: {', '.join(missing)}; they learn it from the others when they are back")


def _place(authority: Authority) -> Place:
    return Place(HUB, "bigevy", replicas=len(authority.state.servers))


def _at_centre(authority: Authority, work: Callable[[NatsBus], Coroutine[Any, Any, None]]) -> str:
    """Does some work with the centre's own credentials; why not, when it cannot."""

    async def connected() -> None:
        keys = authority.directory
        identity = Identity(HUB, b"", "", str(keys / "centre.creds"), str(keys / "ca.pem"))
        problem: BusError | None = None
        for server in authority.state.servers:
            with contextlib.suppress(BusError):
                url = f"nats://{server.hosts[0]}:{server.client_port}"
                bus = await NatsBus.connect(identity, url, "enrol", wait_s=3)
                break
        else:
            raise BusError("no server of the centre answers") from problem
        try:
            await work(bus)
        finally:
            await bus.close()

    try:
        asyncio.run(connected())
    except BusError as error:
        return str(error)
    return ""
