"""Two modems, a real server, and the process that drives them killed with -9 again and again.

The networks' logs are the truth: nothing is doubled, nothing is lost, a long text is never torn between two
numbers. ``EVY_MODEMS_TEXTS`` and ``EVY_MODEMS_SEED`` choose size and seed.
"""

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from actors._runtime.actor import KeyValue, Output
from actors._runtime.bus import NatsBus
from actors._runtime.config import load_config
from actors._runtime.identity import load_identity
from actors._runtime.provision import Place, provision
from actors._runtime.supervisor import Child
from actors.sms.ledger import DONE, Entry
from simulators.modem import Modem
from simulators.network import Network
from subjects import names
from subjects.messages import OutboundSms
from subjects.names import Lane
from tests.conftest import Server

TEXTS = int(os.environ.get("EVY_MODEMS_TEXTS", "36"))
SEED = int(os.environ.get("EVY_MODEMS_SEED", "1"))

CONFIGURATION = """\
[node]
name = "demo"
data_dir = "{directory}"
nats_url = "{url}"

[sms]
poll_interval_s = 0.05
failover_after_s = 2.0

[[sms.modem]]
name = "home"
device = "{directory}/home"
driver = "at"

[[sms.modem]]
name = "abroad"
device = "{directory}/abroad"
driver = "at"
prefixes = ["+44"]
"""


def text_of(n: int) -> OutboundSms:
    """Every third one is long, every fifth one flash; half of them go abroad."""
    lane: Lane = "flash" if n % 5 == 0 else "routine"
    words = f"text {n}. " + "The water rises, go to the school. " * (8 if n % 3 == 0 else 1)
    return OutboundSms(
        query_id=f"q{n}",
        node="demo",
        text=words.strip(),
        lang="en",
        lane=lane,
        step="verbatim",
        number=f"+{44 if n % 2 else 34}60000{n:04}",
    )


@contextlib.asynccontextmanager
async def running(child: Child) -> AsyncIterator[None]:
    stop = asyncio.Event()
    keeper = asyncio.create_task(child.keep(stop))
    try:
        yield
    finally:
        stop.set()
        await child.end()
        await keeper


@pytest.mark.nats
@pytest.mark.modem
@pytest.mark.timeout(300)
async def test_nothing_is_doubled_or_lost_whoever_dies(tmp_path: Path, server: Server) -> None:
    chance = random.Random(SEED)
    (tmp_path / "evy.toml").write_text(CONFIGURATION.format(directory=tmp_path, url=server.url))
    modems = [
        Modem(tmp_path / name, Network(seed=n, retry_s=0.05, report_delay_s=0.05), answer_delay_s=0.1)
        for n, name in enumerate(("home", "abroad"))
    ]
    home, abroad = modems
    for modem in modems:
        modem.plug()
    config = load_config(tmp_path / "evy.toml")
    bus = await NatsBus.connect(load_identity("demo", tmp_path), config.node.url, "test", wait_s=10)
    assert await provision(bus.js, Place.of(config.node)) == []
    ledger = await bus.bucket("ledger")
    command = [sys.executable, "-m", "actors", "--config", str(tmp_path / "evy.toml"), "run", "sms"]
    child = Child("sms", command, {}, tmp_path / "sms.log")
    kills = 0
    async with running(child):
        for n in range(TEXTS):
            out = text_of(n)
            await bus.publish(Output(names.SMS_OUT, out.lane, out, out.query_id, "reply"), "test")
            await asyncio.sleep(chance.uniform(0, 0.3))
            if n % 8 == 5 and child.process and child.process.returncode is None:
                child.process.send_signal(signal.SIGKILL)
                kills += 1
            if n == TEXTS // 2:
                abroad.unplug()  # longer than failover_after_s
        async with asyncio.timeout(60):
            while not any(number.startswith("+44") for number in home.network.phones):
                await asyncio.sleep(0.1)
        abroad.plug()
        async with asyncio.timeout(200):
            while not await settled(ledger):
                await asyncio.sleep(0.5)
    entries = {key: await entry(ledger, key) for key in await ledger.keys()}
    await bus.close()
    for modem in modems:
        modem.unplug()
        modem.network.close()

    judge(modems, entries)
    assert kills > 2
    assert {found.modem for found in entries.values()} == {"home", "abroad"}


def judge(modems: list[Modem], entries: dict[str, Entry]) -> None:
    """What people saw, against what was sent and what the ledger says."""
    shown: Counter[tuple[str, str]] = Counter()
    for modem in modems:
        for number, phone in modem.network.phones.items():
            shown.update((number, words) for words in phone.inbox)
    for n in range(TEXTS):
        out = text_of(n)
        states = {key: found.state for key, found in entries.items() if key.startswith(f"q{n}.")}
        count = shown[out.number, out.text]
        if out.lane == "flash":
            assert count >= 1, (n, states)
        else:
            assert count == 1 or (count == 0 and "HELD" in states.values()), (n, count, states)
        assert len({found.modem for key, found in entries.items() if key.startswith(f"q{n}.")}) == 1


async def entry(ledger: KeyValue, key: str) -> Entry:
    found = await ledger.get(key)
    assert found is not None
    return msgspec.json.decode(found[0], type=Entry)


async def settled(ledger: KeyValue) -> bool:
    """Every text has an entry, and nothing is under way."""
    keys = await ledger.keys()
    states = [(await entry(ledger, key)).state for key in keys]
    texts = {key.partition(".")[0] for key in keys}
    return len(texts) == TEXTS and all(state in DONE or state == "HELD" for state in states)
