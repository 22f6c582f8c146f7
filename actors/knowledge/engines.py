"""What of the Rust core is made from the data files: triage, the ladder's limits, packing, redaction."""

import ctypes
import logging
from functools import lru_cache
from pathlib import Path
from typing import Final

from evy_core import CoreError, Packer, Redactor, Triager

from actors.knowledge.loader import SHIPPED, Texts, bundled
from subjects.errors import ConfigError

_LOG: Final = logging.getLogger(__name__)


def route_rules(directory: Path = SHIPPED) -> str:
    """Text of the ladder's limits, as `evy_core.Router` takes it."""
    return (directory / "route.toml").read_text(encoding="utf-8")


def triage_files(directory: Path = SHIPPED, *over: Path) -> list[tuple[str, str]]:
    """Name and text of each file of the triage, as `evy_core.Triager` takes them; a file ``over``
    it stands for the one of its name."""
    found: dict[str, Path] = {}
    for folder in (directory, *over):
        found |= {path.name: path for path in sorted((folder / "triage").glob("*.t*"))}
    if not found:
        raise ConfigError(f"{directory}/triage: no files; without them no emergency is recognised")
    listed = sorted(found, key=lambda name: (name.endswith(".tsv"), name))
    try:
        return [(name, found[name].read_text(encoding="utf-8")) for name in listed]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"triage: {error}") from error


def _give_back() -> None:
    """Gives the system what compiling left: glibc would keep it, a third as much again."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def triager(data: Path | None = None) -> Triager:
    """The triage of a node with what its centre sent in its data directory; None: the shipped one.

    Compiled once for all of a process: it is immutable, and takes megabytes. What was sent was tried when it
    was applied; where it does not compile all the same the shipped one serves. Raises :class:`ConfigError`
    that names the file.
    """
    sent = tuple(path for path in (bundled(data) if data else ()) if (path / "triage").is_dir())
    try:
        return _triager(sent)
    except ConfigError as error:
        if not sent:
            raise
        _LOG.error("the centre's triage is left out: %s", error)
        return _triager(())


@lru_cache(maxsize=1)
def _triager(sent: tuple[Path, ...]) -> Triager:
    try:
        made = Triager(triage_files(SHIPPED, *sent))
    except CoreError as error:
        raise ConfigError(f"triage in {', '.join(map(str, sent)) or SHIPPED}: {error}") from error
    _give_back()
    return made


def packer(texts: Texts, directory: Path = SHIPPED) -> Packer:
    """Packing with the model of a directory; ``texts`` may go by name to a node that says the same ones.

    Raises :class:`ConfigError` that names the file.
    """
    path = directory / "pack.model"
    try:
        made = Packer(path.read_bytes(), texts.whole())
    except (OSError, CoreError) as error:
        raise ConfigError(f"{path}: {error}") from error
    _give_back()
    return made


def redactor(directory: Path = SHIPPED) -> Redactor:
    """Redaction with the rules and names of a directory.

    The words of triage and of the articles are what an answer needs, so all of them count as ordinary words
    and are taken for a name only after a clear cue. Raises :class:`ConfigError` that names the file.
    """
    files = sorted((directory / "pii").glob("*.toml"))
    words = [*(directory / "triage").glob("*.toml"), *(directory / "articles").rglob("*.toml")]
    words = [*sorted(words), directory / "compress" / "substances.txt"]
    try:
        rules = [(path.name, path.read_text(encoding="utf-8")) for path in files]
        made = Redactor(rules, [path.read_text(encoding="utf-8") for path in words])
    except (OSError, UnicodeDecodeError, CoreError) as error:
        raise ConfigError(f"redaction rules in {directory}/pii: {error}") from error
    _give_back()
    return made
