"""Encyclopaedias: a MediaWiki XML dump (export schema 0.10 and 0.11), or JSONL of plain articles."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import mwparserfromhell
from mwparserfromhell.nodes import Heading, Node, Tag, Wikilink
from mwparserfromhell.wikicode import Wikicode

from actors._library.documents import (
    MAX_DOCUMENT,
    Document,
    Read,
    Refusal,
    Section,
    day,
    licence,
    one_line,
    paragraphs,
    plain_name,
)
from actors._library.readers.jsonl import records
from actors._library.readers.trees import child_text, elements

_REST: Final = frozenset(
    ("references", "external links", "see also", "further reading", "notes", "bibliography", "sources")
)
"""Sections that point elsewhere."""

_NO_PROSE: Final = frozenset(
    ("ref", "table", "gallery", "math", "timeline", "score", "syntaxhighlight", "imagemap")
)


class _Line(msgspec.Struct, frozen=True):
    """An article as Wikipedia extracts have it; other fields are ignored."""

    title: str
    text: str
    url: str = ""
    lang: str = ""
    date: str = ""
    timestamp: str = ""
    licence: str = ""
    license: str = ""


def read(file: Path) -> Read:
    """Articles of a dump or of a JSONL file; redirects, talk and other namespaces are passed over."""
    yield from _lines(file) if plain_name(file) == ".jsonl" else _dump(file)


def _lines(file: Path) -> Read:
    for found in records(file, _Line):
        if isinstance(found, Refusal):
            yield found
            continue
        where, line = found
        if len(line.text) > MAX_DOCUMENT:
            yield Refusal(where, f"{len(line.text)} characters, at most {MAX_DOCUMENT}")
            continue
        yield Document(
            one_line(line.title),
            (Section("", paragraphs(line.text)),),
            line.lang,
            day(line.date or line.timestamp),
            licence(line.licence or line.license),
            line.url,
        )


def _dump(file: Path) -> Read:
    lang, base = "", ""
    for element in elements(file, "page", "siteinfo", "mediawiki"):
        name = element.tag.rpartition("}")[2]
        if name == "siteinfo":
            parent = element.getparent()
            if parent is not None:
                spoken = parent.get("{http://www.w3.org/XML/1998/namespace}lang") or ""
                lang = spoken.split("-")[0].lower()
            base = child_text(element, "base").rpartition("/")[0]
        elif (
            name == "page"
            and (element.findtext("{*}ns") or "0") == "0"
            and element.find("{*}redirect") is None
        ):
            yield _page(element, lang, base)


def _page(element: Any, lang: str, base: str) -> Document | Refusal:
    title = child_text(element, "title")
    text = element.findtext("{*}revision/{*}text") or ""
    if not title:
        return Refusal("a page", "no title")
    if len(text) > MAX_DOCUMENT:
        return Refusal(title, f"{len(text)} characters, at most {MAX_DOCUMENT}")
    try:
        sections = tuple(_prose(text))
    except (RecursionError, ValueError, mwparserfromhell.parser.ParserError) as error:
        return Refusal(title, f"its markup cannot be read: {error}")
    date = day(element.findtext("{*}revision/{*}timestamp") or "")
    url = f"{base}/{title.replace(' ', '_')}" if base else ""
    return Document(title, sections, lang, date, "", url)


def _prose(markup: str) -> Iterator[Section]:
    """Headings and prose of an article, without tables, notes, templates and pictures."""
    for part in mwparserfromhell.parse(markup).get_sections(flat=True, include_lead=True):
        headings = part.filter_headings()
        heading = one_line(headings[0].title.strip_code()) if headings else ""
        if heading.lower() in _REST:
            continue
        prose = Wikicode([node for node in part.nodes if not (isinstance(node, Heading) or _no_prose(node))])
        if said := paragraphs(str(prose.strip_code()).replace("\n", "\n\n")):
            yield Section(heading, said)


def _no_prose(node: Node) -> bool:
    if isinstance(node, Tag):
        return str(node.tag).strip().lower() in _NO_PROSE
    return isinstance(node, Wikilink) and _leads_out(str(node.title))


def _leads_out(title: str) -> bool:
    """A picture, a category or another language: «File:x.jpg», «Category:y», «fr:z»; not «:Category:y»."""
    space, colon, _ = title.strip().partition(":")
    return bool(colon) and bool(space) and " " not in space
