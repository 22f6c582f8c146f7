"""News: saved RSS and Atom feeds, and JSON Feed 1.1."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import feedparser
import msgspec

from actors._library.documents import (
    Document,
    Read,
    Refusal,
    Section,
    UnreadableError,
    day,
    licence,
    one_line,
    plain_name,
    whole,
)
from actors._library.readers.trees import text_of


class _Item(msgspec.Struct, frozen=True):
    title: str = ""
    url: str = ""
    summary: str = ""
    content_text: str = ""
    content_html: str = ""
    date_published: str = ""
    date_modified: str = ""
    language: str = ""


class _Feed(msgspec.Struct, frozen=True):
    items: tuple[_Item, ...]
    language: str = ""


def read(file: Path) -> Read:
    """The items of a feed; one without words of its own is refused."""
    octets = whole(file)
    yield from _json(octets) if plain_name(file) == ".json" else _xml(octets)


def _json(octets: bytes) -> Read:
    try:
        feed = msgspec.json.decode(octets, type=_Feed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError(f"no JSON Feed: {error}") from error
    for number, item in enumerate(feed.items, start=1):
        text = one_line(item.content_text) or text_of(item.content_html) or text_of(item.summary)
        date = day(item.date_modified or item.date_published)
        yield _item(number, one_line(item.title), text, item.language or feed.language, date, "", item.url)


def _xml(octets: bytes) -> Read:
    feed = feedparser.parse(octets, sanitize_html=False, resolve_relative_uris=False)
    if not feed.entries and not feed.get("version"):
        raise UnreadableError(f"no feed: {feed.get('bozo_exception') or 'neither RSS nor Atom'}")
    channel: Mapping[str, Any] = feed.feed
    for number, entry in enumerate(feed.entries, start=1):
        longest = max((part.get("value", "") for part in entry.get("content", ())), key=len, default="")
        when = entry.get("published_parsed") or entry.get("updated_parsed")
        date = f"{when.tm_year:04}-{when.tm_mon:02}-{when.tm_mday:02}" if when else ""
        yield _item(
            number,
            text_of(entry.get("title", "")),
            text_of(longest) or text_of(entry.get("summary", "")),
            channel.get("language", ""),
            date,
            licence(entry.get("rights", "") or channel.get("rights", "")),
            entry.get("link", ""),
        )


def _item(  # noqa: PLR0917  # what an item has, in the order of both formats
    number: int, title: str, text: str, lang: str, date: str, rights: str, url: str
) -> Document | Refusal:
    if not text:
        return Refusal(f"item {number}", "no text")
    return Document(title or text[:60], (Section("", text),), lang[:2].lower(), date, rights, url)
