"""alert tells the responders of the node that somebody may be in danger.

Consumes ``alert``; publishes one SMS per responder to ``sms.out``. Alerts of one person coalesce and each
responder's SMS are capped, so that a panic does not bury the next person's alert. Nothing here is ever said
to the person in danger: help is not coming until somebody says so.
"""

import hashlib
import logging
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
from evy_core import segment

from actors._runtime.actor import Actor, Emit, KeyValue, Output
from actors._runtime.clock import boot_id, boot_s
from actors._runtime.context import Context
from actors._runtime.state import change
from actors.knowledge import Notice, Texts
from subjects import names
from subjects.errors import ConfigError
from subjects.messages import Alert, Event, OutboundSms

log = logging.getLogger("evy.alert")

COALESCE_S: Final = 900.0
"""Alerts of one person within this time are one case."""
TELL_AGAIN_AT: Final = (3, 10, 30, 100)
"""A case's further texts reach the responders when there are so many, or when a new need appears."""
CAP_PER_HOUR: Final = 20
"""SMS one responder gets in an hour; the 21st is an event for people to see, not a text."""
MAX_RESPONDERS: Final = 3
"""Responders told of one case: one may be asleep, all of them would block the modem."""
TEXT_CHARACTERS: Final = 160
"""How much of the person's own words goes into an alert."""
MAX_SEGMENTS: Final = {"gsm7": 2, "ucs2": 3}
"""Segments of one alert; letters outside GSM-7 halve what a segment holds."""
LONGEST_NUMBER: Final = "+" + "9" * 15
SHORTEST_QUOTE: Final = 30
QUERIES_KEPT: Final = 64


class Contact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A responder. Empty ``needs`` means: every need. ``areas`` are for later, when a place is known."""

    name: str
    number: Annotated[str, msgspec.Meta(pattern=r"^\+?[0-9]{3,15}$")]
    needs: tuple[str, ...] = ()
    areas: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("en",)

    @property
    def key(self) -> str:
        """Names the responder in a bucket without the number."""
        return hashlib.blake2b(self.number.encode(), digest_size=8).hexdigest()


class _Contacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    contacts: tuple[Contact, ...] = ()


class Case(msgspec.Struct, frozen=True):
    """The alerts of one person that belong together."""

    boot_id: str
    opened_s: float
    count: int
    needs: tuple[str, ...]
    queries: tuple[tuple[str, int], ...]
    """Each query id with its count when it came, 0 when nobody was told of it: a redelivered alert says the
    same again, and the ledger recognises it."""


class Sent(msgspec.Struct, frozen=True):
    """When (boot clock) a responder was sent alerts, and for which queries."""

    boot_id: str
    at: tuple[tuple[float, str], ...]


def load_contacts(path: Path) -> tuple[Contact, ...]:
    """Responders of the file; none when there is no file. Raises :class:`ConfigError` for a wrong one."""
    try:
        path = path.expanduser()
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), type=_Contacts).contacts
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}; see actors/knowledge/contacts.example.toml") from error


class Alerts:
    """The handler and what it needs."""

    def __init__(
        self,
        *,
        node: str,
        contacts: Sequence[Contact],
        texts: Texts,
        cases: KeyValue,
        emit: Emit,
        now_s: Callable[[], float] = boot_s,
        boot: Callable[[], str] = boot_id,
    ) -> None:
        self._node = node
        self._contacts = contacts
        self._texts = texts
        self._cases = cases
        self._emit = emit
        self._now_s = now_s
        self._boot = boot

    async def handle(self, alert: Alert) -> Sequence[Output]:
        """One alert → the SMS to responders that it is worth."""
        count = await self._join_case(alert)
        if count == 0:
            self._event("alert_coalesced", alert)
            return []
        wanted = [c for c in self._contacts if not c.needs or set(c.needs) & set(alert.needs)]
        told: list[str] = []
        outputs: list[Output] = []
        for ordinal, contact in enumerate(wanted[:MAX_RESPONDERS]):
            if await self._capped(contact, alert):
                self._event("alert_capped", alert, responder=contact.name, per_hour=CAP_PER_HOUR)
                continue
            outputs.append(self._text(contact, alert, count, ordinal))
            told.append(contact.name)
        self._event("alert_sent" if told else "alert_unheard", alert, responders=told, count=count)
        return outputs

    async def _join_case(self, alert: Alert) -> int:
        """How many alerts the case has now, or 0 when the responders need not hear of this one."""
        key = f"case.{alert.sender_ref}"
        now_s = self._now_s()

        def step(case: Case | None) -> tuple[Case | None, int]:
            if case is None or case.boot_id != self._boot() or now_s - case.opened_s > COALESCE_S:
                case = Case(self._boot(), now_s, 0, (), ())
            for query_id, told in case.queries:
                if query_id == alert.query_id:
                    return None, told
            count = case.count + 1
            new_need = bool(set(alert.needs) - set(case.needs))
            told = count if count == 1 or new_need or count in TELL_AGAIN_AT else 0
            needs = tuple(dict.fromkeys((*case.needs, *alert.needs)))
            queries = (*case.queries[-QUERIES_KEPT + 1 :], (alert.query_id, told))
            return Case(case.boot_id, case.opened_s, count, needs, queries), told

        return await change(self._cases, key, Case, step)

    async def _capped(self, contact: Contact, alert: Alert) -> bool:
        key = f"sent.{contact.key}"
        now_s = self._now_s()

        def step(sent: Sent | None) -> tuple[Sent | None, bool]:
            at = sent.at if sent and sent.boot_id == self._boot() else ()
            if any(query_id == alert.query_id for _, query_id in at):
                return None, False
            at = tuple((t, query_id) for t, query_id in at if now_s - t < 3600)
            if len(at) >= CAP_PER_HOUR:
                return None, True
            return Sent(self._boot(), (*at, (now_s, alert.query_id))), False

        return await change(self._cases, key, Sent, step)

    def _text(self, contact: Contact, alert: Alert, count: int, ordinal: int) -> Output:
        lang = next((code for code in contact.languages if code in self._texts.languages), "en")
        quoted = " ".join(alert.text.replace("{", "(").replace("}", ")").split())[:TEXT_CHARACTERS]
        text = self._words(alert, lang, quoted, count)
        while len(quoted) > SHORTEST_QUOTE and _too_long(text):
            quoted = quoted[: max(SHORTEST_QUOTE, len(quoted) - 10)]
            text = self._words(alert, lang, quoted, count)
        message = OutboundSms(
            query_id=alert.query_id,
            node=self._node,
            text=text,
            lang=lang,
            lane=alert.lane,
            step="alert",
            kind="alert",
            ordinal=ordinal,
            number=contact.number,
            about_ref=alert.sender_ref,
            received_at=alert.received_at,
        )
        return Output(names.SMS_OUT, alert.lane, message, alert.query_id, "alert", ordinal)

    def _words(self, alert: Alert, lang: str, quoted: str, count: int) -> str:
        number = "{number}"  # resolved by sms: the number leaves this node by SMS only
        if count > 1:
            return self._texts.say("alert_responder_more", lang, count=count - 1, number=number, text=quoted)
        template = self._texts.template(alert.topic, lang) if alert.topic else None
        what = template.title if template else ", ".join(alert.needs) or alert.priority
        # Somebody may be hiding beside the phone: then the responder is told not to call it.
        key: Notice = "alert_responder_discreet" if template and template.discreet else "alert_responder"
        at = time.strftime("%H:%M", time.localtime(alert.received_at or time.time()))
        return self._texts.say(key, lang, what=what, text=quoted, number=number, time=at)

    def _event(self, kind: str, alert: Alert, **fields: object) -> None:
        self._emit(
            Event(
                kind=kind,
                node=self._node,
                actor="alert",
                at=time.time(),
                query_id=alert.query_id,
                sender_ref=alert.sender_ref,
                lane=alert.lane,
                fields=fields,
            )
        )


def _too_long(text: str) -> bool:
    [cut] = segment([text.replace("{number}", LONGEST_NUMBER)])
    return cut.count > MAX_SEGMENTS[cut.encoding]


class AlertConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[alert]`` table."""

    contacts: str = "contacts.toml"
    """The responders' file; a relative path is looked for in the data directory."""


async def build(context: Context) -> Actor:
    """The actor of a node; a warning says so when nobody would hear an alert."""
    config = context.config.section("alert", AlertConfig)
    path = context.config.node.directory / config.contacts
    contacts = load_contacts(path)
    if not contacts:
        log.warning("no responders: alerts are only events until %s names some", path)
    alerts = Alerts(
        node=context.identity.node,
        contacts=contacts,
        texts=Texts.load(emergency_number=context.config.node.emergency_number),
        cases=await context.bucket("alerts"),
        emit=context.emit,
    )
    return Actor("alert", {names.ALERT: alerts.handle})
