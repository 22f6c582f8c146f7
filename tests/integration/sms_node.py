"""The sms actor on buckets that are files, so that a process may be killed and another goes on.

``python -m tests.integration.sms_node DIRECTORY DEVICE DRIVER TEXT`` sends one text and prints its fate.
"""

import asyncio
import base64
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from actors._runtime.actor import Output
from actors._runtime.identity import Identity
from actors._runtime.memory import MemoryKeyValue
from actors.sms import Sms, SmsConfig, driver_of
from actors.sms.ledger import Ledger
from actors.sms.outbox import Outbox
from actors.sms.parts import Parts
from subjects.errors import RetryLaterError
from subjects.messages import DeadLetter, Event, InboundSms, OutboundSms
from subjects.names import Lane

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

    def __init__(self, directory: Path, device: Path, driver: str = "gammu", **config: float | str) -> None:
        self.ledger = FileKeyValue(directory / "ledger")
        self.parts = FileKeyValue(directory / "parts")
        self.held = FileKeyValue(directory / "outbox")
        self.numbers = MemoryKeyValue()
        self.consent = MemoryKeyValue()
        self.received: list[InboundSms] = []
        self.letters: list[DeadLetter] = []
        self.events: list[Event] = []
        self.publishing = 0
        """How often it was tried."""
        self.refuse_publish: Exception | None = None
        table = {"device": str(device), "driver": driver, "connection": "dku2at", **config}
        settings = msgspec.convert(table, SmsConfig)
        self.outbox = Outbox(self.held, self.ledger, self.numbers, self._publish, self.events.append)
        self.sms = Sms(
            config=settings,
            identity=IDENTITY,
            modem=driver_of(settings, directory),
            lane_of=lambda text: "flash" if "HELP" in text else "routine",
            ledger=Ledger(self.ledger, "modem", IDENTITY.sender_ref),
            parts=Parts(self.parts),
            outbox=self.outbox,
            numbers=self.numbers,
            consent=self.consent,
            publish=self._publish,
            dead_letter=self._dead_letter,
            emit=self.events.append,
        )

    async def _publish(self, output: Output, _: str) -> None:
        self.publishing += 1
        if self.refuse_publish:
            raise self.refuse_publish
        assert isinstance(output.message, InboundSms)
        self.received.append(output.message)

    async def _dead_letter(self, letter: DeadLetter, _: str) -> None:
        self.letters.append(letter)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The actor with its receiver, its one person known."""
        await self.numbers.put(IDENTITY.sender_ref(NUMBER), NUMBER.encode())
        task = asyncio.create_task(self.sms.run())
        try:
            await until(lambda: any(event.kind == "modem_up" for event in self.events) or task.done(), 30)
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def send(self, text: str, *, query_id: str = "q1", lane: Lane = "routine") -> None:
        """Handles an OutboundSms as often as the runtime would deliver it."""
        out = OutboundSms(
            query_id=query_id,
            node="n1",
            text=text,
            lang="en",
            lane=lane,
            step="verbatim",
            sender_ref=IDENTITY.sender_ref(NUMBER),
        )
        while True:
            try:
                await self.sms.handle(out)
            except RetryLaterError:
                await asyncio.sleep(0.1)
            else:
                return

    async def states(self) -> dict[str, str]:
        """State of each part in the ledger."""
        found = {key: await self.ledger.get(key) for key in await self.ledger.keys()}
        return {key: json.loads(entry[0])["state"] for key, entry in found.items() if entry}


async def until(condition: Callable[[], bool], within_s: float = 15) -> None:
    """Waits for something to become true."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


async def _main(directory: Path, device: Path, driver: str, text: str) -> None:
    node = Node(directory, device, driver)
    async with node.running():
        await node.send(text)
        print(json.dumps(await node.states()), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
