"""Nodes on real nats-servers, joined by nothing but the mesh: the core's state machines with an air between.

The air hands frames over in a line, and time runs faster for everything that has to do with radio.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from evy_core import Router, time_on_air_us
from nats.js.errors import NotFoundError

from actors._people.contacts import Contact
from actors._retrieval.index import KnowledgeIndex, Served
from actors._roster.installed import join
from actors._roster.operator import Operator
from actors._runtime import clock
from actors._runtime.actor import Output
from actors._runtime.bus import NatsBus
from actors._runtime.config import Config
from actors._runtime.context import BusContext, build_actors
from actors._runtime.identity import Identity
from actors._runtime.link import NoLink
from actors._runtime.provision import Place, provision
from actors._runtime.worker import run_actors
from actors.knowledge import SHIPPED, Article, Texts, redactor, route_rules
from actors.mesh import build
from actors.mesh.parts import Parts
from actors.mesh.radio import Heard, RadioError, RadioFacts
from actors.rag import Centre, Library, by_rules
from actors.rag import actor as rag_actor
from subjects import names
from subjects.mesh import MeshPacket, MeshStatus, MeshStatusRequest
from subjects.messages import Alert, Event, OutboundSms, Query, ResponderReply, decode
from subjects.messages import Place as Where
from tests.conftest import Server

pytestmark = [pytest.mark.nats, pytest.mark.model, pytest.mark.timeout(120)]

SPEED = 100
"""How much faster the radios' time runs."""
SF = 7

KNOWS_WATER = """
lang = "en"
area = "water"
review = { author = "tests", reviewed_on = 2026-11-01, state = "reviewed" }
[[article]]
id = "water-boil"
title = "Boil the water"
source = "cdc-water"
questions = ["how long do i boil water"]
tags = ["water", "boil"]
text = "Boil it for 1 minute."
"""

KNOWS_TAPS = """
lang = "en"
area = "water"
review = { author = "tests", reviewed_on = 2026-11-01, state = "reviewed" }
[[article]]
id = "tap-solder"
title = "Solder a tap"
source = "cdc-water"
questions = ["how do i solder the tap of a cistern", "the tap of the cistern leaks how do i solder it"]
tags = ["solder", "tap", "cistern"]
text = "Shut the water off and dry the joint. Heat the copper until the solder runs into the gap. Cool it."
"""
SOLDER = ("Shut the water off and dry the joint", "Heat the copper until the solder runs into the gap")

BEN = Contact("Ben", "+34600111222")
BENS = f'[[contacts]]\nname = "{BEN.name}"\nnumber = "{BEN.number}"\n'

QUESTION = "How do I solder the tap of a cistern?"
NEARLY = "our tap leaks, can I solder it myself?"
"""Near to the text about it, and not so near that it is sent as it was written."""


def articles(directory: Path) -> Sequence[Article]:
    """What the nodes know, read once."""
    for name, text in (("taps", KNOWS_TAPS), ("water", KNOWS_WATER)):
        (directory / name / "articles").mkdir(parents=True)
        (directory / name / "articles" / "en.toml").write_text(text, encoding="utf-8")
    read = Texts.load([SHIPPED, directory / "taps", directory / "water"]).articles()
    return [article for article in read if article.text in KNOWS_TAPS + KNOWS_WATER]


class Air:
    """Radios in a line: each hears its two neighbours, and nobody who sends at the same time."""

    def __init__(self) -> None:
        self.radios: list[OnAir] = []
        self.frames = 0

    def radio(self, *_: object) -> "OnAir":
        return self.radios[-1]

    def place(self) -> "OnAir":
        self.radios.append(OnAir(self, len(self.radios)))
        return self.radios[-1]

    def near(self, place: int) -> Iterator["OnAir"]:
        for other in (place - 1, place + 1):
            if 0 <= other < len(self.radios):
                yield self.radios[other]


class OnAir:
    """One of them."""

    def __init__(self, air: Air, place: int) -> None:
        self._air = air
        self._place = place
        self._heard: asyncio.Queue[Heard | None] = asyncio.Queue()
        self.trouble = ""
        self.counters: dict[str, int] = {}
        self.sending = False
        self.opened = 0
        self.lost: Callable[[bytes], bool] = lambda _frame: False

    async def open(self) -> RadioFacts:
        self.opened += 1
        return RadioFacts("in the air", 0, 237, senses=False, preamble_symbols=8)

    async def transmit(self, frame: bytes) -> None:
        if self.trouble:
            raise RadioError(self.trouble)
        self.sending = True
        await asyncio.sleep(time_on_air_us(len(frame), spreading_factor=SF) / 1e6 / SPEED)
        self.sending = False
        self._air.frames += 1
        for other in () if self.lost(frame) else self._air.near(self._place):
            if not other.sending and not other.trouble:
                other._heard.put_nowait(Heard(frame, -80.0, 8.0))

    async def tune(self, spreading_factor: int) -> None:
        raise AssertionError(f"SF{spreading_factor}: nothing is planned")

    async def frames(self) -> AsyncIterator[Heard]:
        while (heard := await self._heard.get()) is not None:
            yield heard

    async def close(self) -> None:
        pass


class Node:
    """One node: its server, its bus, its actors, what it told."""

    def __init__(self, name: str, directory: Path, air: Air, known: Sequence[Article] = ()) -> None:
        self.name = name
        self.directory = directory
        self.articles = known
        self.radio = air.place()
        self.parts = Parts(lambda *_: self.radio, lambda: int(clock.boot_s() * 1e6 * SPEED))
        self.events: list[Event] = []
        self.stop = asyncio.Event()

    async def start(self, stack: AsyncExitStack, knows: str, **tables: Any) -> None:
        self.server = Server(self.directory / "nats")
        stack.callback(self.server.stop)
        self.identity = Identity(self.name, b"x" * 32, "0000")
        self.bus = await NatsBus.connect(self.identity, self.server.url, "test", wait_s=20)
        stack.push_async_callback(self.bus.close)
        await provision(self.bus.js, Place(self.name))
        node = {"name": self.name, "data_dir": str(self.directory)}
        config = Config({"node": node, "mesh": {"device": "in the air"}, **tables})
        self.context = BusContext(config, self.bus)
        await self.context.follow(_KINDS, self._heard)
        actors = [await build(self.context, self.parts)]
        if knows:
            small = ["infer_small"] if "infer_small" in tables else []
            actors += await build_actors(("route", "compress", "alert", "node", *small), self.context)
            actors.append(await self._rag(knows))
        stop = asyncio.Event()
        running = asyncio.create_task(run_actors(self.bus, actors, stop))

        async def end() -> None:
            stop.set()
            await running

        stack.push_async_callback(end)

    def index(self, knows: str) -> KnowledgeIndex:
        mine = [article for article in self.articles if article.text in knows]
        return KnowledgeIndex.open(self.directory / "index", Texts([], {}, mine, [], {}))

    async def _rag(self, knows: str) -> Any:
        index = await asyncio.to_thread(self.index, knows)
        answers = await self.context.bucket("answered")

        async def answered(query_id: str) -> bool:
            return await answers.get(query_id) is not None

        centre = Centre(NoLink(), redactor(), await self.context.bucket("masked"), answered, 3600.0)
        rules = by_rules(Router(route_rules()), self.context.node_state())
        self.library = Library(index, Served)
        return rag_actor(self.name, self.library, rules, Texts.load(), self.context.emit, centre)

    async def _heard(self, event: Event) -> None:
        self.events.append(event)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    async def status(self) -> MeshStatus:
        found: MeshStatus = await self.context.ask("mesh.status", MeshStatusRequest(), within_s=10)
        return found

    async def until(self, condition: Callable[[], bool], within_s: float = 60.0) -> None:
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{self.name}: {self.kinds()}; {await self.status()}") from None

    async def texts(self, count: int, within_s: float = 60.0) -> list[OutboundSms]:
        """Waits for so many texts for the modem that is not there."""
        found: list[OutboundSms] = []
        try:
            async with asyncio.timeout(within_s):
                while len(found := await self._texts()) < count:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{self.name}: {found}; {self.kinds()}; {await self.status()}") from None
        return found

    async def _texts(self) -> list[OutboundSms]:
        found = []
        for stream in (f"FLASH_{self.name}", f"WORK_{self.name}"):
            state = (await self.bus.js.stream_info(stream)).state
            for sequence in range(max(1, state.first_seq), state.last_seq + 1):
                with contextlib.suppress(NotFoundError):  # work that is done
                    raw = await self.bus.js.get_msg(stream, sequence)
                    if (raw.subject or "").startswith(names.SMS_OUT):
                        found.append(decode(raw.data or b"", OutboundSms))
        return found


_KINDS = (
    *("mesh_sent", "mesh_relayed", "mesh_delivered", "mesh_expired", "mesh_refused", "mesh_received"),
    *("mesh_dropped", "mesh_radio_up", "mesh_radio_down", "mesh_counters_lost", "mesh_state", "node_state"),
    *("dead_letter", "superseded", "fitted", "generated", "decided", "model_state"),
    *("mesh_texts_asked", "mesh_texts_refused", "knowledge_renewed"),
)


@asynccontextmanager
async def line(
    tmp_path: Path,
    knows: dict[str, str],
    models: dict[str, str] | None = None,
    make: Callable[[str, Path, Air, Sequence[Article]], Node] = Node,
) -> AsyncIterator[list[Node]]:
    """Nodes of one mesh in a line, each with what it knows; "" only relays. ``models``: the ``models.toml``
    of those that have the actor of the small model; "" is EVY's own."""
    air = Air()
    operator = Operator.create(
        tmp_path / "keys", "valley", region="EU868", frequency_hz=869_525_000, spreading_factor=SF
    )
    files = {name: operator.enrol(name) for name in knows}
    known = articles(tmp_path / "texts")
    tables = {name: {"infer_small": {"models": file}} for name, file in (models or {}).items()}
    nodes = []
    async with AsyncExitStack() as stack:
        for name, knowledge in knows.items():
            directory = tmp_path / name
            directory.mkdir(exist_ok=True)
            join(directory, name, files[name])
            join(directory, name, operator.file)  # with those who were enrolled after it
            if name == "gateway":
                (directory / "contacts.toml").write_text(BENS, encoding="utf-8")
            node = make(name, directory, air, known)
            await node.start(stack, knowledge, **tables.get(name, {}))
            nodes.append(node)
        yield nodes


def question(node: Node, query_id: str = "a" * 32, text: str = QUESTION) -> Output:
    query = Query(
        id=query_id,
        node=node.name,
        sender_ref="ana",
        text=text,
        lang="en",
        lane="routine",
        deadline=clock.deadline_in(15),
    )
    return Output(names.ROUTE, "routine", query, query_id)


async def test_a_question_goes_two_hops_is_answered_there_and_comes_back_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the radio dies and comes back, and at last the file with the counters is damaged."""
    monkeypatch.setattr("actors.mesh.LOOK_EVERY_S", 0.2)
    monkeypatch.setattr("actors.mesh.loop.RETRY_S", 0.2)
    async with line(tmp_path, {"far": KNOWS_WATER, "middle": "", "gateway": KNOWS_TAPS}) as nodes:
        far, _, gateway = nodes
        gateway.context.emit(Event(kind="link_up", node="gateway", actor="link", at=1.0))
        view = far.context.node_state()
        await far.until(lambda: bool((mesh := view().mesh) and mesh.uplink))
        await far.context.publish(question(far), "test")
        first, second = sorted(await far.texts(2), key=lambda text: text.kind, reverse=True)
        assert (first.kind, first.step) == ("reply", "unsure")
        assert "its answer may come later" in first.text
        assert (second.kind, second.sender_ref, second.query_id) == ("followup", "ana", "a" * 32)
        assert second.text.startswith("More on your question: Shut the water off")
        await far.until(lambda: "mesh_delivered" in far.kinds())
        assert [event.fields["what"] for event in gateway.events if event.kind == "mesh_received"] == [
            "query"
        ]
        status = await far.status()
        assert (status.radio, status.address, len(status.neighbours)) == ("up", 1, 1)
        assert [(route.destination, route.name) for route in status.routes if route.uplink] == [
            (3, "gateway")
        ]
        await somebody_in_danger_hears_of_a_responder_of_another_node(far, gateway)
        await a_dead_radio_costs_nothing_that_waits(far)
    path = tmp_path / "far" / "mesh" / "state"
    assert path.stat().st_size > 40
    path.write_bytes(b"EVYMESH1 and then nothing")
    await a_damaged_file_is_said_and_the_node_goes_on(tmp_path)
    assert path.stat().st_size > 40


async def test_a_node_without_a_model_asks_one_that_has_one_and_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has a link. The far node's model file is missing; two hops away is the real small model, and the
    passage that it words. Then the node between gets a link, and the next question goes no further."""
    monkeypatch.setattr("actors.mesh.LOOK_EVERY_S", 0.2)
    monkeypatch.setattr("actors.infer_small.TELL_EVERY_S", 0.5)
    entry = '[[model]]\nname = "gone"\nfile = "gone.gguf"\noctets = 9\nsha256 = "%s"\nlicence = "x"\n'
    entry += 'source = "x"\nfix = "fetch it"\nlangs = ["en"]\n'
    missing = tmp_path / "missing.toml"
    missing.write_text(entry % ("0" * 64), encoding="utf-8")
    knows = {"far": KNOWS_WATER, "middle": KNOWS_WATER, "hut": KNOWS_TAPS}
    async with line(tmp_path, knows, {"far": str(missing), "hut": ""}) as nodes:
        far, middle, hut = nodes
        view = far.context.node_state()
        await far.until(lambda: bool((mesh := view().mesh) and mesh.model and view().model is False))
        assert (view().link, view().mesh and view().mesh.uplink) == ("none", False)
        await far.context.publish(question(far, text=NEARLY), "test")
        first, second = sorted(await far.texts(2), key=lambda text: text.kind, reverse=True)
        assert (first.kind, first.step) == ("reply", "unsure")
        assert "its answer may come later" in first.text
        assert (second.kind, second.sender_ref, second.query_id) == ("followup", "ana", "a" * 32)
        assert any(line in second.text for line in SOLDER)
        assert [event.fields["what"] for event in hut.events if event.kind == "mesh_received"] == ["query"]
        assert [event.fields["finish"] for event in hut.events if event.kind == "generated"]
        assert "generated" not in far.kinds()
        status = await far.status()
        [(destination, name)] = [(one.destination, one.name) for one in status.routes if one.model]
        assert (destination, name, status.model) == (3, "hut", False)
        assert (await hut.status()).model
        await far.until(lambda: "mesh_delivered" in far.kinds())
        await hut.until(lambda: "mesh_delivered" in hut.kinds())
        assert far.kinds().count("mesh_received") == 1
        assert len(await far.texts(2)) == 2
        middle.context.emit(Event(kind="link_up", node="middle", actor="link", at=1.0))
        await far.until(lambda: bool((mesh := view().mesh) and mesh.uplink))
        assert "mesh_received" not in middle.kinds()
        await far.context.publish(question(far, "b" * 32, NEARLY), "test")
        await middle.until(lambda: "mesh_received" in middle.kinds())
        assert hut.kinds().count("mesh_received") == 1


async def somebody_in_danger_hears_of_a_responder_of_another_node(far: Node, gateway: Node) -> None:
    """The far node has no responder at all; the gateway has Ben."""
    before = len(await far.texts(0))
    alert = Alert(
        query_id="c" * 32,
        node="far",
        sender_ref="pia",
        text="my leg, 0712 345 678",
        lang="en",
        lane="flash",
        priority="emergency",
        needs=("medical",),
        topic="bleeding",
        place=Where("the mill"),
    )
    await far.context.publish(Output(names.ALERT, "flash", alert, alert.query_id), "test")
    [asked] = await gateway.texts(1)
    assert (asked.number, asked.lane) == (BEN.number, "flash")
    assert "the mill" in asked.text
    assert "0712" not in asked.text
    goes = ResponderReply(
        query_id="d" * 32,
        node="gateway",
        sender_ref="ben",
        responder=BEN.key,
        answer="coming",
        lane="flash",
    )
    await gateway.context.publish(Output(names.ALERT_REPLY, "flash", goes, goes.query_id), "test")
    told = (await far.texts(before + 1))[0]
    assert (told.sender_ref, told.kind) == ("pia", "notice")
    assert "a responder answered that they go to you" in told.text


async def a_dead_radio_costs_nothing_that_waits(far: Node) -> None:
    far.radio.trouble = "it answers nothing"
    await far.until(lambda: "mesh_radio_down" in far.kinds())
    query = question(far, "b" * 32).message
    assert isinstance(query, Query)
    asked = msgspec.structs.replace(query, asked=True, wait=clock.deadline_in(600))
    packet = MeshPacket(node="far", lane="routine", query_id=query.id, until=asked.wait, query=asked)
    await far.context.publish(Output(names.MESH_OUT, "routine", packet, query.id), "test")
    await asyncio.sleep(0.5)
    assert (await far.status()).reason == "it answers nothing"
    assert far.kinds().count("mesh_radio_down") == 1
    before = len(await far.texts(0))
    far.radio.trouble = ""
    texts = await far.texts(before + 1)
    assert [text.kind for text in texts if text.query_id == "b" * 32] == ["reply"]


async def a_damaged_file_is_said_and_the_node_goes_on(tmp_path: Path) -> None:
    air = Air()
    async with AsyncExitStack() as stack:
        node = Node("far", tmp_path / "far", air)
        await node.start(stack, "")
        await node.until(lambda: "mesh_radio_up" in node.kinds())
        assert "mesh_counters_lost" in node.kinds()
        assert (tmp_path / "far" / "mesh" / "state.damaged").exists()
        await node.until(lambda: air.frames > 0)
