"""A whole node with a simulated modem, as child processes in a directory of its own.

For `evy demo` and `evy phone`: real nats-server, real Gammu on a serial line, real models; only the modem and
the network behind it are simulated.
"""

import asyncio
import contextlib
import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

from actors._cli.node import actor_children, server_child
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.config import Config, NodeConfig, load_config
from actors._runtime.identity import Identity, load_identity
from actors._runtime.provision import Place
from actors._runtime.server_files import settings
from actors._runtime.supervisor import Child, port_is_free, supervise
from actors.knowledge import Texts
from simulators.control import AnyOrder, Control, Send
from simulators.network import Entry
from subjects.errors import EvyError
from subjects.messages import Event
from subjects.registry import Profile

FIRST_PORT: Final = 14222
NODE_NUMBER: Final = "+15550100"
RESPONDER: Final = "+15550199"
READY_WITHIN_S: Final = 90.0

LLM_ANSWERS_WITHIN_S: Final = 60.0
WITH_CENTRE_WITHIN_S: Final = 20.0
"""Time for an answer where a centre shares the cores of its nodes; the default is 15."""
DISTRICT: Final = Path(__file__).parent / "district"
"""What the centre of a demonstration knows and its nodes do not."""

CONFIGURATION: Final = """\
[node]
profile = "{profile}"
name = "{name}"
data_dir = "{directory}"
nats_port = {port}
wait_s = {wait_s}
answer_within_s = {answer_within_s}
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

LARGE: Final = """
[infer_large]
base_url = "http://127.0.0.1:{port}"
articles = "{articles}"
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
        self.texts = Texts.load()
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

    def source_of(self, sent: Event) -> str:
        """Who made a text that was sent: "node" or "centre"."""
        centre = any(
            event.kind == "fitted"
            and event.query_id == sent.query_id
            and event.fields["purpose"] == sent.fields["purpose"]
            and event.fields["by_centre"]
            for event in self.events
        )
        return "centre" if centre else "node"

    def events_of(self, number: str, kind: str) -> list[Event]:
        """Events of one kind about one phone."""
        ref = self.identity.sender_ref(number)
        return [event for event in self.events if event.kind == kind and event.sender_ref == ref]


def cache_directory() -> Path:
    """Where the search index outlives a demonstration: building it takes longer than all the rest."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evy"


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on, nor on the one for monitoring that belongs to each."""
    found = (
        port
        for port in range(FIRST_PORT, FIRST_PORT + 1000)
        if port_is_free(port) and port_is_free(port + 4000)
    )
    return list(itertools.islice(found, count))


def write_configuration(
    directory: Path,
    name: str = "demo",
    profile: Profile = "lilevy",
    *,
    port: int = 0,
    wait_s: float = 6 * 3600.0,
    more: str = "",
) -> Config:
    """Files of a demonstration node; ``port`` 0 is any free one, ``more`` are further tables."""
    path = directory / "evy.toml"
    linked = profile == "hybrid" or settings(directory / "server") is not None
    within_s = WITH_CENTRE_WITHIN_S if linked else NodeConfig().answer_within_s
    if profile == "hybrid":
        within_s *= 1.5  # node, centre and both models share the cores
    text = CONFIGURATION.format(
        profile=profile,
        answer_within_s=within_s,
        name=name,
        directory=directory,
        port=port or free_ports(1)[0],
        wait_s=wait_s,
        own=NODE_NUMBER,
        cache=cache_directory(),
    )
    path.write_text(text + more, encoding="utf-8")
    (directory / "contacts.toml").write_text(CONTACTS.format(responder=RESPONDER), encoding="utf-8")
    return load_config(path)


@contextlib.asynccontextmanager
async def running(server: Child | None, children: Sequence[Child]) -> AsyncIterator[None]:
    """Keeps processes running; stops them at the end."""
    stop = asyncio.Event()
    task = asyncio.create_task(supervise(server, children, stop))
    try:
        yield
    finally:
        stop.set()
        await task


@contextlib.asynccontextmanager
async def model_server(directory: Path) -> AsyncIterator[str]:
    """`evy llm serve` with the shipped model; gives the table `[infer_large]` for a centre that asks it.

    On one core: the nodes around it need the other, and two that wait for each other are slower than one.
    """
    [port] = free_ports(1)
    serve = ["llm", "serve", "--port", str(port), "--parallel", "2", "--threads", "1"]
    child = Child("model server", [sys.executable, "-m", "actors", *serve], {}, directory / "llm.log")
    async with running(None, [child]):
        try:
            async with asyncio.timeout(LLM_ANSWERS_WITHIN_S):
                while port_is_free(port):  # noqa: ASYNC110  # another process takes it
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise StageError(f"the model server did not come up; its log: {child.log_file}") from error
        yield LARGE.format(port=port, articles=DISTRICT)


@contextlib.asynccontextmanager
async def on_stage(
    directory: Path, progress: Callable[[str], None], profile: Profile = "lilevy"
) -> AsyncIterator[Stage]:
    """Starts everything in ``directory``, waits until it answers, and stops it all at the end.

    Raises :class:`StageError` when it is not ready within :data:`READY_WITHIN_S`.
    """
    async with contextlib.AsyncExitStack() as stack:
        more = ""
        if profile == "hybrid":
            progress("starting the model server of the centre")
            more = await stack.enter_async_context(model_server(directory))
        progress("starting nats-server, the actors and a simulated SIM800C modem")
        config = write_configuration(directory, profile=profile, more=more)
        stage = await stack.enter_async_context(node_on_stage(directory, config))
        progress("ready")
        yield stage


@contextlib.asynccontextmanager
async def node_on_stage(directory: Path, config: Config) -> AsyncIterator[Stage]:
    """A configured node with its modem. Raises :class:`StageError` when it does not come up."""
    identity = load_identity(config.node.name, directory)
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
    async with running(server_child(config), [simulator, *actors]), contextlib.AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                stage = await _connect(directory, identity, config, stack)
        except (TimeoutError, BusError) as error:
            raise StageError(f"the node did not come up; its logs: {directory}/*.log") from error
        yield stage


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
