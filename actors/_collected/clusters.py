"""Questions of one meaning, in one language, found as they come.

The embedding's cosines lie close together for anything in one language, so each vector loses what all
questions of its language have in common. A question joins the cluster whose members are on average nearest to
it, if they are near enough, else begins one: the same questions in the same order make the same clusters.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from actors._retrieval.shipped import FILE, Known
from actors._retrieval.vectors import DIMENSIONS, Vectors, embedder
from actors.knowledge import Article

NEAR: Final = 0.35
"""Mean cosine with a cluster's members from which a question joins it.

Of the questions of 60 English articles, in clusters of five and more 84 % belong to one article, and 23
articles have such a cluster; of 60 in Swahili, half of them and 12. A reviewer sees a stray wording at once.
"""

_FEWEST: Final = 100
"""Questions from which a language has a mean of its own."""


class Centre(NamedTuple):
    """A cluster as joining sees it: the sum of its members' vectors, and how many there are."""

    id: int
    sum: Vectors
    members: int


class Meaning:
    """Turns questions into unit vectors of what sets them apart. Safe to use from threads."""

    def __init__(self, means: Mapping[str, Vectors], overall: Vectors) -> None:
        self._means: Final = means
        self._overall: Final = overall

    @classmethod
    def of(cls, articles: Sequence[Article]) -> "Meaning":
        """By the means of the ways to ask for ``articles``; takes about a second."""
        known, means = Known(FILE), {}
        for lang in sorted({article.lang for article in articles}):
            asked = [text for article in articles if article.lang == lang for text in article.questions]
            missing = set(known.missing(asked, asked=True))
            shipped = [text for place, text in enumerate(asked) if place not in missing]
            if len(shipped) >= _FEWEST:
                means[lang] = known.vectors(shipped, asked=True).mean(axis=0)
        none = np.zeros(DIMENSIONS, dtype=np.float32)
        return cls(means, np.mean(list(means.values()), axis=0) if means else none)

    def vector(self, text: str, lang: str) -> Vectors:
        """Unit vector of a question; takes tens of milliseconds."""
        apart: Vectors = embedder().queries([text])[0] - self._means.get(lang, self._overall)
        unit: Vectors = (apart / max(float(np.linalg.norm(apart)), 1e-9)).astype(np.float32)
        return unit


def nearest(vector: Vectors, clusters: Sequence[Centre]) -> int | None:
    """Id of the cluster that a question joins, the oldest of equally near ones; None: a new one."""
    if not clusters:
        return None
    sums = np.stack([cluster.sum for cluster in clusters])
    cosines = (sums @ vector) / np.array([cluster.members for cluster in clusters], dtype=np.float32)
    best = int(cosines.argmax())
    return clusters[best].id if cosines[best] >= NEAR else None


def by_closeness(texts: Sequence[tuple[str, Vectors]], centre: Vectors) -> list[str]:
    """Different wordings, the most typical first."""
    ranked = sorted(texts, key=lambda one: (-float(one[1] @ centre), one[0]))
    return list(dict.fromkeys(text for text, _ in ranked))
