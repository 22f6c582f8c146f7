"""A whole node as `evy demo` starts it, and what real life does to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest
from evy_core import Deliver, encode_pdus

from actors._cli import stage as stage_module
from actors._cli.stage import NODE_NUMBER, Stage, on_stage
from actors.knowledge import Texts
from simulators.control import Plug, Raw, Ring, Send, Unplug

pytestmark = [pytest.mark.nats, pytest.mark.modem, pytest.mark.model, pytest.mark.timeout(240)]

TEXTS = Texts.load()
QUESTION = "how do i make river water safe to drink"
WITHIN_S = 60.0


@asynccontextmanager
async def node(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    quick = stage_module.CONFIGURATION.replace("part_timeout_s = 20", "part_timeout_s = 12")
    monkeypatch.setattr(stage_module, "CONFIGURATION", quick)
    async with on_stage(directory, lambda _: None) as stage:
        yield stage


def process(name: str) -> psutil.Process:
    [found] = [child for child in psutil.Process().children(recursive=True) if child.name() == name]
    return found


async def answered(stage: Stage, number: str, says: str, count: int = 1) -> None:
    assert await stage.until(lambda: len(stage.read_by(number)) >= count, WITHIN_S), stage.events
    assert says.lower() in " ".join(stage.read_by(number)).lower()


def heard(stage: Stage, kind: str, times: int) -> bool:
    return sum(event.kind == kind for event in stage.events) >= times


def picture_from(number: str) -> str:
    """An MMS notification that names a phone as its sender."""
    data = b"\x01\x06\x01\xbe\x8c\x82\x98T1\x00\x8d\x90\x89\x19\x80" + number.encode() + b"/TYPE=PLMN\x00"
    message = Deliver("3020", data=data, coding=0x04, header=[(0x05, b"\x0b\x84\x23\xf0")])
    return encode_pdus([message])[0].hex()


async def test_a_node_survives_what_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One node, one bad thing after the other; after each of them the next text is answered."""
    async with node(tmp_path, monkeypatch) as stage:
        # nats-server killed: started again by the supervisor, the actors come back by themselves.
        server = process("nats-server")
        server.kill()
        await stage.text("+15557000001", QUESTION)
        await answered(stage, "+15557000001", "boil")
        assert process("nats-server").pid != server.pid

        # A PDU that nobody can read: kept as a dead letter, the next text is served.
        await stage.order(Raw(pdus=("0791FFFF",)))
        await stage.text("+15557000002", QUESTION)
        await answered(stage, "+15557000002", "boil")
        info = await stage.bus.js.stream_info("DLQ_demo")
        assert info.state.messages == 1

        # Forty parts, one lost: the sender is told after the time-out, and the SIM is free.
        long = "tell me about the road to the coast and all the villages there " * 95
        await stage.order(Send(number="+15557000003", text=long[:6000], drop=(7,)))
        await answered(stage, "+15557000003", TEXTS.say("incomplete", "en"))

        # Ten thousand characters: answered from the beginning, and nobody waits for it.
        huge = QUESTION + "? " + "we walked for a long time and it was very far " * 220
        await stage.text("+15557000004", huge[:10_000])
        await stage.text("+15557000005", "my hand is bleeding badly")
        await answered(stage, "+15557000005", "press")
        await answered(stage, "+15557000004", TEXTS.say("too_long", "en"), count=2)
        assert any("boil" in text.lower() for text in stage.read_by("+15557000004"))

        # Nobody to answer: a name, the node's own number, nothing visible.
        await stage.order(Send(number="+15557000006", text="You won!", sender="CARRIER"))
        await stage.text(NODE_NUMBER, "echo")
        await stage.text("+15557000007", "\u200b")
        ignored = [event for event in stage.events if event.kind == "ignored"]
        assert await stage.until(lambda: sum(e.kind == "ignored" for e in stage.events) >= 3, WITHIN_S), (
            ignored
        )
        assert stage.read_by(NODE_NUMBER) == stage.read_by("+15557000007") == []

        # A picture and calls: who sent or called learns that only texts are read, once.
        await stage.order(Raw(pdus=tuple(picture_from("+15557000009") for _ in range(2))))
        await answered(stage, "+15557000009", TEXTS.say("no_pictures", "en"))
        for call in (1, 2):
            await stage.order(Ring(number="+15557000010"))
            assert await stage.until(partial(heard, stage, "call", call), WITHIN_S)
        await answered(stage, "+15557000010", TEXTS.say("no_calls", "en"))

        # The modem pulled out in the middle of sending, and put back.
        await stage.text("+15557000008", QUESTION)
        assert await stage.until(
            lambda: any(e.what == "submitted" and e.number == "+15557000008" for e in stage.entries), WITHIN_S
        )
        await stage.order(Unplug())
        await stage.order(Plug())
        await answered(stage, "+15557000008", "boil")
        assert len(stage.read_by("+15557000008")) == 1

        # One answer each, whatever happened.
        for number in (1, 2, 5, 9, 10):
            read = [text for text in stage.read_by(f"+155570000{number:02}") if text not in TEXTS.menus()]
            assert len(read) == 1
