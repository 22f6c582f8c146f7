"""How the mesh does at this node: `evy mesh status`, and its rows in `evy doctor`."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from actors._cli.link import age
from actors._cli.modem_check import Finding
from actors._roster.installed import Installed, NotJoinedError, is_joined, open_network
from actors._roster.network import Network, shown_at
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.config import Config, load_config
from actors._runtime.identity import load_identity
from actors._runtime.services import NobodyAnswersError, ask
from actors.mesh.config import MeshConfig
from subjects.errors import ConfigError
from subjects.mesh import MeshNeighbourSeen, MeshRouteSeen, MeshStatus, MeshStatusRequest, MeshTexts

NEARLY_USED: Final = 0.8
"""Share of the lawful airtime from which a person is told."""
SILENT_S: Final = 3600.0
"""A neighbour is heard every few minutes while it works."""
CONNECT_WITHIN_S: Final = 3.0


def troubles(status: MeshStatus) -> Iterator[tuple[str, str]]:
    """What is wrong, each with its mend."""
    if status.radio == "none":
        yield "no radio", 'name the module in evy.toml: [mesh] device = "/dev/ttyUSB0"; then restart EVY'
        return
    if status.radio == "down":
        yield f"the radio is down: {status.reason}", "power, cable, antenna; `evy hw check` asks the module"
    if status.airtime_limit_ms and status.airtime_used_ms >= NEARLY_USED * status.airtime_limit_ms:
        yield (
            f"{_airtime(status)} is used up; what is not urgent waits",
            "it comes back as time passes; if it is so every day, a smaller spreading factor or fewer nodes",
        )
    for neighbour in status.neighbours:
        if not neighbour.name:
            yield (
                f"address {neighbour.address} is heard, and the roster here lacks it",
                "bring the newest roster: `evy mesh roster` at the operator's machine, `evy mesh join` here",
            )
    if status.texts and status.texts.by_stick:
        size = f" ({status.texts.of} octets)" if status.texts.of else ""
        where = _who(status.texts.name, status.texts.peer)
        yield (
            f"newer texts, version {status.texts.newer}, exist at {where} and cannot come by radio{size}",
            "bring them by stick: `evy sync export FILE` at the centre, `evy sync apply FILE` here",
        )
    if status.agreed_spreading_factor not in {0, status.spreading_factor} and not status.looking:
        yield (
            f"SF{status.agreed_spreading_factor} is agreed, and SF{status.spreading_factor} is in use here",
            "has each of them the newest roster (`evy mesh show` there), and the time (`date`)?",
        )
    if not status.neighbours:
        yield (
            "no neighbour was heard yet",
            "antenna and place; has another node the same file (`evy mesh show`)?",
        )
    elif all(neighbour.heard_s_ago > SILENT_S for neighbour in status.neighbours):
        silent_s = min(neighbour.heard_s_ago for neighbour in status.neighbours)
        yield (
            f"no neighbour was heard for {age(silent_s)}",
            "antenna and cable here, power there; were the others given a newer roster?",
        )


def check_mesh(config: Config) -> Iterator[Finding]:
    """The radio's device, the node's place in its mesh, and how it does when the node runs."""
    table = config.section("mesh", MeshConfig)
    joined = is_joined(config.node.directory)
    if not table.device and not joined:
        yield Finding("mesh", "skip", "no radio named ([mesh] device), and this node belongs to no mesh")
        return
    try:
        found = open_network(config.node.directory)
    except NotJoinedError as error:
        yield Finding("mesh", "fail", f"{table.device} is named, and it has no use yet", str(error))
        return
    except ConfigError as error:
        yield Finding(
            "mesh", "fail", str(error), "bring this node's file or the roster again: `evy mesh join`"
        )
        return
    others = len(found.members) - 1
    yield Finding(
        "mesh",
        "ok" if others else "warn",
        f"{found.name}: address {found.address} of {others + 1}, {_channel(found)}{plan(found.known)}",
        "enrol another node: `evy mesh enrol NODE` at the operator's machine",
    )
    yield from check_device(table.device)
    if table.device:
        yield from asyncio.run(_check_status(config, found))


def check_device(device: str) -> Iterator[Finding]:
    """Whether there is such a line, and this user may open it."""
    if not device:
        mend = '[mesh] device = "/dev/ttyUSB0" in evy.toml, then restart EVY'
        yield Finding("radio", "warn", "no module named", mend)
    elif not Path(device).exists():
        yield Finding("radio", "fail", f"{device} does not exist", "plug it in; `ls /dev/serial/by-id`")
    elif not os.access(device, os.R_OK | os.W_OK):
        mend = "`sudo usermod -aG dialout evy`, then restart EVY; you: `sudo -u evy evy doctor`"
        yield Finding("radio", "fail", f"{device} cannot be opened by this user", mend)


async def _check_status(config: Config, found: Installed) -> list[Finding]:
    try:
        status = await _ask(config)
    except BusError as error:
        return [Finding("radio", "warn", str(error), "start the node: `evy up`")]
    wrong = [Finding("radio", "warn", what, mend) for what, mend in troubles(status)]
    if status.radio == "up" and status.number < found.number:
        wrong.append(
            Finding(
                "mesh", "warn", f"roster {status.number} is in use, {found.number} is here", "restart EVY"
            )
        )
    heard = f"{status.name}, neighbours heard: {len(status.neighbours)}, airtime {_airtime(status)}"
    return wrong or [Finding("radio", "ok", heard)]


async def _ask(config: Config) -> MeshStatus:
    identity = load_identity(config.node.name, config.node.directory)
    bus = await NatsBus.connect(identity, config.node.url, "mesh", wait_s=CONNECT_WITHIN_S)
    try:
        status: MeshStatus = await ask(bus, "mesh.status", MeshStatusRequest())
    finally:
        await bus.close()
    return status


@click.command()
@click.option("--json", "as_json", is_flag=True, help="All of it, counters too, for a program.")
@click.pass_obj
def status(path: Path | None, *, as_json: bool) -> None:
    """How the mesh does here: neighbours, routes, gateways, airtime of what the law allows, what waits.

    \b
    heard     of ten frames that were for us, how many came; `hears us` the other way round
    hops      frames until it is there; link: it has a line to a centre; modem: it can send SMS
    waits     own messages whose end is not known yet: delivered, expired or refused

    Exit 1 when something is wrong; below the tables stands what, and how to mend it.
    """  # noqa: D301  # \b is click's mark against re-wrapping
    config = load_config(path)
    try:
        found = asyncio.run(_ask(config))
    except NobodyAnswersError as error:
        raise ConfigError(str(error)) from error
    wrong = list(troubles(found))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        console = Console(
            highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 110
        )
        console.print(Group(*_shown(found)))
        for what, mend in wrong:
            console.print(Text(f"! {what}", style="bold red"))
            console.print(f"  -> {mend}")
    sys.exit(int(bool(wrong)))


def _shown(status: MeshStatus) -> Iterator[RenderableType]:
    if status.radio == "none":
        return
    own = _has(status)
    yield Text(
        f"address {status.address} of network {status.network}, {_channel(status)}, roster {status.number}; "
        f"this node has {' and '.join(own) or 'no link, modem or model'}"
        + ("; battery low: flash only" if status.flash_only else "")
    )
    if status.planned_at:
        looking = "; it listens for others with the other one now" if status.looking else ""
        yield Text(_planned(status.planned_spreading_factor, status.planned_at) + looking)
    yield Text(f"radio {status.radio}: {status.name}{status.reason and ', '}{status.reason}")
    for sentence in status.cannot_know:
        yield Text(f"  {sentence}", style="dim")
    yield Text(f"airtime {_airtime(status)}" + _waits(status))
    waiting = ", ".join(f"{lane} {count}" for lane, count in status.waiting.items() if count)
    yield Text(f"waits   {waiting or 'nothing'}")
    if status.texts:
        yield Text(f"texts   {_texts(status.texts)}")
    if status.neighbours:
        yield _neighbours(status.neighbours)
    if status.routes:
        yield _routes(status)


def _texts(texts: MeshTexts) -> str:
    here = f"version {texts.version}" if texts.version else "only what was shipped"
    if not texts.newer:
        return here
    there = f"{here}; version {texts.newer} is at {_who(texts.name, texts.peer)}"
    if texts.by_stick:
        return f"{there}, and cannot come by radio"
    come = f", {texts.octets} of {texts.of} octets came" if texts.of else ""
    return f"{there}{come}{texts.reason and ', waits: '}{texts.reason}"


def _neighbours(neighbours: tuple[MeshNeighbourSeen, ...]) -> Table:
    table = _table("neighbour", "signal", "above noise", "heard", "hears us", "last heard")
    for seen in neighbours:
        table.add_row(
            _who(seen.name, seen.address),
            f"{seen.rssi_dbm:.0f} dBm",
            f"{seen.snr_db:.1f} dB",
            f"{seen.delivery_in:.0%}",
            f"{seen.delivery_out:.0%}",
            f"{age(seen.heard_s_ago)} ago",
        )
    return table


def _routes(status: MeshStatus) -> Table:
    names = {route.destination: route.name for route in status.routes}
    table = _table("node", "hops", "by", "has", "battery")
    for route in sorted(status.routes, key=_gateways_first):
        table.add_row(
            _who(route.name, route.destination),
            str(route.hops),
            _who(names.get(route.next_hop, ""), route.next_hop),
            ", ".join(_has(route)) or "-",
            "?" if route.battery_percent is None else f"{route.battery_percent} %",
        )
    return table


def _has(node: MeshStatus | MeshRouteSeen) -> list[str]:
    has = (("link", node.uplink), ("modem", node.modem), ("model", node.model))
    return [text for text, there in has if there]


def _gateways_first(route: MeshRouteSeen) -> tuple[bool, bool, bool, int, int]:
    return (not route.uplink, not route.modem, not route.model, route.hops, route.destination)


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _who(name: str, address: int) -> str:
    return f"{name} ({address})" if name else f"address {address}"


def _channel(of: MeshStatus | Installed) -> str:
    holds = of.known.holds_at(time.time()) if isinstance(of, Installed) else of.spreading_factor
    return f"{of.region}, {of.frequency_hz / 1e6:.3f} MHz, SF{holds}"


def plan(network: Network) -> str:
    """The change that a network's file has, to come or past; empty: none."""
    planned = network.planned
    return f"; {_planned(planned.spreading_factor, planned.at)}" if planned else ""


def _planned(spreading_factor: int, at: float) -> str:
    left_s = at - time.time()
    if left_s <= 0:
        return f"SF{spreading_factor} since {shown_at(at)}, as planned"
    return f"SF{spreading_factor} from {shown_at(at)}, in {age(left_s)}"


def _airtime(status: MeshStatus) -> str:
    """Airtime as people say it: "12.3 of 360 s in 60 min"; a region without a limit has none."""
    used = f"{status.airtime_used_ms / 1000:.1f}"
    if not status.airtime_limit_ms:
        return f"{used} s, no limit by law"
    return f"{used} of {status.airtime_limit_ms / 1000:.0f} s in {status.airtime_window_s / 60:.0f} min"


def _waits(status: MeshStatus) -> str:
    held = ", ".join(f"{lane} {age(seconds)}" for lane, seconds in status.waits_s.items() if seconds > 0)
    return f"; until it is lawful: {held}" if held else ""
