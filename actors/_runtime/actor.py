"""What an actor is: plain async handlers that turn one message into outputs.

A handler has no access to acknowledgements, retries or streams. It returns what should be published; the
worker loop publishes, waits for the PubAck of each output and only then acknowledges the input. It may
run again for the same input after a crash, so it must give the same outputs or be harmless to repeat.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from subjects.messages import Event, Message
from subjects.names import Lane


@dataclass(frozen=True, slots=True)
class Output:
    """One message to publish on ``subject`` (without lane) in ``lane``.

    ``kind`` and ``ordinal`` tell outputs of one handler run apart in the deduplication id; two outputs of
    the same query to the same subject need different ones.
    """

    subject: str
    lane: Lane
    message: Message
    query_id: str
    kind: str = ""
    ordinal: int = 0
    optional: bool = False
    """Left out, with an event, when its subject is full: nobody is kept waiting for it."""


Handler = Callable[[Any], Awaitable[Sequence[Output]]]
"""An async function from one decoded message to its outputs."""

ServiceHandler = Callable[[Any], Awaitable[Message]]
"""An async function from a decoded question to its reply. Its errors are the asker's: `RefusedError` with a
reason, `RetryLaterError` when it may answer later. Questions to one service are answered one after the other.
"""

Emit = Callable[[Event], None]
"""Publishes an event without waiting; never fails, never blocks work."""


class KeyValue(Protocol):
    """A bucket of the node's state: JetStream key-value, or memory in tests and `evy ask`."""

    async def get(self, key: str) -> tuple[bytes, int] | None:
        """Value and revision, or None."""

    async def put(self, key: str, value: bytes) -> int:
        """Writes whatever is there; gives the new revision, durable when it returns."""

    async def create(self, key: str, value: bytes) -> int | None:
        """Writes only if the key is absent; None when it exists."""

    async def update(self, key: str, value: bytes, revision: int) -> int | None:
        """Writes only if ``revision`` is still the last one; None when somebody was faster."""

    async def delete(self, key: str) -> None:
        """Removes the key; absent is fine."""

    async def keys(self, prefix: str = "") -> list[str]:
        """Keys that begin with ``prefix``."""

    async def recent(self, count: int) -> list[tuple[str, bytes]]:
        """The entries written last, newest first, at most ``count``."""


async def nothing() -> None:
    """An actor's ``close`` when there is nothing to close."""


@dataclass(frozen=True, slots=True)
class Actor:
    """An actor ready to run.

    ``handlers`` maps work subjects (without lane) to handlers. ``tasks`` run beside them for the actor's
    whole life, such as the modem's receiver. ``close`` runs after the last handler has finished.
    ``services`` maps names of `subjects.services` to what answers them.
    """

    name: str
    handlers: Mapping[str, Handler]
    tasks: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()
    close: Callable[[], Awaitable[None]] = nothing
    services: Mapping[str, ServiceHandler] = field(default_factory=dict)
