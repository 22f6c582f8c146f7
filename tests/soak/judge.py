"""Who got what, by what the phones saw: nothing lost, nothing doubled, and every exemption named.

What is promised (docs/architecture.md, D5, D6, A4, L6): one reply to each text, at most one follow-up to
what the centre was asked, in place of a reply the request to send a text again that came incomplete, and
each aside of `alert` once at most. Two
exemptions stand in D6, both only when the modem itself lost its power while it sent: a flash text may be
sent twice, and another may be HELD for a person. They are counted apart, with the ledger's own words.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from actors.knowledge import Texts
from actors.knowledge.loader import Notice
from actors.sms.ledger import Entry as LedgerEntry
from simulators.network import Entry
from tests.soak.plan import Text

BEGINNING: int = 16
"""Characters by which a notice is known."""


class Got(msgspec.Struct, frozen=True):
    """What one phone got."""

    replies: tuple[str, ...]
    followups: tuple[str, ...]
    notices: tuple[str, ...]
    asides: tuple[str, ...]
    """What `alert` adds for somebody in danger: where are you, nobody has answered yet."""
    twice: tuple[str, ...]
    """Parts that the network took more than once."""


class Verdict(msgspec.Struct, frozen=True):
    """What is wrong, by phone number, and what is exempt."""

    lost: dict[str, str]
    doubled: dict[str, str]
    held: dict[str, str]
    """Not answered because a part is HELD for a person: the modem lost its power while it sent it."""
    flash_again: dict[str, str]
    """Flash that was sent again because nobody knew its fate."""
    owed: int = 0
    replies: int = 0
    followups: int = 0
    notices: int = 0
    asides: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not self.lost and not self.doubled


class Judge:
    """Reads the truth against the promises."""

    def __init__(self) -> None:
        self._followup = _beginnings("followup")
        self._incomplete = _beginnings("incomplete")
        asides: tuple[Notice, ...] = ("ask_place", "told_unheard", "other_question")
        said = tuple(beginning for notice in asides for beginning in _beginnings(notice))
        self._aside = said + tuple(Texts.load().menus())

    def got(self, entries: Iterable[Entry]) -> dict[str, Got]:
        """What each phone got that got anything."""
        shown: defaultdict[str, list[str]] = defaultdict(list)
        parts: defaultdict[str, Counter[tuple[int, str]]] = defaultdict(Counter)
        for entry in entries:
            if entry.what == "read":
                shown[entry.number].append(entry.text)
            elif entry.what == "submitted":
                parts[entry.number][entry.part, entry.text] += 1
        return {
            number: self._sorted(
                shown[number], [f"part {n}: {text[:30]}" for (n, text), count in counts.items() if count > 1]
            )
            for number, counts in parts.items()
        }

    def _sorted(self, shown: Sequence[str], twice: Sequence[str]) -> Got:
        followups = tuple(text for text in shown if text.startswith(self._followup))
        notices = tuple(text for text in shown if text.startswith(self._incomplete))
        asides = tuple(text for text in shown if text.startswith(self._aside))
        replies = tuple(text for text in shown if text not in followups + notices + asides)
        return Got(replies, followups, notices, asides, tuple(twice))

    def missing(self, texts: Iterable[Text], entries: Sequence[Entry]) -> list[Text]:
        """Texts that have not got what they are owed."""
        got = self.got(entries)
        return [text for text in texts if _owed(text) > _count(got.get(text.number, NOTHING))]

    def judge(
        self, texts: Iterable[Text], entries: Sequence[Entry], ledger: Mapping[str, Sequence[LedgerEntry]]
    ) -> Verdict:
        """The verdict; ``ledger`` has the entries of each number."""
        verdict = Verdict({}, {}, {}, {})
        found, counts = self.got(entries), Counter[str]()
        for text in texts:
            got, written = found.get(text.number, NOTHING), ledger.get(text.number, ())
            counts["owed"] += _owed(text)
            counts.update(replies=len(got.replies), followups=len(got.followups), notices=len(got.notices))
            states = [f"{entry.lane} {entry.state} tries {entry.tries} {entry.note}" for entry in written]
            what = f"{text.kind.name}: {text.text[:40]!r} got {msgspec.to_builtins(got)}, ledger {states}"
            if _count(got) < _owed(text):
                is_held = any(entry.state == "HELD" for entry in written)
                (verdict.held if is_held else verdict.lost)[text.number] = what
            elif _count(got) > _owed(text) or not _right(text, got):
                is_again = any(entry.lane == "flash" and entry.tries > 1 for entry in written)
                (verdict.flash_again if is_again else verdict.doubled)[text.number] = what
        return msgspec.structs.replace(verdict, **counts)


NOTHING = Got((), (), (), (), ())


def _beginnings(notice: Notice) -> tuple[str, ...]:
    texts = Texts.load()
    return tuple(
        texts.say(notice, lang, text="", question="", emergency_number="112")[:BEGINNING]
        for lang in ("en", "es")
    )


def _owed(text: Text) -> int:
    return 0 if text.kind.nobody else 1


def _count(got: Got) -> int:
    return len(got.replies) + len(got.notices)


def _right(text: Text, got: Got) -> bool:
    """Whether nothing else came, and nothing twice; a text is asked for again only when it was long, and
    always when it lost a part."""
    if got.twice or len(got.followups) > 1 or len(set(got.asides)) < len(got.asides):
        return False
    if text.kind.loses_part:
        return bool(got.notices)
    return not got.notices or len(text.text) > 160  # more than one part
