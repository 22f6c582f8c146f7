"""How people ask: for each article, and for what no article answers."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from actors.knowledge import Article
from subjects.errors import ConfigError

PHRASES: Final = Path(__file__).with_name("phrases.toml")
"""How people ask, for what is answered and for what is not."""


class Phrases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of phrases: ways to ask for an article by its id, and texts that no article answers by group."""

    answered: dict[str, tuple[str, ...]]
    unanswered: dict[str, tuple[str, ...]]

    def decoys(self) -> list[str]:
        """Every text that no article answers."""
        return [text for group in self.unanswered.values() for text in group]


def read_phrases(path: Path = PHRASES) -> Phrases:
    """Phrases of a file. Raises :class:`ConfigError` when it cannot be used."""
    try:
        phrases = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Phrases)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not phrases.decoys():
        raise ConfigError(f"{path}: retrieval cannot abstain without texts that nothing answers")
    return phrases


def questions(article: Article, phrases: Phrases) -> tuple[str, ...]:
    """Every way to ask for an article."""
    return (*article.questions, *phrases.answered.get(article.id, ()))


def asked_of(articles: Sequence[Article], phrases: Phrases) -> list[str]:
    """Every way to ask for each article in turn."""
    return [text for article in articles for text in questions(article, phrases)]


def answering(article: Article) -> str:
    """What an article is found by besides its questions."""
    return f"{article.title}. {article.text}"
