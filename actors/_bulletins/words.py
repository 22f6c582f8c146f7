"""What a public alert says as an SMS: its sender's own words where they are in the reader's language, else
its codes in reviewed words (``actors/knowledge/bulletins/``). Nothing is ever put into words by a model.

At most two SMS, three in letters outside GSM 7-bit. What does not fit goes sentence by sentence from the end;
what is the matter, where, until when and who says so always stays.
"""

import datetime as dt
import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from evy_core import Compressor, segment

from actors._people.texts import plain_words
from actors.knowledge import ENGLISH, SHIPPED, Review, Texts
from subjects.bulletin import Info
from subjects.errors import ConfigError

FOLDER: Final = "bulletins"
EVENTS: Final = "events.toml"

SEGMENTS: Final = (2, 3)
"""SMS of one text, in GSM 7-bit and in other letters."""
BRIEF_SEGMENTS: Final = (1, 2)
"""The same on a low battery."""
CAPS: Final = ((60, 120, 50), (40, 60, 40), (30, 40, 25), (16, 24, 16))
"""Characters of area, headline or event, and sender; the next row where the one before leaves no room."""
ADVICE_SENTENCES: Final = 2
MUST: Final = 0

_SENTENCE = re.compile(r"(?<=[.!?।؟])\s+")
_ENDS: Final = ".!?।؟"

SAYS: Final = ("head", "update", "cancelled", "ended", "exercise", "until", "from")


class Piece(NamedTuple):
    """A sentence of a text; the one of the highest rank is left out first, :data:`MUST` never."""

    text: str
    rank: int


class Phrases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One language: a file of the folder."""

    lang: str
    review: Review
    days: Annotated[tuple[str, ...], msgspec.Meta(min_length=7, max_length=7)]
    say: dict[str, str]
    severity: dict[str, str]
    urgency: dict[str, str]
    certainty: dict[str, str]
    response: dict[str, str]
    category: dict[str, str]
    event: dict[str, str]

    def same_keys(self, other: "Phrases") -> bool:
        """Whether both languages say the same things."""
        tables = ("say", "severity", "urgency", "certainty", "response", "category", "event")
        return all(getattr(self, name).keys() == getattr(other, name).keys() for name in tables)


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an event is known, and the reviewed template whose beginning may be added."""

    codes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    template: str = ""
    fits: tuple[str, ...] = ()


class Words:
    """Every text of an alert, in the languages of the folder."""

    def __init__(
        self,
        texts: Texts,
        compressor: Callable[[], Compressor],
        *,
        zone: dt.tzinfo | None = None,
        directory: Path = SHIPPED,
    ) -> None:
        """``compressor`` is called when there is something to say: it takes megabytes, and most nodes never
        get an alert. Raises :class:`ConfigError` that names the file."""
        self._texts = texts
        self._make = compressor
        self._zone = zone
        self.phrases: Final = load_phrases(directory)
        self.events: Final = load_events(directory)
        self._names: Final = {
            key: tuple(_plain_start(word) for word in event.words) for key, event in self.events.items()
        }

    @cached_property
    def _compressor(self) -> Compressor:
        return self._make()

    def lang(self, lang: str) -> str:
        """The language of the texts for a person of ``lang``."""
        return lang if lang in self.phrases else ENGLISH

    def event_of(self, info: Info) -> str:
        """Key of what an info is about; empty: none that is known."""
        codes = {code.upper() for _, code in info.codes}
        if key := next((key for key, event in self.events.items() if codes & set(event.codes)), ""):
            return key
        said = f" {plain_words(info.event)} "
        return next(
            (key for key, names in self._names.items() if any(f" {name}" in said for name in names)), ""
        )

    def tells(  # what it is about, for whom, and how
        self,
        info: Info,
        area: str,
        lang: str,
        *,
        sender: str,
        now: float,
        own: Info | None = None,
        update: bool = False,
        exercise: bool = False,
        brief: bool = False,
    ) -> str:
        """An alert for somebody in ``area``; ``own`` is the info in their language, if there is one, ``info``
        the one whose codes count. ``update``: they were told of it before."""
        lang = self.lang(lang)
        phrases = self.phrases[lang]
        marks = [
            Piece(phrases.say["exercise"] if exercise else "", MUST),
            Piece(phrases.say["update"] if update else "", MUST),
        ]
        until = Piece(self._until(info, phrases, now), MUST)

        def pieces(area_cap: int, head_cap: int, sender_cap: int) -> list[Piece]:
            where = shortened(named(area), area_cap)
            said = Piece(phrases.say["from"].format(sender=shortened(named(sender), sender_cap)), MUST)
            words = _sentences_of(own, where) if own else []
            if own:
                head = self._own(own, where, phrases, head_cap)
            else:
                head = self._coded(info, where, phrases, head_cap)
            codes = [] if own and own.instruction else [*self._codes(info, phrases)]
            advice = [] if codes == [] else self._advised(info, lang)
            return [*marks, *head, *codes, until, *words, *advice, said]

        return self._fitted(pieces, lang, brief=brief, verbatim=own is None)

    def ends(  # what it was about, for whom, and how
        self,
        info: Info,
        area: str,
        lang: str,
        *,
        sender: str,
        cancelled: bool,
        own: Info | None = None,
        exercise: bool = False,
        brief: bool = False,
    ) -> str:
        """That an alert was cancelled, or no longer concerns ``area``. ``own`` is what the sender says of
        that in the reader's language."""
        lang = self.lang(lang)
        phrases = self.phrases[lang]
        frame = phrases.say["cancelled" if cancelled else "ended"]

        def pieces(area_cap: int, head_cap: int, sender_cap: int) -> list[Piece]:
            event = shortened(named(self.event_name(info, phrases)), head_cap)
            where = shortened(named(area), area_cap)
            return [
                Piece(phrases.say["exercise"] if exercise else "", MUST),
                Piece(frame.format(event=event, area=where), MUST),
                *(_sentences_of(own, where) if own else ()),
                Piece(phrases.say["from"].format(sender=shortened(named(sender), sender_cap)), MUST),
            ]

        return self._fitted(pieces, lang, brief=brief, verbatim=own is None)

    def event_name(self, info: Info, phrases: Phrases) -> str:
        """What it is about in a language; an event that nobody knows by its category and its own words."""
        if key := self.event_of(info):
            return phrases.event[key]
        category = phrases.category[info.categories[0] if info.categories else "Other"]
        return f"{category} ({info.event})"

    def _own(self, own: Info, where: str, phrases: Phrases, cap: int) -> Iterator[Piece]:
        headline = shortened(own.headline or own.event, cap)
        yield Piece(ended(f"{_severity(own, phrases)}: {headline}"), MUST)
        if plain_words(where) not in plain_words(headline):
            yield Piece(ended(where), MUST)

    def _coded(self, info: Info, where: str, phrases: Phrases, cap: int) -> Iterator[Piece]:
        event = shortened(named(self.event_name(info, phrases)), cap)
        head = phrases.say["head"].format(severity=_severity(info, phrases), event=event, area=where)
        yield Piece(head, MUST)

    def _codes(self, info: Info, phrases: Phrases) -> Iterator[Piece]:
        """What the sender says in codes: how soon, how sure, what to do."""
        if "AllClear" in info.responses:
            yield Piece(phrases.response["AllClear"], 2)
            return
        yield Piece(phrases.urgency.get(info.urgency, ""), 3)
        yield Piece(phrases.certainty.get(info.certainty, ""), 4)
        for response in dict.fromkeys(info.responses):
            yield Piece(phrases.response.get(response, ""), 2)

    def _advised(self, info: Info, lang: str) -> Iterator[Piece]:
        """The first sentences of the reviewed template, where the sender asks for nothing else: only for what
        is grave, sure and now."""
        event = self.events.get(self.event_of(info))
        grave = info.severity in {"Extreme", "Severe"} and info.certainty in {"Observed", "Likely"}
        if not (event and event.template and grave and info.urgency == "Immediate"):
            return
        if not set(info.responses) - {"Monitor"} <= set(event.fits):
            return
        template = self._texts.template(event.template, lang)
        if template and template.lang == lang:
            sentences = _SENTENCE.split(template.text)[:ADVICE_SENTENCES]
            yield from (Piece(sentence, 5 + place) for place, sentence in enumerate(sentences))

    def _until(self, info: Info, phrases: Phrases, now: float) -> str:
        if info.expires_at is None:
            return ""
        end = dt.datetime.fromtimestamp(info.expires_at, self._zone).astimezone(self._zone)
        today = dt.datetime.fromtimestamp(now, self._zone).astimezone(self._zone).date()
        days = (end.date() - today).days
        time = f"{end:%H:%M}"
        if days:
            time = f"{phrases.days[end.weekday()]} {time}" if 0 < days < 7 else f"{end:%Y-%m-%d} {time}"
        return phrases.say["until"].format(time=time)

    def _fitted(
        self, pieces: Callable[[int, int, int], list[Piece]], lang: str, *, brief: bool, verbatim: bool
    ) -> str:
        said = ""
        for caps in CAPS:
            kept = [piece for piece in pieces(*caps) if piece.text]
            while True:
                said = " ".join(piece.text for piece in kept)
                if fitted := self._fit(said, lang, brief=brief, verbatim=verbatim):
                    return fitted
                worst = max(kept, key=lambda piece: piece.rank)
                if worst.rank == MUST:
                    break
                kept.remove(worst)
        return said  # 150 characters: it takes one SMS more on a low battery, in letters outside GSM 7-bit

    def _fit(self, text: str, lang: str, *, brief: bool, verbatim: bool) -> str:
        """The text shortened by the rules of `compress`, checked against itself; empty: it does not fit."""
        core = self._compressor
        for limit in BRIEF_SEGMENTS if brief else SEGMENTS:
            [fitted] = core.fit([text], [lang], [verbatim], [limit], [""])
            if fitted.rest and fitted.encoding == "ucs2":
                continue
            if fitted.rest:
                return ""
            if not verbatim and any(core.check([fitted.text], [[text]], [lang])[0]):
                return self._fit(text, lang, brief=brief, verbatim=True)
            return fitted.text
        return ""


def ended(text: str) -> str:
    """A sentence with its full stop."""
    return text if not text or text[-1] in _ENDS else f"{text}."


def shortened(text: str, characters: int) -> str:
    """Whole words up to so many characters."""
    text = " ".join(text.split())
    if len(text) <= characters:
        return text.rstrip(" .,;:") if len(text) > 3 else text
    head = text[: characters - 2]
    cut = head.rfind(" ")
    return f"{head[: cut if cut > characters // 2 else len(head)].rstrip(' .,;:-')}.."


def named(name: str) -> str:
    """A name in letters of GSM 7-bit, if leaving out accents is all it takes: one of them would make every
    SMS half as long."""
    if segment([name])[0].encoding == "gsm7":
        return name
    bare = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return bare if segment([bare])[0].encoding == "gsm7" else name


def _severity(info: Info, phrases: Phrases) -> str:
    return phrases.severity["Minor" if "AllClear" in info.responses else info.severity]


def _sentences_of(info: Info, where: str) -> Iterator[Piece]:
    """What to do, then what is happening; from the end it goes first."""
    said = [*_SENTENCE.split(info.instruction), *_SENTENCE.split(info.description)]
    for rank, sentence in enumerate(said):
        if sentence and plain_words(sentence) != plain_words(where):
            yield Piece(ended(sentence), 10 + rank)


def _plain_start(word: str) -> str:
    """A word as the events' words are compared; a space at its end means: the whole word."""
    return plain_words(word) + (" " if word.endswith(" ") else "")


def load_phrases(directory: Path = SHIPPED) -> Mapping[str, Phrases]:
    """Every language of the folder. Raises :class:`ConfigError` for a file that is wrong or incomplete."""
    found: dict[str, Phrases] = {}
    for path in sorted((directory / FOLDER).glob("*.toml")):
        if path.name != EVENTS:
            phrases = _read(path, Phrases)
            found[phrases.lang] = phrases
    if ENGLISH not in found:
        raise ConfigError(f"{directory / FOLDER}: no {ENGLISH}.toml")
    english = found[ENGLISH]
    for lang, phrases in found.items():
        if not phrases.same_keys(english) or set(phrases.say) != set(SAYS):
            raise ConfigError(f"{directory / FOLDER / lang}.toml: its tables are not those of en.toml")
    return found


def load_events(directory: Path = SHIPPED) -> Mapping[str, Event]:
    """The events in the order in which they are looked for. Raises :class:`ConfigError`."""
    found: dict[str, Event] = _read(directory / FOLDER / EVENTS, dict[str, Event])
    return found


def _read(path: Path, of: Any) -> Any:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        return msgspec.convert(table, of, builtin_types=(dt.date,))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error
