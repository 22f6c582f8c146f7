"""What every driver does first on the bare line: unlock the SIM, set the modem up, hear how it is."""

import re
import time
from typing import Final

from actors.sms.at_line import AtLine
from actors.sms.modem import ModemLostError, Opened
from actors.sms.profiles import Profile, profile_of
from actors.sms.sim import Pin, SimError

ROUSE_S: Final = 20.0
"""How long a modem may stay silent before it is given up: starting takes 10 s, a text on air up to 6 s."""
BUSY_S: Final = 20.0
"""How long a SIM may be busy after the modem has started."""
BUSY_LOOK_S: Final = 0.5

LAST_REFERENCE: Final = "AT+CRSM=176,28483,0,0,2"
"""READ BINARY of EF_SMSS, whose first octet is the last TP-MR used (3GPP TS 51.011 §10.5.7)."""

REGISTRATION: Final = {
    "0": "none, not searching",
    "1": "home",
    "2": "searching",
    "3": "denied",
    "5": "roaming",
    "6": "home, SMS only",
    "7": "roaming, SMS only",
}
"""TS 27.007 §7.2; anything else is unknown."""


def ready(line: AtLine, pin: Pin, named: str = "") -> tuple[Opened, Profile]:
    """Readies a modem in any state, even with a half-given text: by the row ``named``, or by what it says.

    Raises :class:`ModemLostError`.
    """
    line.rouse(ROUSE_S)
    model = _bare(line, "AT+CGMM")
    profile = profile_of(named or model)
    line.ask("AT+CMEE=1")  # errors by number, or a wrong PIN looks like any other error
    pin.unlock(line.ask, profile.pin_tries)
    busy_until_s = time.monotonic() + BUSY_S
    for setting in (*profile.settings, profile.announcing):
        while refused := line.ask(setting).refusal:
            if refused.remedy != "later" or time.monotonic() > busy_until_s:
                raise ModemLostError(f"the modem ({model}) refuses {setting}: {refused}")
            line.listen(BUSY_LOOK_S)
    for wish in profile.wishes:
        line.ask(wish)
    service_centre = re.match(r'"([^"]+)"', line.ask("AT+CSCA?").field("+CSCA:"))
    if service_centre is None:
        raise SimError("the SIM names no service centre: set it once with AT+CSCA")
    details = {
        "model": model,
        "imei": _bare(line, "AT+CGSN"),
        "smsc": service_centre[1],
        **status(line, profile),
    }
    return Opened(last_reference(line), details), profile


def status(line: AtLine, profile: Profile) -> dict[str, str]:
    """Registration, operator, signal (0 to 31, 99 unknown; TS 27.007 §8.5) and texts in storage."""
    registration = line.ask(f"AT+{profile.registration}?").field(f"+{profile.registration}:")
    operator = line.ask("AT+COPS?").field("+COPS:").split(",")
    storage = line.ask("AT+CPMS?").field("+CPMS:").split(",")
    return {
        "registration": REGISTRATION.get(registration.partition(",")[2][:1], "unknown"),
        "operator": operator[2].strip('"') if len(operator) > 2 else "",
        "signal": line.ask("AT+CSQ").field("+CSQ:").partition(",")[0],
        "storage": f"{storage[1]} of {storage[2]}" if len(storage) > 2 else "",
    }


def last_reference(line: AtLine) -> int | None:
    """TP-MR of the last submission, None when the modem does not tell."""
    told = re.match(r'144,\d+,"?([0-9A-Fa-f]{2})', line.ask(LAST_REFERENCE).field("+CRSM:"))
    return int(told[1], 16) if told else None


def _bare(line: AtLine, command: str) -> str:
    """An answer that has no name in front: the first line that none of what is said unasked looks like."""
    lines = (said for said in line.ask(command).lines if said[0] not in "+*" and said != "RING")
    return next(lines, "")
