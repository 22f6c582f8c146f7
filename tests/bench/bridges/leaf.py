"""EVY's own bridge: an edge's nats-server as leaf node of the centre's, streams that source each other."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import nats
import psutil
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from actors._runtime.provision import Place, consumer_config
from actors._runtime.supervisor import nats_server_path
from subjects import names, registry
from subjects.names import HUB
from tests.bench.bridges import servers
from tests.bench.bridges.crossing import EDGE, WINDOW, Arrivals, Bridge, id_of
from tests.bench.bridges.relay import Relay, relayed
from tests.conftest import free_port

LANE: Final = "routine"
STAYS_LOCAL: Final = ("sms", "route", "rag", "infer", "compress", "mesh", "alert", "evt", "dlq", "svc")

_EDGE: Final = """\
server_name: {name}
host: "127.0.0.1"
port: {port}
jetstream {{ domain: {name}, store_dir: "{store}", sync_interval: always }}
ping_interval: "20s"
leafnodes {{
  reconnect: 1
  remotes: [{{
    url: "nats-leaf://127.0.0.1:{link}"
    compression: {compression}
    first_info_timeout: "10s"
    deny_imports: [{local}]
    deny_exports: [{local}]
  }}]
}}
"""
_HUB: Final = """\
server_name: {name}
host: "127.0.0.1"
port: {port}
jetstream {{ domain: {name}, store_dir: "{store}", sync_interval: always }}
ping_interval: "20s"
# Not advertised: the edge would dial the address the hub tells it, past the relay.
leafnodes {{ host: "127.0.0.1", port: {leaf}, compression: {compression}, no_advertise: true }}
"""


class Pair:
    """Edge and centre, a client connected to each, and the link between them."""

    def __init__(
        self,
        edge: Client,
        centre: Client,
        processes: tuple[psutil.Process, psutil.Process],
        relay: Relay | None,
    ) -> None:
        self.edge = edge
        self.centre = centre
        self.edge_js = edge.jetstream()
        self.centre_js = centre.jetstream()
        self.processes = processes
        self.relay = relay

    async def provision(self) -> None:
        """The registry's streams and durables of one edge, without bounds: 50,000 messages may wait."""
        await self._joined()
        up, down = registry.work(names.INFER_LARGE), registry.work(names.COMPRESS)
        for js, streams, row in (
            (self.edge_js, Place(EDGE, centre=True).streams(), down),
            (self.centre_js, Place(HUB, "bigevy").streams_of(EDGE), up),
        ):
            for stream in streams:
                await js.add_stream(stream.evolve(max_msgs_per_subject=-1, discard_new_per_subject=False))
            durable = consumer_config(row, EDGE, LANE)
            await js.add_consumer(row.stream(EDGE, LANE), durable.evolve(max_ack_pending=WINDOW))

    async def _joined(self) -> None:
        """Waits until each side's JetStream answers through the link."""
        async with asyncio.timeout(30):
            for client, domain in ((self.centre, EDGE), (self.edge, HUB)):
                while True:
                    try:
                        await client.request(f"$JS.{domain}.API.INFO", timeout=1)
                        break
                    except (NoRespondersError, NatsTimeoutError):
                        await asyncio.sleep(0.05)

    async def consume_up(self, handle: Callable[[Msg], Awaitable[None]]) -> None:
        """Calls ``handle`` for each question at the centre, then acknowledges."""
        await _consume(self.centre, f"IN_{EDGE}", f"{EDGE}_infer_large_{LANE}", handle)

    async def consume_down(self, handle: Callable[[Msg], Awaitable[None]]) -> None:
        """Calls ``handle`` for each answer at the edge, then acknowledges."""
        await _consume(self.edge, f"WORK_{EDGE}", f"{EDGE}_compress_{LANE}", handle)

    def publisher(self) -> Callable[[bytes], Awaitable[None]]:
        """Publishes questions at the edge."""

        async def publish(payload: bytes) -> None:
            headers = {"Nats-Msg-Id": f"{EDGE}.0000.{id_of(payload)}.rag.infer.large.0"}
            await self.edge_js.publish(
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
async def pair(directory: Path, compression: str, *, through_relay: bool) -> AsyncIterator[Pair]:
    """Fresh servers joined by a leaf link, through a relay or directly; ``compression`` of the link."""
    port, hub_port, leaf = free_port(), free_port(), free_port()
    program = nats_server_path()
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(relayed(leaf, directory)) if through_relay else None
        processes = []
        for name, text, client_port in ((HUB, _HUB, hub_port), (EDGE, _EDGE, port)):
            place = directory / name
            place.mkdir(parents=True)  # once, before anything is measured
            (place / "nats.conf").write_text(
                text.format(
                    name=name,
                    port=client_port,
                    store=place / "store",
                    leaf=leaf,
                    link=relay.port if relay else leaf,
                    compression=compression,
                    local=", ".join(f'"{base}.>"' for base in STAYS_LOCAL),
                ),
                encoding="utf-8",
            )
            processes.append(stack.enter_context(servers.running([program, "-c", "nats.conf"], place)))
            await servers.listening(client_port, processes[-1], place)
        clients = []
        for client_port in (port, hub_port):
            client = await nats.connect(f"nats://127.0.0.1:{client_port}", pending_size=8 * 1024 * 1024)
            stack.push_async_callback(client.close)
            clients.append(client)
        yield Pair(clients[0], clients[1], (processes[1], processes[0]), relay)


@contextlib.asynccontextmanager
async def bridge(directory: Path, compression: str = "s2_auto") -> AsyncIterator[Bridge]:
    """The bridge in the form in which it is compared."""
    async with pair(directory, compression, through_relay=True) as both:
        arrivals = Arrivals()

        async def take(msg: Msg) -> None:
            arrivals.note(id_of(msg.data))

        await both.provision()
        await both.consume_up(take)
        assert both.relay is not None
        await asyncio.sleep(0)
        yield Bridge(both.publisher(), arrivals, both.relay, *both.processes)
