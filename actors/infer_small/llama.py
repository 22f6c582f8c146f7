"""llama.cpp through the package llama-cpp-python: built from source, for the very processor of a node."""

import gc
import logging
import time
from collections.abc import Iterator
from itertools import takewhile
from typing import Any, Final

from actors.infer_small.files import ModelFile, ModelUnavailableError
from actors.infer_small.gguf import GgufModel
from actors.infer_small.model import PROMPT_BATCH_TOKENS, Generation

_LOG: Final = logging.getLogger(__name__)

_TEMPLATE: Final = "tokenizer.chat_template"


class LlamaModel(GgufModel):
    """A GGUF file run by llama-cpp-python."""

    def __init__(self, file: ModelFile, threads: int = 0) -> None:
        super().__init__(file, threads)
        self._engine: Any = None
        self._chat: Any = None

    @property
    def loaded(self) -> bool:
        """Whether its weights are in memory."""
        return self._engine is not None

    def generate(
        self, system: str, prompt: str, max_tokens: int, deadline_s: float, grammar: str = ""
    ) -> Generation:
        """See :class:`Model`. A prompt beyond the context raises :class:`ModelUnavailableError`."""
        started = time.monotonic()
        if self._engine is None and not self._stop.is_set() and deadline_s > 0:
            self._load()
        written: list[int] = []
        finish = self._overdue(started + deadline_s)
        if finish is None:
            try:
                for token in self._tokens(system, prompt, grammar):
                    if token is not None:
                        written.append(token)
                    finish = self._overdue(started + deadline_s)
                    if finish or len(written) >= max_tokens:
                        finish = finish or "length"
                        break
            except (RuntimeError, ValueError) as error:
                raise ModelUnavailableError(
                    f"model {self._file.name}: llama.cpp refused the prompt: {error}"
                ) from error
        text = self._engine.detokenize(written).decode("utf-8", "ignore") if written else ""
        ms = (time.monotonic() - started) * 1000
        return Generation(text, len(written), ms, finish or "stop")

    def unload(self) -> None:
        """Gives the memory back; the next ``generate`` loads again."""
        if self._engine is not None:
            self._engine.close()
            self._engine = self._chat = None
            gc.collect()
            _LOG.info("model %s unloaded", self._file.name)

    def _tokens(self, system: str, prompt: str, grammar: str) -> Iterator[int | None]:
        """The tokens that the model writes; None after each piece of the prompt that it has read."""
        import llama_cpp  # noqa: PLC0415  like the engine, mapped only when it is wanted

        engine = self._engine
        turn = self._chat(
            messages=[{"role": "system", "content": system}, {"role": "user", "content": prompt}]
        )
        asked = engine.tokenize(turn.prompt.encode(), add_bos=not turn.added_special, special=True)
        if len(asked) >= engine.n_ctx():
            raise ValueError(f"{len(asked)} tokens are more than its context of {engine.n_ctx()}")
        # What both prompts begin with is in the context already; the last token is read again, to go on from.
        known = engine.input_ids[: engine.n_tokens].tolist()
        same = sum(
            1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(known, asked[:-1], strict=False))
        )
        engine.n_tokens = same
        for start in range(same, len(asked) - 1, PROMPT_BATCH_TOKENS):
            engine.eval(asked[start : min(start + PROMPT_BATCH_TOKENS, len(asked) - 1)])
            yield None
        sampler = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        vocabulary = llama_cpp.llama_model_get_vocab(engine.model)
        if grammar:
            rule = llama_cpp.llama_sampler_init_grammar(vocabulary, grammar.encode(), b"root")
            llama_cpp.llama_sampler_chain_add(sampler, rule)
        llama_cpp.llama_sampler_chain_add(sampler, llama_cpp.llama_sampler_init_greedy())
        token = asked[-1]
        try:
            while engine.n_tokens < engine.n_ctx():
                engine.eval([token])
                token = llama_cpp.llama_sampler_sample(sampler, engine.ctx, -1)
                if llama_cpp.llama_vocab_is_eog(vocabulary, token):
                    return
                yield token
        finally:
            llama_cpp.llama_sampler_free(sampler)

    def _load(self) -> None:
        path = self._file.verify()
        try:
            from llama_cpp import Llama  # noqa: PLC0415  tens of megabytes of library
            from llama_cpp.llama_chat_format import Jinja2ChatFormatter  # noqa: PLC0415  likewise
        except ImportError as error:
            raise ModelUnavailableError(
                f"model {self._file.name}: llama-cpp-python cannot be imported ({error}); run `make llama`"
            ) from error
        started = time.monotonic()
        try:
            # Not verbose: it points file descriptors 1 and 2 to nowhere while it loads, so that lines that
            # others log in that moment are lost; verbose, it would write past our logging all the time.
            engine = Llama(
                str(path),
                n_ctx=self._file.context_tokens,
                n_batch=PROMPT_BATCH_TOKENS,
                n_ubatch=PROMPT_BATCH_TOKENS,
                n_threads=self._threads,
                n_threads_batch=self._threads,
                verbose=False,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelUnavailableError(
                f"model {self._file.name}: llama.cpp cannot load {path} ({error}); {self._file.fix}"
            ) from error
        if _TEMPLATE not in engine.metadata:
            engine.close()
            raise ModelUnavailableError(
                f"model {self._file.name}: {path} has no chat template; use a GGUF made for instructions"
            )

        def piece(token: int) -> str:
            return (
                str(engine.detokenize([token], special=True).decode("utf-8", "ignore")) if token >= 0 else ""
            )

        self._chat = Jinja2ChatFormatter(
            engine.metadata[_TEMPLATE], piece(engine.token_eos()), piece(engine.token_bos())
        )
        self._engine = engine
        _LOG.info("model %s loaded in %.1f s", self._file.name, time.monotonic() - started)
