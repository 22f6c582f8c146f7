"""A stream as its server tells it, asked across the link in either direction."""

import time
from datetime import datetime
from typing import Any, Final

import msgspec
from nats.aio.client import Client

from subjects.errors import EvyError

ANSWERS_WITHIN_S: Final = 3.0
"""Longer than a round trip of 600 ms on a line of 50 kbit/s that is busy."""


class Transform(msgspec.Struct, frozen=True):
    """Where a source puts what it takes."""

    dest: str


class SourceInfo(msgspec.Struct, frozen=True):
    """A source as its server tells it; ``active`` is in nanoseconds, -1 for never."""

    name: str
    lag: int = 0
    active: int = -1
    error: dict[str, Any] = {}
    subject_transforms: list[Transform] = []

    @property
    def heard_s(self) -> float | None:
        """Seconds since it last heard from the other stream; None: not since its server's start."""
        return self.active / 1e9 if self.active >= 0 else None


class State(msgspec.Struct, frozen=True):
    """What a stream holds; the time of the oldest message is what nats-py leaves out."""

    messages: int = 0
    octets: int = msgspec.field(default=0, name="bytes")
    last_seq: int = 0
    first_ts: datetime | None = None
    subjects: dict[str, int] = {}


class StreamInfo(msgspec.Struct, frozen=True):
    """A stream as its server tells it, at the server's time ``ts``."""

    config: dict[str, Any] = {}
    created: str = ""
    state: State = State()
    sources: list[SourceInfo] = []
    ts: datetime | None = None
    error: dict[str, Any] = {}


class NotThereError(EvyError):
    """The server answered that it has no such stream, or may not tell."""

    def __init__(self, reason: str, rtt_ms: float) -> None:
        super().__init__(reason)
        self.rtt_ms = rtt_ms


async def ask(client: Client, api: str, stream: str, within_s: float) -> tuple[StreamInfo, float]:
    """A stream of any connected server, and the round trip in milliseconds.

    ``api`` is the prefix of its JetStream API. Raises NoRespondersError when nobody is connected there,
    TimeoutError when nobody answered, :class:`NotThereError` when the server has no such stream.
    """
    began = time.monotonic()
    reply = await client.request(f"{api}.STREAM.INFO.{stream}", b'{"subjects_filter":">"}', timeout=within_s)
    rtt_ms = (time.monotonic() - began) * 1e3
    info = msgspec.json.decode(reply.data, type=StreamInfo)
    if info.error:
        raise NotThereError(str(info.error.get("description", "error")), rtt_ms)
    return info, rtt_ms


class _Listed(msgspec.Struct):
    total: int = 0
    streams: list[StreamInfo] = []


async def ask_all(client: Client) -> list[StreamInfo]:
    """Every stream of the server that this process is connected to, buckets among them, by name."""
    found: list[StreamInfo] = []
    while True:
        request = msgspec.json.encode({"offset": len(found)})
        reply = await client.request("$JS.API.STREAM.LIST", request, timeout=ANSWERS_WITHIN_S)
        page = msgspec.json.decode(reply.data, type=_Listed)
        found += page.streams
        if len(found) >= page.total or not page.streams:
            return sorted(found, key=lambda info: str(info.config.get("name")))
