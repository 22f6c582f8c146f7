"""Servers on the loopback: programs with a directory of their own, ended with everything they started."""

import asyncio
import contextlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from tests.bench.rows import SkippedError


def installed(program: str, *places: str) -> str:
    """Path of a program: in ``places`` first, and where Debian keeps what is not on everybody's PATH.

    Raises :class:`SkippedError` when it is absent.
    """
    found = shutil.which(program, path=os.pathsep.join([*places, os.environ.get("PATH", ""), "/usr/sbin"]))
    if not found:
        raise SkippedError(f"{program} is not installed: make setup-ops")
    return found


def own_name() -> str:
    """The user that runs this: servers that would change to a user of their own are told to stay."""
    return pwd.getpwuid(os.getuid()).pw_name


@contextlib.contextmanager
def running(
    command: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None
) -> Iterator[psutil.Process]:
    """A server with ``directory`` for its log; its output goes there too."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "log").open("ab") as log:
        server = subprocess.Popen(
            command, cwd=directory, env={**os.environ, **(environment or {})}, stdout=log, stderr=log
        )
    process = psutil.Process(server.pid)
    try:
        yield process
    finally:
        together = [process, *process.children(recursive=True)] if process.is_running() else []
        server.terminate()
        _, alive = psutil.wait_procs(together, timeout=20)
        for each in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        server.wait()


async def listening(port: int, process: psutil.Process, directory: Path) -> None:
    """Waits until the server listens. Raises RuntimeError with the end of its log when it died."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                raise RuntimeError(
                    f"{process} ended: {(directory / 'log').read_text(errors='replace')[-1000:]}"
                )
            await asyncio.sleep(0.05)
