"""link: events when the line comes and goes, and for every query that waited in vain."""

import asyncio
from collections.abc import Callable

from actors import link
from actors._runtime import clock
from actors._runtime.link import LinkState
from subjects.messages import Deadline, Event, Query

PASSED = Deadline("another boot", 0.0)


def query(number: int, wait: Deadline | None) -> Query:
    return Query(
        id=f"q{number}",
        node="n1",
        sender_ref="ana",
        text="?",
        lang="en",
        lane="priority",
        deadline=PASSED,
        wait=wait,
    )


class Line:
    """A line that goes up and down, with three queries waiting."""

    state = LinkState()

    def __init__(self) -> None:
        self.waiting = [query(1, PASSED), query(2, None), query(3, clock.deadline_in(60))]

    async def watch(self, changed: Callable[[LinkState], None]) -> None:
        changed(LinkState(up=True, reason="the centre answers", rtt_ms=12.0))
        changed(LinkState(up=False, reason="no connection to the centre"))
        await asyncio.Event().wait()

    def missed(self) -> None:
        raise AssertionError("this actor waits for no answer")

    async def expire(self, passed: Callable[[Query], bool]) -> list[Query]:
        gone = [query for query in self.waiting if passed(query)]
        self.waiting = [query for query in self.waiting if not passed(query)]
        return gone


async def test_every_change_and_every_end_is_an_event() -> None:
    events: list[Event] = []
    line = Line()
    actor = link.actor("n1", line, events.append, now=lambda: 5.0, every_s=0.01)
    assert not actor.handlers
    tasks = [asyncio.create_task(task()) for task in actor.tasks]
    while len(events) < 4:
        await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    assert [event.kind for event in events[:2]] == ["link_up", "link_down"]
    assert {event.query_id for event in events if event.kind == "expired"} == {"q1", "q2"}
    assert [query.id for query in line.waiting] == ["q3"]
