"""Search over the node's articles: dense vectors and BM25 in one Qdrant Edge shard, fused by rank.

Every article is several points: its text with the title, and each of its questions, so that people's own
words meet people's own words; the best point of an article counts.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, cast

import numpy as np
from qdrant_edge import (
    EdgeShard,
    FieldCondition,
    Filter,
    MatchAny,
    MatchValue,
    Query,
    QueryBatchRequest,
    QueryRequest,
    SparseVector,
)

from actors.knowledge import ENGLISH, Article, Texts
from actors.rag import store
from actors.rag.confidence import Evidence, confidence
from actors.rag.vectors import Vectors, bm25, embedder, plain
from subjects.messages import Passage

_LOG: Final = logging.getLogger(__name__)

_POINTS: Final = 200
"""Points asked of each ranking; an article has up to some twenty."""

_CANDIDATES: Final = 8
"""Articles whose evidence is weighed."""

_RRF_K: Final = 10
"""Reciprocal rank fusion: an article at rank r of a ranking gets 1/(k+r)."""


class KnowledgeIndex:
    """The articles of one :class:`Texts`, searchable. Made by :meth:`open`; safe to use from threads."""

    def __init__(
        self, place: Path, articles: Sequence[Article], phrases: store.Phrases, rebuilt: str
    ) -> None:
        manifest = store.check(place)
        self._articles: Final = articles
        self._rarity: Final = manifest.rarity
        self._points: Final = list(store.point_ids(articles, phrases))
        self._decoys: Final[Vectors] = np.load(place / store.DECOY_VECTORS)
        self._shard: Final = EdgeShard.load(str(place / store.SHARD))
        embedder()
        self.rebuilt: Final = rebuilt
        """Why the index was built anew at this start; empty when the one on disk was used."""

    @classmethod
    def open(cls, directory: Path, texts: Texts, phrases: Path = store.PHRASES) -> "KnowledgeIndex":
        """The index in ``directory``, built first if there is none for these articles or it is damaged.

        Building takes some seconds. Raises OSError when the directory cannot be written,
        :class:`ConfigError` when ``phrases`` cannot be used.
        """
        asked = store.read_phrases(phrases)
        directory.mkdir(parents=True, exist_ok=True)
        articles = texts.articles()
        place = directory / store.fingerprint(articles, asked)
        reason = "no index of these articles yet"
        if place.exists():
            try:
                return cls(place, articles, asked, "")
            except Exception as error:  # noqa: BLE001  the engine has no error type of its own
                reason = f"damaged: {error}"
                _LOG.warning("index %s: %s; building it again", place, error)
                store.remove(place)
        store.build(place, articles, asked)
        return cls(place, articles, asked, reason)

    def close(self) -> None:
        """Releases the files."""
        self._shard.close()

    def search(self, text: str, lang: str, limit: int = 3) -> list[Passage]:
        """Passages of the best articles, the best first; ``score`` is the calibrated confidence.

        An article is found in ``lang``, and in English where it has no version in ``lang``. Empty for a text
        without a letter.
        """
        return [
            Passage(
                id=article.id,
                text=article.text,
                title=article.title,
                source=article.source.tag,
                lang=article.lang,
                score=round(confidence(evidence), 4),
            )
            for article, evidence in self.evidence(text, lang)[:limit]
        ]

    def evidence(self, text: str, lang: str) -> list[tuple[Article, Evidence]]:
        """The best articles with what speaks for each, the best first."""
        asked = plain(text)
        if not any(character.isalpha() for character in asked):
            return []
        vector = embedder().queries([asked])[0]
        words = bm25(lang).embed_query(asked)
        against = self._decoys @ vector
        nearest_decoy, mean_decoy = float(against.max()), float(against.mean())
        weighed = []
        for number in self._candidates(vector, words, lang):
            article = self._articles[number]
            question, own, tokens = self._look(number, vector)
            overlap = self._overlap(words.indices, tokens)
            weighed.append((article, Evidence(question - nearest_decoy, own - mean_decoy, overlap)))
        return sorted(weighed, key=lambda pair: -pair[1].rank)

    def _candidates(self, vector: Vectors, words: SparseVector, lang: str) -> list[int]:
        """Numbers of the articles that the dense and the BM25 ranking put first together."""
        served = Filter(
            must=[FieldCondition(key="lang", match=MatchAny([lang, ENGLISH]))],
            must_not=[FieldCondition(key="elsewhere", match=MatchValue(lang))],
        )
        asked = [Query.Nearest(vector.tolist(), using="dense")]
        if words.indices:
            asked.append(Query.Nearest(words, using="bm25"))
        batch = QueryBatchRequest(
            [QueryRequest(limit=_POINTS, query=query, filter=served, with_payload=True) for query in asked]
        )
        fused: dict[int, float] = defaultdict(float)
        for ranking in self._shard.query_batch(batch):
            numbers = dict.fromkeys(point.payload["article"] for point in ranking if point.payload)
            for rank, number in enumerate(numbers, start=1):
                fused[number] += 1 / (_RRF_K + rank)
        return sorted(fused, key=lambda number: -fused[number])[:_CANDIDATES]

    def _look(self, number: int, vector: Vectors) -> tuple[float, float, set[int]]:
        """Cosines of an article's nearest question and of its text, and all its BM25 tokens."""
        ids = self._points[number]
        tokens: set[int] = set()
        cosines = {}
        for record in self._shard.retrieve(list(ids), with_payload=False, with_vector=True):
            vectors = cast("dict[str, object]", record.vector)
            tokens.update(cast("SparseVector", vectors["bm25"]).indices)
            cosines[record.id] = float(np.dot(np.asarray(vectors["dense"], dtype=np.float32), vector))
        own = cosines.pop(ids[0])
        return max(cosines.values(), default=own), own, tokens

    def _overlap(self, asked: Collection[int], tokens: set[int]) -> float:
        whole = sum(self._weight(token) for token in asked)
        shared = sum(self._weight(token) for token in asked if token in tokens)
        return shared / whole if whole else 0.0

    def _weight(self, token: int) -> float:
        """Inverse document frequency of a token among articles, as BM25 counts it."""
        count = self._rarity.get(token, 0)
        return math.log(1 + (len(self._articles) - count + 0.5) / (count + 0.5))
