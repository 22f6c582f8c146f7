"""route answers emergencies at once and sends everything else on to retrieval.

Consumes ``route``. An emergency gets a reviewed template, in the sender's language where there is one, and
raises an alert; no model has a say in it. A text that arrived in a lower lane is raised to flash here.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from evy_core import Router, Situation, Triage, Triager

from actors._runtime import clock
from actors._runtime.actor import Actor, Emit, Output
from actors._runtime.context import Context
from actors.knowledge import GENERAL, Texts, route_rules, triager
from subjects import names
from subjects.messages import Alert, Event, OutboundSms, Query
from subjects.services import TriageReply, TriageRequest

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
        now: Callable[[], float] = time.time,
    ) -> None:
        self._node = node
        self._triager = triager
        self._router = router
        self._texts = texts
        self._emit = emit
        self._now = now

    async def handle(self, query: Query) -> Sequence[Output]:
        """One query → a template and an alert, or the query for ``rag``."""
        [found] = self._triager.classify([query.text])
        needs = tuple(need for need in found.needs if need != "none")
        # The lane was chosen from the whole text before it was shortened: an emergency stays one.
        priority = "emergency" if query.lane == "flash" else found.priority
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

    def _emergency(self, query: Query, topic: str) -> Sequence[Output]:
        template = self._texts.template(topic, query.lang) or self._texts.template(GENERAL, query.lang)
        assert template is not None  # noqa: S101  # the loader refuses texts without it
        reply = OutboundSms(
            query_id=query.id,
            node=query.node,
            text=template.text,
            lang=template.lang,
            lane="flash",
            step="template",
            sender_ref=query.sender_ref,
            sources=(template.source.tag,),
            received_at=query.received_at,
        )
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
        return [
            Output(names.SMS_OUT, "flash", reply, query.id, "reply"),
            Output(names.ALERT, "flash", alert, query.id),
        ]

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
    route = Route(
        node=context.identity.node,
        triager=triager(),
        router=Router(route_rules()),
        texts=Texts.load(emergency_number=context.config.node.emergency_number),
        emit=context.emit,
    )
    return Actor("route", {names.ROUTE: route.handle}, services={"route.triage": route.triage})
