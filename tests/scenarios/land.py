"""Two edges and a centre of three servers as they run in the field, each on a host of its own.

Shipped configurations as `evy nats` fills them, real actors, a process each, kept by the supervisor of
`evy up`. An edge reaches the centre through its own bad network (:mod:`simulators.link`). Everything can be
killed, kept down and brought back.
"""

import asyncio
import contextlib
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import msgspec
from nats.js.errors import NotFoundError

from actors._runtime.authority import Authority
from actors._runtime.bus import BusError, NatsBus, bus_errors
from actors._runtime.identity import load_identity
from actors._runtime.provision import Place, provide_takers, provision, provision_edge
from actors._runtime.server_files import Bundle, HubServer, join
from actors._runtime.store_watch import cannot_write, make_ready
from actors._runtime.supervisor import Child, nats_server_path
from simulators.link_control import Heal, LinkControl, LinkOrder, Shape
from subjects.messages import DeadLetter, Event, decode
from subjects.names import HUB
from tests.scenarios.disks import small_disk
from tests.scenarios.hosts import Host, Hosts
from tests.scenarios.truth import Log, Name, Seen
from tests.scenarios.worker import Ends, Plan

EDGES: Final = ("edge1", "edge2")
SERVERS: Final = ("hub1", "hub2", "hub3")
EDGE_ACTORS: Final = ("compress", "sms")
CLIENT_PORT, LEAF_PORT, CLUSTER_PORT, MONITOR_PORT = 4222, 7422, 6222, 8222
SMALL: Final = "edge2"
"""The edge whose store has a disk of its own, so that it can be filled."""
SMALL_OCTETS: Final = 160 * 1024 * 1024
LINE_PORT: Final = 17422
"""First loopback port of an edge's line to the centre, one for each of its servers."""

StreamCounts = dict[str, int]


class Letter(msgspec.Struct, frozen=True):
    """A dead letter: where, of which query, and why."""

    machine: str
    name: Name | None
    error: str


class Program:
    """A process under the supervisor's care: killed, it comes back by itself; down, it stays away."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_file: Path,
        watch: Callable[[], Awaitable[str]] | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._child = Child(name, command, {}, log_file, watch=watch, prepare=prepare)
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

    @property
    def pid(self) -> int | None:
        """Its process, if it runs."""
        process = self._child.process
        return process.pid if process and process.returncode is None else None

    @property
    def restarts(self) -> int:
        """How often it ended by itself, or was killed, and was started again."""
        return self._child.restarts

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

    async def finished(self) -> None:
        """Returns when it has come to its end by itself and all was well; it is not started again."""
        while self._child.process is None or self._child.process.returncode != 0:
            await asyncio.sleep(0.05)
        await self.down()


class Machine:
    """A host with its nats-server and its actors."""

    def __init__(self, host: Host, directory: Path, node: str, bundle: Bundle, disk: Path) -> None:
        """``disk`` holds the store."""
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
        self.store = disk / "nats"
        server = directory / "server"
        join(server, bundle, port=CLIENT_PORT, monitor_port=MONITOR_PORT, store=self.store)
        conf = directory / "server" / "nats.conf"
        command = [nats_server_path(), "-c", str(conf)]
        self.server = Program(
            f"{self.name}.nats-server",
            host.command(command),
            directory / "nats-server.log",
            self._cannot_write,
            partial(make_ready, self.store, alone=bundle.edge),  # as `evy up` does
        )
        roles = EDGE_ACTORS if bundle.edge else ("infer_large",)
        self.actors = {role: self.role(role, str(self.configuration)) for role in roles}
        self.others: list[Program] = []

    def wipe(self) -> None:
        """A new card: the store and the identity are gone, the credentials were kept elsewhere."""
        shutil.rmtree(self.store)
        (self.directory / "identity.json").unlink()

    def program(self, name: str, command: Sequence[str]) -> Program:
        return Program(f"{self.name}.{name}", self.host.command(command), self.directory / f"{name}.log")

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
                found = await self.monitor("/jsz?accounts=1&streams=1")
        except (OSError, TimeoutError, ValueError, msgspec.DecodeError):
            return None
        return {
            stream["name"]: stream["state"]["messages"]
            for account in found.get("account_details") or ()
            for stream in account.get("stream_detail") or ()
            if not stream["name"].startswith("KV_")
        }

    async def holds(self, wanted: StreamCounts) -> bool:
        """Whether the streams here, as far as they are here, hold so many messages."""
        found = await self.streams()
        return found is not None and all(found.get(name, count) == count for name, count in wanted.items())

    async def healthy(self) -> bool:
        """Whether the server answers and every stream and durable on it is up to date."""
        try:
            async with asyncio.timeout(3):
                return (await self.monitor("/healthz")).get("status") == "ok"
        except (OSError, TimeoutError, ValueError, msgspec.DecodeError):
            return False

    async def _cannot_write(self) -> str:
        """What the supervisor of `evy up` watches, through the host's own door."""
        async with self.host.door(MONITOR_PORT) as port:
            return await cannot_write(port, self.store)

    async def monitor(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(await self._get(path))
        return found

    async def _get(self, path: str) -> bytes:
        with self.host.inside():
            dialled = socket.socket()
        dialled.setblocking(False)
        with contextlib.closing(dialled):
            await asyncio.get_running_loop().sock_connect(dialled, ("127.0.0.1", MONITOR_PORT))
            reader, writer = await asyncio.open_connection(sock=dialled)
            with contextlib.closing(writer):
                writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/"):
            raise ValueError(head[:80])
        return body


class Land:
    """Everything: ``async with Land(directory, hosts) as land``."""

    def __init__(self, directory: Path, hosts: Hosts, seed: int) -> None:
        self.seed = seed
        self.feeding: list[Program] = []
        self._disks = contextlib.ExitStack()
        self.directory = directory
        self.hosts = hosts
        servers = [
            HubServer(name, (hosts[name].address,), CLIENT_PORT, LEAF_PORT, CLUSTER_PORT) for name in SERVERS
        ]
        self.authority = Authority.create(directory / "keys", servers)
        self.hubs = {
            name: Machine(
                hosts[name], directory / name, HUB, self.authority.server_bundle(name), directory / name
            )
            for name in SERVERS
        }
        self.edges = {name: self._edge(name) for name in EDGES}

    def _edge(self, name: str) -> Machine:
        bundle = self.authority.enrol(name)
        assert bundle.edge
        urls = tuple(f"tls://127.0.0.1:{LINE_PORT + number}" for number in range(len(SERVERS)))
        through = msgspec.structs.replace(bundle, edge=msgspec.structs.replace(bundle.edge, urls=urls))
        place = self.directory / name
        disk = self._disks.enter_context(small_disk(SMALL_OCTETS)) if name == SMALL else place
        machine = Machine(self.hosts[name], place, name, through, disk)
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
            await self._takes_orders()
        except BaseException:
            await self._down()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._down()

    async def _down(self) -> None:
        await asyncio.gather(*(program.down() for program in (*self.feeding, *self.programs)))
        self._disks.close()

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
                                await provide_takers(bus.js, place, edge)  # new nodes need no patience
                        break
                    except BusError:  # a cluster that has no leader yet
                        await asyncio.sleep(0.3)
        for machine in self.edges.values():
            await self.provide_edge(machine)
            async with machine.bus() as bus:
                await provide_takers(bus.js, Place(machine.node, centre=True), machine.node)

    async def provide_edge(self, edge: Machine) -> None:
        """What the first `evy run` of an edge makes."""
        async with edge.bus() as bus:
            await provision(bus.js, Place(edge.node, centre=True))

    async def heal(self) -> None:
        """Ends every fault: lines without a limit, every program kept running."""
        await asyncio.gather(*(program.up() for program in self.programs))
        await self.order(Heal())
        await self.order(Shape())

    async def _takes_orders(self, within_s: float = 60) -> None:
        """Returns when every edge's line does."""
        async with asyncio.timeout(within_s):
            for edge in self.edges.values():
                for number in range(len(SERVERS)):
                    while not (edge.directory / f"line{number}").exists():
                        await asyncio.sleep(0.05)

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

    async def waiting(self) -> StreamCounts | None:
        """Work in the streams of all servers, in all copies; None while a server does not answer."""
        counts: StreamCounts = {}
        for machine in self.machines:
            found = await machine.streams()
            if found is None:
                return None
            for stream, count in found.items():
                if count and not stream.startswith(("EVT_", "DLQ_")):
                    counts[f"{machine.name}:{stream}"] = count
        return counts

    async def settled(self, within_s: float) -> StreamCounts | None:
        """What still waits when nothing does any more, or when the time is over."""
        until_s = time.monotonic() + within_s
        while (found := await self.waiting()) != {} and time.monotonic() < until_s:
            await asyncio.sleep(0.5)
        return found

    async def hold(self, wanted: StreamCounts, within_s: float = 120) -> None:
        """Returns when streams hold so many messages, in all copies. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            for machine in self.machines:
                while not await machine.holds(wanted):
                    await asyncio.sleep(0.2)

    async def stored(self, *streams: str) -> tuple[Name, ...]:
        """The queries of all messages in some streams, stream by stream, in their order."""
        found: list[Name] = []
        for stream in streams:
            machine = self.hubs["hub1"] if stream.startswith("IN_") else self.edges[stream.rpartition("_")[2]]
            async with machine.bus() as bus:
                state = (await bus.js.stream_info(stream)).state
                for sequence in range(max(1, state.first_seq), state.last_seq + 1):
                    with contextlib.suppress(NotFoundError):
                        data = (await bus.js.get_msg(stream, sequence)).data or b""
                        if name := Name.find(data.decode()):
                            found.append(name)
        return tuple(found)

    def seen(self, hop: str, batch: str) -> Seen:
        """What a hop saw, over all machines."""
        logs = [Log(machine.directory, hop) for machine in self.machines]
        return Seen.of((saw for log in logs for saw in log.read()), batch)

    async def withheld(self, batch: str) -> dict[Name, str]:
        """Texts of a batch that no edge sends because nobody there has the number, each with the reason."""
        found = {}
        for machine in self.edges.values():
            async with machine.bus() as bus:
                stream = f"EVT_{machine.node}"
                state = (await bus.js.stream_info(stream)).state
                for sequence in range(max(1, state.first_seq), state.last_seq + 1):
                    event = decode((await bus.js.get_msg(stream, sequence)).data or b"", Event)
                    name = Name.find(event.query_id)
                    if event.kind == "withheld" and name and name.batch == batch:
                        found[name] = event.fields["reason"]
        return found

    async def letters(self, batch: str) -> list[Letter]:
        """Dead letters of a batch, and those of which nobody knows whence they are."""
        found = []
        for machine in [self.hubs["hub1"], *self.edges.values()]:
            async with machine.bus() as bus:
                stream = f"DLQ_{machine.node}"
                state = (await bus.js.stream_info(stream)).state
                for sequence in range(max(1, state.first_seq), state.last_seq + 1):
                    letter = decode((await bus.js.get_msg(stream, sequence)).data or b"", DeadLetter)
                    name = Name.find(letter.payload.decode(errors="replace"))
                    if name is None or name.batch == batch:
                        found.append(Letter(machine.name, name, letter.error))
        return found

    async def left(self) -> tuple[str, int]:
        """What is left in the streams and how far their consumers are, for a failure's report; and how many
        messages of a stream are still to be delivered or in somebody's hands."""
        lines, owed = [], 0
        for machine in self.machines:
            found = await machine.monitor("/jsz?accounts=1&streams=1&consumers=1")
            for account in found.get("account_details") or ():
                for stream in account.get("stream_detail") or ():
                    state = stream["state"]
                    if not state["messages"] or stream["name"].startswith(("KV_", "EVT_", "DLQ_")):
                        continue
                    span = f"{state['messages']} from {state['first_seq']} to {state['last_seq']}"
                    lines.append(f"{machine.name} {stream['name']}: {span}")
                    for one in stream.get("consumer_detail") or ():
                        in_hand, pending = one["num_ack_pending"], one["num_pending"]
                        owed += in_hand + pending
                        if in_hand or pending:
                            lines.append(
                                f"    {one['name']}: delivered {one['delivered']}, "
                                f"acknowledged {one['ack_floor']}, in hand {in_hand}, pending {pending}"
                            )
        return "\n".join(lines), owed

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
