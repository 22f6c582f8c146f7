import asyncio
import datetime as dt
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from actors._retrieval.index import ALWAYS, KnowledgeIndex, Served
from actors._retrieval.vectors import Embedder, Vectors
from actors._runtime.config import Config
from actors._runtime.context import MemoryContext
from actors._runtime.identity import Identity
from actors.knowledge import SHIPPED, Texts, layers
from actors.rag import Library, build
from actors.rag.library import look, watch
from subjects.errors import ConfigError
from subjects.node_state import NodeState
from subjects.services import SearchRequest

pytestmark = pytest.mark.model

PHRASES = """
[answered]
[unanswered]
chatter = ["hello my friend", "who won the match", "how do i cook rice", "send me money"]
"""

SOURCES = """
[[source]]
id = "town"
tag = "L1"
organisation = "Town"
document = "Handbook"
year = 2026
"""

HEAD = """
area = "water"
lang = "en"
review = { author = "A", reviewed_on = 2026-01-01, state = "reviewed" }
"""


def entry(name: str, question: str, more: str = "") -> str:
    return f"""
[[article]]
id = "{name}"
title = "About the {name}"
source = "town"
tags = ["{name}"]
questions = ["{question}"]
text = "The {name} of this town is at the school."
{more}
"""


ZEBRA = entry("zebra", "where can i cross the street by the zebra")
WELL = entry("well", "where is the town well")


class Town:
    """A community's folder, over shipped texts with a single article."""

    def __init__(self, directory: Path) -> None:
        self.own = directory / "knowledge"
        self.shipped = directory / "shipped"
        self.index = directory / "index"
        self.phrases = directory / "phrases.toml"
        for folder in (self.own, self.shipped):
            (folder / "articles").mkdir(parents=True)
        (self.shipped / "notices").mkdir()
        (self.shipped / "notices" / "en.toml").symlink_to(SHIPPED / "notices" / "en.toml")
        (self.shipped / "sources.toml").write_text(SOURCES.replace("town", "land").replace("L1", "C1"))
        boil = entry("water-boil", "how long do i boil water").replace("town", "land")
        (self.shipped / "articles" / "water.toml").write_text(HEAD + boil)
        self.phrases.write_text(PHRASES)
        (self.own / "sources.toml").write_text(SOURCES)

    def write(self, *entries: str, head: str = HEAD) -> None:
        beside = self.own / "articles" / "town.new"
        beside.write_text(head + "".join(entries))
        beside.replace(self.own / "articles" / "town.toml")

    def make(self) -> KnowledgeIndex:
        return KnowledgeIndex.open(self.index, Texts.load([self.shipped, self.own]), self.phrases)


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Town:
    made = Town(tmp_path)
    monkeypatch.setattr("actors.knowledge.loader.SHIPPED", made.shipped)
    return made


def ids(library: Library | KnowledgeIndex, text: str, served: Served = ALWAYS) -> list[str]:
    return [passage.id for passage in library.search(text, "en", 5, served)]


@asynccontextmanager
async def watching(
    town: Town, library: Library, make: Callable[[], KnowledgeIndex] | None = None
) -> AsyncIterator[asyncio.Queue[tuple[str, Mapping[str, object]]]]:
    """What a library that looks for changes tells."""
    told: asyncio.Queue[tuple[str, Mapping[str, object]]] = asyncio.Queue()
    seen = look([town.own])
    task = asyncio.create_task(
        watch(
            library,
            lambda: [town.own],
            make or town.make,
            lambda kind, fields: told.put_nowait((kind, fields)),
            seen=seen,
            every_s=0.02,
        )
    )
    try:
        yield told
    finally:
        task.cancel()
        library.close()


async def test_new_changed_and_removed_files_are_noticed(town: Town) -> None:
    library = Library(town.make())
    assert ids(library, "where is the town well") == ["water-boil"]
    async with watching(town, library) as told:
        town.write(ZEBRA, WELL)
        assert await told.get() == ("knowledge_renewed", {"articles": 3, "before": 1})
        assert ids(library, "where is the town well")[0] == "well"
        town.write(ZEBRA)
        assert await told.get() == ("knowledge_renewed", {"articles": 2, "before": 3})
        assert "well" not in ids(library, "where is the town well")
        (town.own / "articles" / "town.toml").unlink()
        assert await told.get() == ("knowledge_renewed", {"articles": 1, "before": 2})
        assert told.empty()


@pytest.mark.parametrize(
    ("head", "entries", "named"),
    [
        (HEAD, ["[[article"], "town.toml"),
        (HEAD, [ZEBRA.replace('source = "town"', 'source = "nobody"')], "'zebra', source: 'nobody'"),
        (HEAD, [ZEBRA.replace("text =", "txt =")], "'zebra'"),
        (HEAD, [ZEBRA, ZEBRA], "already in"),
    ],
    ids=["no TOML", "no such source", "no such field", "twice"],
)
async def test_a_broken_file_is_refused_by_name_and_the_old_index_goes_on(
    town: Town, head: str, entries: list[str], named: str
) -> None:
    town.write(ZEBRA)
    library = Library(town.make())
    async with watching(town, library) as told:
        town.write(*entries, head=head)
        kind, fields = await told.get()
        assert kind == "knowledge_refused"
        assert "town.toml" in str(fields["reason"])
        assert named in str(fields["reason"])
        assert ids(library, "where is the zebra")[0] == "zebra"
        town.write(ZEBRA, WELL)
        assert await told.get() == ("knowledge_renewed", {"articles": 3, "before": 2})
        assert told.empty(), "a refused file is not tried again and again"


async def test_files_that_are_still_written_are_left_alone(town: Town) -> None:
    library = Library(town.make())
    made = 0

    def make() -> KnowledgeIndex:
        nonlocal made
        made += 1
        return town.make()

    async with watching(town, library, make) as told:
        path = town.own / "articles" / "town.toml"
        with path.open("w") as file:
            for line in (HEAD + ZEBRA).splitlines(keepends=True):
                file.write(line)
                file.flush()
                await asyncio.sleep(0.01)
        assert (await told.get())[0] == "knowledge_renewed"
    assert made == 1


async def test_no_search_is_lost_while_the_index_is_replaced(town: Town) -> None:
    library = Library(town.make())
    stop = threading.Event()
    found: list[list[str]] = []
    failed: list[Exception] = []

    def search() -> None:
        while not stop.is_set():
            try:
                found.append(ids(library, "how long do i boil water"))
            except Exception as error:  # noqa: BLE001  whatever it is, the test must show it
                failed.append(error)

    threads = [threading.Thread(target=search) for _ in range(2)]
    async with watching(town, library) as told:
        for thread in threads:
            thread.start()
        for entries in ([ZEBRA], [ZEBRA, WELL], [WELL]):
            town.write(*entries)
            assert (await told.get())[0] == "knowledge_renewed"
        stop.set()
        for thread in threads:
            await asyncio.to_thread(thread.join)
    assert not failed
    assert found
    assert all(each[0] == "water-boil" for each in found)
    assert len(list(town.index.iterdir())) == 2, "one index, and the vectors of the town's own texts"


async def test_only_what_is_new_is_computed(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []
    queries, passages = Embedder.queries, Embedder.passages

    def asked(self: Embedder, texts: Sequence[str]) -> Vectors:
        computed.extend(texts)
        return queries(self, texts)

    def answering(self: Embedder, texts: Sequence[str]) -> Vectors:
        computed.extend(texts)
        return passages(self, texts)

    town.write(ZEBRA)
    town.make().close()
    monkeypatch.setattr(Embedder, "queries", asked)
    monkeypatch.setattr(Embedder, "passages", answering)
    town.write(ZEBRA, WELL)
    town.make().close()
    assert computed == ["where is the town well", "About the well. The well of this town is at the school."]


def test_an_article_is_found_in_its_regions_and_until_its_last_day(town: Town) -> None:
    town.write(
        entry("zebra", "where is the zebra", 'regions = ["us", "eu"]'),
        entry("well", "where is the well", "valid_until = 2026-11-22"),
    )
    index = town.make()
    last, after = dt.date(2026, 11, 22), dt.date(2026, 11, 23)
    for served, expected in (
        (ALWAYS, {"well", "water-boil"}),
        (Served(["eu"]), {"zebra", "well", "water-boil"}),
        (Served(["africa"]), {"well", "water-boil"}),
        (Served(["africa", "us"], last), {"zebra", "well", "water-boil"}),
        (Served(["us"], after), {"zebra", "water-boil"}),
        (Served(["us"], area="water"), {"zebra", "well", "water-boil"}),
        (Served(["us"], area="health"), set()),
    ):
        assert set(ids(index, "where is the zebra and the well", served)) == expected, served
    index.close()


def test_an_english_article_stays_where_its_other_version_is_not_served(town: Town) -> None:
    spanish = HEAD.replace('"en"', '"es"') + "".join(
        entry(name, "donde esta", more)
        for name, more in (("zebra", 'regions = ["us"]'), ("well", "valid_until = 2026-11-22"), ("tap", ""))
    )
    (town.own / "articles" / "es.toml").write_text(spanish)
    town.write(ZEBRA, WELL, entry("tap", "where is the tap"))
    index = town.make()
    found = {(p.id, p.lang) for p in index.search("zebra well tap", "es", 9, Served((), dt.date(2027, 1, 1)))}
    assert found == {("zebra", "en"), ("well", "en"), ("tap", "es"), ("water-boil", "en")}
    index.close()


def node(directory: Path, regions: Sequence[str] = ()) -> MemoryContext:
    table = {"node": {"data_dir": str(directory)}, "rag": {"regions": list(regions)}}
    return MemoryContext(Config(table), Identity("n1", b"x", "0"))


async def test_a_node_serves_its_own_articles_by_region_and_date(town: Town) -> None:
    town.write(
        entry("zebra", "where is the zebra", 'regions = ["us"]'),
        entry("well", "where is the well", "valid_until = 2020-01-01"),
    )
    context = node(town.own.parent, ["us"])
    actor = await build(context)

    async def found(**asked: object) -> set[str]:
        request = SearchRequest(text="where is the zebra and the well", limit=9, **asked)  # type: ignore[arg-type]  # of the test
        reply = await actor.services["rag.search"](request)
        return {passage.id for passage in reply.passages}  # type: ignore[attr-defined]  # its reply

    assert {"zebra", "well"} <= await found(), "nobody knows the date"
    context.state = NodeState(node="n1", clock="network")
    assert await found(area="water") & {"zebra", "well"} == {"zebra"}
    assert not await found(regions=("eu",)) & {"zebra", "well"}
    assert len(actor.tasks) == 1
    await actor.close()


async def test_a_node_with_a_broken_file_starts_and_says_so(town: Town) -> None:
    town.write("[[article")
    context = node(town.own.parent)
    actor = await build(context)
    refused = next(event for event in context.events if event.kind == "knowledge_refused")
    assert "town.toml" in refused.fields["reason"]
    request = SearchRequest(text="how long do i boil water")
    reply = await actor.services["rag.search"](request)
    assert reply.passages[0].id == "water-boil"  # type: ignore[attr-defined]  # its reply
    await actor.close()
    assert Texts.of_node(town.own.parent, "112").say("unsure", "en")


def test_texts_of_a_node_go_on_without_a_broken_file(town: Town, tmp_path: Path) -> None:
    assert layers(town.own) == [town.shipped]
    assert layers(tmp_path) == [town.shipped, town.own]
    assert Texts.of_node(tmp_path, "112").source("l1") is not None
    assert Texts.of_node(tmp_path, "112") is Texts.of_node(tmp_path, "112"), "one for all actors of a node"
    (town.own / "sources.toml").write_text("[[source")
    broken = Texts.of_node(tmp_path, "112")
    assert broken.source("l1") is None
    assert broken.source("c1") is not None
    with pytest.raises(ConfigError, match=r"sources\.toml"):
        Texts.load(layers(tmp_path))
    with pytest.raises(ConfigError, match="emergency_number"):
        Texts.of_node(tmp_path, "no number")
