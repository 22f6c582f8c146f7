"""The short names of the work subjects on the `nats` command line: what one types is what is worked on."""

import asyncio
import shutil
from collections.abc import Sequence

import pytest

from actors._runtime import clock
from actors._runtime.actor import Actor, Output
from actors._runtime.bus import NatsBus
from actors._runtime.worker import run_actors
from subjects import names
from subjects.messages import InboundSms, encode
from tests.conftest import NODE, PLACE, Server
from tests.integration.test_operations import command_line

pytestmark = pytest.mark.nats


async def test_nats_pub_works_with_every_short_name(bus: NatsBus, server: Server) -> None:
    directory = command_line()
    if directory is None:
        pytest.skip("no `nats` command line: make setup-ops")
    program = shutil.which("nats", path=str(directory))
    assert program

    async def pub(subject: str, payload: bytes) -> None:
        process = await asyncio.create_subprocess_exec(
            program,
            *("--server", server.url, "pub", subject, "--force-stdin"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        await process.communicate(payload)
        assert process.returncode == 0

    for row in PLACE.rows():
        await pub(row.subject, b"{}")
    for stream, lane in (("WORK", "routine"), ("FLASH", "flash")):
        info = await bus.js.stream_info(f"{stream}_{NODE}", subjects_filter=">")
        wanted = {f"{row.subject}.{lane}": 1 for row in PLACE.rows()} if stream == "WORK" else {}
        assert (info.state.subjects or {}) == wanted
    await bus.js.purge_stream(f"WORK_{NODE}")

    received: list[InboundSms] = []

    async def handle(message: InboundSms) -> Sequence[Output]:
        received.append(message)
        return []

    typed = InboundSms(
        id="by-hand",
        node=NODE,
        sender="+15550123",
        text="¿dónde hay agua? 😀",
        lane="routine",
        deadline=clock.deadline_in(15),
    )
    stop = asyncio.Event()
    work = asyncio.create_task(run_actors(bus, [Actor("intake", {names.SMS_IN: handle})], stop))
    await pub(names.SMS_IN, encode(typed))
    async with asyncio.timeout(20):
        while not received:
            await asyncio.sleep(0.02)
    stop.set()
    await asyncio.wait_for(work, 20)
    assert received == [typed]
