"""Documents cut into passages: whole sentences, none twice, never longer than the embedder reads."""

import hashlib
from collections.abc import Iterator
from typing import Final

import msgspec
from sentencex import segment

from actors._library.documents import MAX_TITLE, Document, one_line

MAX_PASSAGE: Final = 400
"""Characters of a title and a text together: what the embedder reads (`actors/_retrieval/vectors`)."""

LEAST: Final = 40
"""Characters of a text; less says nothing by itself: menus, captions, bare headings."""


class LibraryPassage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One passage with where it comes from; everything an answer or a draft must name beside it."""

    text: str
    title: str
    category: str
    licence: str
    date: str
    """ISO 8601: of the document, else of its import."""
    lang: str
    advice: bool = False
    """People act upon it with their bodies; see `categories.toml`."""
    url: str = ""


def cut(document: Document, lang: str) -> Iterator[tuple[str, str]]:
    """Title and text of each passage, in order. Sentences go into one passage while they fit, of one section;
    a sentence that is too long by itself is parted between words."""
    for section in document.sections:
        title = titled(document.title, section.heading)
        most = MAX_PASSAGE - len(title) - 2
        piece = ""
        for sentence in _sentences(section.text, lang, most):
            if piece and len(piece) + 1 + len(sentence) > most:
                yield title, piece
                piece = ""
            piece = f"{piece} {sentence}".strip()
        if piece:
            yield title, piece


def titled(title: str, heading: str) -> str:
    """What stands above a passage: its document, and the section where that says more."""
    head = one_line(title)[:MAX_TITLE].rstrip()
    return f"{head}: {one_line(heading)}"[: 2 * MAX_TITLE].rstrip() if heading and heading != title else head


def key(text: str) -> int:
    """64 bits that two texts share when they differ in case, spaces and punctuation only."""
    plain = " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest())


def _sentences(text: str, lang: str, most: int) -> Iterator[str]:
    for paragraph in text.split("\n"):
        # A line of a list says where it ends, though nothing stands there.
        ended = f"{paragraph}." if paragraph[-1:].isalnum() else paragraph
        for sentence in segment(lang, ended):
            yield from _parted(one_line(sentence), most)


def _parted(sentence: str, most: int) -> Iterator[str]:
    while len(sentence) > most:
        place = sentence.rfind(" ", most // 2, most + 1)
        place = place if place > 0 else most
        yield sentence[:place].rstrip()
        sentence = sentence[place:].lstrip()
    if sentence:
        yield sentence
