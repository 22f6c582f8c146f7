"""What is read of a text: its words, what of it can be seen, its first part."""

import re
import unicodedata
from typing import Final

_WORD_CHARACTERS: Final = re.compile(r"[^0-9A-Z? ]+")


def plain_words(text: str) -> str:
    """Capitals without accents or punctuation, single spaces: how commands and repeats are compared."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(_WORD_CHARACTERS.sub(" ", bare.upper()).split())


def visible(text: str) -> str:
    """The text without control characters, newlines as spaces; empty when nothing in it can be seen."""
    spaced = (" " if c in "\n\r\t\f\v" else c for c in text)
    kept = "".join(c for c in spaced if unicodedata.category(c) not in {"Cc", "Cs", "Co", "Cn"}).strip()
    return kept if any(unicodedata.category(c)[0] in "LNPSM" for c in kept) else ""


def first_part(text: str, limit: int) -> str:
    """The text up to ``limit`` characters, cut after a sentence or a word where there is one near."""
    if len(text) <= limit:
        return text
    head = text[:limit]
    for mark in (". ", "! ", "? ", " "):
        cut = head.rfind(mark)
        if cut > limit // 2:
            return head[: cut + 1].rstrip()
    return head
