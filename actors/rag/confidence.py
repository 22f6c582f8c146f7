"""How sure retrieval is, from 0 to 1: the probability that the best article answers the text.

A logistic regression over three pieces of evidence, fitted on ``tests/vectors/questions.jsonl`` without its
held-out third (``python -m tests.bench.bench_rag --fit`` prints the numbers below again)::

    confidence = 1 / (1 + exp(-(BIAS + LEAD * lead + RISE * rise + OVERLAP * (overlap - OVERLAP_MEAN))))

The embedding's cosines say little by themselves: they lie between 0.8 and 0.95 for anything. What tells is
whether a text is nearer to an article than to the decoys, texts that no article answers.
"""

import math
from typing import Final

import msgspec

BIAS: Final = -0.71
LEAD: Final = 59.2
RISE: Final = 22.4
OVERLAP: Final = 1.54
OVERLAP_MEAN: Final = 0.37

SURE: Final = 0.75
"""From here a passage is sent as it was written."""

UNSURE: Final = 0.5
"""Below this EVY abstains: wrong advice is worse than none."""


class Evidence(msgspec.Struct, frozen=True):
    """What speaks for one article."""

    lead: float
    """Cosine of the text with the article's nearest question, less that with the nearest decoy."""
    rise: float
    """Cosine of the text with the article's own text, less the mean of those with all decoys."""
    overlap: float | None
    """Share of the text's words, weighed by rarity, that the article has; None in another language."""


def confidence(evidence: Evidence) -> float:
    """The formula above; without an overlap its mean is taken."""
    logit = BIAS + LEAD * evidence.lead + RISE * evidence.rise
    if evidence.overlap is not None:
        logit += OVERLAP * (evidence.overlap - OVERLAP_MEAN)
    return 1 / (1 + math.exp(-logit))
