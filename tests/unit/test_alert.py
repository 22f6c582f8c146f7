"""alert: who is told, how often, and never too much."""

from pathlib import Path

import pytest
from evy_core import segment

from actors._runtime.actor import Output
from actors._runtime.memory import MemoryKeyValue
from actors.alert import CAP_PER_HOUR, Alerts, Contact, load_contacts
from actors.knowledge import SHIPPED, Texts
from subjects.errors import ConfigError
from subjects.messages import Alert, Event, OutboundSms

TEXTS = Texts.load()


class Room:
    """Responders, a clock and a way to raise alerts."""

    def __init__(self, *contacts: Contact) -> None:
        self.now_s = 1000.0
        self.boot = "b1"
        self.events: list[Event] = []
        self.count = 0
        self.alerts = Alerts(
            node="n1",
            contacts=contacts or (Contact("Marie", "+50911111111"),),
            texts=TEXTS,
            cases=MemoryKeyValue(),
            emit=self.events.append,
            now_s=lambda: self.now_s,
            boot=lambda: self.boot,
        )

    async def alert(
        self,
        text: str = "he is bleeding",
        *,
        sender: str = "ana",
        needs: tuple[str, ...] = ("medical",),
        query_id: str = "",
        topic: str = "bleeding",
    ) -> list[Output]:
        self.count += 1
        message = Alert(
            query_id=query_id or f"q{self.count}",
            node="n1",
            sender_ref=sender,
            text=text,
            lang="en",
            lane="flash",
            priority="emergency",
            needs=needs,
            topic=topic,
        )
        return list(await self.alerts.handle(message))


def sms(output: Output) -> OutboundSms:
    assert isinstance(output.message, OutboundSms)
    return output.message


async def test_the_responder_gets_what_who_and_the_persons_words() -> None:
    room = Room()
    [output] = await room.alert("he is bleeding {number}")
    message = sms(output)
    template = TEXTS.template("bleeding", "en")
    assert template is not None
    assert template.title in message.text
    assert "he is bleeding (number)" in message.text
    assert message.text.count("{number}") == 1
    assert (message.number, message.about_ref, message.lane) == ("+50911111111", "ana", "flash")


async def test_alerts_of_one_person_coalesce_until_something_new() -> None:
    room = Room()
    assert len(await room.alert()) == 1
    assert await room.alert() == []
    [third] = await room.alert("still bleeding")
    assert "2" in sms(third).text
    assert await room.alert() == []
    assert len(await room.alert("and a fire", needs=("fire",))) == 1
    room.now_s += 901
    assert len(await room.alert()) == 1
    assert len(await room.alert(sender="ben")) == 1


async def test_a_redelivered_alert_says_the_same_again() -> None:
    room = Room()
    first = await room.alert(query_id="same")
    assert await room.alert(query_id="same") == first
    await room.alert(query_id="quiet")
    assert await room.alert(query_id="quiet") == []


async def test_a_responder_is_capped_and_the_cap_is_seen() -> None:
    room = Room()
    for number in range(CAP_PER_HOUR):
        assert await room.alert(sender=f"p{number}")
    assert await room.alert(sender="one more") == []
    assert room.events[-2].kind == "alert_capped"
    assert room.events[-1].kind == "alert_unheard"
    room.now_s += 3601
    assert await room.alert(sender="later")


async def test_needs_choose_the_responders_and_a_reboot_starts_afresh() -> None:
    room = Room(
        Contact("Fire", "+50922222222", needs=("fire",)),
        Contact("Nurse", "+50933333333", needs=("medical",)),
        Contact("All", "+50944444444"),
    )
    assert [sms(o).number for o in await room.alert()] == ["+50933333333", "+50944444444"]
    assert [o.ordinal for o in await room.alert(sender="x")] == [0, 1]
    assert await room.alert() == []
    room.boot = "b2"
    assert len(await room.alert()) == 2


async def test_with_no_responder_an_event_says_that_nobody_heard() -> None:
    room = Room(Contact("Fire", "+50922222222", needs=("fire",)))
    assert await room.alert() == []
    assert room.events[-1].kind == "alert_unheard"


async def test_an_alert_about_somebody_who_may_be_hiding_says_so() -> None:
    [output] = await Room().alert("he is at the door", topic="violence_attack", needs=("violence",))
    other = await Room().alert("he is at the door", topic="bleeding", needs=("violence",))
    discreet = TEXTS.say("alert_responder_discreet", "en", what="", text="", number="", time="")
    assert discreet.split(".")[-2].strip() in sms(output).text
    assert discreet.split(".")[-2].strip() not in sms(other[0]).text


@pytest.mark.parametrize("text", ["\u0905\u0917 " * 80, "x" * 400, "a\u20ac" * 200])
async def test_an_alert_keeps_to_its_segments(text: str) -> None:
    [output] = await Room().alert(text)
    [cut] = segment([sms(output).text.replace("{number}", "+5091234567890")])
    assert cut.count <= (2 if cut.encoding == "gsm7" else 3)


def test_contacts_file_wrong_missing_or_the_example(tmp_path: Path) -> None:
    assert load_contacts(tmp_path / "none.toml") == ()
    bad = tmp_path / "contacts.toml"
    bad.write_text('[[contacts]]\nname = "x"\nnumber = "call me"\n')
    with pytest.raises(ConfigError, match=r"contacts\.toml.*number"):
        load_contacts(bad)
    if (SHIPPED / "contacts.example.toml").exists():
        assert load_contacts(SHIPPED / "contacts.example.toml")
