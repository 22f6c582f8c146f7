"""What a terminal may show of people's messages unless somebody asks for all of it.

Texts and numbers are personal data: who looks for a fault over somebody's shoulder needs the shape of a
message, its ids and what is wrong with it. Only fields that are known to be harmless are shown.
"""

import re
from typing import Any, Final

import msgspec

from actors.knowledge import redactor

_OPEN: Final = frozenset(
    """about_ref actor asked at at_s boot_id broadcast by_centre confidence deadline id incomplete kind lane
    lang lang_chosen missing modem more needs network node node_only ordinal origin parts peer priority
    privacy query_id received_at ref repeat score sender_ref session smsc_at sources state step topic
    unsolicited_ok until v verbatim wait
    """.split()  # noqa: SIM905  # a list of fifty words reads worse with quotes
)
_WORD: Final = re.compile(r"[A-Za-z][\w:/.-]{0,63}|[0-9a-f]{12,64}|")
"""An id, a language, a lane; never a phone number or a sentence."""


def shape(value: Any, key: str = "") -> Any:
    """A message's JSON with everything hidden but harmless fields; hidden ones say how long they are."""
    if isinstance(value, dict):
        return {_word(name): shape(found, name) for name, found in value.items()}
    if isinstance(value, list | tuple):
        return [shape(found, key) for found in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value if key in _OPEN and _WORD.fullmatch(value) else f"<{len(value)} characters>"
    return value if key in _OPEN else "<a number>"


def _word(name: str) -> str:
    return name if _WORD.fullmatch(name) else f"<{len(name)} characters>"


def payload(octets: bytes, *, full: bool) -> Any:
    """A message as a value that can be printed: its JSON, or what it is when it is none."""
    try:
        value = msgspec.json.decode(octets)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return octets.decode("utf-8", "backslashreplace") if full else f"<{len(octets)} octets, not JSON>"
    return value if full else shape(value)


class Words:
    """Sentences about messages, such as errors, with numbers, names and places taken out."""

    def __init__(self, *, full: bool) -> None:
        self._redactor = None if full else redactor()

    def __call__(self, text: str) -> str:
        """The text as it may be shown."""
        if self._redactor is None:
            return text
        [found] = self._redactor.redact([text])
        return found.text
