"""Contacts, words of answers, and places: what a phone can send, good and bad."""

import re
import time
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors._people.contacts import Contact, Need, load_contacts, nobody_for
from actors._people.place import may_be_place, place_in, shown
from actors._people.replies import load_replies
from actors._people.texts import plain_words
from actors.intake import load_commands
from actors.knowledge import SHIPPED
from subjects.errors import ConfigError
from subjects.messages import Place

HERE = (-18.87919, 47.50791)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("-18.87919, 47.50791", HERE),
        ("we are at -18.87919,47.50791 please", HERE),
        ("18.87919 S 47.50791 E", HERE),
        ("18.87919°S, 47.50791°E", HERE),
        ("-18,87919; 47,50791", HERE),
        ("18°52'45.1\"S 47°30'28.5\"E", HERE),
        ("18 ° 52.7514' S, 47° 30.4746' E", HERE),
        ("https://maps.google.com/?q=-18.87919,47.50791", HERE),
        ("https://www.google.com/maps/place/X/@1.0,2.0,17z/data=!3d-18.87919!4d47.50791", HERE),
        ("here https://www.google.com/maps/@-18.87919,47.50791,15z", HERE),
        ("https://www.openstreetmap.org/?mlat=-18.87919&mlon=47.50791#map=5/1.0/2.0", HERE),
        ("https://www.openstreetmap.org/#map=19/-18.87919/47.50791", HERE),
        ("geo:-18.87919,47.50791;u=35", HERE),
        ("https://maps.apple.com/?ll=-18.87919,47.50791&z=4", HERE),
        # What the test data of the Open Location Code specification encodes, within half a cell.
        ("8FVC9G8F+6X house 3", (47.365590, 8.524997)),
        ("near 7fg49qcj+2v", (20.3700625, 2.7821875)),
        ("7FG49QCJ+2VXGJ", (20.3701135, 2.782223535156)),
    ],
)
def test_coordinates_are_found(text: str, at: tuple[float, float]) -> None:
    place = place_in(text)
    assert place is not None
    assert (place.latitude, place.longitude) == pytest.approx(at, abs=7e-5)
    assert place.text == text[:120]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fever 38.5, 39.2 since 2 days",
        "give 0.5, 1.5 or 2.25 ml",
        "91.00000, 10.00000",
        "45.12345, 181.00000",
        "0.00000, 0.00000",
        "18°99'10\"S 47°30'28\"E",
        "https://goo.gl/maps/abcdef",
        "https://maps.google.com/?q=hospital",
        "9G8F+6X",  # short: it needs a town that we do not know
        "7FG49Q00+",  # five kilometres
        "ABCD2345+67",
        "1.2.3.4, 5.6.7.8",
        "+15551234567, +15557654321",
        "\U0001f198" * 500,
        "9" * 100_000,
        "1.23 " * 20_000,
        "18°" * 20_000,
        "https://" + "a" * 100_000,
    ],
)
def test_what_is_no_place_on_earth_is_none(text: str) -> None:
    started = time.process_time()
    assert place_in(text) is None
    assert time.process_time() - started < 5  # a regular expression that backtracks takes for ever


def test_ten_megabytes_are_looked_at_from_the_beginning() -> None:
    assert place_in("-18.87919, 47.50791 " + "x" * 10_000_000) is not None
    assert not may_be_place("x" * 10_000_000)


@given(st.text(max_size=300) | st.from_regex(r"[0-9°'\".,NSEW+ -]{0,80}", fullmatch=True))
def test_any_text_is_read_without_a_crash_and_stays_on_earth(text: str) -> None:
    place = place_in(text)
    if place is not None:
        assert place.latitude is not None
        assert place.longitude is not None
        assert abs(place.latitude) <= 90
        assert abs(place.longitude) <= 180
    assert len(shown(Place(text))) <= 60
    assert "{" not in shown(Place(text))


def test_a_place_is_shown_with_its_landmark_and_a_link_is_not() -> None:
    assert shown(Place("green house -18.87919, 47.50791", *HERE)).endswith(" -18.87919,47.50791")
    assert shown(Place("https://maps.google.com/?q=-18.87919,47.50791", *HERE)) == "-18.87919,47.50791"
    assert shown(Place(" 5  Mill\nRd ")) == "5 Mill Rd"


def test_words_of_answers_are_written_as_texts_are_compared_and_none_is_a_command() -> None:
    replies, commands = load_replies(), load_commands()
    for words in (replies.coming, replies.cannot, replies.safe, replies.place, replies.small_talk):
        assert [plain_words(word) for word in words] == list(words)
        assert not set(words) & set(commands)
    assert not set(replies.coming) & set(replies.cannot)
    assert not set(replies.safe) & {*replies.coming, *replies.cannot, *replies.small_talk}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("जा रहा हूँ", ("coming", 0)),
        ("हां ४", ("coming", 4)),
        ("أنا قادم 12", ("coming", 12)),
        ("Naenda 7", ("coming", 7)),
        ("Papunta na ako!", ("coming", 0)),
        ("नहीं जा सकता", ("cannot", 0)),
        ("لا أستطيع ٣", ("cannot", 3)),
        ("Siwezi 5", ("cannot", 5)),
        ("Hindi ko kaya", ("cannot", 0)),
        ("हम सुरक्षित नहीं हैं", None),
        ("لست قادم", None),
    ],
)
def test_responders_answer_in_their_own_script(text: str, answer: object) -> None:
    assert load_replies().of_responder(plain_words(text)) == answer


def test_safe_place_and_questions_are_known_in_every_script() -> None:
    replies = load_replies()
    for text in ("Niko salama", "Ligtas na kami", "मैं सुरक्षित हूँ।", "أنا في أمان"):
        assert replies.is_safe(plain_words(text))
    for text in ("Hatuko salama", "Hindi ako ligtas", "मैं सुरक्षित नहीं हूँ", "أنا لست في أمان"):
        assert not replies.is_safe(plain_words(text))
    for text in ("Mahali: soko la Mto", "जगह स्टेशन रोड", "المكان شارع النيل"):
        assert replies.is_place(plain_words(text))
    for text in (
        "asante",
        "Salamat po",
        "पता नहीं",
        "شكراً",
        "nifanye nini",
        "क्या करूं",
        "كيف أوقف النزيف",
        "paano",
    ):
        assert replies.is_talk(plain_words(text))


def test_a_file_of_answers_that_is_wrong_is_named(tmp_path: Path) -> None:
    (tmp_path / "replies.toml").write_text('coming = "1"\n')
    with pytest.raises(ConfigError, match=r"replies\.toml"):
        load_replies(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[[contacts]]\nname = "x"\nnumber = "call me"\n', "number"),
        ('[[contacts]]\nname = "x"\nnumber = "+1234"\nhours = ["8-18"]\n', "hours"),
        ('[[contacts]]\nname = "x"\nnumber = "+1234"\nphone = 1\n', "phone"),
        ('[[contacts]]\nname = "x"\nnumber = "+1234"\n[[contacts]]\nname = "y"\nnumber = "+1234"\n', "same"),
        ("\x00", "contacts"),
    ],
)
def test_contacts_file_that_is_wrong_is_refused_by_name(tmp_path: Path, text: str, reason: str) -> None:
    bad = tmp_path / "contacts.toml"
    bad.write_text(text)
    with pytest.raises(ConfigError, match=rf"contacts\.toml.*{reason}.*example"):
        load_contacts(bad)


def test_contacts_file_that_is_missing_is_none_and_the_example_is_right(tmp_path: Path) -> None:
    assert load_contacts(tmp_path / "none.toml") == ()
    assert any(contact.hours for contact in load_contacts(SHIPPED / "contacts.example.toml"))


def test_a_need_that_triage_does_not_hear_is_refused_and_every_one_it_hears_is_known(tmp_path: Path) -> None:
    bad = tmp_path / "contacts.toml"
    bad.write_text('[[contacts]]\nname = "x"\nnumber = "+1234"\nneeds = ["medcal"]\n')
    with pytest.raises(ConfigError, match="medcal"):
        load_contacts(bad)
    rules = (SHIPPED / "triage" / "rules.toml").read_text(encoding="utf-8")
    heard = set(re.findall(r"\w+", " ".join(re.findall(r"^needs = \[(.*)\]", rules, re.MULTILINE))))
    assert "medical" in heard
    assert heard - {"none"} <= set(get_args(Need))


def test_needs_without_a_responder_are_named() -> None:
    assert nobody_for([Contact("a", "+1234", needs=("medical", "fire", "rescue"))]) == [
        "violence",
        "childbirth",
        "mental_health",
    ]
    assert nobody_for([Contact("a", "+1234")]) == []


@pytest.mark.parametrize(
    ("number", "sender", "same"),
    [
        ("+50933333333", "+50933333333", True),
        ("+50933333333", "0050933333333", True),
        ("+50933333333", "50933333333", True),
        ("+50933333333", "33333333", True),  # a country without a trunk prefix
        ("+33612345678", "0612345678", True),
        ("0612345678", "+33612345678", True),
        ("+50933333333", "+33933333333", False),
        ("+50933333333", "3333333", False),
        ("+50933333333", "", False),
        ("112", "+33600000112", False),
    ],
)
def test_a_responder_is_known_however_the_network_writes_the_number(
    number: str, sender: str, same: bool
) -> None:
    assert Contact("x", number).has_number(sender) is same


def test_hours_may_cross_midnight() -> None:
    night = Contact("N", "+1234", hours=("20:00-06:00", "12:00-13:00"))
    assert [h for h in range(24) if night.is_on_duty(h * 60)] == [0, 1, 2, 3, 4, 5, 12, 20, 21, 22, 23]
    assert night.is_on_duty(None)
