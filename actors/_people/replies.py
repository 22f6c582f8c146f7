"""What a short text means: a command; while a case is open a responder's answer, a safe person, a place."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from actors._people.texts import plain_words
from actors.knowledge import SHIPPED
from subjects.errors import ConfigError
from subjects.messages import ResponderAnswer

Command = Literal["stop", "start", "help", "info", "more", "lang", "alerts", "alerts_off"]

_WITH_CASE: Final = re.compile(r"(.+?)(?: ([0-9]{1,3}))?")


class Replies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The words of ``replies.toml`` as `plain_words` writes them."""

    coming: tuple[str, ...]
    cannot: tuple[str, ...]
    safe: tuple[str, ...]
    place: tuple[str, ...]
    small_talk: tuple[str, ...]
    questions: tuple[str, ...]

    def of_responder(self, words: str) -> tuple[ResponderAnswer, int] | None:
        """Answer and case number (0: none given) that the whole text is; None when it is something else."""
        found = _WITH_CASE.fullmatch(words)
        if found is None:
            return None
        said, number = found[1], int(found[2] or 0)
        if said in self.coming:
            return "coming", number
        return ("cannot", number) if said in self.cannot else None

    def is_safe(self, words: str) -> bool:
        """Whether the whole text says that the danger is over."""
        return words in self.safe

    def is_talk(self, words: str) -> bool:
        """Whether the text is a courtesy, or begins like a question: people in danger type no «?»."""
        return words in self.small_talk or words.partition(" ")[0] in self.questions

    def is_place(self, words: str) -> bool:
        """Whether the text begins with the word for a place and names one."""
        first, _, rest = words.partition(" ")
        return first in self.place and bool(rest)


def load_replies(directory: Path = SHIPPED) -> Replies:
    """The shipped words. Raises :class:`ConfigError` that names the file."""
    path = directory / "replies.toml"
    try:
        found = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), dict[str, tuple[str, ...]])
        plain = {key: tuple(plain_words(word) for word in words) for key, words in found.items()}
        return msgspec.convert(plain, Replies)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error


def load_commands(directory: Path = SHIPPED) -> Mapping[str, Command]:
    """Command of each command word, from ``commands.toml``."""
    path = directory / "commands.toml"
    try:
        table = msgspec.convert(
            tomllib.loads(path.read_text(encoding="utf-8")), type=dict[Command, tuple[str, ...]]
        )
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return {plain_words(word): command for command, words in table.items() for word in words}
