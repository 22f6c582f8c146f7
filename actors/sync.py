"""sync brings a node the texts that its centre has signed, and tells the centre what became of them.

At a node it looks every few minutes whether the centre has another bundle, as long as the link is up and
the battery allows; a critical one does not wait for the hours that are set. At a centre it keeps the list of
which node has which version.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from actors._bundles.arrive import (
    MANIFEST,
    Check,
    Terms,
    apply,
    find,
    is_held,
    over_the_link,
    read_manifest,
)
from actors._bundles.check import tried
from actors._bundles.manifest import BundleRefusedError, BundleWaitError, unseal
from actors._bundles.nodes import Nodes
from actors._bundles.settings import SyncConfig, terms_of
from actors._bundles.versions import Entry, Versions
from actors._runtime.actor import Actor, Output
from actors._runtime.bus import BusError
from actors._runtime.context import Context
from actors._runtime.objects import Objects
from subjects import names
from subjects.errors import ConfigError, RetryLaterError
from subjects.messages import Event, SyncReport
from subjects.node_state import NodeState

log = logging.getLogger("evy.sync")

AGAIN_S: Final = 15.0
"""After a link that broke while something came over it."""
LOOK_EVERY_S: Final = 5.0
"""How often the history is looked at, which a person's command writes too."""
CRITICAL_BATTERY: Final = 20.0
"""Per cent below which nothing but flash and priority goes over the link (N4)."""


class Puller:
    """What the actor does at a node, look by look."""

    def __init__(  # noqa: PLR0917  # what it is made of
        self,
        versions: Versions,
        objects: Objects,
        terms: Terms,
        config: SyncConfig,
        state: Callable[[], NodeState],
        now: Callable[[], float],
        *,
        check: Check = tried,
    ) -> None:
        self._versions = versions
        self._objects = objects
        self._terms = terms
        self._config = config
        self._state = state
        self._now = now
        self._check = check
        self._settled = ""
        """The manifest, as the store names it, about which there is nothing more to do."""

    async def look(self) -> Entry | None:
        """Looks once, and fetches and applies what there is to. Raises :class:`BundleWaitError`."""
        if self._state().link != "up":
            return None
        found = await find(self._objects, MANIFEST)
        if found is None or found.nuid == self._settled:
            return None
        sealed = await read_manifest(self._objects, found)
        if is_held(self._versions.state(), sealed, self._terms.key):
            self._settled = found.nuid
            return None
        if why := self._not_now(sealed):
            raise BundleWaitError(why)
        get = over_the_link(self._objects, self._versions.incoming)
        entry = await apply(
            self._versions, sealed, self._terms, get, by="link", now=self._now(), check=self._check
        )
        self._settled = found.nuid
        return entry

    def _not_now(self, sealed: bytes) -> str:
        """Why a bundle has to wait; empty: it has not."""
        try:
            manifest = unseal(sealed, self._terms.key)
        except BundleRefusedError:
            return ""  # refused at once, and with the reason
        current = self._versions.current()
        critical = manifest.critical > (current.version if current else 0)
        state = self._state()
        battery = state.battery_rule_percent
        needed = min(CRITICAL_BATTERY, self._config.battery_from) if critical else self._config.battery_from
        if battery is not None and battery < needed:
            return f"version {manifest.version} waits: battery {battery:.0f} %, it takes {needed:.0f}"
        local = time.localtime(self._now())
        minute = local.tm_hour * 60 + local.tm_min if state.clock != "unset" else None
        if not critical and not self._config.is_time(minute):
            return f"version {manifest.version} waits for {', '.join(self._config.hours)}"
        return ""


def _event(node: str, entry: Entry) -> Event:
    fields = {
        "version": entry.version,
        "was": entry.was,
        "by": entry.by,
        "reason": entry.reason,
        "octets": entry.octets,
    }
    return Event(kind=f"sync_{entry.what}", node=node, actor="sync", at=entry.at, fields=fields)


def report_of(node: str, entry: Entry) -> SyncReport:
    """What the centre is told of an entry of the history."""
    has = entry.was if entry.what == "refused" else entry.version
    return SyncReport(
        node=node,
        at=entry.at,
        state=entry.what,
        version=has,
        bundle=entry.version,
        reason=entry.reason,
        octets=entry.octets,
    )


async def build(context: Context) -> Actor:
    """The actor of a node, or of a centre."""
    if context.config.node.profile != "lilevy":
        return _at_centre(context)
    return _at_node(context)


def _at_centre(context: Context) -> Actor:
    nodes = Nodes(context.config.node.directory)

    async def handle(report: SyncReport) -> Sequence[Output]:
        try:
            await asyncio.to_thread(nodes.put, report)
        except BundleWaitError as error:
            raise RetryLaterError(str(error)) from error
        return []

    return Actor("sync", {names.SYNCED: handle})


def _at_node(context: Context) -> Actor:
    config, centre = context.config.section("sync", SyncConfig), context.config.node.centre
    versions = Versions(context.config.node.directory)
    try:
        terms = terms_of(context.config)
    except ConfigError as error:
        if config.key or centre:
            raise
        log.info("no bundles: %s", error)
        return Actor("sync", {})
    with suppress(BundleWaitError), versions.writing():  # else somebody applies one now
        versions.mend()
    puller = Puller(versions, context.objects(), terms, config, context.node_state(), context.now)
    pull = partial(_pull, context, puller, config.every_s)
    report = partial(_report, context, versions, centre=centre)
    return Actor("sync", {}, (pull, report) if centre else (report,))


async def _pull(context: Context, puller: Puller, every_s: float) -> None:
    """Looks again and again; says once why something waits."""
    said = ""
    while True:
        wait_s = every_s
        try:
            await puller.look()
            said = ""
        except BundleWaitError as error:
            wait_s = min(wait_s, AGAIN_S)
            if str(error) != said:
                said = str(error)
                log.warning("%s", said)
                node, at = context.identity.node, context.now()
                context.emit(
                    Event(kind="sync_waits", node=node, actor="sync", at=at, fields={"reason": said})
                )
        await asyncio.sleep(wait_s)


async def _report(context: Context, versions: Versions, *, centre: bool) -> None:
    """Events and reports of what happened, by whoever it was done."""
    node = context.identity.node
    while True:
        try:
            for entry in versions.unreported():
                log.info("%s: version %d, was %d %s", entry.what, entry.version, entry.was, entry.reason)
                context.emit(_event(node, entry))
                if centre:
                    name = f"sync.{entry.what}.{entry.version}.{entry.was}.{entry.at:.3f}"
                    told = Output(names.SYNCED, "routine", report_of(node, entry), name, optional=True)
                    await context.publish(told, "sync")
                versions.reported(entry)
        except (BusError, BundleWaitError) as error:
            log.warning("the centre is told later: %s", error)
        await asyncio.sleep(LOOK_EVERY_S)
