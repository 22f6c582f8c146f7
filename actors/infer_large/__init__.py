"""Actor ``infer_large``: the big model at the centre, grounded in passages of the edge and of the centre.

Consumes ``infer.large``, publishes ``compress`` of the node that asked. The model runs in a server of its own
(vLLM, or llama.cpp's) that is asked by HTTP; where ``[llm]`` and a question's privacy allow it, outside
providers are asked first (`providers.py`). Whatever a model writes is checked against its passages by the
edge; here it is only bounded and cleaned. While the server is down a question waits in its stream.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Final

import msgspec

from actors._library.library import Library
from actors._library.server import Server
from actors._library.server import UnreachableError as LibraryAwayError
from actors._library.shelf import Wanted
from actors._library.volumes import FOLDER
from actors._llm import LlmConfig, llm_config
from actors._llm.ledger import FILE, Ledger
from actors._retrieval.confidence import SURE, UNSURE
from actors._runtime.actor import Actor, Emit, Output
from actors._runtime.context import Context
from actors.infer_large import drafting, prompt
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
from actors.infer_large.providers import STRICTNESS, Form, Outside, look_outside, providers
from actors.infer_large.retrieval import Retrieval, UnreachableError, merged
from actors.knowledge import ENGLISH, Texts, redactor, shipped_compressor
from subjects import names
from subjects.errors import ConfigError, RefusedError, RetryLaterError
from subjects.messages import Answer, Event, Passage, Query, Step, answer_to
from subjects.names import Lane, Priority
from subjects.services import DraftReply, DraftRequest

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
    "library_server",
    "look",
    "look_outside",
    "outside_of",
    "own_client",
]

log = logging.getLogger("evy.infer_large")

PROBE_EVERY_S: Final = 5.0
RETRY_S: Final = (0.5, 2.0)
"""Waits before the second and the third try in place; a connection that broke needs no more."""
LONGEST_WAIT_S: Final = 300.0
"""However long a server asks to be left alone, a question looks again after this."""


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
    library: Annotated[int, msgspec.Meta(ge=0, le=4)] = 2
    """Passages of the library beside those of articles, for harmless questions only; 0: none."""

    def endpoint(self) -> Endpoint:
        """The server of this table. Raises :class:`ConfigError`."""
        return Endpoint(
            self.base_url, self.model, self.api_key_file, self.ca_file, plain_http=self.plain_http
        )


DRAFT: Final = Form(
    lambda query, passages: drafting.messages(DraftRequest(text=query.text, lang=query.lang), passages),
    lambda reply, _, passages: drafting.judged(reply.content, reply.finish, passages),
    drafting.SCHEMA,
)
"""A draft from a provider."""


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
        settings: LlmConfig | None = None,
        outside: Outside | None = None,
        library: Library | None = None,
        chance: Callable[[], float] = random.random,
        clock_s: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``outside`` None: the own model only. ``chance`` gives numbers in [0, 1) for jitter, ``clock_s``
        runs forward, ``now`` is Unix time."""
        self._node = node
        self._client = client
        self._retrieval = retrieval
        self._library = library
        self._texts = texts
        self._emit = emit
        self._config = config
        self._chance = chance
        self._clock_s = clock_s
        self._now = now
        self._outside = outside
        settings = settings or LlmConfig()
        self._own_model = settings.llm_strategy != "api-only"
        self._gate = Gate(settings.max_concurrent_local or config.concurrency)
        self.breaker = Breaker(self._breaker_changed)

    async def handle(self, query: Query) -> Sequence[Output]:
        """One answer for the node that asked.

        Raises :class:`RefusedError` for a query that must not be here and :class:`RetryLaterError` while
        the server cannot be used.
        """
        self._permit(query)
        answer = await self._answer(query)
        return [Output(names.down(query.node, names.COMPRESS), query.lane, answer, query.id)]

    async def draft(self, asked: DraftRequest) -> DraftReply:
        """The service ``infer_large.draft``: an answer from passages, for a person to judge.

        A provider where questions of many may go outside; else EVY's own server, while nobody's question is
        at it. Raises :class:`RetryLaterError` otherwise, :class:`RefusedError` where neither may be asked.
        """
        query = drafting.query(asked, self._node)
        outside = self._outside
        if outside and outside.obstacle(query, aggregated=True):
            outside = None
        own = self._own_model and self._client.endpoint.takes == "private"
        if not (own or outside):
            raise RefusedError("people's words are drafted on by EVY's own server only; nothing was asked")
        try:
            found = await self._retrieval.search(asked.text, asked.lang, drafting.PASSAGES)
            wanted = Wanted(lang=asked.lang)  # advice too: a person reads every word before anybody else
            documents = await self._documents(asked.text, asked.lang, drafting.OF_LIBRARY, wanted)
        except (UnreachableError, LibraryAwayError) as error:
            raise RetryLaterError(str(error)) from error
        articles = [passage for passage in found if passage.score >= drafting.LEAST]
        passages = (*articles[: drafting.PASSAGES - len(documents)], *documents)
        if not passages:
            return DraftReply(why="no passage is about it")
        if outside:
            told = await outside.ask(query, passages, aggregated=True, form=DRAFT)
            if told.reply is not None:
                return drafting.kept(told.reply.content, told.reply.finish, told.passages)
            if not own:
                raise RetryLaterError(told.reason, self._jittered(told.wait_s or 60.0))
        return await self._drafted(asked, passages)

    async def _drafted(self, asked: DraftRequest, passages: tuple[Passage, ...]) -> DraftReply:
        """A draft of EVY's own server, if nobody's question is at it."""
        if wait_s := self.breaker.wait_s(self._clock_s()):
            raise self._later(wait_s)
        messages = drafting.messages(asked, passages)
        try:
            reply = await self._gate.spare(
                lambda: self._client.chat(messages, drafting.MAX_TOKENS, schema=drafting.SCHEMA)
            )
        except RequestError as error:
            return DraftReply(passages=passages, why=str(error))
        except ServerError as error:
            raise RetryLaterError(str(error), error.retry_after_s) from error
        if reply is None:
            raise RetryLaterError("people's questions go first")
        return drafting.kept(reply.content, reply.finish, passages)

    def _permit(self, query: Query) -> None:
        """Raises :class:`RefusedError` when a query's privacy does not allow the endpoint."""
        takes = self._client.endpoint.takes
        if query.node_only:
            raise RefusedError(f"{query.id}: node_only, it must never leave {query.node}; nothing was asked")
        if STRICTNESS[query.privacy] < STRICTNESS[takes]:
            raise RefusedError(
                f"{query.id}: its privacy is {query.privacy!r} and the server takes {takes!r} only; "
                "nothing was asked"
            )

    async def _answer(self, query: Query) -> Answer:
        if query.lane == "flash" or query.priority == "emergency":
            return self._reviewed(query, query.passages, "life at risk: reviewed words only")
        outside = self._outside if self._outside and not self._outside.obstacle(query) else None
        if self._own_model and not outside and (wait_s := self.breaker.wait_s(self._clock_s())):
            raise self._later(wait_s)
        passages = await self._passages(query)
        if (sure := max((passage.score for passage in passages), default=0.0)) >= SURE:
            return self._reviewed(query, passages, f"sure: {sure:.2f} >= {SURE:.2f}, reviewed words")
        if outside:
            told = await outside.ask(query, passages)
            if told.kept is not None:
                return self._answered(query, told.kept, told.by)
            if not self._own_model and told.wait_s is not None:
                raise RetryLaterError(told.reason, self._jittered(told.wait_s))
            self._report("outside_failed", query, reason=told.reason)
        if not self._own_model:
            return self._reviewed(query, passages, "LLM_STRATEGY is api-only, and nobody outside may answer")
        try:
            reply = await self._ask(query, passages)
        except RequestError as error:
            return self._reviewed(query, passages, str(error))
        kept = prompt.kept(reply.content, reply.finish, query.text, passages, grave=_grave(query))
        return self._answered(query, kept, "local")

    def _answered(self, query: Query, kept: prompt.Kept, by: str) -> Answer:
        """What a model said, or that it does not know."""
        step: Step = "model" if kept.text else "unsure"
        used = [passage.id for passage in kept.passages]
        self._report("decided", query, step=step, reason=kept.reason, by=by, passages=used)
        if not kept.text:
            return self._unsure(query)
        return answer_to(query, "model", kept.text, kept.passages, by_centre=True)

    def _reviewed(self, query: Query, passages: Sequence[Passage], reason: str) -> Answer:
        """The best passage as it is written if it is good enough, else "I do not know"."""
        own_words = (passage for passage in passages if passage.reviewed)
        best = max(own_words, key=lambda passage: passage.score, default=None)
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
        articles = merged(query.passages, probable, limit)
        return (*articles, *await self._of_library(query, articles))

    async def _of_library(self, query: Query, articles: Sequence[Passage]) -> list[Passage]:
        """Passages of documents that nobody reviewed, for a question that asks no advice: none that is grave,
        none of a category that people act upon with their bodies, none where an article is sure."""
        if _grave(query) or any(passage.score >= SURE for passage in articles):
            return []
        wanted = Wanted(lang=query.lang, general=True)  # the post-check needs the answer's language
        try:
            return await self._documents(query.text, query.lang, self._config.library, wanted)
        except LibraryAwayError as error:
            self._report("retrieval_failed", query, reason=str(error))
            return []

    async def _documents(self, text: str, lang: str, limit: int, wanted: Wanted) -> list[Passage]:
        """The library's passages that are probable enough to be shown to a model."""
        if self._library is None or not limit:
            return []
        found = await self._library.search(text, lang, limit, wanted)
        return [one.as_passage() for one in found if one.score >= self._config.least_score]

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
            if self._outside:
                await self._outside.watch_once()
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
        if self._outside:
            await self._outside.close()
        if self._library is not None:
            await self._library.close()

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


def _grave(query: Query) -> bool:
    """A question about health, danger or want: what is said rests on reviewed words alone."""
    return query.priority != "normal" or any(need != "none" for need in query.needs)


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


def library_server(config: InferLargeConfig) -> Server | None:
    """The Qdrant server of a table, for the library; None without one. Raises :class:`ConfigError`."""
    if not config.qdrant_url:
        return None
    check_address("qdrant_url", config.qdrant_url, plain_http=config.plain_http)
    return Server(config.qdrant_url, read_key("qdrant_api_key_file", config.qdrant_api_key_file))


async def build(context: Context) -> Actor:
    """The actor of a centre. Raises :class:`ConfigError` for a wrong table, key, address or article."""
    node = context.config.node
    config = context.config.section("infer_large", InferLargeConfig)
    settings = llm_config(context.config)
    client = own_client(config, settings)
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
        settings=settings,
        outside=await asyncio.to_thread(outside_of, context, config, settings),
        library=Library(node.directory / FOLDER, library_server(config)),
    )
    return Actor(
        "infer_large",
        {names.INFER_LARGE: large.handle},
        tasks=(large.watch,),
        close=large.close,
        services={"infer_large.draft": large.draft},
    )


def own_client(config: InferLargeConfig, settings: LlmConfig) -> ChatClient:
    """Client of the centre's own model. Raises :class:`ConfigError`."""
    return ChatClient(config.endpoint(), settings.local_timeout_sec or config.timeout_s)


def outside_of(context: Context, config: InferLargeConfig, settings: LlmConfig) -> Outside | None:
    """The providers of `evy.toml`; None where none may be asked. Raises :class:`ConfigError`."""
    named = providers(context.config, settings.api_timeout_sec)
    if settings.llm_strategy == "local":
        return None
    if not named:
        raise ConfigError(f"LLM_STRATEGY is {settings.llm_strategy}: name a provider in [providers.<name>]")
    file = context.config.node.directory / FILE
    return Outside(
        node=context.identity.node,
        providers=named,
        settings=settings,
        ledger=Ledger.open(file, audit_all=settings.audit_all_api_calls),
        redactor=redactor(),
        compressor=shipped_compressor(),
        emit=context.emit,
        max_answer_tokens=config.max_answer_tokens,
        clock_s=time.monotonic,
        now=context.now,
    )
