"""The branches after a template: their texts, and what a reply chooses."""

import re
import shutil
from pathlib import Path

import pytest
from evy_core import segment

from actors.knowledge import ENGLISH, SHIPPED, Branch, Texts, lint
from subjects.errors import ConfigError

TEXTS = Texts.load(emergency_number=lint.NUMBER)
BRANCHES = list(TEXTS.follow)
LANGS = sorted({branch.lang for branch in BRANCHES})


@pytest.mark.parametrize("topic", sorted(TEXTS.topics))
def test_every_topic_goes_on_in_english(topic: str) -> None:
    replies = [branch.reply for branch in TEXTS.follow.of(topic, ENGLISH)]
    assert 2 <= len(replies) <= 4
    assert replies == list(range(1, len(replies) + 1))


def test_what_is_of_no_emergency_number_is_not_urgent() -> None:
    silent = {(b.topic, b.label) for b in BRANCHES if lint.NUMBER not in b.text and b.lang == ENGLISH}
    assert silent == {("burns", "small but hurts")}


@pytest.mark.parametrize(
    "branch",
    [b for b in BRANCHES if (b.topic, b.lang) == ("violence_attack", ENGLISH)],
    ids=lambda b: b.label,
)
def test_a_branch_about_violence_gives_nobody_away(branch: Branch) -> None:
    telling = (
        r"\b(?:abus|attack|violen|poli[cs]|weapon|gun|knife|rape|partner|husband|danger|threat|victim)"
        r"|\b(?:he|him)\b"
    )
    assert re.search(telling, f"{branch.label} {branch.text}", re.IGNORECASE) is None


@pytest.mark.parametrize(
    "branch", [b for b in BRANCHES if (b.topic, b.lang) == ("suicide_crisis", ENGLISH)], ids=lambda b: b.label
)
def test_a_branch_about_suicide_names_no_method(branch: Branch) -> None:
    method = r"\b(?:pill|rope|hang|knife|gun|jump|bridge|drug|poison|kill|die\b|dead)"
    assert re.search(method, branch.text, re.IGNORECASE) is None


@pytest.mark.parametrize("topic", sorted(TEXTS.topics))
@pytest.mark.parametrize("lang", LANGS)
def test_a_menu_is_one_sms(lang: str, topic: str) -> None:
    menu = TEXTS.menu(topic, lang)
    most = 2 if lang in lint.UCS2_LANGS else 1
    assert not menu or segment([menu])[0].count <= most


@pytest.mark.parametrize(
    ("topic", "text", "reply"),
    [
        ("bleeding", "1", 1),
        ("bleeding", " 2) ", 2),
        ("bleeding", "3.", 3),
        ("bleeding", "Reply 2", 2),
        ("bleeding", "2 pale and cold", 2),
        ("bleeding", "option 2 pale", 2),
        ("bleeding", "१", 1),
        ("bleeding", "٢", 2),
        ("bleeding", "3️⃣", 3),
        ("bleeding", "④", 4),
        ("bleeding", "two", 2),
        ("bleeding", "1 and 2", 1),
        ("bleeding", "It won't stop!!", 1),
        ("bleeding", "BLOOD KEEPS COMING", 1),
        ("bleeding", "he is pale now", 2),
        ("drowning", "he is not breathing", 2),
        ("drowning", "he is breathing now", 3),
        ("choking", "baby under 1", 2),
        ("seizure", "over 5 minutes", 1),
        # other texts
        ("bleeding", "", 0),
        ("bleeding", "0", 0),
        ("bleeding", "5", 0),
        ("bleeding", "11", 0),
        ("bleeding", "2 men", 0),
        ("bleeding", "no 2", 0),
        ("bleeding", "help me please", 0),
        ("bleeding", "ok", 0),
        ("bleeding", "he is not pale", 0),
        ("bleeding", "my house is on fire", 0),
        ("bleeding", "is it normal that he is pale and what do I do about it then", 0),
        ("bleeding", "1" * 5000, 0),
        ("bleeding", "\ud800", 0),
        ("tornado", "4", 4),
        ("tsunami", "4", 0),
        ("no_such_topic", "1", 0),
        ("", "1", 0),
    ],
)
def test_what_a_reply_chooses(topic: str, text: str, reply: int) -> None:
    assert TEXTS.follow.chosen(topic, text, "en") == reply


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize("topic", sorted(TEXTS.topics))
def test_a_plea_or_a_courtesy_chooses_nothing(topic: str, lang: str) -> None:
    for text in (
        "help",
        "please help me",
        "ok",
        "thanks",
        "yes",
        "no",
        "hello",
        "HELP!!",
        "?",
        "5",
        "help us now",
    ):
        assert TEXTS.follow.chosen(topic, text, lang) == 0, text


def test_a_language_without_branches_takes_the_english_ones() -> None:
    assert TEXTS.follow.chosen("bleeding", "it wont stop", "xx") == 1
    branch = TEXTS.follow.branch("bleeding", 1, "xx")
    assert branch is not None
    assert branch.lang == ENGLISH
    assert TEXTS.follow.branch("bleeding", 5, "en") is None
    assert not TEXTS.menu("bleeding", "xx")


def layer(directory: Path, text: str) -> Path:
    """A directory with the English texts and one file of follow-ups."""
    for name in ("sources/core", "templates/en", "notices/en", "follow/en"):
        (directory / name).parent.mkdir()
        shutil.copy(SHIPPED / f"{name}.toml", directory / f"{name}.toml")
    (directory / "follow" / "any.toml").write_text(text, encoding="utf-8")
    return directory


GOOD = """
lang = "xx"
review = { author = "x", reviewed_on = 2026-01-01, state = "reviewed" }
[words]
fillers = ["zu"]
numbers = ["ba"]
[[branch]]
topic = "bleeding"
reply = 1
label = "nana"
says = ["lala lala"]
source = "aha-first-aid"
text = "Xx {emergency_number}."
"""


def test_a_file_of_another_language_is_read(tmp_path: Path) -> None:
    texts = Texts.load(layer(tmp_path, GOOD), "999")
    for said in ("1", "ba", "zu 1", "lala, lala zu", "nana", "1 nana"):
        assert texts.follow.chosen("bleeding", said, "xx") == 1
    branch = texts.follow.branch("bleeding", 1, "xx")
    assert branch is not None
    assert branch.text == "Xx 999."
    assert "nana" in texts.menu("bleeding", "xx")


@pytest.mark.parametrize(
    ("was", "becomes", "why"),
    [
        ('topic = "bleeding"', 'topic = "rain"', "no such template"),
        ("reply = 1", "reply = 5", "reply"),
        ("reply = 1", "reply = 0", "reply"),
        ('label = "nana"', f'label = "{"n" * 25}"', "label"),
        ('source = "aha-first-aid"', 'source = "hearsay"', "hearsay"),
        ("{emergency_number}", "{number}", "number"),
        ('fillers = ["zu"]', 'fillers = "zu"', "words"),
        ('numbers = ["ba"]', 'numbers = ["a", "b", "c", "d", "e"]', "words"),
        ('topic = "bleeding"\nreply = 1', 'topic = "stroke"\nreply = 4', "not in English"),
    ],
)
def test_a_wrong_file_is_refused_by_what_is_wrong(tmp_path: Path, was: str, becomes: str, why: str) -> None:
    assert was in GOOD
    with pytest.raises(ConfigError, match=why):
        Texts.load(layer(tmp_path, GOOD.replace(was, becomes)))
