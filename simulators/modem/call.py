"""A call to the modem: rings until the client hangs up or the caller gives up (3GPP TS 27.007 §6.5, §7.6)."""

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from simulators.modem.device import Modem

INTERNATIONAL: Final = 145
WITHHELD: Final = 128


class Call:
    """One call. An empty ``number`` is withheld. ``hung_up`` tells that the client rejected it."""

    def __init__(self, modem: "Modem", number: str, *, rings: int, every_s: float) -> None:
        self.number = number
        self.hung_up = False
        self._modem = modem
        self._left = rings
        self._every_s = every_s
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_ringing(self) -> bool:
        """Whether anybody still waits for an answer."""
        return self._timer is not None

    def ring(self) -> None:
        """Rings now and then until the caller has had enough."""
        if not self._left:
            self.end()
            return
        self._left -= 1
        self._modem.session.say("\r\nRING\r\n")
        if self._modem.session.shows_caller:
            kind = INTERNATIONAL if self.number.startswith("+") else WITHHELD
            self._modem.session.say(f'\r\n+CLIP: "{self.number}",{kind},"",0,"",0\r\n')
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self.ring)

    def end(self) -> None:
        """The caller gives up, and the client is told."""
        if self.cut_off():
            self._modem.session.say("\r\nNO CARRIER\r\n")

    def hang_up(self) -> None:
        """The client rejects it."""
        self.hung_up = self.cut_off() or self.hung_up

    def cut_off(self) -> bool:
        """No more rings; False when it had ended already."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        return timer is not None
