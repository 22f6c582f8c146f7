"""The sms actor on buckets that are files, so that a process may be killed and another goes on.

``python -m tests.integration.sms_node DIRECTORY DEVICE DRIVER TEXT`` sends one text and prints its fate;
``DEVICE`` may be several with commas between them.
"""

import asyncio
import base64
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from actors._runtime.actor import Output
from actors._runtime.handling import end
from actors._runtime.identity import Identity
from actors._runtime.memory import MemoryKeyValue
from actors.sms import Sms, SmsConfig, driver_of
from actors.sms.elsewhere import Elsewhere
from actors.sms.found import Claims
from actors.sms.outbox import Outbox
from subjects.errors import RetryLaterError
from subjects.mesh import MeshPacket
from subjects.messages import DeadLetter, Event, InboundSms, OutboundSms
from subjects.names import Lane
from subjects.node_state import NodeState

NUMBER = "+34600111222"
IDENTITY = Identity("n1", b"secret of a test", "00")


class FileKeyValue(MemoryKeyValue):
    """A bucket that is on the disk when a write returns; one process at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        if path.exists():
            stored = json.loads(path.read_text())
            self._entries = {key: (base64.b64decode(value), n) for key, (value, n) in stored.items()}
            self._revision = max((n for _, n in self._entries.values()), default=0)

    @property
    def entries(self) -> dict[str, tuple[bytes, int]]:
        """Everything in it."""
        return self._entries

    def _store(self) -> None:
        stored = {key: (base64.b64encode(value).decode(), n) for key, (value, n) in self._entries.items()}
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(stored))
        draft.replace(self._path)

    async def put(self, key: str, value: bytes) -> int:
        revision = await super().put(key, value)
        self._store()
        return revision

    async def delete(self, key: str) -> None:
        await super().delete(key)
        self._store()


class Node:
    """The sms actor with everything it says and keeps."""

    def __init__(
        self, directory: Path, device: Path | Sequence[Path], driver: str = "gammu", **config: Any
    ) -> None:
        self.ledger = FileKeyValue(directory / "ledger")
        self.parts = FileKeyValue(directory / "parts")
        self.held = FileKeyValue(directory / "outbox")
        self.modems = FileKeyValue(directory / "modems")
        self.numbers = MemoryKeyValue()
        self.consent = MemoryKeyValue()
        self.bulletins = MemoryKeyValue()
        self.mesh = MemoryKeyValue()
        self.state = NodeState(node="n1")
        self.over_mesh: list[MeshPacket] = []
        self.received: list[InboundSms] = []
        self.letters: list[DeadLetter] = []
        self.events: list[Event] = []
        self.publishing = 0
        """How often it was tried."""
        self.put_back = 0
        self.refuse_publish: Exception | None = None
        table = {**self._table(device, driver), **config}
        settings = msgspec.convert(table, SmsConfig)
        self.outbox = Outbox(self.held, self.ledger, self.numbers, self._publish, self.events.append)
        claims = Claims()
        self.sms = Sms(
            config=settings,
            identity=IDENTITY,
            drivers={
                modem.name: driver_of(modem, directory, hang_up=settings.calls != "ignore", claims=claims)
                for modem in settings.modems
            },
            lane_of=lambda text: "flash" if "HELP" in text else "routine",
            ledger=self.ledger,
            parts=self.parts,
            modems=self.modems,
            outbox=self.outbox,
            numbers=self.numbers,
            consent=self.consent,
            bulletins=self.bulletins,
            elsewhere=Elsewhere("n1", self.mesh, lambda: self.state, self._to_mesh),
            publish=self._publish,
            dead_letter=self._dead_letter,
            emit=self.events.append,
        )

    @staticmethod
    def _table(device: Path | Sequence[Path], driver: str) -> dict[str, Any]:
        """Configuration of one device, or of several that are named after their files."""
        if isinstance(device, Path):
            return {"device": str(device), "driver": driver, "connection": "dku2at"}
        return {
            "modem": [
                {"name": one.name, "device": str(one), "driver": driver, "connection": "dku2at"}
                for one in device
            ]
        }

    async def _publish(self, output: Output, _: str) -> None:
        self.publishing += 1
        if self.refuse_publish:
            raise self.refuse_publish
        assert isinstance(output.message, InboundSms)
        self.received.append(output.message)

    async def _to_mesh(self, output: Output, _: str) -> None:
        assert isinstance(output.message, MeshPacket)
        self.over_mesh.append(output.message)

    async def _dead_letter(self, letter: DeadLetter, _: str) -> None:
        self.letters.append(letter)

    @contextlib.asynccontextmanager
    async def running(self, modems: int = 1) -> AsyncIterator[None]:
        """The actor with its receiver, its one person known, once so many modems are there."""
        await self.numbers.put(IDENTITY.sender_ref(NUMBER), NUMBER.encode())
        task = asyncio.create_task(self.sms.run())
        try:
            await until(lambda: self.kinds().count("modem_up") >= modems or task.done(), 30)
            yield
        finally:
            await end([task])

    async def send(
        self, text: str, *, query_id: str = "q1", lane: Lane = "routine", number: str = NUMBER
    ) -> None:
        """Handles an OutboundSms as often as the runtime would deliver it."""
        out = OutboundSms(
            query_id=query_id,
            node="n1",
            text=text,
            lang="en",
            lane=lane,
            step="verbatim",
            sender_ref=IDENTITY.sender_ref(number),
        )
        while True:
            try:
                await self.sms.handle(out)
            except RetryLaterError:
                self.put_back += 1
                await asyncio.sleep(0.1)
            else:
                return

    def kinds(self) -> list[str]:
        """Kinds of the events so far."""
        return [event.kind for event in self.events]

    def states_now(self) -> dict[str, str]:
        """The same without waiting, for conditions."""
        return {key: json.loads(value)["state"] for key, (value, _) in self.ledger.entries.items()}

    async def states(self) -> dict[str, str]:
        """State of each part in the ledger."""
        found = {key: await self.ledger.get(key) for key in await self.ledger.keys()}
        return {key: json.loads(entry[0])["state"] for key, entry in found.items() if entry}


async def until(condition: Callable[[], bool], within_s: float = 15) -> None:
    """Waits for something to become true."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


async def _main(directory: Path, devices: list[Path], driver: str, text: str) -> None:
    node = Node(directory, devices if len(devices) > 1 else devices[0], driver)
    async with node.running():
        await node.send(text)
        print(json.dumps(await node.states()), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), [Path(one) for one in sys.argv[2].split(",")], *sys.argv[3:5]))
