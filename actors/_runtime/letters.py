"""Dead letters for people: read, put back on their subject, thrown away.

A letter's id is its sequence in ``DLQ_<node>``. It is removed only after the server has the message again
(PubAck), and the id of that message is made from the letter: putting it back twice stores it once.
"""

import hashlib
import re
import time
from collections.abc import AsyncIterator, Mapping
from typing import Final

import msgspec
import nats.js.errors

from actors._runtime.bus import MSG_ID, BusError, NatsBus, bus_errors
from actors._runtime.telemetry import TRACEPARENT
from subjects import names, registry
from subjects.errors import EvyError, MessageError, SchemaVersionError
from subjects.messages import DeadLetter, decode

_TRACE: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-")

FORGOTTEN_AFTER_S: Final = registry.bucket("ledger").ttl_s
"""Age from which the send ledger may not know any more what a letter has already led to."""


def letter_id(headers: Mapping[str, str], stream: str, sequence: int) -> str:
    """What tells the letter of one message from others, whoever writes it: a worker or the reaper."""
    return headers.get(MSG_ID) or f"{stream}.{sequence}"


class NoLetterError(EvyError):
    """There is no such letter: it was put back, thrown away, or dropped by age."""


class Letter(msgspec.Struct, frozen=True):
    """One letter of the store. ``genuine`` False: somebody else wrote to ``dlq.>``, and this is what."""

    id: int
    letter: DeadLetter
    genuine: bool = True

    @property
    def age_s(self) -> float:
        """Seconds since it was written, by this machine's clock."""
        return max(0.0, time.time() - self.letter.at)

    @property
    def trace(self) -> str:
        """Trace id of the message; empty when it had none."""
        found = _TRACE.match(self.letter.headers.get(TRACEPARENT, ""))
        return found[1] if found else ""

    def refuses(self, payload: bytes) -> str:
        """Why ``payload`` cannot go back on the letter's subject, with the mend; empty when it can."""
        subject = self.letter.subject
        try:
            row = registry.work(subject)
        except KeyError:
            return (
                f"{subject!r} is no work subject of this EVY: nobody would take it; `evy dlq drop {self.id}`"
            )
        try:
            decode(payload, row.message)
        except SchemaVersionError as error:
            return f"{error}: upgrade this node's EVY, then replay"
        except MessageError as error:
            return f"{error}: give a mended message with --edit or --payload FILE"
        return ""


class Letters:
    """The letters of one server."""

    def __init__(self, bus: NatsBus) -> None:
        self._bus = bus
        self._stream = f"DLQ_{bus.node}"

    async def one(self, number: int) -> Letter:
        """Raises :class:`NoLetterError` when it is not there (any more)."""
        with bus_errors(f"read dead letter {number}"):
            try:
                raw = await self._bus.js.get_msg(self._stream, max(1, number))
            except nats.js.errors.NotFoundError:
                raw = None
        if raw is None or number < 1:
            raise NoLetterError(f"no dead letter {number}: `evy dlq ls` lists those that are there")
        return _read(number, raw.subject or "", raw.data or b"")

    async def every(self) -> AsyncIterator[Letter]:
        """All that were there when it began, oldest first. A letter that comes back meanwhile is not met."""
        with bus_errors(f"look at {self._stream}"):
            last = (await self._bus.js.stream_info(self._stream)).state.last_seq
        number = 1
        while number <= last:
            with bus_errors(f"read {self._stream}"):
                try:
                    raw = await self._bus.js.get_msg(
                        self._stream, number, subject=f"{names.DLQ}.>", next=True
                    )
                except nats.js.errors.NotFoundError:
                    return
            number = raw.seq or last + 1
            if number <= last:
                yield _read(number, raw.subject or "", raw.data or b"")
            number += 1

    async def replay(self, letter: Letter, payload: bytes) -> bool:
        """Puts a message back on the letter's subject and removes the letter; False: the server had it back
        already, and only the letter was still there.

        The caller has asked :meth:`Letter.refuses`. The new ``Nats-Msg-Id`` differs from the first one, which
        the stream may remember for hours and would swallow. What the message already led to is recognised by
        those messages' own ids, and a text that was sent by the ledger.
        """
        digest = hashlib.sha256(b"%f:" % letter.letter.at + payload).hexdigest()[:16]
        headers = {MSG_ID: f"{self._bus.node}.{self._bus.identity.nonce}.replay.{letter.id}.{digest}"}
        if trace := letter.letter.headers.get(TRACEPARENT):
            headers[TRACEPARENT] = trace
        with bus_errors(f"publish {letter.letter.subject}"):
            stored = await self._bus.js.publish(letter.letter.subject, payload, headers=headers)
        await self.drop(letter)
        return not stored.duplicate

    async def drop(self, letter: Letter) -> None:
        """Removes a letter; its octets are overwritten, because they are somebody's."""
        try:
            with bus_errors(f"remove dead letter {letter.id}"):
                await self._bus.js.delete_msg(self._stream, letter.id)
        except BusError:
            try:
                await self.one(letter.id)
            except NoLetterError:
                return  # somebody else was faster
            raise


def _read(number: int, subject: str, octets: bytes) -> Letter:
    try:
        return Letter(number, decode(octets, DeadLetter))
    except MessageError as error:
        stranger = DeadLetter(
            subject=subject.removeprefix(f"{names.DLQ}."),
            payload=octets,
            headers={},
            error=str(error),
            actor="",
            node="",
            deliveries=0,
            at=0.0,
        )
        return Letter(number, stranger, genuine=False)
