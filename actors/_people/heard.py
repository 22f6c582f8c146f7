"""What triage tells of a text before it is a question: its language, and the emergency in it."""

from typing import Protocol

from evy_core import Triager

from actors.knowledge import GENERAL


class LanguageOf(Protocol):
    """Language of a text by its words; None when there are too few to tell."""

    def __call__(self, text: str) -> str | None:
        """ISO 639-1 code or None."""


class TopicOf(Protocol):
    """Topic of the template that answers a text; ``flash``: it was heard as an emergency already."""

    def __call__(self, text: str, *, flash: bool) -> str:
        """A topic, or empty: no emergency."""


def language_detector(triager: Triager, least: float = 0.5) -> LanguageOf:
    """Language of a text where at least ``least`` confidence speaks for one."""

    def language_of(text: str) -> str | None:
        [(lang, confidence)] = triager.detect_lang([text])
        return lang if confidence >= least else None

    return language_of


def topic_finder(triager: Triager) -> TopicOf:
    """The topic as `route` finds it."""

    def topic_of(text: str, *, flash: bool) -> str:
        [found] = triager.classify([text])
        return (found.template or GENERAL) if flash or found.priority == "emergency" else ""

    return topic_of
