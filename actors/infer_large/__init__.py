"""Actor ``infer_large``: the big model at the centre, grounded in passages of the edge and of the centre.

Consumes ``infer.large``, publishes ``compress`` of the node that asked. The model runs in a server of its own
(vLLM, or llama.cpp's) that is asked by HTTP. Whatever it writes is checked against its passages by the edge;
here it is only bounded and cleaned. While the server is down a question waits in its stream.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Final

import msgspec

from actors._retrieval.confidence import SURE, UNSURE
from actors._runtime.actor import Actor, Emit, Output
from actors._runtime.context import Context
from actors.infer_large import prompt
from actors.infer_large.breaker import Breaker, State
from actors.infer_large.client import (
    ChatClient,
    Endpoint,
    Reply,
    RequestError,
    ServerError,
    check_address,
    read_key,
)
from actors.infer_large.gate import Gate
from actors.infer_large.retrieval import Retrieval, UnreachableError, merged
from actors.knowledge import ENGLISH, Texts
from subjects import names
from subjects.errors import ConfigError, RefusedError, RetryLaterError
from subjects.messages import Answer, Event, Passage, Privacy, Query, Step, answer_to
from subjects.names import Lane, Priority

__all__ = [
    "Breaker",
    "ChatClient",
    "Endpoint",
    "Gate",
    "InferLargeConfig",
    "Large",
    "Look",
    "Reply",
    "Retrieval",
    "Rule",
    "ServerError",
    "build",
    "choose",
    "look",
]

log = logging.getLogger("evy.infer_large")

PROBE_EVERY_S: Final = 5.0
RETRY_S: Final = (0.5, 2.0)
"""Waits before the second and the third try in place; a connection that broke needs no more."""
LONGEST_WAIT_S: Final = 300.0
"""However long a server asks to be left alone, a question looks again after this."""

_STRICTNESS: Final[dict[Privacy, int]] = {"private": 0, "enhanced": 1, "public": 2}


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the choice of models: ``model`` answers queries that match every list that is given."""

    model: str
    lang: tuple[str, ...] = ()
    need: tuple[str, ...] = ()
    priority: tuple[Priority, ...] = ()
    lane: tuple[Lane, ...] = ()

    def matches(self, query: Query) -> bool:
        """Whether a query is of this kind."""
        return (
            (not self.lang or query.lang in self.lang)
            and (not self.need or not set(self.need).isdisjoint(query.needs))
            and (not self.priority or query.priority in self.priority)
            and (not self.lane or query.lane in self.lane)
        )


def choose(rules: Sequence[Rule], query: Query) -> str:
    """Model of the first rule that matches; "" for the endpoint's own."""
    return next((rule.model for rule in rules if rule.matches(query)), "")


class InferLargeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[infer_large]`` table."""

    base_url: str = "http://127.0.0.1:8000"
    """EVY's own server: vLLM's port, or `evy llm serve`."""
    api_key_file: str = ""
    ca_file: str = ""
    """Certificate authority of the server; empty: those of the system."""
    plain_http: bool = False
    """Allows http:// to other machines, where the network itself is encrypted."""
    model: str = ""
    """Name at the server; empty: the first one it lists."""
    models: tuple[Rule, ...] = ()
    """Models for kinds of queries, the first that matches; none: ``model``."""
    max_answer_tokens: Annotated[int, msgspec.Meta(ge=16, le=2048)] = 320
    """280 characters are 60 to 150 tokens, in some scripts 300; the JSON around them 20."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 60.0
    """One try, the wait for a place in the server's batch included."""
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16
    """Questions at the server at once: it computes them together."""
    passages: Annotated[int, msgspec.Meta(ge=0, le=8)] = 5
    """Passages in a prompt, those of the edge and of the centre together."""
    least_score: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.2
    """Passages less probable than this are not given to the model."""
    qdrant_url: str = ""
    """A Qdrant server; empty: an index in the data directory, as a node has it."""
    qdrant_api_key_file: str = ""
    articles: str = ""
    """A folder of further texts (``sources/*.toml``, ``articles/*.toml``), over the shipped ones."""
    regions: tuple[str, ...] = ()
    """Where the nodes of this centre are: articles limited to other regions are left out."""

    def endpoint(self) -> Endpoint:
        """The server of this table. Raises :class:`ConfigError`."""
        return Endpoint(
            self.base_url, self.model, self.api_key_file, self.ca_file, plain_http=self.plain_http
        )


class Large:
    """The handler and what it needs. Between questions it keeps only what it learnt of the server."""

    def __init__(
        self,
        *,
        node: str,
        client: ChatClient,
        retrieval: Retrieval,
        texts: Texts,
        emit: Emit,
        config: InferLargeConfig,
        chance: Callable[[], float] = random.random,
        clock_s: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``chance`` gives numbers in [0, 1) for jitter, ``clock_s`` runs forward, ``now`` is Unix time."""
        self._node = node
        self._client = client
        self._retrieval = retrieval
        self._texts = texts
        self._emit = emit
        self._config = config
        self._chance = chance
        self._clock_s = clock_s
        self._now = now
        self._gate = Gate(config.concurrency)
        self.breaker = Breaker(self._breaker_changed)

    async def handle(self, query: Query) -> Sequence[Output]:
        """One answer for the node that asked.

        Raises :class:`RefusedError` for a query that must not be here and :class:`RetryLaterError` while
        the server cannot be used.
        """
        self._permit(query)
        answer = await self._answer(query)
        return [Output(names.down(query.node, names.COMPRESS), query.lane, answer, query.id)]

    def _permit(self, query: Query) -> None:
        """Raises :class:`RefusedError` when a query's privacy does not allow the endpoint."""
        takes = self._client.endpoint.takes
        if query.node_only:
            raise RefusedError(f"{query.id}: node_only, it must never leave {query.node}; nothing was asked")
        if _STRICTNESS[query.privacy] < _STRICTNESS[takes]:
            raise RefusedError(
                f"{query.id}: its privacy is {query.privacy!r} and the server takes {takes!r} only; "
                "nothing was asked"
            )

    async def _answer(self, query: Query) -> Answer:
        if query.lane == "flash" or query.priority == "emergency":
            return self._reviewed(query, query.passages, "life at risk: reviewed words only")
        if wait_s := self.breaker.wait_s(self._clock_s()):
            raise self._later(wait_s)
        passages = await self._passages(query)
        if (sure := max((passage.score for passage in passages), default=0.0)) >= SURE:
            return self._reviewed(query, passages, f"sure: {sure:.2f} >= {SURE:.2f}, reviewed words")
        try:
            reply = await self._ask(query, passages)
        except RequestError as error:
            return self._reviewed(query, passages, str(error))
        grave = query.priority != "normal" or any(need != "none" for need in query.needs)
        kept = prompt.kept(reply.content, reply.finish, query.text, passages, grave=grave)
        step: Step = "model" if kept.text else "unsure"
        self._report("decided", query, step=step, reason=kept.reason, passages=[p.id for p in kept.passages])
        if not kept.text:
            return self._unsure(query)
        return answer_to(query, "model", kept.text, kept.passages, by_centre=True)

    def _reviewed(self, query: Query, passages: Sequence[Passage], reason: str) -> Answer:
        """The best passage as it is written if it is good enough, else "I do not know"."""
        best = max(passages, key=lambda passage: passage.score, default=None)
        step: Step = "verbatim" if best and best.score >= UNSURE else "unsure"
        self._report("decided", query, step=step, reason=reason)
        if best and step == "verbatim":
            return answer_to(query, "verbatim", best.text, (best,), by_centre=True)
        return self._unsure(query)

    def _unsure(self, query: Query) -> Answer:
        return answer_to(query, "unsure", self._texts.say("unsure", query.lang), by_centre=True)

    async def _passages(self, query: Query) -> tuple[Passage, ...]:
        """Passages of the edge and of the centre that the model is given."""
        limit = self._config.passages
        if not limit:
            return ()
        try:
            found = await self._retrieval.search(query.text, query.lang, limit)
        except UnreachableError as error:
            self._report("retrieval_failed", query, reason=str(error))
            found = []
        probable = [passage for passage in found if passage.score >= self._config.least_score]
        return merged(query.passages, probable, limit)

    async def _ask(self, query: Query, passages: Sequence[Passage]) -> Reply:
        """The model's reply; tried again in place when the server fails, as long as the breaker lets it."""
        model = choose(self._config.models, query)
        messages = prompt.messages(query, passages)
        for retry_s in (*RETRY_S, None):
            try:
                async with self._gate.slot(query.lane):
                    if wait_s := self.breaker.admit(self._clock_s()):
                        raise self._later(wait_s)
                    reply = await self._client.chat(
                        messages, self._config.max_answer_tokens, model=model, schema=prompt.SCHEMA
                    )
            except ServerError as error:
                if error.busy:
                    raise RetryLaterError(str(error), self._jittered(error.retry_after_s or 5.0)) from error
                self.breaker.failed(self._clock_s(), str(error))
                wait_s = max(self.breaker.wait_s(self._clock_s()), error.retry_after_s or 0.0)
                if wait_s or retry_s is None:
                    raise RetryLaterError(str(error), self._jittered(wait_s or 5.0)) from error
                await asyncio.sleep(self._jittered(retry_s))
            else:
                self.breaker.succeeded()
                self._report(
                    "generated",
                    query,
                    tokens=reply.usage.completion_tokens,
                    prompt_tokens=reply.usage.prompt_tokens,
                    ms=round(reply.ms),
                    finish=reply.finish,
                    model=model,
                )
                return reply
        raise AssertionError("unreachable: the last try returns or raises")

    async def watch(self) -> None:
        """Looks at the server's health while the breaker is not closed, to learn at once that it is back.

        First of all it searches once: loading the embeddings takes seconds that the first question has not.
        """
        with contextlib.suppress(UnreachableError):
            await self._retrieval.search("anybody there", ENGLISH, 1)
        while True:
            await asyncio.sleep(PROBE_EVERY_S)
            if self.breaker.state == "open":
                try:
                    await self._client.check()
                except ServerError as error:
                    log.debug("the model server is still away: %s", error)
                else:
                    self.breaker.looks_well(self._clock_s())

    async def close(self) -> None:
        """Closes what it was given."""
        await self._client.close()
        await self._retrieval.close()

    def _later(self, wait_s: float) -> RetryLaterError:
        return RetryLaterError(
            "the model server is left alone until it answers again", self._jittered(wait_s)
        )

    def _jittered(self, wait_s: float) -> float:
        """A wait spread by a quarter to either side, so that questions do not come back all at once."""
        return min(wait_s, LONGEST_WAIT_S) * (0.75 + 0.5 * self._chance())

    def _breaker_changed(self, state: State, reason: str) -> None:
        log.warning("model server: %s: %s", state, reason)
        self._report("breaker", None, state=state, reason=reason)

    def _report(self, kind: str, query: Query | None, **fields: object) -> None:
        event = Event(kind=kind, node=self._node, actor="infer_large", at=self._now(), fields=fields)
        if query is not None:
            event = msgspec.structs.replace(
                event, query_id=query.id, sender_ref=query.sender_ref, lane=query.lane
            )
        self._emit(event)


class Look(msgspec.Struct, frozen=True):
    """What a model server is found to be: its models, and one short answer."""

    url: str
    models: tuple[str, ...]
    tokens: int
    ms: float


async def look(config: InferLargeConfig) -> Look:
    """Asks the server of a table for its health, its models and a few words, for people.

    Raises :class:`ServerError`, and :class:`ConfigError` when it lacks a model that the table names.
    """
    client = ChatClient(config.endpoint(), config.timeout_s)
    try:
        await client.check()
        models = await client.models()
        if missing := {config.model, *(rule.model for rule in config.models)} - {"", *models}:
            named = ", ".join(sorted(missing))
            raise ConfigError(f"[infer_large] names {named}, and the server has {', '.join(models)} only")
        reply = await client.chat([{"role": "user", "content": "Say yes."}], 16)
    finally:
        await client.close()
    return Look(client.endpoint.root, models, reply.usage.completion_tokens, reply.ms)


INDEX: Final = "index-centre"
"""Folder of the search index in the data directory, where there is no Qdrant server."""


async def build(context: Context) -> Actor:
    """The actor of a centre. Raises :class:`ConfigError` for a wrong table, key, address or article."""
    node = context.config.node
    config = context.config.section("infer_large", InferLargeConfig)
    client = ChatClient(config.endpoint(), config.timeout_s)
    if config.qdrant_url:
        check_address("qdrant_url", config.qdrant_url, plain_http=config.plain_http)
    key = read_key("qdrant_api_key_file", config.qdrant_api_key_file)
    retrieval = await Retrieval.open(
        node.directory / INDEX,
        config.articles,
        node.emergency_number,
        url=config.qdrant_url,
        key=key,
        regions=config.regions,
    )
    large = Large(
        node=context.identity.node,
        client=client,
        retrieval=retrieval,
        texts=Texts.of_node(node.directory, node.emergency_number),
        emit=context.emit,
        config=config,
    )
    return Actor("infer_large", {names.INFER_LARGE: large.handle}, tasks=(large.watch,), close=large.close)
