"""llama.cpp through the package xllamacpp: wheels for x86_64 and aarch64, so a node needs no compiler."""

import gc
import logging
import secrets
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from actors.infer_small.files import ModelFile, ModelUnavailableError
from actors.infer_small.gguf import GgufModel
from actors.infer_small.model import PROMPT_BATCH_TOKENS, Finish, Generation

_LOG: Final = logging.getLogger(__name__)


class XllamaModel(GgufModel):
    """A GGUF file run by xllamacpp."""

    def __init__(self, file: ModelFile, threads: int = 0) -> None:
        super().__init__(file, threads)
        self._server: Any = None

    @property
    def loaded(self) -> bool:
        """Whether its weights are in memory."""
        return self._server is not None

    def generate(
        self, system: str, prompt: str, max_tokens: int, deadline_s: float, grammar: str = ""
    ) -> Generation:
        """See :class:`Model`. A prompt beyond the context raises :class:`ModelUnavailableError`."""
        started = time.monotonic()
        if self._server is None and not self._stop.is_set() and deadline_s > 0:
            self._server = self._load()
        pieces: list[str] = []
        finish: Finish | None = None
        failure = ""
        tokens = 0

        def on_chunk(chunk: Mapping[str, Any]) -> bool:
            """Collect one piece; True ends the generation."""
            nonlocal finish, failure, tokens
            if "error" in chunk:
                failure = str(chunk["error"])
                return True
            for choice in chunk.get("choices", ()):
                if piece := choice["delta"].get("content"):
                    pieces.append(piece)
                    tokens += 1
                finish = choice["finish_reason"] or finish
            if finish is None:
                finish = self._overdue(started + deadline_s)
                return finish is not None
            return False

        finish = self._overdue(started + deadline_s)
        if finish is None:
            request = {
                "messages": [{"role": "system", "content": system}, {"role": "user", "content": prompt}],
                "max_tokens": max_tokens,
                "temperature": 0,
                "stream": True,
                "grammar": grammar,
                "return_progress": True,  # calls back during the prompt too, so that it can be ended there
            }
            try:
                self._server.handle_chat_completions(request, on_chunk)
            except (RuntimeError, ValueError) as error:
                failure = str(error)
        if failure:
            raise ModelUnavailableError(f"model {self._file.name}: llama.cpp refused the prompt: {failure}")
        ms = (time.monotonic() - started) * 1000
        return Generation("".join(pieces), tokens, ms, finish or "stop")

    def unload(self) -> None:
        """Gives the memory back; the next ``generate`` loads again."""
        if self._server is not None:
            self._server = None
            gc.collect()  # the server's memory goes with its last reference
            _LOG.info("model %s unloaded", self._file.name)

    def _load(self) -> Any:
        path = self._file.verify()
        try:
            import xllamacpp  # noqa: PLC0415  100 MB of library, mapped only when a model is wanted
        except ImportError as error:
            raise ModelUnavailableError(
                f"model {self._file.name}: xllamacpp cannot be imported ({error}); run `make setup`"
            ) from error
        started = time.monotonic()
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = self._file.context_tokens
        params.n_parallel = 1
        params.n_batch = params.n_ubatch = PROMPT_BATCH_TOKENS
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self._threads
        params.fit_params = params.warmup = False  # each loads or runs the model once more
        params.cache_ram_mib = params.n_ctx_checkpoints = 0  # the default keeps up to 8 GiB of old prompts
        params.verbosity = 0  # llama.cpp would write to stderr past our logging
        # The server always listens somewhere, by default on a TCP port without a key. A socket whose
        # name is gone as soon as it is bound can be reached by nobody.
        params.api_keys = [secrets.token_hex()]
        params.ui = params.endpoint_slots = False
        params.n_threads_http = 1
        with tempfile.TemporaryDirectory(prefix="evy-model-") as folder:
            params.hostnames = [str(Path(folder) / "closed.sock")]
            try:
                server = xllamacpp.Server(params)
            except RuntimeError as error:
                raise ModelUnavailableError(
                    f"model {self._file.name}: llama.cpp cannot load {path} ({error}); {self._file.fix}"
                ) from error
        _LOG.info("model %s loaded in %.1f s", self._file.name, time.monotonic() - started)
        return server
