"""`evy up` and `evy run`."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import click

from actors._bundles.renew import until_renewed
from actors._runtime.actor import Actor
from actors._runtime.bus import NatsBus
from actors._runtime.config import Config, load_config
from actors._runtime.context import ACTORS, TABLES, BusContext, build_actors
from actors._runtime.health import Guard
from actors._runtime.http import serve_pages
from actors._runtime.identity import Identity, load_identity
from actors._runtime.notify import Notify
from actors._runtime.process import log_to_stderr, run_until_signal, serve
from actors._runtime.provision import Place
from actors._runtime.server_files import STORE_KEY, Settings, fill, settings
from actors._runtime.store_watch import cannot_write, make_ready
from actors._runtime.supervisor import (
    Child,
    DirectoryLock,
    any_free_port,
    nats_configuration,
    nats_environment,
    nats_server_path,
    port_is_free,
    supervise,
)
from actors.node.gauge import PowerConfig
from subjects.errors import ConfigError

log = logging.getLogger("evy.up")

SWITCH_OFF_WITHIN_S: Final = 60.0


def server_child(config: Config) -> Child | None:
    """The node's own nats-server; None when ``nats_url`` names one that runs already."""
    node = config.node
    if node.nats_url:
        return None
    if not port_is_free(node.nats_port):
        raise ConfigError(
            f"port {node.nats_port} is taken: set another [node] nats_port, "
            f'or nats_url = "nats://127.0.0.1:{node.nats_port}" to use the server that is there'
        )
    store = node.directory / "nats"
    store.mkdir(parents=True, exist_ok=True)
    monitor_port = node.nats_port + 4000
    installed = settings(node.server_directory)
    if installed:
        store = Path(installed.store)
    if not port_is_free(monitor_port):
        taken, monitor_port = monitor_port, any_free_port()
        log.warning("port %d is taken: the server's monitoring takes %d", taken, monitor_port)
    if installed:
        _check(installed, config)
        configuration = fill(node.server_directory, monitor_port)
        environment = {STORE_KEY: installed.store_key()}
    elif node.profile == "bigevy":
        raise ConfigError("this centre has no keys yet: run `evy nats init --profile bigevy --hosts …`")
    else:
        configuration = nats_configuration(node.profile)
        environment = nats_environment(node.name, node.nats_port, store, monitor_port)
    log_file = node.directory / "nats-server.log"
    command = [nats_server_path(), "-c", str(configuration), "-l", str(log_file)]
    return Child(
        "nats-server",
        command,
        environment,
        watch=partial(cannot_write, monitor_port, store),
        prepare=partial(make_ready, store, alone=node.replicas == 1),
    )


def _check(installed: Settings, config: Config) -> None:
    """Raises :class:`ConfigError` where `evy.toml` and what `evy nats` installed differ."""
    node, bundle = config.node, installed.bundle
    pairs: list[tuple[str, object, object]] = [
        ("profile", node.profile, bundle.profile),
        ("nats_port", node.nats_port, installed.port),
    ]
    if not bundle.hub:
        pairs.append(("name", node.name, bundle.node))
    for key, said, there in pairs:
        if said != there:
            raise ConfigError(
                f"{config.path or 'evy.toml'} says [node] {key} = {said!r}, but {node.server_directory} was "
                f"made for {there!r}: set it to that, or run `evy nats init` or `join` again"
            )


def actor_children(config: Config, path: Path | None, guard: Guard | None = None) -> list[Child]:
    """One child per group of ``[node] processes``, started again when the guard finds it hung."""
    options = ["--config", str(path or config.path)] if path or config.path else []
    children = []
    for group in config.node.processes:
        name = "+".join(group)
        command = [sys.executable, "-m", "actors", *options, "run", *group]
        children.append(Child(name, command, {}, watch=guard.hung(name) if guard else None))
    return children


def guard_of(config: Config, identity: Identity) -> Guard:
    """Who looks after this node while it is up."""
    power = config.section("power", PowerConfig)
    return Guard(
        identity,
        config.node.url,
        config.node.directory,
        ["+".join(group) for group in config.node.processes],
        Notify.of_environment(),
        has_modem=any("sms" in group for group in config.node.processes),
        shutdown_below=power.shutdown_below,
        up_at_least_s=power.shutdown_after_s,
    )


async def guarded_up(config: Config, path: Path | None, guard: Guard, stop: asyncio.Event) -> None:
    """Runs server and actors under the eyes of ``guard`` until ``stop``."""
    server = server_child(config)
    port = config.node.health_port or config.node.nats_port + 4001
    port = port if port_is_free(port) else any_free_port()
    async with serve_pages(port, {"/healthz": guard.page}) as taken:
        log.info(
            "node %s, data in %s, bus %s, http://127.0.0.1:%d/healthz",
            config.node.name,
            config.node.directory,
            config.node.url,
            taken,
        )
        watching = asyncio.create_task(guard.watch(stop))
        # Without its guard a node would go on unseen: systemd starts it again.
        watching.add_done_callback(lambda _: stop.set())
        await supervise(server, actor_children(config, path, guard), stop)
        await watching


@click.command()
@click.option("--check", is_flag=True, help="Only read the configuration, and start nothing.")
@click.pass_obj
def up(path: Path | None, *, check: bool) -> None:
    """Start this node: nats-server, then the actors. What dies is started again; Ctrl-C stops all.

    Uses the server at [node] nats_url instead of its own when that is set.
    """
    log_to_stderr()
    config = load_config(path)
    if check:
        config.check_sections(TABLES)
        nats_server_path()
        return
    lock = DirectoryLock(config.node.directory)
    identity = load_identity(config.node.name, config.node.directory)
    config.check_sections(TABLES)
    guard = guard_of(config, identity)

    async def main(stop: asyncio.Event) -> int:
        await guarded_up(config, path, guard, stop)
        return 0

    code = run_until_signal(main)
    lock.release()
    log.info("stopped")
    if guard.shutdown_reason:
        code = switch_off(config.section("power", PowerConfig).shutdown_command)
    sys.exit(code)


def switch_off(command: Sequence[str]) -> int:
    """Runs the command that switches the machine off, after everything has stopped; gives its exit code."""
    log.warning("running %s", " ".join(command))
    try:
        return subprocess.run(command, check=False, timeout=SWITCH_OFF_WITHIN_S).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        log.error("[power] shutdown_command: %s", error)  # one line says it
        return 1


@click.command()
@click.argument("actors", nargs=-1, required=True, metavar="ACTOR...")
@click.pass_obj
def run(path: Path | None, actors: tuple[str, ...]) -> None:
    """Run some actors in this process, on the server at [node] nats_url or nats_port.

    \b
    Actors: sms intake route rag infer_small compress alert link node
    Example: evy run intake route rag compress
    """  # noqa: D301  # \b is click's mark against re-wrapping
    log_to_stderr()
    config = load_config(path)
    unknown = [name for name in actors if name not in ACTORS]
    if unknown:
        raise click.BadParameter(f"no actor {', '.join(unknown)}; there are {', '.join(ACTORS)}")
    identity = load_identity(config.node.name, config.node.directory)
    place = Place.of(config.node)

    async def build(bus: NatsBus) -> Sequence[Actor]:
        return await build_actors(actors, BusContext(config, bus))

    async def main(stop: asyncio.Event) -> int:
        renewed = asyncio.create_task(until_renewed(config.node.directory, actors))
        renewed.add_done_callback(lambda task: None if task.cancelled() else stop.set())
        try:
            return await serve(identity, place, config.node.url, actors, build, stop)
        finally:
            renewed.cancel()

    sys.exit(run_until_signal(main))
