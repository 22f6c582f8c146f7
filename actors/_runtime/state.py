"""Records in buckets: read, decide, write, and start again when somebody else wrote in between."""

import asyncio
from collections.abc import Callable
from types import EllipsisType
from typing import Final, TypeVar

import msgspec

from actors._runtime.actor import KeyValue
from subjects.errors import RetryLaterError

S = TypeVar("S", bound=msgspec.Struct)
R = TypeVar("R")

TRIES: Final = 8


async def read(bucket: KeyValue, key: str, of: type[S]) -> S | None:
    """The record at ``key``, or None."""
    entry = await bucket.get(key)
    return msgspec.json.decode(entry[0], type=of) if entry else None


Found = tuple[bytes, int] | None
"""What a bucket gave for a key."""


async def change(
    bucket: KeyValue,
    key: str,
    of: type[S],
    step: Callable[[S | None], tuple[S | None, R]],
    *,
    found: Found | EllipsisType = ...,
) -> R:
    """Applies ``step`` to the record at ``key`` and gives its result once the new record is written.

    ``step`` gets the record or None and returns the new record (None: nothing to write) and a result. It
    must be pure: it runs again when another worker was faster. ``found`` is what the caller read a moment
    ago; it saves the first read. Raises :class:`RetryLaterError` after
    :data:`TRIES` lost races.
    """
    for turn in range(TRIES):
        entry = await bucket.get(key) if turn or isinstance(found, EllipsisType) else found
        record = msgspec.json.decode(entry[0], type=of) if entry else None
        changed, result = step(record)
        if changed is None or changed == record:
            return result
        value = msgspec.json.encode(changed)
        if entry is None:
            written = await bucket.create(key, value)
        else:
            written = await bucket.update(key, value, entry[1])
        if written is not None:
            return result
        await asyncio.sleep(0.002 * turn)
    raise RetryLaterError(f"{key} changes faster than it can be written", delay_s=0.5)
