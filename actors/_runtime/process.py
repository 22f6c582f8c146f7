"""One process of actors: connect, provision, run, drain."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import uvloop

from actors._runtime.actor import Actor
from actors._runtime.bus import NatsBus
from actors._runtime.handling import end
from actors._runtime.health import answer_alive
from actors._runtime.identity import Identity
from actors._runtime.provision import Place, provision
from actors._runtime.reaper import Reaper
from actors._runtime.sources import Sources
from actors._runtime.worker import run_actors

log = logging.getLogger("evy.process")

Build = Callable[[NatsBus], Awaitable[Sequence[Actor]]]
"""Makes the actors of this process once the bus is there."""


def log_to_stderr(level: str = "INFO") -> None:
    """Logs for people on stderr: results, where there are any, go to stdout."""
    logging.basicConfig(
        stream=sys.stderr,
        level=os.environ.get("EVY_LOG", level).upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )


def run_until_signal(main: Callable[[asyncio.Event], Coroutine[Any, Any, int]]) -> int:
    """Runs ``main`` on uvloop with an event that SIGINT and SIGTERM set; gives its exit code."""

    async def guarded() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        return await main(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(guarded())


async def serve(  # noqa: PLR0917  # who, where, what, and until when
    identity: Identity, place: Place, url: str, names: Sequence[str], build: Build, stop: asyncio.Event
) -> int:
    """Runs the actors that ``build`` makes until ``stop``; 1 when the connection proved dead.

    Streams and durables are made on the way; where the server's differ from the registry, a warning says so.
    """
    bus = await NatsBus.connect(identity, url, "+".join(names))
    try:
        for line in await provision(bus.js, place, names):
            log.warning("drift: %s (`evy subjects --apply` mends it)", line)
        actors = await build(bus)
        log.info("%s ready", ", ".join(actor.name for actor in actors))
        await answer_alive(bus, "+".join(names))
        dead = asyncio.create_task(bus.watch_alive())
        dead.add_done_callback(lambda task: None if task.cancelled() else stop.set())
        beside = [
            asyncio.create_task(Reaper(bus, place).run()),
            asyncio.create_task(Sources(bus, place).run()),
        ]
        try:
            await run_actors(bus, actors, stop)
        finally:
            await end(beside)
        return 1 if dead.done() and not dead.cancelled() else 0
    finally:
        await bus.close()
