"""From nothing to the first answer: `evy up` on an empty data directory, with texts that wait on the SIM."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from simulators.control import Control, Send
from tests.bench.node import on_uvloop
from tests.bench.rows import Figure, Goal, Row, Setting
from tests.conftest import free_port

FIRST_ANSWER_WITHIN_S: Final = 30.0
GIVE_UP_S: Final = 300.0
TEXTS: Final = {
    "emergency": ("+15550101", "my brother cut his leg, blood everywhere"),
    "question": ("+15550102", "how long must i boil water"),
}

_CONFIGURATION: Final = """\
[node]
name = "n1"
data_dir = "{directory}/data"
nats_port = {port}

[sms]
device = "{directory}/modem"
connection = "dku2at"
driver = "{driver}"
"""


def measure(setting: Setting) -> list[Row]:
    """A machine that was switched on: the first start makes keys, streams and the index; a later one finds
    them. The modem has registered before, which on the air takes it seconds."""
    drivers = ("at",) if setting.quick else ("at", "gammu")
    turns = 1 if setting.quick else min(setting.repeats, 3)
    return [_row(setting, driver, turns) for driver in drivers]


def _row(setting: Setting, driver: str, turns: int) -> Row:
    found: dict[str, list[float]] = {}
    for turn in range(turns):
        directory = setting.directory / f"start-{driver}-{turn}"
        directory.mkdir(parents=True)
        for when in ("first", "again"):
            for name, seconds in on_uvloop(_run(directory, driver, when)).items():
                found.setdefault(f"{when}-{name}", []).append(seconds)
    return Row(
        f"start-{driver}",
        f"start of a node, driver {driver}: `evy up` until the first answer is at the phone",
        tuple(Figure(name, "s", tuple(values)) for name, values in found.items()),
        (Goal("first-emergency", FIRST_ANSWER_WITHIN_S), Goal("first-question", FIRST_ANSWER_WITHIN_S)),
        ("first: an empty data directory; the texts lie on the SIM when it starts",),
    )


async def _run(directory: Path, driver: str, when: str) -> dict[str, float]:
    """Seconds from the start of `evy up` until each text has its answer."""
    path, control = directory / f"{when}.toml", directory / "control"
    text = _CONFIGURATION.format(directory=directory, port=free_port(), driver=driver)
    path.write_text(text, encoding="utf-8")
    log = directory / f"{when}.log"
    modem = ["-m", "simulators.modem", "--link", str(directory / "modem"), "--control", str(control)]
    with _process(modem, log):
        await _until(control.exists)
        async with Control(control) as network:
            for number, words in TEXTS.values():
                await network.do(Send(number=number, text=words))
            began = time.monotonic()
            with _process(["-m", "actors", "--config", str(path), "up"], log):
                return await _answers(network, began)


async def _answers(network: Control, began: float) -> dict[str, float]:
    found: dict[str, float] = {}
    names = {number: name for name, (number, _) in TEXTS.items()}
    async with asyncio.timeout(GIVE_UP_S):
        async for entry in network.watch():
            if entry.what == "submitted":
                found.setdefault(names[entry.number], time.monotonic() - began)
            if len(found) == len(names):
                break
    return found


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.05)


@contextlib.contextmanager
def _process(arguments: Sequence[str], log: Path) -> Iterator[None]:
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, *arguments], stdout=output, stderr=output, env=os.environ)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
