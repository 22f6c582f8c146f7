"""What is done with a public alert: whether it goes out at all, to whom, how urgently, and again or not.

Pure: time is an argument.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from actors._bulletins.places import BulletinConfig, PlaceConfig, places_in
from actors._people.texts import plain_words
from subjects.bulletin import SEVERITIES, Area, Bulletin, Certainty, Info, Severity, Urgency

URGENCIES: Final[tuple[Urgency, ...]] = ("Immediate", "Expected", "Unknown", "Future", "Past")
CERTAINTIES: Final[tuple[Certainty, ...]] = ("Observed", "Likely", "Unknown", "Possible", "Unlikely")
LATER_S: Final = 1800.0
"""An end that moves by less changes nothing for a person."""
LONGEST_AREA: Final = 40
"""Characters of an area's description that a text takes; a longer one lists half a state."""
LATIN: Final = 0x24F
"""Last letter of Latin Extended-B in Unicode."""
SPARE_BELOW: Final = ((20.0, "Extreme"), (30.0, "Severe"))
"""Below so many per cent of battery only what is at least so severe goes out: N4."""
BRIEF_BELOW: Final = 30.0


class Wanted(NamedTuple):
    """Somebody who asked for alerts."""

    ref: str
    lang: str
    places: tuple[str, ...] = ()
    """Keys of places; none: all."""


class Matter(NamedTuple):
    """What an alert is about for one person: the info whose codes count, the one in their language if there
    is one, and what the area is called."""

    info: Info
    own: Info | None
    area: str
    sender: str


class Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a person acts on; another wording of the same is not told twice."""

    event: str
    severity: Severity
    urgency: Urgency
    certainty: Certainty
    responses: tuple[str, ...]
    instruction: str
    """Digest of its words."""
    expires_at: float | None

    def differ(self, before: "Facts") -> bool:
        """Whether something changed that matters."""
        ends = (self.expires_at, before.expires_at)
        moved = (
            abs(ends[0] - ends[1]) > LATER_S
            if ends[0] is not None and ends[1] is not None
            else ends[0] != ends[1]
        )
        same = msgspec.structs.replace(self, expires_at=None) == msgspec.structs.replace(
            before, expires_at=None
        )
        return moved or not same


def refusal(bulletin: Bulletin, config: BulletinConfig) -> str:
    """Why nothing of an alert may ever go out, nor change what went out before; empty: it may."""
    if bulletin.scope != "Public":
        return f"scope {bulletin.scope}: not for the public"
    if bulletin.status == "Exercise" and not config.exercises:
        return "an exercise, and [bulletin] exercises is off"
    if bulletin.status not in {"Actual", "Exercise"}:
        return f"status {bulletin.status}"
    if bulletin.msg_type in {"Ack", "Error"}:
        return f"msgType {bulletin.msg_type}: between machines"
    return ""


def idle(bulletin: Bulletin, config: BulletinConfig, now: float) -> str:
    """Why an alert has nothing to tell anybody here; empty: it has. An update may still end another one."""
    if bulletin.expires_at(config.expires_h * 3600) <= now:
        return "expired"
    if not any(is_grave(info, config.least_severity) for info in bulletin.infos):
        return f"less severe than {config.least_severity}"
    if not any(places_in(info, config.places) for info in bulletin.infos):
        return (
            "no place of this node is in its areas" if config.places else "this node has no [bulletin.places]"
        )
    return ""


def is_grave(info: Info, least: Severity) -> bool:
    """Whether an info is severe enough; unknown severity counts as moderate."""
    severity: Severity = "Moderate" if info.severity == "Unknown" else info.severity
    return SEVERITIES.index(severity) <= SEVERITIES.index(least)


def matter(bulletin: Bulletin, wanted: Wanted, config: BulletinConfig, now: float) -> Matter | None:
    """What an alert is about for somebody; None: it does not concern them (any more)."""
    chosen = wanted.places or tuple(config.places)
    places = {key: place for key, place in config.places.items() if key in chosen}
    default_s = config.expires_h * 3600
    found: list[tuple[Info, str]] = []
    for info in bulletin.infos:
        ends = bulletin.sent_at + default_s if info.expires_at is None else info.expires_at
        over = bulletin.msg_type == "Update" and "AllClear" in info.responses
        if ends <= now or not (over or is_grave(info, config.least_severity)):
            continue
        for key, area in places_in(info, places).items():
            found.append((info, _called(area, places[key], ours=info.lang == wanted.lang)))
            break
    if not found:
        return None
    own = [pair for pair in found if pair[0].lang == wanted.lang]
    worst, name = min(found, key=lambda pair: (rank(pair[0]), pair[0].lang != "en"))
    # Their own language counts if it tells of the worst: several infos may be several dangers.
    mine = next(
        (pair for pair in sorted(own, key=lambda p: rank(p[0])) if rank(pair[0]) == rank(worst)), None
    )
    if mine:
        return Matter(mine[0], mine[0], mine[1], mine[0].sender_name or bulletin.sender)
    return Matter(worst, None, name, worst.sender_name or bulletin.sender)


def _called(area: Area, place: PlaceConfig, *, ours: bool) -> str:
    """What a text calls the area: its sender's words if they are short, and in letters that the person's
    phone and eyes know; else the place."""
    text = area.description
    if not text or len(text) > LONGEST_AREA:
        return place.name
    foreign = not ours and any(ord(c) > LATIN for c in text)
    return place.name if foreign else text


def said_of(bulletin: Bulletin, lang: str) -> Info | None:
    """What a Cancel itself says in a language, without areas; None: nothing."""
    return next((info for info in bulletin.infos if info.lang == lang and info.instruction), None)


def facts(info: Info, event: str) -> Facts:
    """Facts of an info; ``event`` is its key, or what it calls itself."""
    words = plain_words(info.instruction)
    return Facts(
        event=event or plain_words(info.event),
        severity=info.severity,
        urgency=info.urgency,
        certainty=info.certainty,
        responses=tuple(sorted(set(info.responses))),
        instruction=hashlib.blake2b(words.encode(), digest_size=6).hexdigest() if words else "",
        expires_at=info.expires_at,
    )


def rank(info: Info) -> tuple[int, int, int]:
    """Order of infos and alerts, the most pressing first."""
    return (
        SEVERITIES.index(info.severity),
        URGENCIES.index(info.urgency),
        CERTAINTIES.index(info.certainty),
    )


def order(bulletin: Bulletin) -> tuple[tuple[int, int, int], float]:
    """Order in which alerts are told: the worst first, then the earliest."""
    return (min((rank(info) for info in bulletin.infos), default=(9, 9, 9)), bulletin.sent_at)


def spared(severity: Severity, battery_percent: float | None) -> str:
    """Why an alert waits for a fuller battery; empty: it need not. Unknown is no obstacle."""
    for limit, least in SPARE_BELOW:
        if battery_percent is not None and battery_percent < limit:
            grave = severity in {"Extreme", least}
            return "" if grave else f"battery {battery_percent:.0f} < {limit:.0f}"
    return ""


def is_brief(battery_percent: float | None) -> bool:
    """Whether texts take one SMS."""
    return battery_percent is not None and battery_percent < BRIEF_BELOW


def predecessors(key: str, references: Mapping[str, Sequence[str]]) -> list[str]:
    """Every alert that one is about, nearest first, by what each says it refers to; a ring ends."""
    found: list[str] = []
    ahead = list(references.get(key, ()))
    while ahead:
        one = ahead.pop(0)
        if one not in found and one != key:
            found.append(one)
            ahead += references.get(one, ())
    return found
