"""What an actor is built from, on a real bus or in memory.

Every actor module has ``async def build(context) -> Actor`` and reads its own table of `evy.toml`; nothing
else knows how an actor is made.
"""

import asyncio
import importlib
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final, Protocol

from actors._runtime import services
from actors._runtime.actor import Actor, KeyValue, Output, ServiceHandler
from actors._runtime.bus import NatsBus, bus_errors
from actors._runtime.config import Config
from actors._runtime.erase import Person, erase, streams, sweep
from actors._runtime.event_log import EventLog, MemoryEventLog, NatsEventLog
from actors._runtime.identity import Identity
from actors._runtime.link import Link, NatsLink, NoLink
from actors._runtime.memory import MemoryKeyValue
from actors._runtime.node_view import NodeView
from actors._runtime.objects import NatsObjects, NoObjects, Objects
from actors._runtime.provision import Place, edges
from actors._runtime.stream_info import StreamInfo, ask_all
from actors._runtime.telemetry import TelemetryConfig
from subjects.errors import ConfigError
from subjects.messages import DeadLetter, Event, Message
from subjects.node_state import NodeState
from subjects.registry import STREAMS, WORK
from subjects.services import service

ACTORS: Final = tuple(dict.fromkeys((*(row.actor for row in WORK), "feeds", "link", "node", "analytics")))
"""Every actor, in the order of the pipeline; `feeds`, `link` and `node` handle no work."""

TABLES: Final = frozenset({"node", "power", "telemetry", "llm", "providers", *ACTORS})
"""Tables of `evy.toml`. ``[node]`` is about all of the node; what the actor `node` reads is ``[power]``;
``[llm]`` is `actors/_llm.py`, ``[providers.*]`` belongs to `infer_large`."""


class Context(Protocol):
    """The node as an actor sees it while it is built."""

    config: Config
    identity: Identity

    def link(self) -> Link:
        """The line to the centre, for one actor to watch."""

    def objects(self) -> Objects:
        """What the centre has published, read over the link."""

    def node_state(self) -> Callable[[], NodeState]:
        """A live view of the node: what it gives now is what the actor `node` said last."""

    async def follow(self, kinds: Collection[str], receive: Callable[[Event], Awaitable[None]]) -> None:
        """Calls ``receive`` with each event of these kinds from now on. Events of an outage are lost."""

    def now(self) -> float:
        """Unix time as the node believes it: for people, never for what decides."""

    def event_log(self) -> EventLog:
        """The events of this node as they are kept."""

    async def streams(self) -> list[StreamInfo]:
        """The streams of the node's server, buckets among them. Raises :class:`BusError`."""

    async def bucket(self, name: str) -> KeyValue:
        """Bucket of the registry by its short name."""

    async def publish(self, output: Output, actor: str) -> None:
        """Publishes work outside a handler; returns after the PubAck."""

    async def dead_letter(self, letter: DeadLetter, message_id: str = "") -> None:
        """Keeps a message that cannot be handled; returns after the PubAck."""

    def emit(self, event: Event) -> None:
        """Publishes an event without waiting."""

    async def nodes(self) -> list[str]:
        """Nodes of this centre, or of this hybrid, by name; none at an edge. Raises :class:`BusError`."""

    async def ask(self, name: str, question: Message, *, within_s: float) -> Any:
        """The reply of a service of this node. Raises as `services.ask` does."""

    async def erase(self, node: str, person: Person) -> int:
        """Takes a person of a node out of all that a centre keeps for it; gives how many messages."""


class BusContext:
    """A node on its server."""

    def __init__(self, config: Config, bus: NatsBus) -> None:
        self.config = config
        self.identity = bus.identity
        self._bus = bus
        self._view: NodeView | None = None
        self.bucket = bus.bucket
        self.publish = bus.publish
        self.dead_letter = bus.dead_letter
        self.emit = bus.emit
        bus.spans.sample(config.section("telemetry", TelemetryConfig).sample)

    def link(self) -> Link:
        """The line to the centre, if there is one."""
        place = Place.of(self.config.node)
        return NatsLink(self._bus, place) if place.linked else NoLink()

    def objects(self) -> Objects:
        """The centre's object store."""
        place = Place.of(self.config.node)
        return NatsObjects(self._bus, place) if place.linked else NoObjects()

    def node_state(self) -> Callable[[], NodeState]:
        """A live view; all actors of a process share it."""
        if self._view is None:
            self._view = NodeView(self._bus)
        return self._view

    async def nodes(self) -> list[str]:
        """Who has streams here."""
        with bus_errors("list the nodes"):
            return await edges(self._bus.client)

    async def ask(self, name: str, question: Message, *, within_s: float) -> Any:
        """By the bus."""
        return await services.ask(self._bus, name, question, within_s=within_s)

    async def erase(self, node: str, person: Person) -> int:
        """Streams of the node, events and dead letters of this server; octets of the former too."""
        theirs = {row.name.format(node=node) for row in STREAMS if row.at == "centre"}
        ours = {row.name.format(node=self.identity.node) for row in STREAMS if row.at == "both"}
        erased = await erase(self._bus.client, person, only=lambda name: name in theirs | ours)
        for config in await streams(self._bus.client, self._bus.js, lambda name: name in theirs):
            await sweep(self._bus.client, config)
        return erased.total()

    async def follow(self, kinds: Collection[str], receive: Callable[[Event], Awaitable[None]]) -> None:
        """Events of the bus, for as long as it is connected."""
        await self._bus.follow_events(receive, kinds)

    def now(self) -> float:
        """The system's clock, put right by what the actor `node` knows."""
        return time.time() + self.node_state()().ahead_s

    def event_log(self) -> EventLog:
        """The event stream."""
        return NatsEventLog(self._bus)

    async def streams(self) -> list[StreamInfo]:
        """All that the server has."""
        with bus_errors("list streams"):
            return await ask_all(self._bus.client)


class MemoryContext:
    """A node without a server: what is published is kept here, for `evy ask` and tests."""

    def __init__(self, config: Config, identity: Identity) -> None:
        self.config = config
        self.identity = identity
        self.buckets: dict[str, MemoryKeyValue] = {}
        self.published: list[Output] = []
        self.dead_letters: list[DeadLetter] = []
        self.events: list[Event] = []
        self.state = NodeState(node=identity.node)
        """What :meth:`node_state` gives; tests set it."""
        self.services: dict[str, ServiceHandler] = {}
        """What :meth:`ask` asks; tests set it."""
        self._followers: list[tuple[Collection[str], Callable[[Event], Awaitable[None]]]] = []
        self._telling: set[asyncio.Future[None]] = set()

    def link(self) -> Link:
        """There is none."""
        return NoLink()

    def objects(self) -> Objects:
        """There is none."""
        return NoObjects()

    def node_state(self) -> Callable[[], NodeState]:
        """What ``state`` is at that moment."""
        return lambda: self.state

    async def follow(self, kinds: Collection[str], receive: Callable[[Event], Awaitable[None]]) -> None:
        """Events emitted here."""
        self._followers.append((kinds, receive))

    def now(self) -> float:
        """The system's clock, put right by ``state``."""
        return time.time() + self.state.ahead_s

    async def nodes(self) -> list[str]:
        """Only itself."""
        return [self.identity.node]

    async def ask(self, name: str, question: Message, *, within_s: float) -> Any:  # noqa: ARG002  # no bus, no wait
        """By the handler that :attr:`services` has, at once."""
        row = service(name)
        if name not in self.services:
            raise services.nobody(row, self.identity.node)
        return await self.services[name](question)

    async def erase(self, node: str, person: Person) -> int:  # noqa: ARG002  # likewise
        """There is nothing to keep a person in."""
        return 0

    def event_log(self) -> EventLog:
        """What was emitted here."""
        return MemoryEventLog(self.events)

    async def streams(self) -> list[StreamInfo]:
        """There are none."""
        return []

    async def bucket(self, name: str) -> KeyValue:
        """The bucket in memory, made at its first use."""
        return self.buckets.setdefault(name, MemoryKeyValue())

    async def publish(self, output: Output, actor: str) -> None:  # noqa: ARG002  # the real bus puts it in the id
        """Keeps the output."""
        self.published.append(output)

    async def dead_letter(self, letter: DeadLetter, message_id: str = "") -> None:  # noqa: ARG002  # likewise
        """Keeps the letter."""
        self.dead_letters.append(letter)

    def emit(self, event: Event) -> None:
        """Keeps the event, and tells who follows its kind."""
        self.events.append(event)
        for kinds, receive in self._followers:
            if event.kind in kinds:
                telling = asyncio.ensure_future(receive(event))
                self._telling.add(telling)
                telling.add_done_callback(self._telling.discard)


async def build_actors(names: Sequence[str], context: Context) -> list[Actor]:
    """Builds actors by name. Raises :class:`ConfigError` for a name that is none."""
    context.config.check_sections(TABLES)
    built = []
    for name in names:
        if name not in ACTORS:
            raise ConfigError(f"no actor {name!r}; there are {', '.join(ACTORS)}")
        module = importlib.import_module(f"actors.{name}")
        built.append(await module.build(context))
    return built
