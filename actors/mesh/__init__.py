"""Actor ``mesh``: carries messages to and from other nodes by LoRa radio, when the network is gone.

Consumes ``mesh.out``, which other actors write, and ``mesh.in``, which its own radio writes. What it holds
for others, and its counters, are in one file; everything else is in streams and the bucket ``mesh``.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import msgspec
from evy_core import MeshArrival, MeshError, MeshNeighbour, MeshNode, MeshRoute, Router

from actors._bundles.arrive import Terms
from actors._bundles.settings import SyncConfig, terms_of
from actors._bundles.versions import Versions
from actors._people.cases import NEIGHBOUR
from actors._roster.installed import Installed, NotJoinedError, open_network
from actors._runtime import clock
from actors._runtime.actor import Actor, KeyValue, Output
from actors._runtime.bus import BusError
from actors._runtime.context import Context
from actors.knowledge import Texts, packer, route_rules
from actors.mesh.config import MeshConfig
from actors.mesh.giving import Giver
from actors.mesh.inward import Inward
from actors.mesh.keep import EPOCH, Keep, LostError
from actors.mesh.loop import Loop
from actors.mesh.needs import NeedsBoard
from actors.mesh.newer import Newer
from actors.mesh.outward import Outward, Route
from actors.mesh.parts import Parts
from actors.mesh.parts import core as make_core
from actors.mesh.payload import Codec, NotGiven, OfTexts, Piece, Wanted
from actors.mesh.radio import RadioFacts
from actors.mesh.schedule import Schedule
from actors.mesh.spare import SpareAir
from subjects import names
from subjects.errors import ConfigError
from subjects.mesh import MeshNeighbourSeen, MeshPacket, MeshRouteSeen, MeshStatus, MeshStatusRequest
from subjects.messages import Event
from subjects.node_state import MeshState, NodeState

__all__ = ["Mesh", "MeshConfig", "Parts", "build"]

log = logging.getLogger("evy.mesh")

LOOK_EVERY_S: Final = 5.0
"""How often the core is told of battery, link and modems, and others of what changed on the mesh."""
TELL_EVERY_S: Final = 60.0
"""How often the mesh is an event although nothing changed."""
BUSY_PERCENT: Final = 50.0
"""From this share of the lawful airtime on, needs are not shared."""
Task = Callable[[], Coroutine[Any, Any, None]]
NO_TEXTS: Final = Texts([], {}, [], [], {})
"""Nothing goes by its name: a node with the same texts has found by itself what another would name."""
NEEDS_LEAST_S: Final = 300.0
"""Needs are looked at so long after the start: what a restart forgot is not told as none."""


class Mesh:
    """The actor of a node with a radio."""

    def __init__(
        self,
        context: Context,
        config: MeshConfig,
        network: Installed,
        *,
        parts: Parts,
        kept: KeyValue,
        masked: KeyValue,
        codec: Codec,
        terms: Terms | None = None,
    ) -> None:
        """``terms``: whose texts are given and taken; None: nobody's."""
        self._context = context
        self._config = config
        self._network = network
        self._parts = parts
        self._node = context.identity.node
        self._state = context.node_state()
        self._router = Router(route_rules())
        [self._flash_only_below, *_], _ = self._router.battery_limits
        self._schedule = Schedule(network.known, parts.now_us() / 1e6, context.now())
        self._needs = NeedsBoard(config.place or self._node, clock.boot_s)
        self.loop = Loop(
            make_radio=lambda: parts.make_radio(self._tuned(), config),
            begin=self._begin,
            store=self._store,
            told=self._radio_changed,
            now_us=parts.now_us,
            tune=self._tune,
        )
        self.inward = Inward(
            node=self._node,
            codec=codec,
            kept=kept,
            masked=masked,
            needs=self._needs,
            tell=self._tell,
            node_only=context.config.node.node_only,
            texts=self._take_texts,
        )
        self.outward = Outward(
            codec=codec,
            loop=self.loop,
            kept=kept,
            routes=self._routes,
            only_flash=lambda: self._flash_only(self._state()),
            own=network.address,
            tell=self._tell,
        )
        self._newer: Newer | None = None
        self._giver: Giver | None = None
        if terms:
            self._newer, self._giver = self._texts(terms, codec)
        self._told: MeshState | None = None
        self._told_at_s = float("-inf")

    # The core and the radio.

    def _begin(self, facts: RadioFacts) -> tuple[MeshNode, Keep]:
        """The core, with what was kept; one whose file is lost begins with counters far ahead."""
        keep = Keep(self._network.folder, self._network.network, self._network.address)
        start, now_us = keep.start(self._unix()), self._parts.now_us()
        try:
            core = make_core(self._tuned(), facts, start.state, start.lost_s, now_us)
        except MeshError as error:
            if not start.state:
                raise LostError(str(error)) from error
            start = keep.lost(f"the counters cannot be read ({error})", self._unix())
            core = make_core(self._tuned(), facts, b"", start.lost_s, now_us)
        if start.why:
            log.error("%s; counting goes on far ahead", start.why)
            self._emit("mesh_counters_lost", reason=start.why)
        return core, keep

    def _tuned(self) -> Installed:
        """The network with the spreading factor that is in use now."""
        return msgspec.structs.replace(self._network, spreading_factor=self._schedule.spreading_factor)

    def _tune(self, core: MeshNode) -> int | None:
        """Sets the core to another spreading factor when the schedule says so, and gives it for the radio."""
        before, now_us = self._schedule.spreading_factor, self._parts.now_us()
        heard_us = max((one.heard_us for one in core.neighbours(now_us)), default=None)
        tuning = self._schedule.next(
            now_us / 1e6,
            self._context.now(),
            None if heard_us is None else heard_us / 1e6,
            known=self._unix() is not None,
            urgent=bool(self.loop.waiting.get("flash")),
        )
        if tuning is None:
            return None
        wanted = tuning.spreading_factor
        try:
            core.tune(wanted, now_us, tuning.listen)
        except MeshError as error:  # the operator's machine asks the same core before it signs
            self._schedule.stay_on(before)
            log.error("the mesh is to use SF%d, and this radio cannot: %s", wanted, error)
            self._emit("mesh_not_tuned", spreading_factor=wanted, reason=str(error))
            return None
        log.info("SF%d instead of SF%d: %s", wanted, before, tuning.why)
        self._emit("mesh_tuned", spreading_factor=wanted, before=before, why=tuning.why)
        self._told_at_s = float("-inf")
        return wanted

    def _unix(self) -> float | None:
        """The time, unless the node says that it does not know it."""
        known = self._state()
        now = self._context.now()
        return None if (known.at and known.clock == "unset") or now < EPOCH else now

    async def _store(self, arrival: MeshArrival) -> None:
        packet = MeshPacket(
            node=self._node,
            lane=arrival.lane,
            peer=arrival.source,
            network=self._network.network,
            id=arrival.id,
            payload=arrival.payload,
            broadcast=arrival.broadcast,
        )
        name = f"mesh.{packet.network}.{packet.peer}.{packet.id}"
        await self._context.publish(Output(names.MESH_IN, arrival.lane, packet, name), "mesh")

    def _radio_changed(self, trouble: str) -> None:
        self._emit("mesh_radio_down" if trouble else "mesh_radio_up", reason=trouble)
        self._told_at_s = float("-inf")

    def _routes(self) -> list[Route]:
        core = self.loop.core
        found = core.routes(self._parts.now_us()) if core else []
        return [Route(one.destination, one.cost, one.uplink, one.modem, one.model) for one in found]

    # The centre's texts.

    def _texts(self, terms: Terms, codec: Codec) -> tuple[Newer, Giver]:
        config = self._context.config.section("sync", SyncConfig)
        air = SpareAir(
            loop=self.loop,
            now_us=self._parts.now_us,
            state=self._state,
            spreading_factor=self._network.spreading_factor,
            battery_from=config.battery_from,
            day_s=self._config.give_texts_s,
        )
        versions = Versions(self._context.config.node.directory)
        newer = Newer(
            versions=versions,
            terms=terms,
            config=config,
            codec=codec,
            air=air,
            state=self._state,
            unix=self._context.now,
            tell=self._tell_of,
        )
        return newer, Giver(versions, terms, codec, air, self._tell_of)

    async def _take_texts(self, peer: int, said: OfTexts) -> None:
        if self._newer is None or self._giver is None:
            return
        if isinstance(said, Wanted):
            self._giver.asked(peer, said)
        elif isinstance(said, Piece):
            await self._newer.piece(peer, said)
        elif isinstance(said, NotGiven):
            self._newer.not_given(peer, said)
        else:
            self._newer.heard(peer, said)

    # What is told.

    def _flash_only(self, state: NodeState) -> bool:
        percent = state.battery_rule_percent
        return percent is not None and percent < self._flash_only_below

    def _has_uplink(self, state: NodeState) -> bool:
        """Whether others may ask the centre through this node."""
        return state.link == "up" and not self._context.config.node.node_only

    def _has_model(self, state: NodeState) -> bool:
        """Whether a small model is there, and battery and memory let it run."""
        return state.model is True and not self._router.model_obstacle(
            battery_percent=state.battery_rule_percent, free_memory_mb=state.memory_rule_mb
        )

    async def look(self) -> None:
        """Once: tells the core of this node, and this node of the mesh."""
        state = self._state()
        if self.loop.core:
            self.loop.core.set_status(
                battery_percent=_whole(state.battery_percent),
                uplink=self._has_uplink(state),
                modem=_has_modem(state),
                model=self._has_model(state),
                flash_only=self._flash_only(state),
            )
        mesh = self.mesh_state()
        due = clock.boot_s() - self._told_at_s >= TELL_EVERY_S
        if due or _differs(mesh, self._told):
            self._told, self._told_at_s = mesh, clock.boot_s()
            fields = {name: getattr(mesh, name) for name in mesh.__struct_fields__}
            self._emit("mesh_state", **fields)

    async def watch(self) -> None:
        """Looks every few seconds, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    def mesh_state(self) -> MeshState:
        """What the rest of this node decides by."""
        core, now_us = self.loop.core, self._parts.now_us()
        if core is None or self.loop.trouble:
            return MeshState(radio="down")
        routes, airtime = self._routes(), core.airtime(now_us)
        share = 100 * airtime.used_us / airtime.limit_us if airtime.limit_us else None
        return MeshState(
            radio="up",
            neighbours=len(core.neighbours(now_us)),
            uplink=any(route.uplink for route in routes),
            modem=any(route.modem for route in routes),
            model=any(route.model for route in routes),
            airtime_percent=None if share is None else round(share, 1),
        )

    async def share_needs(self) -> None:
        """Tells everybody now and then how many people here lack what, while there is air to spare."""
        await asyncio.sleep(min(NEEDS_LEAST_S, self._config.share_needs_s))
        while True:
            own, mesh = self._needs.own(), self.mesh_state()
            if own.counts and mesh.radio == "up" and (mesh.airtime_percent or 0.0) < BUSY_PERCENT:
                name = f"needs.{clock.boot_id()}.{clock.boot_s():.0f}"
                until = clock.deadline_in(self._config.share_needs_s)
                packet = MeshPacket(node=self._node, lane="routine", until=until, needs=own)
                told = Output(names.MESH_OUT, "routine", packet, name, optional=True)
                with contextlib.suppress(BusError):  # the next hour's counts come
                    await self._context.publish(told, "mesh")
            await asyncio.sleep(self._config.share_needs_s)

    async def triaged(self, event: Event) -> None:
        """Counts what people here need."""
        needs = event.fields.get("needs")
        if isinstance(needs, list) and not event.sender_ref.startswith(NEIGHBOUR):
            self._needs.count([need for need in needs if isinstance(need, str)])

    async def status(self, _: MeshStatusRequest) -> MeshStatus:
        """The service ``mesh.status``."""
        core, now_us, net, state = self.loop.core, self._parts.now_us(), self._network, self._state()
        facts, planned = self.loop.facts, net.known.planned
        status = MeshStatus(
            radio="down" if self.loop.trouble else "up",
            name=facts.name if facts else "",
            reason=self.loop.trouble,
            cannot_know=facts.cannot_know if facts else (),
            network=net.network,
            number=net.number,
            address=net.address,
            region=net.region,
            frequency_hz=net.frequency_hz,
            spreading_factor=self._schedule.spreading_factor,
            agreed_spreading_factor=net.known.holds_at(self._context.now()),
            planned_spreading_factor=planned.spreading_factor if planned else 0,
            planned_at=planned.at if planned else 0.0,
            looking=self._schedule.looking,
            uplink=self._has_uplink(state),
            modem=_has_modem(state),
            model=self._has_model(state),
            flash_only=self._flash_only(state),
            waiting=self.loop.waiting,
            needs=self._needs.all(),
            texts=self._newer.status(lambda peer: net.names.get(peer, "")) if self._newer else None,
        )
        if core is None:
            return status
        airtime = core.airtime(now_us)
        return msgspec.structs.replace(
            status,
            neighbours=tuple(self._neighbour(one, now_us) for one in core.neighbours(now_us)),
            routes=tuple(self._route(one) for one in core.routes(now_us)),
            airtime_used_ms=airtime.used_us / 1e3,
            airtime_limit_ms=airtime.limit_us / 1e3,
            airtime_window_s=airtime.window_us / 1e6,
            waits_s={
                lane: max(0.0, (until_us - now_us) / 1e6) for lane, until_us in airtime.waits_until_us.items()
            },
            counters=self._counters(core),
        )

    def _counters(self, core: MeshNode) -> dict[str, int]:
        actor = self.loop.counters + self.inward.counters + self.outward.counters
        if self._newer and self._giver:
            actor += self._newer.counters + self._giver.counters
        return {
            **core.counters(),
            **{f"radio_{name}": count for name, count in self.loop.radio_counters.items()},
            **{f"actor_{name}": count for name, count in actor.items()},
        }

    def _neighbour(self, one: MeshNeighbour, now_us: int) -> MeshNeighbourSeen:
        return MeshNeighbourSeen(
            address=one.address,
            rssi_dbm=one.rssi_dbm,
            snr_db=one.snr_db,
            delivery_out=one.delivery_out,
            delivery_in=one.delivery_in,
            heard_s_ago=max(0.0, (now_us - one.heard_us) / 1e6),
            name=self._network.names.get(one.address, ""),
        )

    def _route(self, one: MeshRoute) -> MeshRouteSeen:
        return MeshRouteSeen(
            destination=one.destination,
            next_hop=one.next_hop,
            hops=one.hops,
            cost=one.cost,
            uplink=one.uplink,
            modem=one.modem,
            model=one.model,
            battery_percent=one.battery_percent,
            name=self._network.names.get(one.destination, ""),
        )

    def _tell(self, kind: str, packet: MeshPacket, **fields: object) -> None:
        """An event about one message; who sent it, where it came from."""
        peer = {"peer": packet.peer, "name": self._network.names.get(packet.peer, "")} if packet.peer else {}
        self._emit(kind, packet, **{**peer, **fields})

    def _tell_of(self, kind: str, peer: int, **fields: object) -> None:
        """An event about another node."""
        self._emit(kind, None, peer=peer, name=self._network.names.get(peer, ""), **fields)

    def _emit(self, kind: str, packet: MeshPacket | None = None, **fields: object) -> None:
        self._context.emit(
            Event(
                kind=kind,
                node=self._node,
                actor="mesh",
                at=self._context.now(),
                query_id=packet.query_id if packet else "",
                sender_ref=packet.sender_ref if packet else "",
                lane=packet.lane if packet else "routine",
                fields=fields,
            )
        )

    def actor(self) -> Actor:
        """The actor, ready to run."""
        handlers = {names.MESH_OUT: self.outward.handle, names.MESH_IN: self.inward.handle}
        tasks: tuple[Task, ...] = (self.loop.run, self.watch, self.share_needs)
        if self._newer and self._giver:
            tasks = (*tasks, self._newer.run, self._giver.run)
        return Actor("mesh", handlers, tasks, services={"mesh.status": self.status})


def _whole(percent: float | None) -> int | None:
    return None if percent is None else round(min(max(percent, 0.0), 100.0))


def _has_modem(state: NodeState) -> bool:
    """A modem that answers and is not refused by the network."""
    return any(modem.state == "up" and modem.registered is not False for modem in state.modems)


def _differs(mesh: MeshState, told: MeshState | None) -> bool:
    """Whether something changed that a decision rests on."""
    if told is None:
        return True
    return msgspec.structs.replace(mesh, airtime_percent=told.airtime_percent) != told


async def build(context: Context, parts: Parts | None = None) -> Actor:
    """The actor of a node. Without ``[mesh] device``, or in no mesh, it only says of what comes that there
    is no radio. Raises :class:`ConfigError` when the keys are damaged."""
    config = context.config.section("mesh", MeshConfig)
    if not config.device:
        return _without_radio(context, "this node has no radio ([mesh] device)")
    try:
        network = open_network(context.config.node.directory)
    except NotJoinedError as error:
        log.warning("%s", error)
        return _without_radio(context, str(error))
    mesh = Mesh(
        context,
        config,
        network,
        parts=parts or Parts(),
        kept=await context.bucket("mesh"),
        masked=await context.bucket("masked"),
        codec=Codec(packer(NO_TEXTS)),
        terms=_terms(context, config),
    )
    await context.follow(("triaged",), mesh.triaged)
    return mesh.actor()


def _terms(context: Context, config: MeshConfig) -> Terms | None:
    """Whose texts are given and taken; a centre has its own. Raises :class:`ConfigError` for a key that is
    none."""
    if context.config.node.profile != "lilevy":
        return None
    known = context.config.section("sync", SyncConfig).key or context.config.node.centre
    try:
        return terms_of(context.config) if config.give_texts_s else None
    except ConfigError as error:
        if known:
            raise
        log.info("no texts by mesh: %s", error)
        return None


def _without_radio(context: Context, reason: str) -> Actor:
    async def handle(packet: MeshPacket) -> Sequence[Output]:
        context.emit(
            Event(
                kind="mesh_refused",
                node=context.identity.node,
                actor="mesh",
                at=context.now(),
                query_id=packet.query_id,
                sender_ref=packet.sender_ref,
                lane=packet.lane,
                fields={"reason": reason},
            )
        )
        return []

    async def status(_: MeshStatusRequest) -> MeshStatus:
        return MeshStatus(radio="none", reason=reason)

    handlers = {names.MESH_OUT: handle, names.MESH_IN: handle}
    return Actor("mesh", handlers, services={"mesh.status": status})
