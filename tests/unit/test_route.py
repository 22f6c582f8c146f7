"""route: emergencies get a template and an alert at once, everything else goes to retrieval."""

from typing import Any

import pytest
from evy_core import Router, Triager, segment

from actors._runtime import clock
from actors._runtime.actor import Output
from actors._runtime.config import Config
from actors._runtime.context import MemoryContext
from actors._runtime.identity import Identity
from actors.knowledge import Texts, route_rules, triage_files
from actors.route import Route, build
from subjects import names
from subjects.messages import Alert, Event, OutboundSms, Query, Session
from subjects.node_state import ModemState, NodeState

TEXTS = Texts.load(emergency_number="999")
TRIAGER = Triager(triage_files())


class Desk:
    """A route actor and its events."""

    def __init__(self) -> None:
        self.is_thrifty = False
        self.events: list[Event] = []
        self.route = Route(
            node="n1",
            triager=TRIAGER,
            router=Router(route_rules()),
            texts=TEXTS,
            emit=self.events.append,
            is_thrifty=lambda: self.is_thrifty,
            now=lambda: 5.0,
        )

    async def text(self, text: str, **fields: Any) -> list[Output]:
        settings: dict[str, Any] = {
            "id": "q1",
            "node": "n1",
            "sender_ref": "ana",
            "text": text,
            "lang": "en",
            "lane": "routine",
            "deadline": clock.deadline_in(15),
        }
        return list(await self.route.handle(Query(**{**settings, **fields})))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def reply(outputs: list[Output]) -> OutboundSms:
    message = outputs[0].message
    assert isinstance(message, OutboundSms)
    return message


async def test_an_emergency_gets_its_template_and_an_alert_in_flash(desk: Desk) -> None:
    outputs = await desk.text("my brother is bleeding badly", lane="flash")
    assert [(o.subject, o.lane) for o in outputs[:2]] == [(names.SMS_OUT, "flash"), (names.ALERT, "flash")]
    template = TEXTS.template("bleeding", "en")
    assert template is not None
    assert reply(outputs).text == template.text
    assert "999" in reply(outputs).text
    alert = outputs[1].message
    assert isinstance(alert, Alert)
    assert (alert.topic, alert.sender_ref, alert.priority) == ("bleeding", "ana", "emergency")
    assert "medical" in alert.needs
    assert desk.events[0].fields["topic"] == "bleeding"


async def test_a_lower_lane_is_raised_and_a_flash_text_stays_an_emergency(desk: Desk) -> None:
    assert (await desk.text("she is not breathing, no pulse", lane="routine"))[0].lane == "flash"
    outputs = await desk.text("and the kitchen too", lane="flash")
    general = TEXTS.template("general_danger", "en")
    assert general is not None
    assert reply(outputs).text == general.text


async def test_the_language_of_the_text_wins_unless_the_person_chose_one(desk: Desk) -> None:
    spanish = "mi hermano sangra mucho de la pierna, no para"
    assert reply(await desk.text(spanish)).lang == "es"
    chosen = Session("en", lang_chosen=True)
    assert reply(await desk.text(spanish, session=chosen)).lang == "en"


@pytest.mark.parametrize(
    ("lang", "text", "topic", "first"),
    [
        ("sw", "ndugu yangu hapumui hana fahamu", "cpr_unresponsive", "Haamki"),
        ("hi", "भाई बेहोश है साँस नहीं ले रहा", "cpr_unresponsive", "बेहोश"),
        ("hi", "mera bhai behosh hai saans nahi le raha", "cpr_unresponsive", "बेहोश"),
        ("ar", "أخي فاقد الوعي ولا يتنفس", "cpr_unresponsive", "لا يصحو"),
        ("tl", "hindi humihinga ang tatay ko", "cpr_unresponsive", "Hindi magising"),
    ],
)
async def test_an_emergency_is_answered_whole_in_its_own_script(
    desk: Desk, lang: str, text: str, topic: str, first: str
) -> None:
    outputs = await desk.text(text)
    said = reply(outputs)
    template = TEXTS.template(topic, lang)
    assert template is not None
    assert (said.lang, said.text) == (lang, template.text)
    assert said.text.startswith(first)
    assert "999" in said.text
    [cut] = segment([said.text])
    assert cut.count <= {"gsm7": 2, "ucs2": 3}[cut.encoding]
    menu = menu_of(outputs)
    assert menu is not None
    assert menu.lang == lang
    branch = reply(await desk.text("1", session=Session(topic=topic, reply=1), lang=lang))
    assert branch.lang == lang
    assert segment([branch.text])[0].count <= {"gsm7": 2, "ucs2": 3}[cut.encoding]


async def test_an_emergency_in_a_language_without_template_is_answered_in_english(desk: Desk) -> None:
    chosen = Session("de", lang_chosen=True)
    outputs = await desk.text("my brother is bleeding badly", lang="de", session=chosen)
    assert reply(outputs).lang == "en"


@pytest.mark.parametrize(
    "text", ["how do i clean water", "this party is fire lol", "hello", "nobody is hurt", "🙂", "x" * 12_000]
)
async def test_everything_else_goes_to_retrieval_with_its_needs(desk: Desk, text: str) -> None:
    [output] = await desk.text(text)
    assert output.subject == names.RAG
    assert isinstance(output.message, Query)
    assert output.message.priority != "emergency"
    assert output.message.confidence is None
    assert "none" not in output.message.needs


async def test_a_redelivered_query_gives_the_same_outputs(desk: Desk) -> None:
    deadline = clock.deadline_in(15)
    first = await desk.text("he is choking on food", deadline=deadline)
    assert await desk.text("he is choking on food", deadline=deadline) == first


# ── what a template goes on with ──────────────────────────────────────────────────────────────────────────

BLEEDING = "my brother is bleeding badly"


def menu_of(outputs: list[Output]) -> OutboundSms | None:
    found = [o.message for o in outputs if isinstance(o.message, OutboundSms) and o.message.kind == "notice"]
    assert len(found) <= 1
    return found[0] if found else None


async def test_a_menu_follows_a_template_that_has_no_room_for_it(desk: Desk) -> None:
    outputs = await desk.text(BLEEDING, lane="flash")
    menu = menu_of(outputs)
    assert menu is not None
    assert menu.text == "Reply 1 soaks through, 2 pale and cold, 3 something stuck in, 4 tight band is on."
    assert menu.lane == "flash"  # where a person's texts keep their order
    assert outputs[-1].message is menu
    template = TEXTS.template("bleeding", "en")
    assert template is not None
    assert reply(outputs).text == template.text


@pytest.mark.parametrize(
    "session",
    [Session(topic="bleeding"), Session(repeat=1), Session(unsolicited_ok=False)],
    ids=["seen", "repeated", "STOP"],
)
async def test_a_menu_is_not_sent_twice_nor_to_who_said_stop(desk: Desk, session: Session) -> None:
    outputs = await desk.text(BLEEDING, lane="flash", session=session)
    assert menu_of(outputs) is None
    assert len(outputs) == 2


async def test_a_low_battery_sends_no_menu_and_answers_its_numbers(desk: Desk) -> None:
    desk.is_thrifty = True
    assert menu_of(await desk.text(BLEEDING, lane="flash")) is None
    outputs = await desk.text("1", lane="flash", session=Session(topic="bleeding", reply=1))
    assert reply(outputs).text == TEXTS.follow.branch("bleeding", 1, "en").text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("known", "menus"),
    [
        ({}, 1),
        ({"battery_rule_percent": 20.0}, 1),
        ({"battery_rule_percent": 19.9}, 0),
        ({"modems": (ModemState(name="m", state="up", sent_hour=53, limit_hour=60),)}, 1),
        ({"modems": (ModemState(name="m", state="up", sent_hour=54, limit_hour=60),)}, 0),
    ],
)
async def test_battery_and_carrier_decide_about_the_menu(known: dict[str, Any], menus: int) -> None:
    context = MemoryContext(Config({"node": {"name": "n1"}}), Identity("n1", b"x", "0"))
    route = await build(context)
    context.state = NodeState(node="n1", **known)
    query = Query(
        id="q1",
        node="n1",
        sender_ref="ana",
        text=BLEEDING,
        lang="en",
        lane="flash",
        deadline=clock.deadline_in(15),
    )
    assert bool(menu_of(list(await route.handlers[names.ROUTE](query)))) == menus


async def test_where_somebody_may_see_the_phone_the_menu_is_no_text_of_its_own(desk: Desk) -> None:
    outputs = await desk.text("my husband is beating me he will kill me", lane="flash")
    assert menu_of(outputs) is None
    assert reply(outputs).text.endswith(" Reply 1 hurt, 2 hiding, 3 out, 4 a plan.")
    longest = Texts.load(emergency_number="+1234567890")
    template = longest.template("violence_attack", "en")
    assert template is not None
    assert segment([f"{template.text} {longest.menu('violence_attack', 'en')}"])[0].count == 2


async def test_a_reply_gets_its_branch_in_flash_without_a_new_alert(desk: Desk) -> None:
    session = Session(topic="drowning", reply=3)
    [output] = await desk.text("3", lane="flash", session=session)
    assert output.lane == "flash"
    branch = TEXTS.follow.branch("drowning", 3, "en")
    assert branch is not None
    message = reply([output])
    assert (message.text, message.step, message.kind) == (branch.text, "template", "reply")
    assert message.sources == (branch.source.tag,)
    assert desk.events[-1].fields["topic"] == "drowning"
    assert desk.events[-1].fields["reason"] == "reply 3"
    assert await desk.text("3", lane="flash", session=session) == [output]


async def test_a_reply_that_is_an_emergency_by_itself_tells_the_responders(desk: Desk) -> None:
    outputs = await desk.text("he is not breathing", lane="flash", session=Session(topic="drowning", reply=2))
    assert "2 breaths" in reply(outputs).text
    [alert] = [o.message for o in outputs if isinstance(o.message, Alert)]
    assert (alert.priority, alert.topic) == ("emergency", "drowning")


async def test_a_branch_that_is_no_longer_there_is_answered_as_any_text(desk: Desk) -> None:
    [output] = await desk.text("4", session=Session(topic="tsunami", reply=4))
    assert output.subject == names.RAG
    outputs = await desk.text(BLEEDING, session=Session(topic="no_such_topic", reply=1))
    assert "Press hard" in reply(outputs).text


async def test_an_emergency_without_a_text_of_its_own_is_looked_up_too(desk: Desk) -> None:
    outputs = await desk.text("and the kitchen too", lane="flash")
    further = outputs[-1]
    assert (further.subject, further.lane, further.kind) == (names.RAG, "priority", "further")
    assert isinstance(further.message, Query)
    assert further.message.priority == "emergency"
    specific = await desk.text("my brother is bleeding badly", lane="flash")
    assert names.RAG not in {output.subject for output in specific}
    for session in (Session(repeat=1), Session(unsolicited_ok=False)):
        again = await desk.text("and the kitchen too", lane="flash", session=session)
        assert names.RAG not in {output.subject for output in again}


async def test_what_came_by_mesh_raises_no_alert_and_gets_no_template(desk: Desk) -> None:
    """Its own node has done both; here there is neither the person's number nor their session."""
    words = "my brother cut his leg, blood everywhere"
    assert {output.subject for output in await desk.text(words)} >= {names.ALERT, names.SMS_OUT}
    [output] = await desk.text(words, origin="7.0a1b2c3d")
    assert (output.subject, output.lane) == (names.RAG, "priority")
    assert isinstance(output.message, Query)
    assert (output.message.priority, output.message.origin) == ("urgent", "7.0a1b2c3d")
