"""feeds fetches public alerts at the centre and hands them down to its nodes.

It handles no work. It polls what ``[feeds.<name>]`` names: a CAP file, or an index (Atom, RSS) of CAP files.
Only senders that a feed is configured for get through; whatever else it says is an event, never an SMS. Each
alert goes to ``down.<node>.bulletin.<lane>`` of every node, which decides by its places whom it concerns.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec

from actors._bulletins import cap
from actors._runtime.actor import Actor, Emit, Output
from actors._runtime.bus import BusError
from actors._runtime.context import Context
from actors.feeds.fetch import FeedError, Fetcher, Page, is_index, links_of
from actors.feeds.notes import Notes
from subjects import names
from subjects.bulletin import Bulletin
from subjects.messages import Event

__all__ = ["FeedConfig", "Feeds", "build"]

log = logging.getLogger("evy.feeds")

MOST_ENTRIES: Final = 100
"""Entries of an index that are fetched in one round, the first ones first; the rest waits for the next."""
LONGEST_REST_S: Final = 3600.0
"""A feed that fails is asked less and less often, but at least once an hour."""
KEPT_S: Final = 24 * 3600.0
"""An alert is remembered as handed down until its end, and so long after it was sent."""
LOCAL: Final = frozenset({"127.0.0.1", "localhost"})


class FeedConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One feed: ``[feeds.<name>]``."""

    url: str
    """Of a CAP file, or of an Atom or RSS index of CAP files."""
    senders: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """The <sender> of each alert that is trusted from here, as the alerts write it."""
    kind: str = ""
    """What it is about, for people: weather, health, utilities, transport, government."""
    every_s: Annotated[float, msgspec.Meta(ge=1, le=86400)] = 120.0
    hosts: tuple[str, ...] = ()
    """Further hosts that an index may refer to; its own is one."""
    nodes: tuple[str, ...] = ()
    """Nodes that its alerts go to; none: all."""
    plain_http: bool = False
    """Allows http://, where the network between is trusted: nothing else says who is speaking."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=120)] = 20.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"url {self.url!r}: write https://host/path")
        if parts.scheme == "http" and not self.plain_http and parts.hostname not in LOCAL:
            raise ValueError(f"url {self.url!r}: use https://, or set plain_http = true in a trusted network")


class Feeds:
    """The feeds of a centre. ``nodes`` gives who is there now, ``now`` is Unix time."""

    def __init__(
        self,
        *,
        node: str,
        feeds: Mapping[str, FeedConfig],
        fetcher: Fetcher,
        notes: Notes,
        nodes: Callable[[], Awaitable[Sequence[str]]],
        publish: Callable[[Output, str], Awaitable[None]],
        emit: Emit,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._node = node
        self._feeds = feeds
        self._fetcher = fetcher
        self._notes = notes
        self._nodes = nodes
        self._publish = publish
        self._emit = emit
        self._now = now
        self._failed: dict[str, int] = {}
        self._refused: dict[str, set[str]] = {}
        """What of each feed was refused, by address or alert: it is told once."""

    async def run(self) -> None:
        """Polls every feed, each in its own time, for ever."""
        async with asyncio.TaskGroup() as group:
            for name in self._feeds:
                group.create_task(self._follow(name))

    async def _follow(self, name: str) -> None:
        while True:
            rest_s = await self.poll(name)
            await asyncio.sleep(rest_s)

    async def poll(self, name: str) -> float:
        """One look at a feed; gives seconds until the next. A feed that fails is told of once, and asked
        less often each time, until it answers."""
        feed = self._feeds[name]
        try:
            await self._look(name, feed)
        except (FeedError, BusError) as error:
            failed = self._failed[name] = self._failed.get(name, 0) + 1
            if failed == 1:
                self._event("feed_down", name, reason=str(error))
            log.warning("feed %s: %s", name, error)
            return max(feed.every_s, min(LONGEST_REST_S, feed.every_s * 2.0 ** min(failed - 1, 10)))
        if self._failed.pop(name, 0):
            self._event("feed_up", name)
        return feed.every_s

    async def _look(self, name: str, feed: FeedConfig) -> None:
        """Hands down what is new. Raises :class:`FeedError` when the feed cannot be read."""
        nodes = [node for node in await self._nodes() if not feed.nodes or node in feed.nodes]
        if not nodes:
            return
        if not self._notes.has_all(name, nodes):
            self._fetcher.forget(feed.url)  # a node that was enrolled since must get what still holds
        page = await self._fetcher.get(feed.url, feed)
        if page is None:
            return
        try:
            await self._take(name, feed, page, nodes)
        except (FeedError, BusError):
            self._fetcher.forget(feed.url)  # a part of it was read: all of it next time
            raise
        finally:
            self._notes.tidy(name, self._now())

    async def _take(self, name: str, feed: FeedConfig, page: Page, nodes: Sequence[str]) -> None:
        try:
            if not is_index(page.octets):
                await self._hand_down(name, feed, page, nodes)
                return
            links = links_of(page.octets, feed.url)
        except cap.CapError as error:
            raise FeedError(f"{feed.url}: {error}") from error
        new = [link for link in links if not self._notes.was_read(name, link, nodes)]
        failures = []
        if len(new) > MOST_ENTRIES:
            failures.append(f"{feed.url}: {len(new)} new entries, {MOST_ENTRIES} are read in one round")
        for link in new[:MOST_ENTRIES]:
            if urlsplit(link).hostname not in {urlsplit(feed.url).hostname, *feed.hosts}:
                self._refuse(name, link, f"{link}: another host; name it in hosts if it is trusted")
                continue
            try:
                if entry := await self._fetcher.get(link, feed, marked=False):
                    await self._hand_down(name, feed, entry, nodes)
            except FeedError as error:  # one bad entry must not hold up the others
                failures.append(str(error))
            except cap.CapError as error:
                self._refuse(name, link, f"{link}: {error}")
        if failures:
            raise FeedError(failures[0])

    async def _hand_down(self, name: str, feed: FeedConfig, page: Page, nodes: Sequence[str]) -> None:
        """One CAP file to every node that has not got it. Raises :class:`CapError`."""
        alert = cap.read(page.octets, feed=name)
        ends = max(alert.expires_at(KEPT_S), alert.sent_at + KEPT_S)
        if alert.sender not in feed.senders:
            self._refuse(name, alert.key, f"sender {alert.sender!r} is not among its senders", alert)
        elif missing := self._notes.missing(name, alert.key, nodes):
            message = msgspec.structs.replace(alert, as_of=self._now())
            for node in missing:
                base = names.down(node, names.BULLETIN)
                await self._publish(Output(base, alert.lane, message, alert.key), "feeds")
            self._event("feed_alert", name, alert, nodes=missing)
        self._notes.read(name, page.url, alert.key, nodes, ends)

    def _refuse(self, name: str, key: str, reason: str, alert: Bulletin | None = None) -> None:
        told = self._refused.setdefault(name, set())
        if key in told:
            return
        if len(told) > 10 * MOST_ENTRIES:
            told.clear()
        told.add(key)
        log.warning("feed %s: %s", name, reason)
        self._event("feed_refused", name, alert, reason=reason)

    def _event(self, kind: str, name: str, alert: Bulletin | None = None, **fields: object) -> None:
        said = {"identifier": alert.identifier, "sender": alert.sender} if alert else {}
        self._emit(
            Event(
                kind=kind,
                node=self._node,
                actor="feeds",
                at=self._now(),
                query_id=alert.key if alert else "",
                lane=alert.lane if alert else "routine",
                fields={"feed": name, "about": self._feeds[name].kind, **said, **fields},
            )
        )


async def build(context: Context) -> Actor:
    """The actor of a centre. Raises :class:`ConfigError` for a wrong feed."""
    feeds = context.config.section("feeds", dict[str, FeedConfig])
    if not feeds:
        return Actor("feeds", {})
    fetcher = Fetcher()
    watcher = Feeds(
        node=context.identity.node,
        feeds=feeds,
        fetcher=fetcher,
        notes=Notes(context.config.node.directory / "feeds.json"),
        nodes=context.nodes,
        publish=context.publish,
        emit=context.emit,
        now=context.now,
    )
    return Actor("feeds", {}, tasks=[watcher.run], close=fetcher.close)
