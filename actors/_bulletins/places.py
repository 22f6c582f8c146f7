"""The places of a node: what they are called, where they lie, and whether an alert's area covers them."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from actors._people.texts import plain_words
from subjects.bulletin import Area, Info, Point, Severity
from subjects.names import Lane

EARTH_KM: Final = 6371.0
ON_THE_LINE_KM: Final = 0.05
"""A place so near to an area's edge is in it: coordinates are of three decimals."""


MOST_SAID: Final = 40
"""Characters of a list of places in a text."""


class PlaceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One place that people of the node live in: ``[bulletin.places.<key>]``."""

    name: Annotated[str, msgspec.Meta(min_length=2, max_length=40)]
    """What texts call it, in letters that every phone has."""
    latitude: Annotated[float, msgspec.Meta(ge=-90, le=90)] | None = None
    longitude: Annotated[float, msgspec.Meta(ge=-180, le=180)] | None = None
    radius_km: Annotated[float, msgspec.Meta(ge=0, le=500)] = 0.0
    """How far it reaches: an area that comes so near concerns it."""
    geocodes: dict[str, tuple[str, ...]] = {}
    """Its codes by scheme, as its senders write them: { SAME = ["006037"], UGC = ["CAZ368"] }."""
    words: tuple[str, ...] = ()
    """Other names: people text them after ALERTS, and an area that is only described is known by them."""

    def __post_init__(self) -> None:
        if (self.latitude is None) != (self.longitude is None):
            raise ValueError(f"place {self.name!r}: give latitude and longitude, or neither")
        if self.latitude is None and not self.geocodes and not self.words:
            raise ValueError(f"place {self.name!r}: give latitude and longitude, geocodes or words")

    @property
    def names(self) -> tuple[str, ...]:
        """Name and words as `plain_words` writes them."""
        return tuple(dict.fromkeys(plain_words(word) for word in (self.name, *self.words)))


class BulletinConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[bulletin]`` table."""

    places: dict[str, PlaceConfig] = {}
    """The places of this node's people. None: no alert concerns anybody here."""
    least_severity: Severity = "Moderate"
    """What is less severe is not sent; what nobody judged ("Unknown") counts as Moderate."""
    exercises: bool = False
    """Exercises are sent too, marked as such."""
    share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    """Share of the modem's time that alerts may take."""
    timezone: str = ""
    """Zone of the times in texts, "Asia/Manila"; empty: the machine's."""
    expires_h: Annotated[float, msgspec.Meta(gt=0, le=240)] = 24.0
    """How long an alert holds that does not say it."""

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.timezone or "UTC")
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"timezone {self.timezone!r} is not known here: {error}") from error

    @property
    def zone(self) -> ZoneInfo | None:
        """Zone of the times in texts; None: the machine's."""
        return ZoneInfo(self.timezone) if self.timezone else None

    def place_called(self, words: str) -> str:
        """Key of the place that plain words name; empty: none."""
        return next((key for key, place in self.places.items() if words in place.names), "")

    def said(self, keys: Iterable[str]) -> str:
        """Names of places as a text lists them, as many as fit."""
        names = [self.places[key].name for key in keys if key in self.places]
        while len(", ".join(names)) > MOST_SAID and len(names) > 1:
            names = [*names[: -2 if names[-1] == ".." else -1], ".."]
        return ", ".join(names)


def lane_of(severity: Severity) -> Lane:
    """Lane of the texts of an alert."""
    return "priority" if severity == "Extreme" else "routine"


def places_in(info: Info, places: Mapping[str, PlaceConfig]) -> dict[str, Area]:
    """Places that an info concerns, each with the first of its areas that covers it."""
    found = {}
    for key, place in places.items():
        area = next((area for area in info.areas if covers(area, place)), None)
        if area:
            found[key] = area
    return found


def covers(area: Area, place: PlaceConfig) -> bool:
    """Whether a place is in an area, by any of what the area gives (§3.2.4: the union of all). Words count
    only where the area gives nothing that can be compared with the place."""
    schemes = {scheme.casefold() for scheme, _ in area.geocodes}
    known = {scheme.casefold() for scheme in place.geocodes}
    if any(_coded(scheme, code, place) for scheme, code in area.geocodes):
        return True
    if place.latitude is not None and place.longitude is not None:
        here = (place.latitude, place.longitude)
        if any(within(here, ring, place.radius_km) for ring in area.polygons):
            return True
        if any(apart_km(here, (a, b)) <= km + place.radius_km + ON_THE_LINE_KM for a, b, km in area.circles):
            return True
        if area.polygons or area.circles:
            return False
    if schemes & known:
        return False
    described = f" {plain_words(area.description)} "
    return any(f" {name} " in described for name in place.names)


def _coded(scheme: str, code: str, place: PlaceConfig) -> bool:
    ours = (
        one for name, codes in place.geocodes.items() if name.casefold() == scheme.casefold() for one in codes
    )
    if scheme.casefold() in {"same", "fips6", "fips"}:
        return any(_same(code, one) for one in ours)
    if scheme.casefold().startswith("profile:cap-cp:location"):
        # Statistics Canada's codes: a province's two digits begin those of all that lies in it.
        return any(one.startswith(code) for one in ours)
    return any(code.casefold() == one.casefold() for one in ours)


def _same(code: str, ours: str) -> bool:
    """Codes of SAME, PSSCCC (NWS Instruction 10-1712): part of the county, state, county; zeros are all of
    it. FIPS codes are the same without the part."""
    if not (code.isdecimal() and ours.isdecimal() and 5 <= len(code) <= 6 and 5 <= len(ours) <= 6):
        return code == ours
    state, county = code[-5:-3], code[-3:]
    return state == "00" or (state == ours[-5:-3] and county in {"000", ours[-3:]})


def within(here: Point, ring: Sequence[Point], radius_km: float = 0.0) -> bool:
    """Whether a point is inside a closed ring, whichever way round it goes, or at most so far from it.

    A side goes the short way round the Earth, so a ring may cross the 180th meridian or hold a pole.
    """
    points = list(_unrolled(ring))
    turn = points[-1][1] - points[0][1]
    if abs(turn) > 180:  # it goes round the Earth: what it holds is closed over the nearer pole
        pole = math.copysign(90.0, sum(latitude for latitude, _ in points))
        points += [(pole, points[-1][1]), (pole, points[0][1]), points[0]]
    latitude, longitude = here
    return any(
        _is_inside((latitude, longitude + around), points)
        or _edge_km((latitude, longitude + around), points) <= radius_km + ON_THE_LINE_KM
        for around in (-360.0, 0.0, 360.0)
    )


def _unrolled(ring: Sequence[Point]) -> Iterator[Point]:
    """The ring with longitudes that do not jump at the 180th meridian. A side of a full turn is no crossing:
    it is how the edge of a map of the world is written."""
    shift, before = 0.0, ring[0][1]
    for latitude, longitude in ring:
        step = longitude - before
        if 180 < abs(step) < 360:
            shift -= math.copysign(360.0, step)
        before = longitude
        yield latitude, longitude + shift


def _is_inside(here: Point, points: Sequence[Point]) -> bool:
    """Even-odd rule."""
    y, x = here
    inside = False
    for (y1, x1), (y2, x2) in pairwise(points):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
            inside = not inside
    return inside


def _edge_km(here: Point, points: Sequence[Point]) -> float:
    """Distance to the nearest side, on a plane that touches the Earth here: exact where it matters, near."""
    scale = math.radians(1) * EARTH_KM
    east = scale * max(0.01, math.cos(math.radians(here[0])))
    flat = [((longitude - here[1]) * east, (latitude - here[0]) * scale) for latitude, longitude in points]
    return min(_from_side_km(*start, *end) for start, end in pairwise(flat))


def _from_side_km(x1: float, y1: float, x2: float, y2: float) -> float:
    dx, dy = x2 - x1, y2 - y1
    length = dx * dx + dy * dy
    along = max(0.0, min(1.0, -(x1 * dx + y1 * dy) / length)) if length else 0.0
    return math.hypot(x1 + along * dx, y1 + along * dy)


def apart_km(one: Point, other: Point) -> float:
    """Distance on the sphere (haversine)."""
    a, b = math.radians(one[0]), math.radians(other[0])
    half = (
        math.sin((b - a) / 2) ** 2
        + math.cos(a) * math.cos(b) * math.sin(math.radians(other[1] - one[1]) / 2) ** 2
    )
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(half)))
