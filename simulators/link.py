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
:data:`HELD_OCTETS` each way beyond the sockets' own buffers, then the sender has to wait.
"""

import asyncio
import contextlib
import logging
import random
import signal
import socket
import struct
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Literal, Self, TypeVar

import click
import uvloop

from simulators.link_control import (
    Counted,
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

CHUNK_OCTETS: Final = 64 * 1024
HELD_OCTETS: Final = 4 * 1024 * 1024
"""On their way in one direction of one connection. With ``delay_s`` it bounds the rate: 13 MB/s at 300 ms."""
SOCKET_OCTETS: Final = 64 * 1024
"""Receive buffer of our sockets. The kernel's own default lets a sender push megabytes into a 50 kbit/s link
and call them sent; the queue of a real modem is smaller."""
QUANTUM_S: Final = 0.02
"""A rate is kept by pieces of this length, and this much may pass at once after a pause."""
LOOK_AGAIN_S: Final = 0.05

_END: Final = b""
"""In a line of pieces: the sender closed."""


class _ResetError(Exception):
    """The sender's connection was reset, or ours shall be."""


class _TruncatedError(_ResetError):
    """The receiver shall get what is on the way, then an end; a reset would overtake it in its kernel."""


AnyT = TypeVar("AnyT")


class Direction:
    """One way of the link, shared by all connections."""

    def __init__(self, way: Way, seed: int) -> None:
        self.way = way
        self.delay_s = 0.0
        self.jitter_s = 0.0
        self.rate: float | None = None
        self.dropping = False
        self.truncate_after: int | None = None
        self.passing = asyncio.Event()
        """Clear while stalled."""
        self.passing.set()
        self.count = Counted()
        # One generator per purpose, so that jitter does not change where something is truncated.
        self._jitter = random.Random(f"{seed} {way} jitter")  # noqa: S311  reproducible, guards nothing
        self._truncate = random.Random(f"{seed} {way} truncate")  # noqa: S311  likewise
        self._free_at = 0.0

    @property
    def quantum(self) -> int:
        """Octets of one piece."""
        return CHUNK_OCTETS if self.rate is None else min(CHUNK_OCTETS, max(64, int(self.rate * QUANTUM_S)))

    def delay(self) -> float:
        """Seconds for the next piece."""
        return self.delay_s + (self._jitter.uniform(0, self.jitter_s) if self.jitter_s else 0.0)

    async def serialise(self, octets: int) -> None:
        """Waits for this piece's turn on the line."""
        if self.rate is None:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now - QUANTUM_S) + octets / self.rate
        if (wait_s := self._free_at - now) > 0:
            await asyncio.sleep(wait_s)

    def truncated(self, chunk: bytes) -> bytes | None:
        """What still passes of a chunk that is to be truncated; None when all of it does."""
        if self.truncate_after is None:
            return None
        if len(chunk) - self.truncate_after < 2:  # no place that is inside of it
            self.truncate_after = max(0, self.truncate_after - len(chunk))
            return None
        keep = self._truncate.randrange(self.truncate_after + 1, len(chunk))
        self.truncate_after = None
        return chunk[:keep]


class _Pump:
    """One direction of one connection: takes from a reader, gives to a writer, later."""

    def __init__(
        self,
        connection: "_Connection",
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.connection = connection
        self.direction = direction
        self.reader = reader
        self.writer = writer
        self.pieces: deque[tuple[float, bytes | memoryview | _ResetError]] = deque()
        self.held = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._last_due = 0.0

    def _put(self, piece: bytes | memoryview | _ResetError) -> None:
        self._last_due = max(self._last_due, asyncio.get_running_loop().time() + self.direction.delay())
        self.pieces.append((self._last_due, piece))
        self._changed.set()

    def _hold(self, octets: int) -> None:
        self.held += octets
        self.direction.count.held += octets
        if octets < 0:
            self._room.set()

    async def take(self) -> None:
        """Reads until the sender closes or is reset."""
        direction = self.direction
        while True:
            await direction.passing.wait()  # a stalled link is not read: the sender's buffers fill
            ending: bytes | _ResetError = _END
            try:
                chunk = await self.reader.read(CHUNK_OCTETS)
            except OSError as error:
                chunk, ending = b"", _ResetError(str(error))
            await direction.passing.wait()
            direction.count.taken += len(chunk)
            if direction.dropping:
                self._lose(len(chunk))
                if not chunk:
                    return
                continue
            self.connection.capture(direction.way, chunk)
            kept = direction.truncated(chunk) if chunk else None
            await self._send(chunk if kept is None else kept)
            if kept is not None:
                direction.count.lost += len(chunk) - len(kept)
                self._put(_TruncatedError("truncated"))
                return
            if not chunk:
                self._put(ending)
                return

    async def _send(self, chunk: bytes) -> None:
        self._hold(len(chunk))
        while self.held > HELD_OCTETS:
            self._room.clear()
            await self._room.wait()
        view = memoryview(chunk)
        while view:
            quantum = self.direction.quantum
            piece, view = view[:quantum], view[quantum:]
            await self.direction.serialise(len(piece))
            self._put(piece)

    async def give(self) -> None:
        """Writes each piece when its time has come; raises :class:`_ResetError` for a reset."""
        direction, loop = self.direction, asyncio.get_running_loop()
        while True:
            while not self.pieces:
                self._changed.clear()
                await self._changed.wait()
            due, piece = self.pieces[0]
            if (wait_s := due - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            await direction.passing.wait()
            self.pieces.popleft()
            if isinstance(piece, _ResetError):
                if isinstance(piece, _TruncatedError):
                    self.writer.close()
                raise piece
            self._hold(-len(piece))
            if direction.dropping:
                self._lose(len(piece))
            elif not piece:
                with contextlib.suppress(OSError):
                    self.writer.write_eof()
                return
            else:
                await self._write(piece)

    async def _write(self, piece: bytes | memoryview) -> None:
        if self.writer.is_closing():  # the receiver is gone
            self.direction.count.lost += len(piece)
            await self.connection.link.come_back(self.direction)
            raise _ResetError("the receiver is gone")
        self.direction.count.passed += len(piece)
        with contextlib.suppress(OSError):
            self.writer.write(piece)
            await self.writer.drain()

    def _lose(self, octets: int) -> None:
        self.direction.count.lost += octets
        self.connection.broken = True

    def forget(self) -> None:
        """Counts what never arrived."""
        self.direction.count.held -= self.held
        self.direction.count.lost += self.held
        self.pieces.clear()


class _Connection:
    """One accepted connection and the one that was dialled for it."""

    def __init__(self, link: "Link", number: int, writer: asyncio.StreamWriter) -> None:
        self.link = link
        self.number = number
        self.writers = [writer]
        self.pumps: list[_Pump] = []
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
                _Pump(self, link.up, reader, writer),
                _Pump(self, link.down, there, self.writers[0]),
            ]
            async with asyncio.TaskGroup() as group:
                for pump in self.pumps:
                    group.create_task(pump.take())
                    group.create_task(pump.give())
            self.end = "close"
        except* (_ResetError, OSError) as errors:
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

    async def come_back(self, direction: Direction) -> None:
        """Waits as long as a reset needs by the other way; while that drops, it never comes."""
        back = self.down if direction is self.up else self.up
        await asyncio.sleep(back.delay())
        await back.passing.wait()
        while back.dropping:  # noqa: ASYNC110  only ends with the link's healing
            await asyncio.sleep(LOOK_AGAIN_S)

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
