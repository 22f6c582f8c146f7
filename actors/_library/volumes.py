"""A source on disk: its passages and vectors, appended to while it is imported, and then never changed.

``<library>/<name>.<number>`` is one edition of a source; the newest finished one counts. Making vectors is
what an import costs, eight hours for a million passages on two cores, so they are kept beside the index that
is made from them: an interrupted import goes on, a new edition computes what is new, a new engine nothing.
"""

import fcntl
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors._library.documents import Kind
from actors._library.passages import LibraryPassage
from actors._retrieval.vectors import DIMENSIONS, Vectors
from subjects.errors import ConfigError

FOLDER: Final = "library"
"""In the data directory."""

MOST_SOURCES: Final = 64
"""Each costs a search of its own."""

MAX_NAME: Final = 32
"""Characters of a source's name: it is the tag of an answer in an SMS."""

FORMAT: Final = 1

_PLAN, _DONE, _STATE = "plan.json", "volume.json", "state.json"
_PASSAGES, _VECTORS, _PLACES, _KEYS = "passages.jsonl", "vectors.f16", "places.u64", "keys.u64"
_UNITS: Final = {_VECTORS: 2 * DIMENSIONS, _PLACES: 8, _KEYS: 8}
_PLACE: Final = re.compile(r"([a-z0-9-]+)\.(\d+)")


class Terms(msgspec.Struct, frozen=True):
    """What all documents of one import share."""

    kind: Kind
    source: str
    licence: str
    """For documents that name none themselves; "": such are refused."""
    date: str
    """The same."""
    lang: str = ""


class File(msgspec.Struct, frozen=True):
    """A file as it was when it was read."""

    path: str
    octets: int
    changed_ns: int


class Plan(msgspec.Struct, frozen=True):
    """What an edition is made of; the same plan makes the same edition."""

    terms: Terms
    files: tuple[File, ...]
    format: int = FORMAT


class State(msgspec.Struct):
    """How far an import has come: everything before is on disk."""

    file: int = 0
    documents: int = 0
    """Documents and refusals of this file that are dealt with."""
    read: int = 0
    """Documents of all files."""
    passages: int = 0
    octets: int = 0
    """Of the passages' file."""
    doubles: int = 0
    short: int = 0
    refused: int = 0
    refusals: list[str] = msgspec.field(default_factory=list)
    """The first ones, each with file, place and reason."""


class Volume(msgspec.Struct, frozen=True):
    """A finished edition."""

    plan: Plan
    number: int
    state: State
    categories: dict[str, int]
    langs: dict[str, int]
    first: str
    last: str
    """The oldest and the newest date of its passages."""


class Edition:
    """The files of one edition."""

    def __init__(self, place: Path) -> None:
        self.place: Final = place

    @property
    def name(self) -> str:
        """Of its source, as in file names."""
        return self.place.name.partition(".")[0]

    @property
    def number(self) -> int:
        """Which edition of its source it is, from 1."""
        return int(self.place.name.partition(".")[2])

    def volume(self) -> Volume | None:
        """What it holds; None while it is not finished. Raises :class:`ConfigError` for a damaged one."""
        path = self.place / _DONE
        try:
            return msgspec.json.decode(path.read_bytes(), type=Volume)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigError(f"{path}: {error}; import the source again") from error

    def vectors(self, start: int = 0, stop: int | None = None) -> Vectors:
        """Unit vectors of some passages."""
        return np.array(self.rows()[start:stop], dtype=np.float32)

    def rows(self) -> NDArray[np.float16]:
        """The vectors as they lie on the disk, mapped."""
        path = self.place / _VECTORS
        rows = path.stat().st_size // (2 * DIMENSIONS) if path.exists() else 0
        if not rows:
            return np.empty((0, DIMENSIONS), dtype=np.float16)
        return np.memmap(path, dtype="<f2", mode="r", shape=(rows, DIMENSIONS))

    def keys(self) -> NDArray[np.uint64]:
        """Keys of all passages in their order."""
        path = self.place / _KEYS
        return np.fromfile(path, dtype="<u8") if path.exists() else np.empty(0, dtype=np.uint64)

    def passages(self, numbers: Sequence[int]) -> list[LibraryPassage]:
        """Some passages by their numbers. Raises OSError or a msgspec error."""
        found = []
        with (self.place / _PASSAGES).open("rb") as file, (self.place / _PLACES).open("rb") as places:
            for number in numbers:
                places.seek(8 * number)
                file.seek(int.from_bytes(places.read(8), "little"))
                found.append(msgspec.json.decode(file.readline(), type=LibraryPassage))
        return found

    def every(self) -> Iterator[LibraryPassage]:
        """All passages in their order."""
        decoder = msgspec.json.Decoder(LibraryPassage)
        with (self.place / _PASSAGES).open("rb") as file:
            for line in file:
                yield decoder.decode(line)

    def octets(self) -> int:
        """What it takes on the disk."""
        return sum(path.stat().st_blocks * 512 for path in self.place.rglob("*"))


class Unfinished(Edition):
    """An edition that is being made. ``add`` keeps passages, ``settle`` makes sure of them."""

    def __init__(self, place: Path, plan: Plan) -> None:
        """Goes on with what is there if it is of the same plan; else begins."""
        super().__init__(place)
        self.state = State()
        path = place / _PLAN
        if path.exists() and path.read_bytes() == msgspec.json.encode(plan):
            if (place / _STATE).exists():
                self.state = msgspec.json.decode((place / _STATE).read_bytes(), type=State)
        elif place.exists():
            shutil.rmtree(place)
        place.mkdir(parents=True, exist_ok=True)
        _write(path, msgspec.json.encode(plan))
        self._cut_back()
        self._files = {name: (place / name).open("ab") for name in (_PASSAGES, *_UNITS)}

    def _cut_back(self) -> None:
        """What was written after the last ``settle`` is made again."""
        sizes = {name: unit * self.state.passages for name, unit in _UNITS.items()}
        for name, size in {**sizes, _PASSAGES: self.state.octets}.items():
            with (self.place / name).open("ab") as file:
                if file.tell() < size:
                    raise ConfigError(f"{self.place / name} is damaged: remove {self.place} and import again")
                file.truncate(size)

    def add(self, passages: Sequence[LibraryPassage], keys: Sequence[int], vectors: Vectors) -> None:
        """Some more passages; on disk after the next ``settle``."""
        for passage, key, vector in zip(passages, keys, vectors, strict=True):
            line = msgspec.json.encode(passage) + b"\n"
            self._files[_PLACES].write(self.state.octets.to_bytes(8, "little"))
            self._files[_KEYS].write(key.to_bytes(8, "little"))
            self._files[_VECTORS].write(vector.astype("<f2").tobytes())
            self._files[_PASSAGES].write(line)
            self.state.octets += len(line)
            self.state.passages += 1

    def settle(self) -> None:
        """Everything so far is on disk, and an import that breaks off goes on from here."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        _write(self.place / _STATE, msgspec.json.encode(self.state))

    def close(self) -> None:
        """Closes the files as they are."""
        for file in self._files.values():
            file.close()

    def finish(self, volume: Volume) -> None:
        """From now on this edition counts."""
        _write(self.place / _DONE, msgspec.json.encode(volume))


class Reused:
    """Vectors that other editions of a source have, by what they are of."""

    def __init__(self, earlier: Sequence[Edition]) -> None:
        self._mapped: Final = [edition.rows() for edition in earlier]
        counts = [len(rows) for rows in self._mapped]
        keys = [edition.keys()[:count] for edition, count in zip(earlier, counts, strict=True)]
        joined = np.concatenate([*keys, np.empty(0, dtype=np.uint64)])
        self._order: Final = np.argsort(joined, kind="stable")
        self._keys: Final = joined[self._order]
        self._starts: Final = np.cumsum([0, *counts])

    def vector(self, key: int) -> Vectors | None:
        """The vector of one key."""
        place = int(np.searchsorted(self._keys, np.uint64(key)))
        if place == len(self._keys) or int(self._keys[place]) != key:
            return None
        row = int(self._order[place])
        edition = int(np.searchsorted(self._starts, row, side="right")) - 1
        return np.array(self._mapped[edition][row - int(self._starts[edition])], dtype=np.float32)


def _write(path: Path, octets: bytes) -> None:
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_name(source: str) -> str:
    """A source's name as a file name. Raises :class:`ConfigError`."""
    plain = unicodedata.normalize("NFKD", source).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if not name or len(source) > MAX_NAME or not source.isprintable():
        raise ConfigError(
            f"source {source!r}: a name of 1 to {MAX_NAME} printable characters, one of them a-z or 0-9"
        )
    return name


@contextmanager
def alone(library: Path, name: str) -> Iterator[None]:
    """Keeps other processes from changing a source. Raises :class:`ConfigError` while one does."""
    library.mkdir(parents=True, exist_ok=True)
    with (library / f"{name}.lock").open("w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"source {name} is being imported by another process") from error
        yield


def editions(library: Path) -> list[Edition]:
    """The newest finished edition of each source, by name. Raises :class:`ConfigError` for a damaged one."""
    newest: dict[str, Edition] = {}
    for place in sorted(library.iterdir() if library.is_dir() else (), key=_number):
        if _PLACE.fullmatch(place.name) and (place / _DONE).exists():
            edition = Edition(place)
            newest[edition.name] = edition
    return [newest[name] for name in sorted(newest)]


def _number(place: Path) -> int:
    match = _PLACE.fullmatch(place.name)
    return int(match.group(2)) if match else 0


def of_source(library: Path, name: str) -> list[Edition]:
    """All editions of a source, finished or not, the oldest first."""
    places = library.iterdir() if library.is_dir() else ()
    matches = ((match, place) for place in places if (match := _PLACE.fullmatch(place.name)))
    found = sorted((int(match.group(2)), place) for match, place in matches if match.group(1) == name)
    return [Edition(place) for _, place in found]


def drop(edition: Edition) -> None:
    """Removes an edition; without its manifest first, so that nobody opens half of it."""
    (edition.place / _DONE).unlink(missing_ok=True)
    shutil.rmtree(edition.place)
