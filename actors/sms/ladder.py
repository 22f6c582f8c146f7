"""What to try when a modem stays away, gentle things first, and when to call for a person."""

from typing import Final, Literal

Rung = Literal["open", "restart", "power_key"]

RUNGS: Final[tuple[Rung, ...]] = ("open", "open", "restart", "open", "power_key", "open", "restart")
"""What is done after the first, second, … failure, then from the start again: open the line and ask with AT;
restart the firmware (AT+CFUN=1,1); press the power key, which switches a dead modem on but a living one off,
so it is never pressed twice in a row."""
DEAD_AFTER_S: Final = 120.0
"""How long a modem is away before it is called dead: a restart takes 10 to 20 s, a person replugs within a
minute."""
STEADY_S: Final = 60.0
"""A line that lived so long was well: what goes wrong next is a new trouble."""


class Ladder:
    """Failures of one modem in a row; times are of a monotonic clock."""

    def __init__(self) -> None:
        self._failures = 0
        self._lost_s: float | None = None
        self._opened_s: float | None = None

    def opened(self, now_s: float) -> None:
        """The line is open."""
        self._opened_s = now_s

    def failed(self, now_s: float) -> Rung:
        """The line was lost or did not open; gives what to try before it is opened again."""
        if self._opened_s is not None and now_s - self._opened_s > STEADY_S:
            self._failures, self._lost_s = 0, None
        self._opened_s = None
        if self._lost_s is None:
            self._lost_s = now_s
        self._failures += 1
        return RUNGS[(self._failures - 1) % len(RUNGS)]

    def is_dead(self, now_s: float) -> bool:
        """Whether everything was tried and the modem is still away."""
        return (
            self._failures >= len(RUNGS) and self._lost_s is not None and now_s - self._lost_s > DEAD_AFTER_S
        )
