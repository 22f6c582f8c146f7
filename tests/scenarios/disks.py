"""A small disk of its own for a store, so that it can be full. Root only."""

import contextlib
import functools
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.scenarios.hosts import started

_OURS: Final = re.compile(r"evy-disk-(\d+)-(\d+)")
PIECE_OCTETS: Final = 1 << 16


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


@functools.cache
def why_not() -> str:
    """Why no disk can be made here; empty when it can. Tried, not assumed."""
    try:
        with small_disk(1 << 20):
            return ""
    except OSError as error:
        return f"no disk can be mounted here: {error}"


@contextlib.contextmanager
def small_disk(octets: int) -> Iterator[Path]:
    """A place with a file system of so many octets, in memory; gone at the end."""
    _purge()
    place = Path(tempfile.mkdtemp(prefix="evy-disk-"))
    source = f"evy-disk-{os.getpid()}-{started(os.getpid())}"
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={octets}", source, str(place))
        try:
            yield place
        finally:
            _run("umount", "--lazy", str(place))
    finally:
        place.rmdir()


def _purge() -> None:
    """Removes the disks of runs that are no more."""
    for line in Path("/proc/mounts").read_text().splitlines():
        source, place = line.split()[:2]
        if ours := _OURS.fullmatch(source):
            try:
                alive = started(int(ours[1])) == ours[2]
            except FileNotFoundError:
                alive = False
            if not alive:
                _run("umount", "--lazy", place)
                Path(place).rmdir()


def fill(disk: Path) -> Path:
    """Writes until no octet is left, and gives the file to remove."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(PIECE_OCTETS)):
            pass
    return path
