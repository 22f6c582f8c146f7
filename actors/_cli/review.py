"""`evy knowledge review`: what nodes could not answer, before the eyes of a person who decides."""

import datetime as dt
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors._collected.articles import Words, Written, new_article, publish, unsupported, with_questions
from actors._collected.config import CollectConfig
from actors._collected.store import Cluster, Collected, Decision, What, path_in, reviewer
from actors._runtime.config import load_config
from actors.knowledge import OWN, shipped_compressor
from subjects.errors import ConfigError, EvyError, RefusedError
from subjects.messages import Passage

_OUT: Final = Console(highlight=False, soft_wrap=True)
_ONE_NODE: Final = 0.8
"""Share of one node from which a reviewer is told."""


class Done(msgspec.Struct, frozen=True, omit_defaults=True):
    """A decision and what it wrote."""

    cluster: int
    what: What
    article: str = ""
    file: str = ""
    warnings: tuple[str, ...] = ()


class Desk:
    """Where a person decides: the collected questions, and the knowledge that decisions write to."""

    def __init__(self, store: Collected, least: int, into: Path, now: Callable[[], dt.datetime]) -> None:
        self.store: Final = store
        self.least: Final = least
        self.into: Final = into
        self._now: Final = now

    def clusters(self, *, every: bool = False) -> list[Cluster]:
        """What may be decided on."""
        return self.store.clusters(self.least, self._now().date(), every=every)

    def cluster(self, number: int) -> Cluster:
        """One of them. Raises :class:`RefusedError`."""
        return self.store.cluster(number, self.least)

    def publish(self, cluster: Cluster, what: What, by: str, written: Written) -> Done:
        """Writes an article, then records who let it through. Doing it again after a crash is harmless."""
        reviewer(by)
        warnings = unsupported(shipped_compressor(), cluster, written) if what == "accept" else []
        file = publish(written, self.into)
        self.store.decide(cluster, what, by, self._now(), written.id)
        return Done(cluster.id, what, written.id, str(file), tuple(warnings))

    def decide(self, cluster: Cluster, what: What, by: str) -> Done:
        """Records a decision that writes nothing."""
        self.store.decide(cluster, what, by, self._now())
        return Done(cluster.id, what)


@click.command()
@click.option("--list", "listed", is_flag=True, help="A table, and nothing is asked.")
@click.option("--json", "as_json", is_flag=True, help="Everything, one cluster a line; nothing is asked.")
@click.option("--decided", is_flag=True, help="Who decided what, and when.")
@click.option(
    "--accept", type=int, metavar="ID", help="The draft, or --title and --text, becomes an article."
)
@click.option("--merge", type=int, metavar="ID", help="Its questions go to the article named by --with.")
@click.option("--reject", type=int, metavar="ID", help="No article, and none for what is asked alike.")
@click.option("--later", type=int, metavar="ID", help="Show it again in a week.")
@click.option("--with", "article", default="", metavar="ARTICLE", help="Id of an article, for --merge.")
@click.option("--as", "by", default="", metavar="NAME", help="Who reviews.")
@click.option("--title", default="", help="For --accept, instead of the draft's.")
@click.option("--text", default="", help="For --accept, instead of the draft's.")
@click.option("--source", default="", help='"Organisation: Document (2026)". Default: the draft\'s first.')
@click.option("--region", "regions", multiple=True, help="Served only in this region, such as us.")
@click.pass_obj
def review(  # one for each option
    path: Path | None,
    *,
    listed: bool,
    as_json: bool,
    decided: bool,
    accept: int | None,
    merge: int | None,
    reject: int | None,
    later: int | None,
    article: str,
    by: str,
    title: str,
    text: str,
    source: str,
    regions: tuple[str, ...],
) -> None:
    """Decide what becomes of questions that no node could answer, at the centre.

    Questions of one meaning come together, most asked first, with the draft that the big model made and the
    passages it was given. A cluster is shown from [collect] least questions on, of two days or two nodes:
    below that a wording could point at somebody. An article that you accept carries your name, and goes to
    the nodes with the next bundle. Wordings go once you have decided.

    \b
    Example: evy knowledge review --list
    """  # noqa: D301  # \b is click's mark against re-wrapping
    config = load_config(path)
    file = path_in(config.node.directory)
    if not file.exists():
        raise ConfigError(f"{file}: nothing was collected here; the actor `collect` of a centre does it")
    least = config.section("collect", CollectConfig).least
    store = Collected(file)
    try:
        desk = Desk(store, least, config.node.directory / OWN, lambda: dt.datetime.now(dt.UTC))
        wishes = {"accept": accept, "merge": merge, "reject": reject, "later": later}
        asked = [(what, number) for what, number in wishes.items() if number is not None]
        if len(asked) > 1:
            raise ConfigError("decide on one cluster at a time: --accept, --merge, --reject or --later")
        words = Words(title, text, source, regions)
        if asked:
            _say(_decide(desk, *asked[0], by=by, article=article, words=words), as_json=as_json)
        elif decided:
            _decisions(store.decisions(), as_json=as_json)
        elif as_json:
            for cluster in desk.clusters():
                sys.stdout.buffer.write(msgspec.json.encode(cluster) + b"\n")
        elif listed:
            _list(desk)
        else:
            _sit(desk, by, words)
    finally:
        store.close()


def _decide(desk: Desk, what: str, number: int, *, by: str, article: str, words: Words) -> Done:
    cluster = desk.cluster(number)
    match what:
        case "accept":
            return desk.publish(cluster, "accept", by, new_article(cluster, by, desk.into, words))
        case "merge" if not article:
            raise RefusedError("which article? Give --with ID; `evy knowledge search` finds it")
        case "merge":
            return desk.publish(cluster, "merge", by, with_questions(cluster, desk.into, article))
        case "reject":
            return desk.decide(cluster, "reject", by)
        case _:
            return desk.decide(cluster, "later", by)


def _sit(desk: Desk, by: str, words: Words) -> None:
    """One cluster after the other, until there is none or the person leaves."""
    clusters = desk.clusters()
    if not clusters:
        _nothing(desk)
        return
    by = by or click.prompt("Your name, for the review")
    for place, cluster in enumerate(clusters, start=1):
        _OUT.print(Text(f"\n{place} of {len(clusters)}", style="dim"))
        show(cluster)
        while True:
            able = bool(cluster.draft and cluster.draft.text)
            choices = {"a": "accept", "e": "edit", "m": "merge", "r": "reject", "l": "later", "s": "skip"}
            if not able:
                del choices["a"]
            wish = click.prompt(
                ", ".join(f"{key} {name}" for key, name in {**choices, "q": "quit"}.items()),
                type=click.Choice([*choices, "q"]),
                show_choices=False,
                default="s",
            )
            if wish == "q":
                return
            if wish == "s":
                break
            try:
                done = _wish(desk, cluster, wish, by, words)
            except EvyError as error:
                _OUT.print(Text(str(error), style="bold red"))
                continue
            if done is not None:
                _say(done, as_json=False)
                break


def _wish(desk: Desk, cluster: Cluster, wish: str, by: str, words: Words) -> Done | None:
    """What a person chose; None: they changed their mind."""
    match wish:
        case "m":
            found = [one.id for one in cluster.draft.passages] if cluster.draft else []
            name = click.prompt("Which article?", default=found[0] if found else None)
            return _decide(desk, "merge", cluster.id, by=by, article=name, words=words)
        case "e":
            edited = _edited(cluster)
            if edited is None:
                return None
            title, text = edited
            if not words.source and not (cluster.draft and cluster.draft.used):
                words = words._replace(source=click.prompt('Who says it? "Organisation: Document (year)"'))
            words = words._replace(title=title, text=text)
            written = new_article(cluster, by, desk.into, words)
            for warning in unsupported(shipped_compressor(), cluster, written):
                _OUT.print(Text(f"  not in the passages: {warning}", style="yellow"))
            if not click.confirm(f"{len(text)} characters. Accept?", default=False):
                return None
            return desk.publish(cluster, "accept", by, written)
        case _:
            what = {"a": "accept", "r": "reject", "l": "later"}[wish]
            return _decide(desk, what, cluster.id, by=by, article="", words=words)


def _edited(cluster: Cluster) -> tuple[str, str] | None:
    draft = cluster.draft
    title, text = (draft.title, draft.text) if draft else ("", "")
    shown = "".join(f"# {one.source}: {one.text}\n" for one in draft.passages) if draft else ""
    edited = click.edit(f"{title}\n\n{text}\n\n# First the title, then the text. Passages:\n{shown}")
    lines = [line.strip() for line in (edited or "").splitlines() if not line.startswith("#")]
    head, *rest = [line for line in lines if line] or [""]
    return (head, " ".join(rest)) if head and rest else None


def show(cluster: Cluster) -> None:
    """A cluster as a reviewer sees it: who asked, in which words, the draft beside its passages."""
    asked = f"{cluster.asked} asked, {cluster.near} of them got a passage that may fit"
    _OUT.print(Text(f"#{cluster.id} ({cluster.lang}): {asked}", style="bold"))
    since = f"{cluster.first} to {cluster.last}, {cluster.days} days"
    _OUT.print(Text(f"  {since}; nodes: {_counted(cluster.nodes)}; regions: {_counted(cluster.regions)}"))
    if warning := one_sided(cluster):
        _OUT.print(Text(f"  {warning}", style="yellow"))
    for wording in cluster.wordings:
        _OUT.print(Text(f"  - {wording}"))
    if cluster.draft is None:
        _OUT.print(Text("  no draft yet", style="dim"))
        return
    table = Table("draft", "passages", show_lines=True)
    draft = cluster.draft
    said = f"{draft.title}\n\n{draft.text}" if draft.text else f"no draft: {draft.why}"
    passages = "\n".join(
        f"{'*' if one.id in draft.used else ' '} {one.id} [{_origin(one)}] {one.score:.2f} {one.text}"
        for one in draft.passages
    )
    table.add_row(Text(said), Text(passages or "none"))
    _OUT.print(table)


def _origin(passage: Passage) -> str:
    """Where a passage is from; of one that nobody reviewed also its date and licence."""
    if passage.reviewed:
        return passage.source
    return f"{passage.source}, {passage.date}, {passage.licence}, NOT REVIEWED"


def one_sided(cluster: Cluster) -> str:
    """A warning when nearly all questions came from one of several nodes, or all on one node."""
    node, most = max(cluster.nodes.items(), key=lambda one: one[1])
    if most < _ONE_NODE * cluster.asked:
        return ""
    return f"{most} of {cluster.asked} came from {node}: ask there whether people really want to know"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "-"


def _list(desk: Desk) -> None:
    clusters = desk.clusters(every=True)
    if not clusters:
        _nothing(desk)
        return
    table = Table("id", "lang", "asked", "near", "nodes", "draft", "for example")
    for one in clusters:
        ready = "yes" if one.draft and one.draft.text else "no" if one.draft else "-"
        if one.state == "later":
            ready += ", put off"
        nodes, example = Text(_counted(one.nodes)), Text(one.wordings[0])
        table.add_row(str(one.id), one.lang, str(one.asked), str(one.near), nodes, ready, example)
    _OUT.print(table)


def _nothing(desk: Desk) -> None:
    questions, unseen = desk.store.waiting(desk.least)
    _OUT.print(
        f"nothing to review: {questions} questions, {unseen} of them in clusters below {desk.least} or of "
        "one node and day"
    )


def _say(done: Done, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(done) + b"\n")
        return
    past = {"accept": "accepted", "merge": "merged", "reject": "rejected", "later": "put off"}[done.what]
    where = f": {done.article}, in {done.file}" if done.article else ""
    _OUT.print(Text(f"#{done.cluster} {past}{where}"))
    for warning in done.warnings:
        _OUT.print(Text(f"  not in the passages: {warning}", style="yellow"))


def _decisions(decisions: Sequence[Decision], *, as_json: bool) -> None:
    if as_json:
        for one in decisions:
            sys.stdout.buffer.write(msgspec.json.encode(one) + b"\n")
        return
    table = Table("when", "who", "what", "cluster", "asked", "article")
    for one in decisions:
        table.add_row(one.at, Text(one.by), one.what, str(one.cluster), str(one.asked), Text(one.article))
    _OUT.print(table)
