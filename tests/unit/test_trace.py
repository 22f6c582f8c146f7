"""A text put together from spans and events, whichever of them there are."""

import pytest

from actors._runtime.telemetry import Span
from actors.analytics.trace import SentPart, trace_of
from subjects.messages import Event

NOW = 1_790_000_000.0


def event(kind: str, actor: str, after_s: float, **fields: object) -> Event:
    return Event(
        kind=kind, node="n1", actor=actor, at=NOW + after_s, query_id="q", sender_ref="r", lane="flash",
        fields=fields,
    )  # fmt: skip


def span(
    actor: str, after_s: float, worked_s: float, subject: str = "x", queue_s: float = 0.25, **more: object
) -> Span:
    made = {
        "trace": "t", "id": f"{actor}{after_s}", "parent": "", "name": actor, "subject": subject,
        "lane": "flash",
        "query_id": "q", "begun_us": int((NOW + after_s) * 1e6), "queue_us": int(queue_s * 1e6),
        "work_us": int(worked_s * 1e6), **more,
    }  # fmt: skip
    return Span(**made)  # type: ignore[arg-type]


def test_events_stand_with_the_hop_that_told_them() -> None:
    made = trace_of(
        "q",
        [
            span("sms", 0.0, 0.01, subject=""),
            span("intake", 0.5, 0.1, steps=(("publish route.flash", 1000, 2000),)),
            span("route", 0.7, 0.1),
            span("sms", 1.0, 3.0, delivery=2, outcome="again"),
            span("sms", 9.0, 1.0, delivery=3),
        ],
        [
            event("received", "intake", 0.55),
            event("triaged", "route", 0.75, reason="why"),
            event("sent", "sms", 9.9, purpose="reply", ms=9900),
            event("delivered", "sms", 30.0),
            event("delivered", "sms", 31.0),
        ],
        [SentPart("reply.1", "DELIVERED", 1, NOW)],
    )
    assert [(hop.actor, [told.kind for told in hop.told]) for hop in made.hops] == [
        ("sms", []),
        ("intake", ["received"]),
        ("route", ["triaged"]),
        ("sms", []),
        ("sms", ["sent"]),
        ("sms", ["delivered"]),
        ("sms", ["delivered"]),
    ]
    first, intake, _, again, *_ = made.hops
    assert (first.waited_s, intake.waited_s, intake.worked_s) == (None, 0.25, 0.1)
    assert [(step.name, step.after_s, step.took_s) for step in intake.steps] == [
        ("publish route.flash", 0.001, 0.002)
    ]
    assert (again.outcome, again.delivery) == ("again", 2)
    assert (made.submitted_s, made.delivered_s, made.waited_s) == (9.9, 31.0, 1.0)
    assert made.received_at == NOW


def test_without_spans_the_events_tell_the_story() -> None:
    made = trace_of("q", [], [event("received", "intake", 0), event("triaged", "route", 0.2)])
    assert [(hop.actor, hop.id, hop.waited_s) for hop in made.hops] == [
        ("intake", "", None),
        ("route", "", None),
    ]
    assert (made.submitted_s, made.delivered_s, made.lane) == (None, None, "flash")


def test_without_events_the_spans_do() -> None:
    made = trace_of("q", [span("sms", 0.0, 0.01), span("intake", 0.5, 0.1)], [])
    assert [hop.after_s for hop in made.hops] == [0.0, 0.5]
    with pytest.raises(ValueError, match="nothing is known of q"):
        trace_of("q", [], [])
