"""A Mosquitto bridge: two brokers, the edge's forwards what is published to the centre's.

Mosquitto has no acknowledgement that waits for the disk. It writes its whole state to one file, synced, when
autosave says so, and acknowledges without regard to that; a power cut between the two loses what the
publisher was told is safe. ``strict`` is the best it offers: a save after each change, and QoS 2.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiomqtt

from tests.bench.bridges import servers
from tests.bench.bridges.crossing import EDGE, WINDOW, Arrivals, Bridge, id_of
from tests.bench.bridges.relay import relayed
from tests.conftest import free_port

TOPIC: Final = "infer/large"

_BROKER: Final = """\
listener {port} 127.0.0.1
allow_anonymous true
user {user}
persistence true
persistence_location {place}/
{autosave}
max_queued_messages 0
max_inflight_messages {window}
log_dest stderr
log_type error
log_type warning
"""
_BRIDGE: Final = """\
connection {edge}
address 127.0.0.1:{link}
topic {topic}/# out {qos}
cleansession false
restart_timeout 1
notifications false
try_private true
keepalive_interval 20
"""
_EACH_CHANGE: Final = "autosave_on_changes true\nautosave_interval 1"
_EVERY_HALF_HOUR: Final = "autosave_interval 1800"


@contextlib.asynccontextmanager
async def bridge(directory: Path, *, strict: bool = True) -> AsyncIterator[Bridge]:
    """Fresh brokers. ``strict``: QoS 2 and a save after each change; otherwise QoS 1 and default autosave.

    Raises SkippedError when Mosquitto is absent.
    """
    program = servers.installed("mosquitto")
    qos = 2 if strict else 1
    port, centre_port = free_port(), free_port()
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(relayed(centre_port, directory))
        processes = []
        joined = _BRIDGE.format(edge=EDGE, link=relay.port, topic=TOPIC, qos=qos)
        for name, listen, more in (("centre", centre_port, ""), ("edge", port, joined)):
            place = directory / name
            place.mkdir(parents=True)  # once, before anything is measured
            (place / "broker.conf").write_text(
                _BROKER.format(
                    port=listen,
                    user=servers.own_name(),
                    place=place,
                    autosave=_EACH_CHANGE if strict else _EVERY_HALF_HOUR,
                    window=WINDOW,
                )
                + more,
                encoding="utf-8",
            )
            processes.append(stack.enter_context(servers.running([program, "-c", "broker.conf"], place)))
            await servers.listening(listen, processes[-1], place)
        consumer = await stack.enter_async_context(
            aiomqtt.Client("127.0.0.1", centre_port, identifier="infer_large", clean_session=False)
        )
        await consumer.subscribe(f"{TOPIC}/#", qos)
        arrivals = Arrivals()

        async def consume() -> None:
            async for message in consumer.messages:  # acknowledged by the library
                arrivals.note(id_of(message.payload))

        work = asyncio.create_task(consume())
        stack.callback(work.cancel)
        publisher = await stack.enter_async_context(
            aiomqtt.Client("127.0.0.1", port, identifier="rag", max_inflight_messages=WINDOW, timeout=60)
        )

        publisher.pending_calls_threshold = WINDOW  # above it, the library complains

        async def publish(payload: bytes) -> None:
            await publisher.publish(f"{TOPIC}/routine", payload, qos)

        yield Bridge(publish, arrivals, relay, processes[1], processes[0])
