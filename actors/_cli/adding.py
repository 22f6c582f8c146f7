"""`evy knowledge add`: a community's text, Markdown, PDF or CSV becomes articles, each with a person's OK."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import click
import msgspec
from evy_core import Compressor, segment
from markdown_it import MarkdownIt
from pypdf import PdfReader
from pypdf.errors import PyPdfError
from rich.console import Console
from rich.text import Text

from actors._runtime.config import load_config
from actors.knowledge import SHIPPED, Texts, shipped_compressor, triager
from actors.knowledge.lint import (
    MAX_ARTICLE_SEPTETS,
    MAX_TITLE,
    NUMBER,
    QUESTIONS,
    UCS2_LANGS,
    Finding,
)
from actors.knowledge.writing import (
    Draft,
    Terms,
    articles_toml,
    ascii_of,
    checked,
    source_of,
    source_toml,
    words_of,
    write,
)
from subjects.errors import ConfigError

KINDS: Final = (".txt", ".md", ".markdown", ".pdf", ".csv")
MAX_OCTETS: Final = 20_000_000
"""Of one file."""
MAX_ARTICLES: Final = 2_000
"""Of one run: a person has to read each."""
MAX_UCS2_UNITS: Final = 191
"""Three SMS with the source tag."""

_OUT: Final = Console(highlight=False, soft_wrap=True)
_SENTENCE: Final = re.compile(r"\S.*?(?:[.!?।؟](?=\s|$)|$)", re.DOTALL)
_LABEL: Final = re.compile(r"L([1-9][0-9]?)")
_DATED: Final = re.compile(r"(?P<organisation>[^:]+): *(?P<document>.+?) *\((?P<year>\d{4})\)")


class Section(NamedTuple):
    """A part of a file under one heading."""

    title: str
    text: str
    questions: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    lang: str = ""


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--source", help='Who says it: "Organisation: Document (2026)". Asked for without it.')
@click.option("--author", help="Who approves it: your name stands in the review. Asked for without it.")
@click.option("--lang", help="Language of the files, ISO 639-1. Default: heard from each text.")
@click.option("--region", "regions", multiple=True, help="Served only in this region, such as us.")
@click.option("--into", type=click.Path(path_type=Path, file_okay=False), help="Default: the node.")
@click.option("--yes", is_flag=True, help="Approve all without an error: you have read the files.")
@click.option("--dry-run", is_flag=True, help="Show what would become of the files, and write nothing.")
@click.pass_obj
def add(
    path: Path | None,
    paths: tuple[Path, ...],
    *,
    source: str | None,
    author: str | None,
    lang: str | None,
    regions: tuple[str, ...],
    into: Path | None,
    yes: bool,
    dry_run: bool,
) -> None:
    """Turn a community's text, Markdown, PDF or CSV into articles that EVY sends.

    Each heading begins an article; what is too long for two SMS becomes several. Lines that end with a
    question mark become ways to ask for it. CSV has the columns title and text; questions and tags (apart
    by |) and lang if you like. You see every article as a phone would show it, with what is wrong with it,
    and approve it or not. A node that runs serves it within a minute; the same file once more replaces it.

    \b
    Example: evy knowledge add clinic.md --source "Health post Jacmel: Opening hours (2026)"
    """  # noqa: D301  # \b is click's mark against re-wrapping
    into = into or load_config(path).node.directory / "knowledge"
    if not (source or dry_run):
        source = click.prompt('Who says it? "Organisation: Document (year)"')
    if not (author or dry_run):
        author = click.prompt("Your name, for the review")
    terms = Terms(into, source_of(into, source or ""), author or "preview", regions)
    kept = 0
    for file in _files(paths):
        drafts = list(articles_of(file, lang))
        if not drafts:
            _OUT.print(f"[yellow]{file}: no text in it[/yellow]")
            continue
        if len(drafts) > MAX_ARTICLES:
            raise ConfigError(f"{file}: {len(drafts)} articles, at most {MAX_ARTICLES}: divide the file")
        _OUT.print(f"\n[bold]{file}[/bold]: {len(drafts)} articles")
        approved = _approved(terms, drafts, _place(into, file), yes=yes, dry_run=dry_run)
        if approved and not dry_run:
            write(into / "sources" / f"{terms.source['id']}.toml", source_toml(terms.source))
            write(_place(into, file), articles_toml(approved, terms))
            kept += len(approved)
    if dry_run:
        _OUT.print("\nnothing written: --dry-run")
    else:
        _OUT.print(f"\n{kept} articles in {into}; a running node serves them within a minute")


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = sorted(
                file for file in path.rglob("*") if file.suffix.lower() in KINDS and file.is_file()
            )
            if not found:
                raise ConfigError(f"{path}: no file of {' '.join(KINDS)} in it")
            yield from found
        elif path.suffix.lower() in KINDS:
            yield path
        else:
            raise ConfigError(f"{path}: give {' '.join(KINDS)}")


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────


def articles_of(file: Path, lang: str | None = None) -> Iterator[Draft]:
    """Articles that a file becomes, in its order. Raises :class:`ConfigError` that names what is wrong."""
    compressor = shipped_compressor()
    used: set[str] = set()
    for section in _sections(file):
        spoken = (section.lang or lang or _heard(f"{section.title}. {section.text}")).lower()
        text = _cleaned(compressor, section.text, spoken)
        title = _cleaned(compressor, section.title, spoken)[:MAX_TITLE].strip() or file.stem
        pieces = list(_pieces(text, spoken))
        for number, piece in enumerate(pieces, start=1):
            part = f" {number}/{len(pieces)}" if len(pieces) > 1 else ""
            name = _slug(file.stem, f"{section.title}{part}", used)
            ways = dict.fromkeys((*section.questions, section.title))
            if part:  # a question has one home: the first piece
                ways = dict.fromkeys((*ways, piece[:60])) if number == 1 else {piece[:60]: None}
            asked = tuple(way for way in (" ".join(w.lower().split()) for w in ways) if way)[: QUESTIONS[1]]
            tags = section.tags or tuple(words_of(section.title)[:4]) or (ascii_of(file.stem),)
            yield Draft(name, f"{title[: MAX_TITLE - len(part)]}{part}", piece, asked, tags, spoken)


def _sections(file: Path) -> Iterator[Section]:
    if file.stat().st_size > MAX_OCTETS:
        raise ConfigError(f"{file}: {file.stat().st_size} octets, at most {MAX_OCTETS}: divide it")
    match file.suffix.lower():
        case ".csv":
            yield from _csv(file)
        case ".pdf":
            yield from _plain(_pdf(file), file.stem)
        case ".txt":
            yield from _plain(_read(file), file.stem)
        case _:
            yield from _markdown(_read(file), file.stem)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8 ({error}); save it as UTF-8") from error


def _pdf(file: Path) -> str:
    try:
        text = "\n".join(page.extract_text() for page in PdfReader(file).pages)
    except (PyPdfError, OSError, ValueError, KeyError, RecursionError) as error:
        raise ConfigError(f"{file}: cannot be read as a PDF: {error}") from error
    if not text.strip():
        raise ConfigError(f"{file}: has no text, only pictures; scan it with text recognition first")
    return text


def _csv(file: Path) -> Iterator[Section]:
    rows = csv.DictReader(io.StringIO(_read(file)))
    missing = {"title", "text"} - set(rows.fieldnames or ())
    if missing:
        raise ConfigError(f"{file}: no column {' and '.join(sorted(missing))} in its first line")
    for number, row in enumerate(rows, start=2):
        if not (row["text"] or "").strip():
            raise ConfigError(f"{file}, line {number}: no text")
        yield Section(
            row["title"] or "",
            row["text"],
            tuple(way.strip() for way in (row.get("questions") or "").split("|") if way.strip()),
            tuple(ascii_of(tag) for tag in (row.get("tags") or "").split("|") if ascii_of(tag)),
            (row.get("lang") or "").strip(),
        )


def _markdown(text: str, title: str) -> Iterator[Section]:
    lines: list[str] = []
    heading = False
    for token in MarkdownIt().parse(text):
        if token.type == "heading_open":
            yield from _section(title, lines)
            lines, heading = [], True
        elif token.type == "inline":
            plain = "".join(
                child.content if child.type in ("text", "code_inline") else "\n"
                for child in token.children or ()
                if child.type in ("text", "code_inline", "softbreak", "hardbreak")
            )
            if heading:
                title, heading = " ".join(plain.split()), False
            else:
                lines += plain.split("\n")
    yield from _section(title, lines)


def _plain(text: str, title: str) -> Iterator[Section]:
    """A short line that ends without punctuation, after an empty line or at the top, is a heading."""
    lines: list[str] = []
    before = ""
    for line in (raw.strip() for raw in text.splitlines()):
        if line and not before and len(line) <= MAX_TITLE and line[-1].isalnum() and not _bullet(line):
            yield from _section(title, lines)
            lines, title = [], line
        elif line:
            lines.append(line)
        before = line
    yield from _section(title, lines)


def _bullet(line: str) -> bool:
    return not line[0].isalnum() or bool(re.match(r"\d+[.)]", line))


def _section(title: str, lines: Sequence[str]) -> Iterator[Section]:
    questions = tuple(line.strip() for line in lines if line.strip().endswith(("?", "؟")))
    said = [line.strip() for line in lines if line.strip() and not line.strip().endswith(("?", "؟"))]
    if said:
        yield Section(title, " ".join(re.sub(r"^[-*•·]\s*", "", line) for line in said), questions)


def _heard(text: str) -> str:
    [(lang, confidence)] = triager().detect_lang([text])
    return lang if confidence >= 0.5 else "en"


def _cleaned(compressor: Compressor, text: str, lang: str) -> str:
    [fitted] = compressor.fit([text], [lang], [True], [255], [""], [False])
    return " ".join(fitted.text.split())


def _pieces(text: str, lang: str) -> Iterator[str]:
    """A text in pieces that each fit two SMS with their tag, cut between sentences; a sentence that is too
    long stays whole, and lint says so."""
    most = MAX_UCS2_UNITS if lang in UCS2_LANGS else MAX_ARTICLE_SEPTETS
    piece = ""
    for sentence in (found.strip() for found in _SENTENCE.findall(text)):
        longer = f"{piece} {sentence}".strip()
        [sms] = segment([longer])
        if piece and (sms.units > most or (sms.encoding == "ucs2" and sms.units > MAX_UCS2_UNITS)):
            yield piece
            longer = sentence
        piece = longer
    if piece:
        yield piece if piece.endswith((".", "!", "?", "।", "؟")) else f"{piece}."


def _slug(stem: str, title: str, used: set[str]) -> str:
    name = base = "-".join(filter(None, ("local", ascii_of(stem), ascii_of(title)[:40].strip("-"))))
    for number in range(2, MAX_ARTICLES + 2):
        if name not in used:
            break
        name = f"{base}-{number}"
    used.add(name)
    return name


# ── approving ─────────────────────────────────────────────────────────────────────────────────────────────


def _approved(terms: Terms, drafts: Sequence[Draft], place: Path, *, yes: bool, dry_run: bool) -> list[Draft]:
    """What a person lets through; articles that are served already as they are need no second look."""
    served = _served(terms, place)
    new = [draft for draft in drafts if served.get(draft.id) != (draft.title, draft.text)]
    findings = checked(terms, new)
    approved = []
    for draft in drafts:
        if draft not in new:
            _OUT.print(f"[dim]{draft.id}: served already[/dim]")
            approved.append(draft)
        elif (kept := _look(terms, draft, findings[draft.id], yes=yes, dry_run=dry_run)) is not None:
            approved.append(kept)
    return approved


def _look(
    terms: Terms, draft: Draft, findings: Sequence[Finding], *, yes: bool, dry_run: bool
) -> Draft | None:
    """One article before a person's eyes, until it is approved or left out."""
    while True:
        errors = [finding for finding in findings if finding.severity == "error"]
        _show(draft, findings)
        if dry_run:
            return None
        if yes:
            return None if errors else draft
        wish = click.prompt(
            "y approve, n leave out, e edit, q more ways to ask",
            type=click.Choice(["n", "e", "q"] if errors else ["y", "n", "e", "q"]),
            default="n" if errors else "y",
        )
        if wish == "y":
            return draft
        if wish == "n":
            return None
        if wish == "e":
            text = click.edit(draft.text) or draft.text
            draft = msgspec.structs.replace(draft, text=" ".join(text.split()))
        else:
            asked = click.prompt("How do people ask for it? Several apart by |")
            ways = [way.strip() for way in asked.split("|") if way.strip()]
            draft = msgspec.structs.replace(draft, questions=(*draft.questions, *ways)[: QUESTIONS[1]])
        findings = checked(terms, [draft])[draft.id]


def _show(draft: Draft, findings: Sequence[Finding]) -> None:
    [sms] = segment([draft.text])
    size = f"{sms.count} SMS, {sms.units} {sms.encoding} units"
    _OUT.print(Text(f"\n{draft.title} ({draft.lang}; {size})", style="bold"))
    _OUT.print(Text(f"  {draft.text}"))
    _OUT.print(Text(f"  asked: {' / '.join(draft.questions)}", style="dim"))
    for finding in findings:
        style = "bold red" if finding.severity == "error" else "yellow"
        _OUT.print(Text(f"  {finding.rule}: {finding.says}", style=style))


# ── writing ───────────────────────────────────────────────────────────────────────────────────────────────


def _place(into: Path, file: Path) -> Path:
    return into / "articles" / f"{ascii_of(file.stem) or 'text'}.toml"


def _served(terms: Terms, place: Path) -> dict[str, tuple[str, str]]:
    if not place.exists():
        return {}
    articles = Texts.load([SHIPPED, terms.into], NUMBER).articles()
    return {article.id: (article.title, article.text) for article in articles if article.area == "local"}
