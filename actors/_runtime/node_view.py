"""The live view of a node's state: a subscription to the bucket's subject, beside whatever else runs.

A snapshot in `Query` would be stale: a question may wait for minutes, and a model answers slowly just when
the battery falls.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

import nats.errors
from nats.aio.msg import Msg

from actors._runtime.bus import BusError, NatsBus, bus_errors
from subjects import registry
from subjects.errors import MessageError
from subjects.messages import decode
from subjects.node_state import STATE_KEY, NodeState

STALE_AFTER_S: Final = registry.bucket("node").ttl_s
"""What was said so long ago is not known any more: the actor `node` speaks every few seconds."""
RETRY_S: Final = 1.0


class NodeView:
    """Calling it gives the state now; nothing is known until the first one came.

    It subscribes on its own once it is made, in the running event loop. The client subscribes again after
    every reconnect, and core messages come also while the bucket, which is in the server's memory, is gone.
    """

    def __init__(self, bus: NatsBus, *, now: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._now = now
        self._unknown = NodeState(node=bus.node)
        self._state = self._unknown
        self._seen_at = 0.0
        self._started = asyncio.get_running_loop().create_task(self._start())

    def __call__(self) -> NodeState:
        """The state now; unknown when nobody has said anything for :data:`STALE_AFTER_S`."""
        return self._state if self._now() - self._seen_at < STALE_AFTER_S else self._unknown

    async def _start(self) -> None:
        bucket = registry.bucket("node").bucket(self._bus.node)
        while not self._bus.client.is_closed:
            try:
                with bus_errors("follow the node's state"):
                    await self._bus.client.subscribe(f"$KV.{bucket}.{STATE_KEY}", cb=self._on_message)
                break
            except BusError:
                await asyncio.sleep(RETRY_S)
        with contextlib.suppress(BusError, nats.errors.Error):  # the next one comes within seconds
            entry = await (await self._bus.bucket("node")).get(STATE_KEY)
            if entry and self._state is self._unknown:
                self._take(entry[0])

    async def _on_message(self, msg: Msg) -> None:
        self._take(msg.data)

    def _take(self, octets: bytes) -> None:
        with contextlib.suppress(MessageError):  # a newer writer's: unknown to us, as it says by its version
            self._state = decode(octets, NodeState)
            self._seen_at = self._now()
