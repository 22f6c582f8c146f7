"""Upgrades of a running node while texts come in: to a release that works, and to one that does not.

Real nats-server, real actors under `evy up`, started again by what stands for systemd; the modem and the
network behind it are simulated, and the network's log is the truth.
"""

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from actors._cli.stage import CONFIGURATION, NODE_NUMBER, cache_directory
from actors._cli.upgrade import UpgradeError, check_release, settle, switch, upgrade_node, works
from actors._runtime.config import load_config
from actors._runtime.supervisor import Child, DirectoryLock
from actors.knowledge import Texts
from simulators.control import Control, Log, Send
from tests.conftest import free_port

ROOT = Path(__file__).parents[2]
PROCESSES = 'processes = [["sms"], ["intake", "route", "compress", "alert", "link"]]'
TEXT_EVERY_S = 0.7
WITHIN_S = 90.0

WORKS = 'exec {python} -m actors "$@"'
DIES = 'case " $* " in *" --check "*) exit 0;; esac; echo cannot start >&2; exit 7'
REFUSES = "echo 'evy: nothing reads table [sms]' >&2; exit 1"


def release(directory: Path, name: str, script: str) -> Path:
    """A directory that looks like a release, with a program that works, dies or refuses."""
    program = directory / name / ".venv" / "bin" / "evy"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\ncd {ROOT}\n{script.format(python=sys.executable)}\n")
    program.chmod(0o755)
    return directory / name


@asynccontextmanager
async def kept_running(link: Path, config: Path, log: Path) -> AsyncIterator[None]:
    """What systemd does: `evy up` of the release in use, started again whenever it ends."""
    stop, process = asyncio.Event(), None

    async def keep() -> None:
        nonlocal process
        while not stop.is_set():
            program = str(link / ".venv" / "bin" / "evy")
            with log.open("ab") as output:
                process = await asyncio.create_subprocess_exec(
                    program, "--config", str(config), "up", stdout=output, stderr=output
                )
            await process.wait()
            await asyncio.sleep(0.3)

    task = asyncio.create_task(keep())
    try:
        yield
    finally:
        stop.set()
        if process and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        await task


@pytest.mark.nats
@pytest.mark.modem
@pytest.mark.timeout(600)
async def test_texts_come_in_during_an_upgrade_and_one_that_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors._cli.upgrade.STEADY_S", 2.0)
    path = tmp_path / "evy.toml"
    text = CONFIGURATION.format(
        profile="lilevy",
        name="demo",
        directory=tmp_path,
        port=free_port(),
        wait_s=6 * 3600.0,
        answer_within_s=15.0,
        own=NODE_NUMBER,
        cache=cache_directory(),
    )
    path.write_text(text.replace("[sms]", f'{PROCESSES}\n[sms]\ndriver = "at"', 1))
    config = load_config(path)
    link = tmp_path / "evy"
    old, new, dying = (
        release(tmp_path, name, script) for name, script in (("1.0", WORKS), ("1.1", WORKS), ("1.2", DIES))
    )
    switch(link, old)
    simulator = Child(
        "simulator",
        [
            sys.executable,
            "-m",
            "simulators.modem",
            "--link",
            f"{tmp_path}/modem",
            "--control",
            f"{tmp_path}/control",
        ],
        {},
        tmp_path / "simulator.log",
    )
    stop, finished = asyncio.Event(), asyncio.Event()
    simulating = asyncio.create_task(simulator.keep(stop))
    try:
        async with kept_running(link, path, tmp_path / "evy.log"):
            assert await works(config, None, WITHIN_S) == ""
            async with Control(tmp_path / "control") as control:
                texting = asyncio.create_task(keep_texting(control, finished))
                await upgrade_node(config, link, new, WITHIN_S)
                assert link.resolve() == new
                assert not (tmp_path / "evy.trial").exists()
                # The power goes right after the link was moved; `evy upgrade --resume` of the next boot.
                upgrading = asyncio.create_task(upgrade_node(config, link, dying, WITHIN_S))
                while link.resolve() != dying:
                    await asyncio.sleep(0.01)
                upgrading.cancel()
                while DirectoryLock.holder(tmp_path):
                    await asyncio.sleep(0.05)
                with pytest.raises(UpgradeError, match=r"1\.2 does not work .*1\.1 is in use again"):
                    await settle(config, link, None, 8.0)
                assert not (tmp_path / "evy.trial").exists()
                assert link.resolve() == new
                finished.set()
                sent = await texting
                answers = await answered(control, sent)
    finally:
        stop.set()
        await simulator.end()
        await simulating
    assert sent > 10
    assert {number: count for number, count in answers.items() if count != 1} == {}
    assert len(answers) == sent


async def keep_texting(control: Control, finished: asyncio.Event) -> int:
    """An emergency from another phone again and again; gives how many."""
    sent = 0
    while not finished.is_set():
        words = f"my brother is bleeding badly from the leg, case {sent}"
        await control.do(Send(number=f"+1555{2_000_000 + sent}", text=words))
        sent += 1
        await asyncio.sleep(TEXT_EVERY_S)
    return sent


async def answered(control: Control, sent: int) -> Counter[str]:
    """Texts that each phone could read, once all have one and a redelivery would have come."""
    read: Counter[str] = Counter()
    async with asyncio.timeout(120):
        while len(read) < sent:
            await asyncio.sleep(0.2)
            read = await read_by(control)
    await asyncio.sleep(12)  # longer than ack_wait
    return await read_by(control)


async def read_by(control: Control) -> Counter[str]:
    """Texts that each phone shows, without the menu that comes after an emergency's."""
    menus = Texts.load().menus()
    shown = (e for e in (await control.do(Log())).log or () if e.what == "read")
    return Counter(e.number for e in shown if e.text not in menus)


def test_a_release_that_cannot_read_this_configuration_is_never_put_in_use(tmp_path: Path) -> None:
    path = tmp_path / "evy.toml"
    path.write_text(f'[node]\nname = "demo"\ndata_dir = "{tmp_path}"\n')
    config = load_config(path)
    check_release(release(tmp_path, "good", WORKS), config)
    with pytest.raises(UpgradeError, match="refuses this node: evy: nothing reads table"):
        check_release(release(tmp_path, "bad", REFUSES), config)
    with pytest.raises(UpgradeError, match="is no program"):
        check_release(tmp_path / "nothing", config)


def test_the_link_always_points_somewhere(tmp_path: Path) -> None:
    link = tmp_path / "evy"
    for name in ("1.0", "1.1"):
        (tmp_path / name).mkdir()
        switch(link, tmp_path / name)
        assert link.resolve().name == name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.0", "1.1", "evy"]
