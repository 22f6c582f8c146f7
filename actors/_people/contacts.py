"""The responders of a node: who they are, and in which order they are asked."""

import hashlib
import tomllib
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from actors.knowledge import bundled
from subjects.errors import ConfigError
from subjects.names import Lane

MIN_NATIONAL_DIGITS: Final = 8
"""Digits that a number without its country must have to be taken for a responder's."""

Hours = Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$")]
"""Local time, "08:00-18:00"; "20:00-06:00" is a night."""


Need = Literal[
    "medical",
    "rescue",
    "fire",
    "violence",
    "water",
    "food",
    "shelter",
    "missing_person",
    "evacuation",
    "utilities",
    "hazard_info",
    "aid_info",
    "mental_health",
    "childbirth",
    "hygiene",
]
"""What triage hears that people need; a misspelt one would silently never be asked for."""

URGENT: Final[tuple[Need, ...]] = ("medical", "rescue", "fire", "violence", "childbirth", "mental_health")
"""Needs of emergencies: a node should have somebody for each."""


class Contact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A responder. Empty ``needs`` means: every need; empty ``areas``: everywhere; empty ``hours``: always.

    ``needs`` decide who is asked at all. ``areas`` and ``hours`` only decide who is asked first: a place may
    be misunderstood and a clock wrong, and somebody may die of either.
    """

    name: str
    number: Annotated[str, msgspec.Meta(pattern=r"^\+?[0-9]{3,15}$")]
    needs: tuple[Need, ...] = ()
    areas: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("en",)
    order: int = 0
    """Lower is asked earlier; equal ones in the order of the file."""
    hours: tuple[Hours, ...] = ()

    @property
    def key(self) -> str:
        """Names the responder in a bucket without the number."""
        return hashlib.blake2b(self.number.encode(), digest_size=8).hexdigest()

    def is_on_duty(self, minute: int | None) -> bool:
        """Whether ``minute`` of the local day is in the hours; always, when the time is not known."""
        if minute is None or not self.hours:
            return True
        spans = [tuple(_minute(end) for end in span.split("-")) for span in self.hours]
        return any(
            start <= minute < end if start <= end else minute >= start or minute < end for start, end in spans
        )

    def distance(self, where: str) -> int:
        """0: one of the areas is named in ``where``; 1: unknown, or responds everywhere; 2: elsewhere."""
        if not where or not self.areas:
            return 1
        place = _plain(where)
        return 0 if any(_plain(area) in place for area in self.areas) else 2

    def has_number(self, sender: str) -> bool:
        """Whether a text from ``sender`` is this responder's: some networks leave the country out, and so may
        the file."""
        if sender == self.number:
            return True
        if sender.startswith("+") and self.number.startswith("+"):
            return False
        short, long = sorted((sender.lstrip("+0"), self.number.lstrip("+0")), key=len)
        return len(short) >= MIN_NATIONAL_DIGITS and long.endswith(short)


class _Contacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    contacts: tuple[Contact, ...] = ()


class Waits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds within which somebody must say that they go, before the next are asked; by lane."""

    flash: Annotated[float, msgspec.Meta(gt=0)] = 180.0
    priority: Annotated[float, msgspec.Meta(gt=0)] = 900.0
    routine: Annotated[float, msgspec.Meta(gt=0)] = 900.0

    def of(self, lane: Lane) -> float:
        """Seconds of one lane."""
        seconds: float = getattr(self, lane)
        return seconds


class AlertConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[alert]`` table."""

    contacts: str = "contacts.toml"
    """The responders' file; a relative path is looked for in the data directory."""
    at_once: Annotated[int, msgspec.Meta(ge=1, le=5)] = 2
    """Responders asked together: one may be asleep, and all of them would hold up the modem."""
    wait_s: Waits = Waits()
    """How long they have to answer; `wait_s = { flash = 180, priority = 900 }`."""
    per_hour: Annotated[int, msgspec.Meta(ge=10, le=200)] = 20
    """Texts one responder gets in an hour; the last five are kept for digests of many cases."""


def load_contacts(path: Path) -> tuple[Contact, ...]:
    """Responders of the file; none when there is no file. Raises :class:`ConfigError` for a wrong one."""
    path = path.expanduser()
    example = "see actors/knowledge/contacts.example.toml"
    try:
        contacts = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), type=_Contacts).contacts
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}; {example}") from error
    numbers = [contact.number for contact in contacts]
    if twice := {contact.name for contact in contacts if numbers.count(contact.number) > 1}:
        raise ConfigError(f"{path}: {', '.join(sorted(twice))} have the same number; {example}")
    return contacts


def contacts_of(data: Path, file: str) -> tuple[Contact, ...]:
    """Responders of a node: those of its own ``file``, and those of its centre whose number is not in it.

    Raises :class:`ConfigError` for its own file; what was sent was tried before it was applied.
    """
    own = load_contacts(data / file)
    known = {contact.number: contact for contact in own}
    for folder in bundled(data):
        for contact in load_contacts(folder / "contacts.toml"):
            known.setdefault(contact.number, contact)
    return tuple(known.values())


def in_order(
    contacts: Iterable[Contact], needs: Collection[str], *, where: str = "", minute: int | None = None
) -> Sequence[Contact]:
    """Who is asked about ``needs``, first to last: on duty, near, then by ``order``. Without a need that was
    understood everybody is: the danger is real all the same."""
    wanted = [
        contact for contact in contacts if not (contact.needs and needs) or set(contact.needs) & set(needs)
    ]
    return sorted(wanted, key=lambda c: (not c.is_on_duty(minute), c.distance(where), c.order))


def nobody_for(contacts: Iterable[Contact]) -> list[Need]:
    """Needs of emergencies that no responder is there for."""
    known = list(contacts)
    return [need for need in URGENT if not in_order(known, [need])]


def _minute(clock: str) -> int:
    hour, _, minute = clock.partition(":")
    return int(hour) * 60 + int(minute)


def _plain(text: str) -> str:
    bare = unicodedata.normalize("NFKD", text)
    return " ".join(
        "".join(c if c.isalnum() else " " for c in bare if not unicodedata.combining(c)).casefold().split()
    )
