"""The device: power, SIM and network, and the faults it was ordered to have."""

import asyncio
import logging
import random
from pathlib import Path
from typing import Final, Literal

from evy_core import PduError

from simulators.modem.call import Call
from simulators.modem.commands import PIN_TRIES, obey
from simulators.modem.models import MODELS
from simulators.modem.session import CMS_INVALID_PDU, Session
from simulators.modem.shown import is_class_0
from simulators.modem.ussd import Ussd
from simulators.network import Network
from simulators.terminal import Terminal

log = logging.getLogger("simulators.modem")

PowerCut = Literal["prompt", "before_network", "after_network"]
"""Where a text to send is when the power goes: after the prompt, with its TP-MR used but not on air, or taken
by the network with the modem's answer still to come."""

CMS_NO_NETWORK: Final = 331
HOME: Final = 1
ROAMING: Final = 5
"""Registration states in which texts pass (TS 27.007 §7.2)."""
CELL: Final = ("0001", "00E1")
"""Location area and cell, in hexadecimal."""
WITH_CELL: Final = 2
"""+CREG's n: the registration is shown with the cell."""
DIRECT: Final = 2
"""+CNMI's mt: texts go to the client and not into storage."""


class Modem:
    """The device. ``slots`` is the room on the SIM, ``answer_delay_s`` what the network takes for a SUBMIT.

    Storage and TP-MR are on the SIM and survive a power cut; settings such as +CNMI do not.
    """

    def __init__(
        self,
        link: Path,
        network: Network,
        *,
        slots: int = 30,
        answer_delay_s: float = 0.0,
        model: str = "sim800c",
        pin: str = "",
        seed: int = 0,
    ) -> None:
        self.network = network
        self.slots = slots
        self.answer_delay_s = answer_delay_s
        self.answer_up_to_s = 0.0
        """When it is more than ``answer_delay_s``: the network takes any time between the two."""
        self.mute = False
        """Takes everything and says nothing, as a modem with a hung firmware."""
        self.refuse: list[int] = []
        """+CMS ERROR codes for the next SUBMITs, in order."""
        self.refuses_all = False
        """The last of these codes is for all SUBMITs after it."""
        self.power_cut: PowerCut | None = None
        """Pulls the plug at the next SUBMIT."""
        self.fail: list[tuple[str, str]] = []
        """The next command that begins with the first gets the second as its only answer; empty: silence."""
        self.cut_to: int | None = None
        """So many octets of what it says next get through."""
        self.registration = HOME
        self.model = MODELS[model]
        self.pin = pin
        self.pin_left = PIN_TRIES
        self.last_mr = 0xFF
        self.sim: dict[int, tuple[bytes, bool]] = {}
        """Slot (from 1) → PDU and whether it was read."""
        self.commands: list[str] = []
        """Every command a client gave, for tests of drivers; grows with use."""
        self.receipt_within_s = 15.0
        """How long it waits for AT+CNMA before it tells the network that nobody took a text."""
        self.ussd = Ussd()
        self.calls: list[Call] = []
        """Every call it got; grows with use."""
        self.session = Session(self)
        self._terminal = Terminal(link, self._take)
        self._answer: asyncio.TimerHandle | None = None
        self._random = random.Random(seed)  # noqa: S311  reproducible, guards nothing

    # -- power ---------------------------------------------------------------------------------------------

    @property
    def link(self) -> Path:
        """Where a client finds the terminal."""
        return self._terminal.link

    @link.setter
    def link(self, link: Path) -> None:
        """Where it appears when it is plugged in next."""
        self._terminal.link = link

    @property
    def powered(self) -> bool:
        """Plugged in and switched on."""
        return self._terminal.is_open

    def plug(self) -> None:
        """Powers up: the terminal appears at ``link`` and the network delivers what waits."""
        if not self.powered:
            self._terminal.open()
            self.network.register(self)

    def unplug(self) -> None:
        """Pulls the plug: the terminal hangs up and vanishes, the SIM keeps what it has."""
        if self.powered:
            self._terminal.close()
            self._begin()
            log.info("modem unplugged")

    def _begin(self) -> None:
        if self._answer:
            self._answer.cancel()
        for call in self.calls[-1:]:
            call.cut_off()
        self.session = Session(self)

    def reboot(self, deaf_s: float) -> None:
        """Starts anew by itself: deaf for a while, saying what it says when it starts; settings are gone."""
        if not self.powered:
            return
        self._begin()
        self.session.deaf = True
        boot = self.model.boot
        for n in range(1, len(boot) + 1):
            asyncio.get_running_loop().call_later(deaf_s * n / len(boot), self._boot_says, self.session, n)

    def _boot_says(self, session: Session, n: int) -> None:
        if session is not self.session:
            return  # unplugged or started anew meanwhile
        words = self.model.boot[n - 1]
        if words.startswith("+CPIN") and session.locked:
            words = "+CPIN: SIM PIN"
        self.write(f"\r\n{words}\r\n".encode())
        if n == len(self.model.boot):
            session.deaf = False
            self.network.offer()

    def register(self, status: int) -> None:
        """Enters or leaves the network: 1 home, 5 roaming, anything else not (TS 27.007 §7.2)."""
        self.registration = status
        if self.session.shows_registration:
            self.session.say(f"\r\n+CREG: {self.registered()}\r\n")
        self.network.offer()

    def registered(self) -> str:
        """The registration as +CREG shows it."""
        has_cell = self.session.shows_registration == WITH_CELL and self.registration in {HOME, ROAMING}
        return f'{self.registration},"{CELL[0]}","{CELL[1]}"' if has_cell else str(self.registration)

    @property
    def in_network(self) -> bool:
        """Whether texts pass."""
        ready = self.powered and not self.session.deaf and not self.session.locked
        return ready and self.registration in {HOME, ROAMING}

    # -- the serial line -----------------------------------------------------------------------------------

    def write(self, octets: bytes) -> None:
        """Says something, as far as the faults let it through."""
        if self.mute:
            return
        if self.cut_to is not None:
            octets, self.cut_to = octets[: self.cut_to], None
        self._terminal.write(octets)

    def noise(self, octets: bytes, count: int = 0) -> None:
        """Octets that nobody sent appear on the line, and ``count`` random ones."""
        self.write(octets + self._random.randbytes(count))

    def _take(self, octets: bytes) -> None:
        for octet in octets:
            if not self.powered:
                return
            if command := self.session.take(octet):
                self.commands.append(command)
                log.debug("> %s", command)
                obey(self, command)

    # -- what the network delivers -------------------------------------------------------------------------

    def take_deliver(self, pdu: bytes) -> bool:
        """Stores a text in the lowest free slot and says so; False without power or room.

        A text of class 0 is shown at once and not stored (TS 23.038 §4, TS 27.005 §3.4.1), and so is any
        other when the client wants it (AT+CNMI=2,2); where nothing may be shown the network keeps it.
        """
        if not self.in_network:
            return False
        wanted = self.session.texts_shown
        if is_class_0(pdu) or wanted == DIRECT:
            return bool(wanted) and self.session.show_unstored("+CMT: ", pdu, alpha=True)
        slot = self._store(pdu)
        if slot and self.session.texts_shown:
            self.session.say(f'\r\n+CMTI: "SM",{slot}\r\n')
        return slot is not None

    def _store(self, pdu: bytes) -> int | None:
        slot = next((n for n in range(1, self.slots + 1) if n not in self.sim), None)
        if slot is not None:
            self.sim[slot] = (pdu, False)
        return slot

    def take_report(self, pdu: bytes) -> bool:
        """Shows or stores a status report as +CNMI asks; a SIM800C stores none, so otherwise it is gone."""
        if not self.in_network:
            return False
        if self.session.store_reports:
            slot = self._store(pdu)
            if slot:
                self.session.say(f'\r\n+CDSI: "SM",{slot}\r\n')
            return slot is not None
        if self.session.notify_reports:
            return self.session.show_unstored("+CDS: ", pdu)
        return not self.session.wants_receipts

    def ring(self, number: str, rings: int = 5, every_s: float = 3.0) -> Call:
        """A phone calls; without a number it withholds it. Outside the network nothing rings."""
        call = Call(self, number, rings=rings, every_s=every_s)
        self.calls.append(call)
        if self.in_network:
            call.ring()
        return call

    # -- sending -------------------------------------------------------------------------------------------

    def prompted(self) -> None:
        """The client was asked for its text."""
        if self.power_cut == "prompt":
            self._cut()

    def _cut(self) -> None:
        log.info("power cut: %s", self.power_cut)
        self.power_cut = None
        self.unplug()

    def submit(self, pdu: bytes) -> None:
        """Hands a text to the network and answers the client, unless something goes wrong."""
        if not self.in_network:
            self.session.fail(CMS_NO_NETWORK)
            return
        if self.refuse and self.refuse[0] == CMS_INVALID_PDU:
            self._refuse()
            return
        mr = self.last_mr = (self.last_mr + 1) % 0x100
        if self.power_cut == "before_network":
            self._cut()
            return
        if self.refuse:
            self._refuse()
            return
        try:
            self.network.submit(pdu, mr)
        except PduError as error:
            log.warning("network refuses: %s", error)
            self.session.fail(CMS_NO_NETWORK)
            return
        if self.power_cut == "after_network":
            self._cut()
            return
        self.session.sending = True
        longest_s = max(self.answer_delay_s, self.answer_up_to_s)
        takes_s = self._random.uniform(self.answer_delay_s, longest_s)
        self._answer = asyncio.get_running_loop().call_later(takes_s, self.sent, mr)

    def _refuse(self) -> None:
        stays = self.refuses_all and len(self.refuse) == 1
        self.session.fail(self.refuse[0] if stays else self.refuse.pop(0))

    def sent(self, mr: int) -> None:
        """The network has answered: tells the client the TP-MR."""
        self.session.sending = False
        self.session.final(f"+CMGS: {mr}")
