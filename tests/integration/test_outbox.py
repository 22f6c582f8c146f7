"""`evy outbox` with the actor sms on a real server: a modem that dies with a text in its hands."""

import asyncio
import json
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from actors._cli import evy
from actors._runtime.actor import Actor, Output
from actors._runtime.bus import NatsBus
from actors._runtime.config import load_config
from actors._runtime.context import BusContext
from actors._runtime.worker import run_actors
from actors.sms.modem import ModemLostError, Opened, Part, Received, Report
from subjects import names
from subjects.errors import EvyError
from subjects.messages import OutboundSms
from tests.bench.node import build_sms
from tests.conftest import NODE, Server

pytestmark = pytest.mark.nats

NUMBER = "+34600111222"


class LosingModem:
    """Takes a text and is gone before it answers; when it is back it does not tell its last TP-MR."""

    def __init__(self, loses: int) -> None:
        self.loses = loses
        self.on_air: list[str] = []

    def open(self) -> Opened:
        return Opened()

    def poll(self, in_hand: frozenset[int]) -> tuple[list[Received], list[Report]]:  # noqa: ARG002  # none come
        return [], []

    def wait(self, wake: int, timeout_s: float) -> bool:
        select.select([wake], [], [], timeout_s)
        return False

    def status(self) -> dict[str, str]:
        return {}

    def restart(self) -> None:
        return

    def delete(self, location: int) -> None:  # noqa: ARG002  # none are there
        return

    def send_part(self, part: Part) -> int:
        self.on_air.append(part.text)
        if self.loses:
            self.loses -= 1
            raise ModemLostError("gone")
        return len(self.on_air)

    def close(self) -> None:
        return


@asynccontextmanager
async def running(bus: NatsBus, actor: Actor) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(run_actors(bus, [actor], stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)


class Desk:
    """The command line of the node."""

    def __init__(self, directory: Path, server: Server) -> None:
        self.toml = directory / "evy.toml"
        self.toml.write_text(
            f'[node]\nname = "{NODE}"\ndata_dir = "{directory}/data"\nnats_url = "{server.url}"\n'
        )

    async def evy(self, *arguments: str) -> Result:
        def call() -> Result:
            return CliRunner().invoke(evy, ["--config", str(self.toml), "outbox", *arguments])

        return await asyncio.to_thread(call)

    async def held(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads((await self.evy("ls", "--json")).stdout)["held"]
        return found


def out(name: str, bus: NatsBus, text: str) -> Output:
    message = OutboundSms(
        query_id=name,
        node=NODE,
        text=text,
        lang="en",
        lane="routine",
        step="verbatim",
        sender_ref=bus.identity.sender_ref(NUMBER),
    )
    return Output(names.SMS_OUT, "routine", message, name, "reply")


async def test_a_held_text_is_listed_sent_again_or_dropped(
    bus: NatsBus, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.sms.sending.HOLD_S", 0.0)
    desk = Desk(tmp_path, server)
    modem = LosingModem(loses=2)
    context = BusContext(load_config(desk.toml), bus)
    await (await bus.bucket("numbers")).put(bus.identity.sender_ref(NUMBER), NUMBER.encode())
    await bus.publish(out("waits", bus, "nobody works yet"), "test")
    shown = (await desk.evy("ls")).stdout
    assert "routine   1 texts wait, 0 of them in hand, the oldest for" in shown
    assert "the actor sms does not answer" in shown
    await bus.js.purge_stream(f"WORK_{NODE}")

    async with running(bus, await build_sms(context, modem)):
        for name in ("q1", "q2"):
            await bus.publish(out(name, bus, f"text of {name}"), "test")
        async with asyncio.timeout(40):
            while len(await desk.held()) < 2:
                await asyncio.sleep(0.1)
        listed = await desk.evy("ls")
        assert listed.exit_code == 1
        assert "nobody knows whether it left" in listed.stdout
        assert "text of" not in listed.stdout
        assert NUMBER not in listed.stdout
        full = (await desk.evy("ls", "--full")).stdout
        assert "text of q1" in full
        assert NUMBER in full

        sent = await desk.evy("send", "q1.reply.1")
        assert "it waits for the modem" in sent.stdout
        async with asyncio.timeout(40):
            while modem.on_air.count("text of q1") < 2:
                await asyncio.sleep(0.05)
        unsure = await desk.evy("drop", "q2.reply.1")
        assert isinstance(unsure.exception, EvyError)
        assert "Say --yes" in str(unsure.exception)
        dropped = await desk.evy("drop", "q2.reply.1", "--yes")
        assert "it is not sent" in dropped.stdout
        again = await desk.evy("send", "q2.reply.1")
        assert "is not held: it is FAILED" in str(again.exception)
        async with asyncio.timeout(20):
            while (await desk.evy("ls")).stdout.splitlines()[-1] != "nothing is held":
                await asyncio.sleep(0.1)
    assert modem.on_air == ["text of q1", "text of q2", "text of q1"]
    assert [text async for text in _waiting(bus)] == []


async def _waiting(bus: NatsBus) -> AsyncIterator[str]:
    info = await bus.js.stream_info(f"WORK_{NODE}", subjects_filter=">")
    for subject in info.state.subjects or {}:
        yield subject
