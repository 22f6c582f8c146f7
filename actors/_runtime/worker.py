"""The worker loop: pulls messages from durables, as many as there are free slots, and hands them over.

What becomes of a message then is in `actors._runtime.handling`.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Iterable
from functools import partial
from typing import Any, Final

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from actors._runtime.actor import Actor, Handler
from actors._runtime.bus import NatsBus
from actors._runtime.handling import Handling, run_lanes
from actors._runtime.provision import edges
from actors._runtime.services import Services
from subjects import names
from subjects.names import HUB, Lane
from subjects.registry import Work, work

log = logging.getLogger("evy.worker")

PULL_EXPIRES_S: Final = 30.0
IDLE_HEARTBEAT_S: Final = 5.0
LOOK_FOR_NODES_S: Final = 10.0
"""How often a centre looks for nodes that were enrolled or revoked."""
_REQUEST: Final = b'{"batch":%%d,"expires":%d,"idle_heartbeat":%d}' % (
    PULL_EXPIRES_S * 1e9,
    IDLE_HEARTBEAT_S * 1e9,
)
"""A pull request, NATS ADR-13; times are nanoseconds."""


class LaneWorker:
    """Pulls one lane of one work subject: never more messages than it has free slots.

    A lane's slots are its own, so a flood of routine texts cannot take the slots of flash.
    """

    def __init__(  # noqa: PLR0917  # where it pulls, and what it does with that
        self, bus: NatsBus, node: str, row: Work, lane: Lane, actor: str, handler: Handler
    ) -> None:
        """``node`` is the node whose messages are worked off: at a centre, one of its nodes."""
        self._bus = bus
        self._slots = row.slots.of(lane)
        self._durable = row.durable(node, lane)
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{row.stream(node, lane)}.{self._durable}"
        self._asked = 0
        self._heard_at = 0.0
        self._changed = asyncio.Event()
        self._handling = Handling(bus, node, row, lane, actor, handler, self._changed.set)
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
            await self._handling.drain()

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
        free = self._slots - len(self._handling.running) - self._asked
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
            self._handling.start(msg)
        elif status != "100":  # 100 is the idle heartbeat; anything else ends a pull request
            pending = (msg.headers or {}).get("Nats-Pending-Messages", "")
            self._asked = max(0, self._asked - int(pending)) if pending.isdigit() else 0
            if status == "409":
                log.warning("%s: %s", self._durable, (msg.headers or {}).get("Description", "409"))
            self._changed.set()


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
    services = Services(bus)

    def lane(row: Work, name: str, handler: Handler) -> Coroutine[Any, Any, None]:
        if row.at == "centre" and bus.node == HUB:
            return _all_nodes(bus, row, name, handler, stop)
        return _all_lanes(bus, bus.node, row, name, handler, stop)

    lanes = [
        partial(lane, work(subject), actor.name, handler)
        for actor in actors
        for subject, handler in actor.handlers.items()
    ]
    try:
        await services.start(actors)
        await run_lanes(actors, lanes, stop, services.stop)
    finally:
        for actor in actors:
            await actor.close()
