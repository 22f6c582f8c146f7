"""A SIM800C or SIM7000 on a pseudo terminal: what a serial line shows of it, with a fake network behind.

``python -m simulators.modem --link PATH`` runs it alone. ``PATH`` is a symbolic link to the terminal, stable
over replugging, so that a client opens it like ``/dev/ttyUSB0``. The modem holds the terminal open itself: a
client may die, close and come back, and what the modem says meanwhile waits in the line.

Commands and answers follow 3GPP TS 27.005 and TS 27.007 as SIMCom's firmware gives them, with the SIM as the
only storage.
"""

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import click
from evy_core import PduError

from simulators.control import serve
from simulators.models import MODELS
from simulators.network import SMSC, Network
from simulators.shown import in_pdu_mode, in_text_mode, is_class_0, tpdu_octets, typed

log = logging.getLogger("simulators.modem")

ESC: Final = 0x1B
CTRL_Z: Final = 0x1A
LINE_OCTETS: Final = 1024
"""Longest command or PDU line; what goes on without an end is dropped, as firmware does."""

PowerCut = Literal["prompt", "before_network", "after_network"]
"""Where a text to send is when the power goes: after the prompt, with its TP-MR used but not on air, or taken
by the network with the modem's answer still to come."""

CMS_INVALID_PDU: Final = 304
CMS_INVALID_INDEX: Final = 321
CMS_NO_NETWORK: Final = 331
CMS_PIN: Final = 311
CME_PIN: Final = 11
CME_WRONG_PIN: Final = 16
HOME: Final = 1
ROAMING: Final = 5
"""Registration states in which texts pass (TS 27.007 §7.2)."""
PIN_TRIES: Final = 3
RESTART_S: Final = 0.5
"""How long AT+CFUN=1,1 takes; a real modem needs 5 to 10 s."""
NEEDS_SIM: Final = ("AT+CMG", "AT+CPMS", "AT+CNMI", "AT+CSCA", "AT+CRSM")
LISTS: Final = {"": (False,), "=0": (False,), "=1": (True,), "=4": (False, True)}
LISTS_OF_TEXT_MODE: Final = {
    "": (False,),
    '="REC UNREAD"': (False,),
    '="REC READ"': (True,),
    '="ALL"': (False, True),
}
EF_SMSS: Final = "176,28483,0,0,2"
"""READ BINARY of the SIM file with the last TP-MR used (3GPP TS 51.011 §10.5.7)."""


MAX_OUTGOING_OCTETS: Final = 256 * 1024
"""Twice the list of a full SIM of 255 slots; beyond it nobody reads."""


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
    ) -> None:
        self.link = link
        self.network = network
        self.slots = slots
        self.answer_delay_s = answer_delay_s
        self.mute = False
        """Takes everything and says nothing, as a modem with a hung firmware."""
        self.refuse: list[int] = []
        """+CMS ERROR codes for the next SUBMITs, in order."""
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
        self._line: tuple[int, int] | None = None
        self._outgoing = bytearray()
        """What the line has no room for yet: a full SIM's list is longer than a pseudo terminal's buffer."""
        self._reset()

    def _reset(self) -> None:
        self._echo = True
        self._charset = "IRA"
        self._notify_texts = True
        self._notify_reports = False
        self._text_mode = False
        self._first_octet = 17
        self._recipient = ""
        self._errors = 0
        self._shows_registration = False
        self._store_reports = False
        self._locked = bool(self.pin)
        self._deaf = False
        self._buffer = bytearray()
        self._expected: int | None = None
        self._sending: asyncio.TimerHandle | None = None
        self._held: list[bytes] = []

    # -- power ---------------------------------------------------------------------------------------------

    @property
    def powered(self) -> bool:
        """Plugged in and switched on."""
        return self._line is not None

    def plug(self) -> None:
        """Powers up: the terminal appears at ``link`` and the network delivers what waits."""
        if self._line:
            return
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        self._line = (master, slave)
        asyncio.get_running_loop().add_reader(master, self._read)
        draft = self.link.with_name(f"{self.link.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        draft.symlink_to(os.ttyname(slave))
        draft.replace(self.link)
        log.info("modem at %s -> %s", self.link, os.ttyname(slave))
        self.network.register(self)

    def unplug(self) -> None:
        """Pulls the plug: the terminal hangs up and vanishes, the SIM keeps what it has."""
        if self._line is None:
            return
        master, slave = self._line
        self._line = None
        if self._sending:
            self._sending.cancel()
        asyncio.get_running_loop().remove_reader(master)
        asyncio.get_running_loop().remove_writer(master)
        self._outgoing.clear()
        self.link.unlink(missing_ok=True)
        os.close(master)
        os.close(slave)
        self._reset()
        log.info("modem unplugged")

    def reboot(self, deaf_s: float) -> None:
        """Starts anew by itself: deaf for a while, saying what it says when it starts; settings are gone."""
        if self._line is None:
            return
        if self._sending:
            self._sending.cancel()
        self._reset()
        self._deaf = True
        loop = asyncio.get_running_loop()
        for n, words in enumerate(self.model.boot, start=1):
            last = n == len(self.model.boot)
            loop.call_later(deaf_s * n / len(self.model.boot), self._boot_says, words, last)

    def _boot_says(self, words: str, last: bool) -> None:
        if words.startswith("+CPIN") and self._locked:
            words = "+CPIN: SIM PIN"
        self._write(f"\r\n{words}\r\n".encode())
        if last:
            self._deaf = False
            self.network.offer()

    def register(self, status: int) -> None:
        """Enters or leaves the network: 1 home, 5 roaming, anything else not (TS 27.007 §7.2)."""
        self.registration = status
        if self._shows_registration:
            self.say(f"\r\n+CREG: {status}\r\n")
        self.network.offer()

    @property
    def _in_network(self) -> bool:
        ready = self.powered and not self._deaf and not self._locked
        return ready and self.registration in {HOME, ROAMING}

    # -- network side --------------------------------------------------------------------------------------

    def take_deliver(self, pdu: bytes) -> bool:
        """Stores a text in the lowest free slot and says so; False without power or room.

        A text of class 0 is shown at once and not stored (TS 23.038 §4, TS 27.005 §3.4.1).
        """
        if not self._in_network:
            return False
        if is_class_0(pdu):
            self.say(f"\r\n{self._shown('+CMT: ', pdu, alpha=True)}\r\n")
            return True
        slot = self._store(pdu)
        if slot and self._notify_texts:
            self.say(f'\r\n+CMTI: "SM",{slot}\r\n')
        return slot is not None

    def _store(self, pdu: bytes) -> int | None:
        slot = next((n for n in range(1, self.slots + 1) if n not in self.sim), None)
        if slot is not None:
            self.sim[slot] = (pdu, False)
        return slot

    def take_report(self, pdu: bytes) -> bool:
        """Shows or stores a status report as +CNMI asks; a SIM800C stores none, so otherwise it is gone."""
        if not self._in_network:
            return False
        if self._store_reports:
            slot = self._store(pdu)
            if slot:
                self.say(f'\r\n+CDSI: "SM",{slot}\r\n')
            return slot is not None
        if self._notify_reports:
            self.say(f"\r\n{self._shown('+CDS: ', pdu)}\r\n")
        return True

    # -- serial line ---------------------------------------------------------------------------------------

    def _write(self, octets: bytes) -> None:
        if self._line is None or self.mute:
            return
        if self.cut_to is not None:
            octets, self.cut_to = octets[: self.cut_to], None
        if len(self._outgoing) + len(octets) > MAX_OUTGOING_OCTETS:
            log.warning("nobody reads the line: %d octets lost", len(octets))
            return
        self._outgoing += octets
        self._drain()

    def _drain(self) -> None:
        """Writes what the line takes now, and the rest as soon as it takes more."""
        if self._line is None:
            return
        with contextlib.suppress(BlockingIOError):
            while self._outgoing:
                del self._outgoing[: os.write(self._line[0], self._outgoing)]
        loop = asyncio.get_running_loop()
        if self._outgoing:
            loop.add_writer(self._line[0], self._drain)
        else:
            loop.remove_writer(self._line[0])

    def noise(self, octets: bytes) -> None:
        """Octets that nobody sent appear on the line."""
        self._write(octets)

    def say(self, text: str) -> None:
        """Shows a result nobody asked for; while a text is being given or sent it waits."""
        self._held.append(text.encode())
        self._flush()

    def _flush(self) -> None:
        if self._expected is None and self._sending is None:
            for octets in self._held:
                self._write(octets)
            self._held.clear()

    def _final(self, text: str, result: str = "OK") -> None:
        self._write((f"\r\n{text}\r\n" if text else "").encode() + f"\r\n{result}\r\n".encode())
        self._flush()

    def _fail(self, code: int) -> None:
        self._final("", f"+CMS ERROR: {code}")

    def _fail_device(self, code: int) -> None:
        self._final("", f"+CME ERROR: {code}" if self._errors else "ERROR")

    def _read(self) -> None:
        if self._line is None:
            return
        try:
            octets = os.read(self._line[0], 4096)
        except (BlockingIOError, InterruptedError):
            return
        for octet in octets:
            if self.powered:
                self._take(octet)

    def _take(self, octet: int) -> None:
        if self._sending is not None or self._deaf:
            return  # firmware is deaf while the text is on air
        if octet == ESC:
            self._buffer.clear()
            if self._expected is not None:
                self._expected = None
                self._final("")
        elif self._expected is not None:
            self._take_pdu(octet)
        elif octet == ord("\r"):
            if self._echo:
                self._write(bytes(self._buffer) + b"\r")
            command = self._buffer.decode("ascii", "replace").strip()
            self._buffer.clear()
            if command:
                self._obey(command)
        elif octet != ord("\n") and len(self._buffer) < LINE_OCTETS:
            self._buffer.append(octet)

    def _take_pdu(self, octet: int) -> None:
        if octet != CTRL_Z:
            if self._echo:
                self._write(bytes([octet]))
            if len(self._buffer) < LINE_OCTETS:
                self._buffer.append(octet)
            return
        expected, self._expected = self._expected, None
        text = self._buffer.decode("ascii", "replace").strip()
        self._buffer.clear()
        try:
            if self._recipient:
                pdu = typed(self._recipient, text, self._charset, self._first_octet)
                expected = tpdu_octets(pdu)
            else:
                pdu = bytes.fromhex(text)
        except ValueError:
            pdu = b""
        if not pdu or tpdu_octets(pdu) != expected:
            self._fail(CMS_INVALID_PDU)
            return
        self._submit(pdu)

    # -- commands ------------------------------------------------------------------------------------------

    def _obey(self, command: str) -> None:
        self.commands.append(command)
        log.debug("> %s", command)
        upper = command.upper()
        for number, (beginning, result) in enumerate(self.fail):
            if upper.startswith(beginning):
                del self.fail[number]
                if result:
                    self._final("", result)
                return
        if self._locked and upper.startswith(NEEDS_SIM):
            if upper.startswith("AT+CRSM"):
                self._fail_device(CME_PIN)
            else:
                self._fail(CMS_PIN)
            return
        if upper in self.model.answers:
            self._final(self.model.answers[upper])
            return
        handlers: dict[str, Callable[[str], None]] = {
            "ATE": self._set_echo,
            "AT+CMEE": self._set_errors,
            "AT+CPIN": self._enter_pin,
            "AT+SPIC": lambda _: self._final(f"+SPIC: {self.pin_left},10,3,10"),
            "AT+CFUN=1,1": self._restart,
            "AT+CREG": lambda value: self._registration("CREG", value),
            "AT+CGREG": lambda value: self._registration("CGREG", value),
            "AT+CEREG": lambda value: self._registration("CEREG", value),
            "AT+COPS?": lambda _: self._final("+COPS: 0" + (',0,"EVY"' if self._in_network else "")),
            "AT+CMGF": self._set_mode,
            "AT+CSMP": self._set_parameters,
            "AT+CSCS": self._character_set,
            "AT+CPMS": self._storage,
            "AT+CNMI": self._notifications,
            "AT+CSCA?": lambda _: self._final(f'+CSCA: "{SMSC}",145'),
            "AT+CMGL": self._list,
            "AT+CMGR=": self._show,
            "AT+CMGD=": self._delete,
            "AT+CMGS=": self._prompt,
            "AT+CRSM=": self._sim_file,
        }
        for name, handler in handlers.items():
            if upper.startswith(name):
                handler(command[len(name) :].strip())
                return
        self._final("", "ERROR")

    def _set_echo(self, value: str) -> None:
        self._echo = value != "0"
        self._final("")

    def _set_errors(self, value: str) -> None:
        if value == "?":
            self._final(f"+CMEE: {self._errors}")
        elif value in {"=0", "=1", "=2"}:
            self._errors = int(value[1])
            self._final("")
        else:
            self._final("", "ERROR")

    def _set_mode(self, value: str) -> None:
        if value == "?":
            self._final(f"+CMGF: {int(self._text_mode)}")
        elif value in {"=0", "=1"}:
            self._text_mode = value == "=1"
            self._final("")
        else:
            self._final("", "ERROR")

    def _set_parameters(self, value: str) -> None:
        if value == "?":
            self._final(f"+CSMP: {self._first_octet},167,0,0")
        elif match := re.fullmatch(r"=(\d{1,3})(,\d{0,3}){0,3}", value):
            self._first_octet = int(match[1])
            self._final("")
        else:
            self._final("", "ERROR")

    def _enter_pin(self, value: str) -> None:
        if value == "?":
            code = "READY" if not self._locked else "SIM PIN" if self.pin_left else "SIM PUK"
            self._final(f"+CPIN: {code}")
        elif not self._locked or not self.pin_left:
            self._fail_device(3 if not self._locked else 12)
        elif value == f'="{self.pin}"':
            self._locked, self.pin_left = False, PIN_TRIES
            self._final("")
            self.say("\r\n+CPIN: READY\r\n")
            self.network.offer()
        else:
            self.pin_left -= 1
            self._fail_device(CME_WRONG_PIN)

    def _restart(self, _: str) -> None:
        self._final("")
        self.reboot(RESTART_S)

    def _registration(self, name: str, value: str) -> None:
        if value == "?":
            self._final(f"+{name}: {int(self._shows_registration)},{self.registration}")
        elif value in {"=0", "=1"}:
            self._shows_registration = value == "=1"
            self._final("")
        else:
            self._final("", "ERROR")

    def _character_set(self, value: str) -> None:
        if value == "?":
            self._final(f'+CSCS: "{self._charset}"')
        elif match := re.fullmatch(r'="(\w+)"', value):
            self._charset = match[1]
            self._final("")
        else:
            self._final("", "ERROR")

    def _storage(self, value: str) -> None:
        used = f"{len(self.sim)},{self.slots}"
        if value == "?":
            self._final("+CPMS: " + ",".join([f'"SM",{used}'] * 3))
        elif re.fullmatch(r'=("SM"(,"SM"){0,2})', value):
            self._final("+CPMS: " + ",".join([used] * 3))
        else:
            self._fail(CMS_INVALID_INDEX)

    def _notifications(self, value: str) -> None:
        if value == "?":
            reports = 2 if self._store_reports else int(self._notify_reports)
            self._final(f"+CNMI: 2,{int(self._notify_texts)},0,{reports},0")
        elif re.fullmatch(r"=[0-3](,[0-3]?){0,4}", value):
            fields = value[1:].split(",") + [""] * 4
            if fields[3] == "2" and not self.model.stores_reports:
                self._final("", "ERROR")
                return
            self._notify_texts = fields[1] == "1"
            self._notify_reports = fields[3] == "1"
            self._store_reports = fields[3] == "2"
            self._final("")
        else:
            self._final("", "ERROR")

    def _shown(self, head: str, pdu: bytes, read: bool | None = None, *, alpha: bool = False) -> str:
        if self._text_mode:
            return in_text_mode(head, pdu, self._charset, read)
        state = "" if read is None else f"{int(read)},"
        return in_pdu_mode(head + state + ('"",' if alpha else ""), pdu)

    def _list(self, value: str) -> None:
        if value == "=?":
            self._final("+CMGL: " + ('("REC UNREAD","REC READ","ALL")' if self._text_mode else "(0-4)"))
            return
        wanted = (LISTS_OF_TEXT_MODE if self._text_mode else LISTS).get(value)
        if wanted is None:
            self._fail(CMS_INVALID_INDEX)
            return
        shown = []
        for slot, (pdu, read) in sorted(self.sim.items()):
            if read in wanted:
                shown.append(self._shown(f"+CMGL: {slot},", pdu, read, alpha=True))
                self.sim[slot] = (pdu, True)
        self._final("\r\n".join(shown))

    def _slot(self, value: str) -> int | None:
        """Slot of a command, after an error for the client when there is no such slot."""
        slot = value.partition(",")[0]
        if slot.isdecimal() and 1 <= int(slot) <= self.slots:
            return int(slot)
        self._fail(CMS_INVALID_INDEX)
        return None

    def _show(self, value: str) -> None:
        slot = self._slot(value)
        if slot is None:
            return
        if slot not in self.sim:
            self._final("")
            return
        pdu, read = self.sim[slot]
        self.sim[slot] = (pdu, True)
        self._final(self._shown("+CMGR: ", pdu, read, alpha=True))

    def _delete(self, value: str) -> None:
        slot = self._slot(value)
        if slot is None:
            return
        if value.endswith(",4"):
            self.sim.clear()
        else:
            self.sim.pop(slot, None)
        self._final("")
        self.network.offer()

    def _sim_file(self, value: str) -> None:
        if value != EF_SMSS:
            self._final("+CRSM: 106,130")  # file not found (TS 51.011 §9.4.4)
            return
        room = 0xFF if len(self.sim) < self.slots else 0xFE
        self._final(f'+CRSM: 144,0,"{self.last_mr:02X}{room:02X}"')

    # -- sending -------------------------------------------------------------------------------------------

    def _prompt(self, value: str) -> None:
        recipient = re.match(r'"([^"]+)"', value) if self._text_mode else None
        if recipient is None and (self._text_mode or not value.isdecimal()):
            self._fail(CMS_INVALID_PDU)
            return
        self._recipient = recipient[1] if recipient else ""
        self._expected = 0 if recipient else int(value)
        self._write(b"\r\n> ")
        if self.power_cut == "prompt":
            self._cut()

    def _cut(self) -> None:
        log.info("power cut: %s", self.power_cut)
        self.power_cut = None
        self.unplug()

    def _submit(self, pdu: bytes) -> None:
        if not self._in_network:
            self._fail(CMS_NO_NETWORK)
            return
        if self.refuse and self.refuse[0] == CMS_INVALID_PDU:
            self._fail(self.refuse.pop(0))
            return
        mr = self.last_mr = (self.last_mr + 1) % 0x100
        if self.power_cut == "before_network":
            self._cut()
            return
        if self.refuse:
            self._fail(self.refuse.pop(0))
            return
        try:
            self.network.submit(pdu, mr)
        except PduError as error:
            log.warning("network refuses: %s", error)
            self._fail(CMS_NO_NETWORK)
            return
        if self.power_cut == "after_network":
            self._cut()
            return
        self._sending = asyncio.get_running_loop().call_later(self.answer_delay_s, self._sent, mr)

    def _sent(self, mr: int) -> None:
        self._sending = None
        self._final(f"+CMGS: {mr}")


async def run(
    link: Path,
    control: Path | None,
    *,
    seed: int,
    slots: int,
    answer_delay_s: float,
    report_delay_s: float,
    model: str = "sim800c",
    pin: str = "",
) -> None:
    """Runs a modem and its network until SIGINT or SIGTERM; removes link and socket at the end."""
    network = Network(seed=seed, report_delay_s=report_delay_s)
    network.listeners.append(lambda entry: log.info("%s", entry))
    modem = Modem(link, network, slots=slots, answer_delay_s=answer_delay_s, model=model, pin=pin)
    modem.plug()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        async with serve(control, modem) if control else contextlib.nullcontext():
            await stop.wait()
    finally:
        modem.unplug()
        network.close()


@click.command()
@click.option("--link", type=click.Path(path_type=Path), required=True, help="Where the terminal appears.")
@click.option(
    "--control", type=click.Path(path_type=Path), help="Unix socket that takes orders, one JSON a line."
)
@click.option("--seed", default=0, show_default=True, help="Seed of references and shuffling.")
@click.option("--slots", default=30, show_default=True, help="Texts the SIM can hold.")
@click.option("--answer-delay", default=0.0, show_default=True, help="Seconds the network takes for a text.")
@click.option("--report-delay", default=0.2, show_default=True, help="Seconds until a status report.")
@click.option("--model", type=click.Choice(tuple(MODELS)), default="sim800c", show_default=True)
@click.option("--pin", default="", help="PIN of the SIM; without one it wants none.")
def main(  # noqa: PLR0917  click gives them by name
    link: Path,
    control: Path | None,
    seed: int,
    slots: int,
    answer_delay: float,
    report_delay: float,
    model: str,
    pin: str,
) -> None:
    """Simulated modem on a pseudo terminal, with a network and phones behind it.

    What happens is told on standard error. Ctrl-C ends it.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    parts = run(
        link,
        control,
        seed=seed,
        slots=slots,
        answer_delay_s=answer_delay,
        report_delay_s=report_delay,
        model=model,
        pin=pin,
    )
    asyncio.run(parts)


if __name__ == "__main__":
    main()
