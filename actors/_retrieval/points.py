"""What a search engine is given: every article as several points, and the texts that nothing answers.

The node's shard and the centre's collection hold the same points, so a confidence means the same in both.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from qdrant_edge import SparseVector

from actors._retrieval.phrases import Phrases, answering, asked_of, questions
from actors._retrieval.shipped import Known
from actors._retrieval.vectors import Vectors, bm25, plain
from actors.knowledge import ENGLISH, Article

QUESTION: Final = "question"
TEXT: Final = "text"
"""Kinds of points."""

EVERYWHERE: Final = "everywhere"
"""Stands among ``regions`` for an article that is limited to none."""

_ANSWERED: Final = 0.96
"""An unanswered text so near to an article's question is answered here after all."""

CANDIDATES: Final = 8
"""Articles whose evidence is weighed."""

_RRF_K: Final = 10
"""Reciprocal rank fusion: an article at rank r of a ranking gets 1/(k+r)."""

_AT_ONCE: Final = 64
"""Articles whose vectors are in memory together: a megabyte."""


class Point(NamedTuple):
    """One way to find an article. ``payload`` names it by its place and says where and when it is served.

    It has ``lang``, ``kind``, ``area``, ``regions``, and for what ages ``until``, the proleptic number of its
    last day. A text's payload also has its BM25 ``tokens``; an English one has the languages it is not served
    in (``elsewhere``), because the article exists in them.
    """

    id: int
    dense: Vectors
    bm25: SparseVector
    payload: dict[str, Any]


def points(articles: Sequence[Article], phrases: Phrases, known: Known) -> Iterator[Point]:
    """Points of every article; takes tens of milliseconds for each text that ``known`` lacks."""
    known.learn(asked_of(articles, phrases), asked=True)
    known.learn([answering(article) for article in articles], asked=False)
    versions = defaultdict(list)
    for article in articles:
        versions[article.id].append(article)
    ids = point_ids(articles, phrases)
    for start in range(0, len(articles), _AT_ONCE):
        some = articles[start : start + _AT_ONCE]
        asked = iter(known.vectors(asked_of(some, phrases), asked=True))
        own = known.vectors([answering(article) for article in some], asked=False)
        for number, (article, vector) in enumerate(zip(some, own, strict=True), start):
            first, *others = next(ids)
            payload = _payload(number, article, versions[article.id])
            said = (f"{answering(article)} {' '.join(article.tags)}", *questions(article, phrases))
            sparse = [bm25(article.lang).embed_document(plain(text)) for text in said]
            tokens = sorted({token for one in sparse for token in one.indices})
            yield Point(first, vector, sparse[0], {**payload, "kind": TEXT, "tokens": tokens})
            for point, row, one in zip(others, asked, sparse[1:], strict=False):  # rows go on to the next
                yield Point(point, row, one, {**payload, "kind": QUESTION})


def decoys(articles: Sequence[Article], phrases: Phrases, known: Known) -> Vectors:
    """Vectors of the texts that none of these articles answers."""
    against = known.vectors(phrases.decoys(), asked=True)
    nearest = np.zeros(len(against), dtype=np.float32)
    for start in range(0, len(articles), _AT_ONCE):
        if texts := asked_of(articles[start : start + _AT_ONCE], phrases):
            nearest = np.maximum(nearest, (against @ known.vectors(texts, asked=True).T).max(axis=1))
    return np.ascontiguousarray(against[nearest < _ANSWERED])


def _payload(number: int, article: Article, versions: Sequence[Article]) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "article": number,
        "lang": article.lang,
        "area": article.area,
        "regions": list(article.regions) or [EVERYWHERE],
    }
    if article.valid_until is not None:
        payload["until"] = article.valid_until.toordinal()
    if article.lang == ENGLISH:
        payload["elsewhere"] = sorted(other.lang for other in versions if _replaces(other, article))
    return payload


def _replaces(other: Article, english: Article) -> bool:
    """Whether a version is served wherever and whenever the English one is."""
    wide = not other.regions or (english.regions and set(english.regions) <= set(other.regions))
    long = other.valid_until is None or (
        english.valid_until is not None and english.valid_until <= other.valid_until
    )
    return other.lang != ENGLISH and bool(wide) and long


def point_ids(articles: Sequence[Article], phrases: Phrases) -> Iterator[range]:
    """Point ids of each article: its text first, then its questions."""
    start = 0
    for article in articles:
        yield range(start, start := start + 1 + len(questions(article, phrases)))


def fused(rankings: Sequence[Iterable[int]], most: int = CANDIDATES) -> list[int]:
    """The ``most`` articles that some rankings put first together, by reciprocal rank fusion."""
    gained: dict[int, float] = defaultdict(float)
    for ranking in rankings:
        for rank, number in enumerate(ranking, start=1):
            gained[number] += 1 / (_RRF_K + rank)
    return sorted(gained, key=lambda number: -gained[number])[:most]


def overlap(
    asked: Collection[int], tokens: Collection[int], rarity: Mapping[int, int], articles: int
) -> float:
    """Share of the asked tokens that are in ``tokens``, weighed by rarity as in BM25."""

    def weight(token: int) -> float:
        count = rarity.get(token, 0)
        return math.log(1 + (articles - count + 0.5) / (count + 0.5))

    whole = sum(weight(token) for token in asked)
    shared = sum(weight(token) for token in asked if token in tokens)
    return shared / whole if whole else 0.0
