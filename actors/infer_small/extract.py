"""What a model may choose of reviewed passages: lines by their numbers, under a grammar of a few tokens.

A 135M model that was given «2 drops of bleach for each litre» wrote «No, you cannot use bleach». So it writes
no words at all: of the best passage it says which sentences that bind nobody may stay, and whether the second
passage is added. What is sent is put together here, from sentences as they were reviewed. A number costs one
token, where its sentence costs twenty, and a sentence that stays in any case is not even shown to the model.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from subjects.messages import Passage

_BOUNDARY: Final = re.compile(r"(?<=[.!?]) +(?=[A-Z0-9¿¡])")

_BINDING: Final = re.compile(
    r"\d|\b(?:no|not|never|none|nothing|without|only|unless|until|if|avoid|stop|beware|danger\w*|poison\w*|"
    r"doctor|clinic|hospital|nurse|health|help|call|urgent\w*|at once|now)\b|n't\b",
    re.IGNORECASE,
)
"""A sentence with one of these is never left out of a passage that is used. English only, as the model."""

MOST_LINES: Final = 9
"""Lines are numbered by one digit, which is one token; what is beyond stays."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One question to a model: which of ``lines`` to send. ``passages`` are one or two, the best first."""

    passages: tuple[Passage, ...]
    lines: tuple[str, ...]
    """What may be left out of the first passage, then the second one's title, if there is one."""
    sentences: tuple[tuple[str, int], ...]
    """Sentences of the first passage, each with the number of its line, or 0: it stays."""

    @property
    def grammar(self) -> str:
        """GBNF: the numbers of some lines, in their order."""
        return "root ::= " + " ".join(f'"{number}"?' for number in range(1, len(self.lines) + 1))

    def text(self, picked: str) -> tuple[str, tuple[Passage, ...]]:
        """What is sent for the numbers that a model wrote, and the passages it is from.

        Empty for anything the grammar forbids: no engine is believed to have kept to it.
        """
        numbers = [int(c) for c in picked if c.isdecimal() and c.isascii()]
        if picked != "".join(map(str, numbers)) or numbers != sorted({*numbers}):
            return "", ()
        if not set(numbers) <= set(range(1, len(self.lines) + 1)):
            return "", ()
        kept = [text for text, number in self.sentences if not number or number in numbers]
        if len(self.passages) > 1 and len(self.lines) in numbers:
            return " ".join([*kept, self.passages[1].text]), self.passages
        return " ".join(kept), self.passages[:1]


def choice(passages: Sequence[Passage]) -> Choice:
    """What a model may choose of one or two passages, the best first.

    A first sentence always stays, since what follows leans on it; so does one that has a number or a warning.
    """
    first, *more = passages[:2]
    room = MOST_LINES - len(more)
    lines: list[str] = []
    numbered = []
    for place, sentence in enumerate(sentences(first.text)):
        optional = bool(place) and not _BINDING.search(sentence) and len(lines) < room
        if optional:
            lines.append(sentence)
        numbered.append((sentence, len(lines) if optional else 0))
    lines += [passage.title or sentences(passage.text)[0] for passage in more]
    return Choice(tuple(passages[:2]), tuple(lines), tuple(numbered))


def sentences(text: str) -> list[str]:
    """Sentences of a passage; joined by a space they are the passage again."""
    return _BOUNDARY.split(text)
