"""What leaves a node for its centre: closed words and counts, whatever is in the events."""

import contextlib
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors._event_store import EventStore, Mark
from actors._runtime.actor import Output
from actors._runtime.bus import BusError
from actors._runtime.event_log import Kept, Page, Position
from actors._runtime.identity import Identity
from actors._runtime.link import LinkState
from actors.analytics.leaving import LEAVES, MOST_OCTETS, batch, coarse, leaving
from actors.analytics.uplink import MARK, Uplink, keep_back, pending, stream_id
from subjects.errors import MessageError
from subjects.event_report import MOST_EVENTS, EventReport, Reported
from subjects.messages import Event, decode, encode

NOW = 1_790_000_030.0
IDENTITY = Identity("n1", b"a secret", "0000")
STREAM = "2026-01-01T00:00:00Z"
UP = LinkState(up=True)


def event(kind: str, *, at: float = NOW, query: str = "q1", **fields: object) -> Event:
    return Event(
        kind=kind, node="n1", actor="t", at=at, query_id=query, sender_ref="the person", fields=fields
    )


def left(one: Event) -> Reported | None:
    return leaving(1, one, IDENTITY.report_ref)


NAMES = sorted({name for fields in LEAVES.values() for name in fields})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40)
    | st.from_regex(r"\+?[0-9]{3,15}", fullmatch=True),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(
    st.sampled_from([*LEAVES, "spans", "forgotten", "new_kind"]),
    st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=9), JSON, max_size=12),
    st.floats(0, 4e9),
)
def test_whatever_an_event_holds_a_centre_can_read_what_leaves(
    kind: str, fields: dict[str, object], at: float
) -> None:
    found = left(event(kind, at=at, query="secret-query", **fields))
    if found is None:
        assert kind == "node_state" or kind not in LEAVES
        return
    octets = encode(EventReport(node="n1", stream="0" * 12, events=(found,)))
    assert decode(octets, EventReport).events == (found,)
    assert b"secret-query" not in octets
    assert b"the person" not in octets
    assert set(found.fields) <= set(LEAVES[kind])
    for value in found.fields.values():
        for word in value if isinstance(value, tuple) else [value]:
            if isinstance(word, str):
                assert set(word) <= set(string.ascii_lowercase + string.digits + "_.-")
            else:
                assert abs(word) < 1e9  # no phone number with its country


@pytest.mark.parametrize(
    "fields",
    [
        {"topic": "call 4917123456 now"},
        {"topic": "x4917123456"},
        {"topic": "help\n"},
        {"lang": "الع"},
        {"needs": "water"},
        {"topic": "a" * 100},
    ],
)
def test_words_that_are_none_stay(fields: dict[str, object]) -> None:
    found = left(event("triaged", **fields))
    assert found is not None
    assert found.fields == {}


def test_what_is_counted_leaves() -> None:
    needs = ["water", "+49171"]
    triaged = left(event("triaged", needs=needs, topic="", lang="es", cues=["agua"], reason="x"))
    assert triaged is not None
    assert triaged.fields == {"needs": ("water",), "lang": "es"}
    assert triaged.at == int(NOW)
    fitted = left(event("fitted", step="model", by_centre=True, refused=["dose: 500 mg", "negation: not"]))
    assert fitted is not None
    assert fitted.fields == {"step": "model", "by_centre": True, "refused": ("dose", "negation")}
    where = {"latitude": 12.34567, "longitude": -45.678}
    placed = left(event("alert_place", responders=["Ana"], needs=["medical"], **where))
    assert placed is not None
    assert placed.fields == {"latitude": 12.3, "longitude": -45.7, "needs": ("medical",)}
    assert [coarse(value) for value in (181, "12", True, None, -179.96)] == [None, None, None, None, -180.0]


def test_the_texts_of_a_person_cannot_be_told_to_be_of_one() -> None:
    [first, second] = [left(event("received", query=query)) for query in ("q1", "q2")]
    assert first is not None
    assert second is not None
    assert first.text != second.text
    assert first.text == Identity("n1", b"a secret", "1").report_ref("q1")
    assert first.text != Identity("n1", b"another", "0000").report_ref("q1")


def test_states_leave_four_times_an_hour_and_when_something_changed() -> None:
    minute = ["a minute has passed"]
    hour = [event("node_state", at=NOW + 60 * n, battery_percent=50, reasons=minute) for n in range(60)]
    assert len([one for one in hour if left(one)]) in range(4, 9)
    assert left(event("node_state", at=NOW + 300, battery_percent=19, reasons=["battery 19 %: below 20 %"]))


@pytest.mark.parametrize(
    "raw",
    [
        '{"v":1,"node":"n1","stream":"000000000000","events":[]}',
        '{"v":1,"node":"n1","stream":"x","events":[[1,1,"sent","flash"]]}',
        '{"v":1,"node":"n1","stream":"000000000000","events":[[0,1,"sent","flash"]]}',
        '{"v":1,"node":"n1","stream":"000000000000","events":[[1,-1,"sent","flash"]]}',
        '{"v":1,"node":"n1","stream":"000000000000","events":[[1,1,"Sent 49171234567","flash"]]}',
        '{"v":1,"node":"n1","stream":"000000000000","events":[[1,1,"sent","slow"]]}',
        '{"v":1,"node":"n1","stream":"000000000000","events":[[1,1,"sent","flash","+49171234567"]]}',
        '{"v":1,"node":"n1","stream":"000000000000","events":[[1,1,"sent","flash","",{"to":"+4917"}]]}',
        '{"v":1,"node":"n1","stream":"000000000000","events":[[1,1,"sent","flash","",{"a":{"b":1}}]]}',
        '{"v":1,"node":"n1","stream":"000000000000","events":[[1,1,"sent","flash","",{"a":"x\\n"}]]}',
        '{"v":1,"node":"n1","stream":"000000000000","events":[[1,1,"a\\u0000","flash"]]}',
    ],
)
def test_a_centre_refuses_what_no_node_of_ours_says(raw: str) -> None:
    with pytest.raises(MessageError):
        decode(raw.encode(), EventReport)


def test_a_report_is_bounded() -> None:
    many = [
        Reported(n, int(NOW), "triaged", "routine", "0" * 16, {"needs": ("water",) * 8})
        for n in range(1, 1001)
    ]
    report = batch("n1", "0" * 12, many)
    assert MOST_OCTETS * 0.9 < len(encode(report)) <= MOST_OCTETS
    small = [Reported(n, int(NOW), "held", "flash") for n in range(1, 1001)]
    assert len(batch("n1", "0" * 12, small).events) <= MOST_EVENTS


class Told:
    """An uplink on a store, with a link and a clock that a test sets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.link = UP
        self.now_s = 0.0
        self.fails = False
        self.reports: list[EventReport] = []
        self.ids: list[str] = []
        self.store = EventStore.open(path)
        self.up = Uplink(IDENTITY, path, self._look, self._publish, now=lambda: self.now_s)

    async def _look(self) -> LinkState:
        return self.link

    async def _publish(self, output: Output, _: str) -> None:
        if self.fails:
            raise BusError("the server is away")
        assert isinstance(output.message, EventReport)
        self.reports.append(output.message)
        self.ids.append(output.query_id)

    def happened(self, *events: Event, first: int, stream: str = STREAM) -> None:
        kept = tuple(Kept(first + number, one) for number, one in enumerate(events))
        self.store.add(Page(Position(stream, first + len(events) - 1), kept))

    def sequences(self) -> list[int]:
        return [one.sequence for report in self.reports for one in report.events]


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path / "events.sqlite3")


async def test_a_node_tells_when_the_link_is_idle_and_goes_on_where_it_stopped(told: Told) -> None:
    told.happened(event("received"), event("decided"), event("sent"), first=1)
    for link in (LinkState(up=False), LinkState(), LinkState(up=True, waiting=1)):
        told.link = link
        assert not await told.up.turn()
    told.link = UP
    assert await told.up.turn()
    told.now_s = 299
    told.happened(event("delivered"), first=4)
    assert not await told.up.turn()
    told.now_s = 300
    assert await told.up.turn()
    told.now_s = 9999
    assert not await told.up.turn()
    assert told.sequences() == [1, 3, 4]
    assert {report.stream for report in told.reports} == {stream_id(STREAM)}


async def test_a_report_that_was_not_taken_or_not_noted_is_made_again(told: Told) -> None:
    told.happened(event("received"), event("sent"), first=1)
    told.fails = True
    with pytest.raises(BusError):
        await told.up.turn()
    told.fails = False
    assert await told.up.turn()
    told.store.set_mark(MARK, Mark())  # the power went before the mark was on the card
    told.now_s = 300
    assert await told.up.turn()
    assert told.reports[0] == told.reports[1]
    assert told.ids[0] == told.ids[1]


async def test_much_is_told_in_reports_a_minute_apart_each_event_once(told: Told) -> None:
    told.happened(*(event("received", query=f"q{n}") for n in range(1200)), first=1)
    told.happened(*(event("sent", query=f"q{n}") for n in range(3)), first=1, stream="2026-02-02T00:00:00Z")
    while told.now_s < 60 * 40:
        await told.up.turn()
        told.now_s += 60
    assert told.sequences() == [*range(1, 1201), 1, 2, 3]
    assert len({report.stream for report in told.reports}) == 2
    assert all(len(encode(report)) <= MOST_OCTETS for report in told.reports)


async def test_kinds_that_stay_hold_nothing_up(told: Told) -> None:
    told.happened(*(event("decided") for _ in range(5000)), event("sent"), first=1)
    told.happened(event("decided"), first=1, stream="2026-02-02T00:00:00Z")
    told.happened(event("sent"), first=1, stream="2026-03-03T00:00:00Z")
    for _ in range(9):
        await told.up.turn()
        told.now_s += 300
    assert told.sequences() == [5001, 1]


async def test_what_happened_while_nothing_is_told_is_never_told(told: Told) -> None:
    told.happened(event("received"), event("sent"), first=1)
    keep_back(told.store)
    assert not await told.up.turn()
    told.happened(event("delivered"), first=3)
    assert await told.up.turn()
    assert told.sequences() == [3]


async def test_who_is_forgotten_is_not_told_of(told: Told) -> None:
    told.happened(event("received"), first=1)
    told.store.forget("the person")
    with contextlib.closing(EventStore.existing(told.path)) as store:
        assert pending(store, IDENTITY).report is None
