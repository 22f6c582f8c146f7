"""How long each hop of a text waited and worked: spans, kept cheap enough to record them all.

A hop is one span, made by the worker as a plain record; once a second a process publishes what it has as one
event of kind ``spans``. Nothing else happens on the way of a text: the actor `analytics` stores spans for
`evy trace`, and gives them to OpenTelemetry's exporter where a collector is configured.
"""

import asyncio
import contextlib
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Annotated, Final

import msgspec

from subjects.messages import Event
from subjects.names import Lane

TRACEPARENT: Final = "traceparent"
"""W3C Trace Context header, https://www.w3.org/TR/trace-context/#traceparent-header."""
SPANS: Final = "spans"
"""Event kind that carries what a process recorded since its last one."""
FLUSH_S: Final = 1.0
MOST: Final = 2000
"""Spans of one event at most, about 300 octets each; a message may have 1 MB. More than that in one flush are
left out: telemetry never waits and never holds work up."""

_FORM: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_IDS: Final = random.Random()  # noqa: S311  # an id must differ, not be secret: no system call each


class TelemetryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[telemetry]`` table."""

    sample: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    """Share of the texts that get spans, 0 to 1; those in the flash lane always do."""
    otlp_endpoint: str = ""
    """Collector that takes spans by OTLP over HTTP, such as "http://127.0.0.1:4318"; empty: none. Spans have
    pseudonymous query ids, no numbers and no words."""
    metrics_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    """Loopback port for Prometheus's ``/metrics``; 0: none."""
    keep_days: Annotated[float, msgspec.Meta(gt=0)] = 90.0
    """How long the event store keeps what happened."""
    store_max_mb: Annotated[int, msgspec.Meta(ge=8, le=1600)] = 512
    """How large the event store may grow before the oldest goes; a quarter more is the hard bound."""


class Span(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One hop: what a message waited, and what the actor did with it. Times are microseconds."""

    trace: str
    id: str
    parent: str
    """Span that published the message; empty for the first."""
    name: str
    """The actor."""
    subject: str
    """Work subject without its lane; empty where no message came in, as at the modem."""
    lane: Lane
    query_id: str
    begun_us: int
    """When the actor took the message up, Unix time."""
    queue_us: int
    """From its storing in the stream until then."""
    work_us: int
    """From then until it was acknowledged."""
    outcome: str = "done"
    """done, again (delivered once more later), dead (a dead letter), left (for redelivery)."""
    delivery: int = 1
    steps: tuple[tuple[str, int, int], ...] = ()
    """What took time within the work: name, microseconds after its begin, microseconds."""
    node: str = ""

    @property
    def ended_us(self) -> int:
        """Unix time of the end."""
        return self.begun_us + self.work_us


class Hop:
    """A span while it is made; what is published meanwhile carries it as parent."""

    __slots__ = ("_clock", "begun", "id", "lane", "parent", "query_id", "sampled", "steps", "trace")

    def __init__(self, trace: str, parent: str, lane: Lane, query_id: str, *, sampled: bool) -> None:
        self.trace = trace
        self.parent = parent
        self.lane = lane
        self.query_id = query_id
        self.sampled = sampled
        self.id = f"{_IDS.getrandbits(64) or 1:016x}"
        self.steps: list[tuple[str, int, int]] = []
        self.begun = time.time()
        self._clock = time.perf_counter()

    @property
    def traceparent(self) -> str:
        """Header of what is published within it."""
        return f"00-{self.trace}-{self.id}-{'01' if self.sampled else '00'}"

    def elapsed_us(self) -> int:
        """Microseconds since its begin."""
        return int((time.perf_counter() - self._clock) * 1e6)


_current: ContextVar[Hop | None] = ContextVar("hop", default=None)


def current() -> Hop | None:
    """The hop that this task works for; None outside of any."""
    return _current.get()


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Notes how long something within a hop takes, such as the modem's part of sending."""
    hop = _current.get()
    if hop is None or not hop.sampled:
        yield
        return
    begun = hop.elapsed_us()
    try:
        yield
    finally:
        hop.steps.append((name, begun, hop.elapsed_us() - begun))


class Spans:
    """What one process records. ``emit`` publishes an event without waiting."""

    def __init__(self, node: str, emit: Callable[[Event], None]) -> None:
        self._node = node
        self._emit = emit
        self._below = 2**64
        self._waiting: list[Span] = []
        self._left_out = 0
        self._timer: asyncio.TimerHandle | None = None

    def sample(self, share: float) -> None:
        """Sets the share of texts that get spans, 0 to 1."""
        self._below = int(share * 2**64)

    def begin(self, headers: Mapping[str, str] | None, lane: Lane, query_id: str) -> Hop:
        """Begins the hop of a message, and makes it this task's. A flash text is sampled from here on, even
        where it was not before; a missing or broken header begins a trace."""
        found = _FORM.fullmatch((headers or {}).get(TRACEPARENT, ""))
        if found:
            sampled = lane == "flash" or bool(int(found[3], 16) & 1)
            hop = Hop(found[1], found[2], lane, query_id, sampled=sampled)
        else:
            trace = f"{_IDS.getrandbits(128) or 1:032x}"
            # The last 64 bits decide, as OpenTelemetry's ratio sampler does: all parts of a system agree.
            sampled = lane == "flash" or int(trace[16:], 16) < self._below
            hop = Hop(trace, "", lane, query_id, sampled=sampled)
        _current.set(hop)
        return hop

    def end(  # noqa: PLR0917  # what is known of a hop once it is over
        self,
        hop: Hop,
        name: str,
        subject: str = "",
        queue_s: float = 0.0,
        outcome: str = "done",
        delivery: int = 1,
    ) -> None:
        """Records a hop that is over."""
        if not hop.sampled:
            return
        if len(self._waiting) >= MOST:
            self._left_out += 1
            return
        self._waiting.append(
            Span(
                hop.trace,
                hop.id,
                hop.parent,
                name,
                subject,
                hop.lane,
                hop.query_id,
                int(hop.begun * 1e6),
                max(0, int(queue_s * 1e6)),
                hop.elapsed_us(),
                outcome,
                delivery,
                tuple(hop.steps),
                self._node,
            )
        )
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    @contextlib.contextmanager
    def root(self, name: str, lane: Lane, query_id: str) -> Iterator[Hop]:
        """The span of work that no message began, such as a text's reception."""
        hop = self.begin(None, lane, query_id)
        try:
            yield hop
        finally:
            _current.set(None)
            self.end(hop, name)

    def flush(self) -> None:
        """Publishes what was recorded."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            fields = {"spans": self._waiting, "left_out": self._left_out}
            self._waiting, self._left_out = [], 0
            self._emit(Event(kind=SPANS, node=self._node, actor="runtime", at=time.time(), fields=fields))
