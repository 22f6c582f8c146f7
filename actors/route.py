"""route answers emergencies at once and sends everything else on to retrieval.

Consumes ``route``. An emergency gets a reviewed template, in the sender's language where there is one, and
raises an alert; no model has a say in it. A text that arrived in a lower lane is raised to flash here. What
`intake` understood as a reply to a template's menu gets that branch.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from evy_core import Router, Situation, Triage, Triager, segment

from actors._runtime import clock
from actors._runtime.actor import Actor, Emit, Output
from actors._runtime.context import Context
from actors.knowledge import GENERAL, Branch, Template, Texts, route_rules, triager
from subjects import names
from subjects.messages import Alert, Event, OutboundSms, Query
from subjects.services import TriageReply, TriageRequest

MENU_ORDINAL: Final = 9
"""The menu's, among the notices of one text; `alert` uses those from ten on."""
SEGMENTS: Final = {"gsm7": 2, "ucs2": 3}
"""SMS that a template may take, with its menu or without."""
MOST_SENT: Final = 0.9
"""Share of the carrier's limit of an hour from which no menu is sent: the rest is for what saves."""
CLEAR_LANGUAGE: Final = 0.5
"""Confidence from which a text's own language is believed rather than what is known of the person."""


class Route:
    """The handler and what it needs. It keeps nothing between texts."""

    def __init__(
        self,
        *,
        node: str,
        triager: Triager,
        router: Router,
        texts: Texts,
        emit: Emit,
        is_thrifty: Callable[[], bool] = lambda: False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._node = node
        self._triager = triager
        self._router = router
        self._texts = texts
        self._emit = emit
        self._is_thrifty = is_thrifty
        self._now = now

    async def handle(self, query: Query) -> Sequence[Output]:
        """One query → a template or its branch and an alert, or the query for ``rag``."""
        [found] = self._triager.classify([query.text])
        session = query.session
        branch = self._texts.follow.branch(session.topic, session.reply, self._language(query, found))
        if branch:
            return self._goes_on(query, found, branch)
        needs = tuple(need for need in found.needs if need != "none")
        # The lane was chosen from the whole text before it was shortened: an emergency stays one.
        priority = "emergency" if query.lane == "flash" else found.priority
        if query.origin and priority == "emergency":
            # It came by mesh: its own node has sent the template and raised the alert.
            priority = "urgent"
        query = msgspec.structs.replace(
            query,
            lang=self._language(query, found),
            lane=min(query.lane, names.LANE_OF[priority], key=names.LANES.index),
            priority=priority,
            needs=needs,
        )
        [decision] = self._router.decide(
            [
                Situation(
                    priority,
                    has_needs=bool(needs),
                    deadline_s=clock.remaining_s(query.deadline),
                    node_only=query.node_only,
                )
            ]
        )
        topic = (found.template or GENERAL) if decision.next == names.SMS_OUT else ""
        self._event(query, found, topic, decision.reason)
        if decision.next == names.SMS_OUT:
            return self._emergency(query, topic)
        return [Output(names.RAG, query.lane, query, query.id)]

    async def triage(self, question: TriageRequest) -> TriageReply:
        """The service ``route.triage``: the verdict on a text, and the template that would answer it."""
        [found] = self._triager.classify([question.text])
        emergency = found.priority == "emergency"
        return TriageReply(
            priority=found.priority,
            lane=names.LANE_OF[found.priority],
            needs=tuple(need for need in found.needs if need != "none"),
            topic=(found.template or GENERAL) if emergency else "",
            lang=found.lang,
            confidence=found.confidence,
            cues=tuple(cue for cue, _, _ in found.why),
        )

    def _language(self, query: Query, found: Triage) -> str:
        if query.session.lang_chosen or found.lang_confidence < CLEAR_LANGUAGE:
            return query.lang
        return found.lang

    def _goes_on(self, query: Query, found: Triage, branch: Branch) -> Sequence[Output]:
        """The branch. Only words that are an emergency by themselves raise an alert: it joins the open case,
        or opens one when that is over."""
        priority = found.priority if found.priority == "emergency" else "urgent"
        needs = tuple(need for need in found.needs if need != "none")
        lang = self._language(query, found)
        query = msgspec.structs.replace(query, lang=lang, lane="flash", priority=priority, needs=needs)
        self._event(query, found, branch.topic, f"reply {branch.reply}")
        outputs = [self._answer(query, branch)]
        if priority == "emergency":
            outputs.append(self._alert(query, branch.topic))
        return outputs

    def _emergency(self, query: Query, topic: str) -> Sequence[Output]:
        template = self._texts.template(topic, query.lang) or self._texts.template(GENERAL, query.lang)
        assert template is not None  # noqa: S101  # the loader refuses texts without it
        menu = self._texts.menu(template.topic, template.lang)
        whole = segment([f"{template.text} {menu}"])[0]
        rides = bool(menu) and whole.count <= SEGMENTS[whole.encoding]
        outputs = [
            self._answer(query, template, f"{template.text} {menu}" if rides else template.text),
            self._alert(query, topic),
        ]
        if self._is_offered(query, template):
            if menu and not rides:
                outputs.append(self._menu(query, template, menu))
            if template.topic == GENERAL:
                # No text of ours is about what is wrong here: retrieval may know an article that is.
                asked = msgspec.structs.replace(query, lane="priority")
                outputs.append(Output(names.RAG, asked.lane, asked, query.id, "further"))
        return outputs

    def _is_offered(self, query: Query, template: Template) -> bool:
        """Whether what comes beside the template is worth an SMS. The numbers work all the same."""
        session = query.session
        seen = session.repeat > 0 or session.topic == template.topic
        return session.unsolicited_ok and not (template.discreet or seen or self._is_thrifty())

    def _answer(self, query: Query, said: Template | Branch, text: str = "") -> Output:
        reply = OutboundSms(
            query_id=query.id,
            node=query.node,
            text=text or said.text,
            lang=said.lang,
            lane="flash",
            step="template",
            sender_ref=query.sender_ref,
            sources=(said.source.tag,),
            received_at=query.received_at,
        )
        return Output(names.SMS_OUT, "flash", reply, query.id, "reply")

    def _menu(self, query: Query, template: Template, menu: str) -> Output:
        """In the template's own lane, where one person's texts keep their order: in another it would take the
        modem between the template's two parts."""
        notice = OutboundSms(
            query_id=query.id,
            node=query.node,
            text=menu,
            lang=template.lang,
            lane="flash",
            step="notice",
            kind="notice",
            ordinal=MENU_ORDINAL,
            sender_ref=query.sender_ref,
            received_at=query.received_at,
        )
        return Output(names.SMS_OUT, "flash", notice, query.id, "notice", MENU_ORDINAL)

    def _alert(self, query: Query, topic: str) -> Output:
        alert = Alert(
            query_id=query.id,
            node=query.node,
            sender_ref=query.sender_ref,
            text=query.text,
            lang=query.lang,
            lane="flash",
            priority=query.priority,
            needs=query.needs,
            topic=topic,
            received_at=query.received_at,
        )
        return Output(names.ALERT, "flash", alert, query.id)

    def _event(self, query: Query, found: Triage, topic: str, reason: str) -> None:
        self._emit(
            Event(
                kind="triaged",
                node=self._node,
                actor="route",
                at=self._now(),
                query_id=query.id,
                sender_ref=query.sender_ref,
                lane=query.lane,
                fields={
                    "priority": query.priority,
                    "needs": list(query.needs),
                    "topic": topic,
                    "lang": query.lang,
                    "confidence": round(found.confidence, 3),
                    "cues": [cue for cue, _, _ in found.why],
                    "reason": reason,
                },
            )
        )


async def build(context: Context) -> Actor:
    """The actor of a node."""
    router, state = Router(route_rules()), context.node_state()
    [lowest, *_], _ = router.battery_limits

    def is_thrifty() -> bool:
        at = state()
        if any(one.limit_hour and (one.sent_hour or 0) >= MOST_SENT * one.limit_hour for one in at.modems):
            return True
        return at.battery_rule_percent is not None and at.battery_rule_percent < lowest

    route = Route(
        node=context.identity.node,
        triager=triager(context.config.node.directory),
        router=router,
        texts=Texts.of_node(context.config.node.directory, context.config.node.emergency_number),
        emit=context.emit,
        is_thrifty=is_thrifty,
    )
    return Actor("route", {names.ROUTE: route.handle}, services={"route.triage": route.triage})
