"""A worker that is killed with -9 by what it handles: ``python -m tests.integration.dying_worker URL``."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from actors._runtime.actor import Actor, Output
from actors._runtime.bus import NatsBus
from actors._runtime.identity import Identity
from actors._runtime.worker import run_actors
from subjects import names
from subjects.messages import Query
from tests.conftest import NODE


async def _handle(_: Query) -> Sequence[Output]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


async def _main(url: str) -> None:
    bus = await NatsBus.connect(Identity(NODE, b"secret of the tests", "0000"), url, "dying")
    await run_actors(bus, [Actor("route", {names.ROUTE: _handle})], asyncio.Event())


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
