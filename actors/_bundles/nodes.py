"""Which node has which version, as a centre was told."""

from pathlib import Path
from typing import Final

import msgspec

from actors._bundles.versions import replace_file
from subjects.messages import SyncReport

MOST: Final = 10_000
"""Nodes that are remembered; one costs some 200 octets, and the longest unheard goes first."""


class Nodes:
    """The last report of each node, in ``<data>/bundles``. One writer: the centre's actor `sync`."""

    def __init__(self, data: Path) -> None:
        self._file: Final = data / "bundles" / "nodes.json"

    def all(self) -> dict[str, SyncReport]:
        """By node; empty when nobody has told anything, or the file is none: nodes tell again."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=dict[str, SyncReport])
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return {}

    def put(self, report: SyncReport) -> None:
        """Remembers a report. Raises `BundleWaitError` when it cannot be written."""
        known = self.all()
        known.pop(report.node, None)
        known[report.node] = report
        self._file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._file, msgspec.json.encode(dict(list(known.items())[-MOST:])))
