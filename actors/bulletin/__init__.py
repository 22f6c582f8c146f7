"""bulletin tells the people of the node who asked for it what a public alert says.

Consumes ``bulletin``, publishes to ``sms.out``. It is the only writer of the bucket ``bulletins``: each alert
with what became of it, and who was told which. One text at a time is with `sms`, and alerts take only a share
of the modem's time, so a person's own question or emergency never waits behind more than one of them.
Whatever dies, who was told is not told again: ids are made of alert and person, and the ledger knows them.
"""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal

import msgspec
from evy_core import segment

from actors._bulletins import judge
from actors._bulletins.judge import Facts, Matter, Wanted
from actors._bulletins.places import BulletinConfig, lane_of
from actors._bulletins.wanted import everybody
from actors._bulletins.words import Words
from actors._runtime.actor import Actor, Emit, KeyValue, Output
from actors._runtime.bus import BusError
from actors._runtime.clock import boot_s, deadline_in
from actors._runtime.context import Context
from actors._runtime.state import read
from actors.knowledge import ENGLISH, Texts, shipped_compressor
from subjects import names
from subjects.bulletin import SEVERITIES, Bulletin, Severity
from subjects.errors import RetryLaterError
from subjects.mesh import FEED, MeshPacket
from subjects.messages import Event, OutboundSms
from subjects.node_state import NodeState

log = logging.getLogger("evy.bulletin")

LOOK_EVERY_S: Final = 60.0
"""How often it is looked who wants alerts: somebody who asks today gets what still holds."""
LEFT_EVERY_S: Final = 0.5
LEFT_WITHIN_S: Final = 900.0
"""A text that has not left in this time is left to `sms`, which tries on; then the next one follows."""
LONGEST_PAUSE_S: Final = 60.0
RETRY_S: Final = 5.0
KEPT_S: Final = 86400.0
"""An alert is kept so long after its end: a late cancel must find whom it told."""
MOST: Final = 400
"""Alerts kept; a big one takes 200 kB."""

GRAVE: Final = frozenset({"Extreme", "Severe"})
OVER_MESH_S: Final = 3600.0
"""How long an alert waits for the radio and its air."""

_LEFT: Final = frozenset({"SUBMITTED", "DELIVERED", "FAILED", "EXPIRED", "HELD"})
_NOT_REACHED: Final = frozenset({"FAILED", "EXPIRED", "UNSENT"})

Publish = Callable[[Output, str], Awaitable[None]]
Over = Literal["", "replaced", "cancelled"]


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """An alert, or only what a later one said of it: that may come first."""

    heard_at: float
    bulletin: Bulletin | None = None
    over: Over = ""
    by: str = ""
    """Key of the alert that ended it."""


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one person was told of one alert. "same": nothing, because nothing changed that matters."""

    at: float
    what: Literal["told", "same", "ended"]
    facts: Facts | None = None


class _Sent(msgspec.Struct, frozen=True):
    state: str


class Saying(msgspec.Struct, frozen=True):
    """A text that is due."""

    key: str
    wanted: Wanted
    text: str
    severity: Severity
    expires_at: float
    told: Told


def alert_key(key: str) -> str:
    """Where an alert is kept."""
    return f"alert.{key}"


def told_key(key: str, ref: str) -> str:
    """Where it is kept that a person was told."""
    return f"told.{key}.{ref}"


def query_id(key: str, ref: str) -> str:
    """Id of the text of an alert to a person, the same whoever makes it: 32 hex digits, as others have."""
    return hashlib.blake2b(f"{key} {ref}".encode(), digest_size=16).hexdigest()


class Bulletins:
    """The handler, the queue, and what they need."""

    def __init__(
        self,
        *,
        node: str,
        config: BulletinConfig,
        words: Words,
        kept: KeyValue,
        consents: KeyValue,
        sessions: KeyValue,
        ledger: KeyValue,
        publish: Publish,
        emit: Emit,
        state: Callable[[], NodeState],
        lang: str = ENGLISH,
        clock: Callable[[], float] = time.time,
        now_s: Callable[[], float] = boot_s,
    ) -> None:
        """``clock`` is Unix time as the node believes it, ``now_s`` never goes back."""
        self._node = node
        self._config = config
        self._words = words
        self._bucket = kept
        self._consents = consents
        self._sessions = sessions
        self._ledger = ledger
        self._publish = publish
        self._emit = emit
        self._state = state
        self._lang = lang
        self._clock = clock
        self._now_s = now_s
        self._at_least = (0.0, 0.0)
        """A Unix time that has passed, and when on the boot clock: a node may have no clock, a centre has."""
        self._kept: dict[str, Kept] = {}
        self._told: set[str] = set()
        self._wanted: list[Wanted] = []
        self._nothing: set[str] = set()
        """Keys as in :func:`told_key` of who has nothing to hear of an alert; forgotten with each look."""
        self._matters: dict[tuple[str, str, tuple[str, ...]], Matter | None] = {}
        self._withheld = ""
        self._loaded = asyncio.Lock()
        self._is_loaded = False
        self._touched = asyncio.Event()
        self._looked_s = float("-inf")

    def now(self) -> float:
        """Unix time, never before what a centre has said."""
        said, when_s = self._at_least
        return max(self._clock(), said + self._now_s() - when_s if said else 0.0)

    # What arrives.

    async def handle(self, bulletin: Bulletin) -> Sequence[Output]:
        """Keeps an alert, and what it says of earlier ones; telling is the queue's."""
        await self._load()
        if bulletin.as_of > self.now():
            self._at_least = (bulletin.as_of, self._now_s())
        key, now = bulletin.key, self.now()
        if reason := judge.refusal(bulletin, self._config):
            self._event("bulletin_ignored", bulletin, reason=reason)
            return []
        before = self._kept.get(key)
        if before and before.bulletin:
            self._event("bulletin_ignored", bulletin, reason="known already")
            return []
        reason = judge.idle(bulletin, self._config, now) if bulletin.msg_type == "Alert" else ""
        if not reason and len(self._kept) >= MOST:
            reason = f"{MOST} alerts are kept"
        if reason:
            self._event("bulletin_ignored", bulletin, reason=reason)
            return []
        own = tuple(one for one in bulletin.references if one.sender == bulletin.sender)
        if len(own) < len(bulletin.references):  # nobody updates or cancels what others said
            others = sorted({one.sender for one in bulletin.references if one not in own})
            self._event("bulletin_ignored", bulletin, reason=f"refers to alerts of {', '.join(others)}")
            if bulletin.msg_type == "Cancel" and not own:
                return []
            bulletin = msgspec.structs.replace(bulletin, references=own)
        over, by = (before.over, before.by) if before else ("", "")
        for reference in own:
            later = await self._end(reference.key, bulletin, now)
            over, by = later or (over, by)
        # Last: until it is written, a message that comes again does all of this again.
        await self._keep(key, Kept(now, bulletin, over, by))
        self._event("bulletin_received", bulletin, over=over, ends_at=self._ends_at(bulletin))
        self._look_again()
        return self._for_neighbours(bulletin)

    def _for_neighbours(self, bulletin: Bulletin) -> list[Output]:
        """A grave alert, or word that one is over, for the nodes of the mesh that have no link; what came by
        radio was spread by it."""
        mesh = self._state().mesh
        grave = any(info.severity in GRAVE for info in bulletin.infos) or bulletin.msg_type == "Cancel"
        if bulletin.feed == FEED or not grave or mesh is None or not mesh.neighbours:
            return []
        left_s = max(0.0, self._ends_at(bulletin) - self.now())
        packet = MeshPacket(
            node=self._node,
            lane=bulletin.lane,
            until=deadline_in(min(left_s, OVER_MESH_S)),
            bulletin=bulletin,
        )
        return [Output(names.MESH_OUT, bulletin.lane, packet, bulletin.key, "mesh", optional=True)]

    def _look_again(self) -> None:
        self._looked_s = float("-inf")
        self._touched.set()

    async def _end(self, key: str, by: Bulletin, now: float) -> tuple[Over, str] | None:
        """Ends what an update or cancel refers to. When another one ended that already, the later of both
        holds; gives how ``by`` itself was ended, if it is the earlier one."""
        found = self._kept.get(key) or Kept(now)
        over: Over = "cancelled" if by.msg_type == "Cancel" else "replaced"
        other = self._kept.get(found.by)
        if other and other.bulletin and found.by != by.key:
            if other.bulletin.sent_at > by.sent_at:
                return found.over, found.by
            if not other.over:
                await self._keep(found.by, msgspec.structs.replace(other, over=over, by=by.key))
        await self._keep(key, msgspec.structs.replace(found, over=over, by=by.key))
        return None

    async def _keep(self, key: str, kept: Kept) -> None:
        await self._bucket.put(alert_key(key), msgspec.json.encode(kept))
        self._kept[key] = kept

    async def _load(self) -> None:
        """What an earlier run kept."""
        async with self._loaded:
            if self._is_loaded:
                return
            for name in await self._bucket.keys("alert."):
                if found := await read(self._bucket, name, Kept):
                    self._kept[name.removeprefix("alert.")] = found
            self._told = set(await self._bucket.keys("told."))
            self._is_loaded = True

    # The queue.

    async def run(self) -> None:
        """Tells what is due, one text after the other, for ever."""
        while True:
            self._touched.clear()
            wait_s = LOOK_EVERY_S
            try:
                if self._now_s() - self._looked_s >= LOOK_EVERY_S:
                    await self.look()
                if saying := await self.next():
                    wait_s = await self._tell(saying)
            except (BusError, RetryLaterError) as error:
                log.warning("alerts wait for the bus: %s", error)
                wait_s = RETRY_S
            if wait_s >= LOOK_EVERY_S:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._touched.wait()
            else:
                await asyncio.sleep(wait_s)  # a pause is kept whatever comes in

    async def look(self) -> None:
        """Who wants alerts now; alerts that are long over go."""
        await self._load()
        self._looked_s = self._now_s()
        now = self.now()
        for key, kept in list(self._kept.items()):
            ends = self._ends_at(kept.bulletin) if kept.bulletin else kept.heard_at
            if ends + KEPT_S < now:
                for name in [name for name in self._told if name.startswith(f"told.{key}.")]:
                    await self._bucket.delete(name)
                    self._told.discard(name)
                await self._bucket.delete(alert_key(key))
                del self._kept[key]
        self._nothing.clear()
        self._matters.clear()
        if any(kept.bulletin and not kept.over for kept in self._kept.values()):
            self._wanted = await everybody(self._consents, self._sessions, self._lang)

    async def next(self) -> Saying | None:
        """The text that is due first: of the worst alert, to the first person who has not got it."""
        now, battery = self.now(), self._state().battery_rule_percent
        active = [kept.bulletin for kept in self._kept.values() if kept.bulletin and not kept.over]
        for bulletin in sorted(active, key=judge.order):
            if bulletin.msg_type != "Cancel" and self._ends_at(bulletin) <= now and not bulletin.references:
                continue
            for wanted in self._wanted:
                name = told_key(bulletin.key, wanted.ref)
                if name in self._told or name in self._nothing:
                    continue
                saying = await self._saying(bulletin, wanted, now, brief=judge.is_brief(battery))
                if saying is None:
                    self._nothing.add(name)
                elif saying.told.what == "same":
                    await self._note(saying)
                elif not judge.spared(saying.severity, battery):
                    return saying
        return None

    async def _saying(self, bulletin: Bulletin, wanted: Wanted, now: float, *, brief: bool) -> Saying | None:
        """What a person is due to hear of an alert; None: nothing."""
        exercise = bulletin.status == "Exercise"
        before, had = await self._had(bulletin, wanted)
        matter = None if bulletin.msg_type == "Cancel" else self._matter(bulletin, wanted, now)
        if matter and "AllClear" in matter.info.responses and had is None:
            return None  # they were told of no danger
        if matter:
            facts = judge.facts(matter.info, self._words.event_of(matter.info))
            same = had is not None and had.facts is not None and not facts.differ(had.facts)
            text = self._words.tells(
                matter.info,
                matter.area,
                wanted.lang,
                sender=matter.sender,
                now=now,
                own=matter.own,
                update=had is not None,
                exercise=exercise,
                brief=brief,
            )
            told = Told(now, "same" if same else "told", facts)
            return self._said(bulletin, wanted, text, matter, told, bulletin)
        if before is None or had is None:
            return None
        former = self._matter(before, wanted, now)
        if former is None:  # it is over by its own time
            return None
        text = self._words.ends(
            former.info,
            former.area,
            wanted.lang,
            sender=former.sender,
            cancelled=bulletin.msg_type == "Cancel",
            own=judge.said_of(bulletin, wanted.lang) if bulletin.msg_type == "Cancel" else None,
            exercise=exercise,
            brief=brief,
        )
        return self._said(bulletin, wanted, text, former, Told(now, "ended"), before)

    def _said(  # noqa: PLR0917  # what is said, of which alert, and why
        self, bulletin: Bulletin, wanted: Wanted, text: str, matter: Matter, told: Told, until: Bulletin
    ) -> Saying:
        ends = matter.info.expires_at or self._ends_at(until)
        return Saying(bulletin.key, wanted, text, matter.info.severity, ends, told)

    async def _had(self, bulletin: Bulletin, wanted: Wanted) -> tuple[Bulletin | None, Told | None]:
        """The latest alert before this one that reached the person, and what they were told of it."""
        references = {
            key: [one.key for one in kept.bulletin.references]
            for key, kept in self._kept.items()
            if kept.bulletin
        }
        for key in judge.predecessors(bulletin.key, references):
            name = told_key(key, wanted.ref)
            kept = self._kept.get(key)
            if name not in self._told or kept is None or kept.bulletin is None:
                continue
            told = await read(self._bucket, name, Told)
            if told is None or told.what == "same" or not await self._reached(key, wanted.ref):
                continue
            return (kept.bulletin, told) if told.what == "told" else (None, None)
        return None, None

    async def _reached(self, key: str, ref: str) -> bool:
        """Whether the text left: one that waits for the modem is withheld once its alert is over."""
        found = await read(self._ledger, f"{query_id(key, ref)}.alert.1", _Sent)
        return found is not None and found.state not in _NOT_REACHED

    def _matter(self, bulletin: Bulletin, wanted: Wanted, now: float) -> Matter | None:
        """See :func:`judge.matter`; the same for all of one language and place, until the next look."""
        kind = (bulletin.key, wanted.lang, wanted.places)
        if kind not in self._matters:
            self._matters[kind] = judge.matter(bulletin, wanted, self._config, now)
        found = self._matters[kind]
        return None if found and (found.info.expires_at or now + 1) <= now else found

    async def _tell(self, saying: Saying) -> float:
        """Gives one text to `sms` and waits until it has left; gives how long the modem is left alone."""
        wanted, began_s = saying.wanted, self._now_s()
        lane = lane_of(saying.severity)
        out = OutboundSms(
            query_id=query_id(saying.key, wanted.ref),
            node=self._node,
            text=saying.text,
            lang=wanted.lang,
            lane=lane,
            step="notice",
            kind="alert",
            sender_ref=wanted.ref,
            bulletin=saying.key,
            expires_at=saying.expires_at,
        )
        self._withheld = ""
        await self._publish(Output(names.SMS_OUT, lane, out, out.query_id, "alert"), "bulletin")
        await self._note(saying)
        [cut] = segment([saying.text])
        last = out.ledger_key(cut.count)
        while self._now_s() - began_s < LEFT_WITHIN_S and self._withheld != out.query_id:
            found = await read(self._ledger, last, _Sent)
            if found and found.state in _LEFT:
                break
            await asyncio.sleep(LEFT_EVERY_S)
        took_s = self._now_s() - began_s
        return min(LONGEST_PAUSE_S - 1, took_s * (1 / self._config.share - 1))

    async def _note(self, saying: Saying) -> None:
        name = told_key(saying.key, saying.wanted.ref)
        await self._bucket.put(name, msgspec.json.encode(saying.told))
        self._told.add(name)

    async def heard(self, event: Event) -> None:
        """Events of others: a text that `sms` did not send, somebody who asked for alerts."""
        if event.kind == "withheld":
            self._withheld = event.query_id
        elif str(event.fields.get("command", "")).startswith("alerts"):
            self._look_again()

    def _ends_at(self, bulletin: Bulletin) -> float:
        return bulletin.expires_at(self._config.expires_h * 3600)

    def _event(self, kind: str, bulletin: Bulletin, **fields: Any) -> None:
        severity = min((info.severity for info in bulletin.infos), key=SEVERITIES.index, default="Unknown")
        said = {
            "alert": bulletin.key,
            "identifier": bulletin.identifier,
            "sender": bulletin.sender,
            "feed": bulletin.feed,
            "type": bulletin.msg_type,
            "severity": severity,
            "event": bulletin.infos[0].event if bulletin.infos else "",
        }
        self._emit(
            Event(
                kind=kind,
                node=self._node,
                actor="bulletin",
                at=time.time(),
                query_id=bulletin.key,
                lane=bulletin.lane,
                fields={**said, **fields},
            )
        )


async def build(context: Context) -> Actor:
    """The actor of a node."""
    config = context.config.section("bulletin", BulletinConfig)
    node = context.config.node
    if not config.places:
        log.info("no [bulletin.places]: public alerts concern nobody here")
    bulletins = Bulletins(
        node=context.identity.node,
        config=config,
        words=Words(
            Texts.of_node(node.directory, node.emergency_number), shipped_compressor, zone=config.zone
        ),
        kept=await context.bucket("bulletins"),
        consents=await context.bucket("consent"),
        sessions=await context.bucket("session"),
        ledger=await context.bucket("ledger"),
        publish=context.publish,
        emit=context.emit,
        state=context.node_state(),
        clock=context.now,
    )
    await context.follow(("withheld", "command"), bulletins.heard)
    return Actor("bulletin", {names.BULLETIN: bulletins.handle}, tasks=[bulletins.run])
