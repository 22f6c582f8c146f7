"""What may leave a node of a question that nobody there could answer, and when.

Redacted by the same rules as what is asked of the centre, and kept here if the redaction is in any doubt. No
pseudonym, no number, no time but the day; sent later and in an order that says nothing of when it was asked.
"""

import asyncio
import datetime as dt
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Final, NamedTuple

import msgspec
from evy_core import Redactor, Triager

from actors._collected.config import CollectConfig
from actors._people.texts import plain_words, visible
from actors._retrieval.confidence import UNSURE
from actors._runtime import clock
from actors._runtime.actor import Emit, KeyValue, Output
from actors._runtime.context import Context
from actors._runtime.provision import Place
from actors._runtime.state import change, read
from actors.knowledge import redactor, triager
from subjects import names
from subjects.errors import EvyError
from subjects.messages import MAX_UNANSWERED, Answer, Event, Unanswered

log = logging.getLogger("evy.collect")

ABOUT_NOBODY: Final = frozenset({"violence"})
"""Needs whose texts never leave, however they are worded: somebody may be recognised by what was done."""

PER_PERSON: Final = 5
"""Questions of one person in a day: one phone must not speak for a valley."""

MOST_WAITING: Final = 200
"""Questions that wait here for the link, 300 octets each; further ones are dropped."""

MOST_IN_HAND: Final = 32
"""Answers whose question is still to be looked at, 1 kB each."""

SEND_EVERY_S: Final = 600.0
MOST_AT_ONCE: Final = 20
"""With :data:`SEND_EVERY_S`: 7 kB in ten minutes, a second of a line of 50 kbit/s."""

CROWDED: Final = 20
"""With so many messages in the uplink nothing of this is added: people's questions go first."""

_LEAST_LETTERS: Final = 8
_KEY: Final = "today"
_CODE: Final = (2, 3)
"""Letters of a language code, ISO 639."""


class Held(msgspec.Struct, frozen=True, omit_defaults=True):
    """One question that waits to leave."""

    id: str
    text: str
    lang: str
    day: str = ""
    needs: tuple[str, ...] = ()
    near: bool = False


class Notebook(msgspec.Struct, frozen=True, omit_defaults=True):
    """What waits, and what of today was taken already, by hashes whose ``salt`` ends with the day."""

    day: str = ""
    salt: str = ""
    taken: tuple[tuple[str, str], ...] = ()
    """Person and question, hashed."""
    waiting: tuple[Held, ...] = ()


class Today(NamedTuple):
    """``name`` tells days apart, also those of a clock that nobody set; ``date`` is for people, or empty;
    ``salt`` is a secret that this day has if it begins now."""

    name: str
    date: str
    salt: str


class Refused(NamedTuple):
    """Why a question stays on its node."""

    reason: str


def noted(
    book: Notebook | None, asked: Answer, text: str, today: Today, per_day: int
) -> tuple[Notebook, str]:
    """The notebook with one more question, whose redacted words are ``text``, or why it is not in it.

    The same question of the same person counts once a day.
    """
    book = book or Notebook()
    if book.day != today.name:
        book = Notebook(today.name, today.salt, (), book.waiting)
    plain = " ".join(plain_words(text).replace("?", " ").split())
    mark = (_hash(book.salt, asked.sender_ref), _hash(book.salt, plain))
    if mark in book.taken:
        return book, "the same person asked the same today"
    if sum(person == mark[0] for person, _ in book.taken) >= PER_PERSON:
        return book, f"{PER_PERSON} questions of one person are enough for a day"
    if len(book.taken) >= per_day:
        return book, f"{per_day} questions have left today"
    if len(book.waiting) >= MOST_WAITING:
        return book, f"{MOST_WAITING} questions wait already"
    held = Held(
        id=_hash(book.salt, f"{asked.sender_ref} {plain}", octets=16),
        text=text,
        lang=asked.lang,
        day=today.date,
        needs=tuple(need for need in asked.needs if need != "none")[:8],
        near=asked.step != "unsure",
    )
    taken, waiting = (*book.taken, mark), (*book.waiting, held)
    return msgspec.structs.replace(book, taken=taken, waiting=waiting), ""


def _hash(salt: str, text: str, *, octets: int = 8) -> str:
    return hashlib.blake2b(text.encode(), key=salt.encode(), digest_size=octets).hexdigest()


def is_sign(answer: Answer) -> bool:
    """Whether what a person gets shows that knowledge is missing: "I do not know", or a passage that only
    may fit. Emergencies have their templates."""
    if answer.kind != "reply" or answer.lane == "flash" or answer.node_only:
        return False
    near = answer.step == "verbatim" and bool(answer.passages) and answer.passages[0].score < UNSURE
    return answer.step == "unsure" or near


def leaves(answer: Answer, rules: Redactor, judge: Triager) -> str | Refused:
    """The words of a question as they may leave the node. In doubt they do not."""
    if len(answer.question) > MAX_UNANSWERED:
        return Refused(f"longer than {MAX_UNANSWERED} characters: it tells whose it is")
    [found] = judge.classify([answer.question])
    [redacted] = rules.redact([answer.question])
    text = " ".join(visible(redacted.text).split())
    lang = answer.lang
    obstacles = {
        "about violence": bool(ABOUT_NOBODY.intersection((*answer.needs, *found.needs))),
        "an emergency has its template": found.priority == "emergency",
        "the redaction is in doubt": redacted.doubtful,
        f"longer than {MAX_UNANSWERED} characters once redacted": len(text) > MAX_UNANSWERED,
        "too short to be about anything": sum(map(str.isalpha, text)) < _LEAST_LETTERS,
        "its language is unknown": not (lang.isascii() and lang.islower() and len(lang) in _CODE),
    }
    reason = next((reason for reason, holds in obstacles.items() if holds), "")
    return Refused(reason) if reason else text


class Leaving:
    """Takes note of questions without an answer, and lets them go to the centre when there is room."""

    def __init__(
        self,
        *,
        node: str,
        book: KeyValue,
        config: CollectConfig,
        regions: tuple[str, ...],
        emit: Emit,
        publish: Callable[[Output], Awaitable[None]],
        has_room: Callable[[], Awaitable[bool]],
        today: Callable[[], Today],
        now: Callable[[], float],
    ) -> None:
        """``has_room`` tells whether the uplink is there and idle; ``now`` is Unix time, for events."""
        self._node = node
        self._book = book
        self._config = config
        self._regions = tuple(region for region in regions if len(region) <= 40)[:8]
        self._emit = emit
        self._publish = publish
        self._has_room = has_room
        self._today = today
        self._now = now
        self._in_hand: asyncio.Queue[Answer] = asyncio.Queue(MOST_IN_HAND)

    def note(self, answer: Answer) -> None:
        """Looks at what a person gets; keeps nobody waiting, and never fails."""
        if not is_sign(answer):
            return
        try:
            self._in_hand.put_nowait(answer)
        except asyncio.QueueFull:
            self._tell(answer, "too many at once")

    async def keep(self) -> None:
        """Writes down what may leave, for ever."""
        while True:
            await self.keep_one(await self._in_hand.get())

    async def keep_one(self, answer: Answer) -> None:
        """Writes down one question, or why it stays here."""
        found = await asyncio.to_thread(self._read, answer)
        if isinstance(found, Refused):
            self._tell(answer, found.reason)
            return
        today = self._today()
        try:
            reason = await change(
                self._book,
                _KEY,
                Notebook,
                lambda book: noted(book, answer, found, today, self._config.per_day),
            )
        except EvyError as error:  # a sign that is lost; the person has the answer
            reason = str(error)
        self._tell(answer, reason)

    async def send(self, every_s: float = SEND_EVERY_S) -> None:
        """Lets go what waits, for ever."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.send_some()
            except EvyError as error:
                log.warning("unanswered questions wait: %s", error)

    async def send_some(self) -> int:
        """Sends some of what waits if there is room; gives how many. A crash in between sends them again,
        under the same ids. Raises :class:`EvyError`; what waits then goes on waiting."""
        book = await read(self._book, _KEY, Notebook)
        if not (book and book.waiting and await self._has_room()):
            return 0
        # The ids are hashes: their order is nobody's, and in it nothing tells who asked after whom.
        some = sorted(book.waiting, key=lambda held: held.id)[:MOST_AT_ONCE]
        for held in some:
            message = Unanswered(node=self._node, regions=self._regions, **msgspec.structs.asdict(held))
            await self._publish(Output(names.UNANSWERED, "routine", message, held.id, optional=True))
        gone = {held.id for held in some}

        def without(book: Notebook | None) -> tuple[Notebook | None, None]:
            if book is None:
                return None, None
            left = tuple(held for held in book.waiting if held.id not in gone)
            return msgspec.structs.replace(book, waiting=left), None

        await change(self._book, _KEY, Notebook, without)
        return len(some)

    def _read(self, answer: Answer) -> str | Refused:
        return leaves(answer, _redactor(), triager())

    def _tell(self, answer: Answer, reason: str) -> None:
        fields = {"kept": not reason, "near": answer.step != "unsure", "reason": reason}
        self._emit(
            Event(
                kind="unanswered",
                node=self._node,
                actor="compress",
                at=self._now(),
                query_id=answer.query_id,
                sender_ref=answer.sender_ref,
                lane=answer.lane,
                fields=fields,
            )
        )


@cache
def _redactor() -> Redactor:
    """Made at the first question: it takes megabytes."""
    return redactor()


class _Rag(msgspec.Struct, frozen=True):
    """What is read of the ``[rag]`` table here; `rag` knows all of it."""

    regions: tuple[str, ...] = ()


def _regions(context: Context) -> tuple[str, ...]:
    """Where the node is: names of regions that articles may be limited to, a country at the smallest."""
    return context.config.section("rag", _Rag).regions


async def leaving(context: Context) -> Leaving | None:
    """What a node needs to let questions go; None where there is no centre, or they shall stay."""
    node = context.config.node
    config = context.config.section("collect", CollectConfig)
    if not Place.of(node).linked:
        return None
    book = await context.bucket("unanswered")
    if not config.send or node.node_only:
        await book.delete(_KEY)
        return None
    state, uplink = context.node_state(), f"UP_{context.identity.node}"

    async def has_room() -> bool:
        if state().link == "down":
            return False
        found = [info for info in await context.streams() if info.config["name"] == uplink]
        return sum(info.state.messages for info in found) < CROWDED

    def today() -> Today:
        salt = secrets.token_hex(16)
        if state().clock == "unset":
            return Today(f"{clock.boot_id()} {clock.boot_s() // 86400:.0f}", "", salt)
        date = dt.datetime.fromtimestamp(context.now(), dt.UTC).date().isoformat()
        return Today(date, date, salt)

    return Leaving(
        node=context.identity.node,
        book=book,
        config=config,
        regions=_regions(context),
        emit=context.emit,
        publish=lambda output: context.publish(output, "compress"),
        has_room=has_room,
        today=today,
        now=context.now,
    )
