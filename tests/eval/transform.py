"""What thumbs, keyboards and haste do to a text, seeded: its meaning stays, so must the verdict."""

import random
import re
from collections.abc import Callable, Mapping
from typing import Final

TYPO_RATE: Final = 0.25
"""Share of words of five letters or more that get one typo each; at least one word of a text does."""

_ROWS: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS: Final = {
    letter: [row[i] for i in (at - 1, at + 1) if 0 <= i < len(row)]
    for row in _ROWS
    for at, letter in enumerate(row)
}

_SHORT: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "you": "u", "are": "r", "please": "plz", "to": "2", "for": "4", "and": "n", "with": "w", "the": "d",
        "people": "ppl", "someone": "sum1", "help": "hlp", "what": "wat", "because": "cuz", "cant": "cnt",
        "cannot": "cnt", "is": "iz", "have": "hav", "here": "hre", "from": "frm", "now": "nw",
        "nobody": "no1", "before": "b4", "need": "nd", "my": "mi", "brother": "bro", "going": "goin",
        "breathe": "breth", "breathing": "breathin", "dont": "dnt", "wont": "wnt", "over": "ovr",
    },
    "es": {"que": "q", "por": "x", "porque": "xq", "para": "pa", "esta": "ta", "estamos": "tamos", "de": "d"},
    "fr": {"est": "é", "que": "ke", "qui": "ki", "pas": "pa", "dans": "ds", "nous": "ns", "beaucoup": "bcp"},
    "pt": {"que": "q", "nao": "n", "esta": "ta", "estamos": "tamo", "para": "pra", "muito": "mt"},
    "tl": {"ang": "ung", "ko": "q", "ako": "aq", "na": "n", "sa": "s", "namin": "nmin", "hindi": "di"},
}  # fmt: skip


def _typo(word: str, chance: random.Random) -> str:
    """One slip after the first letter: a neighbour key, or a letter dropped, doubled or swapped."""
    at = chance.randrange(1, len(word) - 1)
    kinds = [
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
    ]
    if near := _NEIGHBOURS.get(word[at].lower()):
        kinds.append(word[:at] + chance.choice(near) + word[at + 1 :])
    return chance.choice(kinds)


def typos(text: str, lang: str, chance: random.Random) -> str:
    """At most one slip in each word of five letters or more, in a quarter of them and in one at least."""
    words = text.split(" ")
    long = [at for at, word in enumerate(words) if len(word) >= 5 and word.isalpha()]
    chosen = {at for at in long if chance.random() < TYPO_RATE} or set(long and [chance.choice(long)])
    return " ".join(_typo(word, chance) if at in chosen else word for at, word in enumerate(words))


def case(text: str, lang: str, chance: random.Random) -> str:
    """Capitals throughout, none, on each word, or of every other letter."""
    mixed = "".join(char.upper() if at % 2 else char.lower() for at, char in enumerate(text))
    return chance.choice([text.upper(), text.lower(), text.title(), mixed])


def spacing(text: str, lang: str, chance: random.Random) -> str:
    """Doubled blanks, some of them and one line break, or one pair of words run together."""
    words = text.split(" ")
    kind = chance.randrange(3)
    if kind == 0:
        return "  ".join(words)
    if kind == 1 or len(words) < 4:
        at = chance.randrange(len(words))
        gaps = ["\n" if gap == at else chance.choice([" ", "  "]) for gap in range(len(words))]
        return "".join(word + gap for word, gap in zip(words, gaps, strict=True))
    at = chance.randrange(len(words) - 1)
    return " ".join([*words[:at], words[at] + words[at + 1], *words[at + 2 :]])


def punctuation(text: str, lang: str, chance: random.Random) -> str:
    """All of it lost, or doubled, or marks and dots between and after the words."""
    bare = re.sub(r"[^\w\s]", "", text) if lang not in {"hi", "ar"} else text
    return chance.choice(
        [
            bare,
            re.sub(r"([.,!?])", r"\1\1", text) + "!!!",
            text.replace(" ", "... ", 2),
            text + " ???",
            f"!! {text} !",
        ]
    )


def shorthand(text: str, lang: str, chance: random.Random) -> str:
    """Words as they are shortened in texts, four of five; languages without a list here stay as they are."""
    table = _SHORT.get(lang, {})
    return " ".join(
        table[word] if word in table and chance.random() < 0.8 else word for word in text.lower().split(" ")
    )


TRANSFORMS: Final[Mapping[str, Callable[[str, str, random.Random], str]]] = {
    "typos": typos,
    "case": case,
    "spacing": spacing,
    "punctuation": punctuation,
    "shorthand": shorthand,
}


def transformed(relation: str, text: str, lang: str, seed: int) -> str:
    """The text after one transformation; the same for the same seed, whatever the order of calls."""
    return TRANSFORMS[relation](text, lang, random.Random(f"{seed}:{relation}:{text}"))
