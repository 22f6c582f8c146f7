"""What breaks in a soak. A fault breaks a :class:`Site` for so many real seconds and mends it again.

Faults may overlap: what one mends another may have broken meanwhile, which is a fault too. :func:`heal` ends
them all.
"""

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import psutil

from simulators.control import (
    Cut,
    Fail,
    Half,
    Muddle,
    Mute,
    Noise,
    Plug,
    Reboot,
    Refuse,
    Register,
    Slots,
    Slow,
    Unplug,
)
from simulators.disk import orders as card
from simulators.link_control import Flap
from tests.scenarios.clocks import set_clock
from tests.soak.site import Site

MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0
HOME, SEARCHING, DENIED = 1, 2, 3
SLOTS: Final = 30
FULL_PERCENT: Final = 90.0
PROMPT_CMS: Final = (41, 42, 47, 500, 512)
"""Refusals that a network takes back: temporary failure, congestion, no resources, unknown, busy."""
NO_CREDIT_CMS: Final = (21, 50)
SIM_BUSY_CME: Final = "+CME ERROR: 14"

Break = Callable[[Site, random.Random, float], Awaitable[None]]
"""Of a site, a source of chance, and real seconds."""


class Trouble(NamedTuple):
    """A fault by name: how it is done, and its shortest and longest length in simulated seconds."""

    do: Break
    least_s: float
    most_s: float


# -- the modem ---------------------------------------------------------------------------------------------


async def mute(site: Site, chance: random.Random, seconds: float) -> None:
    """The firmware hangs: it takes everything and says nothing."""
    await site.order(Mute())
    await asyncio.sleep(seconds)
    await site.order(Mute(on=False))


async def reboot(site: Site, chance: random.Random, seconds: float) -> None:
    """It starts anew by itself, deaf meanwhile."""
    await site.order(Reboot(min(seconds, 15)))
    await asyncio.sleep(min(seconds, 15))


async def replug(site: Site, chance: random.Random, seconds: float) -> None:
    """It falls off the USB and comes back: its power was gone."""
    async with site.powered:
        site.power_losses += 1
        await site.order(Unplug())
        await asyncio.sleep(seconds)
        await site.order(Plug())


async def power_cut_of_modem(site: Site, chance: random.Random, seconds: float) -> None:
    """It loses its power in the middle of the next text that it sends."""
    async with site.powered:
        site.power_losses += 1
        await site.order(Cut(chance.choice(("prompt", "before_network", "after_network"))))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30):
                while site.modem.is_symlink():  # until a text is sent
                    await asyncio.sleep(0.1)
        await asyncio.sleep(seconds)
        await site.order(Plug())


async def no_network(site: Site, chance: random.Random, seconds: float) -> None:
    """The tower is gone."""
    await site.order(Register(chance.choice((SEARCHING, DENIED))))
    await asyncio.sleep(seconds)
    await site.order(Register(HOME))


async def refusals(site: Site, chance: random.Random, seconds: float) -> None:
    """The network refuses texts for passing reasons."""
    await site.order(Refuse(tuple(chance.choices(PROMPT_CMS, k=chance.randint(1, 6)))))


async def no_credit(site: Site, chance: random.Random, seconds: float) -> None:
    """Every text is refused until somebody tops the credit up."""
    await site.order(Refuse((chance.choice(NO_CREDIT_CMS),), always=True))
    await asyncio.sleep(seconds)
    await site.order(Refuse(()))


async def sim_busy(site: Site, chance: random.Random, seconds: float) -> None:
    """Commands about the SIM fail."""
    for command in ("AT+CMGL", "AT+CMGR", "AT+CMGD", "AT+CPMS", "AT+CRSM"):
        await site.order(Fail(command, SIM_BUSY_CME, times=chance.randint(0, 2)))


async def lost_answers(site: Site, chance: random.Random, seconds: float) -> None:
    """Commands are not answered at all, once each."""
    for command in chance.sample(("AT+CMGL", "AT+CMGR", "AT+CMGD", "AT+CMGS", "AT+CSQ"), 2):
        await site.order(Fail(command, ""))


async def slow_network(site: Site, chance: random.Random, seconds: float) -> None:
    """The network takes 3 to 6 s for each text."""
    await site.order(Slow(3, 6))
    await asyncio.sleep(seconds)
    await site.order(Slow(0))


async def noise(site: Site, chance: random.Random, seconds: float) -> None:
    """Octets appear on the line that nobody sent."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:
        await site.order(Noise(random=chance.randint(1, 40)))
        await asyncio.sleep(chance.uniform(0.2, 3))


async def half_lines(site: Site, chance: random.Random, seconds: float) -> None:
    """Of what the modem says only the beginning gets through, now and then."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:
        await site.order(Half(chance.randint(0, 30)))
        await asyncio.sleep(chance.uniform(0.5, 4))


async def storage_full(site: Site, chance: random.Random, seconds: float) -> None:
    """The SIM has room for two texts."""
    await site.order(Slots(2))
    await asyncio.sleep(seconds)
    await site.order(Slots(SLOTS))


async def muddle(site: Site, chance: random.Random, seconds: float) -> None:
    """The network delivers parts twice, late, and in any order."""
    await site.order(Muddle(twice=0.3, late=0.3, shuffled=0.7, up_to_s=site.pace.real_s(300)))
    await asyncio.sleep(seconds)
    await site.order(Muddle())


# -- the node ----------------------------------------------------------------------------------------------


async def kill(site: Site, chance: random.Random, seconds: float) -> None:
    """kill -9 of one process after the other."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:
        if living := list(site.processes()):
            with contextlib.suppress(psutil.NoSuchProcess):
                chance.choice(living)[1].kill()
        await asyncio.sleep(chance.uniform(2, 10))


async def kill_server(site: Site, chance: random.Random, seconds: float) -> None:
    """kill -9 of nats-server."""
    _signal(site, "nats-server", signal.SIGKILL)


async def restart_server(site: Site, chance: random.Random, seconds: float) -> None:
    """nats-server is stopped and started as for an upgrade."""
    _signal(site, "nats-server", signal.SIGTERM)


async def restart_node(site: Site, chance: random.Random, seconds: float) -> None:
    """`systemctl restart evy`."""
    async with site.powered:
        await site.node.down(gently=True)
        await site.node.up()


async def freeze(site: Site, chance: random.Random, seconds: float) -> None:
    """One process stands still and goes on."""
    living = list(site.processes())
    if not living:
        return
    process = chance.choice(living)[1]
    with contextlib.suppress(psutil.NoSuchProcess):
        process.suspend()
        await asyncio.sleep(seconds)
        process.resume()


async def low_battery(site: Site, chance: random.Random, seconds: float) -> None:
    """The battery is nearly empty: below one of the limits or all of them."""
    await site.charge(chance.uniform(6, 45))
    await asyncio.sleep(seconds)
    await site.charge(FULL_PERCENT)


def _signal(site: Site, name: str, number: signal.Signals) -> None:
    for found, process in site.processes():
        if found == name:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


async def power_cut(site: Site, chance: random.Random, seconds: float) -> None:
    """The power is gone; what was not synced is gone, or half of it is."""
    await site.lose_power(chance.choice((None, chance.randrange(1 << 30))), seconds)


async def clock_jump(site: Site, chance: random.Random, seconds: float) -> None:
    """The wall clock of everything jumps hours or months, as when a Pi starts in 1970 and learns the time."""
    ahead_s = chance.choice((HOUR_S, -HOUR_S, 90 * 24 * HOUR_S, -30 * 365 * 24 * HOUR_S))
    _set_clocks(site, int(ahead_s))
    try:
        await asyncio.sleep(seconds)
    finally:
        _set_clocks(site, 0)


def _set_clocks(site: Site, ahead_s: int) -> None:
    for _, process in site.processes():
        with contextlib.suppress(OSError, psutil.Error):
            set_clock(process.pid, ahead_s)


# -- the card ----------------------------------------------------------------------------------------------


async def full_card(site: Site, chance: random.Random, seconds: float) -> None:
    """Not an octet fits."""
    await asyncio.to_thread(site.disk.do, card.Room(0))
    await asyncio.sleep(seconds)
    await asyncio.to_thread(site.disk.do, card.Room())


async def slow_card(site: Site, chance: random.Random, seconds: float) -> None:
    """Each fsync takes its time."""
    await asyncio.to_thread(site.disk.do, card.Slow(chance.choice((0.02, 0.1, 0.3))))
    await asyncio.sleep(seconds)
    await asyncio.to_thread(site.disk.do, card.Slow())


async def card_fails(site: Site, chance: random.Random, seconds: float) -> None:
    """An fsync fails, and what it was to write is lost."""
    await asyncio.to_thread(site.disk.do, card.Fail(1))


# -- the link and the centre -------------------------------------------------------------------------------


async def link_down(site: Site, chance: random.Random, seconds: float) -> None:
    """No link, in one of the ways there are."""
    site.link.suffer(chance.choice(("cut", "close", "stall", "drop", "half_up", "half_down")))
    await asyncio.sleep(seconds)
    site.link.heal()


async def flapping(site: Site, chance: random.Random, seconds: float) -> None:
    """The link comes and goes."""
    site.link.flap(Flap(up_s=(0.3, 6.0), down_s=(0.2, 4.0), for_s=seconds))
    await asyncio.sleep(seconds)
    site.link.stop_flapping()
    site.link.heal()


async def centre_dies(site: Site, chance: random.Random, seconds: float) -> None:
    """The centre's server or its actor is killed and comes back."""
    process = chance.choice(site.hub).process
    if process and process.returncode is None:
        process.kill()


TROUBLES: Final = {
    "mute": Trouble(mute, 5, 2 * MINUTE_S),
    "reboot": Trouble(reboot, 2, 15),
    "replug": Trouble(replug, 1, 10 * MINUTE_S),
    "power cut of the modem": Trouble(power_cut_of_modem, 1, 5 * MINUTE_S),
    "no network": Trouble(no_network, 5, 6 * HOUR_S),
    "refusals": Trouble(refusals, 1, 1),
    "no credit": Trouble(no_credit, MINUTE_S, HOUR_S),
    "SIM busy": Trouble(sim_busy, 1, 1),
    "lost answers": Trouble(lost_answers, 1, 1),
    "slow network": Trouble(slow_network, MINUTE_S, HOUR_S),
    "noise": Trouble(noise, 5, 10 * MINUTE_S),
    "half lines": Trouble(half_lines, 5, 10 * MINUTE_S),
    "storage full": Trouble(storage_full, MINUTE_S, HOUR_S),
    "muddle": Trouble(muddle, 10 * MINUTE_S, 6 * HOUR_S),
    "kill -9": Trouble(kill, 10, 10 * MINUTE_S),
    "kill -9 of the server": Trouble(kill_server, 1, 1),
    "restart of the server": Trouble(restart_server, 1, 1),
    "restart of the node": Trouble(restart_node, 1, 1),
    "frozen process": Trouble(freeze, 2, 5 * MINUTE_S),
    "low battery": Trouble(low_battery, 10 * MINUTE_S, 6 * HOUR_S),
    "power cut": Trouble(power_cut, 1, 3 * HOUR_S),
    "clock jump": Trouble(clock_jump, MINUTE_S, 3 * HOUR_S),
    "full card": Trouble(full_card, 5, HOUR_S),
    "slow card": Trouble(slow_card, MINUTE_S, HOUR_S),
    "failing card": Trouble(card_fails, 1, 1),
    "link down": Trouble(link_down, 5, 12 * HOUR_S),
    "flapping link": Trouble(flapping, MINUTE_S, HOUR_S),
    "centre dies": Trouble(centre_dies, 1, 1),
}


async def heal(site: Site) -> None:
    """Ends everything; a volunteer would have to do none of it: each fault has ended by itself."""
    site.link.stop_flapping()
    site.link.heal()
    await site.charge(FULL_PERCENT)
    for order in (
        Cut(None),
        Refuse(()),
        Mute(on=False),
        Register(HOME),
        Slow(0),
        Slots(SLOTS),
        Muddle(),
        Plug(),
    ):
        await site.order(order)
    await asyncio.to_thread(site.disk.do, card.Room())
    await asyncio.to_thread(site.disk.do, card.Slow())
    for _, process in site.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()
    _set_clocks(site, 0)
    await site.node.up()
