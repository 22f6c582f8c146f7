"""How sure retrieval is, from 0 to 1: the probability that the best article answers the text.

A logistic regression over three pieces of evidence::

    confidence = 1 / (1 + exp(-(BIAS + LEAD * lead + RISE * rise + MARGIN * margin)))

The embedding's cosines say little by themselves: they lie between 0.8 and 0.95 for anything. What tells is
whether a text is nearer to an article than to the decoys, texts that no article answers, and whether it is
nearer to this article than to the next. The next counts even when it has the same topic: with articles
that share a rare tag left out of the margin no question of another hand gained its article, but 18 texts
without an answer gained one, for such a text is near to all of a topic alike. The share of words in common
orders the articles; to how sure we are it added nothing, nor did the lengths of texts.

``python -m tests.bench.rag_fit`` prints the four numbers again, and says on what texts it fitted them; they
are of a mix in which two texts of three have an answer.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from actors.knowledge import Article

BIAS, LEAD, RISE, MARGIN = -2.53, 37.5, 10.8, 27.8

FOREIGN: Final = 0.12
"""More finds more English articles where there is no other, and loses some in the person's language."""

SURE: Final = 0.75
"""From here a passage is sent as it was written."""

FOREIGN_SURE: Final = 0.85
"""The same for one in another language than the text, which its reader may be unable to judge."""

UNSURE: Final = 0.5
"""Below this EVY does not know, and no model is asked: wrong advice is worse than none."""

NEAR: Final = 0.3
"""From here a passage that is not sure is sent under its title, «maybe this», to be judged by who asked."""


class Evidence(msgspec.Struct, frozen=True):
    """What speaks for one article."""

    lead: float
    """Mean cosine of the text with the article's two nearest questions, less that with the nearest decoy."""
    rise: float
    """Cosine of the text with the article's own text, less the mean of those with all decoys."""
    overlap: float
    """Share of the text's words, weighed by rarity as in BM25, that the article has."""
    foreign: bool = False
    """The article is in another language than the text."""
    margin: float = 0.0
    """How far its rank is above that of the best other article; below it for all but the first."""

    @property
    def rank(self) -> float:
        """What articles are ordered by.

        Weights of a compromise: questions left out of their own article want more of ``rise``, texts of
        another hand more of ``lead``. Any text is nearer to those in its own language: without what a
        foreign article is given, hardly one was found, and a neighbour in the person's language came first.
        """
        return 1.5 * self.lead + self.rise + 0.12 * self.overlap + FOREIGN * self.foreign


def confidence(evidence: Evidence) -> float:
    """The formula above; for a passage in another language that is not surely right, less than UNSURE."""
    sum_ = BIAS + LEAD * evidence.lead + RISE * evidence.rise + MARGIN * evidence.margin
    value = 1 / (1 + math.exp(-sum_))
    return min(value, UNSURE - 0.01) if evidence.foreign and value < FOREIGN_SURE else value


def nearness(nearest: Sequence[float], last: float, questions: int) -> float:
    """Mean of a text's cosines with an article's two nearest ``questions``.

    ``nearest`` are those that a ranking has, the best first; what is beyond its end counts as its ``last``
    cosine. The only question of an article counts twice.
    """
    first, second, *_ = (*nearest, *nearest, last, last) if questions == 1 else (*nearest, last, last)
    return (first + second) / 2


def ordered(found: Iterable[tuple[Article, Evidence]]) -> list[tuple[Article, Evidence]]:
    """Articles with their margins, the best first."""
    ranked = sorted(found, key=lambda pair: -pair[1].rank)
    if len(ranked) < 2:
        return ranked
    best = ranked[0]
    next_ = next((one for one in ranked if one[0].id != best[0].id), best)

    def margin(article: Article, evidence: Evidence) -> float:
        return evidence.rank - (next_ if article.id == best[0].id else best)[1].rank

    return [(article, msgspec.structs.replace(one, margin=margin(article, one))) for article, one in ranked]
