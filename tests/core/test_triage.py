"""Triage on the shipped data: the vectors, and properties that hold for any text."""

import json
import shutil
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from evy_core import DataError, Triage, Triager
from hypothesis import given
from hypothesis import strategies as st

from actors.knowledge import SHIPPED, Texts
from actors.knowledge.engines import triage_files

VECTORS = Path(__file__).parents[1] / "vectors" / "triage.jsonl"
LANGUAGES = {"en", "es", "fr", "pt", "ht", "sw", "hi", "ar", "tl"}


@cache
def triager() -> Triager:
    return Triager(triage_files())


def triage(text: str) -> Triage:
    return triager().classify([text])[0]


@cache
def vectors() -> list[tuple[dict[str, Any], Triage]]:
    rows = [json.loads(line) for line in VECTORS.read_text(encoding="utf-8").splitlines()]
    return list(zip(rows, triager().classify([row["text"] for row in rows]), strict=True))


def emergencies(held: bool | None = None) -> list[tuple[dict[str, Any], Triage]]:
    return [
        (row, got) for row, got in vectors() if row["priority"] == "emergency" and held in {None, row["held"]}
    ]


def test_every_topic_has_vectors() -> None:
    written = [row["template"] for row, _ in emergencies() if row["lang"] == "en"]
    assert all(written.count(topic) >= 3 for topic in triager().topics)
    spanish = [row["template"] for row, _ in emergencies() if row["lang"] == "es"]
    for topic in ("bleeding", "cpr_unresponsive", "choking", "fire_trapped", "earthquake_trapped"):
        assert spanish.count(topic) >= 3


def test_emergencies_are_recognised() -> None:
    missed = [row["text"] for row, got in emergencies() if got.priority != "emergency"]
    assert len(missed) <= 0.03 * len(emergencies()), missed


def test_emergencies_nobody_tuned_on_are_recognised() -> None:
    missed = [row["text"] for row, got in emergencies(held=True) if got.priority != "emergency"]
    assert len(missed) <= 0.05 * len(emergencies(held=True)), missed


def test_the_wrong_template_is_rare() -> None:
    wrong = [
        (row["text"], got.template)
        for row, got in emergencies()
        if got.priority == "emergency"
        and got.template not in {row["template"], "general_danger", *row.get("also", [])}
    ]
    assert len(wrong) <= 0.03 * len(emergencies()), wrong


@pytest.mark.parametrize("kind", ["idiom", "past", "negated", "howto", "news", "command", "chat"])
def test_no_false_alarm_on(kind: str) -> None:
    alarms = [row["text"] for row, got in vectors() if row["kind"] == kind and got.priority == "emergency"]
    assert alarms == []


def test_languages_are_told_apart() -> None:
    wrong = [(row["text"], got.lang) for row, got in vectors() if got.lang != row["lang"]]
    assert len(wrong) <= 2, wrong
    assert set(triager().langs) == LANGUAGES


def test_every_topic_has_a_template() -> None:
    assert {*triager().topics, "general_danger"} == set(Texts.load().topics)


@pytest.mark.parametrize(
    ("word", "lang"),
    [
        ("HELP", "en"),
        ("Help!", "en"),
        ("AYUDA", "es"),
        ("AIDE", "fr"),
        ("AJUDA", "pt"),
        ("EDE", "ht"),
        ("MSAADA", "sw"),
        ("मदद", "hi"),
        ("مساعدة", "ar"),
        ("TULONG", "tl"),
    ],
)
def test_help_alone_is_urgent_and_has_no_template(word: str, lang: str) -> None:
    got = triage(word)
    assert (got.priority, got.needs, got.template, got.lang) == ("urgent", ["aid_info"], None, lang)


@pytest.mark.parametrize(
    ("text", "priority"),
    [
        ("tick burrowed in her scalp how to pull it", "urgent"),
        ("the neighbours dog bit my nephew on the calf", "urgent"),
        ("nos mordio el perro de la tienda", "urgent"),
        ("mbwa amemuuma binti yangu mkononi", "urgent"),
        ("my gums bleed when i chew", "urgent"),
        ("we found a little boy alone he cries", "urgent"),
        ("does the insulin spoil in the sun", "normal"),
        ("how many drops of bleach for a bucket of water", "normal"),
        ("which day after the birth may i bathe", "normal"),
        ("can i jog with fire smoke in the air", "normal"),
        ("our water meter was under water", "normal"),
        ("الثلاجة غرقت والطحين غرق", "normal"),
    ],
)
def test_what_has_an_article_gets_no_template_about_something_else(text: str, priority: str) -> None:
    got = triage(text)
    assert (got.priority, got.template) == (priority, None)


@pytest.mark.parametrize(
    "text",
    [
        "the oil in my wok is on fire",
        "they are bombing our street which room is safest",
        "قصف على حارتنا وين نختبي",
        "my uncle is sinking in the mud of the river bank",
        "mixed bleach and vinegar my throat burns",
        "my heart is racing is this a panic attack",
        "nose bleeding for two hours he takes warfarin",
        "struck by lightning he is moving",
    ],
)
def test_a_danger_without_its_template_gets_the_general_text(text: str) -> None:
    got = triage(text)
    assert (got.priority, got.template) == ("emergency", "general_danger")


def test_a_calm_thing_beside_it_hides_no_emergency() -> None:
    rows = [json.loads(line) for line in VECTORS.with_name("guarded.jsonl").read_bytes().splitlines()]
    found = triager().classify([row["text"] for row in rows])
    assert len(rows) >= 250
    missed = [row["text"] for row, got in zip(rows, found, strict=True) if got.priority != "emergency"]
    assert missed == []


def test_why_points_at_the_words() -> None:
    text = "Señor, my DAD isn’t breathing!!"
    got = triage(text)
    assert got.template == "cpr_unresponsive"
    assert [text[start:end] for cue, start, end in got.why if cue == "not_breathing"] == ["isn’t breathing"]


def test_why_names_what_took_an_alarm_back() -> None:
    cues = {cue for cue, _, _ in triage("the fire is out").why}
    assert "resolved" in cues


@pytest.mark.parametrize(
    ("plain", "variants"),
    [
        (
            "my father is not breathing",
            [
                "MY FATHER IS NOT BREATHING",
                "my father is nt brethin",
                "myfather is not breathing",
                "my father is not breeeathing",
                "my   father,is not   breathing",
            ],
        ),
        ("my son is choking", ["my son is chokin", "my son is CHOKEING", "my sons chokingg"]),
        ("my father is unconscious", ["my father is un conscious", "my father is unkonshus"]),
        (
            "she is bleeding badly",
            ["she is bl33ding badly", "she is bldng badly", "she is b l e e d i n g badly"],
        ),
        ("i cant breathe", ["icantbreathe", "i can't breathe", "i cant breath", "i cnt brethe"]),
    ],
)
def test_how_it_is_typed_does_not_matter(plain: str, variants: list[str]) -> None:
    expected = triage(plain)
    assert expected.priority == "emergency"
    for variant in variants:
        assert (triage(variant).priority, triage(variant).template) == (expected.priority, expected.template)


def test_an_emergency_names_its_other_needs() -> None:
    got = triage("we are trapped under the rubble and have no water")
    assert (got.template, got.needs) == ("earthquake_trapped", ["rescue", "water"])
    assert "aid_info" not in triage("help us we are trapped under the rubble").needs


@given(st.text(max_size=400))
def test_any_text_is_judged(text: str) -> None:
    got = triage(text)
    assert got.priority in {"emergency", "urgent", "normal"}
    assert 1 <= len(got.needs) <= 3
    assert 0 <= got.confidence <= 1
    assert 0 <= got.lang_confidence <= 1
    assert (got.template is not None) == (got.priority == "emergency")
    assert all(0 <= start < end <= len(text) for _, start, end in got.why)


@given(st.text(alphabet=st.characters(categories=("L", "M", "P", "Zs")), max_size=200))
def test_composed_and_decomposed_are_judged_alike(text: str) -> None:
    one, other = (triage(unicodedata.normalize(form, text)) for form in ("NFC", "NFD"))
    assert (one.priority, one.needs, one.template, one.lang) == (
        other.priority,
        other.needs,
        other.template,
        other.lang,
    )


def test_lone_surrogates_are_read_around() -> None:
    text = "\ud83d help my house is on fire \udc00"
    got = triage(text)
    assert got.template == "fire_trapped"
    assert all("fire" in text[start:end] for cue, start, end in got.why if cue == "building_fire")


def test_a_long_text_is_judged_by_what_is_in_it() -> None:
    filler = "good morning how are you today. " * 300
    assert triage(filler + "my baby is not breathing").template == "cpr_unresponsive"
    assert triage(filler).priority == "normal"


def test_texts_in_order_and_none() -> None:
    got = triager().classify(["ok", "i cant breathe", "ok"])
    assert [g.priority for g in got] == ["normal", "emergency", "normal"]
    assert triager().classify([]) == []


def test_language_detection_without_evidence_is_english_and_says_so() -> None:
    assert triager().detect_lang(["", "12 34", "xyzzy"]) == [("en", 0.0)] * 3
    lang, confidence = triager().detect_lang(["necesitamos agua y comida por favor"])[0]
    assert lang == "es"
    assert confidence > 0.5


RULES = '[[emergency]]\ntopic = "burns"\nneeds = ["medical"]\nwhen = "burn + !clause"\n'
ENGLISH = (
    'lang = "en"\n[cues]\nburn = "burned|burnt .. @limb"\nclause = "and"\n[sets]\nlimb = "arm left_arm"\n'
)


@pytest.mark.parametrize(
    ("rules", "english", "message"),
    [
        (RULES, ENGLISH.replace("limb =", "limbs ="), "en.toml: cues.burn"),
        (RULES, ENGLISH.replace("@limb", ".."), "ends in a gap"),
        (RULES, ENGLISH.replace("..", "..9"), "a gap is at most 8"),
        (RULES, ENGLISH.replace("arm left_arm", "@limb"), "includes itself"),
        (RULES, ENGLISH.replace("burn =", "bern ="), "en.toml: cues.bern: rules.toml never uses it"),
        (RULES, ENGLISH.replace('"en"', '"english"'), "en.toml: lang"),
        (RULES, ENGLISH + "x = 1\n", "en.toml: TOML"),
        (RULES.replace("!clause", "!sunburn"), ENGLISH, "rules.toml: sunburn: no language has a pattern"),
        (RULES.replace("medical", "medicine"), ENGLISH, "'medicine' is not among"),
        (RULES.replace("burn + ", ""), ENGLISH, "nothing that has to be there"),
        (RULES, ENGLISH + '[same]\n"É" = "e"\n', "en.toml: same.É"),
        (
            RULES,
            ENGLISH + '[prefixes]\n"un a:b" = ""\n',
            "en.toml: prefixes.a:b: must be letters of one word",
        ),
        (RULES + RULES, ENGLISH, "emergency burns: is written twice"),
        (RULES.replace("emergency", "urgent"), ENGLISH, "only an emergency has a topic"),
    ],
)
def test_wrong_data_is_named(rules: str, english: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        Triager([("rules.toml", rules), ("en.toml", english)])
    assert message.replace("'", '"') in str(error.value)


def test_the_small_data_itself_is_right() -> None:
    small = Triager([("en.toml", ENGLISH), ("rules.toml", RULES)])
    assert small.classify(["i burnt my left arm"])[0].template == "burns"
    assert small.topics == ["burns"]


def test_forms_of_words_are_data() -> None:
    forms = '[same]\n"ph" = "f"\n"oo" = "u"\n[prefixes]\nun = "and"\n"al el" = ""\n[suffixes]\n"na" = ""\n'
    english = ENGLISH.replace("burned|burnt", "fukul") + forms
    small = Triager([("en.toml", english), ("rules.toml", RULES.replace(" + !clause", ""))])
    got = small.classify(["fukul arm", "PHUKOOL arm", "alfukulna armna", "fukool sleg", "lafukul arm"])
    assert [g.template for g in got] == ["burns", "burns", "burns", None, None]
    guarded = Triager([("en.toml", english), ("rules.toml", RULES)])
    assert [g.template for g in guarded.classify(["alphukul arm", "unalphukul arm"])] == ["burns", None]


def test_missing_files_are_named() -> None:
    with pytest.raises(DataError, match=r"rules.toml: file: 0 files of that name"):
        Triager([("en.toml", ENGLISH)])
    with pytest.raises(DataError, match="0 language files"):
        Triager([("rules.toml", RULES)])


def test_an_added_language_is_an_added_file(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED / "triage", tmp_path / "triage")
    italian = 'lang = "it"\nstop = "il la mio mia è di che"\n[cues]\nnot_breathing = "non respira"\n'
    (tmp_path / "triage" / "it.toml").write_text(italian, encoding="utf-8")
    got = Triager(triage_files(tmp_path)).classify(["il mio papà non respira"])[0]
    assert (got.lang, got.template) == ("it", "cpr_unresponsive")
