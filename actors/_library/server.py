"""The library in a Qdrant server: one collection for all sources, quantised to eight bits there.

An edition is uploaded beside the one before it, which is deleted when the new one is whole; in between both
are found, and the same words count once. What lies on the centre's own disk is enough to upload it again.
"""

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any, Final

import msgspec
from qdrant_client import AsyncQdrantClient, models

from actors._library import shelf
from actors._library.passages import LibraryPassage
from actors._library.shelf import Asked, Wanted
from actors._library.volumes import Edition, Volume
from actors._retrieval.points import fused
from actors._retrieval.vectors import DIMENSIONS
from subjects.errors import ConfigError, EvyError

COLLECTION: Final = "evy_library_1"
"""Its number is raised when points are stored in another way."""

TIMEOUT_S: Final = 10
"""A search that takes longer is done without; an upload says so and is tried again by whoever started it."""

_UPSERT: Final = 200
"""Points sent at once: 2 MB."""

_NAMES: Final = uuid.UUID("7d0a9f62-9a52-5a43-9b1d-3d6f6f0c1b57")
"""Namespace of point ids."""


class UnreachableError(EvyError):
    """The Qdrant server cannot be used now."""


class Server:
    """A Qdrant server. Nothing is sent before something is asked of it."""

    def __init__(self, url: str, key: str = "", client: AsyncQdrantClient | None = None) -> None:
        """``key`` is the server's, "" for none. Raises :class:`ConfigError` for an address that is none."""
        self._url: Final = url
        try:
            self._client: Final = client or AsyncQdrantClient(
                url=url, api_key=key or None, timeout=TIMEOUT_S, check_compatibility=False
            )
        except ValueError as error:
            raise ConfigError(f"qdrant_url {url!r}: {error}") from error

    async def close(self) -> None:
        """Closes the connection."""
        await self._client.close()

    async def upload(self, edition: Edition, volume: Volume, told: Callable[[int], None]) -> bool:
        """Uploads an edition and removes the others of its source; whether there was anything to do.

        Raises :class:`UnreachableError`; the same call again goes on.
        """
        try:
            return await self._upload(edition, volume, told)
        except Exception as error:  # the client passes on errors of httpx, grpc, pydantic and its own
            raise self._unreachable(error) from error

    async def _upload(self, edition: Edition, volume: Volume, told: Callable[[int], None]) -> bool:
        if not await self._client.collection_exists(COLLECTION):
            await self._create()
        mine = models.Filter(must=[_is("source", edition.name), _is("edition", volume.number)])
        others = models.Filter(must=[_is("source", edition.name)], must_not=[_is("edition", volume.number)])
        total = volume.state.passages
        if await self._count(mine) == total and not await self._count(others):
            return False
        some: list[models.PointStruct] = []
        for number, (row, passage) in enumerate(
            zip(shelf.rows(edition, total), edition.every(), strict=True), start=1
        ):
            told_of = {
                **row.payload,
                "source": edition.name,
                "named": volume.plan.terms.source,
                "edition": volume.number,
                "passage": msgspec.to_builtins(passage),
            }
            words = models.SparseVector(indices=list(row.words.indices), values=list(row.words.values))
            point = str(uuid.uuid5(_NAMES, f"{edition.place.name}/{number}"))
            vector: dict[str, Any] = {"dense": row.dense.tolist(), "bm25": words}
            some.append(models.PointStruct(id=point, vector=vector, payload=told_of))
            if len(some) == _UPSERT or number == total:
                await self._client.upsert(COLLECTION, some, wait=True)
                some = []
                told(number)
        await self._client.delete(COLLECTION, models.FilterSelector(filter=others), wait=True)
        return True

    async def _count(self, of: models.Filter) -> int:
        return (await self._client.count(COLLECTION, count_filter=of, exact=True)).count

    async def _create(self) -> None:
        dense = models.VectorParams(
            size=DIMENSIONS, distance=models.Distance.COSINE, datatype=models.Datatype.FLOAT16, on_disk=True
        )
        int8 = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
        await self._client.create_collection(
            COLLECTION,
            vectors_config={"dense": dense},
            sparse_vectors_config={
                "bm25": models.SparseVectorParams(
                    modifier=models.Modifier.IDF, index=models.SparseIndexParams(on_disk=True)
                )
            },
            hnsw_config=models.HnswConfigDiff(m=shelf.LINKS, ef_construct=shelf.BUILD_WIDTH),
            quantization_config=models.ScalarQuantization(scalar=int8),
            on_disk_payload=True,
        )
        for field, kind in (
            ("category", models.PayloadSchemaType.KEYWORD),
            ("lang", models.PayloadSchemaType.KEYWORD),
            ("source", models.PayloadSchemaType.KEYWORD),
            ("date", models.PayloadSchemaType.INTEGER),
            ("edition", models.PayloadSchemaType.INTEGER),
            ("use", models.PayloadSchemaType.KEYWORD),
        ):
            await self._client.create_payload_index(COLLECTION, field, kind)

    async def withdraw(self, name: str) -> None:
        """Removes every passage of a source. Raises :class:`UnreachableError`."""
        try:
            if await self._client.collection_exists(COLLECTION):
                of = models.Filter(must=[_is("source", name)])
                await self._client.delete(COLLECTION, models.FilterSelector(filter=of), wait=True)
        except Exception as error:
            raise self._unreachable(error) from error

    async def search(
        self, asked: Asked, wanted: Wanted, limit: int
    ) -> list[tuple[str, str, LibraryPassage, float]]:
        """Id, source, passage and cosine of what both rankings put first together.

        What only its words have found counts with the last cosine of the other ranking, which is more than
        its own. Raises :class:`UnreachableError`.
        """
        served = _filter(wanted)
        quantised = models.QuantizationSearchParams(rescore=True, oversampling=shelf.OVERSAMPLING)
        params = models.SearchParams(hnsw_ef=shelf.SEARCH_WIDTH, quantization=quantised)
        near = models.QueryRequest(
            query=asked.dense.tolist(),
            using="dense",
            filter=served,
            limit=limit,
            params=params,
            with_payload=True,
        )
        requests = [near]
        if asked.words.indices:
            words = models.SparseVector(indices=list(asked.words.indices), values=list(asked.words.values))
            requests.append(
                models.QueryRequest(query=words, using="bm25", filter=served, limit=limit, with_payload=True)
            )
        try:
            if not await self._client.collection_exists(COLLECTION):
                return []
            found = [each.points for each in await self._client.query_batch_points(COLLECTION, requests)]
            points = {point.id: point for each in reversed(found) for point in each}
            order = list(points)
            number = {point: place for place, point in enumerate(order)}
            last = min((point.score for point in found[0]), default=0.0)
            cosines = {point.id: point.score for point in found[0]}
            best = fused([[number[point.id] for point in each] for each in found], limit)
            return [
                _told(order[place], points[order[place]].payload or {}, cosines.get(order[place], last))
                for place in best
            ]
        except Exception as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> UnreachableError:
        return UnreachableError(f"Qdrant at {self._url}: {error or type(error).__name__}")


def _told(point: object, payload: dict[str, Any], cosine: float) -> tuple[str, str, LibraryPassage, float]:
    passage = msgspec.convert(payload["passage"], LibraryPassage)
    return f"{payload['source']}/{point}", payload["named"], passage, cosine


def _is(key: str, value: str | int) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _filter(wanted: Wanted) -> models.Filter | None:
    must: list[models.FieldCondition] = []
    for key, values in (("category", wanted.categories), ("source", wanted.sources)):
        if values:
            must.append(models.FieldCondition(key=key, match=models.MatchAny(any=list(values))))
    if wanted.lang:
        must.append(_is("lang", wanted.lang))
    if wanted.general:
        must.append(_is("use", shelf.GENERAL))
    if wanted.since or wanted.until:
        first = (wanted.since or dt.date.min).toordinal()
        last = wanted.until.toordinal() if wanted.until else None
        must.append(models.FieldCondition(key="date", range=models.Range(gte=first, lte=last)))
    return models.Filter(must=[*must]) if must else None
