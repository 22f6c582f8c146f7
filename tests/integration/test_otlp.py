"""Spans at a collector: a real receiver of OTLP over HTTP, which decodes what arrives by its schema."""

import asyncio
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1 import trace_pb2

from actors._runtime.telemetry import Span
from actors.analytics.otlp import QUEUE, Otlp
from subjects.errors import ConfigError
from tests.conftest import free_port

WITHIN_S = 30.0
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector:
    """A collector of our own, on the schema of `opentelemetry-proto`; ``status`` is what it answers."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: list[str] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.paths.append(self.path)
                if outer.status == 200:
                    outer.requests.append(ExportTraceServiceRequest.FromString(body))
                reply = ExportTraceServiceResponse().SerializeToString()
                self.send_response(outer.status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_: object) -> None:
                """Not to stderr."""

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self._thread.start()

    def spans(self) -> list[trace_pb2.Span]:
        return [
            span
            for request in list(self.requests)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.stop()


def span(number: int = 1, parent: str = "", **more: object) -> Span:
    made = {
        "trace": TRACE, "id": f"{number:016x}", "parent": parent, "name": "intake", "subject": "sms.in",
        "lane": "flash", "query_id": "q1", "begun_us": int(time.time() * 1e6), "queue_us": 2500,
        "work_us": 40_000, "node": "n1", **more,
    }  # fmt: skip
    return Span(**made)  # type: ignore[arg-type]


async def until(condition: object) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.02)


async def test_a_hop_arrives_with_its_wait_its_work_and_its_steps(collector: Collector) -> None:
    otlp = Otlp(collector.url, every_s=0.05)
    hop = span(
        2, parent=f"{1:016x}", steps=(("publish route.flash", 1000, 2000), ("modem submit", 4000, 30_000))
    )
    otlp.export([hop, span(3, parent=hop.id, name="route", outcome="dead", delivery=6)])
    await until(lambda: len(collector.spans()) == 6)
    otlp.close()
    assert set(collector.paths) == {"/v1/traces"}
    [resource] = {
        tuple((pair.key, pair.value.string_value) for pair in sent.resource.attributes)
        for request in collector.requests
        for sent in request.resource_spans
    }
    assert ("service.name", "evy") in resource
    assert ("service.instance.id", "n1") in resource
    wait, work, publish, submit, _, dead = collector.spans()
    assert {one.trace_id.hex() for one in collector.spans()} == {TRACE}
    assert [one.name for one in (wait, work, publish, submit)] == [
        "sms.in wait", "intake", "publish route.flash", "modem submit",
    ]  # fmt: skip
    assert work.span_id.hex() == hop.id
    assert work.parent_span_id.hex() == wait.parent_span_id.hex() == hop.parent
    assert publish.parent_span_id == submit.parent_span_id == work.span_id
    assert dead.parent_span_id == work.span_id
    assert (work.kind, publish.kind) == (trace_pb2.Span.SPAN_KIND_CONSUMER, trace_pb2.Span.SPAN_KIND_PRODUCER)
    begun = hop.begun_us * 1000
    assert (wait.start_time_unix_nano, wait.end_time_unix_nano) == (begun - 2_500_000, begun)
    assert (work.start_time_unix_nano, work.end_time_unix_nano) == (begun, begun + 40_000_000)
    assert (submit.start_time_unix_nano, submit.end_time_unix_nano) == (begun + 4_000_000, begun + 34_000_000)
    assert dead.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    attributes = {pair.key: pair.value for pair in work.attributes}
    assert attributes["messaging.destination.name"].string_value == "sms.in.flash"
    assert attributes["evy.query_id"].string_value == "q1"
    assert len({one.span_id for one in collector.spans()}) == 6


async def test_what_waits_is_exported_at_the_end(collector: Collector) -> None:
    otlp = Otlp(f"{collector.url}/v1/traces", every_s=600)
    otlp.export([span(subject="", queue_us=0)])
    otlp.close()
    assert [one.name for one in collector.spans()] == ["intake"]
    assert collector.paths == ["/v1/traces"]


async def test_old_spans_of_a_stream_that_is_read_again_are_not_exported(collector: Collector) -> None:
    otlp = Otlp(collector.url, every_s=600)
    otlp.export([span(1, begun_us=int((time.time() - 7200) * 1e6)), span(2)])
    otlp.close()
    assert {one.span_id.hex() for one in collector.spans() if one.name == "intake"} == {f"{2:016x}"}


async def test_a_collector_that_is_away_costs_no_memory_and_is_found_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = free_port()
    otlp = Otlp(f"http://127.0.0.1:{port}", every_s=0.05, timeout_s=1.0)
    for turn in range(20):
        otlp.export([span(turn * 500 + number + 1) for number in range(500)])
    assert len(otlp._processor._batch_processor._queue) <= QUEUE
    await until(lambda: "does not take spans" in caplog.text)
    collector = Collector(port)
    try:
        otlp.export([span(99_999)])
        await until(lambda: f"{99_999:016x}" in {one.span_id.hex() for one in collector.spans()})
    finally:
        collector.stop()
    assert "takes spans again" in caplog.text
    otlp.export([span(100_000)])
    otlp.close()
    told = [record.message for record in caplog.records if "does not take spans" in record.message]
    assert len(told) <= 2  # when it was away, and when it went again


async def test_a_collector_that_refuses_is_said_once(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.status = 400
    otlp = Otlp(collector.url, every_s=0.02)
    for number in range(1, 4):
        otlp.export([span(number)])
        await until(lambda: len(collector.paths) >= number)  # noqa: B023
    otlp.close()
    assert caplog.text.count("does not take spans") == 1


@pytest.mark.parametrize("wrong", ["127.0.0.1:4318", "grpc://host:4317", "http://", "collector"])
def test_an_address_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match="otlp_endpoint"):
        Otlp(wrong)
