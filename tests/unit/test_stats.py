"""What a node's events add up to."""

import time
from collections.abc import Iterable

import pytest

from actors._cli.logs import fields_of, line_of, moment
from actors.analytics.stats import Hour, Latency, Stats, stats_of
from subjects.messages import Event
from subjects.names import Lane

NOW = 1_790_000_000.0


def event(
    kind: str, query: str = "", after_s: float = 0.0, *, lane: Lane = "routine", **fields: object
) -> Event:
    return Event(
        kind=kind,
        node="n1",
        actor="a",
        at=NOW + after_s,
        query_id=query,
        sender_ref="r",
        lane=lane,
        fields=fields,
    )


def text(query: str, ms: float | None, *, lane: Lane = "routine", step: str = "verbatim") -> list[Event]:
    sent = {} if ms is None else {"ms": ms}
    return [
        event("received", query, lane=lane),
        event("triaged", query, lang="en"),
        event("sent", query, 1, lane=lane, step=step, purpose="reply", segments=2, **sent),
        event("delivered", query, 3),
        event("delivered", query, 5),
    ]


def stats(events: Iterable[Event]) -> Stats:
    return stats_of("n1", events, NOW - 3600, NOW + 3600)


def test_a_text_counts_once_whatever_was_sent_about_it() -> None:
    made = stats(
        [
            *text("q1", 1500, lane="flash", step="template"),
            event("sent", "q1", 2, step="alert", purpose="alert", segments=3),
            event("sent", "q1", 2, step="template", purpose="reply", segments=2, ms=99_000),  # redelivered
            event("received", "q1", lane="flash"),
            event("received", "q2"),
            event("delivered", "q2", 2),  # of an alert: the person got no reply
        ]
    )
    assert (made.received, made.answered, made.segments) == (2, 1, 7)
    assert made.lanes == {"flash": 1, "routine": 1}
    assert made.steps == {"template": 1}
    assert made.submitted == Latency(1, 1.5, 1.5)
    assert made.delivered == Latency(1, 5.0, 5.0)
    assert made.hours == [Hour(time.strftime("%Y-%m-%d %H:00", time.localtime(NOW)), 2, 1)]


def test_percentiles_are_of_texts_that_happened() -> None:
    made = stats([one for n in range(1, 101) for one in text(f"q{n}", n * 100)])
    assert made.submitted == Latency(100, 5.0, 9.5)
    nothing = stats([])
    assert nothing.submitted == Latency(0, None, None)
    assert nothing.hours == []


def test_a_clock_that_was_set_in_between_is_no_latency() -> None:
    made = stats(
        [event("received", "q"), *text("q", -4e11)[1:3], event("delivered", "q", 1.5e9), *text("p", None)]
    )
    assert (made.answered, made.submitted.texts, made.delivered) == (2, 0, Latency(1, 5.0, 5.0))


def test_refusals_are_grouped_by_reason_and_alerts_by_result() -> None:
    made = stats(
        [
            event("ignored", "a", reason="41 texts in 10 minutes"),
            event("ignored", "b", reason="42 texts in 10 minutes"),
            event("withheld", "c", reason="STOP"),
            event("discarded", what="silent", reason="Type 0"),
            event("fitted", "d", refused=["number: 500", "number: 7", "negation: not"]),
            event("fitted", "e", refused=[]),
            event("alert_sent", "f"),
            event("alert_unheard", "g"),
            event("alert_sent", "h"),
            event("alert_novel", "h"),
            event("dead_letter", subject="route.routine"),
        ]
    )
    assert made.refusals == {
        "ignored: … texts in … minutes": 2,
        "withheld: STOP": 1,
        "discarded: Type …": 1,
        "post-check: number": 2,
        "post-check: negation": 1,
    }
    assert next(iter(made.refusals)) in {"ignored: … texts in … minutes", "post-check: number"}
    assert made.alerts == {"sent": 2, "unheard": 1, "novel": 1}
    assert made.dead_letters == {"route.routine": 1}


def test_an_outage_of_a_modem_lasts_until_it_is_up_or_until_now() -> None:
    made = stats(
        [
            event("modem_lost", after_s=0, modem="a"),
            event("modem_dead", after_s=120, modem="a"),
            event("modem_up", after_s=300, modem="a"),
            event("modem_up", after_s=310, modem="b"),
            event("modem_lost", after_s=3000, modem="b"),
        ]
    )
    assert (made.modem_outages, made.modem_down_s) == (2, 900.0)


def test_events_with_odd_fields_are_counted_as_what_they_are() -> None:
    odd = [
        event(kind) for kind in ("sent", "fitted", "triaged", "dead_letter", "modem_up", "ignored", "novel")
    ]
    made = stats([*odd, event("sent", "q", purpose="reply", segments="two", step=None)])
    assert (made.languages, made.steps, made.segments) == ({"?": 1}, {"None": 1}, 0)


def test_a_line_is_one_line_whatever_an_event_says() -> None:
    line = line_of(
        event("retrieved", "ab" * 16, next="", at=None, why="two\nlines\x1b[2J", sure=0.98765, up=True)
    )
    assert line.endswith('a           retrieved abababababab routine  why="two lines [2J" sure=0.9877 up=yes')
    assert "\n" not in line
    assert fields_of({"big": 1795285547.0, "list": ["a", "b"], "map": {"k": 1}}) == (
        'big=1795285547 list="a, b" map=k:1'
    )


def test_times_are_ages_or_dates() -> None:
    assert abs(moment("90m") - (time.time() - 5400)) < 5
    assert moment("2026-11-21 18:22") == time.mktime((2026, 11, 21, 18, 22, 0, 0, 0, -1))
    with pytest.raises(Exception, match="neither like 24h"):
        moment("yesterday")
