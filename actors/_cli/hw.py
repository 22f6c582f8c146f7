"""`evy hw check`: whether this machine is fit to be a node."""

import platform
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors._cli.hw_checks import CHECKS, Subject
from actors._cli.modem_check import Finding, Verdict
from actors._runtime.config import load_config
from actors._runtime.supervisor import DirectoryLock
from subjects.errors import ConfigError, EvyError

EXIT: Final[dict[Verdict, int]] = {"ok": 0, "skip": 0, "warn": 1, "fail": 2}
STYLE: Final[dict[Verdict, str]] = {"ok": "green", "skip": "dim", "warn": "yellow", "fail": "bold red"}


class Report(msgspec.Struct, frozen=True):
    """What was found on one machine at one time."""

    machine: str
    system: str
    at: str
    verdict: Verdict
    findings: tuple[Finding, ...]

    def markdown(self) -> str:
        """The report for people."""
        lines = [
            f"# Hardware check: {self.verdict}",
            "",
            f"{self.machine}, {self.system}, {self.at}.",
            "",
            "| check | verdict | found | how to mend it |",
            "|---|---|---|---|",
        ]
        for one in self.findings:
            mend = one.mend if one.verdict in {"warn", "fail"} else ""
            cells = (one.check, one.verdict, one.found, mend)
            lines.append("| " + " | ".join(" ".join(cell.replace("|", "/").split()) for cell in cells) + " |")
        return "\n".join([*lines, ""])


@click.group()
def hw() -> None:
    """Check the hardware of a node."""


@hw.command()
@click.option("--json", "as_json", is_flag=True, help="The report as JSON on stdout.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the report to FILE.json and FILE.md.",
)
@click.option(
    "--radio", default="", metavar="DEVICE", help="Serial device of a LoRa module. Default: [mesh] device."
)
@click.pass_obj
def check(path: Path | None, *, as_json: bool, report: Path | None, radio: str) -> None:
    """Check modem, radio, storage, power, GPIO, clock, memory and temperature of this machine.

    Takes under a minute. It changes nothing on the modem, sends nothing on the air and presses no key. While
    a node runs here its modem is not asked and the disk is measured briefly. Exit code: 0 all is well, 1
    something should be better, 2 something is broken.
    """
    config = load_config(path)
    lock: DirectoryLock | None = None
    with suppress(ConfigError):
        lock = DirectoryLock(config.node.directory)
    findings: list[Finding] = []
    try:
        subject = Subject(config, running=lock is None, radio=radio)
        for name, look in CHECKS.items():
            click.echo(f"checking {name} …", err=True)
            try:
                findings += look(subject)
            except (EvyError, OSError) as error:
                findings.append(Finding(name, "fail", str(error), "mend this, then run it again"))
    finally:
        if lock is not None:
            lock.release()
    worst = max((one.verdict for one in findings), key=lambda verdict: EXIT[verdict])
    made = Report(
        machine=machine(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        at=time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        verdict="ok" if worst == "skip" else worst,
        findings=tuple(findings),
    )
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(made)).decode())
    else:
        show(made)
    if report:
        write(made, report)
    sys.exit(EXIT[made.verdict])


def machine() -> str:
    """The board's name as its firmware gives it, else the processor's kind."""
    with suppress(OSError):
        return Path("/proc/device-tree/model").read_text(encoding="utf-8").rstrip("\0\n")
    return f"{platform.machine()} machine"


def show(made: Report) -> None:
    """The table, and below it what to do."""
    console = Console(highlight=False)
    table = Table(title=f"{made.machine}, {made.at}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("check", "", "found"):
        table.add_column(column, overflow="fold")
    for one in made.findings:
        table.add_row(one.check, Text(one.verdict, STYLE[one.verdict]), Text(one.found))
    console.print(table)
    for one in made.findings:
        if one.verdict in {"warn", "fail"} and one.mend:
            console.print(f"{one.check}: {one.mend}", soft_wrap=True, markup=False)


def write(made: Report, path: Path) -> None:
    """Both forms of the report beside each other. Raises :class:`click.ClickException` when it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        octets = msgspec.json.format(msgspec.json.encode(made))
        path.with_suffix(".json").write_bytes(octets + b"\n")
        path.with_suffix(".md").write_text(made.markdown(), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror or error}") from error
    click.echo(f"report in {path.with_suffix('.md')} and {path.with_suffix('.json').name}", err=True)
