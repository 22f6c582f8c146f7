"""What Prometheus reads: names, units, labels, and that nothing unknown is shown as a number."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Sequence

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from actors._runtime.event_log import Kept, Page, Position
from actors._runtime.http import serve_pages
from actors._runtime.stream_info import State, StreamInfo
from actors._runtime.telemetry import SPANS
from actors.analytics import metrics as metrics_module
from actors.analytics.metrics import Metrics
from actors.analytics.scrape import PATH, Scrape, resident
from subjects.messages import Event
from subjects.names import Lane
from subjects.node_state import MeshState, ModemState, NodeState

Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]

STATE = NodeState(
    node="n1",
    battery_percent=42.0,
    temperature_c=51.5,
    charging=False,
    link="down",
    modems=(
        ModemState(name="gsm", state="up", registered=True, signal_dbm=-77.0),
        ModemState(name="old", state="dead"),
    ),
)


def event(kind: str, lane: Lane = "routine", **fields: object) -> Event:
    return Event(kind=kind, node="n1", actor="sms", at=1.0, query_id="q", lane=lane, fields=fields)


def page(*events: Event | None) -> Page:
    return Page(Position("s", len(events)), tuple(Kept(n, one) for n, one in enumerate(events, 1)))


def read(text: bytes) -> Values:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(found: Values, name: str, **labels: str) -> float | None:
    return found.get((name, tuple(sorted(labels.items()))))


def scraped(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{PATH}", timeout=20) as reply:  # ours
        octets: bytes = reply.read()
    return octets


def test_events_are_counted_by_what_they_say() -> None:
    made = Metrics("n1", lambda: STATE)
    spans = [["t" * 32, "a" * 16, "", "intake", "sms.in", "flash", "q", 0, 3_000, 40_000]]
    made.seen(
        page(
            event("received", "flash"),
            event("received"),
            event("sent", "flash", purpose="reply", step="template", segments=2, ms=1200),
            event("sent", purpose="alert", step="alert", segments=1, ms=None),
            event("delivered"),
            event("withheld", reason="STOP"),
            event("fitted", refused=["number: 7"]),
            event("fitted", refused=[]),
            event("alert_sent", "flash"),
            event("dead_letter", subject="route.routine"),
            None,
            Event(kind=SPANS, node="n1", actor="runtime", at=1.0, fields={"spans": spans}),
        )
    )
    found = read(made.page((), {}, None))
    expected = {
        ("evy_texts_received_total", "lane=flash"): 1,
        ("evy_texts_received_total", "lane=routine"): 1,
        ("evy_texts_sent_total", "lane=flash,purpose=reply,step=template"): 1,
        ("evy_segments_sent_total", ""): 3,
        ("evy_reports_total", "result=delivered"): 1,
        ("evy_texts_refused_total", "kind=withheld"): 1,
        ("evy_answers_refused_total", "lane=routine"): 1,
        ("evy_alerts_total", "result=sent"): 1,
        ("evy_dead_letters_total", "subject=route.routine"): 1,
        ("evy_reply_seconds_count", "lane=flash"): 1,
        ("evy_reply_seconds_sum", "lane=flash"): 1.2,
        ("evy_stage_seconds_sum", "lane=flash,stage=intake"): 0.04,
        ("evy_queue_seconds_sum", "lane=flash,stage=intake"): 0.003,
        ("evy_events_total", "actor=sms,kind=fitted"): 2,
    }
    told = {
        (name, ",".join(f"{key}={label}" for key, label in labels)): v for (name, labels), v in found.items()
    }
    assert {key: told.get(key) for key in expected} == expected
    assert ("evy_events_total", "actor=runtime,kind=spans") not in told
    assert ("evy_reply_seconds_count", "lane=routine") not in told


def test_odd_events_are_counted_and_kinds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "MOST_KINDS", 2)
    made = Metrics("n1", lambda: STATE)
    made.seen(
        page(event("sent", segments="two", ms=True), event("fitted"), event("a"), event("b"), event("sent"))
    )
    found = read(made.page((), {}, None))
    assert value(found, "evy_events_total", kind="other", actor="sms") == 2
    assert value(found, "evy_segments_sent_total") == 0
    assert value(found, "evy_texts_sent_total", lane="routine", purpose="None", step="None") == 2


def test_the_mesh_is_shown_where_there_is_one() -> None:
    assert not [name for name, _ in read(Metrics("n1", lambda: STATE).page((), {}, None)) if "_mesh_" in name]
    mesh = MeshState(radio="up", neighbours=2, uplink=True, model=True, airtime_percent=12.5)
    on_mesh = msgspec.structs.replace(STATE, mesh=mesh)
    found = read(Metrics("n1", lambda: on_mesh).page((), {}, None))
    names = ("up", "neighbours", "uplink", "model", "airtime_ratio")
    assert [value(found, f"evy_mesh_{name}") for name in names] == [1, 2, 1, 1, 0.125]


def test_gauges_show_the_state_and_leave_out_what_is_unknown() -> None:
    found = read(
        Metrics("n1", lambda: STATE).page(
            [StreamInfo({"name": "WORK_n1"}, state=State(messages=3, octets=4096))],
            {"sms": 60_000_000},
            (4096, 17),
        )
    )
    assert value(found, "evy_battery_ratio") == pytest.approx(0.42)
    assert value(found, "evy_temperature_celsius") == 51.5
    assert (value(found, "evy_charging"), value(found, "evy_link_up")) == (0, 0)
    assert (value(found, "evy_modem_up", modem="gsm"), value(found, "evy_modem_up", modem="old")) == (1, 0)
    assert value(found, "evy_modem_signal_dbm", modem="gsm") == -77
    assert value(found, "evy_modem_registered", modem="old") is None
    assert value(found, "evy_supply_volts") is None
    assert value(found, "evy_stream_messages", stream="WORK_n1") == 3
    assert value(found, "evy_stream_bytes", stream="WORK_n1") == 4096
    assert value(found, "evy_process_resident_memory_bytes", process="sms") == 60_000_000
    assert (value(found, "evy_event_store_bytes"), value(found, "evy_event_store_lag_events")) == (4096, 17)


def test_every_metric_has_a_unit_or_is_a_count_and_says_what_it_is() -> None:
    made = Metrics("n1", lambda: STATE)
    made.seen(
        page(*map(event, ("received", "sent", "delivered", "failed", "fitted", "alert_sent", "dead_letter")))
    )
    for family in text_string_to_metric_families(made.page((), {}, (1, 1)).decode()):
        assert family.name.startswith("evy_")
        assert len(family.documentation.split()) > 1
        if family.type == "counter":
            assert all(sample.name.endswith(("_total", "_created")) for sample in family.samples)


async def test_the_page_is_served_and_a_server_that_is_away_costs_the_streams_only() -> None:
    async def streams() -> Sequence[StreamInfo]:
        return [StreamInfo({"name": "EVT_n1"}, state=State(messages=1))]

    scrape = Scrape("n1", lambda: STATE, streams, lambda: None)
    async with serve_pages(0, {PATH: scrape.page}) as port:

        def get(path: str) -> tuple[str, bytes]:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as reply:  # ours
                return reply.headers["Content-Type"], reply.read()

        kind, body = await asyncio.to_thread(get, PATH)
        assert kind.startswith("text/plain; version=0.0.4")
        found = read(body)
        assert value(found, "evy_stream_messages", stream="EVT_n1") == 1
        with pytest.raises(urllib.error.HTTPError):
            await asyncio.to_thread(get, "/other")
    memory = resident()
    assert memory
    assert all(octets > 1_000_000 for octets in memory.values())
