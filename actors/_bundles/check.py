"""Whether a node can live on a version: texts pass lint, triage hears what it must, contacts load.

Run as a process of its own (`python -m actors._bundles.check FOLDER …`), so that what a bundle does to a
reader happens to nobody else, and the memory is given back.
"""

import asyncio
import datetime as dt
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
from evy_core import Triager

from actors._bundles.manifest import BundleWaitError
from actors._people.contacts import load_contacts
from actors._roster.network import ROSTER, read_file
from actors.knowledge import SHIPPED, Texts, triage_files
from actors.knowledge.lint import NUMBER, lint, read_rules
from subjects.errors import ConfigError

WITHIN_S: Final = 900.0
"""Reading and linting every text takes a desktop four seconds, a Raspberry Pi under load minutes."""
SHOWN: Final = 3
"""Findings named in a reason."""


class _SelfTest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    emergency: dict[str, tuple[str, ...]]
    calm: tuple[str, ...]


def problems(folders: Sequence[Path], today: dt.date) -> list[str]:
    """What is wrong with texts that lie over the shipped ones in this order; empty: a node can use them."""
    return [*_of_texts(folders, today), *of_triage(folders), *_of_contacts(folders), *of_mesh(folders)]


def _of_texts(folders: Sequence[Path], today: dt.date) -> Iterator[str]:
    try:
        texts = Texts.load([SHIPPED, *folders], NUMBER)
    except ConfigError as error:
        yield f"texts: {error}"
        return
    errors = [one for one in lint(texts, read_rules(), today) if one.severity == "error"]
    for one in errors[:SHOWN]:
        yield f"evy knowledge lint: {one.where}: {one.rule}: {one.says}"
    if len(errors) > SHOWN:
        yield f"evy knowledge lint: {len(errors) - SHOWN} more errors"


def of_triage(folders: Sequence[Path]) -> Iterator[str]:
    """What is wrong with triage files over the shipped ones."""
    if not any((folder / "triage").is_dir() for folder in folders):
        return
    try:
        triager = Triager(triage_files(SHIPPED, *folders))
    except (ConfigError, ValueError) as error:
        yield f"triage: {error}"
        return
    wanted = msgspec.convert(
        tomllib.loads((SHIPPED / "selftest.toml").read_text(encoding="utf-8")), _SelfTest
    )
    for topic, texts in wanted.emergency.items():
        for text, found in zip(texts, triager.classify(texts), strict=True):
            if found.priority != "emergency" or found.template != topic:
                yield f"triage: «{text}» is no emergency of the template {topic} any more"
    for text, found in zip(wanted.calm, triager.classify(wanted.calm), strict=True):
        if found.priority == "emergency":
            yield f"triage: «{text}» is an emergency now"


def _of_contacts(folders: Iterable[Path]) -> Iterator[str]:
    for folder in folders:
        try:
            load_contacts(folder / "contacts.toml")
        except ConfigError as error:
            yield f"contacts: {error}"


def of_mesh(folders: Iterable[Path]) -> Iterator[str]:
    """What is wrong with the roster of a mesh, as far as one can tell who is not in it."""
    for path in (folder / ROSTER for folder in folders):
        if not path.exists():
            continue
        try:
            file = read_file(path)
            file.read()
        except ConfigError as error:
            yield f"mesh: {path.name}: {error}"
        else:
            if file.private_key:
                yield f"mesh: {path.name} is the file of {file.node} with its private key: take the .roster"


async def tried(folders: Sequence[Path], today: dt.date) -> list[str]:
    """:func:`problems`, found by a process of its own; that it died is one.

    Raises :class:`BundleWaitError`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "actors._bundles.check",
        today.isoformat(),
        *map(str, folders),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, said = await asyncio.wait_for(process.communicate(), WITHIN_S)
    except (TimeoutError, asyncio.CancelledError) as error:
        process.kill()
        await process.wait()
        if isinstance(error, TimeoutError):
            raise BundleWaitError(f"trying it took more than {WITHIN_S:.0f} s") from error
        raise
    if process.returncode:
        last = said.decode(errors="replace").strip().splitlines()[-1:] or [""]
        return [f"reading it ended a process ({process.returncode}): {last[0][:300]}"]
    return msgspec.json.decode(out, type=list[str])


if __name__ == "__main__":
    found_here = problems([Path(name) for name in sys.argv[2:]], dt.date.fromisoformat(sys.argv[1]))
    sys.stdout.write(msgspec.json.encode(found_here).decode())
