"""Actor ``rag``: finds the reviewed passage that answers a text, and says how sure it is.

Sure: the passage is sent as it was written, or two of them to a text with two questions. Nearly sure: the
centre's model gets the passages, or the small one. Else EVY says honestly that it does not know: wrong
advice is worse than none.

With a link, the centre gets the question, and a copy of it waits in ``rag`` for the moment when the person
should have an answer: if the centre has not answered by then, the ladder does. Without one the ladder
answers at once, and the question waits for the link where nothing forbids; where the mesh knows a node
with a link, it goes there as well, or to one with a small model when this node's own cannot run.
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
from typing import Final, Literal, NamedTuple

import msgspec
from evy_core import Redactor, Router, Situation

from actors._masked import Taken
from actors._retrieval.confidence import NEAR, SURE, UNSURE
from actors._retrieval.index import KnowledgeIndex, Served
from actors._runtime import clock
from actors._runtime.actor import Actor, Emit, KeyValue, Output
from actors._runtime.context import Context
from actors._runtime.link import Link
from actors._runtime.provision import Place
from actors.knowledge import OWN, Texts, bundled, first_that_works, layers, redactor, route_rules
from actors.rag.library import Library, look, watch
from actors.rag.turns import reader
from subjects import names
from subjects.errors import ConfigError, RetryLaterError
from subjects.mesh import MeshPacket
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

BUSY_PERCENT: Final = 50.0
"""From this share of the mesh's lawful airtime on, a routine question does not go over it."""

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
            model_ready=at.model,
            link_up=link_up,
            neighbour=_neighbour(query, at),
        )
        [decision] = router.decide([situation])
        return Decision(decision.next, decision.reason, decision.wait)

    return decide


def _neighbour(query: Query, at: NodeState) -> Literal["link", "model"] | None:
    """The best that a node on the mesh can answer with. What has come by mesh is not sent on, and routine
    questions leave the last half of the air to others."""
    mesh = at.mesh
    if mesh is None or mesh.radio != "up" or query.origin:
        return None
    if query.lane == "routine" and (mesh.airtime_percent or 0.0) >= BUSY_PERCENT:
        return None
    return "link" if mesh.uplink else "model" if mesh.model else None


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
    """What ``rag`` needs to ask the centre, over a link of its own or of another node.

    ``redactor`` takes out who and where, ``masked`` keeps what it took out; ``answered`` tells whether a
    query has its answer; ``wait_s`` is how long a question may wait for the link."""

    link: Link
    redactor: Redactor
    masked: KeyValue
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
                await self._asking(asked, self._centre),
                Output(names.RAG, query.lane, asked, query.id, "in_time"),
            )
        elsewhere = []
        if late and decision.next == names.MESH_OUT:
            elsewhere.append(await self._over_mesh(asked, self._centre))
        if late and decision.wait:
            elsewhere.append(await self._asking(asked, self._centre))
        return (self._ladder(asked if elsewhere else query, decision, found), *elsewhere)

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

    @classmethod
    async def _asking(cls, query: Query, centre: Centre) -> Output:
        """The question for the centre. A full uplink keeps nobody waiting."""
        sent = await cls._leaving(query, centre)
        return Output(names.INFER_LARGE, query.lane, sent, query.id, optional=True)

    async def _over_mesh(self, query: Query, centre: Centre) -> Output:
        """The question for a node that has a link or a model; its answer comes as the centre's would."""
        sent = await self._leaving(query, centre)
        packet = MeshPacket(node=self._node, lane=query.lane, query_id=query.id, until=query.wait, query=sent)
        return Output(names.MESH_OUT, query.lane, packet, query.id, optional=True)

    @staticmethod
    async def _leaving(query: Query, centre: Centre) -> Query:
        """The question as it may leave the node; what was taken out stays."""
        [masked] = centre.redactor.mask([query.text])
        [before] = centre.redactor.redact([query.session.before])
        if masked.stands:
            kept = Taken(query.sender_ref, dict(masked.stands))
            await centre.masked.put(query.id, msgspec.json.encode(kept))
        session = msgspec.structs.replace(query.session, before=before.text)
        return msgspec.structs.replace(query, text=masked.text, session=session)

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

    def sent_and_own() -> list[Path]:
        return [*bundled(node.directory), node.directory / OWN]

    def refused(error: ConfigError) -> None:
        tell("knowledge_refused", {"reason": str(error)})

    seen = await asyncio.to_thread(look, sent_and_own())
    first = await asyncio.to_thread(first_that_works, node.directory, make, refused)
    decide = by_rules(Router(route_rules()), state)
    library = Library(first, served)
    made = actor(identity, library, decide, texts, context.emit, await _centre(context))
    renewing = partial(watch, library, sent_and_own, lambda: make(layers(node.directory)), tell, seen=seen)
    return replace(made, tasks=[*made.tasks, renewing])


class _MeshTable(msgspec.Struct, frozen=True):
    """What is read of ``[mesh]``, which belongs to `mesh`."""

    device: str = ""


async def _centre(context: Context) -> Centre | None:
    node = context.config.node
    if not (Place.of(node).linked or context.config.section("mesh", _MeshTable).device):
        return None
    answers = await context.bucket("answered")

    async def answered(query_id: str) -> bool:
        return await answers.get(query_id) is not None

    return Centre(context.link(), redactor(), await context.bucket("masked"), answered, node.wait_s)
