"""How fast the small model writes behind EVY's interface, beside llama.cpp alone: same file, same threads."""

import ctypes
import importlib.util
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from actors.infer_small import RUNTIMES, ModelFile, ModelUnavailableError, Runtime, find
from actors.infer_small.model import cores
from tests.bench.rows import Figure, Goal, Row, Setting, SkippedError

PROMPT: Final = ("Tell a long story.", "A story about a fox, two hundred lines long.")
FEW: Final = 4
"""Tokens of the generation that is taken off the longer one: what remains is writing, without the prompt."""

SHARE: Final = 0.95

Writing = Callable[[int], float]
"""Seconds for so many tokens."""

TURNS: Final = 4
"""How often the two take turns within a repeat: what else the machine does then slows both."""


def measure(setting: Setting) -> list[Row]:
    """A row for each program that can run the model."""
    file = find()
    try:
        file.verify()
    except ModelUnavailableError as error:
        raise SkippedError(str(error)) from error
    rows = [_row(setting, file, "xllamacpp", _served)]
    if importlib.util.find_spec("llama_cpp") is None:
        why = "llama-cpp-python is not installed (make llama)"
        return [*rows, Row("model-rate-built", "small model by llama-cpp-python", skipped=why)]
    return [*rows, _row(setting, file, "llama-cpp-python", _decoded)]


def _row(setting: Setting, file: ModelFile, runtime: Runtime, bare: Callable[[ModelFile], Writing]) -> Row:
    alone = bare(file)
    model = RUNTIMES[runtime](file, 0)
    count = setting.count(32, 4)

    def written(tokens: int) -> float:
        made = model.generate(*PROMPT, tokens, 600)
        assert made.tokens == tokens, made
        return made.ms / 1000

    written(FEW)
    ours, raws = [], []
    for _ in range(setting.repeats):
        turns = [(written(FEW + count) - written(FEW), alone(count)) for _ in range(setting.count(TURNS, 1))]
        ours.append(len(turns) * count / sum(mine for mine, _ in turns))
        raws.append(len(turns) * count / sum(raw for _, raw in turns))
    model.unload()
    return Row(
        "model-rate" if runtime == "xllamacpp" else "model-rate-built",
        f"small model by {runtime}: tokens written a second, beside llama.cpp alone",
        (
            Figure("rate", "tokens/s", tuple(ours)),
            Figure("alone", "tokens/s", tuple(raws)),
            Figure("share", "", tuple(mine / raw for mine, raw in zip(ours, raws, strict=True))),
        ),
        (Goal("share", SHARE, at_least=True),),
        (f"{count} tokens {TURNS} times a repeat, in turns with llama.cpp; threads: {cores(file.threads)}",),
    )


def _served(file: ModelFile) -> Writing:
    """llama.cpp's own server by its own clock, nothing of EVY around it."""
    import xllamacpp  # noqa: PLC0415  # 100 MB of library

    params = xllamacpp.CommonParams()
    params.model.path = str(file.path())
    params.n_ctx, params.n_parallel = file.context_tokens, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = cores(file.threads)
    params.fit_params = params.warmup = params.ui = False
    params.cache_ram_mib = params.n_ctx_checkpoints = params.verbosity = 0
    params.n_threads_http = 1
    with tempfile.TemporaryDirectory(prefix="evy-bench-") as folder:
        params.hostnames = [str(Path(folder) / "closed.sock")]
        server = xllamacpp.Server(params)

    def seconds(tokens: int) -> float:
        asked = {"prompt": PROMPT[1], "n_predict": tokens, "temperature": 0, "ignore_eos": True}
        made: dict[str, Any] = server.handle_completions(asked)
        return float(made["timings"]["predicted_ms"]) / 1000

    return seconds


def _decoded(file: ModelFile) -> Writing:
    """A loop over llama.cpp's C functions: decode one token, take the likeliest next one."""
    import llama_cpp as c  # noqa: PLC0415  # not on every machine

    logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)
    model = c.llama_model_load_from_file(str(file.path()).encode(), c.llama_model_default_params())
    settings = c.llama_context_default_params()
    settings.n_ctx = file.context_tokens
    settings.n_threads = settings.n_threads_batch = cores(file.threads)
    context = c.llama_init_from_model(model, settings)
    greedy = c.llama_sampler_init_greedy()

    def seconds(tokens: int) -> float:
        c.llama_memory_clear(c.llama_get_memory(context), True)
        token = c.llama_vocab_bos(c.llama_model_get_vocab(model))
        for number in range(tokens + FEW):
            if number == FEW:
                started = time.perf_counter()
            c.llama_decode(context, c.llama_batch_get_one((ctypes.c_int32 * 1)(token), 1))
            token = c.llama_sampler_sample(greedy, context, -1)
        return time.perf_counter() - started

    return seconds
