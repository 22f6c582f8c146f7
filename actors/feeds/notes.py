"""What each feed has handed down to which node: a file, so that a restart does not send it all again.

Losing it is harmless: nodes know what they have heard.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import msgspec

MOST: Final = 5000
"""Alerts remembered of a feed; 150 octets each."""


class Note(msgspec.Struct):
    """One alert: where it was read, until when it is remembered, and who has it."""

    url: str
    until: float
    nodes: list[str]


class Notes:
    """The file, written whole after each look that brought something."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._feeds: dict[str, dict[str, Note]] = {}
        self._is_changed = False
        try:
            self._feeds = msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, Note]])
        except (OSError, msgspec.DecodeError):
            return  # there is none yet, or it was torn: see above

    def missing(self, feed: str, key: str, nodes: Sequence[str]) -> list[str]:
        """Nodes that an alert was not handed down to."""
        note = self._feeds.get(feed, {}).get(key)
        return [node for node in nodes if note is None or node not in note.nodes]

    def was_read(self, feed: str, url: str, nodes: Collection[str]) -> bool:
        """Whether the file at an address was read and all nodes have it. What an index refers to does not
        change: another alert has another identifier and another address."""
        notes = self._feeds.get(feed, {}).values()
        return any(note.url == url and set(nodes) <= set(note.nodes) for note in notes)

    def has_all(self, feed: str, nodes: Collection[str]) -> bool:
        """Whether every node has all that the feed said so far."""
        return all(set(nodes) <= set(note.nodes) for note in self._feeds.get(feed, {}).values())

    def read(self, feed: str, url: str, key: str, nodes: Sequence[str], until: float) -> None:
        """Notes that an alert is with these nodes."""
        notes = self._feeds.setdefault(feed, {})
        before = notes.get(key)
        now = Note(url, until, sorted({*(before.nodes if before else ()), *nodes}))
        self._is_changed = self._is_changed or before is None or before.nodes != now.nodes
        notes[key] = now

    def tidy(self, feed: str, now: float) -> None:
        """Drops what is over, and writes the file if anything changed."""
        notes = self._feeds.get(feed, {})
        by_end = sorted(notes.items(), key=lambda item: item[1].until)
        over = [
            key for place, (key, note) in enumerate(by_end) if note.until < now or len(notes) - place > MOST
        ]
        for key in over:
            del notes[key]
        if self._is_changed or over:
            draft = self._path.with_suffix(".draft")
            draft.write_bytes(msgspec.json.encode(self._feeds))
            draft.replace(self._path)
            self._is_changed = False
