"""Spans as they are recorded: real parents, what is sampled, bounded, and cheap to leave out."""

import re

import msgspec
import pytest

from actors._runtime.telemetry import (
    MOST,
    SPANS,
    TRACEPARENT,
    Span,
    Spans,
    TelemetryConfig,
    current,
    step,
)
from subjects.messages import Event, decode, encode
from subjects.registry import MAX_MESSAGE_OCTETS

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"


class Recorder:
    def __init__(self, sample: float = 1.0) -> None:
        self.events: list[Event] = []
        self.spans = Spans("n1", self.events.append)
        self.spans.sample(sample)

    def recorded(self) -> list[Span]:
        self.spans.flush()
        rows = [row for event in self.events for row in decode(encode(event), Event).fields["spans"]]
        return msgspec.convert(rows, list[Span])


async def test_a_hop_is_the_parent_of_what_it_publishes() -> None:
    recorder = Recorder()
    hop = recorder.spans.begin({TRACEPARENT: f"{PARENT}-01"}, "routine", "q1")
    assert current() is hop
    assert re.fullmatch(rf"00-0af7651916cd43dd8448eb211c80319c-{hop.id}-01", hop.traceparent)
    with step("publish route.routine"):
        pass
    recorder.spans.end(hop, "intake", "sms.in", 1.5, "done", 2)
    after = recorder.spans.begin({TRACEPARENT: hop.traceparent}, "routine", "q1")
    recorder.spans.end(after, "route", "route", -0.5)
    first, second = recorder.recorded()
    assert (first.trace, first.parent) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert (second.trace, second.parent) == (first.trace, first.id)
    assert (first.name, first.subject, first.query_id, first.queue_us, first.delivery) == (
        "intake", "sms.in", "q1", 1_500_000, 2,
    )  # fmt: skip
    assert [name for name, _, _ in first.steps] == ["publish route.routine"]
    assert second.queue_us == 0  # a clock that went back


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        f"{PARENT}",
        f"{PARENT}-zz",
        f"00-{'A' * 32}-b7ad6b7169203331-01",
        f"01-{PARENT[3:]}-01",
        "\x00" * 55,
    ],
)
async def test_a_broken_header_begins_a_trace(header: str) -> None:
    recorder = Recorder()
    hop = recorder.spans.begin({TRACEPARENT: header}, "routine", "q")
    recorder.spans.end(hop, "route")
    [span] = recorder.recorded()
    assert span.parent == ""
    assert re.fullmatch("[0-9a-f]{32}", span.trace)
    assert span.trace != "0af7651916cd43dd8448eb211c80319c"


async def test_flash_is_always_recorded_the_rest_by_its_share() -> None:
    recorder = Recorder(sample=0.25)
    for number in range(400):
        with recorder.spans.root("sms", "routine", f"r{number}") as hop, step("publish"):
            assert hop.traceparent.endswith("01" if hop.sampled else "00")
    with recorder.spans.root("sms", "flash", "f") as hop:
        assert hop.sampled
    unsampled = recorder.spans.begin({TRACEPARENT: f"{PARENT}-00"}, "routine", "later flash")
    recorder.spans.end(unsampled, "intake")
    risen = recorder.spans.begin({TRACEPARENT: unsampled.traceparent}, "flash", "later flash")
    recorder.spans.end(risen, "route")
    names = [span.query_id for span in recorder.recorded()]
    assert names[-2:] == ["f", "later flash"]
    assert 50 < len(names) - 2 < 150
    none = Recorder(sample=0.0)
    with none.spans.root("sms", "routine", "q"):
        pass
    assert none.recorded() == []
    assert current() is None


async def test_a_flood_is_bounded_and_said() -> None:
    recorder = Recorder()
    for number in range(MOST + 7):
        hop = recorder.spans.begin(None, "routine", f"{number:032}")
        hop.steps += [(f"publish {'sms.out.priority'}", 10**6, 10**6)] * 3
        recorder.spans.end(hop, "infer_small", "infer.small", 1000.0)
    assert len(recorder.recorded()) == MOST
    [event] = recorder.events
    assert (event.kind, event.fields["left_out"]) == (SPANS, 7)
    assert len(encode(event)) < MAX_MESSAGE_OCTETS


def test_the_table_refuses_what_makes_no_sense() -> None:
    for wrong in (
        {"sample": 1.5},
        {"metrics_port": 70000},
        {"keep_days": 0},
        {"store_max_mb": 1},
        {"sampel": 1},
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, TelemetryConfig)
