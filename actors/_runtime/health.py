"""Is the node well? Bus, workers, modem, disk and clock, judged in the process that keeps them alive.

``/healthz`` says it to monitoring, the watchdog to systemd. The watchdog is petted as long as nothing is
wrong that a restart may cure: a dead modem has its own ladder, and a full disk is still full afterwards.
"""

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec
import nats.errors
from nats.aio.msg import Msg

from actors._runtime.bus import BusError, NatsBus
from actors._runtime.http import Page
from actors._runtime.identity import Identity
from actors._runtime.node_view import NodeView
from actors._runtime.notify import Notify
from subjects import services
from subjects.messages import Event
from subjects.node_state import MEGABYTE, NodeState

log = logging.getLogger("evy.health")

EVERY_S: Final = 5.0
ANSWER_WITHIN_S: Final = 10.0
"""A process on a busy Pi may need seconds for one turn of its event loop."""
STARTING_S: Final = 1.0
HUNG_AFTER: Final = 9
"""Rounds without an answer of a process that answered before; then it is killed and started again."""
FREE_AT_LEAST_MB: Final = 100
SHUT_DOWN_AFTER: Final = 3
"""Looks in a row at an empty battery; one may be wrong."""

Verdict = Literal["ok", "degraded", "failed"]
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at. ``cured_by_restart``: starting EVY again may help."""

    name: Literal["bus", "workers", "modem", "disk", "clock"]
    verdict: Verdict
    reason: str
    cured_by_restart: bool = False


class Health(msgspec.Struct, frozen=True):
    """All of them, at one moment."""

    node: str
    verdict: Verdict
    checks: tuple[Check, ...]

    @classmethod
    def of(cls, node: str, checks: Sequence[Check]) -> "Health":
        """The worst verdict is the node's."""
        worst = max(VERDICTS.index(check.verdict) for check in checks)
        return cls(node, VERDICTS[worst], tuple(checks))

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong that a restart may cure, or something that it would not mend stands
        before it."""
        full = any(check.name == "disk" and check.verdict == "failed" for check in self.checks)
        return full or not any(check.verdict == "failed" and check.cured_by_restart for check in self.checks)

    def page(self) -> Page:
        """For HTTP: 503 when something failed."""
        status = HTTPStatus.SERVICE_UNAVAILABLE if self.verdict == "failed" else HTTPStatus.OK
        return Page(msgspec.json.format(msgspec.json.encode(self)) + b"\n", status=status)


def judge_state(state: NodeState, has_modem: bool) -> list[Check]:  # a fact of the configuration
    """Modem and clock, as the actor `node` tells of them."""
    checks = []
    if has_modem:
        up = [modem for modem in state.modems if modem.state == "up" and modem.registered is not False]
        told = ", ".join(
            f"{modem.name} {modem.state}" + (" without a network" if modem.registered is False else "")
            for modem in state.modems
        )
        if up:
            verdict: Verdict = "ok" if len(up) == len(state.modems) else "degraded"
        else:
            verdict = "failed" if state.modems else "degraded"
        checks.append(Check("modem", verdict, told or "nothing heard of it yet"))
    clocks = {"network": "set by a time server", "sms": "by the texts' own stamps", "unset": "nobody set it"}
    checks.append(Check("clock", "degraded" if state.clock == "unset" else "ok", clocks[state.clock]))
    return checks


def judge_disk(directory: Path) -> Check:
    """Room where the node keeps its data."""
    try:
        free_mb = shutil.disk_usage(directory).free // MEGABYTE
    except OSError as error:
        return Check("disk", "failed", f"{directory}: {error.strerror}")
    verdict: Verdict = "ok" if free_mb >= FREE_AT_LEAST_MB else "failed"
    return Check("disk", verdict, f"{free_mb} MB free in {directory}")


async def answer_alive(bus: NatsBus, name: str) -> None:
    """Lets this process answer that its event loop turns and its connection carries."""

    async def on_message(msg: Msg) -> None:
        with contextlib.suppress(nats.errors.Error):
            await msg.respond(name.encode())

    await bus.client.subscribe(services.alive(bus.node), cb=on_message)


async def answering(bus: NatsBus, processes: Collection[str]) -> set[str]:
    """Processes that answer; as soon as all of these have, or after :data:`ANSWER_WITHIN_S`."""
    heard: set[str] = set()
    all_heard = asyncio.Event()

    async def on_message(msg: Msg) -> None:
        heard.add(msg.data.decode("utf-8", "replace"))
        if heard.issuperset(processes):
            all_heard.set()

    inbox = bus.client.new_inbox()
    subscription = await bus.client.subscribe(inbox, cb=on_message)
    try:
        await bus.client.publish(services.alive(bus.node), b"", reply=inbox)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(all_heard.wait(), ANSWER_WITHIN_S)
    finally:
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()
    return heard


class Guard:
    """Looks at the node again and again from `evy up`; tells systemd, and whoever asks over HTTP."""

    def __init__(  # whom it guards, and whom it tells
        self,
        identity: Identity,
        url: str,
        directory: Path,
        processes: Collection[str],
        notify: Notify,
        *,
        has_modem: bool,
        shutdown_below: float = 0.0,
        every_s: float = EVERY_S,
        up_at_least_s: float = 0.0,
    ) -> None:
        self._identity = identity
        self._url = url
        self._directory = directory
        self._processes = tuple(processes)
        self._notify = notify
        self._has_modem = has_modem
        self._has_node = any("node" in name.split("+") for name in self._processes)
        """Whether the actor `node` runs: a centre has none, and nobody tells of modems and clock there."""
        self._shutdown_below = shutdown_below
        self._every_s = every_s
        self._up_at_least_s = up_at_least_s
        self._missed: dict[str, int] = {}
        """Rounds since a process answered last; none before its first answer."""
        self._began_s = time.monotonic()
        self._empty = 0
        self._looked = asyncio.Event()
        """Set for whoever waits at the end of each round, and cleared at once."""
        self._bus: NatsBus | None = None
        self._view: NodeView | None = None
        self._ready = False
        self.health = Health.of(identity.node, [Check("bus", "failed", "not looked yet")])
        self.shutdown_reason = ""
        """Why the machine is to be switched off; empty: it is not."""

    async def page(self) -> Page:
        """``/healthz``."""
        return self.health.page()

    async def watch(self, stop: asyncio.Event) -> None:
        """Looks until ``stop``; sets it when the battery is empty."""
        # A watchdog that is never petted in time is no use: at least three times in its own period.
        every_s = min(self._every_s, self._notify.watchdog_s / 3 or self._every_s)
        try:
            while not stop.is_set():
                await self.look()
                if self.shutdown_reason:
                    await self._say_goodbye()
                    stop.set()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), every_s)
        finally:
            self._notify.tell("STOPPING=1", f"STATUS=stopping {self.shutdown_reason}".rstrip())
            if self._bus:
                await self._bus.close()

    async def look(self) -> Health:
        """Looks once, and tells systemd."""
        checks = [*await self._look_at_bus(), judge_disk(self._directory)]
        state = self._view() if self._view else NodeState(node=self._identity.node)
        if self._has_node:
            checks += judge_state(state, self._has_modem)
        before, self.health = self.health, Health.of(self._identity.node, checks)
        if before.verdict != self.health.verdict:
            log.info("health: %s", self._summary())
        if not self._ready and checks[0].verdict == "ok":
            self._ready = True
            self._notify.tell("READY=1")
        if self._ready and self.health.sound:
            self._notify.tell("WATCHDOG=1", f"STATUS={self._summary()}")
        elif self._ready:
            self._notify.tell(f"STATUS={self._summary()}")
        self._judge_battery(state)
        self._looked.set()
        self._looked.clear()
        return self.health

    def _summary(self) -> str:
        wrong = [f"{check.name}: {check.reason}" for check in self.health.checks if check.verdict != "ok"]
        return "; ".join([self.health.verdict, *wrong])

    def _judge_battery(self, state: NodeState) -> None:
        empty = (
            state.battery_percent is not None
            and state.battery_percent < self._shutdown_below
            and state.charging is not True
            and time.monotonic() - self._began_s >= self._up_at_least_s
        )
        self._empty = self._empty + 1 if empty else 0
        if self._empty >= SHUT_DOWN_AFTER:
            percent = state.battery_percent
            self.shutdown_reason = f"battery {percent:.0f} % is below {self._shutdown_below:.0f} %"

    async def _say_goodbye(self) -> None:
        log.error("%s: stopping, then switching off", self.shutdown_reason)
        if self._bus:
            fields = {"reason": self.shutdown_reason}
            event = Event(
                kind="shutdown", node=self._identity.node, actor="node", at=time.time(), fields=fields
            )
            self._bus.emit(event)

    async def _look_at_bus(self) -> list[Check]:
        try:
            bus = await self._connected()
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await bus.client.request("$JS.API.INFO", b"", timeout=ANSWER_WITHIN_S)
        except (BusError, nats.errors.Error, TimeoutError, OSError) as error:
            reason = str(error) or f"JetStream does not answer ({type(error).__name__})"
            if self._bus:  # nats-py can be connected and dead: the next look begins with a fresh one
                await self._bus.close()
                self._bus = self._view = None
            return [
                Check("bus", "failed", reason, cured_by_restart=True),
                Check("workers", "failed", "nobody can be asked", cured_by_restart=True),
            ]
        silent = set(self._processes) - await answering(bus, self._processes)
        for name in self._processes:
            if name not in silent:
                self._missed[name] = 0
            elif name in self._missed:
                self._missed[name] += 1
        return [Check("bus", "ok", self._url), self._workers(silent)]

    def _workers(self, silent: Collection[str]) -> Check:
        if not silent:
            return Check("workers", "ok", f"{len(self._processes)} processes answer")
        new = sorted(name for name in silent if name not in self._missed)
        gone = sorted(name for name in silent if name in self._missed)
        told = [f"{name} does not answer" for name in gone] + [f"{name} is starting" for name in new]
        # What is starting may build an index for minutes, and what hangs is killed by itself first.
        long = any(self._missed[name] > 2 * HUNG_AFTER for name in gone)
        return Check("workers", "failed", ", ".join(told), cured_by_restart=long)

    async def _connected(self) -> NatsBus:
        if self._bus is None:
            self._bus = await NatsBus.connect(self._identity, self._url, "up", wait_s=self._every_s)
            self._view = NodeView(self._bus)
        return self._bus

    def hung(self, name: str) -> Callable[[], Awaitable[str]]:
        """For the supervisor: waits until a process that answered before does so no more."""

        async def wait() -> str:
            self._missed.pop(name, None)  # it starts afresh
            while self._missed.get(name, 0) < HUNG_AFTER:
                await self._looked.wait()
            return f"it has not answered {self._missed[name]} times"

        return wait
