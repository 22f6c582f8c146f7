"""The centre's object store: filled at the centre, read by nodes over the link, one message a request.

A node asks for a message of the stream by its subject and gets that message: no consumer is made at the
centre, nothing is pushed, and whoever asks decides how fast it comes. It is a request to JetStream's API,
answered in JSON. A direct get (NATS ADR-31) would save a quarter of the octets, but nats-server sends its
answer to whatever subject the request names, and at ``$JS.API.STREAM.DELETE.…`` an answer is an order: a
stolen credential removed other nodes' streams. *Test: `test_isolation.py`.*
"""

import base64
from collections.abc import Collection
from typing import Final, Protocol

import msgspec
import nats.errors
from nats.js.api import ObjectMeta, ObjectMetaOptions

from actors._runtime.bus import BusError, NatsBus, bus_errors
from actors._runtime.provision import Place
from subjects.names import HUB
from subjects.registry import BUNDLE_STORE, BUNDLES

CHUNK_OCTETS: Final = 6 * 1024
"""Of one message of an object, 8 kB as Base64: 1.3 s of a line of 50 kbit/s, so long an answer may stand
behind it."""
ANSWER_WITHIN_S: Final = 20.0
"""A chunk on a thin line that others use too."""


class Found(msgspec.Struct, frozen=True):
    """An object as it lies in the store; each time it is put it has another ``nuid``."""

    nuid: str
    size: int
    deleted: bool = False


class Objects(Protocol):
    """Objects that can be read chunk by chunk."""

    async def find(self, name: str) -> Found | None:
        """An object by its name; None when there is none. Raises :class:`BusError`."""

    async def chunk(self, found: Found, sequence: int) -> tuple[int, bytes] | None:
        """The object's first chunk that lies at ``sequence`` or after it, and where the next may lie.

        None: it is gone. Raises :class:`BusError`.
        """


class NoObjects:
    """A node without a centre."""

    async def find(self, name: str) -> Found | None:  # noqa: ARG002  # there is nothing to look in
        """Nothing."""
        return None

    async def chunk(self, found: Found, sequence: int) -> tuple[int, bytes] | None:  # noqa: ARG002  # likewise
        """Nothing."""
        return None


class NatsObjects:
    """The store as it is reached from a node, or at the centre itself."""

    def __init__(self, bus: NatsBus, place: Place) -> None:
        self._bus = bus
        api = f"$JS.{HUB}.API" if place.profile == "lilevy" else "$JS.API"
        self._subject = f"{api}.STREAM.MSG.GET.{BUNDLES.name}"

    async def find(self, name: str) -> Found | None:
        """By its meta message."""
        message = await self._get({"last_by_subj": f"$O.{BUNDLE_STORE}.M.{_token(name)}"})
        if message is None:
            return None
        try:
            found = msgspec.json.decode(message.data, type=Found)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None  # whoever wrote it, it is no object
        return None if found.deleted or not found.nuid.isalnum() else found

    async def chunk(self, found: Found, sequence: int) -> tuple[int, bytes] | None:
        """By its subject and the place in the stream."""
        wanted = {"next_by_subj": f"$O.{BUNDLE_STORE}.C.{found.nuid}", "seq": max(1, sequence)}
        message = await self._get(wanted)
        if message is None:
            return None
        return message.seq + 1, message.data

    async def _get(self, wanted: object) -> "_Message | None":
        with bus_errors("read the centre's bundles"):
            try:
                reply = await self._bus.client.request(
                    self._subject, msgspec.json.encode(wanted), timeout=ANSWER_WITHIN_S
                )
            except nats.errors.NoRespondersError as error:
                raise BusError("no connection to the centre") from error
        try:
            answer = msgspec.json.decode(reply.data, type=_Answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BusError(f"the centre's answer cannot be read: {error}") from error
        if answer.error and answer.error.code != 404:
            raise BusError(f"the centre does not give its bundles: {answer.error.description}")
        return answer.message


class _Message(msgspec.Struct, frozen=True):
    seq: int
    data: bytes = b""


class _Error(msgspec.Struct, frozen=True):
    code: int
    description: str = ""


class _Answer(msgspec.Struct, frozen=True):
    """What JetStream says to `STREAM.MSG.GET`."""

    message: _Message | None = None
    error: _Error | None = None


def _token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


class Shelf:
    """The store as the centre fills it."""

    def __init__(self, bus: NatsBus) -> None:
        self._bus = bus
        self._read = NatsObjects(bus, Place(HUB, "bigevy"))

    async def put(self, name: str, octets: bytes) -> None:
        """Stores an object, in place of a former one of that name once all of it is there."""
        meta = ObjectMeta(name=name, options=ObjectMetaOptions(max_chunk_size=CHUNK_OCTETS))
        with bus_errors(f"put {name}"):
            if await self._read.find(name) is None:
                await self._purge(name)  # what lies there may be no object at all
            await (await self._bus.js.object_store(BUNDLE_STORE)).put(name, octets, meta)

    async def _purge(self, name: str) -> None:
        await self._bus.js.purge_stream(BUNDLES.name, subject=f"$O.{BUNDLE_STORE}.M.{_token(name)}")

    async def get(self, name: str) -> bytes | None:
        """An object as far as it is there, not held against its digest; None when there is none."""
        found = await self._read.find(name)
        if found is None:
            return None
        octets, place = b"", 0
        while len(octets) < found.size and (answer := await self._read.chunk(found, place)):
            place = answer[0]
            octets += answer[1]
        return octets

    async def keep(self, wanted: Collection[str]) -> None:
        """Removes all objects but those."""
        head = f"$O.{BUNDLE_STORE}.M."
        with bus_errors("remove old bundles"):
            info = await self._bus.js.stream_info(BUNDLES.name, subjects_filter=f"{head}>")
            for subject in info.state.subjects or {}:
                try:
                    name = base64.urlsafe_b64decode(subject.removeprefix(head)).decode()
                except ValueError:
                    name = ""
                if name not in wanted:
                    if found := await self._read.find(name):
                        chunks = f"$O.{BUNDLE_STORE}.C.{found.nuid}"
                        await self._bus.js.purge_stream(BUNDLES.name, subject=chunks)
                    await self._bus.js.purge_stream(BUNDLES.name, subject=subject)
