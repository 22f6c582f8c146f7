"""Dead letters for messages that no worker gave up: each of them died, or lost its server, while it had one.

Past its last delivery a message stays in its work queue and nobody gets it any more. The server says so once,
in an advisory that a stream keeps; whatever it did not say is found by looking, at the start and now and
then. A message is written to ``dlq.>`` first and then removed, under the id that a worker would have used, so
several reapers, one in each process, do no harm.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import Final, NamedTuple

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo, RawStreamMsg

from actors._runtime.bus import BusError, NatsBus, bus_errors
from actors._runtime.letters import letter_id
from actors._runtime.provision import SPARE_DELIVERIES, Place, edges
from subjects import registry
from subjects.messages import DeadLetter
from subjects.names import Lane
from subjects.registry import ADVISORIES, WORK, Work

log = logging.getLogger("evy.reaper")

FETCH_WAIT_S: Final = 30.0
AGAIN_AFTER_S: Final = 5.0
LOOK_EVERY_S: Final = 900.0
SURE_AFTER_S: Final = 2.0
"""What was acknowledged may take a moment to leave its stream: only what is still there then is reaped."""


class Advisory(msgspec.Struct, frozen=True):
    """What matters of ``io.nats.jetstream.advisory.v1.max_deliver``."""

    stream: str
    consumer: str
    stream_seq: int
    deliveries: int = 0


class Queue(NamedTuple):
    """One lane of a work subject: where it lies and who takes from it."""

    row: Work
    node: str
    lane: Lane

    @property
    def stream(self) -> str:
        """Name of the stream."""
        return self.row.stream(self.node, self.lane)

    @property
    def durable(self) -> str:
        """Name of the consumer."""
        return self.row.durable(self.node, self.lane)

    @property
    def subject(self) -> str:
        """Its subject in that stream."""
        return self.row.filter_subject(self.node, self.lane)


def queues(nodes: list[str], rows: list[Work]) -> Iterator[Queue]:
    """The lanes of some rows, for each node."""
    return (Queue(row, node, lane) for row in rows for node in nodes for lane, _ in row.subjects())


class Reaper:
    """Works off the advisories of one server."""

    def __init__(self, bus: NatsBus, place: Place) -> None:
        self._bus = bus
        self._place = place

    @property
    def _js(self) -> JetStreamContext:
        return self._bus.js

    async def run(self) -> None:
        """Reaps until cancelled or the bus is closed: nats-py may turn the one into the other."""
        await asyncio.gather(self._listen(), self._look_around())

    async def _listen(self) -> None:
        stream, durable = ADVISORIES.name.format(node=self._bus.node), registry.reaper(self._bus.node)
        while not self._bus.client.is_closed:
            try:
                with bus_errors(f"listen to {stream}"):
                    pull = await self._js.pull_subscribe_bind(consumer=durable, stream=stream)
                    try:
                        await self._work_off(pull)
                    finally:
                        with contextlib.suppress(nats.errors.Error):
                            await pull.unsubscribe()
            except BusError as error:
                if not self._bus.client.is_closed:
                    log.warning("%s", error)
                    await asyncio.sleep(AGAIN_AFTER_S)

    async def _work_off(self, pull: JetStreamContext.PullSubscription) -> None:
        while True:
            try:
                [msg] = await pull.fetch(1, timeout=FETCH_WAIT_S)
            except nats.errors.TimeoutError:
                continue
            await self._take(msg)

    async def _take(self, msg: Msg) -> None:
        """One advisory; not acknowledged, and so told again, until the message lies in ``dlq.>``."""
        try:
            advisory = msgspec.json.decode(msg.data, type=Advisory)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("an advisory that is none: %s", error)
        else:
            queue = await self._queue(advisory)
            if queue:
                deliveries = advisory.deliveries or queue.row.max_deliver + SPARE_DELIVERIES
                await self.reap(queue, advisory.stream_seq, deliveries)
        await msg.ack_sync()

    async def _queue(self, advisory: Advisory) -> Queue | None:
        """Whose message it was; None: not one of ours."""
        for queue in queues(await self._nodes(), list(WORK)):
            if (queue.stream, queue.durable) == (advisory.stream, advisory.consumer):
                return queue
        return None

    async def _nodes(self) -> list[str]:
        if self._place.profile != "bigevy":
            return [self._place.node]
        with bus_errors("list the nodes of this centre"):
            return await edges(self._bus.client)

    async def reap(self, queue: Queue, sequence: int, deliveries: int) -> bool:
        """Writes a message of a work queue to ``dlq.>`` and removes it; False: it is not there any more."""
        with bus_errors(f"reap {queue.stream} {sequence}"):
            try:
                raw = await self._js.get_msg(queue.stream, sequence)
            except nats.js.errors.NotFoundError:
                return False
            if raw.subject != queue.subject:
                return False  # a stream that was made anew counts anew
            await self._bus.dead_letter(
                DeadLetter(
                    subject=queue.subject,
                    payload=raw.data or b"",
                    headers=raw.headers or {},
                    error=f"nobody finished it: its workers or their server died in {deliveries} deliveries",
                    actor=queue.row.actor,
                    node=self._bus.node,
                    deliveries=deliveries,
                    at=time.time(),
                    replay="evy dlq ls, and evy dlq replay with the number it shows",
                ),
                letter_id(raw.headers or {}, queue.stream, sequence),
            )
            try:
                await self._js.delete_msg(queue.stream, sequence)
            except nats.js.errors.APIError as error:
                log.debug("%s %d: %s", queue.stream, sequence, error)  # another reaper was faster
        log.error("%s: dead letter of a message that nobody finished", queue.subject)
        return True

    async def _look_around(self) -> None:
        while not self._bus.client.is_closed:
            try:
                await self.look()
            except (BusError, nats.errors.Error, TimeoutError) as error:
                log.warning("cannot look for messages that nobody gets: %s", error)
            wait_s = LOOK_EVERY_S * random.uniform(0.9, 1.1)  # noqa: S311  # so that processes differ
            await asyncio.sleep(wait_s)

    async def look(self) -> int:
        """Reaps what no consumer will ever deliver again; gives how many."""
        rows = list(WORK) if self._place.profile == "hybrid" else []
        rows = rows or [row for row in WORK if (row.at == "centre") == (self._place.profile == "bigevy")]
        suspects = [
            (queue, sequence)
            for queue in queues(await self._nodes(), rows)
            async for sequence in self._left_over(queue)
        ]
        if not suspects:
            return 0
        await asyncio.sleep(SURE_AFTER_S)
        count = 0
        for queue, sequence in suspects:
            count += await self.reap(queue, sequence, queue.row.max_deliver + SPARE_DELIVERIES)
        return count

    async def _left_over(self, queue: Queue) -> AsyncIterator[int]:
        with bus_errors(f"look at {queue.durable}"):
            try:
                info = await self._js.consumer_info(queue.stream, queue.durable)
            except nats.js.errors.NotFoundError:
                return  # nobody has ever worked here
            settled, sequence = _settled(info), 1
            while sequence <= settled:
                try:
                    found: RawStreamMsg = await self._js.get_msg(
                        queue.stream, sequence, subject=queue.subject, next=True
                    )
                except nats.js.errors.NotFoundError:
                    return
                sequence = (found.seq or settled) + 1
                if found.seq and found.seq <= settled:
                    yield found.seq


def _settled(info: ConsumerInfo) -> int:
    """Up to which sequence a consumer is done with everything: it delivers none of it again."""
    done = info.ack_floor if info.num_ack_pending else info.delivered
    return done.stream_seq if done else 0
