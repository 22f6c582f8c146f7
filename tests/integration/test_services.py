"""Services of actors on a real server, as clients of others see them."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats.errors
import pytest

from actors._runtime.actor import Actor, ServiceHandler
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.services import NobodyAnswersError, ask
from actors._runtime.worker import run_actors
from subjects import services
from subjects.errors import RefusedError, RetryLaterError
from subjects.messages import Message, Passage, encode
from subjects.services import SERVICES, SearchReply, SearchRequest
from tests.conftest import NODE, Server
from tests.integration.test_operations import command_line
from tests.linked import Linked, running

pytestmark = pytest.mark.nats


@asynccontextmanager
async def serving(
    bus: NatsBus, handlers: Mapping[str, ServiceHandler], actor: str = "rag"
) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(run_actors(bus, [Actor(actor, {}, services=handlers)], stop))
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    await bus.client.request("$SRV.PING." + actor, b"", timeout=1)
                    break
                except nats.errors.Error:
                    await asyncio.sleep(0.02)
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


async def search(question: SearchRequest) -> SearchReply:
    return SearchReply(passages=(Passage("water", question.text, score=0.5),))


def test_the_table_names_each_service_once_and_by_its_actor() -> None:
    assert len({row.name for row in SERVICES}) == len(SERVICES)
    for row in SERVICES:
        assert row.name.startswith(f"{row.actor}.")
        assert row.subject("n1") == f"svc.n1.{row.name}"
        assert issubclass(row.request, Message)
        assert issubclass(row.reply, Message)
        assert services.service(row.name) is row


async def test_a_question_is_answered_and_counted(bus: NatsBus) -> None:
    async with serving(bus, {"rag.search": search}):
        reply = await ask(bus, "rag.search", SearchRequest(text="is this safe"))
        assert reply.passages[0].text == "is this safe"
        stats = json.loads((await bus.client.request("$SRV.STATS.rag", b"")).data)
        assert stats["metadata"] == {"node": NODE}
        [endpoint] = stats["endpoints"]
        assert (endpoint["subject"], endpoint["queue_group"]) == (f"svc.{NODE}.rag.search", NODE)
        assert endpoint["num_requests"] == 1
    with pytest.raises(NobodyAnswersError, match="is the actor rag running"):
        await ask(bus, "rag.search", SearchRequest(text="x"))


async def test_two_processes_of_an_actor_share_the_questions(bus: NatsBus) -> None:
    asked: list[str] = []

    def of(name: str) -> ServiceHandler:
        async def answer(question: SearchRequest) -> SearchReply:
            asked.append(name)
            return SearchReply(passages=())

        return answer

    async with serving(bus, {"rag.search": of("a")}), serving(bus, {"rag.search": of("b")}):
        for _ in range(40):
            await ask(bus, "rag.search", SearchRequest(text="x"))
    assert len(asked) == 40
    assert set(asked) == {"a", "b"}


async def test_errors_come_back_as_what_they_are(bus: NatsBus) -> None:
    raises: dict[str, Exception] = {
        "refused": RefusedError("not while the modem\nis away"),
        "later": RetryLaterError("in a moment"),
        "bus": BusError("the card is full"),
        "bug": ZeroDivisionError("somebody's number +34600111222"),
    }

    async def answer(question: SearchRequest) -> SearchReply:
        raise raises[question.text]

    async with serving(bus, {"rag.search": answer}):
        with pytest.raises(RefusedError, match="not while the modem is away"):
            await ask(bus, "rag.search", SearchRequest(text="refused"))
        for name in ("later", "bus"):
            with pytest.raises(RetryLaterError):
                await ask(bus, "rag.search", SearchRequest(text=name))
        with pytest.raises(BusError, match="ZeroDivisionError") as bug:
            await ask(bus, "rag.search", SearchRequest(text="bug"))
        assert "600111222" not in str(bug.value)
        for garbage in (b"\xff{", b"{}", b'{"v":99}', b""):
            reply = await bus.client.request(f"svc.{NODE}.rag.search", garbage)
            assert (reply.headers or {})["Nats-Service-Error-Code"] == "400"
        await bus.client.publish(
            f"svc.{NODE}.rag.search", encode(SearchRequest(text="bug"))
        )  # no reply subject
        with pytest.raises(RefusedError):  # it goes on
            await ask(bus, "rag.search", SearchRequest(text="refused"))


async def test_the_nats_command_line_lists_asks_and_counts(
    bus: NatsBus, server: Server, tmp_path: Path
) -> None:
    directory = command_line()
    if directory is None:
        pytest.skip("no `nats` command line: make setup-ops")
    program = shutil.which("nats", path=str(directory))

    async def nats_cli(*arguments: str) -> str:
        def call() -> str:
            done = subprocess.run(
                [str(program), "--server", server.url, *arguments],
                env={"HOME": str(tmp_path), "NO_COLOR": "1"},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        return await asyncio.to_thread(call)

    async with serving(bus, {"rag.search": search}):
        assert "rag" in await nats_cli("service", "ls")
        assert f"svc.{NODE}.rag.search" in await nats_cli("service", "info", "rag")
        reply = await nats_cli("req", f"svc.{NODE}.rag.search", '{"v":1,"text":"by hand"}')
        assert "by hand" in reply
        assert "search" in await nats_cli("service", "stats", "rag")


async def test_no_service_is_seen_or_asked_over_the_link(tmp_path: Path) -> None:
    """The centre hears nothing of a node's services, and the node nothing of the centre's."""
    linked = Linked(tmp_path, edges=("e1",))
    async with running(linked) as (hub, edges):
        edge = edges["e1"]
        async with serving(edge, {"rag.search": search}), serving(hub, {"rag.search": search}):
            for asker, there in ((hub, edge), (edge, hub)):
                found: list[Any] = []
                inbox = asker.client.new_inbox()
                subscription = await asker.client.subscribe(inbox)
                await asker.client.publish("$SRV.PING", b"", reply=inbox)
                while True:
                    try:
                        found.append(json.loads((await subscription.next_msg(timeout=2)).data))
                    except nats.errors.TimeoutError:
                        break
                assert [answer["metadata"]["node"] for answer in found] == [asker.node]
                with pytest.raises((nats.errors.NoRespondersError, nats.errors.TimeoutError)):
                    await asker.client.request(
                        services.service("rag.search").subject(there.node), b"{}", timeout=2
                    )
                await subscription.unsubscribe()
