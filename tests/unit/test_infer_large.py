"""The big model's actor against servers that misbehave on real sockets; a real one is in integration."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors._library.importing import files_of, import_files, plan_of
from actors._library.library import Library
from actors._library.server import Server
from actors._library.volumes import FOLDER, Terms
from actors._retrieval.phrases import read_phrases
from actors._runtime import clock
from actors._runtime.config import Config
from actors._runtime.context import MemoryContext
from actors._runtime.identity import Identity
from actors.infer_large import (
    Breaker,
    ChatClient,
    Endpoint,
    Gate,
    InferLargeConfig,
    Large,
    Retrieval,
    Rule,
    ServerError,
    build,
    choose,
    prompt,
)
from actors.infer_large.client import MAX_REPLY_OCTETS, RequestError
from actors.infer_large.retrieval import merged
from actors.knowledge import Texts
from actors.rag import KnowledgeIndex
from subjects.errors import ConfigError, RefusedError, RetryLaterError
from subjects.messages import Answer, Event, Passage, Query, decode, encode
from subjects.registry import work
from subjects.services import DraftRequest
from tests.conftest import free_port
from tests.peer import Behave, Peer, completion, http, raw, slow, written

BOIL = Passage(id="boil", source="C1", score=0.7, text="Boil water for 1 minute, above 2000 m 3 minutes.")
BLEACH = Passage(
    id="bleach", source="E1", score=0.6, text="Put 2 drops of bleach in a litre. Wait 30 minutes."
)
WEAK = Passage(id="weak", source="E1", score=0.3, text="Store water in clean containers.")


def query(text: str = "how long do I boil water", *passages: Passage, **fields: Any) -> Query:
    settings: dict[str, Any] = {
        "id": "q1",
        "node": "n1",
        "sender_ref": "ref",
        "text": text,
        "lang": "en",
        "lane": "routine",
        "deadline": clock.deadline_in(60),
        "wait": clock.deadline_in(3600),
        "passages": passages,
        "received_at": 7.0,
    }
    return Query(**{**settings, **fields})


class Clock:
    """Seconds that go on only when the test says so."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


class Centre:
    """The actor with a clock, a chance of one half and no waits between its tries."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch, retrieval: Retrieval, **table: Any) -> None:
        monkeypatch.setattr("actors.infer_large.RETRY_S", (0.0, 0.0))
        self.clock = Clock()
        self.events: list[Event] = []
        config = msgspec.convert({"base_url": url, "timeout_s": 5.0, **table}, InferLargeConfig)
        self.client = ChatClient(config.endpoint(), config.timeout_s)
        self.large = Large(
            node="hub",
            client=self.client,
            retrieval=retrieval,
            texts=Texts.load(),
            emit=self.events.append,
            config=config,
            chance=lambda: 0.5,
            clock_s=self.clock,
            now=lambda: 5.0,
        )

    async def answer(self, asked: Query) -> Answer:
        [output] = await self.large.handle(asked)
        assert (output.subject, output.lane, output.query_id) == ("down.n1.compress", asked.lane, asked.id)
        assert isinstance(output.message, Answer)
        assert decode(encode(output.message), Answer) == output.message
        return output.message

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [event.fields for event in self.events if event.kind == kind]


Open = Callable[..., Any]


@pytest.fixture(scope="module")
def retrieval() -> Retrieval:
    """The centre's knowledge without a single article: what the edge sent is all there is."""
    return Retrieval([], read_phrases())


@pytest.fixture
def centre(monkeypatch: pytest.MonkeyPatch, retrieval: Retrieval) -> Open:
    @asynccontextmanager
    async def open_(*behaviours: Behave, **table: Any) -> AsyncIterator[tuple[Centre, Peer]]:
        async with Peer(*behaviours).running() as peer:
            made = Centre(peer.url, monkeypatch, retrieval, **table)
            try:
                yield made, peer
            finally:
                await made.client.close()

    return open_


# the good path


async def test_an_answer_goes_to_the_node_that_asked_with_the_passages_it_rests_on(centre: Open) -> None:
    async with centre(http(written("Boil it 1 minute.", 1))) as (made, peer):
        asked = query("how long", BOIL, BLEACH, asked=True)
        answer = await made.answer(asked)
    assert (answer.text, answer.step, answer.verbatim) == ("Boil it 1 minute.", "model", False)
    assert (answer.passages, answer.sources) == ((BOIL,), ("C1",))
    assert (answer.node, answer.sender_ref, answer.question, answer.received_at) == (
        "n1",
        "ref",
        "how long",
        7.0,
    )
    assert answer.by_centre
    assert (answer.asked, answer.wait) == (True, asked.wait)
    request = peer.requests[0]
    assert request["model"] == "first"
    assert request["response_format"]["json_schema"]["schema"] == prompt.SCHEMA
    assert request["max_tokens"] == 320
    [generated] = made.told("generated")
    assert (generated["tokens"], generated["prompt_tokens"]) == (3, 9)


async def test_a_centre_may_answer_without_passages(centre: Open) -> None:
    async with centre(http(written("Hello.", 1)), passages=0) as (made, peer):
        assert (await made.answer(query("say hello", BOIL))).passages == ()
    assert BOIL.text not in peer.requests[0]["messages"][1]["content"]


async def test_not_knowing_is_left_to_the_edge(centre: Open) -> None:
    async with centre(http(written("", known=False))) as (made, _):
        answer = await made.answer(query("who wins the cup", lang="es"))
    assert (answer.step, answer.text) == ("unsure", Texts.load().say("unsure", "es"))
    assert answer.passages == ()


@pytest.mark.parametrize(
    ("content", "finish", "reason"),
    [
        ("Sure! Boil it.", "stop", "not the JSON"),
        ('{"passages":[1],"known":true,"answer":"Boil', "length", "did not finish"),
        ('{"passages":"x","known":true,"answer":"Boil"}', "stop", "not the JSON"),
        ('{"known":true,"answer":"Boil"}', "stop", "not the JSON"),
        (json.dumps({"passages": [1], "known": True, "answer": " \x00 "}), "stop", "does not know"),
        (json.dumps({"passages": [1], "known": True, "answer": "x" * 700}), "stop", "no text message"),
        (json.dumps({"passages": [1], "known": True, "answer": "x" * 9000}), "stop", "not the JSON"),
        (json.dumps({"passages": [1], "known": True, "answer": "Boil, how long?"}), "stop", "question again"),
        ("", "stop", "not the JSON"),
        ("", "content_filter", "did not finish"),
    ],
)
async def test_words_that_cannot_be_used_become_an_honest_unsure(
    centre: Open, content: str, finish: str, reason: str
) -> None:
    async with centre(http(completion(content, finish))) as (made, _):
        answer = await made.answer(query("how long to boil", BOIL))
    assert answer.step == "unsure"
    assert reason in made.told("decided")[0]["reason"]
    assert made.large.breaker.state == "closed"  # the server works, its model does not


async def test_a_grave_question_needs_a_passage(centre: Open) -> None:
    async with centre(http(written("Take two aspirin."))) as (made, _):
        assert (await made.answer(query("my chest hurts", needs=("medical",)))).step == "unsure"
        assert (await made.answer(query("no water", priority="urgent", lane="priority"))).step == "unsure"
        assert (await made.answer(query("tell me a joke"))).step == "model"


async def test_life_at_risk_never_meets_the_model(centre: Open) -> None:
    async with centre(http(written("Breathe."))) as (made, peer):
        flash = await made.answer(query("help", BOIL, lane="flash"))
        unsure = await made.answer(query("help", WEAK, lane="flash"))
        emergency = await made.answer(query("help", priority="emergency"))
    assert (flash.text, flash.step, flash.verbatim) == (BOIL.text, "verbatim", True)
    assert (unsure.step, emergency.step) == ("unsure", "unsure")
    assert peer.paths == []


async def test_hostile_words_are_cleaned_and_passages_that_do_not_exist_are_not_cited(centre: Open) -> None:
    words = "**Boil**\n<script>alert(1)</script> it\x07 <|im_end|> 1 minute if < 2000 m > sea."
    async with centre(http(written(words, 1, 7, -1, 1))) as (made, _):
        answer = await made.answer(query("x", BOIL))
    assert answer.text == "Boil alert(1) it 1 minute if < 2000 m > sea."
    assert answer.passages == (BOIL,)


# the model, the prompt


async def test_the_model_is_chosen_by_rules(centre: Open) -> None:
    rules = [{"model": "doctor", "need": ["medical"]}, {"model": "swahili", "lang": ["sw"]}]
    async with centre(http(written("x")), model="all", models=rules) as (made, peer):
        for asked in (query(needs=("medical",)), query(lang="sw"), query()):
            await made.answer(asked)
    assert [request["model"] for request in peer.requests] == ["doctor", "swahili", "all"]
    assert "/v1/models" not in peer.paths


def test_a_rule_matches_all_that_it_names() -> None:
    rule = Rule("m", lang=("en",), need=("water",), priority=("urgent",), lane=("priority",))
    full = query(needs=("food", "water"), priority="urgent", lane="priority")
    assert choose([rule], full) == "m"
    for change in ({"lang": "es"}, {"needs": ("food",)}, {"priority": "normal"}, {"lane": "routine"}):
        assert choose([rule], msgspec.structs.replace(full, **change)) == ""  # type: ignore[arg-type]


def test_prompts_share_their_beginning() -> None:
    """A server with prefix caching computes the constant part once, and the passages of one topic once."""
    first = prompt.messages(query("how long"), [BOIL, BLEACH])
    second = prompt.messages(query("und wie lange?", lang="de"), [BOIL, BLEACH])
    assert first[0] == second[0] == {"role": "system", "content": prompt.SYSTEM}
    one, two = first[1]["content"].splitlines(), second[1]["content"].splitlines()
    assert one[:2] == two[:2]
    assert [json.loads(line)["passage"] for line in one[:2]] == [1, 2]
    assert one[2] != two[2]
    assert json.loads(two[2]) == {"language": "de", "message": "und wie lange?"}


@given(text=st.text(max_size=1500), said=st.text(max_size=300))
def test_texts_are_data_whatever_they_say(text: str, said: str) -> None:
    passage = msgspec.structs.replace(BOIL, text=said)
    lines = prompt.messages(query(text, incomplete=True), [passage])[1]["content"].split("\n")
    assert len(lines) == 2
    shown, asked = map(json.loads, lines)
    assert shown.keys() == {"passage", "text"}
    assert asked.keys() == {"language", "message", "note"}
    assert "<|im_start|>" not in "".join(lines)
    assert len(asked["message"]) <= prompt.MAX_QUESTION_CHARACTERS


@given(content=st.text(max_size=400), finish=st.sampled_from(["stop", "length", ""]))
def test_nothing_a_model_writes_is_an_error(content: str, finish: str) -> None:
    kept = prompt.kept(content, finish, "x", [BOIL], grave=True)
    assert kept.text == "" or kept.passages


@given(answer=st.text(max_size=300), numbers=st.lists(st.integers(-3, 5), max_size=5))
def test_kept_words_are_one_line_and_cite_what_was_given(answer: str, numbers: list[int]) -> None:
    content = json.dumps({"passages": numbers, "known": True, "answer": answer})
    kept = prompt.kept(content, "stop", "x", [BOIL, BLEACH], grave=False)
    assert kept.text.isprintable() or "\n" not in kept.text
    assert len(kept.text) <= prompt.MAX_ANSWER_CHARACTERS
    assert set(kept.passages) <= {BOIL, BLEACH}


# servers that misbehave

HTML = b"<!doctype html><title>Welcome to nginx!</title>"
BROKEN: dict[str, Behave] = {
    "html": http(HTML, "200 OK", "Content-Type: text/html"),
    "500": http(b"boom", "500 Internal Server Error"),
    "502 of a proxy": http(HTML, "502 Bad Gateway"),
    "503 while loading": http(b'{"error":{"message":"Loading model"}}', "503 Service Unavailable"),
    "401": http(b"{}", "401 Unauthorized"),
    "404": http(b"{}", "404 Not Found"),
    "redirect elsewhere": http(b"", "307 Temporary Redirect", "Location: http://127.0.0.1:1/steal"),
    "truncated json": http(written("Boil it.", 1)[:-20]),
    "truncated body": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{"),
    "no http": raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "nothing": raw(b""),
    "invalid utf-8": http(written("Boil it.", 1).replace(b"Boil", b"\xff\xfe")),
    "wrong schema": http(b'{"choices":"none"}'),
    "no choice": http(b'{"choices":[]}'),
    "a list": http(b"[1,2,3]"),
    "10 MB": http(b'{"choices":"' + b"x" * 10_000_000 + b'"}'),
    "compressed": http(b"\x1f\x8b\x08\x00" + bytes(50), "200 OK", "Content-Encoding: gzip"),
    "endless headers": raw(b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"a" * 100_000 + b"\r\n\r\n"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_server_makes_the_query_wait(centre: Open, name: str) -> None:
    async with centre(BROKEN[name]) as (made, peer):
        with pytest.raises(RetryLaterError, match=peer.url) as caught:
            await made.answer(query("x", BOIL))
        assert caught.value.delay_s == pytest.approx(5)  # the breaker's first period
        assert len(peer.requests) == 3
        assert made.large.breaker.state == "open"
        with pytest.raises(RetryLaterError, match="left alone") as caught:
            await made.answer(query("x", BOIL))
        assert caught.value.delay_s == pytest.approx(5)
        assert len(peer.requests) == 3  # it was left alone
    [changed] = made.told("breaker")
    assert changed["state"] == "open"


async def test_a_slow_loris_ends_at_the_time_limit(centre: Open) -> None:
    async with centre(slow, timeout_s=0.2) as (made, peer):
        with pytest.raises(RetryLaterError, match="no answer within"):
            await made.answer(query())
    assert len(peer.requests) == 3


async def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, retrieval: Retrieval) -> None:
    made = Centre(f"http://127.0.0.1:{free_port()}", monkeypatch, retrieval)
    with pytest.raises(RetryLaterError, match="Cannot connect"):
        await made.answer(query())
    await made.client.close()


async def test_a_failure_that_passes_is_not_seen_outside(centre: Open) -> None:
    async with centre(BROKEN["500"], BROKEN["nothing"], http(written("Hi."))) as (made, peer):
        assert (await made.answer(query())).text == "Hi."
    assert len(peer.requests) == 3
    assert made.large.breaker.state == "closed"


@pytest.mark.parametrize(
    ("header", "delay_s"),
    [("Retry-After: 40", 40), ("Retry-After: 9999", 300), ("Retry-After: nan", 5), ("Retry-After: Mon", 5)],
)
async def test_too_many_questions_come_back_when_the_server_says(
    centre: Open, header: str, delay_s: float
) -> None:
    async with centre(http(b"{}", "429 Too Many Requests", header)) as (made, peer):
        with pytest.raises(RetryLaterError) as caught:
            await made.answer(query())
    assert caught.value.delay_s == pytest.approx(delay_s)
    assert len(peer.requests) == 1
    assert made.large.breaker.state == "closed"  # busy is not broken


async def test_a_request_the_server_cannot_take_is_answered_with_reviewed_words(centre: Open) -> None:
    refusal = http(b'{"error":{"message":"the prompt is longer than the context"}}', "400 Bad Request")
    async with centre(refusal) as (made, peer):
        answer = await made.answer(query("x", BOIL))
        unsure = await made.answer(query("x", WEAK))
    assert (answer.text, answer.step) == (BOIL.text, "verbatim")
    assert unsure.step == "unsure"
    assert "longer than the context" in made.told("decided")[0]["reason"]
    assert len(peer.requests) == 2


async def test_a_day_without_a_server_stays_within_the_deliveries(centre: Open) -> None:
    row = work("infer.large")
    async with centre(BROKEN["500"]) as (made, _):
        tries, waited_s = 0, 0.0
        while waited_s < 86400:
            with pytest.raises(RetryLaterError) as caught:
                await made.answer(query("?!"))
            assert caught.value.delay_s is not None
            made.clock.s += caught.value.delay_s
            waited_s += caught.value.delay_s
            tries += 1
    assert tries <= row.max_deliver


async def test_one_question_tries_a_server_that_was_away(centre: Open) -> None:
    release = asyncio.Event()

    async def when_told(peer: Peer, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await http(written("Back."))(peer, request, writer)

    async with centre(*[BROKEN["500"]] * 3, when_told) as (made, peer):
        with pytest.raises(RetryLaterError):
            await made.answer(query())
        made.clock.s += 5.1
        waiting = {asyncio.create_task(made.answer(query(id=f"q{n}"))) for n in range(8)}
        while len(waiting) > 1:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            assert all(isinstance(task.exception(), RetryLaterError) for task in done)
        release.set()
        [trial] = waiting
        assert (await trial).text == "Back."
        assert len(peer.requests) == 4
        assert (await made.answer(query())).text == "Back."
    assert [change["state"] for change in made.told("breaker")] == ["open", "half-open", "closed"]


async def test_health_ends_the_wait(centre: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.infer_large.PROBE_EVERY_S", 0.01)
    async with centre(*[BROKEN["500"]] * 3, http(written("Back."))) as (made, peer):
        with pytest.raises(RetryLaterError):
            await made.answer(query())
        watching = asyncio.create_task(made.large.watch())
        while made.large.breaker.state == "open":
            await asyncio.sleep(0.01)
        watching.cancel()
        assert "/health" in peer.paths
        assert (await made.answer(query())).text == "Back."


# who goes first


async def test_no_more_than_so_many_at_once_and_the_urgent_first(centre: Open) -> None:
    release = asyncio.Event()

    async def when_told(peer: Peer, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await http(written("Hi."))(peer, request, writer)

    async with centre(when_told, concurrency=2, model="m") as (made, peer):
        waiting = [asyncio.create_task(made.answer(query(f"r{n}"))) for n in range(4)]
        while len(peer.requests) < 2:
            await asyncio.sleep(0.01)
        waiting.append(asyncio.create_task(made.answer(query("urgent", BOIL, lane="priority"))))
        while len(made.large._gate._waiting) < 3:
            await asyncio.sleep(0.01)
        release.set()
        await asyncio.gather(*waiting)
    assert peer.most_at_once == 2
    assert ["urgent" in request["messages"][1]["content"] for request in peer.requests].index(True) == 2


async def test_a_slot_is_never_lost() -> None:
    gate = Gate(1)

    async def hold() -> None:
        async with gate.slot("routine"):
            await asyncio.sleep(0)

    async with gate.slot("flash"):
        tasks = [asyncio.create_task(hold()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
    tasks[1].cancel()  # it was just given the slot
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not tasks[2].cancelled()
    async with asyncio.timeout(1), gate.slot("routine"):
        pass


# the breaker


def test_breaker_opens_for_longer_each_time_and_closes_at_a_success() -> None:
    seen: list[str] = []
    breaker = Breaker(lambda state, _: seen.append(state), after=2, open_s=(10, 20))
    breaker.failed(0, "x")
    assert breaker.admit(0) == 0
    breaker.failed(1, "x")
    breaker.failed(2, "late news of the same death")
    assert breaker.admit(5) == 6
    assert breaker.admit(11) == 0  # the trial
    assert breaker.admit(11) == 5  # nobody else
    breaker.failed(12, "x")
    assert breaker.wait_s(12) == 20
    assert breaker.admit(32) == 0
    assert breaker.admit(37) == 0  # the first trial never came back
    breaker.succeeded()
    assert breaker.admit(37) == 0
    breaker.failed(38, "x")
    breaker.failed(38, "x")
    assert breaker.wait_s(38) == 10
    assert seen == ["open", "half-open", "open", "half-open", "closed", "open"]


# privacy


async def test_a_query_of_its_node_only_is_refused_and_nothing_is_asked(centre: Open) -> None:
    async with centre(http(written("x"))) as (made, peer):
        with pytest.raises(RefusedError, match="node_only"):
            await made.answer(query(node_only=True))
    assert peer.paths == []


@pytest.mark.parametrize(
    ("privacy", "takes", "allowed"),
    [
        ("private", "private", True),
        ("enhanced", "private", True),
        ("private", "enhanced", False),
        ("enhanced", "enhanced", True),
        ("enhanced", "public", False),
        ("public", "public", True),
    ],
)
async def test_privacy_decides_which_server_may_be_asked(
    centre: Open, privacy: Any, takes: Any, allowed: bool
) -> None:
    async with centre(http(written("x"))) as (made, peer):
        client = ChatClient(Endpoint(peer.url, takes=takes), 5)
        made.large._client = client
        if allowed:
            assert (await made.answer(query(privacy=privacy))).step == "model"
        else:
            with pytest.raises(RefusedError, match=f"{privacy!r}.*{takes!r}"):
                await made.answer(query(privacy=privacy))
            assert peer.paths == []
        await client.close()


def test_texts_do_not_cross_a_network_in_the_clear() -> None:
    for url in ("http://127.0.0.1:1", "http://localhost:1/v1", "http://[::1]:1", "https://gpu.example:8000"):
        assert not Endpoint(url).root.endswith("/v1")
    with pytest.raises(ConfigError, match="unencrypted"):
        Endpoint("http://gpu.example:8000")
    assert Endpoint("http://gpu:8000", plain_http=True).root == "http://gpu:8000"
    for url in ("", "gpu:8000", "ftp://gpu", "https://user:secret@gpu", "https://gpu/?key=1"):
        with pytest.raises(ConfigError, match="base_url"):
            Endpoint(url)


async def test_the_key_is_sent_and_a_bad_file_is_named(centre: Open, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("s3cret\n")
    async with centre(http(written("x")), api_key_file=str(path)) as (made, peer):
        await made.answer(query())
    assert "Authorization: Bearer s3cret" in peer.headers[-1]
    for content in ("", "two words", "x\ny", "é"):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ConfigError, match="api_key_file"):
            Endpoint("http://127.0.0.1:1", api_key_file=str(path)).key()
    with pytest.raises(ConfigError, match="No such file"):
        Endpoint("http://127.0.0.1:1", api_key_file=str(tmp_path / "none")).key()


# the client


async def test_the_first_model_is_asked_for_again_when_it_is_gone() -> None:
    async with Peer(http(completion("a")), BROKEN["404"], http(completion("b"))).running() as peer:
        client = ChatClient(Endpoint(peer.url), 5)
        try:
            assert (await client.chat([], 5)).content == "a"
            with pytest.raises(ServerError, match="check its address and model"):
                await client.chat([], 5)
            assert (await client.chat([], 5)).content == "b"
        finally:
            await client.close()
    assert peer.paths.count("/v1/models") == 2


async def test_too_long_is_counted_in_octets_and_a_bad_request_is_told_apart() -> None:
    async with Peer(http(b"x" * (MAX_REPLY_OCTETS + 1)), http(b"{}", "413 Too Large")).running() as peer:
        client = ChatClient(Endpoint(peer.url, model="m"), 5)
        try:
            with pytest.raises(ServerError, match=f"more than {MAX_REPLY_OCTETS} octets"):
                await client.chat([], 5)
            with pytest.raises(RequestError, match="413"):
                await client.chat([], 5)
        finally:
            await client.close()


# knowledge


def test_passages_of_edge_and_centre_are_merged_once_each() -> None:
    again = msgspec.structs.replace(BOIL, score=0.9)
    twin = msgspec.structs.replace(BLEACH, id="other", text=BLEACH.text.upper(), score=0.1)
    assert merged([BOIL, BLEACH], [again, twin, WEAK], 5) == (again, BLEACH, WEAK)
    assert merged([BOIL, BLEACH], [again, twin, WEAK], 1) == (again,)
    assert merged([], [], 3) == ()


async def test_the_centre_finds_what_the_node_would(shipped_index: KnowledgeIndex, tmp_path: Path) -> None:
    """The same articles give the same best passage and the same confidence at both ends."""
    found = await Retrieval.open(tmp_path / "index", "", "112")
    try:
        for text in (
            "how long do i boil water",
            "bleach drops per gallon",
            "who won the football",
            "diarea kid",
        ):
            here, there = shipped_index.search(text, "en", 1), await found.search(text, "en", 1)
            assert here[0].id == there[0].id
            assert here[0].score == pytest.approx(there[0].score, abs=0.02)
        assert await found.search("?!", "en", 3) == []
    finally:
        await found.close()


ARTICLES = """
area = "water"
lang = "en"
review = { author = "A", reviewed_on = 2026-01-01, state = "reviewed" }
[[article]]
id = "zebra"
title = "Zebra crossings of this town"
source = "town"
tags = ["zebra"]
questions = ["where can i cross the street by the zebra"]
text = "The only zebra crossing is at the school."
"""
SOURCES = """
[[source]]
id = "town"
tag = "L1"
organisation = "Town"
document = "Handbook"
year = 2026
"""


async def test_a_centre_knows_further_articles(tmp_path: Path) -> None:
    (tmp_path / "articles").mkdir()
    (tmp_path / "articles" / "town.toml").write_text(ARTICLES)
    (tmp_path / "sources.toml").write_text(SOURCES)
    found = await Retrieval.open(tmp_path / "index", str(tmp_path), "112")
    best = (await found.search("where is the zebra crossing", "en", 2))[0]
    assert (best.id, best.source) == ("zebra", "L1")
    assert best.score > 0.75
    await found.close()
    with pytest.raises(ConfigError, match="no directory"):
        await Retrieval.open(tmp_path / "index", str(tmp_path / "none"), "112")


@pytest.fixture(scope="module")
def of_wiki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of a few invented articles, one of them about medicine."""
    folder = tmp_path_factory.mktemp("hub") / FOLDER
    files = [
        Path(__file__).parents[1] / "vectors" / "imports" / name for name in ("encyclopaedic", "medical")
    ]
    for kind, file in zip(("encyclopaedic", "medical"), files, strict=True):
        terms = Terms(kind, kind.title(), "CC-BY-SA-4.0", "2026-11-01")  # type: ignore[arg-type]
        import_files(folder, plan_of(terms, files_of(terms.kind, [file])), lambda *_: None)
    return folder


async def test_a_harmless_question_is_answered_from_the_library_with_its_source(
    centre: Open, of_wiki: Path
) -> None:
    async with centre(http(written("Mount Harun is 2310 metres high.", 1))) as (made, peer):
        made.large._library = Library(of_wiki)
        answer = await made.answer(query("how high is mount harun"))
        await made.large._library.close()
    [passage] = answer.passages
    assert (passage.licence, passage.date, answer.sources) == (
        "CC-BY-SA-4.0",
        "2026-05-04",
        ("Encyclopaedic",),
    )
    assert not passage.reviewed
    shown = json.loads(peer.requests[0]["messages"][1]["content"].splitlines()[0])
    assert shown["source"] == "Encyclopaedic"
    assert (shown["licence"], shown["date"], shown["title"]) == ("CC-BY-SA-4.0", "2026-05-04", "Mount Harun")


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        ("how high is mount harun", {"priority": "urgent"}),
        ("how high is mount harun", {"needs": ("medical",)}),
        ("what are the symptoms of valley fever of goats", {}),
    ],
)
async def test_what_may_be_advice_never_sees_the_library(
    centre: Open, of_wiki: Path, asked: str, fields: dict[str, Any]
) -> None:
    async with centre(http(written("", known=False))) as (made, peer):
        made.large._library = Library(of_wiki)
        answer = await made.answer(query(asked, **fields))
        await made.large._library.close()
    assert answer.step == "unsure"
    assert "fever" not in peer.requests[0]["messages"][1]["content"].partition('{"language"')[0]
    if fields:
        assert "Encyclopaedic" not in peer.requests[0]["messages"][1]["content"]


async def test_a_draft_for_a_person_may_rest_on_the_library_and_says_so(centre: Open, of_wiki: Path) -> None:
    wrote = {
        "passages": [1],
        "known": True,
        "title": "Valley fever",
        "text": "Fever that rises in the evening.",
    }
    async with centre(http(completion(json.dumps(wrote)))) as (made, peer):
        made.large._library = Library(of_wiki)
        draft = await made.large.draft(DraftRequest(text="symptoms of valley fever of goats", lang="en"))
        await made.large._library.close()
    assert (draft.text, draft.used) == (wrote["text"], (draft.passages[0].id,))
    assert {(one.source, one.licence, one.reviewed) for one in draft.passages} == {
        ("Medical", "CC-BY-SA-4.0", False)
    }
    shown = json.loads(peer.requests[0]["messages"][1]["content"].splitlines()[0])
    assert (shown["source"], shown["date"]) == ("Medical", "2024-03-09")


async def test_a_library_that_is_away_costs_no_answer(centre: Open, tmp_path: Path) -> None:
    async with centre(http(written("Hello.")), library=2) as (made, _):
        made.large._library = Library(tmp_path, Server(f"http://127.0.0.1:{free_port()}"))
        assert (await made.answer(query("good morning to you"))).text == "Hello."
        assert made.told("retrieval_failed")
        await made.large._library.close()


async def test_reviewed_words_are_articles_only(centre: Open) -> None:
    sure = msgspec.structs.replace(BOIL, score=0.9, licence="CC0-1.0")
    async with centre(http(written("Boil it.", 1), status=400)) as (made, _):
        reviewed = made.large._reviewed(query("x"), (sure, msgspec.structs.replace(BLEACH, score=0.55)), "")
        assert (reviewed.step, reviewed.passages[0].id) == ("verbatim", "bleach")
        assert made.large._reviewed(query("x"), (sure,), "").step == "unsure"


async def test_without_qdrant_the_edges_passages_are_used(centre: Open) -> None:
    away = Retrieval(Texts.load().articles()[:9], read_phrases(), f"http://127.0.0.1:{free_port()}")
    async with centre(http(written("Boil it.", 1))) as (made, peer):
        made.large._retrieval = away
        assert (await made.answer(query("how long do i boil water", BOIL))).passages == (BOIL,)
        assert made.told("retrieval_failed")
        assert len(peer.requests[0]["messages"][1]["content"].splitlines()) == 2
    await away.close()


async def test_built_from_a_table() -> None:
    async with Peer(http(written("Boil it 1 minute.", 1))).running() as peer:
        table = {"infer_large": {"base_url": peer.url, "passages": 2}}
        context = MemoryContext(Config(table), Identity("hub", b"x", "0"))
        actor = await build(context)
        try:
            [output] = await actor.handlers["infer.large"](query("how long do i boil water"))
        finally:
            await actor.close()
    assert actor.name == "infer_large"
    assert isinstance(output.message, Answer)
    assert output.message.passages[0].id == "water-boil"
    assert {event.node for event in context.events} == {"hub"}
    for wrong in ({"timeout_s": 0}, {"concurrency": 0}, {"modell": "x"}, {"models": [{"lang": ["en"]}]}):
        with pytest.raises(ConfigError, match="infer_large"):
            await build(MemoryContext(Config({"infer_large": wrong}), context.identity))
