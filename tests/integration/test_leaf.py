"""The link between edges and a centre, on the shipped files as `evy nats` fills them."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import nats.errors
import pytest

from actors._runtime.bus import NatsBus
from actors._runtime.link import NatsLink
from actors._runtime.provision import FIRST_SEQUENCE, Place, provide_takers, provision, provision_edge
from subjects import names
from tests.conftest import NODE
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


async def test_each_end_takes_by_a_durable_that_only_the_other_end_can_make(tmp_path: Path) -> None:
    """Ephemeral consumers, which the server makes where none is named, take a minute to come back."""
    linked = Linked(tmp_path, edges=("e1",))
    async with running(linked) as (hub, edges):
        edge = edges["e1"]
        for taker, at, there in (("IN_e1", hub, edge), ("WORK_e1", edge, hub), ("FLASH_e1", edge, hub)):
            [source] = (await at.js.stream_info(taker)).config.sources or []
            assert source.consumer
            durable = (await there.js.consumer_info(source.name, source.consumer.name)).config
            assert durable.durable_name == taker
            assert durable.deliver_subject == source.consumer.deliver_subject
        assert await provision(edge.js, Place("e1", centre=True)) == []
        assert await provision_edge(hub.js, linked.place, "e1") == []

        spy = b'{"stream_name":"DOWN_e1","config":{"name":"spy","ack_policy":"explicit"}}'
        for subject in ("CONSUMER.CREATE.DOWN_e1", "CONSUMER.CREATE.DOWN_e1.spy"):
            with suppress(nats.errors.NoRespondersError, nats.errors.TimeoutError):
                await edge.client.request(f"$JS.hub.API.{subject}", spy, timeout=2)
        assert {there.name for there in await hub.js.consumers_info("DOWN_e1")} == {"FLASH_e1", "WORK_e1"}


async def test_a_durable_that_is_set_back_never_claims_what_was_not_acknowledged(bus: NatsBus) -> None:
    """The taker believes what the answer says. From a stream that begins at 1 one in twelve is wrong, given
    while the state is being written: see FIRST_SEQUENCE in provision.py."""
    await provision(bus.js, Place(NODE, centre=True))
    await provide_takers(bus.js, Place(NODE, centre=True), NODE)
    await bus.client.subscribe(f"dlv.up.{NODE}.IN_{NODE}")  # a link that takes and never acknowledges
    for attempt in range(40):
        await bus.js.publish("infer.large.flash", b"x")
        await asyncio.sleep(
            0.08 + 0.001 * attempt
        )  # the server writes the state some 100 ms after it changed
        reply = await bus.client.request(f"$JS.API.CONSUMER.RESET.UP_{NODE}.IN_{NODE}", b"")
        answer = json.loads(reply.data)
        assert answer["delivered"]["stream_seq"] == answer["ack_floor"]["stream_seq"] == FIRST_SEQUENCE - 1
