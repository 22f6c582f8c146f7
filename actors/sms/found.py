"""A modem whose device may get another name: "/dev/ttyUSB0" pulled out may come back as "/dev/ttyUSB1".

It is known by its IMEI, configured or noted when it was first opened, and looked for among the devices whose
names differ in their last number only. Nobody else's modem is taken, and a modem that
tells another IMEI gets no PIN.
"""

import contextlib
import logging
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from actors.sms.at_line import AtLine, restart
from actors.sms.modem import Modem, ModemLostError, Opened, Part, Received, Report

log = logging.getLogger("evy.sms")

PROBE_S: Final = 3.0
"""How long a device is given to say that it is a modem."""
_IMEI: Final = re.compile(r"[0-9]{14,16}")


class Claims:
    """Which modem of the node has which device; asked from the threads of all lines."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: dict[str, str] = {}

    def take(self, device: str, owner: str) -> bool:
        """Claims a device, under all its names; False when another modem has it."""
        with self._lock:
            return self._owners.setdefault(os.path.realpath(device), owner) == owner

    def release(self, owner: str) -> None:
        """Gives up what ``owner`` has."""
        with self._lock:
            self._owners = {device: who for device, who in self._owners.items() if who != owner}


class Driver(Modem, Protocol):
    """What can be told that its modem is elsewhere."""

    def move(self, device: str) -> None:
        """The modem is at another device from the next opening on."""


class FoundModem:
    """A driver, wherever its device is now. It is kept while the device moves: it may hold what a modem has
    only shown and nobody else has.

    ``imei`` is the configured one; without it the first that ``note`` was written with, or that opens.
    """

    def __init__(
        self, device: str, driver: Driver, *, baud: int, imei: str, note: Path, claims: Claims
    ) -> None:
        self._device = device
        self._driver = driver
        self._baud = baud
        self._configured = imei
        self._note = note
        self._claims = claims
        self._owner = note.name
        self._seen: tuple[str, int, int, int] | None = None
        """Path and identity of the device that was opened last: the same one need not be asked again."""

    def open(self) -> Opened:
        """Finds the modem and opens it. Raises :class:`ModemLostError`, which says what to mend."""
        self.close()
        known = self._configured or self._noted()
        device = self._find(known) if known else self._only()
        self._driver.move(device)
        opened = self._driver.open()
        imei = opened.details.get("imei", "")
        if self._configured and imei and imei != self._configured:
            raise ModemLostError(self._stranger(device, imei))
        if imei and imei != known:
            self._write_note(imei)
        self._seen = _identity(device)
        if device != self._device:
            log.warning("the modem of %s is at %s now", self._device, device)
        return Opened(opened.last_reference, {**opened.details, "device": device})

    def _only(self) -> str:
        if not self._claims.take(self._device, self._owner):
            raise ModemLostError(f"{self._device} is another modem's: give each its imei in [[sms.modem]]")
        return self._device

    def _find(self, imei: str) -> str:
        """The device that is this modem."""
        if self._seen and self._seen == _identity(self._seen[0]):
            device = self._seen[0]
            if self._claims.take(device, self._owner):
                return device
        said: dict[str, str] = {}
        for device in (self._device, *self._siblings()):
            if not Path(device).exists() or not self._claims.take(device, self._owner):
                continue
            said[device] = self._probe(device)
            if said[device] == imei:
                return device
            self._claims.release(self._owner)
        here = said.get(self._device)
        if here and self._configured:
            raise ModemLostError(self._stranger(self._device, here))
        if here is None:
            looked = ", ".join(said) or "no other device"
            raise ModemLostError(f"{self._device} is gone; looked for IMEI {imei} at {looked}")
        return self._only()  # mute, or another modem in its place: its driver knows what to do

    def _siblings(self) -> list[str]:
        """Devices of the same kind. A name that ends in no number, as in by-id, is stable and has none."""
        stem = self._device.rstrip("0123456789")
        if stem == self._device or not Path(stem).parent.is_dir():
            return []
        path = Path(stem)
        others = (str(found) for found in path.parent.iterdir() if found.name.startswith(path.name))
        return sorted(other for other in others if other[len(stem) :].isdecimal() and other != self._device)

    def _probe(self, device: str) -> str:
        """IMEI of what is at a device, empty when it does not say."""
        with contextlib.suppress(ModemLostError):
            line = AtLine(device, self._baud, lambda _head, _pdu: None, shared=True, answer_s=PROBE_S)
            try:
                line.rouse(PROBE_S)
                return next(filter(_IMEI.fullmatch, line.ask("AT+CGSN").lines), "")
            finally:
                line.close()
        return ""

    def _stranger(self, device: str, imei: str) -> str:
        return f"the modem at {device} has IMEI {imei}, not {self._configured}: correct imei, or plug it in"

    def _noted(self) -> str:
        try:
            noted = self._note.read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            return ""
        return noted if _IMEI.fullmatch(noted) else ""

    def _write_note(self, imei: str) -> None:
        try:
            self._note.parent.mkdir(parents=True, exist_ok=True)
            self._note.write_text(f"{imei}\n", encoding="ascii")
        except OSError as error:
            log.warning("%s: %s; the modem is found under its configured name only", self._note, error)

    # The driver's own.

    def wait(self, wake: int, timeout_s: float) -> bool:
        """As the driver."""
        return self._driver.wait(wake, timeout_s)

    def poll(self, in_hand: frozenset[int]) -> tuple[list[Received], list[Report]]:
        """As the driver."""
        return self._driver.poll(in_hand)

    def delete(self, location: int) -> None:
        """As the driver."""
        self._driver.delete(location)

    def send_part(self, part: Part) -> int:
        """As the driver."""
        return self._driver.send_part(part)

    def ussd(self, code: str, interrupted: Callable[[], bool]) -> str:
        """As the driver."""
        return self._driver.ussd(code, interrupted)

    def status(self) -> dict[str, str]:
        """As the driver."""
        return self._driver.status()

    def restart(self) -> None:
        """Starts the modem's firmware anew where it was seen last."""
        device = self._seen[0] if self._seen else self._device
        self.close()
        restart(device, self._baud)

    def close(self) -> None:
        """Lets go of the line and of the device."""
        self._driver.close()
        self._claims.release(self._owner)


def _identity(device: str) -> tuple[str, int, int, int] | None:
    """What changes when a device was pulled out and something else is there."""
    try:
        found = Path(device).stat()
    except OSError:
        return None
    return device, found.st_dev, found.st_ino, found.st_rdev
