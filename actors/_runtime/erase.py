"""One person taken out of every stream and bucket of a server, down to the octets on the card.

A message belongs to a person when a token of its subject, or a string in its JSON, *is* the person's number,
a reference, or the id of one of the person's queries. The words of a text are not searched, so what others
wrote about somebody stays theirs. New streams and buckets need no word here.
"""

import asyncio
import base64
import binascii
import contextlib
import logging
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig

from actors._runtime.bus import bus_errors
from subjects import names
from subjects.errors import EvyError
from subjects.registry import MAX_MESSAGE_OCTETS

log = logging.getLogger("evy.erase")

LINGER_S: Final = 15.0
"""How long after the last piece of work was erased more is looked for: a handler may have had it in hand."""
PASSES: Final = 60
PAUSE_S: Final = 1.0
_BATCH: Final = 256
_NO_MESSAGE: Final = 10057
_QUERY: Final = re.compile(r"[0-9a-f]{32}")

SWEEP_OCTETS: Final = 9 * 1024 * 1024
"""The most that :func:`sweep` writes to a stream: a block of nats-server's store, 8 MB, and a bit more."""


class StillComingError(EvyError):
    """More of the person came in for as long as it was erased."""


class Person:
    """What a person is known by; ``queries`` grows while the person's messages are found."""

    def __init__(self, refs: frozenset[str], numbers: frozenset[str] = frozenset()) -> None:
        self.refs = refs
        self.numbers = numbers
        self.queries: set[str] = set()

    def is_in(self, subject: str, payload: bytes) -> bool:
        """Whether a message belongs to the person; learns the ids of the person's queries from it."""
        tokens = subject.split(".")
        found = any(self._names(token) for token in tokens)
        try:
            content = msgspec.json.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return found or any(mark in payload for mark in self._marks())
        inside = found or any(self._names(text) for _, text in _strings(content))
        if not inside and (wrapped := _wrapped(content)) is not None:
            inside = self.is_in(str(content.get("subject", "")), wrapped)
        if inside:
            self.queries |= {
                text for key, text in _strings(content) if key in _IDS and _QUERY.fullmatch(text)
            }
            self.queries |= {token for token in tokens if _QUERY.fullmatch(token)}
        return inside

    def _names(self, text: str) -> bool:
        return text in self.refs or text in self.numbers or text in self.queries

    def _marks(self) -> Iterator[bytes]:
        """What the person is known by in what is not JSON: as text, and a number as a PDU has it."""
        for name in (*self.refs, *self.numbers, *self.queries):
            yield name.encode()
        for number in self.numbers:
            yield _semi_octets(number.removeprefix("+"))


def _semi_octets(digits: str) -> bytes:
    """Digits as an address field holds them, each octet's halves swapped (3GPP TS 23.040 §9.1.2.3)."""
    padded = digits + "f" * (len(digits) % 2)
    return bytes.fromhex("".join(padded[at + 1] + padded[at] for at in range(0, len(padded), 2)))


_IDS: Final = frozenset({"id", "query_id"})


def _strings(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Each string that is a field, with its name. A bare string in a list is a list of others' things."""
    if isinstance(content, str):
        yield key, content
    elif isinstance(content, dict):
        for name, value in content.items():
            yield from _strings(value, name)
    elif isinstance(content, list):
        for value in content:
            if not isinstance(value, str):
                yield from _strings(value)


def _wrapped(content: Any) -> bytes | None:
    """The whole message inside a dead letter."""
    if isinstance(content, dict) and isinstance(payload := content.get("payload"), str):
        with contextlib.suppress(binascii.Error, ValueError):
            return base64.b64decode(payload, validate=True)
    return None


class Stored(NamedTuple):
    """A message as it lies in a stream."""

    sequence: int
    subject: str
    payload: bytes


async def stored(js: JetStreamContext, config: StreamConfig) -> AsyncIterator[Stored]:
    """Every message of a stream, without touching its consumers."""
    stream = config.name or ""
    if config.retention == "workqueue":  # allows no second consumer
        sequence = 0
        while True:
            try:
                raw = await js.get_msg(stream, sequence + 1, subject=">", next=True)
            except nats.js.errors.NotFoundError:
                return
            sequence = raw.seq or 0
            yield Stored(sequence, raw.subject or "", raw.data or b"")
    reader = ConsumerConfig(ack_policy=AckPolicy.NONE, mem_storage=True, inactive_threshold=60)
    info = await js.add_consumer(stream, reader)
    left = info.num_pending or 0
    pull = await js.pull_subscribe_bind(consumer=info.name, stream=stream)
    try:
        while left > 0:
            try:
                batch = await pull.fetch(min(_BATCH, left), timeout=10)
            except nats.errors.TimeoutError:
                return  # what expired while it was read
            for message in batch:
                left = message.metadata.num_pending
                yield Stored(message.metadata.sequence.stream, message.subject, message.data)
    finally:
        await pull.unsubscribe()
        with contextlib.suppress(nats.js.errors.Error, nats.errors.Error):
            await js.delete_consumer(stream, info.name)


async def streams(client: Client, js: JetStreamContext, only: Callable[[str], bool]) -> list[StreamConfig]:
    """Streams of this server by name, buckets among them."""
    found: list[str] = []
    while True:
        request = msgspec.json.encode({"offset": len(found)})
        reply = await client.request("$JS.API.STREAM.NAMES", request, timeout=10)
        page = msgspec.json.decode(reply.data)
        found += page.get("streams") or ()
        if len(found) >= page.get("total", 0) or not page.get("streams"):
            return [(await js.stream_info(name)).config for name in sorted(found) if only(name)]


def _everything(_: str) -> bool:
    return True


async def under_way(js: JetStreamContext, configs: list[StreamConfig], person: Person, lane: str) -> int:
    """How many messages of a person wait in a lane."""
    found = 0
    for config in configs:
        if config.retention == "workqueue":
            async for message in stored(js, config):
                found += message.subject.endswith(f".{lane}") and person.is_in(
                    message.subject, message.payload
                )
    return found


Keep = Callable[[Stored], bytes | None]
"""What of a person's entry in a bucket has to stay, or None: nothing."""


def _nothing(_: Stored) -> None:
    return None


async def erase(
    client: Client,
    person: Person,
    *,
    only: Callable[[str], bool] = _everything,
    keep: Keep = _nothing,
    linger_s: float = LINGER_S,
) -> Counter[str]:
    """Takes a person out of all streams; gives how many messages of each, by stream name.

    Looks again until nothing more is found, and for ``linger_s`` after work was erased. A writer that meets a
    deleted record begins a new one, and the next look finds that. Raises :class:`StillComingError`, and
    `BusError` when the server does not answer; doing it again is harmless.
    """
    js = client.jetstream(timeout=10)
    erased: Counter[str] = Counter()
    worked_at = -linger_s
    for _ in range(PASSES):
        found: Counter[str] = Counter()
        known = len(person.queries)
        with bus_errors("erase"):
            for config in await streams(client, js, only):
                found[config.name or ""] = await _erase_in(client, config, person, keep)
                if config.retention == "workqueue" and found[config.name or ""]:
                    worked_at = time.monotonic()
        erased += found
        if not found.total() and len(person.queries) == known and time.monotonic() - worked_at >= linger_s:
            return erased
        await asyncio.sleep(PAUSE_S if worked_at > 0 else 0)
    raise StillComingError(f"more came in for {PASSES} rounds: is this person texting now? Do it again later")


async def _erase_in(client: Client, config: StreamConfig, person: Person, keep: Keep) -> int:
    js, name, count = client.jetstream(timeout=30), config.name or "", 0
    # Listed first: reading goes on in the same stream that is written to.
    theirs = [
        message async for message in stored(js, config) if person.is_in(message.subject, message.payload)
    ]
    for message in theirs:
        kept = keep(message)
        if kept == message.payload:
            continue
        count += 1
        if kept is not None:
            header = {"Nats-Expected-Last-Subject-Sequence": str(message.sequence)}
            with contextlib.suppress(nats.js.errors.APIError):  # written meanwhile: the next look finds it
                await js.publish(message.subject, kept, headers=header)
        elif config.deny_delete:
            await js.purge_stream(name, subject=message.subject)
        else:
            # Overwriting makes the server write a whole block anew for each message, and events, which are
            # many, hold neither number nor words.
            events = f"{names.EVT}.>" in (config.subjects or ())
            with contextlib.suppress(nats.js.errors.NotFoundError):
                await _delete(client, name, message.sequence, overwrite=not events)
    return count


async def _delete(client: Client, stream: str, sequence: int, *, overwrite: bool) -> None:
    """nats-py has no word for ``no_erase``, and without it the server overwrites."""
    request = msgspec.json.encode({"seq": sequence, "no_erase": not overwrite})
    reply = await client.request(f"$JS.API.STREAM.MSG.DELETE.{stream}", request, timeout=10)
    if error := msgspec.json.decode(reply.data).get("error"):
        if error.get("code") == 404 or error.get("err_code") == _NO_MESSAGE:
            raise nats.js.errors.NotFoundError
        raise nats.js.errors.APIError.from_error(error)


async def sweep(client: Client, config: StreamConfig) -> None:
    """Makes the server take what was deleted from a stream out of its file now.

    nats-server 2.15.1 leaves deleted octets in the block it writes to, for years on a quiet node, and a key
    that was written twice and purged comes back when the server is killed within two minutes. A full block is
    written anew once half of it is deleted, at the next removal: so it is filled with zeros, which are
    removed. Nobody sees them: their subject is here for the moment only.
    """
    if config.storage != "file" or 0 < (config.max_bytes or 0) < 2 * SWEEP_OCTETS:
        return  # the ballast would drive out what is there; advisories tell of no person
    js, name = client.jetstream(timeout=30), config.name or ""
    ballast = f"sweep.{name}"
    own = [subject for subject in config.subjects or () if subject != ballast]
    small = (config.max_bytes or -1) < 0  # its blocks have 4 MB, those of others 8
    size = min(config.max_msg_size or SWEEP_OCTETS, MAX_MESSAGE_OCTETS) - 4096
    count = -(-(SWEEP_OCTETS * 2 // 3 if small else SWEEP_OCTETS) // size)
    with bus_errors(f"sweep {name}"):
        await js.update_stream(config.evolve(subjects=[*own, ballast]))
        try:
            sequences = [(await js.publish(ballast, bytes(size), timeout=30)).seq for _ in range(count)]
            if not config.deny_delete:  # in a bucket each replaced the one before
                for sequence in sequences:
                    with contextlib.suppress(nats.js.errors.NotFoundError):
                        await _delete(client, name, sequence, overwrite=False)
        finally:
            await js.purge_stream(name, subject=ballast)
            await js.update_stream(config.evolve(subjects=own))
