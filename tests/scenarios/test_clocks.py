"""The wall clock of one process jumps; the machine's, its monotonic clock and other processes stay."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from actors._runtime.bus import NatsBus
from tests.conftest import NODE, Server
from tests.scenarios.clocks import set_clock, why_not

ROOT = Path(__file__).parents[2]
HOUR_S = 3600
NEAR_S = 60
"""How far two readings of one clock may lie apart on a machine that is very busy."""

CLOCKS = """
import ctypes, sys, time
class Pair(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("rest", ctypes.c_long)]
libc, pair = ctypes.CDLL(None), Pair()
for _ in sys.stdin:
    libc.gettimeofday(ctypes.byref(pair), None)
    print(time.time(), libc.time(None), pair.seconds, time.monotonic(), flush=True)
"""


@pytest.fixture(autouse=True)
def _possible() -> None:
    if reason := why_not():
        pytest.skip(reason)


def read(process: "subprocess.Popen[str]") -> list[float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return [float(word) for word in process.stdout.readline().split()]


def clocks(*before: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*before, sys.executable, "-c", CLOCKS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def test_a_running_process_jumps_ahead_and_behind() -> None:
    with clocks() as process, clocks() as other:
        for ahead_s in (0, HOUR_S, -HOUR_S, 0):
            set_clock(process.pid, ahead_s)
            *wall, monotonic = read(process)
            now = time.time()
            assert all(abs(clock - now - ahead_s) < NEAR_S for clock in wall), (ahead_s, wall, now)
            assert abs(monotonic - time.monotonic()) < NEAR_S
            assert abs(read(other)[0] - now) < NEAR_S
        for one in (process, other):
            one.stdin.close()  # type: ignore[union-attr]
        assert process.wait(10) == 0


def test_a_process_starts_with_a_wrong_clock() -> None:
    with clocks(sys.executable, "-m", "tests.scenarios.clocks", str(-HOUR_S)) as process:
        assert abs(read(process)[0] - time.time() + HOUR_S) < NEAR_S
        set_clock(process.pid, 0)  # the network told it
        assert abs(read(process)[0] - time.time()) < NEAR_S
        process.stdin.close()  # type: ignore[union-attr]
        assert process.wait(10) == 0


@pytest.mark.nats
async def test_a_running_nats_server_jumps(server: Server, bus: NatsBus) -> None:
    assert server.process is not None
    stamps = []
    for ahead_s in (0, HOUR_S, -HOUR_S):
        set_clock(server.process.pid, ahead_s)
        ack = await bus.js.publish("evt.clock", b"", stream=f"EVT_{NODE}")
        message = await bus.js.get_msg(ack.stream, ack.seq)
        assert message.time is not None
        stamps.append(message.time.timestamp() - time.time() - ahead_s)
    assert all(abs(stamp) < NEAR_S for stamp in stamps), stamps


def test_a_process_that_is_gone_is_an_error() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(OSError, match="No such"):
        set_clock(process.pid, 1)
