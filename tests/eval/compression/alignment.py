"""A short text laid over the long one it was made from: which words are there, and which facts."""

import re
from bisect import bisect_right
from itertools import pairwise
from typing import Final

import msgspec

from tests.eval.compression.corpus import Fact
from tests.eval.compression.words import REWORDED, SHORT_FORMS, STOPWORDS, Token, plain, tokens

UNIT_END: Final = re.compile(r"(?<!\d)[.!?…;。！？।؟]+(?=\s|$|[\"»”])|(?<=\d)[.;!?](?=\s|$)|[。！？।]|\n+")
CLAUSE_END: Final = re.compile(r"[.!?…;:,\n。！？।，؟،()—–]")
ITEM: Final = re.compile(r"^\s*(\d{1,2}[.)]|[-•*–—])\s+", re.MULTILINE)


class Reading(msgspec.Struct):
    """A short text laid over the long one it was made from."""

    source: list[Token]
    short: list[Token]
    match: dict[int, int]
    """Place in the short text → place in the long one."""

    @property
    def kept(self) -> set[int]:
        """Places of the long text that are in the short one."""
        return set(self.match.values())


def same(short: Token, source: Token) -> bool:
    """Whether one token may stand for the other: equal, a denial for a denial, or a stump of the word."""
    if short.form == source.form:
        return True
    if short.kind == "negator" and source.kind == "negator":
        return True
    if source.form in REWORDED.get(short.form, ()):
        return True
    return short.kind == source.kind == "word" and (
        len(short.form) >= 3
        and len(source.form) >= len(short.form) + 2
        and source.form.startswith(short.form)
    )


def align(text: str, short: str, lang: str) -> Reading:
    """The best monotone match of the short text's words with the long text's, neighbours preferred.

    Quadratic in the number of possible matches: some hundreds for an answer of 200 words.
    """
    long_tokens, short_tokens = tokens(text, lang), tokens(short, lang)
    pairs: list[tuple[int, int, float]] = []
    for j, token in enumerate(short_tokens):
        for i, candidate in enumerate(long_tokens):
            if same(token, candidate):
                exact = token.form == candidate.form
                common = token.form in STOPWORDS.get(lang, ()) or len(token.form) == 1
                pairs.append((i, j, (0.3 if common else 1.0) * (1.0 if exact else 0.8)))
    long_sentence, short_sentence = _sentences(text, long_tokens), _sentences(short, short_tokens)
    best: list[float] = []
    back: list[int] = []
    for index, (i, j, worth) in enumerate(pairs):
        top, chosen = worth, -1
        for earlier in range(index):
            before_i, before_j, _ = pairs[earlier]
            if before_i < i and before_j < j:
                gap = i - before_i + j - before_j - 2
                score = best[earlier] + worth + (0.3 if gap == 0 else -min(gap, 40) * 0.004)
                if (long_sentence[i] != long_sentence[before_i]) != (
                    short_sentence[j] != short_sentence[before_j]
                ):
                    # Words of one sentence come from one sentence: «do not» of the one left out is not meant.
                    score -= 0.5
                if score > top:
                    top, chosen = score, earlier
        best.append(top)
        back.append(chosen)
    match = {}
    place = max(range(len(pairs)), key=best.__getitem__, default=-1)
    while place >= 0:
        match[pairs[place][1]] = pairs[place][0]
        place = back[place]
    return Reading(long_tokens, short_tokens, match)


def _sentences(text: str, of: list[Token]) -> list[int]:
    ends = [found.end() for found in re.finditer(r"[.!?;:\n]+(?=\s|$)|\n", text)]
    return [bisect_right(ends, token.start) for token in of]


def spans(text: str, ends: re.Pattern[str]) -> list[tuple[int, int]]:
    """Stretches of the text between the ends, the end included."""
    cuts = [0, *(found.end() for found in ends.finditer(text)), len(text)]
    return [(a, b) for a, b in pairwise(cuts) if text[a:b].strip()]


def units(text: str) -> list[tuple[int, int]]:
    """Sentences, parts between semicolons, and list items; the mark of an item belongs to it."""
    marks = {found.start(1): found.end() for found in ITEM.finditer(text)}
    joined: list[tuple[int, int]] = []
    for a, b in spans(text, UNIT_END):
        first = a + len(text[a:b]) - len(text[a:b].lstrip())
        if joined and any(joined[-1][0] <= mark < joined[-1][1] <= end for mark, end in marks.items()):
            joined[-1] = (joined[-1][0], b)
        else:
            joined.append((first, b))
    return joined


def items(text: str) -> list[tuple[int, int]]:
    """Numbered steps, from the mark to the end of their line."""
    return [
        (found.start(1), (text.find("\n", found.end()) + 1 or len(text) + 1) - 1)
        for found in ITEM.finditer(text)
        if found[1][0].isdigit()
    ]


def content(token: Token, lang: str) -> bool:
    """Whether a word says something by itself."""
    return token.kind != "word" or token.form not in STOPWORDS.get(lang, ())


def inside(source: list[Token], start: int, end: int) -> list[int]:
    """Places of the tokens that stand within a span."""
    return [place for place, token in enumerate(source) if start <= token.start < end]


def fact_kept(fact: Fact, reading: Reading, lang: str) -> bool:
    """Whether a marked fact survived.

    Its numbers, units, times, phones and negations must all be there; drug and phone word for word; of other
    words of content two thirds, since a readable short form or a dropped adverb loses nothing.
    """
    kept = reading.kept
    places = inside(reading.source, fact.start, fact.end)
    hard = [p for p in places if reading.source[p].kind not in {"word", "negator"}]
    denied = [p for p in places if reading.source[p].kind == "negator"]
    # French «ne … pas» is one denial in two words.
    denial_gone = denied and not any(p in kept for p in denied)
    if denial_gone or any(p not in kept for p in hard):
        return False
    words = [p for p in places if reading.source[p].kind == "word" and content(reading.source[p], lang)]
    needed = len(words) if fact.kind == "drug" else (2 * len(words) + 2) // 3
    return sum(p in kept for p in words) >= needed if words or hard or denied else True


def new_words(reading: Reading, lang: str) -> list[str]:
    """Words and numbers of the short text that are nowhere in the long one, known short forms aside."""
    vocabulary = {token.form for token in reading.source}
    stems = [token for token in reading.source if token.kind == "word"]
    return [
        token.form
        for token in reading.short
        if token.form not in vocabulary
        and token.kind != "negator"
        and not any(same(token, other) for other in stems)
    ]


def unreadable(short: str, source: str, lang: str) -> tuple[int, int]:
    """Words that are neither in the long text as they stand nor well-known short forms, and all words."""
    # A word keeps its accents' place but not the accents: folding to GSM 7-bit costs no readability.
    ordinary = set(re.findall(r"[^\W\d_]+", plain(source)))
    known = set(SHORT_FORMS.get(lang, ())) | {
        "min",
        "h",
        "hr",
        "hrs",
        "sec",
        "s",
        "ml",
        "l",
        "cm",
        "m",
        "km",
        "kg",
    }
    words = re.findall(r"[^\W\d_]+", plain(short))
    return sum(word not in ordinary and word not in known for word in words), len(words)
