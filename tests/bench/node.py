"""A node to measure: nats-server on the shipped configuration, real actors, a modem without a line."""

import asyncio
import contextlib
import select
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil
import uvloop

from actors import sms as sms_actor
from actors._runtime.actor import Actor
from actors._runtime.bus import NatsBus
from actors._runtime.config import Config
from actors._runtime.context import BusContext
from actors._runtime.identity import Identity
from actors._runtime.provision import provision
from actors._runtime.worker import run_actors
from actors.knowledge import Texts
from actors.sms.modem import Modem, Opened, Part, Received, Report
from actors.sms.outbox import Outbox
from subjects import names, registry
from tests.conftest import NODE, PLACE, Server

R = TypeVar("R")

RESPONDER = "+15550199"
_TEXTS = Texts.load()
_ASKS = {_TEXTS.say("ask_place", lang) for lang in _TEXTS.languages} | _TEXTS.menus()


def on_uvloop(coroutine: Coroutine[Any, Any, R]) -> R:
    """Runs ``coroutine`` on the event loop that EVY's processes use."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


class Node:
    """A running server with the registry's streams, durables and buckets."""

    def __init__(self, server: Server, bus: NatsBus, context: BusContext) -> None:
        self.server = server
        self.bus = bus
        self.context = context

    async def sequence(self, stream: str) -> int:
        """Messages stored in a stream so far."""
        return (await self.bus.js.stream_info(stream)).state.last_seq

    async def stored(self) -> tuple[int, int]:
        """Work messages and key-value writes stored so far, each of them synchronously."""
        work = [await self.sequence(f"{name}_{NODE}") for name in ("FLASH", "WORK")]
        values = [
            await self.sequence(f"KV_{row.bucket(NODE)}") for row in registry.BUCKETS if row.storage == "file"
        ]
        return sum(work), sum(values)

    async def idle(self) -> bool:
        """Whether no work is left in the streams."""
        infos = [await self.bus.js.stream_info(f"{name}_{NODE}") for name in ("FLASH", "WORK")]
        return not any(info.state.messages for info in infos)

    def cpu_s(self) -> tuple[float, float]:
        """Seconds of processor that this process and the server have used."""
        assert self.server.process is not None
        own, server = time.process_time(), psutil.Process(self.server.process.pid).cpu_times()
        return own, server.user + server.system

    @contextlib.asynccontextmanager
    async def running(self, actors: Iterable[Actor]) -> AsyncIterator[None]:
        """Runs actors as one process of EVY does; ready when every one of their durables is waited on."""
        actors = list(actors)
        stop = asyncio.Event()
        work = asyncio.create_task(run_actors(self.bus, actors, stop))
        rows = [registry.work(subject) for actor in actors for subject in actor.handlers]
        try:
            async with asyncio.timeout(30):
                while not await self.bus.has_workers(rows):
                    await asyncio.sleep(0.02)
            yield
        finally:
            stop.set()
            await work


@contextlib.asynccontextmanager
async def running_node(
    directory: Path, under: Sequence[str] = (), tables: Mapping[str, Any] | None = None
) -> AsyncIterator[Node]:
    """A fresh node in ``directory``; ``under`` runs its server, ``tables`` are more of its `evy.toml`."""
    directory.mkdir(parents=True)  # noqa: ASYNC240  # once, before anything is measured
    server = Server(directory / "nats", under)
    try:
        config = Config({"node": {"name": NODE, "data_dir": str(directory)}, **(tables or {})})
        identity = Identity(NODE, b"a secret of the benchmark", "0000")
        bus = await NatsBus.connect(identity, server.url, "bench")
        await provision(bus.js, PLACE)
        yield Node(server, bus, BusContext(config, bus))
        await bus.close()
    finally:
        server.stop()


class MemoryModem:
    """A modem whose line and network take no time, behind the boundary of `actors.sms.modem`.

    Its storage holds as much as a SIM. Times are of ``time.perf_counter``; it gives no status reports.
    """

    SIM_CAPACITY = 30

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Received] = []
        self._storage: dict[int, Received] = {}
        self._location = 0
        self._reference = 0
        self.shown_at: dict[str, float] = {}
        """When the texts of a sender were first shown to EVY."""
        self.sent: list[tuple[float, Part]] = []
        self.progress = threading.Event()

    def arrive(self, texts: Iterable[tuple[str, str]]) -> None:
        """Texts, as sender and words, that the network holds ready for the SIM."""
        with self._lock:
            for sender, words in texts:
                self._location += 1
                self._waiting.append(Received(self._location, sender, words, float(self._location)))

    def open(self) -> Opened:
        """Ready at once."""
        return Opened(last_reference=self._reference)

    def poll(self, in_hand: frozenset[int]) -> tuple[list[Received], list[Report]]:
        """What lies in storage and is not in hand."""
        with self._lock:
            while self._waiting and len(self._storage) < self.SIM_CAPACITY:
                sms = self._waiting.pop(0)
                self._storage[sms.location] = sms
            shown = [sms for location, sms in self._storage.items() if location not in in_hand]
        now = time.perf_counter()
        for sms in shown:
            self.shown_at.setdefault(sms.sender, now)
        return shown, []

    def wait(self, wake: int, timeout_s: float) -> bool:
        """As long as the driver of a modem that announces nothing."""
        select.select([wake], [], [], timeout_s)
        return False

    def status(self) -> dict[str, str]:
        """It says nothing of itself."""
        return {}

    def restart(self) -> None:
        """It has no firmware."""

    def delete(self, location: int) -> None:
        """Frees a place."""
        with self._lock:
            self._storage.pop(location, None)

    def send_part(self, part: Part) -> int:
        """Takes a part and notes when."""
        self.sent.append((time.perf_counter(), part))
        self._reference = (self._reference + 1) % 256
        return self._reference

    def close(self) -> None:
        """Nothing to let go of."""

    def replies(self) -> Iterator[tuple[str, float]]:
        """Recipient and time of each text sent, by its first part; alerts to the responder and what comes
        with an alert, the question for the place and the menu, left out."""
        for at, part in list(self.sent):
            if part.index == 1 and part.number != RESPONDER and part.text not in _ASKS:
                yield part.number, at


async def build_sms(context: BusContext, modem: Modem, poll_interval_s: float = 0.01) -> Actor:
    """The real actor `sms` as it builds itself, but with ``modem``."""
    config = sms_actor.SmsConfig(device="memory", poll_interval_s=poll_interval_s)
    identity = context.identity
    entries, numbers = await context.bucket("ledger"), await context.bucket("numbers")
    outbox = Outbox(await context.bucket("outbox"), entries, numbers, context.publish, context.emit)
    actor = sms_actor.Sms(
        config=config,
        identity=identity,
        drivers={config.name: modem},
        lane_of=sms_actor.triage_lane(),
        ledger=entries,
        parts=await context.bucket("parts"),
        modems=await context.bucket("modems"),
        outbox=outbox,
        numbers=numbers,
        consent=await context.bucket("consent"),
        bulletins=await context.bucket("bulletins"),
        publish=context.publish,
        dead_letter=context.dead_letter,
        emit=context.emit,
    )
    return Actor("sms", {names.SMS_OUT: actor.handle}, tasks=[actor.run], services=outbox.services)
