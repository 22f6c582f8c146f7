"""How much of one kind of work waits, lane by lane, and since when."""

from datetime import datetime

import msgspec

from actors._runtime.bus import NatsBus, bus_errors
from subjects import registry
from subjects.names import Lane


class Waiting(msgspec.Struct, frozen=True):
    """One lane. ``oldest_s`` is by the server's clock, None when nothing waits."""

    lane: Lane
    count: int
    in_hand: int
    """How many of them somebody is working on, or are put off with a delay."""
    oldest_s: float | None


class _Info(msgspec.Struct):
    ts: datetime | None = None
    num_pending: int = 0
    num_ack_pending: int = 0


class _Message(msgspec.Struct):
    time: datetime


class _Found(msgspec.Struct):
    message: _Message | None = None


async def waiting(bus: NatsBus, base: str) -> list[Waiting]:
    """What waits on a work subject of this node. Raises :class:`BusError`."""
    row, found = registry.work(base), []
    for lane, subject in row.subjects():
        stream, durable = row.stream(bus.node, lane), row.durable(bus.node, lane)
        with bus_errors(f"look at {durable}"):
            reply = await bus.client.request(f"$JS.API.CONSUMER.INFO.{stream}.{durable}", timeout=5)
            info = msgspec.json.decode(reply.data, type=_Info)
            request = msgspec.json.encode({"seq": 1, "next_by_subj": subject})
            reply = await bus.client.request(f"$JS.API.STREAM.MSG.GET.{stream}", request, timeout=5)
            oldest = msgspec.json.decode(reply.data, type=_Found).message
        age_s = (info.ts - oldest.time).total_seconds() if oldest and info.ts else None
        count = info.num_pending + info.num_ack_pending
        found.append(Waiting(lane, count, info.num_ack_pending, None if age_s is None else max(0.0, age_s)))
    return found
