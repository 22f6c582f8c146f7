"""A question that two nodes cannot answer, to an article that both send: servers, link, embeddings are real.

The big model is `tests/peer.py`, an HTTP server that says what a model should: which words one finds is not
the matter here.
"""

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from evy_core import Router

from actors._cli import evy
from actors._collected.leaving import Leaving, leaving
from actors._collected.store import Collected, path_in
from actors._retrieval.phrases import read_phrases
from actors._runtime import clock
from actors._runtime.actor import Actor, Output
from actors._runtime.bus import NatsBus
from actors._runtime.config import Config, load_config
from actors._runtime.context import BusContext
from actors._runtime.worker import run_actors
from actors.collect import build
from actors.compress import actor as compress_actor
from actors.compress import shipped_compressor
from actors.infer_large import ChatClient, Endpoint, InferLargeConfig, Large, Retrieval
from actors.knowledge import Article, Texts, layers, route_rules
from actors.rag import KnowledgeIndex, Library, by_rules
from actors.rag import actor as rag_actor
from subjects import names
from subjects.messages import Event, OutboundSms, Query
from subjects.node_state import MEGABYTE, NodeState
from tests.linked import Linked, holds, running
from tests.peer import Peer, completion, http

pytestmark = [pytest.mark.nats, pytest.mark.model, pytest.mark.timeout(240)]

TODAY = dt.date(2100, 1, 1)
"""A day on which nothing is put off."""

ASKED = "how do i clean my solar panel"
WORDINGS = (ASKED, "how to clean a solar panel", "clean solar panel how")
DRAFT = {
    "passages": [1],
    "known": True,
    "title": "Clean a solar panel",
    "text": "Switch it off first; clean the panel with a damp cloth.",
}


def index(folder: Path, articles: Sequence[Article]) -> KnowledgeIndex:
    return KnowledgeIndex.open(folder, Texts([], {}, articles, [], {}))


def no_model() -> NodeState:
    """A node whose memory is full: what is not known is said at once."""
    return NodeState(node="", memory_rule_octets=50 * MEGABYTE)


class Node:
    """One edge: retrieval and compress as they are, and what its people read."""

    def __init__(self, bus: NatsBus, data: Path, library: Library) -> None:
        self.bus = bus
        self.library = library
        self.read: list[OutboundSms] = []
        self.told: list[Event] = []
        self.came = asyncio.Event()
        table = {"name": bus.node, "centre": True, "data_dir": str(data)}
        self.context = BusContext(Config({"node": table, "rag": {"regions": ["us"]}}), bus)
        self.leaving: Leaving | None = None

    async def actors(self) -> list[Actor]:
        texts = Texts.load()
        self.leaving = await leaving(self.context)
        assert self.leaving is not None
        more, answered = [await self.context.bucket(name) for name in ("more", "answered")]

        async def sms(text: OutboundSms) -> Sequence[Output]:
            self.read.append(text)
            self.came.set()
            return ()

        return [
            rag_actor(
                self.bus.node,
                self.library,
                by_rules(Router(route_rules()), no_model),
                texts,
                self.told.append,
            ),
            compress_actor(
                self.bus.node,
                shipped_compressor(),
                more,
                answered,
                texts,
                self.told.append,
                note=self.leaving.note,
            ),
            Actor("sms", {names.SMS_OUT: sms}, (self.leaving.keep,)),
        ]

    async def ask(self, number: int, text: str, *, again: bool = False) -> OutboundSms:
        """What a person reads who texts this."""
        self.came.clear()
        query = Query(
            id=f"{self.bus.node}-query-{number}{again:d}",
            node=self.bus.node,
            sender_ref=f"person-{self.bus.node}-{number}",
            text=text,
            lang="en",
            lane="routine",
            deadline=clock.deadline_in(60),
        )
        await self.bus.publish(Output(names.RAG, query.lane, query, query.id), "intake")
        async with asyncio.timeout(30):
            await self.came.wait()
        return self.read[-1]


@pytest.fixture(scope="module")
def english() -> dict[str, Article]:
    return {one.id: one for one in Texts.load().articles() if one.lang == "en"}


async def untried(*_: object) -> list[str]:
    """What the centre tries before it signs takes seconds; the node tries the same before it believes."""
    return []


Land = tuple[Linked, NatsBus, dict[str, NatsBus]]


@pytest.fixture
async def land(tmp_path: Path) -> AsyncIterator[Land]:
    linked = Linked(tmp_path / "land")
    async with running(linked) as (hub, edges):
        yield linked, hub, edges


async def command(settings: Path, *words: str) -> None:
    """A command as a person gives it."""
    done = await asyncio.to_thread(CliRunner().invoke, evy, ["--config", str(settings), *words])
    assert done.exit_code == 0, (words, done.output, done.exception)


def written(place: Path, profile: str, name: str, url: str) -> Path:
    """The `evy.toml` of a machine whose data directory is ``place``."""
    table = {"profile": profile, "name": name, "data_dir": str(place), "nats_url": url}
    settings = place / "evy.toml"
    settings.write_text("\n".join(["[node]", *(f"{key} = {json.dumps(one)}" for key, one in table.items())]))
    return settings


async def test_from_a_question_nobody_could_answer_to_the_article_that_nodes_send(
    land: Land,
    english: dict[str, Article],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    linked, hub, edges = land
    monkeypatch.setattr("actors.collect.DRAFT_EVERY_S", 0.2)
    monkeypatch.setattr("actors._cli.sync.tried", untried)
    known = [one for one in english.values() if one.area in ("animals", "cold")]
    library = Library(index(tmp_path / "index-1", known))
    nodes = {name: Node(bus, linked.directory / name, library) for name, bus in edges.items()}
    centre, valley = linked.directory / "hub1", linked.directory / "e1"
    at_centre = written(centre, "bigevy", "hub", f"tls://127.0.0.1:{linked.hubs['hub1'].port}")
    at_node = written(valley, "lilevy", "e1", linked.edges["e1"].url)
    large_config = InferLargeConfig()
    stop = asyncio.Event()
    async with Peer(http(completion(json.dumps(DRAFT)))).running() as peer:
        large = Large(
            node="hub",
            client=ChatClient(Endpoint(peer.url), 5.0),
            retrieval=Retrieval([], read_phrases(), local=index(tmp_path / "hub", [english["solar-lamp"]])),
            texts=Texts.load(),
            emit=hub.emit,
            config=large_config,
        )
        served = Actor("infer_large", {}, close=large.close, services={"infer_large.draft": large.draft})
        collect = await build(BusContext(load_config(at_centre), hub))
        async with asyncio.TaskGroup() as group:
            group.create_task(run_actors(hub, [served, collect], stop))
            for node in nodes.values():
                group.create_task(run_actors(node.bus, await node.actors(), stop))
            for node in nodes.values():
                await until_it_left(node)
            store = Collected(path_in(centre))
            async with asyncio.timeout(60):
                while not ((clusters := store.clusters(6, TODAY)) and clusters[0].draft):
                    await asyncio.sleep(0.1)
            kept = b"".join(path.read_bytes() for path in centre.glob("collected.sqlite3*"))
            assert WORDINGS[0].encode() in kept
            assert b"person-e" not in kept
            assert b"query-" not in kept
            for edge in edges:
                await holds(hub, f"IN_{edge}", 0)

            # A person lets it through, and the next bundle brings it to the node.
            await command(at_centre, "knowledge", "review", "--accept", "1", "--as", "Rose")
            await command(at_centre, "sync", "build", "--keys", str(linked.directory / "keys"))
            await command(at_centre, "sync", "publish")
            await command(at_node, "sync", "pull")
            carried = Texts.load(layers(valley))
            [article] = [one for one in carried.articles() if one.area == "collected"]
            library.replace(index(tmp_path / "index-2", [*known, article]))
            for node in nodes.values():
                told = await node.ask(9, ASKED)
                assert (told.step, told.text) == ("verbatim", f"{DRAFT['text']} [{article.source.tag}]")
            stop.set()
    [cluster] = clusters
    assert (cluster.nodes, cluster.regions) == ({"e1": 3, "e2": 3}, {"us": 6})
    assert sorted(cluster.wordings) == sorted(WORDINGS)
    assert (article.review.author, article.text) == ("Rose", DRAFT["text"])
    assert len(peer.requests) == 1
    assert store.waiting(5) == (0, 0)
    assert (await hub.js.stream_info("DLQ_hub")).state.messages == 0
    store.close()


async def until_it_left(node: Node) -> None:
    """Three people ask what nobody knows, one of them twice: three questions leave."""
    for number, text in enumerate(WORDINGS):
        assert (await node.ask(number, text)).step == "unsure"
    await node.ask(2, f"{WORDINGS[2].upper()}?!", again=True)
    assert node.leaving is not None
    sent = 0
    async with asyncio.timeout(30):
        while sent < 3:
            await asyncio.sleep(0.02)
            sent += await node.leaving.send_some()
