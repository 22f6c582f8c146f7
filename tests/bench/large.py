"""What the big model's actor adds to its server: the same questions sent bare, and through the handler."""

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from actors._retrieval.confidence import SURE
from actors._retrieval.phrases import read_phrases
from actors._runtime.clock import deadline_in
from actors.infer_large import (
    ChatClient,
    Endpoint,
    InferLargeConfig,
    Large,
    Retrieval,
    ServerError,
    prompt,
)
from actors.infer_small import ModelUnavailableError
from actors.knowledge import Texts
from subjects.messages import Event, Passage, Query
from tests.bench import flow
from tests.bench.node import on_uvloop
from tests.bench.rows import Figure, Goal, Row, Setting
from tests.conftest import free_port

IN_FLIGHT: Final = 16
WHAT: Final = f"big model's actor beside its server, {IN_FLIGHT} in flight, the centre's search included"
START_S: Final = 120
COUNT: Final = 32
TOKENS: Final = 32
"""Questions of one turn with the real server, and the longest answer: half a minute on two cores."""
IN_HAND: Final = 24
"""Questions the handler has at once, of which :data:`IN_FLIGHT` are at the server: as on a centre, whose
workers have more slots than the server, so that the next questions are searched for meanwhile."""

STUB: Final = r"""
import asyncio, sys, uvloop

BODY = (
    b'{"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":'
    b'"{\\"passages\\":[1],\\"known\\":true,\\"answer\\":\\"Boil it for 1 minute.\\"}"}}],'
    b'"usage":{"prompt_tokens":900,"completion_tokens":30}}'
)
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY

class Stub(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.pending = transport, b""

    def data_received(self, octets):
        self.pending += octets
        while (end := self.pending.find(b"\r\n\r\n")) >= 0:
            head = self.pending[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n")[0]) if at >= 0 else 0
            if len(self.pending) < end + 4 + length:
                return
            self.pending = self.pending[end + 4 + length :]
            asyncio.get_running_loop().call_later(float(sys.argv[2]), self.transport.write, REPLY)

async def main():
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

uvloop.run(main())
"""
"""A server that answers every request with the same words after a while: no model, to see our own cost."""

Ask = Callable[[int], Awaitable[None]]
"""Asks question number n and waits for its answer."""


def measure(setting: Setting) -> list[Row]:
    """Processor time of one question without a model, and throughput with llama.cpp's real server."""
    rows = [on_uvloop(_stub(setting)), on_uvloop(_steady(setting))]
    if setting.quick:
        return [*rows, Row("large", WHAT, skipped="takes minutes")]
    try:
        return [*rows, on_uvloop(_real(setting))]
    except ModelUnavailableError as error:
        return [*rows, Row("large", WHAT, skipped=str(error))]


class Asker:
    """The same questions, bare and through the handler."""

    def __init__(self, url: str, tokens: int, *, search: bool, least_score: float = 0.2) -> None:
        self._url = url
        self._search = search
        self._config = InferLargeConfig(
            base_url=url,
            model="m",
            max_answer_tokens=tokens,
            concurrency=IN_FLIGHT,
            passages=2,
            least_score=least_score,
            timeout_s=600,
        )
        self._folder = tempfile.TemporaryDirectory(prefix="evy-index-")
        self._queries: list[Query] = []
        self._bodies: list[bytes] = []
        self._events: deque[Event] = deque(maxlen=8)

    async def open(self, texts: Sequence[str]) -> None:
        """Finds the passages of each question and makes its request."""
        knowledge = await Retrieval.open(Path(self._folder.name), "", "112")
        for number, text in enumerate(texts):
            found = await knowledge.search(text, "en", self._config.passages)
            if found and found[0].score >= SURE:
                continue  # it would be answered without the model
            passages = tuple(passage for passage in found if passage.score >= self._config.least_score)
            query = Query(
                id=f"bench{number}",
                node="n1",
                sender_ref="bench",
                text=text,
                lang="en",
                lane="routine",
                deadline=deadline_in(600),
                passages=() if self._search else passages,
            )
            self._queries.append(query)
            self._bodies.append(chat_body(query, passages, self._config.max_answer_tokens))
        if not self._search:
            await knowledge.close()
            knowledge = Retrieval([], read_phrases())
        self._session = aiohttp.ClientSession(
            headers={"Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=self._config.timeout_s),
        )
        self._large = Large(
            node="hub",
            client=ChatClient(self._config.endpoint(), self._config.timeout_s),
            retrieval=knowledge,
            texts=Texts.load(),
            emit=self._events.append,
            config=self._config,
        )

    async def bare(self, number: int) -> None:
        """The server alone: a ready request by the same HTTP library, and nothing done with the answer."""
        body = self._bodies[number % len(self._bodies)]
        async with self._session.post(f"{self._url}/v1/chat/completions", data=body) as response:
            await response.read()
            response.raise_for_status()

    async def handled(self, number: int) -> None:
        """The whole handler."""
        await self._large.handle(self._queries[number % len(self._queries)])

    async def close(self) -> None:
        """Closes the connections."""
        await self._session.close()
        await self._large.close()


def unanswered() -> list[str]:
    """Questions that no article answers: the actor asks the model, where it would else send the article."""
    return [row["text"] for row in flow.vectors("questions.jsonl") if not row["expect"]]


async def load(ask: Ask, count: int, at_once: int = IN_FLIGHT) -> tuple[float, float]:
    """Asks ``count`` questions, so many at once: seconds it took, and those our processor did."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await ask(number)

    used, started = _processor_s(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return time.perf_counter() - started, _processor_s() - used


def _processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def running(command: Sequence[str], cores: Sequence[int] = ()) -> "Iterator[subprocess.Popen[bytes]]":
    """A process of ours until the end of the block, on some cores or on all."""
    process = subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL)
    if cores:
        os.sched_setaffinity(process.pid, cores)  # before it has made its threads, which inherit this
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def _stub(setting: Setting) -> Row:
    count = setting.count(2000, 40)
    texts = unanswered()[:100]
    spent: dict[str, list[float]] = {"bare request": [], "handler": [], "handler and search": []}
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    plain, searching = Asker(url, 320, search=False), Asker(url, 320, search=True)
    asks = dict(zip(spent, (plain.bare, plain.handled, searching.handled), strict=True))
    with running(["-c", STUB, str(port), "0"]) as process:
        await _answering(url, process)
        for asker in (plain, searching):
            await asker.open(texts)
        for _ in range(setting.repeats):
            for name, ask in asks.items():
                asked = max(IN_FLIGHT, count // 10 if ask == searching.handled else count)
                spent[name].append((await load(ask, asked))[1] / asked * 1000)
        for asker in (plain, searching):
            await asker.close()
    return Row(
        "large-cost",
        "big model's actor: processor time of one question at the centre, a stub for the model server",
        tuple(Figure(name, "ms", tuple(figures)) for name, figures in spent.items()),
        notes=(
            (
                f"{IN_FLIGHT} in flight; the stub answers at once and computes nothing; search embeds the "
                "question and asks the index of this process"
            ),
        ),
    )


async def steady(ask: Ask, count: int, at_once: int) -> float:
    """Questions a second of ``count``, without the first :data:`IN_FLIGHT`, which find nobody else."""
    numbers, ends = iter(range(count)), list[float]()

    async def worker() -> None:
        for number in numbers:
            await ask(number)
            ends.append(time.perf_counter())

    await asyncio.gather(*(worker() for _ in range(at_once)))
    return (count - IN_FLIGHT) / (ends[-1] - ends[IN_FLIGHT - 1])


async def _steady(setting: Setting) -> Row:
    answer_s = setting.count(4, 1)
    count = setting.count(6, 2) * IN_FLIGHT
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    asker = Asker(url, 320, search=True)
    bare, handled = list[float](), list[float]()
    with running(["-c", STUB, str(port), str(answer_s)]) as process:
        await _answering(url, process)
        await asker.open(unanswered()[:100])
        for _ in range(min(setting.repeats, 3)):
            bare.append(await steady(asker.bare, count, IN_FLIGHT))
            handled.append(await steady(asker.handled, count, IN_HAND))
        await asker.close()
    return Row(
        "large-steady",
        f"big model's actor, {IN_FLIGHT} in flight, search included; a stub takes {answer_s} s an answer",
        (
            Figure("bare", "questions/s", tuple(bare)),
            Figure("handler", "questions/s", tuple(handled)),
            Figure("added", "%", tuple(100 * (b / h - 1) for b, h in zip(bare, handled, strict=True))),
        ),
        (Goal("added", 2),),
        (
            (
                "a GPU that computes 16 answers in that time, and takes no part of this machine's processor; "
                f"{IN_HAND} in the handler's hand"
            ),
        ),
    )


async def _real(setting: Setting) -> Row:
    """Turns of bare, handled, handled, bare, so that a drift of the machine falls on both."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return Row("large", WHAT, skipped="one core: server and client would share it")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # What is found is not given: reading passages is all that a model on a processor would do.
    asker = Asker(url, TOKENS, search=True, least_score=1.0)
    bare, handled, added = list[float](), list[float](), list[float]()
    command = ["-m", "actors", "llm", "serve", "--port", str(port), "--context", "1536"]
    slots = ["--threads", str(len(cores) - 1), "--parallel", str(IN_FLIGHT)]
    # A GPU computes nothing else: the model gets its own cores, the client and its search the last one.
    with running([*command, *slots], cores[:-1]) as process:
        os.sched_setaffinity(0, cores[-1:])
        try:
            await _answering(url, process)
            await asker.open(unanswered()[:COUNT])
            await load(asker.bare, COUNT)  # every prompt's beginning is cached from here on
            for _ in range(min(setting.repeats, 3)):
                turns = ((asker.bare, IN_FLIGHT), (asker.handled, IN_HAND))
                took = [(await load(ask, COUNT, most))[0] for ask, most in (*turns, *turns[::-1])]
                bare.append(2 * COUNT / (took[0] + took[3]))
                handled.append(2 * COUNT / (took[1] + took[2]))
                added.append(100 * ((took[1] + took[2]) / (took[0] + took[3]) - 1))
        finally:
            os.sched_setaffinity(0, cores)
            await asker.close()
    return Row(
        "large",
        WHAT,
        (
            Figure("bare", "questions/s", tuple(bare)),
            Figure("handler", "questions/s", tuple(handled)),
            Figure("added", "%", tuple(added)),
        ),
        (),
        (
            (
                f"llama.cpp with SmolLM2 on {len(cores) - 1} of {len(cores)} cores, the client on another; "
                f"{COUNT} questions, passages searched for and left out, {TOKENS} tokens at most; turns of "
                f"bare, handled, handled, bare; {IN_HAND} in the handler's hand, {IN_FLIGHT} at the server"
            ),
        ),
    )


def chat_body(query: Query, passages: Sequence[Passage], tokens: int) -> bytes:
    """The request that the actor would send."""
    form = {"name": "answer", "strict": True, "schema": prompt.SCHEMA}
    body = {
        "model": "m",
        "messages": prompt.messages(query, passages),
        "max_tokens": tokens,
        "temperature": 0,
        "seed": 1,
        "response_format": {"type": "json_schema", "json_schema": form},
    }
    return msgspec.json.encode(body)


async def _answering(url: str, process: "subprocess.Popen[bytes]") -> None:
    """Returns when a server answers. Raises :class:`ModelUnavailableError` when it ends instead."""
    client = ChatClient(Endpoint(url), 5)
    try:
        async with asyncio.timeout(START_S):
            while True:
                if process.poll() is not None:
                    raise ModelUnavailableError("the model server ended; `evy llm serve` says why")
                try:
                    await client.check()
                except ServerError:
                    await asyncio.sleep(0.1)
                else:
                    return
    finally:
        await client.close()
