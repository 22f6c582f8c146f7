"""Ends a process in order when its node got other words, so that `evy up` starts it on the new ones.

Texts, triage and responders are read where an actor is built and handed around; a process that is started
again reads all of it afresh, and loses nothing: what is under way lies in JetStream and on the SIM. New
articles alone need no restart: `rag` takes them up while it searches. A newer roster of the mesh counts from
wherever it comes, the centre or a stick.
"""

import asyncio
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Final

from actors._bundles.manifest import digest
from actors._roster.installed import FOLDER, JOINED, newest
from actors.knowledge import bundled

log = logging.getLogger("evy.renew")

LOOK_EVERY_S: Final = 5.0

_WORDS: Final = ("templates", "follow", "notices", "sources", "triage", "sources.toml", "contacts.toml")
READS: Final = {
    **dict.fromkeys(("intake", "route", "compress", "alert", "rag", "infer_small"), _WORDS),
    "sms": ("triage",),
}
"""What of a bundle an actor keeps from its start."""


def stamp(data: Path, actors: Collection[str]) -> str:
    """What these actors would read of the current version now, as a hash; empty: nothing."""
    places = {place for name in actors for place in READS.get(name, ())}
    files = [
        (folder, file)
        for folder in bundled(data)
        for place in sorted(places)
        for file in sorted((folder / place).rglob("*") if (folder / place).is_dir() else [folder / place])
        if file.is_file()
    ]
    read = [f"{folder.name}/{file.relative_to(folder)} {digest(file.read_bytes())}" for folder, file in files]
    if "mesh" in actors and (number := newest(data)):
        read.append(f"roster {number}")
    return digest("\n".join(read).encode()) if read else ""


def _places(data: Path) -> tuple[list[Path], int]:
    """What a look costs while nothing changes: the current version's folders, and when a roster came."""
    joined = data / FOLDER / JOINED
    return bundled(data), joined.stat().st_mtime_ns if joined.exists() else 0


async def until_renewed(data: Path, actors: Collection[str], *, every_s: float = LOOK_EVERY_S) -> None:
    """Returns when a version became current in which these actors would read other words."""
    looked, began = await asyncio.to_thread(lambda: (_places(data), stamp(data, actors)))
    while True:
        await asyncio.sleep(every_s)
        try:
            now = _places(data)
            if now == looked:
                continue
            if await asyncio.to_thread(stamp, data, actors) != began:
                log.info("other words are in use now: starting again on them")
                return
            looked = now
        except OSError as error:  # the version went while it was read: the next look sees another one
            log.debug("%s", error)
