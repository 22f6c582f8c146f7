"""What becomes of a message once it is here: handled, put off, dead-lettered, and only then acknowledged.

For each message: decode, handle, publish every output and wait for its PubAck, then acknowledge the input
(`ack_sync`). A crash at any point means the message is delivered again and its outputs are recognised as
duplicates by their ids, so nothing is lost and nothing is doubled. The same on a server and in memory.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import nats.errors

from actors._runtime.actor import Actor, Handler, Output
from actors._runtime.bus import BusError
from actors._runtime.letters import letter_id
from actors._runtime.telemetry import Spans
from subjects.errors import MessageError, RefusedError, RetryLaterError
from subjects.messages import DeadLetter, Message, decode
from subjects.names import Lane
from subjects.registry import Work

log = logging.getLogger("evy.worker")

ACK_TIMEOUT_S: Final = 10.0
DRAIN_S: Final = 8.0
"""Time for handlers to finish when asked to stop; one that waits for a lost modem would never end."""
BACK_PRESSURE_WAIT_S: Final = (0.05, 0.2, 0.5, 1.0, 2.0)
"""Waits between tries to publish an output that the server does not take; the last one repeats."""
CANCEL_AGAIN_S: Final = 32.0
"""Time for a cancelled task to tidy up before it is cancelled again: `sms` gives its modem thirty seconds."""
BUS_PATIENCE_S: Final = 600.0
"""How long one delivery waits for a bus that does not give its handler what it asks for. What fails so long
with six deliveries is no outage any more."""


def _waits() -> Iterator[float]:
    yield from BACK_PRESSURE_WAIT_S
    yield from itertools.repeat(BACK_PRESSURE_WAIT_S[-1])


class Delivery(Protocol):
    """One delivery of a message; nats-py's, or one in memory."""

    @property
    def subject(self) -> str:
        """Its subject with the lane."""

    @property
    def data(self) -> bytes:
        """Its octets."""

    @property
    def headers(self) -> Mapping[str, str] | None:
        """Its headers."""

    @property
    def metadata(self) -> Any:
        """``num_delivered``, ``stream``, ``sequence.stream`` and ``timestamp``, as nats-py has them."""

    async def ack_sync(self, timeout: float = ...) -> Any:  # noqa: ASYNC109  # nats-py's
        """It is done; returns when the bus knows."""

    async def nak(self, delay: float | None = ...) -> None:
        """Deliver it again after a wait."""

    async def term(self) -> None:
        """Never deliver it again."""

    async def in_progress(self) -> None:
        """Somebody still works on it."""


class WorkBus(Protocol):
    """What handling needs of a bus."""

    @property
    def node(self) -> str:
        """Name of the node."""

    @property
    def spans(self) -> Spans:
        """Where hops are recorded."""

    async def publish(self, output: Output, actor: str) -> None:
        """Publishes work; returns after the PubAck."""

    async def dead_letter(self, letter: DeadLetter, message_id: str = "") -> None:
        """Keeps a message that cannot be handled."""


class Handling:
    """One lane of one work subject, from a delivery to its acknowledgement.

    What concerns one person is handled one after the other, in the order of delivery.
    """

    def __init__(  # noqa: PLR0917  # whose messages, and what is done with them
        self,
        bus: WorkBus,
        node: str,
        row: Work,
        lane: Lane,
        actor: str,
        handler: Handler,
        changed: Callable[[], None],
    ) -> None:
        """``changed`` is called whenever a message is done with."""
        self._bus = bus
        self._node = node
        self._row = row
        self._lane = lane
        self._actor = actor
        self._handler = handler
        self._changed = changed
        self.running: set[asyncio.Task[None]] = set()
        """Messages in hand."""
        self._last: dict[str, asyncio.Task[None]] = {}
        """The last message of each person in hand: never more than there are slots."""

    async def drain(self) -> None:
        """Lets what is in hand finish."""
        if self.running:
            _, waiting = await asyncio.wait(self.running, timeout=DRAIN_S)
            for task in waiting:
                task.cancel()  # not acknowledged: delivered again to whoever runs next

    def start(self, msg: Delivery) -> None:
        """Takes a message in hand."""
        message: Message | MessageError
        try:
            message = decode(msg.data, self._row.message)
            person = message.person
        except MessageError as error:
            message, person = error, ""
        task = asyncio.create_task(self._process(msg, message, self._last.get(person) if person else None))
        self.running.add(task)
        task.add_done_callback(self._done)
        if person:
            self._last[person] = task
            task.add_done_callback(
                lambda done: self._last.pop(person) if self._last.get(person) is done else None
            )

    def _done(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        self._changed()
        if not task.cancelled() and (error := task.exception()):
            log.error(
                "%s: the worker itself failed", self._row.durable(self._node, self._lane), exc_info=error
            )

    async def _process(
        self, msg: Delivery, message: Message | MessageError, before: asyncio.Task[None] | None
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

    async def _traced(self, msg: Delivery, message: Message | MessageError) -> None:
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

    async def _keep_alive(self, msg: Delivery) -> None:
        while True:
            with contextlib.suppress(nats.errors.Error, OSError):
                await msg.in_progress()
            await asyncio.sleep(self._row.ack_wait_s / 3)

    async def _settle(self, msg: Delivery, message: Message | MessageError) -> str:
        """Handles one message and tells the server what became of it; gives the outcome of its span."""
        deliveries = msg.metadata.num_delivered
        if deliveries > self._row.max_deliver:
            return await self._dead_letter(msg, f"the worker died {deliveries - 1} times while handling it")
        try:
            if isinstance(message, MessageError):
                raise message  # noqa: TRY301  # it was met while reading; what becomes of it is said here
            self._check_origin(message)
            for output in await self._handled(message):
                await self._publish(output)
        except RefusedError as error:
            return await self._dead_letter(msg, str(error))
        except RetryLaterError as error:
            return await self._again(msg, error, error.delay_s)
        except BusError as error:
            return await self._again(msg, error, None)
        except Exception as error:  # policy boundary: a handler's bug must not stop the lane
            log.exception("%s: handler failed (delivery %d)", msg.subject, deliveries)
            return await self._again(msg, error, None)
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

    async def _again(self, msg: Delivery, error: Exception, delay_s: float | None) -> str:
        deliveries = msg.metadata.num_delivered
        if deliveries >= self._row.max_deliver:
            return await self._dead_letter(msg, f"{type(error).__name__}: {error}")
        wait_s = self._row.retry_delay_s(deliveries) if delay_s is None else delay_s
        log.warning("%s: again in %.1f s: %s", msg.subject, wait_s, error)
        await msg.nak(delay=wait_s)
        return "again"

    async def _dead_letter(self, msg: Delivery, reason: str) -> str:
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


async def end(tasks: Collection[asyncio.Task[Any]], patience_s: float = CANCEL_AGAIN_S) -> None:
    """Cancels tasks until they have ended; their results and errors stay in them.

    One call is not enough before Python 3.12: `asyncio.wait_for`, which every request of nats-py passes
    through, drops a cancellation that comes together with its result, and a loop then goes on for ever.
    """
    living = {task for task in tasks if not task.done()}
    while living:
        for task in living:
            task.cancel()
        _, living = await asyncio.wait(living, timeout=patience_s)
        if living:
            log.warning("not ended by a cancellation, cancelled again: %s", living)


async def run_lanes(
    actors: Sequence[Actor],
    lanes: Sequence[Callable[[], Coroutine[Any, Any, None]]],
    stop: asyncio.Event,
    silence: Callable[[], Awaitable[None]],
) -> None:
    """Runs lanes and the actors' own tasks until ``stop`` is set, then drains: no new questions
    (``silence``), no new messages, handlers finish.

    Raises the first error of an actor's own task; a handler's error never ends up here.
    """
    async with asyncio.TaskGroup() as group:
        own = [group.create_task(task()) for actor in actors for task in actor.tasks]
        workers = [group.create_task(lane()) for lane in lanes]
        await stop.wait()
        await silence()
        if workers:
            await asyncio.wait(workers)
        await end(own)
