"""What is read of a text: its words, what of it can be seen, its first part."""

import unicodedata


def plain_words(text: str) -> str:
    """Capitals without accents or punctuation, digits as 0-9, single spaces: how commands and repeats are
    compared, in any script."""
    return " ".join("".join(map(_plain, unicodedata.normalize("NFKD", text).upper())).split())


def _plain(c: str) -> str:
    if unicodedata.combining(c) or unicodedata.category(c) == "Cf":
        return ""  # accents, Arabic vowel signs, joiners
    if (digit := unicodedata.decimal(c, None)) is not None:
        return str(digit)  # a phone set to Arabic or Hindi may type \u0661 or \u0967 for 1
    # The vowel signs of Devanagari are marks that are no accents.
    return c if c == "?" or c.isalnum() or unicodedata.category(c)[0] == "M" else " "


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
