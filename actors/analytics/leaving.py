"""What of an event leaves its node: the kinds and fields of one table, as closed words and counts.

A kind or a field that is not in the table stays, and so does a value that is not of the form the table says:
new events are silent until somebody decides about them. docs/operations.md, «What the centre learns of a
node», lists the table for people.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import msgspec

from subjects.event_report import MOST_EVENTS, MOST_WORDS, WORD_PATTERN, EventReport, Reported, Value
from subjects.messages import Event

MOST_OCTETS: Final = 16 * 1024
"""Of one report: two and a half seconds of a line of 50 kbit/s, for which a question may wait behind it."""
ENVELOPE_OCTETS: Final = 120
"""What is around the events: version, the node's name, the stream."""
STATE_EVERY_S: Final = 900
STATE_WITHIN_S: Final = 65
"""Of the states that `node` tells each minute, those of the first minute of every quarter of an hour leave,
and all that tell of a change."""

_WORD: Final = re.compile(WORD_PATTERN)
_LARGEST: Final = 10**9
"""Below it there are no phone numbers with their country."""

Form = Callable[[Any], Value | None]
"""A value as it leaves, or None."""


def _word(value: Any) -> Value | None:
    return value if isinstance(value, str) and _WORD.match(value) else None


def _words(value: Any) -> Value | None:
    found = [word for word in value if _word(word)] if isinstance(value, list | tuple) else []
    return tuple(found[:MOST_WORDS]) or None


def _heads(value: Any) -> Value | None:
    """What was refused, without the words that it was refused for: "dose: 500 mg" is "dose"."""
    return _words([str(one).partition(":")[0] for one in value]) if isinstance(value, list | tuple) else None


def _count(value: Any) -> Value | None:
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST
    return value if whole else None


def _real(value: Any) -> Value | None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST
    return round(float(value), 3) if number else None


def _flag(value: Any) -> Value | None:
    return value if isinstance(value, bool) else None


def coarse(degrees: Any) -> float | None:
    """A coordinate to a tenth of a degree: a square of about 11 km."""
    number = isinstance(degrees, int | float) and not isinstance(degrees, bool) and abs(degrees) <= 180
    return round(float(degrees), 1) if number else None


_NO_FIELDS: Final = (
    "failed", "expired", "superseded", "refused", "held", "ignored", "discarded", "left_out", "delivered",
    "undelivered", "incomplete", "centre_late", "link_up", "link_down", "storage_full", "credit_low",
    "model_unavailable", "event_store_paused", "event_store_resumed", "event_store_begun_anew", "shutdown",
    "alert_escalated", "alert_coming", "alert_cannot", "alert_told", "alert_closed",
    "alert_unheard", "alert_held", "alert_digest", "alert_coalesced", "alert_not_told", "alert_dropped",
)  # fmt: skip

_AREA: Final[Mapping[str, Form]] = {"latitude": coarse, "longitude": coarse, "needs": _words}

LEAVES: Final[Mapping[str, Mapping[str, Form]]] = {
    "received": {"what": _word, "parts": _count, "missing": _count},
    "triaged": {"needs": _words, "topic": _word, "lang": _word},
    "retrieved": {"article": _word, "confidence": _real, "next": _word},
    "fitted": {"step": _word, "by_centre": _flag, "refused": _heads},
    "sent": {"step": _word, "purpose": _word, "segments": _count, "ms": _count},
    "withheld": {"purpose": _word},
    "command": {"command": _word},
    "dead_letter": {"subject": _word},
    "modem_lost": {"modem": _word},
    "modem_dead": {"modem": _word},
    "modem_up": {"modem": _word},
    "alert_sent": _AREA,
    "alert_place": _AREA,
    "node_state": {
        "battery_percent": _real,
        "charging": _flag,
        "temperature_c": _real,
        "under_voltage": _flag,
        "throttled": _flag,
        "link": _word,
        "clock": _word,
    },
    **{kind: {} for kind in _NO_FIELDS},
}
"""By kind, the fields that leave."""


def _is_told(event: Event) -> bool:
    if event.kind != "node_state":
        return event.kind in LEAVES
    reasons = event.fields.get("reasons")
    return reasons != ["a minute has passed"] or event.at % STATE_EVERY_S < STATE_WITHIN_S


def leaving(sequence: int, event: Event, report_ref: Callable[[str], str]) -> Reported | None:
    """An event as it leaves the node, or None; ``report_ref`` is :meth:`Identity.report_ref`."""
    if not _is_told(event) or event.at < 0:
        return None
    fields = {
        name: left
        for name, form in LEAVES[event.kind].items()
        if (left := form(event.fields.get(name))) is not None
    }
    text = report_ref(event.query_id) if event.query_id else ""
    return Reported(sequence, int(event.at), event.kind, event.lane, text, fields)


def batch(node: str, stream: str, events: Sequence[Reported]) -> EventReport:
    """As many of the events as fit into one report, from the first on; at least one."""
    totals = accumulate((len(msgspec.json.encode(event)) + 1 for event in events), initial=ENVELOPE_OCTETS)
    fitting = sum(total <= MOST_OCTETS for total in totals) - 1
    return EventReport(node=node, stream=stream, events=tuple(events[: min(MOST_EVENTS, max(1, fitting))]))
