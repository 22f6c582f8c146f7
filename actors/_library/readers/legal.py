"""Law: text with sections at the head of lines, or XML with sections (Akoma Ntoso, USLM and their like)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from actors._library.documents import (
    MAX_DOCUMENT,
    Document,
    Read,
    Refusal,
    Section,
    as_text,
    one_line,
    paragraphs,
    plain_name,
    whole,
)
from actors._library.readers.trees import child_text, elements, inner, local

_HEAD: Final = re.compile(
    r"(?m)^\s*((?:§+|Art(?:icle|iculo|ículo|igo|ikel)?\.?|Section|Sec\.|Sección|Seção|Kifungu|धारा|المادة)"
    r"\s*\d+[a-z]?(?:[.\-]\d+)*[.:)]?)[ \t]*(.*)$",
    re.IGNORECASE,
)
_HEADING: Final = 90
"""Characters after a section's number that may be its heading; more is its text."""


def read(file: Path) -> Read:
    """One document for each section of a law in XML, or one for a file of text with all of its sections."""
    if plain_name(file) == ".xml":
        yield from _xml(file)
        return
    text = as_text(whole(file))
    if len(text) > MAX_DOCUMENT:
        yield Refusal("the whole file", f"{len(text)} characters, at most {MAX_DOCUMENT}: divide it")
        return
    sections = tuple(_sections(text))
    if not any(section.heading for section in sections):
        yield Refusal(
            "the whole file", "no section in it: lines that begin with §, Article or Section and a number"
        )
        return
    head = one_line(text.strip().partition("\n")[0])
    yield Document(file.stem if _HEAD.match(head) else head, sections)


def _sections(text: str) -> Iterator[Section]:
    found = list(_HEAD.finditer(text))
    for match, following in zip(found, [*found[1:], None], strict=False):
        body = text[match.end() : following.start() if following else len(text)]
        rest = match.group(2).strip()
        titled = bool(rest) and len(rest) <= _HEADING and rest[-1] not in ".;:,"
        heading = one_line(f"{match.group(1)} {rest if titled else ''}")
        if said := paragraphs(body if titled else f"{rest}\n{body}"):
            yield Section(heading, said)


def _xml(file: Path) -> Read:
    title, lang, date = file.stem, "", ""
    seen = False
    for element in elements(file, "section", "article", "docTitle", "title", "FRBRdate", "FRBRlanguage"):
        name = local(element)
        if name == "frbrdate":
            date = element.get("date") or date
        elif name == "frbrlanguage":
            lang = (element.get("language") or "")[:2]
        elif name in ("doctitle", "title"):
            title = title if seen else inner(element) or title
        else:
            seen = True
            yield _section(element, title, lang, date)


def _section(element: Any, title: str, lang: str, date: str) -> Document | Refusal:
    number, heading = child_text(element, "num"), child_text(element, "heading")
    parts = [inner(child) for child in element if local(child) not in ("num", "heading", "")]
    text = "\n".join(part for part in (one_line(element.text or ""), *parts) if part)
    named = one_line(f"{number} {heading}") or element.get("id") or ""
    if not text:
        return Refusal(named or "a section", "no text")
    return Document(title, (Section(named, text),), lang, date)
