"""The alerts of `tests/vectors/cap/`: what each person of its node would get.

``python -m tests.cap_vectors`` prints the table; ``--write`` writes expect.toml, to be read by a person.
"""

import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from actors._bulletins import cap, judge
from actors._bulletins.judge import Wanted
from actors._bulletins.places import BulletinConfig
from actors._bulletins.words import Words
from actors.knowledge import Texts, shipped_compressor

FOLDER: Final = Path(__file__).parent / "vectors" / "cap"
SOON_S: Final = 600.0
"""The node hears of an alert so long after it was sent."""

Expected = Mapping[str, str]
"""Each person's text; or one entry "refused" or "not sent" with the reason."""


class Person(msgspec.Struct, frozen=True):
    """Somebody who wants alerts for a place."""

    place: str
    lang: str


class Node(msgspec.Struct, frozen=True):
    """node.toml."""

    bulletin: BulletinConfig
    people: dict[str, Person]


def node() -> Node:
    """The node of the folder."""
    return msgspec.convert(tomllib.loads((FOLDER / "node.toml").read_text(encoding="utf-8")), Node)


def files() -> list[Path]:
    """Every alert."""
    return sorted(FOLDER.glob("*.xml"))


def expected() -> dict[str, Expected]:
    """expect.toml."""
    found: dict[str, Expected] = tomllib.loads((FOLDER / "expect.toml").read_text(encoding="utf-8"))
    return found


def happens(path: Path, here: Node, words: Words) -> Expected:
    """What becomes of one alert that comes alone."""
    try:
        alert = cap.read(path.read_bytes())
    except cap.CapError as error:
        return {"refused": str(error)}
    now = alert.sent_at + SOON_S
    if reason := judge.refusal(alert, here.bulletin):
        return {"not sent": reason}
    if alert.msg_type == "Cancel":
        return {"not sent": "a cancel goes to who was told"}
    if reason := judge.idle(alert, here.bulletin, now):
        return {"not sent": reason}
    found = {}
    for name, person in here.people.items():
        matter = judge.matter(alert, Wanted(name, person.lang, (person.place,)), here.bulletin, now)
        if matter:
            exercise = alert.status == "Exercise"
            found[name] = words.tells(
                matter.info,
                matter.area,
                person.lang,
                sender=matter.sender,
                now=now,
                own=matter.own,
                exercise=exercise,
            )
    return found


def main() -> None:
    """Prints what happens with every alert, or writes it down."""
    here = node()
    words = Words(Texts.load(), shipped_compressor, zone=here.bulletin.zone)
    lines = ["# What becomes of each alert: `python -m tests.cap_vectors --write`, then read by a person."]
    for path in files():
        lines.append(f"\n[{msgspec.json.encode(path.stem).decode()}]")
        for key, text in happens(path, here, words).items():
            lines.append(f"{msgspec.json.encode(key).decode()} = {msgspec.json.encode(text).decode()}")
    table = "\n".join(lines) + "\n"
    if "--write" in sys.argv:
        (FOLDER / "expect.toml").write_text(table, encoding="utf-8")
    else:
        sys.stdout.write(table)


if __name__ == "__main__":
    main()
