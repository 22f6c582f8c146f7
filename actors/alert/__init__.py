"""alert tells the responders of the node that somebody may be in danger, and the person what they answered.

Consumes ``alert`` and ``alert.reply``; publishes to ``sms.out``. It is the only writer of the bucket
``alerts``. Texts of one person are one case; when nobody says that they go, the next responders are asked.
Nothing here says to the person in danger that somebody comes before somebody said so.

A text is decided together with the state that it follows from, in one write (the record's outbox), published,
and then taken out: whatever dies in between, it is published by whoever runs next, and never a second time.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from actors._people.cases import NEIGHBOUR, Case, Rota, Said, Whereabouts, case_key, record, rota_key
from actors._people.contacts import AlertConfig, Contact, contacts_of
from actors._runtime.actor import Actor, Emit, Handler, KeyValue, Output
from actors._runtime.bus import BusError
from actors._runtime.clock import boot_id, boot_s
from actors._runtime.context import Context
from actors._runtime.state import change, read
from actors.alert import rota as rotas
from actors.alert.steps import COALESCE_S, SAFE, Happened, Steps
from actors.alert.words import Clock, Words
from actors.knowledge import Notice, Texts
from subjects import names
from subjects.errors import RetryLaterError
from subjects.mesh import MeshPacket, MeshReply
from subjects.messages import Alert, Event, OutboundSms, Place, ResponderReply
from subjects.node_state import NodeState

log = logging.getLogger("evy.alert")

LOOK_EVERY_S: Final = 10.0
"""How often open cases are looked through, when nothing is due earlier."""
LOOK_AFTER_S: Final = 0.5
"""Least time between two looks: in a mass incident every text would cause one."""
HIGHEST_NUMBER: Final = 999
NUMBERS_AT_ONCE: Final = 10
NEW: Final = "new"
"""A step's wish for the number of a new case; no event."""
CLOCK_MADE: Final = 1_767_225_600.0
"""2026-01-01: a clock that shows an earlier time was never set."""

S = TypeVar("S", bound=msgspec.Struct)
R = TypeVar("R")
Publish = Callable[[Output, str], Awaitable[None]]
Step = Callable[[Case | None], tuple[Case | None, list[Happened]]]

changed = msgspec.structs.replace


class _Stopped(msgspec.Struct, frozen=True):
    """What is read of a person's consent, which `intake` writes."""

    stopped: bool = False
    history: tuple[Any, ...] = ()


class _Session(msgspec.Struct, frozen=True):
    """What is read of a person's session, which `intake` writes."""

    whereabouts: Whereabouts | None = None


class _Counter(msgspec.Struct, frozen=True):
    last: int


class Alerts:
    """The handlers and what they need."""

    def __init__(
        self,
        *,
        node: str,
        contacts: Sequence[Contact],
        texts: Texts,
        cases: KeyValue,
        sessions: KeyValue,
        consents: KeyValue,
        publish: Publish,
        emit: Emit,
        sender_ref: Callable[[str], str],
        config: AlertConfig | None = None,
        clock: Clock = time.time,
        state: Callable[[], NodeState] = lambda: NodeState(node=""),
        now_s: Callable[[], float] = boot_s,
        boot: Callable[[], str] = boot_id,
    ) -> None:
        self._node = node
        self._contacts = {contact.key: contact for contact in contacts}
        self._refs = {contact.key: sender_ref(contact.number) for contact in contacts}
        self._own_keys = {ref: key for key, ref in self._refs.items()}
        self._cases = cases
        self._sessions = sessions
        self._consents = consents
        self._publish = publish
        self._emit = emit
        self._config = config or AlertConfig()
        self._clock = clock
        self._now_s = now_s
        self._boot = boot
        self._words = Words(texts, clock)
        self._steps = Steps(
            contacts,
            self._words,
            self._config,
            self._minute,
            lambda: has_mesh(state()),
            lambda: is_mute(state()),
        )
        self._touched = asyncio.Event()
        self._numbers = range(0)
        self._shared = asyncio.Lock()
        """Held while a record is written that many cases share: in a mass incident all handlers want it."""

    # What arrives.

    async def handle(self, alert: Alert) -> Sequence[Output]:
        """A text of a person in danger → their case, and what responders are told of it."""
        if alert.kind != "danger":
            await self._step(alert.sender_ref, alert.query_id, lambda case: self._followed(case, alert))
            return []
        known = (alert.place, 0.0) if alert.place else await self._known_place(alert.sender_ref)
        consent = await read(self._consents, alert.sender_ref, _Stopped) or _Stopped()
        number = 0

        def step(case: Case | None) -> tuple[Case | None, list[Happened]]:
            now_s = self._now_s()
            if case and alert.query_id in case.handled:
                return None, []
            if case and not self._is_over(case, now_s):
                case = self._steps.adopted(case, self._boot(), now_s)
                return self._steps.heard_more(case, alert, now_s, place=known and known[0])
            if not number:
                return None, [(NEW, {})]
            return self._steps.opened(
                alert,
                number,
                self._boot(),
                now_s,
                known=known,
                consents=len(consent.history),
                own_key=self._own_keys.get(alert.sender_ref, ""),
            )

        happened = await self._step(alert.sender_ref, alert.query_id, step)
        if happened and happened[0][0] == NEW:
            number = await self._next_number() if self._contacts else 1
            await self._step(alert.sender_ref, alert.query_id, step)
        return []

    async def replied(self, reply: ResponderReply) -> Sequence[Output]:
        """A responder's 1 or 2 → their case, and a text to them that says what was understood."""
        if reply.responder.startswith(NEIGHBOUR):
            return await self._neighbour_replied(reply)
        contact = self._contacts.get(reply.responder)
        if contact is None:
            return []
        rota = await record(self._cases, rota_key(contact.key), Rota) or Rota()
        about = next((one for one in reversed(rota.asked) if reply.case in {0, one.number}), None)
        if about is None:
            known = ", ".join(str(one.number) for one in rota.asked[-5:]) or "-"
            return [self._to_responder(reply, contact, "reply_unknown", case=reply.case, yours=known)]
        stopped = await self._stopped(about.ref)
        now_s = self._now_s()

        def step(case: Case | None) -> tuple[Case | None, list[Happened]]:
            if case is None:
                return None, []
            adopted = self._steps.adopted(case, self._boot(), now_s)
            after, happened = self._steps.answered(
                adopted, reply, now_s, stopped=stopped(case), in_full=about.in_full
            )
            return (after, happened) if happened else (None, [])

        await self._step(about.ref, "", step)
        case = await record(self._cases, case_key(about.ref), Case)
        return [self._confirmed(reply, contact, case)]

    async def _neighbour_replied(self, reply: ResponderReply) -> Sequence[Output]:
        """Responders of another node answered for one of our cases; that node has confirmed it to them."""
        stopped = await self._stopped(reply.sender_ref)
        now_s = self._now_s()

        def step(case: Case | None) -> tuple[Case | None, list[Happened]]:
            if case is None or not case.neighbours:
                return None, []
            adopted = self._steps.adopted(case, self._boot(), now_s)
            after, happened = self._steps.answered(adopted, reply, now_s, stopped=stopped(case), in_full=True)
            return (after, happened) if happened else (None, [])

        await self._step(reply.sender_ref, "", step)
        return []

    def _confirmed(self, reply: ResponderReply, contact: Contact, case: Case | None) -> Output:
        if case is None:  # a day has passed
            return self._to_responder(reply, contact, "reply_unknown", case=reply.case or "", yours="-")
        number = case.number
        if case.closed:
            return self._to_responder(reply, contact, "reply_closed", case=number)
        if reply.answer == "cannot":
            return self._to_responder(reply, contact, "reply_cannot", case=number)
        others = sum(one.answer == "coming" and one.key != contact.key for one in case.asked)
        if others:
            return self._to_responder(reply, contact, "reply_coming_too", case=number, count=others)
        return self._to_responder(reply, contact, "reply_coming", case=number)

    def _followed(self, case: Case | None, alert: Alert) -> tuple[Case | None, list[Happened]]:
        """The person's place, words, or the end of the danger; nothing when there is no open case."""
        now_s = self._now_s()
        if case is None or alert.query_id in case.handled or not case.is_open(self._boot(), now_s):
            return None, []
        case = self._steps.adopted(case, self._boot(), now_s)
        if alert.kind == "safe":
            return self._steps.safe(case, alert, now_s)
        if alert.kind == "words":
            return self._steps.wrote(case, alert, now_s)
        return self._steps.at_place(case, alert, now_s)

    def _is_over(self, case: Case, now_s: float) -> bool:
        """Whether a further text of the person opens a new case."""
        if not case.number or not case.is_open(self._boot(), now_s):
            return True
        return (
            case.state == "unheard" and case.boot_id == self._boot() and now_s - case.told_at_s > COALESCE_S
        )

    async def _step(self, ref: str, query_id: str, step: Step) -> list[Happened]:
        """Changes a case, publishes what follows from it, and says what happened; ``query_id`` is the text
        that caused it, empty: the one that opened the case."""
        happened = await self._change(case_key(ref), Case, step)
        case = await record(self._cases, case_key(ref), Case)
        for kind, fields in happened:
            if kind != NEW:
                self._event(kind, ref, query_id or (case.query_id if case else ""), **fields)
        if case:
            await self._post(ref, case)
        self._touched.set()
        return happened

    # What is to be sent.

    async def _post(self, ref: str, case: Case) -> None:
        """Publishes the outbox of a case, and empties it."""
        if not case.outbox:
            return
        unreached = set()
        for said in case.outbox:
            if said.to == NEIGHBOUR:
                await self._over_mesh(said, case, ref)
                continue
            if not said.to:
                await self._send(said, case.lane, ref)
                continue
            contact = self._contacts.get(said.to)
            verdict, reason = "dropped", await self._unwanted(said)
            if not reason:
                verdict, reason = await self._admitted(said, case, ref), "too many texts in the hour"
            if verdict == "sent":
                await self._send(said, case.lane, ref)
                continue
            name = contact.name if contact else ""
            self._event(
                f"alert_{verdict}", ref, case.query_id, responder=name, case=case.number, reason=reason
            )
            if verdict == "dropped" and said.asks:
                unreached.add(said.to)

        def step(now: Case | None) -> tuple[Case | None, None]:
            return now and self._steps.posted(now, case.outbox, unreached), None

        await self._change(case_key(ref), Case, step)

    async def _unwanted(self, said: Said) -> str:
        """Why a responder must not be sent a text; empty: they may."""
        contact = self._contacts.get(said.to)
        if contact is None:
            return "no longer in the file"
        consent = await read(self._consents, self._refs[said.to], _Stopped) or _Stopped()
        return "STOP" if consent.stopped and not said.owed else ""

    async def _admitted(self, said: Said, case: Case, ref: str) -> rotas.Verdict:
        """Notes a text in its responder's rota, or in the next digest there."""

        def step(rota: Rota | None) -> tuple[Rota, rotas.Verdict]:
            now_s = self._now_s()
            current = rotas.current(rota, self._boot(), now_s)
            return rotas.admitted(current, said, case, ref, now_s, per_hour=self._config.per_hour)

        async with self._shared:
            return await self._change(rota_key(said.to), Rota, step)

    async def _over_mesh(self, said: Said, case: Case, ref: str) -> None:
        """A case of ours for all other nodes, or what becomes of one of theirs for the node that it is of."""
        if case.origin:
            peer, _, theirs = case.origin.partition(".")
            reply = MeshReply(theirs, "coming" if said.text == "coming" else "unheard")
            packet = MeshPacket(node=self._node, lane="flash", peer=int(peer), reply=reply)
        else:
            alert = Alert(
                query_id=case.query_id,
                node=self._node,
                sender_ref=ref,
                text="",
                lang=case.lang,
                lane="flash",
                priority="emergency",
                needs=case.needs,
                topic=case.topic,
                kind="safe" if said.text == SAFE else "danger",
                place=case.place,
            )
            packet = MeshPacket(node=self._node, lane="flash", query_id=case.query_id, alert=alert)
        output = Output(names.MESH_OUT, "flash", packet, said.query_id, "mesh", said.ordinal, optional=True)
        await self._publish(output, "alert")

    async def _send(self, said: Said, lane: names.Lane, ref: str) -> None:
        message = OutboundSms(
            query_id=said.query_id,
            node=self._node,
            text=said.text,
            lang=said.lang,
            lane=lane,
            step="alert" if said.to else "notice",
            kind=said.kind,
            ordinal=said.ordinal,
            sender_ref="" if said.to else ref,
            number=self._contacts[said.to].number if said.to else "",
            about_ref=ref if said.to else "",
            received_at=said.received_at,
        )
        output = Output(names.SMS_OUT, lane, message, said.query_id, said.kind, said.ordinal)
        await self._publish(output, "alert")

    def _to_responder(self, reply: ResponderReply, contact: Contact, key: Notice, **values: object) -> Output:
        lang = self._words.lang_of(contact)
        message = OutboundSms(
            query_id=reply.query_id,
            node=self._node,
            text=self._words.say(key, lang, **values),
            lang=lang,
            lane=reply.lane,
            step="command",
            sender_ref=reply.sender_ref,
            received_at=reply.received_at,
        )
        return Output(names.SMS_OUT, reply.lane, message, reply.query_id, "reply")

    # What is due without a text.

    async def watch(self) -> None:
        """Asks the next responders when it is time, sends digests, and publishes what a crash left behind."""
        while True:
            self._touched.clear()
            wait_s = LOOK_EVERY_S
            try:
                wait_s = min(wait_s, max(LOOK_AFTER_S, await self.look() - self._now_s()))
            except (BusError, RetryLaterError) as error:
                log.warning("cases wait for the bus: %s", error)
            await asyncio.sleep(LOOK_AFTER_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._touched.wait()

    async def look(self) -> float:
        """Does everything that is due; gives when (boot clock) the next thing is."""
        due_s = float("inf")
        for key in await self._cases.keys("case."):
            due_s = min(due_s, await self._look_at_case(key.removeprefix("case.")))
        for contact in self._contacts.values():
            due_s = min(due_s, await self._look_at_rota(contact))
        return due_s

    async def _look_at_case(self, ref: str) -> float:
        case = await record(self._cases, case_key(ref), Case)
        if case is None:
            return float("inf")
        now_s = self._now_s()
        adopted = self._steps.adopted(case, self._boot(), now_s)
        if case.outbox or adopted != case or self._steps.due_s(case) <= now_s:
            stopped = await self._stopped(ref)

            def step(now: Case | None) -> tuple[Case | None, list[Happened]]:
                if now is None or not now.number:
                    return None, []
                now = self._steps.adopted(now, self._boot(), now_s)
                return self._steps.waited(now, now_s, stopped=stopped(now))

            await self._step(ref, "", step)
            case = await record(self._cases, case_key(ref), Case) or case
        return self._steps.due_s(case)

    async def _look_at_rota(self, contact: Contact) -> float:
        key, per_hour = rota_key(contact.key), self._config.per_hour
        found = await record(self._cases, key, Rota)
        if found is None or not (found.held or found.outbox):
            return float("inf")
        now_s = self._now_s()

        def step(rota: Rota | None) -> tuple[Rota | None, tuple[list[int], int]]:
            current = rotas.current(rota, self._boot(), now_s)
            if current.outbox or rotas.digest_due_s(current, per_hour=per_hour) > now_s:
                return current, ([], 0)
            current, listed, left = rotas.with_digest(current, contact, self._words, now_s)
            return current, (listed, left)

        listed, left = await self._change(key, Rota, step)
        if listed:
            self._event("alert_digest", "", "", responder=contact.name, cases=listed, left=left)
        rota = await record(self._cases, key, Rota) or Rota()
        for said in rota.outbox:
            await self._send(said, "flash", "")
        posted = set(rota.outbox)

        def emptied(now: Rota | None) -> tuple[Rota | None, None]:
            return now and changed(now, outbox=tuple(one for one in now.outbox if one not in posted)), None

        await self._change(key, Rota, emptied)
        return rotas.digest_due_s(rota, per_hour=per_hour)

    # What it reads of others.

    async def _stopped(self, ref: str) -> Callable[[Case], bool]:
        """Whether the person said STOP after their case opened: a STOP before it does not forbid what belongs
        to an emergency."""
        consent = await read(self._consents, ref, _Stopped) or _Stopped()
        return lambda case: consent.stopped and len(consent.history) > case.consents

    async def _known_place(self, ref: str) -> tuple[Place, float] | None:
        """Where the person said they were, and how long ago."""
        session = await read(self._sessions, ref, _Session)
        known = session and session.whereabouts
        if not known:
            return None
        if known.boot_id == self._boot():
            return known.place, self._now_s() - known.at_s
        now = self._clock()
        return known.place, max(0.0, now - known.at) if now is not None else 3600.0

    async def _change(self, key: str, of: type[S], step: Callable[[S | None], tuple[S | None, R]]) -> R:
        """As :func:`change`; a record that cannot be read is taken away first, or nothing could ever be told
        of this person, or to this responder, again."""
        try:
            return await change(self._cases, key, of, step)
        except msgspec.DecodeError as error:
            self._event("alert_unreadable", "", "", record=key, reason=str(error))
            await self._cases.delete(key)
            return await change(self._cases, key, of, step)

    async def _next_number(self) -> int:
        """Numbers are taken from the bucket ten at a time, because each write waits for the card; those left
        at the end of the process are nobody's."""

        def step(counter: _Counter | None) -> tuple[_Counter, int]:
            first = counter.last % HIGHEST_NUMBER + 1 if counter else 1
            return _Counter(min(first + NUMBERS_AT_ONCE - 1, HIGHEST_NUMBER)), first

        async with self._shared:
            if not self._numbers:
                first = await self._change("counter", _Counter, step)
                self._numbers = range(first, min(first + NUMBERS_AT_ONCE - 1, HIGHEST_NUMBER) + 1)
            number, self._numbers = self._numbers[0], self._numbers[1:]
            return number

    def _minute(self) -> int | None:
        now = self._clock()
        if now is None:
            return None
        local = time.localtime(now)
        return local.tm_hour * 60 + local.tm_min

    def _event(self, kind: str, ref: str, query_id: str, **fields: object) -> None:
        self._emit(
            Event(
                kind=kind,
                node=self._node,
                actor="alert",
                at=time.time(),
                query_id=query_id,
                sender_ref=ref,
                lane="flash",
                fields=fields,
            )
        )


def has_mesh(state: NodeState) -> bool:
    """Whether another node can hear of somebody in danger here."""
    return state.mesh is not None and state.mesh.radio == "up" and state.mesh.neighbours > 0


def is_mute(state: NodeState) -> bool:
    """Whether this node has modems and none of them sends now."""
    return bool(state.modems) and not any(
        modem.state == "up" and modem.registered is not False for modem in state.modems
    )


def clock_of(state: Callable[[], NodeState], now: Callable[[], float] = time.time) -> Clock:
    """The time, unless the node says that it does not know it; without an actor `node`, by plausibility."""

    def clock() -> float | None:
        known = state()
        is_set = known.clock != "unset" if known.at else now() >= CLOCK_MADE
        return now() if is_set else None

    return clock


async def build(context: Context) -> Actor:
    """The actor of a node; a warning says so when nobody would hear an alert."""
    config = context.config.section("alert", AlertConfig)
    path = context.config.node.directory / config.contacts
    contacts = contacts_of(context.config.node.directory, config.contacts)
    if not contacts:
        log.warning("no responders: alerts are only events until %s names some", path)
    alerts = Alerts(
        node=context.identity.node,
        contacts=contacts,
        texts=Texts.of_node(context.config.node.directory, context.config.node.emergency_number),
        cases=await context.bucket("alerts"),
        sessions=await context.bucket("session"),
        consents=await context.bucket("consent"),
        publish=context.publish,
        emit=context.emit,
        sender_ref=context.identity.sender_ref,
        config=config,
        clock=clock_of(context.node_state(), context.now),
        state=context.node_state(),
    )
    handlers: dict[str, Handler] = {names.ALERT: alerts.handle, names.ALERT_REPLY: alerts.replied}
    return Actor("alert", handlers, tasks=(alerts.watch,))
