"""Finds a model's file and proves that it is the right one before llama.cpp sees it.

llama.cpp may end the whole process on a damaged file, so size, magic and SHA-256 are checked here.
"""

import hashlib
import importlib.util
import tomllib
from pathlib import Path
from typing import Annotated, Final

import msgspec

from actors.infer_small.model import Abilities
from subjects.errors import ConfigError

SHIPPED: Final = Path(__file__).with_name("models.toml")
"""The models EVY knows."""

_MAGIC: Final = b"GGUF"
_MEGABYTE: Final = 1_000_000
_BESIDE_MB: Final = 100
"""Megabytes beside the weights where ``models.toml`` names none: llama.cpp, context, scratch memory."""
_READ_OCTETS: Final = 1024 * 1024


class ModelUnavailableError(ConfigError):
    """A model cannot be used; the text says which, why, and how to mend it. The ladder goes on without."""


class ModelFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of ``models.toml``.

    ``package`` is an installed Python package whose folder holds ``file``; without it ``file`` is a path,
    taken from the folder of the ``models.toml``. ``threads`` 0 means all cores but one.
    """

    name: Annotated[str, msgspec.Meta(min_length=1)]
    file: Annotated[str, msgspec.Meta(min_length=1)]
    octets: Annotated[int, msgspec.Meta(gt=4)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    licence: str
    source: str
    fix: str
    langs: tuple[str, ...]
    package: str = ""
    context_tokens: Annotated[int, msgspec.Meta(ge=256)] = 1024
    max_answer_tokens: Annotated[int, msgspec.Meta(ge=8, le=512)] = 192
    memory_mb: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Megabytes that it takes when it answers, as measured; 0: its weights and a tenth, and 100 more."""
    threads: Annotated[int, msgspec.Meta(ge=0)] = 0
    free: bool = False
    """Whether it may word passages itself; otherwise it only chooses among their sentences."""
    directory: str = ""
    """Folder of the ``models.toml`` it was read from."""

    @property
    def needs_mb(self) -> float:
        """Megabytes that must be free for it."""
        return self.memory_mb or 1.1 * self.octets / _MEGABYTE + _BESIDE_MB

    @property
    def abilities(self) -> Abilities:
        """What it may be asked for."""
        return Abilities(self.name, self.langs, self.max_answer_tokens, self.free)

    def path(self) -> Path:
        """Where the file should lie, there or not. Raises when ``package`` is not installed."""
        if not self.package:
            return Path(self.directory) / self.file
        spec = importlib.util.find_spec(self.package)
        folders = spec.submodule_search_locations if spec else None
        if not folders:
            raise ModelUnavailableError(
                f"model {self.name}: the package {self.package} is missing; {self.fix}"
            )
        return Path(next(iter(folders))) / self.file

    def glance(self) -> Path:
        """Path of a file of the right size and magic; costs no more than opening it.

        Raises :class:`ModelUnavailableError`.
        """
        path = self.path()
        try:
            octets = path.stat().st_size
            with path.open("rb") as file:
                magic = file.read(len(_MAGIC))
        except OSError as error:
            raise self._unavailable(path, error.strerror or str(error)) from error
        if octets != self.octets:
            raise self._unavailable(path, f"{octets} octets, not {self.octets}")
        if magic != _MAGIC:
            raise self._unavailable(path, f"begins with {magic!r}, not {_MAGIC!r}")
        return path

    def verify(self) -> Path:
        """Path of a file proven by its SHA-256; reads all of it once per process and change of the file.

        Raises :class:`ModelUnavailableError`.
        """
        path = self.glance()
        try:
            facts = path.stat()
            key = (str(path), facts.st_mtime_ns, facts.st_size)
            digest = _DIGESTS.get(key) or _sha256(path)
        except OSError as error:
            raise self._unavailable(path, error.strerror or str(error)) from error
        if digest != self.sha256:
            raise self._unavailable(path, f"its sha256 is {digest}, not {self.sha256}")
        _DIGESTS.clear()  # one slot: a node runs one model at a time
        _DIGESTS[key] = digest
        return path

    def _unavailable(self, path: Path, reason: str) -> ModelUnavailableError:
        return ModelUnavailableError(f"model {self.name}: {path}: {reason}; {self.fix}")


_DIGESTS: Final[dict[tuple[str, int, int], str]] = {}


class _Models(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: Annotated[tuple[ModelFile, ...], msgspec.Meta(min_length=1)]


def find(name: str = "", models: Path = SHIPPED) -> ModelFile:
    """Entry ``name`` of a ``models.toml``, or its first one. Raises :class:`ConfigError`."""
    return listed(models, name)[0]


def listed(models: Path = SHIPPED, wanted: str = "") -> list[ModelFile]:
    """Every entry of a ``models.toml`` in its order, but ``wanted`` first. Raises :class:`ConfigError`."""
    try:
        with models.open("rb") as file:
            read = msgspec.convert(tomllib.load(file), _Models).model
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{models}: {error}") from error
    names = [entry.name for entry in read]
    if len({*names}) < len(names):
        raise ConfigError(f"{models}: two models of one name: {', '.join(names)}")
    if wanted and wanted not in names:
        raise ConfigError(f"{models}: no model {wanted!r}; there are {', '.join(names)}")
    entries = [msgspec.structs.replace(entry, directory=str(models.parent)) for entry in read]
    return sorted(entries, key=lambda entry: bool(wanted) and entry.name != wanted)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_OCTETS):
            digest.update(block)
    return digest.hexdigest()
