"""How many people lack what at which place: counted here within the hour, and as other nodes tell it."""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Final

from subjects.mesh import MeshNeeds

HOUR_S: Final = 3600.0
KEPT_S: Final = 86400.0
MOST_PLACES: Final = 100
"""One for each node of a network, about 300 octets each."""
MOST_COUNTED: Final = 5000
"""Needs of the hour that are counted; about 100 octets each."""


class NeedsBoard:
    """Counts by place. ``now_s`` never goes back."""

    def __init__(self, place: str, now_s: Callable[[], float]) -> None:
        self._place = place
        self._now_s = now_s
        self._own: deque[tuple[float, str]] = deque(maxlen=MOST_COUNTED)
        self._others: dict[str, tuple[float, Mapping[str, int]]] = {}

    def count(self, needs: list[str]) -> None:
        """One text of a person here, by the needs that triage heard in it."""
        self._own.extend((self._now_s(), need) for need in needs)

    def heard(self, needs: MeshNeeds) -> None:
        """What another node tells of its place."""
        if needs.place not in self._others and len(self._others) >= MOST_PLACES:
            oldest = min(self._others, key=lambda place: self._others[place][0])
            del self._others[oldest]
        self._others[needs.place] = (self._now_s(), needs.counts)

    def own(self) -> MeshNeeds:
        """This node's counts of the last hour."""
        since_s = self._now_s() - HOUR_S
        while self._own and self._own[0][0] < since_s:
            self._own.popleft()
        return MeshNeeds(self._place, dict(Counter(need for _, need in self._own)))

    def all(self) -> dict[str, dict[str, int]]:
        """By place, this node's too; what was told more than a day ago is left out."""
        since_s = self._now_s() - KEPT_S
        found = {place: dict(counts) for place, (at_s, counts) in self._others.items() if at_s >= since_s}
        own = self.own()
        return {**found, own.place: own.counts} if own.counts else found
