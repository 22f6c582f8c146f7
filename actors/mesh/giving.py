"""Gives another node what leads from its texts to those of this one, a message at a time, in spare air."""

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Callable
from typing import Final

from actors._bundles.arrive import Terms
from actors._bundles.delta import MAX_OCTETS, NOWHERE, Standing, read, standing, write
from actors._bundles.manifest import BundleRefusedError, bare_signature
from actors._bundles.versions import MANIFEST, Applied, Versions
from actors.mesh.payload import Because, Codec, NotGiven, Piece, Wanted
from actors.mesh.spare import SpareAir
from subjects.errors import ConfigError

log = logging.getLogger("evy.mesh")

LOOK_S: Final = 5.0
"""How often it is looked whether the air is idle now, by this machine's clock."""
PATIENCE_S: Final = 4 * 3600.0
"""So long a node that asked is remembered while the air is not idle; it asks again before that."""
ASKING: Final = 8
"""Nodes whose wishes wait at once; one costs some 500 octets."""
PIECE_HEAD_OCTETS: Final = 9


def id_of(delta: bytes) -> bytes:
    """What a delta is called on the air."""
    return hashlib.sha256(delta).digest()[:4]


class Giver:
    """What this node gives others."""

    def __init__(
        self, versions: Versions, terms: Terms, codec: Codec, air: SpareAir, tell: Callable[..., None]
    ) -> None:
        """``tell`` emits an event: kind, peer, fields."""
        self._versions = versions
        self._terms = terms
        self._codec = codec
        self._air = air
        self._tell = tell
        self._wishes: dict[int, tuple[Wanted, float]] = {}
        self._asked = asyncio.Event()
        self._last: tuple[tuple[bytes, str, tuple[str, ...]], bytes] = ((b"", "", ()), b"")
        """The delta that was made last, and of what: a node that asks again costs no second one."""
        self.counters: Counter[str] = Counter()

    def asked(self, peer: int, wanted: Wanted) -> None:
        """A node asks; the newest wish of each counts, and too many are as if they had not come."""
        if peer in self._wishes or len(self._wishes) < ASKING:
            self._wishes[peer] = (wanted, self._air.now_s())
            self._asked.set()
        else:
            self.counters["texts_not_heard"] += 1

    async def run(self) -> None:
        """Gives one node after the other, for ever."""
        while True:
            await self._asked.wait()
            while self._wishes:
                peer, (wanted, at_s) = next(iter(self._wishes.items()))
                await self._give(peer, wanted, at_s)
                if self._wishes.get(peer) == (wanted, at_s):
                    del self._wishes[peer]
            self._asked.clear()

    async def _give(self, peer: int, wanted: Wanted, at_s: float) -> None:
        version, delta = await asyncio.to_thread(self._delta, wanted)
        if isinstance(delta, str):
            await self._refuse(peer, at_s, NotGiven(delta, version, 0))
            return
        if len(delta) > MAX_OCTETS or self._airtime_s(len(delta)) > self._air.of_day_s():
            await self._refuse(peer, at_s, NotGiven("too_large", version, len(delta)))
            return
        name = id_of(delta)
        offset = wanted.offset if wanted.delta == name else 0
        if self._airtime_s(len(delta) - offset) > self._air.left_s():
            await self._refuse(peer, at_s, NotGiven("spent", version, 0))
            return
        self._tell("mesh_texts_given", peer, version=version, octets=len(delta), offset=offset)
        while offset < len(delta):
            if self._wishes.get(peer) != (wanted, at_s):
                return  # it asks for something else by now
            piece = delta[offset : offset + self._piece_octets]
            if not await self._sent(peer, at_s, self._codec.piece(Piece(name, len(delta), offset, piece))):
                return
            offset += len(piece)

    async def _sent(self, peer: int, at_s: float, payload: bytes) -> bool:
        """Whether the other node has it; tried as long as it only had to give way."""
        while await self._idle(at_s):
            state = await self._air.send(peer, payload)
            self._air.spend(len(payload))
            self.counters[f"texts_{state}"] += 1
            if state != "gave_way":
                return state == "delivered"
        return False

    async def _idle(self, at_s: float) -> bool:
        """Waits until the air is; False when that took too long."""
        while self._air.why_not():
            if self._air.now_s() - at_s > PATIENCE_S:
                return False
            await asyncio.sleep(LOOK_S)
        return True

    async def _refuse(self, peer: int, at_s: float, said: NotGiven) -> None:
        self._tell("mesh_texts_not_given", peer, reason=said.because, version=said.version, octets=said.total)
        self.counters[f"texts_{said.because}"] += 1
        if await self._idle(at_s):
            await self._air.send(peer, self._codec.not_given(said))

    @property
    def _piece_octets(self) -> int:
        return self._air.message_octets - PIECE_HEAD_OCTETS

    def _airtime_s(self, octets: int) -> float:
        """Of all messages for so much of a delta."""
        whole, rest = divmod(octets, self._piece_octets)
        last_s = self._air.airtime_s(rest + PIECE_HEAD_OCTETS) if rest else 0.0
        return whole * self._air.airtime_s(self._air.message_octets) + last_s

    def _delta(self, wanted: Wanted) -> tuple[int, bytes | Because]:
        """What leads from the other node's texts to those here, and their version. In a thread: it reads all
        texts of two versions."""
        current = self._versions.current()
        if current is None:
            return 0, "not_here"
        regions = frozenset(wanted.regions)
        made_of = (wanted.base, current.name, tuple(sorted(regions)))
        if self._last[0] == made_of:
            return current.version, self._last[1]
        try:
            target = standing(self._versions, current, regions)
            if target is None:
                return current.version, "not_here"
            delta = self._made(self._base(wanted.base, regions), target, current, regions)
        except (BundleRefusedError, ConfigError, OSError) as error:
            log.warning("version %d cannot be given on: %s", current.version, error)
            return current.version, "not_here"
        self._last = made_of, delta
        return current.version, delta

    def _base(self, name: bytes, regions: frozenset[str]) -> Standing:
        """What the other node has, as far as it is kept here; else it is given everything."""
        if name == NOWHERE.name:
            return NOWHERE
        kept = (standing(self._versions, one, regions) for one in reversed(self._versions.kept()))
        return next((one for one in kept if one and one.name == name), NOWHERE)

    def _made(self, base: Standing, target: Standing, current: Applied, regions: frozenset[str]) -> bytes:
        sealed = (current.folder / MANIFEST).read_bytes()
        delta = write(base, target, bare_signature(sealed, self._terms.key))
        if len(delta) <= MAX_OCTETS:
            read(delta, base, regions, self._terms.key)  # nobody is given what would be refused
        return delta
