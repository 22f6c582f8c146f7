"""Hysteresis: what was judged low stays low until it is clearly better, so that no rule flaps."""

from collections.abc import Sequence


def held(before: float | None, now: float | None, limits: Sequence[float], margin: float) -> float | None:
    """The value that the rules go by: ``now``, but just below a limit that ``before`` was below, until it is
    ``margin`` above that limit.

    ``limits`` rise. Downwards nothing is held: saving begins at once. Unknown values pass as they are.
    """
    if now is None or before is None:
        return now
    for floor, limit in zip((float("-inf"), *limits), limits, strict=False):
        if before < limit <= now < limit + margin:
            return max(limit - 1.0, (floor + limit) / 2)
    return now
