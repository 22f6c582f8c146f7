"""Two questions in one text, and a text that goes on from the question before it. By word lists, no model.

Both only decide what is asked of the index. Whatever is found is sent as it was written, so a wrong reading
can cost a worse answer or an honest "I do not know", never a changed one.
"""

import re
import tomllib
import unicodedata
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from actors.knowledge import ENGLISH
from subjects.errors import ConfigError
from subjects.messages import Passage

WORDS: Final = Path(__file__).with_name("turns.toml")

LONGEST_GOING_ON: Final = 10
"""Words of a text that goes on from the question before; a longer one says what it means by itself."""

_LEAST_LETTERS: Final = 8
"""Letters of a question that stands alone."""

_SHARED: Final = 4
"""Letters that two forms of a word begin with at least: «salt», «salty». Shorter words must be the same."""

_LONGEST_PHRASE: Final = 3

_ASKS: Final = frozenset("?؟")
_ENDS: Final = _ASKS | frozenset("!.;؛।")
_PAUSES: Final = frozenset(",،")
_EDGE: Final = re.compile(r"^[^\w\u0900-\u097F]+|[^\w\u0900-\u097F]+$")

Phrase = tuple[str, ...]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"and_": "and", "not_": "not"}):
    and_: tuple[str, ...]
    asks_first: bool
    asks: tuple[str, ...]
    leans: tuple[str, ...]
    whole: tuple[str, ...]
    goes_on: tuple[str, ...]
    not_: tuple[str, ...]
    small: tuple[str, ...]
    glued: tuple[str, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    who: dict[str, tuple[str, ...]]
    lang: dict[str, _Table]


class _Word(NamedTuple):
    plain: str
    start: int
    end: int
    mark: str
    """The punctuation after it."""


class Reader:
    """Reads texts of one language."""

    def __init__(self, table: _Table, who: Mapping[str, tuple[str, ...]]) -> None:
        self._and: Final = _phrases(table.and_)
        self._glued: Final = tuple(map(folded, table.glued))
        self._and_asks: Final = frozenset(
            (glue + first, *more) for glue in self._glued for first, *more in _phrases(table.asks)
        )
        self._asks: Final = _phrases(table.asks) | self._and_asks
        self._asks_first: Final = table.asks_first
        self._leans: Final = _phrases(table.leans)
        self._whole: Final = _phrases(table.whole)
        self._goes_on: Final = _phrases(table.goes_on)
        self._not: Final = _phrases(table.not_)
        self._small: Final = _phrases(table.small)
        self._who: Final = {phrase: name for name, words in who.items() for phrase in _phrases(words)}

    def parts(self, text: str) -> tuple[str, str] | None:
        """The two questions of a text that has two which stand alone; None for any other text.

        What is said before a question belongs to it, what is said after the last one too.
        """
        if not (words := _words(text)):
            return None
        cuts = [0, *(place for place in range(1, len(words)) if self._cuts(words, place)), len(words)]
        pieces = [words[start:end] for start, end in pairwise(cuts)]
        asked: list[list[_Word]] = []
        waiting: list[_Word] = []
        for piece in pieces:
            waiting = [*waiting, *piece]
            if self._is_question(waiting):
                asked.append(waiting)
                waiting = []
        if len(asked) != 2:
            return None
        first, second = asked[0], self._without_and([*asked[1], *waiting])
        if not (self._stands_alone(first) and self._stands_alone(second)) or self._leans_back(second):
            return None
        return _said(text, first), _said(text, second)

    def goes_on(self, text: str) -> bool:
        """Whether a text by itself says only what is different from a question before it."""
        words = _words(text)
        if not 0 < len(words) <= LONGEST_GOING_ON or self._has(words, self._not):
            return False
        begins = _length_at(words, 0, self._goes_on) or words[0].plain.startswith(self._glued or ("\n",))
        return bool(begins and self.content(text))

    def content(self, text: str) -> frozenset[str]:
        """The words of a text that carry meaning, without accents."""
        words = _words(text)
        bare: set[str] = set()
        place = 0
        skipped = (self._goes_on, self._and, self._asks, self._small, self._leans)
        while place < len(words):
            length = max(_length_at(words, place, phrases) for phrases in skipped)
            if not length and any(map(str.isalpha, words[place].plain)):
                bare.add(words[place].plain)
            place += max(1, length)
        return frozenset(bare)

    def who(self, text: str) -> frozenset[str]:
        """Of whom a text speaks, as far as advice for others may harm them."""
        words = _words(text)
        named: set[str] = set()
        place = 0
        while place < len(words):
            if length := _length_at(words, place, self._who):
                named.add(self._who[_plain(words, place, length)])
            place += max(1, length)
        return frozenset(named)

    def speaks_of(self, passage: Passage, who: Iterable[str]) -> bool:
        """Whether a passage names each of ``who``."""
        return set(who) <= self.who(f"{passage.title} {passage.text}")

    def answers(self, passage: Passage, before: str, text: str) -> bool:
        """Whether a passage that was found for ``before`` and ``text`` together may answer ``text``: it names
        everybody of whom both speak, and everything else that is new in ``text``."""
        if not self.speaks_of(passage, self.who(f"{before} {text}")):
            return False
        named = {word for phrase in self._who for word in phrase}
        new = self.content(text) - self.content(before) - named
        said = {word.plain for word in _words(f"{passage.title} {passage.text}")}
        return all(any(_alike(word, other) for other in said) for word in new)

    def _cuts(self, words: Sequence[_Word], place: int) -> bool:
        """Whether a new piece may begin at a word."""
        if words[place - 1].mark in _ENDS:
            return True
        length = _length_at(words, place, self._and)
        if not self._asks_first:
            return bool(length)
        if length or words[place - 1].mark in _PAUSES:
            return bool(_length_at(words, place + length, self._asks))
        return bool(_length_at(words, place, self._and_asks))

    def _is_question(self, words: Sequence[_Word]) -> bool:
        return words[-1].mark in _ASKS or self._has(words, self._asks)

    def _stands_alone(self, words: Sequence[_Word]) -> bool:
        text = " ".join(word.plain for word in words)
        return len(text.replace(" ", "")) >= _LEAST_LETTERS and bool(self.content(text))

    def _leans_back(self, words: Sequence[_Word]) -> bool:
        place = 0
        while place < len(words):
            if length := _length_at(words, place, self._whole):
                place += length
            elif _length_at(words, place, self._leans):
                return True
            else:
                place += 1
        return False

    def _without_and(self, words: Sequence[_Word]) -> list[_Word]:
        if length := _length_at(words, 0, self._and):
            return list(words[length:])
        if _length_at(words, 0, self._and_asks):
            first = words[0]
            return [first._replace(plain=first.plain[1:], start=first.start + 1), *words[1:]]
        return list(words)

    @staticmethod
    def _has(words: Sequence[_Word], phrases: frozenset[Phrase]) -> bool:
        return any(_length_at(words, place, phrases) for place in range(len(words)))


@cache
def reader(lang: str) -> Reader:
    """Reader of a language, or of English where there is none. Raises :class:`ConfigError`."""
    file = _file()
    return Reader(file.lang.get(lang, file.lang[ENGLISH]), file.who)


@cache
def _file() -> _File:
    try:
        return msgspec.convert(tomllib.loads(WORDS.read_text(encoding="utf-8")), _File)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{WORDS}: {error}") from error


def folded(text: str) -> str:
    """Lower case without the accents of Latin and Arabic letters; Devanagari keeps its vowel signs."""
    marks = unicodedata.normalize("NFKD", text.lower())
    return "".join(c for c in marks if not (unicodedata.category(c) == "Mn" and ord(c) < 0x900))


def _words(text: str) -> list[_Word]:
    found = []
    for match in re.finditer(r"\S+", text):
        raw = match.group()
        plain = folded(_EDGE.sub("", raw)).replace("’", "'")
        mark = raw.rstrip("\"'»)")[-1:]
        if plain:
            found.append(_Word(plain, *match.span(), mark))
        elif found:
            found[-1] = found[-1]._replace(mark=mark, end=match.end())
    return found


def _said(text: str, words: Sequence[_Word]) -> str:
    return text[words[0].start : words[-1].end].strip(" ,;،؛")


def _phrases(listed: Iterable[str]) -> frozenset[Phrase]:
    return frozenset(tuple(folded(phrase).split()) for phrase in listed)


def _plain(words: Sequence[_Word], place: int, length: int) -> Phrase:
    return tuple(word.plain for word in words[place : place + length])


def _length_at(words: Sequence[_Word], place: int, phrases: Container[Phrase]) -> int:
    """Words of the longest phrase that stands at a place; 0: none."""
    for length in range(min(_LONGEST_PHRASE, len(words) - place), 0, -1):
        if _plain(words, place, length) in phrases:
            return length
    return 0


def _alike(word: str, other: str) -> bool:
    shared = max(_SHARED, min(len(word), len(other)) - 1)
    return word == other or (min(len(word), len(other)) >= _SHARED and word[:shared] == other[:shared])
