"""XML element by element, and HTML as sections; neither fetches anything, nor expands entities of its own."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from lxml import etree, html

from actors._library.documents import Section, UnreadableError, one_line, opened, paragraphs

_BLOCKS: Final = frozenset(
    "p li dd dt td th tr div section article br pre blockquote caption figcaption table ul ol dl".split()  # noqa: SIM905  # a list of names reads better as a line
)
_NO_TEXT: Final = frozenset(
    "script style nav header footer form aside noscript template button select iframe svg object".split()  # noqa: SIM905  # the same
)
_HEADINGS: Final = frozenset(("h1", "h2", "h3"))


def elements(file: Path, *names: str) -> Iterator[Any]:
    """Elements of these names in any namespace, one at a time, each forgotten when the next is asked for.

    Raises :class:`UnreadableError` where the XML breaks, which may be after many elements; one text above
    10 MB is such a place (libxml2's own limit).
    """
    with opened(file) as stream:
        try:
            for _, element in etree.iterparse(
                stream,
                tag=[f"{{*}}{name}" for name in names],
                resolve_entities=False,
                no_network=True,
                load_dtd=False,
                huge_tree=False,
                remove_comments=True,
                remove_pis=True,
            ):
                yield element
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
        except etree.XMLSyntaxError as error:
            raise UnreadableError(f"the XML is broken: {error.msg}") from error
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise UnreadableError(f"cannot be read on: {error}") from error


def child_text(element: Any, name: str) -> str:
    """Text of the first child of a name, one line; "" without one."""
    found = element.find(f"{{*}}{name}")
    return "" if found is None else inner(found)


def inner(element: Any) -> str:
    """All text inside an element, one line."""
    return one_line("".join(element.itertext()))


def local(element: Any) -> str:
    """An element's name without its namespace; "" for a comment or an entity that stayed."""
    return etree.QName(element).localname.lower() if isinstance(element.tag, str) else ""


def page(octets: bytes | str) -> tuple[str, str, Sequence[Section]]:
    """Title, language and sections of an HTML page: what is read, without what leads elsewhere.

    Raises :class:`UnreadableError` for what is no HTML at all.
    """
    if isinstance(octets, bytes) and b"\x00" in octets:
        raise UnreadableError("no HTML: it has octets of zero in it")
    parser = html.HTMLParser(no_network=True, huge_tree=False, encoding=_encoding(octets))
    try:
        tree = html.document_fromstring(octets, parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError, ValueError) as error:
        raise UnreadableError(f"no HTML: {error}") from error
    found = tree.find(".//title")
    title = inner(found) if found is not None else ""
    main = next(iter(tree.xpath("//main|//*[@role='main']")), tree.find("body"))
    sections = [] if main is None else list(_sections(main))
    return title, (tree.get("lang") or "")[:2].lower(), sections


def _encoding(octets: bytes | str) -> str | None:
    """UTF-8 for octets that are; None leaves it to what the page declares, which is often wrong."""
    if isinstance(octets, str):
        return None
    try:
        octets.decode()
    except UnicodeDecodeError:
        return None
    return "utf-8"


def text_of(fragment: str) -> str:
    """The text of a fragment of HTML, one line; anything else is its own text."""
    if "<" not in fragment and "&" not in fragment:
        return one_line(fragment)
    try:
        _, _, sections = page(f"<html><body>{fragment}</body></html>")
    except UnreadableError:
        return one_line(re.sub(r"<[^>]*>", " ", fragment))
    return one_line(" ".join(f"{s.heading}. {s.text}" if s.heading else s.text for s in sections))


def _sections(main: Any) -> Iterator[Section]:
    heading, pieces = "", list[str]()
    for name, text in _walk(main):
        if name in _HEADINGS:
            if said := paragraphs("".join(pieces)):
                yield Section(heading, said)
            heading, pieces = one_line(text), []
        else:
            pieces.append(text)
    if said := paragraphs("".join(pieces)):
        yield Section(heading, said)


def _walk(main: Any) -> Iterator[tuple[str, str]]:
    """Headings and pieces of text in reading order, without recursion: a page may be nested at will."""
    skipped = 0
    for event, element in etree.iterwalk(main, events=("start", "end")):
        name = local(element)
        stop = name in _NO_TEXT or name in _HEADINGS
        if event == "start":
            if name in _HEADINGS and not skipped:
                yield name, inner(element)
            skipped += stop
            if not skipped and name:
                if name in _BLOCKS:
                    yield "", "\n\n"
                yield "", element.text or ""
        else:
            skipped -= stop
            if not skipped:
                if name in _BLOCKS:
                    yield "", "\n\n"
                if element is not main:
                    yield "", element.tail or ""
