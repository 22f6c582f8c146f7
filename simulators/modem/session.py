"""What a modem and its client say to each other from one power-up to the next: lines, prompts, notices.

Settings such as +CNMI live here and are gone after a restart.
"""

import asyncio
import re
from typing import TYPE_CHECKING, Final

from simulators.modem.shown import in_pdu_mode, in_text_mode, tpdu_octets, typed

if TYPE_CHECKING:
    from simulators.modem.device import Modem

ESC: Final = 0x1B
CTRL_Z: Final = 0x1A
LINE_OCTETS: Final = 1024
"""Longest command or PDU line; what goes on without an end is dropped, as firmware does."""
CMS_INVALID_PDU: Final = 304


class Session:
    """One power-up's conversation. ``obey`` of :mod:`simulators.modem.commands` answers the commands."""

    def __init__(self, modem: "Modem") -> None:
        self.modem = modem
        self.echo = True
        self.charset = "IRA"
        self.texts_shown = 1
        """What of a received text is shown, as +CNMI's mt: 0 nothing, 1 where it is stored, 2 the text, which
        then is not stored (TS 27.005 §3.4.1)."""
        self.notify_reports = False
        self.store_reports = False
        self.text_mode = False
        self.first_octet = 17
        self.errors = 0
        """+CMEE: 0 gives ERROR instead of +CME ERROR."""
        self.shows_registration = 0
        """+CREG: 1 shows when it changes, 2 with the cell (TS 27.007 §7.2)."""
        self.shows_caller = False
        self.wants_receipts = False
        """+CSMS=1: what is shown and not stored is taken only with AT+CNMA (TS 27.005 §3.4.4)."""
        self._unconfirmed = b""
        self._confirmed = b""
        self._patience: asyncio.TimerHandle | None = None
        self.locked = bool(modem.pin)
        self.deaf = False
        """Takes nothing, as a modem that starts."""
        self.sending = False
        """Firmware is deaf while the text is on air."""
        self.expected: int | None = None
        """Octets of the PDU that the client is giving; None when it gives commands."""
        self.recipient = ""
        """Whom the text goes to that the client is giving in text mode."""
        self.more_follows = False
        """The command is one of several in a line; only the last one's OK is said (V.250 §5.2.1)."""
        self.failed = False
        """The last command ended with an error."""
        self._buffer = bytearray()
        self._held: list[bytes] = []

    # -- what the modem says -------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Shows a result nobody asked for; while a text is being given or sent it waits."""
        self._held.append(text.encode())
        self._flush()

    def _flush(self) -> None:
        if self.expected is None and not self.sending:
            for octets in self._held:
                self.modem.write(octets)
            self._held.clear()

    def final(self, text: str = "", result: str = "OK") -> None:
        """Ends a command."""
        self.failed = result != "OK"
        said = f"\r\n{text}\r\n" if text else ""
        if self.failed or not self.more_follows:
            said += f"\r\n{result}\r\n"
        self.modem.write(said.encode())
        self._flush()

    def fail(self, code: int) -> None:
        """Ends a command about texts with an error (TS 27.005 §3.2.5)."""
        self.final("", f"+CMS ERROR: {code}")

    def fail_device(self, code: int) -> None:
        """Ends a command about the device with an error (TS 27.007 §9.2)."""
        self.final("", f"+CME ERROR: {code}" if self.errors else "ERROR")

    def shown(self, head: str, pdu: bytes, read: bool | None = None, *, alpha: bool = False) -> str:
        """A text or report as the mode of +CMGF asks."""
        if self.text_mode:
            return in_text_mode(head, pdu, self.charset, read)
        state = "" if read is None else f"{int(read)},"
        return in_pdu_mode(head + state + ('"",' if alpha else ""), pdu)

    def show_unstored(self, head: str, pdu: bytes, *, alpha: bool = False) -> bool:
        """Shows what is stored nowhere; True once it is the client's, with +CSMS=1 only after AT+CNMA."""
        if self.wants_receipts and self._confirmed == pdu:
            self._confirmed = b""
            return True
        if self._unconfirmed:
            return False
        self.say(f"\r\n{self.shown(head, pdu, alpha=alpha)}\r\n")
        if self.wants_receipts:
            self._unconfirmed = pdu
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(self.modem.receipt_within_s, self._give_up)
        return not self.wants_receipts

    def ask_for_receipts(self, *, wanted: bool) -> None:
        """AT+CSMS: without receipts, what still waited for one is offered again by the network."""
        if self.wants_receipts and not wanted:
            self.receipt()
            self._confirmed = b""
        self.wants_receipts = wanted

    def receipt(self) -> bool:
        """AT+CNMA; False when none is expected."""
        self._confirmed, self._unconfirmed = self._unconfirmed, b""
        if self._patience:
            self._patience.cancel()
        return bool(self._confirmed)

    def _give_up(self) -> None:
        """No receipt came: nothing is shown any more until +CNMI asks for it (TS 27.005 §3.4.4)."""
        self._unconfirmed = b""
        self.texts_shown, self.notify_reports = 0, False

    # -- what the client says ------------------------------------------------------------------------------

    def take(self, octet: int) -> str:
        """One octet from the client; gives the command that it completes, else nothing."""
        if self.sending or self.deaf:
            return ""
        if octet == ESC:
            self._buffer.clear()
            if self.expected is not None:
                self.expected = None
                self.final()
        elif self.expected is not None:
            self._take_text(octet)
        elif octet == ord("\r"):
            if self.echo:
                self.modem.write(bytes(self._buffer) + b"\r")
            command = self._buffer.decode("ascii", "replace").strip()
            self._buffer.clear()
            return command
        elif octet != ord("\n") and len(self._buffer) < LINE_OCTETS:
            self._buffer.append(octet)
        return ""

    def prompt(self, value: str) -> None:
        """AT+CMGS: the client may give a text."""
        recipient = re.match(r'"([^"]+)"', value) if self.text_mode else None
        if recipient is None and (self.text_mode or not value.isdecimal()):
            self.fail(CMS_INVALID_PDU)
            return
        self.recipient = recipient[1] if recipient else ""
        self.expected = 0 if recipient else int(value)
        self.modem.write(b"\r\n> ")
        self.modem.prompted()

    def _take_text(self, octet: int) -> None:
        if octet != CTRL_Z:
            if self.echo:
                self.modem.write(bytes([octet]))
            if len(self._buffer) < LINE_OCTETS:
                self._buffer.append(octet)
            return
        expected, self.expected = self.expected, None
        text = self._buffer.decode("ascii", "replace").strip()
        self._buffer.clear()
        try:
            if self.recipient:
                pdu = typed(self.recipient, text, self.charset, self.first_octet)
                expected = tpdu_octets(pdu)
            else:
                pdu = bytes.fromhex(text)
        except ValueError:
            pdu = b""
        if not pdu or tpdu_octets(pdu) != expected:
            self.fail(CMS_INVALID_PDU)
            return
        self.modem.submit(pdu)
