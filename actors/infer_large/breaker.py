"""A circuit breaker: a server that fails is left alone for a while, then asked again with one question."""

from collections.abc import Callable, Sequence
from typing import Final, Literal

State = Literal["closed", "open", "half-open"]

OPEN_S: Final = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""How long it stays open, each time longer; the last one repeats. A restart of the server costs seconds, a
dead machine one try in five minutes, so that a day of waiting stays within a message's deliveries."""

TRIAL_EVERY_S: Final = 5.0
"""Half-open, one question may try in so many seconds; one that never comes back blocks nobody for longer."""


class Breaker:
    """Closed: everybody may ask. ``after`` failures in a row open it: nobody may. Then half-open: one may.

    Time is an argument of everything (seconds of any clock that only goes forward). ``changed`` is told every
    new state with its reason.
    """

    def __init__(
        self, changed: Callable[[State, str], None], after: int = 3, open_s: Sequence[float] = OPEN_S
    ) -> None:
        self._changed = changed
        self._after = after
        self._open_s = open_s
        self._failures = 0
        self._opened = 0
        self._next_at = 0.0
        self.state: State = "closed"

    def wait_s(self, now_s: float) -> float:
        """Seconds until it is worth coming back; 0 when a question may be asked now."""
        return 0.0 if self.state == "closed" else max(0.0, self._next_at - now_s)

    def admit(self, now_s: float) -> float:
        """0 for a question asked now, which takes the trial when there is one; else :meth:`wait_s`."""
        wait_s = self.wait_s(now_s)
        if not wait_s and self.state != "closed":
            self._become("half-open", "trying again")
            self._next_at = now_s + TRIAL_EVERY_S
        return wait_s

    def succeeded(self) -> None:
        """The server answered a question, perhaps one asked long ago: it works."""
        self._failures = self._opened = 0
        self._become("closed", "the server answers")

    def failed(self, now_s: float, reason: str) -> None:
        """The server failed a question. While open this says nothing new."""
        if self.state == "open":
            return
        self._failures += 1
        if self.state == "half-open" or self._failures >= self._after:
            self._next_at = now_s + self._open_s[min(self._opened, len(self._open_s) - 1)]
            self._opened += 1
            self._become("open", reason)

    def looks_well(self, now_s: float) -> None:
        """The server's health page is fine: no need to wait any longer with the trial."""
        if self.state == "open":
            self._next_at = now_s
            self._become("half-open", "the server looks well")

    def _become(self, state: State, reason: str) -> None:
        if state != self.state:
            self.state = state
            self._changed(state, reason)
