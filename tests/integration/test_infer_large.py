"""The big model's actor on a real nats-server and over real TLS; its model server comes and goes."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from actors._runtime import clock
from actors._runtime.actor import Actor, Output
from actors._runtime.bus import NatsBus
from actors._runtime.certificates import create_ca, create_certificate
from actors._runtime.config import Config
from actors._runtime.context import BusContext
from actors._runtime.identity import Identity
from actors._runtime.provision import Place, provision
from actors._runtime.worker import run_actors
from actors.infer_large import ChatClient, Endpoint, ServerError, build
from subjects import names
from subjects.errors import ConfigError
from subjects.messages import Answer, Event, Passage, Query
from tests.conftest import NODE, Server, free_port
from tests.peer import Peer, http, written

BOIL = Passage(id="boil", source="C1", score=0.7, text="Boil water for 1 minute.")


@pytest.fixture
async def bus(server: Server) -> AsyncIterator[NatsBus]:
    connected = await NatsBus.connect(Identity(NODE, b"secret of the tests", "0000"), server.url, "test")
    assert await provision(connected.js, Place(NODE, "hybrid")) == []
    yield connected
    await connected.close()
    await asyncio.sleep(0)


@pytest.mark.nats
async def test_queries_wait_for_a_dead_model_and_none_is_lost(bus: NatsBus) -> None:
    heard: dict[str, Answer] = {}
    opened, stop = asyncio.Event(), asyncio.Event()
    count = 12

    async def compress(answer: Answer) -> Sequence[Output]:
        heard[answer.query_id] = answer
        if len(heard) == count:
            stop.set()
        return ()

    async def on_event(event: Event) -> None:
        if event.kind == "breaker" and event.fields["state"] == "open":
            opened.set()

    port = free_port()
    config = Config({"infer_large": {"base_url": f"http://127.0.0.1:{port}", "passages": 1}})
    large = await build(BusContext(config, bus))
    unfollow = await bus.follow_events(on_event)
    running = asyncio.create_task(
        run_actors(bus, [large, Actor("compress", {names.COMPRESS: compress})], stop)
    )
    async with asyncio.timeout(90):
        for number in range(count):
            asked = Query(
                id=f"q{number}",
                node=NODE,
                sender_ref=f"person {number}",
                text="?",
                lang="en",
                lane="routine",
                deadline=clock.deadline_in(60),
                asked=True,
                wait=clock.deadline_in(600),
                passages=(BOIL,),
            )
            await bus.publish(Output(names.INFER_LARGE, asked.lane, asked, asked.id, optional=True), "rag")
        await opened.wait()  # nobody listens at the port, and everybody has noticed
        assert not heard
        async with Peer(http(written("Boil it 1 minute.", 1))).running(port):
            await running
    await unfollow()
    assert sorted(heard) == sorted(f"q{number}" for number in range(count))
    assert {answer.text for answer in heard.values()} == {"Boil it 1 minute."}
    assert (await bus.js.stream_info(f"DLQ_{NODE}")).state.messages == 0


async def test_tls_is_checked_against_the_centres_own_ca(tmp_path: Path) -> None:
    authority, authority_key = create_ca("EVY test")
    stranger, _ = create_ca("somebody else")
    certificate, key = create_certificate(authority, authority_key, "gpu", ["127.0.0.1"])
    for name, content in (
        ("ca", authority),
        ("stranger", stranger),
        ("certificate", certificate),
        ("key", key),
        ("garbage", "no certificate"),
    ):
        (tmp_path / name).write_text(content)
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    async with Peer(http(written("Hi."))).running(tls=served) as peer:
        assert peer.url.startswith("https://")
        known = ChatClient(Endpoint(peer.url, ca_file=str(tmp_path / "ca")), 5)
        assert "Hi." in (await known.chat([], 5)).content
        await known.close()
        asked = len(peer.paths)
        for ca_file in ("", str(tmp_path / "stranger")):
            client = ChatClient(Endpoint(peer.url, ca_file=ca_file), 5)
            with pytest.raises(ServerError, match="certificate verify failed"):
                await client.chat([], 5)
            await client.close()
        assert len(peer.paths) == asked  # not an octet of a question left
    for broken in ("garbage", "none"):
        with pytest.raises(ConfigError, match=f"ca_file.*{broken}"):
            ChatClient(Endpoint("https://127.0.0.1:1", ca_file=str(tmp_path / broken)), 5)
