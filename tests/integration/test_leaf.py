"""The link between edges and a centre, on the shipped files as `evy nats` fills them."""

from pathlib import Path

import pytest

from actors._runtime.link import NatsLink
from actors._runtime.provision import Place
from subjects import names
from tests.linked import Linked, holds, running

pytestmark = pytest.mark.nats


@pytest.mark.parametrize("servers", [1, 3])
async def test_messages_cross_in_both_directions_and_leave_nothing_behind(
    tmp_path: Path, servers: int
) -> None:
    async with running(Linked(tmp_path, servers=servers)) as (hub, edges):
        for edge, bus in edges.items():
            for lane in names.LANES:
                await bus.js.publish(f"infer.large.{lane}", edge.encode())
                await hub.js.publish(f"down.{edge}.compress.{lane}", b"for " + edge.encode())
        for edge, bus in edges.items():
            await holds(hub, f"IN_{edge}", 3)
            await holds(bus, f"WORK_{edge}", 2)
            await holds(bus, f"FLASH_{edge}", 1)
            await holds(bus, f"UP_{edge}", 0)
            await holds(hub, f"DOWN_{edge}", 0)
            up = await hub.js.get_msg(f"IN_{edge}", 1)
            down = await bus.js.get_last_msg(f"WORK_{edge}", "compress.routine")
            assert (up.subject, up.data) == (f"infer.large.{edge}.flash", edge.encode())
            assert down.data == b"for " + edge.encode()
            state = await NatsLink(bus, Place(edge, centre=True)).look()
            assert (state.up, state.waiting, state.coming) == (True, 0, 0)
