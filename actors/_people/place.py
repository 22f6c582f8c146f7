"""Where somebody says they are: coordinates, plus codes and map links in a text."""

import re
from collections.abc import Iterator
from typing import Final

from subjects.messages import Place

LOOKED_AT: Final = 1000
"""Characters of a text that are searched; the expressions below take time in proportion to it."""
KEPT: Final = 120
"""Characters of a place that are kept."""
SHOWN: Final = 60
"""Characters of a place in an SMS."""
DECIMALS: Final = 3
"""Two numbers are coordinates from so many decimals on (110 m): «38.5, 39.2» may be two fevers."""

_DIGITS: Final = "23456789CFGHJMPQRVWX"
"""Digits of a plus code: Open Location Code specification, «Alphabet»."""
_PLUS_CODE = re.compile(
    rf"(?<![0-9A-Z])([2-9CFGHJMPQRV][2-9CFGHJMPQRVWX][{_DIGITS}]{{6}}\+(?:[{_DIGITS}]{{2,7}})?)(?![0-9A-Z+])",
    re.IGNORECASE,
)
_NUMBER = rf"-?[0-9]{{1,3}}\.[0-9]{{{DECIMALS},15}}"
_PAIR = re.compile(
    rf"(?<![0-9.,])({_NUMBER})\s?°?\s?([NSns]?)\s?[,;/ ]\s?({_NUMBER})\s?°?\s?([EWOewo]?)(?![0-9.A-Za-z])"
)
_DECIMAL_COMMA = rf"(-?[0-9]{{1,3}},[0-9]{{{DECIMALS},15}})"
_COMMA_PAIR = re.compile(rf"(?<![0-9.,]){_DECIMAL_COMMA}\s?[; ]\s?{_DECIMAL_COMMA}(?![0-9.,])")
_ANGLE = (
    r"([0-9]{1,3})\s?[°d]\s?"
    r"(?:([0-9]{1,2}(?:\.[0-9]{1,6})?)\s?['′’m]\s?)?"
    r"(?:([0-9]{1,2}(?:\.[0-9]{1,6})?)\s?(?:[\"″”s]|'')\s?)?"
)
_DEGREES = re.compile(rf"{_ANGLE}([NS])[,;\s]{{0,3}}{_ANGLE}([EWO])", re.IGNORECASE)
_LINK = re.compile(r"(?:https?://|geo:)\S{4,400}", re.IGNORECASE)
_SIGNED = r"(-?[0-9]{1,3}(?:\.[0-9]{1,15})?)"
_IN_LINK = (
    re.compile(rf"!3d{_SIGNED}!4d{_SIGNED}"),  # the pin of a Google link; its @ is only the view
    re.compile(
        rf"[?&](?:q|query|ll|sll|daddr|destination|center)=(?:loc:)?{_SIGNED}(?:,|%2C){_SIGNED}",
        re.IGNORECASE,
    ),
    re.compile(rf"[?&]mlat={_SIGNED}&mlon={_SIGNED}"),
    re.compile(rf"#map=[0-9.]{{1,5}}/{_SIGNED}/{_SIGNED}"),
    re.compile(rf"/@{_SIGNED},{_SIGNED}"),
    re.compile(rf"^geo:{_SIGNED},{_SIGNED}", re.IGNORECASE),
)


def place_in(text: str) -> Place | None:
    """The place that a text names by coordinates (decimal, or degrees and minutes), by a full plus code or
    by a map link; None when there is none, or only one that is not on Earth. A short link is not followed:
    there may be no network, and it would tell a stranger who asks."""
    text = text[:LOOKED_AT]
    for latitude, longitude in _found(text):
        # Phones that have no fix yet give 0,0, which is in the Atlantic.
        if abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude, longitude) != (0.0, 0.0):
            return Place(text[:KEPT], latitude, longitude)
    return None


def may_be_place(text: str) -> bool:
    """Whether a text that answers «where are you?» can be a place: short, with words, and no question."""
    return 2 <= len(text) <= KEPT and not any(c in text for c in "?¿؟？") and any(c.isalnum() for c in text)


def shown(place: Place) -> str:
    """A place as a person reads it: coordinates as decimal degrees, which every map takes."""
    words = one_line(place.text, SHOWN)
    if place.latitude is None or place.longitude is None:
        return words
    degrees = f"{place.latitude:.5f},{place.longitude:.5f}"
    # A link or bare digits say nothing more; a landmark beside them does.
    if "://" in words or "geo:" in words or sum(c.isalpha() for c in words) < 4:
        return degrees
    return f"{one_line(words, SHOWN - len(degrees) - 1)} {degrees}"


def one_line(text: str, characters: int) -> str:
    """Somebody's words on one line, shortened, with nothing in them that would be filled in."""
    return " ".join(text[: 4 * characters].replace("{", "(").replace("}", ")").split())[:characters].strip()


def _found(text: str) -> Iterator[tuple[float, float]]:
    for link in _LINK.findall(text):
        for pattern in _IN_LINK:
            for latitude, longitude in pattern.findall(link):
                yield float(latitude), float(longitude)
    for latitude, south, longitude, west in _PAIR.findall(text):
        yield _signed(float(latitude), south), _signed(float(longitude), west)
    for latitude, longitude in _COMMA_PAIR.findall(text):
        yield float(latitude.replace(",", ".")), float(longitude.replace(",", "."))
    for found in _DEGREES.findall(text):
        latitude, longitude = _angle(found[:3]), _angle(found[4:7])
        yield _signed(latitude, found[3]), _signed(longitude, found[7])
    for code in _PLUS_CODE.findall(text):
        if sum(c.isdigit() for c in code) and (at := _decoded(code.upper())):
            yield at


def _signed(degrees: float, hemisphere: str) -> float:
    return -abs(degrees) if hemisphere.upper() in {"S", "W", "O"} else degrees


def _angle(parts: tuple[str, ...]) -> float:
    """Degrees of degrees, minutes and seconds; beyond the Earth when a minute or second is none."""
    degrees, minutes, seconds = (float(part or 0) for part in parts)
    return degrees + minutes / 60 + seconds / 3600 if minutes < 60 and seconds < 60 else 999.0


def _decoded(code: str) -> tuple[float, float] | None:
    """Middle of a full plus code: pairs of base 20 for latitude and longitude, then a grid of 4 by 5."""
    digits = [_DIGITS.index(c) for c in code if c != "+"]
    latitude, longitude, height, width = -90.0, -180.0, 20.0, 20.0
    for index in range(0, min(10, len(digits)), 2):
        if index:
            height, width = height / 20, width / 20
        latitude += digits[index] * height
        longitude += digits[index + 1] * width
    for digit in digits[10:]:
        height, width = height / 5, width / 4
        latitude += digit // 4 * height
        longitude += digit % 4 * width
    return latitude + height / 2, longitude + width / 2
