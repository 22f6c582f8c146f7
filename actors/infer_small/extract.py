"""A grammar that lets a model say reviewed sentences only.

A 135M model that was given «2 drops of bleach for each litre» wrote «No, you cannot use bleach». Under this
grammar (GBNF, which llama.cpp enforces token by token) it can do no more than leave out sentences that carry
neither a number nor a warning, and add the second passage to the best one.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

_BOUNDARY: Final = re.compile(r"(?<=[.!?]) +(?=[A-Z0-9¿¡])")

_BINDING: Final = re.compile(
    r"\d|\b(?:no|not|never|none|nothing|without|only|unless|until|if|avoid|stop|beware|danger\w*|poison\w*|"
    r"doctor|clinic|hospital|nurse|health|help|call|urgent\w*|at once|now)\b|n't\b",
    re.IGNORECASE,
)
"""A sentence with one of these is never left out of a passage that is used. English only, as the model."""


def sentences(text: str) -> list[str]:
    """Sentences of a passage; joined by a space they are the passage again."""
    return _BOUNDARY.split(text)


def grammar(passages: Sequence[str]) -> str:
    """GBNF for the first passage, or for it and then the second, less sentences that bind nobody.

    ``passages`` are one or two, each one line. A first sentence is always kept: what follows leans on it.
    """
    return "root ::= " + _rule(passages, _gbnf)


def allows(passages: Sequence[str], text: str) -> bool:
    """Whether :func:`grammar` allows a text: no engine is believed to have kept to it."""
    return re.fullmatch(_rule(passages, re.escape), text) is not None


def _rule(passages: Sequence[str], literal: Callable[[str], str]) -> str:
    """The rule with ``literal`` for fixed text; ``( )?`` mean the same in GBNF and in regular expressions."""
    first, *more = [_passage(passage, literal) for passage in passages[:2]]
    return first + "".join(f"({literal(' ')}{other})?" for other in more)


def _passage(passage: str, literal: Callable[[str], str]) -> str:
    first, *rest = sentences(passage)
    return literal(first) + "".join(
        literal(f" {sentence}") if _BINDING.search(sentence) else f"({literal(f' {sentence}')})?"
        for sentence in rest
    )


def _gbnf(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f' "{escaped}" '
