"""Actor ``rag``: finds the reviewed passage that answers a text, and says how sure it is.

Sure: the passage is sent as it was written. Nearly sure: the small model gets the passages. Else EVY says
honestly that it does not know: wrong advice is worse than none.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec
from evy_core import Router, Situation

from actors._retrieval.confidence import UNSURE
from actors._runtime import clock
from actors._runtime.actor import Actor, Emit, Output
from actors._runtime.context import Context
from actors.knowledge import Texts, route_rules
from actors.rag.index import KnowledgeIndex
from subjects import names
from subjects.messages import Answer, Event, Passage, Query, Step

__all__ = ["Decide", "Decision", "KnowledgeIndex", "actor", "build", "by_rules"]

MAX_PASSAGES: Final = 3


class Decision(NamedTuple):
    """Where a query goes: a subject, or "unsure". ``reason`` is for people."""

    next: str
    reason: str


Decide = Callable[[Query], Decision]
"""Chooses the next rung for a query whose confidence is known."""


def by_rules(router: Router) -> Decide:
    """The ladder of ``route.toml``, the same rules that ``route`` asked before anything was retrieved.

    The state of the node and of the link is unknown here, which counts as the worst that is still useful.
    """

    def decide(query: Query) -> Decision:
        situation = Situation(
            query.priority,
            has_needs=bool(query.needs),
            confidence=query.confidence,
            deadline_s=clock.remaining_s(query.deadline),
            node_only=query.node_only,
        )
        [decision] = router.decide([situation])
        return Decision(decision.next, decision.reason)

    return decide


def actor(
    node: str,
    index: KnowledgeIndex,
    decide: Decide,
    texts: Texts,
    emit: Emit,
    *,
    now: Callable[[], float] = time.time,
) -> Actor:
    """Actor for ``rag``; it owns ``index`` and closes it. ``now`` gives Unix time for events."""

    def report(kind: str, **fields: object) -> Event:
        return Event(kind=kind, node=node, actor="rag", at=now(), fields=fields)

    async def handle(query: Query) -> Sequence[Output]:
        # Off the event loop: embedding takes tens of milliseconds, and acknowledgements must go on.
        found = await asyncio.to_thread(index.search, query.text, query.lang, MAX_PASSAGES)
        passages = tuple(passage for passage in found if passage.score >= UNSURE)
        sure = found[0].score if found else 0.0
        query = msgspec.structs.replace(query, passages=passages, confidence=sure)
        decision = decide(query)
        event = report(
            "retrieved",
            article=found[0].id if found else "",
            confidence=sure,
            next=decision.next,
            reason=decision.reason,
        )
        emit(msgspec.structs.replace(event, query_id=query.id, sender_ref=query.sender_ref, lane=query.lane))
        if decision.next == names.COMPRESS and passages:
            answer = _answer(query, "verbatim", passages[0].text, passages[:1])
            return (Output(names.COMPRESS, query.lane, answer, query.id),)
        if decision.next == names.INFER_SMALL:
            return (Output(names.INFER_SMALL, query.lane, query, query.id),)
        answer = _answer(query, "unsure", texts.say("unsure", query.lang), ())
        return (Output(names.COMPRESS, query.lane, answer, query.id),)

    async def close() -> None:
        index.close()

    if index.rebuilt:
        emit(report("index_built", reason=index.rebuilt))
    return Actor("rag", {names.RAG: handle}, close=close)


class RagConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[rag]`` table."""

    index: str = "index"
    """Folder of the search index; a relative path lies in the data directory."""


async def build(context: Context) -> Actor:
    """The actor of a node; builds the index at the first start and whenever the articles change."""
    node = context.config.node
    config = context.config.section("rag", RagConfig)
    texts = Texts.load(emergency_number=node.emergency_number)
    index = await asyncio.to_thread(KnowledgeIndex.open, node.directory / config.index, texts)
    return actor(context.identity.node, index, by_rules(Router(route_rules())), texts, context.emit)


def _answer(query: Query, step: Step, text: str, passages: tuple[Passage, ...]) -> Answer:
    return Answer(
        query_id=query.id,
        node=query.node,
        sender_ref=query.sender_ref,
        text=text,
        lang=query.lang,
        lane=query.lane,
        step=step,
        question=query.text,
        verbatim=True,
        passages=passages,
        sources=tuple(passage.source for passage in passages if passage.source),
        received_at=query.received_at,
    )
