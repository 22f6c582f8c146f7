import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from evy_core import Router
from hypothesis import given
from hypothesis import strategies as st

from actors._masked import Taken
from actors._retrieval import phrases as phrase_files
from actors._retrieval import store
from actors._retrieval.confidence import NEAR, SURE, UNSURE, Evidence, confidence
from actors._retrieval.index import KnowledgeIndex
from actors._retrieval.shipped import FILE, Known
from actors._retrieval.vectors import embedder, spelled_out
from actors._runtime import clock
from actors._runtime.actor import KeyValue, Output
from actors._runtime.link import LinkState
from actors._runtime.memory import MemoryKeyValue
from actors.knowledge import SHIPPED, Texts, redactor, route_rules
from actors.rag import Centre, Decide, Decision, Library, actor, by_rules
from subjects.errors import ConfigError, RetryLaterError
from subjects.mesh import MeshPacket
from subjects.messages import Answer, Deadline, Event, Passage, Query, Session
from subjects.node_state import MEGABYTE, MeshState, NodeState

pytestmark = pytest.mark.model

QUESTIONS = Path(__file__).parents[1] / "vectors" / "questions.jsonl"

COMMUNITY = """
lang = "es"
area = "water"
review = { author = "tests", reviewed_on = 2026-11-01, state = "reviewed" }
[[article]]
id = "water-boil"
title = "Hervir el agua"
source = "cdc-water"
questions = ["cuanto tiempo hay que hervir el agua", "como hago el agua segura para beber"]
tags = ["agua", "hervir"]
text = "Hierva el agua 1 minuto completo."
"""

ROUTER = Router(route_rules())
LADDER = by_rules(ROUTER)

PHRASES = """
[answered]
[unanswered]
chatter = ["hello my friend", "who won the match", "how do i cook rice", "send me money"]
"""


@pytest.fixture(scope="module")
def texts() -> Texts:
    return Texts.load()


@pytest.fixture
def index(shipped_index: KnowledgeIndex) -> KnowledgeIndex:
    return shipped_index


@pytest.fixture
def small(tmp_path: Path) -> Callable[[], KnowledgeIndex]:
    """Opens, each time it is called, the index of one English article and its Spanish version."""
    own = tmp_path / "texts"
    (own / "articles").mkdir(parents=True)
    (own / "articles" / "es.toml").write_text(COMMUNITY, encoding="utf-8")
    (tmp_path / "phrases.toml").write_text(PHRASES, encoding="utf-8")
    everything = Texts.load([SHIPPED, own])
    wanted = {("water-boil", "en"), ("water-boil", "es"), ("child-fever", "en")}
    few = [article for article in everything.articles() if (article.id, article.lang) in wanted]
    texts = Texts([], {}, few, [], {})
    return lambda: KnowledgeIndex.open(tmp_path / "index", texts, tmp_path / "phrases.toml")


def query(text: str, **fields: object) -> Query:
    settings: dict[str, object] = {
        "id": "q1",
        "node": "n1",
        "sender_ref": "ref",
        "text": text,
        "lang": "en",
        "lane": "routine",
        "deadline": clock.deadline_in(60),
        "received_at": 7.0,
    }
    return Query(**{**settings, **fields})  # type: ignore[arg-type]  # the fields of the test


async def ask(index: KnowledgeIndex, asked: Query, decide: Decide = LADDER) -> tuple[Output, Event]:
    events: list[Event] = []
    built = actor("n1", Library(index), decide, Texts.load(), events.append, now=lambda: 5.0)
    outputs = await built.handlers["rag"](asked)
    assert len(outputs) == 1
    return outputs[0], events[-1]


def test_answers_what_it_can_and_abstains_from_the_rest(index: KnowledgeIndex) -> None:
    """The measured behaviour on every question of the vectors; `bench_rag` prints it row by row."""
    rows = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    found = [(row["expect"], index.search(row["text"], row["lang"], 1)[0]) for row in rows]
    right = sum(best.id in expect and best.score >= UNSURE for expect, best in found if expect)
    first = sum(best.id in expect for expect, best in found if expect)
    quiet = sum(best.score < UNSURE for expect, best in found if not expect)
    misled = sum(best.score >= SURE and best.id not in expect for expect, best in found)
    answerable = sum(bool(expect) for expect, _ in found)
    counted = {"first": first, "right": right, "quiet": quiet, "misled": misled, "answerable": answerable}
    assert first >= 0.86 * answerable, counted
    assert right >= 0.72 * answerable, counted
    assert quiet >= 0.92 * (len(found) - answerable), counted
    assert misled <= 0.03 * len(found), counted


def test_the_best_passage_carries_its_article(index: KnowledgeIndex, texts: Texts) -> None:
    found = index.search("how many drops of bleach for a litre of water", "en", limit=3)
    article = next(
        article for article in texts.articles() if (article.id, article.lang) == ("water-bleach", "en")
    )
    assert found[0] == Passage(
        id="water-bleach",
        text=article.text,
        title=article.title,
        source=article.source.tag,
        lang="en",
        score=found[0].score,
    )
    assert found[0].score == max(passage.score for passage in found)
    assert len({passage.id for passage in found}) == 3


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "?!?", "12345", "😀😀", "\x00\x01\x02"])
def test_a_text_without_words_finds_nothing(index: KnowledgeIndex, text: str) -> None:
    assert index.search(text, "en") == []


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("boil \ud800 water", "en"),
        ("boil\x00water", "en"),
        ("w" * 10_000, "en"),
        ("boil water " * 2000, "es"),
        ("ਪਾਣੀ ਉਬਾਲੋ", "pa"),
        ("💧 boil", ""),
        ("bouyi dlo", "ht"),
        ("boil", "no language at all"),
    ],
)
def test_odd_texts_and_languages_are_searched_all_the_same(
    index: KnowledgeIndex, text: str, lang: str
) -> None:
    assert all(0 <= passage.score <= 1 for passage in index.search(text, lang))


@pytest.mark.parametrize(
    ("text", "lang", "full"),
    [
        ("wat shud i do, ppl r sick", "en", "what should i do, people are sick"),
        ("U said B4", "en", "you said before"),
        ("wat", "es", "wat"),
        ("wat", "no language", "wat"),
        ("", "en", ""),
    ],
)
def test_short_forms_are_written_in_full(text: str, lang: str, full: str) -> None:
    assert spelled_out(text, lang) == full


def test_the_first_part_of_a_long_text_asks(index: KnowledgeIndex) -> None:
    found = index.search("how long do i boil water to drink? " + "and then we walked on " * 500, "en")
    assert found[0].id == "water-boil"


def test_each_language_gets_its_own_version(small: Callable[[], KnowledgeIndex]) -> None:
    index = small()
    asked = {
        "es": "cuanto tiempo hiervo el agua",
        "en": "how long do i boil water",
        "fr": "bouillir eau combien",
    }
    langs = {lang: [(p.id, p.lang) for p in index.search(text, lang)] for lang, text in asked.items()}
    assert langs["es"][0] == ("water-boil", "es")
    assert ("water-boil", "en") not in langs["es"]
    assert ("child-fever", "en") in langs["es"]
    assert {lang for _, lang in langs["en"] + langs["fr"]} == {"en"}
    assert langs["en"][0][0] == langs["fr"][0][0] == "water-boil"
    index.close()


def test_an_index_is_built_once(small: Callable[[], KnowledgeIndex]) -> None:
    first = small()
    again = small()  # beside the first, as `evy ask` beside a node
    assert (first.rebuilt, again.rebuilt) == ("no index of these articles yet", "")
    assert first.search("boil water", "en") == again.search("boil water", "en")
    first.close()
    again.close()


def test_new_articles_replace_the_index(tmp_path: Path, small: Callable[[], KnowledgeIndex]) -> None:
    small().close()
    changed = Texts([], {}, Texts.load().articles()[:1], [], {})
    index = KnowledgeIndex.open(tmp_path / "index", changed, tmp_path / "phrases.toml")
    assert index.rebuilt == "no index of these articles yet"
    assert {passage.id for passage in index.search("water", "en")} == {changed.articles()[0].id}
    assert len([entry for entry in (tmp_path / "index").iterdir() if entry.is_dir()]) == 1
    index.close()


def flip(path: Path) -> None:
    octets = bytearray(path.read_bytes())
    octets[100] ^= 0xFF
    path.write_bytes(octets)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a vector changed": lambda place: flip(next(place.rglob("*.mmap"))),
    "payloads cut off": lambda place: os.truncate(next(place.rglob("payload_storage/page_0.dat")), 100),
    "a file gone": lambda place: next(place.rglob("segment.json")).unlink(),
    "a file too many": lambda place: (place / "shard" / "segments" / "more").write_text("x"),
    "the engine's own settings": lambda place: (place / "shard" / "edge_config.json").write_text("{"),
    "no manifest": lambda place: (place / "manifest.json").unlink(),
    "a manifest of nonsense": lambda place: (place / "manifest.json").write_text("[1"),
    "decoys cut off": lambda place: os.truncate(place / "decoys.npy", 200),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_index_is_built_again(
    tmp_path: Path, small: Callable[[], KnowledgeIndex], damage: str
) -> None:
    index = small()
    before = index.search("how long do i boil water", "en")
    index.close()
    [place] = (entry for entry in (tmp_path / "index").iterdir() if entry.is_dir())
    DAMAGE[damage](place)
    index = small()
    assert index.rebuilt.startswith("damaged: ")
    assert index.search("how long do i boil water", "en") == before
    index.close()
    index = small()
    assert index.rebuilt == ""
    index.close()


def test_what_a_dead_builder_left_goes_and_a_living_one_stays(
    tmp_path: Path, small: Callable[[], KnowledgeIndex]
) -> None:
    old, fresh = tmp_path / "index" / "building-old", tmp_path / "index" / "building-fresh"
    old.mkdir(parents=True)
    fresh.mkdir()
    os.utime(old, (time.time() - 7200,) * 2)
    small().close()
    assert not old.exists()
    assert fresh.exists()


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path, texts: Texts) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        KnowledgeIndex.open(tmp_path / "file", texts)


@pytest.mark.parametrize(
    "content",
    ["", "[answered]\n[unanswered]", PHRASES.replace('"', ""), "answered = 1", PHRASES + "\n[more]", None],
)
def test_phrases_that_cannot_be_used_are_named(tmp_path: Path, texts: Texts, content: str | None) -> None:
    phrases = tmp_path / "phrases.toml"
    if content is not None:
        phrases.write_text(content)
    with pytest.raises(ConfigError, match=r"phrases\.toml"):
        KnowledgeIndex.open(tmp_path / "index", texts, phrases)
    assert not (tmp_path / "index").exists()


def test_nothing_that_is_measured_was_shown() -> None:
    """A question of the vectors that stood among the phrases would measure memory, not understanding."""
    phrases = phrase_files.read_phrases()
    shown = {*phrases.decoys(), *(text for group in phrases.answered.values() for text in group)}
    measured = [json.loads(line)["text"] for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    assert shown.isdisjoint(measured)


def test_phrases_are_for_articles_that_exist(texts: Texts) -> None:
    assert set(phrase_files.read_phrases().answered) <= {article.id for article in texts.articles()}


def test_the_fingerprint_follows_articles_and_phrases(texts: Texts) -> None:
    articles = texts.articles()
    shipped = phrase_files.read_phrases()
    more = msgspec.structs.replace(shipped, unanswered={**shipped.unanswered, "more": ("x",)})
    reworded = (msgspec.structs.replace(articles[0], text="Other words."), *articles[1:])
    names = {
        store.fingerprint(articles, shipped),
        store.fingerprint(articles[:-1], shipped),
        store.fingerprint(reworded, shipped),
        store.fingerprint(articles, more),
    }
    assert len(names) == 4
    assert store.fingerprint(Texts.load().articles(), phrase_files.read_phrases()) in names


@given(lead=st.floats(-1, 1), rise=st.floats(-1, 1), overlap=st.floats(0, 1), more=st.floats(0.001, 1))
def test_confidence_is_a_probability_that_grows_with_the_evidence(
    lead: float, rise: float, overlap: float, more: float
) -> None:
    sure = confidence(Evidence(lead, rise, overlap))
    assert 0 <= sure <= 1
    assert confidence(Evidence(lead + more, rise, overlap)) >= sure
    assert confidence(Evidence(lead, rise + more, overlap)) >= sure
    assert confidence(Evidence(lead, rise, overlap, margin=more)) >= sure
    assert Evidence(lead, rise, overlap + more).rank > Evidence(lead, rise, overlap).rank


async def test_sure_sends_the_passage_as_written(index: KnowledgeIndex, texts: Texts) -> None:
    output, event = await ask(index, query("how long do i boil water", lane="priority"))
    article = next(
        article for article in texts.articles() if (article.id, article.lang) == ("water-boil", "en")
    )
    answer = output.message
    assert isinstance(answer, Answer)
    assert (output.subject, output.lane, output.query_id) == ("compress", "priority", "q1")
    assert (answer.step, answer.verbatim, answer.text) == ("verbatim", True, article.text)
    assert (answer.sources, [p.id for p in answer.passages]) == ((article.source.tag,), ["water-boil"])
    assert (answer.question, answer.received_at) == ("how long do i boil water", 7.0)
    assert event.kind == "retrieved"
    assert (event.fields["article"], event.fields["next"]) == ("water-boil", "compress")
    assert event.fields["confidence"] >= SURE


async def test_an_emergency_gets_the_article_that_fits_it_surely_after_its_template(
    index: KnowledgeIndex, texts: Texts
) -> None:
    asked = query("how long do i boil water to drink it", priority="emergency", lane="priority")
    output, _ = await ask(index, asked)
    answer = output.message
    assert isinstance(answer, Answer)
    assert (output.subject, answer.kind, answer.verbatim) == ("compress", "followup", True)
    built = actor("n1", index, LADDER, texts, NO, now=lambda: 5.0)
    watched = msgspec.structs.replace(asked, needs=("violence",))
    assert await built.handlers["rag"](watched) == ()
    unfit = query("the purple thing again", priority="emergency", lane="priority")
    built = actor("n1", Library(index), LADDER, texts, NO, now=lambda: 5.0)
    assert await built.handlers["rag"](unfit) == ()


async def test_nearly_sure_gives_the_model_passages_and_confidence(index: KnowledgeIndex) -> None:
    output, _ = await ask(
        index, query("how long do i boil water"), lambda *_: Decision("infer.small", "for the test")
    )
    forwarded = output.message
    assert isinstance(forwarded, Query)
    assert output.subject == "infer.small"
    assert forwarded.passages[0].id == "water-boil"
    assert forwarded.confidence == forwarded.passages[0].score


async def test_unsure_says_so_in_the_persons_language(index: KnowledgeIndex, texts: Texts) -> None:
    output, event = await ask(index, query("donde esta el hospital", lang="es", needs=("medical",)))
    answer = output.message
    assert isinstance(answer, Answer)
    assert (answer.step, answer.verbatim, answer.sources) == ("unsure", True, ())
    assert answer.text == texts.say("unsure", "es")
    assert event.fields["next"] == "unsure"


async def test_chatter_goes_to_the_model_without_passages(index: KnowledgeIndex) -> None:
    output, _ = await ask(index, query("tell me a joke"))
    assert isinstance(output.message, Query)
    assert (output.subject, output.message.passages) == ("infer.small", ())


@pytest.mark.parametrize(
    ("passage", "waits", "says"),
    [
        ({"score": NEAR}, False, True),
        ({"score": SURE - 0.01}, False, True),
        ({"score": NEAR - 0.01}, False, False),
        ({"score": NEAR, "lang": "es"}, False, False),
        ({"score": NEAR}, True, False),
    ],
)
async def test_a_near_passage_goes_out_under_its_title(
    index: KnowledgeIndex, texts: Texts, passage: dict[str, Any], waits: bool, says: bool
) -> None:
    found = Passage(
        **{"id": "a", "text": "Boil it.", "title": "Water", "source": "C1", "lang": "en", **passage}
    )

    class Near(Library):
        def search(self, *_: object, **__: object) -> list[Passage]:
            return [found]

    events: list[Event] = []
    decide = lambda *_: Decision("unsure", "test")  # noqa: E731  # the rule of the test
    built = actor("n1", Near(index), decide, texts, events.append)
    wait = clock.deadline_in(60) if waits else None
    [output] = await built.handlers["rag"](query("is it safe", wait=wait))
    answer = output.message
    assert isinstance(answer, Answer)
    if says:
        assert (answer.step, answer.verbatim, answer.sources) == ("verbatim", True, ("C1",))
        assert answer.text == "Maybe this. Water: Boil it."
    else:
        assert (answer.step, answer.sources) == ("unsure", ())


async def test_a_decision_for_nothing_found_is_unsure(index: KnowledgeIndex) -> None:
    output, event = await ask(index, query("?!"), lambda *_: Decision("compress", "wrong"))
    assert isinstance(output.message, Answer)
    assert output.message.step == "unsure"
    assert event.fields["confidence"] == 0


def test_the_rules_use_the_calibrated_thresholds() -> None:
    assert (ROUTER.sure, ROUTER.unsure) == (SURE, UNSURE)


@pytest.mark.parametrize(
    ("sure", "needs", "priority", "rung"),
    [
        (SURE, ("water",), "urgent", "compress"),
        (SURE - 0.01, ("water",), "urgent", "infer.small"),
        (UNSURE - 0.01, ("water",), "normal", "unsure"),
        (UNSURE - 0.01, (), "urgent", "unsure"),
        (UNSURE - 0.01, (), "normal", "infer.small"),
    ],
)
def test_the_ladder_without_a_link(sure: float, needs: tuple[str, ...], priority: str, rung: str) -> None:
    decision = LADDER(query("x", confidence=sure, needs=needs, priority=priority), None)
    assert decision.next == rung
    assert decision.reason


async def test_searches_do_not_hold_up_the_event_loop(index: KnowledgeIndex) -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    await ask(index, query("how do i keep my phone alive for a long time " * 8))
    turning.cancel()
    assert turns > 3


def test_shipped_vectors_are_those_the_model_makes(texts: Texts) -> None:
    articles, phrases, known = texts.articles(), phrase_files.read_phrases(), Known(FILE)
    asked = [*phrase_files.asked_of(articles, phrases), *phrases.decoys()]
    sample = asked[:: len(asked) // 16]
    made = embedder().queries(sample)
    assert float((known.vectors(sample, asked=True) * made).sum(axis=1).min()) > 0.999
    own = [phrase_files.answering(article) for article in articles[:3]]
    made = embedder().passages(own)
    assert float((known.vectors(own, asked=False) * made).sum(axis=1).min()) > 0.999


def test_most_of_what_is_needed_is_shipped(texts: Texts) -> None:
    """Run `python -m actors._retrieval` when this fails: a first start on a Pi would take a minute."""
    articles, phrases, known = texts.articles(), phrase_files.read_phrases(), Known(FILE)
    asked = sorted({*phrase_files.asked_of(articles, phrases), *phrases.decoys()})
    assert len(known.missing(asked, asked=True)) < len(asked) / 10


def test_what_is_not_known_is_computed_once() -> None:
    texts = ["how long do i boil water", "a sentence that nobody ever shipped, zebra 93"]
    known = Known(FILE)
    assert known.missing(texts, asked=True) == [1]
    assert known.missing(texts, asked=False) == [0, 1], "what asks is not what answers"
    made = embedder().queries(texts)
    assert float((known.vectors(texts, asked=True) * made).sum(axis=1).min()) > 0.999
    assert known.learn(texts, asked=True) == 0


def test_vectors_are_written_as_far_as_they_are_needed(tmp_path: Path) -> None:
    path, base = tmp_path / "vectors.npz", Known()
    base.learn(["boil water"], asked=True)
    known = Known()
    known.learn(["boil water", "gone", "new"], asked=True)
    known.learn(["Boil it."], asked=False)
    before = known.vectors(["new"], asked=True)
    assert known.write(path, ["new", "boil water", "never learnt"], ["Boil it."], but=base) == 2
    again = Known(path)
    assert again.missing(["boil water", "gone", "new"], asked=True) == [0, 1]
    assert again.missing(["Boil it."], asked=False) == []
    assert np.array_equal(again.vectors(["new"], asked=True), before)
    assert [entry.name for entry in tmp_path.iterdir()] == ["vectors.npz"]


def _as_of(path: Path, **changed: object) -> None:
    with np.load(path) as stored:
        np.savez(path, **{**{name: stored[name] for name in stored.files}, **changed})


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: _as_of(path, made_by=np.array("another model")),
        lambda path: _as_of(path, steps=np.zeros((1, 2), dtype=np.int8)),
        lambda path: os.truncate(path, 300),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not vectors"),
        flip,
        lambda path: path.unlink(),
    ],
    ids=["another model", "another shape", "cut off", "empty", "nonsense", "one octet", "gone"],
)
def test_vectors_that_cannot_be_used_are_made_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    known = Known()
    known.learn(["boil water"], asked=True)
    known.write(tmp_path / "vectors.npz", ["boil water"], [])
    assert len(Known(tmp_path / "vectors.npz")) == 1
    damage(tmp_path / "vectors.npz")
    assert len(Known(tmp_path / "vectors.npz")) == 0


class SetLink:
    """A link whose state a test sets."""

    def __init__(self, up: bool | None) -> None:
        self.state = LinkState(up)

    async def watch(self, _changed: Callable[[LinkState], None]) -> None:
        await asyncio.Event().wait()

    def missed(self) -> None:
        self.state = LinkState(up=False)

    async def expire(self, _passed: Callable[[Query], bool]) -> list[Query]:
        return []


async def outputs_with(
    index: KnowledgeIndex,
    up: bool,
    asked: Query,
    rung: Decision,
    *,
    answered: bool = False,
    masked: KeyValue | None = None,
) -> dict[str, Output]:
    """Outputs of one query at a node with a centre, by subject."""

    async def has_answer(_: str) -> bool:
        return answered

    centre = Centre(SetLink(up), REDACTOR, masked or MemoryKeyValue(), has_answer, 3600.0)
    built = actor(
        "n1", Library(index), lambda _, link: rung if link is not None else LADDER(_, None), TEXTS, NO, centre
    )
    outputs = await built.handlers["rag"](asked)
    return {output.subject: output for output in outputs}


TEXTS = Texts.load()
REDACTOR = redactor()


def NO(_: Event) -> None:  # noqa: N802  # a constant that does nothing
    """Takes an event."""


PASSED = Deadline("another boot", 0.0)
BIG = Decision("infer.large", "test")
LATER = Decision("unsure", "test", wait=True)


async def test_with_a_link_the_centre_is_asked_and_a_copy_waits(index: KnowledgeIndex) -> None:
    before = Session(before="my name is Ana, when do I sow")
    text = "my name is Ana, when do I plant maize, call 0712 345 678"
    asked = query(text, deadline=clock.deadline_in(15), session=before)
    masked = MemoryKeyValue()
    out = await outputs_with(index, True, asked, BIG, masked=masked)
    assert set(out) == {"infer.large", "rag"}
    sent, copy = out["infer.large"].message, out["rag"].message
    assert isinstance(sent, Query)
    assert isinstance(copy, Query)
    assert sent.text == "my name is [name1], when do I plant maize, call [phone1]"
    assert sent.session.before == "my name is [name], when do I sow"
    kept = await masked.get(asked.id)
    assert kept is not None
    assert msgspec.json.decode(kept[0], type=Taken) == Taken(
        asked.sender_ref, {"[name1]": "Ana", "[phone1]": "0712 345 678"}
    )
    assert copy.text == asked.text  # what stays here is whole
    assert copy.session.before == before.before
    assert out["infer.large"].optional
    assert sent.asked
    assert copy.asked
    assert sent.wait is not None
    assert 3500 < clock.remaining_s(sent.wait) <= 3600
    with pytest.raises(RetryLaterError) as waits:
        await outputs_with(index, True, copy, BIG)
    assert waits.value.delay_s is not None
    assert 10 < waits.value.delay_s <= 12


async def test_at_the_deadline_the_ladder_answers_once(index: KnowledgeIndex) -> None:
    copy = query("maize", asked=True, wait=clock.deadline_in(3600), confidence=0.1, deadline=PASSED)
    assert await outputs_with(index, True, copy, BIG, answered=True) == {}
    out = await outputs_with(index, True, copy, BIG)
    answer = out["compress"].message
    assert isinstance(answer, Answer)
    assert answer.asked
    assert answer.text == TEXTS.say("answer_follows", "en")


async def test_without_a_link_the_ladder_answers_now_and_the_question_waits(index: KnowledgeIndex) -> None:
    out = await outputs_with(index, False, query("maize?", deadline=clock.deadline_in(15)), LATER)
    assert set(out) == {"compress", "infer.large"}
    answer = out["compress"].message
    assert isinstance(answer, Answer)
    assert answer.text == TEXTS.say("answer_follows", "en")


@pytest.mark.parametrize(
    "kept", [{"session": Session(unsolicited_ok=False)}, {"needs": ("violence",)}], ids=["STOP", "violence"]
)
async def test_who_wants_no_late_text_gets_none(index: KnowledgeIndex, kept: dict[str, object]) -> None:
    asked = query("maize?", deadline=clock.deadline_in(15), **kept)
    assert set(await outputs_with(index, False, asked, LATER)) == {"compress"}
    out = await outputs_with(index, True, asked, BIG)
    sent = out["infer.large"].message
    assert isinstance(sent, Query)
    assert sent.wait is not None
    assert clock.remaining_s(sent.wait) <= 12  # no later than the ladder


async def test_a_query_of_the_node_only_never_leaves(index: KnowledgeIndex) -> None:
    for up in (True, False):
        decision = LADDER(query("x", confidence=0.1, node_only=True, deadline=clock.deadline_in(15)), up)
        assert decision.next != "infer.large"
        assert not decision.wait


def decided(percent: float | None, free_mb: float | None, asked: Query, link_up: bool | None) -> Decision:
    state = NodeState(
        node="n1",
        battery_rule_percent=percent,
        memory_rule_octets=None if free_mb is None else round(free_mb * MEGABYTE),
    )
    return by_rules(ROUTER, lambda: state)(asked, link_up)


# The rules of DESIGN section 6, one row each; what the limits are is in route.toml.
@pytest.mark.parametrize(
    ("percent", "free_mb", "link_up", "rung", "says"),
    [
        (51, 900, True, "infer.large", "near"),
        (49, 900, True, "infer.small", "not infer.large: battery 49 % is below 50 %"),
        (29, 900, True, "compress", "battery 29 % is below 30 %"),
        (90, 99, None, "compress", "99 MB free are below 100 MB"),
        (90, 99, True, "infer.large", "near"),
        (None, None, True, "infer.large", "near"),
        (None, None, None, "infer.small", "near"),
        (19, 900, True, "compress", "battery 19 %"),
    ],
)
def test_the_state_of_the_node_decides_and_says_why(
    percent: float | None, free_mb: float | None, link_up: bool | None, rung: str, says: str
) -> None:
    decision = decided(percent, free_mb, query("x?", confidence=0.6), link_up)
    assert decision.next == rung
    assert says in decision.reason


def test_an_empty_battery_asks_nobody_and_promises_nothing() -> None:
    for link_up in (True, False, None):
        low = decided(19, 900, query("x?", confidence=0.1), link_up)
        assert (low.next, low.wait) == ("low_battery", False)
        assert low.reason.startswith("low-battery: 0.10 < 0.50, battery 19 % is below 20 %")
    urgent = decided(19, 900, query("x?", confidence=0.1, priority="urgent", lane="priority"), True)
    assert urgent.next == "unsure", "a person in need is not told about batteries"


async def test_on_an_empty_battery_a_routine_text_still_gets_its_passage_or_an_honest_no(
    index: KnowledgeIndex,
) -> None:
    empty = by_rules(ROUTER, lambda: NodeState(node="n1", battery_rule_percent=12.0))
    known, _ = await ask(index, query("how long must i boil the water"), empty)
    assert isinstance(known.message, Answer)
    assert known.message.step == "verbatim"
    unknown, event = await ask(index, query("who won the match"), empty)
    assert isinstance(unknown.message, Answer)
    assert unknown.message.text == TEXTS.say("low_battery", "en")
    assert event.fields["reason"].startswith("low-battery")


def test_the_view_is_asked_at_each_decision() -> None:
    percents = iter((90.0, 10.0))
    decide = by_rules(ROUTER, lambda: NodeState(node="n1", battery_rule_percent=next(percents)))
    rungs = [decide(query("hello", confidence=0.1), None).next for _ in range(2)]
    assert rungs == ["infer.small", "low_battery"]


MESH = Decision("mesh.out", "test")


@pytest.mark.parametrize(("up", "waits"), [(None, False), (False, True)], ids=["no centre", "link down"])
async def test_a_question_goes_over_the_mesh_and_the_person_hears_so(
    index: KnowledgeIndex, up: bool | None, waits: bool
) -> None:
    text = "my name is Ana, how do I solder a tap, call 0712 345 678"
    masked = MemoryKeyValue()
    asked = query(text, deadline=clock.deadline_in(15))
    out = await mesh_outputs(index, up, asked, MESH._replace(wait=waits), masked)
    assert set(out) == {"compress", "mesh.out", *(["infer.large"] if waits else [])}
    answer, packet = out["compress"].message, out["mesh.out"].message
    assert isinstance(answer, Answer)
    assert answer.text == TEXTS.say("answer_follows", "en")
    assert answer.asked
    assert isinstance(packet, MeshPacket)
    assert packet.query is not None
    assert packet.query.text == "my name is [name1], how do I solder a tap, call [phone1]"
    assert packet.until == packet.query.wait
    assert out["mesh.out"].optional
    assert await masked.get(asked.id) is not None
    stopped = query(text, deadline=clock.deadline_in(15), session=Session(unsolicited_ok=False))
    assert set(await mesh_outputs(index, up, stopped, MESH, masked)) == {"compress"}


async def mesh_outputs(
    index: KnowledgeIndex, up: bool | None, asked: Query, rung: Decision, masked: KeyValue
) -> dict[str, Output]:
    """Outputs of one query at a node whose rules say ``rung``, by subject."""

    async def has_answer(_: str) -> bool:
        return False

    centre = Centre(SetLink(up), REDACTOR, masked, has_answer, 3600.0)
    built = actor("n1", Library(index), lambda _, __: rung, TEXTS, NO, centre)
    return {output.subject: output for output in await built.handlers["rag"](asked)}


GATEWAY = MeshState(radio="up", neighbours=1, uplink=True, airtime_percent=10.0)


@pytest.mark.parametrize(
    ("mesh", "fields", "rung"),
    [
        (GATEWAY, {}, "mesh.out"),
        (None, {}, "unsure"),
        (msgspec.structs.replace(GATEWAY, radio="down"), {}, "unsure"),
        (msgspec.structs.replace(GATEWAY, uplink=False), {}, "unsure"),
        (GATEWAY, {"origin": "7.0a1b2c3d"}, "unsure"),
        (GATEWAY, {"node_only": True}, "unsure"),
        (msgspec.structs.replace(GATEWAY, airtime_percent=60.0), {}, "mesh.out"),
        (msgspec.structs.replace(GATEWAY, airtime_percent=60.0), {"lane": "routine"}, "unsure"),
    ],
)
def test_the_mesh_is_asked_when_it_has_a_gateway_and_air(
    mesh: MeshState | None, fields: dict[str, Any], rung: str
) -> None:
    state = NodeState(node="n1", battery_rule_percent=80.0, mesh=mesh)
    asked = query(
        "how do I solder a tap?",
        **{"lane": "priority", "needs": ("water",), "confidence": 0.1, **fields},
        deadline=clock.deadline_in(15),
    )
    assert by_rules(ROUTER, lambda: state)(asked, None).next == rung
    assert by_rules(ROUTER, lambda: state)(asked, True).next != "mesh.out"


MODEL = MeshState(radio="up", neighbours=1, model=True, airtime_percent=10.0)


@pytest.mark.parametrize(
    ("mesh", "own", "battery", "fields", "rung"),
    [
        (MODEL, False, 80.0, {}, "mesh.out"),
        (MODEL, False, 80.0, {"lane": "routine", "needs": (), "priority": "normal"}, "mesh.out"),
        (MODEL, True, 29.0, {}, "mesh.out"),
        (MODEL, True, 80.0, {}, "unsure"),
        (MODEL, None, 80.0, {}, "unsure"),
        (msgspec.structs.replace(MODEL, uplink=True), True, 80.0, {}, "mesh.out"),
        (msgspec.structs.replace(MODEL, model=False), False, 80.0, {}, "unsure"),
        (MODEL, False, 19.0, {}, "unsure"),
        (MODEL, False, 80.0, {"origin": "7.0a1b2c3d"}, "unsure"),
        (MODEL, False, 80.0, {"node_only": True}, "unsure"),
        (MODEL, False, 80.0, {"confidence": 0.6}, "compress"),
    ],
)
def test_a_neighbours_model_is_asked_when_this_nodes_own_cannot_run(
    mesh: MeshState, own: bool | None, battery: float, fields: dict[str, Any], rung: str
) -> None:
    state = NodeState(node="n1", battery_rule_percent=battery, model=own, mesh=mesh)
    asked = query(
        "how do I solder a tap?",
        **{"lane": "priority", "priority": "urgent", "needs": ("water",), "confidence": 0.1, **fields},
        deadline=clock.deadline_in(15),
    )
    assert by_rules(ROUTER, lambda: state)(asked, None).next == rung
