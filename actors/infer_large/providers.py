"""Outside providers: who may be asked what, for how much, and what they answered.

A question goes outside only where its privacy class allows it, only after the redaction pass has found
nothing in it and nothing that it could not judge, and only with its worst price reserved. Whatever goes wrong
with one provider, the next in order is asked; then the caller goes on as if there were none.
"""

import asyncio
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from evy_core import Compressor, Redactor

from actors._llm import LlmConfig, micro_cents
from actors._llm.ledger import Ask, Ending, Ledger, LedgerError, Outcome, Refused, Reserved
from actors._masked import PLACEHOLDER
from actors._runtime.actor import Emit
from actors._runtime.config import Config
from actors.infer_large import prompt
from actors.infer_large.breaker import Breaker, State
from actors.infer_large.client import ChatClient, Endpoint, Reply, RequestError, ServerError, Usage, read_key
from actors.infer_large.gate import Gate
from subjects.errors import ConfigError
from subjects.messages import Event, Passage, Privacy, Query

log = logging.getLogger("evy.infer_large")

LANGUAGES: Final = frozenset({"en", "es", "fr", "pt", "ht", "sw", "hi", "ar", "tl"})
"""Languages of the redaction data (`actors/knowledge/pii`): a text in another one cannot be judged."""

STRICTNESS: Final[Mapping[Privacy, int]] = {"private": 0, "enhanced": 1, "public": 2}
PER_MILLION: Final = 1_000_000
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_NOT_BILLED: Final = frozenset({401, 402, 403, 404, 408, 429, 500, 503})
"""Statuses of requests on which no model worked. A gateway's 502 and 504 may hide one that did."""


class ProviderConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ``[providers.<name>]`` table."""

    url: str
    """Address of its OpenAI-compatible API: what stands before ``/chat/completions``."""
    model: str
    price_in: int | float | str
    """Per million tokens of the question."""
    price_out: int | float | str
    """Per million tokens of the answer."""
    key_file: str = ""
    """File with the key, which never stands in evy.toml."""
    key_env: str = ""
    """Environment variable with the key, instead of a file."""
    requests_per_minute: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 60
    order: int = 1
    """The lowest is asked first; equals by their names."""
    takes: Literal["enhanced", "public"] = "enhanced"
    """Strictest privacy class that it may be sent: "public" keeps anonymised questions from it."""
    ca_file: str = ""
    plain_http: bool = False
    reasoning: bool = False
    """Its model thinks first: ``max_completion_tokens``, no temperature. Leave it room for its thoughts with
    ``[infer_large] max_answer_tokens``."""


class Provider(NamedTuple):
    """A provider that may be asked. Prices are micro-cents per million tokens."""

    name: str
    client: ChatClient
    price_in: int
    price_out: int
    per_minute: int

    def cost(self, usage: Usage) -> int:
        """Price of an answer, rounded up."""
        price = usage.prompt_tokens * self.price_in + usage.completion_tokens * self.price_out
        return -(-price // PER_MILLION)


def providers(
    config: Config, timeout_s: float, environment: Mapping[str, str] = os.environ
) -> list[Provider]:
    """The providers of `evy.toml` in the order they are asked. Raises :class:`ConfigError`."""
    tables = config.section("providers", dict[str, ProviderConfig])
    made = []
    for name, table in sorted(tables.items(), key=lambda item: (item[1].order, item[0])):
        where = f"[providers.{name}]"
        if not _NAME.fullmatch(name) or name == "local":
            raise ConfigError(f"{where}: a name is lower case letters, digits and hyphens, and not local")
        if not table.model:
            raise ConfigError(f"{where} model: name the model, whose price this is")
        try:
            prices = micro_cents(table.price_in), micro_cents(table.price_out)
            endpoint = Endpoint(
                table.url,
                table.model,
                ca_file=table.ca_file,
                plain_http=table.plain_http,
                takes=table.takes,
                exact=True,
                form="object",
                reasoning=table.reasoning,
            )
            key = _key(table, environment)
            client = ChatClient(endpoint, timeout_s, key=key)
        except (ConfigError, ValueError) as error:
            raise ConfigError(f"{where}: {error}") from error
        made.append(Provider(name, client, *prices, table.requests_per_minute))
    return made


def _key(table: ProviderConfig, environment: Mapping[str, str]) -> str:
    if table.key_file and table.key_env:
        raise ConfigError("give key_file or key_env, not both")
    if table.key_env:
        key = environment.get(table.key_env, "").strip()
        if not key or not key.isprintable() or " " in key:
            raise ConfigError(f"key_env {table.key_env}: the variable must hold one key")
        return key
    return read_key("key_file", table.key_file)


class Seen(NamedTuple):
    """What a look at a provider found; ``problem`` "": its key is good and it has the model."""

    name: str
    model: str
    problem: str


async def look_outside(config: Config, timeout_s: float) -> list[Seen]:
    """Asks each provider for its list of models, which costs nothing. Raises :class:`ConfigError`."""
    found = []
    for provider in providers(config, timeout_s):
        model, problem = provider.client.endpoint.model, ""
        try:
            listed = await provider.client.models()
            if not any(name == model or name.endswith(f"/{model}") for name in listed):
                problem = f"it has no model {model}: {', '.join(listed[:10])}"
        except (ServerError, RequestError) as error:
            problem = str(error)
        finally:
            await provider.client.close()
        found.append(Seen(provider.name, model, problem))
    return found


class Told(NamedTuple):
    """What asking outside came to. ``kept`` None: nothing, for ``reason``; ``wait_s``: worth coming back.

    ``reply`` is what ``kept`` was made of, ``passages`` what the model was shown.
    """

    kept: prompt.Kept | None = None
    by: str = ""
    reason: str = ""
    wait_s: float | None = None
    reply: Reply | None = None
    passages: tuple[Passage, ...] = ()


class Form(NamedTuple):
    """How a model is asked, and what is kept of its words."""

    messages: Callable[[Query, Sequence[Passage]], list[dict[str, str]]]
    kept: Callable[[Reply, Query, tuple[Passage, ...]], prompt.Kept]
    schema: Mapping[str, object]


def _kept(reply: Reply, query: Query, passages: tuple[Passage, ...]) -> prompt.Kept:
    grave = query.priority != "normal" or any(need != "none" for need in query.needs)
    return prompt.kept(reply.content, reply.finish, query.text, passages, grave=grave)


ANSWER: Final = Form(prompt.messages, _kept, prompt.SCHEMA)
"""A person's question."""


class _Question(NamedTuple):
    """A question as it may leave: its text has passed the redaction, and so have the passages."""

    query: Query
    privacy: Privacy
    text: str
    passages: tuple[Passage, ...]
    form: Form


class Outside:
    """The providers, their money and their rules. One for a process; other processes share its ledger."""

    def __init__(
        self,
        *,
        node: str,
        providers: Sequence[Provider],
        settings: LlmConfig,
        ledger: Ledger,
        redactor: Redactor,
        compressor: Compressor,
        emit: Emit,
        max_answer_tokens: int,
        clock_s: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        """``clock_s`` runs forward, ``now`` is Unix time."""
        self._node = node
        self._providers = providers
        self._settings = settings
        self._ledger = ledger
        self._redactor = redactor
        self._compressor = compressor
        self._emit = emit
        self._max_answer_tokens = max_answer_tokens
        self._clock_s = clock_s
        self._now = now
        self._gate = Gate(settings.max_concurrent_api)
        self._breakers = {provider.name: self._breaker(provider.name) for provider in providers}
        self._rests: dict[str, float] = {}
        """Until when a provider asked to be left alone, by the forward clock."""

    def obstacle(self, query: Query, *, aggregated: bool = False) -> str:
        """Why a query may not go outside, whatever the budget; empty when it may."""
        settings = self._settings
        urgent = query.lane == "priority" or query.priority != "normal"
        obstacles = (
            (settings.llm_strategy == "local", "LLM_STRATEGY is local"),
            (query.node_only, "node_only"),
            (
                aggregated and not settings.allow_api_for_aggregated,
                "ALLOW_API_FOR_AGGREGATED is false",
            ),
            (not aggregated and query.privacy == "private", "its privacy is private"),
            (query.lane == "flash" or query.priority == "emergency", "life at risk: no model is asked"),
            (settings.emergency_local_only and urgent, "urgent, and EMERGENCY_LOCAL_ONLY is true"),
        )
        return next((why for stands, why in obstacles if stands), "")

    async def ask(
        self, query: Query, passages: Sequence[Passage], *, aggregated: bool = False, form: Form = ANSWER
    ) -> Told:
        """The first usable answer of a provider. Nothing leaves when :meth:`obstacle` has one to tell."""
        if why := self.obstacle(query, aggregated=aggregated):
            return Told(reason=why)
        privacy: Privacy = "enhanced" if aggregated else query.privacy
        text = prompt.data(query.text)[: prompt.MAX_QUESTION_CHARACTERS]
        if why := self._unsure(text, query.lang):
            await self._noted(query, privacy, text, why)
            return Told(reason=why)
        shown = tuple(one for one in passages if not self._unsure(_words(one), one.lang, kept=True))
        question = _Question(msgspec.structs.replace(query, text=text), privacy, text, shown, form)
        reasons, waits = [], []
        for provider in self._providers:
            if STRICTNESS[privacy] < STRICTNESS[provider.client.endpoint.takes]:
                reasons.append(f"{provider.name}: takes {provider.client.endpoint.takes} questions only")
                continue
            told = await self._one(provider, question)
            if told.kept is not None:
                return told
            reasons.append(f"{provider.name}: {told.reason}")
            if told.wait_s is not None:
                waits.append(told.wait_s)
        reason = "; ".join(reasons) or "no provider is configured"
        return Told(reason=reason, wait_s=min(waits, default=None))

    def _unsure(self, text: str, lang: str, *, kept: bool = False) -> str:
        """Why the redaction pass cannot vouch for a text; empty when it can. ``kept``: a reviewed text, whose
        language and words are known."""
        try:
            [found] = self._redactor.redact([text])
        except Exception as error:  # noqa: BLE001  # whatever stops the pass, nothing unchecked leaves
            return f"redaction failed: {type(error).__name__}"
        if found.found:
            kinds = ", ".join(sorted({kind for kind, _, _ in found.found}))
            return f"redaction finds in it: {kinds}"
        if found.doubtful:
            return "redaction is unsure: something unread is left"
        if not kept and (found.foreign or lang not in LANGUAGES):
            return "redaction cannot judge its language"
        return ""

    async def _one(self, provider: Provider, question: _Question) -> Told:
        """One provider's answer, reserved before and settled after."""
        breaker = self._breakers[provider.name]
        body = provider.client.body(
            question.form.messages(question.query, question.passages),
            self._max_answer_tokens,
            provider.client.endpoint.model,
            question.form.schema,
        )
        # No tokenizer makes more tokens than octets, and the body holds more than the model is shown.
        worst = provider.cost(Usage(len(body), self._max_answer_tokens))
        async with self._gate.slot(question.query.lane):
            now_s = self._clock_s()
            if (rest_s := self._rests.get(provider.name, 0.0) - now_s) > 0:
                return Told(reason="it asked to be left alone", wait_s=rest_s)
            if wait_s := breaker.admit(now_s):
                return Told(reason="it is left alone until it answers again", wait_s=wait_s)
            model = provider.client.endpoint.model
            ask = Ask(provider.name, model, question.privacy, worst, len(body), question.text)
            try:
                granted = await asyncio.to_thread(
                    self._ledger.reserve, ask, self._settings.budget, provider.per_minute, self._now()
                )
            except LedgerError as error:
                log.error("no outside call: %s", error)
                return Told(reason=str(error), wait_s=60.0)
            if isinstance(granted, Refused):
                self._report("outside_refused", question.query, provider=provider.name, reason=granted.reason)
                return Told(reason=granted.reason, wait_s=granted.wait_s)
            return await self._granted(provider, granted, question, body)

    async def _granted(self, provider: Provider, granted: Reserved, question: _Question, body: bytes) -> Told:
        query = question.query
        breaker = self._breakers[provider.name]
        started_s = self._clock_s()
        try:
            reply = await provider.client.complete(body)
        except RequestError as error:
            ending, told = Ending("refused", 0), Told(reason=str(error))
            breaker.succeeded()  # it works; this request is what it will not take
        except ServerError as error:
            cost = _billed(provider, error)
            usage = error.usage or Usage()
            ending = Ending(_outcome(error), cost, usage.prompt_tokens, usage.completion_tokens)
            wait_s = error.retry_after_s or 0.0
            if error.busy:
                wait_s = wait_s or 5.0
                breaker.succeeded()
            else:
                breaker.failed(self._clock_s(), str(error))
            if wait_s:
                self._rests[provider.name] = self._clock_s() + wait_s
            told = Told(reason=str(error), wait_s=max(wait_s, breaker.wait_s(self._clock_s()), 1.0))
        else:
            kept = question.form.kept(reply, query, question.passages)
            ending = self._judged(provider, reply, kept, query.lang)
            if kept.garbled:
                if reply.finish == "stop":
                    breaker.failed(self._clock_s(), kept.reason)  # it would be paid for again and again
                told = Told(reason=kept.reason, wait_s=max(breaker.wait_s(self._clock_s()), 1.0))
            else:
                breaker.succeeded()
                told = Told(kept, provider.name, kept.reason, reply=reply, passages=question.passages)
        ms = round((self._clock_s() - started_s) * 1000)
        await self._settled(provider, granted, msgspec.structs.replace(ending, ms=ms), query)
        return told

    def _judged(self, provider: Provider, reply: Reply, kept: prompt.Kept, lang: str) -> Ending:
        """What an answer is worth, and what it cost."""
        outcome: Outcome
        if kept.garbled:
            outcome = "unusable"
        elif not kept.text:
            outcome = "unknown"
        else:
            said = [passage.text if passage.lang == lang else "" for passage in kept.passages]
            [harm] = self._compressor.check([PLACEHOLDER.sub(" ", kept.text)], [said], [lang])
            outcome = "unsupported" if harm else "answered"
        cost = provider.cost(reply.usage) if reply.counted else None
        return Ending(outcome, cost, reply.usage.prompt_tokens, reply.usage.completion_tokens)

    async def _settled(self, provider: Provider, granted: Reserved, ending: Ending, query: Query) -> None:
        try:
            standing = await asyncio.to_thread(
                self._ledger.settle, granted.call, ending, self._now(), self._settings.alert_at
            )
        except LedgerError as error:
            log.error("call %d stays counted at its worst price: %s", granted.call, error)
            return
        cost = granted.worst if ending.cost is None else ending.cost
        self._report(
            "outside",
            query,
            provider=provider.name,
            model=provider.client.endpoint.model,
            outcome=ending.outcome,
            tokens=ending.completion_tokens,
            prompt_tokens=ending.prompt_tokens,
            ms=ending.ms,
            micro_cents=cost,
            call=granted.call,
            head=standing.head,
        )
        if standing.crossed:
            log.warning("outside calls of %s have cost the alert threshold's share", standing.month)
            self._report(
                "cost_alert",
                None,
                month=standing.month,
                committed=standing.committed,
                budget=self._settings.budget,
            )

    async def _noted(self, query: Query, privacy: Privacy, text: str, reason: str) -> None:
        """A question that redaction kept inside."""
        self._report("outside_refused", query, provider="", reason=reason)
        try:
            await asyncio.to_thread(self._ledger.refuse, "", privacy, text, reason, self._now())
        except LedgerError as error:
            log.error("not audited: %s", error)

    async def watch_once(self) -> None:
        """Looks after providers that are left alone, and after calls whose process died."""
        for provider in self._providers:
            breaker = self._breakers[provider.name]
            if breaker.state == "open":
                try:
                    await provider.client.models()
                except ServerError as error:
                    log.debug("%s is still away: %s", provider.name, error)
                except RequestError as error:
                    log.debug("%s lists no models: %s", provider.name, error)
                else:
                    breaker.looks_well(self._clock_s())
        try:
            if lost := await asyncio.to_thread(self._ledger.end_lost, self._now()):
                log.warning("%d outside calls have no end: counted at their worst price", lost)
        except LedgerError as error:
            log.error("%s", error)

    async def close(self) -> None:
        """Closes connections and the ledger."""
        for provider in self._providers:
            await provider.client.close()
        await asyncio.to_thread(self._ledger.close)

    def _breaker(self, name: str) -> Breaker:
        def changed(state: State, reason: str) -> None:
            log.warning("provider %s: %s: %s", name, state, reason)
            self._report("breaker", None, provider=name, state=state, reason=reason)

        return Breaker(changed)

    def _report(self, kind: str, query: Query | None, **fields: object) -> None:
        event = Event(kind=kind, node=self._node, actor="infer_large", at=self._now(), fields=fields)
        if query is not None:
            event = msgspec.structs.replace(
                event, query_id=query.id, sender_ref=query.sender_ref, lane=query.lane
            )
        self._emit(event)


def _words(passage: Passage) -> str:
    """All that a model would be shown of a passage."""
    parts = (passage.text,) if passage.reviewed else (passage.text, passage.title, passage.source)
    return "\n".join(parts)


def _billed(provider: Provider, error: ServerError) -> int | None:
    """What a failed call cost; None: perhaps everything."""
    if error.usage is not None and error.usage.prompt_tokens:
        return provider.cost(error.usage)
    return 0 if not error.sent or error.status in _NOT_BILLED else None


def _outcome(error: ServerError) -> Outcome:
    if error.busy:
        return "busy"
    if error.status == 200:
        return "garbled"
    if error.status:
        return "failed"
    if isinstance(error.__cause__, TimeoutError):
        return "timeout"
    return "cut" if error.sent else "unreachable"
