"""What a reply to an emergency's template chooses: «1», «2)», «reply 3», or words that mean the same."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from evy_core import Triager

if TYPE_CHECKING:
    from actors.knowledge.loader import Branch, ReplyWords

MAX_CHARACTERS: Final = 60
"""A longer text says more than one branch can answer."""
MAX_LABEL: Final = 24
"""Characters of what the menu calls a branch."""
MOST: Final = 4
"""Branches of one topic: more is no menu for a frightened person, nor one SMS."""

_NUMBER: Final = re.compile(r"\d+")
"""Decimal digits of any script; `int` reads them."""


def words_of(text: str) -> list[str]:
    """The words of a text as triage normalises them, numbers as ``#``."""
    [ngrams] = Triager.ngrams([text])
    return [ngram for ngram in ngrams if " " not in ngram and not ngram.startswith("~")]


class _Spoken:
    """Branches of one topic in one language, by what chooses them."""

    def __init__(self, branches: Iterable["Branch"], words: "ReplyWords | None") -> None:
        self._fillers = frozenset(words.fillers) if words else frozenset[str]()
        self._labels = {one.reply: frozenset(self.content(one.label)) for one in branches}
        self._said = {
            " ".join(self.content(said)): one.reply for one in branches for said in (*one.says, one.label)
        }
        for reply, word in enumerate(words.numbers if words else (), start=1):
            if reply in self._labels:
                self._said.setdefault(" ".join(words_of(word)), reply)

    def content(self, text: str) -> list[str]:
        """The words of a text that say something."""
        return [word for word in words_of(text) if word not in self._fillers]

    def chosen(self, text: str) -> int:
        """Number of the branch that the whole text chooses; 0: none. Of several numbers the first, which is
        the more pressing."""
        content = self.content(text)
        rest = {word for word in content if word != "#"}
        for number in map(int, _NUMBER.findall(text)):
            if number in self._labels and rest <= self._labels[number]:
                return number
        return self._said.get(" ".join(content), 0) if content else 0


class FollowUps:
    """Every branch, by topic, language and number."""

    def __init__(
        self, branches: Iterable["Branch"], words: Mapping[str, "ReplyWords"], fallback: str
    ) -> None:
        self._branches: Final[dict[tuple[str, str], dict[int, Branch]]] = {}
        for one in branches:
            self._branches.setdefault((one.topic, one.lang), {})[one.reply] = one
        self._words: Final = dict(words)
        self._fallback: Final = fallback
        self._spoken: Final[dict[tuple[str, str], _Spoken]] = {}
        """Made when first asked for: a topic and language is 4 kB."""

    def __iter__(self) -> Iterator["Branch"]:
        return (one for branches in self._branches.values() for one in branches.values())

    def of(self, topic: str, lang: str) -> tuple["Branch", ...]:
        """The branches of a topic in just that language, by number."""
        found = self._branches.get((topic, lang), {})
        return tuple(found[reply] for reply in sorted(found))

    def branch(self, topic: str, reply: int, lang: str) -> "Branch | None":
        """A branch in ``lang``, else in English; None when there is no such number."""
        return self._branches.get((topic, lang), {}).get(reply) or self._branches.get(
            (topic, self._fallback), {}
        ).get(reply)

    def chosen(self, topic: str, text: str, lang: str) -> int:
        """Number of the topic's branch that the whole text chooses, in ``lang`` or English; 0: it is another
        text."""
        if not topic or len(text) > MAX_CHARACTERS:
            return 0
        text = unicodedata.normalize("NFKC", text)
        for spoken in dict.fromkeys((lang, self._fallback)):
            if self._branches.get((topic, spoken)) and (reply := self._as_spoken(topic, spoken).chosen(text)):
                return reply
        return 0

    def _as_spoken(self, topic: str, lang: str) -> _Spoken:
        made = self._spoken.get((topic, lang))
        if made is None:
            made = self._spoken[topic, lang] = _Spoken(self.of(topic, lang), self._words.get(lang))
        return made
