"""A public alert in few octets: codes, times and areas as small numbers, and what words a text needs.

What is left out: long descriptions and instructions (a node words an alert by its codes and headline), all
but two languages, and what lies beyond the limits here. Places are kept to a thousandth of a degree, 111 m.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Final, get_args

import msgspec

from subjects.bulletin import (
    SEVERITIES,
    Area,
    Bulletin,
    Category,
    Certainty,
    Info,
    MsgType,
    Point,
    Reference,
    ResponseType,
    Scope,
    Status,
    Urgency,
)
from subjects.mesh import FEED

MOST_INFOS: Final = 2
MOST_AREAS: Final = 4
MOST_POINTS: Final = 24
"""Of a ring; one with more becomes the circle around it."""
MOST_WORDS: Final = 160
"""Characters of one of its texts."""
MOST_LISTED: Final = 4
"""References, circles, rings, codes of one kind."""
_PARTS: Final = 1000
_KM_PER_DEGREE: Final = 111.2

_Small = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
_Seconds = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
_Degrees = Annotated[int, msgspec.Meta(ge=-360_000, le=360_000)]

_STATUS, _TYPE, _SCOPE = get_args(Status), get_args(MsgType), get_args(Scope)
_URGENCY, _CERTAINTY = get_args(Urgency), get_args(Certainty)
_CATEGORY, _RESPONSE = get_args(Category), get_args(ResponseType)


class _Where(msgspec.Struct, array_like=True, frozen=True):
    circles: Annotated[list[tuple[_Degrees, _Degrees, _Small]], msgspec.Meta(max_length=MOST_LISTED)]
    """Degrees in thousandths, tenths of a kilometre."""
    rings: Annotated[
        list[Annotated[list[tuple[_Degrees, _Degrees]], msgspec.Meta(max_length=MOST_POINTS)]],
        msgspec.Meta(max_length=MOST_LISTED),
    ]
    """The first point, then the steps from each to the next."""
    geocodes: Annotated[int, msgspec.Meta(ge=0, le=MOST_LISTED)]


class _What(msgspec.Struct, array_like=True, frozen=True):
    urgency: _Small
    severity: _Small
    certainty: _Small
    categories: _Small
    responses: _Small
    onset_at: _Seconds
    expires_at: _Seconds
    codes: Annotated[int, msgspec.Meta(ge=0, le=MOST_LISTED)]
    areas: Annotated[list[_Where], msgspec.Meta(max_length=MOST_AREAS)]


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    status: _Small
    msg_type: _Small
    scope: _Small
    sent_at: _Seconds
    references: Annotated[list[_Seconds], msgspec.Meta(max_length=MOST_LISTED)]
    infos: Annotated[list[_What], msgspec.Meta(max_length=MOST_INFOS)]


_DECODER: Final = msgspec.msgpack.Decoder(_Wire)
_BETWEEN: Final = "\x1e"


def written(bulletin: Bulletin, pack: Callable[[str], bytes]) -> bytes:
    """The octets of an alert; ``pack`` makes words small."""
    words = [bulletin.identifier, bulletin.sender]
    references = bulletin.references[:MOST_LISTED]
    for one in references:
        words += [one.identifier, "" if one.sender == bulletin.sender else one.sender]
    infos = []
    for info in bulletin.infos[:MOST_INFOS]:
        codes = info.codes[:MOST_LISTED]
        words += [info.lang, info.event, info.headline, info.sender_name, *_pairs(codes)]
        areas = info.areas[:MOST_AREAS]
        for area in areas:
            words += [area.description, *_pairs(area.geocodes[:MOST_LISTED])]
        infos.append(
            _What(
                _URGENCY.index(info.urgency),
                SEVERITIES.index(info.severity),
                _CERTAINTY.index(info.certainty),
                _bits(info.categories, _CATEGORY),
                _bits(info.responses, _RESPONSE),
                _whole(info.onset_at),
                _whole(info.expires_at),
                len(codes),
                [_where(area) for area in areas],
            )
        )
    wire = _Wire(
        _STATUS.index(bulletin.status),
        _TYPE.index(bulletin.msg_type),
        _SCOPE.index(bulletin.scope),
        _whole(bulletin.sent_at),
        [_whole(one.sent_at) for one in references],
        infos,
    )
    numbers = msgspec.msgpack.encode(wire)
    cut = _BETWEEN.join(word.replace(_BETWEEN, " ")[:MOST_WORDS] for word in words)
    return len(numbers).to_bytes(2, "big") + numbers + pack(cut)


def read(octets: bytes, unpack: Callable[[bytes], str]) -> Bulletin:
    """The alert of some octets. Raises ValueError, IndexError and msgspec's errors."""
    end = 2 + int.from_bytes(octets[:2], "big")
    wire = _DECODER.decode(octets[2:end])
    words = iter(unpack(octets[end:]).split(_BETWEEN))
    try:
        return _bulletin(wire, words)
    except StopIteration:
        raise ValueError("fewer words than it says") from None


def _bulletin(wire: _Wire, words: Iterator[str]) -> Bulletin:
    identifier, sender = next(words), next(words)
    if not identifier or not sender:
        raise ValueError("an alert of nobody")
    references = tuple(
        Reference(identifier=next(words), sender=next(words) or sender, sent_at=float(at))
        for at in wire.references
    )
    return Bulletin(
        identifier=identifier,
        sender=sender,
        sent_at=float(wire.sent_at),
        status=_STATUS[wire.status],
        msg_type=_TYPE[wire.msg_type],
        scope=_SCOPE[wire.scope],
        references=references,
        infos=tuple([_info(what, words) for what in wire.infos]),
        feed=FEED,
    )


def _info(what: _What, words: Iterator[str]) -> Info:
    lang, event, headline, sender_name = (next(words) for _ in range(4))
    return Info(
        event=event,
        urgency=_URGENCY[what.urgency],
        severity=SEVERITIES[what.severity],
        certainty=_CERTAINTY[what.certainty],
        lang=lang,
        categories=tuple(_CATEGORY[place] for place in _set(what.categories)),
        responses=tuple(_RESPONSE[place] for place in _set(what.responses)),
        codes=_as_pairs(words, what.codes),
        onset_at=float(what.onset_at) or None,
        expires_at=float(what.expires_at) or None,
        sender_name=sender_name,
        headline=headline,
        areas=tuple([_area(where, words) for where in what.areas]),
    )


def _area(where: _Where, words: Iterator[str]) -> Area:
    description = next(words)
    rings = []
    for ring in where.rings:
        latitude = longitude = 0
        points = []
        for north, east in ring:
            latitude, longitude = latitude + north, longitude + east
            points.append((latitude / _PARTS, longitude / _PARTS))
        rings.append(tuple(points))
    return Area(
        description,
        polygons=tuple(rings),
        circles=tuple((lat / _PARTS, long / _PARTS, km / 10) for lat, long, km in where.circles),
        geocodes=_as_pairs(words, where.geocodes),
    )


def _where(area: Area) -> _Where:
    circles = list(area.circles)
    rings: list[list[tuple[int, int]]] = []
    for ring in area.polygons:
        if len(ring) > MOST_POINTS or len(rings) == MOST_LISTED:
            circles.append(around(ring))
        else:
            rings.append(_steps(ring))
    short = [(round(lat * _PARTS), round(long * _PARTS), math.ceil(km * 10)) for lat, long, km in circles]
    return _Where(short[:MOST_LISTED], rings, min(len(area.geocodes), MOST_LISTED))


def around(ring: Sequence[Point]) -> tuple[float, float, float]:
    """Middle and kilometres of a circle with all points of a ring in it, however it is rounded here."""
    latitude = sum(point[0] for point in ring) / len(ring)
    longitude = sum(point[1] for point in ring) / len(ring)
    east = math.cos(math.radians(latitude))
    degrees = max(math.hypot(lat - latitude, (long - longitude) * east) for lat, long in ring)
    return latitude, longitude, (degrees + 1 / _PARTS) * _KM_PER_DEGREE


def _steps(ring: Sequence[Point]) -> list[tuple[int, int]]:
    whole = [(round(lat * _PARTS), round(long * _PARTS)) for lat, long in ring]
    before = [(0, 0), *whole]
    return [(lat - a, long - b) for (lat, long), (a, b) in zip(whole, before, strict=False)]


def _bits(values: Sequence[str], of: Sequence[str]) -> int:
    return sum({1 << of.index(value) for value in values})


def _set(bits: int) -> list[int]:
    return [place for place in range(16) if bits >> place & 1]


def _whole(at: float | None) -> int:
    return min(max(0, int(at or 0)), 0xFFFF_FFFF)


def _pairs(pairs: Sequence[tuple[str, str]]) -> list[str]:
    return [f"{scheme}={code}" for scheme, code in pairs]


def _as_pairs(words: Iterator[str], count: int) -> tuple[tuple[str, str], ...]:
    found = [next(words).partition("=") for _ in range(count)]
    return tuple((scheme, code) for scheme, _, code in found)
