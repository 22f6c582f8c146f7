"""A modem that says anything: the direct driver gives a result or a typed error, and comes back at once.

The octets stand between what the driver asks and the modem's OK, on a real terminal line.
"""

import os
import sys
import threading
import tty
from typing import Final

import atheris

with atheris.instrument_imports(include=["actors.sms"]):
    from actors.sms import readying
    from actors.sms.at_modem import AtModem
    from actors.sms.modem import Part

from subjects.errors import EvyError

readying.ROUSE_S = readying.BUSY_S = 0.05

FIXED: Final = {
    b"AT": b"",
    b"AT+CMEE?": b"+CMEE: 1",
    b"AT+CPIN?": b"+CPIN: READY",
    b"AT+CSCA?": b'+CSCA: "+34600000000",145',
}
"""Answers without which a modem never gets as far as a text."""
END: Final = b"\r\nOK\r\n"
PART: Final = Part("+34600111222", "boil the water for one minute", "gsm7")


class Line:
    """The modem's end of a terminal line: answers each command with the next piece of the input."""

    def __init__(self) -> None:
        self._modem, self._driver = os.openpty()  # our own end stays open, or each close would hang up
        tty.setraw(self._driver)
        self.device = os.ttyname(self._driver)
        self.pieces: list[bytes] = []
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        heard = b""
        while True:
            heard += os.read(self._modem, 4096)
            *commands, heard = heard.replace(b"\x1a", b"\r").replace(b"\x1b", b"").split(b"\r")
            for command in commands:
                fixed = FIXED.get(command)
                said = fixed if fixed is not None else self.pieces.pop(0) if self.pieces else b""
                prompt = b"\r\n> " if command.startswith(b"AT+CMGS") else END
                os.write(self._modem, b"\r\n" + said + prompt)


LINE: Final = Line()


def one(octets: bytes) -> None:
    """One modem's life: opened, asked for its texts twice, given a text to send, asked how it is."""
    LINE.pieces = octets[:3000].split(b"\x00")
    modem = AtModem(LINE.device, answer_s=0.05, send_s=0.05)
    try:
        opened = modem.open()
        assert opened.last_reference is None or 0 <= opened.last_reference < 256
        for _ in range(2):
            texts, _reports = modem.poll(frozenset())
            assert len({text.location for text in texts}) == len(texts)
        assert modem.send_part(PART) >= 0
        modem.status()
    except EvyError as error:
        if not str(error):
            raise AssertionError("an error without words") from error
    finally:
        modem.close()


atheris.Setup(sys.argv, one)
atheris.Fuzz()
