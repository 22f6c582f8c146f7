"""What the bucket ``session`` keeps of one person. Only `intake` writes it; `alert` reads the whereabouts."""

from collections.abc import Sequence
from typing import Final

import msgspec

from actors._people.cases import Whereabouts

RECENT_KEPT: Final = 64
"""Recent texts kept per person: 64 of about 60 octets, so a record stays under 5 kB."""
WINDOW_S: Final = 600.0
"""Texts older than this no longer count as repeats or as part of a flood."""
TOPIC_S: Final = 4 * 3600.0
"""How long an emergency goes on after the last text about it: labour and a trapped night are long."""
BEFORE_S: Final = 1800.0
"""How long a text may refer to the question before it: «and for a baby?»."""
BEFORE_CHARACTERS: Final = 200
"""Characters kept of a question."""
QUESTIONS_KEPT: Final = 3
"""The question, the one before, and one more for a text that is delivered again after the next one."""
MIN_LETTERS: Final = 3
"""A text with fewer letters asks nothing that a later one could refer to."""


class Moment(msgspec.Struct, frozen=True, array_like=True):
    """When a text was heard: on the boot clock, and by the network's stamp (Unix seconds) where it had one.

    Two moments of one boot are compared by the boot clock, which nobody can set back; across a restart, when
    a node may have been off for days, by the stamps.
    """

    boot_id: str
    at_s: float
    smsc_at: float | None = None

    def is_within(self, seconds: float, now: "Moment") -> bool:
        """Whether it is before ``now`` and at most so long; unknown counts as no."""
        if self.boot_id == now.boot_id:
            return 0 <= now.at_s - self.at_s <= seconds
        if self.smsc_at is None or now.smsc_at is None:
            return False
        return abs(now.smsc_at - self.smsc_at) <= seconds


class Recent(msgspec.Struct, frozen=True, omit_defaults=True):
    """A text heard lately: its query id, a digest of its words, when (boot clock), how often before."""

    id: str
    digest: str
    at_s: float
    repeat: int
    topic: str = ""
    """Topic of the emergency that the person was in when it came."""
    reply: int = 0
    """Branch of that topic that it chose; 0: it is another text."""


class Told(msgspec.Struct, frozen=True):
    """When a person was last told that something cannot be read: at which message, on the boot clock."""

    id: str
    boot_id: str
    at_s: float


class Danger(msgspec.Struct, frozen=True, array_like=True):
    """The emergency that a person is in: its template's topic, the text that told of it, and when the last
    text about it came."""

    topic: str
    id: str
    heard: Moment


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """A question, shortened to :data:`BEFORE_CHARACTERS`."""

    id: str
    text: str
    heard: Moment


class Person(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record of one person."""

    lang: str = ""
    lang_chosen: bool = False
    menu_at_s: float = -1.0
    boot_id: str = ""
    numbered_on: int = 0
    """Day (Unix) on which the number was last written to ``numbers``, whose entries expire."""
    recent: tuple[Recent, ...] = ()
    told: dict[str, Told] = {}
    whereabouts: Whereabouts | None = None
    """Where the person said they are, for this alert and the next."""
    danger: Danger | None = None
    asked: tuple[Asked, ...] = ()

    def topic(self, query_id: str, now: Moment) -> str:
        """Topic of the emergency that the person is in before a text; empty: none, or it is over."""
        if self.danger is None or self.danger.id == query_id:  # delivered again after a restart
            return ""
        return self.danger.topic if self.danger.heard.is_within(TOPIC_S, now) else ""

    def before(self, query_id: str, text: str, now: Moment) -> str:
        """The question that the person asked before this one, lately; empty: none. The same text sent again
        is no other question."""
        earlier: Sequence[Asked] = self.asked
        this = next((place for place, one in enumerate(earlier) if one.id == query_id), None)
        if this is not None:
            earlier, now = earlier[:this], earlier[this].heard
        return next(
            (
                one.text
                for one in reversed(earlier)
                if one.text != text[:BEFORE_CHARACTERS] and one.heard.is_within(BEFORE_S, now)
            ),
            "",
        )

    def hears(self, recent: Recent, now: Moment, *, topic: str, question: str) -> "Person":
        """The record with one more text: ``topic`` when it is an emergency, ``question`` when it asks
        something; both may be empty. A reply goes on with the emergency it is about; a new one closes the
        menu of HELP, because its own menu is the later one."""
        danger = self.danger
        if recent.reply and danger:
            danger = msgspec.structs.replace(danger, heard=now)
        elif topic:
            danger = Danger(topic, recent.id, now)
        is_new = danger is not None and danger.id == recent.id
        same_boot = self.boot_id == now.boot_id
        kept = self.recent_within(now)[-RECENT_KEPT + 1 :]
        asked = Asked(recent.id, question[:BEFORE_CHARACTERS], now)
        return msgspec.structs.replace(
            self,
            menu_at_s=self.menu_at_s if same_boot and not is_new else -1.0,
            boot_id=now.boot_id,
            recent=(*kept, recent),
            danger=danger,
            asked=(*self.asked, asked)[-QUESTIONS_KEPT:] if question and not recent.reply else self.asked,
        )

    def recent_within(self, now: Moment) -> tuple[Recent, ...]:
        """The texts of the last :data:`WINDOW_S`; a restart forgets them."""
        if self.boot_id != now.boot_id:
            return ()
        return tuple(one for one in self.recent if now.at_s - one.at_s < WINDOW_S)


def is_question(text: str) -> bool:
    """Whether a later text could refer to this one: it has words."""
    return sum(c.isalpha() for c in text[:BEFORE_CHARACTERS]) >= MIN_LETTERS
