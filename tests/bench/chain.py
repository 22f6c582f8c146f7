"""The bare chain: what the bus alone takes for as many durable hops, written as tightly as nats-py allows,
and the same hops under EVY's runtime with handlers that do nothing.

A text passes five hops (`sms.in`, `route`, `rag`, `compress`, `sms.out`, routine lane, on the registry's own
streams and durables). Each hop publishes to the next and waits for the PubAck, then acknowledges its input
with `ack_sync`; the last one writes to the ledger (create, then update) instead of publishing, twice or as
often as asked. There is no decoding, no checking and no other work. `IN_FLIGHT` messages of a hop are in
flight; one new message is asked for when one is done.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Final

import msgspec
from nats.aio.msg import Msg

from actors._runtime import clock
from actors._runtime.actor import Actor, Handler, Output
from subjects import names, registry
from subjects.messages import Answer, InboundSms, Message, OutboundSms, Query, encode
from tests.bench.node import Node
from tests.conftest import NODE

HOPS: Final = (names.SMS_IN, names.ROUTE, names.RAG, names.COMPRESS, names.SMS_OUT)
KEY_VALUE_WRITES: Final = 2
IN_FLIGHT: Final = sum(registry.Slots().of(lane) for lane in names.LANES)
"""As many as EVY's lanes of one subject have together."""
FEEDERS: Final = 8


_TEXT: Final = "How do I make water from the river safe to drink? We have a pot and bleach"
_DEADLINE: Final = clock.deadline_in(15)
_QUESTION: Final = encode(
    Query(
        id="0" * 32,
        node=NODE,
        sender_ref="0" * 20,
        text=_TEXT,
        lang="en",
        lane="routine",
        deadline=_DEADLINE,
    )
)


class _Chain:
    """One run."""

    def __init__(self, node: Node, texts: int, writes: int) -> None:
        self._bus = node.bus.client
        self._js = node.bus.js
        self._texts = texts
        self._writes = writes
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
            for _ in range(self._writes - 1):
                revision = await self._ledger.update(key, b"SUBMITTED", revision)
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


async def run(node: Node, texts: int, writes: int = KEY_VALUE_WRITES) -> float:
    """Seconds from the first publish to the last acknowledgement."""
    return await _Chain(node, texts, writes).run()


async def run_under_runtime(node: Node, texts: int) -> float:
    """Seconds for the same hops and ledger writes under `run_actors`: what EVY's worker loop adds."""
    finished = asyncio.Event()
    left = texts
    ledger = await node.context.bucket("ledger")
    deadline, lane = _DEADLINE, names.LANES[-1]
    sms = InboundSms(
        id="", node=NODE, sender="+15550100", text=_TEXT, lane=lane, deadline=deadline, received_at=1.0
    )
    query = Query(id="", node=NODE, sender_ref="0" * 20, text=_TEXT, lang="en", lane=lane, deadline=deadline)
    answer = Answer(
        query_id="", node=NODE, sender_ref="0" * 20, text=_TEXT, lang="en", lane=lane, step="verbatim"
    )
    out = OutboundSms(
        query_id="", node=NODE, sender_ref="0" * 20, text=_TEXT, lang="en", lane=lane, step="verbatim"
    )

    def passing_on(subject: str, following: Message) -> Handler:
        async def handle(message: Message) -> Sequence[Output]:
            query_id: str = getattr(message, "id", "") or getattr(message, "query_id", "")
            name = "id" if isinstance(following, Query) else "query_id"
            return [Output(subject, lane, msgspec.structs.replace(following, **{name: query_id}), query_id)]

        return handle

    async def last(message: OutboundSms) -> Sequence[Output]:
        nonlocal left
        key = message.ledger_key(1)
        revision = await ledger.create(key, b"INTENT")
        assert revision is not None
        await ledger.update(key, b"SUBMITTED", revision)
        left -= 1
        if not left:
            finished.set()
        return []

    handlers = [
        passing_on(names.ROUTE, query),
        passing_on(names.RAG, query),
        passing_on(names.COMPRESS, answer),
        passing_on(names.SMS_OUT, out),
        last,
    ]
    actors = [
        Actor(registry.work(subject).actor, {subject: handler})
        for subject, handler in zip(HOPS, handlers, strict=True)
    ]

    async def feed(first: int) -> None:
        for index in range(first, texts, FEEDERS):
            message = msgspec.structs.replace(sms, id=str(index))
            await node.context.publish(Output(names.SMS_IN, lane, message, message.id), "sms")

    async with node.running(actors):
        started = time.perf_counter()
        async with asyncio.timeout(600), asyncio.TaskGroup() as group:
            for first in range(FEEDERS):
                group.create_task(feed(first))
            await finished.wait()
        return time.perf_counter() - started
