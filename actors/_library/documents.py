"""What a reader makes of a file: documents, or reasons why a part of it cannot be used."""

import bz2
import datetime as dt
import gzip
import io
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, Literal, NamedTuple, cast

from subjects.errors import EvyError

Kind = Literal["encyclopaedic", "medical", "government", "news", "legal", "academic"]

MAX_DOCUMENT: Final = 2_000_000
"""Characters of one document: the longest articles of an encyclopaedia have half a million."""

MAX_LINE: Final = 4_000_000
"""Octets of one line of a JSONL file; a longer one is passed over without being held in memory."""

MAX_WHOLE: Final = 50_000_000
"""Octets of a file that can only be read whole: PDF, HTML, feeds, BibTeX."""

MAX_LICENCE: Final = 120
MAX_TITLE: Final = 80

_PACKED: Final = (".zip", ".7z", ".tar", ".tgz", ".rar", ".xz", ".zst")
_NO_LICENCE: Final = {
    "",
    "?",
    "-",
    "n/a",
    "na",
    "none",
    "null",
    "tbd",
    "unknown",
    "unclear",
    "all rights reserved",
}


class UnreadableError(EvyError):
    """A file cannot be used, or not from here on; the text says why and what to do."""


class Section(NamedTuple):
    """A part of a document under one heading; "" before the first. Each line of its text is a paragraph."""

    heading: str
    text: str


class Document(NamedTuple):
    """One entry, page, report or law. What it does not say itself, the terms of its import say."""

    title: str
    sections: tuple[Section, ...]
    lang: str = ""
    date: str = ""
    """ISO 8601, a day."""
    licence: str = ""
    url: str = ""


class Refusal(NamedTuple):
    """A part of a file that is not used: where in it, and why."""

    where: str
    reason: str


Read = Iterator[Document | Refusal]


def day(text: str) -> str:
    """The day of a date as files write it (ISO 8601 and RFC 3339, «20261122», a year and month alone are too
    little); "" when it is none."""
    head = text.strip()[:10]
    if re.fullmatch(r"\d{8}", head):
        head = f"{head[:4]}-{head[4:6]}-{head[6:]}"
    try:
        return dt.date.fromisoformat(head).isoformat()
    except ValueError:
        return ""


def licence(text: str) -> str:
    """A licence as it is shown, one line; "" for what names none."""
    line = one_line(text)[:MAX_LICENCE]
    return "" if line.lower().strip(".") in _NO_LICENCE else line


def one_line(text: str) -> str:
    """A text without line breaks, control, invisible and half characters."""
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)
    return " ".join(re.sub(r"[\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff]", "", kept).split())


def paragraphs(text: str) -> str:
    """A text with one paragraph a line: blank lines part them, single line breaks do not."""
    return "\n".join(line for part in re.split(r"\n\s*\n", text) if (line := one_line(part)))


def opened(file: Path) -> IO[bytes]:
    """A file to stream from, ``.gz`` and ``.bz2`` unpacked on the way. Raises :class:`UnreadableError`."""
    suffix = file.suffix.lower()
    if suffix in _PACKED:
        raise UnreadableError(f"{suffix} is not read: unpack it, or pack it as .gz or .bz2")
    try:
        if suffix == ".gz":
            return cast("IO[bytes]", gzip.open(file, "rb"))
        if suffix == ".bz2":
            return cast("IO[bytes]", bz2.open(file, "rb"))
        return file.open("rb")
    except OSError as error:
        raise UnreadableError(f"cannot be opened: {error.strerror or error}") from error


def whole(file: Path) -> bytes:
    """All of a file that can only be read whole. Raises :class:`UnreadableError` above ``MAX_WHOLE``."""
    with opened(file) as stream:
        try:
            octets = stream.read(MAX_WHOLE + 1)
        except (OSError, EOFError) as error:
            raise UnreadableError(f"cannot be read: {error}") from error
    if len(octets) > MAX_WHOLE:
        raise UnreadableError(
            f"more than {MAX_WHOLE // 1_000_000} MB, which this format needs at once: divide it"
        )
    return octets


def as_text(octets: bytes) -> str:
    """UTF-8, or UTF-16 that says so by its first octets. Raises :class:`UnreadableError`."""
    try:
        if octets.startswith((b"\xff\xfe", b"\xfe\xff")):
            return octets.decode("utf-16")
        if b"\x00" in octets:
            raise UnreadableError("is no text: it has octets of zero in it")
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(
            f"is not UTF-8 ({error.reason} at octet {error.start}): save it as UTF-8"
        ) from error


def lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers; None for one above :data:`MAX_LINE`, of which nothing is kept."""
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        if len(line) <= MAX_LINE:
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(io.DEFAULT_BUFFER_SIZE)
        yield number, None


def plain_name(file: Path) -> str:
    """A file's ending without that of its packing: ``.xml`` of ``dump.xml.bz2``."""
    name = file.name.lower()
    for packing in (".gz", ".bz2"):
        name = name.removesuffix(packing)
    return Path(name).suffix
