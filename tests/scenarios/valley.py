"""Five nodes that reach each other by radio alone, and a centre that one of them has a line to.

Each node has its nats-server and one process of real actors; its radio is a simulated RYLR896 on a pty, and
the air between them is the core's channel. The far node has a simulated modem with phones. Everything can be
killed and brought back.

::

                 east
    hub ~ gate <      > mid - far ~ phones        a stranger's module between mid and far
                 west
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Final

from actors._cli.stage import NODE_NUMBER, Stage, cache_directory
from actors._roster.installed import join as join_mesh
from actors._roster.operator import Operator
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.identity import load_identity
from actors._runtime.node_view import NodeView
from actors._runtime.server_files import Bundle, join
from actors._runtime.services import ask
from simulators.control import Control
from simulators.radio import Air, Ground
from simulators.radio.ground import Channel, Link, Place
from subjects.errors import EvyError
from subjects.mesh import MeshStatus, MeshStatusRequest
from subjects.messages import Event
from tests.conftest import free_port
from tests.linked import Linked, Machine, running
from tests.scenarios.land import Program
from tests.scenarios.truth import Log, Saw

GATE, FAR, MID = "gate", "far", "mid"
SPREADING_FACTOR: Final = 7
"""The fastest there is: what a message needs at SF9 takes here a quarter of the time."""
WORKS: Final[Mapping[str, tuple[str, ...]]] = {
    GATE: ("route", "rag", "compress", "link", "mesh", "node"),
    "east": ("mesh", "node"),
    "west": ("mesh", "node"),
    MID: ("mesh", "node"),
    FAR: ("sms", "intake", "route", "rag", "compress", "alert", "link", "mesh", "node"),
}
"""What each node runs, in one process."""
STRANGER: Final = "stranger"
NEAR: Final = (
    (GATE, "east"),
    (GATE, "west"),
    ("east", MID),
    ("west", MID),
    (MID, FAR),
    (MID, STRANGER),
    (FAR, STRANGER),
)
HILL_DB: Final = 180.0
"""Between all others."""
PLACES: Final = {
    GATE: (0, 0),
    "east": (300, 200),
    "west": (300, -200),
    MID: (600, 0),
    FAR: (900, 0),
    STRANGER: (750, 200),
}

CONFIGURATION: Final = """\
[node]
name = "{name}"
data_dir = "{data}"
nats_port = {port}
[mesh]
device = "{device}"
"""
RAG_TABLE: Final = """\
[rag]
index = "{cache}/index"
"""
FAR_TABLES: Final = """\
[sms]
device = "{data}/modem"
driver = "at"
connection = "dku2at"
poll_interval_s = 0.05
[intake]
own_numbers = ["{own}"]
"""
CENTRE: Final = """\
[node]
profile = "bigevy"
data_dir = "{data}"
nats_url = "tls://127.0.0.1:{port}"
"""


class Node:
    """One machine: server, actors, radio."""

    def __init__(self, name: str, directory: Path, server: Machine, air: Air) -> None:
        self.name = name
        self.directory = directory
        self.server = server
        self.radio = air.modules[air.named(name)]
        self.configuration = directory / "evy.toml"
        tables = [
            CONFIGURATION,
            *([FAR_TABLES] if name == FAR else []),
            *([RAG_TABLE] if "rag" in WORKS[name] else []),
        ]
        values = {"name": name, "data": directory, "port": server.port, "device": air.directory / name}
        self.configuration.write_text(
            "".join(tables).format(**values, own=NODE_NUMBER, cache=cache_directory())
        )
        run = [sys.executable, "-m", "actors", "--config", str(self.configuration), "run", *WORKS[name]]
        self.actors = Program(name, run, directory / "actors.log")

    async def die(self) -> None:
        """The power goes, in the middle of whatever it was."""
        self.radio.unplug()
        await self.actors.down()
        self.server.kill()

    async def come_back(self) -> None:
        """The power is back."""
        self.radio.plug()
        self.server.start()
        await self.actors.up()

    async def bus(self) -> NatsBus:
        identity = await asyncio.to_thread(load_identity, self.name, self.directory)
        return await NatsBus.connect(identity, self.server.url, "test", wait_s=20)

    async def status(self) -> MeshStatus | None:
        """How its mesh does; None while it does not answer."""
        try:
            bus = await self.bus()
        except BusError:
            return None
        try:
            found: MeshStatus = await ask(bus, "mesh.status", MeshStatusRequest(), within_s=3)
        except EvyError:
            return None
        else:
            return found
        finally:
            await bus.close()

    @property
    def log(self) -> str:
        """The last lines of its actors, for a test that failed."""
        path = self.directory / "actors.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-30:]) if path.exists() else ""


class Valley:
    """``async with valley(directory) as land``."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.linked = Linked(directory, edges=(GATE,))
        (directory / "air").mkdir()
        self.air = Air(ground(), directory / "air", seed=seed)
        operator = Operator.create(
            directory / "mesh-keys",
            "valley",
            region="EU868",
            frequency_hz=869_525_000,
            spreading_factor=SPREADING_FACTOR,
        )
        files = {name: operator.enrol(name) for name in WORKS}
        self.nodes: dict[str, Node] = {}
        for name, file in files.items():
            data = directory / name
            data.mkdir(exist_ok=True)
            join_mesh(data, name, file)
            join_mesh(data, name, operator.file)
            if name == GATE:
                server = self.linked.edges[GATE]
            else:
                port = free_port()
                server = Machine(join(data / "server", Bundle(1, "lilevy", name, ""), port=port), port)
            self.nodes[name] = Node(name, data, server, self.air)
        self.stage: Stage
        self.view: NodeView
        self._others: list[Program] = []

    @property
    def asked_at_centre(self) -> list[Saw]:
        """What the centre's model was asked, each time."""
        return list(Log(self.directory / "hub1", "solder").read())

    def program(self, name: str, *arguments: str) -> Program:
        made = Program(name, [sys.executable, "-m", *arguments], self.directory / f"{name}.log")
        self._others.append(made)
        return made

    @property
    def programs(self) -> list[Program]:
        return [*(node.actors for node in self.nodes.values()), *self._others]

    async def _stage(self, stack: contextlib.AsyncExitStack) -> Stage:
        """The phones of the far node."""
        far = self.nodes[FAR]
        while not (far.directory / "control").exists():
            await asyncio.sleep(0.02)
        control = await stack.enter_async_context(Control(far.directory / "control"))
        bus = await far.bus()
        stack.push_async_callback(bus.close)
        stage = Stage(far.directory, bus, bus.identity, control)
        stack.push_async_callback(await bus.follow_events(stage.note_event))
        self.view = NodeView(bus)
        notes = asyncio.create_task(stage.note_entries())
        stack.callback(notes.cancel)
        return stage

    async def until(self, holds: Callable[[], bool], within_s: float) -> bool:
        """Waits for something; False when it did not come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not holds():
                    await asyncio.sleep(0.05)
                return True
        return holds()

    async def route(self, within_s: float, hops: int = 3) -> MeshStatus:
        """Waits until the far node and its actors know the way to the gateway. Raises AssertionError."""
        status: MeshStatus | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while True:
                    status = await self.nodes[FAR].status()
                    known = status and any(route.uplink and route.hops == hops for route in status.routes)
                    if status and known and self.knows_uplink:
                        return status
                    await asyncio.sleep(0.3)
        logs = "\n\n".join(f"{node.name}:\n{node.log}" for node in self.nodes.values())
        raise AssertionError(f"no route to the gateway: {status}\n{logs}")

    async def carries(self, name: str, within_s: float) -> None:
        """Returns when one of the two ways is the middle node's, and the other one is there too."""
        other = ({"east", "west"} - {name}).pop()
        mid, hidden = self.air.named(MID), self.air.named(other)
        self.air.set_shadow(mid, hidden, HILL_DB, one_way=False)
        async with asyncio.timeout(within_s):
            while not await self.nodes[other].status():
                await asyncio.sleep(0.2)
            while self._next_hop(await self.nodes[MID].status()) != name:
                await asyncio.sleep(0.2)
        self.air.set_shadow(mid, hidden, 0.0, one_way=False)

    @staticmethod
    def _next_hop(status: MeshStatus | None) -> str:
        """By whom the gateway is reached."""
        routes = {route.destination: route for route in status.routes} if status else {}
        to_gate = next((route for route in routes.values() if route.name == GATE), None)
        return routes[to_gate.next_hop].name if to_gate and to_gate.next_hop in routes else ""

    @property
    def knows_uplink(self) -> bool:
        """Whether the far node's actors were told that there is a gateway."""
        mesh = self.view().mesh
        return mesh is not None and mesh.uplink

    def events(self, kind: str) -> list[Event]:
        """Of the far node."""
        return [event for event in self.stage.events if event.kind == kind]


def ground() -> Ground:
    """The map."""
    names = list(PLACES)
    pairs = [(one, other) for number, one in enumerate(names) for other in names[number + 1 :]]
    near = {frozenset(pair) for pair in NEAR}
    return Ground(
        radio=tuple(Place(name, x, y) for name, (x, y) in PLACES.items()),
        channel=Channel(spreading_factor=SPREADING_FACTOR),
        link=tuple(Link(*pair, 0.0 if frozenset(pair) in near else HILL_DB) for pair in pairs),
    )


@contextlib.asynccontextmanager
async def valley(directory: Path, seed: int = 1) -> AsyncIterator[Valley]:
    """Starts everything; what runs is killed at the end."""
    made = Valley(directory, seed)
    async with running(made.linked), contextlib.AsyncExitStack() as stack:
        made.air.start()
        stack.callback(made.air.stop)
        hub = directory / "hub1" / "evy.toml"
        hub.write_text(CENTRE.format(data=directory / "hub1", port=made.linked.hubs["hub1"].port))
        far = made.nodes[FAR].directory
        modem = ("--link", str(far / "modem"), "--control", str(far / "control"))
        made.program("modem", "simulators.modem", *modem)
        made.program("centre", "tests.scenarios.worker", "solder", str(hub))
        stack.push_async_callback(_down, made)
        for node in made.nodes.values():
            if node.name != GATE:
                stack.callback(node.server.stop)
                node.server.start()
        for program in made.programs:
            await program.up()
        made.stage = await made._stage(stack)
        yield made


async def _down(made: Valley) -> None:
    await asyncio.gather(*(program.down() for program in made.programs))
