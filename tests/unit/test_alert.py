"""alert: who is asked, who is next, what the person is told, how often, and never too much."""

import itertools
import random
import time
from typing import Any

import msgspec
import pytest
from evy_core import segment

from actors._people.cases import Case, Rota, Said, Whereabouts, case_key, rota_key
from actors._people.contacts import AlertConfig, Contact, Waits
from actors._runtime.actor import Output
from actors._runtime.bus import BusError
from actors._runtime.memory import MemoryKeyValue
from actors.alert import Alerts, clock_of
from actors.alert.rota import admitted, current, with_digest
from actors.alert.words import Words
from actors.knowledge import NOTICES, Texts
from subjects.mesh import MeshPacket, MeshReply
from subjects.messages import Alert, Event, OutboundSms, Place, ResponderAnswer, ResponderReply
from subjects.names import Lane
from subjects.node_state import MeshState, ModemState, NodeState

TEXTS = Texts.load()
ONE, TWO, THREE = (Contact(name, f"+5091111111{n}") for n, name in enumerate(("Ana", "Ben", "Cleo")))
REF_ONE, REF_TWO = ("ref-" + contact.number.lstrip("+") for contact in (ONE, TWO))
NOON = 1_800_000_000.0


def ref(number: str) -> str:
    """A pseudonym that a bucket takes as a key, as the node's own are."""
    return f"ref-{number.removeprefix('+')}"


class Room:
    """Responders, a clock, a person in danger, and every text that is on the bus, each once."""

    def __init__(self, *contacts: Contact, **config: Any) -> None:
        self.now_s = 1000.0
        self.boot = "b1"
        self.time: float | None = NOON
        self.cases, self.sessions, self.consents = MemoryKeyValue(), MemoryKeyValue(), MemoryKeyValue()
        self.events: list[Event] = []
        self.sent: dict[tuple[str, str, int], OutboundSms] = {}
        self.state = NodeState(node="n1")
        self.over_mesh: dict[tuple[str, str, int], MeshPacket] = {}
        self.publishes_left = 10**6
        self.count = itertools.count(1)
        self.contacts = contacts or (ONE,)
        self.config = AlertConfig(**config)
        self.start()

    def start(self) -> None:
        """The actor begins, also after it died."""
        self.alerts = Alerts(
            node="n1",
            contacts=self.contacts,
            texts=TEXTS,
            cases=self.cases,
            sessions=self.sessions,
            consents=self.consents,
            publish=self.publish,
            emit=self.events.append,
            sender_ref=ref,
            config=self.config,
            clock=lambda: self.time,
            now_s=lambda: self.now_s,
            boot=lambda: self.boot,
            state=lambda: self.state,
        )

    async def publish(self, output: Output, _: str) -> None:
        if self.publishes_left <= 0:
            raise BusError("killed")
        self.publishes_left -= 1
        self.keep(output)

    def keep(self, output: Output) -> None:
        message = output.message
        if isinstance(message, MeshPacket):
            self.over_mesh.setdefault((output.query_id, output.kind, output.ordinal), message)
            return
        assert isinstance(message, OutboundSms)
        # What the ledger does: the second of two texts with one key is not sent.
        self.sent.setdefault((message.query_id, message.kind, message.ordinal), message)

    async def alert(
        self,
        text: str = "he is bleeding",
        *,
        sender: str = "pia",
        needs: tuple[str, ...] = ("medical",),
        query_id: str = "",
        topic: str = "bleeding",
        **fields: Any,
    ) -> list[OutboundSms]:
        message = Alert(
            **{
                "query_id": query_id or f"q{next(self.count)}",
                "node": "n1",
                "sender_ref": sender,
                "text": text,
                "lang": "en",
                "lane": "flash",
                "priority": "emergency",
                "needs": needs,
                "topic": topic,
                **fields,
            }
        )
        before = len(self.sent)
        assert await self.alerts.handle(message) == []
        return list(self.sent.values())[before:]

    async def reply(
        self, contact: Contact, answer: ResponderAnswer = "coming", case: int = 0, query_id: str = ""
    ) -> list[OutboundSms]:
        message = ResponderReply(
            query_id=query_id or f"r{next(self.count)}",
            node="n1",
            sender_ref=f"ref-{contact.name}",
            responder=contact.key,
            answer=answer,
            lane="flash",
            case=case,
        )
        before = len(self.sent)
        for output in await self.alerts.replied(message):
            self.keep(output)
        return list(self.sent.values())[before:]

    async def later(self, seconds: float) -> list[OutboundSms]:
        self.now_s += seconds
        before = len(self.sent)
        await self.alerts.look()
        return list(self.sent.values())[before:]

    async def case(self, sender: str = "pia") -> Case:
        entry = await self.cases.get(case_key(sender))
        assert entry is not None
        return msgspec.json.decode(entry[0], type=Case)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


def to(texts: list[OutboundSms], contact: Contact) -> list[OutboundSms]:
    return [sms for sms in texts if sms.number == contact.number]


def to_person(texts: list[OutboundSms]) -> list[str]:
    return [sms.text for sms in texts if not sms.number and sms.sender_ref == "pia"]


def said(key: str, lang: str = "en", **values: object) -> str:
    filled = dict.fromkeys(NOTICES[key], "") | values  # type: ignore[index]
    return " ".join(TEXTS.say(key, lang, **filled).split())  # type: ignore[arg-type]


# ── what a responder gets ─────────────────────────────────────────────────────────────────────────────────


async def test_the_responder_gets_a_number_what_who_and_the_persons_words() -> None:
    room = Room()
    [message] = to(await room.alert("he is bleeding {number}"), ONE)
    template = TEXTS.template("bleeding", "en")
    assert template is not None
    assert template.title in message.text
    assert message.text.startswith("EVY ALERT 1 ")
    assert "he is bleeding (number)" in message.text
    assert "Reply 1 if you go, 2 if you cannot." in message.text
    assert message.text.count("{number}") == 1
    assert (message.about_ref, message.lane, message.kind) == ("pia", "flash", "alert")


async def test_an_alert_about_somebody_who_may_be_hiding_says_so_and_nothing_is_sent_to_the_person() -> None:
    room = Room()
    texts = await room.alert("he is at the door", topic="violence_attack", needs=("violence",))
    assert "Do NOT call or text {number}" in texts[0].text
    texts += await room.reply(ONE)
    texts += await room.reply(ONE, "cannot")
    texts += await room.later(10_000)
    assert to_person(texts) == []
    assert "alert_not_told" in room.kinds()
    # Whoever holds the phone may text that all is well.
    room = Room()
    await room.alert("he is at the door", topic="violence_attack", needs=("violence",))
    [update] = await room.alert("I am safe", kind="safe", topic="")
    assert update.text == "EVY 1: {number} also wrote: I am safe"
    assert (await room.case()).state != "closed"


@pytest.mark.parametrize("text", ["\u0905\u0917 " * 80, "x" * 400, "a\u20ac" * 200, "\U0001f198" * 300])
@pytest.mark.parametrize("topic", ["bleeding", "violence_attack"])
async def test_an_alert_keeps_to_its_segments(text: str, topic: str) -> None:
    [message] = to(await Room().alert(text, topic=topic), ONE)
    [cut] = segment([message.text.replace("{number}", "+5091234567890")])
    assert cut.count <= (2 if cut.encoding == "gsm7" else 3)


async def test_needs_choose_the_responders_and_with_none_an_event_says_that_nobody_heard() -> None:
    fire = Contact("Fire", "+50922222222", needs=("fire",))
    nurse = Contact("Nurse", "+50933333333", needs=("medical",))
    texts = await Room(fire, nurse).alert()
    assert not to(texts, fire)
    assert to(texts, nurse)
    assert to(await Room(fire, nurse).alert(needs=()), fire)  # what is needed was not understood
    room = Room(fire)
    assert await room.alert() == []
    assert room.events[-1].kind == "alert_unheard"
    assert await room.later(10_000) == []  # nobody was asked: there is nothing to tell


async def test_a_responder_in_danger_is_not_asked_to_go_to_themselves() -> None:
    room = Room(ONE, TWO, at_once=1)
    asked = [sms.number for sms in await room.alert(sender=ref(ONE.number)) if sms.number]
    asked += [sms.number for sms in await room.later(181) if sms.number]
    assert asked == [TWO.number]


# ── coalescing ────────────────────────────────────────────────────────────────────────────────────────────


async def test_alerts_of_one_person_coalesce_until_something_new() -> None:
    room = Room()
    assert len(to(await room.alert(), ONE)) == 1
    assert await room.alert() == []
    [third] = await room.alert("still bleeding")
    assert third.text == "EVY 1: 2 more texts from {number}, last: still bleeding"
    assert await room.alert() == []
    assert len(await room.alert("and a fire", needs=("fire",))) == 1
    room.now_s += 901
    assert len(to(await room.alert(), ONE)) == 1
    assert (await room.case()).number == 1
    assert "EVY ALERT 2 " in to(await room.alert(sender="ben"), ONE)[0].text


async def test_a_new_need_asks_who_is_there_for_it() -> None:
    fire = Contact("Fire", "+50922222222", needs=("fire",))
    nurse = Contact("Nurse", "+50933333333", needs=("medical",))
    room = Room(fire, nurse)
    await room.alert()
    texts = await room.alert("now the roof burns", needs=("fire",), topic="fire_trapped")
    assert "Reply 1" in to(texts, fire)[0].text
    assert "more texts" in to(texts, nurse)[0].text


async def test_silence_of_two_hours_ends_a_case() -> None:
    room = Room()
    await room.alert()
    room.now_s += 7201
    assert "EVY ALERT 2 " in to(await room.alert(), ONE)[0].text


async def test_a_person_who_texts_again_after_nobody_answered_has_everybody_asked_again() -> None:
    room = Room()
    await room.alert()
    assert to_person(await room.later(181)) == [said("told_unheard")]
    await room.later(800)
    assert "EVY ALERT 2 " in to(await room.alert(), ONE)[0].text
    assert to_person(await room.later(181)) == [said("told_unheard")]


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_coming_is_confirmed_to_the_responder_and_the_person_learns_of_it_once() -> None:
    room = Room(ONE, TWO)
    await room.alert()
    texts = await room.reply(ONE)
    assert [sms.text for sms in texts if sms.sender_ref == "ref-Ana"] == [said("reply_coming", case=1)]
    [told] = to_person(texts)
    assert told[2] == ":"
    assert told[6:] == said("told_coming")
    texts = await room.reply(TWO)
    assert [sms.text for sms in texts] == [said("reply_coming_too", case=1, count=1)]
    assert await room.later(10_000) == []
    assert room.kinds().count("alert_coming") == 2


async def test_without_a_clock_nothing_says_a_time() -> None:
    room = Room()
    room.time = None
    [alert] = to(await room.alert(received_at=NOON), ONE)
    assert alert.text.startswith("EVY ALERT 1 Severe bleeding. {number}")
    assert to_person(await room.reply(ONE)) == [said("told_coming")]


def test_the_clock_is_what_the_node_says_and_without_a_node_actor_what_is_plausible() -> None:
    assert clock_of(lambda: NodeState(node="n1", at=5.0, clock="unset"))() is None
    assert clock_of(lambda: NodeState(node="n1", at=5.0, clock="sms"))() is not None
    assert clock_of(lambda: NodeState(node="n1"))() is not None


async def test_the_person_is_told_in_their_language() -> None:
    room = Room()
    await room.alert(lang="es")
    assert to_person(await room.reply(ONE))[0][6:] == said("told_coming", "es")


async def test_a_responder_who_cannot_after_all_is_no_secret() -> None:
    room = Room(ONE, TWO, THREE, at_once=1)
    await room.alert()
    await room.reply(ONE)
    room.now_s += 200
    texts = await room.reply(ONE, "cannot")
    assert to_person(texts) == [said("told_withdrawn")]
    assert to(texts, TWO)  # the time to wait had passed: the next is asked at once
    assert to_person(await room.reply(TWO))[0].endswith(said("told_coming"))
    assert (await room.case()).told == ("coming", "withdrawn", "coming")


async def test_a_responder_who_changes_their_mind_for_ever_sends_the_person_six_texts_at_most() -> None:
    room = Room()
    await room.alert()
    texts = []
    for _ in range(20):
        texts += await room.reply(ONE)
        texts += await room.reply(ONE, "cannot")
    assert len(to_person(texts)) == 6


async def test_the_latest_case_is_meant_or_the_one_whose_number_is_given() -> None:
    room = Room()
    for sender in ("pia", "quin", "rosa"):
        await room.alert(sender=sender)
    await room.reply(ONE)
    assert [(await room.case(s)).state for s in ("pia", "quin", "rosa")] == ["asking", "asking", "coming"]
    await room.reply(ONE, case=2)
    await room.reply(ONE, "cannot", case=1)
    assert [(await room.case(s)).state for s in ("pia", "quin", "rosa")] == ["unheard", "coming", "coming"]
    [unknown] = await room.reply(ONE, case=77)
    assert unknown.text == said("reply_unknown", case=77, yours="1, 2, 3")


async def test_nobody_answers_for_a_case_they_were_not_asked_about() -> None:
    room = Room(ONE, TWO, at_once=1)
    await room.alert()
    [unknown] = await room.reply(TWO, case=1)
    assert unknown.text == said("reply_unknown", case=1, yours="-")
    assert (await room.case()).state == "asking"


async def test_an_answer_after_the_person_is_safe_is_told_so_and_nobody_else_is_asked() -> None:
    room = Room(ONE, TWO, at_once=1)
    await room.alert()
    [update] = await room.alert("I am safe", kind="safe", topic="", needs=())
    assert update.text == said("alert_safe", case=1, number="{number}")
    [late] = await room.reply(ONE)
    assert late.text == said("reply_closed", case=1)
    assert await room.later(10_000) == []
    assert "EVY ALERT 2" in to(await room.alert(), ONE)[0].text


async def test_an_answer_after_everybody_was_asked_in_vain_still_counts() -> None:
    room = Room()
    await room.alert()
    await room.later(181)
    assert to_person(await room.reply(ONE))[0].endswith(said("told_coming"))
    assert (await room.case()).state == "coming"


async def test_a_stop_before_the_emergency_does_not_silence_it_and_one_after_it_does() -> None:
    room = Room()
    await room.consents.put("pia", b'{"stopped":true,"history":[[1.0,"stop a"]]}')
    await room.alert()
    assert to_person(await room.reply(ONE))
    await room.consents.put("pia", b'{"stopped":true,"history":[[1.0,"stop a"],[2.0,"stop b"]]}')
    assert to_person(await room.reply(ONE, "cannot")) == []
    assert [e.fields["reason"] for e in room.events if e.kind == "alert_not_told"] == ["STOP", "STOP"]


# ── escalation ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("lane", "wait_s"), [("flash", 180), ("priority", 900)])
async def test_the_next_are_asked_when_nobody_says_yes_in_time(lane: Lane, wait_s: float) -> None:
    room = Room(ONE, TWO, THREE, at_once=1)
    texts = await room.alert(lane=lane)
    assert [sms.number for sms in texts if sms.number] == [ONE.number]
    assert await room.later(wait_s - 1) == []
    assert [sms.number for sms in await room.later(1)] == [TWO.number]
    assert [sms.number for sms in await room.later(wait_s)] == [THREE.number]
    assert to_person(await room.later(wait_s)) == [said("told_unheard")]
    assert room.events[-2].kind == "alert_unheard"
    assert await room.later(wait_s) == []


async def test_the_next_are_asked_at_once_when_all_say_that_they_cannot() -> None:
    room = Room(ONE, TWO, THREE)
    await room.alert()
    assert len(await room.reply(ONE, "cannot")) == 1  # the other may still go
    texts = await room.reply(TWO, "cannot")
    assert to(texts, THREE)
    texts = await room.reply(THREE, "cannot")
    assert to_person(texts) == [said("told_unheard")]


async def test_who_is_near_and_on_duty_is_asked_first_and_nobody_is_left_out() -> None:
    day = Contact("Day", "+50910000001", hours=("08:00-18:00",))
    far = Contact("Far", "+50910000002", areas=("South Bank",))
    near = Contact("Near", "+50910000003", areas=("Mill Road", "North Bank"))
    late = Contact("Late", "+50910000004", order=5)
    room = Room(day, far, late, near, at_once=1)
    room.time = _local(20)
    await room.sessions.put(
        "pia",
        msgspec.json.encode(
            {"whereabouts": Whereabouts(Place("house 5, MILL-ROAD"), "q0", NOON, "b1", 900.0)}
        ),
    )
    asked = [sms.number for sms in await room.alert() if sms.number]
    for _ in range(3):
        asked += [sms.number for sms in await room.later(180)]
    assert asked == [near.number, late.number, far.number, day.number]


def _local(hour: int) -> float:

    return time.mktime((2027, 1, 15, hour, 0, 0, 0, 0, -1))


async def test_a_reboot_goes_on_with_what_was_open_and_begins_the_wait_anew() -> None:
    room = Room(ONE, TWO, at_once=1)
    await room.alert()
    room.boot, room.now_s = "b2", 5.0
    room.start()
    assert await room.later(0) == []
    assert await room.later(179) == []
    assert [sms.number for sms in await room.later(1)] == [TWO.number]
    # And the person's next text is passed on, in the same case.
    room.boot, room.now_s = "b3", 50_000.0
    assert {sms.text for sms in await room.alert("still here")} == {
        "EVY 1: 1 more texts from {number}, last: still here"
    }


# ── crashes ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_redelivered_text_changes_nothing() -> None:
    room = Room(ONE, TWO)
    assert await room.alert(query_id="same")
    assert await room.alert(query_id="same") == []
    await room.reply(ONE, query_id="r")
    before = await room.case()
    assert await room.reply(ONE, query_id="r") == []
    assert await room.case() == before
    assert before.count == 1


@pytest.mark.parametrize("seed", range(8))
async def test_killed_anywhere_each_text_goes_out_once(seed: int) -> None:
    """A story with a crash wherever the seed chooses, each message delivered until it is handled."""

    async def story(crashes: random.Random | None) -> dict[tuple[str, str, int], str]:
        room = Room(ONE, TWO, THREE, at_once=1)

        async def deliver(do: Any) -> None:
            while True:
                room.publishes_left = crashes.randint(0, 2) if crashes else 10**6
                try:
                    await do()
                except BusError:
                    room.start()
                    continue
                return

        await deliver(lambda: room.alert(query_id="q1"))
        await deliver(lambda: room.alert("and a fire", needs=("fire",), query_id="q2"))
        await deliver(lambda: room.later(0))
        room.now_s += 200
        await deliver(lambda: room.later(0))
        await deliver(lambda: room.reply(ONE, "cannot", query_id="r1"))
        await deliver(lambda: room.reply(TWO, query_id="r2"))
        await deliver(lambda: room.alert("Mill Rd", kind="place", place=Place("Mill Rd"), query_id="q3"))
        await deliver(lambda: room.reply(TWO, "cannot", query_id="r3"))
        room.now_s += 200
        await deliver(lambda: room.later(0))
        return {key: sms.text for key, sms in room.sent.items()}

    assert await story(random.Random(seed)) == await story(None)


async def something(room: Room, chance: random.Random) -> list[OutboundSms]:
    """One thing that may happen to an open case."""
    match chance.randint(0, 6):
        case 0:
            return await room.alert(f"text {room.now_s}", needs=chance.choice((("medical",), ("fire",))))
        case 1 | 2:
            answer: ResponderAnswer = chance.choice(("coming", "cannot"))
            return await room.reply(chance.choice(room.contacts), answer)
        case 3:
            place = Place(f"house {chance.randint(1, 9)}")
            return await room.alert(place.text, kind="place", place=place)
        case 4:
            room.boot, room.now_s = f"b{room.now_s}", chance.uniform(1, 50)
            room.start()
            return await room.alert(f"words {room.now_s}", kind="words")
        case _:
            return await room.later(chance.choice((1.0, 60.0, 200.0, 1000.0)))


@pytest.mark.parametrize("seed", range(25))
async def test_whatever_happens_the_person_is_told_what_is_true_at_that_moment(seed: int) -> None:
    chance = random.Random(seed)
    room = Room(ONE, TWO, THREE, at_once=chance.randint(1, 3))
    told: list[str] = []
    await room.alert()
    for _ in range(120):
        texts = to_person(await something(room, chance))
        goes = any(one.answer == "coming" for one in (await room.case()).asked)
        for text in texts:
            told.append(text)
            if text.endswith(said("told_coming")):
                assert goes, told
            elif text in {said("told_withdrawn"), said("told_unheard")}:
                assert not goes, told
    assert told


# ── place ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_place_is_asked_once_and_goes_to_who_was_asked_and_to_who_is_asked_later() -> None:
    room = Room(ONE, TWO, at_once=1)
    assert to_person(await room.alert()) == [said("ask_place")]
    assert await room.alert("more blood") == []
    place = Place("5 Mill Rd")
    [update] = await room.alert("5 Mill Rd", kind="place", place=place, needs=(), topic="")
    assert update.text == said("alert_place", case=1, number="{number}", place="5 Mill Rd")
    assert await room.alert("5 Mill Rd", kind="place", place=place) == []
    assert "Place: 5 Mill Rd." in to(await room.later(181), TWO)[0].text


async def test_a_person_who_moves_all_the_time_does_not_use_up_the_responders_texts() -> None:
    room = Room()
    await room.alert()
    texts = []
    for number in range(30):
        texts += await room.alert(f"{number} Mill Rd", kind="place", place=Place(f"{number} Mill Rd"))
    assert len(texts) == 5
    place = (await room.case()).place
    assert place is not None
    assert place.text == "29 Mill Rd"


async def test_other_words_are_passed_on_five_times_and_later_a_safe_still_is() -> None:
    room = Room()
    await room.alert()
    [first] = await room.alert("second floor, blue door {number}", kind="words", needs=(), topic="")
    assert first.text == "EVY 1: {number} also wrote: second floor, blue door (number)"
    texts = []
    for number in range(20):
        texts += await room.alert(f"words {number}", kind="words", needs=(), topic="")
    assert len(texts) == 4
    assert "alert_coalesced" in room.kinds()
    assert len(await room.alert("safe", kind="safe", needs=(), topic="")) == 1


async def test_a_place_that_is_known_is_not_asked_for_and_its_age_is_said() -> None:
    room = Room()
    for sender, boot, at, at_s in (("pia", "b1", 0.0, 900.0), ("quin", "b0", NOON - 7200, 5.0)):
        known = Whereabouts(Place("green house", -18.9, 47.5), "q0", at, boot, at_s)
        await room.sessions.put(sender, msgspec.json.encode({"whereabouts": known, "lang": "en"}))
    texts = await room.alert()
    assert len(texts) == 1
    assert "Place: green house -18.90000,47.50000." in texts[0].text
    [other] = await room.alert(sender="quin")
    assert "Last known place, 2 h ago: green house" in other.text


async def test_the_place_is_not_asked_where_nobody_is_asked_or_the_reply_asks_already() -> None:
    assert to_person(await Room(Contact("F", "+5092222222", needs=("fire",))).alert()) == []
    assert to_person(await Room().alert(place_asked=True)) == []


async def test_a_place_or_a_safe_without_a_case_is_nothing() -> None:
    room = Room()
    assert await room.alert("Mill Rd", kind="place", place=Place("Mill Rd")) == []
    assert await room.alert("safe", kind="safe") == []
    assert await room.cases.keys("case.") == []


# ── caps and digests ──────────────────────────────────────────────────────────────────────────────────────


async def test_many_in_danger_at_once_are_in_a_digest_and_each_is_told_of_or_seen_to_be_left_out() -> None:
    room = Room()
    texts = []
    for number in range(40):
        texts += await room.alert(sender=f"p{number}")
        texts += await room.later(1)
    for _ in range(120):
        texts += await room.later(30)
    mine = to(texts, ONE)
    single = [sms for sms in mine if sms.text.startswith("EVY ALERT")]
    digests = [sms for sms in mine if "people in danger" in sms.text]
    assert len(single) == 15
    assert 1 <= len(digests) <= 5
    assert len(mine) <= 20
    held = [event for event in room.events if event.kind == "alert_held"]
    listed = [n for event in room.events if event.kind == "alert_digest" for n in event.fields["cases"]]
    assert len(held) == 25
    assert sorted(set(listed)) == listed
    for sms in digests:
        [cut] = segment([sms.text])
        assert cut.count <= 2
    # Answering for one of them brings the number and the words.
    texts = await room.reply(ONE, case=listed[0])
    assert [sms.text[:13] for sms in to(texts, ONE)] == [f"EVY ALERT {listed[0]} "]


async def test_in_any_hour_a_responder_gets_no_more_than_the_cap() -> None:
    room = Room()
    times: list[float] = []
    for number in range(150):
        texts = await room.alert(sender=f"p{number}") + await room.later(60)
        times += [room.now_s] * len(to(texts, ONE))
    assert len(times) > 25
    for at in times:
        assert sum(at <= other < at + 3600 for other in times) <= 20
    entry = await room.cases.get(rota_key(ONE.key))
    assert entry is not None
    assert len(entry[0]) < 40_000


async def test_what_no_digest_has_room_for_is_an_event_and_asks_the_next() -> None:
    room = Room(ONE, TWO, at_once=1)
    for number in range(230):
        await room.alert(sender=f"p{number}")
    dropped = [event.fields["case"] for event in room.events if event.kind == "alert_dropped"]
    assert dropped == list(range(216, 231))
    assert to(await room.later(0), TWO)  # nobody waits for who was not asked


async def test_a_responder_who_texted_stop_is_left_alone_and_the_next_is_asked() -> None:
    room = Room(ONE, TWO, at_once=1)
    await room.consents.put(REF_ONE, b'{"stopped":true,"history":[]}')
    texts = await room.alert() + await room.later(0)
    assert [sms.number for sms in texts if sms.number] == [TWO.number]
    assert [e.fields["reason"] for e in room.events if e.kind == "alert_dropped"] == ["STOP"]
    # Asked, and STOP after that: their answer is answered, and nothing else comes.
    await room.consents.put(REF_TWO, b'{"stopped":true,"history":[]}')
    assert [sms.kind for sms in await room.reply(TWO)] == ["notice", "reply"]
    assert to(await room.alert("Mill Rd", kind="place", place=Place("Mill Rd")), TWO) == []


async def test_flash_is_first_in_a_digest() -> None:
    room = Room(per_hour=10)
    for number in range(5):
        await room.alert(sender=f"p{number}")
    await room.alert(sender="water", lane="priority", topic="", needs=("water",))
    await room.alert(sender="blood")
    [digest] = to(await room.later(31), ONE)
    assert digest.text.startswith("EVY: 2 people in danger: 7 Severe bleeding; 6 water")


async def test_a_flood_of_one_person_costs_the_responder_little() -> None:
    room = Room()
    texts = []
    for number in range(200):
        texts += await room.alert(f"help {number} " + "x" * 10_000)
        room.now_s += 1
    assert len(texts) <= 7
    entry = await room.cases.get(case_key("pia"))
    assert entry is not None
    assert len(entry[0]) < 5_000


async def test_a_digest_left_by_a_crash_goes_out_once() -> None:
    room = Room(per_hour=10)
    for number in range(8):
        await room.alert(sender=f"p{number}")
    room.publishes_left = 0
    room.now_s += 31
    with pytest.raises(BusError):
        await room.alerts.look()
    room.publishes_left = 100
    room.start()
    assert len(to(await room.later(0), ONE)) == 1
    assert to(await room.later(0), ONE) == []


def test_a_text_that_was_in_a_digest_is_not_sent_when_it_is_decided_again() -> None:
    case, said = Case(number=7), Said(ONE.key, "long", "en", "q7", 0, brief="7 water", asks=True)
    rota = Rota(boot_id="b1", sent=tuple((0.0, f"x{n}.0") for n in range(15)))
    rota, verdict = admitted(rota, said, case, "pia", 0.0, per_hour=20)
    assert verdict == "held"
    rota, listed, left = with_digest(rota, ONE, Words(TEXTS, lambda: NOON), 60.0)
    assert (listed, left) == ([7], 0)
    again, verdict = admitted(current(rota, "b1", 4000.0), said, case, "pia", 4000.0, per_hour=20)
    assert verdict == "held"
    assert not again.held


async def test_a_responder_taken_out_of_the_file_is_no_crash() -> None:
    room = Room(ONE, TWO)
    room.publishes_left = 0
    with pytest.raises(BusError):
        await room.alert()
    room.publishes_left, room.contacts = 100, (TWO,)
    room.start()
    assert [sms.number for sms in await room.later(0) if sms.number] == [TWO.number]
    assert "alert_dropped" in room.kinds()
    assert await room.reply(ONE) == []


async def test_a_record_of_an_earlier_evy_is_replaced() -> None:
    room = Room()
    old = b'{"boot_id":"b1","opened_s":990.0,"count":2,"needs":["medical"],"queries":[["q0",1]]}'
    await room.cases.put(case_key("pia"), old)
    assert "EVY ALERT 1 " in to(await room.alert(), ONE)[0].text


@pytest.mark.parametrize("junk", [b"", b"\x00\xff", b'{"number": "x"}', b"[1", b"null"])
async def test_records_that_cannot_be_read_stop_nobody(junk: bytes) -> None:
    room = Room()
    for key in (case_key("pia"), case_key("quin"), rota_key(ONE.key), "counter"):
        await room.cases.put(key, junk)
    await room.later(0)
    assert to(await room.alert(), ONE)
    assert to_person(await room.reply(ONE))
    await room.later(0)
    assert "alert_unreadable" in room.kinds()


def test_waits_are_configured_by_lane() -> None:
    config = msgspec.convert({"wait_s": {"flash": 60}}, AlertConfig)
    assert config.wait_s == Waits(flash=60, priority=900)
    assert Rota().asked == ()


# ── over the mesh ─────────────────────────────────────────────────────────────────────────────────────────

ON_MESH = NodeState(node="n1", mesh=MeshState(radio="up", neighbours=1))


def packets(room: Room) -> list[MeshPacket]:
    return list(room.over_mesh.values())


async def test_when_nobody_here_goes_the_other_nodes_are_told_place_and_need_and_nothing_else() -> None:
    room = Room(ONE)
    room.state = ON_MESH
    await room.alert("my leg, call 0712 345 678", place=Place("the mill", 1.5, 36.5))
    assert packets(room) == []
    await room.reply(ONE, "cannot")
    [packet] = packets(room)
    assert (packet.lane, packet.peer) == ("flash", 0)
    assert packet.alert is not None
    assert (packet.alert.needs, packet.alert.place) == (("medical",), Place("the mill", 1.5, 36.5))
    assert (packet.alert.text, packet.alert.topic, packet.alert.query_id) == ("", "bleeding", "q1")
    assert "alert_neighbours" in room.kinds()
    await room.alert("by the river", kind="place", place=Place("by the river"))
    assert [one.alert.place.text for one in packets(room) if one.alert and one.alert.place] == [
        "the mill",
        "by the river",
    ]
    await room.alert("I am safe", kind="safe")
    assert packets(room)[-1].alert is not None
    assert packets(room)[-1].alert.kind == "safe"  # type: ignore[union-attr]  # asserted the line before


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (msgspec.structs.replace(ON_MESH, modems=(ModemState(name="m", state="dead"),)), 1),
        (msgspec.structs.replace(ON_MESH, modems=(ModemState(name="m", state="up", registered=False),)), 1),
        (msgspec.structs.replace(ON_MESH, modems=(ModemState(name="m", state="up"),)), 0),
        (NodeState(node="n1", mesh=MeshState(radio="down"), modems=(ModemState(name="m", state="dead"),)), 0),
        (NodeState(node="n1", modems=(ModemState(name="m", state="dead"),)), 0),
    ],
)
async def test_a_node_without_a_modem_tells_the_others_at_once(state: NodeState, told: int) -> None:
    room = Room()
    room.state = state
    await room.alert()
    assert len(packets(room)) == told


async def test_a_responder_of_another_node_is_one_answer_and_the_person_hears_of_it() -> None:
    room = Room(ONE)
    room.state = ON_MESH
    await room.alert()
    await room.reply(ONE, "cannot")
    coming = ResponderReply(
        query_id="r9", node="n1", sender_ref="pia", responder="mesh7", answer="coming", lane="flash"
    )
    before = len(room.sent)
    for _ in range(2):
        assert await room.alerts.replied(coming) == []
    told = to_person(list(room.sent.values())[before:])
    assert told == [said("told_coming", time=time.strftime("%H:%M", time.localtime(NOON)))]
    assert [event.fields for event in room.events if event.kind == "alert_coming"] == [
        {"responder": "mesh node 7", "case": 1}
    ]
    gone = msgspec.structs.replace(coming, query_id="r10", answer="cannot")
    await room.alerts.replied(gone)
    assert said("told_withdrawn") in to_person(list(room.sent.values()))
    # A node that nobody told of a case cannot answer for one.
    quiet = Room(ONE)
    await quiet.alert()
    await quiet.alerts.replied(coming)
    assert (await quiet.case()).state == "asking"


async def test_somebody_at_another_node_is_a_case_here_whose_news_goes_there() -> None:
    room = Room(ONE)
    room.state = ON_MESH
    texts = await room.alert(
        "", sender="mesh7-0a1b2c3d", origin="7.0a1b2c3d", place=Place("the mill"), place_asked=True
    )
    [message] = texts
    assert message.number == ONE.number
    assert "EVY 7: medical" in message.text
    assert "the mill" in message.text
    assert "{number}" not in message.text
    await room.reply(ONE)
    await room.reply(ONE, "cannot")
    assert [(packet.peer, packet.reply) for packet in packets(room)] == [
        (7, MeshReply("0a1b2c3d", "coming")),
        (7, MeshReply("0a1b2c3d", "unheard")),
    ]
    assert [sms for sms in room.sent.values() if not sms.number and sms.sender_ref.startswith("mesh")] == []
    await room.reply(ONE)
    [safe] = await room.alert("", sender="mesh7-0a1b2c3d", origin="7.0a1b2c3d", kind="safe")
    assert safe.number == ONE.number
