"""How all nodes of a centre did over a time, counted from what they reported."""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, Final

import msgspec

from actors._reports import Row
from actors.analytics.stats import Latency, Stats, Tally
from subjects.messages import Event

NEAR: Final = 0.3
"""An article nearer than this says what an unanswered question was about."""
SILENT_S: Final = 3600.0
LOW_PERCENT: Final = 30.0
SLOW_S: Final = 60.0
FEW_SMS: Final = 20
UNDELIVERED_SHARE: Final = 0.1
MODEM_DOWN_S: Final = 600.0


class Figures(msgspec.Struct, frozen=True):
    """What was counted, of one node or of all; counters are most frequent first."""

    texts: int
    lanes: dict[str, int]
    languages: dict[str, int]
    needs: dict[str, int]
    """Texts by what they need; a text may need several things."""
    answered: int
    """Texts that got a reply of any kind."""
    steps: dict[str, int]
    """Replies by what wrote them."""
    unanswered: int
    """Texts whose reply was that EVY does not know."""
    unanswered_topics: dict[str, int]
    """By need, topic, or the nearest article («near …»)."""
    replied: Latency
    """Until the modem had taken the reply."""
    arrived: Latency
    """Until the phone had it, to the second."""
    sms_sent: int
    sms_delivered: int
    sms_undelivered: int
    alerts: dict[str, int]
    refusals: dict[str, int]
    dead_letters: dict[str, int]
    modem_outages: int
    modem_down_s: float


class NodeFigures(msgspec.Struct, frozen=True):
    """One node. What is not known is None."""

    node: str
    heard_at: int | None
    """Unix time of its last report."""
    battery_percent: float | None
    """As it was last told."""
    battery_lowest_percent: float | None
    charging: bool | None
    figures: Figures


class Area(msgspec.Struct, frozen=True):
    """People in danger who said where they are, in a square of 0.1 degrees around a point (WGS 84)."""

    latitude: float
    longitude: float
    told: int
    needs: dict[str, int]


class Day(msgspec.Struct, frozen=True):
    """One day of the centre's time zone."""

    date: str
    texts: int
    answered: int


class Overview(msgspec.Struct, frozen=True):
    """What `evy report` shows. Times are Unix seconds, durations end in ``_s``, shares in ``_percent``."""

    since: int
    until: int
    attention: list[str]
    """What somebody should look at, worst first."""
    all: Figures
    nodes: list[NodeFigures]
    areas: list[Area]
    days: list[Day]


class _Tally:
    """What is counted on the way."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.needs: Counter[str] = Counter()
        self.unanswered: Counter[str] = Counter()
        self.areas: dict[tuple[float, float], tuple[int, Counter[str]]] = {}
        self.delivered = 0
        self.battery: float | None = None
        self.lowest: float | None = None
        self.charging: bool | None = None
        self._about: dict[str, str] = {}
        self._unsure: set[str] = set()

    def add(self, row: Row) -> None:
        """Counts one event."""
        fields = row.fields
        match row.kind:
            case "triaged":
                needs = [str(need) for need in fields.get("needs", ())]
                self.needs.update(needs)
                self._about[row.text] = needs[0] if needs else str(fields.get("topic", ""))
            case "retrieved" if not self._about.get(row.text) and fields.get("confidence", 0) >= NEAR:
                self._about[row.text] = f"near {fields.get('article', '')}"
            case "sent" if fields.get("step") == "unsure" and row.text not in self._unsure:
                self._unsure.add(row.text)
                self.unanswered[self._about.get(row.text) or "unknown"] += 1
            case "delivered":
                self.delivered += 1
            case "node_state":
                self._state(fields)
            case "alert_place" | "alert_sent":
                self._place(fields)
        self.tally.add(
            Event(
                kind=row.kind,
                node=row.node,
                actor="",
                at=float(row.at),
                query_id=f"{row.node} {row.text}" if row.text else "",
                lane=row.lane,
                fields=fields,
            )
        )

    def _state(self, fields: Mapping[str, Any]) -> None:
        if (percent := fields.get("battery_percent")) is not None:
            self.battery = float(percent)
            self.lowest = self.battery if self.lowest is None else min(self.lowest, self.battery)
        self.charging = fields.get("charging", self.charging)

    def _place(self, fields: Mapping[str, Any]) -> None:
        latitude, longitude = fields.get("latitude"), fields.get("longitude")
        if latitude is not None and longitude is not None:
            told, needs = self.areas.get((latitude, longitude), (0, Counter[str]()))
            needs.update(str(need) for need in fields.get("needs", ()))
            self.areas[latitude, longitude] = told + 1, needs

    def absorb(self, other: "_Tally", until: float) -> None:
        """Adds what was counted of another node."""
        self.tally.absorb(other.tally, until)
        self.needs.update(other.needs)
        self.unanswered.update(other.unanswered)
        self.delivered += other.delivered
        for place, (told, needs) in other.areas.items():
            mine, mine_needs = self.areas.get(place, (0, Counter[str]()))
            mine_needs.update(needs)
            self.areas[place] = mine + told, mine_needs

    def figures(self, stats: Stats) -> Figures:
        """What was counted."""
        return Figures(
            texts=stats.received,
            lanes=stats.lanes,
            languages=stats.languages,
            needs=dict(self.needs.most_common()),
            answered=stats.answered,
            steps=stats.steps,
            unanswered=self.unanswered.total(),
            unanswered_topics=dict(self.unanswered.most_common()),
            replied=stats.submitted,
            arrived=stats.delivered,
            sms_sent=stats.segments,
            sms_delivered=self.delivered,
            sms_undelivered=stats.undelivered,
            alerts=stats.alerts,
            refusals=stats.refusals,
            dead_letters=stats.dead_letters,
            modem_outages=stats.modem_outages,
            modem_down_s=stats.modem_down_s,
        )


def overview(rows: Iterable[Row], heard: Mapping[str, int], since: float, until: float) -> Overview:
    """The overview of events that come node by node, each node's in their order. ``heard`` has every node
    that shall be in it, with the time of its last report."""
    every, nodes, days = _Tally(), dict[str, NodeFigures](), defaultdict[str, list[int]](lambda: [0, 0])

    def counted(node: str, events: Iterable[Row]) -> NodeFigures:
        tally = _Tally()
        for row in events:
            tally.add(row)
        stats = tally.tally.stats(node, since, until)
        every.absorb(tally, until)
        for hour in stats.hours:
            day = days[hour.begin.partition(" ")[0]]
            day[0] += hour.received
            day[1] += hour.answered
        return NodeFigures(
            node, heard.get(node), tally.battery, tally.lowest, tally.charging, tally.figures(stats)
        )

    for node, events in groupby(rows, key=lambda row: row.node):
        nodes[node] = counted(node, events)
    for node in heard.keys() - nodes.keys():
        nodes[node] = counted(node, ())
    ordered = sorted(nodes.values(), key=lambda one: one.node)
    areas = [
        Area(*place, told, dict(needs.most_common()))
        for place, (told, needs) in sorted(every.areas.items(), key=lambda item: -item[1][0])
    ]
    return Overview(
        since=int(since),
        until=int(until),
        attention=[line for one in ordered for line in _worries(one, until)],
        all=every.figures(every.tally.stats("", since, until)),
        nodes=ordered,
        areas=areas,
        days=[Day(date, *counts) for date, counts in sorted(days.items())],
    )


def _worries(one: NodeFigures, until: float) -> Iterable[str]:
    found = one.figures
    if unheard := found.alerts.get("unheard", 0):
        yield f"{one.node}: {unheard} alerts that no responder answered"
    silent_s = until - one.heard_at if one.heard_at else math.inf
    if silent_s > SILENT_S:
        yield f"{one.node}: not heard for {span(silent_s)}" if one.heard_at else f"{one.node}: never heard"
    if one.battery_percent is not None and one.battery_percent < LOW_PERCENT:
        charging = ", charging" if one.charging else ""
        yield f"{one.node}: battery {one.battery_percent:.0f} %{charging}"
    reports = found.sms_delivered + found.sms_undelivered
    if reports >= FEW_SMS and found.sms_undelivered > UNDELIVERED_SHARE * reports:
        yield f"{one.node}: {found.sms_undelivered} of {reports} SMS did not arrive"
    if found.replied.p95_s is not None and found.replied.p95_s > SLOW_S:
        yield f"{one.node}: one reply in twenty took longer than {span(found.replied.p95_s)}"
    if found.modem_down_s > MODEM_DOWN_S:
        yield f"{one.node}: {span(found.modem_down_s)} without a modem"
    if letters := sum(found.dead_letters.values()):
        yield f"{one.node}: {letters} dead letters (`evy dlq ls` there)"


def span(seconds: float) -> str:
    """A duration for people."""
    for limit, unit, word in ((120, 1, "s"), (7200, 60, "min"), (2 * 86400, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.1f} {word}" if unit == 1 else f"{seconds / unit:.0f} {word}"
    return f"{seconds / 86400:.0f} days"


def local_time(at: float) -> str:
    """A time for people, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
