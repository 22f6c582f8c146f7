"""Parts that are HELD: nobody knows whether they left, and a person may decide.

A HELD part's text leaves ``sms.out`` with its message, so it is kept here, in the bucket ``outbox``, until a
status report, the next TP-MR or a person has settled the part. The actor `sms` is the only writer; `evy
outbox` asks it, by the services ``sms.outbox`` and ``sms.outbox.decide``.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from evy_core import segment

from actors._runtime.actor import Emit, KeyValue, Output, ServiceHandler
from actors.sms.ledger import Entry, State
from subjects import names
from subjects.errors import RefusedError, RetryLaterError
from subjects.messages import Event, OutboundSms
from subjects.services import HeldPart, OutboxDecided, OutboxDecision, OutboxReply, OutboxRequest

log = logging.getLogger("evy.sms")

DECIDABLE: Final = frozenset({"HELD", "UNSENT"})
"""UNSENT only for a part that is still in this bucket: a decision that a crash cut off half-way."""
TRIES: Final = 8


class Kept(msgspec.Struct, frozen=True):
    """A text with a held part, as it came."""

    out: OutboundSms
    part: int
    since: float


class Outbox:
    """What is held, and what becomes of it."""

    def __init__(
        self,
        bucket: KeyValue,
        ledger: KeyValue,
        numbers: KeyValue,
        publish: Callable[[Output, str], Awaitable[None]],
        emit: Emit,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``ledger`` is the bucket: entries change by revision, so no race with a `Ledger` is lost."""
        self._bucket = bucket
        self._ledger = ledger
        self._numbers = numbers
        self._publish = publish
        self._emit = emit
        self._now = now

    @property
    def services(self) -> dict[str, ServiceHandler]:
        """What it answers."""
        return {"sms.outbox": self.list, "sms.outbox.decide": self.decide}

    async def keep(self, out: OutboundSms, part: int) -> None:
        """Keeps a text whose part is HELD; keeping it again changes nothing."""
        kept = Kept(out, part, self._now())
        await self._bucket.create(out.ledger_key(part), msgspec.json.encode(kept))

    async def list(self, question: OutboxRequest) -> OutboxReply:
        """What is held now; what was settled meanwhile leaves the bucket."""
        held = []
        for key in await self._bucket.keys():
            found, entry = await self._bucket.get(key), await self._entry(key)
            if found is None:
                continue
            if entry is None or entry[0].state not in DECIDABLE:
                await self._bucket.delete(key)
                continue
            held.append(await self._shown(key, found[0], entry[0], full=question.full))
        return OutboxReply(held=tuple(sorted(held, key=lambda part: part.since)))

    async def _shown(self, key: str, octets: bytes, entry: Entry, *, full: bool) -> HeldPart:
        kept = msgspec.json.decode(octets, type=Kept)
        out = kept.out
        [cut] = segment([out.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")])
        text = cut.segments[kept.part - 1] if kept.part <= cut.count else ""
        number = ""
        if full:
            known = await self._numbers.get(out.sender_ref) if not out.number else None
            number = out.number or (known[0].decode() if known else "")
        return HeldPart(
            key=key,
            state=entry.state,
            since=kept.since,
            note=entry.note,
            modem=entry.modem,
            lane=out.lane,
            kind=out.kind,
            sender_ref=out.sender_ref,
            part=kept.part,
            parts=cut.count,
            characters=len(text),
            text=text if full else "",
            number=number,
        )

    async def decide(self, decision: OutboxDecision) -> OutboxDecided:
        """Sends a held part again, by the way every text goes, or never. Deciding twice is harmless."""
        key = decision.key
        found = await self._bucket.get(key)
        if found is None:
            entry = await self._entry(key)
            state = f"it is {entry[0].state}" if entry else "the ledger does not know it"
            raise RefusedError(f"{key} is not held: {state}")
        out = msgspec.json.decode(found[0], type=Kept).out
        if decision.send:
            entry = await self._settle(key, "UNSENT", "a person decided to send it again")
            again = Output(names.SMS_OUT, out.lane, out, out.query_id, f"again.{key}", entry[1])
            await self._publish(again, "sms")
        else:
            entry = await self._settle(key, "FAILED", "a person decided that it is not sent")
        await self._bucket.delete(key)
        log.warning("%s: %s", key, entry[0].note)
        self._event(out, key, entry[0])
        return OutboxDecided(key=key, state=entry[0].state, note=entry[0].note)

    async def _settle(self, key: str, state: State, note: str) -> tuple[Entry, int]:
        """The entry as a person decided, with its revision; raises when it was settled meanwhile."""
        for _ in range(TRIES):
            found = await self._entry(key)
            if found is None or found[0].state not in DECIDABLE:
                await self._bucket.delete(key)
                now = found[0].state if found else "forgotten"
                raise RefusedError(f"{key} was settled meanwhile: it is {now}")
            entry, revision = found
            if entry.state == state:
                return entry, revision
            changed = msgspec.structs.replace(entry, state=state, note=note, at=self._now())
            written = await self._ledger.update(key, msgspec.json.encode(changed), revision)
            if written is not None:
                return changed, written
        raise RetryLaterError(f"{key} changes faster than it can be written")

    async def _entry(self, key: str) -> tuple[Entry, int] | None:
        found = await self._ledger.get(key)
        return (msgspec.json.decode(found[0], type=Entry), found[1]) if found else None

    def _event(self, out: OutboundSms, key: str, entry: Entry) -> None:
        self._emit(
            Event(
                kind="decided",
                node=out.node,
                actor="sms",
                at=self._now(),
                query_id=out.query_id,
                sender_ref=out.sender_ref,
                lane=out.lane,
                fields={"part": key, "state": entry.state, "note": entry.note},
            )
        )
