"""intake: what a person is in the middle of: their emergency, what they reply to it, their last question."""

from unittest import mock

import pytest

from actors._people import session as sessions
from actors._people.cases import AskedAbout
from actors._people.session import BEFORE_CHARACTERS, QUESTIONS_KEPT, Moment
from actors._runtime import clock
from subjects import names
from subjects.messages import Alert, OutboundSms, Query, ResponderReply, Session
from tests.unit.test_intake import MARIE, TEXTS, Desk, asked, only, open_case


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


# ── replies to the menu of an emergency ───────────────────────────────────────────────────────────────────

BLEEDING = "my brother is bleeding badly"


async def bleeding() -> Desk:
    desk = Desk()
    await desk.text(BLEEDING, lane="flash")
    return desk


@pytest.mark.parametrize(
    ("text", "reply"),
    [("1", 1), ("2)", 2), ("Reply 3", 3), ("4.", 4), ("it wont stop", 1), ("5", 0), ("ok", 0)],
)
async def test_a_reply_goes_to_route_in_flash(text: str, reply: int) -> None:
    desk = await bleeding()
    [output] = await desk.text(text)
    query = only([output], Query)
    assert (query.session.topic, query.session.reply) == ("bleeding", reply)
    assert output.lane == query.lane == ("flash" if reply else "routine")
    assert query.session.before == BLEEDING


async def test_the_topic_stays_for_more_numbers_until_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    desk, now_s = await bleeding(), clock.boot_s()
    for hours in (3, 6, 9):
        monkeypatch.setattr("actors.intake.boot_s", lambda hours=hours: now_s + hours * 3600)
        assert (await session(desk, "2", id=f"at-{hours}")).reply == 2
    monkeypatch.setattr("actors.intake.boot_s", lambda: now_s + 13.5 * 3600)
    assert (await session(desk, "2")).reply == 0


async def test_words_of_another_emergency_are_that_emergency() -> None:
    desk = await bleeding()
    assert (await session(desk, "he is not breathing", lane="flash")).reply == 0
    assert (await session(desk, "what now")).topic == "cpr_unresponsive"
    desk = Desk()
    await desk.text("my son is drowning in the river", lane="flash")
    assert (await session(desk, "he is not breathing", lane="flash")).reply == 2
    assert (await session(desk, "3")).topic == "drowning"


async def test_a_reply_that_comes_again_is_the_same() -> None:
    desk = await bleeding()
    first = await session(desk, "1", id="again")
    await desk.text("my son is drowning in the river", lane="flash")
    assert await session(desk, "1", id="again") == first
    with mock.patch("actors.intake.boot_id", return_value="the next boot"):
        assert (await session(desk, "1", smsc_at=5.0)).reply == 0  # nobody knows how long it was


async def test_a_reply_across_a_restart_by_the_networks_time() -> None:
    desk = Desk()
    await desk.text(BLEEDING, lane="flash", smsc_at=1000.0)
    with mock.patch("actors.intake.boot_id", return_value="the next boot"):
        first = await session(desk, "1", smsc_at=1600.0, id="r")
        assert first.reply == 1
    with mock.patch("actors.intake.boot_id", return_value="one more boot"):
        assert (await session(desk, "1", smsc_at=1600.0, id="r")).reply == 1


async def test_of_two_menus_the_later_one_counts() -> None:
    desk = Desk()
    await desk.text("HELP")
    await desk.text(BLEEDING, lane="flash")
    assert (await session(desk, "1")).reply == 1
    await desk.text("HELP")
    assert only(await desk.text("1"), OutboundSms).text == TEXTS.say("danger_ask", "en")
    assert (await session(desk, "2")).reply == 2


async def test_a_responders_answer_comes_before_a_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    await asked(desk, AskedAbout(3, "other"))
    await desk.text(BLEEDING, sender=MARIE.number, lane="flash")
    assert only(await desk.text("1", sender=MARIE.number), ResponderReply).answer == "coming"
    assert only(await desk.text("3", sender=MARIE.number), Query).session.reply == 3


@pytest.mark.parametrize(("text", "told"), [("2", "2 (pale and cold)"), ("so cold now", "so cold now")])
async def test_a_reply_is_told_to_the_responders_of_an_open_case(text: str, told: str) -> None:
    desk = await bleeding()
    await open_case(desk, place_asked=True)
    outputs = await desk.text(text)
    alert = only(outputs, Alert)
    assert (alert.kind, alert.text) == ("words", told)
    assert only(outputs, Query).session.reply == 2


async def test_what_route_will_alert_of_is_not_told_twice() -> None:
    desk = Desk()
    await desk.text("my son is drowning in the river", lane="flash")
    await open_case(desk)
    [output] = await desk.text("he is not breathing", lane="flash")
    assert output.subject == names.ROUTE
    assert only([output], Query).session.reply == 2


async def test_half_a_reply_is_none() -> None:
    desk = await bleeding()
    [output] = await desk.text("1", parts=2, missing=1)
    assert only([output], OutboundSms).text == TEXTS.say("incomplete", "en")


async def test_who_floods_with_numbers_does_not_hold_up_flash() -> None:
    desk = await bleeding()
    for number in range(20):
        await desk.text(f"question {number}")
    outputs = await desk.text("1")
    query = only(outputs, Query)
    assert (query.lane, query.session.reply) == ("routine", 1)


async def test_a_reply_in_the_persons_language() -> None:
    desk = Desk()
    await desk.text("LANG es")
    await desk.text("mi hermano sangra mucho de la pierna", lane="flash")
    assert only(await desk.text("1"), Query).session.reply == 1
