"""The battery behind one small boundary: a power-supply class of the kernel, or an INA219 on the I²C bus.

A gauge gives a `Reading` or raises :class:`GaugeError`; what it cannot tell is None.
"""

import stat
import struct
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, Protocol

import msgspec

from subjects.errors import ConfigError, EvyError

PACKS: Final = Path(__file__).with_name("packs.toml")


class GaugeError(EvyError):
    """The gauge could not be read now."""


class Reading(msgspec.Struct, frozen=True):
    """What a gauge tells at one moment. ``draw_w`` is negative while the battery is charged."""

    percent: float | None = None
    charging: bool | None = None
    voltage_v: float | None = None
    draw_w: float | None = None


class Gauge(Protocol):
    """A battery that can be asked."""

    @property
    def name(self) -> str:
        """What it is, for people."""

    def read(self) -> Reading:
        """Asks it; may take milliseconds. Raises :class:`GaugeError`."""


class Pack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Cells of one chemistry: their charge by their voltage at rest."""

    curve: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        rising = all(a[0] < b[0] and a[1] < b[1] for a, b in zip(self.curve, self.curve[1:], strict=False))
        if len(self.curve) < 2 or not rising:
            raise ValueError("curve: at least two pairs of volt and per cent, both rising")

    def percent(self, cell_v: float) -> float:
        """Charge of a cell at ``cell_v`` volts, 0 to 100."""
        below = self.curve[0]
        if cell_v <= below[0]:
            return below[1]
        for above in self.curve[1:]:
            if cell_v <= above[0]:
                share = (cell_v - below[0]) / (above[0] - below[0])
                return below[1] + share * (above[1] - below[1])
            below = above
        return below[1]


def load_pack(name: str, path: Path = PACKS) -> Pack:
    """Chemistry by its name. Raises :class:`ConfigError` for one that is not there or not in order."""
    try:
        packs = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), dict[str, Pack])
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if name not in packs:
        raise ConfigError(f"[power] chemistry = {name!r}: there are {', '.join(packs)}")
    return packs[name]


class PowerSupply:
    """A battery that the kernel has a driver for, such as many UPS HATs.

    Files and units as in the kernel's Documentation/ABI/testing/sysfs-class-power: µV, µA, µW, per cent.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.name = f"power supply {directory.name}"

    def read(self) -> Reading:
        """Reads the files; one that is missing is unknown."""
        if not self._directory.is_dir():
            raise GaugeError(f"{self._directory}: the power supply is gone")
        status = self._text("status")
        charging = {"Charging": True, "Full": True, "Discharging": False, "Not charging": False}.get(status)
        voltage_v = self._micro("voltage_now")
        watts = self._micro("power_now")
        if watts is None and voltage_v is not None and (amperes := self._micro("current_now")) is not None:
            watts = voltage_v * amperes
        if watts is not None:  # drivers differ in the sign; the status does not
            watts = abs(watts) if status != "Charging" else -abs(watts)
        percent = self._number("capacity")
        if percent is None and (full := self._number("energy_full")) and full > 0:
            now = self._number("energy_now")
            percent = None if now is None else 100.0 * now / full
        if percent is not None:
            percent = min(100.0, max(0.0, percent))
        return Reading(percent, charging, voltage_v, watts)

    def _text(self, name: str) -> str:
        try:
            return (self._directory / name).read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            return ""

    def _number(self, name: str) -> float | None:
        try:
            return float(int(self._text(name)))
        except ValueError:
            return None

    def _micro(self, name: str) -> float | None:
        number = self._number(name)
        return None if number is None else number / 1e6


def find_power_supply(directory: Path, name: str = "") -> PowerSupply | None:
    """The battery ``name`` of a directory like /sys/class/power_supply, or its first one."""
    for entry in sorted(directory.iterdir()) if directory.is_dir() else ():
        kind = entry / "type"
        if (not name or entry.name == name) and kind.is_file():
            scope = entry / "scope"  # "Device" is the battery of a mouse
            own = not scope.is_file() or scope.read_text().strip() != "Device"
            if own and kind.read_text().strip() in {"Battery", "UPS"}:
                return PowerSupply(entry)
    return None


ReadRegister = Callable[[int], int]
"""A 16-bit register by its number. Raises OSError."""

CONFIG, SHUNT, BUS = 0x00, 0x01, 0x02
"""Registers of the INA219, TI SBOS448 table 2."""
SHUNT_LSB_V: Final = 10e-6
"""SBOS448 §8.6.3.1; the same at every gain."""
BUS_LSB_V: Final = 4e-3
"""SBOS448 §8.6.3.2; the value is in bits 15 to 3."""
_OVERFLOW: Final = 0x1
_RESET: Final = 0x8000


class Ina219:
    """TI's INA219 beside the battery: its voltage, and the current through a shunt.

    It is only read: at power-on it measures without being asked (SBOS448 §8.6.2.1, mode 111), and the
    program of a UPS HAT may use it too. The current is computed here, so nothing needs calibration.
    """

    def __init__(  # what the datasheet and the board say, in that order
        self,
        register: ReadRegister,
        pack: Pack,
        cells: int,
        shunt_ohms: float,
        resistance_ohms: float = 0.0,
        *,
        charge_is_positive: bool = True,
        name: str = "INA219",
    ) -> None:
        """``resistance_ohms`` of the whole pack and its wires: under load the voltage is lower than the
        charge says."""
        self._register = register
        self._pack = pack
        self._cells = cells
        self._shunt_ohms = shunt_ohms
        self._resistance_ohms = resistance_ohms
        self._sign = -1.0 if charge_is_positive else 1.0
        self.name = name

    def read(self) -> Reading:
        """Asks the chip once. Raises :class:`GaugeError` when it does not answer or answers nonsense."""
        try:
            shunt, bus = self._register(SHUNT), self._register(BUS)
            config = self._register(CONFIG)
        except OSError as error:
            raise GaugeError(f"{self.name} does not answer: {error}") from error
        if {shunt, bus, config} == {0xFFFF} or config & _RESET:
            raise GaugeError(f"{self.name}: nothing answers at this address but the bus")
        voltage_v = (bus >> 3) * BUS_LSB_V
        if voltage_v < 0.5 * self._cells:
            raise GaugeError(f"{self.name}: {voltage_v:.2f} V is no battery of {self._cells} cells")
        if bus & _OVERFLOW:
            return Reading(self._percent(voltage_v, 0.0), None, voltage_v, None)
        [signed] = struct.unpack(">h", shunt.to_bytes(2, "big"))
        amperes = self._sign * signed * SHUNT_LSB_V / self._shunt_ohms
        charging = None if abs(signed) <= 2 else amperes < 0  # two steps are noise
        return Reading(self._percent(voltage_v, amperes), charging, voltage_v, voltage_v * amperes)

    def _percent(self, voltage_v: float, draw_a: float) -> float:
        return self._pack.percent((voltage_v + draw_a * self._resistance_ohms) / self._cells)


def i2c_register(device: Path, address: int) -> ReadRegister:
    """Registers of a chip on an I²C bus. ``device`` is the bus, or a file with the registers one after the
    other, as `evy sim battery` writes it.

    Raises :class:`ConfigError` when it is neither.
    """
    try:
        mode = device.stat().st_mode
    except OSError as error:
        raise ConfigError(
            f"[power] i2c = {str(device)!r}: {error.strerror}; switch the bus on (`dtparam=i2c_arm=on`)"
        ) from error
    if stat.S_ISREG(mode):

        def of_file(register: int) -> int:
            octets = device.read_bytes()[2 * register : 2 * register + 2]
            if len(octets) != 2:
                raise OSError(f"{device} has no register {register}")
            return int.from_bytes(octets, "big")

        return of_file

    from smbus2 import SMBus  # noqa: PLC0415  # most machines have no such bus

    def of_bus(register: int) -> int:
        with SMBus(str(device)) as bus:
            word: int = bus.read_word_data(address, register)
        return int.from_bytes(
            word.to_bytes(2, "little"), "big"
        )  # SMBus sends the low octet first, TI the high

    return of_bus


class PowerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[power]`` table: what feeds the node, and what to do when it ends."""

    gauge: Literal["auto", "none", "power_supply", "ina219"] = "auto"
    """auto: the first battery that the kernel has a driver for, if there is one."""
    supply: str = ""
    """Its name under /sys/class/power_supply; empty: the first."""
    i2c: str = "/dev/i2c-1"
    address: int = 0x40
    """Of the INA219 on the bus; UPS HATs use 0x40 to 0x45."""
    shunt_ohms: float = 0.1
    chemistry: str = "li-ion"
    """A table of packs.toml."""
    cells: int = 1
    """In series."""
    resistance_ohms: float = 0.0
    """Of the pack and its wires, to judge the charge under load."""
    charge_is_positive: bool = True
    """Which way the shunt is wired."""
    sys: str = "/sys"
    """Where the kernel shows the machine; a simulator's directory in tests."""
    governor: bool = False
    """Set the processor's governor by battery, heat and load; needs the right to write it."""
    governor_command: tuple[str, ...] = ()
    """Run with the governor's name instead of writing to the kernel."""
    shutdown_below: float = 0.0
    """Per cent, while not charging, at which the node stops and runs ``shutdown_command``; 0: never."""
    shutdown_after_s: float = 120.0
    """Not before the node has been up for so long: a command that fails must not stop it again and again."""
    shutdown_command: tuple[str, ...] = ("systemctl", "poweroff")
    set_system_clock: bool = False
    """Step the system's clock to the time of the network's texts while no time server keeps it; needs
    CAP_SYS_TIME."""

    def __post_init__(self) -> None:
        if not (self.shunt_ohms > 0 and self.cells >= 1 and self.resistance_ohms >= 0):
            raise ValueError("shunt_ohms > 0, cells >= 1, resistance_ohms >= 0")
        if not 0 <= self.shutdown_below < 100:
            raise ValueError("shutdown_below: 0 to 99 per cent")
        if self.shutdown_below and not self.shutdown_command:
            raise ValueError("shutdown_below without a shutdown_command")


def open_gauge(config: PowerConfig) -> Gauge | None:
    """The gauge that the configuration names; None where there is none. Raises :class:`ConfigError` for one
    that is named and not there."""
    supplies = Path(config.sys) / "class" / "power_supply"
    if config.gauge == "ina219":
        return Ina219(
            i2c_register(Path(config.i2c), config.address),
            load_pack(config.chemistry),
            config.cells,
            config.shunt_ohms,
            config.resistance_ohms,
            charge_is_positive=config.charge_is_positive,
            name=f"INA219 at {config.i2c}:{config.address:#04x}",
        )
    if config.gauge == "none":
        return None
    found = find_power_supply(supplies, config.supply)
    if found is None and config.gauge == "power_supply":
        listed = ", ".join(sorted(entry.name for entry in supplies.glob("*"))) or "nothing"
        raise ConfigError(f"[power] no battery {config.supply!r} in {supplies}; there is {listed}")
    return found
