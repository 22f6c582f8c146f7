"""Modems that the simulator can be, as data: what never changes in their answers.

From SIMCom's «SIM800 Series AT Command Manual» and «SIM7000 Series AT Command Manual».
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Model:
    """One modem. ``answers`` are to commands whose answer never changes."""

    answers: Mapping[str, str]
    boot: tuple[str, ...]
    """What it says unasked while it starts."""
    stores_reports: bool
    """Whether +CNMI ds=2 is understood: status reports on the SIM, announced by +CDSI."""


_COMMON: Final = {
    "AT": "",
    "ATZ": "",
    "AT&F": "",
    "AT+CIMI": "001010000000001",
    "AT+CCID": "89001010000000000018",
    "AT+CMGF=?": "+CMGF: (0,1)",
    "AT+CSCS=?": '+CSCS: ("IRA","GSM","UCS2","HEX","PCCP","PCDN","8859-1")',
    "AT+CPMS=?": '+CPMS: ("SM"),("SM"),("SM")',
    "AT+CSMS=?": "+CSMS: (0,1)",
    "AT+IFC=0,0": "",
    "AT+IFC=2,2": "",
    "AT+CSQ": "+CSQ: 20,0",
    "AT+CFUN?": "+CFUN: 1",
    "AT+CFUN=1": "",
    "AT+CBC": "+CBC: 0,95,4100",
    "AT+CHUP=?": "",
    "AT+CSCLK=0": "",
}

MODELS: Final = {
    "sim800c": Model(
        {
            **_COMMON,
            "ATI": "SIM800 R14.18",
            "AT+CGMI": "SIMCOM_Ltd",
            "AT+CGMM": "SIMCOM_SIM800C",
            "AT+CGMR": "Revision:1418B05SIM800C24",
            "AT+CGSN": "866104020000001",
            "AT+CNMI=?": "+CNMI: (0,1,2,3),(0,1,2,3),(0,2),(0,1),(0,1)",
        },
        ("RDY", "+CFUN: 1", "+CPIN: READY", "Call Ready", "SMS Ready"),
        stores_reports=False,
    ),
    "sim7000": Model(
        {
            **_COMMON,
            "ATI": "SIM7000E R1351",
            "AT+CGMI": "SIMCOM INCORPORATED",
            "AT+CGMM": "SIMCOM_SIM7000E",
            "AT+CGMR": "Revision:1351B06SIM7000E",
            "AT+CGSN": "869951030000001",
            "AT+CNMI=?": "+CNMI: (0,1,2),(0,1,2,3),(0,2),(0,1,2),(0,1)",
        },
        ("RDY", "+CFUN: 1", "+CPIN: READY", "SMS Ready"),
        stores_reports=True,
    ),
}
