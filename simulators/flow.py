"""What a bad link does to the octets of one direction: :class:`Direction` for all connections, a
:class:`Pump` for each; the link itself is :mod:`simulators.link`."""

import asyncio
import contextlib
import random
from collections import deque
from typing import Final, Protocol

from simulators.link_control import Counted, Way

CHUNK_OCTETS: Final = 64 * 1024
HELD_OCTETS: Final = 4 * 1024 * 1024
"""On their way in one direction of one connection. With ``delay_s`` it bounds the rate: 13 MB/s at 300 ms."""
QUANTUM_S: Final = 0.02
"""A rate is kept by pieces of this length, and this much may pass at once after a pause."""

_END: Final = b""
"""In a line of pieces: the sender closed."""


class ResetError(Exception):
    """The sender's connection was reset, or ours shall be."""


class TruncatedError(ResetError):
    """The receiver shall get what is on the way, then an end; a reset would overtake it in its kernel."""


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


class Connection(Protocol):
    """What a pump needs to know of its connection."""

    broken: bool

    def capture(self, way: Way, chunk: bytes) -> None:
        """Keeps what was taken."""

    async def come_back(self, direction: Direction) -> None:
        """Waits as long as a reset needs to get back to the sender of ``direction``."""


class Pump:
    """One direction of one connection: takes from a reader, gives to a writer, later."""

    def __init__(
        self,
        connection: Connection,
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.connection = connection
        self.direction = direction
        self.reader = reader
        self.writer = writer
        self.pieces: deque[tuple[float, bytes | memoryview | ResetError]] = deque()
        self.held = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._last_due = 0.0

    def _put(self, piece: bytes | memoryview | ResetError) -> None:
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
            ending: bytes | ResetError = _END
            try:
                chunk = await self.reader.read(CHUNK_OCTETS)
            except OSError as error:
                chunk, ending = b"", ResetError(str(error))
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
                self._put(TruncatedError("truncated"))
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
        """Writes each piece when its time has come; raises :class:`ResetError` for a reset."""
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
            if isinstance(piece, ResetError):
                if isinstance(piece, TruncatedError):
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
            await self.connection.come_back(self.direction)
            raise ResetError("the receiver is gone")
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
