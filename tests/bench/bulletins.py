"""Public alerts on a modem line beside emergencies: who gets what, in which order, how fast.

A simulated modem whose network takes seconds for each SMS, a real nats-server, `evy run sms` and `evy run
bulletin` in processes of their own, intake and route in this one. People text ALERTS; then alerts come,
while other phones text emergencies at a steady pace.
"""

import asyncio
import contextlib
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from actors._bulletins import cap
from actors._runtime.actor import Output
from actors._runtime.context import build_actors
from simulators.control import Control, Log, Send, Slow
from simulators.network import Entry
from subjects import names, registry
from subjects.bulletin import Bulletin
from tests.bench.modem_line import _child
from tests.bench.node import Node, on_uvloop, running_node
from tests.bench.rows import Figure, Goal, Row, Setting, percentile
from tests.cap_vectors import FOLDER
from tests.conftest import NODE

FLASH: Final = "my hand is bleeding badly"
WITHIN_S: Final = 180.0
PLACES_TOML: Final = """\
[bulletin.places.lake]
name = "Lakeside"
latitude = 38.48
longitude = -119.95
geocodes = { SAME = ["006003"] }
[bulletin.places.city]
name = "Los Angeles"
latitude = 34.05
longitude = -118.25
"""


class Scene:
    """A node with alerts, and the phones around it."""

    def __init__(self, node: Node, network: Control, command: Sequence[str], log: Path) -> None:
        """``command`` runs the actor `bulletin`."""
        self._node = node
        self._network = network
        self._command = command
        self._log = log
        self._bulletin = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        """`bulletin` dies in the middle of whatever it does, and another one takes over."""
        self.end()
        self._bulletin = self._started()

    def end(self) -> None:
        """Ends it with SIGKILL."""
        self._bulletin.kill()
        self._bulletin.wait()

    async def text(self, number: str, text: str) -> None:
        """A phone texts the node."""
        await self._network.do(Send(number=number, text=text))

    async def slow(self, delay_s: float) -> None:
        """The network takes so long for each SMS."""
        await self._network.do(Slow(answer_delay_s=delay_s))

    async def alert(self, bulletin: Bulletin) -> None:
        """An alert reaches the node."""
        output = Output(names.BULLETIN, bulletin.lane, bulletin, bulletin.key)
        await self._node.bus.publish(output, "test")

    async def entries(self) -> Sequence[Entry]:
        """What the network saw."""
        return (await self._network.do(Log())).log or ()

    async def read(self, numbers: Sequence[str], count: int = 1) -> dict[str, list[str]]:
        """What each of these phones has read, once each has read so many texts."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                log = await self.entries()
                found = {
                    number: [e.text for e in log if e.what == "read" and e.number == number]
                    for number in numbers
                }
                if all(len(texts) >= count for texts in found.values()):
                    return found
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def scene(folder: Path, share: float = 0.5) -> AsyncIterator[Scene]:
    """The node, ready."""
    folder.mkdir(parents=True)  # noqa: ASYNC240  # once, before anything is measured
    device, control = folder / "modem", folder / "control"
    simulator = [sys.executable, "-m", "simulators.modem", "--link", str(device), "--control", str(control)]
    with _child(simulator, folder / "simulator.log"):
        async with asyncio.timeout(WITHIN_S):
            while not control.exists():  # a name in a directory
                await asyncio.sleep(0.02)
        tables = {"bulletin": tomllib.loads(PLACES_TOML)["bulletin"]}
        async with running_node(folder / "node", tables=tables) as node, Control(control) as network:
            path = folder / "evy.toml"
            path.write_text(
                f'[node]\nname = "{NODE}"\ndata_dir = "{folder}/node"\nnats_url = "{node.server.url}"\n'
                f'[sms]\ndevice = "{device}"\ndriver = "at"\n'
                f"[bulletin]\nshare = {share}\n{PLACES_TOML}",
                encoding="utf-8",
            )
            command = [sys.executable, "-m", "actors", "--config", str(path), "run"]
            with _child([*command, "sms"], folder / "sms.log"):
                actors = await build_actors(("intake", "route"), node.context)
                async with node.running(actors):
                    town = Scene(node, network, [*command, "bulletin"], folder / "bulletin.log")
                    try:
                        await _ready(node)
                        yield town
                    finally:
                        town.end()


async def _ready(node: Node) -> None:
    async with asyncio.timeout(WITHIN_S):
        rows = [registry.work(names.SMS_OUT), registry.work(names.BULLETIN)]
        while not await node.bus.has_workers(rows):
            await asyncio.sleep(0.02)


def alert(name: str, *, sent_at: float | None = None, hours: float = 3.0) -> Bulletin:
    """An alert of the vectors as if it had been sent now."""
    read = cap.read((FOLDER / f"{name}.xml").read_bytes())
    now = time.time() if sent_at is None else sent_at
    infos = tuple(msgspec.structs.replace(info, expires_at=now + hours * 3600) for info in read.infos)
    return msgspec.structs.replace(read, sent_at=float(int(now)), infos=infos)


class Ran(msgspec.Struct, frozen=True):
    """One run: seconds of each flash reply, seconds between alerts, and the order of what left."""

    flash_s: tuple[float, ...]
    alerts_s: float
    order: tuple[tuple[str, str], ...]


async def run(folder: Path, people: int, delay_s: float, every_s: float) -> Ran:
    """``people`` get two alerts each while an emergency is texted every ``every_s``."""
    async with scene(folder) as town:
        phones = [f"+1555100{n:04}" for n in range(people)]
        for number in phones:
            await town.text(number, "ALERTS Lakeside")
        await town.read(phones)
        await town.slow(delay_s)
        began = time.time()
        for name in ("power-outage", "flood", "tornado-same"):
            await town.alert(alert(name))
        callers: list[str] = []
        while True:
            callers.append(f"+1555200{len(callers):04}")
            await town.text(callers[-1], FLASH)
            await asyncio.sleep(every_s)
            log = await town.entries()
            if sum(e.what == "read" and e.number in phones for e in log) >= 4 * people:
                break
        await town.read(callers)
        log = await town.entries()
    flash = []
    for number in callers:
        sent = next(e.at for e in log if e.what == "sent" and e.number == number)
        left = next(e.at for e in log if e.what == "submitted" and e.number == number)
        flash.append(left - sent)
    told = [e for e in log if e.what == "read" and e.number in phones and e.at >= began]
    order = tuple((e.number, e.text) for e in told)
    return Ran(tuple(flash), (told[-1].at - told[0].at) / max(1, len(told) - 1), order)


def measure(setting: Setting) -> list[Row]:
    """Alerts to people beside emergencies that take half of the modem's time for themselves."""
    people, delay_s, every_s = setting.count(3, 1), 2.0, 12.0
    if setting.quick:
        delay_s, every_s = 0.5, 2.0
    folders = (setting.directory / f"bulletins-{turn}" for turn in range(min(setting.repeats, 3)))
    runs = [on_uvloop(run(folder, people, delay_s, every_s)) for folder in folders]
    figures = (
        Figure("flash reply p50", "s", tuple(percentile(ran.flash_s, 50) for ran in runs)),
        Figure("flash reply worst", "s", tuple(max(ran.flash_s) for ran in runs)),
        Figure("one alert text every", "s", tuple(ran.alerts_s for ran in runs)),
    )
    note = (
        f"{people} people, 3 alerts each of up to two SMS, the worst first; each SMS takes the network "
        f"{delay_s:g} s, an emergency comes every {every_s:g} s; until the first SMS of its reply left"
    )
    # The SMS under way must end, then the reply's own goes: twice the network's time, and a little.
    goals = (Goal("flash reply worst", 2 * delay_s + 1.5),)
    return [Row("bulletins", "public alerts beside emergencies, one modem", figures, goals, (note,))]
