"""Resident memory of the process that holds the light actors, after it has answered texts."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import psutil

from simulators.control import Control, Send
from subjects import registry
from subjects.messages import Event
from tests.bench import flow
from tests.bench.node import on_uvloop, running_node
from tests.bench.rows import Figure, Goal, Row, Setting
from tests.conftest import NODE

ACTORS: Final = ("sms", "intake", "route", "compress", "alert", "node")

_CONFIGURATION: Final = """\
[node]
name = "{node}"
data_dir = "{directory}"
nats_port = {port}

[sms]
device = "{directory}/modem"
connection = "dku2at"
poll_interval_s = 0.05
"""


def measure(setting: Setting) -> list[Row]:
    """`evy run` with a simulated modem behind real Gammu; resident memory when the texts are answered."""
    count = setting.count(12, 1)
    used = [on_uvloop(_run(setting.directory / f"memory-{turn}", count)) for turn in range(_turns(setting))]
    return [
        Row(
            "memory",
            f"memory of one process: runtime + {', '.join(ACTORS)}",
            (
                Figure("resident", "MB", tuple(together for together, _ in used)),
                Figure("nats-server", "MB", tuple(server for _, server in used)),
            ),
            (Goal("resident", 150),),
            (f"after {count} emergencies; processes it starts included",),
        )
    ]


def _turns(setting: Setting) -> int:
    return min(setting.repeats, 3)


@contextlib.contextmanager
def _process(arguments: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _run(directory: Path, count: int) -> tuple[float, float]:
    """Megabytes of the actors' process with its children, and of the server."""
    sent = asyncio.Semaphore(0)

    async def note(event: Event) -> None:
        if event.kind == "sent":
            sent.release()

    async with running_node(directory) as node:
        path = directory / "evy.toml"
        path.write_text(
            _CONFIGURATION.format(node=NODE, directory=directory, port=node.server.port), encoding="utf-8"
        )
        control = directory / "control"
        simulator = ["simulators.modem", "--link", str(directory / "modem"), "--control", str(control)]
        actors = ["actors", "--config", str(path), "run", *ACTORS]
        rows = [row for row in registry.WORK if row.actor in ACTORS]
        log = directory / "memory.log"
        with _process(simulator, log), _process(actors, log) as process:
            async with asyncio.timeout(120):
                while not (control.exists() and await node.bus.has_workers(rows)):
                    await asyncio.sleep(0.05)
                stop = await node.bus.follow_events(note)
                async with Control(control) as network:
                    for number, text in flow.from_many(flow.emergencies(), count):
                        await network.do(Send(number=number, text=text))
                    for _ in range(count):
                        await sent.acquire()
                await stop()
            together = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            assert node.server.process is not None
            server = psutil.Process(node.server.process.pid).memory_info().rss
            return sum(each.memory_info().rss for each in together) / 1e6, server / 1e6
