"""The link to the centre as an edge node sees it: is somebody there, and what waits for it.

Liveness is a JetStream round trip to the stream at the centre from which this node takes its answers: a leaf
connection may be up while nothing gets through it.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
import nats.errors
import nats.js.errors

from actors._runtime.bus import NatsBus, bus_errors
from actors._runtime.provision import Place
from subjects import registry
from subjects.errors import MessageError
from subjects.messages import Query, decode
from subjects.names import HUB

PROBE_EVERY_S: Final = 3.0
PROBE_WITHIN_S: Final = 3.0
"""Longer than a round trip of 600 ms on a line of 50 kbit/s that is busy."""
CROWDED: Final = 50
"""With so many queries waiting, an answer will not come in time: the link counts as down."""
LATE_FOR_S: Final = 60.0
"""After an answer that did not come in time the link counts as down for so long: the line may be fine and
the model behind it not."""


class LinkState(msgspec.Struct, frozen=True):
    """What was last known of the link."""

    up: bool | None = None
    """None: there is no centre, or nobody has looked yet."""
    reason: str = "not looked yet"
    rtt_ms: float | None = None
    since_s: float = 0.0
    """Monotonic clock at the last change of ``up``."""
    waiting: int = 0
    """Queries that wait here for the centre."""
    coming: int = 0
    """Messages of the centre for this node that have not arrived."""


class Link(Protocol):
    """The link of a node; in tests one that a test sets."""

    @property
    def state(self) -> LinkState:
        """What was last known."""

    async def watch(self, changed: Callable[[LinkState], None]) -> None:
        """Looks again and again, for ever; calls ``changed`` whenever ``up`` changed."""

    async def look(self) -> LinkState:
        """Looks once and gives what it saw."""

    def missed(self) -> None:
        """An answer of the centre did not come in time."""

    async def expire(self, passed: Callable[[Query], bool]) -> list[Query]:
        """Takes out and returns the waiting queries whose time has ``passed``, oldest first."""


class NoLink:
    """The link of a node without a centre."""

    state: Final = LinkState(reason="no centre")

    async def watch(self, changed: Callable[[LinkState], None]) -> None:  # noqa: ARG002  # nothing changes
        """Never looks."""
        await asyncio.Event().wait()

    async def look(self) -> LinkState:
        """There is nothing to see."""
        return self.state

    def missed(self) -> None:
        """Nothing was expected."""

    async def expire(self, passed: Callable[[Query], bool]) -> list[Query]:  # noqa: ARG002  # nothing waits
        """Nothing waits."""
        return []


class NatsLink:
    """The link of a node on its server."""

    def __init__(self, bus: NatsBus, place: Place, *, now: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._now = now
        self._up = f"UP_{place.node}"
        api = "$JS.API" if place.profile == "hybrid" else f"$JS.{HUB}.API"
        self._probe = f"{api}.STREAM.INFO.DOWN_{place.node}"
        self._late_until_s = 0.0
        self.state = LinkState()

    def missed(self) -> None:
        """Counts as down for :data:`LATE_FOR_S`, from now on."""
        self._late_until_s = self._now() + LATE_FOR_S
        self.state = msgspec.structs.replace(
            self.state, up=False, reason="the centre did not answer in time", since_s=self._now()
        )

    async def watch(self, changed: Callable[[LinkState], None]) -> None:
        """Looks every :data:`PROBE_EVERY_S`."""
        while True:
            before = self.state
            await self.look()
            if self.state.up != before.up:
                changed(self.state)
            await asyncio.sleep(PROBE_EVERY_S)

    async def look(self) -> LinkState:
        """Looks once, within :data:`PROBE_WITHIN_S`, and gives what it saw."""
        (up, reason, rtt_ms, coming), waiting = await asyncio.gather(self._look_there(), self._look_here())
        if up and waiting >= CROWDED:
            up, reason = False, f"{waiting} queries wait already"
        if up and self._now() < self._late_until_s:
            up, reason = False, "the centre did not answer in time"
        since_s = self.state.since_s if up == self.state.up else self._now()
        self.state = LinkState(up, reason, rtt_ms, since_s, waiting, coming)
        return self.state

    async def _look_there(self) -> tuple[bool, str, float | None, int]:
        began = self._now()
        try:
            reply = await self._bus.client.request(self._probe, b"", timeout=PROBE_WITHIN_S)
        except nats.errors.NoRespondersError:
            return False, "no connection to the centre", None, 0
        except (nats.errors.Error, TimeoutError, OSError) as error:
            return False, f"the centre does not answer ({type(error).__name__})", None, 0
        rtt_ms = (self._now() - began) * 1e3
        answer = msgspec.json.decode(reply.data)
        if "error" in answer:
            why = answer["error"].get("description", "error")
            return False, f"the centre refuses this node: {why}; `evy nats enrol` there", rtt_ms, 0
        return True, "the centre answers", rtt_ms, int(answer["state"]["messages"])

    async def _look_here(self) -> int:
        try:
            return (await self._bus.js.stream_info(self._up)).state.messages
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError):
            return self.state.waiting

    async def expire(self, passed: Callable[[Query], bool]) -> list[Query]:
        """Takes out the waiting queries whose time has passed. All wait equally long, so in each lane only
        the oldest is looked at, until it may stay. What is no query goes too: nobody could read it."""
        gone: list[Query] = []
        waiting = [row for row in registry.WORK if row.at == "centre" and row.message is Query]
        for row in waiting:
            for _, subject in row.subjects():
                while (found := await self._oldest(subject)) is not None:
                    sequence, data = found
                    try:
                        query = decode(data, Query)
                    except MessageError:
                        query = None
                    if query is not None and not passed(query):
                        break
                    with bus_errors(f"remove {sequence} of {self._up}"):
                        await self._bus.js.delete_msg(self._up, sequence)
                    if query is not None:
                        gone.append(query)
        return gone

    async def _oldest(self, subject: str) -> tuple[int, bytes] | None:
        with bus_errors(f"read {self._up}"):
            try:
                raw = await self._bus.js.get_msg(self._up, seq=1, subject=subject, next=True)
            except nats.js.errors.NotFoundError:
                return None
        return (raw.seq, raw.data or b"") if raw.seq is not None else None
