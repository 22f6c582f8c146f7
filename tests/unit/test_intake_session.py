"""intake: what a person is in the middle of, the topic of their emergency and their last question."""

from unittest import mock

import pytest

from actors._people import session as sessions
from actors._people.session import BEFORE_CHARACTERS, QUESTIONS_KEPT, Moment
from actors._runtime import clock
from subjects.messages import Query, Session
from tests.unit.test_intake import Desk, only


async def session(desk: Desk, text: str, **fields: object) -> Session:
    found: Query = only(await desk.text(text, **fields), Query)  # type: ignore[arg-type]  # of an SMS
    return found.session


async def test_an_emergency_is_the_topic_of_the_texts_after_it() -> None:
    desk = Desk()
    assert (await session(desk, "my brother is bleeding badly", lane="flash")).topic == ""
    assert (await session(desk, "what now")).topic == "bleeding"
    assert (await session(desk, "now the house is on fire and we are trapped inside", lane="flash")).topic
    assert (await session(desk, "and now")).topic == "fire_trapped"


async def test_what_route_alone_hears_as_an_emergency_is_the_topic_too() -> None:
    desk = Desk()
    await session(desk, "my brother is bleeding badly", lane="routine")
    assert (await session(desk, "what now")).topic == "bleeding"
    await session(desk, "the answer to life", lane="flash")
    assert (await session(desk, "what now?")).topic == "general_danger"


async def test_commands_leave_the_topic_as_it_is() -> None:
    desk = Desk()
    await desk.text("my brother is bleeding badly", lane="flash")
    for command in ("STOP", "HELP", "MORE", "LANG", "START"):
        await desk.text(command)
    assert (await session(desk, "what now")) == Session(
        topic="bleeding", before="my brother is bleeding badly"
    )


async def test_the_question_before_is_words_that_asked_something() -> None:
    desk = Desk()
    assert (await session(desk, "how long do I boil water")).before == ""
    await desk.text("INFO")
    assert (await session(desk, "2")).before == "how long do I boil water"
    assert (await session(desk, "thanks")).before == "how long do I boil water"
    assert (await session(desk, "and for a baby?")).before == "how long do I boil water"
    assert (await session(desk, "and for a baby?")).before == "how long do I boil water"
    assert (await session(desk, "x" * 900)).before == "and for a baby?"
    assert (await session(desk, "and then?")).before == "x" * BEFORE_CHARACTERS


async def test_a_text_that_comes_again_changes_nothing() -> None:
    desk = Desk()
    first = await session(desk, "is rain clean", id="a")
    danger = await session(desk, "my brother is bleeding badly", id="b", lane="flash")
    third = await session(desk, "what do I do", id="c")
    kept = await desk.session.get("ref-50912345678")
    for known, text, id_ in [
        (third, "what do I do", "c"),
        (danger, "my brother is bleeding badly", "b"),
        (first, "is rain clean", "a"),
    ]:
        assert await session(desk, text, id=id_, lane="flash" if id_ == "b" else "routine") == known
    assert await desk.session.get("ref-50912345678") == kept


async def test_both_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    await desk.text("my brother is bleeding badly", lane="flash")
    now_s = clock.boot_s()
    monkeypatch.setattr("actors.intake.boot_s", lambda: now_s + sessions.BEFORE_S + 60)
    assert (await session(desk, "what now")) == Session(topic="bleeding")
    monkeypatch.setattr("actors.intake.boot_s", lambda: now_s + sessions.TOPIC_S + 60)
    assert (await session(desk, "what now")) == Session()


async def test_across_a_restart_the_network_tells_how_long_it_was() -> None:
    desk = Desk()
    await desk.text("my brother is bleeding badly", lane="flash", smsc_at=1_000_000.0, id="b")
    with mock.patch("actors.intake.boot_id", return_value="the next boot"):
        again = await session(desk, "my brother is bleeding badly", lane="flash", smsc_at=1_000_000.0, id="b")
        assert again == Session()  # as the first time
        soon = await session(desk, "what now", smsc_at=1_000_300.0)
        assert soon == Session(topic="bleeding", before="my brother is bleeding badly")
    with mock.patch("actors.intake.boot_id", return_value="a later boot"):
        assert await session(desk, "what now", smsc_at=1_000_000.0 + sessions.TOPIC_S + 301) == Session()
    with mock.patch("actors.intake.boot_id", return_value="one without stamps"):
        assert await session(desk, "and now") == Session()


async def test_what_answers_where_are_you_is_no_question() -> None:
    desk = Desk()
    await desk.text("how do I splint an arm")
    await desk.text("PLACE mill road 5")
    await desk.text("38.12345, -9.12345")
    assert (await session(desk, "and a leg?")).before == "how do I splint an arm"


async def test_a_record_stays_small() -> None:
    desk = Desk()
    for number in range(80):
        await desk.text(f"{number} my brother is bleeding badly " + "x" * 900, lane="flash")
    entry = await desk.session.get("ref-50912345678")
    assert entry is not None
    assert len(entry[0]) < 8000 + QUESTIONS_KEPT * BEFORE_CHARACTERS


def test_moments_without_a_common_clock_are_not_near() -> None:
    assert Moment("a", 5.0).is_within(10, Moment("a", 14.0))
    assert not Moment("a", 5.0).is_within(10, Moment("b", 6.0))
    assert not Moment("a", 5.0, 100.0).is_within(10, Moment("b", 6.0))
    assert Moment("a", 5.0, 100.0).is_within(10, Moment("b", 6.0, 109.0))
