"""Streams as nats-server itself packs and unpacks them, with sequences, times and deletions as they are.

The protocol is that of ``nats stream backup`` and ``restore``: ``$JS.API.STREAM.SNAPSHOT``, ``.RESTORE``.
"""

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from nats.aio.client import Client

from actors._runtime.bus import BusError, bus_errors
from subjects import registry

CHUNK_OCTETS: Final = 128 * 1024
SILENT_S: Final = 60.0
"""A server that says nothing for so long has given up, or its card has."""

_EARLY: Final = ("KV_parts_", "WORK_", "FLASH_", "UP_", "IN_", "DOWN_")
_LATE: Final = ("KV_ledger_", "DLQ_", "EVT_")


class Snapshot(msgspec.Struct, frozen=True):
    """What a server says of a stream that it packs."""

    config: dict[str, Any]
    state: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the stream."""
        return str(self.config["name"])

    @property
    def messages(self) -> int:
        """How many messages it held."""
        return int(self.state.get("messages", 0))

    @property
    def is_queue(self) -> bool:
        """Whether its messages are work that waits."""
        return bool(self.config.get("retention") == "workqueue")


def in_order(streams: list[str]) -> list[str]:
    """Streams in the order in which a snapshot of a running node loses nothing and doubles nothing.

    A text moves from part to work, from a lane to flash, from there to the centre, and each move stores the
    next before it removes the former. So what comes first is packed first: a text that moves meanwhile is in
    both. The ledger comes after all work: it knows at least what was sent of it, and sends it once.
    """

    def rank(name: str) -> tuple[int, str]:
        early = next((place for place, head in enumerate(_EARLY) if name.startswith(head)), len(_EARLY))
        late = next((place for place, head in enumerate(_LATE, 1) if name.startswith(head)), 0)
        return early + late, name

    return sorted(streams, key=rank)


def buckets_in_memory(node: str) -> set[str]:
    """Streams that end with their server: nothing to keep."""
    return {f"KV_{row.bucket(node)}" for row in registry.BUCKETS if row.storage == "memory"}


async def _asked(client: Client, subject: str, request: object) -> dict[str, Any]:
    reply = await client.request(subject, msgspec.json.encode(request), timeout=SILENT_S)
    answer: dict[str, Any] = msgspec.json.decode(reply.data)
    if error := answer.get("error"):
        raise BusError(f"{subject.removeprefix('$JS.API.')}: {error.get('description', error)}")
    return answer


async def pack(client: Client, stream: str) -> tuple[Snapshot, AsyncIterator[bytes]]:
    """A stream without its consumers (what waits in a queue is delivered anew), and its octets in chunks.

    Raises :class:`BusError` when the server refuses, gives up or falls silent.
    """
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    request = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": CHUNK_OCTETS}
    with bus_errors(f"pack {stream}"):
        answer = await _asked(client, f"$JS.API.STREAM.SNAPSHOT.{stream}", request)

    async def chunks() -> AsyncIterator[bytes]:
        try:
            while True:
                with bus_errors(f"pack {stream}"):
                    message = await subscription.next_msg(timeout=SILENT_S)
                if not message.data:
                    headers = message.headers or {}
                    if headers.get("Status", "204") != "204":
                        raise BusError(f"pack {stream}: {headers.get('Description', headers['Status'])}")
                    return
                yield message.data
                if message.reply:
                    await client.publish(message.reply, b"")
        finally:
            await subscription.unsubscribe()

    return Snapshot(answer["config"], answer["state"]), chunks()


async def unpack(client: Client, snapshot: Snapshot, chunks: AsyncIterator[bytes]) -> int:
    """Makes a stream again that is not there, and gives its number of messages. Raises :class:`BusError`."""
    request = {"config": snapshot.config, "state": snapshot.state}
    with bus_errors(f"unpack {snapshot.name}"):
        target = str(
            (await _asked(client, f"$JS.API.STREAM.RESTORE.{snapshot.name}", request))["deliver_subject"]
        )
        async for chunk in chunks:
            reply = await client.request(target, chunk, timeout=SILENT_S)
            if reply.data:
                _refused(snapshot.name, reply.data)
        reply = await client.request(target, b"", timeout=SILENT_S)
    made = _refused(snapshot.name, reply.data)
    return int(made.get("state", {}).get("messages", 0))


def _refused(stream: str, octets: bytes) -> dict[str, Any]:
    answer: dict[str, Any] = msgspec.json.decode(octets)
    if error := answer.get("error"):
        raise BusError(f"unpack {stream}: {error.get('description', error)}")
    return answer
