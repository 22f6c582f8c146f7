"""What the machine tells of itself: processor, memory, temperature, a Pi's flags, room on the disk.

Everything is read where it exists; what does not exist on a machine is None.
"""

import contextlib
import shutil
from pathlib import Path
from typing import Final

import msgspec
import psutil

THROTTLED: Final = "devices/platform/soc/soc:firmware/get_throttled"
"""Where the Raspberry Pi's firmware shows its flags, beneath /sys; hexadecimal."""
_UNDER_VOLTAGE: Final = 1 << 0
_CAPPED, _SLOWED, _SOFT_LIMIT = 1 << 1, 1 << 2, 1 << 3
"""Bits of the flags, Raspberry Pi documentation, `vcgencmd get_throttled`; from bit 16 on: since boot."""


class Board(msgspec.Struct, frozen=True):
    """One look at the machine; None is unknown."""

    cpu_percent: float | None = None
    memory_free_octets: int | None = None
    temperature_c: float | None = None
    under_voltage: bool | None = None
    throttled: bool | None = None
    storage_free_octets: int | None = None


def look(sys: Path, data: Path) -> Board:
    """Looks at the machine once. ``cpu_percent`` is since the last look in this process."""
    flags = throttled_flags(sys)
    storage = None
    with contextlib.suppress(OSError):
        storage = shutil.disk_usage(data).free
    return Board(
        cpu_percent=psutil.cpu_percent(interval=None),
        memory_free_octets=psutil.virtual_memory().available,
        temperature_c=temperature_c(sys),
        under_voltage=None if flags is None else bool(flags & _UNDER_VOLTAGE),
        throttled=None if flags is None else bool(flags & (_CAPPED | _SLOWED | _SOFT_LIMIT)),
        storage_free_octets=storage,
    )


def throttled_flags(sys: Path) -> int | None:
    """The firmware's flags; None on a machine that has none."""
    try:
        return int((sys / THROTTLED).read_text(encoding="ascii").strip().removeprefix("throttled="), 16)
    except (OSError, ValueError):
        return None


def temperature_c(sys: Path) -> float | None:
    """The hottest zone of the processor; kernel's Documentation/driver-api/thermal/sysfs-api, m°C."""
    found = []
    for zone in (sys / "class" / "thermal").glob("thermal_zone*"):
        with contextlib.suppress(OSError, ValueError):
            celsius = int((zone / "temp").read_text(encoding="ascii")) / 1000
            if -40 < celsius < 150:  # a sensor that is off says 0 K or nonsense
                found.append(celsius)
    return max(found, default=None)
