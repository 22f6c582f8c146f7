"""What a node tells its centre of what happened: counts and closed words, never a text or a number.

The types themselves are the limit: a string is an identifier that EVY or its operator made, such as a topic
or an article, with no five digits in a row. What does not fit is refused at the centre, and no node sends it.
"""

from typing import Annotated, Final

import msgspec

from subjects.messages import Message
from subjects.names import Lane

MOST_EVENTS: Final = 500
"""Events of one report."""
MOST_FIELDS: Final = 12
MOST_WORDS: Final = 8

WORD_PATTERN: Final = r"^(?!.*[0-9]{5})[a-z][a-z0-9_.-]{0,63}\Z"
"""An identifier; five digits in a row may be part of a phone number."""

Word = Annotated[str, msgspec.Meta(pattern=WORD_PATTERN)]
TextRef = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{16})?\Z")]
"""Which events are of one text, made with the node's secret; empty: of none. It tells nobody who wrote."""
Value = bool | int | float | Word | Annotated[tuple[Word, ...], msgspec.Meta(max_length=MOST_WORDS)]


class Reported(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One event as it leaves its node."""

    sequence: Annotated[int, msgspec.Meta(ge=1, le=2**62)]
    """Its number in the event stream of the node."""
    at: Annotated[int, msgspec.Meta(ge=0, le=2**40)]
    """Unix time by the node's clock, whole seconds."""
    kind: Word
    lane: Lane
    text: TextRef = ""
    fields: Annotated[dict[Word, Value], msgspec.Meta(max_length=MOST_FIELDS)] = {}


class EventReport(Message, frozen=True, kw_only=True):
    """Events of a node in the order of its event stream, each once: ``node``, ``stream`` and the sequence are
    the key by which a centre knows one that it has."""

    node: str
    stream: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{12}\Z")]
    """Which event stream of the node: sequences begin again when it is made again."""
    events: Annotated[tuple[Reported, ...], msgspec.Meta(min_length=1, max_length=MOST_EVENTS)]
