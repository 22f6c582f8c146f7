"""`evy sim`: simulators that run on their own."""

import click

from simulators import modem as simulated_modem


@click.group()
def sim() -> None:
    """Run a simulator: hardware that is not here."""


sim.add_command(simulated_modem.main, "modem")
