"""A bad network between two TCP ends: a proxy with delay, rate, cuts, blackholes and flapping, on command.

An edge dials the proxy as it would dial the centre; ``up`` is the way from who dialled to the target,
``down`` the way back. What the link does to bytes:

- *delay* and *jitter*: each piece arrives that much later, never out of order;
- *rate*: all connections of one way share it, in octets per second;
- *stall*: nothing passes, nothing is lost. Closes do not pass either, and who dials is accepted by the
  kernel but meets silence. TCP goes on after the healing, as it does after a short outage;
- *drop*: octets and closes vanish. A connection that lost any is reset at the healing, as after a long
  outage;
- *cut*: connections end, by reset or by close; *truncate*: within what is sent next;
- *refuse*: who dials is refused.

Everything that is chance comes from the seed. Memory is bounded: a connection holds at most
:data:`simulators.flow.HELD_OCTETS` each way beyond the sockets' own buffers, then the sender has to wait.
"""

import asyncio
import contextlib
import logging
import random
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Literal, Self

import click
import uvloop

from simulators.flow import CHUNK_OCTETS, Direction, Pump, ResetError
from simulators.link_control import (
    Cut,
    Drop,
    End,
    Flap,
    Heal,
    LinkOrder,
    LinkReply,
    Outage,
    Refuse,
    Shape,
    Stall,
    Truncate,
    Way,
)
from simulators.orders import Client, serve_orders

log = logging.getLogger("evy.link")

SOCKET_OCTETS: Final = 64 * 1024
"""Receive buffer of our sockets. The kernel's own default lets a sender push megabytes into a 50 kbit/s link
and call them sent; the queue of a real modem is smaller."""
LOOK_AGAIN_S: Final = 0.05


class _Connection:
    """One accepted connection and the one that was dialled for it."""

    def __init__(self, link: "Link", number: int, writer: asyncio.StreamWriter) -> None:
        self.link = link
        self.number = number
        self.writers = [writer]
        self.pumps: list[Pump] = []
        self.broken = False
        """It lost octets, or its start: reset when the link heals."""
        self.end: End = "reset"
        self._files: dict[Way, BinaryIO] = {}

    def capture(self, way: Way, chunk: bytes) -> None:
        """Appends octets to ``<number>.up`` or ``<number>.down`` when the link captures."""
        if self.link.capture is None or not chunk:
            return
        if way not in self._files:
            path = self.link.capture / f"{self.number:06}.{way}"
            self._files[way] = path.open("wb", buffering=0)
        self._files[way].write(chunk)

    async def come_back(self, direction: Direction) -> None:
        """Waits as long as a reset needs by the other way; while that drops, it never comes."""
        link = self.link
        back = link.down if direction is link.up else link.up
        await asyncio.sleep(back.delay())
        await back.passing.wait()
        while back.dropping:  # noqa: ASYNC110  only ends with the link's healing
            await asyncio.sleep(LOOK_AGAIN_S)

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Dials, passes octets both ways until both sides closed, and ends both."""
        link = self.link
        try:
            while link.silent or self.broken:
                self.broken = self.broken or link.dropping
                if reader.at_eof():  # has given up
                    return
                await asyncio.sleep(LOOK_AGAIN_S)
            there, writer = await _dial(link.to)
            self.writers.append(writer)
            self.pumps = [
                Pump(self, link.up, reader, writer),
                Pump(self, link.down, there, self.writers[0]),
            ]
            async with asyncio.TaskGroup() as group:
                for pump in self.pumps:
                    group.create_task(pump.take())
                    group.create_task(pump.give())
            self.end = "close"
        except* (ResetError, OSError) as errors:
            log.debug("connection %d: %s", self.number, errors.exceptions[0])

    def close(self) -> None:
        """Ends both sides. Not in :meth:`run`: a task that is cut before it began runs nothing."""
        for pump in self.pumps:
            pump.forget()
        for file in self._files.values():
            file.close()
        for writer in self.writers:
            _finish(writer, self.end)


async def _dial(to: tuple[str, int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*to, limit=CHUNK_OCTETS)
    _tune(writer)
    return reader, writer


def _tune(writer: asyncio.StreamWriter) -> None:
    connected = writer.get_extra_info("socket")
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_OCTETS)


def _finish(writer: asyncio.StreamWriter, end: End) -> None:
    """Closes, or resets: linger 0 makes the kernel send RST."""
    if end == "close" or writer.is_closing():
        writer.close()
        return
    with contextlib.suppress(OSError):
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


class Link:
    """The proxy: ``async with Link(("127.0.0.1", 0), ("127.0.0.1", 7422), seed=1) as link``.

    ``listen`` may name port 0; ``address`` tells the real one. ``capture`` is a directory for the raw octets,
    two files a connection, unbounded. Methods act at once; none waits.
    """

    def __init__(
        self,
        listen: tuple[str, int],
        to: tuple[str, int],
        *,
        seed: int = 0,
        capture: Path | None = None,
    ) -> None:
        self.address = listen
        self.to = to
        self.seed = seed
        self.capture = capture
        self.up = Direction("up", seed)
        self.down = Direction("down", seed)
        self.accepted = 0
        self.refusing = False
        self._server: asyncio.Server | None = None
        self._wanted = asyncio.Event()
        self._running: dict[asyncio.Task[None], _Connection] = {}
        self._flapping: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self.capture:
            self.capture.mkdir(parents=True, exist_ok=True)
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop_flapping()
        self.refuse()
        self.cut()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._accept, *self.address, limit=CHUNK_OCTETS)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = (host, port)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        _tune(writer)
        connection = _Connection(self, self.accepted, writer)
        task = asyncio.get_running_loop().create_task(connection.run(reader))
        self._running[task] = connection
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task).close()
        if not task.cancelled() and (error := task.exception()):
            log.error("a connection ended by a bug", exc_info=error)

    @property
    def dropping(self) -> bool:
        """Whether octets vanish, one way or both."""
        return self.up.dropping or self.down.dropping

    @property
    def silent(self) -> bool:
        """Whether a connection cannot be made: its first exchange needs both ways."""
        return self.dropping or not (self.up.passing.is_set() and self.down.passing.is_set())

    def directions(self, way: Way | Literal["both"]) -> tuple[Direction, ...]:
        """One way or both."""
        return (self.up, self.down) if way == "both" else (self.up if way == "up" else self.down,)

    def shape(
        self,
        way: Way | Literal["both"] = "both",
        *,
        delay_s: float = 0.0,
        jitter_s: float = 0.0,
        rate: float | None = None,
    ) -> None:
        """Sets delay, jitter and rate (octets per second; None is unlimited); healing leaves them."""
        for direction in self.directions(way):
            direction.delay_s, direction.jitter_s, direction.rate = delay_s, jitter_s, rate

    def cut(self, end: End = "reset") -> int:
        """Ends every connection at both sides; gives how many."""
        return self._cut(list(self._running.items()), end)

    @staticmethod
    def _cut(connections: list[tuple[asyncio.Task[None], _Connection]], end: End) -> int:
        for task, connection in connections:
            connection.end = end
            task.cancel()
        return len(connections)

    def truncate(self, way: Way, after_octets: int = 0) -> None:
        """Passes ``after_octets`` more, then a part of what is sent next, and ends that connection."""
        self.directions(way)[0].truncate_after = after_octets

    def stall(self, way: Way | Literal["both"] = "both") -> None:
        """Nothing passes, nothing is lost; one way only is a half-open link."""
        for direction in self.directions(way):
            direction.passing.clear()

    def drop(self, way: Way | Literal["both"] = "both") -> None:
        """Octets vanish, also those under way."""
        for direction in self.directions(way):
            direction.dropping = True

    def refuse(self) -> None:
        """Who dials from now on gets a reset."""
        self.refusing = True
        if self._opening:
            self._opening.cancel()
            self._opening = None
        if self._server:
            self._server.close()
            self._server = None

    def heal(self) -> None:
        """Ends stall, drop and refusal; resets connections that lost something. Shape stays."""
        for direction in (self.up, self.down):
            direction.dropping = False
            direction.truncate_after = None
            direction.passing.set()
        broken = [(task, connection) for task, connection in self._running.items() if connection.broken]
        self._cut(broken, "reset")
        if self.refusing:
            self.refusing = False
            self._opening = asyncio.get_running_loop().create_task(self._open_again())

    async def _open_again(self) -> None:
        while True:  # somebody may sit on the port for a moment
            try:
                await self._open()
            except OSError as error:
                log.warning("cannot listen at %s:%d yet: %s", *self.address, error)
                await asyncio.sleep(LOOK_AGAIN_S)
            else:
                return

    def suffer(self, outage: Outage) -> None:
        """Begins one kind of outage."""
        match outage:
            case "cut":
                self.refuse()
                self.cut("reset")
            case "close":
                self.refuse()
                self.cut("close")
            case "stall":
                self.stall()
            case "drop":
                self.drop()
            case "half_up":
                self.stall("up")
            case "half_down":
                self.stall("down")

    def flap(self, flap: Flap) -> None:
        """Goes up and down by the seeded schedule of :func:`outages` until its time is over."""
        self.stop_flapping()
        self._flapping = asyncio.get_running_loop().create_task(self._flap(flap))

    async def _flap(self, flap: Flap) -> None:
        for up_s, down_s, outage in outages(self.seed, flap):
            await asyncio.sleep(up_s)
            log.info("%s for %.2f s", outage, down_s)
            self.suffer(outage)
            await asyncio.sleep(down_s)
            self.heal()

    def stop_flapping(self) -> None:
        """Leaves the link as it is."""
        if self._flapping:
            self._flapping.cancel()
            self._flapping = None

    def state(self) -> LinkReply:
        """Counters and conditions."""
        return LinkReply(
            listen="{}:{}".format(*self.address),
            connections=len(self._running),
            accepted=self.accepted,
            refusing=self.refusing,
            flapping=self._flapping is not None and not self._flapping.done(),
            stalled=tuple(d.way for d in (self.up, self.down) if not d.passing.is_set()),
            dropping=tuple(d.way for d in (self.up, self.down) if d.dropping),
            up=self.up.count,
            down=self.down.count,
        )

    def obey(self, order: LinkOrder) -> LinkReply:
        """Carries an order out and tells the state after it."""
        match order:
            case Shape(way, delay_s, jitter_s, rate):
                self.shape(way, delay_s=delay_s, jitter_s=jitter_s, rate=rate)
            case Cut(how):
                self.cut(how)
            case Truncate(way, after_octets):
                self.truncate(way, after_octets)
            case Stall(way):
                self.stall(way)
            case Drop(way):
                self.drop(way)
            case Refuse():
                self.refuse()
            case Flap():
                self.flap(order)
            case Heal():
                self.stop_flapping()
                self.heal()
        return self.state()


def outages(seed: int, flap: Flap) -> Iterator[tuple[float, float, Outage]]:
    """Seconds up, seconds down, and the kind of outage, again and again; the same for the same seed."""
    chance = random.Random(f"{seed} flap")  # noqa: S311  reproducible, guards nothing
    left_s = flap.for_s
    while left_s > 0:
        up_s, down_s = chance.uniform(*flap.up_s), chance.uniform(*flap.down_s)
        yield up_s, down_s, chance.choice(flap.how)
        left_s -= up_s + down_s


class _Address(click.ParamType[tuple[str, int]]):
    name = "host:port"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Splits at the last colon; brackets around an IPv6 address are taken off."""
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdecimal() or int(port) > 0xFFFF:
            self.fail(f"{value!r} is not HOST:PORT", param, ctx)
        return host.strip("[]"), int(port)


def take_orders(link: Link, path: Path) -> contextlib.AbstractAsyncContextManager[None]:
    """Takes orders for a link at a Unix socket while the block runs."""

    def obey(order: LinkOrder, _: Client[LinkReply]) -> LinkReply:
        return link.obey(order)

    return serve_orders(path, LinkOrder, obey, lambda error: LinkReply(error=error))


async def run(link: Link, control: Path | None) -> None:
    """Runs a link until SIGINT or SIGTERM. Raises OSError when it cannot listen."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with link:
        log.info("%s:%d leads to %s:%d", *link.address, *link.to)
        async with take_orders(link, control) if control else contextlib.nullcontext():
            await stop.wait()


@click.command()
@click.option("--listen", type=_Address(), required=True, help="Where to take connections; port 0 is any.")
@click.option("--to", type=_Address(), required=True, help="Where they lead.")
@click.option(
    "--control", type=click.Path(path_type=Path), help="Unix socket that takes orders, one JSON a line."
)
@click.option("--seed", default=0, show_default=True, help="Seed of jitter, truncation and flapping.")
@click.option("--delay", default=0.0, show_default=True, help="Seconds each way.")
@click.option("--jitter", default=0.0, show_default=True, help="Seconds at most on top of the delay.")
@click.option("--rate", type=click.FloatRange(min=1), help="Octets per second each way. Default: no limit.")
@click.option(
    "--capture", type=click.Path(path_type=Path), help="Directory for the raw octets of every connection."
)
def main(  # noqa: PLR0917  click gives them by name
    listen: tuple[str, int],
    to: tuple[str, int],
    control: Path | None,
    seed: int,
    delay: float,
    jitter: float,
    rate: float | None,
    capture: Path | None,
) -> None:
    """A bad network: a TCP proxy that delays, limits, cuts, stalls, drops and flaps.

    Orders, given by `evy sim order SOCKET JSON`: shape, cut, truncate, stall, drop, refuse, flap, heal, show.
    What happens is told on standard error. Ctrl-C ends it.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")

    async def prepared() -> None:
        link = Link(listen, to, seed=seed, capture=capture)
        link.shape(delay_s=delay, jitter_s=jitter, rate=rate)
        await run(link, control)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(prepared())
    except OSError as error:
        raise click.ClickException(f"cannot listen: {error.strerror or error}") from error


if __name__ == "__main__":
    main()
