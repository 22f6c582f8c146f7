"""Search over the node's articles: dense vectors and BM25 in one Qdrant Edge shard, fused by rank.

Every article is several points: its text with the title, and each of its questions, so that people's own
words meet people's own words; the best point of an article counts.
"""

import datetime as dt
import logging
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, cast

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
    RangeFloat,
    ScoredPoint,
    SparseVector,
)

from actors._retrieval import store
from actors._retrieval.confidence import Evidence, confidence, nearness, ordered
from actors._retrieval.phrases import PHRASES, Phrases, read_phrases
from actors._retrieval.points import EVERYWHERE, QUESTION, TEXT, fused, overlap, point_ids
from actors._retrieval.spelling import Spelling
from actors._retrieval.vectors import Vectors, bm25, embedder, plain, spelled_out
from actors.knowledge import ENGLISH, Article, Texts
from subjects.messages import Passage

_LOG: Final = logging.getLogger(__name__)

_POINTS: Final = 200
"""Points asked of each ranking; an article has up to some twenty."""


class Served(NamedTuple):
    """Which articles may be found."""

    regions: Collection[str] = ()
    """Where the node is: an article limited to regions is found in one of them only."""
    today: dt.date | None = None
    """Articles whose last day is before it are not found; None: nobody knows the date, so all of them are."""
    area: str = ""
    """Only articles of this area; empty: of all."""


ALWAYS: Final = Served()
"""What is served at any time, and anywhere."""


class KnowledgeIndex:
    """The articles of one :class:`Texts`, searchable. Made by :meth:`open`; safe to use from threads."""

    def __init__(self, place: Path, articles: Sequence[Article], phrases: Phrases, rebuilt: str) -> None:
        manifest = store.check(place)
        self._articles: Final = articles
        self._spelling: Final = Spelling(articles, phrases)
        self._rarity: Final = manifest.rarity
        self._points: Final = list(point_ids(articles, phrases))
        self._decoys: Final[Vectors] = np.load(place / store.DECOY_VECTORS)
        self._shard: Final = EdgeShard.load(str(place / store.SHARD))
        embedder()
        self.rebuilt: Final = rebuilt
        """Why the index was built anew at this start; empty when the one on disk was used."""

    @classmethod
    def open(cls, directory: Path, texts: Texts, phrases: Path = PHRASES) -> "KnowledgeIndex":
        """The index in ``directory``, built first if there is none for these articles or it is damaged.

        Building takes some seconds. Raises OSError when the directory cannot be written,
        :class:`ConfigError` when ``phrases`` cannot be used.
        """
        asked = read_phrases(phrases)
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

    @property
    def articles(self) -> int:
        """How many there are, whatever is served of them."""
        return len(self._articles)

    def close(self) -> None:
        """Releases the files."""
        self._shard.close()

    def search(self, text: str, lang: str, limit: int = 3, served: Served = ALWAYS) -> list[Passage]:
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
            for article, evidence in self.evidence(text, lang, served)[:limit]
        ]

    def evidence(self, text: str, lang: str, served: Served = ALWAYS) -> list[tuple[Article, Evidence]]:
        """The best articles with what speaks for each, the best first."""
        asked = plain(self._spelling.restored(spelled_out(plain(text), lang), lang))
        if not any(character.isalpha() for character in asked):
            return []
        vector = embedder().queries([asked])[0]
        words = bm25(lang).embed_query(asked)
        against = self._decoys @ vector
        nearest_decoy, mean_decoy = float(against.max()), float(against.mean())
        weighed = []
        for tongue in dict.fromkeys((lang, ENGLISH)):
            for number, question, own, tokens in self._candidates(vector, words, lang, tongue, served):
                shared = overlap(words.indices, tokens, self._rarity, len(self._articles))
                lead, rise = question - nearest_decoy, own - mean_decoy
                weighed.append((self._articles[number], Evidence(lead, rise, shared, tongue != lang)))
        return ordered(weighed)

    def _candidates(
        self, vector: Vectors, words: SparseVector, lang: str, tongue: str, served: Served
    ) -> Iterator[tuple[int, float, float, set[int]]]:
        """The articles in ``tongue`` that three rankings put first together: number, cosines of the two
        nearest questions (their mean) and of the text, BM25 tokens.

        An article beyond the end of a ranking gets that ranking's last cosine, which is more than its own.
        """
        dense = Query.Nearest(vector.tolist(), using="dense")
        asked = [_request(dense, lang, tongue, served, kind) for kind in (QUESTION, TEXT)]
        if words.indices:
            asked.append(_request(Query.Nearest(words, using="bm25"), lang, tongue, served))
        rankings = [_ranking(found) for found in self._shard.query_batch(QueryBatchRequest(asked))]
        ids = {self._points[number][0]: number for number in fused(rankings)}
        questions, texts = rankings[:2]
        last = min((scores[-1] for scores in questions.values()), default=0.0)
        last_own = min((scores[-1] for scores in texts.values()), default=0.0)
        for record in self._shard.retrieve(list(ids), with_payload=True, with_vector=False):
            number = ids[cast("int", record.id)]
            own = texts.get(number, [last_own])[0]
            question = nearness(questions.get(number, ()), last, len(self._points[number]) - 1)
            yield number, question, own, set((record.payload or {})["tokens"])


def _request(query: Query, lang: str, tongue: str, served: Served, kind: str = "") -> QueryRequest:
    must: list[FieldCondition] = [
        FieldCondition(key="lang", match=MatchValue(tongue)),
        FieldCondition(key="regions", match=MatchAny([EVERYWHERE, *served.regions])),
    ]
    if kind:
        must.append(FieldCondition(key="kind", match=MatchValue(kind)))
    if served.area:
        must.append(FieldCondition(key="area", match=MatchValue(served.area)))
    must_not = [FieldCondition(key="elsewhere", match=MatchValue(lang))]
    if served.today is not None:
        must_not.append(FieldCondition(key="until", range=RangeFloat(lt=served.today.toordinal())))
    return QueryRequest(
        limit=_POINTS,
        query=query,
        filter=Filter(must=[*must], must_not=[*must_not]),
        with_payload=["article"],
    )


def _ranking(found: Sequence[ScoredPoint]) -> dict[int, list[float]]:
    """Articles by their best point, the best first, with the scores of all."""
    ranking: dict[int, list[float]] = {}
    for point in found:
        ranking.setdefault((point.payload or {})["article"], []).append(point.score)
    return ranking
