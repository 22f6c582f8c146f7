# ruff: noqa: PYI021  the docstrings of the core live here; PyO3 carries none
"""Typed face of the Rust core; the docstrings live here."""

from collections.abc import Sequence
from typing import Literal, final

__all__ = [
    "CoreError",
    "Segmentation",
    "segment",
]

class CoreError(ValueError):
    """Base of every error the core raises."""

@final
class Segmentation:
    """How one text is divided into SMS (3GPP TS 23.040 §9.2.3.24.1, TS 23.038 §6.2).

    A text of up to 160 septets or 70 UTF-16 units is one segment, a longer one has 153 or 67 in each. No
    character is divided: neither an extension character (two septets) nor a surrogate pair. An empty text is
    one empty segment. More than 255 segments cannot be sent; the sender refuses or shortens.
    """

    @property
    def encoding(self) -> Literal["gsm7", "ucs2"]:
        """Alphabet; one character outside GSM 7-bit makes the whole text ``ucs2``."""
    @property
    def units(self) -> int:
        """Septets or UTF-16 units of the text, headers not counted."""
    @property
    def count(self) -> int:
        """Number of segments, known without making them."""
    @property
    def segments(self) -> list[str]:
        """The segments in order; joined they are the text. Made anew at each call."""

def segment(texts: Sequence[str]) -> list[Segmentation]:
    """Divides each text into SMS, in order, with the GIL released.

    Raises UnicodeEncodeError for a ``str`` with a lone surrogate, which is not text.
    """
