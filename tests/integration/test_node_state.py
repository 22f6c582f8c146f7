"""The node's state on a real server: the bucket in memory, the live view, events that an actor follows."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from nats.js.api import StorageType

from actors._runtime import node_view
from actors._runtime.bus import NatsBus
from actors._runtime.config import Config
from actors._runtime.context import BusContext, MemoryContext
from actors._runtime.identity import Identity
from subjects.messages import Event, encode
from subjects.node_state import STATE_KEY, ModemState, NodeState
from tests.conftest import NODE, Server

pytestmark = pytest.mark.nats


async def until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


def event(kind: str, number: int) -> Event:
    return Event(kind=kind, node=NODE, actor="sms", at=1.0, fields={"number": number})


async def test_the_view_is_live_and_unknown_until_first_seen(bus: NatsBus) -> None:
    context = BusContext(Config({"node": {"name": NODE}}), bus)
    view = context.node_state()
    assert view() == NodeState(node=NODE)
    assert context.node_state() is view, "all actors of a process share one"
    bucket = await bus.bucket("node")
    # The subscription is made beside this test: said until it was heard, as the actor does.
    state = NodeState(node=NODE, at=5.0, battery_percent=41.0, modems=(ModemState(name="m1", state="up"),))
    while view() != state:
        await bucket.put(STATE_KEY, encode(state))
        await asyncio.sleep(0.05)
    await bucket.put(STATE_KEY, encode(msgspec.structs.replace(state, battery_percent=39.0)))
    await until(lambda: view().battery_percent == 39.0)
    await bus.client.publish(f"$KV.node_{NODE}.{STATE_KEY}", b'{"v": 99}')
    await bus.client.flush()
    assert view().battery_percent == 39.0
    await bucket.put(STATE_KEY, encode(msgspec.structs.replace(state, battery_percent=38.0)))
    await until(lambda: view().battery_percent == 38.0)


async def test_who_comes_late_reads_the_bucket(bus: NatsBus) -> None:
    await (await bus.bucket("node")).put(STATE_KEY, encode(NodeState(node=NODE, battery_percent=12.0)))
    view = BusContext(Config({"node": {"name": NODE}}), bus).node_state()
    await until(lambda: view().battery_percent == 12.0)


async def test_what_was_said_long_ago_is_not_known_any_more(bus: NatsBus) -> None:
    now = [100.0]
    await (await bus.bucket("node")).put(STATE_KEY, encode(NodeState(node=NODE, battery_percent=12.0)))
    view = node_view.NodeView(bus, now=lambda: now[0])
    await until(lambda: view().battery_percent == 12.0)
    now[0] += node_view.STALE_AFTER_S
    assert view() == NodeState(node=NODE)


async def test_view_and_bucket_survive_a_server_that_starts_again(server: Server, bus: NatsBus) -> None:
    assert (await bus.js.stream_info(f"KV_node_{NODE}")).config.storage == StorageType.MEMORY
    assert (await bus.js.stream_info(f"KV_session_{NODE}")).config.storage == StorageType.FILE
    view = BusContext(Config({"node": {"name": NODE}}), bus).node_state()
    await (await bus.bucket("node")).put(STATE_KEY, encode(NodeState(node=NODE, battery_percent=60.0)))
    await until(lambda: view().battery_percent == 60.0)
    server.kill()
    await until(lambda: not bus.client.is_connected)
    server.start()
    await until(lambda: bus.client.is_connected)
    bucket = await bus.bucket("node")  # made again: it was in the server's memory
    await bucket.put(STATE_KEY, encode(NodeState(node=NODE, battery_percent=61.0)))
    await until(lambda: view().battery_percent == 61.0)


async def test_an_actor_follows_some_kinds_in_their_order(bus: NatsBus) -> None:
    got: list[tuple[str, int]] = []

    async def receive(heard: Event) -> None:
        got.append((heard.kind, heard.fields["number"]))

    await BusContext(Config({"node": {"name": NODE}}), bus).follow(("link_up", "link_down"), receive)
    for number, kind in enumerate(("link_up", "triaged", "link_down", "link_up")):
        bus.emit(event(kind, number))
    await until(lambda: len(got) == 3)
    assert got == [("link_up", 0), ("link_down", 2), ("link_up", 3)]


async def test_in_memory_a_test_sets_the_state_and_hears_its_events() -> None:
    context = MemoryContext(Config({"node": {"name": NODE}}), Identity(NODE, b"x", "0"))
    view = context.node_state()
    assert view() == NodeState(node=NODE)
    context.state = NodeState(node=NODE, battery_percent=3.0)
    assert view().battery_percent == 3.0
    got: list[Event] = []

    async def receive(heard: Event) -> None:
        got.append(heard)

    await context.follow(("modem_state",), receive)
    context.emit(event("triaged", 1))
    context.emit(event("modem_state", 2))
    await until(lambda: bool(got))
    assert [heard.kind for heard in got] == ["modem_state"]


def test_a_modem_s_state_is_read_from_its_event() -> None:
    fields = {"modem": "sim800", "state": "up", "registered": True, "signal_dbm": -71, "newer": 1}
    assert ModemState.of_event(fields) == ModemState(
        name="sim800", state="up", registered=True, signal_dbm=-71.0
    )
    for wrong in ({"state": "up"}, {"modem": "m", "state": "asleep"}, {"modem": "m"}, {}):
        with pytest.raises(msgspec.ValidationError):
            ModemState.of_event(wrong)
