"""A centre and its edges on one machine, made by what `evy nats init`, `enrol` and `join` use."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from actors._runtime.authority import Authority
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.identity import Identity
from actors._runtime.provision import Place, provide_takers, provision, provision_edge
from actors._runtime.server_files import Bundle, HubServer, join
from actors._runtime.supervisor import nats_server_path
from subjects.names import HUB
from tests.conftest import free_port


class Machine:
    """One nats-server on a filled configuration, that tests may kill and start again."""

    def __init__(self, configuration: Path, port: int) -> None:
        self.configuration = configuration
        self.port = port
        self.url = f"nats://127.0.0.1:{port}"
        self.log = configuration.parent.parent / "nats-server.log"
        self.environment: Mapping[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [nats_server_path(), "-c", str(self.configuration), "-l", str(self.log)]
        environment = {**os.environ, **self.environment}
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
            self.kill()


class Linked:
    """A centre of one or three servers and its edges in one directory; nothing runs yet."""

    def __init__(self, directory: Path, edges: Sequence[str] = ("e1", "e2"), servers: int = 1) -> None:
        self.directory = directory
        self.authority = Authority.create(
            directory / "keys",
            [
                HubServer(f"hub{n}", ("127.0.0.1",), free_port(), free_port(), free_port(), "127.0.0.1")
                for n in range(1, servers + 1)
            ],
        )
        self.place = Place(HUB, "bigevy", replicas=servers)
        self.hubs: dict[str, Machine] = {}
        for server in self.authority.state.servers:
            bundle = self.authority.server_bundle(server.name)
            configuration = join(directory / server.name / "server", bundle)
            self.hubs[server.name] = Machine(configuration, server.client_port)
        self.bundles: dict[str, Bundle] = {}
        self.edges: dict[str, Machine] = {}
        for edge in edges:
            self.add(edge)

    @property
    def leaf_url(self) -> str:
        """Where edges connect."""
        server = self.authority.state.servers[0]
        return f"tls://127.0.0.1:{server.leaf_port}"

    @property
    def machines(self) -> list[Machine]:
        return [*self.hubs.values(), *self.edges.values()]

    def add(self, edge: str) -> Machine:
        """Enrols an edge and installs its bundle."""
        self.bundles[edge] = self.authority.enrol(edge)
        port = free_port()
        configuration = join(self.directory / edge / "server", self.bundles[edge], port=port)
        self.edges[edge] = Machine(configuration, port)
        return self.edges[edge]

    async def connect_hub(self, server: str = "hub1") -> NatsBus:
        """A bus at the centre with the centre's credentials."""
        keys = self.directory / "keys"
        identity = Identity(HUB, b"x" * 32, "0000", str(keys / "centre.creds"), str(keys / "ca.pem"))
        return await NatsBus.connect(identity, self.hubs[server].url, "test", wait_s=20)

    async def connect_edge(self, edge: str) -> NatsBus:
        """A bus at an edge."""
        return await NatsBus.connect(
            Identity(edge, b"x" * 32, "0000"), self.edges[edge].url, "test", wait_s=20
        )


@asynccontextmanager
async def running(linked: Linked) -> AsyncIterator[tuple[NatsBus, dict[str, NatsBus]]]:
    """Starts every server, makes every stream, and gives a bus at the centre and one at each edge."""
    buses: list[NatsBus] = []
    try:
        for machine in linked.hubs.values():
            machine.start()
        hub = await linked.connect_hub()
        buses.append(hub)
        async with asyncio.timeout(40):
            while True:
                try:
                    await provision(hub.js, linked.place)
                    break
                except (JetStreamError, BusError):  # a cluster that has no leader yet
                    await asyncio.sleep(0.2)
        edges = {}
        for edge, machine in linked.edges.items():
            machine.start()
            edges[edge] = await linked.connect_edge(edge)
            buses.append(edges[edge])
            await reaches_centre(edges[edge], edge)
            await provide(hub, linked.place, edges[edge], edge)
        yield hub, edges
    finally:
        for bus in buses:
            await bus.close()
        for machine in linked.machines:
            machine.stop()


async def provide(hub: NatsBus, place: Place, bus: NatsBus, edge: str) -> None:
    """Makes everything at both ends of the link of a new edge, the durables for the other end at once."""
    own = Place(edge, centre=True)
    await provision_edge(hub.js, place, edge)
    await provide_takers(hub.js, place, edge)
    await provision(bus.js, own)
    await provide_takers(bus.js, own, edge)


async def reaches_centre(bus: NatsBus, edge: str) -> None:
    """Waits until the link of an edge is up. A source that is made before waits 30 s for its first answer."""
    async with asyncio.timeout(30):
        while True:
            with suppress(NatsError):
                await bus.client.request(f"$JS.{HUB}.API.STREAM.INFO.DOWN_{edge}", timeout=1)
                return
            await asyncio.sleep(0.05)


async def holds(bus: NatsBus, stream: str, count: int, *, within_s: float = 30.0) -> None:
    """Waits until a stream holds so many messages."""
    found = -1
    try:
        async with asyncio.timeout(within_s):
            while (found := (await bus.js.stream_info(stream)).state.messages) != count:
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{stream} holds {found} messages, not {count}") from None
