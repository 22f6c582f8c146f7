"""The knowledge of a node as it changes: shipped articles, its centre's and its own.

A community's articles lie in the data directory's ``knowledge``, where `evy knowledge add` puts them, those
of its centre in ``sync``. When files there have changed and are at rest, a new index is built beside the old
one, which answers until the new one takes its place; a search that is under way ends on the index it began
with. Files with a mistake are refused with the name of the file, and the old index goes on.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from actors._retrieval.index import ALWAYS, KnowledgeIndex, Served
from subjects.errors import ConfigError
from subjects.messages import Passage

_LOG: Final = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 5.0
"""How often the names, sizes and times of the files are read: some hundred system calls at most."""

AFTER_FAILURE_S: Final = 300.0
"""When the card was full or could not be read; files with a mistake are read again when they change."""

Tell = Callable[[str, Mapping[str, object]], None]
"""Takes the kind of an event and its fields."""


class Library:
    """The index of this moment, and who may find what in it. Safe to use from threads."""

    def __init__(self, index: KnowledgeIndex, served: Callable[[], Served] = lambda: ALWAYS) -> None:
        """Owns ``index``; ``served`` gives what the node serves now."""
        self._index = index
        self.served: Final = served

    @property
    def rebuilt(self) -> str:
        """Why the index was built anew; empty when the one on disk was used."""
        return self._index.rebuilt

    @property
    def articles(self) -> int:
        """How many there are, whatever is served of them."""
        return self._index.articles

    def search(self, text: str, lang: str, limit: int = 3, served: Served | None = None) -> list[Passage]:
        """As :meth:`KnowledgeIndex.search`, of what the node serves unless ``served`` says otherwise."""
        # The engine closes an index whose last search has ended; nothing else refers to a replaced one.
        return self._index.search(text, lang, limit, self.served() if served is None else served)

    def replace(self, index: KnowledgeIndex) -> None:
        """From here on searches begin on ``index``."""
        self._index = index

    def close(self) -> None:
        """Releases the files."""
        self._index.close()


async def watch(
    library: Library,
    folders: Callable[[], Iterable[Path]],
    make: Callable[[], KnowledgeIndex],
    tell: Tell,
    *,
    seen: frozenset[tuple[str, int, int]],
    every_s: float = LOOK_EVERY_S,
) -> None:
    """Renews ``library`` whenever the files under ``folders`` are other than ``seen``, until it is cancelled.

    ``make`` opens the index of the files as they are; it may raise :class:`ConfigError`, OSError or whatever
    the engine raises.
    """
    before = seen
    while True:
        await asyncio.sleep(every_s)
        now = await asyncio.to_thread(look, folders())
        moving, before = now != before, now
        if now == seen or moving:  # somebody may still be writing
            continue
        try:
            index = await asyncio.to_thread(make)
        except ConfigError as error:
            seen = now
            _LOG.warning("knowledge of this node refused: %s", error)
            tell("knowledge_refused", {"reason": str(error)})
        except Exception as error:  # noqa: BLE001  the engine has no error type of its own
            _LOG.exception("knowledge of this node cannot be indexed")
            tell("knowledge_refused", {"reason": f"{type(error).__name__}: {error}"})
            await asyncio.sleep(AFTER_FAILURE_S)
        else:
            seen = now
            was = library.articles
            library.replace(index)
            tell("knowledge_renewed", {"articles": index.articles, "before": was})


def look(folders: Iterable[Path]) -> frozenset[tuple[str, int, int]]:
    """Name, time of change and size of each text file of some folders; empty when there is none."""
    found = set()
    for path in (path for folder in folders for path in folder.rglob("*.toml")):
        try:
            status = path.stat()
        except OSError:  # gone between the two calls, which the next look sees
            continue
        found.add((str(path), status.st_mtime_ns, status.st_size))
    return frozenset(found)
