"""The hand-written answers of tests/vectors/compression and the facts marked in them."""

from typing import Final

import msgspec

from tests.eval.report import ROOT

FOLDER: Final = ROOT / "tests" / "vectors" / "compression"
RULED: Final = ("en", "es", "fr", "pt")
"""Languages in which the engine shortens; all others get clean-up only."""


class Fact(msgspec.Struct, frozen=True):
    """A span of the text that must not be lost; ``critical`` when acting without it does harm."""

    kind: str
    text: str
    start: int
    critical: bool

    @property
    def end(self) -> int:
        """The code point behind the last."""
        return self.start + len(self.text)


class Answer(msgspec.Struct, frozen=True):
    """One long answer as a model writes it. ``held``: never shown to the author of the engine."""

    id: str
    lang: str
    kind: str
    held: bool
    text: str
    facts: tuple[Fact, ...]


def answers(*names: str) -> list[Answer]:
    """The answers of some files, in order; of all languages' files without a name."""
    return [
        msgspec.json.decode(line, type=Answer)
        for name in names or (*RULED, "other")
        for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()
    ]
