"""The simulated providers: the same seed the same faults, a bill that adds up, and the program itself."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from urllib.request import urlopen

import aiohttp
import pytest
from click.testing import CliRunner

from actors._cli import evy
from simulators.provider import Provider, main, running, table
from tests.conftest import free_port

ROOT = Path(__file__).parents[2]
ASKED = {
    "model": "openai-model",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": json.dumps({"passage": 1, "text": "Boil it."})}],
}


def drawn(seed: int) -> list[str | None]:
    provider = Provider("openai", chances={"busy": 0.3, "half": 0.2}, seed=seed)
    return [provider.fault() for _ in range(200)]


def test_the_same_seed_gives_the_same_faults() -> None:
    assert drawn(1) == drawn(1) != drawn(2)
    assert 30 <= drawn(1).count("busy") <= 90
    assert drawn(1).count(None) >= 60
    for wrong in ({"busy": -0.1}, {"busy": 0.6, "half": 0.6}, {"busy": float("nan")}):
        with pytest.raises(ValueError, match="chances"):
            Provider("openai", chances=wrong)  # type: ignore[arg-type]


async def test_what_it_says_and_what_it_bills() -> None:
    made = Provider("openai", key="sk", price_in="1", price_out="2", faults=["busy", "error", None])
    async with running([made]) as address, aiohttp.ClientSession() as http:

        async def ask(key: str = "sk", **change: object) -> tuple[int, dict[str, str]]:
            headers = {"Authorization": f"Bearer {key}"}
            url = f"{address}/openai/chat/completions"
            async with http.post(url, json={**ASKED, **change}, headers=headers) as got:
                return got.status, {"wait": got.headers.get("Retry-After", ""), "body": await got.text()}

        assert (await ask("other"))[0] == 401
        assert (await ask(model="gpt-9"))[0] == 404
        assert (await ask(messages="none"))[0] == 400
        status, got = await ask()
        assert (status, got["wait"]) == (429, "1")
        assert (await ask())[0] == 500
        assert made.billed == 0
        status, got = await ask()
        body = json.loads(got["body"])
        assert json.loads(body["choices"][0]["message"]["content"])["answer"] == "Boil it."
        usage = body["usage"]
        # One unit is 10^8 micro-cents, a million tokens cost one or two.
        assert made.billed == usage["prompt_tokens"] * 100 + usage["completion_tokens"] * 200
        async with http.get(f"{address}/bill") as bill:
            assert (await bill.json())["openai"] == {"requests": 3, "billed_micro_cents": made.billed}


def test_its_table_is_one_that_evy_reads() -> None:
    assert 'price_in = "0.15"' in table(Provider("openai"), "http://127.0.0.1:1", 2)


async def test_the_program_serves_until_it_is_stopped() -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "simulators.provider", "--port", str(port), "--name", "openai"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(60):
        assert b"serving" in await process.stderr.readline()
        listed = await asyncio.to_thread(
            lambda: urlopen(f"http://127.0.0.1:{port}/openai/models").read()  # our own
        )
        assert b"openai-model" in listed
        process.send_signal(signal.SIGTERM)
        out, error = await process.communicate()
    assert process.returncode == 0
    assert b"[providers.openai]" in out
    assert b"0 requests" in error


def test_wrong_options_are_refused() -> None:
    for arguments in (["--fault", "fire=1"], ["--fault", "busy=2"], ["--price-in", "cheap"]):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 1
        assert "--help" in done.output
    assert CliRunner().invoke(evy, ["sim", "provider", "--help"]).exit_code == 0
