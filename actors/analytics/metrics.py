"""What Prometheus scrapes: counters from the events, histograms from the spans, gauges from the node's state.

One page for the whole node, though it is several processes: all of them tell in events what they do, and the
actor `analytics` counts each as it stores it. A counter begins at 0 with the process, as Prometheus expects;
it lags behind the event by the second or so that storing takes.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from actors._event_store import spans_of
from actors._runtime.event_log import Page
from actors._runtime.stream_info import StreamInfo
from actors._runtime.telemetry import SPANS, Span
from subjects.messages import Event
from subjects.node_state import MeshState, NodeState

STAGE_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
REPLY_S: Final = (0.5, 1, 2.5, 5, 10, 15, 30, 60, 120, 300, 900, 3600)
MOST_KINDS: Final = 200
"""Event kinds counted by name: about 70 exist, and each costs a kilobyte. Others are counted as "other"."""

_MODEM: Final = {
    "signal_dbm": "Signal of a modem",
    "credit": "Balance of a modem's card, in its own currency",
    "storage_used": "Texts in a modem's storage",
    "storage_size": "Texts that a modem's storage can hold",
    "sent_hour": "Parts that a modem sent in the last hour",
    "limit_hour": "Parts that a modem's carrier lets through in an hour",
}
_NODE: Final = {
    "battery_percent": ("evy_battery_ratio", "Charge of the battery, 0 to 1", 0.01),
    "voltage_v": ("evy_supply_volts", "Voltage of the supply", 1),
    "draw_w": ("evy_draw_watts", "Power that the battery gives, negative while it is charged", 1),
    "cpu_percent": ("evy_cpu_ratio", "Processor in use, of all cores, 0 to 1", 0.01),
    "memory_free_octets": ("evy_memory_free_bytes", "Memory that a new program could use", 1),
    "temperature_c": ("evy_temperature_celsius", "Temperature of the board", 1),
    "storage_free_octets": ("evy_storage_free_bytes", "Free space on the disk of the data directory", 1),
    "charging": ("evy_charging", "1 while the battery is charged", 1),
    "under_voltage": ("evy_under_voltage", "1 while the board's supply is too low", 1),
    "throttled": ("evy_throttled", "1 while the board slows its processor down", 1),
}


class Metrics:
    """Counts what it is told, and makes the page."""

    def __init__(self, node: str, state: Callable[[], NodeState]) -> None:
        self._registry = CollectorRegistry()
        self._kinds: set[str] = set()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(name, what, labels, registry=self._registry)

        Info("evy_build", "Version and name of this node", registry=self._registry).info(
            {"version": version("evy"), "node": node}
        )
        self._events = counter("evy_events", "Events by kind", "kind", "actor")
        self._received = counter("evy_texts_received", "Texts that came in", "lane")
        self._sent = counter(
            "evy_texts_sent", "Texts that the modem took, all parts", "lane", "purpose", "step"
        )
        self._segments = counter("evy_segments_sent", "SMS that the modem took")
        self._reports = counter("evy_reports", "Final status reports of parts", "result")
        self._refused = counter("evy_texts_refused", "Texts not answered, or not sent yet or ever", "kind")
        self._checks = counter(
            "evy_answers_refused", "Model answers that did not pass the post-check", "lane"
        )
        self._alerts = counter("evy_alerts", "What became of alerts", "result")
        self._letters = counter("evy_dead_letters", "Messages that nobody could handle", "subject")
        self._reply = Histogram(
            "evy_reply_seconds", "From the receipt of a text until the modem had its reply", ("lane",),
            registry=self._registry, buckets=REPLY_S,
        )  # fmt: skip
        self._stage = Histogram(
            "evy_stage_seconds", "Work of an actor at one message", ("stage", "lane"),
            registry=self._registry, buckets=STAGE_S,
        )  # fmt: skip
        self._queue = Histogram(
            "evy_queue_seconds", "Wait of a message before an actor's work", ("stage", "lane"),
            registry=self._registry, buckets=STAGE_S,
        )  # fmt: skip
        self._stored = Gauge("evy_event_store_bytes", "Size of the event store", registry=self._registry)
        self._lag = Gauge(
            "evy_event_store_lag_events",
            "Events in the stream that are not stored yet",
            registry=self._registry,
        )
        self._registry.register(_NodeState(state))

    def seen(self, page: Page) -> None:
        """Counts a page of the event stream. May be called from any thread."""
        for kept in page.events:
            for span in spans_of(kept):
                self._span(span)
            if kept.event and kept.event.kind != SPANS:
                self._event(kept.event)

    def page(
        self, streams: Iterable[StreamInfo], memory: Mapping[str, int], store: tuple[int, int] | None
    ) -> bytes:
        """The page in Prometheus's text format. ``memory`` is the resident octets of each process, ``store``
        the event store's octets and how many events it lags behind; None where it is not open."""
        if store:
            self._stored.set(store[0])
            self._lag.set(store[1])
        now = CollectorRegistry()
        now.register(_Now(streams, memory))
        return generate_latest(self._registry) + generate_latest(now)

    def _event(self, event: Event) -> None:
        kind, fields = event.kind, event.fields
        if kind not in self._kinds and len(self._kinds) >= MOST_KINDS:
            kind = "other"
        self._kinds.add(kind)
        self._events.labels(kind, event.actor).inc()
        match kind:
            case "received":
                self._received.labels(event.lane).inc()
            case "sent":
                self._sent.labels(event.lane, str(fields.get("purpose")), str(fields.get("step"))).inc()
                self._segments.inc(_number(fields.get("segments")) or 0)
                ms = _number(fields.get("ms"))
                if fields.get("purpose") == "reply" and ms is not None and ms >= 0:
                    self._reply.labels(event.lane).observe(ms / 1000)
            case "delivered" | "undelivered":
                self._reports.labels(kind).inc()
            case (
                "ignored" | "discarded" | "withheld" | "refused" | "failed" | "held" | "expired" | "left_out"
            ):
                self._refused.labels(kind).inc()
            case "fitted":
                self._checks.labels(event.lane).inc(bool(fields.get("refused")))
            case "dead_letter":
                self._letters.labels(str(fields.get("subject"))).inc()
            case _ if kind.startswith("alert_"):
                self._alerts.labels(kind.removeprefix("alert_")).inc()

    def _span(self, span: Span) -> None:
        stage = span.name if span.subject else f"{span.name}_receive"
        self._stage.labels(stage, span.lane).observe(span.work_us / 1e6)
        if span.subject:
            self._queue.labels(stage, span.lane).observe(span.queue_us / 1e6)


class _NodeState(Collector):
    """The node's state at the moment of the scrape; what is unknown is left out, never 0."""

    def __init__(self, state: Callable[[], NodeState]) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        state = self._state()
        for field, (name, what, factor) in _NODE.items():
            if (value := getattr(state, field)) is not None:
                yield GaugeMetricFamily(name, what, value * factor)
        if state.link != "none":
            yield GaugeMetricFamily("evy_link_up", "1 while the centre answers", state.link == "up")
        if state.mesh:
            yield from _of_mesh(state.mesh)
        up = GaugeMetricFamily("evy_modem_up", "1 while a modem answers", labels=("modem",))
        registered = GaugeMetricFamily(
            "evy_modem_registered", "1 while the network has accepted a modem", labels=("modem",)
        )
        for modem in state.modems:
            up.add_metric((modem.name,), modem.state == "up")
            if modem.registered is not None:
                registered.add_metric((modem.name,), modem.registered)
        yield from (up, registered)
        for field, what in _MODEM.items():
            family = GaugeMetricFamily(f"evy_modem_{field}", what, labels=("modem",))
            for modem in state.modems:
                if (value := getattr(modem, field)) is not None:
                    family.add_metric((modem.name,), value)
            yield family


def _of_mesh(mesh: MeshState) -> Iterable[Metric]:
    yield GaugeMetricFamily("evy_mesh_up", "1 while the LoRa radio works", mesh.radio == "up")
    yield GaugeMetricFamily("evy_mesh_neighbours", "Nodes that are heard directly", mesh.neighbours)
    yield GaugeMetricFamily("evy_mesh_uplink", "1 while a node in reach has a link", mesh.uplink)
    yield GaugeMetricFamily("evy_mesh_model", "1 while a node in reach has a small model", mesh.model)
    if mesh.airtime_percent is not None:
        share = mesh.airtime_percent / 100
        yield GaugeMetricFamily("evy_mesh_airtime_ratio", "Share of the lawful airtime", share)


class _Now(Collector):
    """What was looked up for this scrape."""

    def __init__(self, streams: Iterable[StreamInfo], memory: Mapping[str, int]) -> None:
        self._streams = list(streams)
        self._memory = memory

    def collect(self) -> Iterable[Metric]:
        messages = GaugeMetricFamily("evy_stream_messages", "Messages in a stream", labels=("stream",))
        octets = GaugeMetricFamily("evy_stream_bytes", "Size of a stream", labels=("stream",))
        for stream in self._streams:
            name = str(stream.config.get("name", "?"))
            messages.add_metric((name,), stream.state.messages)
            octets.add_metric((name,), stream.state.octets)
        memory = GaugeMetricFamily(
            "evy_process_resident_memory_bytes", "Memory of a process of this node", labels=("process",)
        )
        for process, resident in self._memory.items():
            memory.add_metric((process,), resident)
        yield from (messages, octets, memory)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
