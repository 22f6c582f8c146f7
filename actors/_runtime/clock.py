"""Clocks: what decides runs on the boot clock, which no network or battery can turn back."""

import time
from functools import cache
from pathlib import Path

from subjects.messages import Deadline


@cache
def boot_id() -> str:
    """Name of this boot of the kernel; boot clocks of different boots cannot be compared."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def boot_s() -> float:
    """Seconds since boot, suspended time included; the same for every process of the machine."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def deadline_in(seconds: float) -> Deadline:
    """Deadline ``seconds`` from now."""
    return Deadline(boot_id(), boot_s() + seconds)


def remaining_s(deadline: Deadline) -> float:
    """Seconds left until a deadline, 0 when it has passed or belongs to an earlier boot."""
    return deadline.remaining_s(boot_id(), boot_s())
