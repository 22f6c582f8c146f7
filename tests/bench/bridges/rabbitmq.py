"""A RabbitMQ shovel: two brokers, the edge's moves what lies in its queue to the centre's.

Both queues are quorum queues of one member, whose write-ahead log is synced (fdatasync) before a publisher's
confirm; messages are persistent. The shovel acknowledges at the edge when the centre has confirmed.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import aiormq
import psutil
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic

from tests.bench.bridges import servers
from tests.bench.bridges.crossing import WINDOW, Arrivals, Bridge, id_of
from tests.bench.bridges.relay import relayed
from tests.conftest import free_port

QUEUE: Final = "infer.large"
PROGRAMS: Final = "/usr/lib/rabbitmq/bin"
"""Debian's /usr/sbin/rabbitmq-server changes to a user of its own; the program here stays ours."""

_CONFIGURATION: Final = """\
listeners.tcp.1 = 127.0.0.1:{port}
load_definitions = {place}/definitions.json
log.console = true
log.console.level = warning
log.file = false
"""
_PERSISTENT: Final = Basic.Properties(delivery_mode=2)


def _definitions(shovel_to: int | None, port: int) -> dict[str, object]:
    """Guest on one virtual host, the queue, and at the edge the shovel."""
    shovel = {
        "src-protocol": "amqp091",
        "src-uri": f"amqp://guest:guest@127.0.0.1:{port}",
        "src-queue": QUEUE,
        "src-prefetch-count": WINDOW,
        "dest-protocol": "amqp091",
        "dest-uri": f"amqp://guest:guest@127.0.0.1:{shovel_to}",
        "dest-queue": QUEUE,
        "ack-mode": "on-confirm",
        "reconnect-delay": 1,
    }
    queue = {
        "name": QUEUE,
        "vhost": "/",
        "durable": True,
        "auto_delete": False,
        "arguments": {"x-queue-type": "quorum"},
    }
    return {
        "users": [{"name": "guest", "password": "guest", "tags": "administrator"}],
        "vhosts": [{"name": "/"}],
        "permissions": [{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
        "queues": [queue],
        "parameters": [{"component": "shovel", "vhost": "/", "name": "up", "value": shovel}]
        if shovel_to
        else [],
    }


def _environment(name: str, place: Path, mapper: int) -> Mapping[str, str]:
    """Everything of a node in its own folder, its cookie too; ``mapper`` is the port of our epmd."""
    return {
        "HOME": str(place),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_NODENAME": f"{name}@localhost",
        "RABBITMQ_CONFIG_FILE": str(place / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(place / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(place / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(place),
        "RABBITMQ_LOG_BASE": str(place),
        "RABBITMQ_PID_FILE": str(place / "pid"),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }


def _broker(
    name: str, directory: Path, port: int, mapper: int, shovel_to: int | None = None
) -> contextlib.AbstractContextManager[psutil.Process]:
    place = directory / name
    place.mkdir(parents=True)
    (place / "rabbitmq.conf").write_text(_CONFIGURATION.format(port=port, place=place), encoding="utf-8")
    (place / "enabled_plugins").write_text("[rabbitmq_shovel].\n", encoding="utf-8")
    definitions = _definitions(shovel_to, port)
    (place / "definitions.json").write_text(json.dumps(definitions), encoding="utf-8")
    program = servers.installed("rabbitmq-server", PROGRAMS)
    return servers.running([program], place, _environment(name, place, mapper))


async def _channel(port: int, stack: contextlib.AsyncExitStack) -> AbstractChannel:
    connection = await aiormq.connect(f"amqp://guest:guest@127.0.0.1:{port}")
    stack.push_async_callback(connection.close)
    return await connection.channel()


@contextlib.asynccontextmanager
async def bridge(directory: Path) -> AsyncIterator[Bridge]:
    """Fresh brokers with an epmd of their own. Raises SkippedError when RabbitMQ is absent."""
    port, centre_port, mapper_port = free_port(), free_port(), free_port()
    servers.installed("rabbitmq-server", PROGRAMS)
    async with contextlib.AsyncExitStack() as stack:
        command = [servers.installed("epmd"), "-port", str(mapper_port), "-address", "127.0.0.1"]
        mapper = stack.enter_context(servers.running(command, directory / "epmd"))
        await servers.listening(mapper_port, mapper, directory / "epmd")
        relay = await stack.enter_async_context(relayed(centre_port, directory))
        centre = stack.enter_context(_broker("centre", directory, centre_port, mapper_port))
        edge = stack.enter_context(_broker("edge", directory, port, mapper_port, relay.port))
        await servers.listening(centre_port, centre, directory / "centre")
        await servers.listening(port, edge, directory / "edge")
        arrivals = Arrivals()
        consumer = await _channel(centre_port, stack)
        await consumer.basic_qos(prefetch_count=WINDOW)

        async def take(message: DeliveredMessage) -> None:
            arrivals.note(id_of(message.body))
            assert message.delivery_tag is not None
            await consumer.basic_ack(message.delivery_tag, wait=False)

        await consumer.basic_consume(QUEUE, take)
        publisher = await _channel(port, stack)

        async def publish(payload: bytes) -> None:
            confirmed = await publisher.basic_publish(payload, routing_key=QUEUE, properties=_PERSISTENT)
            if not isinstance(confirmed, Basic.Ack):
                raise TypeError(f"the edge refused a message: {confirmed}")

        await asyncio.sleep(0)
        yield Bridge(publish, arrivals, relay, edge, centre)
