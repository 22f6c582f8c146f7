"""The bridges side by side in one run: each in turn, so that all meet the same load of the machine.

Every figure goes through the same relay. Latency is from the edge's publish to the consumer at the centre,
one message in flight. A backlog is stored while the link is down (``stored``) and crosses when it is back:
``resumed`` is the time until the first is at the centre, ``crossed`` the rate from there to the last. Octets
are TCP payload per message, both ways.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import msgspec

from tests.bench.bridges import leaf, mosquitto, rabbitmq
from tests.bench.bridges.crossing import Bridge, Crossed, cross
from tests.bench.node import on_uvloop
from tests.bench.rows import Figure, Row, Setting, SkippedError, spread


class Peer(msgspec.Struct, frozen=True):
    """One bridge in one setting, and what its acknowledgement to the publisher means."""

    name: str
    what: str
    bridge: Callable[[Path], AbstractAsyncContextManager[Bridge]]
    durability: str
    backlog: int = 5000


PEERS: Final = (
    Peer(
        "bridge-leaf",
        "bridge: EVY's NATS leaf, sourced work queues",
        leaf.bridge,
        "edge and centre sync each message by itself before they acknowledge it (sync_interval: always); "
        "taken over by sequence, so once; with TLS and credentials, the others without",
    ),
    Peer(
        "bridge-rabbitmq",
        "bridge: RabbitMQ shovel, quorum queues",
        rabbitmq.bridge,
        "equal: persistent messages in quorum queues of one member, confirmed after fdatasync of the "
        "write-ahead log, which is one for all that wait together; at least once across the link",
    ),
    Peer(
        "bridge-mosquitto",
        "bridge: Mosquitto, QoS 2, saves after each change",
        mosquitto.bridge,
        "NOT equal: Mosquitto 2 acknowledges before it saves, so nothing is sure to be on disk; this is the "
        "strictest it has (autosave_on_changes, autosave_interval 1). Each save writes the whole state "
        "anew, so the time grows with the square of what waits: the backlog is smaller",
        backlog=500,
    ),
    Peer(
        "bridge-mosquitto-lax",
        "bridge: Mosquitto, QoS 1, saves every half hour",
        lambda directory: mosquitto.bridge(directory, strict=False),
        "NOT durable: as it is installed, half an hour of acknowledged messages may be in memory only",
    ),
)


def measure(setting: Setting) -> list[Row]:
    """Every bridge that is installed."""
    single = setting.count(300, 10)
    turns = min(setting.repeats, 3)
    runs: dict[str, list[Crossed]] = {peer.name: [] for peer in PEERS}
    absent: dict[str, str] = {}
    peers = PEERS[:-1] if setting.quick else PEERS  # the two of Mosquitto run the same code

    async def once(peer: Peer, turn: int) -> Crossed:
        async with peer.bridge(setting.directory / f"{peer.name}-{turn}") as bridge:
            return await cross(bridge, single, setting.count(peer.backlog, 50))

    for turn in range(turns):
        for peer in peers:
            if peer.name not in absent:
                try:
                    runs[peer.name].append(on_uvloop(once(peer, turn)))
                except SkippedError as error:
                    absent[peer.name] = str(error)
    return [_row(peer, runs[peer.name], absent.get(peer.name, "")) for peer in peers]


def _row(peer: Peer, runs: list[Crossed], absent: str) -> Row:
    if absent:
        return Row(peer.name, peer.what, skipped=absent)

    def figure(name: str, unit: str, value: Callable[[Crossed], float]) -> Figure:
        return Figure(name, unit, tuple(map(value, runs)))

    return Row(
        peer.name,
        peer.what,
        (
            *spread([run.latency_ms for run in runs], "ms"),
            figure("stored", "messages/s", lambda run: run.stored_rate),
            figure("crossed", "messages/s", lambda run: run.rate),
            figure("resumed", "s", lambda run: run.resumed_s),
            figure("octets", "one by one", lambda run: run.single.up + run.single.down),
            figure("octets-bulk", "in a backlog", lambda run: run.bulk.up + run.bulk.down),
            figure("edge", "MB", lambda run: run.used_mb[0]),
            figure("centre", "MB", lambda run: run.used_mb[1]),
            figure("edge-idle", "MB", lambda run: run.idle_mb[0]),
            figure("centre-idle", "MB", lambda run: run.idle_mb[1]),
            figure("lost", "messages", lambda run: run.lost),
            figure("doubled", "messages", lambda run: run.doubled),
        ),
        notes=(peer.durability, f"backlog of {runs[0].backlog}, question of {runs[0].payload_octets} octets"),
    )
