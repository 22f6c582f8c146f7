"""What happened on a node, for a command: the event store, and what lies in the stream behind it.

The store may lag a second behind, or for hours while the card is full; the rest is read from the stream. So
a command sees everything, also where the actor `analytics` does not run, and with the server down what was
stored.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

from actors._event_store import EventStore, StoreBrokenError, StoreError, path_in, spans_of
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.config import Config
from actors._runtime.event_log import EventLog, NatsEventLog, Position
from actors._runtime.identity import Identity
from actors._runtime.telemetry import SPANS, Span
from subjects.errors import ConfigError, EvyError
from subjects.messages import Event

PAGE: Final = 1000
CONNECT_WITHIN_S: Final = 3.0
_NUMBER: Final = re.compile(r"\+?[0-9]{3,15}")
_SPELLING: Final = re.compile(r"[\s()./-]")


class History:
    """Events and spans of a node; ``warnings`` say what of them is out of reach."""

    def __init__(
        self, identity: Identity, store: EventStore | None, log: EventLog | None, warnings: Sequence[str] = ()
    ) -> None:
        self.identity = identity
        self.warnings = list(warnings)
        self._store = store
        self._log = log
        self._position = store.position if store else Position()
        self._tail: list[Event] = []
        self._tail_spans: list[Span] = []

    async def read_on(self) -> list[Event]:
        """Reads what the stream has beyond what is known; gives those events."""
        if self._log is None:
            return []
        found: list[Event] = []
        while True:
            page = await self._log.read(self._position, PAGE)
            self._position = page.position
            for kept in page.events:
                if kept.event and kept.event.kind != SPANS:
                    found.append(kept.event)
                self._tail_spans += spans_of(kept)
            if len(page.events) < PAGE:
                break
        self._tail += found
        return found

    def events(
        self,
        *,
        since: float = 0.0,
        kinds: Sequence[str] = (),
        query_id: str = "",
        sender_ref: str = "",
        last: int = 0,
    ) -> Iterator[Event]:
        """Events as :meth:`EventStore.events` gives them, those of the stream's end included."""
        tail = [event for event in self._tail if matches(event, since, kinds, query_id, sender_ref)]
        if last:
            tail = tail[-last:]
        before = last - len(tail)
        if self._store and (not last or before > 0):
            yield from self._store.events(
                since=since, kinds=kinds, query_id=query_id, sender_ref=sender_ref, last=max(0, before)
            )
        yield from tail

    def spans(self, query_id: str) -> list[Span]:
        """Spans of one query, as they began."""
        stored = self._store.spans(query_id) if self._store else []
        found = [*stored, *(span for span in self._tail_spans if span.query_id == query_id)]
        return sorted(found, key=lambda span: span.begun_us)

    def queries(self, which: str) -> list[str]:
        """Query ids that ``which`` means, the latest last: "last", an id, the begin of one, or a phone
        number in any usual spelling, which leaves this machine nowhere.

        Raises :class:`ConfigError` when nothing is known of it.
        """
        if which == "last":
            found = list(self.events(kinds=("received",), last=1))
            if not found:
                raise ConfigError("no text has come in yet, or none that is still kept")
        else:
            number = _SPELLING.sub("", which)
            found = [] if which.startswith("+") else list(self.events(query_id=which))
            if not found and _NUMBER.fullmatch(number):
                bare = number.removeprefix("+")
                for spelling in (f"+{bare}", bare):  # networks write it either way
                    found += self.events(sender_ref=self.identity.sender_ref(spelling))
            if not found:
                raise ConfigError(
                    f"nothing is known of {which!r}: give a query id or its begin, as `evy logs` shows it, "
                    "a phone number, or `last`"
                )
        return list(dict.fromkeys(event.query_id for event in found if event.query_id))

    def query(self, which: str) -> str:
        """The one query that ``which`` means; of a phone number the latest.

        Raises :class:`ConfigError` when there is none, or when it begins several.
        """
        found = self.queries(which)
        begun = [query for query in found if query.startswith(which)]
        if len(begun) > 1 and which not in begun:
            listed = ", ".join(begun[:5]) + (" …" if len(begun) > 5 else "")
            raise ConfigError(f"{which!r} begins {len(begun)} queries: {listed}")
        return which if which in begun else found[-1]


def matches(event: Event, since: float, kinds: Sequence[str], query_id: str, sender_ref: str) -> bool:
    """Whether an event is one of those asked for, as the store would judge it."""
    return (
        (not since or event.at >= since)
        and (not kinds or event.kind in kinds)
        and (not query_id or event.query_id.startswith(query_id))
        and (not sender_ref or event.sender_ref == sender_ref)
    )


@contextlib.asynccontextmanager
async def history(config: Config, identity: Identity) -> AsyncIterator[tuple[History, NatsBus | None]]:
    """The history of a configured node, read to the end of its stream, and its bus when the server answers.

    Raises :class:`ConfigError` when there is neither a store nor a server.
    """
    warnings: list[str] = []
    store: EventStore | None = None
    bus: NatsBus | None = None
    missing: EvyError | None = None
    try:
        store = EventStore.existing(path_in(config.node.directory))
    except (ConfigError, StoreError, StoreBrokenError) as error:
        missing = error
    try:
        try:
            bus = await NatsBus.connect(identity, config.node.url, "history", wait_s=CONNECT_WITHIN_S)
            found = History(identity, store, NatsEventLog(bus))
            await found.read_on()
        except BusError as error:
            if store is None:
                raise ConfigError(f"{missing}; and {error}") from error
            warnings.append(f"{error}; shown is what was stored before")
            found = History(identity, store, None)
        if missing and path_in(config.node.directory).exists():
            warnings.append(f"{missing}; shown is what the stream still has")
        found.warnings += warnings
        yield found, bus
    finally:
        if store:
            store.close()
        if bus:
            await bus.close()
