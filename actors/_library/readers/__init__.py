"""One module for each kind of source: from a file to documents, in the order of the file, always the same."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from actors._library.documents import Kind, Read
from actors._library.readers import academic, encyclopaedic, government, legal, medical, news


class Reader(NamedTuple):
    """How files of a kind are read: ``read`` may raise UnreadableError at any document."""

    read: Callable[[Path], Read]
    endings: tuple[str, ...]
    says: str


READERS: Final[Mapping[Kind, Reader]] = {
    "encyclopaedic": Reader(
        encyclopaedic.read, (".xml", ".jsonl"), "a MediaWiki XML dump, or JSONL with title and text"
    ),
    "medical": Reader(medical.read, (".xml",), "health topics in MedlinePlus's XML"),
    "government": Reader(
        government.read, (".html", ".htm", ".pdf", ".md", ".markdown"), "HTML, PDF or Markdown"
    ),
    "news": Reader(news.read, (".rss", ".atom", ".xml", ".json"), "RSS, Atom or JSON Feed"),
    "legal": Reader(
        legal.read,
        (".xml", ".txt"),
        "text with §, Article or Section at the head of lines, or Akoma Ntoso, USLM",
    ),
    "academic": Reader(
        academic.read,
        (".xml", ".nxml", ".bib", ".jsonl"),
        "JATS XML, BibTeX with abstracts, or JSONL as of arXiv",
    ),
}
