"""Receive and reply on one simulated modem line: EVY with either driver, and gateways of others.

EVY's figures are of the real `sms` actor in a process of its own on a real nats-server, its ledger and its
synchronous writes included, with a handler in between that answers at once. The others keep texts in files;
a reply is written as soon as its text is there. Whatever sends through libgammu waits half a second for each
text inside it. Synchronous writes are counted by strace in a run of their own, which is not timed.
"""

import asyncio
import contextlib
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import msgspec
import psutil

from actors._runtime.actor import Actor, Output
from simulators.control import Control, Log, Send
from subjects import names, registry
from subjects.messages import InboundSms, OutboundSms
from tests.bench.node import on_uvloop, running_node
from tests.bench.rows import Figure, Goal, Row, Setting, SkippedError
from tests.bench.writes import SYNCHRONOUS_CALLS, strace, synchronous
from tests.conftest import NODE

REPLY: Final = "Boil it for one minute."
WITHIN_S: Final = 120.0

Contender = Callable[[Path, Path, Sequence[str]], AbstractAsyncContextManager[Mapping[str, int]]]
"""Runs a gateway on a line, in a folder of its own, that answers every text with :data:`REPLY`; gives its
processes. The command at the end runs what stores texts, such as strace."""


class Ran(msgspec.Struct, frozen=True):
    """One run: texts per second when all come at once, milliseconds of each when they come alone, and the
    resident memory of each process, in megabytes, when all are answered."""

    rate: float
    alone_ms: tuple[float, ...]
    memory_mb: Mapping[str, float]
    began: float
    ended: float
    """Unix times of the first text of those that came at once, and of the last reply."""


@contextlib.contextmanager
def _child(arguments: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def evy(driver: str) -> Contender:
    """EVY with one of its drivers."""

    @contextlib.asynccontextmanager
    async def run(folder: Path, device: Path, under: Sequence[str]) -> AsyncIterator[Mapping[str, int]]:
        async def answer(text: InboundSms) -> list[Output]:
            reply = OutboundSms(
                query_id=text.id,
                node=text.node,
                text=REPLY,
                lang="en",
                lane=text.lane,
                step="verbatim",
                number=text.sender,
            )
            return [Output(names.SMS_OUT, text.lane, reply, text.id)]

        async with running_node(folder / "node", under) as node:
            path = folder / "evy.toml"
            path.write_text(
                f'[node]\nname = "{NODE}"\ndata_dir = "{folder}/node"\nnats_url = "{node.server.url}"\n'
                f'[sms]\ndevice = "{device}"\ndriver = "{driver}"\nconnection = "dku2at"\n',
                encoding="utf-8",
            )
            command = [sys.executable, "-m", "actors", "--config", str(path), "run", "sms"]
            with _child(command, folder / "sms.log") as process:
                async with node.running([Actor("intake", {names.SMS_IN: answer})]):
                    async with asyncio.timeout(WITHIN_S):
                        while not await node.bus.has_workers([registry.work(names.SMS_OUT)]):
                            await asyncio.sleep(0.05)
                    assert node.server.process is not None
                    yield {"sms": process.pid, "nats-server": node.server.process.pid}

    return run


@contextlib.asynccontextmanager
async def gammu_smsd(folder: Path, device: Path, under: Sequence[str]) -> AsyncIterator[Mapping[str, int]]:
    """gammu-smsd without waits and without checks, its files answered as they appear."""
    inbox, outbox = folder / "inbox", folder / "outbox"
    for name in ("inbox", "outbox", "sent", "error"):
        (folder / name).mkdir()
    configuration = folder / "smsdrc"
    configuration.write_text(
        f"[gammu]\ndevice={device}\nconnection=dku2at\n"
        "[smsd]\nservice=files\nlogfile=stderr\ndebuglevel=0\nloopsleep=0\nreceivefrequency=0\ncommtimeout=0\nstatusfrequency=0\n"
        "checksecurity=0\ncheckbattery=0\nchecksignal=0\nchecknetwork=0\nmultiparttimeout=0\n"
        f"inboxpath={inbox}/\noutboxpath={outbox}/\nsentsmspath={folder}/sent/\nerrorsmspath={folder}/error/\n",
        encoding="utf-8",
    )

    def reply() -> None:
        for file in inbox.glob("IN*.txt"):
            number = file.name.split("_")[3]
            draft = folder / f"{number}.draft"
            draft.write_text(REPLY, encoding="utf-8")
            draft.rename(outbox / f"OUT{number}.txt")
            file.unlink()

    async with _answering([*under, "gammu-smsd", "-c", str(configuration)], folder, reply) as pid:
        yield {"gammu-smsd": pid}


@contextlib.asynccontextmanager
async def smstools(folder: Path, device: Path, under: Sequence[str]) -> AsyncIterator[Mapping[str, int]]:
    """smsd of smstools 3 with its shortest waits, its files answered as they appear."""
    incoming, outgoing = folder / "incoming", folder / "outgoing"
    for name in ("incoming", "outgoing", "checked", "sent", "failed"):
        (folder / name).mkdir()
    configuration = folder / "smsd.conf"
    configuration.write_text(
        f"devices = GSM1\nlogfile = {folder}/smsd.log\nloglevel = 3\ninfofile = {folder}/smsd.working\n"
        f"pidfile = {folder}/smsd.pid\nincoming = {incoming}\noutgoing = {outgoing}\n"
        f"checked = {folder}/checked\nsent = {folder}/sent\nfailed = {folder}/failed\n"
        "delaytime = 1\nreceive_before_send = no\nautosplit = 0\n"
        f"[GSM1]\ndevice = {device}\nincoming = yes\nbaudrate = 115200\npin = ignore\n"
        "check_network = 0\ninit = AT\n",
        encoding="utf-8",
    )

    def reply() -> None:
        for file in incoming.iterdir():
            head = file.read_text(encoding="latin-1")
            number = head.partition("From: ")[2].split("\n", 1)[0].strip()
            if number:
                draft = folder / f"{number}.draft"
                draft.write_text(f"To: {number}\n\n{REPLY}", encoding="utf-8")
                draft.rename(outgoing / number)
                file.unlink()

    async with _answering([*under, "smsd", "-t", "-c", str(configuration)], folder, reply) as pid:
        yield {"smsd": pid}


@contextlib.asynccontextmanager
async def _answering(command: Sequence[str], folder: Path, reply: Callable[[], None]) -> AsyncIterator[int]:
    async def answer() -> None:
        while True:
            reply()
            await asyncio.sleep(0.005)

    with _child(command, folder / "log") as process:
        answering = asyncio.create_task(answer())
        try:
            yield process.pid
        finally:
            answering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await answering


CONTENDERS: Final[dict[str, tuple[str, Contender, str]]] = {
    "direct": ("EVY, direct driver", evy("at"), ""),
    "gammu": ("EVY on Gammu", evy("gammu"), ""),
    "gammu-smsd": ("gammu-smsd, LoopSleep 0, files", gammu_smsd, "gammu-smsd"),
    "smstools": ("smstools' smsd, files", smstools, "smsd"),
}
"""Name → what, how it runs, and the program it needs."""


def _memory_mb(pid: int) -> float:
    """Of a process and those it has started."""
    process = psutil.Process(pid)
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True))) / 1e6


async def _run(
    folder: Path, contender: Contender, together: int, alone: int, under: Sequence[str] = ()
) -> Ran:
    folder.mkdir(parents=True)  # noqa: ASYNC240  # once, before anything is measured
    device, control = folder / "modem", folder / "control"
    simulator = [sys.executable, "-m", "simulators.modem", "--link", str(device), "--control", str(control)]
    with _child(simulator, folder / "simulator.log"):
        async with asyncio.timeout(WITHIN_S):
            while not control.exists():
                await asyncio.sleep(0.05)
        async with contender(folder, device, under) as pids, Control(control) as network:
            alone_ms = []
            for n in range(alone + 1):
                number = f"+1555{n:07}"
                await network.do(Send(number=number, text="how do i make river water safe"))
                sent, replied = await _answered(network, [number])
                alone_ms.append((replied - sent) * 1000)
            numbers = [f"+1556{n:07}" for n in range(together)]
            for number in numbers:
                await network.do(Send(number=number, text="how do i make river water safe"))
            sent, replied = await _answered(network, numbers)
            memory_mb = {name: _memory_mb(pid) for name, pid in pids.items()}
    # The first that came alone found the gateway starting.
    return Ran(together / (replied - sent), tuple(alone_ms[1:]), memory_mb, sent, replied)


def _writes(folder: Path, contender: Contender, count: int) -> float:
    """Synchronous writes per text. Raises :class:`SkippedError` where there is no strace."""
    trace = folder.with_suffix(".strace")
    under = strace("-y", "-ttt", "-o", str(trace), "--seccomp-bpf", "-e", SYNCHRONOUS_CALLS)
    ran = on_uvloop(_run(folder, contender, count, 1, under))
    return sum(1 for _ in synchronous(trace, ran.began, ran.ended + 1)) / count


async def _answered(network: Control, numbers: Sequence[str]) -> tuple[float, float]:
    """When the first of these texts was sent and the last one answered, once all are."""
    wanted = set(numbers)
    until = time.monotonic() + WITHIN_S
    while time.monotonic() < until:
        log = (await network.do(Log())).log or ()
        submitted = {entry.number: entry.at for entry in log if entry.what == "submitted"}
        if wanted <= submitted.keys():
            sent = min(entry.at for entry in log if entry.what == "sent" and entry.number in wanted)
            return sent, max(submitted[number] for number in wanted)
        await asyncio.sleep(0.02)
    raise SkippedError(f"not all of {len(wanted)} texts were answered within {WITHIN_S:.0f} s")


def measure(setting: Setting) -> list[Row]:
    """All contenders in turn, so that they meet the same load of the machine."""
    together, alone = setting.count(60, 4), setting.count(10, 1)
    runs: dict[str, list[Ran]] = {name: [] for name in CONTENDERS}
    writes: dict[str, float] = {}
    skipped: dict[str, str] = {}
    for turn in range(min(setting.repeats, 3)):
        for name, (_, contender, program) in CONTENDERS.items():
            if name in skipped:
                continue
            if program and shutil.which(program) is None:
                skipped[name] = f"no {program}: `make setup-ops` installs it"
                continue
            try:
                folder = setting.directory / f"line-{name}-{turn}"
                runs[name].append(on_uvloop(_run(folder, contender, together, alone)))
            except SkippedError as error:
                skipped[name] = str(error)
    for name, (_, contender, _) in CONTENDERS.items():
        if name not in skipped and (name == "direct" or not setting.quick):
            with contextlib.suppress(SkippedError):
                folder = setting.directory / f"line-{name}-writes"
                writes[name] = _writes(folder, contender, setting.count(20, 2))
    others = runs["gammu-smsd"]
    return [
        _row(name, runs[name], others, skipped.get(name, ""), together, writes.get(name))
        for name in CONTENDERS
    ]


def _row(  # noqa: PLR0917  # all there is to know of one contender
    name: str, runs: Sequence[Ran], others: Sequence[Ran], skipped: str, together: int, writes: float | None
) -> Row:
    what = f"modem line: receive and reply, {CONTENDERS[name][0]}"
    if skipped:
        return Row(f"line-{name}", what, skipped=skipped)
    figures = [
        Figure("rate", "texts/s", tuple(run.rate for run in runs)),
        Figure("alone", "ms", tuple(statistics.median(run.alone_ms) for run in runs)),
    ]
    figures += [
        Figure(process, "MB", tuple(run.memory_mb[process] for run in runs)) for process in runs[0].memory_mb
    ]
    if writes is not None:
        figures.append(Figure("fsync", "per text", (writes,)))
    goals: tuple[Goal, ...] = ()
    if name in {"direct", "gammu"} and others:
        ratios = (ours.rate / theirs.rate for ours, theirs in zip(runs, others, strict=False))
        figures.append(Figure("ratio", "of gammu-smsd", tuple(ratios)))
        goals = (Goal("ratio", 5 if name == "direct" else 1, at_least=True),)
    notes = (f"{together} texts at once; a network of no delay and a line of no speed limit",)
    return Row(f"line-{name}", what, tuple(figures), goals, notes)
