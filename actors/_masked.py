"""What a node took out of a question before it left, and how it is put back into the answer.

A placeholder is ``[name1]``: a kind of `evy_core.Redactor` and a number. What it stands for stays in the
node's bucket ``masked`` under the query's id; it is never sent.
"""

import re
from typing import Final

import msgspec

from actors._runtime.actor import KeyValue

PLACEHOLDER: Final = re.compile(
    r"\[\s*(?:phone|email|name|place-coordinates|id|url|handle|birth-date|text)\s*\d*\s*\]", re.IGNORECASE
)
"""Any placeholder, known or not, as a model may write it."""


class Taken(msgspec.Struct, frozen=True):
    """What stands behind the placeholders of one query; ``sender_ref`` lets `evy forget` find it."""

    sender_ref: str
    stands: dict[str, str]


async def taken(bucket: KeyValue, query_id: str) -> dict[str, str]:
    """What was taken out of a query: placeholder to words; empty when it was nothing."""
    entry = await bucket.get(query_id)
    return msgspec.json.decode(entry[0], type=Taken).stands if entry else {}


def restored(text: str, stands: dict[str, str]) -> str | None:
    """A text with its placeholders put back; None when it has one that stands for nothing here.

    A placeholder's name without its brackets (``name1``) counts as one too: a model that drops them would
    have a person read «ask name1».
    """
    known = {_plain(placeholder): words for placeholder, words in stands.items()}
    parts, done = [], 0
    for found in PLACEHOLDER.finditer(text):
        words = known.get(_plain(found[0]))
        if words is None:
            return None
        parts += [_rest(text[done : found.start()], known), words]
        done = found.end()
    parts.append(_rest(text[done:], known))
    return None if None in parts else "".join(part for part in parts if part is not None)


def _rest(piece: str, known: dict[str, str]) -> str | None:
    """A piece without a placeholder; None when it names one all the same."""
    words = {word.lower() for word in re.findall(r"[A-Za-z-]+\d+", piece)}
    return None if words & {name.strip("[]") for name in known} else piece


def _plain(placeholder: str) -> str:
    return "".join(placeholder.split()).lower()
