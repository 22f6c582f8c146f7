"""A solar battery on a table: a day's sun with clouds, a load, and the gauges through which a node reads it.

It speaks through the boundary of the real thing: a directory like /sys/class/power_supply (files and units
of the kernel's ABI), and a file with the registers of an INA219 (TI SBOS448 §8.6) in their order. Simulated
are sun, clouds, charge, the voltage of a lithium cell and its sag under load. Not simulated are the I²C bus
itself (timing, a missing acknowledge), temperature, ageing, and the limits of a charger.

``python -m simulators.battery DIRECTORY`` runs it alone; orders come on a Unix socket.
"""

import asyncio
import contextlib
import math
import random
import signal
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import click
import msgspec

from simulators.orders import Client, Order, serve_orders

DAY_S: Final = 86400.0
SUNRISE_H, SUNSET_H = 6.0, 18.0
CELL_V: Final = (
    (0, 3.00), (5, 3.30), (12, 3.50), (22, 3.60), (38, 3.68),
    (50, 3.75), (62, 3.85), (75, 3.95), (90, 4.08), (100, 4.18),
)  # fmt: skip
"""Per cent and volt at rest of a lithium cell."""
CLOUD_LASTS_S: Final = 1200.0
SHUNT_LSB_V: Final = 10e-6
BUS_LSB_V: Final = 4e-3
INA219_CONFIG: Final = 0x399F
"""After power-on, SBOS448 §8.6.2.1."""
SHUNT_FULL: Final = 0x7FFF


class Battery:
    """The battery's own truth. Time is what :meth:`step` is given."""

    def __init__(  # noqa: PLR0917  # a battery's data sheet
        self,
        capacity_wh: float = 100.0,
        panel_w: float = 40.0,
        load_w: float = 6.0,
        percent: float = 80.0,
        hour: float = 9.0,
        cloudiness: float = 0.4,
        resistance_ohms: float = 0.05,
        seed: int = 1,
    ) -> None:
        """``hour`` is the local time it begins at; ``cloudiness`` 0 is a clear sky, 1 an overcast one."""
        self.capacity_wh = capacity_wh
        self.panel_w = panel_w
        self.load_w = load_w
        self.percent = percent
        self.time_s = hour * 3600.0
        self.cloudiness = cloudiness
        self.resistance_ohms = resistance_ohms
        self._random = random.Random(seed)  # noqa: S311  # weather, not a secret
        self._cloud = cloudiness

    @property
    def hour(self) -> float:
        """Local time of day."""
        return self.time_s % DAY_S / 3600.0

    @property
    def sun_w(self) -> float:
        """What the panel gives now: the sun's height, less the clouds before it."""
        height = math.sin(math.pi * (self.hour - SUNRISE_H) / (SUNSET_H - SUNRISE_H))
        light = max(0.0, height) if SUNRISE_H < self.hour < SUNSET_H else 0.0
        return self.panel_w * light * (1.0 - 0.85 * min(1.0, max(0.0, self._cloud)))

    @property
    def draw_w(self) -> float:
        """What the battery gives now; negative while it is charged. A full one takes nothing."""
        draw = self.load_w - self.sun_w
        if self.percent >= 100.0:
            return max(0.0, draw)
        return draw

    @property
    def status(self) -> str:
        """As the kernel's ABI calls it."""
        if self.percent >= 100.0 and self.draw_w <= 0:
            return "Full"
        return "Charging" if self.draw_w < 0 else "Discharging"

    @property
    def rest_v(self) -> float:
        """Voltage without a load."""
        below = CELL_V[0]
        for above in CELL_V[1:]:
            if self.percent <= above[0]:
                return below[1] + (self.percent - below[0]) / (above[0] - below[0]) * (above[1] - below[1])
            below = above
        return below[1]

    @property
    def current_a(self) -> float:
        """Into the battery; negative while it gives."""
        return -self.draw_w / self.rest_v

    @property
    def voltage_v(self) -> float:
        """At its terminals, under this load."""
        return self.rest_v + self.current_a * self.resistance_ohms

    def step(self, seconds: float) -> None:
        """Lets time pass, a minute at a time at most."""
        while seconds > 0:
            slice_s = min(60.0, seconds)
            seconds -= slice_s
            self.time_s += slice_s
            # Clouds come and go about their mean (an Ornstein-Uhlenbeck process).
            back = slice_s / CLOUD_LASTS_S
            noise = self._random.gauss(0.0, 0.35 * math.sqrt(back))
            self._cloud += (self.cloudiness - self._cloud) * back + noise
            change = -self.draw_w * slice_s / 3600.0 / self.capacity_wh * 100.0
            self.percent = min(100.0, max(0.0, self.percent + change))


class Gauges:
    """What is shown of a battery: a power supply's directory and an INA219's registers."""

    def __init__(self, battery: Battery, directory: Path, shunt_ohms: float = 0.1) -> None:
        self.battery = battery
        self.supply = directory / "class" / "power_supply" / "battery"
        self.registers = directory / "ina219"
        self._shunt_ohms = shunt_ohms
        self.supply.mkdir(parents=True, exist_ok=True)

    def show(self) -> None:
        """Writes what a reader would see now; each file changes in one step."""
        battery = self.battery
        values = {
            "type": "Battery",
            "present": "1",
            "status": battery.status,
            "capacity": str(round(battery.percent)),
            "voltage_now": str(round(battery.voltage_v * 1e6)),
            "current_now": str(round(abs(battery.current_a) * 1e6)),
        }
        for name, value in values.items():
            _write(self.supply / name, f"{value}\n".encode())
        shunt = round(battery.current_a * self._shunt_ohms / SHUNT_LSB_V)
        shunt = max(-SHUNT_FULL, min(SHUNT_FULL, shunt))
        bus = round(battery.voltage_v / BUS_LSB_V) << 3
        _write(self.registers, struct.pack(">HhH", INA219_CONFIG, shunt, bus))


def _write(path: Path, octets: bytes) -> None:
    beside = path.with_name(f".{path.name}")
    beside.write_bytes(octets)
    beside.replace(path)


class Charge(Order, frozen=True, tag="charge"):
    """The battery has ``percent`` now."""

    percent: float


class Load(Order, frozen=True, tag="load"):
    """What hangs on it takes ``watts`` from now on."""

    watts: float


class Sky(Order, frozen=True, tag="sky"):
    """How cloudy it is from now on, 0 to 1."""

    cloudiness: float


class Look(Order, frozen=True, tag="look"):
    """Changes nothing; the reply tells how things are."""


BatteryOrder = Charge | Load | Sky | Look


class BatteryReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the battery is after an order."""

    percent: float = 0.0
    voltage_v: float = 0.0
    draw_w: float = 0.0
    sun_w: float = 0.0
    hour: float = 0.0
    error: str = ""


def reply(battery: Battery) -> BatteryReply:
    """The battery's truth, rounded for people."""
    return BatteryReply(
        percent=round(battery.percent, 2),
        voltage_v=round(battery.voltage_v, 3),
        draw_w=round(battery.draw_w, 2),
        sun_w=round(battery.sun_w, 2),
        hour=round(battery.hour, 2),
    )


@contextlib.asynccontextmanager
async def _orders(gauges: Gauges, socket: Path) -> AsyncIterator[None]:
    battery = gauges.battery

    def obey(order: BatteryOrder, _: Client[BatteryReply]) -> BatteryReply:
        match order:
            case Charge(percent) if 0 <= percent <= 100:
                battery.percent = percent
            case Load(watts) if watts >= 0:
                battery.load_w = watts
            case Sky(cloudiness) if 0 <= cloudiness <= 1:
                battery.cloudiness = cloudiness
            case Look():
                pass
            case _:
                raise ValueError("out of range")
        gauges.show()
        return reply(battery)

    async with serve_orders(socket, BatteryOrder, obey, lambda error: BatteryReply(error=error)):
        yield


async def run(gauges: Gauges, socket: Path, *, speed: float, stop: asyncio.Event) -> None:
    """Lets time pass ``speed`` times as fast as the clock until ``stop``."""
    loop = asyncio.get_running_loop()
    async with _orders(gauges, socket):
        gauges.show()
        last = loop.time()
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.5)
            now = loop.time()
            gauges.battery.step((now - last) * speed)
            last = now
            gauges.show()


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--capacity", default=100.0, show_default=True, help="Watt-hours.")
@click.option(
    "--panel", default=40.0, show_default=True, help="Watts of the panel at noon under a clear sky."
)
@click.option("--load", default=6.0, show_default=True, help="Watts that the node takes.")
@click.option("--percent", default=80.0, show_default=True, help="Charge at the start.")
@click.option("--hour", default=9.0, show_default=True, help="Local time at the start.")
@click.option("--clouds", default=0.4, show_default=True, help="0 is a clear sky, 1 an overcast one.")
@click.option("--speed", default=1.0, show_default=True, help="How much faster than the clock time passes.")
@click.option("--seed", default=1, show_default=True, help="Seed of the clouds.")
@click.option("--days", type=float, help="Print so many days as a table, an hour a line, and end.")
def main(  # noqa: PLR0917  click gives them by name
    directory: Path,
    capacity: float,
    panel: float,
    load: float,
    percent: float,
    hour: float,
    clouds: float,
    speed: float,
    seed: int,
    days: float | None,
) -> None:
    """A solar battery whose gauges stand in DIRECTORY; a node reads them as it reads real ones.

    \b
    [power]                          or      [power]
    sys = "DIRECTORY"                        gauge = "ina219"
    gauge = "power_supply"                   i2c = "DIRECTORY/ina219"

    Orders, given by `evy sim order DIRECTORY/orders JSON`: charge (percent), load (watts), sky (cloudiness),
    look. Example: '{"do": "charge", "percent": 25}'. Ctrl-C ends it.
    """  # noqa: D301  # \b is click's mark against re-wrapping
    if capacity <= 0 or speed <= 0:
        raise click.BadParameter("capacity and speed are more than 0")
    battery = Battery(capacity, panel, load, percent, hour, clouds, seed=seed)
    if days is not None:
        click.echo("hour   sun W  draw W  charge %  volt")
        for _ in range(round(days * 24)):
            click.echo(
                f"{battery.hour:4.0f}  {battery.sun_w:6.1f}  {battery.draw_w:6.1f}  {battery.percent:8.1f}"
                f"  {battery.voltage_v:4.2f}"
            )
            battery.step(3600.0)
        return
    try:
        gauges = Gauges(battery, directory)
    except OSError as error:
        raise click.ClickException(f"cannot write {directory}: {error.strerror or error}") from error

    async def running() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        click.echo(f"battery at {percent:.0f} %, its gauges in {directory}", err=True)
        await run(gauges, directory / "orders", speed=speed, stop=stop)

    asyncio.run(running())


if __name__ == "__main__":
    main()
