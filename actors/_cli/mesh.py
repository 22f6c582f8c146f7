"""`evy mesh`: who belongs to the LoRa mesh, and how it does."""

import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from actors._cli.mesh_status import plan as planned_text
from actors._cli.mesh_status import status
from actors._roster.installed import Installed, open_network
from actors._roster.installed import join as join_mesh
from actors._roster.network import LAST_ADDRESS, ROSTER, Network, read_file
from actors._roster.operator import Operator
from actors._runtime.config import Config, NodeConfig, load_config
from actors._runtime.server_files import write_secret
from actors.knowledge import OWN
from subjects.errors import ConfigError

CHANNELS: Final = {"EU868": 869.525, "US915": 906.875}
"""The frequency in MHz of each region unless another is named. EU868: the sub-band of 10 % and 500 mW,
ERC Recommendation 70-03 annex 1, band P."""

_OUT: Final = Console(highlight=False, markup=False, soft_wrap=True)
_json = click.option("--json", "as_json", is_flag=True, help="For a program.")
_keys = click.option(
    "--keys",
    type=click.Path(path_type=Path),
    help="The operator's key directory. Default: mesh-keys in the data directory; it may lie on a stick.",
)
_output = click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Where to write. Default: in this directory."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def mesh() -> None:
    """The LoRa mesh: make one, let nodes in, look how it does.

    \b
    In this order:
      1. at one machine  evy mesh new valley --region EU868   # the operator's: keep its keys
      2. there           evy mesh enrol valley-1              # writes valley-1.mesh: onto a stick
                         evy mesh enrol valley-2              # and so on; each node has an address
      3. at each node    evy mesh join /media/stick/valley-1.mesh
                         [mesh] device = "/dev/ttyUSB0"       # in evy.toml, then restart EVY
                         evy mesh status

    \b
    When nodes come, go, or a key leaks, every other node needs the new valley.roster, which is no secret:
      a node more        evy mesh enrol valley-3
      lost or stolen     evy mesh revoke valley-2             # and with it the former network key
      at each node       evy mesh join /media/stick/valley.roster
      or by the link     copy it to knowledge/mesh.roster at the centre, evy sync build, evy sync publish

    \b
    Another spreading factor, for all nodes at one time:
      days before        evy mesh plan --spreading-factor 10 --at 2026-12-01T03:00Z
                         and the new valley.roster to every node, as above
    """  # noqa: D301  # \b is click's mark against re-wrapping


mesh.add_command(status)


@mesh.command()
@click.argument("name")
@click.option("--region", required=True, type=click.Choice(sorted(CHANNELS)), help="Whose law holds there.")
@click.option("--frequency", type=float, metavar="MHZ", help="Default: that of the region.")
@click.option("--spreading-factor", type=click.IntRange(7, 12), default=9, show_default=True)
@_keys
@click.pass_obj
def new(  # noqa: PLR0917  # one parameter per option
    path: Path | None,
    name: str,
    region: str,
    frequency: float | None,
    spreading_factor: int,
    keys: Path | None,
) -> None:
    """At the operator's machine: make a mesh, with no node in it yet.

    All nodes of a mesh share region, frequency and spreading factor. Each step of the factor reaches some
    2.5 dB further and takes nearly twice the air; 9 is right unless hills say otherwise.
    """
    directory = _directory(load_config(path), keys)
    made = Operator.create(
        directory,
        name,
        region=region,
        frequency_hz=round((frequency or CHANNELS[region]) * 1_000_000),
        spreading_factor=spreading_factor,
    )
    _OUT.print(f"{made.path}: whoever has it decides who is in {name}. Keep a copy off this machine.")
    _OUT.print("`evy mesh enrol NODE` lets a node in")


@mesh.command()
@click.argument("node")
@click.option(
    "--address", type=click.IntRange(1, LAST_ADDRESS), help="Default: the first that was never used."
)
@click.option("--again", is_flag=True, help="New keys and a new address for a member; its former are void.")
@_keys
@_output
@click.pass_obj
def enrol(
    path: Path | None, node: str, address: int | None, keys: Path | None, output: Path | None, *, again: bool
) -> None:
    """At the operator's machine: let a node in, and write the file it joins with, and the roster.

    The node's file is the only copy of its private key: nobody else can read what is sent to it.
    """
    NodeConfig(name=node)  # refuses what is no name
    operator = Operator(_directory(load_config(path), keys))
    output = output or Path(f"{node}.mesh")
    if output.exists():
        raise ConfigError(f"{output} exists and is kept; move it away, or name another with --output")
    file = operator.enrol(node, address=address, again=again)
    write_secret(output, file.text(), replace=False)
    member = operator.network.member(node)
    assert member is not None  # noqa: S101  # it was just made
    _OUT.print(
        f"{output}: carry it to {node} (address {member.address}), run `evy mesh join {output.name}` there, "
        "then destroy it: it holds secrets"
    )
    if len(operator.network.members) > 1:
        _write_roster(operator, output.parent)


@mesh.command()
@click.argument("node")
@_keys
@_output
@click.pass_obj
def revoke(path: Path | None, node: str, keys: Path | None, output: Path | None) -> None:
    """At the operator's machine: take a node out, with a new network key for the others.

    Nodes that have the new roster do not hear those that have the former one: bring it to all, the farthest
    first.
    """
    operator = Operator(_directory(load_config(path), keys))
    operator.revoke(node)
    _write_roster(operator, output)


@mesh.command()
@_keys
@_output
@click.pass_obj
def renew(path: Path | None, keys: Path | None, output: Path | None) -> None:
    """At the operator's machine: give the mesh a new network key, because the former may be known."""
    operator = Operator(_directory(load_config(path), keys))
    operator.renew()
    _write_roster(operator, output)


@mesh.command()
@click.option("--spreading-factor", type=click.IntRange(7, 12), help="The next one.")
@click.option("--at", "at_text", metavar="TIME", help="From when on, with its zone: 2026-12-01T03:00Z.")
@click.option("--cancel", is_flag=True, help="Nothing is planned any more: what holds now stays.")
@_keys
@_output
@click.pass_obj
def plan(
    path: Path | None,
    spreading_factor: int | None,
    at_text: str | None,
    keys: Path | None,
    output: Path | None,
    *,
    cancel: bool,
) -> None:
    """At the operator's machine: another spreading factor for all nodes, from one time on.

    Each node with the new roster changes at that time by its clock, without a restart, and loses no message.
    One that has it not by then is alone: leave days for the roster to reach the farthest. A former plan is
    void in each node that has the new roster.
    """
    operator, now = Operator(_directory(load_config(path), keys)), time.time()
    if cancel:
        if spreading_factor or at_text:
            raise ConfigError("--cancel goes alone")
        operator.cancel(now)
        _OUT.print(
            f"SF{operator.network.spreading_factor} stays. A node that has the plan and not this roster "
            "changes all the same"
        )
    elif spreading_factor is None or at_text is None:
        raise ConfigError("--spreading-factor and --at belong together; or --cancel")
    else:
        operator.plan(spreading_factor, _unix(at_text), now)
        _OUT.print(f"SF{operator.network.spreading_factor} now{planned_text(operator.network)}")
    _write_roster(operator, output)


def _unix(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"--at {text}: write it like 2026-12-01T03:00Z ({error})") from error
    if at.tzinfo is None:
        raise ConfigError(f"--at {text}: of which zone? {text}Z is UTC, {text}+03:00 Nairobi")
    return round(at.timestamp())


@mesh.command()
@_keys
@_output
@click.pass_obj
def roster(path: Path | None, keys: Path | None, output: Path | None) -> None:
    """At the operator's machine: write the newest roster, for the nodes that are members already."""
    _write_roster(Operator(_directory(load_config(path), keys)), output)


@mesh.command(name="join")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Leave the mesh that this node belongs to.")
@click.pass_obj
def join_command(path: Path | None, file: Path, *, force: bool) -> None:
    """At a node: join with its own file, or bring its roster up to date. Run again, it changes nothing."""
    config = load_config(path)
    read = read_file(file)
    try:
        found = join_mesh(config.node.directory, config.node.name, read, force=force)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    _OUT.print(
        f"{found.node} is address {found.address} of {found.name}, with {len(found.members) - 1} other nodes"
    )
    if not config.tables.get("mesh", {}).get("device"):
        _OUT.print(
            f"Name the module in {config.path or 'evy.toml'}:\n"
            '  [mesh]\n  device = "/dev/ttyUSB0"        # better its name in /dev/serial/by-id'
        )
    if read.private_key:
        _OUT.print("Restart EVY if it runs (`sudo systemctl restart evy`), then `evy mesh status`")
    else:
        _OUT.print(
            f"roster {found.number}{planned_text(found.known)}; an EVY that runs takes it over within seconds"
        )
    if read.private_key:
        _OUT.print(f"{file} holds secrets: remove it now (shred -u {file})")


@mesh.command()
@_keys
@_json
@click.pass_obj
def show(path: Path | None, keys: Path | None, *, as_json: bool) -> None:
    """Who belongs to the mesh, as this node knows it, or with --keys as its operator does; no secret."""
    config = load_config(path)
    if keys:
        _show(Operator(keys).network, None, as_json=as_json)
    else:
        found = open_network(config.node.directory)
        _show(found.known, found, as_json=as_json)


def _show(network: Network, own: Installed | None, *, as_json: bool) -> None:
    told: dict[str, Any] = {
        "name": network.name,
        "network": network.network,
        "number": network.number,
        "region": network.region,
        "frequency_hz": network.frequency_hz,
        "spreading_factor": network.holds_at(time.time()),
        "planned": network.planned,
        "node": own.node if own else None,
        "address": own.address if own else None,
        "members": {member.address: member.name for member in network.members},
    }
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(told)).decode())
        return
    _OUT.print(
        f"{network.name}: network {network.network}, {network.region}, {network.frequency_hz / 1e6:.3f} MHz, "
        f"SF{network.holds_at(time.time())}{planned_text(network)}; roster {network.number}"
    )
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("address", "node", "public key, its begin"):
        table.add_column(column, no_wrap=True)
    for member in network.members:
        here = " (here)" if own and member.address == own.address else ""
        table.add_row(str(member.address), member.name + here, member.public_key.hex()[:16])
    _OUT.print(table if network.members else "no node yet: `evy mesh enrol NODE`")


def _directory(config: Config, keys: Path | None) -> Path:
    return keys or config.node.directory / "mesh-keys"


def _write_roster(operator: Operator, where: Path | None) -> None:
    """Writes NAME.roster into a directory, or to a file; a former one is replaced."""
    name = f"{operator.network.name}.roster"
    where = where or Path()
    file = where / name if where.is_dir() else where
    write_secret(file, operator.file.text(), replace=True)
    _OUT.print(
        f"{file}: for the nodes that are members already: `evy mesh join {file.name}` at each, or as "
        f"{OWN}/{ROSTER} at the centre, then `evy sync build` and `evy sync publish`; no secret in it"
    )
