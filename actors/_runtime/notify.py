"""Telling systemd: ready, still well, stopping. sd_notify(3), over its socket and without its library."""

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Final

VARIABLE: Final = "NOTIFY_SOCKET"
WITHIN_S: Final = 1.0
"""A queue of systemd's that is full for so long is not read at all."""


class Notify:
    """The service manager's socket; without one nothing is sent."""

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_s = watchdog_s
        """Without a WATCHDOG=1 for so long it starts us again; 0: it does not watch."""

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> "Notify":
        """The one that systemd named to this process, and not to its children or an ancestor."""
        if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
            return cls(environment.get(VARIABLE, ""))
        usec = environment.get("WATCHDOG_USEC", "0")
        return cls(environment.get(VARIABLE, ""), int(usec) / 1e6 if usec.isdigit() else 0.0)

    def tell(self, *lines: str) -> bool:
        """Sends lines such as ``READY=1``; True when somebody took them. Waits a moment at most
        and never fails."""
        if not self._address:
            return False
        text = "\n".join(line.replace("\n", " ") for line in lines)
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.settimeout(WITHIN_S)
            manager.sendto(text.encode(), self._address)
            return True
        return False
