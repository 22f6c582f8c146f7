"""A question's way to a provider and back on a real nats-server: what was taken out never leaves the node."""

import asyncio
import tomllib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from actors._llm import llm_config
from actors._masked import Taken
from actors._retrieval.phrases import read_phrases
from actors._runtime.actor import Actor, Output
from actors._runtime.bus import NatsBus
from actors._runtime.config import Config
from actors._runtime.context import BusContext
from actors._runtime.identity import Identity
from actors._runtime.link import NoLink
from actors._runtime.provision import Place, provision
from actors._runtime.worker import run_actors
from actors.compress import build as build_compress
from actors.infer_large import InferLargeConfig, Large, Retrieval, outside_of, own_client
from actors.knowledge import Texts, redactor
from actors.rag import Centre, Rag
from simulators.provider import Provider, running, table
from subjects import names
from subjects.messages import OutboundSms
from tests.conftest import NODE, Server
from tests.unit.test_infer_large import BOIL, query

WHO = "My name is Wanjiku Kamau, call 0722 555 019."


@pytest.fixture
async def bus(server: Server) -> AsyncIterator[NatsBus]:
    connected = await NatsBus.connect(Identity(NODE, b"secret of the tests", "0000"), server.url, "test")
    assert await provision(connected.js, Place(NODE, "hybrid")) == []
    yield connected
    await connected.close()
    await asyncio.sleep(0)


@pytest.mark.nats
async def test_a_name_stays_at_the_node_and_is_in_the_answer(bus: NatsBus, tmp_path: Path) -> None:
    provider = Provider("openai", faults=[None, "stranger"])
    heard: dict[str, str] = {}
    stop = asyncio.Event()

    async def sms(out: OutboundSms) -> Sequence[Output]:
        heard[out.query_id] = out.text
        if len(heard) == 2:
            stop.set()
        return ()

    async with running([provider]) as address:
        tables = tomllib.loads(table(provider, address, 1))
        limits = {"llm_strategy": "hybrid", "llm_monthly_budget": 5}
        config = Config({**tables, "llm": limits, "node": {"data_dir": str(tmp_path)}})
        context = BusContext(config, bus)
        own, settings = InferLargeConfig(), llm_config(config, {})
        large = Large(
            node=NODE,
            client=own_client(own, settings),
            retrieval=Retrieval([], read_phrases()),
            texts=Texts.load(),
            emit=context.emit,
            config=own,
            settings=settings,
            outside=outside_of(context, own, settings),
        )
        masked = await bus.bucket("masked")

        async def answered(_: str) -> bool:
            return False

        centre = Centre(NoLink(), redactor(), masked, answered, 3600.0)
        actors = [
            Actor("infer_large", {names.INFER_LARGE: large.handle}, close=large.close),
            await build_compress(context),
            Actor("sms", {names.SMS_OUT: sms}),
        ]
        async with asyncio.timeout(60):
            for number in range(2):
                text = f"{WHO} How long do I boil water?"
                asked = query(text, BOIL, id=f"q{number}", node=NODE, privacy="enhanced", asked=True)
                await bus.publish(await Rag._asking(asked, centre), "rag")
            entry = await masked.get("q0")
            assert entry is not None
            assert msgspec.json.decode(entry[0], type=Taken).stands["[name1]"] == "Wanjiku Kamau"
            await run_actors(bus, actors, stop)

    assert heard["q0"].startswith(f"Wanjiku Kamau: {BOIL.text}")
    assert heard["q1"].startswith(BOIL.text)  # a stranger's placeholder: the reviewed passage instead
    body = "".join(seen.body for seen in provider.seen)
    assert "[name1]" in body
    for word in ("Wanjiku", "Kamau", "0722", "555 019"):
        assert word not in body
    assert (await bus.js.stream_info(f"DLQ_{NODE}")).state.messages == 0
