"""Reads an alert of the Common Alerting Protocol 1.2 (OASIS CAP-v1.2, 1 July 2010) from XML.

defusedxml does the XML: no document type, so no entity of any kind, and no reference outside. The rules of
the standard (§3.2, §3.4) are the types below, checked by msgspec, which names the element that is wrong.
`capparselib` was looked at: it has had no release since 2021, checks no value and reads whatever lxml reads.
"""

import datetime as dt
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final
from xml.etree.ElementTree import Element, ParseError

import msgspec
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from subjects.bulletin import (
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
    Severity,
    Status,
    Urgency,
)
from subjects.errors import EvyError

NAMESPACE: Final = "urn:oasis:names:tc:emergency:cap:1.2"
MAX_OCTETS: Final = 1024 * 1024
"""The largest real ones are of half a megabyte: several languages, a coast as a polygon."""
MAX_POINTS: Final = 10_000
"""Of all polygons together: 20 octets each, so an alert fits a message of work."""
KEPT: Final = 4000
"""Characters kept of a description or an instruction; two SMS hold 306."""
KEPT_AREA: Final = 1000
HALF_EARTH_KM: Final = 20_040.0

_RESTRICTED: Final = frozenset(" ,<&")
"""Not in an identifier or a sender (§3.2.1): both stand in references."""


class CapError(EvyError):
    """What was read is no alert of CAP 1.2, or one that EVY does not take; says which element and why."""


_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Line = Annotated[str, msgspec.Meta(max_length=1000)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=400)]


class _Pair(msgspec.Struct, frozen=True):
    valueName: Annotated[str, msgspec.Meta(max_length=200)] = ""  # noqa: N815  # the element's name
    value: Annotated[str, msgspec.Meta(max_length=400)] = ""


class _Area(msgspec.Struct, frozen=True):
    areaDesc: str  # noqa: N815  # the element's name, here and below
    polygon: Annotated[tuple[str, ...], msgspec.Meta(max_length=200)] = ()
    circle: Annotated[tuple[str, ...], msgspec.Meta(max_length=200)] = ()
    geocode: Annotated[tuple[_Pair, ...], msgspec.Meta(max_length=4000)] = ()


class _Info(msgspec.Struct, frozen=True):
    category: Annotated[tuple[Category, ...], msgspec.Meta(min_length=1, max_length=20)]
    event: _Name
    urgency: Urgency
    severity: Severity
    certainty: Certainty
    language: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,4}$")] = "en-US"
    responseType: Annotated[tuple[ResponseType, ...], msgspec.Meta(max_length=20)] = ()  # noqa: N815
    eventCode: Annotated[tuple[_Pair, ...], msgspec.Meta(max_length=50)] = ()  # noqa: N815
    onset: str = ""
    expires: str = ""
    senderName: _Line = ""  # noqa: N815
    headline: _Line = ""
    description: str = ""
    instruction: str = ""
    area: Annotated[tuple[_Area, ...], msgspec.Meta(max_length=500)] = ()


class _Alert(msgspec.Struct, frozen=True):
    identifier: _Id
    sender: _Id
    sent: str
    status: Status
    msgType: MsgType  # noqa: N815
    scope: Scope
    references: str = ""
    note: str = ""
    info: Annotated[tuple[_Info, ...], msgspec.Meta(max_length=64)] = ()


_MANY: Final = frozenset(
    {"info", "category", "responseType", "eventCode", "area", "polygon", "circle", "geocode"}
)
"""Elements that may stand several times."""
_PARTS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "info": _Info,
    "area": _Area,
    "eventCode": _Pair,
    "geocode": _Pair,
}

LANGUAGES: Final = {"fil": "tl", "hat": "ht", "cpf": "ht", "spa": "es", "fra": "fr", "por": "pt", "swa": "sw"}
"""Other codes of the languages that EVY speaks (RFC 5646, ISO 639-2)."""


def read(octets: bytes, *, feed: str = "") -> Bulletin:
    """The alert in a file. Raises :class:`CapError`."""
    root = parsed(octets, MAX_OCTETS)
    if root.tag != f"{{{NAMESPACE}}}alert":
        raise CapError(f"{root.tag}: not an <alert> of {NAMESPACE}; CAP 1.2 is read, no other version")
    try:
        alert = msgspec.convert(_table(root, _Alert, "alert"), _Alert)
    except msgspec.ValidationError as error:
        raise CapError(f"not as CAP 1.2 has it: {error}") from error
    for name in ("identifier", "sender"):
        if wrong := _RESTRICTED & set(getattr(alert, name)):
            raise CapError(f"{name}: {sorted(wrong)} must not be in it (CAP 1.2 §3.2.1)")
    references = tuple(_references(alert.references))
    if alert.msgType == "Cancel" and not references:
        raise CapError("a Cancel without references: it does not say what is cancelled")
    infos = tuple(_info(info, f"info {number}") for number, info in enumerate(alert.info, 1))
    if alert.msgType in {"Alert", "Update"} and not infos:
        raise CapError(f"msgType {alert.msgType} without an info: it says nothing")
    count = sum(len(ring) for info in infos for area in info.areas for ring in area.polygons)
    if count > MAX_POINTS:
        raise CapError(f"polygons of {count} points, at most {MAX_POINTS}")
    return Bulletin(
        identifier=alert.identifier,
        sender=alert.sender,
        sent_at=_time(alert.sent, "sent"),
        status=alert.status,
        msg_type=alert.msgType,
        scope=alert.scope,
        references=references,
        infos=infos,
        note=alert.note[:KEPT],
        feed=feed,
    )


def parsed(octets: bytes, most: int) -> Element:
    """Root of an XML document without document type or entities. Raises :class:`CapError`."""
    if len(octets) > most:
        raise CapError(f"{len(octets)} octets, at most {most}")
    try:
        root: Element = fromstring(octets, forbid_dtd=True)
    except DefusedXmlException as error:
        raise CapError(f"a document type or an entity, which is never read: {error}") from error
    except (ParseError, LookupError, ValueError) as error:  # the last two: an encoding that nobody knows
        raise CapError(f"no XML: {error}") from error
    return root


def _table(element: Element, of: type[msgspec.Struct], where: str) -> dict[str, Any]:
    """The children that ``of`` has fields for, as text or tables. Others are ignored: resources, parameters,
    extensions and signatures are no words for an SMS."""
    found: dict[str, Any] = {}
    for child in element:
        namespace, _, name = str(child.tag).removeprefix("{").partition("}")
        if namespace != NAMESPACE or name not in of.__struct_fields__:
            continue
        part = _PARTS.get(name)
        value = _table(child, part, f"{where}.{name}") if part else " ".join(_visible(child.text).split())
        if name in _MANY:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise CapError(f"{where}: <{name}> stands twice")
        else:
            found[name] = value
    return found


def _visible(text: str | None) -> str:
    return "".join(c if c.isprintable() else " " for c in text or "")


def _info(info: _Info, where: str) -> Info:
    lang = info.language.partition("-")[0].lower()
    return Info(
        event=info.event,
        urgency=info.urgency,
        severity=info.severity,
        certainty=info.certainty,
        lang=LANGUAGES.get(lang, lang),
        categories=info.category,
        responses=info.responseType,
        codes=tuple((pair.valueName, pair.value) for pair in info.eventCode),
        onset_at=_time(info.onset, f"{where}: onset") if info.onset else None,
        expires_at=_time(info.expires, f"{where}: expires") if info.expires else None,
        sender_name=info.senderName,
        headline=info.headline,
        description=info.description[:KEPT],
        instruction=info.instruction[:KEPT],
        areas=tuple(_area(area, f"{where}, area {number}") for number, area in enumerate(info.area, 1)),
    )


def _area(area: _Area, where: str) -> Area:
    return Area(
        description=area.areaDesc[:KEPT_AREA],
        polygons=tuple(_ring(text, where) for text in area.polygon if text),
        circles=tuple(_circle(text, where) for text in area.circle if text),
        geocodes=tuple((pair.valueName, pair.value) for pair in area.geocode if pair.value),
    )


def _ring(text: str, where: str) -> tuple[Point, ...]:
    """Points of a polygon, closed if it was left open: the standard wants four pairs, the last one the first
    (§3.2.4), and everybody who draws one means that."""
    points = tuple(_point(pair, f"{where}: polygon") for pair in text.split())
    if points and points[0] != points[-1]:
        points = (*points, points[0])
    if len(set(points)) < 3:
        raise CapError(f"{where}: a polygon of {len(set(points))} points has no inside")
    return points


def _circle(text: str, where: str) -> tuple[float, float, float]:
    middle, _, radius = text.partition(" ")
    radius_km = _number(radius.strip(), f"{where}: radius of circle {text!r}")
    if not 0 <= radius_km <= HALF_EARTH_KM:
        raise CapError(f"{where}: circle {text!r}: a radius of 0 to {HALF_EARTH_KM:.0f} km")
    return (*_point(middle, f"{where}: circle"), radius_km)


def _point(text: str, where: str) -> Point:
    first, _, second = text.partition(",")
    latitude, longitude = _number(first, f"{where} {text!r}"), _number(second, f"{where} {text!r}")
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):
        raise CapError(f"{where} {text!r}: not on Earth; latitude comes first, then longitude")
    return round(latitude, 5), round(longitude, 5)


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise CapError(f"{where}: {text[:40]!r} is no number") from error
    if not math.isfinite(number):
        raise CapError(f"{where}: {text[:40]!r} is no number")
    return number


def _references(text: str) -> Iterator[Reference]:
    """Each ``sender,identifier,sent``, several with white space between them (§3.2.1)."""
    for one in text.split()[:500]:
        parts = one.split(",")
        if len(parts) != 3:
            raise CapError(f"references: {one[:120]!r} is not sender,identifier,sent")
        yield Reference(parts[0], parts[1], _time(parts[2], "references"))


def _time(text: str, where: str) -> float:
    """Unix seconds of a time, which must say its zone (§3.3.2); "Z" is no valid one and common."""
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise CapError(f"{where}: {text[:40]!r} is no time such as 2002-05-24T16:49:00-07:00") from error
    if at.tzinfo is None:
        raise CapError(f"{where}: {text[:40]!r} does not say its zone, such as -07:00")
    return at.timestamp()
