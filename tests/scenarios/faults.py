"""What breaks in a scenario: each function breaks a land for so many seconds.

What is still broken at the end is mended by :meth:`Land.heal`, but for clocks, disks and splits, which are
mended here.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from simulators.link_control import Cut, Drop, Flap, Heal, Refuse, Shape, Stall
from tests.scenarios.clocks import set_clock
from tests.scenarios.disks import fill
from tests.scenarios.land import SERVERS, SMALL, Land, Machine, Program

Faults = Callable[[Land, random.Random, float], Awaitable[None]]
"""Of a land, a source of chance, and seconds."""


async def nothing(land: Land, chance: random.Random, seconds: float) -> None:
    """All is well."""


async def cut(land: Land, chance: random.Random, seconds: float) -> None:
    """The link is gone, and everybody is told."""
    await land.order(Refuse())
    await land.order(Cut())
    await asyncio.sleep(seconds)


async def blackhole(land: Land, chance: random.Random, seconds: float) -> None:
    """The link is gone, and nobody is told."""
    await land.order(Drop())
    await asyncio.sleep(seconds)


async def half_open(land: Land, chance: random.Random, seconds: float) -> None:
    """Only one way works, then only the other."""
    for way in ("up", "down"):
        await land.order(Stall(way))
        await asyncio.sleep(seconds / 2)
        await land.order(Heal())


async def flapping(land: Land, chance: random.Random, seconds: float) -> None:
    """Up and down in every way there is, differently at each edge."""
    await land.order(Flap(up_s=(0.3, 4.0), down_s=(0.2, 3.0), for_s=seconds))
    await asyncio.sleep(seconds + 3)


async def thin(land: Land, chance: random.Random, seconds: float) -> None:
    """A line of 50 kbit/s whose echo takes 600 ms."""
    for edge in land.edges.values():
        edge.host.rate(6250)
    await land.order(Shape(delay_s=0.3))
    await asyncio.sleep(seconds)
    await land.settled(3 * seconds)
    for edge in land.edges.values():
        edge.host.rate(None)


async def rolling_restart(land: Land, chance: random.Random, seconds: float) -> None:
    """The centre's servers are restarted one after the other, as for an upgrade."""
    for hub in land.hubs.values():
        await hub.server.down(gently=True)
        await asyncio.sleep(seconds / 12)
        await hub.server.up()
        await land.centre_is_whole()
        await asyncio.sleep(seconds / 12)


async def minority(land: Land, chance: random.Random, seconds: float) -> None:
    """One of the centre's servers dies and comes back, then one is cut off from the others."""
    lost = chance.choice(SERVERS)
    await land.hubs[lost].server.down()
    await asyncio.sleep(seconds / 2)
    await land.hubs[lost].server.up()
    await land.centre_is_whole()
    alone = chance.choice(SERVERS)
    others = [name for name in SERVERS if name != alone]
    land.hosts.part([alone], others)
    await asyncio.sleep(seconds / 2)
    land.hosts.heal([alone], others)


async def majority(land: Land, chance: random.Random, seconds: float) -> None:
    """Two of the centre's servers die at once and come back."""
    lost = chance.sample(SERVERS, 2)
    await asyncio.gather(*(land.hubs[name].server.down() for name in lost))
    await asyncio.sleep(seconds)
    await asyncio.gather(*(land.hubs[name].server.up() for name in lost))


async def edge_servers(land: Land, chance: random.Random, seconds: float) -> None:
    """kill -9 of the edges' servers, again and again."""
    await kill_at_random(chance, seconds, [edge.server for edge in land.edges.values()])


async def every_actor(land: Land, chance: random.Random, seconds: float) -> None:
    """kill -9 of every actor, again and again."""
    victims = [actor for machine in land.machines for actor in machine.actors.values()]
    for victim in victims:
        victim.kill()
    await kill_at_random(chance, seconds, [*victims, *land.feeding])


async def both_sides(land: Land, chance: random.Random, seconds: float) -> None:
    """Everything everywhere loses its power at once, and comes back at different times."""
    programs = [
        program for machine in land.machines for program in (machine.server, *machine.actors.values())
    ]
    await asyncio.gather(*(program.down() for program in programs))
    chance.shuffle(programs)
    for program in programs:
        await program.up()
        await asyncio.sleep(seconds / len(programs))


async def clock_jump(land: Land, chance: random.Random, seconds: float) -> None:
    """The clocks of an edge and of one of the centre's servers are an hour ahead, then an hour behind."""
    machines = [land.edges["edge1"], land.hubs["hub2"]]
    try:
        for ahead_s in (3600, -3600):
            set_clocks(machines, ahead_s)
            await asyncio.sleep(seconds / 4)
            await land.order(Cut())  # what is decided at a new connection is decided by the wrong clock too
            await asyncio.sleep(seconds / 4)
    finally:
        set_clocks(machines, 0)


def set_clocks(machines: Sequence[Machine], ahead_s: int) -> None:
    for machine in machines:
        for program in (machine.server, *machine.actors.values()):
            if program.pid:
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended just now
                    set_clock(program.pid, ahead_s)


async def full_disk(land: Land, chance: random.Random, seconds: float) -> None:
    """The disk of an edge's store is full."""
    filler = fill(land.edges[SMALL].store.parent)
    try:
        await asyncio.sleep(seconds)
    finally:
        filler.unlink()


async def mixed(land: Land, chance: random.Random, seconds: float) -> None:
    """All of it, one after the other and at the same time."""
    until = time.monotonic() + seconds
    quick = [cut, blackhole, half_open, flapping, minority, majority, edge_servers, every_actor, both_sides]
    while time.monotonic() < until:
        some = chance.sample(quick, 2)
        await asyncio.gather(*(one(land, chance, chance.uniform(2, 8)) for one in some))
        await land.heal()
        await asyncio.sleep(chance.uniform(0, 6))


async def kill_at_random(chance: random.Random, seconds: float, victims: Sequence[Program]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        chance.choice(victims).kill()
        await asyncio.sleep(chance.uniform(0.2, 2.5))
