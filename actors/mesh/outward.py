"""What this node sends to others: to whom, in which octets, and until its fate is known."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from evy_core import MeshError

from actors._runtime import clock
from actors._runtime.actor import KeyValue, Output
from actors.mesh.inward import Tell, asked_key, case_key
from actors.mesh.loop import Loop, State
from actors.mesh.payload import KINDS, Codec, ref_of
from subjects.errors import RefusedError, RetryLaterError
from subjects.mesh import EVERYBODY, MeshPacket
from subjects.messages import encode
from subjects.names import Lane

log = logging.getLogger("evy.mesh")

LIFETIME_S: Final[dict[Lane, float]] = {"flash": 6 * 3600.0, "priority": 2 * 3600.0, "routine": 1800.0}
"""How long a message waits for radio, route and air, where nobody says otherwise."""
NO_ROUTE_S: Final = 75.0
"""With a day of tries (300) that is as long as a question waits."""
SAVING_S: Final = 120.0
ORIGIN_PARTS: Final = 2


class Route(NamedTuple):
    """A node within reach, as far as a choice needs it."""

    destination: int
    cost: float
    uplink: bool
    modem: bool
    model: bool = False


class Outward:
    """The handler of ``mesh.out``: it returns when the mesh has done with the message, so that the message
    stays in its stream until then, whatever dies."""

    def __init__(
        self,
        *,
        codec: Codec,
        loop: Loop,
        kept: KeyValue,
        routes: Callable[[], Sequence[Route]],
        only_flash: Callable[[], bool],
        own: int,
        tell: Tell,
    ) -> None:
        """``own`` is the address of this node."""
        self._codec = codec
        self._loop = loop
        self._kept = kept
        self._routes = routes
        self._only_flash = only_flash
        self._own = own
        self._tell = tell
        self.counters: Counter[str] = Counter()

    async def handle(self, packet: MeshPacket) -> Sequence[Output]:
        """Sends one message. Raises :class:`RetryLaterError` while nobody could take it, and
        :class:`RefusedError` for one that is none."""
        payload = self._payload(packet)
        what = KINDS[payload[0] & 0x1F]
        left_s = self._left_s(packet)
        if left_s <= 0:
            self._said(packet, "expired", what, reason="nobody wants it any more")
        else:
            await self._sent(packet, payload, what, left_s)
        return []

    async def _sent(self, packet: MeshPacket, payload: bytes, what: str, left_s: float) -> None:
        if packet.lane != "flash" and self._only_flash():
            raise RetryLaterError("battery low: the mesh carries only flash", delay_s=min(left_s, SAVING_S))
        peer = packet.peer or self._chosen(packet, left_s)
        if peer == self._own:
            raise RefusedError("a mesh message to this node itself")
        await self._remembered(packet)
        fields: dict[str, Any] = {"peer": peer, "octets": len(payload)}
        destination = None if peer == EVERYBODY else peer

        def changed(state: State) -> None:
            if state in {"sent", "relayed"}:
                self._said(packet, state, what, **fields)

        try:
            state = await self._loop.send(destination, payload, packet.lane, within_s=left_s, changed=changed)
        except MeshError as error:
            self._said(packet, "refused", what, reason=str(error), **fields)
            return
        if state != "sent":  # of a broadcast, which was said
            self._said(packet, state, what, **fields)
        if packet.sms and state == "delivered":  # `sms` waits for it, and does not send it here any more
            await self._kept.put(f"sms.{packet.sms.ledger_key(0)}", b"delivered")

    def _payload(self, packet: MeshPacket) -> bytes:
        """The octets of what it carries."""
        codec = self._codec
        writers: dict[str, Callable[[Any], bytes]] = {
            "query": codec.query,
            "answer": lambda answer: codec.answer(answer, _ref_in(answer.origin)),
            "alert": codec.alert,
            "reply": codec.reply,
            "bulletin": codec.bulletin,
            "needs": codec.needs,
            "sms": codec.sms,
        }
        for name, write in writers.items():
            if (said := getattr(packet, name)) is not None:
                return write(said)
        raise RefusedError("a mesh message that carries nothing")

    @staticmethod
    def _left_s(packet: MeshPacket) -> float:
        return LIFETIME_S[packet.lane] if packet.until is None else clock.remaining_s(packet.until)

    def _chosen(self, packet: MeshPacket, left_s: float) -> int:
        """Who can use it: everybody, or the nearest node that has what it takes."""
        routes = self._routes()
        if packet.query:
            wanted, has = "link or a model", [route for route in routes if route.uplink]
            has = has or [route for route in routes if route.model]
        elif packet.sms:
            wanted, has = "modem", [route for route in routes if route.modem]
        elif packet.answer or packet.reply:
            raise RefusedError("an answer for nobody: it needs a peer")
        else:
            return EVERYBODY
        if not has:
            raise RetryLaterError(f"no node with a {wanted} is within reach", delay_s=min(left_s, NO_ROUTE_S))
        return min(has, key=lambda route: route.cost).destination

    async def _remembered(self, packet: MeshPacket) -> None:
        """What comes back names four octets: whose they are has to be known before anything leaves."""
        if packet.query:
            await self._kept.put(asked_key(ref_of(packet.query.id)), encode(packet.query))
        elif packet.alert:
            await self._kept.put(case_key(ref_of(packet.alert.query_id)), encode(packet.alert))

    def _said(self, packet: MeshPacket, state: State, what: str, **fields: object) -> None:
        self.counters[f"{what}_{state}"] += 1
        self._tell(f"mesh_{state}", packet, what=what, **fields)


def _ref_in(origin: str) -> str:
    """What the asking node calls the question; from `Query.origin`. Raises :class:`RefusedError`."""
    parts = origin.split(".")
    if len(parts) != ORIGIN_PARTS or len(parts[1]) != len(ref_of("")):
        raise RefusedError(f"an answer to {origin!r}, which names no question of a node")
    return parts[1]


def peer_in(origin: str) -> int:
    """Address in an origin. Raises ValueError for another text."""
    return int(origin.partition(".")[0])
