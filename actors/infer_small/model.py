"""The small interface behind which any local model runs, whatever program runs it."""

import os
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol

Finish = Literal["stop", "length", "deadline", "stopped"]
"""Why a generation ended: the model was done; the token limit; the time limit; it was told to."""

PROMPT_BATCH_TOKENS: Final = 64
"""Prompt tokens read between two looks at the clock: half a second on one slow core."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model wrote. ``tokens`` counts written ones, ``ms`` the whole call with loading."""

    text: str
    tokens: int
    ms: float
    finish: Finish


class Abilities(NamedTuple):
    """What a model may be asked for."""

    name: str
    langs: tuple[str, ...]
    """Languages it writes well enough to be read in an emergency."""
    max_answer_tokens: int
    """Longest answer it is asked for."""
    free: bool
    """Whether it may word passages itself; otherwise it only chooses among their sentences."""


class Model(Protocol):
    """A local model. All but ``stop``, ``langs``, ``loaded`` and ``check`` are called from one thread."""

    @property
    def langs(self) -> tuple[str, ...]:
        """Languages in which asking may be worth it: whoever is ready says for itself."""

    @property
    def loaded(self) -> bool:
        """Whether its weights are in memory."""

    def check(self) -> None:
        """Raises :class:`ModelUnavailableError` if it plainly cannot be loaded; cheap."""

    def ready(self) -> Abilities:
        """The model that the next ``generate`` asks; loads nothing. Raises :class:`ModelUnavailableError`."""

    def generate(
        self, system: str, prompt: str, max_tokens: int, deadline_s: float, grammar: str = ""
    ) -> Generation:
        """Text for a prompt, the likeliest words that ``grammar`` (GBNF) allows; loads the model if need be.

        Gives back what there is after ``deadline_s`` seconds. Raises :class:`ModelUnavailableError`.
        """

    def stop(self) -> None:
        """Ends a running generation at its next token, and any later one at once."""

    def unload(self) -> None:
        """Gives the memory back; the next ``generate`` loads again."""


def cores(wanted: int) -> int:
    """Threads for a model: those ``wanted``, else all cores that this process may use but one, for the rest
    of the node."""
    return wanted or max(1, len(os.sched_getaffinity(0)) - 1)
