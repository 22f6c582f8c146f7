"""Runs a simulated modem: ``python -m simulators.modem --link PATH``."""

import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

import click

from simulators.control import serve
from simulators.modem.device import Modem
from simulators.modem.models import MODELS
from simulators.network import Network

log = logging.getLogger("simulators.modem")


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
