"""Articles as files: made from what a person gave, held to the rules, written whole.

Of `evy knowledge add` and of what nodes asked and a person answered.
"""

import datetime as dt
import json
import os
import re
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from actors.knowledge.lint import NUMBER, Finding, lint, read_rules
from actors.knowledge.loader import SHIPPED, Article, Texts
from subjects.errors import ConfigError

_LABEL: Final = re.compile(r"L([1-9][0-9]?)")
_DATED: Final = re.compile(r"(?P<organisation>[^:]+): *(?P<document>.+?) *\((?P<year>\d{4})\)")


class Draft(msgspec.Struct, frozen=True):
    """An article that a person has still to approve."""

    id: str
    title: str
    text: str
    questions: tuple[str, ...]
    tags: tuple[str, ...]
    lang: str


class Terms(NamedTuple):
    """What all articles of one run share: where they go, who says it, who approves it, where it holds."""

    into: Path
    source: dict[str, str]
    author: str
    regions: tuple[str, ...] = ()
    area: str = "local"


def checked(terms: Terms, drafts: Sequence[Draft]) -> dict[str, list[Finding]]:
    """What the loader and lint say of each draft, laid over the node's texts as it would be served."""
    if not drafts:
        return {}
    files = {
        "sources/mine.toml": source_toml(terms.source),
        "articles/mine.toml": articles_toml(drafts, terms),
    }
    try:
        found = lint_over(terms.into, files, [draft.id for draft in drafts])
    except ConfigError as error:
        if len(drafts) > 1:
            return {draft.id: checked(terms, [draft])[draft.id] for draft in drafts}
        return {drafts[0].id: [Finding(drafts[0].id, "refused", str(error))]}
    return {draft.id: [f for f in found if is_about(draft.id, f)] for draft in drafts}


def lint_over(into: Path, files: Mapping[str, str], about: Sequence[str]) -> list[Finding]:
    """What lint says of the articles named in ``about`` once ``files`` lie over the texts of ``into``.

    Raises :class:`ConfigError`.
    """
    with tempfile.TemporaryDirectory(prefix="evy-add-") as folder:
        layer = Path(folder)
        for name, text in files.items():
            write(layer / name, text)
        try:
            texts = Texts.load([each for each in (SHIPPED, into, layer) if each.is_dir()], NUMBER)
        except ConfigError as error:
            raise ConfigError(str(error).replace(folder, "")) from error
        return lint(texts, read_rules(), dt.datetime.now(dt.UTC).date(), about)


def is_about(name: str, finding: Finding) -> bool:
    """Whether a finding names an article."""
    return name in finding.where.split() or name in re.split(r"[^\w-]+", finding.says)


def source_of(into: Path, told: str) -> dict[str, str]:
    """A source's fields from "Organisation: Document (2026)".

    The tag is the one it has already, else the next free L number.
    """
    match = _DATED.fullmatch(told.strip()) if told else None
    if told and not match:
        raise ConfigError(f'--source {told!r}: write it as "Organisation: Document (2026)"')
    fields = (
        match.groupdict() if match else {"organisation": "Preview", "document": "Preview", "year": "2026"}
    )
    name = "local-" + ascii_of(f"{fields['organisation']}-{fields['document']}-{fields['year']}")[:60].strip(
        "-"
    )
    layers = [layer for layer in (SHIPPED, into) if layer.is_dir()]
    tags = {source.id: source.tag for source in Texts.load(layers, NUMBER).sources}
    taken = {int(found.group(1)) for tag in tags.values() if (found := _LABEL.fullmatch(tag))}
    free = next((number for number in range(1, 100) if number not in taken), None)
    if name not in tags and free is None:
        raise ConfigError("99 sources of your own are the most: use one of them again")
    return {
        "id": name,
        "tag": tags.get(name, f"L{free}"),
        **{key: value.strip() for key, value in fields.items()},
    }


def source_toml(entry: dict[str, str]) -> str:
    """A file with one source."""
    lines = [f"{key} = {value if key == 'year' else _quoted(value)}" for key, value in entry.items()]
    return "\n".join(["[[source]]", *lines, ""])


def articles_toml(drafts: Sequence[Draft], terms: Terms) -> str:
    """A file with some articles, reviewed today by the author of ``terms``."""
    today = dt.datetime.now(dt.UTC).date().isoformat()
    lines = [
        f"area = {_quoted(terms.area)}",
        f"source = {_quoted(terms.source['id'])}",
        f"regions = {_list(terms.regions)}",
        f'review = {{ author = {_quoted(terms.author)}, reviewed_on = {today}, state = "reviewed" }}',
    ]
    for draft in drafts:
        lines += [
            "",
            "[[article]]",
            f"id = {_quoted(draft.id)}",
            f"lang = {_quoted(draft.lang)}",
            f"title = {_quoted(draft.title)}",
            f"tags = {_list(draft.tags)}",
            f"questions = {_list(draft.questions)}",
            f"text = {_quoted(draft.text)}",
        ]
    return "\n".join([*lines, ""])


def article_toml(article: Article) -> str:
    """A file with an article as it was read with :data:`NUMBER` as the emergency number."""
    review = article.review
    day = review.reviewed_on.isoformat()
    lines = [
        "[[article]]",
        f"id = {_quoted(article.id)}",
        f"area = {_quoted(article.area)}",
        f"lang = {_quoted(article.lang)}",
        f"title = {_quoted(article.title)}",
        f"source = {_quoted(article.source.id)}",
        f'review = {{ author = {_quoted(review.author)}, reviewed_on = {day}, state = "{review.state}" }}',
        f"regions = {_list(article.regions)}",
        f"hazards = {_list(article.hazards)}",
        f"follows = {_quoted(article.follows)}",
        *([f"valid_until = {article.valid_until.isoformat()}"] if article.valid_until else []),
        f"tags = {_list(article.tags)}",
        f"questions = {_list(article.questions)}",
        f"text = {_quoted(article.text.replace(NUMBER, '{emergency_number}'))}",
    ]
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's, but for DEL, which JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(_quoted, texts))}]"


def write(path: Path, text: str) -> None:
    """A file whole or not at all, also when the power goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def ascii_of(text: str) -> str:
    """A text as part of an id: lower case letters and digits, hyphens between words."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def words_of(text: str) -> list[str]:
    """Words of a text that may be tags."""
    return [word for word in (ascii_of(w) for w in text.split()) if len(word) > 3]
