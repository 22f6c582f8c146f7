"""What of a text goes to the disk synchronously, seen from the kernel by strace, and what that means on a
slow card.

nats-server with ``sync_interval: always`` calls fsync on the block of a stream after each message, and keeps
the state of each durable in a file that it opens with O_SYNC, renames, and whose folder it then fsyncs.
"""

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.bench import flow, rate
from tests.bench.node import on_uvloop
from tests.bench.rows import Figure, Goal, Row, Setting, SkippedError

SLOW_MS: Final = 20
"""One fsync of a worn microSD card."""

SYNCHRONOUS_CALLS: Final = "trace=openat,write,pwrite64,fsync,fdatasync"
"""What strace must see for :func:`synchronous`."""

_FD_CALL = re.compile(r"\d+ +(?P<at>[0-9.]+) (?P<call>write|pwrite64|fsync|fdatasync)\(\d+<(?P<path>[^>]*)>")
_OPEN_SYNC = re.compile(r'\d+ +[0-9.]+ openat\([^"]*"(?P<path>[^"]*)", [A-Z_|]*O_D?SYNC')
_KINDS: Final = (
    ("durables' state", re.compile(r"/obs/")),
    ("key-value", re.compile(r"/KV_")),
    ("work messages", re.compile(r"/(FLASH|WORK)_")),
)


def strace(*options: str) -> tuple[str, ...]:
    """A command that traces the server it starts. Raises :class:`SkippedError` where there is no strace."""
    if shutil.which("strace") is None:
        raise SkippedError("strace is not installed (apt-get install strace)")
    # -D: the server stays our own child, so that it is stopped like any other.
    return ("strace", "-D", "-f", "-qq", *options)


def synchronous(trace: Path, since: float, until: float) -> Iterator[str]:
    """Path of each synchronous write between two Unix times: fsync, fdatasync, write to an O_SYNC file."""
    always: set[str] = set()
    with trace.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if opened := _OPEN_SYNC.match(line):
                always.add(opened["path"])
            call = _FD_CALL.match(line)
            if call is None or not since <= float(call["at"]) <= until:
                continue
            if call["call"] in {"fsync", "fdatasync"} or call["path"] in always:
                yield call["path"]


def kind_of(path: str) -> str:
    """What a synchronous write keeps safe."""
    return next((kind for kind, pattern in _KINDS if pattern.search(path)), "other")


def measure(setting: Setting) -> list[Row]:
    """Synchronous writes per text, one text at a time."""
    count = setting.count(20, 5)
    rows = []
    for name, texts in (("emergency", flow.emergencies()), ("question", list(flow.questions()))):
        trace = setting.directory / f"{name}.strace"
        under = strace("-y", "-ttt", "-o", str(trace), "--seccomp-bpf", "-e", SYNCHRONOUS_CALLS)
        flowed = flow.singly(setting.directory / f"writes-{name}", list(flow.from_many(texts, count)), under)
        started, ended, _ = on_uvloop(flowed)
        found = Counter(map(kind_of, synchronous(trace, started, ended)))
        total = sum(found.values()) / count
        shares = ", ".join(f"{number / count:.1f} {kind}" for kind, number in found.most_common())
        rows.append(
            Row(
                f"writes-{name}",
                f"synchronous writes of one {name}, reply handed to the modem",
                (Figure("fsync", "per text", (total,)),),
                notes=(f"counted by strace over {count} texts, one at a time: {shares}",),
            )
        )
    return rows


def slow_card(setting: Setting) -> list[Row]:
    """The bare chain and EVY with every fsync of the server delayed, by strace, in the kernel's exit."""
    if setting.quick:
        raise SkippedError("takes minutes; --quick leaves it out")
    count = 40
    delays = [f"inject={call}:delay_exit={SLOW_MS * 1000}" for call in ("fsync", "fdatasync", "renameat")]
    options = [part for delay in delays for part in ("-e", delay)]
    # A renameat follows each O_SYNC write and stands in for it: the write itself looks like one to a socket.
    under = strace("--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fsync,fdatasync,renameat", *options)
    texts: Sequence[tuple[str, str]] = list(flow.from_many(list(flow.questions()), count))
    chain_rates, evy_rates = [], []
    for turn in range(min(setting.repeats, 2)):
        folder = setting.directory / f"slow-{turn}"
        chain_rates.append(on_uvloop(rate.bare(folder / "bare", count, under)).rate)
        passed = on_uvloop(rate.pass_through(folder / "evy", texts, retrieval=False, under=under))
        evy_rates.append(passed.rate)
    ratios = tuple(evy / bare for evy, bare in zip(evy_rates, chain_rates, strict=True))
    alone = list(flow.from_many(flow.emergencies(), 10))
    _, _, waits_ms = on_uvloop(flow.singly(setting.directory / "slow-emergency", alone, under))
    note = "strace delays each fsync and each O_SYNC write of the server; delays of different files overlap"
    return [
        Row(
            "slow-sustained",
            f"sustained at {SLOW_MS} ms per fsync: questions, as above",
            (
                Figure("chain", "texts/s", tuple(chain_rates)),
                Figure("rate", "texts/s", tuple(evy_rates)),
                Figure("ratio", "of the bare chain", ratios),
            ),
            (Goal("ratio", 0.6, at_least=True),),
            (note,),
        ),
        Row(
            "slow-emergency",
            f"emergency at {SLOW_MS} ms per fsync: received to handed to the modem",
            (Figure("slowest", "ms", (max(waits_ms),)),),
            (Goal("slowest", 5000),),
            (f"{len(alone)} emergencies, one at a time; the limit is the seed's 5 s",),
        ),
    ]
