"""Outside providers by the simulator, over real sockets: who is asked what, for how much, and what then."""

import asyncio
import json
import tomllib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from actors._llm import LlmConfig, llm_config, micro_cents
from actors._llm.ledger import Ledger
from actors._retrieval.phrases import read_phrases
from actors._runtime.config import Config
from actors._runtime.context import MemoryContext
from actors._runtime.identity import Identity
from actors.infer_large import (
    ChatClient,
    InferLargeConfig,
    Large,
    Retrieval,
    outside_of,
    own_client,
)
from actors.infer_large.providers import Outside, providers
from actors.intake import build as build_intake
from actors.knowledge import Texts
from simulators.provider import Fault, Provider, running, table
from subjects.errors import ConfigError, RefusedError, RetryLaterError
from subjects.messages import Answer, InboundSms, Passage, Query
from subjects.services import DraftRequest
from tests.peer import Behave, Peer, http, slow, written
from tests.unit.test_infer_large import BOIL, query

DEAR = "1000"
"""Units per million tokens: a question's worst price is some five units, its real one less than two."""
MAPUDUNGUN = "Iñche ta mapuche ngen, tañi ñuke kutrankawküley fey mew ayüken kiñe machi"


class Site:
    """A centre with simulated providers, an own model, and time that stands still but for the test."""

    def __init__(self, address: str, url: str, directory: Path, **options: Any) -> None:
        made: Sequence[Provider] = options.pop("made")
        environment: Mapping[str, str] = options.pop("environment", {})
        tables = "".join(table(one, address, order) for order, one in enumerate(made, 1))
        config = Config(
            {
                **tomllib.loads(tables),
                "node": {"profile": "bigevy", "data_dir": str(directory)},
                "llm": {
                    "llm_strategy": "hybrid",
                    "llm_monthly_budget": 1000,
                    "api_timeout_sec": 5,
                    **options,
                },
            }
        )
        self.settings = llm_config(config, environment)
        self.context = MemoryContext(config, Identity("hub", b"x", "0"))
        large = InferLargeConfig(base_url=url, passages=5)
        self.outside = outside_of(self.context, large, self.settings)
        self.client = own_client(large, self.settings)
        self.seconds = 1000.0
        if self.outside is not None:
            self.outside._clock_s = lambda: self.seconds
        self.large = Large(
            node="hub",
            client=self.client,
            retrieval=Retrieval([], read_phrases()),
            texts=Texts.load(),
            emit=self.context.emit,
            config=large,
            settings=self.settings,
            outside=self.outside,
            chance=lambda: 0.5,
            clock_s=lambda: self.seconds,
        )
        self.file = directory / "outside.sqlite3"

    async def answer(self, asked: Query) -> Answer:
        [output] = await self.large.handle(asked)
        assert isinstance(output.message, Answer)
        return output.message

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [event.fields for event in self.context.events if event.kind == kind]

    def calls(self) -> list[tuple[str, str | None]]:
        ledger = Ledger.read(self.file)
        try:
            assert ledger.verify().problems == ()
            return [(call.provider, call.outcome) for call in ledger.calls()]
        finally:
            ledger.close()


Open = Callable[..., Any]


OWN = http(written("The own model says: boil it.", 1))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    monkeypatch.setattr("actors.infer_large.RETRY_S", (0.0, 0.0))

    @asynccontextmanager
    async def open_(*made: Provider, own: Behave = OWN, **options: Any) -> AsyncIterator[tuple[Site, Peer]]:
        async with AsyncExitStack() as stack:
            peer = await stack.enter_async_context(Peer(own).running())
            address = await stack.enter_async_context(running(made))
            made_site = Site(address, peer.url, tmp_path, made=made, **options)
            stack.push_async_callback(made_site.large.close)
            yield made_site, peer

    return open_


def allowed(text: str = "how long do I boil water", **fields: Any) -> Query:
    return query(text, BOIL, **{"privacy": "enhanced", **fields})


def sent(*made: Provider) -> str:
    return "".join(seen.body for provider in made for seen in provider.seen)


# who may go outside


async def test_an_allowed_question_is_answered_outside_and_its_price_is_what_was_billed(site: Open) -> None:
    provider = Provider("openai", key="")
    async with site(provider) as (made, peer):
        answer = await made.answer(allowed())
        assert (answer.step, answer.text, answer.passages) == ("model", BOIL.text, (BOIL,))
        assert answer.by_centre
        assert peer.requests == []
        standing = made.outside._ledger.standing(made.context.now())
        assert 0 < standing.committed == provider.billed
        assert made.calls() == [("openai", "answered")]
        [told] = made.told("outside")
        assert made.outside._ledger.verify().head == told["head"]  # the event store keeps it too
    assert (told["provider"], told["outcome"]) == ("openai", "answered")
    request = json.loads(provider.seen[0].body)
    assert request["response_format"] == {"type": "json_object"}
    [_, user] = request["messages"]
    lines = [json.loads(line) for line in user["content"].splitlines()]
    assert lines == [  # neither pseudonym nor node nor id
        {"passage": 1, "text": BOIL.text},
        {"language": "en", "message": "how long do I boil water"},
    ]
    assert request.keys() == {"model", "messages", "max_tokens", "temperature", "response_format"}


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"privacy": "private"}, {}),
        ({"lane": "flash"}, {}),
        ({"priority": "emergency"}, {}),
        ({"priority": "urgent", "lane": "priority"}, {}),
        ({"privacy": "enhanced"}, {"llm_strategy": "local"}),
        ({"privacy": "public"}, {"llm_monthly_budget": 0}),
    ],
)
async def test_what_may_not_go_outside_does_not(
    site: Open, fields: dict[str, Any], options: dict[str, Any]
) -> None:
    provider = Provider("openai")
    async with site(provider, **options) as (made, peer):
        await made.answer(allowed(**fields))
        assert provider.seen == []
        life_at_risk = fields.get("lane") == "flash" or fields.get("priority") == "emergency"
        assert len(peer.requests) == (0 if life_at_risk else 1)


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("my name is Kofi Mensah, how long do I boil water", "en"),  # a node that did not redact
        ("how long do I boil water at 12345.67890.12", "en"),
        ("meine Grossmutter Hildegard braucht sauberes Wasser", "en"),
        (MAPUDUNGUN, "es"),
        ("сколько кипятить воду, спросил Иван", "en"),
        ("how long do I boil water", "de"),
    ],
)
async def test_where_redaction_is_unsure_no_call_is_made(site: Open, text: str, lang: str) -> None:
    provider = Provider("openai")
    async with site(provider) as (made, peer):
        await made.answer(allowed(text, lang=lang))
        assert provider.seen == []
        assert len(peer.requests) == 1  # the own model is asked
        assert made.calls() == []
    assert "redaction" in made.told("outside_refused")[0]["reason"]


async def test_a_pass_that_raises_lets_nothing_out(site: Open) -> None:
    class Broken:
        def redact(self, texts: Sequence[str]) -> Any:
            raise RuntimeError(texts)

    provider = Provider("openai")
    async with site(provider) as (made, _):
        made.outside._redactor = Broken()
        await made.answer(allowed())
    assert provider.seen == []
    assert made.told("outside_refused")[0]["reason"] == "redaction failed: RuntimeError"


async def test_a_masked_question_may_go_and_its_placeholder_comes_back(site: Open) -> None:
    provider = Provider("openai")
    async with site(provider) as (made, _):
        answer = await made.answer(allowed("how long does [name1] boil water"))
    assert answer.text == f"[name1]: {BOIL.text}"
    assert "[name1]" in sent(provider)


async def test_a_passage_with_somebodys_number_is_not_shown_outside(site: Open) -> None:
    ours = Passage(id="ours", source="L1", score=0.6, text="Water truck: call Kofi Mensah, +233 24 555 0199.")
    theirs = changed(BOIL, id="doc", text="Filter it.", title="A letter of Mr Kofi Mensah", licence="CC0")
    provider = Provider("openai")
    async with site(provider) as (made, _):
        await made.answer(changed(allowed(), passages=(BOIL, ours, theirs)))
    assert BOIL.text in sent(provider)
    assert "Mensah" not in sent(provider)
    assert "0199" not in sent(provider)


async def test_a_provider_for_public_questions_gets_no_others(site: Open, tmp_path: Path) -> None:
    first, second = Provider("first"), Provider("second")
    async with site(first, second) as (made, _):
        endpoint = made.outside._providers[0].client.endpoint
        made.outside._providers[0].client.endpoint = changed(endpoint, takes="public")
        await made.answer(allowed())
        assert (len(first.seen), len(second.seen)) == (0, 1)
        await made.answer(allowed(privacy="public", id="q2"))
        assert (len(first.seen), len(second.seen)) == (1, 1)


# what goes wrong


@pytest.mark.parametrize(
    ("fault", "outcome", "paid"),
    [
        ("busy", "busy", "nothing"),
        ("error", "failed", "nothing"),
        ("half", "cut", "worst"),
        ("garbled", "garbled", "worst"),
        ("words", "unusable", "billed"),
        ("hang", "timeout", "worst"),
    ],
)
async def test_a_provider_that_fails_is_followed_by_the_next(
    site: Open, fault: Fault, outcome: str, paid: str
) -> None:
    first, second = Provider("first", faults=[fault]), Provider("second")
    async with site(first, second, api_timeout_sec=0.3 if fault == "hang" else 5) as (made, peer):
        answer = await made.answer(allowed())
        assert (answer.step, answer.text) == ("model", BOIL.text)
        assert made.calls() == [("first", outcome), ("second", "answered")]
        [failed, _] = made.outside._ledger.calls()
        assert failed.cost == {"nothing": 0, "worst": failed.reserved, "billed": first.billed}[paid]
        assert failed.cost >= first.billed
        assert peer.requests == []


async def test_when_all_providers_fail_the_own_model_answers_and_then_the_ladder(site: Open) -> None:
    made_of = Provider("one", faults=["error"] * 9), Provider("two", faults=["busy"] * 9)
    async with site(*made_of) as (made, peer):
        assert (await made.answer(allowed())).text == "The own model says: boil it."
        assert len(peer.requests) == 1
    async with site(Provider("one", faults=["error"] * 9), llm_strategy="api-only") as (made, peer):
        with pytest.raises(RetryLaterError, match="HTTP 500"):
            await made.answer(allowed())
        private = await made.answer(allowed(privacy="private"))
        assert (private.step, private.text) == ("verbatim", BOIL.text)
        assert peer.requests == []


async def test_a_busy_provider_is_left_alone_as_long_as_it_asked(site: Open) -> None:
    provider = Provider("one", faults=["busy"], retry_after_s=20)
    async with site(provider) as (made, _):
        for seconds, count in ((0, 1), (19, 1), (2, 2)):
            made.seconds += seconds
            await made.answer(allowed())
            assert len(provider.seen) == count


async def test_a_provider_that_is_down_is_not_asked_until_it_looks_well(site: Open) -> None:
    provider = Provider("one", faults=["error"] * 3)
    async with site(provider) as (made, _):
        for _ in range(5):
            await made.answer(allowed())
        assert len(provider.seen) == 3
        assert [event["state"] for event in made.told("breaker")] == ["open"]
        await made.outside.watch_once()  # it lists its models
        await made.answer(allowed())
        assert len(provider.seen) == 4


async def test_a_model_that_does_not_know_is_an_answer(site: Open) -> None:
    first, second = Provider("first", faults=["unknown"]), Provider("second")
    async with site(first, second) as (made, peer):
        assert (await made.answer(allowed())).step == "unsure"
        assert made.calls() == [("first", "unknown")]
        assert second.seen == peer.requests == []


async def test_usage_nobody_told_costs_the_worst(site: Open) -> None:
    provider = Provider("one", counts=False)
    async with site(provider) as (made, _):
        await made.answer(allowed())
        [call] = made.outside._ledger.calls()
        assert call.cost == call.reserved > provider.billed


async def test_a_bill_beyond_reason_ends_the_relation(site: Open) -> None:
    lies = json.loads(written("Boil it.", 1))
    lies["usage"] = {"prompt_tokens": 9_000_000, "completion_tokens": 1}
    async with Peer(http(json.dumps(lies).encode())).running() as liar:
        honest = Provider("honest")
        async with site(honest) as (made, _):
            [good] = made.outside._providers
            endpoint = changed(good.client.endpoint, base_url=f"{liar.url}/v1")
            bad = good._replace(name="aaa", client=ChatClient(endpoint, 5))
            made.outside._providers = [bad, good]
            made.outside._breakers["aaa"] = made.outside._breaker("aaa")
            await made.answer(allowed())
            await made.answer(allowed())
            assert len(liar.requests) == 1
            assert len(honest.seen) == 1
            await bad.client.close()


@pytest.mark.parametrize("faults", [(), ("half", "hang", "garbled", "busy", "error", None, "words") * 9])
async def test_a_burst_never_overspends(site: Open, faults: Sequence[Fault | None]) -> None:
    """Fifty at once from two processes' worth of clients, and money for some of them."""
    provider = Provider("one", price_in=DEAR, price_out=DEAR, latency_ms=20, faults=faults)
    budget = 150
    options = {"llm_monthly_budget": budget, "max_concurrent_api": 50, "api_timeout_sec": 0.5}
    async with site(provider, **options) as (made, _):
        other = outside_of(made.context, InferLargeConfig(), made.settings)
        assert isinstance(other, Outside)
        asked = [allowed(id=f"q{number}") for number in range(50)]
        await asyncio.gather(
            *((made.outside if number % 2 else other).ask(one, [BOIL]) for number, one in enumerate(asked))
        )
        committed = made.outside._ledger.standing(made.context.now()).committed
        assert provider.billed <= committed <= micro_cents(budget)
        assert 0 < len(provider.seen) < 50  # some were asked, and then the money was too short
        if not faults:
            assert provider.billed == committed
        assert {call.outcome for call in made.outside._ledger.calls()} >= {"answered"}
        assert made.outside._ledger.verify().problems == ()
        assert all(call.cost is not None for call in made.outside._ledger.calls())
        await other.close()


# the settings, each by its variable


def of(**environment: str) -> LlmConfig:
    return llm_config(Config({}), environment)


def test_every_setting_is_read_from_file_and_environment() -> None:
    values = {
        "LLM_STRATEGY": "api-only",
        "LLM_MONTHLY_BUDGET": "12.34",
        "COST_ALERT_THRESHOLD": "0.5",
        "EMERGENCY_LOCAL_ONLY": "False",
        "DEFAULT_PRIVACY_LEVEL": "enhanced",
        "ALLOW_API_FOR_AGGREGATED": "true",
        "AUDIT_ALL_API_CALLS": "0",
        "LOCAL_TIMEOUT_SEC": "7",
        "API_TIMEOUT_SEC": "8",
        "MAX_CONCURRENT_LOCAL": "3",
        "MAX_CONCURRENT_API": "2",
    }
    read = llm_config(Config({"llm": {"llm_strategy": "hybrid", "max_concurrent_api": 9}}), values)
    assert set(values) == {key.upper() for key in LlmConfig.__struct_fields__}
    assert read == LlmConfig("api-only", "12.34", 0.5, False, "enhanced", True, False, 7.0, 8.0, 3, 2)
    assert read.budget == 1_234_000_000
    for name, wrong in (
        ("LLM_STRATEGY", "cloud"),
        ("LLM_MONTHLY_BUDGET", "ten"),
        ("MAX_CONCURRENT_API", "0"),
    ):
        with pytest.raises(ConfigError, match=name):
            of(**{name: wrong})
    with pytest.raises(ConfigError, match=r"\[llm\]"):
        llm_config(Config({"llm": {"strategy": "local"}}), {})


async def test_api_only_asks_no_own_model(site: Open) -> None:
    provider = Provider("one", faults=["unknown"])
    async with site(provider, environment={"LLM_STRATEGY": "api-only"}) as (made, peer):
        assert (await made.answer(allowed())).step == "unsure"
        await made.answer(allowed(privacy="private"))
        assert peer.requests == []


async def test_the_budget_is_the_variables(site: Open) -> None:
    for budget, count in (("0", 0), ("1000", 1)):
        provider = Provider("one")
        async with site(provider, environment={"LLM_MONTHLY_BUDGET": budget}) as (made, _):
            await made.answer(allowed())
        assert len(provider.seen) == count


async def test_the_alert_comes_at_its_threshold(site: Open) -> None:
    async def alerts(threshold: str) -> int:
        provider = Provider("one", price_in=DEAR, price_out=DEAR)
        environment = {"COST_ALERT_THRESHOLD": threshold, "LLM_MONTHLY_BUDGET": "500"}
        async with site(provider, environment=environment) as (made, _):
            for _ in range(2):
                await made.answer(allowed())
            made.file.unlink()
        return len(made.told("cost_alert"))

    assert await alerts("0.9") == 0
    assert await alerts("0.001") == 1


async def test_emergency_local_only_keeps_what_is_urgent(site: Open) -> None:
    urgent = allowed(priority="urgent", lane="priority", needs=("water",))
    for value, count in (("true", 0), ("false", 1)):
        provider = Provider("one")
        async with site(provider, environment={"EMERGENCY_LOCAL_ONLY": value}) as (made, _):
            await made.answer(urgent)
            await made.answer(allowed(lane="flash"))  # never, whatever is set
        assert len(provider.seen) == count


async def test_aggregated_questions_go_out_only_if_allowed(site: Open) -> None:
    for value, count in (("false", 0), ("true", 1)):
        provider = Provider("one")
        async with site(provider, environment={"ALLOW_API_FOR_AGGREGATED": value}) as (made, _):
            told = await made.outside.ask(query(privacy="private"), [BOIL], aggregated=True)
            assert (told.kept is not None) == bool(count)
        assert len(provider.seen) == count


async def test_a_draft_for_many_goes_outside_only_if_allowed(site: Open) -> None:
    asked = DraftRequest(text="how long do I boil water, asks [name]", lang="en")

    class Found:
        async def search(self, *_: Any) -> list[Passage]:
            return [BOIL]

        async def close(self) -> None:
            pass

    for strategy, value, count in (("hybrid", "false", 0), ("hybrid", "true", 1), ("api-only", "true", 1)):
        provider = Provider("one")
        environment = {"ALLOW_API_FOR_AGGREGATED": value, "LLM_STRATEGY": strategy}
        async with site(provider, environment=environment) as (made, peer):
            made.large._retrieval = Found()
            draft = await made.large.draft(asked)
            assert (len(provider.seen), len(peer.requests)) == (count, 1 - count)
            if count:
                assert (draft.title, draft.text, draft.used) == ("What helps", BOIL.text, ("boil",))
                assert made.calls()[-1] == ("one", "answered")
    async with site(Provider("one"), environment={"LLM_STRATEGY": "api-only"}) as (made, _):
        with pytest.raises(RefusedError, match="own server only"):
            await made.large.draft(asked)
    broken = Provider("one", faults=["words"])
    async with site(broken, environment={"ALLOW_API_FOR_AGGREGATED": "true"}) as (made, peer):
        made.large._retrieval = Found()
        await made.large.draft(asked)
        assert (len(broken.seen), len(peer.requests)) == (1, 1)  # then the own model
        assert made.calls()[-1] == ("one", "unusable")


async def test_only_calls_are_audited_when_not_all_is(site: Open) -> None:
    for value, count in (("true", 1), ("false", 0)):
        async with site(Provider("one"), environment={"AUDIT_ALL_API_CALLS": value}) as (made, _):
            await made.answer(allowed("my name is Kofi Mensah"))
            assert sum(made.outside._ledger.refusals().values()) == count
            made.file.unlink()


async def test_the_own_model_and_providers_have_their_time_limits(site: Open) -> None:
    provider = Provider("one", faults=["hang"])
    limits = {"LOCAL_TIMEOUT_SEC": "0.2", "API_TIMEOUT_SEC": "0.3"}
    async with site(provider, own=slow, environment=limits) as (made, peer):
        with pytest.raises(RetryLaterError, match="no answer within 0 s"):
            await made.answer(allowed())
        assert len(peer.requests) == 3
        assert made.calls() == [("one", "timeout")]


async def test_so_many_at_once_and_no_more(site: Open) -> None:
    provider = Provider("one", latency_ms=30)

    async def own(peer: Peer, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        await http(written("Boil it.", 1))(peer, request, writer)

    limits = {"MAX_CONCURRENT_LOCAL": "2", "MAX_CONCURRENT_API": "3"}
    async with site(provider, own=own, environment=limits) as (made, peer):
        public, private = allowed(), allowed(privacy="private")
        await asyncio.gather(*(made.answer(one) for one in [public] * 9 + [private] * 9))
        assert provider.most_at_once == 3
        assert peer.most_at_once == 2


async def test_the_default_privacy_level_is_that_of_a_nodes_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    async def level(tables: dict[str, Any]) -> str:
        actor = await build_intake(MemoryContext(Config(tables), Identity("n1", b"x", "0")))
        text = InboundSms(
            id="a" * 32,
            node="n1",
            sender="+15550100",
            text="hello there",
            lane="routine",
            deadline=query().deadline,
        )
        outputs = await actor.handlers["sms.in"](text)
        return next(o.message.privacy for o in outputs if isinstance(o.message, Query))

    assert await level({}) == "private"
    assert await level({"llm": {"default_privacy_level": "enhanced"}}) == "enhanced"
    monkeypatch.setenv("DEFAULT_PRIVACY_LEVEL", "public")
    assert await level({}) == "public"
    assert await level({"intake": {"privacy": "private"}}) == "private"


# the tables


GOOD: dict[str, Any] = {"url": "http://127.0.0.1:1/v1", "model": "m", "price_in": "0.15", "price_out": 0.6}


def made_of(environment: Mapping[str, str] = {}, **tables: dict[str, Any]) -> list[Any]:  # read only
    return providers(Config({"providers": tables}), 5.0, environment)


def test_providers_are_asked_in_their_order() -> None:
    found = made_of(gemini={**GOOD, "order": 2}, openai={**GOOD, "order": 1}, deepseek={**GOOD, "order": 2})
    assert [provider.name for provider in found] == ["openai", "deepseek", "gemini"]
    assert (found[0].price_in, found[0].price_out) == (15_000_000, 60_000_000)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"url": "http://api.example.org/v1"}, "unencrypted"),
        ({"url": "ftp://x"}, "give http"),
        ({"key": "sk-secret"}, "unknown field"),
        ({"price_in": "cheap"}, "amount of money"),
        ({"key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY"),
        ({"key_env": "A", "key_file": "/b"}, "not both"),
        ({"key_file": "/no/such/file"}, "/no/such/file"),
        ({"takes": "private"}, "takes"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"model": ""}, "model"),
    ],
)
def test_a_wrong_table_is_refused_with_its_reason(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        made_of(openai={**GOOD, **change})


def test_names_that_would_not_do() -> None:
    for name in ("local", "Open AI"):
        with pytest.raises(ConfigError, match="a name is"):
            made_of(**{name: GOOD})


async def test_the_key_comes_from_a_file_or_the_environment(site: Open, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-file\n")
    for key, change, environment in (
        ("sk-file", {"key_file": str(tmp_path / "key")}, {}),
        ("sk-env", {"key_env": "MY_KEY"}, {"MY_KEY": "sk-env"}),
    ):
        provider = Provider("one", key=key)
        async with running([provider]) as address:
            table_ = {**GOOD, "url": f"{address}/one", "model": provider.model, **change}
            [made] = made_of(environment, one=table_)
            body = made.client.body([{"role": "user", "content": "hello"}], 5, provider.model)
            assert (await made.client.complete(body)).counted
            await made.client.close()


async def test_a_model_that_thinks_gets_other_keys(site: Open) -> None:
    [made] = made_of(one={**GOOD, "reasoning": True})
    body = json.loads(made.client.body([], 5, "m"))
    assert body["max_completion_tokens"] == 5
    assert not body.keys() & {"max_tokens", "temperature", "seed"}


def test_a_strategy_without_providers_is_refused(tmp_path: Path) -> None:
    config = Config({"llm": {"llm_strategy": "hybrid"}, "node": {"data_dir": str(tmp_path)}})
    context = MemoryContext(config, Identity("hub", b"x", "0"))
    with pytest.raises(ConfigError, match="name a provider"):
        outside_of(context, InferLargeConfig(), llm_config(config, {}))
