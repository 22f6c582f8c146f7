"""What happened, from the logs of the processes: acknowledged against sent, each once, in order."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from subjects.names import LANES, Lane


class Saw(msgspec.Struct, frozen=True, array_like=True):
    """A line of a log: the name of a query or a text, the monotonic clock of the machine, a phone number."""

    what: str
    at_s: float
    number: str = ""


class Log:
    """A file of JSON lines to which one process appends; a line is on the disk when :meth:`write` returns."""

    def __init__(self, directory: Path, name: str) -> None:
        self.path = directory / "log" / f"{name}.jsonl"
        self._decoder = msgspec.json.Decoder(Saw)
        self._descriptor = -1

    def write(self, saw: Saw) -> None:
        if self._descriptor < 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(self._descriptor, msgspec.json.encode(saw) + b"\n")
        os.fdatasync(self._descriptor)

    def read(self) -> Iterator[Saw]:
        if self.path.exists():
            for line in self.path.read_bytes().splitlines():
                yield self._decoder.decode(line)


def number_of(sender: int) -> str:
    """Phone number of a sender."""
    return f"+1555{3_000_000 + sender}"


def lane_of(sender: int) -> Lane:
    """Each sender stays in one lane: there is no order between lanes."""
    return LANES[sender % len(LANES)]


def query_name(batch: str, node: str, sender: int, count: int) -> str:
    """Name of the query number ``count`` of a sender."""
    return f"{batch}-{node}-{sender:02}-{count:05}"


_NAME = re.compile(r"(\w+)-(\w+)-(\d{2})-(\d{5})")


class Name(msgspec.Struct, frozen=True):
    """The parts of :func:`query_name`."""

    batch: str
    node: str
    sender: int
    count: int

    @classmethod
    def find(cls, text: str) -> "Name | None":
        found = _NAME.search(text)
        return cls(found[1], found[2], int(found[3]), int(found[4])) if found else None

    def __str__(self) -> str:
        return query_name(self.batch, self.node, self.sender, self.count)


class Seen(msgspec.Struct, frozen=True):
    """What one hop saw of one batch, in order of time."""

    names: tuple[Name, ...]
    last_s: float

    @classmethod
    def of(cls, saws: Iterable[Saw], batch: str) -> "Seen":
        found = [(saw.at_s, name) for saw in saws if (name := Name.find(saw.what)) and name.batch == batch]
        found.sort(key=lambda pair: pair[0])
        return cls(tuple(name for _, name in found), found[-1][0] if found else 0.0)

    @property
    def unique(self) -> set[Name]:
        return set(self.names)

    @property
    def again(self) -> int:
        """Messages that came more than once, each time after the first counted."""
        return len(self.names) - len(self.unique)

    @property
    def doubled(self) -> dict[str, int]:
        return {str(name): count for name, count in Counter(self.names).items() if count > 1}

    @property
    def overtakes(self) -> int:
        """How often a sender's later message came, for the first time, before an earlier one."""
        highest: dict[tuple[str, int], int] = {}
        first: set[Name] = set()
        count = 0
        for name in self.names:
            if name in first:
                continue
            first.add(name)
            key = name.node, name.sender
            count += name.count < highest.get(key, -1)
            highest[key] = max(name.count, highest.get(key, -1))
        return count
