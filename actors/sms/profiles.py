"""How modems differ, as data: a new modem is a new row.

Sources: SIMCom, «SIM800 Series AT Command Manual» 1.12 and «SIM7000 Series AT Command Manual» 1.03.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Profile:
    """One family of modems, recognised by what AT+CGMM begins with."""

    model: str
    settings: tuple[str, ...]
    """Sent once when the line opens, in order, and before ``announcing``; each must be taken."""
    announcing: str = "AT+CNMI=2,1,0,1,0"
    """Texts are stored and announced, status reports shown live (+CDS) and not stored. Must be taken too."""
    wishes: tuple[str, ...] = ()
    """Sent too, but a modem may refuse them."""
    registration: str = "CREG"
    """Command that tells the registration: CREG (2G), CEREG (LTE-M, TS 27.007 §10.1.22)."""
    pin_tries: str = "AT+SPIC"
    """Command that tells how many tries the SIM still grants; its first number counts."""


TEXTS: Final = ("ATE0", "AT+CMGF=0", 'AT+CPMS="SM","SM","SM"')
"""No echo, PDU mode, texts to the SIM (3GPP TS 27.005 §3)."""

CALLER: Final = "AT+CLIP=1"
"""Calls with their number (TS 27.007 §7.6)."""

ANY: Final = Profile("", TEXTS, wishes=("AT+CREG=1", CALLER))

PROFILES: Final = (
    # «AT+CSCLK=0»: a sleeping UART loses the first octets of a command.
    Profile("SIMCOM_SIM800", TEXTS, wishes=("AT+CSCLK=0", "AT+CREG=1", CALLER)),
    # Keeps status reports on the SIM (+CDSI), so those that come while EVY is down are not lost.
    Profile(
        "SIMCOM_SIM7000",
        TEXTS,
        "AT+CNMI=2,1,0,2,0",
        ("AT+CSCLK=0", "AT+CEREG=1", CALLER),
        registration="CEREG",
    ),
)

BOOTED: Final = frozenset({"RDY", "SMS Ready", "Call Ready", "NORMAL POWER DOWN", "+CPIN: NOT READY"})
"""Said unasked by a modem that has just started, or is going down: its settings are gone."""


def profile_of(model: str) -> Profile:
    """The row for what AT+CGMM says, or the one that suits any modem of the standard."""
    return next((row for row in PROFILES if model.startswith(row.model)), ANY)
