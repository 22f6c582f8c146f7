"""The supervisor with real processes: restart what dies, stop all, leave nothing behind."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from actors._runtime.supervisor import Child, DirectoryLock, supervise
from subjects.errors import ConfigError

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


async def pid_of(child: Child, other_than: int = 0) -> int:
    async with asyncio.timeout(10):
        while child.process is None or child.process.pid == other_than:
            await asyncio.sleep(0.02)
    return child.process.pid


async def test_a_killed_child_is_started_again_and_all_end_on_stop() -> None:
    stop = asyncio.Event()
    child, server = Child("sleeper", SLEEPER, {}), Child("server", SLEEPER, {})
    task = asyncio.create_task(supervise(server, [child], stop))
    first = await pid_of(child)
    os.kill(first, signal.SIGKILL)
    second = await pid_of(child, other_than=first)
    assert child.restarts == 1
    stop.set()
    await asyncio.wait_for(task, 10)
    assert not psutil.pid_exists(second)
    assert server.process is not None
    assert not psutil.pid_exists(server.process.pid)


async def test_a_child_that_its_watch_gives_up_is_killed_and_started_again() -> None:
    """Killed, not asked to end: a server that cannot write must not write down what it believes."""
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    stop, sick = asyncio.Event(), asyncio.Event()

    async def watch() -> str:
        await sick.wait()
        sick.clear()
        return "it cannot write"

    child = Child("server", [sys.executable, "-c", stubborn], {}, watch=watch)
    task = asyncio.create_task(child.keep(stop))
    first = await pid_of(child)
    sick.set()
    second = await pid_of(child, other_than=first)
    assert not psutil.pid_exists(first)
    stop.set()
    os.kill(second, signal.SIGKILL)
    await asyncio.wait_for(task, 10)
    assert child.restarts == 1


def test_children_die_with_a_killed_supervisor() -> None:
    program = textwrap.dedent("""
        import asyncio, sys
        from actors._runtime.supervisor import Child, supervise
        child = Child("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"], {})
        async def main():
            task = asyncio.create_task(supervise(None, [child], asyncio.Event()))
            while child.process is None:
                await asyncio.sleep(0.01)
            print(child.process.pid, flush=True)
            await task
        asyncio.run(main())
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        child = psutil.Process(int(supervisor.stdout.readline()))
        supervisor.kill()
        gone, alive = psutil.wait_procs([child], timeout=10)
    assert gone
    assert not alive


def test_one_node_per_data_directory(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    with pytest.raises(ConfigError, match="another `evy up` runs on"):
        DirectoryLock(tmp_path)
    lock.release()
    DirectoryLock(tmp_path).release()
