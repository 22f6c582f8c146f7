"""Guards the content: what a person in danger may be sent, and the loader that refuses everything else."""

import datetime as dt
import re
import tomllib
from pathlib import Path

import pytest
from evy_core import segment

from actors._people.contacts import load_contacts
from actors.knowledge import ENGLISH, MAX_EMERGENCY_NUMBER, NOTICES, SHIPPED, Template, Texts, lint
from subjects.errors import ConfigError

FIRST_ACT = {
    "general_danger": "get away",
    "bleeding": "press hard",
    "cpr_unresponsive": "lay flat",
    "choking": "hit 5 times",
    "burns": "stop, drop, roll",
    "drowning": "do not go in: reach",
    "carbon_monoxide": "out to fresh air",
    "poisoning": "not make them vomit",
    "snakebite": "away from the snake, then keep still",
    "heart_attack": "stop, sit, rest",
    "stroke": "call +1234567890 now",
    "seizure": "nothing in the mouth",
    "allergic_reaction": "adrenaline pen",
    "childbirth": "never pull",
    "fracture_spine": "do not move",
    "heatstroke": "cool the whole body",
    "hypothermia": "out of wind and wet",
    "electrocution": "do not touch",
    "fire_trapped": "get out low",
    "gas_leak": "everyone out",
    "flood_rising": "higher ground",
    "earthquake_trapped": "no flame",
    "tornado": "lowest floor",
    "tsunami": "go up or inland",
    "wildfire": "leave now",
    "violence_attack": "quietly",
    "suicide_crisis": "glad you wrote",
    "missing_child": "search first",
    "asthma": "sit up",
    "diabetic_emergency": "juice",
    "head_injury": "keep still",
}
"""Each topic of an emergency, and what its text must say at its very beginning."""

GENERAL = "general_danger"
TOPICS = set(FIRST_ACT) - {GENERAL}
IN_SPANISH = {"bleeding", "cpr_unresponsive", "choking", "fire_trapped", "earthquake_trapped"}

NUMBER = "+1234567890"
"""As long as the loader lets an emergency number be, and found nowhere else in the texts."""
TEXTS = Texts.load(emergency_number=NUMBER)
LANGS = sorted(TEXTS.languages)
TEMPLATES: list[Template] = [
    template
    for topic in sorted(TEXTS.topics)
    for lang in LANGS
    if (template := TEXTS.template(topic, lang)) is not None and template.lang == lang
]
ARTICLES = list(TEXTS.articles())

LONGEST = {
    "places": "x" * 40,
    "language": max(TEXTS.languages.values(), key=len),
    "codes": " ".join(LANGS),
    "what": max((t.title for t in TEMPLATES), key=len),
    "text": "x" * 80,
    "title": "x" * 60,
    "question": "x" * 40,
    "tag": "x" * 10,
    "number": "+123456789012345",
    "time": "23:59",
    "count": "888",
    "case": "888",
    "place": "x" * 60,
    "cases": "x" * 190,
    "yours": "888, 888, 888, 888, 888",
    "hours": "24",
    "choices": ", ".join(["1 " + "x" * 24] * 4),
}
ALERTS = {key for key, values in NOTICES.items() if "number" in values}
SAID_WHEN_TRUE = {"told_coming"}
"""Sent only after a responder said so: see `actors/alert/steps.py`."""


IN_UCS2 = {"text": "x" * 30, "place": "x" * 40, "cases": "x" * 60}
"""What `actors/alert/words.py` leaves of somebody's words where an SMS holds half as many letters."""


LONG = {*ALERTS, "followup", "alert_digest", "near"}
"""Notices of two SMS."""


def notice(key: str, lang: str) -> str:
    what = max((t.title for t in TEMPLATES if t.lang == lang), key=len, default=LONGEST["what"])
    values = LONGEST | {"what": what} | (IN_UCS2 if lang in lint.UCS2_LANGS else {})
    return TEXTS.say(key, lang, **{name: values[name] for name in NOTICES[key]})  # type: ignore[arg-type,index]


EVERY_TEMPLATE = pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: f"{t.topic}-{t.lang}")


def test_no_text_breaks_a_rule() -> None:
    texts = Texts.load(emergency_number=lint.NUMBER)
    assert lint.lint(texts, lint.read_rules(), dt.date(2026, 11, 22)) == []


# ── templates ─────────────────────────────────────────────────────────────────────────────────────────────


def test_every_topic_is_there() -> None:
    assert len(TOPICS) == 30
    assert {t.topic for t in TEMPLATES if t.lang == ENGLISH} == TOPICS | {GENERAL}
    assert {t.topic for t in TEMPLATES if t.lang == "es"} >= IN_SPANISH | {GENERAL}


@pytest.mark.parametrize("topic", sorted(TOPICS | {GENERAL}))
def test_the_saving_act_stands_in_the_first_part_of_the_first_sms(topic: str) -> None:
    template = TEXTS.template(topic, ENGLISH)
    assert template is not None
    assert FIRST_ACT[topic] in template.text[:90].lower()


MUST_SAY = {
    "bleeding": ["do not loosen", "note time", "Stuck object: leave it"],
    "choking": ["Baby under 1", "chest pushes", "never the belly"],
    "snakebite": ["Do not cut, suck, tie tight"],
    "poisoning": ["Do not make them vomit"],
    "electrocution": ["Switch off the main power"],
    "gas_leak": ["no switch", "no flame"],
    "flood_rising": ["Never walk or drive through"],
    "earthquake_trapped": ["Shout only when", "Cover nose and mouth"],
    "carbon_monoxide": ["stay out"],
    "hypothermia": ["no alcohol", "Do not rub"],
    "stroke": ["note the time", "No food, drink"],
    "seizure": ["Do not hold them down"],
    "diabetic_emergency": ["Not awake: nothing in the mouth"],
    "burns": ["No ice"],
    "childbirth": ["Do not cut or pull the cord"],
    "suicide_crisis": ["I am a machine", "crisis line"],
}


@pytest.mark.parametrize("topic", MUST_SAY)
def test_template_says_what_must_not_be_missed(topic: str) -> None:
    template = TEXTS.template(topic, ENGLISH)
    assert template is not None
    assert [words for words in MUST_SAY[topic] if words not in template.text] == []


def test_a_text_about_violence_gives_nobody_away() -> None:
    template = TEXTS.template("violence_attack", ENGLISH)
    assert template is not None
    assert template.discreet
    telling = (
        r"abus|attack|violen|police|weapon|gun|knife|rape|partner|husband|danger|threat|victim|\b(he|him)\b"
    )
    assert re.search(telling, template.text, re.IGNORECASE) is None


def test_a_text_about_suicide_names_no_method() -> None:
    template = TEXTS.template("suicide_crisis", ENGLISH)
    assert template is not None
    assert (
        re.search(
            r"pill|rope|hang|knife|gun|jump|bridge|drug|poison|kill|die|dead", template.text, re.IGNORECASE
        )
        is None
    )


# ── notices ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize("key", NOTICES)
def test_notice_exists_in_every_language_and_fits(key: str, lang: str) -> None:
    files = tomllib.loads((SHIPPED / "notices" / f"{lang}.toml").read_text(encoding="utf-8"))
    assert key in files["notices"]
    assert segment([notice(key, lang)])[0].count <= (2 if key in LONG else 1) + (lang in lint.UCS2_LANGS)


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize(
    "key",
    ["danger_ask", "unsure", "incomplete", "answer_follows", "told_coming", "told_withdrawn", "told_unheard"],
)
def test_notice_that_a_person_in_danger_may_get_names_the_emergency_number(key: str, lang: str) -> None:
    assert NUMBER in notice(key, lang)


@pytest.mark.parametrize("lang", LANGS)
def test_alert_leaves_the_number_to_the_node_of_the_modem(lang: str) -> None:
    for key in ALERTS:
        values = dict.fromkeys(NOTICES[key], "x") | {"number": "{number}"}
        assert TEXTS.say(key, lang, **values).count("{number}") == 1


def test_help_asks_about_danger_before_it_lists_anything() -> None:
    assert TEXTS.say("help_menu", "en").startswith("In danger? Reply 1 or say what and where")


# ── articles ──────────────────────────────────────────────────────────────────────────────────────────────


def test_there_are_articles_enough() -> None:
    assert len([article for article in ARTICLES if article.lang == ENGLISH]) >= 25


def test_a_source_is_known_by_its_tag_in_any_case() -> None:
    for source in TEXTS.sources:
        assert TEXTS.source(source.tag.lower()) is source
    assert TEXTS.source("NOPE1") is None


# ── the loader ────────────────────────────────────────────────────────────────────────────────────────────

SOURCE = '[[source]]\nid = "s"\ntag = "SO1"\norganisation = "O"\ndocument = "D"\nyear = 2020\n'
REVIEW = 'review = { author = "A", reviewed_on = 2026-01-01, state = "reviewed" }\n'
TEMPLATE = REVIEW + 'lang = "en"\n[[template]]\ntopic = "t"\ntitle = "T"\nsource = "s"\ntext = "Do it."\n'


def layer(directory: Path, **files: str) -> Path:
    """Files of a directory of texts; ``templates_en`` stands for templates/en.toml."""
    for name, body in {"sources": SOURCE, **files}.items():
        path = directory / f"{name.replace('_', '/', 1)}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body, encoding="utf-8")
    return directory


@pytest.mark.parametrize(
    ("file", "body", "named"),
    [
        ("sources", SOURCE.replace("2020", '"2020"'), ["sources.toml", "'s'", "$.year"]),
        ("sources", SOURCE.replace('"SO1"', '"so"'), ["'s'", "$.tag"]),
        ("sources", SOURCE + SOURCE, ["'s'", "already"]),
        ("sources", SOURCE + SOURCE.replace('id = "s"', 'id = "r"'), ["share a tag", "SO1"]),
        ("sources", "[[source", ["sources.toml", "at end of document"]),
        ("templates_en", TEMPLATE.replace('"Do it."', "3"), ["templates/en.toml", "'t'", "$.text"]),
        ("templates_en", TEMPLATE.replace('"Do it."', '" Do it."'), ["'t'", "$.text"]),
        ("templates_en", TEMPLATE.replace('"Do it."', '""'), ["'t'", "$.text"]),
        ("templates_en", TEMPLATE.replace('source = "s"', 'source = "x"'), ["'t'", "source", "'x'"]),
        ("templates_en", TEMPLATE.replace('source = "s"\n', ""), ["'t'", "source"]),
        ("templates_en", TEMPLATE + 'shout = "x"\n', ["'t'", "shout"]),
        (
            "templates_en",
            TEMPLATE.replace("Do it.", "Call {phone}."),
            ["'t'", "{phone}", "{emergency_number}"],
        ),
        (
            "templates_en",
            TEMPLATE.replace("Do it.", "Call {emergency_number!r}."),
            ["'t'", "{emergency_number}"],
        ),
        ("templates_en", TEMPLATE.replace("Do it.", "Call {emergency_number."), ["'t'"]),
        ("templates_en", TEMPLATE.replace("Do it.", "Call {{x}}."), ["'t'", "brace"]),
        ("templates_en", TEMPLATE.replace("2026-01-01", '"yesterday"'), ["'t'", "$.review.reviewed_on"]),
        ("templates_en", "[template]\ntopic = 1\n", ["templates/en.toml", "[[template]]"]),
        ("templates_xx", TEMPLATE.replace('"en"', '"xx"').replace('"t"', '"u"'), ["'u'", "'xx'", "English"]),
        ("articles_a", REVIEW + '[[article]]\nid = "a"\nsource = "s"\n', ["articles/a.toml", "'a'", "area"]),
        ("notices_en", 'lang = "en"\nname = "E"\n[notices]\nhello = "x"\n', ["'hello'", "help_menu"]),
        ("notices_en", 'lang = "en"\nname = "E"\n[notices]\nflood = "{codes}"\n', ["'flood'", "{codes}"]),
        ("notices_en", 'lang = "EN"\nname = "E"\n[notices]\n', ["notices/en.toml", "$.lang"]),
    ],
)
def test_wrong_file_is_refused_by_its_name_entry_and_field(
    tmp_path: Path, file: str, body: str, named: list[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        Texts.load([SHIPPED, layer(tmp_path, **{file: body})])
    assert [words for words in named if words not in str(refused.value)] == []


def test_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        Texts.load(tmp_path / "nowhere")


def test_directory_without_the_notices_of_english_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="help_menu"):
        Texts.load(layer(tmp_path))


@pytest.mark.parametrize("number", ["", "1", "123456789012", "911 or 112", "0800-HELP", "{codes}", "112\n"])
def test_emergency_number_that_would_break_texts_is_refused(number: str) -> None:
    with pytest.raises(ConfigError, match="emergency_number"):
        Texts.load(emergency_number=number)
    assert len(NUMBER) == MAX_EMERGENCY_NUMBER


def test_local_texts_lie_over_the_shipped_ones_and_drafts_hide_nothing(tmp_path: Path) -> None:
    mine = TEMPLATE.replace('"t"', '"bleeding"').replace("Do it.", "Ours: call {emergency_number}.")
    draft = mine.replace('"bleeding"', '"choking"').replace('state = "reviewed"', 'state = "draft"')
    texts = Texts.load(
        [SHIPPED, layer(tmp_path, templates_a=mine, templates_b=draft)], emergency_number="999"
    )
    shipped = Texts.load(emergency_number="999")
    bleeding = texts.template("bleeding", "en")
    assert bleeding is not None
    assert bleeding.text == "Ours: call 999."
    assert texts.template("choking", "en") == shipped.template("choking", "en")
    assert texts.topics == shipped.topics
    assert texts.articles() == shipped.articles()


def test_language_without_a_text_gets_english() -> None:
    assert TEXTS.template("tsunami", "xx") == TEXTS.template("tsunami", "en")
    assert TEXTS.template("no_such_topic", "en") is None
    assert TEXTS.say("unsure", "xx") == TEXTS.say("unsure", "en") != TEXTS.say("unsure", "es")


def test_values_are_put_in_as_they_are_even_when_they_look_like_ours() -> None:
    values = {"case": 1, "count": 2, "number": "{number}"}
    text = TEXTS.say("alert_responder_more", "en", **values, text="{emergency_number} {0} }{")
    assert text.endswith("from {number}, last: {emergency_number} {0} }{")
    with pytest.raises(KeyError):
        TEXTS.say("lang_set", "en")


def test_the_district_of_the_demo_lies_over_the_shipped_texts() -> None:
    district = SHIPPED.parent / "_cli" / "district"
    assert {
        a.source.tag for a in Texts.load([SHIPPED, district]).articles() if a.source.id == "district"
    } == {"L1"}


def test_example_of_responders_is_read_as_it_stands() -> None:
    contacts = load_contacts(SHIPPED / "contacts.example.toml")
    assert len(contacts) >= 2
    assert any(not contact.needs for contact in contacts), "one who hears of every need"
