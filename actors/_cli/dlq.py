"""`evy dlq`: what nobody could handle, kept whole until a person decides."""

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors._cli import discreet
from actors._runtime.bus import MSG_ID, NatsBus
from actors._runtime.config import Config, load_config
from actors._runtime.identity import load_identity
from actors._runtime.letters import FORGOTTEN_AFTER_S, Letter, Letters
from subjects.errors import ConfigError

R = TypeVar("R")

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Age(click.ParamType[float]):
    """A length of time: 90s, 15m, 6h, 2d."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d{1,6})([smhd])", str(value))
        if not found:
            self.fail(f"{value!r} is no age: write 90s, 15m, 6h or 2d", param, ctx)
        return int(found[1]) * _UNITS[found[2]]


class Wanted(msgspec.Struct, frozen=True):
    """Which letters are meant."""

    subject: str = ""
    actor: str = ""
    older_s: float = 0.0
    newer_s: float = float("inf")

    @property
    def narrow(self) -> bool:
        """Whether any filter was given."""
        return self != Wanted()

    def __call__(self, letter: Letter) -> bool:
        """Whether this is one of them."""
        subject = letter.letter.subject
        return (
            (not self.subject or subject == self.subject or subject.startswith(f"{self.subject}."))
            and self.actor in {"", letter.letter.actor}
            and self.older_s <= letter.age_s <= self.newer_s
        )


Command = TypeVar("Command", bound=Callable[..., Any])


def _filters(command: Command) -> Command:
    for option in (
        click.option("--newer", type=Age(), default=None, help="Written within this time: 90s, 15m, 6h, 2d."),
        click.option("--older", type=Age(), default=None, help="Written longer ago than this."),
        click.option("--actor", default="", help="Given up by this actor: intake, sms …"),
        click.option(
            "--subject", default="", help="Of this subject, with or without lane: sms.in, rag.flash."
        ),
    ):
        command = option(command)
    return command


_full = click.option("--full", is_flag=True, help="Numbers and texts too: they are somebody's.")
_json = click.option("--json", "as_json", is_flag=True, help="For a program.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


def _wanted(subject: str, actor: str, older: float | None, newer: float | None) -> Wanted:
    return Wanted(subject, actor, older or 0.0, float("inf") if newer is None else newer)


def _with_letters(path: Path | None, work: Callable[[Letters], Awaitable[R]]) -> R:
    config: Config = load_config(path)
    identity = load_identity(config.node.name, config.node.directory)

    async def main() -> R:
        bus = await NatsBus.connect(identity, config.node.url, "dlq", wait_s=3)
        try:
            return await work(Letters(bus))
        finally:
            await bus.close()

    return asyncio.run(main())


@click.group(name="dlq")
def dlq() -> None:
    """Dead letters: messages that no actor could handle, kept whole for 90 days with the reason.

    \b
    evy dlq ls                        what is there
    evy dlq show 12                   one letter: what happened, and how to mend it
    evy dlq replay 12                 the cause is mended: put it back where it was
    evy dlq show 12 --payload > m     … or mend the message itself,
    evy dlq replay 12 --payload m     and put that back

    A replay cannot text anybody twice: what a message has already led to is recognised, and the send ledger
    knows each text that left. Numbers and texts are hidden unless you say --full.
    """  # noqa: D301  # \b is click's mark against re-wrapping


@dlq.command(name="ls")
@_filters
@_full
@_json
@click.pass_obj
def ls_command(  # one parameter per option
    path: Path | None,
    *,
    subject: str,
    actor: str,
    older: float | None,
    newer: float | None,
    full: bool,
    as_json: bool,
) -> None:
    """List dead letters, oldest first."""
    wanted = _wanted(subject, actor, older, newer)
    words = discreet.Words(full=full)

    async def work(letters: Letters) -> list[Letter]:
        return [letter async for letter in letters.every() if wanted(letter)]

    found = _with_letters(path, work)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode([_row(letter, words) for letter in found])))
        return
    if not found:
        click.echo("no dead letter" + (" of this kind" if wanted.narrow else ""))
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("id", "age", "subject", "actor", "deliveries"):
        table.add_column(column, no_wrap=True)
    table.add_column("error", overflow="fold")
    for letter in found:
        row = _row(letter, words)
        table.add_row(
            str(letter.id),
            _age(letter),
            *(Text(str(row[key])) for key in ("subject", "actor", "deliveries", "error")),
        )
    _console().print(table)
    _console().print(f"{len(found)} dead letters; `evy dlq show ID` says how to mend one")


@dlq.command(name="show")
@click.argument("number", metavar="ID", type=int)
@click.option(
    "--payload", is_flag=True, help="Print the message itself, octet by octet, to mend it in a file."
)
@_full
@_json
@click.pass_obj
def show_command(path: Path | None, number: int, *, payload: bool, full: bool, as_json: bool) -> None:
    """Show one letter: the message, the error, deliveries, trace, and how to mend it."""
    letter = _with_letters(path, lambda letters: letters.one(number))
    if payload:
        sys.stdout.buffer.write(letter.letter.payload)
        return
    row = _row(letter, discreet.Words(full=full))
    row["headers"] = {
        name: value if full or name in {MSG_ID, "traceparent"} else f"<{len(value)} characters>"
        for name, value in letter.letter.headers.items()
    }
    row["payload"] = discreet.payload(letter.letter.payload, full=full)
    row["mend"] = _mend(letter)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(row)))
        return
    console = _console()
    for name in ("id", "subject", "actor", "node", "deliveries", "at", "trace", "query", "error", "headers"):
        if row[name] not in ("", {}):
            console.print(Text(f"{name:>10}  ", style="dim") + Text(str(row[name])))
    console.print(Text(f"{'message':>10}  ", style="dim"), end="")
    shown = row["payload"]
    if not isinstance(shown, str):
        shown = msgspec.json.format(msgspec.json.encode(shown), indent=2).decode()
    console.print(Text(shown.replace("\n", "\n" + 12 * " ")))
    console.print(Text(f"{'mend':>10}  ", style="dim") + Text(str(row["mend"]), style="bold"))


@dlq.command(name="replay")
@click.argument("numbers", metavar="[ID]...", type=int, nargs=-1)
@click.option("--all", "every", is_flag=True, help="All letters, or those that the filters below mean.")
@click.option("--payload", "file", type=click.File("rb"), help="This message instead; - is stdin.")
@click.option("--edit", is_flag=True, help="Mend the message in $EDITOR first.")
@click.option("--force", is_flag=True, help="Also letters older than the send ledger remembers (30 days).")
@_filters
@_yes
@click.pass_obj
def replay_command(  # one parameter per option
    path: Path | None,
    *,
    numbers: tuple[int, ...],
    file: Any,
    subject: str,
    actor: str,
    older: float | None,
    newer: float | None,
    every: bool,
    edit: bool,
    force: bool,
    yes: bool,
) -> None:
    """Put messages back on their subject; each letter goes away when the server has its message again.

    What is put back is checked first, against what its subject holds. Exit 1 when one could not be replayed.

    \b
    Example: evy dlq replay 12 --edit
    Example: evy dlq replay --all --subject rag --newer 6h
    """  # noqa: D301  # \b is click's mark against re-wrapping
    if (file or edit) and (every or len(numbers) != 1 or (file and edit)):
        raise click.UsageError("--payload or --edit mends one letter: name it")
    wanted = _chosen(numbers, _wanted(subject, actor, older, newer), every=every)
    mended = file.read() if file else None

    async def work(letters: Letters) -> int:
        nonlocal mended
        failed = 0
        async for letter in _each(letters, numbers, wanted, "replay", yes=yes):
            if edit:
                mended = _edited(letter)
            payload = letter.letter.payload if mended is None else mended
            if problem := letter.refuses(payload):
                click.echo(f"{letter.id}: not replayed: {problem}", err=True)
                failed += 1
            elif letter.age_s > FORGOTTEN_AFTER_S and not force:
                click.echo(
                    f"{letter.id}: not replayed: the send ledger forgets after "
                    f"{FORGOTTEN_AFTER_S / 86400:.0f} days, so a text may go out twice; --force replays it",
                    err=True,
                )
                failed += 1
            elif await letters.replay(letter, payload):
                click.echo(f"{letter.id}: put back on {letter.letter.subject}; the letter is removed")
            else:
                click.echo(
                    f"{letter.id}: was put back on {letter.letter.subject} before; the letter is removed"
                )
        return failed

    sys.exit(int(bool(_with_letters(path, work))))


@dlq.command(name="drop")
@click.argument("numbers", metavar="[ID]...", type=int, nargs=-1)
@click.option("--all", "every", is_flag=True, help="All letters, or those that the filters below mean.")
@_filters
@_yes
@click.pass_obj
def drop_command(  # one parameter per option
    path: Path | None,
    *,
    numbers: tuple[int, ...],
    subject: str,
    actor: str,
    older: float | None,
    newer: float | None,
    every: bool,
    yes: bool,
) -> None:
    """Throw letters away for good. Each may be somebody's text: look first."""
    wanted = _chosen(numbers, _wanted(subject, actor, older, newer), every=every)

    async def work(letters: Letters) -> None:
        async for letter in _each(letters, numbers, wanted, "drop", yes=yes):
            await letters.drop(letter)
            click.echo(f"{letter.id}: dropped")

    _with_letters(path, work)


def _chosen(numbers: tuple[int, ...], wanted: Wanted, *, every: bool) -> Wanted:
    if bool(numbers) == every:
        raise click.UsageError("give the ids of `evy dlq ls`, or --all with or without filters")
    if numbers and wanted.narrow:
        raise click.UsageError("filters go with --all, not with ids")
    return wanted


async def _each(
    letters: Letters, numbers: tuple[int, ...], wanted: Wanted, verb: str, *, yes: bool
) -> AsyncIterator[Letter]:
    if numbers:
        found = [await letters.one(number) for number in numbers]
    else:
        found = [letter async for letter in letters.every() if wanted(letter)]
    if not found:
        click.echo(f"no dead letter to {verb}")
    elif not yes and (verb == "drop" or not numbers):
        if not sys.stdin.isatty():
            raise ConfigError(f"{verb} {len(found)} dead letters? Say --yes: nobody is there to ask")
        click.confirm(f"{verb} {len(found)} dead letters?", abort=True, err=True)
    for letter in found:
        yield letter


def _edited(letter: Letter) -> bytes:
    """The message after a person had it in an editor."""
    try:
        value = msgspec.json.decode(letter.letter.payload)
        text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = letter.letter.payload.decode("utf-8", "backslashreplace")
    changed = click.edit(text, extension=".json")
    if changed is None:
        raise ConfigError("the editor was left without saving: nothing is replayed")
    return changed.encode()


def _row(letter: Letter, words: discreet.Words) -> dict[str, Any]:
    kept = letter.letter
    try:
        value = msgspec.json.decode(kept.payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = None
    query = str(value.get("query_id") or value.get("id") or "") if isinstance(value, dict) else ""
    return {
        "id": letter.id,
        "subject": kept.subject,
        "actor": kept.actor,
        "node": kept.node,
        "deliveries": kept.deliveries,
        "at": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(kept.at)) if kept.at else "",
        "age_s": round(letter.age_s) if kept.at else None,
        "trace": letter.trace,
        "query": discreet.shape(query, "id"),
        "error": words(kept.error),
        "octets": len(kept.payload),
    }


def _mend(letter: Letter) -> str:
    """What a person can do, in one line."""
    if not letter.genuine:
        return f"this is no dead letter of EVY's, somebody wrote it to dlq.>: `evy dlq drop {letter.id}`"
    problem = letter.refuses(letter.letter.payload)
    if problem:
        return problem
    return (
        f"the message itself is in order: mend what the error names, then `evy dlq replay {letter.id}`; "
        "the actor's log of that time says more"
    )


def _age(letter: Letter) -> str:
    if not letter.letter.at:
        return "?"
    seconds = letter.age_s
    for unit in ("d", "h", "m"):
        if seconds >= 2 * _UNITS[unit]:
            return f"{seconds / _UNITS[unit]:.0f}{unit}"
    return f"{seconds:.0f}s"


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
