"""Fits the confidence of retrieval to texts whose answer is known, by exact search over the shipped vectors.

What a person might ask comes from four places: the rows of ``questions.jsonl`` and ``unanswered.jsonl`` that
are not held out, half of the chatter among the vectors of triage, and the articles' own questions, each asked
as if it stood nowhere, or as if its article were there in English only. The last are many and hard, and a
neighbour's article often answers as well as their own, so they weigh little.
"""

import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors._retrieval.confidence import (
    BIAS,
    LEAD,
    MARGIN,
    RISE,
    SURE,
    Evidence,
    confidence,
    nearness,
    ordered,
)
from actors._retrieval.phrases import answering, asked_of, questions, read_phrases
from actors._retrieval.points import CANDIDATES, overlap
from actors._retrieval.shipped import FILE, Known
from actors._retrieval.spelling import Spelling
from actors._retrieval.vectors import Vectors, bm25, plain, spelled_out
from actors.knowledge import ENGLISH, Article, Texts

VECTORS: Final = Path(__file__).parents[1] / "vectors"

CHATTER: Final = frozenset({"chat", "idiom", "news", "film", "lyrics", "drill", "negated"})
"""Kinds of texts among the vectors of triage that no article is for."""

OWN_QUESTIONS: Final = 300
"""Of each language; a fixed sample."""

ANSWERABLE: Final = 2.0
"""Texts with an answer for each without one, in the mix that the confidence is the probability for."""

_WEIGHTS: Final = {"questions": 3.0, "unanswered": 2.0, "chatter": 1.0, "own": 0.2, "foreign": 0.2}
_RIDGE: Final = 1.0
_AT_ONCE: Final = 200

Floats = NDArray[np.float64]


class Text(msgspec.Struct, frozen=True):
    """What somebody asks. ``expect`` are the articles that answer it; ``held`` keeps it from the fit."""

    text: str
    lang: str
    source: str
    expect: frozenset[str]
    held: bool = False
    own: int | None = None
    """Its place among the questions of all articles, which it must not be found by."""
    without: bool = False
    """The article does not exist in the text's language, as far as this text may know."""


class Case(msgspec.Struct, frozen=True):
    """A text with the best article for it."""

    asked: Text
    article: str
    lang: str
    evidence: Evidence

    @property
    def right(self) -> bool:
        """Whether the best article answers the text."""
        return self.article in self.asked.expect


class Everything:
    """All articles, phrases and their vectors in memory."""

    def __init__(self) -> None:
        self.articles: Final = Texts.load().articles()
        self.phrases: Final = read_phrases()
        self.spelling: Final = Spelling(self.articles, self.phrases)
        self.known: Final = Known(FILE)
        self.asked: Final = asked_of(self.articles, self.phrases)
        self.counts: Final = np.array([len(questions(article, self.phrases)) for article in self.articles])
        self.starts: Final = np.cumsum(self.counts) - self.counts
        self._asked: Final = self.known.vectors(self.asked, asked=True)
        self._own: Final = self.known.vectors([answering(a) for a in self.articles], asked=False)
        self._decoys: Final = self.known.vectors(self.phrases.decoys(), asked=True)
        self._langs: Final = np.array([article.lang for article in self.articles])
        self._english: Final = {a.id: place for place, a in enumerate(self.articles) if a.lang == ENGLISH}
        self._places: Final = np.repeat(np.arange(len(self.articles)), self.counts)
        self._tokens: Final[list[Counter[int]]] = []
        self._rarity: Final = Counter[int]()
        for article in self.articles:
            said = (f"{answering(article)} {' '.join(article.tags)}", *questions(article, self.phrases))
            tokens = Counter(token for text in said for token in set(self._words(text, article.lang)))
            self._tokens.append(tokens)
            self._rarity.update(tokens.keys())

    @staticmethod
    def _words(text: str, lang: str) -> Sequence[int]:
        return bm25(lang).embed_document(plain(text)).indices

    def best(self, texts: Sequence[Text]) -> Iterator[Case]:
        """The best article for each of some texts in one language."""
        lang = texts[0].lang
        served = np.flatnonzero(_served(self.articles, lang))
        said = [plain(self.spelling.restored(spelled_out(plain(text.text), lang), lang)) for text in texts]
        for start in range(0, len(texts), _AT_ONCE):
            vectors = self.known.vectors(said[start : start + _AT_ONCE], asked=True)
            for text, words, vector in zip(
                texts[start : start + _AT_ONCE], said[start : start + _AT_ONCE], vectors, strict=True
            ):
                yield self._best(text, words, vector, served)

    def _best(self, text: Text, said: str, vector: Vectors, served: NDArray[np.intp]) -> Case:
        cosines = self._asked @ vector
        if text.own is not None:
            cosines[text.own] = -1
        first = np.maximum.reduceat(cosines, self.starts)
        own = self._own @ vector
        against = self._decoys @ vector
        likely = 1.5 * first + own
        if text.without:
            missing = self.articles[self._places[text.own]].id
            served = np.array(
                [n for n in served if self.articles[n].id != missing] + [self._english[missing]]
            )
        tongues = self._langs[served]
        near = np.concatenate(
            [
                (some := served[tongues == tongue])[np.argsort(-likely[some])[:CANDIDATES]]
                for tongue in dict.fromkeys((text.lang, ENGLISH))
            ]
        )
        words = bm25(text.lang).embed_query(said).indices
        found = []
        for number in near:
            start, count = self.starts[number], int(self.counts[number])
            mine = np.sort(cosines[start : start + count])[::-1]
            tokens = self._tokens[number]
            if text.own is not None and start <= text.own < start + count:
                count -= 1
                tokens = tokens - Counter(set(self._words(self.asked[text.own], self.articles[number].lang)))
            evidence = Evidence(
                nearness([float(cosine) for cosine in mine[: min(2, count)]], 0.0, count)
                - float(against.max()),
                float(own[number] - against.mean()),
                overlap(words, tokens, self._rarity, len(self.articles)),
                self.articles[number].lang != text.lang,
            )
            found.append((self.articles[number], evidence))
        article, evidence = ordered(found)[0]
        return Case(text, article.id, article.lang, evidence)


def _served(articles: Sequence[Article], lang: str) -> NDArray[np.bool_]:
    here = {article.id for article in articles if article.lang == lang}
    return np.array([a.lang == lang or (a.lang == ENGLISH and a.id not in here) for a in articles])


def texts(everything: Everything) -> list[Text]:
    """What is asked, from every place."""
    found = [
        Text(row["text"], row["lang"], "questions", frozenset(row["expect"]), row["held_out"])
        for row in _rows("questions.jsonl")
    ]
    found += [
        Text(row["text"], row["lang"], "unanswered", frozenset(), row["held_out"])
        for row in _rows("unanswered.jsonl")
    ]
    for row in _rows("triage*.jsonl", "unseen/batch*.jsonl"):
        if row["priority"] == "normal" and row["kind"] in CHATTER:
            held = zlib.crc32(row["text"].encode()) % 2 == 1
            found.append(Text(row["text"], row["lang"], "chatter", frozenset(), held))
    random = np.random.default_rng(6)
    place = np.repeat(np.arange(len(everything.articles)), everything.counts)
    places = defaultdict(list)
    for number, article in enumerate(place):
        places[everything.articles[article].lang].append(number)
    for lang, numbers in places.items():
        english = {article.id for article in everything.articles if article.lang == ENGLISH}
        for turn, number in enumerate(random.permutation(numbers)[:OWN_QUESTIONS]):
            article = everything.articles[place[number]]
            if everything.asked[number] in article.questions and len(article.questions) > 1:
                without = lang != ENGLISH and article.id in english and turn % 2 == 1
                source, expect = "foreign" if without else "own", frozenset({article.id})
                found.append(
                    Text(everything.asked[number], lang, source, expect, False, int(number), without)
                )
    return found


def _rows(*patterns: str) -> Iterator[dict[str, Any]]:
    for pattern in patterns:
        for path in sorted(VECTORS.glob(pattern)):
            yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def cases(everything: Everything) -> list[Case]:
    """Every text with the best article for it. Takes about a minute, and a tenth of a second for each text
    whose vector is not shipped."""
    by_lang = defaultdict(list)
    for text in texts(everything):
        by_lang[text.lang].append(text)
    return [case for some in by_lang.values() for case in everything.best(some)]


def fit(found: Iterable[Case]) -> Floats:
    """BIAS, LEAD, RISE and MARGIN by weighted logistic regression with a ridge, of the cases not held out."""
    some = [case for case in found if not case.asked.held]
    x = np.array([(case.evidence.lead, case.evidence.rise, case.evidence.margin) for case in some])
    y = np.array([case.right for case in some], dtype=float)
    weights = np.array(
        [_WEIGHTS[case.asked.source] * (ANSWERABLE if case.asked.expect else 1) for case in some]
    )
    scale = x.std(axis=0)
    design = np.column_stack([np.ones(len(x)), x / scale])
    penalty = np.diag([0.0, *[_RIDGE] * x.shape[1]])
    found_ = np.zeros(design.shape[1])
    for _ in range(50):  # Newton's method; a dozen steps suffice
        p = 1 / (1 + np.exp(-design @ found_))
        slope = design.T @ (weights * (p - y)) + penalty @ found_
        found_ -= np.linalg.solve((design.T * (weights * p * (1 - p))) @ design + penalty, slope)
    return np.array([found_[0], *(found_[1:] / scale)])


def _mix(case: Case) -> float:
    return ANSWERABLE if case.asked.expect else 1.0


def report(found: Sequence[Case], name: str, limits: Sequence[float] = (SURE,)) -> None:
    """Prints what would be sent as written from some limits on, right and wrong, by source of the texts."""
    groups = defaultdict(list)
    for case in found:
        held = "held out" if case.asked.held else "fitted"
        groups[f"{case.asked.source}, {held}"].append(case)
        if case.asked.own is None and case.asked.held:
            groups[f"no answer, held out, {case.asked.lang}"] += [case] * (not case.asked.expect)
        if case.asked.own is not None:
            groups[f"{case.asked.source}, {case.asked.lang}"].append(case)
    print(name)
    for group, some in sorted(groups.items()):
        able = [case for case in some if case.asked.expect]
        other = [case for case in some if not case.asked.expect]
        line = f"  {group:28}"
        if able:
            line += f" {len(able):5} answerable, first {np.mean([case.right for case in able]):.1%}"
        for limit in limits:
            if able:
                sure = [case for case in able if confidence(case.evidence) >= limit]
                right = sum(case.right for case in sure)
                line += f", >= {limit}: right {right / len(able):.1%}"
                line += f", wrong {(len(sure) - right) / len(able):.1%}"
            if other:
                said = np.mean([confidence(case.evidence) >= limit for case in other])
                line += f"; {len(other)} without an answer, >= {limit}: {said:.1%}"
        print(line)


def reliability(found: Sequence[Case]) -> None:
    """Prints by bins of confidence how often the best article was right, for texts of another hand."""
    some = [case for case in found if case.asked.own is None]
    weight = np.array([_mix(case) for case in some])
    p = np.array([confidence(case.evidence) for case in some])
    right = np.array([case.right for case in some])
    for low, high in ((0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 0.9), (0.9, 1.01)):
        here = (p >= low) & (p < high)
        if here.any():
            mean, share = (
                np.average(p[here], weights=weight[here]),
                np.average(right[here], weights=weight[here]),
            )
            print(
                f"  {low:.2f} to {min(high, 1):.2f}: {here.sum():4} texts, said {mean:.2f}, was {share:.2f}"
            )


def main() -> None:
    """Prints the line for ``confidence.py``, and what the present one does."""
    everything = Everything()
    found = cases(everything)
    bias, lead, rise, margin = fit(found)
    report(found, f"as it is: BIAS {BIAS}, LEAD {LEAD}, RISE {RISE}, MARGIN {MARGIN}", (0.5, SURE))
    reliability(found)
    print("to write into actors/_retrieval/confidence.py:")
    print(f"BIAS, LEAD, RISE, MARGIN = {bias:.2f}, {lead:.1f}, {rise:.1f}, {margin:.1f}")


if __name__ == "__main__":
    main()
