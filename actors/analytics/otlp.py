"""Spans for a collector, by OTLP over HTTP: OpenTelemetry's own batch processor and exporter.

Only the actor `analytics` exports, from what it has just stored, in a thread of the batch processor; a
collector that is slow or away costs spans there and nothing elsewhere.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from actors._runtime.telemetry import Span
from subjects.errors import ConfigError

log = logging.getLogger("evy.analytics")

PATH: Final = "/v1/traces"
"""Where an OTLP/HTTP collector takes spans, OTLP specification §1.3."""
EVERY_S: Final = 2.0
BATCH: Final = 512
QUEUE: Final = 4096
"""Spans that wait for the collector, about 2 kB each; beyond that the oldest are left out."""
TIMEOUT_S: Final = 5.0
STOP_WITHIN_S: Final = 2.0
YOUNG_S: Final = 3600.0
"""Older spans come from a stream that is read again, and were exported when they were new."""

_SCOPE: Final = InstrumentationScope("evy", version("evy"))


class Otlp:
    """The way to one collector."""

    def __init__(self, endpoint: str, *, every_s: float = EVERY_S, timeout_s: float = TIMEOUT_S) -> None:
        """``endpoint`` is the collector's address, with or without the path of traces.

        Raises :class:`ConfigError` when it is no http address.
        """
        parts = urlsplit(endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(
                f"[telemetry] otlp_endpoint = {endpoint!r}: give a collector's address such as http://127.0.0.1:4318"
            )
        url = endpoint.rstrip("/").removesuffix(PATH) + PATH
        # It says the same on every batch; what matters of it is said once, below.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter = _Told(OTLPSpanExporter(endpoint=url, timeout=timeout_s), url)
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=QUEUE,
            schedule_delay_millis=every_s * 1000,
            max_export_batch_size=BATCH,
        )

    def export(self, spans: Sequence[Span]) -> None:
        """Hands spans over; returns at once."""
        young = (time.time() - YOUNG_S) * 1e6
        for span in spans:
            if span.begun_us > young:
                for made in spans_of_hop(span):
                    self._processor.on_end(made)

    def close(self) -> None:
        """Exports what waits, for at most :data:`STOP_WITHIN_S`."""
        # A daemon thread: a collector that hangs must not hold up the end of the process.
        ending = threading.Thread(target=self._processor.shutdown, daemon=True)
        ending.start()
        ending.join(STOP_WITHIN_S)
        self._exporter.shutdown()


class _Told(SpanExporter):
    """The exporter, and one line in the log whenever the collector goes or comes."""

    def __init__(self, exporter: OTLPSpanExporter, url: str) -> None:
        self._exporter = exporter
        self._url = url
        self._lost = 0
        self._ended = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            if not self._lost:
                log.warning(
                    "the collector at %s does not take spans; they are left out until it does", self._url
                )
            self._lost += len(spans)
        elif self._lost:
            log.warning("the collector at %s takes spans again; %d were left out", self._url, self._lost)
            self._lost = 0
        return result

    def shutdown(self) -> None:
        if not self._ended:
            self._ended = True
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # theirs


def spans_of_hop(span: Span) -> Iterator[ReadableSpan]:
    """A hop as OpenTelemetry sees it: the work, its wait before it, and a child for each step of it."""
    resource = _resource(span.node)
    trace = int(span.trace, 16)
    context = _context(trace, int(span.id, 16))
    parent = _context(trace, int(span.parent, 16), remote=True) if span.parent else None
    begun = span.begun_us * 1000
    lane: dict[str, str | int] = {"evy.lane": span.lane, "evy.query_id": span.query_id}
    destination = {"messaging.system": "nats", "messaging.destination.name": f"{span.subject}.{span.lane}"}
    attributes = {**lane, "evy.outcome": span.outcome, "evy.delivery": span.delivery}
    if span.subject:
        yield ReadableSpan(
            f"{span.subject} wait", _child(context, "wait"), parent, resource, {**lane, **destination},
            start_time=begun - span.queue_us * 1000, end_time=begun, instrumentation_scope=_SCOPE,
        )  # fmt: skip
        attributes |= {**destination, "messaging.operation.type": "process"}
    yield ReadableSpan(
        span.name, context, parent, resource, attributes,
        kind=SpanKind.CONSUMER if span.subject else SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, span.outcome) if span.outcome in {"dead", "left"} else Status(),
        start_time=begun, end_time=begun + span.work_us * 1000, instrumentation_scope=_SCOPE,
    )  # fmt: skip
    for place, (name, after_us, took_us) in enumerate(span.steps):
        yield ReadableSpan(
            name, _child(context, str(place)), context, resource, lane,
            kind=SpanKind.PRODUCER if name.startswith("publish ") else SpanKind.CLIENT,
            start_time=begun + after_us * 1000, end_time=begun + (after_us + took_us) * 1000,
            instrumentation_scope=_SCOPE,
        )  # fmt: skip


_RESOURCES: Final[dict[str, Resource]] = {}
"""One for each node that spans come from: this one."""


def _resource(node: str) -> Resource:
    if node not in _RESOURCES:
        attributes = {"service.name": "evy", "service.instance.id": node, "service.version": version("evy")}
        _RESOURCES[node] = Resource(attributes)
    return _RESOURCES[node]


def _context(trace: int, span: int, *, remote: bool = False) -> SpanContext:
    return SpanContext(trace, span, remote, TraceFlags(TraceFlags.SAMPLED))


def _child(parent: SpanContext, what: str) -> SpanContext:
    """The same id whenever a hop is exported: a collector recognises what it has."""
    digest = hashlib.blake2b(f"{parent.span_id:x} {what}".encode(), digest_size=8).digest()
    return _context(parent.trace_id, int.from_bytes(digest) or 1)
