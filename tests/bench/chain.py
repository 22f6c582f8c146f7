"""The bare chain: what the bus alone takes for as many durable hops, written as tightly as nats-py allows.

A text passes five hops (`sms.in`, `route`, `rag`, `compress`, `sms.out`, routine lane, on the registry's own
streams and durables). Each hop publishes to the next and waits for the PubAck, then acknowledges its input
with `ack_sync`; the last one writes two ledger entries (create, update) instead of publishing. There is no
decoding, no checking and no other work. `IN_FLIGHT` messages of a hop are in flight; one new message is
asked for when one is done.
"""

import asyncio
import json
import time
from typing import Final

from nats.aio.msg import Msg

from actors._runtime import clock
from subjects import names, registry
from subjects.messages import Query, encode
from tests.bench.node import Node
from tests.conftest import NODE

HOPS: Final = (names.SMS_IN, names.ROUTE, names.RAG, names.COMPRESS, names.SMS_OUT)
KEY_VALUE_WRITES: Final = 2
IN_FLIGHT: Final = sum(registry.Slots().of(lane) for lane in names.LANES)
"""As many as EVY's lanes of one subject have together."""
FEEDERS: Final = 8


_QUESTION: Final = encode(
    Query(
        id="0" * 32,
        node=NODE,
        sender_ref="0" * 20,
        text="How do I make water from the river safe to drink? We have a pot and bleach",
        lang="en",
        lane="routine",
        deadline=clock.deadline_in(15),
    )
)


class _Chain:
    """One run."""

    def __init__(self, node: Node, texts: int) -> None:
        self._bus = node.bus.client
        self._js = node.bus.js
        self._texts = texts
        self._left = texts
        self._tasks: set[asyncio.Task[None]] = set()
        self._finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> float:
        self._ledger = await self._js.key_value(registry.bucket("ledger").bucket(NODE))
        for place in range(len(HOPS)):
            await self._start(place)
        await self._bus.flush()
        started = time.perf_counter()
        async with asyncio.timeout(600), asyncio.TaskGroup() as group:
            for first in range(FEEDERS):
                group.create_task(self._feed(first))
            await self._finished
        return time.perf_counter() - started

    async def _start(self, place: int) -> None:
        row = registry.work(HOPS[place])
        pull = f"$JS.API.CONSUMER.MSG.NEXT.{row.stream(NODE, 'routine')}.{row.durable(NODE, 'routine')}"
        one_more = json.dumps({"batch": 1, "expires": 600 * 10**9}).encode()
        inbox = self._bus.new_inbox()

        async def handle(msg: Msg) -> None:
            await self._pass_on(place, msg)
            await self._bus.publish(pull, one_more, reply=inbox)

        async def take(msg: Msg) -> None:
            task = asyncio.create_task(handle(msg))
            self._tasks.add(task)
            task.add_done_callback(self._done)

        await self._bus.subscribe(inbox, cb=take)
        for _ in range(IN_FLIGHT):
            await self._bus.publish(pull, one_more, reply=inbox)

    async def _pass_on(self, place: int, msg: Msg) -> None:
        headers = msg.headers or {}
        if "Status" in headers:
            raise RuntimeError(f"hop {place} got no message: {headers}")
        if place + 1 < len(HOPS):
            following = {**headers, "Nats-Msg-Id": f"{headers['text']}.{place}"}
            await self._js.publish(f"{HOPS[place + 1]}.routine", msg.data, headers=following)
        else:
            key = f"{headers['text']}.reply.1"
            revision = await self._ledger.create(key, b"INTENT")
            await self._ledger.update(key, b"SUBMITTED", revision)
        await msg.ack_sync(timeout=30)
        if place + 1 == len(HOPS):
            self._left -= 1
            if not self._left:
                self._finished.set_result(None)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not self._finished.done():
            self._finished.set_exception(error)

    async def _feed(self, first: int) -> None:
        for index in range(first, self._texts, FEEDERS):
            headers = {"Nats-Msg-Id": f"{index}.in", "text": str(index)}
            await self._js.publish(f"{HOPS[0]}.routine", _QUESTION, headers=headers)


async def run(node: Node, texts: int) -> float:
    """Seconds from the first publish to the last acknowledgement."""
    return await _Chain(node, texts).run()
