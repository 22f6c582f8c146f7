"""Which model answers: the first of ``models.toml`` whose file is right and that fits into free memory.

It looks before every generation and in no other moment, so a model is changed between two answers: what waits
is answered by the next one. ``models.toml`` is read again when it has changed.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from actors.infer_small.files import ModelFile, ModelUnavailableError, listed
from actors.infer_small.model import Abilities, Generation, Model
from subjects.errors import ConfigError

KEPT_FREE_MB: Final = 100.0
"""Megabytes that stay free beside a loaded model: below them `route` sends nothing here (route.toml)."""

Report = Callable[[str, str], None]
"""Tells an event's kind, and why, in words for people."""


class Models:
    """A :class:`Model` that is always the best one that fits.

    ``wanted`` is the name of the entry to prefer; empty: their order in ``models``. ``make`` gives the model
    of an entry, ``free_mb`` the megabytes that could be had now. Raises :class:`ConfigError` for a
    ``models.toml`` that is wrong at the start; a later one is reported, and the entries before it stay.
    """

    def __init__(
        self,
        models: Path,
        make: Callable[[ModelFile], Model],
        free_mb: Callable[[], float],
        *,
        wanted: str = "",
        report: Report = lambda *_: None,
    ) -> None:
        self._path: Final = models
        self._make: Final = make
        self._free_mb: Final = free_mb
        self._wanted: Final = wanted
        self._report: Final = report
        self._seen = _stamp(models)
        self._entries: Sequence[ModelFile] = listed(models, wanted)
        self._current: tuple[ModelFile, Model] | None = None
        self._stopped = False

    @property
    def langs(self) -> tuple[str, ...]:
        """Languages of all its models."""
        return tuple(dict.fromkeys(lang for entry in self._entries for lang in entry.langs))

    @property
    def loaded(self) -> bool:
        """Whether a model is in memory."""
        current = self._current
        return current is not None and current[1].loaded

    def check(self) -> None:
        """Raises :class:`ModelUnavailableError` if no model could be loaded now; says why of each."""
        self._choose()

    def ready(self) -> Abilities:
        """See :class:`Model`; a model that is not the best any more is unloaded here."""
        self._read_again()
        entry = self._choose()
        if self._current is None or self._current[0] != entry:
            if self._current is not None:
                before, model = self._current
                model.unload()
                self._report("model_switched", f"{before.name} to {entry.name}")
            made = self._make(entry)
            self._current = (entry, made)
            if self._stopped:
                made.stop()
        return entry.abilities

    def generate(
        self, system: str, prompt: str, max_tokens: int, deadline_s: float, grammar: str = ""
    ) -> Generation:
        """See :class:`Model`: by the model that was ready last."""
        if self._current is None:
            self.ready()
        assert self._current is not None  # noqa: S101  # ready() has made it or raised
        return self._current[1].generate(system, prompt, max_tokens, deadline_s, grammar)

    def stop(self) -> None:
        """See :class:`Model`."""
        self._stopped = True
        if (current := self._current) is not None:
            current[1].stop()

    def unload(self) -> None:
        """See :class:`Model`."""
        if self._current is not None:
            self._current[1].unload()

    def _choose(self) -> ModelFile:
        free_mb = self._free_mb()
        if self._current is not None and self._current[1].loaded:
            free_mb += self._current[0].needs_mb  # it would go first
        reasons = []
        for entry in self._entries:
            try:
                entry.glance()
            except ModelUnavailableError as error:
                reasons.append(str(error))
                continue
            if entry.needs_mb + KEPT_FREE_MB <= free_mb:
                return entry
            reasons.append(
                f"model {entry.name} needs {entry.needs_mb:.0f} MB and {KEPT_FREE_MB:.0f} MB beside it, "
                f"{free_mb:.0f} MB could be free"
            )
        raise ModelUnavailableError("; ".join(reasons))

    def _read_again(self) -> None:
        stamp = _stamp(self._path)
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._entries = listed(self._path, self._wanted)
        except ConfigError as error:
            self._report("models_refused", f"{error}; the models of before stay")
        else:
            self._report("models_read", ", ".join(entry.name for entry in self._entries))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size
