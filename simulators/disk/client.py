"""A simulated card for a test: mounted in a process of its own while a block runs, and given orders."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from simulators.disk.orders import AnyOrder, Look, State

START_S: Final = 20.0
_PR_SET_PDEATHSIG: Final = 1


def why_not() -> str:
    """Why no card can be mounted here; empty when one can."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is not there or not ours"
    return "" if os.geteuid() == 0 else "mounting needs root"


class MountedDisk:
    """A mounted card: programs use ``path``, orders go to ``control``."""

    def __init__(self, path: Path, control: Path) -> None:
        self.path = path
        self.control = control

    def do(self, order: AnyOrder) -> State:
        """Gives an order. Raises ValueError with what the simulator objects to."""
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self.control))
            line.sendall(msgspec.json.encode(order) + b"\n")
            with line.makefile("rb") as replies:
                state = msgspec.json.decode(replies.readline(), type=State)
        if state.error:
            raise ValueError(state.error)
        return state


def _listens(disk: MountedDisk) -> bool:
    try:
        disk.do(Look())
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


def _end_with_parent() -> None:
    # SIGTERM, so that it unmounts.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def mounted(directory: Path, *options: str) -> Iterator[MountedDisk]:
    """Mounts a card at ``directory/disk`` while the block runs, on ``directory/card``; ``options`` are those
    of ``python -m simulators.disk``. Raises RuntimeError when it does not start."""
    disk = MountedDisk(directory / "disk", directory / "disk.control")
    command = [sys.executable, "-m", "simulators.disk", str(disk.path)]
    command += ["--backing", str(directory / "card"), "--control", str(disk.control), *options]
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=_end_with_parent)  # noqa: PLW1509  one thread
    try:
        until = time.monotonic() + START_S
        while not _listens(disk):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the simulated card did not start (exit code {process.poll()})")
            time.sleep(0.01)
        yield disk
    finally:
        process.terminate()
        process.wait(START_S)
