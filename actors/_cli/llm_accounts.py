"""`evy llm report` and `evy llm audit`: what outside calls cost, and their trail."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from actors._llm import llm_config, shown
from actors._llm import report as reports
from actors._llm.ledger import FILE, Ledger
from actors._runtime.config import Config, load_config

MONTH: Final = click.DateTime(["%Y-%m"])


def _month(given: datetime | None) -> str:
    return (given or datetime.fromtimestamp(time.time(), UTC)).strftime("%Y-%m")


def _order(config: Config) -> list[str]:
    tables = config.tables.get("providers", {})
    return sorted(tables, key=lambda name: (tables[name].get("order", 1), name))


@click.command()
@click.option("--month", type=MONTH, help="Such as 2026-11; default: this one, UTC.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, money in micro-cents.")
@click.pass_obj
def report(path: Path | None, *, month: datetime | None, as_json: bool) -> None:
    """Say what outside providers cost this month, how fast and how well they answered, and what to change.

    Passed are answers whose every number, dose and name the post-check finds in their passages.

    \b
    Example: evy llm report --month 2026-11
    """  # noqa: D301  # \b is click's mark against re-wrapping
    config = load_config(path)
    file = config.node.directory / FILE
    calls, not_asked = [], {}
    if file.is_file():
        ledger = Ledger.read(file)
        calls, not_asked = ledger.calls(_month(month)), ledger.refusals(_month(month))
        ledger.close()
    found = reports.report(_month(month), calls, not_asked, llm_config(config), _order(config))
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    click.echo("\n".join(reports.lines(found)))


@click.command()
@click.option("--verify", is_flag=True, help="Go through the whole chain; exit 1 when anything is wrong.")
@click.option(
    "--head", default="", help="A head noted earlier (ENTRIES:HASH) that the chain must go through."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, one object a line.")
@click.pass_obj
def audit(path: Path | None, *, verify: bool, head: str, as_json: bool) -> None:
    """Show every outside call and every decision against one; no text, person or query is in it.

    \b
    Example: evy llm audit --verify
    """  # noqa: D301  # likewise
    ledger = Ledger.read(load_config(path).node.directory / FILE)
    try:
        if not (verify or head):
            for entry in ledger.entries():
                click.echo(msgspec.json.encode(entry) if as_json else _line(entry))
            return
        verdict = ledger.verify(head)
    finally:
        ledger.close()
    if as_json:
        click.echo(msgspec.json.encode(verdict))
    else:
        for problem in verdict.problems:
            click.echo(problem)
        if not verdict.problems:
            click.echo(f"{verdict.entries} entries, none changed; note this head somewhere else:")
            click.echo(verdict.head)
    if verdict.problems:
        raise click.ClickException(f"{len(verdict.problems)} problems in the audit of {ledger.path}")


def _line(entry: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(entry["at"], UTC).strftime("%Y-%m-%d %H:%M:%S")
    rest = {key: value for key, value in entry.items() if key not in ("at", "what", "text")}
    rest |= {key: shown(rest[key]) for key in ("reserved", "cost") if key in rest}
    return f"{at}  {entry['what']:<9}  " + "  ".join(f"{key}={value}" for key, value in rest.items())
