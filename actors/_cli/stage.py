"""A whole node with a simulated modem, as child processes in a directory of its own.

For `evy demo` and `evy phone`: real nats-server, real Gammu on a serial line, real model; only the modem and
the network behind it are simulated.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from actors._cli.node import actor_children, server_child
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.config import Config, load_config
from actors._runtime.identity import Identity, load_identity
from actors._runtime.provision import Place
from actors._runtime.supervisor import Child, port_is_free, supervise
from simulators.control import AnyOrder, Control, Send
from simulators.network import Entry
from subjects.errors import EvyError
from subjects.messages import Event

FIRST_PORT: Final = 14222
NODE_NUMBER: Final = "+15550100"
RESPONDER: Final = "+15550199"
READY_WITHIN_S: Final = 90.0

CONFIGURATION: Final = """\
[node]
name = "demo"
data_dir = "{directory}"
nats_port = {port}
emergency_number = "112"

[sms]
device = "{directory}/modem"
# A pseudo terminal has no line speed to agree on. A real modem needs "at115200", which takes 4.5 s more.
connection = "dku2at"
poll_interval_s = 0.05
part_timeout_s = 20

[intake]
own_numbers = ["{own}"]

[rag]
index = "{cache}/index"
"""

CONTACTS: Final = """\
[[contacts]]
name = "Rescue volunteer"
number = "{responder}"
needs = ["rescue", "fire"]
"""


class StageError(EvyError):
    """The node did not come up; the text names the logs."""


class Stage:
    """A running node, its network of phones, and what happened so far."""

    def __init__(self, directory: Path, bus: NatsBus, identity: Identity, control: Control) -> None:
        self.directory = directory
        self.bus = bus
        self.identity = identity
        self._control = control
        self.events: list[Event] = []
        self.entries: list[Entry] = []
        self.changed = asyncio.Condition()

    async def text(self, number: str, text: str, *, times: int = 1) -> None:
        """A phone texts the node; ``times`` 2 is a network that delivers the same SMS twice."""
        await self.order(Send(number=number, text=text, times=times))

    async def order(self, order: AnyOrder) -> None:
        """Has the simulated modem or its network do something."""
        await self._control.do(order)

    async def note_event(self, event: Event) -> None:
        """Keeps an event of the node."""
        async with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    async def note_entries(self) -> None:
        """Keeps what the network sees, for ever."""
        async with Control(self.directory / "control") as control:
            async for entry in control.watch():
                async with self.changed:
                    self.entries.append(entry)
                    self.changed.notify_all()

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Waits for something to happen; False when it did not."""
        try:
            async with asyncio.timeout(timeout_s), self.changed:
                await self.changed.wait_for(condition)
        except TimeoutError:
            return False
        return True

    def read_by(self, number: str) -> list[str]:
        """Texts that a phone could read so far."""
        return [entry.text for entry in self.entries if entry.what == "read" and entry.number == number]

    def events_of(self, number: str, kind: str) -> list[Event]:
        """Events of one kind about one phone."""
        ref = self.identity.sender_ref(number)
        return [event for event in self.events if event.kind == kind and event.sender_ref == ref]


def cache_directory() -> Path:
    """Where the search index outlives a demonstration: building it takes longer than all the rest."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evy"


def write_configuration(directory: Path) -> Config:
    """Files of a demonstration node on a free port."""
    port = next(port for port in range(FIRST_PORT, FIRST_PORT + 1000) if port_is_free(port))
    path = directory / "evy.toml"
    path.write_text(
        CONFIGURATION.format(directory=directory, port=port, own=NODE_NUMBER, cache=cache_directory()),
        encoding="utf-8",
    )
    (directory / "contacts.toml").write_text(CONTACTS.format(responder=RESPONDER), encoding="utf-8")
    return load_config(path)


@contextlib.asynccontextmanager
async def on_stage(directory: Path, progress: Callable[[str], None]) -> AsyncIterator[Stage]:
    """Starts everything in ``directory``, waits until it answers, and stops it all at the end.

    Raises :class:`StageError` when it is not ready within :data:`READY_WITHIN_S`.
    """
    config = write_configuration(directory)
    identity = load_identity(config.node.name, directory)
    stop = asyncio.Event()
    simulator = Child(
        "modem simulator",
        [
            sys.executable,
            "-m",
            "simulators.modem",
            "--link",
            str(directory / "modem"),
            "--control",
            str(directory / "control"),
        ],
        {},
        directory / "simulator.log",
    )
    actors = actor_children(config, config.path)
    for child in actors:
        child.log_file = directory / "actors.log"
    progress("starting nats-server, the actors and a simulated SIM800C modem")
    running = asyncio.create_task(supervise(server_child(config), [simulator, *actors], stop))
    try:
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(READY_WITHIN_S):
                    stage = await _connect(directory, identity, config, stack)
            except (TimeoutError, BusError) as error:
                raise StageError(f"the node did not come up; its logs: {directory}/*.log") from error
            progress("ready")
            yield stage
    finally:
        stop.set()
        await running


async def _connect(
    directory: Path, identity: Identity, config: Config, stack: contextlib.AsyncExitStack
) -> Stage:
    """Waits for the simulator, the server, every actor and the modem, in this order."""
    while not (directory / "control").exists():  # noqa: ASYNC110  # another process makes it
        await asyncio.sleep(0.02)
    control = await stack.enter_async_context(Control(directory / "control"))
    bus = await NatsBus.connect(identity, config.node.url, "stage")
    stack.push_async_callback(bus.close)
    stage = Stage(directory, bus, identity, control)
    stack.push_async_callback(await bus.follow_events(stage.note_event))
    notes = asyncio.create_task(stage.note_entries())
    stack.callback(notes.cancel)
    while not await bus.has_workers(Place.of(config.node).rows()):  # noqa: ASYNC110  # the server does not tell
        await asyncio.sleep(0.1)
    # The modem may have been up before we listened; a node that has taken the line has asked it something.
    await stage.until(lambda: any(event.kind == "modem_up" for event in stage.events), 10)
    return stage
