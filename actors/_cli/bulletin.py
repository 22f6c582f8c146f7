"""`evy bulletin`: a public alert from a file to the people of this node, with or without a link."""

import asyncio
import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import click
import msgspec
from evy_core import segment

from actors._bulletins import cap, judge
from actors._bulletins.judge import Wanted
from actors._bulletins.places import BulletinConfig
from actors._bulletins.wanted import everybody
from actors._bulletins.words import Words
from actors._runtime.actor import Output
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.config import Config, load_config
from actors._runtime.identity import load_identity
from actors.knowledge import ENGLISH, Texts, shipped_compressor
from subjects import names
from subjects.bulletin import Bulletin
from subjects.errors import ConfigError, EvyError

WAIT_S = 3.0


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--dry-run", is_flag=True, help="Only show who would get which text; send nothing.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.pass_obj
def bulletin(path: Path | None, file: Path, *, dry_run: bool, as_json: bool) -> None:
    """Send a public alert (CAP 1.2) from FILE to the people who asked for alerts (ALERTS).

    \b
    It goes to the places of [bulletin.places] that its areas cover, and shows who gets which text:
        evy bulletin flood.xml --dry-run
        evy bulletin flood.xml
    The same alert a second time changes nothing. An update or a cancel is a file like any other. Without a
    running node --dry-run shows the text in every language.
    """  # noqa: D301  # \b is click's mark against re-wrapping
    config = load_config(path)
    table = config.section("bulletin", BulletinConfig)
    try:
        alert = cap.read(file.read_bytes())
    except (OSError, cap.CapError) as error:
        raise ConfigError(f"{file}: {error}") from error
    now = time.time()
    if not table.places:
        raise ConfigError("this node has no [bulletin.places] in evy.toml: no alert concerns anybody here")
    reason = judge.refusal(alert, table)
    if not reason and alert.msg_type == "Alert":
        reason = judge.idle(alert, table, now)
    if reason:
        raise ConfigError(f"{file}: nobody gets it: {reason}")
    wanted, is_running = asyncio.run(_deliver(config, alert, dry_run=dry_run))
    if not is_running:
        wanted = [Wanted("", lang) for lang in sorted(_words(config, table).phrases)]
    rows = list(_rows(config, table, alert, wanted, now))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
    else:
        _print(alert, rows, is_running=is_running, dry_run=dry_run)


async def _deliver(config: Config, alert: Bulletin, *, dry_run: bool) -> tuple[list[Wanted], bool]:
    """Who wants alerts, and whether the node runs; the alert is with it unless this is a dry run."""
    identity = load_identity(config.node.name, config.node.directory)
    try:
        bus = await NatsBus.connect(identity, config.node.url, "bulletin", wait_s=WAIT_S)
    except (EvyError, OSError) as error:
        if dry_run:
            return [], False
        raise ConfigError(f"the node is not running ({error}); --dry-run shows the texts") from error
    with contextlib.suppress(asyncio.CancelledError):
        try:
            wanted = await everybody(await bus.bucket("consent"), await bus.bucket("session"), ENGLISH)
            if not dry_run:
                await bus.publish(Output(names.BULLETIN, alert.lane, alert, alert.key), "bulletin-file")
        except BusError as error:
            raise ConfigError(str(error)) from error
        finally:
            await bus.close()
    return wanted, True


def _words(config: Config, table: BulletinConfig) -> Words:
    texts = Texts.of_node(config.node.directory, config.node.emergency_number)
    return Words(texts, shipped_compressor, zone=table.zone)


def _rows(
    config: Config, table: BulletinConfig, alert: Bulletin, wanted: list[Wanted], now: float
) -> list[dict[str, Any]]:
    words = _words(config, table)
    rows = []
    for one in wanted:
        matter = judge.matter(alert, one, table, now)
        if matter is None:
            continue
        text = words.tells(
            matter.info,
            matter.area,
            one.lang,
            sender=matter.sender,
            now=now,
            own=matter.own,
            update=alert.msg_type == "Update",
            exercise=alert.status == "Exercise",
        )
        [cut] = segment([text])
        rows.append(
            {"ref": one.ref, "lang": one.lang, "area": matter.area, "segments": cut.count, "text": text}
        )
    return rows


def _print(alert: Bulletin, rows: list[dict[str, Any]], *, is_running: bool, dry_run: bool) -> None:
    click.echo(f"{alert.msg_type} {alert.identifier} from {alert.sender}")
    by_text: dict[tuple[str, str, int], int] = {}
    for row in rows:
        kind = (row["lang"], row["text"], row["segments"])
        by_text[kind] = by_text.get(kind, 0) + 1
    for (lang, text, segments), count in sorted(by_text.items(), key=lambda item: -item[1]):
        click.echo(f"{f'{count} people' if is_running else 'text'}, {lang}, {segments} SMS: {text}")
    if not is_running:
        click.echo("the node is not running: who wants alerts is not known here", err=True)
    elif alert.msg_type == "Cancel":
        click.echo("who was told of the alert is told that it is cancelled")
    else:
        verb = "would get" if dry_run else "get"
        click.echo(f"{len(rows)} people {verb} it, as fast as the modem and [bulletin] share let it")
    sys.stdout.flush()
