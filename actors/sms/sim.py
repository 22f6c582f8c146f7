"""The SIM's PIN: entered once, and never a second time when it was refused. Three wrong ones lock the SIM."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from actors.sms.at_line import Answer
from actors.sms.modem import ModemLostError

WRONG_PIN: Final = "+CME ERROR: 16"
TRIES: Final = 3
"""Tries that a SIM grants, counted anew after a right PIN (3GPP TS 51.011 §9.3)."""


class SimError(ModemLostError):
    """The modem answers, but its SIM cannot be used: only a person can help."""


@dataclass(frozen=True, slots=True)
class Pin:
    """Where the PIN is, and where is noted that it was tried.

    The note is on the card before the modem is asked: neither a crash nor a restart tries a wrong PIN again.
    It is a digest only so that another PIN in the file is recognised as another one.
    """

    file: Path | None = None
    tried: Path | None = None

    def unlock(self, ask: Callable[[str], Answer], tries_command: str) -> None:
        """Makes sure that the SIM can be used. Raises :class:`SimError` when only a person can."""
        state = ask("AT+CPIN?")
        code = state.field("+CPIN:")
        if code == "READY":
            self._forget()
            return
        if state.refusal and state.refusal.remedy == "later":
            raise ModemLostError(f"the SIM is not ready: {state.refusal}")
        if code != "SIM PIN":
            raise SimError(f"the SIM cannot be used: {code or state.refusal}; does it work in a phone?")
        pin = self._read()
        digest = hashlib.sha256(pin.encode()).hexdigest()
        left = _tries_left(ask, tries_command)
        if left == 1 or (self._was_tried(digest) and left != TRIES):
            raise SimError(
                f"the PIN in {self.file} was refused before (tries left: {left}) and is not tried again, "
                "because three wrong ones lock the SIM: write the right one into the file"
            )
        self._note(digest)
        entered = ask(f'AT+CPIN="{pin}"')
        if entered.ok:
            self._forget()
        elif entered.refusal and entered.refusal.result == WRONG_PIN:
            raise SimError(f"the SIM refuses the PIN in {self.file}: write the right one into it")
        else:
            raise ModemLostError(f"the SIM does not take its PIN now: {entered.refusal}")

    def _read(self) -> str:
        if self.file is None:
            raise SimError("the SIM wants a PIN: write it into a file and name it in [sms] pin_file")
        try:
            pin = self.file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeError) as error:
            raise SimError(f"the SIM wants a PIN, and [sms] pin_file cannot be read: {error}") from error
        if not pin.isdecimal() or not 4 <= len(pin) <= 8:
            raise SimError(f"the SIM wants a PIN; {self.file} holds none: 4 to 8 digits")
        return pin

    def _was_tried(self, digest: str) -> bool:
        return self.tried is not None and self.tried.exists() and self.tried.read_text() == digest

    def _note(self, digest: str) -> None:
        if self.tried is None:
            return
        self.tried.parent.mkdir(parents=True, exist_ok=True)
        with self.tried.open("w", encoding="ascii") as file:
            file.write(digest)
            file.flush()
            os.fsync(file.fileno())

    def _forget(self) -> None:
        """The SIM is open: whatever was tried was right."""
        if self.tried is not None:
            self.tried.unlink(missing_ok=True)


def _tries_left(ask: Callable[[str], Answer], command: str) -> int | None:
    """How many wrong PINs the SIM still bears, None when the modem does not tell."""
    told = ask(command).field("+SPIC:").partition(",")[0].strip()
    return int(told) if told.isdecimal() else None
