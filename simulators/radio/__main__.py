"""Runs simulated radios: ``python -m simulators.radio``."""

import asyncio
import logging
import signal
import sys
import tempfile
from pathlib import Path

import click
import msgspec

from simulators.orders import described
from simulators.radio.air import Air, Event
from simulators.radio.ground import MOST_RADIOS, Ground
from simulators.radio.orders import AnyOrder, obey, serve, write_picture

log = logging.getLogger("simulators.radio")


def shown(event: Event) -> str:
    """A frame in words, one line."""
    words = [f"{event.at_s:10.3f} s  {event.sender}: {event.octets} octets, {event.airtime_ms:.0f} ms"]
    words += [
        f"{name} {' '.join(radios)}"
        for name in ("heard", "collided", "busy", "lost")
        if (radios := getattr(event, name))
    ]
    if event.violation:
        words.append(f"AGAINST THE LAW: {event.violation}")
    return "; ".join(words)


async def run(air: Air, control: Path, svg: Path | None, orders: tuple[AnyOrder, ...]) -> None:
    """Runs radios until SIGINT or SIGTERM, and draws at the end. Raises ValueError for an order that cannot
    be carried out."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    air.listeners.append(lambda event: log.info("%s", shown(event)))
    air.start()
    try:
        for order in orders:
            obey(order, air)
        async with serve(control, air):
            for module in air.modules:
                click.echo(f"{module.name}\t{module.terminal.link}")
            click.echo(f"control\t{control}")
            await stop.wait()
        if svg:
            write_picture(air, svg)
            log.info("drawn: %s", svg)
    finally:
        air.stop()


class _Command(click.Command):
    """Ends its help with an example and the orders."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's
        with formatter.section("A map, as TOML"):
            formatter.write(EXAMPLE)
        with formatter.section(
            'Orders, each {"do": NAME, FIELD: VALUE, …}; fields in brackets may be left out'
        ):
            formatter.write_text(described(AnyOrder))


EXAMPLE = """\
  [channel]                # all of it may be left out
  region = "EU868"         # EU868, US915, or none: whose law is watched
  height_m = 5.0           # of every antenna
  shadow_db = 4.0          # spread of what chance puts in a link's way
  [[radio]]
  name = "school"
  x_m = 0                  # metres east
  y_m = 0                  # metres north
  gain_db = 2.0            # antenna and cable; left out: 0
  [[radio]]
  name = "clinic"
  x_m = 1500
  y_m = 400
  [[link]]                 # this link's loss besides distance, not chance's
  from = "school"
  to = "clinic"
  loss_db = 12.0
  one_way = true           # left out: both ways
  [[obstacle]]             # every link that crosses it loses so much
  name = "ridge"
  from = [700, -500]
  to = [700, 900]
  loss_db = 20.0
"""


@click.command(cls=_Command)
@click.option(
    "--map",
    "map_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A map, see below.",
)
@click.option(
    "--nodes", type=click.IntRange(1, MOST_RADIOS), help="Make a map of so many radios.  [default: 5]"
)
@click.option("--seed", default=0, show_default=True, help="Seed of the map, of shadows and of every chance.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the terminals appear, each under its radio's name.  [default: a new one under /tmp]",
)
@click.option("--control", type=click.Path(path_type=Path), help="Socket for orders.  [default: DIR/control]")
@click.option(
    "--speed",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.01, 10_000),
    help="How much faster than real time the air is: frames take 1/SPEED of their time.",
)
@click.option(
    "--loss",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1, max_open=True),
    help="Chance of a frame to be lost that would have been heard.",
)
@click.option(
    "--svg", type=click.Path(path_type=Path, dir_okay=False), help="Draw the picture here at the end."
)
@click.option("--order", "orders", multiple=True, help="An order to begin with, as JSON; may be repeated.")
@click.option("--dry", is_flag=True, help="Run nothing: draw the map into --svg, or print who hears whom.")
def main(  # noqa: PLR0917  click gives them by name
    map_file: Path | None,
    nodes: int | None,
    seed: int,
    directory: Path | None,
    control: Path | None,
    speed: float,
    loss: float,
    svg: Path | None,
    orders: tuple[str, ...],
    *,
    dry: bool,
) -> None:
    """Simulated LoRa radios (RYLR896 modules on pseudo terminals) on one channel.

    Prints each radio's terminal and the control socket, a name and a path a line, as soon as they are
    there. What happens in the air is told on standard error. Ctrl-C ends it.

    A node is pointed at its radio like at any serial port. By hand: picocom -b 115200 --omap crcrlf PATH,
    then AT, AT+BAND=869525000, AT+PARAMETER=9,7,1,7, AT+SEND=0,5,HELLO. A radio dies with evy sim order
    SOCKET '{"do": "die", "radio": "n3"}'; a picture of now: evy sim order SOCKET '{"do": "draw", "svg":
    "/tmp/now.svg"}'.
    """
    if map_file and nodes:
        raise click.UsageError("--map has its radios: leave --nodes out")
    try:
        begin = tuple(msgspec.json.decode(order, type=AnyOrder) for order in orders)
    except msgspec.DecodeError as error:
        raise click.BadParameter(str(error), param_hint="--order") from error
    try:
        ground = Ground.read(map_file) if map_file else Ground.made(nodes or 5, seed)
        directory = directory or Path(tempfile.mkdtemp(prefix="evy-radio-"))
        directory.mkdir(parents=True, exist_ok=True)
        air = Air(ground, directory, speed=speed, loss=loss, seed=seed)
        if dry:
            _show(air, svg)
            return
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
        asyncio.run(run(air, control or directory / "control", svg, begin))
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _show(air: Air, svg: Path | None) -> None:
    """The map without running it: powers as a module has them when it is new, 15 dBm."""
    for module in air.modules:
        air.set_power(module.number, module.power_dbm)
    if svg:
        write_picture(air, svg)
        return
    channel = air.ground.channel
    floor_dbm = air.channel.sensitivity_dbm(channel.spreading_factor, channel.bandwidth_hz)
    for sender in air.modules:
        heard = [
            f"{other.name} {margin_db:+.0f} dB"
            for other in air.modules
            if other is not sender
            and (margin_db := air.channel.rssi_dbm(sender.number, other.number) - floor_dbm) >= 0
        ]
        click.echo(f"{sender.name} is heard by {', '.join(heard) or 'nobody'}")


if __name__ == "__main__":
    main()
