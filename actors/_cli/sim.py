"""`evy sim`: simulators that run on their own."""

import click

import simulators.modem


@click.group()
def sim() -> None:
    """Run a simulator: hardware that is not here."""


sim.add_command(simulators.modem.main, "modem")
