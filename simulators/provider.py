"""Outside model providers on one port: OpenAI's chat API with prices, waits, refusals and broken answers.

Each provider is a path (``/openai/chat/completions``) with its own prices, key, faults and bill, so that what
a client believes it has spent can be held against what it was billed. Simulated are latency, 429 with
Retry-After, 500, answers cut in the middle, bodies that are no JSON, words that are not in the form asked
for, and an honest "I do not know". Not simulated are streaming, tokenizers (a token is four octets) and the
models: an answer is the beginning of the first passage of the prompt.

``python -m simulators.provider`` runs it alone; ``GET /bill`` tells what was billed.
"""

import asyncio
import json
import random
import signal
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Final, Literal, get_args

import click
import msgspec
from aiohttp import web

Fault = Literal["busy", "error", "half", "garbled", "words", "unknown", "stranger", "hang"]
"""busy: 429. error: 500. half: an answer without its end. garbled: a body that is no JSON. words: prose, not
the form asked for. unknown: "I do not know". stranger: a placeholder that nobody sent. hang: no answer."""

BILLED: Final = frozenset({"half", "garbled", "words", "unknown", "stranger", "hang"})
"""A model has worked for these; for a refusal it has not."""

TOKEN_OCTETS: Final = 4
PER_MILLION: Final = 1_000_000
MICRO_CENTS: Final = 100_000_000
MAX_BODY_OCTETS: Final = 1024 * 1024
ANSWER_CHARACTERS: Final = 280


class Seen(msgspec.Struct, frozen=True):
    """One request as it arrived, and what it was billed, in micro-cents."""

    path: str
    body: str
    fault: Fault | None
    billed: int


class Provider:
    """One provider. Faults that stand in ``faults`` come first, in order; then chance has its turn."""

    def __init__(
        self,
        name: str,
        *,
        price_in: str = "0.15",
        price_out: str = "0.60",
        key: str = "",
        latency_ms: float = 0.0,
        chances: Mapping[Fault, float] | None = None,
        faults: Sequence[Fault | None] = (),
        retry_after_s: int = 1,
        counts: bool = True,
        seed: int = 1,
    ) -> None:
        """Prices are per million tokens; ``latency_ms`` is the mean of an exponential distribution;
        ``counts``: answers say their tokens. Raises ValueError for chances that are none."""
        self.name = name
        self.price_in = _micro_cents(price_in)
        self.price_out = _micro_cents(price_out)
        self.key = key
        self.latency_ms = latency_ms
        self.chances = dict(chances or {})
        self.faults: deque[Fault | None] = deque(faults)
        self.retry_after_s = retry_after_s
        self.counts = counts
        self.seen: list[Seen] = []
        self.at_once = self.most_at_once = 0
        self._random = random.Random(f"{seed}/{name}")  # noqa: S311  # faults, not secrets
        shares = self.chances.values()
        if not (all(share >= 0 for share in shares) and sum(shares) <= 1):
            raise ValueError(f"{name}: the chances of faults are 0 or more, and together 1 at most")

    @property
    def model(self) -> str:
        """The one model it has."""
        return f"{self.name}-model"

    @property
    def billed(self) -> int:
        """All that it has billed, in micro-cents."""
        return sum(seen.billed for seen in self.seen)

    def fault(self) -> Fault | None:
        """What goes wrong with the next request."""
        if self.faults:
            return self.faults.popleft()
        drawn = self._random.random()
        for fault, share in self.chances.items():
            drawn -= share
            if drawn < 0:
                return fault
        return None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """``POST /chat/completions``."""
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._answer(request)
        finally:
            self.at_once -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        text = (await request.read()).decode("utf-8", "replace")
        messages, most = self._asked(request, text)
        fault = self.fault()
        content = _content(messages[-1], fault)
        tokens_in = sum(_tokens(message) for message in messages)
        tokens_out = min(most, _tokens(content))
        price = tokens_in * self.price_in + tokens_out * self.price_out
        billed = -(-price // PER_MILLION) if fault is None or fault in BILLED else 0
        self.seen.append(Seen(request.path, text, fault, billed))
        if self.latency_ms:
            await asyncio.sleep(self._random.expovariate(1000.0 / self.latency_ms))
        if fault == "hang":
            await asyncio.Event().wait()
        if fault == "busy":
            return _refused(429, "too many requests", {"Retry-After": str(self.retry_after_s)})
        if fault == "error":
            return _refused(500, "something broke")
        body = self._body(content, tokens_in, tokens_out)
        if fault == "garbled":
            return web.Response(body=b"<html>" + body, content_type="application/json")
        if fault == "half":
            return await _cut(request, body)
        return web.Response(body=body, content_type="application/json")

    def _asked(self, request: web.Request, text: str) -> tuple[list[str], int]:
        """Messages and most tokens of a request that can be answered."""
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            raise web.HTTPUnauthorized(text="no such key")
        try:
            asked = json.loads(text)
            messages = [str(message["content"]) for message in asked["messages"]]
            most = int(asked.get("max_tokens") or asked["max_completion_tokens"])
            model = asked["model"]
        except (ValueError, KeyError, TypeError) as error:
            raise web.HTTPBadRequest(text=f"not a chat completion request: {error}") from error
        if model != self.model or not messages:
            raise web.HTTPNotFound(text=f"the model is {self.model}")
        return messages, most

    def _body(self, content: str, tokens_in: int, tokens_out: int) -> bytes:
        body: dict[str, Any] = {
            "id": f"{self.name}-{len(self.seen)}",
            "object": "chat.completion",
            "model": self.model,
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
            ],
        }
        if self.counts:
            body["usage"] = {
                "prompt_tokens": tokens_in,
                "completion_tokens": tokens_out,
                "total_tokens": tokens_in + tokens_out,
            }
        return json.dumps(body).encode()

    async def models(self, _: web.Request) -> web.StreamResponse:
        """``GET /models``."""
        return web.json_response({"object": "list", "data": [{"id": self.model, "object": "model"}]})


def _micro_cents(price: str) -> int:
    return int(Decimal(price) * MICRO_CENTS)


def _tokens(text: str) -> int:
    return -(-len(text.encode()) // TOKEN_OCTETS)


def _refused(status: int, reason: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": reason}}, status=status, headers=headers)


async def _cut(request: web.Request, body: bytes) -> web.StreamResponse:
    """The first half of a body that says it is whole; then the connection ends."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def _content(asked: str, fault: Fault | None) -> str:
    """What the model writes: the beginning of the first passage, to whom the message names if it does."""
    passage, message, draft = "", "", False
    for line in asked.splitlines():
        try:
            part = json.loads(line)
        except ValueError:
            continue
        if isinstance(part, dict):
            passage = passage or str(part.get("text", ""))
            message = str(part.get("message", message))
            draft = draft or "question" in part
    if fault == "words":
        return "Sure! Here is what I would do: " + passage
    if fault == "unknown" or not passage:
        empty = {"title": "", "text": ""} if draft else {"answer": ""}
        return json.dumps({"passages": [], "known": False, **empty})
    if draft:
        words = {"title": "What helps", "text": passage[:ANSWER_CHARACTERS]}
        return json.dumps({"passages": [1], "known": True, **words})
    to = "[name9]: " if fault == "stranger" else "[name1]: " if "[name1]" in message else ""
    return json.dumps({"passages": [1], "known": True, "answer": (to + passage)[:ANSWER_CHARACTERS]})


@asynccontextmanager
async def running(
    providers: Sequence[Provider], port: int = 0, host: str = "127.0.0.1"
) -> AsyncIterator[str]:
    """Serves some providers on one port while the block runs; gives the address before their paths."""
    app = web.Application(client_max_size=MAX_BODY_OCTETS)
    for provider in providers:
        app.router.add_post(f"/{provider.name}/chat/completions", provider.answer)
        app.router.add_get(f"/{provider.name}/models", provider.models)

    async def bill(_: web.Request) -> web.StreamResponse:
        return web.json_response(
            {
                provider.name: {"requests": len(provider.seen), "billed_micro_cents": provider.billed}
                for provider in providers
            }
        )

    app.router.add_get("/bill", bill)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def table(provider: Provider, address: str, order: int) -> str:
    """Its table for `evy.toml`."""
    lines = [
        f"[providers.{provider.name}]",
        f'url = "{address}/{provider.name}"',
        f'model = "{provider.model}"',
        f'price_in = "{Decimal(provider.price_in) / MICRO_CENTS}"',
        f'price_out = "{Decimal(provider.price_out) / MICRO_CENTS}"',
        f"order = {order}",
    ]
    return "\n".join(lines) + "\n"


_CHANCES: Final = tuple(fault for fault in get_args(Fault) if fault != "hang")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=9100, show_default=True, type=click.IntRange(0, 65535), help="0: any free one."
)
@click.option(
    "--name",
    "names",
    multiple=True,
    default=("openai", "deepseek", "gemini"),
    show_default=True,
    help="A provider; may be given several times.",
)
@click.option("--price-in", default="0.15", show_default=True, help="Per million tokens of a question.")
@click.option("--price-out", default="0.60", show_default=True, help="Per million tokens of an answer.")
@click.option("--latency-ms", default=300.0, show_default=True, help="Mean wait before an answer.")
@click.option(
    "--fault",
    "chances",
    multiple=True,
    metavar="KIND=SHARE",
    help=f"How often something goes wrong, such as busy=0.1. Kinds: {', '.join(_CHANCES)}.",
)
@click.option("--seed", default=1, show_default=True, help="Seed of faults and waits.")
def main(  # noqa: PLR0917  click gives them by name
    host: str,
    port: int,
    names: tuple[str, ...],
    price_in: str,
    price_out: str,
    latency_ms: float,
    chances: tuple[str, ...],
    seed: int,
) -> None:
    """Outside model providers that cost nothing, with the faults of real ones.

    Prints their tables for evy.toml.

    \b
    Example: evy sim provider --fault busy=0.1 --fault half=0.05
    Ctrl-C ends it and prints the bill.
    """  # noqa: D301  # \b is click's mark against re-wrapping
    try:
        shares = dict(_share(text) for text in chances)
        made = [
            Provider(
                name,
                price_in=price_in,
                price_out=price_out,
                latency_ms=latency_ms,
                chances=shares,
                seed=seed,
            )
            for name in dict.fromkeys(names)
        ]
    except (ValueError, ArithmeticError) as error:
        raise click.ClickException(f"{error}; see --help") from error

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with running(made, port, host) as address:
            for order, provider in enumerate(made, 1):
                click.echo(table(provider, address, order))
            click.echo(f"serving at {address}, the bill at {address}/bill", err=True)
            await stop.wait()
        for provider in made:
            click.echo(
                f"{provider.name}: {len(provider.seen)} requests, billed "
                f"{Decimal(provider.billed) / MICRO_CENTS:.4f}",
                err=True,
            )

    try:
        asyncio.run(run())
    except OSError as error:
        raise click.ClickException(f"port {port}: {error.strerror or error}") from error


def _share(text: str) -> tuple[Fault, float]:
    kind, _, share = text.partition("=")
    found = next((fault for fault in _CHANCES if fault == kind), None)
    if found is None:
        raise ValueError(f"--fault {text}: no such fault")
    return found, float(share)


if __name__ == "__main__":
    main()
