"""route: emergencies get a template and an alert at once, everything else goes to retrieval."""

from typing import Any

import pytest
from evy_core import Router, Triager

from actors._runtime import clock
from actors._runtime.actor import Output
from actors.knowledge import Texts, route_rules, triage_files
from actors.route import Route
from subjects import names
from subjects.messages import Alert, Event, OutboundSms, Query, Session

TEXTS = Texts.load(emergency_number="999")
TRIAGER = Triager(triage_files())


class Desk:
    """A route actor and its events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.route = Route(
            node="n1",
            triager=TRIAGER,
            router=Router(route_rules()),
            texts=TEXTS,
            emit=self.events.append,
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
    assert [(o.subject, o.lane) for o in outputs] == [(names.SMS_OUT, "flash"), (names.ALERT, "flash")]
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


async def test_an_emergency_in_a_language_without_template_is_answered_in_english(desk: Desk) -> None:
    chosen = Session("sw", lang_chosen=True)
    outputs = await desk.text("my brother is bleeding badly", lang="sw", session=chosen)
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
