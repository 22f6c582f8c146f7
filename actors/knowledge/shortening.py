"""The rules by which texts are shortened and checked, read for `evy_core.Compressor`."""

from functools import cache
from pathlib import Path

from evy_core import Compressor, CoreError

from actors.knowledge.loader import SHIPPED
from subjects.errors import ConfigError


def load_compressor(directory: Path) -> Compressor:
    """Compressor from the data files of a directory: ``folding.toml`` and, in ``compress/``, ``shared.toml``,
    ``substances.txt`` and the languages.

    Raises :class:`ConfigError` that names the file or rule.
    """
    rules = directory / "compress"
    languages = sorted(path for path in rules.glob("*.toml") if path.name != "shared.toml")
    try:
        fixed = (rules / "shared.toml", rules / "substances.txt", directory / "folding.toml")
        shared, substances, folding = (path.read_text(encoding="utf-8") for path in fixed)
        texts = [path.read_text(encoding="utf-8") for path in languages]
        return Compressor(shared, texts, substances, folding)
    except (OSError, UnicodeDecodeError, CoreError) as error:
        listed = ", ".join(path.name for path in languages) or "no language files"
        raise ConfigError(f"rules of compress in {directory} ({listed}): {error}") from error


@cache
def shipped_compressor() -> Compressor:
    """Compressor with the rules that come with EVY, one for all of a process: it is immutable."""
    return load_compressor(SHIPPED)
