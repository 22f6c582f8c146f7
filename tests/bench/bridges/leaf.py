"""EVY's own bridge: an edge's nats-server as leaf node of the centre's, streams that source each other.

Both run on the shipped configuration as `evy nats init`, `enrol` and `join` fill it: TLS 1.3, credentials,
deny lists, every write synced.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import psutil
from nats.aio.client import Client
from nats.aio.msg import Msg

from actors._runtime.bus import NatsBus
from actors._runtime.link import NatsLink
from actors._runtime.provision import Place, consumer_config, provision, provision_edge
from simulators.link_control import Shape
from subjects import names, registry
from subjects.names import HUB
from tests.bench.bridges import servers
from tests.bench.bridges.crossing import EDGE, WINDOW, Arrivals, Bridge, id_of
from tests.bench.bridges.relay import Relay, relayed
from tests.linked import Linked

LANE: Final = "routine"
SHIPPED: Final = "s2_auto"


class Pair:
    """Edge and centre, a client connected to each, and the link between them."""

    def __init__(
        self,
        edge: NatsBus,
        centre: NatsBus,
        processes: tuple[psutil.Process, psutil.Process],
        relay: Relay | None,
    ) -> None:
        self.edge = edge
        self.centre = centre
        self.processes = processes
        self.relay = relay

    async def provision(self) -> None:
        """The streams and durables that `evy up` makes, then no bounds where 50,000 messages may wait.

        What is sourced comes first: a source that does not find it looks again only after five seconds.
        """
        edge, hub = Place(EDGE, centre=True), Place(HUB, "bigevy")
        for stream in edge.streams():
            if not stream.sources:
                await self.edge.js.add_stream(stream)
        for stream in hub.streams_of(EDGE):
            if not stream.sources:
                await self.centre.js.add_stream(stream)
        for name, taker in edge.takers(EDGE):
            await self.edge.js.add_consumer(name, taker)
        for name, taker in hub.takers(EDGE):
            await self.centre.js.add_consumer(name, taker)
        link = NatsLink(self.edge, edge)
        async with asyncio.timeout(30):
            while not (await link.look()).up:
                await asyncio.sleep(0.05)
        await provision(self.edge.js, edge)
        await provision_edge(self.centre.js, hub, EDGE)
        for bus, up in ((self.edge, f"UP_{EDGE}"), (self.centre, f"IN_{EDGE}")):
            config = (await bus.js.stream_info(up)).config
            await bus.js.update_stream(config.evolve(max_msgs_per_subject=-1, discard_new_per_subject=False))
        for bus, row in (
            (self.edge, registry.work(names.COMPRESS)),
            (self.centre, registry.work(names.INFER_LARGE)),
        ):
            durable = consumer_config(row, EDGE, LANE)
            await bus.js.add_consumer(row.stream(EDGE, LANE), durable.evolve(max_ack_pending=WINDOW))

    async def consume_up(self, handle: Callable[[Msg], Awaitable[None]]) -> None:
        """Calls ``handle`` for each question at the centre, then acknowledges."""
        await _consume(self.centre.client, f"IN_{EDGE}", f"{EDGE}_infer_large_{LANE}", handle)

    async def consume_down(self, handle: Callable[[Msg], Awaitable[None]]) -> None:
        """Calls ``handle`` for each answer at the edge, then acknowledges."""
        await _consume(self.edge.client, f"WORK_{EDGE}", f"{EDGE}_compress_{LANE}", handle)

    def publisher(self) -> Callable[[bytes], Awaitable[None]]:
        """Publishes questions at the edge."""

        async def publish(payload: bytes) -> None:
            headers = {"Nats-Msg-Id": f"{EDGE}.0000.{id_of(payload)}.rag.infer.large.0"}
            await self.edge.js.publish(
                names.work_subject(names.INFER_LARGE, LANE), payload, timeout=30, headers=headers
            )

        return publish


async def _consume(
    client: Client, stream: str, durable: str, handle: Callable[[Msg], Awaitable[None]]
) -> None:
    """Pulls so that ``WINDOW`` messages may be on their way: half of them are asked for again at a time."""
    pull = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
    half = WINDOW // 2
    request = json.dumps({"batch": half, "expires": 3600 * 10**9}).encode()
    inbox = client.new_inbox()
    got = itertools.count(1)

    async def take(msg: Msg) -> None:
        if msg.headers and "Status" in msg.headers:
            raise RuntimeError(f"{stream} gave no message: {msg.headers}")
        await handle(msg)
        await msg.ack()
        if next(got) % half == 0:
            await client.publish(pull, request, reply=inbox)

    await client.subscribe(inbox, cb=take)
    for _ in range(2):
        await client.publish(pull, request, reply=inbox)
    await client.flush()


@contextlib.asynccontextmanager
async def pair(
    directory: Path, compression: str = SHIPPED, *, through_relay: bool = False, shape: Shape | None = None
) -> AsyncIterator[Pair]:
    """Fresh servers joined by a leaf link, through a relay or directly.

    ``compression`` is the link's; ``shape`` the relay's delay and rate before anybody connects.
    """
    linked = Linked(directory, edges=(EDGE,))
    (hub,), edge = linked.hubs.values(), linked.edges[EDGE]
    port = linked.authority.state.servers[0].leaf_port
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(relayed(port, directory)) if through_relay else None
        if relay and shape:
            await relay.shape(shape)
        for machine in (hub, edge):
            text = machine.configuration.read_text(encoding="utf-8")
            text = text.replace(f"compression: {SHIPPED}", f"compression: {compression}")
            if machine is edge and relay:
                text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{relay.port}")
            machine.configuration.write_text(text, encoding="utf-8")
            machine.start()
            stack.callback(machine.stop)
            if machine is hub and hub.process:  # an edge that finds nobody waits before it dials again
                await servers.listening(port, psutil.Process(hub.process.pid), directory)
        buses = await linked.connect_edge(EDGE), await linked.connect_hub()
        for bus in buses:
            stack.push_async_callback(bus.close)
        assert edge.process
        assert hub.process
        yield Pair(*buses, (psutil.Process(edge.process.pid), psutil.Process(hub.process.pid)), relay)


@contextlib.asynccontextmanager
async def bridge(directory: Path) -> AsyncIterator[Bridge]:
    """The bridge in the form in which it is compared."""
    async with pair(directory, through_relay=True) as both:
        arrivals = Arrivals()

        async def take(msg: Msg) -> None:
            arrivals.note(id_of(msg.data))

        await both.provision()
        await both.consume_up(take)
        assert both.relay is not None
        yield Bridge(both.publisher(), arrivals, both.relay, *both.processes)
