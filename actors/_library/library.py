"""Search over all sources of the library: dense vectors and BM25, fused by rank, as among articles.

Without a Qdrant server each source is an index in this process; with one, all are in one collection there.
"""

import asyncio
import logging
import math
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from qdrant_edge import SparseVector

from actors._library import shelf
from actors._library.passages import LibraryPassage, key
from actors._library.server import Server
from actors._library.shelf import Asked, Shelf, Wanted
from actors._library.volumes import Edition, Volume, editions
from actors._retrieval.confidence import UNSURE
from actors._retrieval.phrases import read_phrases
from actors._retrieval.points import fused
from actors._retrieval.shipped import FILE, Known
from actors._retrieval.vectors import Vectors, bm25, embedder, plain, spelled_out
from subjects.messages import Passage

log = logging.getLogger("evy.library")

ANY: Final = Wanted()

_RANKED: Final = 50
"""Passages asked of each ranking."""

BIAS, RISE, SHARED = -4.0, 20.0, 3.0
"""How probable it is that a passage is about what was asked: a logistic function of its cosine, less the
mean with texts of all sorts, and of the share of words in common. Set by hand, so that from 0.2 on, where a
model is shown it, lie 2 % of 300 questions on health and disasters asked of 10,000 entries of computing
dictionaries, and 64 % of 200 sentences out of such entries."""

MOST_SURE: Final = UNSURE - 0.01
"""What a passage of the library scores at most: no actor of any release sends such a text by itself."""


class Found(NamedTuple):
    """A passage that was found, and how probable it is that it tells what was asked."""

    id: str
    source: str
    passage: LibraryPassage
    score: float

    def as_passage(self) -> Passage:
        """For a model: with its licence and date, which say that nobody reviewed it."""
        told = self.passage
        return Passage(
            id=self.id,
            text=told.text,
            title=told.title,
            source=self.source,
            lang=told.lang,
            score=min(self.score, MOST_SURE),
            licence=told.licence,
            date=told.date,
        )


class _Candidate(NamedTuple):
    id: str
    source: str
    passage: LibraryPassage
    cosine: float


class _Open(NamedTuple):
    edition: Edition
    volume: Volume
    shelf: Shelf
    rows: NDArray[np.float16]


class Library:
    """The sources of a data directory, or of a server, searchable. New editions are seen when they come."""

    def __init__(self, directory: Path, server: Server | None = None) -> None:
        """``directory`` holds the editions; with a ``server``, which it owns, only that is searched."""
        self._directory: Final = directory
        self._server: Final = server
        self._open: list[_Open] = []
        self._seen: tuple[str, ...] | None = None
        self._lock: Final = threading.Lock()

    async def close(self) -> None:
        """Closes what is open."""
        for each in self._open:
            each.shelf.close()
        self._open = []
        if self._server is not None:
            await self._server.close()

    async def search(self, text: str, lang: str, limit: int, wanted: Wanted = ANY) -> list[Found]:
        """The best passages for a text in ``lang``, the best first; no words twice. Empty for a text without
        a letter, and while there is no source. Raises :class:`UnreachableError` of a server."""
        asked = await asyncio.to_thread(_asked, text, lang)
        if asked is None or limit < 1:
            return []
        if self._server is not None:
            found = await self._server.search(asked, wanted, _RANKED)
            candidates = [_Candidate(*each) for each in found]
        else:
            candidates = await asyncio.to_thread(self._local, asked, wanted, limit)
        return await asyncio.to_thread(_weighed, asked, candidates, limit)

    def _local(self, asked: Asked, wanted: Wanted, limit: int) -> list[_Candidate]:
        with self._lock:
            self._refresh()
            try:
                return self._found(asked, wanted, limit)
            except FileNotFoundError:  # an edition was replaced meanwhile
                self._seen = None
                self._refresh()
                return self._found(asked, wanted, limit)

    def _found(self, asked: Asked, wanted: Wanted, limit: int) -> list[_Candidate]:
        near: list[tuple[float, int, int]] = []
        said: list[tuple[float, int, int]] = []
        for place, each in enumerate(self._open):
            if wanted.sources and each.edition.name not in wanted.sources:
                continue
            for ranking, into in zip(each.shelf.search(asked, wanted, _RANKED), (near, said), strict=True):
                into += [(score, place, number) for number, score in ranking]
        refs: dict[tuple[int, int], int] = {}
        rankings = [
            [
                refs.setdefault((place, number), len(refs))
                for _, place, number in sorted(ranking, reverse=True)
            ]
            for ranking in (near, said)
        ]
        named = list(refs)
        best = [named[ref] for ref in fused(rankings, 4 * limit)]
        passages: dict[tuple[int, int], LibraryPassage] = {}
        for place in {place for place, _ in best}:
            here = [number for at, number in best if at == place]
            found = self._open[place].edition.passages(here)
            passages |= {(place, number): passage for number, passage in zip(here, found, strict=True)}
        return [
            _Candidate(
                f"{self._open[place].edition.name}/{number}",
                self._open[place].volume.plan.terms.source,
                passages[place, number],
                float(self._open[place].rows[number].astype(np.float32) @ asked.dense),
            )
            for place, number in best
        ]

    def _refresh(self) -> None:
        """Opens what is new and closes what is gone; one that cannot be opened is left out, and said once."""
        here = editions(self._directory)
        seen = tuple(edition.place.name for edition in here)
        if seen == self._seen:
            return
        kept = {each.edition.place.name: each for each in self._open}
        opened = []
        for edition in here:
            if (known := kept.pop(edition.place.name, None)) is not None:
                opened.append(known)
            elif (volume := edition.volume()) is not None and (one := _opened(edition, volume)) is not None:
                opened.append(one)
        for each in kept.values():
            each.shelf.close()
        self._open, self._seen = opened, seen


def _opened(edition: Edition, volume: Volume) -> _Open | None:
    place = shelf.folder(edition)
    if not place.exists():
        log.warning(
            "%s: no index for this release; `evy knowledge import` of the same files makes it", edition.name
        )
        return None
    try:
        return _Open(edition, volume, Shelf(place), edition.rows())
    except Exception as error:  # noqa: BLE001  # the engine has no error type of its own
        log.warning(
            "%s cannot be opened and is left out: %s; remove it and import its files again", place, error
        )
        return None


def _asked(text: str, lang: str) -> Asked | None:
    said = plain(spelled_out(plain(text), lang))
    if not any(character.isalpha() for character in said):
        return None
    return Asked(embedder().queries([said])[0], bm25(lang).embed_query(said))


@cache
def _decoys() -> Vectors:
    return Known(FILE).vectors(read_phrases().decoys(), asked=True)


def _weighed(asked: Asked, candidates: Sequence[_Candidate], limit: int) -> list[Found]:
    """Candidates by their probability; the same words of two sources count once."""
    anything = float((_decoys() @ asked.dense).mean())
    words = set(asked.words.indices)
    best: dict[int, Found] = {}
    for one in candidates:
        shared = _shared(words, shelf.words_of(one.passage))
        score = round(1 / (1 + math.exp(-(BIAS + RISE * (one.cosine - anything) + SHARED * shared))), 4)
        best.setdefault(key(one.passage.text), Found(one.id, one.source, one.passage, score))
    return sorted(best.values(), key=lambda found: -found.score)[:limit]


def _shared(asked: set[int], said: SparseVector) -> float:
    return len(asked.intersection(said.indices)) / len(asked) if asked else 0.0
