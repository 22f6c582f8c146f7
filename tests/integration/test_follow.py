"""Follow-ups on a real nats-server: template and menu, then the numbers, with a responder who was asked."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from actors._runtime import clock
from actors._runtime.actor import Actor, Output
from actors._runtime.bus import NatsBus
from actors._runtime.config import Config
from actors._runtime.context import BusContext, build_actors
from actors._runtime.worker import run_actors
from actors.knowledge import Texts
from subjects import names
from subjects.messages import InboundSms, OutboundSms
from subjects.names import Lane
from tests.conftest import NODE

pytestmark = pytest.mark.nats

PERSON = "+15550000009"
CONTACTS = '[[contacts]]\nname = "Ana"\nnumber = "+15550000001"\n'
WITHIN_S = 60


async def test_two_texts_from_one_phone_the_second_is_a_number(bus: NatsBus, tmp_path: Path) -> None:
    (tmp_path / "contacts.toml").write_text(CONTACTS)
    context = BusContext(Config({"node": {"name": NODE, "data_dir": str(tmp_path)}}), bus)
    sent: dict[tuple[str, str, int], OutboundSms] = {}
    changed = asyncio.Event()

    async def modem(sms: OutboundSms) -> Sequence[Output]:
        sent[sms.query_id, sms.kind, sms.ordinal] = sms
        changed.set()
        return []

    async def text(query_id: str, words: str, lane: Lane) -> None:
        deadline = clock.deadline_in(60)
        sms = InboundSms(id=query_id, node=NODE, sender=PERSON, text=words, lane=lane, deadline=deadline)
        await bus.publish(Output(names.SMS_IN, lane, sms, query_id), "test")

    async def got(count: int) -> None:
        async with asyncio.timeout(WITHIN_S):
            while len(sent) < count:
                changed.clear()
                await changed.wait()

    actors = [
        Actor("sms", {names.SMS_OUT: modem}),
        *await build_actors(("intake", "route", "alert"), context),
    ]
    stop = asyncio.Event()
    work = asyncio.create_task(run_actors(bus, actors, stop))
    texts = Texts.load()
    try:
        await text("q1", "my son is drowning in the river", "flash")
        await got(4)  # template, menu, «where are you?», the responder
        assert sent["q1", "notice", 9].text == texts.menu("drowning", "en")
        assert sent["q1", "notice", 10].text == texts.say("ask_place", "en")
        await text("q2", "2", "routine")
        await text("q2", "2", "routine")
        await got(6)  # the branch, and what the responder learns
        reply = sent["q2", "reply", 0]
        branch = texts.follow.branch("drowning", 2, "en")
        assert branch is not None
        assert (reply.text, reply.lane, reply.step) == (branch.text, "flash", "template")
        assert sent["q2", "alert", 0].text.endswith("also wrote: 2 (out, not breathing)")
        await text("q3", "he is not breathing", "flash")
        await text("q4", "3) breathing now", "routine")
        await got(9)
        assert sent["q3", "reply", 0].text == branch.text
        assert "Roll on the side" in sent["q4", "reply", 0].text
        asked = [sms for sms in sent.values() if sms.text.startswith("EVY ALERT")]
        assert len(asked) == 1  # no second alert
        assert len(sent) == 9
    finally:
        stop.set()
        await work
