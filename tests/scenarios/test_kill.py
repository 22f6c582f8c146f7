"""kill -9 at random moments while texts run through: every text answered, none twice.

Real nats-server, real Gammu, every actor in a process of its own; the modem and the network behind it are
simulated. The network's log is the truth, the ledger must agree with it. ``EVY_CHAOS_TEXTS`` and
``EVY_CHAOS_SEED`` choose size and seed (`make chaos COUNT=500 SEED=1`), ``EVY_CHAOS_DRIVER`` the driver.
"""

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from actors._cli.stage import CONFIGURATION, NODE_NUMBER, cache_directory
from actors._runtime.bus import NatsBus
from actors._runtime.config import load_config
from actors._runtime.identity import load_identity
from actors._runtime.supervisor import Child
from actors.knowledge import Texts
from actors.sms.ledger import Entry as LedgerEntry
from simulators.control import Control, Log, Send
from simulators.network import Entry
from tests.conftest import Server

TEXTS = int(os.environ.get("EVY_CHAOS_TEXTS", "24"))
SEED = int(os.environ.get("EVY_CHAOS_SEED", "1"))
DRIVER = os.environ.get("EVY_CHAOS_DRIVER", "gammu")

VICTIMS = ("sms", "intake", "route", "compress")
OTHERS = (("rag", "infer_small"), ("alert",))
KILL_EVERY_S = (0.5, 4.0)
KILLS = TEXTS
"""Then they are left alone: on a slow machine every one dies before it has read its texts, for minutes."""
IN_FLIGHT = 20
"""Texts under way at a time: fewer than the SIM has slots, more than the pipeline has."""

SAYINGS = (
    "HELP",
    "LANG",
    "my brother is bleeding badly from the leg, case {n}",
    "how do i make river water safe to drink? nr {n}",
    "MORE",
    "how long is food safe in the fridge without power, family {n}",
)


class Swarm:
    """The processes of a node, the killer, and the phones."""

    def __init__(self, directory: Path, server: Server, seed: int) -> None:
        self.directory = directory
        self.random = random.Random(seed)
        self.config_path = directory / "evy.toml"
        text = CONFIGURATION.format(
            profile="lilevy",
            name="demo",
            directory=directory,
            port=server.port,
            wait_s=6 * 3600.0,
            answer_within_s=15.0,
            own=NODE_NUMBER,
            cache=cache_directory(),
        )
        self.config_path.write_text(
            text.replace("[sms]", f'[sms]\nanswer_within_s = 120\ndriver = "{DRIVER}"', 1)
        )
        self.stop = asyncio.Event()
        self.kills: Counter[str] = Counter()
        simulator = ["simulators.modem", "--link", f"{directory}/modem", "--control", f"{directory}/control"]
        self.simulator = self.child("simulator", *simulator)
        run = ("actors", "--config", str(self.config_path), "run")
        self.victims = {name: self.child(name, *run, name) for name in VICTIMS}
        self.others = [self.child("+".join(group), *run, *group) for group in OTHERS]

    def child(self, name: str, module: str, *arguments: str) -> Child:
        return Child(name, [sys.executable, "-m", module, *arguments], {}, self.directory / f"{name}.log")

    async def kill(self, finished: asyncio.Event) -> None:
        """Kills one of the four at a random moment, again and again, until :data:`KILLS`."""
        while not finished.is_set() and self.kills.total() < KILLS:
            await asyncio.sleep(self.random.uniform(*KILL_EVERY_S))
            name = self.random.choice(VICTIMS)
            process = self.victims[name].process
            if process and process.returncode is None and not finished.is_set():
                process.send_signal(signal.SIGKILL)
                self.kills[name] += 1


def phone(number: int) -> str:
    return f"+1555{2_000_000 + number}"


def answered(log: tuple[Entry, ...]) -> Counter[str]:
    menus = Texts.load().menus()
    return Counter(entry.number for entry in log if entry.what == "read" and entry.text not in menus)


@pytest.mark.nats
@pytest.mark.modem
@pytest.mark.timeout(240 + 4 * TEXTS)
async def test_every_text_is_answered_once_whoever_dies(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    swarm = Swarm(tmp_path, server, SEED)
    identity = load_identity("demo", tmp_path)
    started = time.monotonic()
    children = [swarm.simulator, *swarm.victims.values(), *swarm.others]
    keepers = [asyncio.create_task(child.keep(swarm.stop)) for child in children]
    try:
        while not (tmp_path / "control").exists():
            await asyncio.sleep(0.05)
        async with Control(tmp_path / "control") as control:
            log = await run_through(swarm, control)
        bus = await NatsBus.connect(identity, load_config(swarm.config_path).node.url, "test")
        ledger = await bus.bucket("ledger")
        entries = {
            key: msgspec.json.decode(found[0], type=LedgerEntry)
            for key in await ledger.keys()
            if (found := await ledger.get(key))
        }
        await bus.close()
    finally:
        swarm.stop.set()
        await asyncio.gather(*(child.end() for child in children))
        await asyncio.gather(*keepers)

    answers = answered(log)
    submitted = Counter((entry.number, entry.part, entry.text) for entry in log if entry.what == "submitted")
    doubled = {number: count for number, count in answers.items() if count > 1}
    silent = [phone(n) for n in range(TEXTS) if not answers[phone(n)]]
    states = Counter(entry.state for entry in entries.values())
    with capsys.disabled():
        print(
            f"\n{TEXTS} texts, seed {SEED}, {time.monotonic() - started:.0f} s: killed {dict(swarm.kills)}; "
            f"answered {TEXTS - len(silent)}, unanswered {len(silent)}, doubled {len(doubled)}; "
            f"{sum(submitted.values())} parts on air, ledger {dict(states)}"
        )
    assert silent == []
    assert doubled == {}
    assert set(states) <= {"SUBMITTED", "DELIVERED"}
    assert len(entries) == sum(submitted.values())
    assert sum(swarm.kills.values()) > 0


async def run_through(swarm: Swarm, control: Control) -> tuple[Entry, ...]:
    """Texts from as many phones, kills meanwhile, until all is answered and nothing more comes."""
    finished = asyncio.Event()
    killer = asyncio.create_task(swarm.kill(finished))
    sent = 0
    log: tuple[Entry, ...] = ()
    deadline = time.monotonic() + 180 + 4 * TEXTS
    while time.monotonic() < deadline:
        log = (await control.do(Log())).log or ()
        have = len(answered(log))
        while sent < TEXTS and sent - have < IN_FLIGHT:
            text = swarm.random.choice(SAYINGS).format(n=sent)
            await control.do(Send(number=phone(sent), text=text))
            sent += 1
        if have >= TEXTS:
            break
        await asyncio.sleep(0.2)
    finished.set()
    await killer
    # A second answer would come from a redelivery: wait longer than one takes.
    await asyncio.sleep(15)
    return (await control.do(Log())).log or ()
