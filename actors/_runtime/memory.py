"""A bus in memory: the same handlers with no server, for `evy ask` and for tests of behaviour."""

from collections import deque
from collections.abc import Iterable, Mapping

from actors._runtime.actor import Actor, Handler, Output
from subjects.messages import Message


class MemoryKeyValue:
    """A bucket in memory; bounded by what one run of a program puts into it."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[bytes, int]] = {}
        self._revision = 0

    async def get(self, key: str) -> tuple[bytes, int] | None:
        """Value and revision, or None."""
        return self._entries.get(key)

    async def put(self, key: str, value: bytes) -> int:
        """Writes whatever is there."""
        self._revision += 1
        self._entries[key] = (value, self._revision)
        return self._revision

    async def create(self, key: str, value: bytes) -> int | None:
        """Writes only if absent."""
        return None if key in self._entries else await self.put(key, value)

    async def update(self, key: str, value: bytes, revision: int) -> int | None:
        """Writes only if unchanged."""
        entry = self._entries.get(key)
        return await self.put(key, value) if (entry[1] if entry else 0) == revision else None

    async def delete(self, key: str) -> None:
        """Removes the key."""
        self._entries.pop(key, None)

    async def keys(self, prefix: str = "") -> list[str]:
        """Keys that begin with ``prefix``."""
        return [key for key in self._entries if key.startswith(prefix)]

    async def recent(self, count: int) -> list[tuple[str, bytes]]:
        """The entries written last, newest first."""
        newest = sorted(self._entries.items(), key=lambda item: item[1][1], reverse=True)
        return [(key, value) for key, (value, _) in newest[:count]]


class MemoryBus:
    """Runs handlers one after the other, most urgent lane first, until nothing is left to do.

    What is published to a subject that no actor here handles comes back to the caller.
    """

    def __init__(self, actors: Iterable[Actor]) -> None:
        self._handlers: Mapping[str, Handler] = {
            subject: handler for actor in actors for subject, handler in actor.handlers.items()
        }

    async def run(self, first: Output) -> list[Message]:
        """Handles ``first`` and all that follows from it; gives the messages that left the node."""
        waiting = {"flash": deque[Output](), "priority": deque[Output](), "routine": deque[Output]()}
        waiting[first.lane].append(first)
        left: list[Message] = []
        while lane := next((queue for queue in waiting.values() if queue), None):
            output = lane.popleft()
            handler = self._handlers.get(output.subject)
            if handler is None:
                left.append(output.message)
                continue
            for following in await handler(output.message):
                waiting[following.lane].append(following)
        return left
