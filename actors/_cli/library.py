"""`evy knowledge import`, `sources`, `withdraw`: the centre's library of documents that people have."""

import asyncio
import datetime as dt
import sys
from pathlib import Path
from typing import Final, get_args

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from actors._library.documents import MAX_LICENCE, Kind, licence
from actors._library.importing import files_of, import_files, plan_of
from actors._library.library import Found, Library
from actors._library.server import Server
from actors._library.shelf import Wanted
from actors._library.volumes import FOLDER, State, Terms, Volume, alone, drop, editions, file_name, of_source
from actors._runtime.config import Config, load_config
from subjects.errors import ConfigError

_OUT: Final = Console(highlight=False, soft_wrap=True)
_DAY: Final = click.DateTime(["%Y-%m-%d"])
_SHOWN: Final = 20
"""Refusals shown; `--json` has all that are kept."""


def folder(config: Config) -> Path:
    """Where a centre's library lies."""
    return config.node.directory / FOLDER


def server(config: Config) -> Server | None:
    """The Qdrant server of the table ``[infer_large]``; None without one. Raises :class:`ConfigError`."""
    from actors.infer_large import InferLargeConfig, library_server  # noqa: PLC0415  # loads aiohttp

    return library_server(config.section("infer_large", InferLargeConfig))


@click.command("import")
@click.argument("kind", type=click.Choice(get_args(Kind)))
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--source", required=True, help="Its name, 32 characters: the tag of an answer that rests on it."
)
@click.option("--licence", "rights", default="", help="Of documents that name none, such as CC-BY-SA-4.0.")
@click.option(
    "--date", "dated", default="", help="Of documents that name none: the day of the dump, 2026-11-01."
)
@click.option(
    "--lang", default="", help="Language of all of it. Default: as it says, else heard from the text."
)
@click.option("--json", "as_json", is_flag=True, help="The result as one line of JSON.")
@click.pass_obj
def import_(
    path: Path | None,
    kind: Kind,
    paths: tuple[Path, ...],
    *,
    source: str,
    rights: str,
    dated: str,
    lang: str,
    as_json: bool,
) -> None:
    """Read documents that you have into the centre's library, from where the big model is shown passages.

    Unlike `add`, nothing of it is ever sent as it is written, because nobody has reviewed it. A document
    without licence or date, its own or the one given here, is refused. Kinds and what they read:
    encyclopaedic (MediaWiki XML dump; JSONL with title and text), medical (MedlinePlus XML), government
    (HTML, PDF, Markdown), news (RSS, Atom, JSON Feed), legal (text with sections; Akoma Ntoso, USLM),
    academic (JATS XML, BibTeX with abstracts, arXiv's JSONL); .gz and .bz2 of each.

    A source is what its files say: importing other files under the same name replaces it, what stays the
    same is not computed again. Broken off, the same command goes on where it was. Two cores read some 35
    passages a second.

    \b
    Example: evy knowledge import encyclopaedic simplewiki.xml.bz2 --source "Simple Wikipedia" \\
               --licence CC-BY-SA-4.0 --date 2026-11-01
    """  # noqa: D301  # \b is click's mark against re-wrapping
    config = load_config(path)
    if rights and not licence(rights):
        raise ConfigError(f"--licence {rights!r} names none: say under what terms the documents may be used")
    if len(rights) > MAX_LICENCE:
        raise ConfigError(f"--licence: {len(rights)} characters, at most {MAX_LICENCE}; its name is enough")
    at = server(config)
    plan = plan_of(Terms(kind, source, licence(rights), dated, lang.lower()[:2]), files_of(kind, paths))
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("reading", total=1.0)

        def told(doing: str, share: float, state: State) -> None:
            counts = f"{state.read:,} documents, {state.passages:,} passages, {state.refused:,} refused"
            progress.update(task, description=f"{doing}: {counts}", completed=min(share, 1.0))

        edition, done = import_files(folder(config), plan, told, index=at is None)
        volume = edition.volume()
        if volume is None:
            raise ConfigError(f"{edition.place} vanished while it was imported")
        if at is not None:
            total = volume.state.passages

            def uploaded(count: int) -> None:
                progress.update(task, description=f"uploading: {count:,}", completed=count / total)

            async def upload(to: Server) -> bool:
                try:
                    return await to.upload(edition, volume, uploaded)
                finally:
                    await to.close()

            done = asyncio.run(upload(at)) or done
    _say_imported(volume, done=done, as_json=as_json)


def _say_imported(volume: Volume, *, done: bool, as_json: bool) -> None:
    state = volume.state
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode({"changed": done, **msgspec.to_builtins(volume)}) + b"\n")
        return
    for refusal in state.refusals[:_SHOWN]:
        _OUT.print(Text("refused: ", style="yellow") + Text(refusal))
    if state.refused > _SHOWN:
        _OUT.print(f"… and {state.refused - _SHOWN} more refused")
    name = volume.plan.terms.source
    if not done:
        _OUT.print(f"{name}: these files are in the library already, nothing was done")
    _OUT.print(
        f"{name}: {state.read:,} documents, {state.passages:,} passages; {state.refused:,} refused, "
        f"{state.doubles:,} said twice, {state.short:,} too short"
    )


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One source a line.")
@click.pass_obj
def sources(path: Path | None, *, as_json: bool) -> None:
    """Show the sources of the centre's library: how much, of when, under what licence, about what.

    \b
    Example: evy knowledge sources
    """  # noqa: D301  # \b is click's mark against re-wrapping
    config = load_config(path)
    here = [(edition, volume) for edition in editions(folder(config)) if (volume := edition.volume())]
    if as_json:
        for edition, volume in here:
            record = {"name": edition.name, "octets": edition.octets(), **msgspec.to_builtins(volume)}
            sys.stdout.buffer.write(msgspec.json.encode(record) + b"\n")
        return
    if not here:
        _OUT.print("no sources yet: `evy knowledge import --help`")
        return
    for edition, volume in here:
        terms = volume.plan.terms
        most = sorted(volume.categories, key=lambda category: -volume.categories[category])[:3]
        _OUT.print(
            Text(terms.source, style="bold")
            + Text(f" ({terms.kind}): {volume.state.passages:,} passages, {volume.first} to {volume.last}, ")
            + Text(f"{terms.licence or 'each its own licence'}; {', '.join(most)}; ")
            + Text(f"{edition.octets() / 1e6:.0f} MB")
        )
    total = sum(volume.state.passages for _, volume in here)
    _OUT.print(f"{total:,} passages, sources: {len(here)}")


@click.command()
@click.argument("source")
@click.pass_obj
def withdraw(path: Path | None, source: str) -> None:
    """Remove a source from the centre's library, here and from the Qdrant server if there is one.

    \b
    Example: evy knowledge withdraw "Simple Wikipedia"
    """  # noqa: D301  # \b is click's mark against re-wrapping
    config = load_config(path)
    name = file_name(source)
    at = server(config)
    with alone(folder(config), name):
        here = of_source(folder(config), name)
        if not here:
            known = ", ".join(edition.name for edition in editions(folder(config))) or "none"
            raise ConfigError(f"no source {name}; there are: {known}")
        if at is not None:

            async def remove(from_: Server) -> None:
                try:
                    await from_.withdraw(name)
                finally:
                    await from_.close()

            asyncio.run(remove(at))
        for edition in here:
            drop(edition)
    _OUT.print(f"{name}: withdrawn")


def search_library(config: Config, text: str, lang: str, limit: int, wanted: Wanted) -> list[Found]:
    """What the library has on a text. Raises :class:`ConfigError` and UnreachableError."""

    async def search() -> list[Found]:
        library = Library(folder(config), server(config))
        try:
            return await library.search(text, lang, limit, wanted)
        finally:
            await library.close()

    return asyncio.run(search())


def say_found(found: list[Found], *, as_json: bool) -> None:
    """Passages with everything that says where they are from."""
    for one in found:
        told = one.passage
        if as_json:
            record = {"id": one.id, "score": one.score, "source": one.source, **msgspec.to_builtins(told)}
            sys.stdout.buffer.write(msgspec.json.encode(record) + b"\n")
            continue
        use = ", advice: for people and drafts only" if told.advice else ""
        _OUT.print(
            Text(f"{one.score:.2f}  ", style="bold")
            + Text(f"{told.title} ({told.lang}, {told.category}{use})\n", style="bold")
            + Text(f"      {told.text}\n")
            + Text(f"      {one.source}, {told.date}, {told.licence} {told.url}".rstrip(), style="dim")
        )
    if not found and not as_json:
        _OUT.print(
            "nothing: no letters, no source that fits, or nothing imported yet (`evy knowledge sources`)"
        )


def day(value: dt.datetime | None) -> dt.date | None:
    """A date that click has read."""
    return value.date() if value else None
