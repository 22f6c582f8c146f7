"""What came in, from the modem to the bus: texts to ``sms.in``, everything else to where its kind belongs.

An SMS may be deleted from the modem only after what :meth:`Reception.received` stands for is stored: its
PubAck, its entry in the bucket ``parts``, or its dead letter.
"""

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, Literal, Protocol

from actors._runtime.actor import Output
from actors._runtime.bus import BusError
from actors._runtime.clock import deadline_in
from actors._runtime.identity import Identity
from actors.sms.kinds import FATES
from actors.sms.modem import Received
from actors.sms.parts import Parts, StoredPart, join, payload_digest
from subjects import names
from subjects.errors import RetryLaterError
from subjects.messages import DeadLetter, InboundSms
from subjects.names import Lane

log = logging.getLogger("evy.sms")

LaneOf = Callable[[str], Lane]
"""Lane of a text by triage; decides before the text enters the bus."""

OnCall = Literal["text", "reject", "ignore"]
"""What is done about a call: hang up and say by text that only texts are read, hang up, or let it ring."""

UNHEARD_LANE: Final[Lane] = "priority"
"""Who calls or sends a picture may be in danger, and must learn soon that nobody heard or saw it."""


class Tell(Protocol):
    """Emits an event of the sms actor."""

    def __call__(
        self, kind: str, *, query_id: str = "", sender_ref: str = "", lane: Lane = "routine", **fields: object
    ) -> None:
        """One event."""


class Reception:
    """The way from the storage of a node's modems to the bus, by the bucket ``parts`` for parts."""

    def __init__(
        self,
        *,
        identity: Identity,
        lane_of: LaneOf,
        parts: Parts,
        publish: Callable[[Output, str], Awaitable[None]],
        dead_letter: Callable[[DeadLetter, str], Awaitable[None]],
        tell: Tell,
        answer_within_s: float,
        part_timeout_s: float,
        calls: OnCall = "text",
    ) -> None:
        self._identity = identity
        self._lane_of = lane_of
        self._parts = parts
        self._publish = publish
        self._dead_letter = dead_letter
        self._tell = tell
        self._answer_within_s = answer_within_s
        self._part_timeout_s = part_timeout_s
        self._calls = calls
        self._joining = asyncio.Lock()

    async def received(self, sms: Received, modem: str) -> bool:
        """One SMS from a modem's storage; True once it may be deleted there."""
        try:
            if sms.kind != "text":
                await self._no_text(sms, modem)
            elif sms.concat and sms.concat.total > 1:
                await self._part(sms, modem)
            else:
                await self._text([self._single(sms)], "", 1, modem)
        except (BusError, RetryLaterError) as error:
            log.warning("left on the modem: %s", error)
            return False
        return True

    # Texts.

    def _single(self, sms: Received) -> StoredPart:
        utf16 = sms.text.encode("utf-16-le", "surrogatepass")
        return StoredPart(sms.sender, 1, 1, utf16, "", 0.0, sms.smsc_at)

    async def _part(self, sms: Received, modem: str) -> None:
        assert sms.concat is not None  # noqa: S101  # the caller looked
        group = Parts.group(self._identity.sender_ref(sms.sender), sms.concat.reference, sms.concat.total)
        async with self._joining:
            if await self._parts.is_of_another_text(group, sms):
                await self._pass_on(group, await self._parts.of(group), modem)
            if not await self._parts.add(group, sms):
                self._tell("double_part", part=f"{sms.concat.index} of {sms.concat.total}")
                return
            if await self._parts.count(group) >= sms.concat.total:
                await self._pass_on(group, await self._parts.of(group), modem)

    async def _pass_on(self, group: str, parts: list[StoredPart], modem: str) -> None:
        """Passes a text on with the parts that are there, once. What comes after that of a text that was
        passed on without it says nothing new, since its sender was asked to send all of it again, unless one
        of them tells of danger."""
        fresh = await self._parts.fresh(group, parts)
        rest = not fresh or await self._parts.is_rest(group, fresh)
        flash = self._lane_of(join(fresh)) == "flash"
        if fresh and (flash or not rest):
            await self._text(fresh, group.rpartition(".")[2], fresh[0].total, modem)
        elif fresh:
            self._tell("late_parts", parts=[f"{part.index} of {part.total}" for part in fresh])
        await self._parts.release(group, parts, flash=flash, rest=rest)

    async def _text(self, parts: list[StoredPart], reference: str, total: int, modem: str) -> None:
        first = parts[0]
        text = join(parts)
        times = [part.smsc_at for part in parts if part.smsc_at is not None]
        lane = self._lane_of(text)
        inbound = InboundSms(
            id=self._id(f"query:{first.sender}:{sorted(times)}:{reference}:", payload_digest(parts)),
            node=self._identity.node,
            sender=first.sender,
            text=text,
            lane=lane,
            deadline=deadline_in(self._answer_within_s),
            smsc_at=min(times, default=None),
            received_at=time.time(),
            modem=modem,
            parts=total,
            missing=total - len(parts),
        )
        await self._publish(Output(names.SMS_IN, lane, inbound, inbound.id), "sms")

    def _id(self, what: str, digest: bytes) -> str:
        """HMAC over sender, SMSC timestamps, concatenation reference and payload: the same SMS delivered
        twice by the network has the same id, the same words sent again have another."""
        return hmac.new(self._identity.secret, what.encode() + digest, hashlib.sha256).hexdigest()[:32]

    async def release_incomplete(self, modem: str) -> None:
        """Passes on, again and again, what has waited too long for its missing parts."""
        while True:
            await asyncio.sleep(min(30.0, self._part_timeout_s / 4))
            try:
                async with self._joining:
                    for group, age_s in (await self._parts.waiting()).items():
                        parts = await self._parts.of(group)
                        if parts and (age_s > self._part_timeout_s or len(parts) >= parts[0].total):
                            await self._pass_on(group, parts, modem)
            except BusError as error:
                log.warning("parts wait for the bus: %s", error)

    # Everything else.

    async def _no_text(self, sms: Received, modem: str) -> None:
        """What no person wrote to be read: kept if a person should look, told of where that helps."""
        fate = FATES[sms.kind]
        reason = sms.error or fate.reason
        sender_ref = self._identity.sender_ref(sms.sender) if sms.sender else ""
        if fate.kept:
            await self._keep(sms, modem, reason)
        if fate.told and sms.sender and (sms.kind != "call" or self._calls == "text"):
            await self._ask_to_tell(sms, modem)
        if sms.kind == "call":
            self._tell("call", modem=modem, sender_ref=sender_ref, hidden=not sms.sender, done=self._calls)
        elif fate.kept:
            where = sms.location
            self._tell(
                "unreadable", sender_ref=sender_ref, modem=modem, what=sms.kind, reason=reason, location=where
            )
        else:
            self._tell("discarded", sender_ref=sender_ref, modem=modem, what=sms.kind, reason=reason)

    async def _keep(self, sms: Received, modem: str, reason: str) -> None:
        letter = DeadLetter(
            subject=names.SMS_IN,
            payload=sms.raw,
            headers={"location": str(sms.location), "modem": modem, "kind": sms.kind},
            error=reason,
            actor="sms",
            node=self._identity.node,
            deliveries=1,
            at=time.time(),
            replay="none: this is no text; it is kept here for a person",
        )
        # The same PDU at the same place is the same letter, also after a crash before it was deleted.
        digest = hashlib.sha256(f"{sms.location}:{reason}:".encode() + sms.raw)
        await self._dead_letter(letter, digest.hexdigest()[:32])

    async def _ask_to_tell(self, sms: Received, modem: str) -> None:
        """Intake knows who it was, in which language, and when they were told last."""
        inbound = InboundSms(
            id=self._id(f"{sms.kind}:{sms.sender}:{sms.smsc_at}:", hashlib.sha256(sms.raw).digest()),
            node=self._identity.node,
            sender=sms.sender,
            text="",
            lane=UNHEARD_LANE,
            deadline=deadline_in(self._answer_within_s),
            smsc_at=sms.smsc_at,
            received_at=time.time(),
            modem=modem,
            kind="call" if sms.kind == "call" else "picture",
        )
        await self._publish(Output(names.SMS_IN, UNHEARD_LANE, inbound, inbound.id), "sms")
