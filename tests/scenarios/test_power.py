"""The power goes at random moments: what JetStream acknowledged is there when it comes back.

A real nats-server keeps its store on a simulated card (`simulators.disk`) that forgets what was not synced.
Questions run through two durable hops into a bucket, by the runtime that the actors use. Then the server is
killed with -9, the card loses its power, with odd seeds tearing what was being written, and everything
starts again. Nothing acknowledged may be missing; what was delivered and not yet acknowledged comes again.

The same with nats-server's own default for ``sync_interval`` loses messages: that test shows that this one
can fail. ``EVY_CHAOS_CUTS`` and ``EVY_CHAOS_SEED`` choose length and seed (`make chaos CUTS=40 SEED=1`).
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import nats.errors
import nats.js.errors
import pytest

from actors._runtime.bus import NatsBus
from actors._runtime.identity import Identity
from actors._runtime.provision import provision
from actors._runtime.store_watch import set_aside_unreadable
from actors._runtime.supervisor import nats_configuration
from simulators.disk.client import MountedDisk, mounted, why_not
from simulators.disk.orders import Cut
from tests.conftest import NODE, PLACE, Server
from tests.scenarios.witness import Ledger, Life, check, die, drain

CUTS = int(os.environ.get("EVY_CHAOS_CUTS", "4"))
SEED = int(os.environ.get("EVY_CHAOS_SEED", "1"))
CUT_AFTER = (20, 120)
"""Questions acknowledged in a life before the power goes."""
CUT_WITHIN_S = 0.1
"""And up to so long after."""

pytestmark = [
    pytest.mark.nats,
    pytest.mark.timeout(60 + 15 * CUTS),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "a card can be mounted"),
]


KEYS = pytest.mark.parametrize("key", ["", "a store key of the tests, 32 long"], ids=["clear", "encrypted"])


def off(disk: MountedDisk, logs: Path, configuration: Path | None = None, key: str = "") -> Server:
    """A server with its store on the card, encrypted when there is a key; not running."""
    server = Server(disk.path / "nats", logs=logs, configuration=configuration, store_key=key)
    server.kill()
    return server


@asynccontextmanager
async def power_on(server: Server) -> AsyncIterator[NatsBus]:
    """The server runs and a connection to it, until the power goes."""
    set_aside_unreadable(server.store)  # as `evy up` does before each start
    server.start()
    bus = await NatsBus.connect(Identity(NODE, b"secret of the tests", "0000"), server.url, "test", wait_s=20)
    bus.client.options["allow_reconnect"] = False  # its process dies with the power
    try:
        yield bus
    finally:
        server.kill()
        with suppress(nats.errors.Error, OSError):
            await bus.client.close()


async def live(disk: MountedDisk, server: Server, cuts: int, seed: int) -> Ledger:
    """Lives of a node, each ended by a power cut, the last by none."""
    rng = random.Random(seed)
    ledger = Ledger()
    for number in range(cuts):
        async with power_on(server) as bus:
            if number:
                await check(bus, ledger)
                if ledger.lost or ledger.undone:
                    return ledger
            await provision(bus.js, PLACE)  # events are stored without waiting for the card
            life = Life(bus, ledger, number)
            before = asyncio.all_tasks()
            jobs = [asyncio.create_task(job) for job in life.jobs()]
            enough = len(ledger.stored) + rng.randint(*CUT_AFTER)
            while len(ledger.stored) < enough:
                await asyncio.sleep(0.01)
            await asyncio.sleep(rng.uniform(0, CUT_WITHIN_S))
            assert [job for job in jobs if job.done()] == []
            server.kill()
            life.stop.set()
            await die(asyncio.all_tasks() - before)
        disk.do(Cut(seed=rng.randrange(1000) if number % 2 else None))
    async with power_on(server) as bus:
        await check(bus, ledger)
        if cuts > 10 and not ledger.lost and not ledger.undone:
            await drain(bus, ledger)
    return ledger


@KEYS
async def test_nothing_acknowledged_is_lost_when_the_power_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    with mounted(tmp_path) as disk:
        server = off(disk, tmp_path, key=key)
        ledger = await live(disk, server, CUTS, SEED)
    with capsys.disabled():
        print(
            f"\n{CUTS} power cuts, seed {SEED}: {len(ledger.stored)} of {len(ledger.asked)} questions "
            f"acknowledged, {len(ledger.lost)} lost; {len(ledger.created)} entries created, "
            f"{len(ledger.consumed)} consumed, {len(ledger.deleted)} deleted, {len(ledger.undone)} undone"
        )
    assert ledger.consumed
    assert ledger.deleted
    assert ledger.lost == set()
    assert ledger.undone == set()
    assert set(ledger.created.values()) == {1}


@KEYS
async def test_what_was_provisioned_is_there_after_a_power_cut(tmp_path: Path, key: str) -> None:
    with mounted(tmp_path) as disk:
        server = off(disk, tmp_path, key=key)
        async with power_on(server) as bus:
            assert await provision(bus.js, PLACE) == []
            before = await found(bus)
        disk.do(Cut())
        async with power_on(server) as bus:
            # Events do not wait for the card, nor does their stream's description: it is made again. The
            # node's state is in memory.
            assert await found(bus) == before - {f"EVT_{NODE}", f"KV_node_{NODE}"}
            assert await provision(bus.js, PLACE) == []
            assert await found(bus) == before


async def found(bus: NatsBus) -> set[str]:
    """Names of streams and durables."""
    streams = await bus.js.streams_info()
    names = {stream.config.name or "" for stream in streams}
    for name in list(names):
        names |= {consumer.name for consumer in await bus.js.consumers_info(name)}
    return names


async def test_without_sync_interval_always_messages_are_lost(tmp_path: Path) -> None:
    """With nats-server's default; so it is the shipped configuration that keeps the promise."""
    weakened = 0
    for file in nats_configuration().parent.glob("*.conf"):
        text = file.read_text(encoding="utf-8")
        weakened += text.count("sync_interval: always")
        (tmp_path / file.name).write_text(text.replace("sync_interval: always", ""), encoding="utf-8")
    assert weakened
    weak = tmp_path / nats_configuration().name
    with mounted(tmp_path) as disk:
        server = off(disk, tmp_path, weak)
        ledger = await live(disk, server, 1, SEED)
    assert ledger.lost == ledger.stored != set()
    assert f"WORK_{NODE}" in ledger.undone
