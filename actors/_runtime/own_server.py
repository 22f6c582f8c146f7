"""A nats-server for the moment, on the store of a node that is not running: to back it up or to fill it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from actors._runtime.bus import NatsBus
from actors._runtime.identity import Identity
from actors._runtime.server_files import STORE_KEY
from actors._runtime.store_watch import set_aside_unreadable
from actors._runtime.supervisor import (
    any_free_port,
    nats_configuration,
    nats_environment,
    nats_server_path,
)

STARTS_WITHIN_S = 120.0
"""A Pi reads a store of some gigabytes anew after a crash."""


def _ready(store: Path) -> None:
    store.mkdir(parents=True, exist_ok=True)
    set_aside_unreadable(store)


@contextlib.asynccontextmanager
async def own_server(node: str, store: Path, store_key: str, log: Path) -> AsyncIterator[NatsBus]:
    """Runs a server without a link on a store, on a port that nobody knows, and stops it cleanly.

    Raises `BusError` when it does not come up.
    """
    await asyncio.to_thread(_ready, store)
    port = any_free_port()
    environment = {**os.environ, **nats_environment(node, port, store), STORE_KEY: f'"{store_key}"'}
    process = await asyncio.create_subprocess_exec(
        nats_server_path(), "-c", str(nats_configuration()), "-l", str(log), env=environment
    )
    try:
        identity = Identity(node, b"", "")
        bus = await NatsBus.connect(identity, f"nats://127.0.0.1:{port}", "backup", wait_s=STARTS_WITHIN_S)
        try:
            yield bus
        finally:
            await bus.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 60)
        except TimeoutError:
            process.kill()
            await process.wait()
