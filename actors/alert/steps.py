"""What becomes of a case: pure steps from one record to the next, with the texts that follow in its outbox.

A step may run again when another worker was faster, or after a crash; nothing here touches the bus.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import msgspec

from actors._people.cases import NEIGHBOUR, Asked, Case, Said
from actors._people.contacts import AlertConfig, Contact, in_order
from actors._people.place import one_line, shown
from actors.alert.words import NUMBER, TEXT_CHARACTERS, Words
from subjects.messages import Alert, Place, ResponderReply

COALESCE_S: Final = 900.0
"""Within this time the responders hear of a case's further texts only when :data:`TELL_AGAIN_AT` says so. A
person who texts again so long after nobody answered opens a new case, and everybody is asked again."""
TELL_AGAIN_AT: Final = (3, 10, 30, 100)
"""A case's further texts reach the responders when there are so many, or when a new need appears."""
HANDLED_KEPT: Final = 64
UPDATES: Final = 5
"""Texts that the responders of a case get about what is no further emergency: the place, other words."""
TOLD_AT_MOST: Final = 6
"""Texts to the person about who answered; a change of what is true is one."""

ASK_PLACE_ORDINAL: Final = 10
TOLD_ORDINAL: Final = 20
"""Ordinals of texts to the person; `intake` uses those below ten for the same query."""

SAFE: Final = "safe"
"""What the other nodes are told of a case that is over."""

Happened = tuple[str, dict[str, Any]]
"""Kind and fields of an event."""

changed = msgspec.structs.replace


class Steps:
    """The rules of a case.

    ``minute`` gives the minute of the local day, None while it is not known; ``has_mesh`` whether other
    nodes may hear of it, ``is_mute`` whether no text of this node leaves.
    """

    def __init__(  # noqa: PLR0917  # who is asked, in which words, by which rules
        self,
        contacts: Sequence[Contact],
        words: Words,
        config: AlertConfig,
        minute: Callable[[], int | None],
        has_mesh: Callable[[], bool] = lambda: False,
        is_mute: Callable[[], bool] = lambda: False,
    ) -> None:
        self._contacts = {contact.key: contact for contact in contacts}
        self._words = words
        self._config = config
        self._minute = minute
        self._has_mesh = has_mesh
        self._is_mute = is_mute

    def adopted(self, case: Case, boot_id: str, now_s: float) -> Case:
        """A case of an earlier boot goes on where it was, with every wait begun anew: how long the node was
        off is not known, and asking somebody a few minutes late is better than never."""
        if case.boot_id == boot_id or case.closed:
            return case
        return changed(
            case, boot_id=boot_id, heard_at_s=now_s, asked_at_s=now_s, told_at_s=now_s - COALESCE_S - 1
        )

    def opened(  # what is known when it opens
        self,
        alert: Alert,
        number: int,
        boot_id: str,
        now_s: float,
        *,
        known: tuple[Place, float] | None,
        consents: int,
        own_key: str = "",
    ) -> tuple[Case, list[Happened]]:
        """A new case; the first responders are asked, and the person for the place."""
        place, age_s = known or (None, 0.0)
        case = Case(
            number=number,
            query_id=alert.query_id,
            boot_id=boot_id,
            lane=alert.lane,
            lang=alert.lang,
            topic=alert.topic,
            priority=alert.priority,
            text=one_line(alert.text, TEXT_CHARACTERS),
            needs=alert.needs,
            received_at=alert.received_at,
            count=1,
            heard_at_s=now_s,
            told_at_s=now_s,
            handled=(alert.query_id,),
            discreet=self._words.is_discreet(alert.topic),
            place=place,
            place_asked=alert.place_asked,
            consents=consents,
            own_key=own_key,
            origin=alert.origin,
        )
        case, happened = self.ask(case, now_s, age_s=age_s)
        if not case.asked:
            case, more = self._ask_neighbours(changed(case, unheard=True))
            return case, [("alert_unheard", {"responders": [], "count": 1}), *more]
        more = []
        if self._is_mute():
            case, more = self._ask_neighbours(case)
        if not (case.discreet or case.place or case.place_asked):
            said = self._to_person(case, self._words.say("ask_place", case.lang), ASK_PLACE_ORDINAL)
            case = changed(case, place_asked=True, outbox=(*case.outbox, said))
        return case, [("alert_sent", dict(happened[0][1], count=1, **_area(case))), *more]

    def ask(self, case: Case, now_s: float, *, age_s: float = 0.0) -> tuple[Case, list[Happened]]:
        """Asks the next responders; the case as it was when there are none left."""
        asked = {case.own_key, *(one.key for one in case.asked)}
        ordered = in_order(
            self._contacts.values(),
            case.needs,
            where=case.place.text if case.place else "",
            minute=self._minute(),
        )
        wave = [contact for contact in ordered if contact.key not in asked][: self._config.at_once]
        for contact in wave:
            place = self._words.place(case.place, self._words.lang_of(contact), age_s)
            text = self._words.alert(contact, case, place)
            said = self.to_responder(case, contact, text, case.query_id, len(case.asked), asks=True)
            case = changed(
                case,
                asked=(*case.asked, Asked(contact.key)),
                asked_at_s=now_s,
                told_at_s=now_s,
                outbox=(*case.outbox, said),
            )
        if not wave:
            return case, []
        return case, [("alert_escalated", {"responders": [c.name for c in wave], "asked": len(case.asked)})]

    def heard_more(
        self, case: Case, alert: Alert, now_s: float, *, place: Place | None
    ) -> tuple[Case, list[Happened]]:
        """A further text of a person whose case is open; ``place`` is where they were last."""
        new_needs = tuple(need for need in alert.needs if need not in case.needs)
        count = case.count + 1
        moved = place is not None and place != case.place
        tell = new_needs or moved or count in TELL_AGAIN_AT or now_s - case.told_at_s > COALESCE_S
        case = changed(
            self._handled(case, alert.query_id, now_s),
            count=count,
            needs=(*case.needs, *new_needs),
            text=one_line(alert.text, TEXT_CHARACTERS),
            lang=alert.lang,
            place=place or case.place,
            discreet=case.discreet or self._words.is_discreet(alert.topic),
        )
        if not tell:
            return case, [("alert_coalesced", {"count": count})]
        case = self._to_all(
            case, lambda contact: self._words.more(contact, case, count - 1), alert.query_id, now_s
        )
        if not new_needs:
            kind = "alert_sent" if self.names(case) else "alert_unheard"
            return case, [(kind, {"responders": self.names(case), "count": count})]
        # The responders of the new need first: those asked so far may be of no use for it.
        case, happened = self.ask(changed(case, topic=alert.topic or case.topic), now_s)
        kind = "alert_sent" if self.names(case) else "alert_unheard"
        return case, [*happened, (kind, {"responders": self.names(case), "count": count})]

    def at_place(self, case: Case, alert: Alert, now_s: float) -> tuple[Case, list[Happened]]:
        """The person said where they are: the responders get it, unless it is nothing new."""
        case = self._handled(case, alert.query_id, now_s)
        place = alert.place
        if place is None or place == case.place:
            return case, []
        case = changed(case, place=place)
        if case.neighbours:
            case, _ = self._ask_neighbours(case)
        if case.updates >= UPDATES:
            return case, [("alert_coalesced", {"updates": case.updates})]
        case = changed(case, updates=case.updates + 1)

        def text(contact: Contact) -> str:
            lang = self._words.lang_of(contact)
            return self._words.say("alert_place", lang, case=case.number, number=NUMBER, place=shown(place))

        case = self._to_all(case, text, alert.query_id, now_s)
        return case, [("alert_place", {"responders": self.names(case), **_area(case)})]

    def wrote(self, case: Case, alert: Alert, now_s: float) -> tuple[Case, list[Happened]]:
        """The person texted something that is no emergency and no question: it may help who goes to find
        them, or tell them to hurry less."""
        case = self._handled(case, alert.query_id, now_s)
        if case.updates >= UPDATES:
            return case, [("alert_coalesced", {"updates": case.updates})]
        words = one_line(alert.text, TEXT_CHARACTERS)

        def text(contact: Contact) -> str:
            lang = self._words.lang_of(contact)
            return self._words.say("alert_words", lang, case=case.number, number=NUMBER, text=words)

        told = self._to_all(changed(case, updates=case.updates + 1), text, alert.query_id, now_s)
        return told, [("alert_sent", {"responders": self.names(case), "count": case.count})]

    def safe(self, case: Case, alert: Alert, now_s: float) -> tuple[Case, list[Happened]]:
        """The person says that the danger is over. A discreet case goes on: somebody else may hold the
        phone."""
        case = self._handled(case, alert.query_id, now_s)
        if case.discreet:
            return self.wrote(case, alert, now_s)

        def text(contact: Contact) -> str:
            lang = self._words.lang_of(contact)
            return self._words.say("alert_safe", lang, case=case.number, number=NUMBER)

        case = changed(self._to_all(case, text, alert.query_id, now_s), closed=True)
        if case.neighbours:
            case, _ = self._ask_neighbours(case, SAFE)
        return case, [("alert_closed", {"responders": self.names(case), "reason": "safe"})]

    def answered(
        self, case: Case, reply: ResponderReply, now_s: float, *, stopped: bool, in_full: bool
    ) -> tuple[Case, list[Happened]]:
        """A responder answered. The person learns of it when it changes what is true."""
        if reply.query_id in case.handled or case.closed:
            return case, []
        before = case.state == "coming"
        others = [one for one in case.asked if one.key != reply.responder]
        case = changed(case, handled=(*case.handled, reply.query_id)[-HANDLED_KEPT:])
        case = changed(case, asked=(*others, Asked(reply.responder, reply.answer)))
        contact = self._contacts.get(reply.responder)
        happened: list[Happened] = [
            (f"alert_{reply.answer}", {"responder": _name(contact, reply), "case": case.number})
        ]
        if reply.answer == "coming" and contact and not in_full:
            place = self._words.place(case.place, self._words.lang_of(contact))
            text = self._words.alert(contact, case, place)
            owed = changed(self.to_responder(case, contact, text, reply.query_id, 1), owed=True)
            case = changed(case, outbox=(*case.outbox, owed))
        if not before and case.state == "coming":
            case, told = self._tell(case, "coming", stopped=stopped, time=self._words.now())
            happened += told
        elif before and case.state != "coming":
            case, told = self._tell(case, "withdrawn", stopped=stopped)
            happened += told
        case, more = self.waited(case, now_s, stopped=stopped)
        return case, happened + more

    def waited(self, case: Case, now_s: float, *, stopped: bool) -> tuple[Case, list[Happened]]:
        """Asks the next responders when it is time; when all were asked, says that nobody answered."""
        if now_s < self.due_s(case):
            return case, []
        asked, happened = self.ask(case, now_s)
        if happened:
            return changed(asked, unheard=False), happened
        case = changed(case, unheard=True)
        case, told = self._tell(case, "unheard", stopped=stopped)
        case, more = self._ask_neighbours(case)
        said: Happened = ("alert_unheard", {"responders": self.names(case), "count": case.count})
        return case, [said, *told, *more]

    def _ask_neighbours(self, case: Case, what: str = "") -> tuple[Case, list[Happened]]:
        """Tells the other nodes of the mesh: reference, place and need. Each has responders of its own."""
        if case.origin or not self._has_mesh():
            return case, []
        said = Said(NEIGHBOUR, what, case.lang, case.query_id, case.neighbours)
        case = changed(case, neighbours=case.neighbours + 1, outbox=(*case.outbox, said))
        return case, [("alert_neighbours", {"case": case.number})]

    def posted(self, case: Case, posted: Collection[Said], unreached: Collection[str]) -> Case:
        """The case without the texts that are on the bus; who could not be reached is not waited for."""
        asked = (
            changed(one, answer="unreached") if one.key in unreached and one.answer is None else one
            for one in case.asked
        )
        return changed(
            case, asked=tuple(asked), outbox=tuple(one for one in case.outbox if one not in posted)
        )

    def due_s(self, case: Case) -> float:
        """When (boot clock) the next responders are asked; never, for ever: infinity."""
        if case.state != "asking" or not case.asked:
            return float("inf")
        if not any(one.may_go for one in case.asked):
            return 0.0
        return case.asked_at_s + self._config.wait_s.of(case.lane)

    def names(self, case: Case) -> list[str]:
        """Names of those asked and still concerned."""
        return [contact.name for contact in self._listening(case)]

    def to_responder(
        self, case: Case, contact: Contact, text: str, query_id: str, ordinal: int, *, asks: bool = False
    ) -> Said:
        """A text to a responder, for the outbox."""
        lang = self._words.lang_of(contact)
        return Said(
            contact.key,
            text,
            lang,
            query_id,
            ordinal,
            brief=self._words.brief(case, lang),
            asks=asks,
            received_at=case.received_at if query_id == case.query_id and case.count == 1 else 0.0,
        )

    def _listening(self, case: Case) -> list[Contact]:
        """Those who go; while nobody does, all who were asked and did not say that they cannot."""
        going = [one for one in case.asked if one.answer == "coming"]
        chosen = going or [one for one in case.asked if one.may_go]
        return [self._contacts[one.key] for one in chosen if one.key in self._contacts]

    def _to_all(self, case: Case, text: Callable[[Contact], str], query_id: str, now_s: float) -> Case:
        texts = [
            self.to_responder(case, contact, text(contact), query_id, ordinal)
            for ordinal, contact in enumerate(self._listening(case))
        ]
        return changed(case, told_at_s=now_s, outbox=(*case.outbox, *texts))

    def _handled(self, case: Case, query_id: str, now_s: float) -> Case:
        return changed(case, handled=(*case.handled, query_id)[-HANDLED_KEPT:], heard_at_s=now_s)

    def _tell(self, case: Case, key: str, *, stopped: bool, **values: object) -> tuple[Case, list[Happened]]:
        """Tells the person something that has become true, once."""
        if case.origin:
            return self._tell_origin(case, key)
        withheld = ""
        if case.discreet:
            withheld = "somebody may see the phone"
        elif stopped:
            withheld = "STOP"
        elif len(case.told) >= TOLD_AT_MOST:
            withheld = f"told {TOLD_AT_MOST} times already"
        if withheld:
            return case, [("alert_not_told", {"what": key, "reason": withheld})]
        if (case.told and case.told[-1] == key) or (key == "unheard" and case.told):
            return case, []  # what was said last is still true, or says as much
        text = self._words.say(f"told_{key}", case.lang, **values)  # type: ignore[arg-type]  # all three exist
        said = self._to_person(case, text, TOLD_ORDINAL + len(case.told))
        case = changed(case, told=(*case.told, key), outbox=(*case.outbox, said))
        return case, [("alert_told", {"what": key})]

    def _tell_origin(self, case: Case, key: str) -> tuple[Case, list[Happened]]:
        """Tells the person's own node what it does not know: that somebody here goes, or no longer does."""
        before = case.told[-1] if case.told else ""
        if key == before or (key != "coming" and before != "coming") or len(case.told) >= TOLD_AT_MOST:
            return case, []
        said = Said(NEIGHBOUR, key, case.lang, case.query_id, TOLD_ORDINAL + len(case.told))
        return changed(case, told=(*case.told, key), outbox=(*case.outbox, said)), [
            ("alert_told", {"what": key})
        ]

    def _to_person(self, case: Case, text: str, ordinal: int) -> Said:
        return Said("", text, case.lang, case.query_id, ordinal)


def _name(contact: Contact | None, reply: ResponderReply) -> str:
    """Who answered: a responder here, or a node with responders of its own."""
    if contact:
        return contact.name
    return f"mesh node {reply.responder.removeprefix(NEIGHBOUR)}"


def _area(case: Case) -> dict[str, object]:
    """For statistics: the needs of a case and a tenth of a degree around it; nothing of a discreet one, and
    nothing where only words say where it is."""
    place = case.place
    if case.discreet or place is None or place.latitude is None or place.longitude is None:
        return {}
    degrees = {"latitude": round(place.latitude, 1), "longitude": round(place.longitude, 1)}
    return {**degrees, "needs": list(case.needs)}
