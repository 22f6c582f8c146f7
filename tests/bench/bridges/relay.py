"""The link between edge and centre: the simulated link of :mod:`simulators.link`, in a process of its own.

It carries everything between the two servers, counts octets of TCP payload (IP and TCP add 52 to each
segment; how many segments there are depends on the real link), and can be cut.
"""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from simulators.link_control import Cut, Heal, LinkControl, Refuse, Shape, Show
from tests.bench.bridges import servers
from tests.conftest import free_port


class Octets(msgspec.Struct, frozen=True):
    """TCP payload carried so far: from who dials to who listens (edge to centre), and back."""

    up: int
    down: int

    def since(self, before: "Octets") -> "Octets":
        """What came after ``before``."""
        return Octets(self.up - before.up, self.down - before.down)


class Relay:
    """A running link that edges dial at ``port``. It is up at first."""

    def __init__(self, port: int, control: LinkControl) -> None:
        self.port = port
        self._control = control

    async def up(self) -> None:
        """Connections are taken from now on."""
        await self._control.do(Heal())

    async def down(self) -> None:
        """Ends every connection and refuses new ones."""
        await self._control.do(Refuse())
        await self._control.do(Cut())

    async def shape(self, shape: Shape) -> None:
        """Delay and rate from now on."""
        await self._control.do(shape)

    async def count(self) -> Octets:
        """Octets so far, cut connections included."""
        state = await self._control.do(Show())
        return Octets(state.up.passed, state.down.passed)


@contextlib.asynccontextmanager
async def relayed(target: int, directory: Path) -> AsyncIterator[Relay]:
    """A link to loopback port ``target``; its log lies in ``directory``."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="evy-link-") as short:  # a socket's path holds 107 octets
        control = Path(short) / "control"
        ends = ("--listen", f"127.0.0.1:{port}", "--to", f"127.0.0.1:{target}", "--control", str(control))
        command = [sys.executable, "-m", "simulators.link", *ends]
        with servers.running(command, directory / "link"):
            async with asyncio.timeout(30):
                while not await _listens(control):
                    await asyncio.sleep(0.02)
            async with LinkControl(control) as orders:
                yield Relay(port, orders)


async def _listens(control: Path) -> bool:
    try:
        async with LinkControl(control):
            return True
    except (FileNotFoundError, ConnectionRefusedError):  # not bound yet; bound, and not listening yet
        return False
