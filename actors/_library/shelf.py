"""The search index of one source in this process: the node's own engine, built once beside the passages.

Dense vectors keep their original (16 bits a component, on disk) and get eight bits in memory: candidates are
found in eight bits, and what is found is weighed by the original.
"""

import datetime as dt
import shutil
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from qdrant_edge import (
    Distance,
    EdgeConfig,
    EdgeOptimizersConfig,
    EdgeShard,
    EdgeSparseVectorParams,
    EdgeVectorParams,
    FieldCondition,
    Filter,
    HnswIndexConfig,
    MatchAny,
    MatchValue,
    Memory,
    Modifier,
    PayloadSchemaType,
    Point,
    QuantizationSearchParams,
    Query,
    QueryBatchRequest,
    QueryRequest,
    RangeFloat,
    ScalarQuantizationConfig,
    ScalarType,
    SearchParams,
    SparseVector,
    UpdateOperation,
    VectorStorageDatatype,
)

from actors._library.passages import LibraryPassage
from actors._library.volumes import Edition
from actors._retrieval.vectors import DIMENSIONS, Vectors, bm25, plain

FORMAT: Final = 1
"""Part of the index's name: raise it when points are stored in another way."""

LINKS: Final = 16
"""Links of a point in the graph (HNSW's m)."""
BUILD_WIDTH: Final = 128
"""Candidates weighed when a point is linked (ef_construct)."""
SEARCH_WIDTH: Final = 128
"""The same when a question is asked (ef)."""
OVERSAMPLING: Final = 2.0
"""Candidates of the quantised search for each one wanted, weighed again by their originals."""

GENERAL: Final = "general"
"""What a point is of use for, if not advice. A word: the engine finds nothing by a false boolean."""

_AT_ONCE: Final = 500
"""Points given to the engine together, as lists of Python floats: 6 MB."""


class Wanted(NamedTuple):
    """Which passages may be found; empty: any."""

    categories: tuple[str, ...] = ()
    lang: str = ""
    since: dt.date | None = None
    until: dt.date | None = None
    sources: tuple[str, ...] = ()
    """By their names as files; see `volumes.file_name`."""
    general: bool = False
    """None that people act upon with their bodies."""


class Asked(NamedTuple):
    """A question as both rankings see it."""

    dense: Vectors
    words: SparseVector


class Row(NamedTuple):
    """What a point of the index is made of."""

    dense: Vectors
    words: SparseVector
    payload: dict[str, object]


class Layout(NamedTuple):
    """How vectors are kept; what is not the default is for the bench that compares."""

    quantised: bool = True
    datatype: VectorStorageDatatype = VectorStorageDatatype.Float16
    in_memory: bool = False
    """The originals too."""


OURS: Final = Layout()


def folder(edition: Edition) -> Path:
    """Where the index of an edition lies; another version of the engine has another one."""
    return edition.place / f"index-{FORMAT}-{version('qdrant-edge-py')}"


def day_number(date: str) -> int:
    """A day as a number that ranges compare; 0 for none."""
    try:
        return dt.date.fromisoformat(date).toordinal()
    except ValueError:
        return 0


def words_of(passage: LibraryPassage) -> SparseVector:
    """A passage by its words."""
    return bm25(passage.lang).embed_document(plain(f"{passage.title}. {passage.text}"))


def payload(passage: LibraryPassage) -> dict[str, object]:
    """What searches filter by."""
    return {
        "category": passage.category,
        "lang": passage.lang,
        "date": day_number(passage.date),
        "use": "advice" if passage.advice else GENERAL,
    }


def rows(edition: Edition, count: int) -> Iterable[Row]:
    """The points of an edition in the order of its passages."""
    passages = edition.every()
    for start in range(0, count, _AT_ONCE):
        vectors = edition.vectors(start, min(start + _AT_ONCE, count))
        for vector, passage in zip(vectors, passages, strict=False):  # passages go on to the next
            yield Row(vector, words_of(passage), payload(passage))


def build(place: Path, points: Iterable[Row], told: Callable[[int], None], layout: Layout = OURS) -> None:
    """Makes an index at ``place``, whole or not at all; tells how many points it has. Raises OSError."""
    beside = place.with_name(f"{place.name}.building")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    shard = EdgeShard.create(str(beside), _config(layout))
    for field, kind in (
        ("category", PayloadSchemaType.Keyword),
        ("lang", PayloadSchemaType.Keyword),
        ("date", PayloadSchemaType.Integer),
        ("use", PayloadSchemaType.Keyword),
    ):
        shard.update(UpdateOperation.create_field_index(field, kind))
    made, count = iter(points), 0
    while some := list(islice(made, _AT_ONCE)):
        shard.update(
            UpdateOperation.upsert_points(
                [
                    Point(number, {"dense": row.dense.tolist(), "bm25": row.words}, row.payload)
                    for number, row in enumerate(some, start=count)
                ]
            )
        )
        count += len(some)
        told(count)
    shard.optimize()
    shard.flush()
    shard.close()
    beside.rename(place)


def _config(layout: Layout) -> EdgeConfig:
    quantised = ScalarQuantizationConfig(ScalarType.Int8, quantile=0.99, memory=Memory.Pinned)
    dense = EdgeVectorParams(
        size=DIMENSIONS,
        distance=Distance.Cosine,
        datatype=layout.datatype,
        memory=Memory.Cached if layout.in_memory or not layout.quantised else Memory.Cold,
        quantization_config=quantised if layout.quantised else None,
        hnsw_config=HnswIndexConfig(LINKS, BUILD_WIDTH, full_scan_threshold=10_000, memory=Memory.Cached),
    )
    return EdgeConfig(
        vectors={"dense": dense},
        sparse_vectors={"bm25": EdgeSparseVectorParams(modifier=Modifier.Idf, memory=Memory.Cached)},
        optimizers=EdgeOptimizersConfig(default_segment_number=1, max_segment_size=20_000_000),
        payload_memory=Memory.Cold,
        max_search_threads=1,
        wal_enabled=False,  # written once and then only read
    )


class Shelf:
    """An index that is open. Safe to use from threads."""

    def __init__(self, place: Path) -> None:
        """Opens the index at ``place``; the engine has no error type of its own for a damaged one."""
        self._shard: Final = EdgeShard.load(str(place))

    def close(self) -> None:
        """Releases the files."""
        self._shard.close()

    def search(
        self, asked: Asked, wanted: Wanted, limit: int, *, exact: bool = False
    ) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        """Numbers of passages with their scores, the best first: by cosine, and by words."""
        params = SearchParams(
            hnsw_ef=SEARCH_WIDTH,
            exact=exact,
            quantization=QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING),
        )
        served = filter_of(wanted)
        asking = [
            QueryRequest(
                limit=limit,
                query=Query.Nearest(asked.dense.tolist(), using="dense"),
                filter=served,
                params=params,
                with_payload=False,
            )
        ]
        if asked.words.indices:
            nearest = Query.Nearest(asked.words, using="bm25")
            asking.append(QueryRequest(limit=limit, query=nearest, filter=served, with_payload=False))
        found = self._shard.query_batch(QueryBatchRequest(asking))
        near, *by_words = [[(int(str(point.id)), point.score) for point in each] for each in found]
        return near, by_words[0] if by_words else []


def filter_of(wanted: Wanted) -> Filter | None:
    """The engine's filter; None where anything is wanted."""
    must: list[FieldCondition] = []
    if wanted.categories:
        must.append(FieldCondition(key="category", match=MatchAny(list(wanted.categories))))
    if wanted.lang:
        must.append(FieldCondition(key="lang", match=MatchValue(wanted.lang)))
    if wanted.general:
        must.append(FieldCondition(key="use", match=MatchValue(GENERAL)))
    if wanted.since or wanted.until:
        first = wanted.since.toordinal() if wanted.since else 1
        last = wanted.until.toordinal() if wanted.until else None
        must.append(FieldCondition(key="date", range=RangeFloat(gte=first, lte=last)))
    return Filter(must=[*must]) if must else None


def numbers(found: Sequence[tuple[int, float]]) -> list[int]:
    """Only the numbers of a ranking."""
    return [number for number, _ in found]
