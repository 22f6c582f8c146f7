"""`evy sim`: simulators that run on their own."""

import click

import simulators.battery
import simulators.disk.__main__
import simulators.feeds
import simulators.link
import simulators.modem.__main__
import simulators.orders
import simulators.provider
import simulators.radio.__main__


@click.group()
def sim() -> None:
    """Run a simulator: hardware or a network that is not here."""


sim.add_command(simulators.modem.__main__.main, "modem")
sim.add_command(simulators.link.main, "link")
sim.add_command(simulators.battery.main, "battery")
sim.add_command(simulators.provider.main, "provider")
sim.add_command(simulators.orders.main, "order")
sim.add_command(simulators.disk.__main__.main, "disk")
sim.add_command(simulators.feeds.main, "feeds")
sim.add_command(simulators.radio.__main__.main, "radio")
