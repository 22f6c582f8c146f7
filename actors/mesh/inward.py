"""What other nodes send: questions to be answered here, answers, people in danger, needs, public alerts."""

import hashlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from actors._masked import restored, taken
from actors._people.cases import NEIGHBOUR
from actors._runtime import clock
from actors._runtime.actor import KeyValue, Output
from actors.mesh.needs import NeedsBoard
from actors.mesh.payload import (
    KINDS,
    Asked,
    Codec,
    Danger,
    NotGiven,
    OfTexts,
    PayloadError,
    Piece,
    Said,
    Sms,
    Told,
    Wanted,
)
from subjects import names
from subjects.bulletin import Bulletin
from subjects.errors import MessageError, RefusedError
from subjects.mesh import MeshNeeds, MeshPacket, MeshReply
from subjects.messages import Alert, Answer, OutboundSms, Query, ResponderReply, decode

log = logging.getLogger("evy.mesh")

ANSWER_WITHIN_S: Final = 60.0
"""How long another node's question may take here before the ladder answers it: the air took longer."""
ALONE: Final = (Asked, Told, MeshReply, Sms, Wanted, Piece, NotGiven)
"""What is for one node only; for everybody it is forged or broken."""

TakeTexts = Callable[[int, OfTexts], Awaitable[None]]
"""Takes what the node of an address says about the centre's texts."""


async def no_texts(_peer: int, _said: OfTexts) -> None:
    """Of a node that takes and gives none by mesh."""


Tell = Callable[..., None]
"""Emits an event: kind, packet, fields."""


def asked_key(ref: str) -> str:
    """Where a question of ours is kept that is elsewhere."""
    return f"asked.{ref}"


def case_key(ref: str) -> str:
    """Where it is kept whose case a node was told of."""
    return f"case.{ref}"


def query_id(network: int, source: int, ref: str) -> str:
    """Id at this node of another node's text, the same however often it comes: 32 hex digits, as others."""
    return hashlib.blake2b(f"{network} {source} {ref}".encode(), digest_size=16).hexdigest()


class Inward:
    """The handler of ``mesh.in``."""

    def __init__(
        self,
        *,
        node: str,
        codec: Codec,
        kept: KeyValue,
        masked: KeyValue,
        needs: NeedsBoard,
        tell: Tell,
        node_only: bool = False,
        texts: TakeTexts = no_texts,
    ) -> None:
        """``node_only``: nothing leaves this node for its centre, other nodes' questions neither."""
        self._node = node
        self._codec = codec
        self._kept = kept
        self._masked = masked
        self._needs = needs
        self._tell = tell
        self._node_only = node_only
        self._texts = texts
        self.counters: Counter[str] = Counter()

    async def handle(self, packet: MeshPacket) -> Sequence[Output]:
        """One payload → the message of this node that it stands for. What cannot be read is counted; what
        only a newer EVY can read is a dead letter, for after the upgrade."""
        try:
            said = self._read(packet)
        except PayloadError as error:
            self.counters[f"dropped_{error.reason}"] += 1
            self._tell("mesh_dropped", packet, reason=error.reason, detail=str(error)[:200])
            if error.reason in {"version", "kind"}:
                raise RefusedError(f"from mesh node {packet.peer}: {error}") from error
            return []
        what = KINDS.get(packet.payload[0] & 0x1F, "")
        self._tell("mesh_received", packet, what=what, octets=len(packet.payload))
        self.counters[f"received_{what}"] += 1
        if isinstance(said, Told):
            return await self._told(packet, said)
        if isinstance(said, MeshReply):
            return await self._replied(packet, said)
        if isinstance(said, OfTexts):
            await self._texts(packet.peer, said)
            return []
        return self._passed_on(packet, said)

    def _read(self, packet: MeshPacket) -> Said:
        said = self._codec.read(packet.payload)
        if packet.broadcast and isinstance(said, ALONE):
            raise PayloadError("broadcast", f"a {type(said).__name__} for everybody")
        return said

    def _passed_on(
        self, packet: MeshPacket, said: Asked | Danger | MeshNeeds | Bulletin | Sms
    ) -> list[Output]:
        """What needs nothing that is kept here."""
        if isinstance(said, Asked):
            return self._asked(packet, said)
        if isinstance(said, Danger):
            return self._danger(packet, said)
        if isinstance(said, Sms):
            return self._sms(packet, said)
        if isinstance(said, Bulletin):
            return [Output(names.BULLETIN, said.lane, said, said.key)]
        self._needs.heard(said)
        self._tell("mesh_needs", packet, place=said.place, counts=said.counts)
        return []

    def _asked(self, packet: MeshPacket, asked: Asked) -> list[Output]:
        """A question, answered like one of a person here; only its answer goes back instead of to a phone."""
        of = query_id(packet.network, packet.peer, asked.ref)
        lane = "priority" if packet.lane == "flash" else packet.lane  # an emergency was answered at home
        query = Query(
            id=of,
            node=self._node,
            sender_ref=f"{NEIGHBOUR}{packet.peer}-{asked.ref}",
            text=asked.text,
            lang=asked.lang,
            lane=lane,
            deadline=clock.deadline_in(ANSWER_WITHIN_S),
            privacy=asked.privacy,
            node_only=self._node_only,
            origin=f"{packet.peer}.{asked.ref}",
        )
        return [Output(names.ROUTE, lane, query, of)]

    async def _told(self, packet: MeshPacket, told: Told) -> Sequence[Output]:
        """An answer to a question of ours. It was checked where it was made; its placeholders are put back
        here, where alone is known what they stand for."""
        entry = await self._kept.get(asked_key(told.ref))
        if entry is None:
            return self._useless(packet, "nobody here asked that, or long ago")
        try:
            query = decode(entry[0], Query)
        except MessageError as error:
            return self._useless(packet, f"the question cannot be read: {error}")
        text = restored(told.text, await taken(self._masked, query.id))
        if text is None:
            return self._useless(packet, "a placeholder that stands for nothing here", query)
        answer = Answer(
            query_id=query.id,
            node=self._node,
            sender_ref=query.sender_ref,
            text=text,
            lang=told.lang,
            lane=query.lane,
            step=told.step,
            verbatim=True,
            sources=told.sources,
            asked=True,
            wait=query.wait,
            by_centre=True,
            needs=query.needs,
            received_at=query.received_at,
        )
        return [Output(names.COMPRESS, query.lane, answer, query.id, "mesh")]

    def _danger(self, packet: MeshPacket, danger: Danger) -> list[Output]:
        """Somebody at another node, for the responders here."""
        # With another place it is another message about the same case.
        of = query_id(packet.network, packet.peer, f"{danger.ref} {danger.place} {danger.safe}")
        alert = Alert(
            query_id=of,
            node=self._node,
            sender_ref=f"{NEIGHBOUR}{packet.peer}-{danger.ref}",
            text="",
            lang=danger.lang,
            lane="flash",
            priority="emergency",
            needs=danger.needs,
            topic=danger.topic,
            kind="safe" if danger.safe else "danger",
            place=danger.place,
            place_asked=True,
            origin=f"{packet.peer}.{danger.ref}",
        )
        return [Output(names.ALERT, "flash", alert, of)]

    async def _replied(self, packet: MeshPacket, reply: MeshReply) -> Sequence[Output]:
        """What the responders of another node say of a case of ours."""
        entry = await self._kept.get(case_key(reply.ref))
        if entry is None:
            return self._useless(packet, "no case of ours, or long ago")
        alert = decode(entry[0], Alert)
        if reply.state == "asking":
            return []
        told = ResponderReply(
            query_id=query_id(packet.network, packet.peer, f"{reply.ref} {packet.id}"),
            node=self._node,
            sender_ref=alert.sender_ref,
            responder=f"{NEIGHBOUR}{packet.peer}",
            answer="coming" if reply.state == "coming" else "cannot",
            lane="flash",
        )
        return [Output(names.ALERT_REPLY, "flash", told, told.query_id)]

    def _sms(self, packet: MeshPacket, sms: Sms) -> list[Output]:
        """A text for this node's modem: only what saves, because it costs its operator's credit."""
        if packet.lane != "flash":
            return self._useless(packet, "an SMS for another node that is not flash")
        of = query_id(packet.network, packet.peer, sms.ref)
        text = OutboundSms(
            query_id=of,
            node=self._node,
            text=sms.text,
            lang=sms.lang,
            lane="flash",
            step="alert",
            kind="alert",
            number=sms.number,
        )
        return [Output(names.SMS_OUT, "flash", text, of, "mesh")]

    def _useless(self, packet: MeshPacket, reason: str, query: Query | None = None) -> list[Output]:
        if query is not None:
            packet = msgspec.structs.replace(packet, query_id=query.id)
        self.counters["dropped_useless"] += 1
        self._tell("mesh_dropped", packet, reason=reason)
        return []
