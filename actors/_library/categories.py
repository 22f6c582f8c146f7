"""Which of fifteen categories a passage is of."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from actors._library.documents import Kind
from actors._retrieval.phrases import read_phrases
from actors._retrieval.shipped import FILE as FILE_OF_VECTORS
from actors._retrieval.shipped import Known
from actors._retrieval.vectors import Vectors, embedder

FILE: Final = Path(__file__).with_name("categories.toml")

NEARLY: Final = 0.005
"""A passage whose cosine with a category of advice is so little below the best other counts as advice too."""


class Category(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A category: what it is about in a sentence, and whether people act upon it with their bodies."""

    name: str
    description: str
    advice: bool = False
    kinds: tuple[Kind, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    category: tuple[Category, ...]


@cache
def categories() -> tuple[Category, ...]:
    """All of them, in the order of their file."""
    return msgspec.convert(tomllib.loads(FILE.read_text(encoding="utf-8")), _File).category


RULES: Final[dict[Kind, str]] = {"news": "news", "legal": "law"}
"""Kinds whose passages are all of one category; the others go by the nearest description."""


@cache
def _described() -> tuple[Vectors, Vectors]:
    """Vectors of the descriptions, and the mean cosine of each with texts of all sorts, which is left out:
    some descriptions are near to anything."""
    described = embedder().passages([category.description for category in categories()])
    anything = Known(FILE_OF_VECTORS).vectors(read_phrases().decoys(), asked=True)
    return described, (anything @ described.T).mean(axis=0)


def assigned(kind: Kind, vectors: Vectors) -> list[tuple[str, bool]]:
    """Category of each passage by its vector, and whether it is advice: also where one of advice is nearly
    as near, for news and law too, and always for what a medical source says."""
    every = categories()
    described, anyway = _described()
    cosines = vectors @ described.T - anyway
    allowed = np.array([not category.kinds or kind in category.kinds for category in every])
    best = np.where(allowed, cosines, -1.0).argmax(axis=1)
    advising = np.array([category.advice for category in every])
    general = np.where(advising | ~allowed, -1.0, cosines).max(axis=1)
    advice = np.where(advising, cosines, -1.0).max(axis=1) > general - NEARLY
    fixed = RULES.get(kind)
    return [
        (fixed or every[place].name, bool(body) or kind == "medical")
        for place, body in zip(best, advice, strict=True)
    ]
