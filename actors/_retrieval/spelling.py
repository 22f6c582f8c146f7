"""Words as articles spell them: who texts leaves out accents, or the hamza of Arabic, or sets them.

The embedder takes «اسهال» and «إسهال» for two words: of Arabic questions typed without such marks, a sixth
fewer found their article, and a third fewer surely enough to be answered. Taking the marks out of articles
as well did not bring them back; spelling the question as most articles do did.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from actors._retrieval.phrases import Phrases, answering, questions
from actors._retrieval.vectors import plain
from actors.knowledge import ENGLISH, Article

_WORD: Final = re.compile(r"[\w\u0300-\u036f\u064b-\u0655\u0900-\u0963]+")
"""Letters with their marks, which for Python are no part of a word."""

_LEFT_OUT: Final = str.maketrans(
    {"ى": "ي", "ة": "ه", "ٱ": "ا", "ـ": "", "\u0670": "", "\u093c": "", "\u0901": "\u0902"}
    | {chr(mark): "" for mark in (*range(0x300, 0x370), *range(0x64B, 0x656))}
)
"""Of a decomposed word: accents, hamza, Arabic vowel signs, nukta; ँ is typed as ं."""


class Spelling:
    """How some articles and the questions for them spell each word. Never changes, so it needs no lock."""

    def __init__(self, articles: Sequence[Article], phrases: Phrases) -> None:
        """Of spellings that differ in such marks only, the one that a language's articles have most often."""
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for article in articles:
            if article.lang != ENGLISH:
                for text in (answering(article), *questions(article, phrases)):
                    counts[article.lang].update(_WORD.findall(plain(text)))
        self._usual: Final = {lang: _usual(words) for lang, words in counts.items()}

    def restored(self, text: str, lang: str) -> str:
        """A text with each word that articles in its language have spelled as there."""
        usual = self._usual.get(lang, {})
        return _WORD.sub(lambda word: usual.get(_typed(word.group()), word.group()), text)


def _typed(word: str) -> str:
    return unicodedata.normalize("NFD", word).translate(_LEFT_OUT)


def _usual(words: Counter[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in sorted(words):
        typed = _typed(word)
        if words[word] > words[found.get(typed, "")]:
            found[typed] = word
    return found
