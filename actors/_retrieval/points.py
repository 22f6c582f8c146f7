"""What a search engine is given: every article as several points, and the texts that nothing answers.

The node's shard and the centre's collection hold the same points, so a confidence means the same in both.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from qdrant_edge import SparseVector

from actors._retrieval.phrases import Phrases, answering, asked_of, questions
from actors._retrieval.shipped import vectors
from actors._retrieval.vectors import Vectors, bm25, plain
from actors.knowledge import ENGLISH, Article

QUESTION: Final = "question"
TEXT: Final = "text"
"""Kinds of points."""

_ANSWERED: Final = 0.96
"""An unanswered text so near to an article's question is answered here after all."""


class Point(NamedTuple):
    """One way to find an article. ``payload`` names it by its place, with its language and kind.

    A text's payload also has its BM25 ``tokens``; an English one has the languages it is not served in
    (``elsewhere``), because the article exists in them.
    """

    id: int
    dense: Vectors
    bm25: SparseVector
    payload: dict[str, Any]


class Points(NamedTuple):
    """The points of some articles; ``rarity`` counts the articles that have a BM25 token."""

    points: list[Point]
    rarity: dict[int, int]
    decoys: Vectors


def points(articles: Sequence[Article], phrases: Phrases) -> Points:
    """Points of every article; takes tens of milliseconds for each text whose vector is not shipped."""
    versions = defaultdict(set)
    for article in articles:
        versions[article.id].add(article.lang)
    asked = vectors(asked_of(articles, phrases), asked=True)
    own = vectors([answering(article) for article in articles], asked=False)
    rows = iter(asked)
    made = []
    rarity = Counter[int]()
    for number, (article, ids) in enumerate(zip(articles, point_ids(articles, phrases), strict=True)):
        said = (f"{answering(article)} {' '.join(article.tags)}", *questions(article, phrases))
        sparse = [bm25(article.lang).embed_document(plain(text)) for text in said]
        tokens = {token for one in sparse for token in one.indices}
        payload = {
            "article": number,
            "lang": article.lang,
            "elsewhere": sorted(versions[article.id] - {ENGLISH}) if article.lang == ENGLISH else [],
        }
        made.append(
            Point(ids[0], own[number], sparse[0], {**payload, "kind": TEXT, "tokens": sorted(tokens)})
        )
        for point, vector, one in zip(ids[1:], rows, sparse[1:], strict=False):  # rows go on to the next
            made.append(Point(point, vector, one, {**payload, "kind": QUESTION}))
        rarity.update(tokens)
    against = vectors(phrases.decoys(), asked=True)
    if len(asked):
        against = against[(against @ asked.T).max(axis=1) < _ANSWERED]
    return Points(made, dict(rarity), np.ascontiguousarray(against))


def point_ids(articles: Sequence[Article], phrases: Phrases) -> Iterator[range]:
    """Point ids of each article: its text first, then its questions."""
    start = 0
    for article in articles:
        yield range(start, start := start + 1 + len(questions(article, phrases)))


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
