"""Folding by the shipped rules: what it may do to a text, and the words that it must leave alone."""

import re
import tomllib
import unicodedata
from pathlib import Path

import pytest
from evy_core import segment
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.test_compress import COMPRESSOR, FOLDING

RULES = tomllib.loads(FOLDING)
LANGUAGES = sorted(RULES)
KEPT = [(lang, word) for lang in LANGUAGES for word in RULES[lang]["keep"]]
ROOM = 40
"""With so many letters outside the plain alphabet a text needs a second SMS, and folding is worth it."""

WORDS = {
    "es": "no beba más agua sin hervir ni dé 2,5 ml cada 12 horas después pañal corazón será él",
    "fr": "ne buvez pas d'eau sans la bouillir où 1/2 litre façon hôpital forêt œil être",
    "pt": "não dê 500 mg à criança nem água não potável São 3 gotas coração você após mãe",
    "ht": "pa bwè dlo a si ou pa bouyi li 3 minit Ò È",
    "tl": "huwag uminom ng tubig ₱50 hindi niño 2 litro",
    "sw": "usinywe maji bila kuchemsha dakika 1 si salama ng'ombe",
    "en": "do not drink 3 cups without boiling café naïve piñata 1/2",
}


def fitted(text: str, lang: str) -> str:
    [result] = COMPRESSOR.fit([text], [lang], [True], [255], [""])
    assert not result.rest
    return result.text


def bare(text: str) -> str:
    """Without marks: what every reader sees in both."""
    spelt = text.replace("œ", "oe").replace("₱", "PHP ")
    return "".join(c for c in unicodedata.normalize("NFKD", spelt) if not unicodedata.combining(c))


def test_the_languages_that_evy_hears_all_have_a_rule() -> None:
    triage = Path(__file__).parents[2] / "actors" / "knowledge" / "triage"
    assert sorted(path.stem for path in triage.glob("*.toml") if path.stem != "rules") == LANGUAGES


@pytest.mark.parametrize(("lang", "word"), KEPT)
def test_a_word_that_would_become_another_keeps_the_whole_text_as_it_is(lang: str, word: str) -> None:
    letter = next(iter(RULES[lang]["letters"]))
    text = f"{letter} " * ROOM + "."
    assert fitted(text, lang) != text
    for kept in (word, word.capitalize(), word.upper(), unicodedata.normalize("NFD", word)):
        assert unicodedata.normalize("NFC", kept) in fitted(f"{text} {kept}!", lang)
    assert fitted(f"{text} {word}x", lang) != f"{text} {word}x"


@pytest.mark.parametrize("lang", [lang for lang in LANGUAGES if RULES[lang]["fold"]])
def test_every_letter_of_a_rule_reads_the_same(lang: str) -> None:
    for letter, plain in RULES[lang]["letters"].items():
        assert bare(letter) == plain
        [size] = segment([plain])
        assert size.encoding == "gsm7"


@pytest.mark.parametrize("lang", [lang for lang in LANGUAGES if not RULES[lang]["fold"]])
def test_scripts_without_a_plain_spelling_are_left_alone(lang: str) -> None:
    text = "ção más " * ROOM
    assert fitted(text, lang) == text.strip()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(WORDS)), st.data())
def test_folding_never_costs_a_segment_nor_a_digit_unit_or_negation(lang: str, data: st.DataObject) -> None:
    words = st.sampled_from(WORDS[lang].split()) | st.text("áãçêíóõúñ0123456789", min_size=1, max_size=8)
    text = " ".join(data.draw(st.lists(words, min_size=1, max_size=60)))
    shown = fitted(text, lang)
    (before, after) = segment([text, shown])
    assert after.count <= before.count
    assert re.findall(r"\d+", shown) == re.findall(r"\d+", text)
    assert bare(shown).split() == bare(text).split()
    if before.encoding == "gsm7":
        assert shown == text
