"""A node moves to new hardware while texts come in: backup, restore, the same SIM; every text answered once.

And a backup that was taken while the node worked holds every text that it had accepted by then.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from actors._cli.backup import back_up
from actors._cli.restore import restore_node
from actors._cli.stage import CONFIGURATION, NODE_NUMBER, cache_directory
from actors._cli.upgrade import works
from actors._runtime.bus import NatsBus
from actors._runtime.config import Config, load_config
from actors._runtime.erase import stored, streams
from actors._runtime.identity import load_identity
from actors._runtime.own_server import own_server
from actors._runtime.supervisor import Child
from simulators.control import Control, Slow
from subjects.messages import Event
from tests.conftest import free_port
from tests.scenarios.test_upgrade import PROCESSES, WITHIN_S, answered, keep_texting

TEXTS_BEFORE = 6


def configured(directory: Path, name: str) -> Config:
    """A machine of its own with the one modem."""
    data = directory / name
    data.mkdir()
    text = CONFIGURATION.format(
        profile="lilevy",
        name="demo",
        directory=data,
        port=free_port(),
        wait_s=6 * 3600.0,
        answer_within_s=15.0,
        own=NODE_NUMBER,
        cache=cache_directory(),
    ).replace(f"{data}/modem", f"{directory}/modem")
    path = directory / f"{name}.toml"
    path.write_text(text.replace("[sms]", f'{PROCESSES}\n[sms]\ndriver = "at"', 1))
    return load_config(path)


@asynccontextmanager
async def up(config: Config) -> AsyncIterator[None]:
    """`evy up`, ended cleanly."""
    command = [sys.executable, "-m", "actors", "--config", str(config.path), "up"]
    with (config.node.directory / "evy.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    try:
        assert await works(config, None, WITHIN_S) == ""
        yield
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.nats
@pytest.mark.modem
@pytest.mark.timeout(600)
async def test_a_node_moves_while_texts_come_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors._cli.upgrade.STEADY_S", 1.0)
    old, new, copy = (configured(tmp_path, name) for name in ("old", "new", "copy"))
    arguments = ["simulators.modem", "--link", f"{tmp_path}/modem", "--control", f"{tmp_path}/control"]
    simulator = Child("simulator", [sys.executable, "-m", *arguments], {}, tmp_path / "simulator.log")
    stop, finished, remaining = asyncio.Event(), asyncio.Event(), AsyncExitStack()
    simulating = asyncio.create_task(simulator.keep(stop))
    try:
        async with up(old), AsyncExitStack() as stack:
            control = await remaining.enter_async_context(Control(tmp_path / "control"))
            accepted: set[str] = set()
            enough = asyncio.Event()

            async def note(event: Event) -> None:
                accepted.add(event.query_id)
                if len(accepted) >= TEXTS_BEFORE:
                    enough.set()

            identity = load_identity("demo", old.node.directory)
            bus = await NatsBus.connect(identity, old.node.url, "test")
            stack.push_async_callback(bus.close)
            await bus.follow_events(note, ("received",))
            await control.do(Slow(answer_delay_s=1.5))  # slower than texts come: work waits all the time
            texting = asyncio.create_task(keep_texting(control, finished))
            await asyncio.wait_for(enough.wait(), 60)
            before = set(accepted)
            assert (await back_up(old, tmp_path / "working.tar.gz", [])).running
        stopped = await back_up(old, tmp_path / "stopped.tar.gz", [])
        assert not stopped.running
        assert stopped.queues["FLASH_demo"] > 0
        await restore_node(tmp_path / "stopped.tar.gz", new, [])
        async with up(new):
            await control.do(Slow(answer_delay_s=0.0))
            finished.set()
            sent = await texting
            answers = await answered(control, sent)
    finally:
        await remaining.aclose()
        stop.set()
        await simulator.end()
        await simulating
    assert {number: count for number, count in answers.items() if count != 1} == {}
    assert len(answers) == sent > TEXTS_BEFORE

    await restore_node(tmp_path / "working.tar.gz", copy, [], queues="answer")
    assert before - await known(copy) == set()


async def known(config: Config) -> set[str]:
    """Queries that a node would answer, or knows to be answered."""
    found: set[str] = set()
    directory = config.node.directory
    async with own_server("demo", directory / "nats", "", directory / "log") as bus:
        for stream in await streams(bus.client, bus.js, lambda name: "ledger" in name or "_demo" in name):
            if stream.name == "KV_ledger_demo" or stream.retention == "workqueue":
                async for message in stored(bus.js, stream):
                    found.add(message.subject.removeprefix("$KV.ledger_demo.").partition(".")[0])
                    content = msgspec.json.decode(message.payload)
                    found |= {str(content[key]) for key in ("id", "query_id") if key in content}
    return found
