"""The place of a soak: a whole node on a simulated card, its modem and phones, a centre, and the link to it.

The node is ``evy up`` as in the field: shipped configuration, every actor, its store on the card; kept
running as systemd would. It has a boot id of its own, a new one after each power cut.
"""

import asyncio
import contextlib
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import msgspec
import psutil

from actors._cli.node import actor_children, server_child
from actors._cli.stage import DISTRICT, NODE_NUMBER, cache_directory
from actors._runtime.authority import Authority
from actors._runtime.bus import NatsBus
from actors._runtime.config import load_config
from actors._runtime.identity import load_identity
from actors._runtime.provision import Place, provide_takers, provision, provision_edge
from actors._runtime.server_files import HubServer, join
from actors._runtime.supervisor import Child, supervise
from simulators.battery import BatteryReply, Charge
from simulators.control import AnyOrder, Control, Plug, Unplug
from simulators.disk import client as card
from simulators.disk.orders import Cut
from simulators.link import Link
from simulators.network import Entry
from simulators.orders import OrderClient
from subjects.names import HUB
from tests.conftest import free_port
from tests.peer import Peer, http, written
from tests.scenarios import clocks
from tests.scenarios.land import Program
from tests.soak.plan import Pace

NODE: Final = "soak"
RESPONDER: Final = "+15550199"
READY_WITHIN_S: Final = 180.0
CARD_MB: Final = 256
COMPRESSED: Final = Path(__file__).parent / "compressed"
BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"

CONFIGURATION: Final = """\
[node]
name = "{node}"
data_dir = "{data}"
nats_port = {port}
wait_s = {wait_s}
answer_within_s = 20

[sms]
device = "{modem}"
driver = "{driver}"
connection = "dku2at"
part_timeout_s = {part_timeout_s}

[intake]
own_numbers = ["{own}"]

[rag]
index = "{cache}/index"

[power]
sys = "{battery}"
gauge = "power_supply"
"""
CONTACTS: Final = """\
[[contacts]]
name = "Rescue volunteer"
number = "{responder}"
needs = ["rescue", "fire", "medical"]
"""
CENTRE: Final = """\
[node]
profile = "bigevy"
data_dir = "{data}"
nats_port = {port}

[infer_large]
base_url = "{model}"
articles = "{articles}"
"""


def why_not() -> str:
    """Why no soak can run here; empty when one can."""
    return card.why_not() or clocks.why_not()


class Site:
    """Everything that runs. What breaks it is in :mod:`tests.soak.faults`."""

    def __init__(self, directory: Path, disk: card.MountedDisk, pace: Pace, driver: str, seed: int) -> None:
        self.directory = directory
        self.disk = disk
        self.pace = pace
        self.seed = seed
        self.data = disk.path / "node"
        self.modem = directory / "modem"
        self.control = directory / "control"
        self.entries: list[Entry] = []
        """What the network saw, so far."""
        self.powered = asyncio.Lock()
        """Held by who takes the power: one at a time."""
        self.power_losses = 0
        """Of the modem."""
        self._ordering = asyncio.Lock()
        self.port = free_port()
        self._driver = driver
        self._boot = directory / "boot_id"
        self.link: Link
        self.hub: list[Child] = []
        self.simulator = Program(
            "simulator",
            [
                *(sys.executable, "-m", "simulators.modem", "--link", str(self.modem)),
                *("--control", str(self.control), "--seed", str(seed)),
            ],
            directory / "simulator.log",
        )
        self.battery_directory = directory / "battery"
        self.battery = Program(
            "battery",
            [sys.executable, "-m", "simulators.battery", str(self.battery_directory), "--percent", "90"],
            directory / "battery.log",
        )
        configuration = str(self.data / "evy.toml")
        evy = ["env", f"PYTHONPATH={COMPRESSED}", f"EVY_SOAK_FACTOR={pace.factor}"]
        evy += [f"EVY_SOAK_REAL_S={pace.real_up_to_s}"]
        evy += [sys.executable, "-m", "actors", "--config", configuration, "up"]
        with_boot_id = f'mount --bind "$0" {BOOT_ID} && exec "$@"'
        self.node = Program(
            "evy up",
            [
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                with_boot_id,
                str(self._boot),
                *evy,
            ],
            directory / "up.log",
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Site"]:
        """Starts everything, waits until the node has its modem and its link, stops everything at the end."""
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            yield self

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        authority, hub = await self._centre(stack)
        leaf = authority.state.servers[0].leaf_port
        self.link = await stack.enter_async_context(
            Link(("127.0.0.1", 0), ("127.0.0.1", leaf), seed=self.seed)
        )
        await provision_edge(hub.js, Place(HUB, "bigevy"), NODE)
        await provide_takers(hub.js, Place(HUB, "bigevy"), NODE)
        await self.simulator.up()
        stack.push_async_callback(self.simulator.down)
        await self.battery.up()
        stack.push_async_callback(self.battery.down)
        async with asyncio.timeout(READY_WITHIN_S):
            while not (self.control.exists() and (self.battery_directory / "orders").exists()):
                await asyncio.sleep(0.05)
        self._orders = await stack.enter_async_context(Control(self.control))
        noting = asyncio.create_task(self._note())
        stack.callback(noting.cancel)
        self._install(authority)
        self.new_boot()
        await self.node.up()
        stack.push_async_callback(self.node.down, gently=True)
        bus = await self.bus()
        stack.push_async_callback(bus.close)
        async with asyncio.timeout(READY_WITHIN_S):
            while not await bus.has_workers(Place(NODE, centre=True).rows()):
                await asyncio.sleep(0.2)
        await provide_takers(bus.js, Place(NODE, centre=True), NODE)

    async def _centre(self, stack: contextlib.AsyncExitStack) -> tuple[Authority, NatsBus]:
        """A centre that knows a district; its model knows nothing, and says so."""
        directory = self.directory / "centre"
        directory.mkdir()
        model = await stack.enter_async_context(
            Peer(http(written("I do not know that.", known=False))).running()
        )
        client, leaf, cluster = free_port(), free_port(), free_port()
        server = HubServer("hub1", ("127.0.0.1",), client, leaf, cluster, "127.0.0.1")
        authority = Authority.create(directory / "keys", [server])
        join(directory / "server", authority.server_bundle("hub1"), port=client)
        path = directory / "evy.toml"
        text = CENTRE.format(data=directory, port=client, model=model.url, articles=DISTRICT)
        path.write_text(text, encoding="utf-8")
        config = load_config(path)
        actors = actor_children(config, path)
        for child in actors:
            child.log_file = directory / "actors.log"
        nats = server_child(config)
        assert nats is not None
        self.hub = [nats, *actors]
        stop = asyncio.Event()
        supervising = asyncio.create_task(supervise(nats, actors, stop))

        async def end() -> None:
            stop.set()
            await supervising

        stack.push_async_callback(end)
        hub = await NatsBus.connect(load_identity(HUB, directory), config.node.url, "soak")
        stack.push_async_callback(hub.close)
        await provision(hub.js, Place.of(config.node))
        return authority, hub

    def _install(self, authority: Authority) -> None:
        """What `evy nats join` and an editor leave on the card."""
        bundle = authority.enrol(NODE)
        assert bundle.edge is not None
        urls = (f"tls://127.0.0.1:{self.link.address[1]}",)
        through = msgspec.structs.replace(bundle, edge=msgspec.structs.replace(bundle.edge, urls=urls))
        self.data.mkdir()
        join(self.data / "server", through, port=self.port, monitor_port=self.port + 4000)
        text = CONFIGURATION.format(
            node=NODE,
            data=self.data,
            port=self.port,
            wait_s=self.pace.real_s(6 * 3600),
            modem=self.modem,
            driver=self._driver,
            part_timeout_s=self.pace.real_s(600),
            own=NODE_NUMBER,
            cache=cache_directory(),
            battery=self.battery_directory,
        )
        (self.data / "evy.toml").write_text(text, encoding="utf-8")
        (self.data / "contacts.toml").write_text(CONTACTS.format(responder=RESPONDER), encoding="utf-8")
        _sync(self.data)  # who installs a node does not pull its plug at once

    async def bus(self) -> NatsBus:
        """A connection to the node's server, once it answers. Raises BusError when it does not."""
        identity = load_identity(NODE, self.data)
        return await NatsBus.connect(identity, f"nats://127.0.0.1:{self.port}", "soak", wait_s=READY_WITHIN_S)

    async def _note(self) -> None:
        async with Control(self.control) as control:
            async for entry in control.watch():
                self.entries.append(entry)

    async def order(self, order: AnyOrder) -> None:
        """Has the modem or its network do something."""
        async with self._ordering:
            await self._orders.do(order)

    async def charge(self, percent: float) -> None:
        """Sets what the battery holds."""
        async with OrderClient(self.battery_directory / "orders", BatteryReply) as battery:
            await battery.do(Charge(percent))

    # -- the node's processes ------------------------------------------------------------------------------

    def new_boot(self) -> None:
        """The machine starts anew: no boot clock of before means anything now."""
        self._boot.write_text(f"{uuid.uuid4()}\n")

    def processes(self) -> Iterator[tuple[str, psutil.Process]]:
        """Those that live, by the names that `evy up` gives them; the supervisor itself is "evy up"."""
        if not (pid := self.node.pid):
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            supervisor = psutil.Process(pid)
            yield "evy up", supervisor
            for child in supervisor.children():
                with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    words = child.cmdline()
                    yield (
                        ("+".join(words[words.index("run") + 1 :]) if "run" in words else child.name()),
                        child,
                    )

    async def lose_power(self, seed: int | None, off_s: float) -> None:
        """Node, modem and card lose their power at once; it comes back after ``off_s``."""
        async with self.powered:
            victims = [process for _, process in self.processes()]
            for process in victims:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            self.power_losses += 1
            await asyncio.gather(self.node.down(), self.order(Unplug()))
            await asyncio.to_thread(psutil.wait_procs, victims, 30)
            await asyncio.to_thread(self.disk.do, Cut(seed))
            self.new_boot()
            await asyncio.sleep(off_s)
            await self.order(Plug())
            await self.node.up()

    async def streams(self) -> dict[str, int] | None:
        """Messages in each stream that holds work; None while the server does not answer."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port + 4000)
            with contextlib.closing(writer):
                writer.write(b"GET /jsz?accounts=1&streams=1 HTTP/1.0\r\n\r\n")
                async with asyncio.timeout(5):
                    body = (await reader.read()).partition(b"\r\n\r\n")[2]
            found = msgspec.json.decode(body)
        except (OSError, TimeoutError, msgspec.DecodeError):
            return None
        return {
            stream["name"]: stream["state"]["messages"]
            for account in found.get("account_details") or ()
            for stream in account.get("stream_detail") or ()
            if stream["name"].startswith(("WORK_", "FLASH_", "UP_"))
        }


def _sync(directory: Path) -> None:
    """Puts files on the card for good, as a file system does by itself after half a minute."""
    for path in directory.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
