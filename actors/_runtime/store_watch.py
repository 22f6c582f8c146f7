"""What nats-server does not mend by itself: a store it cannot write to any more, a stream it cannot read.

After one failed write (a full card, an I/O error) a stream of nats-server 2.15 takes nothing more until the
server is started again, even when there is room; its publishers get no answer at all, and every other request
still does. A clustered server switches JetStream off instead. ``/healthz`` of its monitoring port knows both.
"""

import asyncio
import http.client
import logging
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from subjects.registry import STREAMS

log = logging.getLogger("evy.up")

CHECK_EVERY_S: Final = 5.0
CHECK_WITHIN_S: Final = 3.0
ROOM_OCTETS: Final = 16 * 1024 * 1024
"""Free space below which a fresh start would only fail again: two blocks of a stream."""

_CANNOT_WRITE: Final = re.compile(r"write error|jetstream not enabled", re.IGNORECASE)


KEY_OCTETS: Final = 72
"""Key files of streams and of their blocks with the cipher of ``nats/jetstream.conf``, XChaCha20-Poly1305:
nonce 24, sealed seed 32, tag 16. A shorter one was torn by a power cut."""


_TAKERS: Final = tuple(
    f"jetstream/*/streams/{row.source.stream}/obs/{row.name}".format(node="*")
    for row in STREAMS
    if row.source
)
"""Where a server keeps the durables by which others take from its streams."""


def make_ready(store: Path, *, alone: bool = True) -> None:
    """What is done before each start of a server. ``alone``: it is no part of a cluster, so that nobody else
    knows what it did not write down."""
    set_aside_unreadable(store)
    if alone:
        forget_stale_takers(store)


def forget_stale_takers(store: Path) -> None:
    """Removes durables for the other end of the link that are older on the card than their stream.

    A server writes at most ten times a second, and on a full card not at all, how far a durable has delivered
    (``flushLoop`` of its filestore.go). Killed before that and soon started again, nats-server 2.15.1 counts
    on from what is written. The other end, which still holds its subscription, takes the next messages for
    what it has, as many as were not counted, and the first one after them acknowledges them all: **they are
    lost**, unless a second without any message lets it see the difference first.

    Without the durable it hears nothing, gives its subscription up and asks anew; `Sources` makes the durable
    again after its :data:`~actors._runtime.sources.QUIET_S`. One that was written in time is sometimes taken
    for stale: that costs those seconds, and nothing else. After an orderly stop none is: the index of the
    stream is written last.
    """
    for pattern in _TAKERS:
        for durable in store.glob(pattern):
            messages = durable.parent.parent / "msgs"
            try:
                written_at = _written_at([*durable.glob("o.dat"), *messages.glob("index.db")])
                if written_at > _written_at(messages.glob("*.blk")):
                    continue
                shutil.rmtree(durable)
            except OSError as error:  # a card that fails: the node starts all the same
                log.error("%s is perhaps older than its stream, and stays: %s", durable.name, error)
            else:
                log.warning("%s did not write down what was taken from it; the link asks again", durable.name)


def _written_at(paths: Iterable[Path]) -> int:
    """When the last of some files was written, in nanoseconds; 0 when there is none."""
    return max((path.stat().st_mtime_ns for path in paths), default=0)


def set_aside_unreadable(store: Path) -> None:
    """Takes out of an encrypted store what nats-server 2.15.1 stumbles over.

    A block without a key: the server makes the block first. Killed in between (it makes one whenever a
    stream has run empty, so often) it calls the stream corrupt at the next start and **deletes all of it**.
    The block holds nothing yet.

    A stream without a key: the server syncs the key of every stream but one with asynchronous persistence
    (events). When the power went while that was new the key is empty or torn; the server looks past the
    stream at start and panics, or refuses, when somebody makes it again, each time.

    What is not empty is moved to ``unreadable`` in ``store``; nobody can read it.
    """
    for key in store.glob("jetstream/*/streams/*/meta.key"):
        if not _is_key(key):
            _set_aside(store, key.parent, key.parent.name)
            continue
        for block in key.parent.glob("msgs/*.blk"):
            if _is_key(block.with_suffix(".key")):
                continue
            if block.stat().st_size:
                _set_aside(store, block, f"{key.parent.name}.{block.name}")
            else:
                block.unlink()


def _is_key(path: Path) -> bool:
    return path.exists() and path.stat().st_size >= KEY_OCTETS


def _set_aside(store: Path, path: Path, name: str) -> None:
    aside = store / "unreadable" / f"{name}.{time.time_ns()}"
    aside.parent.mkdir(exist_ok=True)
    path.rename(aside)
    log.error("the key of %s is not on the card: what cannot be read is now in %s", name, aside)


class _Trouble(msgspec.Struct):
    error: str = ""


class _Health(msgspec.Struct):
    errors: tuple[_Trouble, ...] = ()


def _ask(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CHECK_WITHIN_S)
    try:
        connection.request("GET", "/healthz?details=true")
        health = msgspec.json.decode(connection.getresponse().read(), type=_Health)
    finally:
        connection.close()
    return next((trouble.error for trouble in health.errors if _CANNOT_WRITE.search(trouble.error)), "")


async def write_error(monitor_port: int) -> str:
    """What keeps the server at this monitoring port from writing; empty when nothing does, or nobody answers
    there (that it runs at all is for its supervisor to see)."""
    try:
        return await asyncio.to_thread(_ask, monitor_port)
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        return ""


def _free(store: Path) -> int:
    try:
        return shutil.disk_usage(store).free
    except OSError:  # the card itself is gone
        return 0


async def cannot_write(monitor_port: int, store: Path) -> str:
    """Returns, with the reason, when the server no longer writes and a fresh start may mend it: not before
    :data:`ROOM_OCTETS` are free in ``store``. Until then an error in the log says what to do."""
    told = False
    while True:
        await asyncio.sleep(CHECK_EVERY_S)
        reason = await write_error(monitor_port)
        if not reason:
            continue
        free = _free(store)
        if free >= ROOM_OCTETS:
            return reason
        if not told:
            log.error(
                "%s; only %.1f MB are free in %s: nothing is stored until there are %.0f MB. Texts wait in "
                "the modem and the network. Remove what is not needed; all goes on by itself then",
                reason,
                free / 2**20,
                store,
                ROOM_OCTETS / 2**20,
            )
            told = True
