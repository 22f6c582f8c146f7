"""What both runtimes of llama.cpp share: the file, its entry, the threads, and when to end."""

import threading
import time
from typing import Final

from actors.infer_small.files import ModelFile
from actors.infer_small.model import Abilities, Finish, cores


class GgufModel:
    """A GGUF file to be run by llama.cpp in this process.

    ``threads`` 0 means what the file's entry says, and that may again mean all cores but one.
    """

    def __init__(self, file: ModelFile, threads: int = 0) -> None:
        self._file: Final = file
        self._threads: Final = cores(threads or file.threads)
        self._stop: Final = threading.Event()

    @property
    def langs(self) -> tuple[str, ...]:
        """See :class:`Model`."""
        return self._file.langs

    def check(self) -> None:
        """Raises :class:`ModelUnavailableError` if the file is missing, of another size or no GGUF."""
        self._file.glance()

    def ready(self) -> Abilities:
        """What its entry says."""
        return self._file.abilities

    def stop(self) -> None:
        """Ends a running generation at its next token, and any later one at once."""
        self._stop.set()

    def _overdue(self, limit_s: float) -> Finish | None:
        if self._stop.is_set():
            return "stopped"
        return "deadline" if time.monotonic() >= limit_s else None
