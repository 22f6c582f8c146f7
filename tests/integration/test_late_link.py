"""A link that comes late, and what `evy link` says of it at either end."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors._runtime.bus import NatsBus
from actors._runtime.crossing import Crossing, look
from actors._runtime.provision import Place, provision
from actors._runtime.server_files import join
from simulators.link import Link
from tests.conftest import free_port
from tests.linked import Linked, Machine, holds, provide

pytestmark = pytest.mark.nats

ROOT = Path(__file__).resolve().parents[2]
EDGE = Place("e1", centre=True)
COUNT = 40


class World:
    """A centre, an edge, and a link between them that a test breaks."""

    def __init__(self, linked: Linked, link: Link, hub: NatsBus, edge: NatsBus) -> None:
        self.linked = linked
        self.link = link
        self.hub = hub
        self.edge = edge

    async def crossings(self) -> tuple[Crossing, Crossing]:
        """As the edge and as the centre see it."""
        [here] = await look(self.edge, EDGE)
        [there] = await look(self.hub, self.linked.place)
        return here, there

    async def until(self, verdict: str, within_s: float) -> None:
        """Waits until every source is of this kind."""
        async with asyncio.timeout(within_s):
            while {taking.verdict for found in await self.crossings() for taking in found.taking} != {
                verdict
            }:
                await asyncio.sleep(0.2)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Both servers run and have their streams; the link is cut before it ever stood."""
    linked = Linked(tmp_path, edges=())
    async with AsyncExitStack() as stack:
        leaf = linked.authority.state.servers[0].leaf_port
        link = await stack.enter_async_context(Link(("127.0.0.1", 0), ("127.0.0.1", leaf)))
        link.suffer("cut")
        bundle = linked.authority.enrol("e1")
        assert bundle.edge is not None
        detour = msgspec.structs.replace(bundle.edge, urls=(f"tls://127.0.0.1:{link.address[1]}",))
        port = free_port()
        bundle = msgspec.structs.replace(bundle, edge=detour)
        linked.edges["e1"] = Machine(join(tmp_path / "e1" / "server", bundle, port=port), port)
        for machine in linked.machines:
            stack.callback(machine.stop)
            machine.start()
        hub = await linked.connect_hub()
        stack.push_async_callback(hub.close)
        await provision(hub.js, linked.place)
        edge = await linked.connect_edge("e1")
        stack.push_async_callback(edge.close)
        await provide(hub, linked.place, edge, "e1")
        yield World(linked, link, hub, edge)


async def evy_link(world: World, node: str, port: int) -> tuple[int, dict[str, Any]]:
    config = world.linked.directory / f"{node}.toml"
    profile, scheme = ("lilevy", "nats") if node == "e1" else ("bigevy", "tls")
    config.write_text(
        f'[node]\nname = "{node if node == "e1" else "hub"}"\nprofile = "{profile}"\n'
        f'data_dir = "{world.linked.directory / node}"\nnats_url = "{scheme}://127.0.0.1:{port}"\n'
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "actors", "--config", str(config), "link", "--json"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    report: dict[str, Any] = json.loads(out)
    return process.returncode, report


async def test_a_link_that_comes_late_is_used_at_once_and_nothing_is_lost(world: World) -> None:
    here, there = await world.crossings()
    assert (here.up, here.reason) == (False, "no connection to the centre")
    assert (there.up, there.reason, there.leaving) == (False, "not heard since the centre's start", None)
    for number in range(COUNT):
        ids = {"Nats-Msg-Id": f"{number}"}
        await world.edge.js.publish("infer.large.routine", b"up", headers=ids)
        await world.hub.js.publish("down.e1.compress.priority", b"down", headers=ids)
    world.link.heal()
    await world.until("ok", within_s=25)  # with consumers of the server's own making it took 35 to 45 s
    for bus, stream, count in (
        (world.hub, "IN_e1", COUNT),
        (world.edge, "WORK_e1", COUNT),
        (world.edge, "UP_e1", 0),
        (world.hub, "DOWN_e1", 0),
    ):
        await holds(bus, stream, count)


async def test_evy_link_at_either_end(world: World) -> None:
    edge_port = world.linked.edges["e1"].port
    hub_port = world.linked.hubs["hub1"].port
    await world.edge.js.publish("infer.large.flash", b"up")
    code, report = await evy_link(world, "e1", edge_port)
    assert code == 1
    assert report["links"][0]["leaving"]["lanes"]["flash"] == 1
    assert "nothing is lost" in report["troubles"][0][1]
    code, report = await evy_link(world, "hub1", hub_port)
    assert code == 1
    assert report["links"][0]["up"] is False

    world.link.heal()
    await world.until("ok", within_s=25)
    code, report = await evy_link(world, "e1", edge_port)
    assert (code, report["troubles"]) == (0, [])
    code, report = await evy_link(world, "hub1", hub_port)
    [link] = report["links"]
    assert (code, link["up"], link["arrived"]["lanes"]["flash"]) == (1, True, 1)
    assert link["reason"].startswith("heard ")
    assert "nobody works on them" in report["troubles"][0][0]
