"""Asking a modem on its serial line how it is, for `evy doctor` and `evy hw check`."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec
import serial

from actors.sms.config import ModemConfig
from actors.sms.gammu_modem import speed_of

Verdict = Literal["ok", "skip", "warn", "fail"]
"""skip: it was not looked at, and ``found`` says why."""

ANSWERS_WITHIN_S: Final = 2.0
NETWORK_WITHIN_S: Final = 20.0
"""For questions that the modem passes on to the network."""
WEAK: Final = 7
"""Of 31, 3GPP TS 27.007 §8.5: -99 dBm; below it texts get lost on the way."""
UNKNOWN: Final = 99
REGISTRATION: Final = {
    0: "not searching",
    1: "home",
    2: "searching",
    3: "denied by the network",
    4: "unknown",
    5: "roaming",
}
"""3GPP TS 27.007 §7.2."""
FULL_SHARE: Final = 0.8


class Finding(msgspec.Struct, frozen=True):
    """One line: what was looked at, what was found, and how to mend it."""

    check: str
    verdict: Verdict
    found: str
    mend: str = ""


class Line:
    """A modem's serial line, one command at a time."""

    def __init__(self, port: serial.Serial) -> None:
        self._port = port

    def ask(self, command: str, within_s: float = ANSWERS_WITHIN_S) -> str:
        """The answer on one line; what came until then when it does not end."""
        self._port.write(f"{command}\r".encode())
        answer, until = "", time.monotonic() + within_s
        while time.monotonic() < until and not re.search(r"(OK|ERROR.*)\r\n$", answer):
            answer += self._port.read(256).decode("ascii", "replace")
        return " ".join(answer.replace(command, "").split())


def check_modem(modem: ModemConfig, *, in_use: bool, deep: bool = False) -> Iterator[Finding]:
    """One modem's device and what it answers when nobody else holds it. ``deep`` also asks for network, SMS
    storage and supply; it changes nothing on the modem."""
    name = modem.name
    if not Path(modem.device).exists():
        yield Finding(
            name, "fail", f"{modem.device} does not exist", "plug it in; `ls /dev/ttyUSB* /dev/serial0`"
        )
        return
    if in_use:
        yield Finding(
            name,
            "skip" if deep else "ok",
            f"{modem.device} is in use by the running node; its log says how it is",
            "to have it asked, stop the node first: `sudo systemctl stop evy`" if deep else "",
        )
        return
    try:
        with serial.Serial(modem.device, speed_of(modem.connection), timeout=0.1, exclusive=True) as port:
            port.write(b"\x1b")
            yield from _ask(name, modem.device, Line(port), deep=deep)
    except (serial.SerialException, OSError, ValueError) as error:
        yield Finding(name, "fail", f"{modem.device}: {error}", "permissions: add this user to group dialout")


def _ask(name: str, device: str, line: Line, *, deep: bool) -> Iterator[Finding]:
    if "OK" not in line.ask("AT"):
        yield Finding(
            name, "fail", f"{device} does not answer AT", "power, cable, or speed ([sms] connection)"
        )
        return
    yield Finding(name, "ok", f"{device}: {line.ask('AT+CGMM').removesuffix(' OK')}")
    pin = line.ask("AT+CPIN?")
    yield Finding(
        f"{name} SIM",
        "ok" if "READY" in pin else "fail",
        pin.removesuffix(" OK"),
        "insert a SIM card; with a PIN name its file: [sms] pin_file",
    )
    yield _network(name, line)
    if deep:
        yield _operator(name, line)
        yield _storage(name, line)
        yield _centre(name, line)
        yield from _supply(name, line)


def _network(name: str, line: Line) -> Finding:
    registered = re.search(r"\+CREG: \d,(\d)", line.ask("AT+CREG?"))
    state = int(registered[1]) if registered else 4
    signal = re.search(r"\+CSQ: (\d+)", line.ask("AT+CSQ"))
    strength = int(signal[1]) if signal else UNKNOWN
    told = f"signal {strength} of 31 ({2 * strength - 113} dBm)" if strength != UNKNOWN else "no signal"
    if state not in {1, 5} or strength == UNKNOWN:
        verdict: Verdict = "fail"
    else:
        verdict = "ok" if strength >= WEAK else "warn"
    where = (
        "registered"
        if state == 1
        else f"registered ({REGISTRATION[5]})"
        if state == 5
        else (f"not registered ({REGISTRATION.get(state, 'unknown')})")
    )
    return Finding(
        f"{name} network", verdict, f"{where}, {told}", "antenna and place; is 2G still on in this country?"
    )


def _operator(name: str, line: Line) -> Finding:
    found = re.search(r'\+COPS: \d,\d,"([^"]*)"', line.ask("AT+COPS?", NETWORK_WITHIN_S))
    return Finding(
        f"{name} operator",
        "ok" if found else "warn",
        found[1] if found else "none told",
        "wait a minute after power-on; another SIM shows whether it is the network",
    )


def _storage(name: str, line: Line) -> Finding:
    found = re.search(r'\+CPMS: "(\w+)",(\d+),(\d+)', line.ask("AT+CPMS?"))
    if not found:
        return Finding(
            f"{name} SMS storage", "fail", "the modem tells of none", "insert a SIM card; AT+CPMS must work"
        )
    used, size = int(found[2]), int(found[3])
    if size == 0 or used >= size:
        verdict: Verdict = "fail"
    else:
        verdict = "warn" if used >= FULL_SHARE * size else "ok"
    return Finding(
        f"{name} SMS storage",
        verdict,
        f"{used} of {size} places on {found[1]} are taken",
        "EVY empties it when it runs; what stays there is unreadable: `evy dlq ls`",
    )


def _centre(name: str, line: Line) -> Finding:
    found = re.search(r'\+CSCA: "(\+?\d+)"', line.ask("AT+CSCA?"))
    return Finding(
        f"{name} SMSC",
        "ok" if found else "warn",
        found[1] if found else "the SIM names no message centre: texts cannot be sent",
        "ask the operator for the number and set it once: AT+CSCA",
    )


def _supply(name: str, line: Line) -> Iterator[Finding]:
    found = re.search(r"\+CBC: \d+,\d+,(\d+)", line.ask("AT+CBC"))
    if found and (millivolt := int(found[1])) > 0:
        yield Finding(
            f"{name} supply",
            "ok" if millivolt >= 3500 else "warn",
            f"{millivolt / 1000:.2f} V at the modem",
            "it draws 2 A for half a second when it sends: a stronger supply, shorter wires, a capacitor",
        )
