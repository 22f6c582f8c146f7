"""A server that was killed before it wrote down how far the other end of the link had taken its messages."""

import asyncio
import shutil
from pathlib import Path

import pytest
from nats.errors import Error as NatsError

from actors._runtime.bus import NatsBus
from actors._runtime.provision import Place
from actors._runtime.sources import Sources
from actors._runtime.store_watch import make_ready
from tests.linked import Linked, holds, running

pytestmark = [pytest.mark.nats, pytest.mark.timeout(400)]

OWN = Place("e1", centre=True)
STATE = "jetstream/$G/streams/UP_e1/obs/IN_e1/o.dat"


async def ask(edge: NatsBus, *names: str) -> None:
    for name in names:
        async with asyncio.timeout(30):
            while True:
                try:
                    await edge.js.publish("infer.large.routine", name.encode(), headers={"Nats-Msg-Id": name})
                    break
                except NatsError:
                    await asyncio.sleep(0.01)


async def arrived(hub: NatsBus) -> list[str]:
    state = (await hub.js.stream_info("IN_e1")).state
    found = [await hub.js.get_msg("IN_e1", count) for count in range(state.first_seq, state.last_seq + 1)]
    return [(message.data or b"").decode() for message in found]


async def until_written(durable: Path) -> bytes:
    """What is in the durable's file once nothing changes it any more."""
    octets, same = b"", 0
    async with asyncio.timeout(30):
        while same < 10:
            await asyncio.sleep(0.1)
            now = await asyncio.to_thread(durable.read_bytes)
            octets, same = now, same + 1 if now == octets else 0
    return octets


async def test_what_comes_after_such_a_kill_is_not_lost(tmp_path: Path) -> None:
    """The old file is put back by hand, as if the card had been full. When this passes without `make_ready`,
    and the messages come within a second, `forget_stale_takers` may go."""
    before, after = ["b1", "b2", "b3", "b4", "b5"], ["c1", "c2", "c3", "c4", "c5", "c6"]
    linked = Linked(tmp_path, edges=("e1",))
    async with running(linked) as (hub, edges):
        bus, machine = edges["e1"], linked.edges["e1"]
        store = tmp_path / "e1" / "nats"
        await ask(bus, "a1")
        await holds(hub, "IN_e1", 1)
        await holds(bus, "UP_e1", 0)
        durable = store / STATE
        await until_written(durable)
        shutil.copy2(durable, tmp_path / "old")
        await ask(bus, *before)
        await holds(hub, "IN_e1", 6)
        await holds(bus, "UP_e1", 0)
        await until_written(durable)
        machine.kill()
        shutil.copy2(tmp_path / "old", durable)
        async with asyncio.timeout(30):
            while bus.client.is_connected:
                await asyncio.sleep(0.005)
        make_ready(store)
        machine.start()
        async with asyncio.timeout(60):
            while not bus.client.is_connected:
                await asyncio.sleep(0.005)
        guard = asyncio.create_task(Sources(bus, OWN, every_s=1.0).run())
        await ask(bus, *after)
        await holds(bus, "UP_e1", 0, within_s=180)
        guard.cancel()
        assert await arrived(hub) == ["a1", *before, *after]


async def test_a_durable_that_was_written_in_time_stays(tmp_path: Path) -> None:
    linked = Linked(tmp_path, edges=("e1",))
    async with running(linked) as (hub, edges):
        await ask(edges["e1"], "a1", "a2")
        await holds(hub, "IN_e1", 2)
        await holds(edges["e1"], "UP_e1", 0)
        linked.edges["e1"].stop()
        store = tmp_path / "e1" / "nats"
        make_ready(store)
        assert (store / STATE).exists()


def test_a_card_that_cannot_remove_it_does_not_keep_the_node_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    durable = tmp_path / STATE
    durable.parent.mkdir(parents=True)

    def fails(_: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shutil, "rmtree", fails)
    make_ready(tmp_path)
    assert durable.parent.exists()
    assert "Input/output error" in caplog.text
