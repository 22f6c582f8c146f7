"""`evy knowledge`: hold texts to their rules, search them, add a community's own, compare two versions."""

import datetime as dt
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import click
import msgspec
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from actors._cli.adding import add
from actors._cli.library import day, import_, say_found, search_library, sources, withdraw
from actors._cli.review import review
from actors._library.categories import categories
from actors._library.shelf import Wanted
from actors._library.volumes import file_name
from actors._retrieval.confidence import SURE, UNSURE
from actors._runtime.config import load_config
from actors.knowledge import ENGLISH, SHIPPED, Texts, layers, triager
from actors.knowledge.lint import NUMBER, Finding, lint, read_rules
from actors.rag import KnowledgeIndex, RagConfig
from subjects.errors import ConfigError

_OUT: Final = Console(highlight=False, soft_wrap=True)


@click.group()
def knowledge() -> None:
    """What EVY says: check it, search it, add to it, see what a new version changes."""


for _command in (add, review, import_, sources, withdraw):
    knowledge.add_command(_command)


@knowledge.command("lint")
@click.argument("directories", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="One finding a line.")
@click.pass_obj
def lint_texts(path: Path | None, directories: tuple[Path, ...], *, as_json: bool) -> None:
    """Hold every text to its rules: length, source, numbers, banned claims, reading level, age.

    DIRECTORIES lie over the shipped texts, in this order; without any, the node's own. Exit code 1 with an
    error; a warning only wants a look. The rules: facts.toml and banned.toml beside the texts.

    \b
    Example: evy knowledge lint my-village/
    """  # noqa: D301  # \b is click's mark against re-wrapping
    texts = Texts.load([SHIPPED, *(directories or own(path))], NUMBER)
    findings = lint(texts, read_rules(), dt.datetime.now(dt.UTC).date())
    if as_json:
        for finding in findings:
            sys.stdout.buffer.write(msgspec.json.encode(finding) + b"\n")
    else:
        _show(findings)
        langs = Counter(article.lang for article in texts.articles())
        counted = ", ".join(f"{count} {lang}" for lang, count in langs.most_common())
        _OUT.print(f"{len(texts.templates())} templates, articles: {counted}; {_count(findings)}")
    if any(finding.severity == "error" for finding in findings):
        sys.exit(1)


def own(path: Path | None) -> list[Path]:
    """The folder of a node's own texts, as a list; empty when it has none."""
    return layers(load_config(path).node.directory)[1:]


def _show(findings: Iterable[Finding]) -> None:
    for finding in findings:
        style = "bold red" if finding.severity == "error" else "yellow"
        _OUT.print(Text(f"{finding.where}: ") + Text(finding.rule, style=style) + Text(f": {finding.says}"))


def _count(findings: Sequence[Finding]) -> str:
    errors = sum(finding.severity == "error" for finding in findings)
    return f"{errors} errors, {len(findings) - errors} warnings"


@knowledge.command()
@click.argument("text", nargs=-1, required=True)
@click.option("--lang", help="Language of the text, ISO 639-1. Default: heard from the text.")
@click.option("--limit", default=5, show_default=True, type=click.IntRange(1, 20), help="Articles to show.")
@click.option("--global", "everywhere", is_flag=True, help="Search the centre's library instead of articles.")
@click.option(
    "--category",
    "chosen",
    multiple=True,
    type=click.Choice([category.name for category in categories()]),
    help="With --global: only passages about this.",
)
@click.option("--source", "named", multiple=True, help="With --global: only this source.")
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="With --global: not older than this day.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="With --global: not newer than this day.")
@click.option("--any-lang", is_flag=True, help="With --global: passages in every language.")
@click.option("--json", "as_json", is_flag=True, help="One article a line.")
@click.pass_obj
def search(
    path: Path | None,
    text: tuple[str, ...],
    *,
    lang: str | None,
    limit: int,
    everywhere: bool,
    chosen: tuple[str, ...],
    named: tuple[str, ...],
    since: dt.datetime | None,
    until: dt.datetime | None,
    any_lang: bool,
    as_json: bool,
) -> None:
    """Show which articles retrieval finds for a text, and how sure it is; or passages of the library.

    \b
    Example: evy knowledge search how long do i boil water
    Example: evy knowledge search --global --category places capital of kenya
    """  # noqa: D301  # \b is click's mark against re-wrapping
    config = load_config(path)
    asked = " ".join(text)
    spoken = lang or heard(asked)
    if not everywhere and (chosen or named or since or until or any_lang):
        raise ConfigError("--category, --source, --since, --until and --any-lang need --global")
    if everywhere:
        only = tuple(file_name(source) for source in named)
        wanted = Wanted(chosen, "" if any_lang else spoken, day(since), day(until), only)
        say_found(search_library(config, asked, spoken, limit, wanted), as_json=as_json)
        return
    texts = Texts.load([SHIPPED, *own(path)], config.node.emergency_number)
    index = KnowledgeIndex.open(config.node.directory / config.section("rag", RagConfig).index, texts)
    found = index.search(asked, spoken, limit)
    index.close()
    if as_json:
        for passage in found:
            sys.stdout.buffer.write(msgspec.json.encode(passage) + b"\n")
        return
    _OUT.print(f"[dim]language {spoken}; sent as it is from {SURE}, to a model from {UNSURE}[/dim]")
    for passage in found:
        _OUT.print(
            Text(f"{passage.score:.2f}  ", style="bold" if passage.score >= SURE else "dim")
            + Text(f"{passage.id} ({passage.lang})  {passage.title} [{passage.source}]\n", style="bold")
            + Text(f"      {passage.text}")
        )
    if not found:
        _OUT.print("nothing: the text has no letters, or there are no articles")


def heard(text: str) -> str:
    """Language of a text as a node hears it; English when it is too short to tell."""
    [(lang, confidence)] = triager().detect_lang([text])
    return lang if confidence >= 0.5 else ENGLISH


class Answered(NamedTuple):
    """What a version of the texts answers: ``step`` is template, verbatim, near (a model's, grounded in the
    article) or unsure."""

    step: str
    name: str
    text: str


class Asked(msgspec.Struct, frozen=True):
    """One line of a question set."""

    text: str
    lang: str | None = None


@knowledge.command()
@click.argument("old", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("new", type=click.Path(path_type=Path, exists=True, file_okay=False), required=False)
@click.option(
    "--questions",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help='Recorded questions, {"text", "lang"} a line. Default: every question of both versions\' articles.',
)
@click.option("--json", "as_json", is_flag=True, help="One changed answer a line.")
@click.pass_obj
def diff(path: Path | None, old: Path, new: Path | None, *, questions: Path | None, as_json: bool) -> None:
    """Replay questions against two versions of the texts and show every answer that changes.

    OLD and NEW are folders like actors/knowledge of two releases; without NEW, this release with the
    node's own texts. No model runs: where one would, the article that it would be given counts. Exit code
    1 when an answer changes.

    \b
    Example: git worktree add /tmp/old v1; evy knowledge diff /tmp/old/actors/knowledge
    """  # noqa: D301  # \b is click's mark against re-wrapping
    number = load_config(path).node.emergency_number
    before = Texts.load(old, number)
    after = Texts.load(new, number) if new else Texts.load([SHIPPED, *own(path)], number)
    asked = _recorded(questions) if questions else _asked_of(before, after)
    changed = [
        (question, was, now)
        for question, was, now in zip(asked, answers(before, asked), answers(after, asked), strict=True)
        if (was.step, was.text) != (now.step, now.text)
    ]
    for question, was, now in changed:
        if as_json:
            record = {
                "text": question.text,
                "lang": question.lang,
                "old": was._asdict(),
                "new": now._asdict(),
            }
            sys.stdout.buffer.write(msgspec.json.encode(record) + b"\n")
            continue
        _OUT.print(Text(question.text, style="bold"))
        for sign, style, one in (("-", "red", was), ("+", "green", now)):
            _OUT.print(Text(f"  {sign} {one.step} {one.name}: {one.text}", style=style))
    if not as_json:
        moves = Counter(f"{was.step} → {now.step}" for _, was, now in changed)
        _OUT.print(f"{len(asked)} questions, {len(changed)} answers changed")
        if moves:
            table = Table("from → to", "answers")
            for move, count in moves.most_common():
                table.add_row(move, str(count))
            _OUT.print(table)
    if changed:
        sys.exit(1)


def _recorded(path: Path) -> list[Asked]:
    asked = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if line.strip():
            try:
                asked.append(msgspec.json.decode(line, type=Asked))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ConfigError(f"{path}, line {number}: {error}") from error
    return asked


def _asked_of(*versions: Texts) -> list[Asked]:
    every = {(q, a.lang): None for texts in versions for a in texts.articles() for q in a.questions}
    return [Asked(text, lang) for text, lang in every]


def answers(texts: Texts, asked: Sequence[Asked]) -> list[Answered]:
    """What some texts answer to each question, by the ladder without its model."""
    with tempfile.TemporaryDirectory(prefix="evy-index-") as folder:
        index = KnowledgeIndex.open(Path(folder), texts)
        made = [
            _answer(texts, index, question)
            for question in track(asked, "asking", console=Console(stderr=True), transient=True)
        ]
        index.close()
    return made


def _answer(texts: Texts, index: KnowledgeIndex, question: Asked) -> Answered:
    lang = question.lang or heard(question.text)
    [judged] = triager().classify([question.text])
    if judged.priority == "emergency" and (
        template := texts.template(judged.template or "general_danger", lang)
    ):
        return Answered("template", template.topic, template.text)
    found = index.search(question.text, lang, 1)
    if not found or found[0].score < UNSURE:
        return Answered("unsure", "", "")
    return Answered("verbatim" if found[0].score >= SURE else "near", found[0].id, found[0].text)
