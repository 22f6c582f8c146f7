"""From files to a finished edition: read, cut, sorted by category, embedded, kept, indexed."""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from actors._library import categories, shelf
from actors._library.documents import Document, Kind, Refusal, UnreadableError, plain_name
from actors._library.passages import LEAST, LibraryPassage, cut, key
from actors._library.readers import READERS
from actors._library.volumes import (
    MOST_SOURCES,
    Edition,
    File,
    Plan,
    Reused,
    State,
    Terms,
    Unfinished,
    Volume,
    alone,
    drop,
    editions,
    file_name,
    of_source,
)
from actors._retrieval.vectors import DIMENSIONS, Vectors, embedder
from actors.knowledge import ENGLISH, triager
from subjects.errors import ConfigError

TOGETHER: Final = 512
"""Passages embedded and kept together; what an interruption costs at most: 15 s on two cores."""

MOST_REFUSALS: Final = 200
"""Reasons kept; beyond it they are only counted."""

MOST_PASSAGES: Final = 5_000_000
"""Of one source: the keys of its passages are in memory during the import, 100 octets each."""

Told = Callable[[str, float, State], None]
"""What is being done, the share that is done, and how far it has come."""


class _Next(NamedTuple):
    """A passage on its way to a vector."""

    title: str
    text: str
    document: Document
    lang: str


def files_of(kind: Kind, paths: Sequence[Path]) -> list[Path]:
    """Files of a kind among some files and folders, sorted. Raises :class:`ConfigError` for none."""
    endings = READERS[kind].endings
    found = []
    for path in paths:
        if path.is_dir():
            inside = (file for file in path.rglob("*") if file.is_file())
            found += sorted(file for file in inside if plain_name(file) in endings)
        else:
            found.append(path)
    if not found:
        raise ConfigError(f"no file of kind {kind} ({' '.join(endings)}; .gz and .bz2 of them) in {paths[0]}")
    for file in found:
        if plain_name(file) not in endings:
            raise ConfigError(f"{file}: {kind} reads {READERS[kind].says} ({' '.join(endings)}), not this")
    return found


def plan_of(terms: Terms, files: Sequence[Path]) -> Plan:
    """What an edition of these files is made of. Raises :class:`ConfigError` for terms that cannot stand."""
    file_name(terms.source)
    if terms.date and _future(terms.date):
        raise ConfigError(f"date {terms.date}: a day as 2026-11-22, and not in the future")
    described = []
    for path in files:
        at = path.stat()
        described.append(File(str(path.resolve()), at.st_size, at.st_mtime_ns))
    return Plan(terms, tuple(described))


def _future(date: str) -> bool:
    try:
        return dt.date.fromisoformat(date) > dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)
    except ValueError:
        return True


def import_files(library: Path, plan: Plan, told: Told, *, index: bool = True) -> tuple[Edition, bool]:
    """The finished edition of a plan, and whether anything had to be done. ``index``: one in this process is
    wanted, as without a Qdrant server.

    Ended at any moment, the same call goes on where it was. The edition before serves until the new one is
    finished. Raises :class:`ConfigError` when nothing at all could be used or another process is at it,
    OSError when the disk is full.
    """
    name = file_name(plan.terms.source)
    with alone(library, name):
        return _imported(library, name, plan, told, index=index)


def _imported(library: Path, name: str, plan: Plan, told: Told, *, index: bool) -> tuple[Edition, bool]:
    before = of_source(library, name)
    finished = [edition for edition in before if edition.volume()]
    if finished and (volume := finished[-1].volume()) and volume.plan == plan:
        done = not index or shelf.folder(finished[-1]).exists()
        if not done:
            _index(finished[-1], volume.state, told)
        return finished[-1], not done
    if not finished and len(editions(library)) >= MOST_SOURCES:
        raise ConfigError(f"{MOST_SOURCES} sources are the most; withdraw one with `evy knowledge withdraw`")
    number = max((edition.number for edition in finished), default=0) + 1
    making = Unfinished(library / f"{name}.{number}", plan)
    try:
        _read(making, plan, Reused(finished), told)
    finally:
        making.close()
    if not making.state.passages:
        reasons = "; ".join(making.state.refusals[:3]) or "no text in them"
        drop(making)
        raise ConfigError(f"none of the files could be used: {reasons}")
    volume = _summed(making, plan, number)
    if index:
        _index(making, making.state, told)
    making.finish(volume)
    for edition in finished:
        drop(edition)
    return making, True


def _read(making: Unfinished, plan: Plan, known: Reused, told: Told) -> None:
    state = making.state
    seen = {key(passage.text) for passage in making.every()} if state.passages else set[int]()
    waiting: list[_Next] = []
    for place in range(state.file, len(plan.files)):
        file = Path(plan.files[place].path)
        reading = READERS[plan.terms.kind].read(file)
        dealt_with = 0
        while True:
            found = _one(reading, file)
            if found is None:
                break
            dealt_with += 1
            if place == state.file and dealt_with <= state.documents:
                continue
            if isinstance(found, Document):
                waiting += _cut(found, plan.terms, state, seen)
            if isinstance(found, Refusal):
                _refuse(state, f"{file.name}, {found.where}: {found.reason}")
            if len(waiting) >= TOGETHER:
                _keep(making, plan.terms, waiting, known)
                waiting = []
                state.file, state.documents = place, dealt_with
                making.settle()
                told(f"reading {file.name}", place / len(plan.files), state)
            if state.passages > MOST_PASSAGES:
                raise ConfigError(f"more than {MOST_PASSAGES} passages: divide it into sources")
        _keep(making, plan.terms, waiting, known)
        waiting = []
        state.file, state.documents = place + 1, 0
        making.settle()
        told(f"read {file.name}", (place + 1) / len(plan.files), state)


def _one(reading: Iterator[Document | Refusal], file: Path) -> Document | Refusal | None:
    """The next thing in a file; where it cannot be read on, that is a refusal, and its last."""
    try:
        return next(reading, None)
    except UnreadableError as error:
        return Refusal("the rest" if file.exists() else "the file", str(error))


def _refuse(state: State, reason: str) -> None:
    state.refused += 1
    if len(state.refusals) < MOST_REFUSALS:
        state.refusals.append(reason[:300])


def _cut(document: Document, terms: Terms, state: State, seen: set[int]) -> Iterator[_Next]:
    """Passages of a document that may be kept, and are not there yet."""
    state.read += 1
    date = document.date or terms.date
    missing = "licence" if not (document.licence or terms.licence) else "" if date else "date"
    if missing:
        _refuse(state, f"{document.title[:80]}: names no {missing}, and none was given with --{missing}")
        return
    document = document._replace(licence=document.licence or terms.licence, date=date)
    lang = terms.lang or document.lang or _heard(document)
    for title, text in cut(document, lang):
        if len(text) < LEAST:
            state.short += 1
        elif (mark := key(text)) in seen:
            state.doubles += 1
        else:
            seen.add(mark)
            yield _Next(title, text, document, lang)


def _heard(document: Document) -> str:
    text = " ".join(section.text[:300] for section in document.sections[:3])
    [(lang, confidence)] = triager().detect_lang([f"{document.title}. {text}"[:1000]])
    return lang if confidence >= 0.5 else ENGLISH


def _keep(making: Unfinished, terms: Terms, waiting: Sequence[_Next], known: Reused) -> None:
    if not waiting:
        return
    said = [f"{one.title}. {one.text}" for one in waiting]
    keys = [key(text) for text in said]
    vectors = _vectors(said, keys, known)
    passages = [
        LibraryPassage(
            text=one.text,
            title=one.title,
            category=category,
            licence=one.document.licence,
            date=one.document.date,
            lang=one.lang,
            advice=advice,
            url=one.document.url,
        )
        for one, (category, advice) in zip(waiting, categories.assigned(terms.kind, vectors), strict=True)
    ]
    making.add(passages, keys, vectors)


def _vectors(said: Sequence[str], keys: Sequence[int], known: Reused) -> Vectors:
    vectors = np.empty((len(said), DIMENSIONS), dtype=np.float32)
    new = []
    for place, one in enumerate(keys):
        if (kept := known.vector(one)) is None:
            new.append(place)
        else:
            vectors[place] = kept
    if new:
        vectors[new] = embedder().passages([said[place] for place in new])
    return vectors


def _summed(making: Unfinished, plan: Plan, number: int) -> Volume:
    by_category, by_lang = Counter[str](), Counter[str]()
    first, last = "9999", ""
    for passage in making.every():
        by_category[passage.category] += 1
        by_lang[passage.lang] += 1
        first, last = min(first, passage.date), max(last, passage.date)
    return Volume(plan, number, making.state, dict(by_category), dict(by_lang), first, last)


def _index(edition: Edition, state: State, told: Told) -> None:
    total = state.passages

    def count(done: int) -> None:
        told("building the index", done / total, state)

    shelf.build(shelf.folder(edition), shelf.rows(edition, total), count)
