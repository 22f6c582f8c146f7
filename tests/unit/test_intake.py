"""intake: commands, consent, repeats and floods, and everything that must not be answered."""

import asyncio
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from evy_core import segment

from actors._bulletins.places import BulletinConfig, PlaceConfig
from actors._people.cases import AskedAbout, Case, Rota, case_key, rota_key
from actors._people.consent import Consent, renew_numbers
from actors._people.contacts import Contact
from actors._people.heard import language_detector, topic_finder
from actors._people.texts import first_part, plain_words, visible
from actors._runtime import clock
from actors._runtime.actor import Output
from actors._runtime.memory import MemoryKeyValue
from actors.intake import Intake
from actors.knowledge import SHIPPED, Texts, triager
from subjects import names
from subjects.messages import Alert, Answer, Event, InboundSms, OutboundSms, Query, ResponderReply
from subjects.names import Lane

TEXTS = Texts.load()
CODES = " ".join(sorted(TEXTS.languages))
ANA = "+50912345678"
BEN = "+50987654321"
MARIE = Contact("Marie", "+50933333333")


def ref(number: str) -> str:
    """A pseudonym that a bucket takes as a key, as the node's own are."""
    return f"ref-{number.removeprefix('+')}"


PLACES = BulletinConfig(
    places={
        "lake": PlaceConfig("Lakeside", words=("the lake", "झील")),
        "mill": PlaceConfig("Millbrook", latitude=1.0, longitude=2.0),
    }
)


class Desk:
    """An intake with its buckets in memory and a way to text it."""

    def __init__(self, lang: str = "en") -> None:
        self.session, self.consent, self.numbers = MemoryKeyValue(), MemoryKeyValue(), MemoryKeyValue()
        self.alerts = MemoryKeyValue()
        self.events: list[Event] = []
        self.count = 0
        self.texts_now = TEXTS
        self.intake = Intake(
            node="n1",
            sender_ref=ref,
            texts=TEXTS,
            language_of=lambda text, _: "es" if "agua" in text else None,
            topic_of=topic_finder(triager()),
            session=self.session,
            consent=self.consent,
            numbers=self.numbers,
            emit=self.events.append,
            alerts=self.alerts,
            contacts=(MARIE,),
            own_numbers=frozenset({"+15550001111"}),
            lang=lang,
            texts_now=lambda: self.texts_now,
            bulletins=PLACES,
        )

    async def text(self, text: str, sender: str = ANA, lane: Lane = "routine", **fields: Any) -> list[Output]:
        self.count += 1
        sms = InboundSms(
            **{
                "id": f"q{self.count}",
                "node": "n1",
                "sender": sender,
                "text": text,
                "lane": lane,
                "deadline": clock.deadline_in(15),
                **fields,
            }
        )
        return list(await self.intake.handle(sms))

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def only(outputs: list[Output], of: type[Any]) -> Any:
    found = [output.message for output in outputs if isinstance(output.message, of)]
    assert len(found) == 1, outputs
    return found[0]


async def test_a_question_goes_to_route_without_the_number(desk: Desk) -> None:
    [output] = await desk.text("how do I clean a wound")
    assert output.subject == names.ROUTE
    query = only([output], Query)
    assert query.text == "how do I clean a wound"
    assert ANA not in msgspec.json.encode(query).decode().replace(ref(ANA), "")
    assert await desk.numbers.get(ref(ANA)) == (ANA.encode(), 1)


async def test_the_number_is_written_once_a_day_not_once_a_text(desk: Desk) -> None:
    for number in range(3):
        await desk.text(f"question {number}")
    entry = await desk.numbers.get(ref(ANA))
    assert entry is not None
    assert entry[1] == 1


async def test_help_is_a_menu_in_the_priority_lane_and_1_means_danger(desk: Desk) -> None:
    [output] = await desk.text("HELP")
    assert output.lane == "priority"
    assert only([output], OutboundSms).text == TEXTS.say("help_menu", "en")
    outputs = await desk.text("1")
    assert only(outputs, OutboundSms).text == TEXTS.say("danger_ask", "en")
    assert only(outputs, OutboundSms).lane == "flash"
    assert only(outputs, Alert).priority == "emergency"


@pytest.mark.parametrize(
    ("help_", "one"), [("मदद करो!", "१"), ("مُساعدة", "١"), ("Tulong po", "1."), ("NISAIDIE", "1")]
)
async def test_the_menu_is_opened_and_answered_in_any_script(desk: Desk, help_: str, one: str) -> None:
    await desk.text(help_)
    assert only(await desk.text(one), Alert).priority == "emergency"


@pytest.mark.parametrize(
    ("text", "notice"),
    [
        ("बंद करो।", "stop_done"),
        ("أوقف", "stop_done"),
        ("ITIGIL", "stop_done"),
        ("Sitisha", "stop_done"),
        ("शुरू करें", "start_done"),
        ("إبدأ", "start_done"),
        ("जानकारी", "info"),
        ("معلومات", "info"),
        ("भाषा", "lang_list"),
        ("Wika", "lang_list"),
    ],
)
async def test_commands_are_taken_in_scripts_of_their_own(desk: Desk, text: str, notice: Any) -> None:
    said = only(await desk.text(text), OutboundSms).text
    assert said == TEXTS.say(notice, "en", **({"codes": CODES} if notice == "lang_list" else {}))


async def test_the_rest_and_the_language_are_asked_for_in_any_script(desk: Desk) -> None:
    assert only(await desk.text("और बताओ"), Answer).more
    assert only(await desk.text("المزيد"), Answer).more
    said = only(await desk.text("भाषा hi"), OutboundSms)
    assert said.text == TEXTS.say("lang_set", "hi", language="Hindi")


async def test_1_without_the_menu_is_only_a_text(desk: Desk) -> None:
    [output] = await desk.text("1")
    assert output.subject == names.ROUTE


async def test_help_that_triage_heard_as_an_emergency_is_not_a_menu(desk: Desk) -> None:
    [output] = await desk.text("SOCORRO", lane="flash")
    assert output.subject == names.ROUTE


@pytest.mark.parametrize("text", ["STOP", " stop ", "Stop.", "ARRÊTER"])
async def test_stop_ends_unsolicited_texts_and_emergencies_are_still_answered(desk: Desk, text: str) -> None:
    [output] = await desk.text(text)
    assert only([output], OutboundSms).text == TEXTS.say("stop_done", "en")
    query = only(await desk.text("my brother is bleeding badly", lane="flash"), Query)
    assert query.session.unsolicited_ok is False
    await desk.text("START")
    assert only(await desk.text("hello there"), Query).session.unsolicited_ok is True


@pytest.mark.parametrize("text", ["please stop the bleeding", "stop stop", "how to stop a nosebleed"])
async def test_stop_must_be_the_whole_message(desk: Desk, text: str) -> None:
    [output] = await desk.text(text)
    assert output.subject == names.ROUTE
    assert await desk.consent.keys() == []


async def test_consent_keeps_its_history_and_a_redelivery_adds_nothing(desk: Desk) -> None:
    await desk.text("STOP", id="same")
    await desk.text("STOP", id="same")
    await desk.text("START")
    entry = await desk.consent.get(ref(ANA))
    assert entry is not None
    consent = msgspec.json.decode(entry[0], type=Consent)
    assert [note.split()[0] for _, note in consent.history] == ["stop", "start"]


async def test_language_is_chosen_guessed_or_refused_by_name(desk: Desk) -> None:
    assert only(await desk.text("hay agua limpia?"), Query).lang == "es"
    assert only(await desk.text("ok"), Query).lang == "es"
    assert "Español" in only(await desk.text("LANG es"), OutboundSms).text
    assert only(await desk.text("how are you"), Query).session.lang_chosen is True
    assert only(await desk.text("LANG xx"), OutboundSms).text.startswith(
        TEXTS.say("lang_unknown", "es", codes="")[:8]
    )
    assert "es" in only(await desk.text("LANG"), OutboundSms).text


def test_few_words_tell_a_language_that_nobody_knows_yet_and_more_are_needed_to_change_it() -> None:
    language_of = language_detector(triager())
    assert language_of("como se que estoy deshidratado", "") == "es"
    assert language_of("nimepoteza kitambulisho", "") == "sw"
    assert language_of("nimepoteza kitambulisho", "fr") is None
    assert language_of("donde puedo encontrar agua limpia para mi familia", "fr") == "es"
    assert language_of("Maria", "") is None
    articles = [article for article in TEXTS.articles() if article.lang == "es"]
    asked = [question for article in articles for question in article.questions]
    assert sum(language_of(question, "") == "es" for question in asked) >= 0.93 * len(asked)


async def test_more_goes_to_compress(desk: Desk) -> None:
    [output] = await desk.text("more")
    assert output.subject == names.COMPRESS
    assert only([output], Answer).more is True


async def test_info_explains_a_source_tag_and_info_about_water_is_a_question(desk: Desk) -> None:
    for source in TEXTS.sources[:4]:
        for asked in (f"INFO {source.tag}", f"info [{source.tag.lower()}]"):
            said = only(await desk.text(asked), OutboundSms).text
            assert all(
                part in said for part in (source.tag, source.organisation, source.document, str(source.year))
            )
            assert segment([said])[0].encoding == "gsm7"
    unknown = TEXTS.say("info_unknown", "en", tag="X99")
    assert only(await desk.text("Info x99"), OutboundSms).text == unknown
    assert only(await desk.text("info"), OutboundSms).text == TEXTS.say("info", "en")
    for question in ("info water", "info on c1 and c2", "INFO 112"):
        [output] = await desk.text(question)
        assert output.subject == names.ROUTE


async def test_info_knows_a_source_that_came_after_the_start(desk: Desk, tmp_path: Path) -> None:
    mine = '[[source]]\nid = "mine"\ntag = "L9"\norganisation = "Our town"\ndocument = "Wells"\nyear = 2026\n'
    (tmp_path / "sources.toml").write_text(mine)
    desk.texts_now = Texts.load([SHIPPED, tmp_path])
    assert only(await desk.text("info l9"), OutboundSms).text == "L9: Our town, Wells (2026)"


@pytest.mark.parametrize("sender", ["CARRIER", "12345", "+15550001111", "", "+1555x0001111"])
async def test_nobody_to_answer(desk: Desk, sender: str) -> None:
    assert await desk.text("You won! Reply now", sender=sender) == []
    assert desk.kinds() == ["received", "ignored"]


@pytest.mark.parametrize("text", ["", "   ", "\x00\x07\x1b", "\u200b\u200d", "\n\r\n", "\ud800"])
async def test_nothing_visible_is_ignored_with_an_event(desk: Desk, text: str) -> None:
    assert await desk.text(text) == []
    assert desk.kinds() == ["received", "ignored"]


async def test_emoji_alone_is_a_text(desk: Desk) -> None:
    [output] = await desk.text("🆘👨‍👩‍👧")
    assert only([output], Query).text == "🆘👨‍👩‍👧"


async def test_the_same_text_is_answered_at_growing_gaps(desk: Desk) -> None:
    answered = [bool(await desk.text("Out of office", lane="flash")) for _ in range(20)]
    assert [n + 1 for n, yes in enumerate(answered) if yes] == [1, 2, 3, 4, 8, 16]


async def test_repeat_is_counted_for_the_alert_to_coalesce(desk: Desk) -> None:
    for expected in range(3):
        assert only(await desk.text("help he is bleeding!!", lane="flash"), Query).session.repeat == expected


async def test_a_flood_moves_to_routine_with_one_notice_and_flash_stays(desk: Desk) -> None:
    notices = 0
    for number in range(59):
        outputs = await desk.text(f"question number {number}", lane="priority")
        assert only(outputs, Query).lane == ("priority" if number < 20 else "routine")
        notices += len(outputs) - 1
    assert notices == 1
    assert only(await desk.text("she is not breathing", lane="flash"), Query).lane == "flash"
    assert await desk.text("question number 60") == []
    assert only(await desk.text("now he is bleeding", lane="flash"), Query).lane == "flash"


async def test_a_redelivered_text_gives_the_same_outputs(desk: Desk) -> None:
    deadline = clock.deadline_in(15)
    first = await desk.text("is this water ok", id="same", deadline=deadline)
    assert await desk.text("is this water ok", id="same", deadline=deadline) == first
    assert only(await desk.text("is this water ok"), Query).session.repeat == 1


async def test_an_incomplete_text_is_told_and_answered_only_when_life_is_at_risk(desk: Desk) -> None:
    [output] = await desk.text("how many drops of bl", parts=40, missing=1)
    assert only([output], OutboundSms).text == TEXTS.say("incomplete", "en")
    outputs = await desk.text("he is trapped under", lane="flash", parts=3, missing=1)
    assert only(outputs, Query).incomplete is True
    assert only(outputs, OutboundSms).kind == "notice"
    [output] = await desk.text("", parts=2, missing=2)
    assert only([output], OutboundSms).text == TEXTS.say("incomplete", "en")


async def test_ten_thousand_characters_are_answered_from_the_first_part(desk: Desk) -> None:
    text = "Is rain water safe to drink? " + "word " * 2000
    outputs = await desk.text(text)
    query = only(outputs, Query)
    assert query.text.startswith("Is rain water safe to drink? word")
    assert len(query.text) <= 1000
    assert query.text.endswith("word")
    assert only(outputs, OutboundSms).text == TEXTS.say("too_long", "en")
    assert only(await desk.text(text + "now he is bleeding", lane="flash"), Query).text.endswith("bleeding")


def test_words_are_compared_without_case_accents_and_punctuation() -> None:
    assert plain_words("  Arrêter!! ") == "ARRETER"
    assert plain_words("help...me") == "HELP ME"
    assert plain_words("«أُوقِف» ١٢") == "اوقف 12"
    assert plain_words("नहीं, ३\u200d!") == "नहीं 3"
    assert plain_words("\U0001f198 ...") == ""


def test_no_word_is_two_commands() -> None:
    table = tomllib.loads((SHIPPED / "commands.toml").read_text(encoding="utf-8"))
    words = [plain_words(word) for group in table.values() for word in group]
    assert [word for word in words if words.count(word) > 1] == []


def test_first_part_cuts_at_a_sentence_or_word_and_never_grows() -> None:
    assert first_part("One two. Three four five", 14) == "One two."
    assert first_part("a" * 50, 10) == "a" * 10
    assert visible("a\nb\x00c") == "a bc"


async def test_who_sends_a_picture_or_calls_is_told_once_in_a_while(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr("actors.intake.boot_s", lambda: now_s)
    await desk.text("hay agua?")
    for kind, every_s, words in (("picture", 86400.0, "fotos"), ("call", 3600.0, "llamadas")):
        [output] = await desk.text("", kind=kind, id=f"{kind}-1")
        assert isinstance(output.message, OutboundSms)
        assert words in output.message.text
        assert (output.message.kind, output.subject) == ("notice", names.SMS_OUT)
        # The same message after a crash says the same again; the next picture is not answered.
        assert [o.message for o in await desk.text("", kind=kind, id=f"{kind}-1")] == [output.message]
        assert await desk.text("", kind=kind) == []
        assert desk.events[-1].fields["reason"] == f"a {kind}; the sender was told lately"
        now_s += every_s
        assert len(await desk.text("", kind=kind)) == 1
        for machine in ("3020", "BANK OF X", "+15550001111"):
            assert await desk.text("", sender=machine, kind=kind) == []
    monkeypatch.setattr("actors.intake.boot_id", lambda: "another boot")
    assert len(await desk.text("", kind="call")) == 1


@pytest.mark.parametrize(("lang", "words"), [("es", "Solo leo textos"), ("en", "reads texts only")])
async def test_a_caller_nobody_knows_is_told_in_the_nodes_language(lang: str, words: str) -> None:
    desk = Desk(lang=lang)
    [output] = await desk.text("", kind="call", lane="priority")
    assert isinstance(output.message, OutboundSms)
    assert words in output.message.text
    assert (output.message.lang, output.lane) == (lang, "priority")


# ── responders and open cases ─────────────────────────────────────────────────────────────────────────────


async def asked(desk: Desk, *cases: AskedAbout) -> None:
    await desk.alerts.put(rota_key(MARIE.key), msgspec.json.encode(Rota(asked=cases)))


async def open_case(desk: Desk, **fields: Any) -> None:
    case = Case(**{"number": 1, "boot_id": clock.boot_id(), "heard_at_s": clock.boot_s(), **fields})
    await desk.alerts.put(case_key(ref(ANA)), msgspec.json.encode(case))


@pytest.mark.parametrize(
    ("text", "answer", "case"),
    [
        ("1", "coming", 0),
        ("1 7", "coming", 7),
        (" 2. ", "cannot", 0),
        ("2-7", "cannot", 7),
        ("Yes!", "coming", 0),
        ("coming 7", "coming", 7),
        ("Can't", "cannot", 0),
        ("ya voy", "coming", 0),
        ("NO PUEDO 7", "cannot", 7),
    ],
)
async def test_a_responder_who_was_asked_answers(desk: Desk, text: str, answer: str, case: int) -> None:
    await asked(desk, AskedAbout(7, "p", "priority"), AskedAbout(8, "q", "flash"))
    [output] = await desk.text(text, sender=MARIE.number)
    assert output.subject == names.ALERT_REPLY
    reply = only([output], ResponderReply)
    assert (reply.responder, reply.answer, reply.case) == (MARIE.key, answer, case)
    assert output.lane == reply.lane == ("priority" if case == 7 else "flash")
    assert MARIE.number not in msgspec.json.encode(reply).decode().replace(ref(MARIE.number), "")


async def test_a_responder_is_known_without_the_country_and_nobody_else_is(desk: Desk) -> None:
    await asked(desk, AskedAbout(7, "p"))
    for sender, known in (("0050933333333", True), ("050933333333", True), ("+33933333333", False)):
        [output] = await desk.text("1", sender=sender)
        assert (output.subject == names.ALERT_REPLY) is known, sender


@pytest.mark.parametrize(
    "text", ["1 child is hurt", "no water here", "2 people are trapped", "1 2 3", "17", "?"]
)
async def test_a_responders_other_texts_are_anybodys(desk: Desk, text: str) -> None:
    await asked(desk, AskedAbout(7, "p"))
    [output] = await desk.text(text, sender=MARIE.number)
    assert output.subject == names.ROUTE


async def test_a_responder_who_was_not_asked_and_a_stranger_text_like_anybody(desk: Desk) -> None:
    [output] = await desk.text("1", sender=MARIE.number)
    assert output.subject == names.ROUTE
    await asked(desk)
    [output] = await desk.text("1", sender=MARIE.number)
    assert output.subject == names.ROUTE
    await asked(desk, AskedAbout(7, "p"))
    [output] = await desk.text("1")
    assert output.subject == names.ROUTE


async def test_records_that_cannot_be_read_stop_no_text(desk: Desk) -> None:
    await desk.text("he is bleeding", lane="flash")
    await desk.alerts.put(rota_key(MARIE.key), b"junk")
    await desk.alerts.put(case_key(ref(ANA)), b'{"number": []}')
    for sender, text in ((MARIE.number, "1"), (ANA, "5 Mill Rd")):
        [output] = await desk.text(text, sender=sender)
        assert output.subject == names.ROUTE


async def test_a_responder_in_danger_is_in_danger(desk: Desk) -> None:
    await asked(desk, AskedAbout(7, "p"))
    await desk.text("HELP", sender=MARIE.number)
    assert only(await desk.text("1", sender=MARIE.number), Alert).topic == "general_danger"


async def test_the_answer_to_where_are_you_goes_to_alert_and_is_remembered(desk: Desk) -> None:
    await desk.text("he is bleeding", lane="flash")
    await open_case(desk, place_asked=True)
    outputs = await desk.text("5 Mill Rd, the green house", id="same")
    alert = only(outputs, Alert)
    assert (alert.kind, alert.place.text) == ("place", "5 Mill Rd, the green house")
    assert only(outputs, OutboundSms).text == TEXTS.say(
        "place_noted", "en", place="5 Mill Rd, the green house"
    )
    assert await desk.text("5 Mill Rd, the green house", id="same") == outputs
    # Asked once: what comes after that is answered like any other text, and passed on for what it may be.
    outputs = await desk.text("behind the market")
    assert only(outputs, Query).text == "behind the market"
    assert only(outputs, Alert).kind == "words"
    moved = only(await desk.text("PLACE behind the market"), Alert)
    assert moved.place.text == "behind the market"
    found = only(await desk.text("we are at -18.87919, 47.50791 now"), Alert)
    assert (found.place.latitude, found.place.longitude) == (-18.87919, 47.50791)


@pytest.mark.parametrize(
    "text",
    [
        "what should i do now?",
        "how do i get him warm",
        "thank you",
        "OK",
        "\U0001f198\U0001f198",
        "x" * 10_000,
    ],
)
async def test_what_is_no_place_is_answered_as_ever(desk: Desk, text: str) -> None:
    await desk.text("he is bleeding", lane="flash")
    await open_case(desk, place_asked=True)
    assert only((await desk.text(text))[:1], Query).text == text[:1000]


async def test_an_urgent_text_after_the_question_is_passed_on_and_answered(desk: Desk) -> None:
    await desk.text("he is bleeding", lane="flash")
    await open_case(desk, place_asked=True)
    outputs = await desk.text("at the school, we have no water", lane="priority")
    assert [output.subject for output in outputs] == [names.ROUTE, names.ALERT]
    assert only(outputs, Alert).kind == "place"


async def test_coordinates_in_an_emergency_are_remembered_for_its_alert(desk: Desk) -> None:
    [output] = await desk.text("trapped at 8FVC9G8F+6X hurry", lane="flash")
    assert output.subject == names.ROUTE
    entry = await desk.session.get(ref(ANA))
    assert entry is not None
    assert b'"latitude":47.36' in entry[0]


async def test_safe_ends_a_case_and_without_one_it_is_a_text(desk: Desk) -> None:
    await desk.text("he is bleeding", lane="flash")
    assert only(await desk.text("I'm safe"), Query)
    await open_case(desk)
    outputs = await desk.text("I am safe.")
    assert only(outputs, Alert).kind == "safe"
    assert only(outputs, OutboundSms).text == TEXTS.say("safe_noted", "en")
    await open_case(desk, closed=True)
    assert only(await desk.text("I am safe"), Query)


async def agreed(desk: Desk) -> Consent:
    entry = await desk.consent.get(ref(ANA))
    assert entry is not None
    return msgspec.json.decode(entry[0], type=Consent)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("ALERTS", ()),
        ("alertas", ()),
        ("Alèt", ()),
        ("चेतावनी", ()),
        ("تنبيهات", ()),
        ("ALERTS the Lake", ("lake",)),
        ("alerts झील", ("lake",)),
        ("ALERTES Millbrook.", ("mill",)),
    ],
)
async def test_alerts_asks_for_public_alerts_of_a_place_or_of_all(
    desk: Desk, text: str, places: tuple[str, ...]
) -> None:
    reply = only(await desk.text(text), OutboundSms)
    consent = await agreed(desk)
    assert (consent.wants_alerts, consent.places, consent.lang) == (True, places, "en")
    said = PLACES.said(places or PLACES.places)
    assert reply.text == TEXTS.say("alerts_on", "en", places=said)


@pytest.mark.parametrize(
    "text", ["ALERTS OFF", "Sin alertas", "ALERTES NON", "अलर्ट बंद करो", "أوقف التنبيهات", "STOP"]
)
async def test_alerts_off_and_stop_end_them(desk: Desk, text: str) -> None:
    await desk.text("ALERTS")
    reply = only(await desk.text(text), OutboundSms)
    assert not (await agreed(desk)).wants_alerts
    assert reply.text == TEXTS.say("stop_done" if text == "STOP" else "alerts_off", "en")


async def test_start_brings_back_the_alerts_that_stop_ended_and_alerts_lifts_stop(desk: Desk) -> None:
    await desk.text("ALERTS Lakeside")
    await desk.text("STOP")
    await desk.text("START")
    assert (await agreed(desk)).wants_alerts
    assert (await agreed(desk)).places == ("lake",)
    await desk.text("STOP")
    await desk.text("ALERTS")
    consent = await agreed(desk)
    assert (consent.stopped, consent.wants_alerts) == (False, True)
    notes = [note.partition(" ")[0] for _, note in consent.history]
    assert notes == ["alerts", "stop", "start", "stop", "alerts"]


async def test_alerts_for_a_place_that_nobody_knows_lists_the_places(
    desk: Desk,
) -> None:
    reply = only(await desk.text("ALERTS Springfield"), OutboundSms)
    assert reply.text == TEXTS.say("alerts_unknown", "en", places="Lakeside, Millbrook")
    assert await desk.consent.get(ref(ANA)) is None


@pytest.mark.parametrize(
    ("text", "lane"),
    [("alerts flood is coming to our house now", "routine"), ("alerts Lakeside", "priority")],
)
async def test_what_only_begins_like_the_command_is_a_question(desk: Desk, text: str, lane: Lane) -> None:
    assert only(await desk.text(text, lane=lane), Query).text == text


async def test_a_node_without_places_says_that_it_has_no_alerts(desk: Desk) -> None:
    desk.intake._bulletins = BulletinConfig()
    reply = only(await desk.text("ALERTS"), OutboundSms)
    assert reply.text == TEXTS.say("alerts_none", "en")
    assert await desk.consent.get(ref(ANA)) is None


async def test_the_number_of_who_wants_alerts_does_not_expire(desk: Desk) -> None:
    await desk.text("ALERTS")
    await desk.text("how do I clean a wound", sender=BEN)
    renewing = asyncio.create_task(renew_numbers(desk.consent, desk.numbers))
    await asyncio.sleep(0.01)
    renewing.cancel()
    ana, ben = await desk.numbers.get(ref(ANA)), await desk.numbers.get(ref(BEN))
    assert ana is not None
    assert ben is not None
    assert ana[0] == ANA.encode()
    assert ana[1] > ben[1]
