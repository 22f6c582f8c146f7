"""`evy llm report`, `audit` and `ask` on what simulated providers did."""

import asyncio
import json
import sqlite3
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from actors._cli import evy as command
from actors._llm import LlmConfig
from actors._llm.ledger import FILE, Ask, Call, Ending, Ledger, Outcome, Reserved
from actors._llm.report import report
from actors._runtime.config import Config
from actors._runtime.context import MemoryContext
from actors._runtime.identity import Identity
from actors.infer_large import InferLargeConfig, outside_of
from simulators.provider import Fault, Provider, running, table
from tests.unit.test_providers import BOIL, allowed


def evy(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["--config", str(config), "llm", *arguments])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Provider]]:
    """A month of three providers: `evy.toml` and what they billed."""
    directory = tmp_path_factory.mktemp("centre")
    faults: list[Fault | None] = ["busy", "error", "half", "garbled", "words", "unknown", None, None]
    made = [Provider("openai", faults=faults), Provider("deepseek"), Provider("gemini")]
    config = directory / "evy.toml"

    async def month() -> None:
        async with running(made) as address:
            tables = "".join(table(one, address, order) for order, one in enumerate(made, 1))
            config.write_text(
                f'[node]\nprofile = "bigevy"\ndata_dir = "{directory}"\n'
                f'[llm]\nllm_strategy = "hybrid"\nllm_monthly_budget = "20"\n{tables}'
            )
            context = MemoryContext(Config(tomllib.loads(config.read_text())), Identity("hub", b"x", "0"))
            settings = LlmConfig("hybrid", "20")
            outside = outside_of(context, InferLargeConfig(), settings)
            assert outside is not None
            time_s = 0.0
            outside._clock_s = lambda: time_s
            for number in range(12):
                time_s += 1000.0
                await outside.ask(allowed(id=f"q{number}"), [BOIL])
            await outside.ask(allowed("my name is Kofi Mensah"), [BOIL])
            await outside.close()

    asyncio.run(month())
    return config, made


def test_the_report_is_what_happened(site: tuple[Path, list[Provider]]) -> None:
    config, made = site
    done = evy(config, "report", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["budget"] == 2_000_000_000
    by = {share["provider"]: share for share in found["providers"]}
    assert list(by) == ["openai", "deepseek"]
    assert by["openai"]["outcomes"] == {
        "answered": 6, "busy": 1, "failed": 1, "cut": 1, "garbled": 1, "unusable": 1, "unknown": 1,
    }  # fmt: skip
    assert by["openai"]["calls"] == len(made[0].seen) == 12
    assert by["openai"]["failed_percent"] == round(100 * 5 / 12)
    assert by["deepseek"]["passed_percent"] == 100
    assert by["deepseek"]["cost"] == made[1].billed
    assert by["openai"]["cost"] >= made[0].billed
    assert found["committed"] == sum(share["cost"] for share in found["providers"])
    assert sum(found["not_asked"].values()) == 1
    text = evy(config, "report").output
    assert "openai" in text
    assert "recommended" in text
    assert evy(config, "report", "--month", "2020-01").output.count("no outside call was made") == 1


def test_the_audit_is_whole_until_somebody_meddles(site: tuple[Path, list[Provider]], tmp_path: Path) -> None:
    config, _ = site
    good = evy(config, "audit", "--verify")
    assert good.exit_code == 0, good.output
    head = good.output.splitlines()[-1]
    assert evy(config, "audit", "--head", head).exit_code == 0
    entries = [json.loads(line) for line in evy(config, "audit", "--json").output.splitlines()]
    asked, ended = (sum(entry["what"] == what for entry in entries) for what in ("asked", "ended"))
    assert asked == ended == 17
    shown = evy(config, "audit").output
    assert "provider=deepseek" in shown
    assert "boil" not in shown.lower()
    copy = tmp_path / FILE
    with sqlite3.connect(config.parent / FILE) as source, sqlite3.connect(copy) as target:
        source.backup(target)
        target.execute("UPDATE chain SET entry = replace(entry, 'gemini', 'openai')")
        target.execute("UPDATE calls SET cost = 0 WHERE id = 7")
    elsewhere = tmp_path / "evy.toml"
    elsewhere.write_text(config.read_text().replace(str(config.parent), str(tmp_path)))
    bad = evy(elsewhere, "audit", "--verify")
    assert bad.exit_code == 1
    assert "call 7" in bad.output
    assert evy(elsewhere, "audit", "--head", "3:00", "--json").exit_code == 1


async def test_a_look_says_which_provider_can_be_used(tmp_path: Path) -> None:
    good, other = Provider("openai"), Provider("deepseek")
    config = tmp_path / "evy.toml"
    async with running([good, other]) as address:
        tables = table(good, address, 1) + table(other, address, 2).replace("deepseek-model", "gpt-9")
        config.write_text(f'[llm]\nllm_strategy = "api-only"\n{tables}')
        looked = await asyncio.to_thread(evy, config, "check")
    assert looked.exit_code == 1
    assert "openai: well, has openai-model" in looked.output
    assert "deepseek: it has no model gpt-9" in looked.output
    gone = await asyncio.to_thread(evy, config, "check")
    assert "openai: http" in gone.output
    assert (good.billed, other.billed) == (0, 0)


def test_nobody_asked_nothing_to_report(tmp_path: Path) -> None:
    config = tmp_path / "evy.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path}"\n')
    assert "no outside call was made" in evy(config, "report").output
    missing = evy(config, "audit")
    assert missing.exit_code != 0


def calls(provider: str, cost: int = 10, **outcomes: int) -> list[Call]:
    kinds: list[Outcome] = [kind for kind, count in outcomes.items() for _ in range(count)]  # type: ignore[misc]
    return [Call("2026-11", 0.0, "enhanced", provider, "m", cost, cost, kind, 9, 3, 100) for kind in kinds]


@pytest.mark.parametrize(
    ("made", "not_asked", "words"),
    [
        (calls("a", answered=10, busy=10), {}, "lower its requests_per_minute"),
        (calls("a", answered=10, failed=10), {}, "put another before it"),
        (calls("a", answered=18, timeout=2), {}, "API_TIMEOUT_SEC"),
        (calls("a", answered=18, unusable=2), {}, "no JSON"),
        (calls("a", answered=19, lost=1), {}, "infer_large died"),
        (calls("a", answered=9, unsupported=11), {}, "only 45 %"),
        (calls("a", answered=15, unsupported=5) + calls("b", answered=20), {}, "ask b before a"),
        (calls("a", cost=10**8, answered=9), {}, "90 % of the budget"),
        ([], {"it may cost more than a twentieth of what is left": 20}, "too dear"),
        ([], {"redaction finds in it: name": 20}, "redaction was unsure"),
    ],
)
def test_what_is_recommended(made: list[Call], not_asked: dict[str, int], words: str) -> None:
    found = report("2026-11", made, not_asked, LlmConfig("hybrid", 10), ["a", "b"])
    assert any(words in line for line in found.recommendations), found.recommendations


def test_good_providers_and_few_calls_recommend_nothing() -> None:
    assert report("2026-11", calls("a", answered=500), {}, LlmConfig("hybrid", 10)).recommendations == ()
    few = calls("a", failed=3) + calls("b", answered=500)
    assert report("2026-11", few, {}, LlmConfig("hybrid", 10)).recommendations == ()


def test_a_reader_sees_a_moment_while_the_centre_goes_on(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / FILE)
    reader = Ledger.read(tmp_path / FILE)
    reader.calls()
    got = ledger.reserve(Ask("a", "m", "public", 1, 1, "x"), 1000, 9, 0.0)
    assert isinstance(got, Reserved)
    ledger.settle(got.call, Ending("answered", 1), 0.0)
    assert reader.verify().problems == ()
    reader.close()
