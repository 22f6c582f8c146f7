"""How a node did over a time, counted from its events."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from subjects.messages import Event

_REFUSALS: Final = (
    "ignored", "discarded", "withheld", "refused", "failed", "held", "expired", "superseded", "left_out",
)  # fmt: skip
_ALERT: Final = "alert_"
PLAUSIBLE_S: Final = 7 * 86400.0
"""A longer time between two events is a clock that was set in between."""


class Latency(msgspec.Struct, frozen=True):
    """Seconds from the receipt of a text; None where there was none."""

    texts: int
    p50_s: float | None
    p95_s: float | None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        """Nearest-rank percentiles."""
        ordered = sorted(seconds)

        def rank(share: float) -> float | None:
            return round(ordered[math.ceil(share * len(ordered)) - 1], 3) if ordered else None

        return cls(len(ordered), rank(0.5), rank(0.95))


class Hour(msgspec.Struct, frozen=True):
    """One hour, by the begin of it in local time."""

    begin: str
    received: int
    answered: int


class Stats(msgspec.Struct, frozen=True):
    """What `evy stats` shows; counters are most frequent first."""

    node: str
    since: float
    until: float
    received: int
    lanes: dict[str, int]
    languages: dict[str, int]
    answered: int
    """Texts that got a reply."""
    steps: dict[str, int]
    """Replies by what wrote them."""
    segments: int
    """SMS sent, of every purpose."""
    submitted: Latency
    """Until the modem had taken all parts of the reply."""
    delivered: Latency
    """Until the last status report said that it had arrived."""
    undelivered: int
    refusals: dict[str, int]
    """Texts not answered, texts not sent, and model answers that did not pass the post-check, by reason."""
    alerts: dict[str, int]
    dead_letters: dict[str, int]
    """By subject."""
    modem_outages: int
    modem_down_s: float
    hours: list[Hour]


class Tally:
    """What is counted on the way, of one node."""

    def __init__(self) -> None:
        self.received: dict[str, float] = {}
        self.lanes: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.replied: set[str] = set()
        self.steps: Counter[str] = Counter()
        self.segments = 0
        self.submitted: list[float] = []
        self.delivered: dict[str, float] = {}
        self.undelivered = 0
        self.refusals: Counter[str] = Counter()
        self.alerts: Counter[str] = Counter()
        self.dead_letters: Counter[str] = Counter()
        self.outages = 0
        self.down_s = 0.0
        self.down_since: dict[str, float] = {}
        self.hours: dict[str, list[int]] = {}

    def hour(self, at: float) -> list[int]:
        """Texts in and answered of an hour."""
        return self.hours.setdefault(time.strftime("%Y-%m-%d %H:00", time.localtime(at)), [0, 0])

    def add(self, event: Event) -> None:
        """Counts one event."""
        if count := self._BY_KIND.get(event.kind):
            count(self, event)
        elif event.kind.startswith(_ALERT):
            self.alerts[event.kind.removeprefix(_ALERT)] += 1

    def _received(self, event: Event) -> None:
        if event.query_id not in self.received:
            self.received[event.query_id] = event.at
            self.lanes[event.lane] += 1
            self.hour(event.at)[0] += 1

    def _triaged(self, event: Event) -> None:
        self.languages[str(event.fields.get("lang", "?"))] += 1

    def _delivered(self, event: Event) -> None:
        received = self.received.get(event.query_id)
        if received is not None and event.query_id in self.replied:
            self.delivered[event.query_id] = event.at - received

    def _undelivered(self, _: Event) -> None:
        self.undelivered += 1

    def _fitted(self, event: Event) -> None:
        for refused in event.fields.get("refused") or ():
            self.refusals[f"post-check: {str(refused).partition(':')[0]}"] += 1

    def _refused(self, event: Event) -> None:
        self.refusals[_reason(event)] += 1

    def _dead_letter(self, event: Event) -> None:
        self.dead_letters[str(event.fields.get("subject", "?"))] += 1

    def _modem_lost(self, event: Event) -> None:
        modem = str(event.fields.get("modem", ""))
        if modem not in self.down_since:
            self.down_since[modem] = event.at
            self.outages += 1

    def _modem_up(self, event: Event) -> None:
        if (since := self.down_since.pop(str(event.fields.get("modem", "")), None)) is not None:
            self.down_s += _plausible(event.at - since)

    def _sent(self, event: Event) -> None:
        fields = event.fields
        self.segments += _whole(fields.get("segments"))
        if fields.get("purpose") != "reply" or event.query_id in self.replied:
            return
        self.replied.add(event.query_id)
        self.steps[str(fields.get("step", "?"))] += 1
        self.hour(event.at)[1] += 1
        if (ms := fields.get("ms")) is not None:
            self.submitted.append(float(ms) / 1000)

    def absorb(self, other: "Tally", until: float) -> None:
        """Adds what was counted of another node, whose time ended at ``until``."""
        self.received |= other.received
        self.replied |= other.replied
        self.delivered |= other.delivered
        self.submitted += other.submitted
        for mine, theirs in (
            (self.lanes, other.lanes),
            (self.languages, other.languages),
            (self.steps, other.steps),
            (self.refusals, other.refusals),
            (self.alerts, other.alerts),
            (self.dead_letters, other.dead_letters),
        ):
            mine.update(theirs)
        self.segments += other.segments
        self.undelivered += other.undelivered
        self.outages += other.outages
        self.down_s += other.without_modem_s(until)
        for begin, counts in other.hours.items():
            mine_of_hour = self.hours.setdefault(begin, [0, 0])
            mine_of_hour[0] += counts[0]
            mine_of_hour[1] += counts[1]

    def without_modem_s(self, until: float) -> float:
        """Seconds without a modem, the present outage until then included."""
        return self.down_s + sum(_plausible(until - since) for since in self.down_since.values())

    def stats(self, node: str, since: float, until: float) -> Stats:
        """What was counted."""
        return Stats(
            node=node,
            since=since,
            until=until,
            received=len(self.received),
            lanes=_ordered(self.lanes),
            languages=_ordered(self.languages),
            answered=len(self.replied),
            steps=_ordered(self.steps),
            segments=self.segments,
            submitted=Latency.of([s for s in self.submitted if 0 <= s < PLAUSIBLE_S]),
            delivered=Latency.of([s for s in self.delivered.values() if 0 <= s < PLAUSIBLE_S]),
            undelivered=self.undelivered,
            refusals=_ordered(self.refusals),
            alerts=_ordered(self.alerts),
            dead_letters=_ordered(self.dead_letters),
            modem_outages=self.outages,
            modem_down_s=round(self.without_modem_s(until), 1),
            hours=[Hour(begin, *counts) for begin, counts in sorted(self.hours.items())],
        )

    _BY_KIND: Final[dict[str, Callable[["Tally", Event], None]]] = {
        "received": _received,
        "triaged": _triaged,
        "sent": _sent,
        "delivered": _delivered,
        "undelivered": _undelivered,
        "fitted": _fitted,
        "dead_letter": _dead_letter,
        "modem_lost": _modem_lost,
        "modem_dead": _modem_lost,
        "modem_up": _modem_up,
        **dict.fromkeys(_REFUSALS, _refused),
    }


def stats_of(node: str, events: Iterable[Event], since: float, until: float) -> Stats:
    """Statistics over events in the order in which they happened."""
    tally = Tally()
    for event in events:
        tally.add(event)
    return tally.stats(node, since, until)


def _ordered(counter: Counter[str]) -> dict[str, int]:
    return dict(counter.most_common())


def _reason(event: Event) -> str:
    """Kind and reason, without the numbers in it: "41 texts in 10 minutes" is one with "42 texts …"."""
    reason = str(event.fields.get("reason") or event.fields.get("note") or "")
    words = " ".join("…" if any(map(str.isdigit, word)) else word for word in reason.split())
    return f"{event.kind}: {words}" if words else event.kind


def _plausible(seconds: float) -> float:
    return seconds if 0 <= seconds < PLAUSIBLE_S else 0.0


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0
