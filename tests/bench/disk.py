"""What the disk takes to make one small write safe: the physical limit of everything that is durable."""

import os
import time

from tests.bench.rows import Row, Setting, spread

WRITE_OCTETS = 512
"""About one stored message."""


def filesystem(setting: Setting) -> str:
    """Type of the file system under the measured directory, from /proc/mounts."""
    directory = setting.directory.resolve()
    best = ("", "unknown")
    with open("/proc/mounts", encoding="utf-8") as mounts:  # noqa: PTH123  # a table of the kernel, no file
        for line in mounts:
            _, place, kind, *_ = line.split()
            if directory.is_relative_to(place) and len(place) >= len(best[0]):
                best = (place, kind)
    return best[1]


def measure(setting: Setting) -> list[Row]:
    """fsync after each of many small appends to one file."""
    runs = []
    for _ in range(setting.repeats):
        path = setting.directory / "fsync"
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        times = []
        try:
            for _ in range(setting.count(500, 50)):
                os.write(descriptor, bytes(WRITE_OCTETS))
                started = time.perf_counter()
                os.fsync(descriptor)
                times.append((time.perf_counter() - started) * 1000)
        finally:
            os.close(descriptor)
            path.unlink()
        runs.append(times)
    kind = filesystem(setting)
    notes = [f"file system {kind}"]
    if kind in {"tmpfs", "ramfs"}:
        notes.append("this is memory, not a disk: every durable figure is too good; use --dir")
    return [Row("disk", "one fsync of this disk (context)", spread(runs, "ms"), notes=tuple(notes))]
