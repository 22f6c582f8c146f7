"""forget: takes a person of a node out of what the centre keeps for it, when the node asks.

Runs at the centre. The request waits in the node's uplink until there is a link (`evy forget`), and comes
behind all that the node has asked for that person.
"""

import asyncio
import logging
import time
from collections.abc import Sequence

from actors._event_store import StoreBrokenError, StoreError, forget_in, path_in
from actors._reports import AwayError, open_store
from actors._runtime.actor import Actor, Output
from actors._runtime.context import Context
from actors._runtime.erase import Person
from subjects import names
from subjects.errors import ConfigError, RetryLaterError
from subjects.messages import Event, Forget

log = logging.getLogger("evy.forget")


async def build(context: Context) -> Actor:
    """The actor of a centre."""
    events = path_in(context.config.node.directory)
    reports = open_store(context.config)

    async def handle(request: Forget) -> Sequence[Output]:
        person = Person(frozenset(request.refs))
        person.queries |= set(request.queries)
        erased = await context.erase(request.node, person)
        try:
            erased += await asyncio.to_thread(reports.forget, request.node, request.reported, time.time())
            erased += await asyncio.to_thread(forget_in, events, person.refs, person.queries)
        except (StoreError, AwayError, ConfigError) as error:
            raise RetryLaterError(str(error)) from error
        except StoreBrokenError as error:  # the actor `analytics` sets it aside and begins anew
            log.error("a person of %s stays in what cannot be read: %s", request.node, error)
        fields = {"of": request.node, "erased": erased}
        context.emit(
            Event(kind="forgotten", node=context.identity.node, actor="forget", at=time.time(), fields=fields)
        )
        log.info("forgot a person of %s: %d messages", request.node, erased)
        return []

    async def close() -> None:
        await asyncio.to_thread(reports.close)

    return Actor("forget", {names.FORGET: handle}, close=close)
