"""Two edges and a centre of three servers as they run in the field, each on a host of its own.

Shipped configurations as `evy nats` fills them, real actors, a process each, kept by the supervisor of
`evy up`. An edge reaches the centre through its own bad network (:mod:`simulators.link`). Everything can be
killed, kept down and brought back.
"""

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from actors._runtime.authority import Authority
from actors._runtime.bus import BusError, NatsBus, bus_errors
from actors._runtime.identity import load_identity
from actors._runtime.provision import Place, provision, provision_edge
from actors._runtime.server_files import Bundle, HubServer, join
from actors._runtime.supervisor import Child, nats_server_path
from simulators.link_control import Heal, LinkControl, LinkOrder, Shape
from subjects.messages import DeadLetter, decode
from subjects.names import HUB
from tests.scenarios.hosts import Host, Hosts
from tests.scenarios.truth import Log, Seen
from tests.scenarios.worker import Ends, Plan

EDGES: Final = ("edge1", "edge2")
SERVERS: Final = ("hub1", "hub2", "hub3")
EDGE_ACTORS: Final = ("compress", "sms")
CLIENT_PORT, LEAF_PORT, CLUSTER_PORT, MONITOR_PORT = 4222, 7422, 6222, 8222
LINE_PORT: Final = 17422
"""First loopback port of an edge's line to the centre, one for each of its servers."""

StreamCounts = dict[str, int]


class Program:
    """A process under the supervisor's care: killed, it comes back by itself; down, it stays away."""

    def __init__(self, name: str, host: Host, command: Sequence[str], log_file: Path) -> None:
        self.name = name
        self._child = Child(name, host.command(command), {}, log_file)
        self._stop = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self.kills = 0

    async def up(self) -> None:
        """Starts it, if it is not kept running."""
        if self._keeper is None:
            self._stop = asyncio.Event()
            self._keeper = asyncio.create_task(self._child.keep(self._stop))

    def kill(self) -> None:
        """kill -9."""
        process = self._child.process
        if process and process.returncode is None:
            process.send_signal(signal.SIGKILL)
            self.kills += 1

    async def down(self, *, gently: bool = False) -> None:
        """Ends it, by -9 unless ``gently``, and keeps it away."""
        if self._keeper is None:
            return
        self._stop.set()
        if gently:
            await self._child.end()
        else:
            self.kill()
        await self._keeper
        self._keeper = None

    @property
    def finished(self) -> bool:
        """Whether it came to its end by itself and all was well."""
        process = self._child.process
        return process is not None and process.returncode == 0


class Machine:
    """A host with its nats-server and its actors."""

    def __init__(self, host: Host, directory: Path, node: str, bundle: Bundle) -> None:
        self.host = host
        self.name = host.name
        self.directory = directory
        self.node = node
        self.bundle = bundle
        profile = bundle.profile
        directory.mkdir(parents=True, exist_ok=True)
        self.configuration = directory / "evy.toml"
        login = "nats" if bundle.edge else "tls"
        self.configuration.write_text(
            f'[node]\nprofile = "{profile}"\nname = "{node}"\ndata_dir = "{directory}"\n'
            f'nats_url = "{login}://127.0.0.1:{CLIENT_PORT}"\n'
        )
        self.install()
        conf = directory / "server" / "nats.conf"
        self.server = self.program("nats-server", [nats_server_path(), "-c", str(conf)])
        roles = EDGE_ACTORS if bundle.edge else ("infer_large",)
        self.actors = {role: self.role(role, str(self.configuration)) for role in roles}
        self.others: list[Program] = []

    def install(self) -> None:
        """Writes the server's configuration and credentials."""
        join(self.directory / "server", self.bundle, port=CLIENT_PORT, monitor_port=MONITOR_PORT)

    def program(self, name: str, command: Sequence[str]) -> Program:
        return Program(f"{self.name}.{name}", self.host, command, self.directory / f"{name}.log")

    def role(self, role: str, *arguments: str) -> Program:
        return self.program(role, [sys.executable, "-m", "tests.scenarios.worker", role, *arguments])

    @property
    def programs(self) -> list[Program]:
        return [self.server, *self.actors.values(), *self.others]

    @contextlib.asynccontextmanager
    async def bus(self) -> AsyncIterator[NatsBus]:
        """A connection with this machine's own credentials."""
        identity = await asyncio.to_thread(load_identity, self.node, self.directory)
        scheme = "nats" if self.bundle.edge else "tls"
        async with self.host.door(CLIENT_PORT) as port:
            bus = await NatsBus.connect(identity, f"{scheme}://127.0.0.1:{port}", "test", wait_s=40)
            try:
                yield bus
            finally:
                await bus.close()

    async def streams(self) -> StreamCounts | None:
        """Messages in each stream that this server has a copy of; None when it does not answer."""
        try:
            async with asyncio.timeout(3):
                found = await self._monitor("/jsz?accounts=1&streams=1")
        except (OSError, TimeoutError, ValueError, msgspec.DecodeError):
            return None
        return {
            stream["name"]: stream["state"]["messages"]
            for account in found.get("account_details") or ()
            for stream in account.get("stream_detail") or ()
            if not stream["name"].startswith("KV_")
        }

    async def healthy(self) -> bool:
        """Whether the server answers and every stream and durable on it is up to date."""
        try:
            async with asyncio.timeout(3):
                return (await self._monitor("/healthz")).get("status") == "ok"
        except (OSError, TimeoutError, ValueError, msgspec.DecodeError):
            return False

    async def _monitor(self, path: str) -> dict[str, Any]:
        with self.host.inside():
            dialled = socket.socket()
        dialled.setblocking(False)
        with contextlib.closing(dialled):
            await asyncio.get_running_loop().sock_connect(dialled, ("127.0.0.1", MONITOR_PORT))
            reader, writer = await asyncio.open_connection(sock=dialled)
            with contextlib.closing(writer):
                writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        if b" 200 " not in head.splitlines()[0]:
            raise ValueError(head[:80])
        found: dict[str, Any] = msgspec.json.decode(body)
        return found


class Land:
    """Everything: ``async with Land(directory, hosts) as land``."""

    def __init__(self, directory: Path, hosts: Hosts, seed: int) -> None:
        self.seed = seed
        self.directory = directory
        self.hosts = hosts
        servers = [
            HubServer(name, (hosts[name].address,), CLIENT_PORT, LEAF_PORT, CLUSTER_PORT) for name in SERVERS
        ]
        self.authority = Authority.create(directory / "keys", servers)
        self.hubs = {
            name: Machine(hosts[name], directory / name, HUB, self.authority.server_bundle(name))
            for name in SERVERS
        }
        self.edges = {name: self._edge(name) for name in EDGES}
        self.feeding: list[Program] = []

    def _edge(self, name: str) -> Machine:
        bundle = self.authority.enrol(name)
        assert bundle.edge
        urls = tuple(f"tls://127.0.0.1:{LINE_PORT + number}" for number in range(len(SERVERS)))
        through = msgspec.structs.replace(bundle, edge=msgspec.structs.replace(bundle.edge, urls=urls))
        machine = Machine(self.hosts[name], self.directory / name, name, through)
        ends = Ends(
            tuple(("127.0.0.1", LINE_PORT + number) for number in range(len(SERVERS))),
            tuple((self.hosts[server].address, LEAF_PORT) for server in SERVERS),
            self.seed + EDGES.index(name),
        )
        machine.others.append(
            machine.role("line", str(machine.directory), msgspec.json.encode(ends).decode())
        )
        return machine

    @property
    def machines(self) -> list[Machine]:
        return [*self.hubs.values(), *self.edges.values()]

    @property
    def programs(self) -> list[Program]:
        return [program for machine in self.machines for program in machine.programs]

    async def __aenter__(self) -> Self:
        try:
            for machine in self.machines:
                await machine.server.up()
                for program in machine.others:
                    await program.up()
            await self._provide()
            for program in self.programs:
                await program.up()
        except BaseException:
            await self._down()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._down()

    async def _down(self) -> None:
        await asyncio.gather(*(program.down() for program in (*self.feeding, *self.programs)))

    async def _provide(self) -> None:
        async with self.hubs["hub1"].bus() as bus:
            place = Place(HUB, "bigevy", replicas=len(SERVERS))
            async with asyncio.timeout(60):
                while True:
                    try:
                        with bus_errors("provide the centre"):
                            await provision(bus.js, place)
                            for edge in EDGES:
                                await provision_edge(bus.js, place, edge)
                        break
                    except BusError:  # a cluster that has no leader yet
                        await asyncio.sleep(0.3)
        for machine in self.edges.values():
            await self.provide_edge(machine)

    async def provide_edge(self, edge: Machine) -> None:
        """What the first `evy run` of an edge makes."""
        async with edge.bus() as bus:
            await provision(bus.js, Place(edge.node, centre=True))

    async def heal(self) -> None:
        """Ends every fault: lines without a limit, every program kept running."""
        await asyncio.gather(*(program.up() for program in self.programs))
        await self.order(Heal())
        await self.order(Shape())

    async def order(self, order: LinkOrder, *edges: str) -> None:
        """Gives an order to the line of some edges, or of all."""
        for edge in edges or EDGES:
            for number in range(len(SERVERS)):
                async with LinkControl(self.edges[edge].directory / f"line{number}") as control:
                    await control.do(order)

    async def feed(self, plan: Plan) -> list[Program]:
        """Publishes a plan at each edge; the processes end when everything is acknowledged."""
        text = msgspec.json.encode(plan).decode()
        self.feeding = [edge.role("feed", str(edge.configuration), text) for edge in self.edges.values()]
        for feeder in self.feeding:
            await feeder.up()
        return self.feeding

    async def centre_is_whole(self, within_s: float = 60) -> None:
        """Returns when every server of the centre answers and says that all its streams are healthy."""
        async with asyncio.timeout(within_s):
            for hub in self.hubs.values():
                while not await hub.healthy():
                    await asyncio.sleep(0.2)

    async def drained(self, within_s: float) -> bool:
        """Whether everything that was under way has arrived in time."""
        until_s = time.monotonic() + within_s
        while time.monotonic() < until_s:
            if await self.waiting() == {} and all(feeder.finished for feeder in self.feeding):
                return True
            await asyncio.sleep(1)
        return False

    async def waiting(self) -> StreamCounts | None:
        """Work in the streams of all servers, in all copies; None while a server does not answer."""
        counts: StreamCounts = {}
        for machine in self.machines:
            found = await machine.streams()
            if found is None:
                return None
            for stream, count in found.items():
                if count and not stream.startswith("EVT_"):
                    counts[f"{machine.name}:{stream}"] = count
        return counts

    def seen(self, hop: str, batch: str) -> Seen:
        """What a hop saw, over all machines."""
        logs = [Log(machine.directory, hop) for machine in self.machines]
        return Seen.of((saw for log in logs for saw in log.read()), batch)

    async def letters(self) -> list[str]:
        """Every dead letter: where, of what, and why."""
        found = []
        for machine in [self.hubs["hub1"], *self.edges.values()]:
            async with machine.bus() as bus:
                stream = f"DLQ_{machine.node}"
                state = (await bus.js.stream_info(stream)).state
                for sequence in range(max(1, state.first_seq), state.last_seq + 1):
                    letter = decode((await bus.js.get_msg(stream, sequence)).data or b"", DeadLetter)
                    found.append(f"{machine.name} {letter.subject} {letter.error}: {letter.payload[:60]!r}")
        return found

    def tails(self, names: Iterable[str] = ()) -> str:
        """The last lines of the processes' logs, for a failure's report."""
        chosen = set(names)
        parts = []
        for machine in self.machines:
            for path in sorted(machine.directory.glob("*.log")):
                if not chosen or path.stem in chosen:
                    lines = path.read_text(errors="replace").splitlines()[-8:]
                    parts.append(f"--- {machine.name} {path.stem}\n" + "\n".join(lines))
        return "\n".join(parts)
