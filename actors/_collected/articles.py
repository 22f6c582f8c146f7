"""What a person's decision writes into the centre's knowledge: a new article, or one with more ways to ask.

Each lies in a file of its own, ``articles/collected/<id>.<lang>.toml``, whole or not at all, and is held to
lint before it is written.
"""

import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from evy_core import Compressor

from actors._collected.store import Cluster, reviewer
from actors.knowledge import SHIPPED, Article, Texts
from actors.knowledge.lint import NUMBER, QUESTIONS, Finding
from actors.knowledge.writing import (
    Draft,
    Terms,
    article_toml,
    articles_toml,
    ascii_of,
    is_about,
    lint_over,
    source_of,
    source_toml,
    words_of,
    write,
)
from subjects.errors import RefusedError

AREA: Final = "collected"
MAX_QUESTION: Final = 120
"""Characters of a wording that becomes a way to ask."""

_WORDS: Final = re.compile(r"[^\W\d_]+")


class Written(msgspec.Struct, frozen=True):
    """An article as it would lie in the centre's knowledge, and what lint says of it."""

    id: str
    lang: str
    title: str
    text: str
    questions: tuple[str, ...]
    files: dict[str, str]
    """By their path within the knowledge folder."""
    findings: tuple[Finding, ...] = ()

    @property
    def errors(self) -> list[str]:
        """What keeps it from being served."""
        return [f"{one.rule}: {one.says}" for one in self.findings if one.severity == "error"]


class Words(NamedTuple):
    """What a person says an article is; empty: what the draft has."""

    title: str = ""
    text: str = ""
    source: str = ""
    """"Organisation: Document (2026)"."""
    regions: tuple[str, ...] = ()


def new_article(cluster: Cluster, by: str, into: Path, words: Words) -> Written:
    """The article that answers a cluster. Raises :class:`RefusedError` for what is missing, with the mend,
    and :class:`ConfigError` for a source that cannot be read."""
    draft = cluster.draft
    title = " ".join((words.title or (draft.title if draft else "")).split())
    text = " ".join((words.text or (draft.text if draft else "")).split())
    if not (title and text):
        raise RefusedError(f"cluster {cluster.id} has no draft: write --title, --text and --source")
    texts = _texts(into)
    source = source_of(into, words.source) if words.source else _source_of_draft(cluster, texts)
    known = {article.id: article.text for article in texts.articles() if article.lang == cluster.lang}
    name = base = f"collected-{ascii_of(title)[:40].strip('-') or cluster.id}"
    for number in range(2, 100):
        if known.get(name, text) == text:  # a decision that a crash kept from being recorded
            break
        name = f"{base}-{number}"
    questions = _ways(cluster.wordings, (one for one in texts.articles() if one.id != name))
    if not questions:
        raise RefusedError("every wording is a way to ask for another article already, or names somebody")
    terms = Terms(into, source, reviewer(by), words.regions, AREA)
    tags = tuple(words_of(title)[:4]) or (AREA,)
    article = Draft(name, title, text, questions[: QUESTIONS[1]], tags, cluster.lang)
    files = {_place(name, cluster.lang): articles_toml([article], terms)}
    if all(one.id != source["id"] for one in texts.sources):
        files[f"sources/{source['id']}.toml"] = source_toml(source)
    return _held(into, Written(name, cluster.lang, title, text, article.questions, files))


def with_questions(cluster: Cluster, into: Path, name: str) -> Written:
    """An article there is, with the cluster's wordings as further ways to ask. Raises :class:`RefusedError`.

    A shipped article is copied whole, over EVY's own: its review stays that of its words.
    """
    texts = _texts(into)
    found = [one for one in texts.articles() if (one.id, one.lang) == (name, cluster.lang)]
    if not found:
        raise RefusedError(f"no article {name!r} in {cluster.lang!r}; `evy knowledge search` finds its id")
    [article] = found
    place = _place(name, cluster.lang)
    if (other := _elsewhere(into, name, cluster.lang)) not in (None, into / place):
        raise RefusedError(f"{name!r} lies in {other}: add the questions there")
    questions = (*article.questions, *_ways(cluster.wordings, texts.articles()))[: QUESTIONS[1]]
    if questions == article.questions:
        full = "it has the most it may have" if len(questions) == QUESTIONS[1] else "it has them all"
        raise RefusedError(f"nothing to add to {name!r}: {full}")
    more = msgspec.structs.replace(article, questions=questions)
    return _held(
        into,
        Written(name, cluster.lang, more.title, more.text, questions, {place: article_toml(more)}),
    )


def publish(written: Written, into: Path) -> Path:
    """Writes an article where the centre's knowledge lies, and from where it is sent down; gives its file.

    Raises :class:`RefusedError` when lint has an error with it.
    """
    if written.errors:
        raise RefusedError(f"lint refuses it: {'; '.join(written.errors)}")
    for name in sorted(written.files, reverse=True):  # the source before the article that cites it
        write(into / name, written.files[name])
    return into / _place(written.id, written.lang)


def unsupported(compressor: Compressor, cluster: Cluster, written: Written) -> list[str]:
    """What an article says that the passages shown beside it do not: for a person to see, who may know."""
    passages = (
        [one.text for one in cluster.draft.passages if one.lang == cluster.lang] if cluster.draft else []
    )
    [found] = compressor.check([f"{written.title}. {written.text}"], [passages], [cluster.lang])
    return [f"{piece.reason} {piece.token!r}" for piece in found]


def _held(into: Path, written: Written) -> Written:
    found = lint_over(into, written.files, [written.id])
    about = tuple(finding for finding in found if is_about(written.id, finding))
    return msgspec.structs.replace(written, findings=about)


def _texts(into: Path) -> Texts:
    return Texts.load([layer for layer in (SHIPPED, into) if layer.is_dir()], NUMBER)


def _source_of_draft(cluster: Cluster, texts: Texts) -> dict[str, str]:
    used = cluster.draft.used[:1] if cluster.draft else ()
    found = next((article.source for article in texts.articles() if article.id in used), None)
    if found is None:
        raise RefusedError('who says it? Give --source "Organisation: Document (2026)"')
    return {key: str(value) for key, value in msgspec.structs.asdict(found).items()}


def _ways(wordings: Sequence[str], articles: Iterable[Article]) -> tuple[str, ...]:
    """Wordings that may be ways to ask: none that had something redacted, none that is another article's."""
    taken = {_plain(question) for article in articles for question in article.questions}
    ways: dict[str, str] = {}
    for wording in wordings:
        plain = _plain(wording)
        if plain and plain not in taken and "[" not in wording and len(wording) <= MAX_QUESTION:
            ways.setdefault(plain, " ".join(wording.lower().split()))
    return tuple(ways.values())


def _plain(question: str) -> str:
    return " ".join(_WORDS.findall(question.casefold()))


def _place(name: str, lang: str) -> str:
    return f"articles/collected/{name}.{lang}.toml"


def _elsewhere(into: Path, name: str, lang: str) -> Path | None:
    """File of the centre's own knowledge that has an article already."""
    for path in sorted(into.glob("articles/**/*.toml")):
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        for entry in table.get("article", ()):
            if entry.get("id") == name and entry.get("lang", table.get("lang")) == lang:
                return path
    return None
