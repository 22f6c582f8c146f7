"""Three nodes and a planned change of the spreading factor: the actor `mesh` with the real core and driver,
simulated RYLR896 modules on ptys; only the bus is in memory (docs/mesh.md, M69 to M71)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from actors._roster.installed import join, open_network
from actors._roster.operator import Operator
from actors._runtime import clock
from actors._runtime.config import Config
from actors._runtime.context import MemoryContext
from actors._runtime.identity import Identity
from actors._runtime.memory import MemoryKeyValue
from actors.knowledge import Texts, packer
from actors.mesh import Mesh, MeshConfig
from actors.mesh.parts import MODULE_NETWORKS, Parts
from actors.mesh.payload import Codec
from actors.mesh.radio import RadioSettings
from actors.mesh.rylr896 import Rylr896
from simulators.radio import Air, Ground
from simulators.radio.ground import Channel, Link, Place
from subjects import names
from subjects.mesh import MeshPacket, MeshStatus, MeshStatusRequest
from subjects.node_state import NodeState

pytestmark = [pytest.mark.modem, pytest.mark.timeout(240)]

SPEED = 10.0
"""How much faster the channel's time runs."""
WITHIN_S = 60.0
FORMER, LATER = 7, 9
HILL_DB = 200.0


class Node:
    """The actor `mesh` of one node, at a module on a pty, with a clock that shows what a test says."""

    def __init__(self, name: str, directory: Path, air: Air) -> None:
        self.name = name
        tables = {"node": {"name": name, "data_dir": str(directory)}}
        self.context = MemoryContext(Config(tables), Identity(name, b"x", "0"))
        self.context.state = NodeState(node=name, at=time.time(), clock="network")
        self.module = air.modules[air.named(name)]
        network = open_network(directory)

        def radio(tuned: object, _: MeshConfig) -> Rylr896:
            settings = RadioSettings(
                frequency_hz=network.frequency_hz,
                spreading_factor=tuned.spreading_factor,  # type: ignore[attr-defined]  # Installed
                network=1 + network.network % MODULE_NETWORKS,
            )
            return Rylr896(str(self.module.terminal.link), settings, speed=SPEED)

        self.mesh = Mesh(
            self.context,
            MeshConfig(device="a pty"),
            network,
            parts=Parts(radio, lambda: int(clock.boot_s() * 1e6 * SPEED)),
            kept=MemoryKeyValue(),
            masked=MemoryKeyValue(),
            codec=Codec(packer(Texts([], {}, [], [], {}))),
        )

    @property
    def on(self) -> int:
        """What its module is set to."""
        return self.module.tuning.spreading_factor

    def show(self, ahead_s: float, *, known: bool = True) -> None:
        """Its clock is so far ahead of the true time."""
        self.context.state = NodeState(
            node=self.name, at=time.time(), clock="network" if known else "unset", ahead_s=ahead_s
        )

    def arrived(self) -> list[bytes]:
        packets = [out.message for out in self.context.published if out.subject.startswith(names.MESH_IN)]
        return [packet.payload for packet in packets if isinstance(packet, MeshPacket)]

    def reaches(self, address: int) -> bool:
        core = self.mesh.loop.core
        now_us = int(clock.boot_s() * 1e6 * SPEED)
        return core is not None and any(one.destination == address for one in core.routes(now_us))

    def count(self, name: str) -> int:
        core = self.mesh.loop.core
        return core.counters().get(name, 0) if core else 0

    async def status(self) -> MeshStatus:
        return await self.mesh.status(MeshStatusRequest())

    def heard_of(self) -> list[tuple[str, object]]:
        return [(event.kind, event.fields.get("why")) for event in self.context.events]


async def until(nodes: list[Node], condition: Callable[[], bool]) -> None:
    try:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        told = [(node.name, node.on, node.heard_of(), await node.status()) for node in nodes]
        raise AssertionError(told) from None


@asynccontextmanager
async def running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, hidden: tuple[str, str] | None = None
) -> AsyncIterator[tuple[list[Node], Air]]:
    """Three nodes, 800 m from one to the next, with a change a day from now; ``hidden`` two do not hear each
    other."""
    monkeypatch.setattr("actors.mesh.loop.LONGEST_SLEEP_S", 0.05)
    called = ("far", "middle", "gate")
    ground = Ground(
        radio=tuple(Place(name, 800.0 * number, 0.0) for number, name in enumerate(called)),
        channel=Channel(shadow_db=0, asymmetry_db=0),
        link=(Link(*hidden, HILL_DB),) if hidden else (),
    )
    operator = Operator.create(
        tmp_path / "keys", "valley", region="EU868", frequency_hz=869_525_000, spreading_factor=FORMER
    )
    files = {name: operator.enrol(name) for name in called}
    operator.plan(LATER, round(time.time() + 86_400), time.time())
    (tmp_path / "air").mkdir()
    air = Air(ground, tmp_path / "air", speed=SPEED)
    air.start()
    tasks = []
    try:
        nodes = []
        for name in called:
            join(tmp_path / name, name, files[name])
            join(tmp_path / name, name, operator.file)  # with the plan, and who was enrolled later
            nodes.append(Node(name, tmp_path / name, air))
        tasks = [asyncio.create_task(node.mesh.loop.run()) for node in nodes]
        yield nodes, air
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        air.stop()


async def test_a_letter_in_parts_arrives_once_while_all_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, monkeypatch, hidden=("far", "gate")) as (nodes, air):
        far, middle, gate = nodes
        await until(nodes, lambda: far.reaches(3) and gate.reaches(1))
        payload = bytes(range(256)) * 3
        sending = asyncio.create_task(far.mesh.loop.send(3, payload, "priority", within_s=WITHIN_S))
        await until(nodes, lambda: middle.count("relayed") > 0)
        assert gate.arrived() == []
        for node in (gate, far, middle):
            node.show(86_460)
        assert await sending == "delivered"
        await until(nodes, lambda: [node.on for node in nodes] == [LATER] * 3)
        assert gate.arrived() == [payload]
        again = b"on the new one"
        assert await gate.mesh.loop.send(1, again, "flash", within_s=WITHIN_S) == "delivered"
        assert (far.arrived(), gate.arrived()) == ([again], [payload])
        status = await far.status()
        assert (status.spreading_factor, status.agreed_spreading_factor, status.looking) == (
            LATER,
            LATER,
            False,
        )
        assert [why for kind, why in far.heard_of() if kind == "mesh_tuned"] == ["planned"]
        assert not any(count.violations for count in air.counts)


async def test_a_node_whose_clock_is_wrong_finds_the_others_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others talk, so that they are heard within a shorter time than beacons would take."""
    async with running(tmp_path, monkeypatch) as (nodes, air):
        late, second, third = nodes
        await until(nodes, lambda: all(node.reaches(3) for node in nodes[:2]) and third.reaches(1))
        monkeypatch.setattr("actors.mesh.schedule.BEACON_LEAST_S", 60.0)
        monkeypatch.setattr("actors.mesh.schedule.BEACON_FRAMES", 0)
        late.show(-9 * 3600.0, known=False)
        second.show(86_460)
        third.show(86_460)
        await until(nodes, lambda: second.on == third.on == LATER)
        assert late.on == FORMER
        payload = b"is anybody there? " * 30
        sending = asyncio.create_task(late.mesh.loop.send(3, payload, "routine", within_s=2 * WITHIN_S))

        async def talk() -> None:
            while True:
                await second.mesh.loop.send(3, b"well?", "flash", within_s=WITHIN_S)
                await third.mesh.loop.send(2, b"well!", "flash", within_s=WITHIN_S)
                await asyncio.sleep(2)  # the law leaves each a tenth of the time

        talking = asyncio.create_task(talk())
        try:
            assert await sending == "delivered"
        finally:
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
        assert third.arrived().count(payload) == 1
        assert (late.on, (await late.status()).looking) == (LATER, False)
        assert ("mesh_tuned", "looking") in late.heard_of()
        assert not any(count.violations for count in air.counts)
