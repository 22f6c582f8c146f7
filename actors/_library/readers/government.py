"""Government: pages and papers as HTML, PDF or Markdown."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from pypdf import PdfReader
from pypdf.errors import PyPdfError

from actors._library.documents import (
    MAX_DOCUMENT,
    Document,
    Read,
    Refusal,
    Section,
    UnreadableError,
    as_text,
    one_line,
    paragraphs,
    plain_name,
    whole,
)
from actors._library.readers.trees import page

MAX_PAGES: Final = 3_000


def read(file: Path) -> Read:
    """A file as one document; what has no text in it is refused."""
    lang, title = "", ""
    match plain_name(file):
        case ".pdf":
            title, sections = _pdf(file)
        case ".md" | ".markdown":
            sections = list(_markdown(as_text(whole(file))))
            title = sections[0].heading if sections else ""
        case _:
            title, lang, found = page(whole(file))
            sections = list(found)
    if not any(section.text for section in sections):
        yield Refusal("the whole file", "no text in it; a scan needs text recognition first")
    elif (size := sum(len(section.text) for section in sections)) > MAX_DOCUMENT:
        yield Refusal("the whole file", f"{size} characters, at most {MAX_DOCUMENT}: divide it")
    else:
        yield Document(title or file.stem, tuple(sections), lang)


def _pdf(file: Path) -> tuple[str, list[Section]]:
    octets = whole(file)
    try:
        reader = PdfReader(io.BytesIO(octets))
        if reader.is_encrypted:
            raise UnreadableError("is encrypted: save it without a password")
        if len(reader.pages) > MAX_PAGES:
            raise UnreadableError(f"{len(reader.pages)} pages, at most {MAX_PAGES}: divide it")
        title = one_line(str(reader.metadata.title or "")) if reader.metadata else ""
        sections, size = [], 0
        for number, leaf in enumerate(reader.pages, start=1):
            text = paragraphs(leaf.extract_text())
            size += len(text)
            if size > MAX_DOCUMENT:
                raise UnreadableError(f"more than {MAX_DOCUMENT} characters by page {number}: divide it")
            if text:
                sections.append(Section(f"page {number}", text))
    except (PyPdfError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        # pypdf meets broken files with whatever its own code raises.
        raise UnreadableError(f"cannot be read as a PDF: {error}") from error
    return title, sections


def _markdown(text: str) -> Iterator[Section]:
    heading, lines, inside = "", list[str](), False
    for token in MarkdownIt().parse(text):
        if token.type == "heading_open":
            if lines:
                yield Section(heading, "\n".join(lines))
            lines, inside = [], True
        elif token.type == "inline":
            said = one_line(
                "".join(
                    child.content if child.type in ("text", "code_inline") else " "
                    for child in token.children or ()
                    if child.type in ("text", "code_inline", "softbreak", "hardbreak")
                )
            )
            if inside:
                heading, inside = said, False
            elif said:
                lines.append(said)
    if lines:
        yield Section(heading, "\n".join(lines))
