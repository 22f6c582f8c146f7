"""The worker loop: from a durable to a handler, and back with an acknowledgement.

For each message: decode, handle, publish every output and wait for its PubAck, then acknowledge the input
(`ack_sync`). A crash at any point means the message is delivered again and its outputs are recognised as
duplicates by their ids, so nothing is lost and nothing is doubled.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from actors._runtime.actor import Actor, Handler, Output
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.letters import letter_id
from actors._runtime.provision import edges
from actors._runtime.services import Services
from subjects import names
from subjects.errors import MessageError, RefusedError, RetryLaterError
from subjects.messages import DeadLetter, Message, decode
from subjects.names import HUB, Lane
from subjects.registry import Work, work

log = logging.getLogger("evy.worker")

PULL_EXPIRES_S: Final = 30.0
IDLE_HEARTBEAT_S: Final = 5.0
ACK_TIMEOUT_S: Final = 10.0
LOOK_FOR_NODES_S: Final = 10.0
"""How often a centre looks for nodes that were enrolled or revoked."""
DRAIN_S: Final = 8.0
"""Time for handlers to finish when asked to stop; one that waits for a lost modem would never end."""
_REQUEST: Final = b'{"batch":%%d,"expires":%d,"idle_heartbeat":%d}' % (
    PULL_EXPIRES_S * 1e9,
    IDLE_HEARTBEAT_S * 1e9,
)
"""A pull request, NATS ADR-13; times are nanoseconds."""
BACK_PRESSURE_WAIT_S: Final = (0.05, 0.2, 0.5, 1.0, 2.0)
"""Waits between tries to publish an output that the server does not take; the last one repeats."""


BUS_PATIENCE_S: Final = 600.0
"""How long one delivery waits for a bus that does not give its handler what it asks for. What fails so long
with six deliveries is no outage any more."""


def _waits() -> Iterator[float]:
    yield from BACK_PRESSURE_WAIT_S
    yield from itertools.repeat(BACK_PRESSURE_WAIT_S[-1])


class LaneWorker:
    """Pulls one lane of one work subject: never more messages than it has free slots.

    A lane's slots are its own, so a flood of routine texts cannot take the slots of flash. What concerns one
    person is handled one after the other, in the order of delivery.
    """

    def __init__(  # noqa: PLR0917  # where it pulls, and what it does with that
        self, bus: NatsBus, node: str, row: Work, lane: Lane, actor: str, handler: Handler
    ) -> None:
        """``node`` is the node whose messages are worked off: at a centre, one of its nodes."""
        self._bus = bus
        self._node = node
        self._row = row
        self._lane = lane
        self._actor = actor
        self._handler = handler
        self._slots = row.slots.of(lane)
        self._durable = row.durable(node, lane)
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{row.stream(node, lane)}.{self._durable}"
        self._asked = 0
        self._heard_at = 0.0
        self._changed = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._last: dict[str, asyncio.Task[None]] = {}
        """The last message of each person in hand: never more than there are slots."""
        self._subscription: Subscription | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Works until ``stop`` is set, then finishes what is in hand."""
        waker = asyncio.create_task(self._wake(stop))
        try:
            while not stop.is_set():
                self._changed.clear()
                await self._pull()
                await self._changed.wait()
        finally:
            waker.cancel()
            await self._unsubscribe()
            if self._running:
                _, waiting = await asyncio.wait(self._running, timeout=DRAIN_S)
                for task in waiting:
                    task.cancel()  # not acknowledged: delivered again to whoever runs next

    async def _wake(self, stop: asyncio.Event) -> None:
        """Has :meth:`run` look around at ``stop``, and now and then for a pull request that died: one timer
        for the lane, because one per message costs processor on every hop of every text."""
        stopped = False
        while not stopped:
            with contextlib.suppress(TimeoutError):
                stopped = await asyncio.wait_for(stop.wait(), IDLE_HEARTBEAT_S)
            self._changed.set()

    async def _pull(self) -> None:
        """Asks for as many messages as there are free slots that nothing was asked for yet."""
        silent_s = time.monotonic() - self._heard_at
        if self._subscription is None or (self._asked and silent_s > 3 * IDLE_HEARTBEAT_S):
            # A pull request dies silently with its server or its connection: begin with a fresh inbox.
            await self._unsubscribe()
            inbox = self._bus.client.new_inbox()
            self._subscription = await self._bus.client.subscribe(inbox, cb=self._on_message)
            self._asked = 0
            self._heard_at = time.monotonic()
        free = self._slots - len(self._running) - self._asked
        if free <= 0 or not self._bus.client.is_connected:
            return
        with contextlib.suppress(nats.errors.Error):  # no connection: asked again at the next turn
            await self._bus.client.publish(self._next, _REQUEST % free, reply=self._subscription.subject)
            self._asked += free

    async def _unsubscribe(self) -> None:
        if self._subscription is not None:
            with contextlib.suppress(nats.errors.Error):
                await self._subscription.unsubscribe()
            self._subscription = None

    async def _on_message(self, msg: Msg) -> None:
        self._heard_at = time.monotonic()
        status = (msg.headers or {}).get("Status")
        if status is None:
            self._asked = max(0, self._asked - 1)
            self._start(msg)
        elif status != "100":  # 100 is the idle heartbeat; anything else ends a pull request
            pending = (msg.headers or {}).get("Nats-Pending-Messages", "")
            self._asked = max(0, self._asked - int(pending)) if pending.isdigit() else 0
            if status == "409":
                log.warning("%s: %s", self._durable, (msg.headers or {}).get("Description", "409"))
            self._changed.set()

    def _start(self, msg: Msg) -> None:
        message: Message | MessageError
        try:
            message = decode(msg.data, self._row.message)
            person = message.person
        except MessageError as error:
            message, person = error, ""
        task = asyncio.create_task(self._process(msg, message, self._last.get(person) if person else None))
        self._running.add(task)
        task.add_done_callback(self._done)
        if person:
            self._last[person] = task
            task.add_done_callback(
                lambda done: self._last.pop(person) if self._last.get(person) is done else None
            )

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()):
            log.error("%s: the worker itself failed", self._durable, exc_info=error)

    async def _process(
        self, msg: Msg, message: Message | MessageError, before: asyncio.Task[None] | None
    ) -> None:
        keepers: list[asyncio.Task[None]] = []
        # A timer until then, not a task: nearly every message is done long before.
        timer = asyncio.get_running_loop().call_later(
            self._row.ack_wait_s / 3, lambda: keepers.append(asyncio.create_task(self._keep_alive(msg)))
        )
        try:
            if before is not None:
                await asyncio.wait([before])
            await self._traced(msg, message)
        except (nats.errors.Error, BusError, TimeoutError, OSError) as error:
            # Not acknowledged: the server delivers it again after ack_wait.
            log.warning("%s: left for redelivery: %s", msg.subject, error)
        finally:
            timer.cancel()
            for keeper in keepers:
                keeper.cancel()

    async def _traced(self, msg: Msg, message: Message | MessageError) -> None:
        """Settles a message within a span of its own: what it waited in the stream, what is done with it."""
        query_id = getattr(message, "id", "") or getattr(message, "query_id", "")
        hop = self._bus.spans.begin(msg.headers, self._lane, query_id)
        outcome = "left"
        try:
            outcome = await self._settle(msg, message)
        finally:
            if hop.sampled:
                stored = msg.metadata
                queue_s = hop.begun - stored.timestamp.timestamp()
                self._bus.spans.end(
                    hop, self._actor, self._row.subject, queue_s, outcome, stored.num_delivered
                )

    async def _keep_alive(self, msg: Msg) -> None:
        while True:
            with contextlib.suppress(nats.errors.Error, OSError):
                await msg.in_progress()
            await asyncio.sleep(self._row.ack_wait_s / 3)

    async def _settle(self, msg: Msg, message: Message | MessageError) -> str:
        """Handles one message and tells the server what became of it; gives the outcome of its span."""
        deliveries = msg.metadata.num_delivered
        if deliveries > self._row.max_deliver:
            return await self._dead_letter(msg, f"the worker died {deliveries - 1} times while handling it")
        try:
            if isinstance(message, MessageError):
                raise message  # noqa: TRY301  # it was met while reading; what becomes of it is said here
            self._check_origin(message)
            outputs = await self._handled(message)
        except RefusedError as error:
            return await self._dead_letter(msg, str(error))
        except RetryLaterError as error:
            return await self._again(msg, error, error.delay_s)
        except BusError as error:
            return await self._again(msg, error, None)
        except Exception as error:  # policy boundary: a handler's bug must not stop the lane
            log.exception("%s: handler failed (delivery %d)", msg.subject, deliveries)
            return await self._again(msg, error, None)
        for output in outputs:
            await self._publish(output)
        await msg.ack_sync(timeout=ACK_TIMEOUT_S)
        return "done"

    def _check_origin(self, message: Message) -> None:
        """At a centre the subject, which the link's permissions vouch for, says which node it came from."""
        if self._row.at == "centre" and (said := getattr(message, "node", "")) != self._node:
            raise RefusedError(f"it came from node {self._node!r} and says {said!r}")

    async def _handled(self, message: Message) -> Sequence[Output]:
        """What the handler makes of a message, once the bus gives it what it reads and keeps. A disk that is
        full for an hour must not use up the deliveries of what is in hand."""
        until_s = time.monotonic() + BUS_PATIENCE_S
        for wait_s in _waits():
            try:
                return await self._handler(message)
            except BusError as error:
                if time.monotonic() > until_s:
                    raise
                log.warning("%s; handled again in %.2f s", error, wait_s)
                await asyncio.sleep(wait_s)
        raise AssertionError("waits without end")

    async def _publish(self, output: Output) -> None:
        """Publishes until the server takes it. Waiting here is back-pressure: it holds one slot and no
        delivery is used up, so a full subject or a restarting server never turns into a dead letter."""
        for wait_s in _waits():
            try:
                await self._bus.publish(output, self._actor)
            except BusError as error:
                log.warning("%s; trying again in %.2f s", error, wait_s)
                await asyncio.sleep(wait_s)
            else:
                return

    async def _again(self, msg: Msg, error: Exception, delay_s: float | None) -> str:
        deliveries = msg.metadata.num_delivered
        if deliveries >= self._row.max_deliver:
            return await self._dead_letter(msg, f"{type(error).__name__}: {error}")
        wait_s = self._row.retry_delay_s(deliveries) if delay_s is None else delay_s
        log.warning("%s: again in %.1f s: %s", msg.subject, wait_s, error)
        await msg.nak(delay=wait_s)
        return "again"

    async def _dead_letter(self, msg: Msg, reason: str) -> str:
        headers = dict(msg.headers or {})
        letter = DeadLetter(
            subject=msg.subject,
            payload=msg.data,
            headers=headers,
            error=reason,
            actor=self._actor,
            node=self._bus.node,
            deliveries=msg.metadata.num_delivered,
            at=time.time(),
            replay="evy dlq ls, and evy dlq replay with the number it shows",
        )
        identity = letter_id(headers, msg.metadata.stream, msg.metadata.sequence.stream)
        await self._bus.dead_letter(letter, identity)
        await msg.term()
        log.error("%s: dead letter: %s", msg.subject, reason)
        return "dead"


async def _all_lanes(  # noqa: PLR0917  # see LaneWorker
    bus: NatsBus, node: str, row: Work, actor: str, handler: Handler, stop: asyncio.Event
) -> None:
    async with asyncio.TaskGroup() as group:
        for lane in names.LANES:
            group.create_task(LaneWorker(bus, node, row, lane, actor, handler).run(stop))


async def _all_nodes(bus: NatsBus, row: Work, actor: str, handler: Handler, stop: asyncio.Event) -> None:
    """At a centre: works for each of its nodes, those that are enrolled meanwhile too."""
    working: dict[str, tuple[asyncio.Task[None], asyncio.Event]] = {}
    while not stop.is_set():
        try:
            enrolled = await edges(bus.client)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            log.warning("cannot list the nodes of this centre: %s", error)
            enrolled = list(working)
        for node in enrolled:
            if node not in working:
                ended = asyncio.Event()
                lanes = _all_lanes(bus, node, row, actor, handler, ended)
                working[node] = asyncio.create_task(lanes), ended
                log.info("%s works for node %s", actor, node)
        for node in working.keys() - set(enrolled):
            _, ended = working.pop(node)
            ended.set()
            log.info("%s no longer works for node %s", actor, node)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK_FOR_NODES_S)
    for _, ended in working.values():
        ended.set()
    if working:
        await asyncio.wait([task for task, _ in working.values()])


async def run_actors(bus: NatsBus, actors: Iterable[Actor], stop: asyncio.Event) -> None:
    """Runs actors until ``stop`` is set, then drains: no new messages, handlers finish, actors close.

    Raises the first error of an actor's own task; a handler's error never ends up here.
    """
    actors = list(actors)
    handled = [
        (work(subject), actor.name, handler)
        for actor in actors
        for subject, handler in actor.handlers.items()
    ]
    lanes = [
        _all_nodes(bus, row, name, handler, stop)
        if row.at == "centre" and bus.node == HUB
        else _all_lanes(bus, bus.node, row, name, handler, stop)
        for row, name, handler in handled
    ]
    services = Services(bus)
    try:
        await services.start(actors)
        async with asyncio.TaskGroup() as group:
            own = [group.create_task(task()) for actor in actors for task in actor.tasks]
            workers = [group.create_task(lane) for lane in lanes]
            await stop.wait()
            await services.stop()
            if workers:
                await asyncio.wait(workers)
            for task in own:
                task.cancel()
    finally:
        for actor in actors:
            await actor.close()
