"""Another node's modem, by mesh, for what saves while none here sends.

The number leaves sealed to that node, and only with a text whose lane is flash. Until the mesh says that the
other node has it, the text waits here as it always does, and whichever modem is there first sends it.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from actors._runtime.actor import KeyValue, Output
from actors._runtime.clock import boot_id, boot_s, deadline_in
from subjects import names
from subjects.mesh import MeshPacket
from subjects.messages import OutboundSms
from subjects.node_state import NodeState

AFTER_S: Final = 60.0
"""Modems here are away for so long before another node is asked: most come back sooner."""
ASK_FOR_S: Final = 900.0
"""How long the mesh may take: later a modem here may have sent it. Then it is asked anew."""
LOOK_S: Final = 5.0
"""How often a text that waits looks whether another node has it."""
MODEM: Final = "mesh"
"""What is told instead of a modem's name."""


class Elsewhere:
    """Hands texts over, and knows which were taken. ``kept`` is the bucket ``mesh``, which `mesh` writes."""

    def __init__(
        self,
        node: str,
        kept: KeyValue,
        state: Callable[[], NodeState],
        publish: Callable[[Output, str], Awaitable[None]],
    ) -> None:
        self._node = node
        self._kept = kept
        self._state = state
        self._publish = publish

    async def has(self, out: OutboundSms, number: str, text: str) -> bool:
        """Whether another node has taken the text; else it is asked to, where one with a modem is in reach.
        Asking again is harmless: for a while it is the same message, and at the other node always the same
        key in its ledger."""
        if await self._kept.get(f"sms.{out.ledger_key(0)}") is not None:
            return True
        mesh = self._state().mesh
        if mesh is not None and mesh.radio == "up" and mesh.modem:
            sms = msgspec.structs.replace(out, number=number, text=text, sender_ref="", about_ref="")
            turn, passed_s = divmod(boot_s(), ASK_FOR_S)
            until = deadline_in(ASK_FOR_S - passed_s)
            packet = MeshPacket(node=self._node, lane="flash", query_id=out.query_id, until=until, sms=sms)
            kind = f"mesh-{out.kind}-{boot_id()}-{turn:.0f}"
            asked = Output(names.MESH_OUT, "flash", packet, out.query_id, kind, out.ordinal, optional=True)
            await self._publish(asked, "sms")
        return False
