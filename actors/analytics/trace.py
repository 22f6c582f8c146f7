"""One text from end to end: every hop with what it waited and what it worked, and what was decided there."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from actors._runtime.telemetry import Span
from subjects.messages import Event

SLACK_S: Final = 0.05
"""An event is told a moment after the work it belongs to may be over."""


class Step(msgspec.Struct, frozen=True):
    """Something within the work of a hop."""

    name: str
    after_s: float
    took_s: float


class Told(msgspec.Struct, frozen=True):
    """An event, by the time since the text was received."""

    after_s: float
    kind: str
    actor: str
    fields: Mapping[str, Any]


class Hop(msgspec.Struct, frozen=True):
    """One actor's work at one message; ``waited_s`` in the stream before it. Events without any span are a
    hop with neither id nor times."""

    actor: str
    subject: str
    after_s: float
    waited_s: float | None
    worked_s: float | None
    outcome: str
    delivery: int
    trace: str
    id: str
    parent: str
    steps: tuple[Step, ...]
    told: tuple[Told, ...]


class SentPart(msgspec.Struct, frozen=True):
    """A part of a text that was sent, as the ledger has it."""

    key: str
    state: str
    tries: int
    at: float
    note: str = ""


class Trace(msgspec.Struct, frozen=True):
    """What `evy trace` shows."""

    query_id: str
    sender_ref: str
    lane: str
    received_at: float
    submitted_s: float | None
    """From the receipt until the modem had taken all parts of the reply."""
    delivered_s: float | None
    """Until the last status report said that it arrived."""
    hops: list[Hop]
    parts: list[SentPart]

    @property
    def waited_s(self) -> float:
        """What all hops waited together."""
        return sum(hop.waited_s or 0.0 for hop in self.hops)


def trace_of(
    query_id: str, spans: Sequence[Span], events: Sequence[Event], parts: Sequence[SentPart] = ()
) -> Trace:
    """Puts together what is known of a query. Raises ValueError when nothing is."""
    if not spans and not events:
        raise ValueError(f"nothing is known of {query_id}")
    begun = [span.begun_us / 1e6 for span in spans]
    received_at = min([*begun, *(event.at for event in events)])
    told = [(event, _owner(event, spans)) for event in events]
    hops = [_of_span(span, received_at, [event for event, owner in told if owner is span]) for span in spans]
    hops += [_of_event(event, received_at) for event, owner in told if owner is None]
    sent = next(
        (event for event in events if event.kind == "sent" and event.fields.get("purpose") == "reply"), None
    )
    ms = sent.fields.get("ms") if sent else None
    delivered = [event.at for event in events if event.kind == "delivered"]
    return Trace(
        query_id=query_id,
        sender_ref=next((event.sender_ref for event in events if event.sender_ref), ""),
        lane=events[-1].lane if events else spans[-1].lane,
        received_at=received_at,
        submitted_s=None if ms is None else float(ms) / 1000,
        delivered_s=max(delivered) - received_at if delivered else None,
        hops=sorted(hops, key=lambda hop: hop.after_s),
        parts=list(parts),
    )


def _owner(event: Event, spans: Iterable[Span]) -> Span | None:
    """The span within which an event was told: its actor's, and the last one that had begun."""
    found = [
        span
        for span in spans
        if span.name == event.actor
        and span.begun_us / 1e6 - SLACK_S <= event.at <= span.ended_us / 1e6 + SLACK_S
    ]
    return max(found, key=lambda span: span.begun_us, default=None)


def _told(event: Event, received_at: float) -> Told:
    return Told(round(event.at - received_at, 6), event.kind, event.actor, event.fields)


def _of_span(span: Span, received_at: float, events: Iterable[Event]) -> Hop:
    return Hop(
        actor=span.name,
        subject=span.subject,
        after_s=round(span.begun_us / 1e6 - received_at, 6),
        waited_s=span.queue_us / 1e6 if span.subject else None,
        worked_s=span.work_us / 1e6,
        outcome=span.outcome,
        delivery=span.delivery,
        trace=span.trace,
        id=span.id,
        parent=span.parent,
        steps=tuple(Step(name, after / 1e6, took / 1e6) for name, after, took in span.steps),
        told=tuple(_told(event, received_at) for event in events),
    )


def _of_event(event: Event, received_at: float) -> Hop:
    told = _told(event, received_at)
    return Hop(event.actor, "", told.after_s, None, None, "", 1, "", "", "", (), (told,))
