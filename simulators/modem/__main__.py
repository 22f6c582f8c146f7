"""Runs a simulated modem: ``python -m simulators.modem --link PATH``."""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from simulators.control import AnyOrder, obey, serve
from simulators.modem.device import Modem
from simulators.modem.models import MODELS
from simulators.network import Network
from simulators.orders import described

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
    orders: Sequence[AnyOrder] = (),
) -> None:
    """Runs a modem and its network until SIGINT or SIGTERM; removes link and socket at the end.

    Raises ValueError when one of the ``orders`` cannot be carried out.
    """
    network = Network(seed=seed, report_delay_s=report_delay_s)
    network.listeners.append(lambda entry: log.info("%s", entry))
    modem = Modem(link, network, slots=slots, answer_delay_s=answer_delay_s, model=model, pin=pin, seed=seed)
    modem.plug()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        for order in orders:
            obey(order, modem)
        async with serve(control, modem) if control else contextlib.nullcontext():
            await stop.wait()
    finally:
        modem.unplug()
        network.close()


class _Command(click.Command):
    """Ends its help with the orders, one a paragraph; click would fill them into one."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's
        with formatter.section(
            'Orders, each {"do": NAME, FIELD: VALUE, …}; fields in brackets may be left out'
        ):
            formatter.write_text(described(AnyOrder))


@click.command(cls=_Command)
@click.option("--link", type=click.Path(path_type=Path), required=True, help="Where the terminal appears.")
@click.option(
    "--control", type=click.Path(path_type=Path), help="Unix socket that takes orders, one JSON a line."
)
@click.option("--order", "orders", multiple=True, help="An order to begin with, as JSON; may be repeated.")
@click.option("--seed", default=0, show_default=True, help="Seed of everything that is left to chance.")
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
    orders: tuple[str, ...],
) -> None:
    """Simulated modem on a pseudo terminal, with a network and phones behind it.

    What happens is told on standard error. Ctrl-C ends it.

    It obeys orders, at its start and at the socket of --control, where each is one line of JSON. A network
    that takes 3 to 6 s for a text: --order '{"do": "slow", "answer_delay_s": 3, "up_to_s": 6}'. A modem that
    loses its network now: evy sim order SOCKET '{"do": "register", "status": 2}'.
    """
    try:
        begin = [msgspec.json.decode(order, type=AnyOrder) for order in orders]
    except msgspec.DecodeError as error:
        raise click.BadParameter(str(error), param_hint="--order") from error
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
        orders=begin,
    )
    try:
        asyncio.run(parts)
    except ValueError as error:
        raise click.ClickException(f"--order: {error}") from error


if __name__ == "__main__":
    main()
