"""Actor ``rag``: finds the reviewed passage that answers a text, and says how sure it is.

Sure: the passage is sent as it was written, or two of them to a text with two questions. Nearly sure: the
centre's model gets the passages, or the small one. Else EVY says honestly that it does not know: wrong
advice is worse than none.

With a link, the centre gets the question, and a copy of it waits in ``rag`` for the moment when the person
should have an answer: if the centre has not answered by then, the ladder does. Without one the ladder
answers at once, and the question waits for the link where nothing forbids.
"""

import asyncio
import datetime as dt
import re
import time
import unicodedata
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from evy_core import Router, Situation

from actors._retrieval.confidence import NEAR, SURE, UNSURE
from actors._retrieval.index import KnowledgeIndex, Served
from actors._runtime import clock
from actors._runtime.actor import Actor, Emit, Output
from actors._runtime.context import Context
from actors._runtime.link import Link
from actors._runtime.provision import Place
from actors.knowledge import OWN, SHIPPED, Texts, layers, redactor, route_rules
from actors.rag.library import Library, Tell, look, watch
from actors.rag.turns import reader
from subjects import names
from subjects.errors import ConfigError, RetryLaterError
from subjects.messages import Answer, Event, Passage, Query, Step, answer_to
from subjects.node_state import NodeState
from subjects.services import SearchReply, SearchRequest

__all__ = [
    "Centre",
    "Decide",
    "Decision",
    "KnowledgeIndex",
    "Library",
    "RagConfig",
    "actor",
    "build",
    "by_rules",
]

MAX_PASSAGES: Final = 3
MOST_FOUND: Final = 20
"""Passages that one question to ``rag.search`` may ask for."""

RESERVE_S: Final = 3.0
"""Left before the deadline for the ladder's own answer, when the centre's has not come."""

DISCREET: Final = frozenset({"violence"})
"""Needs whose sender gets no text later on: somebody else may be looking at the phone."""

SHOWN_QUESTION: Final = 40
"""Characters of a question that are said back to the person."""

OTHER_QUESTION: Final = 3
"""Ordinal of the notice about a question without an answer; intake's own notices to a text are 0 to 2."""

_QUESTION: Final = re.compile(
    r"[?؟]|\b(?:how|what|when|where|which|who|why|can|como|cómo|que|qué|cuando|donde)\b", re.IGNORECASE
)
"""Good enough to tell a question from chatter: a wrong guess costs or spares one follow-up."""


class Decision(NamedTuple):
    """Where a query goes: a subject, or "unsure" or "low_battery". ``reason`` is for people. ``wait``: to the
    centre too, whenever there is a link again."""

    next: str
    reason: str
    wait: bool = False


Decide = Callable[[Query, bool | None], Decision]
"""Chooses the next rung for a query whose confidence is known, and for a link that is up, down or none."""


def by_rules(router: Router, state: Callable[[], NodeState] = lambda: NodeState(node="")) -> Decide:
    """The ladder of ``route.toml``, the same rules that ``route`` asked before anything was retrieved.

    ``state`` gives the node's own; what is unknown counts as the worst that is still useful.
    """

    def decide(query: Query, link_up: bool | None) -> Decision:
        at = state()
        situation = Situation(
            query.priority,
            has_needs=bool(query.needs),
            asks=bool(_QUESTION.search(query.text)),
            confidence=query.confidence,
            deadline_s=clock.remaining_s(query.deadline),
            node_only=query.node_only,
            battery_percent=at.battery_rule_percent,
            free_memory_mb=at.memory_rule_mb,
            link_up=link_up,
        )
        [decision] = router.decide([situation])
        return Decision(decision.next, decision.reason, decision.wait)

    return decide


class Found(NamedTuple):
    """What was found for a text, the best passage first. ``asked`` is what was looked for: the text, with the
    question before it where it goes on from that one."""

    asked: str
    passages: Sequence[Passage]
    joined: bool = False
    """The two passages answer the two questions of the text."""
    other: str = ""
    """Its other question, to which there is no answer."""


@dataclass(frozen=True, slots=True)
class Centre:
    """What ``rag`` needs to ask the centre. ``redact`` takes out who and where; ``answered`` tells whether a
    query has its answer; ``wait_s`` is how long a question may wait for the link."""

    link: Link
    redact: Callable[[str], str]
    answered: Callable[[str], Awaitable[bool]]
    wait_s: float


class Rag:
    """The handler and what it needs. It keeps nothing between texts."""

    def __init__(  # noqa: PLR0917  # the same order as :func:`actor`
        self,
        node: str,
        library: Library,
        decide: Decide,
        texts: Texts,
        emit: Emit,
        centre: Centre | None,
        *,
        now: Callable[[], float],
    ) -> None:
        self._node = node
        self._library = library
        self._decide = decide
        self._texts = texts
        self._emit = emit
        self._centre = centre
        self._now = now

    async def handle(self, query: Query) -> Sequence[Output]:
        """One query → an answer, or what may be added to the template of an emergency."""
        if query.priority == "emergency":
            return await self._further(query)
        return await self._answer(query)

    async def _answer(self, query: Query) -> Sequence[Output]:
        """An answer, a model's turn, or the centre's with a copy that waits here."""
        if query.asked and self._centre is not None:
            return await self._in_time(query, self._centre)
        # Off the event loop: embedding takes tens of milliseconds, and acknowledgements must go on.
        found = await asyncio.to_thread(self._found, query)
        goes_on = found.asked != query.text
        best = max(found.passages[: 2 if found.joined else 1], key=lambda one: one.score, default=None)
        sure = best.score if best else 0.0
        query = msgspec.structs.replace(
            query,
            text=found.asked,
            passages=tuple(passage for passage in found.passages if passage.score >= UNSURE),
            confidence=sure,
        )
        decision = self._decide(query, self._centre.link.state.up if self._centre else None)
        self._report(
            query,
            "retrieved",
            article=best.id if best else "",
            confidence=sure,
            next=decision.next,
            waits=decision.wait,
            reason=decision.reason,
            joined=found.joined,
            goes_on=goes_on,
            other=bool(found.other),
        )
        if decision.next == names.COMPRESS and (found.joined or found.other):
            return self._of_two(query, found)
        if self._centre is None:
            return (self._ladder(query, decision, found),)
        late = query.session.unsolicited_ok and not DISCREET.intersection(query.needs)
        soon_s = max(0.0, clock.remaining_s(query.deadline) - RESERVE_S)
        wait = clock.deadline_in(self._centre.wait_s if late else soon_s)
        asked = msgspec.structs.replace(query, asked=True, wait=wait)
        if decision.next == names.INFER_LARGE:
            return (
                self._asking(asked, self._centre),
                Output(names.RAG, query.lane, asked, query.id, "in_time"),
            )
        if decision.wait and late:
            return (self._ladder(asked, decision, found), self._asking(asked, self._centre))
        return (self._ladder(query, decision, found),)

    async def _further(self, query: Query) -> Sequence[Output]:
        """The article about an emergency that has its template already, under its title unless retrieval is
        sure; nothing far, and nothing to a phone that somebody else may be looking at."""
        if DISCREET.intersection(query.needs):
            return ()
        found = await asyncio.to_thread(self._library.search, query.text, query.lang, 1)
        best = next((one for one in found if one.score >= NEAR), None)
        sure = found[0].score if found else 0.0
        if best and best.score >= SURE:
            said = _written(query, "verbatim", best.text, (best,))
        elif best and _is_near(best, query):
            said = self._maybe(query, best)
        else:
            best = None
        self._report(query, "further", article=best.id if best else "", confidence=sure)
        if best is None:
            return ()
        answer = msgspec.structs.replace(said, kind="followup")
        return (Output(names.COMPRESS, query.lane, answer, query.id, "further"),)

    def _found(self, query: Query) -> Found:
        """What the index has for a text, for each of its two questions, or for it and the one before."""
        read = reader(query.lang)

        def search(text: str) -> Sequence[Passage]:
            return self._library.search(text, query.lang, MAX_PASSAGES)

        def surely(passages: Sequence[Passage]) -> bool:
            return bool(passages) and passages[0].score >= SURE

        alone, before = search(query.text), query.session.before
        if parts := read.parts(query.text):
            found = [next(iter(search(part)), None) for part in parts]
            # «My baby has a fever, and how much water…»: what is for others must not answer the second.
            carried = read.who(parts[0]) - read.who(parts[1])
            whole = {passage.id for passage in found if passage}
            if found[1] and not read.speaks_of(found[1], carried):
                found[1] = None
            known = [passage for passage in found if passage and passage.score >= SURE]
            # What the whole text is surely about («after the flood …») is in neither part: it goes before.
            fair = [passage for passage in found if passage and passage.score >= UNSURE]
            if known and (not surely(alone) or alone[0].id in whole):
                if len({passage.id for passage in fair}) == 2:
                    return Found(query.text, fair, joined=True)
                if len(known) == 1:
                    return Found(query.text, known, other=parts[known[0] is found[0]])
        if not before or read.goes_on(before) or not read.goes_on(query.text):
            return Found(query.text, alone)
        if surely(alone) and read.speaks_of(alone[0], read.who(before)):
            return Found(query.text, alone)
        together = f"{before} {query.text}"
        near = search(together)
        fitting = _promoted([one for one in near if read.answers(one, before, query.text)], near)
        return Found(together, fitting)

    def _of_two(self, query: Query, found: Found) -> Sequence[Output]:
        """Both passages as they are written; or the one there is, and word of the question it leaves."""
        passages = query.passages
        if found.joined:
            text = "\n".join(passage.text for passage in passages)
            return (Output(names.COMPRESS, query.lane, _written(query, "joined", text, passages), query.id),)
        answer = _written(query, "verbatim", passages[0].text, passages)
        text = self._texts.say("other_question", query.lang, question=_shown(found.other))
        notice = msgspec.structs.replace(
            answer_to(query, "notice", text), kind="notice", ordinal=OTHER_QUESTION
        )
        return (
            Output(names.COMPRESS, query.lane, answer, query.id),
            Output(names.COMPRESS, query.lane, notice, query.id, "notice", OTHER_QUESTION),
        )

    async def search(self, question: SearchRequest) -> SearchReply:
        """The service ``rag.search``: what would be found, whatever the ladder would make of it."""
        limit = min(max(1, question.limit), MOST_FOUND)
        served = self._library.served()._replace(area=question.area)
        if question.regions is not None:
            served = served._replace(regions=question.regions)
        found = await asyncio.to_thread(self._library.search, question.text, question.lang, limit, served)
        return SearchReply(passages=tuple(found))

    async def _in_time(self, query: Query, centre: Centre) -> Sequence[Output]:
        """The copy of a query that the centre has: nothing until its deadline, then the ladder's answer if
        there is no other."""
        if (left_s := clock.remaining_s(query.deadline) - RESERVE_S) > 0:
            raise RetryLaterError("the centre still has time", delay_s=left_s)
        if await centre.answered(query.id):
            return ()
        centre.link.missed()
        decision = self._decide(query, None)
        self._report(query, "centre_late", next=decision.next, reason=decision.reason)
        return (self._ladder(query, decision, await asyncio.to_thread(self._found, query)),)

    def _ladder(self, query: Query, decision: Decision, found: Found) -> Output:
        """What this node can say by itself."""
        if decision.next == names.COMPRESS and query.passages:
            best = query.passages[:1]
            answer = _written(query, "verbatim", best[0].text, best)
            return Output(names.COMPRESS, query.lane, answer, query.id)
        follows = query.wait is not None and clock.remaining_s(query.wait) > 0
        near = next((one for one in found.passages[:1] if _is_near(one, query)), None)
        # With passages that are good enough a model says what fits; without it would have to know.
        if near and not follows and not (decision.next == names.INFER_SMALL and query.passages):
            return Output(names.COMPRESS, query.lane, self._maybe(query, near), query.id)
        if decision.next == names.INFER_SMALL:
            return Output(names.INFER_SMALL, query.lane, query, query.id)
        if decision.next == "low_battery":
            text = self._texts.say("low_battery", query.lang)
        else:
            text = self._texts.say("answer_follows" if follows else "unsure", query.lang)
        return Output(names.COMPRESS, query.lane, answer_to(query, "unsure", text), query.id)

    def _maybe(self, query: Query, near: Passage) -> Answer:
        """A passage under its title, which shows whether it fits."""
        text = self._texts.say("near", query.lang, title=near.title, text=near.text)
        return _written(query, "verbatim", text, (near,))

    @staticmethod
    def _asking(query: Query, centre: Centre) -> Output:
        """The question as it may leave the node. A full uplink keeps nobody waiting."""
        session = msgspec.structs.replace(query.session, before=centre.redact(query.session.before))
        sent = msgspec.structs.replace(query, text=centre.redact(query.text), session=session)
        return Output(names.INFER_LARGE, query.lane, sent, query.id, optional=True)

    def _report(self, query: Query, kind: str, **fields: object) -> None:
        self._emit(
            Event(
                kind=kind,
                node=self._node,
                actor="rag",
                at=self._now(),
                query_id=query.id,
                sender_ref=query.sender_ref,
                lane=query.lane,
                fields=fields,
            )
        )


def _promoted(fitting: list[Passage], found: Sequence[Passage]) -> list[Passage]:
    """What is nearly about the same and speaks of whom the text asks is as sure as what stood before it."""
    if not fitting or fitting[0].score < NEAR / 2:
        return fitting
    best = max(found[0].score, fitting[0].score)
    return [msgspec.structs.replace(fitting[0], score=best), *fitting[1:]]


def _is_near(passage: Passage, query: Query) -> bool:
    """Whether a passage may be sent under its title: in the person's language only, who has to judge it."""
    return passage.score >= NEAR and passage.lang == query.lang


def _written(query: Query, step: Step, text: str, passages: tuple[Passage, ...]) -> Answer:
    """Passages as they are written, which may be in another language than the question."""
    return msgspec.structs.replace(answer_to(query, step, text, passages), lang=passages[0].lang)


def _shown(question: str) -> str:
    """A question as it is said back: letters with their marks (Devanagari is unreadable without) and digits,
    at most :data:`SHOWN_QUESTION`."""
    kept = (c if c in "'-" or unicodedata.category(c)[0] in "LMN" else " " for c in question)
    plain = " ".join("".join(kept).split())
    return plain if len(plain) <= SHOWN_QUESTION else plain[: SHOWN_QUESTION - 3].rstrip() + "..."


def actor(  # noqa: PLR0917  # what it is made of, in the order that all actors use
    node: str,
    library: Library,
    decide: Decide,
    texts: Texts,
    emit: Emit,
    centre: Centre | None = None,
    *,
    now: Callable[[], float] = time.time,
) -> Actor:
    """Actor for ``rag``; it owns ``library`` and closes it. ``now`` gives Unix time for events."""
    rag = Rag(node, library, decide, texts, emit, centre, now=now)

    async def close() -> None:
        library.close()

    if library.rebuilt:
        emit(Event(kind="index_built", node=node, actor="rag", at=now(), fields={"reason": library.rebuilt}))
    tasks = [partial(centre.link.watch, lambda _: None)] if centre else []
    return Actor("rag", {names.RAG: rag.handle}, tasks, close, {"rag.search": rag.search})


class RagConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[rag]`` table."""

    index: str = "index"
    """Folder of the search index; a relative path lies in the data directory."""
    regions: tuple[str, ...] = ()
    """Where the node is, such as "us" and "north-america": articles limited to regions are served in these
    only, and where none is named not at all."""


async def build(context: Context) -> Actor:
    """The actor of a node; builds the index at the first start and whenever the articles change."""
    node, identity = context.config.node, context.identity.node
    config = context.config.section("rag", RagConfig)
    texts = Texts.of_node(node.directory, node.emergency_number)
    state = context.node_state()

    def make(folders: Sequence[Path]) -> KnowledgeIndex:
        return KnowledgeIndex.open(node.directory / config.index, Texts.load(folders, node.emergency_number))

    def served() -> Served:
        known = state().clock != "unset"
        today = dt.datetime.fromtimestamp(context.now(), dt.UTC).date() if known else None
        return Served(config.regions, today)

    def tell(kind: str, fields: Mapping[str, object]) -> None:
        context.emit(Event(kind=kind, node=identity, actor="rag", at=context.now(), fields=dict(fields)))

    own = node.directory / OWN
    seen = await asyncio.to_thread(look, own)
    library = Library(await asyncio.to_thread(_first, make, node.directory, tell), served)
    decide = by_rules(Router(route_rules()), state)
    made = actor(identity, library, decide, texts, context.emit, await _centre(context))
    renewing = partial(watch, library, own, lambda: make(layers(node.directory)), tell, seen=seen)
    return replace(made, tasks=[*made.tasks, renewing])


def _first(make: Callable[[Sequence[Path]], KnowledgeIndex], data: Path, tell: Tell) -> KnowledgeIndex:
    """The index of all texts; with a mistake in the node's own, that of the shipped ones."""
    try:
        return make(layers(data))
    except ConfigError as error:
        if layers(data) == [SHIPPED]:
            raise
        tell("knowledge_refused", {"reason": str(error)})
        return make([SHIPPED])


async def _centre(context: Context) -> Centre | None:
    node = context.config.node
    if not Place.of(node).linked:
        return None
    answers = await context.bucket("answered")
    redaction = redactor()

    def redact(text: str) -> str:
        [redacted] = redaction.redact([text])
        return redacted.text

    async def answered(query_id: str) -> bool:
        return await answers.get(query_id) is not None

    return Centre(context.link(), redact, answered, node.wait_s)
