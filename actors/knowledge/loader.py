"""Reads the reviewed texts from their TOML files, strictly: a wrong file stops the node with its name.

A directory of texts holds ``sources.toml`` or ``sources/*.toml``, ``templates/*.toml``, ``follow/*.toml``,
``notices/*.toml`` and ``articles/**/*.toml``. Several directories are layers: a later one replaces entries of
the same name, so a community's own texts lie over the shipped ones.
"""

import datetime as dt
import logging
import re
import string
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args

import msgspec

from actors.knowledge.follow import MAX_LABEL, MOST, FollowUps
from subjects.errors import ConfigError

_LOG: Final = logging.getLogger(__name__)

SHIPPED: Final = Path(__file__).parent
"""The texts that come with EVY."""

OWN: Final = "knowledge"
"""Folder of a node's own texts in its data directory."""

BUNDLES: Final = "sync"
"""Folder of what a centre sent in the data directory; its link ``current`` names the version in use."""
ALL: Final = "all"
REGION: Final = "in-"
"""Folders of a version: the texts of every node, and those of each region."""

ENGLISH: Final = "en"
"""The language every text exists in, and the one said when the sender's is missing."""

GENERAL: Final = "general_danger"
"""Topic of the text for an emergency that is not clearly one of the others."""

MAX_EMERGENCY_NUMBER: Final = 11
"""Longest emergency number in characters; every text is held to its segments with one of this length."""

Notice = Literal[
    "help_menu",
    "danger_ask",
    "stop_done",
    "start_done",
    "info",
    "lang_set",
    "lang_unknown",
    "lang_list",
    "more_hint",
    "no_more",
    "unsure",
    "near",
    "low_battery",
    "incomplete",
    "too_long",
    "flood",
    "no_pictures",
    "no_calls",
    "answer_follows",
    "followup",
    "follow_menu",
    "other_question",
    "info_unknown",
    "ask_place",
    "place_noted",
    "safe_noted",
    "told_coming",
    "told_withdrawn",
    "told_unheard",
    "alert_responder",
    "alert_responder_discreet",
    "alert_responder_more",
    "alert_place",
    "alert_words",
    "alert_safe",
    "alert_digest",
    "place_now",
    "place_last",
    "reply_coming",
    "reply_coming_too",
    "reply_cannot",
    "reply_closed",
    "reply_unknown",
    "alerts_on",
    "alerts_off",
    "alerts_unknown",
    "alerts_none",
]

NOTICES: Final[Mapping[Notice, frozenset[str]]] = {
    **dict.fromkeys(get_args(Notice), frozenset[str]()),
    "lang_set": frozenset({"language"}),
    "lang_unknown": frozenset({"codes"}),
    "lang_list": frozenset({"codes"}),
    "near": frozenset({"title", "text"}),
    "followup": frozenset({"text"}),
    "follow_menu": frozenset({"choices"}),
    "other_question": frozenset({"question"}),
    "info_unknown": frozenset({"tag"}),
    "place_noted": frozenset({"place"}),
    "told_coming": frozenset({"time"}),
    "alert_responder": frozenset({"case", "time", "what", "number", "text", "place"}),
    "alert_responder_discreet": frozenset({"case", "time", "what", "number", "text", "place"}),
    "alert_responder_more": frozenset({"case", "count", "number", "text"}),
    "alert_place": frozenset({"case", "number", "place"}),
    "alert_words": frozenset({"case", "number", "text"}),
    "alert_safe": frozenset({"case", "number"}),
    "alert_digest": frozenset({"count", "cases"}),
    "place_now": frozenset({"place"}),
    "place_last": frozenset({"hours", "place"}),
    "reply_coming": frozenset({"case"}),
    "reply_coming_too": frozenset({"case", "count"}),
    "reply_cannot": frozenset({"case"}),
    "reply_closed": frozenset({"case"}),
    "reply_unknown": frozenset({"case", "yours"}),
    "alerts_on": frozenset({"places"}),
    "alerts_unknown": frozenset({"places"}),
}
"""Every notice and the values its caller gives; ``emergency_number`` is known in all of them."""


Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Lang = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2,3}$")]
Words = Annotated[str, msgspec.Meta(pattern=r"^\S(.*\S)?$")]
"""One line that does not begin or end with white space."""


_T = TypeVar("_T")


def layers(data: Path) -> list[Path]:
    """Folders of a node's texts: the shipped one, what its centre sent, then its own."""
    own = data / OWN
    return [SHIPPED, *bundled(data), own] if own.is_dir() else [SHIPPED, *bundled(data)]


def bundled(data: Path) -> list[Path]:
    """Folders of the version that a centre sent, by its own path: it stays one version while it is read."""
    version = (data / BUNDLES / "current").resolve()
    regions = sorted(version.glob(f"{REGION}*"))
    return [path for path in (version / ALL, *regions) if path.is_dir()]


def first_that_works(
    data: Path, make: Callable[[Sequence[Path]], _T], tell: Callable[[ConfigError], object] | None = None
) -> _T:
    """What ``make`` makes of all layers of a node, without those with a mistake: the node's own goes first,
    then what its centre sent. Raises :class:`ConfigError` when the shipped ones have one."""
    wholes = [layers(data), [SHIPPED, *bundled(data)], [SHIPPED]]
    for folders in [whole for number, whole in enumerate(wholes) if whole not in wholes[:number]]:
        try:
            return make(folders)
        except ConfigError as error:
            if folders == [SHIPPED]:
                raise
            _LOG.warning("texts of %s are left out: %s", folders[-1], error)
            if tell:
                tell(error)
    raise AssertionError("the shipped layer is the last")


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Source(_Entry, frozen=True):
    """A published document that a text rests on. An SMS shows its ``tag``: who says it, and a number."""

    id: Name
    tag: Annotated[str, msgspec.Meta(pattern=r"^(?:[A-Z][0-9]{1,2}|[A-Z]{2}[0-9])$")]
    organisation: Words
    document: Words
    year: Annotated[int, msgspec.Meta(ge=1950, le=2100)]


class Review(_Entry, frozen=True):
    """Who wrote a text, when it was last read against its source, and how far that reading went.

    draft: not served. reviewed: read a second time against the source by EVY's editors. professional: a
    person of the field has signed it.
    """

    author: Words
    reviewed_on: dt.date
    state: Literal["draft", "reviewed", "professional"]


class Template(_Entry, frozen=True):
    """The text sent at once when triage recognises an emergency. ``title`` names it to a responder."""

    topic: Name
    lang: Lang
    title: Words
    text: Words
    source: Source
    review: Review
    follows: str = ""
    """Where bodies disagree: which one this text follows."""
    discreet: bool = False
    """The phone may be seen or heard by somebody dangerous: nobody calls or texts it unasked."""


class Branch(_Entry, frozen=True):
    """What a template goes on with when the person replies ``reply``, or one of ``says``: the next minutes.

    ``label`` is what the menu calls it.
    """

    topic: Name
    lang: Lang
    reply: Annotated[int, msgspec.Meta(ge=1, le=MOST)]
    label: Annotated[Words, msgspec.Meta(max_length=MAX_LABEL)]
    says: tuple[Words, ...]
    text: Words
    source: Source
    review: Review
    follows: str = ""
    """Where bodies disagree: which one this text follows."""


class ReplyWords(_Entry, frozen=True):
    """How a language replies: words that change nothing in a reply, and its numbers from one on."""

    fillers: tuple[Words, ...] = ()
    numbers: Annotated[tuple[Words, ...], msgspec.Meta(max_length=MOST)] = ()


class Article(_Entry, frozen=True):
    """A short reviewed answer, at most 290 septets, that stands on its own.

    ``questions`` are people's own words for it. Empty ``regions`` and ``hazards`` mean: valid everywhere.
    """

    id: Name
    area: Name
    lang: Lang
    title: Words
    text: Words
    questions: tuple[Words, ...]
    tags: tuple[Name, ...]
    source: Source
    review: Review
    regions: tuple[Name, ...] = ()
    hazards: tuple[Name, ...] = ()
    follows: str = ""
    """Where bodies disagree: which one this text follows."""
    valid_until: dt.date | None = None
    """The last day it is served, for what ages."""


class _Language(_Entry, frozen=True):
    """A file of notices; ``name`` is the language's own name in letters that every phone has."""

    lang: Lang
    name: Words
    notices: dict[Name, Words]


_E = TypeVar("_E", Source, Template, Branch, Article)
_K = TypeVar("_K")


class Texts:
    """Every reviewed text of a node, the emergency number already written in."""

    def __init__(  # noqa: PLR0917  # one for each kind of file
        self,
        templates: Sequence[Template],
        notices: Mapping[tuple[str, str], str],
        articles: Sequence[Article] | Callable[[], Sequence[Article]],
        sources: Sequence[Source],
        languages: Mapping[str, str],
        follow: FollowUps | None = None,
    ) -> None:
        self._templates: Final = {(t.topic, t.lang): t for t in templates}
        self._notices: Final = dict(notices)
        self._read: Final = articles
        self.sources: Final = tuple(sources)
        self.languages: Final = dict(languages)
        """Language code → its own name, for every language that has notices."""
        self.follow: Final = follow or FollowUps([], {}, ENGLISH)
        """What the templates go on with."""

    @classmethod
    def load(cls, directory: Path | Sequence[Path] | None = None, emergency_number: str = "112") -> "Texts":
        """Texts of one directory, or of several in layers; None is what EVY ships.

        ``emergency_number`` is the node's: 2 to 11 of digits, ``*``, ``#``, a leading ``+``. Raises
        :class:`ConfigError` that names file, entry and field.
        """
        layers = (
            [SHIPPED]
            if directory is None
            else [directory]
            if isinstance(directory, Path)
            else list(directory)
        )
        texts = cls._of(layers, emergency_number)
        texts.articles()
        return texts

    @classmethod
    def of_node(cls, data: Path, emergency_number: str) -> "Texts":
        """What a node says: the shipped texts, over them what its centre sent, and its own over both.

        Articles are read when somebody asks for them, most of a second later on a Raspberry Pi: few actors
        do. Own texts with a mistake are left out: the node goes on without them, and `rag` tells it. Raises
        :class:`ConfigError` as :meth:`load` does, for the shipped ones.
        """
        return first_that_works(data, lambda folders: cls._of(folders, emergency_number))

    @classmethod
    def _of(cls, layers: Sequence[Path], emergency_number: str) -> "Texts":
        if not re.fullmatch(rf"(?=.{{2,{MAX_EMERGENCY_NUMBER}}}$)\+?[0-9*#]+", emergency_number):
            raise ConfigError(
                f"emergency_number {emergency_number!r}: "
                f"use 2 to {MAX_EMERGENCY_NUMBER} of 0-9 * # and a leading +"
            )
        stamp = [_stamp(path) for layer in layers for path in layer.rglob("*.toml")]
        return _read(tuple(layers), emergency_number, tuple(sorted(stamp)))

    @property
    def topics(self) -> frozenset[str]:
        """Every template topic; each exists in English."""
        return frozenset(topic for topic, _ in self._templates)

    def template(self, topic: str, lang: str) -> Template | None:
        """Template in ``lang``, else in English; None for an unknown topic."""
        return self._templates.get((topic, lang)) or self._templates.get((topic, ENGLISH))

    def menu(self, topic: str, lang: str) -> str:
        """What a person may reply to a template; empty where that language has no branches of it."""
        choices = ", ".join(f"{one.reply} {one.label}" for one in self.follow.of(topic, lang))
        return self.say("follow_menu", lang, choices=choices) if choices else ""

    def menus(self) -> frozenset[str]:
        """Every menu as it is sent, to know one by its text."""
        return frozenset(self.menu(branch.topic, branch.lang) for branch in self.follow)

    def say(self, key: Notice, lang: str, **values: object) -> str:
        """Notice in ``lang``, else in English, with the values that :data:`NOTICES` names for it.

        KeyError means a caller left one out: a programming error, never the files' fault.
        """
        text = self._notices.get((key, lang)) or self._notices[key, ENGLISH]
        return text.format_map(values)

    def articles(self) -> tuple[Article, ...]:
        """All articles, in the order of their files. Raises :class:`ConfigError` when they are read now."""
        return self._articles

    @cached_property
    def _articles(self) -> tuple[Article, ...]:
        return tuple(self._read() if callable(self._read) else self._read)

    def templates(self) -> tuple[Template, ...]:
        """All templates, in the order of their files."""
        return tuple(self._templates.values())

    def notices(self) -> Mapping[tuple[str, str], str]:
        """Every notice by key and language, with the names of its values in braces."""
        return self._notices

    def whole(self) -> list[str]:
        """Templates, articles and the notices that have nothing to fill in, as they are sent."""
        notices = (text for text in self._notices.values() if "{" not in text)
        templates = (template.text for template in self._templates.values())
        branches = (branch.text for branch in self.follow)
        return sorted({*notices, *templates, *branches, *(article.text for article in self._articles)})

    def source(self, tag: str) -> Source | None:
        """Document behind a tag as it stands in an SMS, whatever its case."""
        return next((s for s in self.sources if s.tag == tag.upper()), None)


_Stamp = tuple[str, int, int, int]


def _stamp(path: Path) -> _Stamp:
    """Path, inode, time and size: what changes when a file does."""
    try:
        seen = path.stat()
    except OSError:
        return str(path), 0, 0, 0  # reading it says why
    return str(path), seen.st_ino, seen.st_mtime_ns, seen.st_size


@lru_cache(maxsize=2)
def _read(layers: Sequence[Path], emergency_number: str, stamps: Sequence[_Stamp]) -> Texts:  # noqa: ARG001  # part of the key
    """Texts of directories in the state of ``stamps``: seven actors of a node ask for the same ones."""
    reader = _Reader({"emergency_number": emergency_number})
    for layer in layers:
        reader.read(layer)
    return reader.texts()


class _Reader:
    """Collects the layers; later entries replace earlier ones of the same key."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = known
        self._sources: dict[str, Source] = {}
        self._templates: dict[tuple[str, str], Template] = {}
        self._branches: dict[tuple[str, int, str], Branch] = {}
        self._reply_words: dict[str, ReplyWords] = {}
        self._layers: list[Path] = []
        self._notices: dict[tuple[str, str], str] = {}
        self._languages: dict[str, str] = {}

    def read(self, layer: Path) -> None:
        if not layer.is_dir():
            raise ConfigError(f"no directory of texts at {layer}")
        sources = [*layer.glob("sources.toml"), *layer.glob("sources/*.toml")]
        self._put(sources, "source", Source, self._sources, lambda s: s.id)
        self._put(
            layer.glob("templates/*.toml"), "template", Template, self._templates, lambda t: (t.topic, t.lang)
        )
        branches = sorted(layer.glob("follow/*.toml"))
        self._put(branches, "branch", Branch, self._branches, lambda b: (b.topic, b.reply, b.lang))
        for path in branches:
            table = _toml(path)
            words: ReplyWords = _convert(table.get("words", {}), ReplyWords, f"{path}, words")
            self._reply_words[str(table.get("lang", ENGLISH))] = words
        self._layers.append(layer)
        for path in sorted(layer.glob("notices/*.toml")):
            self._read_notices(path)

    def texts(self) -> Texts:
        for topic, lang in self._templates:
            if (topic, ENGLISH) not in self._templates:
                raise ConfigError(f"template {topic!r} exists in {lang!r} but not in English")
        for topic, reply, lang in self._branches:
            if (topic, ENGLISH) not in self._templates:
                raise ConfigError(f"branch {reply} of {topic!r} in {lang!r}: there is no such template")
            if (topic, reply, ENGLISH) not in self._branches:
                raise ConfigError(f"branch {reply} of {topic!r} exists in {lang!r} but not in English")
        tags = [source.tag for source in self._sources.values()]
        if twice := sorted({tag for tag in tags if tags.count(tag) > 1}):
            raise ConfigError(f"sources share a tag: {', '.join(twice)}")
        missing = [key for key in NOTICES if (key, ENGLISH) not in self._notices]
        if missing:
            raise ConfigError(f"notices missing in English: {', '.join(missing)}")
        return Texts(
            list(self._templates.values()),
            self._notices,
            self._read_articles,
            list(self._sources.values()),
            self._languages,
            FollowUps(self._branches.values(), self._reply_words, ENGLISH),
        )

    def _read_articles(self) -> list[Article]:
        articles: dict[tuple[str, str], Article] = {}
        for layer in self._layers:
            paths = layer.glob("articles/**/*.toml")
            self._put(paths, "article", Article, articles, lambda a: (a.id, a.lang))
        return list(articles.values())

    def _put(
        self, paths: Iterable[Path], kind: str, of: type[_E], into: dict[_K, _E], key: Callable[[_E], _K]
    ) -> None:
        """Read the ``[[kind]]`` tables of one layer; a key that it has twice is a mistake."""
        seen: dict[_K, str] = {}
        for where, table in (entry for path in sorted(paths) for entry in _tables(path, kind)):
            cited = {} if of is Source else {"source": self._source(where, table)}
            entry: _E = _convert({**table, **cited}, of, where)
            if key(entry) in seen:
                raise ConfigError(f"{where}: is already in {seen[key(entry)]}")
            seen[key(entry)] = where
            if not isinstance(entry, Source):
                entry = msgspec.structs.replace(entry, text=self._fill(f"{where}, text", entry.text))
                if entry.review.state == "draft":
                    continue  # read for its errors, never served, and hides nothing below it
            into[key(entry)] = entry

    def _source(self, where: str, table: Mapping[str, Any]) -> object:
        name = table.get("source")
        if not isinstance(name, str):
            raise ConfigError(f"{where}, source: give the id of an entry in sources/")
        if name not in self._sources:
            raise ConfigError(f"{where}, source: {name!r} is not in sources/")
        return msgspec.structs.asdict(self._sources[name])

    def _read_notices(self, path: Path) -> None:
        language = _convert(_toml(path), _Language, str(path))
        self._languages[language.lang] = language.name
        for key, text in language.notices.items():
            where = f"{path}: notice {key!r}"
            if key not in NOTICES:
                raise ConfigError(f"{where}: no such notice; there are {', '.join(NOTICES)}")
            self._notices[key, language.lang] = self._fill(where, text, NOTICES[key])

    def _fill(self, where: str, text: str, later: frozenset[str] = frozenset()) -> str:
        """Write in what is known now and leave the values of ``later`` for :meth:`Texts.say`."""
        if "{{" in text or "}}" in text:
            raise ConfigError(f"{where}: a brace can only be part of a value's name")
        try:
            parts = list(string.Formatter().parse(text))
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from error
        for _, name, spec, conversion in parts:
            if name is not None and (spec or conversion or name not in {*later, *self._known}):
                allowed = " ".join(f"{{{n}}}" for n in sorted({*later, *self._known}))
                raise ConfigError(f"{where}: {{{name}}} is not among {allowed}")
        return text.format_map({**self._known, **{name: f"{{{name}}}" for name in later}})


def _toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _tables(path: Path, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each ``[[kind]]`` of a file with its name; plain keys at the head of the file are defaults for all."""
    head = _toml(path)
    tables = head.pop(kind, None)
    head.pop("words", None)  # of the whole file, not of its entries
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{path}: expected [[{kind}]] tables")
    for number, table in enumerate(tables, start=1):
        name = table.get("id") or table.get("topic") or f"number {number}"
        name = f"{name} {table['reply']}" if "reply" in table else name
        yield f"{path}: {kind} {name!r}", {**head, **table}


def _convert(table: object, of: type[msgspec.Struct], where: str) -> Any:
    try:
        return msgspec.convert(table, of, builtin_types=(dt.date,))
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}") from error
