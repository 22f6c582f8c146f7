"""link watches the line to the centre, and ends the queries that waited for it too long.

It handles no work. It says in events when the link comes and goes, and takes out of the uplink stream what
nobody would want an answer to any more, each with an event.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from actors._runtime import clock
from actors._runtime.actor import Actor, Emit
from actors._runtime.context import Context
from actors._runtime.link import Link, LinkState
from subjects.errors import EvyError
from subjects.messages import Event, Query

log = logging.getLogger("evy.link")

EXPIRE_EVERY_S: Final = 15.0
"""A query ends at most so long after its time."""


def passed(query: Query) -> bool:
    """Whether nobody wants an answer to a waiting query any more."""
    return clock.remaining_s(query.wait or query.deadline) <= 0


def actor(
    node: str,
    link: Link,
    emit: Emit,
    *,
    now: Callable[[], float] = time.time,
    every_s: float = EXPIRE_EVERY_S,
) -> Actor:
    """The actor; ``now`` gives Unix time for events."""

    def changed(state: LinkState) -> None:
        log.info("link %s: %s", "up" if state.up else "down", state.reason)
        fields = {"reason": state.reason, "rtt_ms": state.rtt_ms, "waiting": state.waiting}
        kind = "link_up" if state.up else "link_down"
        emit(Event(kind=kind, node=node, actor="link", at=now(), fields=fields))

    async def watch() -> None:
        await link.watch(changed)

    async def expire() -> None:
        while True:
            try:
                gone = await link.expire(passed)
            except EvyError as error:
                log.warning("cannot look at what waits for the link: %s", error)
                gone = []
            for query in gone:
                emit(
                    Event(
                        kind="expired",
                        node=node,
                        actor="link",
                        at=now(),
                        query_id=query.id,
                        sender_ref=query.sender_ref,
                        lane=query.lane,
                        fields={"reason": "no link in time"},
                    )
                )
            await asyncio.sleep(every_s)

    return Actor("link", {}, (watch, expire))


async def build(context: Context) -> Actor:
    """The actor of a node."""
    return actor(context.identity.node, context.link(), context.emit)
