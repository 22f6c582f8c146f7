"""The big model's actor and `evy llm` against llama.cpp's real server, which is killed and started again."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import aiohttp
import msgspec
import pytest

from actors._runtime import clock
from actors._runtime.config import Config
from actors._runtime.context import MemoryContext
from actors._runtime.identity import Identity
from actors.infer_large import ChatClient, Endpoint, InferLargeConfig, Large, Retrieval, prompt
from actors.infer_large import build as build_large
from actors.knowledge import Texts
from subjects.errors import RetryLaterError
from subjects.messages import Answer, Event, Passage, Query
from tests.conftest import free_port

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]

BOIL = Passage(id="boil", source="C1", score=0.7, text="Boil water for 1 minute.")
START_S = 120


class LlmServer:
    """`evy llm serve` with the shipped model, that tests may kill and start again."""

    def __init__(self, log: Path, options: Sequence[str] = ()) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "actors",
            "llm",
            "serve",
            "--port",
            str(self.port),
            "--parallel",
            "2",
        ]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen([*command, *self._options], stdout=log, stderr=log)

    async def ready(self) -> "LlmServer":
        """Returns when its health page says so."""
        client = ChatClient(Endpoint(self.url), 5)
        try:
            async with asyncio.timeout(START_S):
                while True:
                    assert self.process is not None
                    assert self.process.poll() is None, self._log.read_text()
                    try:
                        await client.check()
                    except Exception:  # noqa: BLE001  it is not there yet
                        await asyncio.sleep(0.1)
                    else:
                        return self
        finally:
            await client.close()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlmServer]:
    running = LlmServer(tmp_path_factory.mktemp("llm") / "log")
    yield running
    assert running.stop() == 0


def table(url: str, **fields: object) -> dict[str, object]:
    return {"base_url": url, "timeout_s": 240.0, "max_answer_tokens": 64, "passages": 1, **fields}


def query(text: str, **fields: object) -> Query:
    settings: dict[str, object] = {
        "id": "q1",
        "node": "n1",
        "sender_ref": "ref",
        "text": text,
        "lang": "en",
        "lane": "routine",
        "deadline": clock.deadline_in(60),
        "passages": (BOIL,),
    }
    return Query(**{**settings, **fields})  # type: ignore[arg-type]  # the fields of the test


async def test_the_real_server_answers_in_the_form_it_is_asked_for(llm: LlmServer) -> None:
    await llm.ready()
    client = ChatClient(Endpoint(llm.url), 240)
    try:
        assert await client.models() == ("SmolLM2-135M-Instruct.Q4_1",)
        asked = [{"role": "user", "content": "Say in one word: which colour has snow?"}]
        reply = await client.chat(asked, 200, schema=prompt.SCHEMA)
        assert reply.finish in ("stop", "length")
        if reply.finish == "stop":
            assert isinstance(json.loads(reply.content)["known"], bool)
        assert '"passages"' in reply.content
        assert reply.usage.completion_tokens > 0
    finally:
        await client.close()


async def test_questions_at_once_are_answered_for_the_nodes_that_asked(llm: LlmServer) -> None:
    await llm.ready()
    context = MemoryContext(Config({"infer_large": table(llm.url)}), Identity("hub", b"x", "0"))
    actor = await build_large(context)
    try:
        asked = [query("who wins the cup tonight", id=f"q{n}", node=f"n{n}") for n in range(3)]
        outputs = [found for [found] in await asyncio.gather(*map(actor.handlers["infer.large"], asked))]
    finally:
        await actor.close()
    assert [output.subject for output in outputs] == [f"down.n{n}.compress" for n in range(3)]
    for output, one in zip(outputs, asked, strict=True):
        assert isinstance(output.message, Answer)
        assert (output.message.query_id, output.message.by_centre) == (one.id, True)
        assert output.message.step in ("model", "unsure")
        assert output.message.text
    generated = [event.fields for event in context.events if event.kind == "generated"]
    assert len(generated) == 3
    assert all(0 < fields["tokens"] <= 64 for fields in generated)
    reasons = [event.fields["reason"] for event in context.events if event.kind == "decided"]
    assert not [reason for reason in reasons if "not the JSON" in reason]


async def test_the_model_is_killed_in_the_middle_and_the_question_is_answered_later(tmp_path: Path) -> None:
    server = LlmServer(tmp_path / "log")
    await server.ready()
    config = msgspec.convert(table(server.url, max_answer_tokens=32), InferLargeConfig)
    events: list[Event] = []
    client = ChatClient(config.endpoint(), config.timeout_s)
    retrieval = await Retrieval.open(tmp_path / "index", "", "112")
    large = Large(
        node="hub",
        client=client,
        retrieval=retrieval,
        texts=Texts.load(),
        emit=events.append,
        config=config,
    )
    watching = asyncio.create_task(large.watch())
    try:
        asked = asyncio.create_task(large.handle(query("who wins the cup tonight")))
        while not await busy(client):
            assert not asked.done()
            await asyncio.sleep(0.02)
        server.kill()
        with pytest.raises(RetryLaterError) as caught:
            await asked
        assert caught.value.delay_s is not None
        assert large.breaker.state == "open"
        server.start()
        await server.ready()
        while large.breaker.state == "open":
            await asyncio.sleep(0.05)
        [output] = await large.handle(query("who wins the cup tonight"))
        assert isinstance(output.message, Answer)
        assert large.breaker.state == "closed"
    finally:
        watching.cancel()
        await large.close()
        server.stop()
    states = [event.fields["state"] for event in events if event.kind == "breaker"]
    assert states == ["open", "half-open", "closed"]


async def busy(client: ChatClient) -> bool:
    """Whether a question is at the server: its connection is in use."""
    session = client._session
    return (
        session is not None
        and isinstance(session.connector, aiohttp.BaseConnector)
        and bool(session.connector._acquired)
    )


def evy(*arguments: str, config: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "evy.toml"
    path.write_text(config)
    command = [sys.executable, "-m", "actors", "--config", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)


async def test_check_and_ask(llm: LlmServer, tmp_path: Path) -> None:
    await llm.ready()
    lines = [f'base_url = "{llm.url}/v1"', "max_answer_tokens = 48", "passages = 1", "timeout_s = 240.0"]
    config = "\n".join(["[infer_large]", *lines])
    checked = evy("llm", "check", config=config, folder=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "SmolLM2-135M-Instruct.Q4_1" in checked.stdout
    wrong = evy("llm", "check", config=f'{config}\nmodel = "gpt"', folder=tmp_path)
    assert wrong.returncode == 1
    assert "names gpt, and the server has SmolLM2" in wrong.stderr
    asked = evy("llm", "ask", "--json", "who wins the cup tonight", config=config, folder=tmp_path)
    assert asked.returncode == 0, asked.stderr
    found = json.loads(asked.stdout)
    assert found["answer"]["step"] in ("model", "unsure")
    assert {event["kind"] for event in found["events"]} == {"generated", "decided"}


async def test_the_doctor_of_a_centre_asks_the_model(llm: LlmServer, tmp_path: Path) -> None:
    await llm.ready()
    node = f'[node]\nprofile = "hybrid"\ndata_dir = "{tmp_path}"\nnats_port = {free_port()}'
    for url, verdict in ((llm.url, "ok"), (f"http://127.0.0.1:{free_port()}", "fail")):
        done = evy("doctor", "--json", config=f'{node}\n[infer_large]\nbase_url = "{url}"', folder=tmp_path)
        found = {finding["check"]: finding for finding in json.loads(done.stdout)}
        assert found["big model"]["verdict"] == verdict, done.stdout
    assert "evy llm serve" in found["big model"]["mend"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--host", "192.0.2.1"], "give --api-key-file"),
        (["--model", "gpt"], "no model 'gpt'"),
        (["--model", "none.gguf"], "No such file"),
        (["--model", "{folder}/evy.toml.gguf"], "no GGUF file"),
        (["--api-key-file", "{folder}/none"], "No such file"),
    ],
)
def test_a_server_that_cannot_start_says_why(tmp_path: Path, options: list[str], reason: str) -> None:
    (tmp_path / "evy.toml.gguf").write_bytes(b"no model")
    given = [option.format(folder=tmp_path) for option in options]
    done = evy("llm", "serve", "--port", str(free_port()), *given, config="", folder=tmp_path)
    assert done.returncode == 1
    assert reason in done.stderr.splitlines()[-1]


async def test_a_port_in_use_is_named(llm: LlmServer, tmp_path: Path) -> None:
    await llm.ready()
    done = evy("llm", "serve", "--port", str(llm.port), config="", folder=tmp_path)
    assert done.returncode == 1
    assert "is the port free" in done.stderr
