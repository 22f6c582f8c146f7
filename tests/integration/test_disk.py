"""The simulated card as the kernel mounts it, under real system calls."""

import asyncio
import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from simulators.disk.client import MountedDisk, mounted, why_not
from simulators.disk.orders import Cut, Fail, Look, Room, Slow
from simulators.orders import give

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can be mounted")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[MountedDisk]:
    with mounted(tmp_path) as running:
        yield running


def write(path: Path, content: bytes, *, flags: int = 0, sync: bool = False) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o640)
    try:
        os.write(descriptor, content)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def test_a_power_cut_leaves_what_was_synced(disk: MountedDisk) -> None:
    write(disk.path / "kept", b"kept", sync=True)
    write(disk.path / "o_sync", b"kept too", flags=os.O_SYNC)
    write(disk.path / "kept", b" and lost", flags=os.O_APPEND)
    write(disk.path / "empty", b"name without data")
    sync_directory(disk.path)
    write(disk.path / "lost", b"lost")
    assert (disk.path / "kept").read_bytes() == b"kept and lost"
    assert disk.do(Look()).unsynced_files == 3

    state = disk.do(Cut())
    assert (state.unsynced_files, state.journal_entries, state.cuts) == (0, 0, 1)
    contents = {path.name: path.read_bytes() for path in disk.path.iterdir()}
    assert contents == {"kept": b"kept", "o_sync": b"kept too", "empty": b""}
    assert (disk.path / "kept").stat().st_mode & 0o777 == 0o640


def test_replacing_a_file_is_safe_only_with_its_directory_synced(disk: MountedDisk) -> None:
    target, fresh = disk.path / "state", disk.path / "state.tmp"
    for content, synced in ((b"one", True), (b"two", False), (b"three", True)):
        write(fresh, content, flags=os.O_TRUNC, sync=True)
        fresh.rename(target)
        if synced:
            sync_directory(disk.path)
        disk.do(Cut())
        assert target.read_bytes() == (content if synced else b"one")
        fresh.unlink(missing_ok=True)


def test_removing_becomes_durable_with_the_next_sync(disk: MountedDisk) -> None:
    (disk.path / "a" / "b").mkdir(parents=True)
    write(disk.path / "a" / "b" / "c", b"x", sync=True)
    for synced in (False, True):
        (disk.path / "a" / "b" / "c").unlink()
        (disk.path / "a" / "b").rmdir()
        if synced:
            sync_directory(disk.path)
        assert not (disk.path / "a" / "b").exists()
        disk.do(Cut())
        assert (disk.path / "a" / "b" / "c").exists() is not synced


def test_a_file_may_have_several_names(disk: MountedDisk) -> None:
    write(disk.path / "a", b"x", sync=True)
    (disk.path / "b").hardlink_to(disk.path / "a")
    (disk.path / "a").unlink()
    (disk.path / "c").hardlink_to(disk.path / "b")
    sync_directory(disk.path)
    disk.do(Cut())
    assert sorted(path.name for path in disk.path.iterdir()) == ["b", "c"]
    assert (disk.path / "b").samefile(disk.path / "c")
    assert (disk.path / "b").stat().st_nlink == 2
    (disk.path / "c").write_bytes(b"y")
    assert (disk.path / "b").read_bytes() == b"y"
    (disk.path / "b").unlink()
    disk.do(Cut())
    assert (disk.path / "b").read_bytes() == (disk.path / "c").read_bytes() == b"x"


def test_open_files_are_stale_after_a_cut(disk: MountedDisk) -> None:
    with (disk.path / "log").open("wb", buffering=0) as log:
        log.write(b"x")
        os.fsync(log.fileno())
        disk.do(Cut())
        with pytest.raises(OSError, match="Stale") as raised:
            log.write(b"y")
        assert raised.value.errno == errno.ESTALE
    assert (disk.path / "log").read_bytes() == b"x"


def test_programs_of_every_day_work_on_it(disk: MountedDisk) -> None:
    """Copying a tree, comparing it, renaming it, removing it; more than one write and one listing long."""
    here = Path(__file__).parents[2]
    (disk.path / "big").write_bytes(big := os.urandom(3_000_001))
    assert (disk.path / "big").read_bytes() == big
    for number in range(500):
        (disk.path / f"with a long name {number:0>100}").touch()
    assert len(list(disk.path.iterdir())) == 501
    for command in (
        ["cp", "-r", str(here / "subjects"), "copy"],
        ["diff", "-r", str(here / "subjects"), "copy"],
        ["mv", "copy", "moved"],
        ["rm", "-r", "moved"],
        ["df", "."],
    ):
        subprocess.run(command, cwd=disk.path, check=True, capture_output=True)
    assert not (disk.path / "moved").exists()


@pytest.mark.parametrize(("synchronous", "survivors"), [("FULL", 40), ("OFF", 0)])
def test_sqlite_keeps_what_it_committed_if_it_syncs(
    disk: MountedDisk, synchronous: str, survivors: int
) -> None:
    """WAL mode, as the node's databases use it, shared memory mapping included."""
    path = disk.path / "node.db"
    with closing(sqlite3.connect(path)) as setup:
        setup.execute("PRAGMA journal_mode=WAL")
        setup.execute("CREATE TABLE t (x INTEGER)")
        setup.commit()
    script = (
        "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute(sys.argv[2])\n"
        "for x in range(40):\n    c.execute('INSERT INTO t VALUES (?)', (x,))\n    c.commit()\n"
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", script, str(path), f"PRAGMA synchronous={synchronous}"]
    killed = subprocess.run(command, check=False)
    assert killed.returncode == -signal.SIGKILL
    disk.do(Cut())
    with closing(sqlite3.connect(path)) as after:
        assert after.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert after.execute("SELECT count(*) FROM t").fetchone() == (survivors,)


def test_a_full_card(disk: MountedDisk) -> None:
    assert disk.do(Room(octets=3 * 4096)).free_octets == 3 * 4096
    with pytest.raises(OSError, match="No space left") as raised:
        (disk.path / "big").write_bytes(b"x" * 100_000)
    assert raised.value.errno == errno.ENOSPC
    assert (disk.path / "big").stat().st_size == 3 * 4096
    assert os.statvfs(disk.path).f_bavail == 0
    (disk.path / "big").unlink()
    while not os.statvfs(disk.path).f_bavail:
        time.sleep(0.01)  # the kernel lets go of the file a moment later
    (disk.path / "small").write_bytes(b"x")
    disk.do(Room())
    (disk.path / "big").write_bytes(b"x" * 100_000)


def test_a_sync_that_fails_says_so_once(disk: MountedDisk) -> None:
    disk.do(Fail(syncs=1))
    with pytest.raises(OSError, match="Input/output error"):
        write(disk.path / "a", b"lost", sync=True)
    write(disk.path / "a", b"", sync=True)
    assert (disk.path / "a").read_bytes() == b"lost"
    disk.do(Cut())
    assert (disk.path / "a").read_bytes() == b""


async def test_a_slow_sync_holds_up_nobody_else(disk: MountedDisk) -> None:
    disk.do(Slow(sync_s=0.3))
    syncing = asyncio.create_task(asyncio.to_thread(write, disk.path / "a", b"x", sync=True))
    while disk.do(Look()).unsynced_files == 0:
        await asyncio.sleep(0.005)
    write(disk.path / "b", b"y")
    assert (disk.path / "b").read_bytes() == b"y"
    assert disk.do(Look()).syncs == 0
    await syncing
    assert disk.do(Look()).syncs == 1


async def test_a_sync_that_the_power_cut_interrupts_has_not_happened(disk: MountedDisk) -> None:
    disk.do(Slow(sync_s=0.3))
    syncing = asyncio.create_task(asyncio.to_thread(write, disk.path / "a", b"x", sync=True))
    while disk.do(Look()).unsynced_files == 0:
        await asyncio.sleep(0.005)
    disk.do(Cut())
    with pytest.raises(OSError, match="Input/output error"):
        await syncing
    assert not (disk.path / "a").exists()


async def test_bad_orders_are_refused_with_a_reason(disk: MountedDisk) -> None:
    async def order(text: str) -> str:
        reply: dict[str, str] = json.loads(await give(disk.control, text))
        return reply.get("error", "")

    assert "explode" in await order('{"do": "explode"}')
    assert await order("nonsense")
    assert "octets" in await order('{"do": "room", "octets": -1}')
    assert await order('{"do": "cut", "seed": 1}') == ""
    with pytest.raises(ValueError, match="sync_s"):
        disk.do(Slow(sync_s=-1))
    write(disk.path / "still here", b"", sync=True)


def test_an_orderly_end_keeps_everything_and_leaves_no_mount(tmp_path: Path) -> None:
    with mounted(tmp_path) as disk:
        write(disk.path / "a", b"not synced")
        open_file = os.open(disk.path / "a", os.O_RDONLY)
    with pytest.raises(OSError, match="not connected"):
        os.read(open_file, 1)
    with pytest.raises(OSError, match="not connected"):
        os.close(open_file)
    assert (tmp_path / "card" / "a").read_bytes() == b"not synced"
    assert list(disk.path.iterdir()) == []
    with mounted(tmp_path) as disk:
        assert (disk.path / "a").read_bytes() == b"not synced"


def test_it_says_why_it_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "simulators.disk", str(tmp_path / "file"), "--backing", str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "is a file" in done.stderr


def test_it_goes_with_its_parent(tmp_path: Path) -> None:
    """A test run that is killed leaves no mount behind."""
    script = (
        "import sys, os, signal; from pathlib import Path; from simulators.disk.client import mounted\n"
        "with mounted(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    until = time.monotonic() + 20
    while os.path.ismount(tmp_path / "disk"):
        assert time.monotonic() < until
        time.sleep(0.02)
