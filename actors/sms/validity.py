"""How long the network keeps trying to deliver a text (TP-VP, 3GPP TS 23.040 §9.2.3.12.1), as data.

When the time is over the network drops the text and says so: its part ends as EXPIRED. A text that comes too
late is worse than none when somebody acts on it.
"""

from typing import Final

from subjects.messages import OutboundKind
from subjects.names import Lane

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86400

VALIDITY_S: Final[dict[tuple[Lane | None, OutboundKind | None], tuple[int, str]]] = {
    ("flash", "alert"): (6 * _HOUR_S, "whoever reads it tomorrow finds nobody; the next responder was asked"),
    (None, "alert"): (_DAY_S, "still worth knowing in the morning"),
    ("flash", "reply"): (3 * _DAY_S, "a phone without power or cover is charged or carried within days"),
    ("priority", "reply"): (2 * _DAY_S, "needs within days"),
    (None, "notice"): (2 * _HOUR_S, "it speaks of now: an answer is coming, only texts are read"),
    (None, "followup"): (12 * _HOUR_S, "it adds to an answer that the person still has in mind"),
    (None, None): (_DAY_S, "an answer to a question of today"),
}
"""Seconds and why, by lane and kind; None is any. The first row that fits counts."""


def validity_s(lane: Lane, kind: OutboundKind) -> int:
    """How long a text is worth delivering."""
    return next(
        seconds
        for (row_lane, row_kind), (seconds, _) in VALIDITY_S.items()
        if row_lane in {None, lane} and row_kind in {None, kind}
    )


def tp_vp(seconds: int) -> int:
    """The octet of TP-VP in relative format that stands for this time, or the next longer one there is."""
    for first, last, start_s, step_s in (
        (0, 143, 5 * _MINUTE_S, 5 * _MINUTE_S),
        (144, 167, 12 * _HOUR_S + 30 * _MINUTE_S, 30 * _MINUTE_S),
        (168, 196, 2 * _DAY_S, _DAY_S),
        (197, 255, 5 * 7 * _DAY_S, 7 * _DAY_S),
    ):
        value = first + max(0, -(-(seconds - start_s) // step_s))
        if value <= last:
            return value
    return 255


def gammu_validity(seconds: int) -> str:
    """The same in Gammu's words."""
    for unit, name in ((_DAY_S, "D"), (_HOUR_S, "H")):
        if seconds % unit == 0:
            return f"{seconds // unit}{name}"
    return f"{-(-seconds // (5 * _MINUTE_S)) * 5}M"
