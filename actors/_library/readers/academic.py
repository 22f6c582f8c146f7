"""Academic: articles in JATS XML, BibTeX entries with abstracts, JSONL as arXiv publishes it."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from bibtexparser.entrypoint import parse_string

from actors._library.documents import (
    MAX_DOCUMENT,
    Document,
    Read,
    Refusal,
    Section,
    UnreadableError,
    as_text,
    day,
    licence,
    one_line,
    plain_name,
    whole,
)
from actors._library.readers.jsonl import records
from actors._library.readers.trees import elements, inner, local

_HREF: Final = "{http://www.w3.org/1999/xlink}href"
_LANG: Final = "{http://www.w3.org/XML/1998/namespace}lang"
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


class _Paper(msgspec.Struct, frozen=True):
    """A line of arXiv's metadata; other fields are ignored."""

    title: str
    abstract: str
    id: str = ""
    update_date: str = ""
    license: str | None = None
    lang: str = ""


def read(file: Path) -> Read:
    """Papers of a file: title, abstract and, in JATS, the body by its sections."""
    match plain_name(file):
        case ".jsonl":
            yield from _lines(file)
        case ".bib":
            yield from _bibtex(file)
        case _:
            for article in elements(file, "article"):
                yield _jats(article)


def _lines(file: Path) -> Read:
    for found in records(file, _Paper):
        if isinstance(found, Refusal):
            yield found
            continue
        where, paper = found
        if not paper.abstract.strip():
            yield Refusal(where, "no abstract")
            continue
        yield Document(
            one_line(paper.title),
            (Section("", one_line(paper.abstract)[:MAX_DOCUMENT]),),
            paper.lang,
            day(paper.update_date),
            licence(paper.license or ""),
            f"https://arxiv.org/abs/{paper.id}" if paper.id else "",
        )


def _bibtex(file: Path) -> Read:
    text = as_text(whole(file))
    logging.getLogger("bibtexparser").setLevel(logging.CRITICAL)  # it logs what `failed_blocks` says
    library = parse_string(text)
    if not library.blocks:
        raise UnreadableError("no BibTeX in it")
    for block in library.failed_blocks:
        yield Refusal(
            f"line {(block.start_line or 0) + 1}", f"no entry: {str(block.error) or 'it is never closed'}"
        )
    for entry in library.entries:
        fields = {key.lower(): one_line(str(field.value)) for key, field in entry.fields_dict.items()}
        title, abstract = (_unbraced(fields.get(name, "")) for name in ("title", "abstract"))
        beside = file.with_name(f"{entry.key}.txt")
        if not abstract and beside.parent == file.parent and beside.is_file():
            abstract = as_text(whole(beside))
        if not title or not abstract:
            yield Refusal(entry.key, "no title" if not title else "no abstract, and no text beside the file")
            continue
        sections = (Section("", abstract[:MAX_DOCUMENT]),)
        rights = licence(fields.get("copyright", "") or fields.get("license", ""))
        url = fields.get("url", "") or (f"https://doi.org/{fields['doi']}" if "doi" in fields else "")
        yield Document(title, sections, fields.get("langid", "")[:2], _bib_day(fields), rights, url)


def _unbraced(text: str) -> str:
    return text.replace("{", "").replace("}", "")


def _bib_day(fields: dict[str, str]) -> str:
    if found := day(fields.get("date", "")):
        return found
    month = fields.get("month", "").lower()[:3]
    number = _MONTHS.index(month) + 1 if month in _MONTHS else 1
    return day(f"{fields.get('year', '')}-{number:02}-01")


def _jats(article: Any) -> Document | Refusal:
    title = next((inner(found) for found in article.iterfind(".//{*}article-meta//{*}article-title")), "")
    if not title:
        return Refusal("an article", "no title")
    sections = [
        *_parts(article, ".//{*}article-meta/{*}abstract", "Abstract"),
        *_parts(article, "{*}body", ""),
    ]
    if not sections:
        return Refusal(title, "neither abstract nor body")
    if (size := sum(len(section.text) for section in sections)) > MAX_DOCUMENT:
        return Refusal(title, f"{size} characters, at most {MAX_DOCUMENT}")
    rights = next(article.iterfind(".//{*}permissions/{*}license"), None)
    stated = "" if rights is None else rights.get(_HREF) or inner(rights)
    doi = next(article.iterfind(".//{*}article-meta/{*}article-id[@pub-id-type='doi']"), None)
    url = "" if doi is None else f"https://doi.org/{inner(doi)}"
    lang = (article.get(_LANG) or "")[:2].lower()
    return Document(title, tuple(sections), lang, _published(article), licence(stated), url)


def _parts(article: Any, path: str, heading: str) -> Iterator[Section]:
    for part in article.iterfind(path):
        for section in (part, *part.iterfind(".//{*}sec")):
            named = next((inner(child) for child in section if local(child) == "title"), "") or heading
            paras = [inner(child) for child in section if local(child) in ("p", "list", "boxed-text")]
            if text := "\n".join(filter(None, paras)):
                yield Section(named, text)


def _published(article: Any) -> str:
    """The latest complete date of publication."""
    days = []
    for date in article.iterfind(".//{*}article-meta/{*}pub-date"):
        year, month, number = (date.findtext(f"{{*}}{name}") or "" for name in ("year", "month", "day"))
        days.append(day(f"{year}-{month or '01':0>2}-{number or '01':0>2}"))
    return max(days, default="")
