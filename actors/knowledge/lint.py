"""What every text of EVY is held to before it is served: ``evy knowledge lint``.

Numbers with one right value stand in ``facts.toml``, what nobody may say in ``banned.toml``: data that a
volunteer can read and add to.
"""

import datetime as dt
import re
import tomllib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec
from evy_core import segment

from actors.knowledge.loader import ENGLISH, SHIPPED, Article, Template, Texts
from subjects.errors import ConfigError

MAX_ARTICLE_SEPTETS: Final = 290
"""So that the source tag fits into two SMS."""
MAX_TITLE: Final = 60
QUESTIONS: Final = (4, 16)
"""Fewest and most ways to ask for an article."""

UCS2_LANGS: Final = frozenset({"ar", "hi"})
"""Their script is not in GSM-7: an SMS holds 67 units of it instead of 153, so texts may take three."""

MAX_LIX: Final[dict[str, float]] = {"en": 38.0, "es": 45.0, "fr": 45.0, "pt": 45.0}
"""Reading level: Björnsson's LIX, words in a sentence plus per cent of words of more than six letters.
Below 30 reads like a children's book, newspapers lie at 45. The Romance languages have longer words."""

NUMBER: Final = "+1234567890"
"""The longest emergency number, and found in no text: load :class:`Texts` with it to lint them."""

_SENTENCE: Final = re.compile(r"[^.!?।؟]+[.!?।؟]*")
_CLAUSE: Final = re.compile(r"[^.!?;:।؟]+")
_WORDS: Final = re.compile(r"[^\W\d_]+")
_STOPS: Final = re.compile(r"[.!?:;](?:\s|$)")
_QUANTITY: Final = re.compile(
    r"(?<![\d.])(\d+(?:[.,]\d+)?(?:-\d+(?:[.,]\d+)?)?) ?"
    r"(%|C|F|cm|mm|km|m|ft|in|inch|inches|miles?|l|litres?|liters?|gallons?|cups?|drops|teaspoons?|"
    r"tablespoons?|seconds?|minutes?|min|hours?|h|days?|weeks?|months?|years?|times)\b"
)
_GIVEN_TWICE: Final = re.compile(r"([\d.]+|\ba) (m|km|ft|gallon) \(([\d.]+) (ft|miles|m|l)\)")
_RATIO: Final = {("m", "ft"): 3.281, ("km", "miles"): 0.6214, ("ft", "m"): 0.3048, ("gallon", "l"): 3.785}
_TEMPERATURE: Final = re.compile(r"(\d+)(?:-(\d+))? C \(([\d.]+)(?:-([\d.]+))? F\)")
_OFF_BY: Final = 0.1
"""Rounding that two units of one measure may show."""

_ALIKE: Final = 0.5
"""Share of words in common from which two clauses say something about the same thing."""
_FEWEST_WORDS: Final = 3
"""Of a clause that is compared with others."""

Severity = Literal["error", "warning"]


class Finding(msgspec.Struct, frozen=True):
    """One thing wrong with one text. An error keeps a release from going out; a warning wants a look."""

    where: str
    rule: str
    says: str
    severity: Severity = "error"


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Fact(_Strict, frozen=True):
    """A number with the only values it may have; group 1 of each pattern is the value."""

    name: str
    source: str
    patterns: tuple[str, ...]
    values: frozenset[str]


class Banned(_Strict, frozen=True):
    """What no text may say; ``unless`` may stand before it in its sentence and turns it round."""

    name: str
    why: str
    patterns: tuple[str, ...]
    unless: str = ""
    langs: frozenset[str] = frozenset()
    excepted: frozenset[str] = msgspec.field(default=frozenset(), name="except")


class Differs(_Strict, frozen=True):
    """Two articles whose numbers look contradictory and are not."""

    between: tuple[str, str]
    because: str


class Rules(_Strict, frozen=True):
    """``facts.toml`` and ``banned.toml`` of a directory."""

    fact: tuple[Fact, ...] = ()
    banned: tuple[Banned, ...] = ()
    differs: tuple[Differs, ...] = ()


class Said(NamedTuple):
    """A text as a person gets it: what it is, its name and language. ``kind`` is that of its file."""

    kind: Literal["template", "branch", "notice", "article"]
    name: str
    lang: str
    text: str

    @property
    def where(self) -> str:
        """The text's name for people."""
        return f"{self.kind} {self.name} ({self.lang})"


def read_rules(directory: Path = SHIPPED) -> Rules:
    """The rules of a directory. Raises :class:`ConfigError` that names the file and the entry."""
    tables: dict[str, Any] = {}
    for name in ("facts.toml", "banned.toml"):
        path = directory / name
        try:
            read = tomllib.loads(path.read_text(encoding="utf-8"))
            rules = msgspec.convert(read, Rules)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise ConfigError(f"{path}: {error}") from error
        entries: list[Fact | Banned] = [*rules.fact, *rules.banned]
        for entry in entries:
            for pattern in entry.patterns:
                try:
                    groups = re.compile(pattern).groups
                except re.error as error:
                    raise ConfigError(f"{path}: {entry.name!r}: {pattern!r}: {error}") from error
                if isinstance(entry, Fact) and groups != 1:
                    raise ConfigError(f"{path}: {entry.name!r}: {pattern!r} needs one group, the value")
        tables |= read
    return msgspec.convert(tables, Rules)


def said(texts: Texts) -> list[Said]:
    """Every text, notices with their values still to be filled in."""
    return [
        *(Said("template", t.topic, t.lang, t.text) for t in texts.templates()),
        *(Said("branch", f"{b.topic} {b.reply}", b.lang, b.text) for b in texts.follow),
        *(Said("notice", key, lang, text) for (key, lang), text in texts.notices().items()),
        *(Said("article", a.id, a.lang, a.text) for a in texts.articles()),
    ]


def lint(texts: Texts, rules: Rules, today: dt.date, about: Collection[str] | None = None) -> list[Finding]:
    """Everything wrong with some texts, loaded with :data:`NUMBER` as their emergency number.

    ``about`` names the texts that are looked at: what takes long is left out for the others.
    """
    every = [one for one in said(texts) if about is None or one.name in about]
    return [
        *_banned(every, rules.banned),
        *_facts(every, rules.fact),
        *_measures(every),
        *_templates(texts.templates()),
        *_branches(texts),
        *_articles(texts.articles(), today),
        *_translations(texts),
        *_questions(texts.articles()),
        *_sources(texts),
        *_contradictions(texts.articles(), rules.differs),
    ]


def _banned(every: Sequence[Said], rules: Sequence[Banned]) -> Iterator[Finding]:
    compiled = [
        (rule, re.compile("|".join(f"(?:{p})" for p in rule.patterns), re.IGNORECASE), _turned(rule))
        for rule in rules
    ]
    for one in every:
        text = one.text.replace(NUMBER, "")
        for rule, pattern, turned in compiled:
            if (rule.langs and one.lang not in rule.langs) or one.name in rule.excepted:
                continue
            for sentence in _SENTENCE.findall(text):
                found = pattern.search(sentence)
                if found and not (turned and turned.search(sentence)):
                    yield Finding(one.where, rule.name, f"«{found.group().strip()}»: {rule.why}")


def _turned(rule: Banned) -> re.Pattern[str] | None:
    return re.compile(rf"\b(?:{rule.unless})", re.IGNORECASE) if rule.unless else None


def _facts(every: Sequence[Said], facts: Sequence[Fact]) -> Iterator[Finding]:
    for fact in facts:
        patterns = [re.compile(pattern) for pattern in fact.patterns]
        for one in every:
            values = {value for pattern in patterns for value in pattern.findall(one.text)}
            for wrong in sorted(values - fact.values):
                right = " or ".join(sorted(fact.values))
                yield Finding(one.where, "fact", f"{fact.name}: says {wrong}, {fact.source} says {right}")


def _measures(every: Sequence[Said]) -> Iterator[Finding]:
    for one in every:
        for first, unit, second, other in _GIVEN_TWICE.findall(one.text):
            ratio = _RATIO.get((unit, other))
            value = 1.0 if first == "a" else float(first.strip(".") or 0)
            if ratio and value and abs(float(second.strip(".")) / value / ratio - 1) > _OFF_BY:
                yield Finding(one.where, "measure", f"{first} {unit} is not {second} {other}")
        for low, high, low_f, high_f in _TEMPERATURE.findall(one.text):
            for celsius, fahrenheit in ((low, low_f), (high, high_f)):
                if celsius and fahrenheit and abs(float(fahrenheit) - (float(celsius) * 1.8 + 32)) > 1.0:
                    yield Finding(one.where, "measure", f"{celsius} C is not {fahrenheit} F")


def _length(where: str, lang: str, text: str, most: int = 306) -> Iterator[Finding]:
    [sms] = segment([text])
    if lang in UCS2_LANGS:
        if sms.count > 3:
            yield Finding(where, "length", f"{sms.count} SMS ({sms.units} units), at most 3")
    elif sms.encoding != "gsm7":
        outside = sorted({c for c in text if segment([c])[0].encoding != "gsm7"})
        yield Finding(where, "length", f"not in GSM-7, which halves every SMS: {' '.join(outside)}")
    elif sms.units > most:
        yield Finding(where, "length", f"{sms.units} septets, at most {most}")


def _templates(templates: Iterable[Template]) -> Iterator[Finding]:
    for template in templates:
        where = f"template {template.topic} ({template.lang})"
        yield from _length(where, template.lang, template.text)
        if template.text.count(NUMBER) != 1:
            yield Finding(where, "emergency number", "say {emergency_number} once")
        if len(template.title) > 40:
            yield Finding(where, "title", f"{len(template.title)} characters, at most 40: an alert shows it")
        yield from _level(where, template.lang, template.text)


def _branches(texts: Texts) -> Iterator[Finding]:
    for branch in texts.follow:
        where = f"branch {branch.topic} {branch.reply} ({branch.lang})"
        yield from _length(where, branch.lang, branch.text)
        yield from _level(where, branch.lang, branch.text)
        if branch.text.count(NUMBER) > 1:
            yield Finding(where, "emergency number", "say {emergency_number} once")
        said = {
            one: texts.follow.chosen(branch.topic, one, branch.lang) for one in (*branch.says, branch.label)
        }
        if wrong := sorted(one for one, reply in said.items() if reply != branch.reply):
            yield Finding(
                where, "says", f"{', '.join(wrong)}: nothing but fillers, too long, or another branch's"
            )


def _articles(articles: Iterable[Article], today: dt.date) -> Iterator[Finding]:
    for article in articles:
        where = f"article {article.id} ({article.lang})"
        yield from _length(where, article.lang, article.text, MAX_ARTICLE_SEPTETS)
        yield from _level(where, article.lang, article.text)
        asked = len(article.questions)
        if not QUESTIONS[0] <= asked <= QUESTIONS[1]:
            few = 0 < asked < QUESTIONS[0]
            says = f"{asked} ways to ask; give {QUESTIONS[0]} to {QUESTIONS[1]}, in people's own words"
            yield Finding(where, "questions", says, "warning" if few else "error")
        if not article.tags:
            yield Finding(where, "tags", "none")
        if len(article.title) > MAX_TITLE:
            yield Finding(where, "title", f"{len(article.title)} characters, at most {MAX_TITLE}")
        if not article.text.endswith((".", "!", "?", "।", "؟")):
            yield Finding(where, "end", "ends within a sentence")
        if article.valid_until and article.valid_until < today:
            yield Finding(where, "age", f"was valid until {article.valid_until}: read it again", "warning")


def _level(where: str, lang: str, text: str) -> Iterator[Finding]:
    words = _WORDS.findall(text)
    if lang in MAX_LIX and words:
        lix = len(words) / max(1, len(_STOPS.findall(text))) + 100 * sum(len(w) > 6 for w in words) / len(
            words
        )
        if lix > MAX_LIX[lang]:
            yield Finding(
                where,
                "reading level",
                f"LIX {lix:.0f}, at most {MAX_LIX[lang]:.0f}: shorter sentences and words",
            )


def _translations(texts: Texts) -> Iterator[Finding]:
    english = {("template", t.topic): t.text for t in texts.templates() if t.lang == ENGLISH}
    english |= {("branch", f"{b.topic} {b.reply}"): b.text for b in texts.follow if b.lang == ENGLISH}
    english |= {("article", a.id): a.text for a in texts.articles() if a.lang == ENGLISH}
    for one in said(texts):
        if one.lang == ENGLISH or (one.kind, one.name) not in english:
            continue
        extra = _numbers(one.text) - _numbers(english[one.kind, one.name])
        if extra:
            yield Finding(
                one.where, "translation", f"the English text does not say {', '.join(sorted(extra))}"
            )


def _numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:[.,]\d+)?", text.replace(NUMBER, "").replace(",", ".")))


def _questions(articles: Iterable[Article]) -> Iterator[Finding]:
    homes: dict[str, list[str]] = defaultdict(list)
    for article in articles:
        for question in article.questions:
            homes[" ".join(_WORDS.findall(question.casefold()))].append(f"{article.id} ({article.lang})")
    for question, where in homes.items():
        if len(where) > 1:
            yield Finding(
                f"article {where[0]}", "questions", f"«{question}» is also in {', '.join(where[1:])}"
            )


def _sources(texts: Texts) -> Iterator[Finding]:
    used = {t.source.id for t in texts.templates()} | {a.source.id for a in texts.articles()}
    for source in texts.sources:
        told = f"{source.tag}: {source.organisation}, {source.document} ({source.year})"
        if segment([told])[0].count > 2 or segment([told])[0].encoding != "gsm7":
            yield Finding(f"source {source.id}", "length", "INFO cannot tell it in two SMS of GSM-7")
        if source.id not in used:
            yield Finding(f"source {source.id}", "unused", "no text rests on it", "warning")


class _Clause(NamedTuple):
    article: str
    words: frozenset[str]
    quantities: dict[str, set[str]]
    text: str


def _contradictions(articles: Iterable[Article], differs: Sequence[Differs]) -> Iterator[Finding]:
    """Pairs of articles that give different numbers of one unit for what looks like the same thing."""
    known = {frozenset(pair.between) for pair in differs}
    homes: dict[str, list[_Clause]] = defaultdict(list)
    for article in articles:
        if article.lang == ENGLISH:
            for clause in _clauses(article):
                for unit in clause.quantities:
                    homes[unit].append(clause)
    for unit, clauses in sorted(homes.items()):
        for one, other in combinations(clauses, 2):
            if one.article == other.article or frozenset((one.article, other.article)) in known:
                continue
            alike = len(one.words & other.words) / len(one.words | other.words)
            if alike >= _ALIKE and not one.quantities[unit] & other.quantities[unit]:
                yield Finding(
                    f"article {one.article} (en)",
                    "contradiction",
                    f"«{one.text}», but {other.article}: «{other.text}»; "
                    "mend one, or say in facts.toml [[differs]] why both are right",
                )


def _clauses(article: Article) -> Iterator[_Clause]:
    for text in _CLAUSE.findall(article.text):
        quantities: dict[str, set[str]] = defaultdict(set)
        for value, unit in _QUANTITY.findall(text):
            quantities[unit.rstrip("s")].add(value)
        words = frozenset(word.lower() for word in _WORDS.findall(text) if len(word) > 3)
        if quantities and len(words) >= _FEWEST_WORDS:
            yield _Clause(article.id, words, quantities, text.strip())
