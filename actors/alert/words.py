"""What responders and the person are told, in their languages and within their segments."""

import time
from collections.abc import Callable
from typing import Final

from evy_core import segment

from actors._people.cases import Case, Held
from actors._people.contacts import Contact
from actors._people.place import shown
from actors.knowledge import ENGLISH, Notice, Texts
from subjects.messages import Place

TEXT_CHARACTERS: Final = 160
"""How much of the person's own words goes into an alert."""
BRIEF_CHARACTERS: Final = 60
"""A case in a digest."""
MAX_SEGMENTS: Final = {"gsm7": 2, "ucs2": 3}
"""Segments of one alert; letters outside GSM-7 halve what a segment holds."""
LONGEST_NUMBER: Final = "+" + "9" * 15
SHORTEST_QUOTE: Final = 30
NUMBER: Final = "{number}"
"""Resolved by sms: the number leaves this node by SMS only."""

Clock = Callable[[], float | None]
"""Unix time, or None while the node does not know it."""


class Words:
    """Every text of `alert`."""

    def __init__(self, texts: Texts, clock: Clock) -> None:
        self._texts = texts
        self._clock = clock

    def lang_of(self, contact: Contact) -> str:
        """The first of the responder's languages that there are notices in."""
        return next((code for code in contact.languages if code in self._texts.languages), ENGLISH)

    def is_discreet(self, topic: str) -> bool:
        """Whether somebody dangerous may see the phone."""
        template = self._texts.template(topic, ENGLISH) if topic else None
        return template is not None and template.discreet

    def alert(self, contact: Contact, case: Case, place: str) -> str:
        """Who is in danger, why, and the question whether the responder goes."""
        lang = self.lang_of(contact)
        # Somebody may be hiding beside the phone: then the responder is told not to call it.
        key: Notice = "alert_responder_discreet" if case.discreet else "alert_responder"
        what, at = self.what(case, lang), self._time(case.received_at)
        # Of somebody at another node nothing is here but where and what: no number and no words.
        who = f"EVY {case.origin.partition('.')[0]}" if case.origin else NUMBER
        words = case.text or ", ".join(case.needs)
        return self._fitted(key, lang, words, case=case.number, what=what, number=who, time=at, place=place)

    def more(self, contact: Contact, case: Case, count: int) -> str:
        """What the person texted since."""
        lang = self.lang_of(contact)
        return self._fitted(
            "alert_responder_more", lang, case.text, case=case.number, count=count, number=NUMBER
        )

    def what(self, case: Case, lang: str) -> str:
        """What it is about, in a few words."""
        template = self._texts.template(case.topic, lang) if case.topic else None
        return template.title if template else ", ".join(case.needs) or case.priority

    def say(self, key: Notice, lang: str, **values: object) -> str:
        """A notice; a value that is empty leaves no gap."""
        return " ".join(self._texts.say(key, lang, **values).split())

    def now(self) -> str:
        """The time for people, empty while the node does not know it."""
        return self._time(self._clock() or 0.0)

    def place(self, place: Place | None, lang: str, age_s: float = 0.0) -> str:
        """Where the person says they are, as a sentence; empty when nothing is known."""
        if place is None:
            return ""
        if age_s < 3600.0:
            return self.say("place_now", lang, place=shown(place))
        return self.say("place_last", lang, hours=round(age_s / 3600), place=shown(place))

    def brief(self, case: Case, lang: str) -> str:
        """A case in a digest."""
        where = f", {shown(case.place)}" if case.place else ""
        return f"{case.number} {self.what(case, lang)}{where}"[:BRIEF_CHARACTERS]

    def digest(self, contact: Contact, held: list[Held]) -> tuple[str, int]:
        """As many cases as fit, most urgent first, and how many those are."""
        lang = self.lang_of(contact)
        count = len({one.ref for one in held})
        fitting = len(held)
        while True:
            left = f" +{len(held) - fitting}" if fitting < len(held) else ""
            cases = "; ".join(one.brief for one in held[:fitting]) + left
            text = self.say("alert_digest", lang, count=count, cases=cases)
            if fitting == 1 or not _too_long(text):
                return text, fitting
            fitting -= 1

    def _fitted(self, key: Notice, lang: str, text: str, **values: object) -> str:
        said = self.say(key, lang, text=text, **values)
        while len(text) > SHORTEST_QUOTE and _too_long(said):
            text = text[: max(SHORTEST_QUOTE, len(text) - 10)]
            said = self.say(key, lang, text=text, **values)
        return said

    def _time(self, at: float) -> str:
        return time.strftime("%H:%M", time.localtime(at)) if at and self._clock() is not None else ""


def _too_long(text: str) -> bool:
    [cut] = segment([text.replace(NUMBER, LONGEST_NUMBER)])
    return cut.count > MAX_SEGMENTS[cut.encoding]
