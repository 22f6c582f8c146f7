"""`evy demo --profile link`: two nodes and a centre on one machine, and the links between them cut.

Each node has its own modem, phones and nats-server, and reaches the centre through a simulated link.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors._cli.node import actor_children, server_child
from actors._cli.stage import (
    Stage,
    StageError,
    free_ports,
    model_server,
    node_on_stage,
    running,
    write_configuration,
)
from actors._runtime.authority import Authority
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.config import load_config
from actors._runtime.crossing import look
from actors._runtime.identity import load_identity
from actors._runtime.provision import Place, provide_takers, provision, provision_edge
from actors._runtime.server_files import Bundle, HubServer, join
from simulators.link import Link
from subjects.messages import Event
from subjects.names import HUB

NODES: Final = {"north": 8.0, "south": 3600.0}
"""Each node, and how many seconds its questions wait for a link."""

ANSWER_WITHIN_S: Final = 60.0
NOTICED_WITHIN_S: Final = 30.0
RAG_LOOKS_EVERY_S: Final = 4.0
"""The actor `rag` looks at the link for itself, at most so much later than `link`."""
EXPIRED_WITHIN_S: Final = 60.0
FOLLOWED_WITHIN_S: Final = 60.0
SETTLE_S: Final = 2.0

CENTRE: Final = """\
[node]
profile = "bigevy"
data_dir = "{directory}"
nats_port = {port}
"""

Source = Literal["node", "centre", "either"]
Came = Literal["in time", "follow-up"]


class Due(msgspec.Struct, frozen=True):
    """A text that a person shall get: from whom, how, by one of which steps, and the words in it."""

    source: Source
    came: Came
    steps: tuple[str, ...]
    says: str = ""


class Person(msgspec.Struct, frozen=True):
    """One person, the question, and what shall come of it. ``expires``: the centre's answer never does."""

    name: str
    node: str
    number: str
    asks: str
    due: tuple[Due, ...]
    expires: bool = False

    @property
    def due_late(self) -> tuple[Due, ...]:
        """What is right too, where the machine is too slow for the centre: the node's answer at the deadline,
        and the centre's as a follow-up."""
        first = self.due[0]
        if (first.source, first.came) != ("centre", "in time"):
            return self.due
        return Due("node", "in time", ("unsure",)), msgspec.structs.replace(first, came="follow-up")


UP: Final = (
    Person(
        "Ana",
        "north",
        "+15550101",
        "how do i make river water safe to drink?",
        (Due("node", "in time", ("verbatim",), "boil"),),
    ),
    Person(
        "Ben",
        "north",
        "+15550102",
        "when does the ferry leave today?",
        (Due("centre", "in time", ("verbatim",), "07:00"),),
    ),
    Person(
        "Cai",
        "south",
        "+15550201",
        "what time is the clinic open",
        (Due("centre", "in time", ("verbatim",), "09:00"),),
    ),
    Person(  # the centre's model is asked; a slow one is overtaken by the node's deadline
        "Lea",
        "south",
        "+15550204",
        "which visa do i need to work in canada",
        (Due("either", "in time", ("unsure", "model")),),
    ),
)
DOWN: Final = (
    Person(
        "Dan",
        "south",
        "+15550202",
        "my brother cut his leg with the saw, blood everywhere and it wont stop",
        (Due("node", "in time", ("template",), "press"),),
    ),
    Person(
        "Eva",
        "south",
        "+15550203",
        "when is the clinic in the upper school open?",
        (
            Due("node", "in time", ("unsure",), "bigger machine"),
            Due("centre", "follow-up", ("verbatim",), "09:00"),
        ),
    ),
    Person(
        "Flo",
        "north",
        "+15550103",
        "is the bridge open? i need to go to the other side",
        (Due("node", "in time", ("unsure",), "bigger machine"),),
        expires=True,
    ),
)
BACK: Final = (
    Person(
        "Gus",
        "north",
        "+15550104",
        "when does the ferry leave today?",
        (Due("centre", "in time", ("verbatim",), "07:00"),),
    ),
)


class Country:
    """The nodes, their links, and when everything happened."""

    def __init__(self, stages: dict[str, Stage], links: dict[str, Link], console: Console) -> None:
        self.stages = stages
        self.links = links
        self.console = console
        self.got: dict[str, list[tuple[Event, str]]] = {}
        self._began = time.monotonic()

    def say(self, text: str, style: str = "") -> None:
        """One line of the transcript."""
        self.console.print(Text(f"{time.monotonic() - self._began:6.1f} s  {text}", style=style))

    async def ask(self, person: Person) -> None:
        """Sends a person's text."""
        self.say(f"{person.node:5}  {person.name} < {person.asks}")
        await self.stages[person.node].text(person.number, person.asks)

    async def hears(self, person: Person, within_s: float, count: int = 0) -> None:
        """Waits until a person has got ``count`` texts, or all that are due; tells of those that are new."""
        stage = self.stages[person.node]

        def there() -> bool:
            sent = stage.events_of(person.number, "sent")
            wanted = count or len(person.due)
            if sent and not count and stage.source_of(sent[0]) == "node":
                wanted = len(person.due_late)
            return min(len(stage.read_by(person.number)), len(sent)) >= wanted

        if not await stage.until(there, within_s):
            self.say(f"{person.node:5}  {person.name} ! nothing within {within_s:.0f} s", "bold red")
        told = self.got.setdefault(person.name, [])
        texts, sent = stage.read_by(person.number), stage.events_of(person.number, "sent")
        for text, event in list(zip(texts, sent, strict=False))[len(told) :]:
            told.append((event, text))
            self.say(f"{person.node:5}  {person.name} > {text}", "green")
            self.say(f"{'':5}  {self.origin(person, event)}", "dim")

    def origin(self, person: Person, sent: Event) -> str:
        """Where a text came from, in words."""
        source = self.stages[person.node].source_of(sent)
        return (
            f"from the {source}, {_came(sent)}, step {sent.fields['step']}, {_after(sent)} after the question"
        )

    def happened(self, person: Person, kind: str) -> bool:
        """Whether there is such an event about a person."""
        return bool(self.stages[person.node].events_of(person.number, kind))

    async def notices(self, kind: Literal["link_up", "link_down"]) -> None:
        """Waits until every node has noticed. Raises :class:`StageError` when one does not."""
        for name, stage in self.stages.items():
            if not await stage.until(lambda stage=stage: _last_of_link(stage) == kind, NOTICED_WITHIN_S):  # type: ignore[misc]  # bound at once
                raise StageError(f"{name} has not noticed {kind}; its logs: {stage.directory}/*.log")
        await asyncio.sleep(RAG_LOOKS_EVERY_S)


def _came(sent: Event) -> Came:
    return "follow-up" if sent.fields["purpose"] == "followup" else "in time"


def _after(sent: Event) -> str:
    return f"{(sent.fields['ms'] or 0) / 1000:.1f} s"


def _last_of_link(stage: Stage) -> str:
    return next((event.kind for event in reversed(stage.events) if event.kind.startswith("link_")), "")


async def play_link(
    directory: Path, console: Console, progress: Callable[[str], None], stop: asyncio.Event
) -> int:
    """Plays it; 0 when everybody got what they should and nothing else."""
    async with _country(directory, console, progress) as country:
        playing = asyncio.create_task(_acts(country))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({playing, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not playing.done():
            playing.cancel()
            return 130
        await playing
        return _judged(country)


async def _acts(country: Country) -> None:
    await _with_links(country)
    await _without_links(country)
    await _links_back(country)
    await asyncio.sleep(SETTLE_S)


async def _with_links(country: Country) -> None:
    country.say("The links are up.", "bold cyan")
    await _all(country, UP)


async def _all(country: Country, people: tuple[Person, ...], count: int = 0) -> None:
    for person in people:
        await country.ask(person)
    for person in people:
        await country.hears(person, ANSWER_WITHIN_S, count)


async def _without_links(country: Country) -> None:
    for link in country.links.values():
        link.suffer("cut")
    country.say("Both links are cut.", "bold cyan")
    await country.notices("link_down")
    await _all(country, DOWN, 1)
    flo = next(person for person in DOWN if person.expires)
    stage = country.stages[flo.node]
    if await stage.until(lambda: country.happened(flo, "expired"), EXPIRED_WITHIN_S):
        country.say(f"{flo.node:5}  {flo.name}'s question waited {NODES[flo.node]:.0f} s for a link: expired")


async def _links_back(country: Country) -> None:
    for link in country.links.values():
        link.heal()
    country.say("The links are back.", "bold cyan")
    for person in DOWN:
        if len(person.due) > 1:
            await country.hears(person, FOLLOWED_WITHIN_S)
    await country.notices("link_up")
    await _all(country, BACK)


def _judged(country: Country) -> int:
    table = Table(title="Who got what", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("who", "node", "got", "from", "step", "after"):
        table.add_column(column)
    failures: list[str] = []
    for person in (*UP, *DOWN, *BACK):
        stage = country.stages[person.node]
        got = country.got.get(person.name, [])
        for sent, _ in got:
            source = stage.source_of(sent)
            table.add_row(person.name, person.node, _came(sent), source, sent.fields["step"], _after(sent))
        if person.expires:
            table.add_row(person.name, person.node, "expired", "centre", "-", "-")
        failures += _wrong(country, person)
    country.console.print()
    country.console.print(table)
    for failure in failures:
        country.console.print(Text(f"WRONG {failure}", style="bold red"))
    if not failures:
        country.console.print(Text("Everybody got what they should, once.", style="bold green"))
    return int(bool(failures))


def _wrong(country: Country, person: Person) -> list[str]:
    stage = country.stages[person.node]
    got = [
        Due(
            stage.source_of(sent),  # type: ignore[arg-type]  # it says "node" or "centre"
            _came(sent),
            (sent.fields["step"],),
            text,
        )
        for sent, text in country.got.get(person.name, [])
    ]
    menus = stage.texts.menus()
    count = sum(text not in menus for text in stage.read_by(person.number))
    failures = []
    expected = person.due_late if got and got[0].source == "node" else person.due
    if count != len(expected):
        failures.append(f"{person.name}: {count} texts instead of {len(expected)}")
    for due, found in zip(expected, got, strict=False):
        right_source = due.source in {found.source, "either"}
        if not right_source or found.came != due.came or found.steps[0] not in due.steps:
            failures.append(
                f"{person.name}: from the {found.source}, {found.came}, step {found.steps[0]}; "
                f"expected the {due.source}, {due.came}, {' or '.join(due.steps)}"
            )
        if due.says.lower() not in found.says.lower():
            failures.append(f"{person.name}: the answer does not say {due.says!r}")
    if person.expires and not country.happened(person, "expired"):
        failures.append(f"{person.name}: the question has not expired")
    return failures


@contextlib.asynccontextmanager
async def _country(
    directory: Path, console: Console, progress: Callable[[str], None]
) -> AsyncIterator[Country]:
    """Starts the centre, the links and the nodes; waits until everything answers."""
    started = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        progress("starting the centre: its model server, nats-server and infer_large")
        more = await stack.enter_async_context(model_server(directory))
        authority, hub = await _centre(directory / "centre", more, stack)
        leaf = authority.state.servers[0].leaf_port
        links: dict[str, Link] = {}
        nodes: dict[str, asyncio.Task[Stage]] = {}
        progress("starting two nodes, each with nats-server, its actors and a simulated modem")
        try:
            async with asyncio.TaskGroup() as group:
                for name, port in zip(NODES, free_ports(len(NODES)), strict=True):
                    links[name] = await stack.enter_async_context(Link(("127.0.0.1", 0), ("127.0.0.1", leaf)))
                    bundle = _through(authority.enrol(name), links[name])
                    await provision_edge(hub.js, Place(HUB, "bigevy"), name)
                    nodes[name] = group.create_task(_node(directory / name, name, port, bundle, stack))
        except ExceptionGroup as errors:  # one reason is enough for a person
            raise errors.exceptions[0] from None
        stages = {name: task.result() for name, task in nodes.items()}
        for name, stage in stages.items():  # at once, since both are new
            await provide_takers(hub.js, Place(HUB, "bigevy"), name)
            await provide_takers(stage.bus.js, Place(name, centre=True), name)
        country = Country(stages, links, console)
        await country.notices("link_up")
        await _everything_crosses(hub, stages)
        progress(f"everything up in {time.monotonic() - started:.1f} s, data in {directory}")
        yield country


async def _everything_crosses(hub: NatsBus, stages: Mapping[str, Stage]) -> None:
    """Waits until every stream hears the one it takes from. Raises :class:`StageError` when one does not."""
    places = [(hub, Place(HUB, "bigevy"))]
    places += [(stage.bus, Place(name, centre=True)) for name, stage in stages.items()]
    until = time.monotonic() + NOTICED_WITHIN_S
    for bus, place in places:
        while any(taking.verdict != "ok" for link in await look(bus, place) for taking in link.taking):
            if time.monotonic() > until:
                raise StageError(f"nothing crosses the link of {place.node}; see nats-server.log")
            await asyncio.sleep(0.2)


async def _centre(directory: Path, more: str, stack: contextlib.AsyncExitStack) -> tuple[Authority, NatsBus]:
    directory.mkdir()  # noqa: ASYNC240  # once, before anything runs
    client, leaf, cluster = free_ports(3)
    server = HubServer("hub1", ("127.0.0.1",), client, leaf, cluster, "127.0.0.1")
    authority = Authority.create(directory / "keys", [server])
    join(directory / "server", authority.server_bundle("hub1"), port=client)
    path = directory / "evy.toml"
    path.write_text(CENTRE.format(directory=directory, port=client) + more, encoding="utf-8")
    config = load_config(path)
    actors = actor_children(config, path)
    for child in actors:
        child.log_file = directory / "actors.log"
    await stack.enter_async_context(running(server_child(config), actors))
    try:
        hub = await NatsBus.connect(load_identity(HUB, directory), config.node.url, "stage")
    except BusError as error:
        raise StageError(f"the centre did not come up; its logs: {directory}/*.log") from error
    stack.push_async_callback(hub.close)
    await provision(hub.js, Place.of(config.node))
    return authority, hub


def _through(bundle: Bundle, link: Link) -> Bundle:
    """A node's bundle with the link's address in place of the centre's."""
    assert bundle.edge is not None  # noqa: S101  # what enrol gives
    urls = (f"tls://127.0.0.1:{link.address[1]}",)
    return msgspec.structs.replace(bundle, edge=msgspec.structs.replace(bundle.edge, urls=urls))


async def _node(
    directory: Path, name: str, port: int, bundle: Bundle, stack: contextlib.AsyncExitStack
) -> Stage:
    directory.mkdir()  # noqa: ASYNC240  # once, before anything runs
    join(directory / "server", bundle, port=port)
    config = write_configuration(directory, name, port=port, wait_s=NODES[name])
    return await stack.enter_async_context(node_on_stage(directory, config))
