"""Medical: health topics in MedlinePlus's XML (``<health-topic title= language= date-created= url=>``)."""

from pathlib import Path
from typing import Final

from actors._library.documents import MAX_DOCUMENT, Document, Read, Refusal, Section, day
from actors._library.readers.trees import child_text, elements, page

_LANGS: Final = {"english": "en", "spanish": "es"}


def read(file: Path) -> Read:
    """Health topics with their summaries; a topic without one only names links and is refused."""
    for topic in elements(file, "health-topic"):
        title = " ".join((topic.get("title") or "").split())
        summary = topic.findtext("{*}full-summary") or ""
        if not title or not summary.strip():
            yield Refusal(title or "a topic", "no title" if not title else "no summary")
            continue
        if len(summary) > MAX_DOCUMENT:
            yield Refusal(title, f"{len(summary)} characters, at most {MAX_DOCUMENT}")
            continue
        _, _, sections = page(f"<html><body>{summary}</body></html>")
        other = child_text(topic, "also-called")
        named = (Section("", f"{title} is also called {other}."),) if other else ()
        language = (topic.get("language") or "").lower()
        yield Document(
            title,
            (*sections, *named),
            _LANGS.get(language, language[:2]),
            day(_iso(topic.get("date-created") or "")),
            "",
            topic.get("url") or "",
        )


def _iso(date: str) -> str:
    """MedlinePlus writes month/day/year."""
    month, _, rest = date.partition("/")
    number, _, year = rest.partition("/")
    return f"{year}-{month:0>2}-{number:0>2}" if year else date
