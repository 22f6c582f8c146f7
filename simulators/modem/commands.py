"""The commands a modem knows, one function each: it gets what follows the name, and answers."""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from simulators.network import SMSC

if TYPE_CHECKING:
    from simulators.modem.device import Modem

CMS_NOT_SUPPORTED: Final = 303
CMS_INVALID_INDEX: Final = 321
CMS_NO_RECEIPT_EXPECTED: Final = 340
CMS_PIN: Final = 311
CME_OPERATION_NOT_ALLOWED: Final = 3
CME_PIN: Final = 11
CME_PUK: Final = 12
CME_WRONG_PIN: Final = 16
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

SEMICOLON: Final = re.compile(r';(?=(?:[^"]*"[^"]*")*[^"]*$)')
"""Between commands, not between quotation marks."""

Command = Callable[["Modem", str], None]


def obey(modem: "Modem", line: str) -> None:
    """Answers the commands of a line, up to the first that fails."""
    session = modem.session
    first, *others = SEMICOLON.split(line.rstrip(";"))
    commands = [first, *(f"AT{other.strip()}" for other in others)]
    for command in commands:
        session.failed = True  # until it answers
        session.more_follows = command is not commands[-1]
        _obey(modem, command)
        if session.failed or session is not modem.session:
            break
    session.more_follows = False


def _obey(modem: "Modem", command: str) -> None:
    """Answers a command, unless an order wants another answer for it."""
    upper = command.upper()
    for number, (beginning, result) in enumerate(modem.fail):
        if upper.startswith(beginning):
            del modem.fail[number]
            if result:
                modem.session.final("", result)
            return
    if modem.session.locked and upper.startswith(NEEDS_SIM):
        if upper.startswith("AT+CRSM"):
            modem.session.fail_device(CME_PIN)
        else:
            modem.session.fail(CMS_PIN)
        return
    if upper in modem.model.answers:
        modem.session.final(modem.model.answers[upper])
        return
    for name, handler in COMMANDS.items():
        if upper.startswith(name):
            handler(modem, command[len(name) :].strip())
            return
    modem.session.final("", "ERROR")


# -- the line ----------------------------------------------------------------------------------------------


def _set_echo(modem: "Modem", value: str) -> None:
    modem.session.echo = value != "0"
    modem.session.final()


def _set_errors(modem: "Modem", value: str) -> None:
    session = modem.session
    if value == "?":
        session.final(f"+CMEE: {session.errors}")
    elif value in {"=0", "=1", "=2"}:
        session.errors = int(value[1])
        session.final()
    else:
        session.final("", "ERROR")


def _restart(modem: "Modem", _: str) -> None:
    modem.session.final()
    modem.reboot(RESTART_S)


def _service(modem: "Modem", value: str) -> None:
    session = modem.session
    if value == "?":
        session.final(f"+CSMS: {int(session.wants_receipts)},1,1,1")
    elif value in {"=0", "=1"}:
        session.ask_for_receipts(wanted=value == "=1")
        session.final("+CSMS: 1,1,1")
        modem.network.offer()
    else:
        session.fail(CMS_NOT_SUPPORTED)


def _receipt(modem: "Modem", _: str) -> None:
    if modem.session.receipt():
        modem.session.final()
        modem.network.offer()
    else:
        modem.session.fail(CMS_NO_RECEIPT_EXPECTED)


def _show_caller(modem: "Modem", value: str) -> None:
    session = modem.session
    if value == "?":
        session.final(f"+CLIP: {int(session.shows_caller)},1")
    elif value in {"=0", "=1"}:
        session.shows_caller = value == "=1"
        session.final()
    else:
        session.final("", "ERROR")


def _hang_up(modem: "Modem", _: str) -> None:
    if modem.calls:
        modem.calls[-1].hang_up()
    modem.session.final()


# -- SIM and network ---------------------------------------------------------------------------------------


def _enter_pin(modem: "Modem", value: str) -> None:
    session = modem.session
    if value == "?":
        code = "READY" if not session.locked else "SIM PIN" if modem.pin_left else "SIM PUK"
        session.final(f"+CPIN: {code}")
    elif not session.locked or not modem.pin_left:
        session.fail_device(CME_PUK if session.locked else CME_OPERATION_NOT_ALLOWED)
    elif value == f'="{modem.pin}"':
        session.locked, modem.pin_left = False, PIN_TRIES
        session.final()
        session.say("\r\n+CPIN: READY\r\n")
        modem.network.offer()
    else:
        modem.pin_left -= 1
        session.fail_device(CME_WRONG_PIN)


def _pin_counter(modem: "Modem", _: str) -> None:
    modem.session.final(f"+SPIC: {modem.pin_left},10,3,10")


def _registration(name: str) -> Command:
    def answer(modem: "Modem", value: str) -> None:
        session = modem.session
        if value == "?":
            session.final(f"+{name}: {session.shows_registration},{modem.registered()}")
        elif value in {"=0", "=1", "=2"}:
            session.shows_registration = int(value[1])
            session.final()
        else:
            session.final("", "ERROR")

    return answer


def _operator(modem: "Modem", _: str) -> None:
    modem.session.final("+COPS: 0" + (',0,"EVY"' if modem.in_network else ""))


def _sim_file(modem: "Modem", value: str) -> None:
    if value != EF_SMSS:
        modem.session.final("+CRSM: 106,130")  # file not found (TS 51.011 §9.4.4)
        return
    room = 0xFF if len(modem.sim) < modem.slots else 0xFE
    modem.session.final(f'+CRSM: 144,0,"{modem.last_mr:02X}{room:02X}"')


def _ussd(modem: "Modem", value: str) -> None:
    modem.ussd.command(modem, value)


# -- texts (TS 27.005) -------------------------------------------------------------------------------------


def _set_mode(modem: "Modem", value: str) -> None:
    session = modem.session
    if value == "?":
        session.final(f"+CMGF: {int(session.text_mode)}")
    elif value in {"=0", "=1"}:
        session.text_mode = value == "=1"
        session.final()
    else:
        session.final("", "ERROR")


def _set_parameters(modem: "Modem", value: str) -> None:
    session = modem.session
    if value == "?":
        session.final(f"+CSMP: {session.first_octet},167,0,0")
    elif match := re.fullmatch(r"=(\d{1,3})(,\d{0,3}){0,3}", value):
        session.first_octet = int(match[1])
        session.final()
    else:
        session.final("", "ERROR")


def _character_set(modem: "Modem", value: str) -> None:
    session = modem.session
    if value == "?":
        session.final(f'+CSCS: "{session.charset}"')
    elif match := re.fullmatch(r'="(\w+)"', value):
        session.charset = match[1]
        session.final()
    else:
        session.final("", "ERROR")


def _service_centre(modem: "Modem", _: str) -> None:
    modem.session.final(f'+CSCA: "{SMSC}",145')


def _storage(modem: "Modem", value: str) -> None:
    used = f"{len(modem.sim)},{modem.slots}"
    if value == "?":
        modem.session.final("+CPMS: " + ",".join([f'"SM",{used}'] * 3))
    elif re.fullmatch(r'=("SM"(,"SM"){0,2})', value):
        modem.session.final("+CPMS: " + ",".join([used] * 3))
    else:
        modem.session.fail(CMS_INVALID_INDEX)


def _notifications(modem: "Modem", value: str) -> None:
    session = modem.session
    if value == "?":
        reports = 2 if session.store_reports else int(session.notify_reports)
        session.final(f"+CNMI: 2,{session.texts_shown},0,{reports},0")
    elif re.fullmatch(r"=[0-3](,[0-3]?){0,4}", value):
        fields = value[1:].split(",") + [""] * 4
        if fields[3] == "2" and not modem.model.stores_reports:
            session.final("", "ERROR")
            return
        session.texts_shown = int(fields[1] or 0)
        session.notify_reports = fields[3] == "1"
        session.store_reports = fields[3] == "2"
        session.final()
    else:
        session.final("", "ERROR")


def _list(modem: "Modem", value: str) -> None:
    session = modem.session
    if value == "=?":
        session.final("+CMGL: " + ('("REC UNREAD","REC READ","ALL")' if session.text_mode else "(0-4)"))
        return
    wanted = (LISTS_OF_TEXT_MODE if session.text_mode else LISTS).get(value)
    if wanted is None:
        session.fail(CMS_INVALID_INDEX)
        return
    shown = []
    for slot, (pdu, read) in sorted(modem.sim.items()):
        if read in wanted:
            shown.append(session.shown(f"+CMGL: {slot},", pdu, read, alpha=True))
            modem.sim[slot] = (pdu, True)
    session.final("\r\n".join(shown))


def _slot(modem: "Modem", value: str) -> int | None:
    """Slot of a command, after an error for the client when there is no such slot."""
    slot = value.partition(",")[0]
    if slot.isdecimal() and 1 <= int(slot) <= modem.slots:
        return int(slot)
    modem.session.fail(CMS_INVALID_INDEX)
    return None


def _show(modem: "Modem", value: str) -> None:
    slot = _slot(modem, value)
    if slot is None:
        return
    if slot not in modem.sim:
        modem.session.final()
        return
    pdu, read = modem.sim[slot]
    modem.sim[slot] = (pdu, True)
    modem.session.final(modem.session.shown("+CMGR: ", pdu, read, alpha=True))


def _delete(modem: "Modem", value: str) -> None:
    slot = _slot(modem, value)
    if slot is None:
        return
    if value.endswith(",4"):
        modem.sim.clear()
    else:
        modem.sim.pop(slot, None)
    modem.session.final()
    modem.network.offer()


def _prompt(modem: "Modem", value: str) -> None:
    modem.session.prompt(value)


COMMANDS: Final[Mapping[str, Command]] = {
    "ATE": _set_echo,
    "AT+CMEE": _set_errors,
    "AT+CPIN": _enter_pin,
    "AT+SPIC": _pin_counter,
    "AT+CFUN=1,1": _restart,
    "AT+CREG": _registration("CREG"),
    "AT+CGREG": _registration("CGREG"),
    "AT+CEREG": _registration("CEREG"),
    "AT+COPS?": _operator,
    "AT+CMGF": _set_mode,
    "AT+CSMP": _set_parameters,
    "AT+CSCS": _character_set,
    "AT+CPMS": _storage,
    "AT+CNMI": _notifications,
    "AT+CSMS": _service,
    "AT+CNMA": _receipt,
    "AT+CLIP": _show_caller,
    "AT+CHUP": _hang_up,
    "ATH": _hang_up,
    "AT+CSCA?": _service_centre,
    "AT+CMGL": _list,
    "AT+CMGR=": _show,
    "AT+CMGD=": _delete,
    "AT+CMGS=": _prompt,
    "AT+CRSM=": _sim_file,
    "AT+CUSD": _ussd,
}
"""By the beginning of the command, in capitals; the first that fits. Commands whose answer never changes are
in :mod:`simulators.modem.models`."""
