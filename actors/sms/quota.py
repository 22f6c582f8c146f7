"""How fast one SIM may send: what is configured, what the carrier has taught, and who goes first.

Times are of a monotonic clock, in seconds. Flash is held back by no count: a limit protects the SIM's
standing with its carrier, not a life. Only the network's own refusals make flash wait, and never long.
"""

import math
from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

from actors.sms.refusals import Scope
from subjects.names import Lane

RESERVE: Final = 0.1
"""Share of each limit that is for flash only."""
BACKOFF_S: Final = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0)
"""Waits after the first, second, … refusal in a row; the last one repeats. A tower that comes back is found
within five minutes by any text."""
FLASH_BACKOFF_S: Final = 5.0
"""Flash asks again after so long at most."""
LEARN_AFTER: Final = 3
"""Refusals for congestion in a row that say «too many»."""
LEARN_FROM: Final = 10
"""Below so many parts in the last hour it is no rate that was refused."""
LEARN_SHARE: Final = 0.8
GROW_PER_HOUR: Final = 0.1
"""A learned limit is tried a little above every hour, for carriers tell nobody what theirs is."""
FORGET_S: Final = 86400.0
"""A learned limit that was not refused again for so long is forgotten."""
SAVE_EVERY: Final = 100
"""Parts sent between two saves: those after the last one are counted again from the ledger."""

_MINUTE: Final = 60.0
_HOUR_MINUTES: Final = 60
_DAY_MINUTES: Final = 1440


class Limits(msgspec.Struct, frozen=True):
    """Parts in a minute, an hour and a day; 0: no limit is known."""

    per_minute: int = 0
    per_hour: int = 0
    per_day: int = 0


class Saved(msgspec.Struct, frozen=True, omit_defaults=True):
    """What outlives a restart. Ages are seconds before ``at``, Unix seconds by the node's clock."""

    at: float
    minutes: tuple[tuple[int, int], ...] = ()
    """Age in minutes and parts of each minute of the last day in which something was sent."""
    learned: float = 0.0
    refused_age_s: float = 0.0


class Quota:
    """What one SIM has sent, and how long the next part must wait."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._minutes: deque[tuple[int, int]] = deque()
        """Minute of the clock and parts sent in it: at most a day's 1440."""
        self._last: deque[float] = deque(maxlen=max(1, limits.per_minute))
        self._refused = 0
        self._refused_to: set[str] = set()
        """Recipients of the refusals in a row, at most :data:`LEARN_AFTER`."""
        self._wide = False
        """The refusals concern every recipient."""
        self._until_s = -math.inf
        self._flash_until_s = -math.inf
        self._learned = 0.0
        self._learned_s = 0.0
        self._unsaved = 0

    # What happened.

    def sent(self, now_s: float, count: int = 1) -> None:
        """The network took ``count`` parts."""
        self._add(now_s, count)
        self._last.append(now_s)
        self._refused, self._wide = 0, False
        self._until_s = self._flash_until_s = -math.inf
        self._refused_to.clear()
        self._unsaved += count

    def _add(self, at_s: float, count: int) -> None:
        minute = int(at_s // _MINUTE)
        if self._minutes and self._minutes[-1][0] >= minute:
            last, before = self._minutes.pop()
            self._minutes.append((last, before + count))
        else:
            self._minutes.append((minute, count))
            while self._minutes[0][0] <= minute - _DAY_MINUTES:
                self._minutes.popleft()

    def refused(self, scope: Scope, to: str, now_s: float) -> bool:
        """The network refused a part to ``to``; True when that taught a limit."""
        if scope == "text":
            return False
        self._refused += 1
        if len(self._refused_to) < LEARN_AFTER:
            self._refused_to.add(to)
        self._wide = self._wide or scope != "recipient" or len(self._refused_to) > 1
        self._until_s = now_s + BACKOFF_S[min(self._refused, len(BACKOFF_S)) - 1]
        self._flash_until_s = min(self._until_s, now_s + FLASH_BACKOFF_S)
        hour = self.sent_in(_HOUR_MINUTES, now_s)
        # An empty card is refused to everybody too: a top-up must not find the node throttled.
        if scope != "rate" or self._refused != LEARN_AFTER or hour < LEARN_FROM:
            return False
        self._learned = max(float(LEARN_FROM), hour * LEARN_SHARE)
        self._learned_s = now_s
        return True

    # What follows.

    def sent_in(self, minutes: int, now_s: float) -> int:
        """Parts of the last so many minutes."""
        first = int(now_s // _MINUTE) - minutes
        return sum(count for minute, count in self._minutes if minute > first)

    def sent_hour(self, now_s: float) -> int:
        """Parts of the last hour."""
        return self.sent_in(_HOUR_MINUTES, now_s)

    def limit_hour(self, now_s: float) -> int | None:
        """Parts that the carrier lets through in an hour, configured or learned; None when unknown."""
        known = [self._limits.per_hour] if self._limits.per_hour else []
        if self._learned and now_s - self._learned_s < FORGET_S:
            hours = (now_s - self._learned_s) / 3600
            known.append(int(self._learned * (1 + GROW_PER_HOUR * hours)))
        return min(known, default=None)

    def wait_s(self, lane: Lane, to: str, now_s: float) -> float:
        """How long a part to ``to`` must wait; 0: it may go."""
        concerned = self._wide or to in self._refused_to
        if lane == "flash":
            return max(0.0, self._flash_until_s - now_s) if concerned else 0.0
        wait_s = max(0.0, self._until_s - now_s) if concerned else 0.0
        return max(wait_s, self._minute_wait_s(now_s), *self._long_waits_s(now_s))

    def _minute_wait_s(self, now_s: float) -> float:
        if not self._limits.per_minute:
            return 0.0
        allowed = _without_reserve(self._limits.per_minute)
        if len(self._last) < allowed:
            return 0.0
        return max(0.0, self._last[-allowed] + _MINUTE - now_s)

    def _long_waits_s(self, now_s: float) -> Iterable[float]:
        for minutes, limit in ((_HOUR_MINUTES, self.limit_hour(now_s)), (_DAY_MINUTES, self._limits.per_day)):
            if not limit:
                continue
            over = self.sent_in(minutes, now_s) - _without_reserve(limit) + 1
            first = int(now_s // _MINUTE) - minutes
            for minute, count in self._minutes:
                if over <= 0:
                    break
                if minute > first:
                    over -= count
                    yield (minute + minutes) * _MINUTE - now_s
        yield 0.0

    # What outlives a restart.

    @property
    def is_unsaved(self) -> bool:
        """Whether so much was sent since :meth:`save` that the ledger alone would not tell it."""
        return self._unsaved >= SAVE_EVERY

    def save(self, now_s: float, wall_s: float) -> Saved:
        """What to write down."""
        self._unsaved = 0
        this = int(now_s // _MINUTE)
        minutes = tuple((this - minute, count) for minute, count in self._minutes)
        return Saved(wall_s, minutes, self._learned, now_s - self._learned_s if self._learned else 0.0)

    def restore(self, saved: Saved | None, sent_at: Iterable[float], now_s: float, wall_s: float) -> None:
        """Takes up what an earlier process wrote down, and the times ``sent_at`` of parts in the ledger.

        A node's clock may stand behind its own notes after a start; then what they tell of counts as of now.
        """
        ages_s = [(max(0.0, wall_s - at), 1) for at in sent_at if saved is None or at > saved.at]
        if saved is not None:
            since_s = max(0.0, wall_s - saved.at)
            ages_s += [(since_s + age * _MINUTE, count) for age, count in saved.minutes]
            if saved.learned:
                self._learned, self._learned_s = saved.learned, now_s - since_s - saved.refused_age_s
        for age_s, count in sorted(ages_s, reverse=True):
            if age_s < FORGET_S:
                self._add(now_s - age_s, count)


def _without_reserve(limit: int) -> int:
    """What of a limit is for anybody; at least one part, or only flash would ever go."""
    return max(1, limit - math.ceil(limit * RESERVE))
