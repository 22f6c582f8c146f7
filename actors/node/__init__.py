"""Actor ``node``: what the machine, its battery, its link and its modems are like, for every decision.

It handles no work. Every few seconds it looks at the machine, folds in what the other actors tell in events,
and writes one `NodeState` into the bucket ``node``, whose only writer it is. What crosses a limit of
``route.toml``, and what people should know, is an event; so is the state once a minute.
"""

import asyncio
import logging
import statistics
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
from evy_core import Router

from actors._runtime import clock
from actors._runtime.actor import Actor, Emit, KeyValue
from actors._runtime.bus import BusError
from actors._runtime.context import Context
from actors.knowledge import route_rules
from actors.node import board
from actors.node.gauge import Gauge, GaugeError, PowerConfig, Reading, open_gauge
from actors.node.governor import Governor
from actors.node.held import held
from actors.node.sms_time import SmsTime, set_by_network, step_system_clock
from subjects.errors import MessageError
from subjects.messages import Event, decode, encode
from subjects.node_state import MEGABYTE, STATE_KEY, MeshState, ModemState, NodeState

log = logging.getLogger("evy.node")

EVERY_S: Final = 5.0
EVENT_EVERY_S: Final = 60.0
GAUGE_SILENT_S: Final = 600.0
"""A gauge that does not answer is believed for so long: a battery that was low is not suddenly unknown."""
SMOOTHED: Final = 5
"""Readings whose median counts: a modem draws two amperes for half a second and the voltage sags."""
CLOCK_OFF_S: Final = 2.0
"""Less is not worth a step of the system's clock: texts are stamped to the second."""
MODEMS: Final = 8
"""Modems of one node at most; each costs 200 octets."""
SILENT_S: Final = 180.0
"""Mesh and model, of which nothing was heard for so long, are not known any more: their actors speak every
minute."""
FOLLOWED: Final = ("modem_state", "link_up", "link_down", "mesh_state", "model_state", "received")


class Node:
    """What the actor knows between two looks."""

    def __init__(  # noqa: PLR0917  # what it is made of
        self,
        node: str,
        look: Callable[[], board.Board],
        gauge: Gauge | None,
        router: Router,
        emit: Emit,
        open_bucket: Callable[[], Awaitable[KeyValue]],
        *,
        now: Callable[[], float] = time.time,
        boot_s: Callable[[], float] = clock.boot_s,
        by_network: Callable[[], bool] = set_by_network,
        govern: Callable[[NodeState], str] = lambda _: "",
        set_clock: Callable[[float], str] | None = None,
    ) -> None:
        """``govern`` and ``set_clock`` act on the machine and give what they did or why they could not; ""
        is nothing."""
        self._look = look
        self._gauge = gauge
        self._battery_limits = router.battery_limits
        self._memory_limits = router.memory_limits
        self._emit = emit
        self._open_bucket = open_bucket
        self._bucket: KeyValue | None = None
        self._now = now
        self._boot_s = boot_s
        self._by_network = by_network
        self._govern = govern
        self._set_clock = set_clock
        self._acts: list[str] = []
        """What was done to the machine since the last event, and what could not be; said once each."""
        self._said: set[str] = set()
        self._time = SmsTime(now() - boot_s())
        self._percents: deque[float] = deque(maxlen=SMOOTHED)
        self._mesh_at_s = self._model_at_s = boot_s()
        self._reading = Reading()
        self._read_at = float("-inf")
        self._gauge_error = ""
        self._told: NodeState | None = None
        self._told_at = float("-inf")
        self._changed = asyncio.Event()
        self.state = NodeState(node=node)

    async def resume(self) -> None:
        """Takes over what an earlier process of this actor knew of link and modems."""
        try:
            entry = await (await self._open_bucket()).get(STATE_KEY)
            if entry:
                before = decode(entry[0], NodeState)
                self.state = msgspec.structs.replace(
                    self.state,
                    link=before.link,
                    modems=before.modems,
                    mesh=before.mesh,
                    model=before.model,
                    battery_rule_percent=before.battery_rule_percent,
                    memory_rule_octets=before.memory_rule_octets,
                )
        except (BusError, MessageError) as error:
            log.warning("nothing is known of the state before: %s", error)

    async def on_event(self, event: Event) -> None:
        """Folds in what another actor tells."""
        if event.kind == "received":
            stamp = event.fields.get("smsc_at")
            if isinstance(stamp, int | float):
                moved = self._time.observe(event.query_id, float(stamp), self._boot_s())
                if moved:
                    self._changed.set()
            return
        try:
            self.state = self._folded(event)
        except msgspec.ValidationError as error:
            log.warning("an event %s that tells no state: %s", event.kind, error)
            return
        self._changed.set()

    def _folded(self, event: Event) -> NodeState:
        """The state with what an event tells. Raises :class:`msgspec.ValidationError` when it tells none."""
        if event.kind in {"link_up", "link_down"}:
            return msgspec.structs.replace(self.state, link="up" if event.kind == "link_up" else "down")
        if event.kind == "model_state":
            ready = msgspec.convert(event.fields.get("ready"), type=bool)
            self._model_at_s = self._boot_s()
            return msgspec.structs.replace(self.state, model=ready)
        if event.kind == "mesh_state":
            mesh = MeshState.of_event(event.fields)
            self._mesh_at_s = self._boot_s()
            return msgspec.structs.replace(self.state, mesh=mesh)
        told = ModemState.of_event(event.fields)
        others = [modem for modem in self.state.modems if modem.name != told.name]
        if len(others) >= MODEMS:
            return self.state
        modems = tuple(sorted((*others, told), key=lambda modem: modem.name))
        return msgspec.structs.replace(self.state, modems=modems)

    async def watch(self) -> None:
        """Looks and tells, for ever."""
        while True:
            await self.turn()
            self._changed.clear()
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def turn(self) -> NodeState:
        """Looks once, writes what it saw, and tells what changed."""
        # Off the event loop: an I²C bus or a failing card may hang for a moment.
        seen, reading = await asyncio.to_thread(lambda: (self._look(), self._read()))
        before = self.state
        limits, margin = self._memory_limits
        free_mb = None if seen.memory_free_octets is None else seen.memory_free_octets / MEGABYTE
        rule_mb = held(before.memory_rule_mb, free_mb, limits, margin)
        by_network = self._by_network()
        at, offset = self._now(), self._time.offset_s
        ahead_s = 0.0 if by_network or offset is None else offset + self._boot_s() - at
        mesh = self.state.mesh if self._boot_s() - self._mesh_at_s < SILENT_S else None
        model = self.state.model if self._boot_s() - self._model_at_s < SILENT_S else None
        self.state = msgspec.structs.replace(
            self.state,
            mesh=mesh,
            model=model,
            at=at + ahead_s,
            battery_percent=reading.percent,
            battery_rule_percent=held(before.battery_rule_percent, reading.percent, *self._battery_limits),
            charging=reading.charging,
            voltage_v=reading.voltage_v,
            draw_w=reading.draw_w,
            cpu_percent=seen.cpu_percent,
            memory_free_octets=seen.memory_free_octets,
            memory_rule_octets=None if rule_mb is None else round(rule_mb * MEGABYTE),
            temperature_c=seen.temperature_c,
            under_voltage=seen.under_voltage,
            throttled=seen.throttled,
            storage_free_octets=seen.storage_free_octets,
            clock="network" if by_network else "unset" if offset is None else "sms",
            ahead_s=ahead_s,
        )
        await self._write()
        await self._act(at)
        self._tell()
        return self.state

    async def _act(self, at: float) -> None:
        """Governor and system clock, where they are configured; each new outcome is told once."""
        done = [await asyncio.to_thread(self._govern, self.state)]
        if self._set_clock and self.state.clock == "sms" and abs(self.state.ahead_s) > CLOCK_OFF_S:
            done.append(self._set_clock(at + self.state.ahead_s))
        for act in filter(None, done):
            if act not in self._said:
                self._acts.append(act)
        self._said = set(filter(None, done)) or self._said

    def _read(self) -> Reading:
        """The gauge's reading, with the median of the last charges; the last one while it is silent."""
        if self._gauge is None:
            return Reading()
        try:
            found = self._gauge.read()
        except GaugeError as error:
            if self._gauge_error != str(error):
                log.warning("%s", error)
            self._gauge_error = str(error)
            if self._boot_s() - self._read_at > GAUGE_SILENT_S:
                self._percents.clear()
                self._reading = Reading()
            return self._reading
        self._gauge_error = ""
        self._read_at = self._boot_s()
        if found.percent is not None:
            self._percents.append(found.percent)
            found = msgspec.structs.replace(found, percent=statistics.median(self._percents))
        self._reading = found
        return found

    async def _write(self) -> None:
        try:
            if self._bucket is None:
                self._bucket = await self._open_bucket()
            await self._bucket.put(STATE_KEY, encode(self.state))
        except BusError as error:
            log.warning("the state is not written: %s", error)
            self._bucket = None  # it may have ended with the server

    def _tell(self) -> None:
        """An event for what changed, and once a minute for the curves of a dashboard."""
        told, at_s = self._told, self._boot_s()
        reasons = [*(["started"] if told is None else self._changes(told)), *self._acts]
        self._acts = []
        if not reasons and at_s - self._told_at < EVENT_EVERY_S:
            return
        self._told, self._told_at = self.state, at_s
        fields = msgspec.to_builtins(self.state)
        for name in ("v", "node", "at"):
            fields.pop(name, None)
        if self._gauge_error:
            fields["gauge_error"] = self._gauge_error
        fields["reasons"] = reasons or ["a minute has passed"]
        if reasons:
            log.info("%s", "; ".join(reasons))
        event = Event(kind="node_state", node=self.state.node, actor="node", at=self.state.at, fields=fields)
        self._emit(event)

    def _changes(self, told: NodeState) -> list[str]:
        """What is different from what was told last, each for people."""
        state = self.state
        found = [
            *crossed(
                "battery", "%", told.battery_rule_percent, state.battery_rule_percent, self._battery_limits[0]
            ),
            *crossed("free memory", "MB", told.memory_rule_mb, state.memory_rule_mb, self._memory_limits[0]),
        ]
        for name in ("charging", "under_voltage", "throttled", "link", "clock", "model"):
            before, after = getattr(told, name), getattr(state, name)
            if before != after:
                found.append(f"{name.replace('_', ' ')}: {_word(before)} -> {_word(after)}")
        if (before := _of_mesh(told.mesh)) != (after := _of_mesh(state.mesh)):
            found.append(f"mesh: {before} -> {after}")
        for modem in state.modems:
            was = next((other for other in told.modems if other.name == modem.name), None)
            if was is None or (was.state, was.registered) != (modem.state, modem.registered):
                registered = {True: ", registered", False: ", not registered", None: ""}[modem.registered]
                found.append(f"modem {modem.name}: {modem.state}{registered}")
        return found


def crossed(
    what: str, unit: str, before: float | None, after: float | None, limits: list[float]
) -> list[str]:
    """Which limits lie between two values, for people; becoming known or unknown is one line too."""
    if before is None or after is None:
        return [] if before is after else [f"{what}: {_word(before)} -> {_word(after)}"]
    return [
        f"{what} {after:.0f} {unit}: {'below' if after < limit else 'again above'} {limit:.0f} {unit}"
        for limit in limits
        if (before < limit) != (after < limit)
    ]


def _of_mesh(mesh: MeshState | None) -> str:
    """What is worth an event when it changes."""
    if mesh is None:
        return "none"
    if mesh.radio == "down":
        return "radio down"
    here = (("link", mesh.uplink), ("modem", mesh.modem), ("model", mesh.model))
    has = [word for word, known in here if known]
    return f"up, within reach: {' and '.join(has) or 'no link, modem or model'}"


def _word(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}"
    return {None: "unknown", True: "yes", False: "no"}.get(value, str(value))  # type: ignore[call-overload,no-any-return]


def actor(node: Node) -> Actor:
    """Actor of a node that was made."""

    async def watch() -> None:
        await node.resume()
        await node.watch()

    return Actor("node", {}, (watch,))


async def build(context: Context) -> Actor:
    """The actor of a node. Raises :class:`ConfigError` for a gauge that is named and not there."""
    config = context.config.section("power", PowerConfig)
    gauge = open_gauge(config)
    log.info("battery: %s", gauge.name if gauge else "no gauge: unknown")
    router = Router(route_rules())
    data, sys = context.config.node.directory, Path(config.sys)
    node = Node(
        context.identity.node,
        lambda: board.look(sys, data),
        gauge,
        router,
        context.emit,
        lambda: context.bucket("node"),
        govern=Governor(config, router).apply,
        set_clock=step_system_clock if config.set_system_clock else None,
    )
    await context.follow(FOLLOWED, node.on_event)
    return actor(node)
