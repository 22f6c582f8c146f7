"""`evy up`: the server and the actors as child processes; what dies is started again, Ctrl-C stops all.

The children die with the supervisor, even when it is killed with -9 (Linux parent-death signal), so no
second start meets the leftovers of the first.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from subjects.errors import ConfigError

log = logging.getLogger("evy.up")

RESTART_WAIT_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Waits before a child that died is started again; the last one repeats."""
STEADY_AFTER_S: Final = 60.0
"""A child that lived so long starts again without a wait."""
STOP_WITHIN_S: Final = 15.0
"""Time for handlers to finish after SIGTERM, then SIGKILL."""

_PR_SET_PDEATHSIG: Final = 1


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def nats_server_path() -> str:
    """The nats-server binary: ``EVY_NATS_SERVER``, beside this Python, or on PATH.

    Raises :class:`ConfigError` when there is none.
    """
    named = os.environ.get("EVY_NATS_SERVER")
    if named and not os.access(named, os.X_OK):
        raise ConfigError(f"EVY_NATS_SERVER={named} is not a program")
    beside = Path(sys.executable).with_name("nats-server")
    found = named or (str(beside) if beside.exists() else None) or shutil.which("nats-server")
    if not found:
        raise ConfigError("no nats-server: run `make setup`, or name one in EVY_NATS_SERVER")
    return found


def nats_configuration(profile: str = "lilevy") -> Path:
    """The shipped server configuration of a profile."""
    return Path(__file__).resolve().parents[2] / "nats" / f"{profile}.conf"


def nats_environment(node: str, port: int, store: Path, monitor_port: int = -1) -> dict[str, str]:
    """Variables that the shipped files of one server read, quoted for NATS's configuration language.

    ``monitor_port`` -1 is any free one. The store is not encrypted: that takes `evy nats init`.
    """
    return {
        "EVY_NODE": node,
        "EVY_NATS_PORT": str(port),
        "EVY_STORE": f'"{store}"',
        "EVY_STORE_KEY": '""',
        "EVY_MONITOR": f'"127.0.0.1:{monitor_port}"',
    }


def port_is_free(port: int) -> bool:
    """Whether a server can listen on the loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def any_free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class DirectoryLock:
    """Held by the one `evy up` of a data directory; the kernel releases it when the process ends."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / "up.lock").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise ConfigError(
                f"another `evy up` runs on {directory}; stop it, or give this node its own [node] data_dir"
            ) from error
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    @staticmethod
    def holder(directory: Path) -> int | None:
        """Process that runs the node of a data directory now; None when none does. Looks without locking, or
        a start at that very moment would be refused."""
        try:
            pid = int((directory / "up.lock").read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if b"up" in words else None

    def release(self) -> None:
        """Lets the next one start."""
        self._file.close()


class Child:
    """One supervised process; ``log_file`` takes its output instead of ours.

    ``prepare`` is called before each start. ``watch`` runs beside it and returns, with the reason, when it
    must be started again though it lives.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log_file: Path | None = None,
        *,
        watch: Callable[[], Awaitable[str]] | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.log_file = log_file
        self.watch = watch
        self.prepare = prepare
        self.command = command
        self.environment = {**os.environ, **environment}
        self.process: asyncio.subprocess.Process | None = None
        self.restarts = 0

    async def keep(self, stop: asyncio.Event) -> None:
        """Runs the process and starts it again whenever it ends, until ``stop``."""
        deaths = 0
        while not stop.is_set():
            started = time.monotonic()
            if self.prepare:
                self.prepare()
            with contextlib.ExitStack() as files:
                output = files.enter_context(self.log_file.open("ab")) if self.log_file else None
                self.process = await asyncio.create_subprocess_exec(
                    *self.command,
                    env=self.environment,
                    start_new_session=True,
                    preexec_fn=_die_with_parent,
                    stdout=output,
                    stderr=output,
                )
            log.info("%s started (pid %d)", self.name, self.process.pid)
            watching = asyncio.create_task(self._watch(self.watch)) if self.watch else None
            code = await self.process.wait()
            if watching:
                watching.cancel()
            if stop.is_set():
                return
            deaths = 0 if time.monotonic() - started > STEADY_AFTER_S else deaths + 1
            wait_s = RESTART_WAIT_S[min(deaths, len(RESTART_WAIT_S) - 1)]
            self.restarts += 1
            level = logging.ERROR if code else logging.INFO  # 0: it asks for it, such as for new texts
            log.log(level, "%s ended (%s); starting it again in %.1f s", self.name, _how(code), wait_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait_s)

    async def _watch(self, watch: Callable[[], Awaitable[str]]) -> None:
        reason = await watch()
        log.error("%s must be started again: %s", self.name, reason)
        if self.process:
            # Not asked to stop: it would write down what it has in memory, which is not what is on the card.
            self.process.kill()

    async def end(self) -> None:
        """SIGTERM, then SIGKILL after :data:`STOP_WITHIN_S`."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_WITHIN_S)
        except TimeoutError:
            log.error("%s did not stop within %.0f s: killed", self.name, STOP_WITHIN_S)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _how(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


async def supervise(server: Child | None, actors: Sequence[Child], stop: asyncio.Event) -> None:
    """Keeps ``server`` and ``actors`` running until ``stop``; stops the actors first, the server last."""
    server_stop, actors_stop = asyncio.Event(), asyncio.Event()
    keepers = [asyncio.create_task(child.keep(actors_stop)) for child in actors]
    server_keeper = asyncio.create_task(server.keep(server_stop)) if server else None
    await stop.wait()
    actors_stop.set()
    await asyncio.gather(*(child.end() for child in actors))
    await asyncio.gather(*keepers)
    if server and server_keeper:
        server_stop.set()
        await server.end()
        await server_keeper
