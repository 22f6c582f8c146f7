"""`evy llm`: the big model's server without a GPU, a look at any server, and what outside providers cost."""

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import Any, Final, get_args

import click
import msgspec

from actors._cli.llm_accounts import audit, report
from actors._llm import llm_config
from actors._masked import restored
from actors._runtime import clock
from actors._runtime.config import Config, load_config
from actors._runtime.context import MemoryContext
from actors._runtime.identity import Identity
from actors._runtime.process import log_to_stderr, run_until_signal
from actors.infer_small import SHIPPED, ModelUnavailableError, find
from actors.knowledge import redactor
from subjects import names
from subjects.errors import ConfigError
from subjects.messages import Answer, Privacy, Query

log = logging.getLogger("evy.llm")

LOOPBACK: Final = "127.0.0.1"
_MAGIC: Final = b"GGUF"


@click.group()
def llm() -> None:
    """Serve a model at the centre without a GPU, check the server that `[infer_large]` names, and see what
    outside providers cost.
    """


@llm.command()
@click.option("--model", default="", help="Entry of models.toml, or a path to any .gguf. Default: EVY's own.")
@click.option("--models", type=click.Path(path_type=Path), default=SHIPPED, help="A models.toml of your own.")
@click.option("--host", default=LOOPBACK, show_default=True, help="Address; others than loopback need a key.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--parallel", default=4, show_default=True, type=click.IntRange(1, 256), help="Answers at once."
)
@click.option("--threads", default=0, type=click.IntRange(0, 512), help="Cores; 0: all.")
@click.option(
    "--context", default=2048, show_default=True, type=click.IntRange(512), help="Tokens of each question."
)
@click.option("--api-key-file", type=click.Path(path_type=Path), help="File with the key clients must send.")
def serve(
    *,
    model: str,
    models: Path,
    host: str,
    port: int,
    parallel: int,
    threads: int,
    context: int,
    api_key_file: Path | None,
) -> None:
    """Run llama.cpp's OpenAI-compatible server until Ctrl-C. With a GPU use vLLM: deploy/vllm.

    \b
    Example: evy llm serve --port 8000 --parallel 4
    """  # noqa: D301  # \b is click's mark against re-wrapping
    log_to_stderr()
    key = _key(api_key_file)
    if host != LOOPBACK and not key:
        raise ConfigError(f"--host {host}: whoever reaches it could ask; give --api-key-file")
    path = _gguf(model, models)

    async def until(stop: asyncio.Event) -> int:
        started = time.monotonic()
        server = await asyncio.to_thread(_start, path, host, port, parallel, threads, context, key)
        log.info("%s ready in %.1f s on %s", path.name, time.monotonic() - started, server.listening_address)
        await stop.wait()
        return 0

    raise SystemExit(run_until_signal(until))


def _start(  # noqa: PLR0917  # the options of the command, in its order
    path: Path, host: str, port: int, parallel: int, threads: int, context: int, key: str
) -> Any:
    import xllamacpp  # noqa: PLC0415  # 100 MB of library, mapped only when a model is served

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {path.stem}
    params.hostnames, params.port = [host], port
    params.n_parallel, params.n_ctx = parallel, parallel * context
    # llama.cpp would count the machine's cores, not the ones this process may use.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads or len(os.sched_getaffinity(0))
    params.fit_params = params.warmup = False  # each loads or runs the model once more
    params.cache_ram_mib = params.n_ctx_checkpoints = 0  # the default keeps up to 8 GiB of old prompts
    params.ui = params.endpoint_slots = False  # the page of slots shows people's texts
    params.verbosity = 1
    if key:
        params.api_keys = [key]
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise ConfigError(
            f"llama.cpp cannot serve {path} on {host}:{port} ({error}); is the port free, the file a GGUF, "
            f"are there {parallel} x {context} tokens of memory?"
        ) from error


def _gguf(model: str, models: Path) -> Path:
    """File of an entry, proven by its digest, or any GGUF by its path."""
    if not model.endswith(".gguf"):
        return find(model, models).verify()
    path = Path(model)
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise ModelUnavailableError(f"{path}: {error.strerror}") from error
    if magic != _MAGIC:
        raise ModelUnavailableError(f"{path}: begins with {magic!r}, not {_MAGIC!r}; it is no GGUF file")
    return path


def _key(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        key = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--api-key-file {path}: {error}") from error
    if not key:
        raise ConfigError(f"--api-key-file {path}: empty")
    return key


@llm.command()
@click.argument("text", nargs=-1, required=True)
@click.option("--lang", default="en", show_default=True, help="Language of the answer, ISO 639-1.")
@click.option(
    "--privacy",
    type=click.Choice(get_args(Privacy)),
    help="Class of the question; default: default_privacy_level. Only private never reaches a provider.",
)
@click.option("--json", "as_json", is_flag=True, help="The whole answer as JSON.")
@click.pass_obj
def ask(
    path: Path | None, text: tuple[str, ...], *, lang: str, privacy: Privacy | None, as_json: bool
) -> None:
    """Ask the big model as the centre would, its knowledge included; nothing is checked or shortened.

    As at a node, who and where are taken out of the question first, and put back into the answer.

    \b
    Example: evy llm ask how long do I boil water
    """  # noqa: D301  # likewise
    config = load_config(path)
    level = privacy or llm_config(config).default_privacy_level
    answer, events, ms = asyncio.run(_ask(config, " ".join(text), lang, level))
    if as_json:
        click.echo(msgspec.json.encode({"answer": answer, "ms": round(ms), "events": events}))
        return
    click.echo(answer.text)
    rests = ", ".join(f"{passage.id} ({passage.score:.2f})" for passage in answer.passages)
    click.echo(f"{answer.step}, {ms:.0f} ms; rests on: {rests or 'no passage'}", err=True)
    for event in events:
        click.echo(f"{event['kind']}: {event['fields']}", err=True)


async def _ask(
    config: Config, text: str, lang: str, privacy: Privacy
) -> tuple[Answer, list[dict[str, Any]], float]:
    from actors import infer_large  # noqa: PLC0415  # loads aiohttp and qdrant-client, which `serve` needs not

    context = MemoryContext(config, Identity("ask", b"no pseudonym leaves this process", "ask"))
    actor = await infer_large.build(context)
    [masked] = redactor().mask([text])
    query = Query(
        id="ask",
        node="ask",
        sender_ref="you",
        text=masked.text,
        lang=lang,
        privacy=privacy,
        lane="routine",
        deadline=clock.deadline_in(config.node.answer_within_s),
        received_at=time.time(),
    )
    started = time.monotonic()
    try:
        [output] = await actor.handlers[names.INFER_LARGE](query)
    finally:
        await actor.close()
    assert isinstance(output.message, Answer)  # noqa: S101  # the actor makes nothing else
    whole = restored(output.message.text, dict(masked.stands))
    if whole is None:
        raise click.ClickException("the answer has a placeholder that stands for nothing; a node refuses it")
    events = [{"kind": event.kind, "fields": event.fields} for event in context.events]
    return msgspec.structs.replace(output.message, text=whole), events, (time.monotonic() - started) * 1000


@llm.command()
@click.pass_obj
def check(path: Path | None) -> None:
    """Say whether the configured server is well, which models it has, and how long a short answer takes.

    Providers are asked for their list of models, which costs nothing.
    """
    from actors.infer_large import InferLargeConfig, look, look_outside  # noqa: PLC0415  # likewise

    config = load_config(path)
    settings = llm_config(config)
    if settings.llm_strategy != "api-only":
        found = asyncio.run(look(config.section("infer_large", InferLargeConfig)))
        click.echo(f"{found.url}: well")
        click.echo(f"models: {', '.join(found.models)}")
        click.echo(f"a short answer: {found.tokens} tokens in {found.ms:.0f} ms")
    seen = asyncio.run(look_outside(config, settings.api_timeout_sec))
    for provider in seen:
        click.echo(f"{provider.name}: {provider.problem or f'well, has {provider.model}'}")
    if any(provider.problem for provider in seen):
        raise click.ClickException("a provider cannot be used: see url, key_file and model in its table")


llm.add_command(report)
llm.add_command(audit)
