"""A person in danger, two responders, and an alert actor that is killed: real server and processes, a
simulated modem. What the phones read is the truth."""

import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from actors._cli import stage as stage_module
from actors._cli.stage import Stage, node_on_stage, write_configuration

pytestmark = [pytest.mark.nats, pytest.mark.modem, pytest.mark.model, pytest.mark.timeout(300)]

PERSON, ANA, BEN, FIRE = "+15557100001", "+15557100002", "+15557100003", "+15557100004"
WITHIN_S = 60.0
WAIT_S = 6
CONTACTS = f"""\
[[contacts]]
name = "Ben"
number = "{BEN}"
order = 2
[[contacts]]
name = "Ana"
number = "{ANA}"
needs = ["rescue"]
order = 1
[[contacts]]
name = "Fire"
number = "{FIRE}"
needs = ["fire"]
"""
ALERT = f"""
[alert]
at_once = 1
wait_s = {{ flash = {WAIT_S} }}
"""
PROCESSES = """[
    ["sms"], ["intake", "route", "compress", "link", "node"], ["alert"],
    ["rag", "infer_small", "bulletin", "mesh"]
]"""


@asynccontextmanager
async def node(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    quick = stage_module.CONFIGURATION.replace("[sms]", f'processes = {PROCESSES}\n\n[sms]\ndriver = "at"')
    monkeypatch.setattr(stage_module, "CONFIGURATION", quick)
    config = write_configuration(directory, more=ALERT)
    (directory / "contacts.toml").write_text(CONTACTS)
    async with node_on_stage(directory, config) as stage:
        yield stage


def kill_alert() -> None:
    [process] = [
        child
        for child in psutil.Process().children(recursive=True)
        if child.cmdline()[-2:] == ["run", "alert"]
    ]
    os.kill(process.pid, signal.SIGKILL)


async def test_from_a_cry_for_help_to_somebody_who_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(tmp_path, monkeypatch) as stage:

        async def reads(phone: str, words: str) -> str:
            assert await stage.until(lambda: any(words in t for t in stage.read_by(phone)), WITHIN_S), (
                words,
                stage.read_by(phone),
                [(event.kind, event.fields) for event in stage.events if event.actor == "alert"],
            )
            return next(text for text in stage.read_by(phone) if words in text)

        await stage.text(PERSON, "my leg is trapped under the wall, the house fell down")
        assert PERSON in await reads(ANA, "EVY ALERT 1 ")
        await reads(PERSON, "Where are you?")
        assert stage.read_by(BEN) == []

        # Nobody answers, and the actor that waits for it dies: the next one is asked all the same.
        kill_alert()
        await reads(BEN, "EVY ALERT 1 ")
        assert not any("responder" in text for text in stage.read_by(PERSON))

        await stage.text(PERSON, "behind the school on Mill Road")
        await reads(PERSON, "Noted where you are: behind the school on Mill Road.")
        for responder in (ANA, BEN):
            assert (await reads(responder, "says where")).endswith(": behind the school on Mill Road")

        # The answer comes while the actor is dead.
        kill_alert()
        await stage.text(BEN, "1")
        await reads(BEN, "Case 1: noted that you go.")
        await reads(PERSON, "a responder answered that they go to you")
        await stage.text(ANA, "1 1")
        await reads(ANA, "Case 1: noted that you go; 1 said so before you.")

        await stage.text(PERSON, "I am safe")
        await reads(PERSON, "Noted that you are safe")
        await reads(BEN, "wrote that they are safe")
        await stage.text(ANA, "2")
        await reads(ANA, "Case 1 is closed")

        # Everything once, nothing to whom it does not concern, and what is texted by a responder is a text.
        await stage.text(BEN, "how do i make river water safe to drink")
        assert "boil" in (await reads(BEN, "oil")).lower()
        for phone in (PERSON, ANA, BEN):
            assert set(Counter(stage.read_by(phone)).values()) == {1}, stage.read_by(phone)
        assert stage.read_by(FIRE) == []
        letters = await stage.bus.js.stream_info("DLQ_demo")
        assert letters.state.messages == 0
