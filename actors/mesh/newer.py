"""Newer texts at another node: which there are, asking one node for what is new in them, and taking it.

Nodes tell which version they have by the rules of RFC 6206 (Trickle): rarely while all have the same, soon
when somebody has an older one, and not when another one just said it. What comes is held against the centre's
signature and goes through the same hands as what comes over the link or on a stick.
"""

import asyncio
import contextlib
import hashlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from actors._bundles.arrive import Came, Check, Terms, apply, is_held, no_packs
from actors._bundles.check import tried
from actors._bundles.delta import MAX_OCTETS, NOWHERE, Standing, read, standing
from actors._bundles.manifest import BundleRefusedError, BundleWaitError
from actors._bundles.settings import SyncConfig
from actors._bundles.versions import Versions, replace_file
from actors.mesh.giving import id_of
from actors.mesh.payload import Codec, NotGiven, Piece, Version, Wanted
from actors.mesh.spare import DAY_S, SpareAir
from subjects.errors import ConfigError
from subjects.mesh import MeshTexts
from subjects.node_state import NodeState

log = logging.getLogger("evy.mesh")

LOOK_S: Final = 5.0
"""How often is looked what to do, by this machine's clock."""
LEAST_S: Final = 600.0
MOST_S: Final = DAY_S
"""Interval in which one node of those that have the same version tells it: it doubles from the first to the
second. These and the following are seconds by the radio's clock."""
PATIENCE_S: Final = 1800.0
"""Without a piece for so long it is asked again, and another node first. Doubles for each time in vain."""
FAR_AFTER_S: Final = 3600.0
"""A node that is no neighbour is asked when no neighbour had the texts for so long: they come nearer by
themselves, and each hop is everybody's air."""
LATER_S: Final = 6 * 3600.0
"""A node whose air of the day is used is asked again after this."""
BLAMED_S: Final = DAY_S
"""A node that gave what the centre did not sign is asked nothing for so long."""
AGAIN_S: Final = 300.0
"""After the card could not take it, or somebody else applied a version."""
NODES: Final = 254
"""Whose versions are remembered: all addresses, some 300 octets each."""


@dataclass
class _Offer:
    """What another node has."""

    version: int
    name: bytes
    since_s: float
    tries: int = 0
    from_s: float = 0.0
    """It is not asked before."""
    why_not: NotGiven | None = None


class _Coming(msgspec.Struct):
    """A delta as far as it is here; on the card as it is."""

    version: int
    base: bytes
    id: bytes
    total: int
    pieces: dict[int, bytes] = msgspec.field(default_factory=dict)
    givers: list[int] = msgspec.field(default_factory=list)

    @property
    def have(self) -> int:
        """Octets from the beginning without a gap."""
        at = 0
        while (piece := self.pieces.get(at)) is not None:
            at += len(piece)
        return at

    @property
    def octets(self) -> bytes:
        """Those."""
        whole, at = b"", 0
        while (piece := self.pieces.get(at)) is not None:
            whole, at = whole + piece, at + len(piece)
        return whole


@dataclass(frozen=True)
class _Mine:
    """What is here."""

    version: int
    highest: int
    name: bytes
    held: str

    def is_newer(self, offer: _Offer) -> bool:
        """Whether the offer is of use here."""
        return offer.version > self.highest and not self.held.startswith(offer.name.hex())


@dataclass
class _Trickle:
    """When this node tells what it has."""

    chance: random.Random
    interval_s: float = LEAST_S
    ends_s: float = 0.0
    at_s: float | None = 0.0
    heard: int = 0
    hurried_s: float = float("-inf")

    def begin(self, now_s: float, interval_s: float) -> None:
        self.interval_s = interval_s
        self.ends_s = now_s + interval_s
        self.at_s = now_s + interval_s * self.chance.uniform(0.5, 1.0)
        self.heard = 0

    def hurry(self, now_s: float, *, near: bool) -> None:
        """Somebody has less. Its neighbours say what they have before all others, who then need not: from a
        neighbour it comes at the cost of one hop."""
        if now_s - self.hurried_s >= LEAST_S:
            self.begin(now_s, LEAST_S)
            self.hurried_s = now_s
            if near:
                self.at_s = now_s + LEAST_S * self.chance.uniform(0.25, 0.5)

    def is_due(self, now_s: float) -> bool:
        if now_s >= self.ends_s:
            self.begin(now_s, min(2 * self.interval_s, MOST_S))
        return self.at_s is not None and now_s >= self.at_s and not self.heard


@dataclass
class _Asked:
    """Whom we asked, and when something came last."""

    peer: int
    at_s: float


@dataclass
class Newer:
    """One node's part in it."""

    versions: Versions
    terms: Terms
    config: SyncConfig
    codec: Codec
    air: SpareAir
    state: Callable[[], NodeState]
    unix: Callable[[], float]
    tell: Callable[..., None]
    """Emits an event: kind, peer, fields."""
    chance: random.Random = field(default_factory=random.Random)
    check: Check = tried
    counters: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._file = self.versions.directory / "mesh.delta"
        self._centre = hashlib.sha256(self.terms.key.encode()).digest()[:4]
        self._offers: dict[int, _Offer] = {}
        self._blamed: dict[int, float] = {}
        self._asked: _Asked | None = None
        self._asking: asyncio.Task[None] | None = None
        self._coming = self._kept()
        self._mine = _Mine(0, 0, bytes(4), "")
        self._trickle = _Trickle(self.chance)
        self._trickle.begin(self.air.now_s(), LEAST_S)
        self._apply_from_s = 0.0
        self._why = ""
        self._taking = asyncio.Lock()

    # What comes.

    def heard(self, peer: int, said: Version) -> None:
        """Another node tells which texts it has."""
        if said.centre != self._centre:
            self.counters["texts_of_another_centre"] += 1
            return
        now_s, mine = self.air.now_s(), self._mine
        if (said.version, said.name) == (mine.version, mine.name):
            self._trickle.heard += 1
        elif said.version < mine.version:
            self._trickle.hurry(now_s, near=any(way[:2] == (peer, 1) for way in self.air.ways()))
        known = self._offers.get(peer)
        if known and (known.version, known.name) == (said.version, said.name):
            return
        self._offers.pop(peer, None)
        if len(self._offers) < NODES:
            self._offers[peer] = _Offer(said.version, said.name, now_s)

    def not_given(self, peer: int, said: NotGiven) -> None:
        """The node that was asked gives nothing, and says why."""
        offer = self._offers.get(peer)
        if offer is None or self._asked is None or self._asked.peer != peer:
            self.counters["texts_unasked"] += 1
            return
        self._asked = None
        offer.why_not = said
        offer.from_s = self.air.now_s() + (LATER_S if said.because == "spent" else MOST_S)

    async def piece(self, peer: int, said: Piece) -> None:
        """A piece of a delta, kept on the card."""
        async with self._taking:
            await self._piece(peer, said)

    async def _piece(self, peer: int, said: Piece) -> None:
        if self._asked is None or self._asked.peer != peer or peer in self._blamed:
            self.counters["texts_unasked"] += 1
            return
        if said.total > MAX_OCTETS:
            self._blame([peer], f"a delta of {said.total} octets")
            return
        coming = self._coming
        if coming is None or (coming.id, coming.total) != (said.delta, said.total):
            base, offer = await asyncio.to_thread(self._standing), self._offers.get(peer)
            version = offer.version if offer else 0
            coming = self._coming = _Coming(version, base.name, said.delta, said.total)
        self._asked.at_s = self.air.now_s()
        if said.offset in coming.pieces:
            return
        coming.pieces[said.offset] = said.octets
        if peer not in coming.givers:
            coming.givers.append(peer)
        with contextlib.suppress(BundleWaitError, OSError):  # the card is full: what is here is in memory
            await asyncio.to_thread(self._keep, coming)

    # What is done, look by look.

    async def run(self) -> None:
        """Looks every few seconds, for ever."""
        try:
            while True:
                await self._looked()
                await asyncio.sleep(LOOK_S)
        finally:
            if self._asking:
                self._asking.cancel()

    async def _looked(self) -> None:
        try:
            await self.look()
        except (BundleWaitError, ConfigError, OSError) as error:
            if str(error) != self._why:
                self._why = str(error)
                log.warning("newer texts wait: %s", error)
            self._apply_from_s = self.air.now_s() + AGAIN_S

    async def look(self) -> None:
        """Once. Raises :class:`BundleWaitError` when what came cannot be taken now."""
        now_s = self.air.now_s()
        self._mine = await asyncio.to_thread(self._read_mine)
        if self._coming and self._coming.have >= self._coming.total and now_s >= self._apply_from_s:
            await self._take(self._coming)
            return
        if self._coming and self._coming.version <= self._mine.highest:
            self._drop()  # it came another way meanwhile
        if self._trickle.is_due(now_s) and not self.air.why_not():
            self._trickle.at_s = None
            self.counters["texts_told"] += 1
            said = Version(self._centre, self._mine.version, self._mine.name)
            await self.air.send(None, self.codec.version(said))
        if peer := self._whom(now_s):
            await self._ask(peer)

    def _whom(self, now_s: float) -> int | None:
        """Whom to ask now; None: nobody, or not now."""
        if self._asked and now_s - self._asked.at_s > PATIENCE_S:
            self._in_vain(self._asked.peer, now_s)
        if self._asked or self.state().link == "up" or not self._is_time() or self.air.why_not():
            return None
        ways = {way.destination: way for way in self.air.ways()}
        found = []
        for peer, offer in self._newer(now_s).items():
            way = ways.get(peer)
            far = way is None or way.hops > 1
            if way and now_s >= offer.from_s and not (far and now_s - offer.since_s < FAR_AFTER_S):
                found.append((offer.tries, way.cost, peer))
        return min(found)[2] if found else None

    def _newer(self, now_s: float) -> dict[int, _Offer]:
        """Who has newer texts and is believed."""
        self._blamed = {peer: until_s for peer, until_s in self._blamed.items() if until_s > now_s}
        return {
            peer: offer
            for peer, offer in self._offers.items()
            if peer not in self._blamed and self._mine.is_newer(offer)
        }

    def _is_time(self) -> bool:
        local = time.localtime(self.unix())
        known = self.state().clock != "unset"
        return self.config.is_time(local.tm_hour * 60 + local.tm_min if known else None)

    async def _ask(self, peer: int) -> None:
        base = await asyncio.to_thread(self._standing)
        coming = self._coming
        if coming and coming.base != base.name:
            self._drop()
            coming = None
        delta, offset = (coming.id, coming.have) if coming else (bytes(4), 0)
        regions = tuple(sorted(self.terms.regions))
        wanted = Wanted(base.name, self._offers[peer].version, delta, offset, regions)
        asked = self._asked = _Asked(peer, self.air.now_s())
        self.counters["texts_asked"] += 1
        self.tell("mesh_texts_asked", peer, version=wanted.version, offset=offset)
        self._asking = asyncio.create_task(self._sent(asked, self.codec.wanted(wanted)))
        await asyncio.wait([self._asking], timeout=LOOK_S)  # its receipt may take longer than all else here

    async def _sent(self, asked: _Asked, payload: bytes) -> None:
        since_s = asked.at_s
        state = await self.air.send(asked.peer, payload)
        if self._asked is asked and asked.at_s == since_s:  # else a piece came meanwhile
            if state == "gave_way":
                self._asked = None
            elif state != "delivered":
                self._in_vain(asked.peer, self.air.now_s())

    def _in_vain(self, peer: int, now_s: float) -> None:
        """A node that was asked says nothing any more: others come first, and what is here stays."""
        self._asked = None
        self.counters["texts_in_vain"] += 1
        if self._asking and self._asking is not asyncio.current_task():
            self._asking.cancel()
        if offer := self._offers.get(peer):
            offer.from_s = now_s + PATIENCE_S * 2 ** min(offer.tries, 5)
            offer.tries += 1

    async def _take(self, coming: _Coming) -> None:
        """What came, through the same hands as a bundle from link or stick."""
        self._asked = None
        base = await asyncio.to_thread(self._standing)
        if base.name != coming.base:  # the link or a stick brought something meanwhile
            self._drop()
            return
        try:
            sealed, trees = await asyncio.to_thread(self._proven, coming, base)
        except BundleRefusedError as error:
            self._drop()
            self._blame(coming.givers, str(error))
            return
        if is_held(self.versions.state(), sealed, self.terms.key):
            self._drop()
            return
        entry = await apply(
            self.versions,
            sealed,
            self.terms,
            no_packs,
            by="mesh",
            now=self.unix(),
            check=self.check,
            came=Came(trees, coming.total),
        )
        self._drop()
        self._why = ""
        self.counters[f"texts_{entry.what if entry else 'here'}"] += 1
        self._mine = await asyncio.to_thread(self._read_mine)
        self._trickle.begin(self.air.now_s(), LEAST_S)

    def _proven(self, coming: _Coming, base: Standing) -> tuple[bytes, dict[str, dict[str, bytes]]]:
        """The sealed manifest that it leads to, with the files. Raises :class:`BundleRefusedError`."""
        octets = coming.octets
        if len(octets) != coming.total or id_of(octets) != coming.id:
            raise BundleRefusedError("its pieces do not belong together")
        try:
            sealed, manifest, trees = read(octets, base, self.terms.regions, self.terms.key)
        except BundleRefusedError as error:
            try:  # a giver that does not keep what is here gives everything, if that is little
                sealed, manifest, trees = read(octets, NOWHERE, self.terms.regions, self.terms.key)
            except BundleRefusedError:
                raise error from None
        if manifest.version <= self._mine.highest:
            raise BundleRefusedError(f"downgrade: version {manifest.version}, {self._mine.highest} was here")
        return sealed, trees

    def _blame(self, peers: list[int], reason: str) -> None:
        """What one node gave is not what the centre signed. Of several nobody knows which one it was: each is
        asked later, and alone."""
        self._asked = None
        self.counters["texts_forged"] += 1
        now_s = self.air.now_s()
        for peer in peers:
            if len(peers) == 1:
                self._blamed[peer] = now_s + BLAMED_S
            elif offer := self._offers.get(peer):
                offer.from_s, offer.tries = now_s + PATIENCE_S, offer.tries + 1
            self.tell("mesh_texts_refused", peer, reason=reason)

    # What is here.

    def _read_mine(self) -> _Mine:
        current, state = self.versions.current(), self.versions.state()
        name = bytes.fromhex(current.name)[:4] if current else bytes(4)
        return _Mine(current.version if current else 0, state.highest, name, state.held)

    def _standing(self) -> Standing:
        return standing(self.versions, self.versions.current(), self.terms.regions) or NOWHERE

    def _kept(self) -> _Coming | None:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.msgpack.decode(self._file.read_bytes(), type=_Coming)
        return None

    def _keep(self, coming: _Coming) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._file, msgspec.msgpack.encode(coming))

    def _drop(self) -> None:
        self._coming = None
        self._file.unlink(missing_ok=True)

    # What a person is told.

    def status(self, names: Callable[[int], str]) -> MeshTexts:
        """Which texts are here and which elsewhere; ``names`` gives a node's name by its address."""
        mine, now_s = self._mine, self.air.now_s()
        newer = self._newer(now_s)
        fields: dict[str, Any] = {"version": mine.version, "sent_s": self.air.of_day_s() - self.air.left_s()}
        if not newer:
            return MeshTexts(**fields)
        peer = max(newer, key=lambda peer: (newer[peer].version, newer[peer].why_not is None))
        refusals = [offer.why_not for offer in newer.values() if offer.why_not]
        by_stick = len(refusals) == len(newer) and all(one.because != "spent" for one in refusals)
        coming = self._coming
        return MeshTexts(
            **fields,
            newer=newer[peer].version,
            peer=peer,
            name=names(peer),
            octets=coming.have if coming else 0,
            of=coming.total if coming else max((one.total for one in refusals), default=0),
            by_stick=by_stick and coming is None,
            reason=self._why or self.air.why_not(),
        )
