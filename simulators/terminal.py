"""The pseudo terminal that stands for a serial line.

The simulated device holds both ends open: a client may die, close and come back, and what the device says
meanwhile waits in the line.
"""

import asyncio
import contextlib
import logging
import os
import termios
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Final

log = logging.getLogger("simulators.terminal")

MAX_OUTGOING_OCTETS: Final = 256 * 1024
"""Twice the list of a full SIM of 255 slots; beyond it nobody reads."""

_BAUDS: Final = {
    getattr(termios, name): int(name[1:])
    for name in dir(termios)
    if name.startswith("B") and name[1:].isdecimal()
}
"""What termios calls a speed, in baud."""


class Terminal:
    """A terminal at ``link`` while it is open; ``take`` gets what a client writes."""

    def __init__(self, link: Path, take: Callable[[bytes], None]) -> None:
        self.link = link
        self._take = take
        self._ends: tuple[int, int] | None = None
        self._outgoing = bytearray()
        """What the line has no room for yet: a full SIM's list is longer than a pseudo terminal's buffer."""

    @property
    def is_open(self) -> bool:
        """Whether a client finds it."""
        return self._ends is not None

    @property
    def baud(self) -> int:
        """The speed a client has set; 0 when there is no terminal, or a speed without a number."""
        if self._ends is None:
            return 0
        return _BAUDS.get(termios.tcgetattr(self._ends[0])[5], 0)

    def open(self) -> None:
        """The terminal appears at ``link``."""
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        self._ends = (master, slave)
        asyncio.get_running_loop().add_reader(master, self._read)
        draft = self.link.with_name(f"{self.link.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        draft.symlink_to(os.ttyname(slave))
        draft.replace(self.link)
        log.info("device at %s -> %s", self.link, os.ttyname(slave))

    def close(self) -> None:
        """It hangs up and vanishes."""
        if self._ends is None:
            return
        master, slave = self._ends
        self._ends = None
        asyncio.get_running_loop().remove_reader(master)
        asyncio.get_running_loop().remove_writer(master)
        self._outgoing.clear()
        self.link.unlink(missing_ok=True)
        os.close(master)
        os.close(slave)

    def _read(self) -> None:
        if self._ends is None:
            return
        try:
            octets = os.read(self._ends[0], 4096)
        except (BlockingIOError, InterruptedError):
            return
        self._take(octets)

    def write(self, octets: bytes) -> None:
        """Says something to the client, now or as soon as it reads."""
        if self._ends is None:
            return
        if len(self._outgoing) + len(octets) > MAX_OUTGOING_OCTETS:
            log.warning("nobody reads the line: %d octets lost", len(octets))
            return
        self._outgoing += octets
        self._drain()

    def _drain(self) -> None:
        """Writes what the line takes now, and the rest as soon as it takes more."""
        if self._ends is None:
            return
        with contextlib.suppress(BlockingIOError):
            while self._outgoing:
                del self._outgoing[: os.write(self._ends[0], self._outgoing)]
        loop = asyncio.get_running_loop()
        if self._outgoing:
            loop.add_writer(self._ends[0], self._drain)
        else:
            loop.remove_writer(self._ends[0])
