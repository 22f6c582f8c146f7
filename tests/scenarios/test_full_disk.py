"""The card is full, or fails: nothing acknowledged is lost, and the node works again without a person.

A real nats-server under its supervisor, its store on a simulated card (`simulators.disk`). What the server
itself does then, and why its supervisor must look, is told in `actors/_runtime/store_watch.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from actors._runtime import bus as bus_module
from actors._runtime import handling, store_watch
from actors._runtime.bus import NatsBus
from actors._runtime.identity import Identity
from actors._runtime.provision import provision
from actors._runtime.store_watch import ROOM_OCTETS, cannot_write, write_error
from actors._runtime.supervisor import Child, any_free_port, nats_configuration, nats_environment
from actors._runtime.supervisor import nats_server_path as nats_server
from simulators.disk.client import MountedDisk, mounted, why_not
from simulators.disk.orders import Fail, Look, Room
from tests.conftest import NODE, PLACE, free_port
from tests.scenarios.witness import Ledger, Life, check

pytestmark = [
    pytest.mark.nats,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "a card can be mounted"),
]

IDENTITY = Identity(NODE, b"secret of the tests", "0000")


@dataclass
class Node:
    disk: MountedDisk
    server: Child
    monitor_port: int
    ledger: Ledger
    bus: NatsBus


async def true(condition: Callable[[], bool], within_s: float = 30) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def node(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    """A supervised server on a card, and work that runs through it."""
    monkeypatch.setattr(store_watch, "CHECK_EVERY_S", 0.2)
    monkeypatch.setattr(bus_module, "PUBLISH_TIMEOUT_S", 1.0)
    monkeypatch.setattr(handling, "ACK_TIMEOUT_S", 1.0)
    monkeypatch.setattr(handling, "DRAIN_S", 1.0)
    with mounted(directory) as disk:
        store, port, monitor_port = disk.path / "nats", free_port(), any_free_port()
        store.mkdir()
        server = Child(
            "nats-server",
            [nats_server(), "-c", str(nats_configuration())],
            nats_environment(NODE, port, store, monitor_port),
            directory / "nats-server.log",
            watch=partial(cannot_write, monitor_port, store),
        )
        stop = asyncio.Event()
        keeper = asyncio.create_task(server.keep(stop))
        bus = await NatsBus.connect(IDENTITY, f"nats://127.0.0.1:{port}", "test", wait_s=20)
        try:
            assert await provision(bus.js, PLACE) == []
            ledger = Ledger()
            life = Life(bus, ledger, 0)
            jobs = [asyncio.create_task(job) for job in life.jobs()]
            await true(lambda: len(ledger.stored) > 30)
            yield Node(disk, server, monitor_port, ledger, bus)
            life.stop.set()
            await asyncio.gather(*jobs)
            await check(bus, ledger)
        finally:
            await bus.close()
            stop.set()
            await server.end()
            await keeper


def undone(ledger: Ledger) -> set[str]:
    """What was acknowledged and is not so, except for consumed messages. While a stream cannot write, the
    server confirms acknowledgements and fails to remove the message: it may come again, or stay for good
    without being delivered. Neither loses one nor answers twice."""
    return {entry for entry in ledger.undone if not entry.startswith("consumed ")}


async def test_a_full_card_holds_the_node_up_only_while_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with node(tmp_path, monkeypatch) as running:
        ledger, server = running.ledger, running.server
        running.disk.do(Room(octets=100_000))
        await true(lambda: bool(ledger.refused))
        assert running.disk.do(Look()).free_octets < 100_000
        assert all("the server did not answer" in reason for reason in ledger.refused)
        assert "no space left on device" in await write_error(running.monitor_port)
        await true(lambda: "nothing is stored until" in caplog.text)

        # Some room is not enough: it would be full again at once.
        running.disk.do(Room(octets=ROOM_OCTETS // 4))
        told = caplog.text.count("nothing is stored until")
        reached = len(ledger.stored)
        await asyncio.sleep(1)
        assert (server.restarts, told) == (0, 1)

        running.disk.do(Room())
        await true(lambda: server.restarts == 1)
        await true(lambda: len(ledger.stored) > reached + 30)
        assert await write_error(running.monitor_port) == ""
    assert server.restarts == 1
    assert ledger.lost == set()
    assert undone(ledger) == set()
    assert set(ledger.created.values()) == {1}


async def test_a_server_that_starts_on_a_full_card_works_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(tmp_path, monkeypatch) as running:
        ledger, server = running.ledger, running.server
        running.disk.do(Room(octets=0))
        await true(lambda: bool(ledger.refused))
        assert server.process
        server.process.kill()
        await true(lambda: server.restarts == 1)
        refused = ledger.refused.total()
        await true(lambda: ledger.refused.total() > refused)
        reached = len(ledger.stored)
        running.disk.do(Room())
        await true(lambda: len(ledger.stored) > reached + 30)
    assert ledger.lost == set()
    assert undone(ledger) == set()


async def test_a_write_that_failed_is_made_good_by_a_fresh_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed fsync nobody knows what is on the card but the card: the server must read it again."""
    async with node(tmp_path, monkeypatch) as running:
        reached = len(running.ledger.stored)
        running.disk.do(Fail(syncs=1))
        await true(lambda: running.server.restarts == 1)
        await true(lambda: len(running.ledger.stored) > reached + 30)
    assert running.ledger.lost == set()
    assert undone(running.ledger) == set()
