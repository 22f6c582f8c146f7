"""intake decides who is texting, whether EVY may answer, and if it is a command, a repeat or a question.

Consumes ``sms.in``; publishes questions to ``route``, replies to commands to ``sms.out``, MORE to
``compress``, answers of responders to ``alert.reply``, and what a person in danger adds to ``alert``. It is
the only writer of the buckets ``consent``, ``session`` and ``numbers``. The phone number
stops here: everything after it knows a reference.
"""

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Literal

import msgspec

from actors._bulletins.places import BulletinConfig
from actors._llm import llm_config
from actors._people.cases import Case, Rota, Whereabouts, case_key, record, rota_key
from actors._people.consent import Consent, agree, renew_numbers
from actors._people.contacts import AlertConfig, Contact, contacts_of
from actors._people.heard import LanguageOf, TopicOf, language_detector, topic_finder
from actors._people.place import KEPT, may_be_place, place_in, shown
from actors._people.replies import Command, load_commands, load_replies
from actors._people.session import WINDOW_S, Moment, Person, Recent, Told, is_question
from actors._people.texts import first_part, plain_words, visible
from actors._runtime.actor import Actor, Emit, KeyValue, Output
from actors._runtime.clock import boot_id, boot_s
from actors._runtime.context import Context
from actors._runtime.state import change, read
from actors.knowledge import ENGLISH, Notice, Texts, triager
from subjects import names
from subjects.errors import ConfigError
from subjects.messages import (
    Alert,
    AlertKind,
    Answer,
    Event,
    InboundSms,
    Message,
    OutboundSms,
    Place,
    Privacy,
    Query,
    ResponderReply,
    Session,
)
from subjects.names import Lane

ALWAYS_ANSWERED_REPEATS: Final = 3
"""The same text so often is answered each time: the reply may have been lost, or the person is in panic.
Further repeats are answered at the 4th, 8th, 16th …: two machines that answer each other die out."""
FLOOD_TEXTS: Final = 20
"""More texts than this within the window: all but flash go to the routine lane, and one notice says so."""
DROP_TEXTS: Final = 60
"""More than this: only flash is answered. A person cannot type so fast; a machine can empty the credit."""
MENU_OPEN_S: Final = 3600.0
"""How long «1» means «I am in danger» after HELP."""
MAX_QUESTION_CHARACTERS: Final = 1000
"""A question's length; a longer text is answered from its beginning. Triage has seen all of it."""
MAX_FLASH_CHARACTERS: Final = 12_000
"""An emergency keeps more of its text: the words that matter may come late."""
TELL_EVERY_S: Final = {"picture": 86400.0, "call": 3600.0}
"""How often one person is told that pictures, or calls, are not understood; a reboot forgets it."""
MOST_PLACE_WORDS: Final = 3
"""Words of a place after ALERTS."""
MIN_SUBSCRIBER_DIGITS: Final = 7
"""Shorter numbers are services of the carrier, which answer themselves."""

_TAG = re.compile(r"[A-Z]{1,3}[0-9]{1,3}")
"""What may be meant for the tag of a source, with a letter too many too."""

_SUBSCRIBER = re.compile(rf"\+?[0-9]{{{MIN_SUBSCRIBER_DIGITS},15}}")


class Intake:
    """The handler and what it needs. State is in the buckets, never here."""

    def __init__(
        self,
        *,
        node: str,
        sender_ref: Callable[[str], str],
        texts: Texts,
        language_of: LanguageOf,
        topic_of: TopicOf,
        session: KeyValue,
        consent: KeyValue,
        numbers: KeyValue,
        emit: Emit,
        alerts: KeyValue,
        contacts: Sequence[Contact] = (),
        own_numbers: frozenset[str] = frozenset(),
        lang: str = ENGLISH,
        privacy: Privacy = "private",
        node_only: bool = False,
        texts_now: Callable[[], Texts] | None = None,
        bulletins: BulletinConfig | None = None,
    ) -> None:
        self._bulletins = bulletins or BulletinConfig()
        self._alerts = alerts
        self._texts_now = texts_now or (lambda: texts)
        self._contacts = tuple(contacts)
        self._replies = load_replies()
        self._node = node
        self._sender_ref = sender_ref
        self._texts = texts
        self._language_of = language_of
        self._topic_of = topic_of
        self._session = session
        self._consent = consent
        self._numbers = numbers
        self._emit = emit
        self._own_numbers = own_numbers
        self._lang = lang
        self._privacy: Privacy = privacy
        self._node_only = node_only
        self._commands = load_commands()

    async def handle(self, sms: InboundSms) -> Sequence[Output]:
        """One received text → what should happen with it; an empty list when nothing should."""
        ref = self._sender_ref(sms.sender)
        text = visible(sms.text)
        self._event(
            "received",
            sms,
            ref,
            parts=sms.parts,
            missing=sms.missing,
            characters=len(sms.text),
            what=sms.kind,
            smsc_at=sms.smsc_at,
        )
        if not _SUBSCRIBER.fullmatch(sms.sender) or sms.sender in self._own_numbers:
            why = "own number" if sms.sender in self._own_numbers else "not a subscriber's number"
            self._event("ignored", sms, ref, reason=why)
            return []
        if sms.kind != "text":
            return await self._cannot_read(sms.kind, sms, ref)
        if not text and not sms.missing:
            self._event("ignored", sms, ref, reason="empty text")
            return []
        words = plain_words(text)
        known = await self._session.get(ref)
        command = self._command_of(words, sms.lane)
        person, recent = await self._remember(sms, ref, text, words, known, is_command=command is not None)
        if command:
            return await self._command(command, words, sms, ref, person)
        if words == "1" and self._menu_open(person):
            return self._in_danger(sms, ref, person)
        return await self._of_person(sms, ref, text, words, person, recent, known is not None)

    async def _of_person(  # noqa: PLR0917  # what came, and from whom
        self, sms: InboundSms, ref: str, text: str, words: str, person: Person, recent: Recent, is_known: bool
    ) -> Sequence[Output]:
        """A responder's answer, what somebody says of their open case, or a question; a text that may be both
        of the last two is taken as both, and so is a reply to the menu of an emergency."""
        if answer := await self._as_responder(sms, ref, words):
            return [answer]
        if recent.reply:
            answered = await self._question(sms, ref, text, person, recent)
            return [*answered, *await self._chosen(sms, ref, text, recent)]
        if sms.lane == "flash" and (place := place_in(text)):
            await self._stays_at(place, sms, ref)  # for the alert that route is about to raise
        followed, is_all = await self._about_case(sms, ref, text, words, person) if is_known else ([], False)
        if is_all:
            return followed
        return [*await self._question(sms, ref, text, person, recent), *followed]

    async def _as_responder(self, sms: InboundSms, ref: str, words: str) -> Output | None:
        """The answer to an alert, from a responder who was asked; their other texts are anybody's."""
        contact = next((c for c in self._contacts if c.has_number(sms.sender)), None)
        said = contact and self._replies.of_responder(words)
        rota = contact and said and await record(self._alerts, rota_key(contact.key), Rota)
        if not (contact and said and rota and rota.asked):
            return None
        answer, number = said
        lane: Lane = next((one.lane for one in reversed(rota.asked) if number in {0, one.number}), "flash")
        reply = ResponderReply(
            query_id=sms.id,
            node=self._node,
            sender_ref=ref,
            responder=contact.key,
            answer=answer,
            lane=lane,
            case=number,
            received_at=sms.received_at,
        )
        self._event("command", sms, ref, command=answer)
        return Output(names.ALERT_REPLY, lane, reply, sms.id)

    async def _about_case(  # what came, and from whom
        self, sms: InboundSms, ref: str, text: str, words: str, person: Person
    ) -> tuple[Sequence[Output], bool]:
        """What somebody whose alert is open says of it, and whether the text is nothing else: what may be
        both is passed on to the responders, and answered as any other."""
        place, named = place_in(text), self._replies.is_place(words)
        safe = self._replies.is_safe(words)
        is_words = may_be_place(text) and not self._replies.is_talk(words)
        if sms.lane == "flash" or sms.missing or not (place or safe or is_words):
            return [], False
        case = await record(self._alerts, case_key(ref), Case)
        if case is None or not case.is_open(boot_id(), boot_s()):
            return [], False
        lang = person.lang or self._lang
        if safe:
            follow = self._follow("safe", sms, ref, text, case)
            return [follow, self._say("safe_noted", sms, ref, lang)], True
        known = person.whereabouts
        again = known is not None and known.query_id == sms.id
        asked = case.place_asked and case.place is None and known is None
        if not (place or named or asked or again):
            return [self._follow("words", sms, ref, text, case)], False
        place = place or Place((text.partition(" ")[2] if named else text)[:KEPT])
        await self._stays_at(place, sms, ref)
        follow = self._follow("place", sms, ref, text, case, place)
        if sms.lane == "priority" and not named and place.latitude is None:
            return [follow], False
        return [follow, self._say("place_noted", sms, ref, lang, place=shown(place))], True

    async def _chosen(self, sms: InboundSms, ref: str, text: str, recent: Recent) -> Sequence[Output]:
        """What a reply tells the responders of an open case; one that is an emergency by itself `route`
        tells them."""
        if self._topic_of(text, flash=False):
            return []
        case = await record(self._alerts, case_key(ref), Case)
        if case is None or not case.is_open(boot_id(), boot_s()):
            return []
        branch = self._texts.follow.branch(recent.topic, recent.reply, case.lang)
        is_number = not any(c.isalpha() for c in text)
        said = f"{text} ({branch.label})" if branch and is_number else text
        return [self._follow("words", sms, ref, said, case)]

    async def _stays_at(self, place: Place, sms: InboundSms, ref: str) -> None:
        here = Whereabouts(place, sms.id, time.time(), boot_id(), boot_s())

        def step(person: Person | None) -> tuple[Person, None]:
            person = person or Person()
            asked = tuple(one for one in person.asked if one.id != sms.id or sms.lane == "flash")
            return msgspec.structs.replace(person, whereabouts=here, asked=asked), None

        await change(self._session, ref, Person, step)

    def _follow(  # noqa: PLR0917  # what the alert says
        self, kind: AlertKind, sms: InboundSms, ref: str, text: str, case: Case, place: Place | None = None
    ) -> Output:
        alert = Alert(
            query_id=sms.id,
            node=self._node,
            sender_ref=ref,
            text=text,
            lang=case.lang,
            lane=case.lane,
            priority="emergency",
            kind=kind,
            place=place,
            received_at=sms.received_at,
        )
        self._event("command", sms, ref, command=kind)
        return Output(names.ALERT, case.lane, alert, sms.id)

    async def _cannot_read(
        self, kind: Literal["picture", "call"], sms: InboundSms, ref: str
    ) -> Sequence[Output]:
        """Says that only texts are read: now and then, because a machine may be at the other end."""
        person, _ = await self._remember(sms, ref, "", kind, await self._session.get(ref))

        def step(before: Person | None) -> tuple[Person | None, bool]:
            before = before or Person()
            told = before.told.get(kind)
            if told and told.boot_id == boot_id() and boot_s() - told.at_s < TELL_EVERY_S[kind]:
                return None, told.id == sms.id  # the same message again after a crash
            now = Told(sms.id, boot_id(), boot_s())
            return msgspec.structs.replace(before, told={**before.told, kind: now}), True

        if not await change(self._session, ref, Person, step):
            self._event("ignored", sms, ref, reason=f"a {kind}; the sender was told lately")
            return []
        return [self._say(f"no_{kind}s", sms, ref, person.lang or self._lang, kind="notice")]  # type: ignore[arg-type]

    def _command_of(self, words: str, lane: Lane) -> Command | None:
        """The command that the whole text is. LANG takes one word more, and so does INFO when it is a tag."""
        command = self._commands.get(words)
        if command == "help" and lane == "flash":
            return None  # triage heard more in it than a call for the menu
        if command:
            return command
        first, _, argument = words.partition(" ")
        command = self._commands.get(first)
        if command == "lang" and " " not in argument:
            return command
        if command == "info" and _TAG.fullmatch(argument):
            return command
        if command == "alerts" and lane == "routine" and len(argument.split()) <= MOST_PLACE_WORDS:
            return command  # of a longer text, or an urgent one, it is the first word
        return None

    async def _remember(  # what came, and from whom
        self,
        sms: InboundSms,
        ref: str,
        text: str,
        words: str,
        entry: tuple[bytes, int] | None,
        *,
        is_command: bool = False,
    ) -> tuple[Person, Recent]:
        """Adds this text to the person's session; the same result when the message comes a second time."""
        digest = hashlib.blake2b((words or text).encode(), digest_size=6).hexdigest()
        today = int(time.time() // 86400)
        known = msgspec.json.decode(entry[0], type=Person) if entry else Person()
        language = self._language_of(text, known.lang)
        if known.numbered_on != today:
            await self._numbers.put(ref, sms.sender.encode())
        topic = question = ""
        if not is_command and text:
            topic = self._danger_in(text, sms)
            question = "" if self._is_no_question(words) or not is_question(text) else text

        def step(person: Person | None) -> tuple[Person | None, tuple[Person, Recent]]:
            person = person or Person()
            now = Moment(boot_id(), boot_s(), sms.smsc_at)
            found = next((r for r in person.recent if r.id == sms.id), None)
            if found and person.boot_id == now.boot_id:
                return None, (person, found)
            lang = person.lang if person.lang_chosen or language is None else language
            repeat = sum(one.digest == digest for one in person.recent_within(now))
            before = "" if is_command or sms.missing else person.topic(sms.id, now)
            reply = self._texts.follow.chosen(before, text, lang or self._lang)
            recent = Recent(sms.id, digest, now.at_s, repeat, before, reply)
            heard = person.hears(recent, now, topic=topic, question=question)
            person = msgspec.structs.replace(heard, lang=lang, numbered_on=today)
            return person, (person, recent)

        return await change(self._session, ref, Person, step, found=entry)

    def _danger_in(self, text: str, sms: InboundSms) -> str:
        """Topic of the template that `route` is about to send; empty: none. Half a text that is no emergency
        is not answered."""
        flash = sms.lane == "flash"
        if sms.missing and not flash:
            return ""
        return self._topic_of(first_part(text, _limit(sms.lane)), flash=flash)

    def _is_no_question(self, words: str) -> bool:
        replies = self._replies
        return words in replies.small_talk or replies.is_safe(words) or replies.is_place(words)

    async def _change(self, ref: str, **changes: object) -> None:
        def step(person: Person | None) -> tuple[Person, None]:
            return msgspec.structs.replace(person or Person(), **changes), None

        await change(self._session, ref, Person, step)

    def _menu_open(self, person: Person) -> bool:
        return person.menu_at_s >= 0 and boot_s() - person.menu_at_s < MENU_OPEN_S

    async def _command(
        self, command: Command, words: str, sms: InboundSms, ref: str, person: Person
    ) -> Sequence[Output]:
        self._event("command", sms, ref, command=command)
        lang = person.lang or self._lang
        argument = words.partition(" ")[2]
        match command:
            case "stop" | "start":
                await agree(self._consent, ref, command, sms.id, stopped=command == "stop")
                return [self._say(f"{command}_done", sms, ref, lang)]  # type: ignore[arg-type]  # both exist
            case "help":
                await self._change(ref, menu_at_s=boot_s())
                return [self._say("help_menu", sms, ref, lang, lane=_at_least(sms.lane, "priority"))]
            case "more":
                more = Answer(
                    query_id=sms.id,
                    node=self._node,
                    sender_ref=ref,
                    text="",
                    lang=lang,
                    lane=sms.lane,
                    step="command",
                    more=True,
                    received_at=sms.received_at,
                )
                return [Output(names.COMPRESS, sms.lane, more, sms.id)]
            case "lang":
                return [await self._language(argument, sms, ref, lang)]
            case "info":
                return [await self._info(argument, sms, ref, lang)]
            case "alerts" | "alerts_off":
                return [await self._alerts_of(command, words, sms, ref, lang)]

    async def _alerts_of(  # what came, and from whom
        self, command: Command, words: str, sms: InboundSms, ref: str, lang: str
    ) -> Output:
        """ALERTS, for a place if one is named, and ALERTS OFF."""
        places = self._bulletins.places
        if command == "alerts_off":
            await agree(self._consent, ref, command, sms.id, alerts=False)
            return self._say("alerts_off", sms, ref, lang)
        if not places:
            return self._say("alerts_none", sms, ref, lang)
        whole = self._commands.get(words) == "alerts"
        key = "" if whole else self._bulletins.place_called(words.partition(" ")[2])
        if not (whole or key):
            return self._say("alerts_unknown", sms, ref, lang, places=self._bulletins.said(places))
        chosen = (key,) if key else ()
        await agree(self._consent, ref, command, sms.id, stopped=False, alerts=True, places=chosen, lang=lang)
        return self._say("alerts_on", sms, ref, lang, places=self._bulletins.said(chosen or places))

    async def _info(self, tag: str, sms: InboundSms, ref: str, lang: str) -> Output:
        if not tag:
            return self._say("info", sms, ref, lang)
        # Articles that came after the start are answered from already, and so are their sources.
        source = (await asyncio.to_thread(self._texts_now)).source(tag)
        if source is None:
            return self._say("info_unknown", sms, ref, lang, tag=tag)
        text = f"{source.tag}: {source.organisation}, {source.document} ({source.year})"
        return self._reply(text, sms, ref, lang)

    async def _language(self, argument: str, sms: InboundSms, ref: str, lang: str) -> Output:
        codes = " ".join(sorted(self._texts.languages))
        chosen = argument.lower()
        if not chosen:
            return self._say("lang_list", sms, ref, lang, codes=codes)
        if chosen not in self._texts.languages:
            return self._say("lang_unknown", sms, ref, lang, codes=codes)
        await self._change(ref, lang=chosen, lang_chosen=True)
        return self._say("lang_set", sms, ref, chosen, language=self._texts.languages[chosen])

    def _in_danger(self, sms: InboundSms, ref: str, person: Person) -> Sequence[Output]:
        lang = person.lang or self._lang
        alert = Alert(
            query_id=sms.id,
            node=self._node,
            sender_ref=ref,
            text="says: in danger (no details yet)",
            lang=lang,
            lane="flash",
            priority="emergency",
            needs=("rescue",),
            topic="general_danger",
            place_asked=True,
            received_at=sms.received_at,
        )
        return [
            self._say("danger_ask", sms, ref, lang, lane="flash"),
            Output(names.ALERT, "flash", alert, sms.id),
        ]

    async def _question(
        self, sms: InboundSms, ref: str, text: str, person: Person, recent: Recent
    ) -> Sequence[Output]:
        lang = person.lang or self._lang
        repeat, count = recent.repeat, person.recent.index(recent) + 1
        if repeat >= ALWAYS_ANSWERED_REPEATS and (repeat + 1) & repeat:
            self._event("ignored", sms, ref, reason=f"the same text {repeat + 1} times: a loop or a panic")
            return []
        if count > DROP_TEXTS and sms.lane != "flash":
            self._event("ignored", sms, ref, reason=f"{count} texts in {WINDOW_S / 60:.0f} minutes")
            return []
        outputs: list[Output] = []
        lane = sms.lane
        if count > FLOOD_TEXTS and lane != "flash":
            lane = "routine"
            if count == FLOOD_TEXTS + 1:
                outputs.append(self._say("flood", sms, ref, lang, kind="notice"))
        limit = _limit(lane)
        if sms.missing:
            self._event("incomplete", sms, ref, parts=sms.parts, missing=sms.missing)
            outputs.append(self._say("incomplete", sms, ref, lang, kind="notice", ordinal=2))
            if lane != "flash":
                return outputs  # half a question gets no answer: it might be the wrong one
        elif len(text) > limit:
            outputs.append(self._say("too_long", sms, ref, lang, kind="notice", ordinal=1))
        if recent.reply and count <= FLOOD_TEXTS:
            lane = "flash"  # it is about a life; nobody hears an emergency in a «1»
        consent = await read(self._consent, ref, Consent)
        query = Query(
            id=sms.id,
            node=self._node,
            sender_ref=ref,
            text=first_part(text, limit),
            lang=lang,
            lane=lane,
            deadline=sms.deadline,
            session=Session(
                lang,
                person.lang_chosen,
                repeat,
                unsolicited_ok=not (consent and consent.stopped),
                topic=recent.topic,
                reply=recent.reply,
                before=person.before(sms.id, text, Moment(boot_id(), recent.at_s, sms.smsc_at)),
            ),
            privacy=self._privacy,
            node_only=self._node_only,
            incomplete=sms.missing > 0,
            received_at=sms.received_at,
        )
        return [Output(names.ROUTE, lane, query, sms.id), *outputs]

    def _say(
        self,
        key: Notice,
        sms: InboundSms,
        ref: str,
        lang: str,
        *,
        lane: Lane | None = None,
        kind: Literal["reply", "notice"] = "reply",
        ordinal: int = 0,
        **values: object,
    ) -> Output:
        text = self._texts.say(key, lang, **values)
        return self._reply(text, sms, ref, lang, lane=lane, kind=kind, ordinal=ordinal)

    def _reply(
        self,
        text: str,
        sms: InboundSms,
        ref: str,
        lang: str,
        *,
        lane: Lane | None = None,
        kind: Literal["reply", "notice"] = "reply",
        ordinal: int = 0,
    ) -> Output:
        lane = lane or sms.lane
        message: Message = OutboundSms(
            query_id=sms.id,
            node=self._node,
            text=text,
            lang=lang,
            lane=lane,
            step="command" if kind == "reply" else "notice",
            kind=kind,
            ordinal=ordinal,
            sender_ref=ref,
            received_at=sms.received_at,
        )
        return Output(names.SMS_OUT, lane, message, sms.id, kind, ordinal)

    def _event(self, kind: str, sms: InboundSms, ref: str, **fields: object) -> None:
        self._emit(
            Event(
                kind=kind,
                node=self._node,
                actor="intake",
                at=time.time(),
                query_id=sms.id,
                sender_ref=ref,
                lane=sms.lane,
                fields=fields,
            )
        )


def _limit(lane: Lane) -> int:
    return MAX_FLASH_CHARACTERS if lane == "flash" else MAX_QUESTION_CHARACTERS


def _at_least(lane: Lane, floor: Lane) -> Lane:
    return min(lane, floor, key=names.LANES.index)


class IntakeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[intake]`` table."""

    own_numbers: tuple[str, ...] = ()
    """Numbers of this node's SIM cards: a text from one of them is never answered."""
    lang: str = ENGLISH
    """Language of a person who has not written enough to tell it, such as one who calls."""
    privacy: Privacy | None = None
    """Privacy class of every query; None: ``[llm] default_privacy_level``. Anything but "private" lets
    outside providers see it, anonymised."""


async def build(context: Context) -> Actor:
    """The actor of a node."""
    config = context.config.section("intake", IntakeConfig)
    alert = context.config.section("alert", AlertConfig)
    own = partial(Texts.of_node, context.config.node.directory, context.config.node.emergency_number)
    texts = own()
    if config.lang not in texts.languages:
        known = ", ".join(sorted(texts.languages))
        raise ConfigError(f"[intake] lang = {config.lang!r}: EVY has notices in {known}")
    session, consent = await context.bucket("session"), await context.bucket("consent")
    numbers = await context.bucket("numbers")
    intake = Intake(
        node=context.identity.node,
        sender_ref=context.identity.sender_ref,
        texts=texts,
        language_of=language_detector(triager(context.config.node.directory)),
        topic_of=topic_finder(triager(context.config.node.directory)),
        session=session,
        consent=consent,
        numbers=numbers,
        emit=context.emit,
        alerts=await context.bucket("alerts"),
        contacts=contacts_of(context.config.node.directory, alert.contacts),
        own_numbers=frozenset(config.own_numbers),
        lang=config.lang,
        privacy=config.privacy or llm_config(context.config).default_privacy_level,
        node_only=context.config.node.node_only,
        texts_now=own,
        bulletins=context.config.section("bulletin", BulletinConfig),
    )
    return Actor("intake", {names.SMS_IN: intake.handle}, tasks=[partial(renew_numbers, consent, numbers)])
