"""`evy doctor`: looks at this machine and says how to mend what is wrong."""

import asyncio
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console

from actors._cli import modem_check
from actors._cli.mesh_status import check_mesh
from actors._cli.modem_check import Finding
from actors._llm import llm_config
from actors._people.contacts import AlertConfig, contacts_of, nobody_for
from actors._runtime.bus import BusError, NatsBus
from actors._runtime.config import Config, load_config
from actors._runtime.context import TABLES
from actors._runtime.crossing import Crossing, look
from actors._runtime.identity import load_identity
from actors._runtime.provision import Place, provision
from actors._runtime.supervisor import DirectoryLock, nats_server_path
from actors.infer_small import ModelUnavailableError, find
from actors.knowledge import Texts, layers
from actors.sms import SmsConfig
from subjects.errors import ConfigError, EvyError

SERVER_AT_LEAST: Final = (2, 14)
"""Earlier servers can lose messages when a work queue is sourced over a leaf link."""
FREE_AT_LEAST_MB: Final = 500
SLOW_FSYNC_MS: Final = 50.0
"""About five writes per text go to the card; above this the emergency goal of 100 ms is out of reach."""
FIRST_SANE_YEAR: Final = 2025
RENEWED_WITHIN_S: Final = 86400.0


def check_configuration(config: Config) -> Iterator[Finding]:
    """The file, and tables that nobody reads."""
    config.check_sections(TABLES)
    yield Finding("configuration", "ok", str(config.path or "none: every value is the default"))


def check_server(config: Config) -> Iterator[Finding]:
    """The nats-server binary, and the server when it runs."""
    version = subprocess.run([nats_server_path(), "--version"], capture_output=True, text=True, check=True)
    number = re.search(r"v(\d+)\.(\d+)\.\d+", version.stdout)
    found = tuple(map(int, number.groups())) if number else (0, 0)
    wanted = ".".join(map(str, SERVER_AT_LEAST))
    yield Finding(
        "nats-server",
        "ok" if found >= SERVER_AT_LEAST else "fail",
        version.stdout.strip(),
        f"needs {wanted} or newer: `make setup`, or name one in EVY_NATS_SERVER",
    )
    yield from asyncio.run(_check_bus(config))


async def _check_bus(config: Config) -> list[Finding]:
    identity = load_identity(config.node.name, config.node.directory)
    try:
        bus = await NatsBus.connect(identity, config.node.url, "doctor", wait_s=0.5)
    except BusError:
        return [Finding("bus", "warn", f"nothing at {config.node.url}", "start the node: `evy up`")]
    place = Place.of(config.node)
    try:
        drift = await provision(bus.js, place)
        links = await look(bus, place)
    except BusError as error:
        return [Finding("bus", "fail", str(error), "see nats-server.log in the data directory")]
    finally:
        await bus.close()
    if drift:
        found = Finding("bus", "warn", f"{len(drift)} differences: {drift[0]}", "`evy subjects --apply`")
    else:
        found = Finding("bus", "ok", f"{config.node.url} is as the registry says")
    return [found, *check_link(links, time.time())]


def check_link(links: Sequence[Crossing], now: float) -> Iterator[Finding]:
    """The links as `evy link` shows them, and whether a source had to be renewed in the last day."""
    for link in links:
        troubles = link.troubles
        for what, mend in troubles:
            yield Finding("link", "warn", what, mend)
        for taking in link.taking:
            if taking.renewed is not None and now - taking.renewed < RENEWED_WITHIN_S:
                hours = max(0.0, now - taking.renewed) / 3600
                what = f"the source of {taking.stream} was renewed {hours:.1f} h ago, and goes on"
                yield Finding("link", "warn", what, "if it comes again: `evy logs --kind source_renewed`")
        if not troubles:
            yield Finding("link", "ok", f"{link.node}: {link.reason}")


def check_storage(config: Config) -> Iterator[Finding]:
    """Room and fsync latency where the node keeps its data."""
    directory = config.node.directory
    directory.mkdir(parents=True, exist_ok=True)
    free_mb = shutil.disk_usage(directory).free // 2**20
    yield Finding(
        "disk",
        "ok" if free_mb >= FREE_AT_LEAST_MB else "fail",
        f"{free_mb} MB free in {directory}",
        f"free {FREE_AT_LEAST_MB} MB, or set [node] data_dir elsewhere",
    )
    times_ms = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(20):
            start = time.perf_counter()
            file.write(b"x" * 512)
            file.flush()
            os.fsync(file.fileno())
            times_ms.append((time.perf_counter() - start) * 1000)
    median, worst = statistics.median(times_ms), max(times_ms)
    yield Finding(
        "fsync",
        "ok" if median <= SLOW_FSYNC_MS else "warn",
        f"median {median:.2f} ms, worst of 20 {worst:.2f} ms",
        "a better card or an SSD: every text waits for several of them",
    )


def check_clock(_: Config) -> Iterator[Finding]:
    """A Pi without a clock battery starts in the past; deadlines do not care, people do."""
    year = time.gmtime().tm_year
    yield Finding(
        "clock",
        "ok" if year >= FIRST_SANE_YEAR else "warn",
        time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "set it (`timedatectl set-time`), or add a clock module",
    )


def check_modem(config: Config) -> Iterator[Finding]:
    """Each modem's device, and what it answers when no node is using it."""
    modems = config.section("sms", SmsConfig).modems
    if not modems:
        yield Finding(
            "modem", "warn", "none named", '[sms] device = "/dev/ttyUSB0" in evy.toml; `evy demo` needs none'
        )
        return
    lock: DirectoryLock | None = None
    with contextlib.suppress(ConfigError):
        lock = DirectoryLock(config.node.directory)
    try:
        for modem in modems:
            yield from modem_check.check_modem(modem, in_use=lock is None)
    finally:
        if lock is not None:
            lock.release()


def check_model(_: Config) -> Iterator[Finding]:
    """The small model's file, by size and checksum."""
    try:
        path = find().verify()
    except ModelUnavailableError as error:
        yield Finding("model", "warn", str(error), "answers stay template and verbatim until it is mended")
    else:
        yield Finding("model", "ok", str(path))


def check_large_model(config: Config) -> Iterator[Finding]:
    """At a centre, the server of the big model, and outside providers."""
    if config.node.profile == "lilevy":
        return
    from actors.infer_large import (  # noqa: PLC0415  # a node needs none of it
        InferLargeConfig,
        ServerError,
        look,
        look_outside,
    )

    settings = llm_config(config)
    for seen in asyncio.run(look_outside(config, settings.api_timeout_sec)):
        yield Finding(
            f"provider {seen.name}",
            "fail" if seen.problem else "ok",
            seen.problem or f"its key is good, it has {seen.model}",
            f"[providers.{seen.name}]: url, key_file, model" if seen.problem else "",
        )
    if settings.llm_strategy == "api-only":
        return
    try:
        found = asyncio.run(look(config.section("infer_large", InferLargeConfig)))
    except ServerError as error:
        yield Finding(
            "big model", "fail", str(error), "start it: deploy/vllm, or `evy llm serve` without a GPU"
        )
    else:
        yield Finding(
            "big model", "ok", f"{found.url} has {', '.join(found.models)}; an answer: {found.ms:.0f} ms"
        )


def check_texts(config: Config) -> Iterator[Finding]:
    """What the node knows and whom it alerts."""
    texts = Texts.load(layers(config.node.directory), config.node.emergency_number)
    yield Finding(
        "knowledge",
        "ok",
        f"{len(texts.topics)} emergency topics, {len(texts.articles())} articles, "
        f"emergency number {config.node.emergency_number}",
    )
    file = config.section("alert", AlertConfig).contacts
    path, contacts = config.node.directory / file, contacts_of(config.node.directory, file)
    uncovered = nobody_for(contacts)
    yield Finding(
        "responders",
        "warn" if uncovered else "ok",
        f"{len(contacts)} in {path}"
        + (f"; nobody for {', '.join(uncovered)}" if contacts and uncovered else ""),
        "let one of them respond to every need: leave out its needs"
        if contacts
        else "copy actors/knowledge/contacts.example.toml there and write real numbers in it",
    )


CHECKS: Final[tuple[Callable[[Config], Iterator[Finding]], ...]] = (
    check_configuration,
    check_server,
    check_storage,
    check_clock,
    check_modem,
    check_mesh,
    check_model,
    check_large_model,
    check_texts,
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
@click.pass_obj
def doctor(path: Path | None, *, as_json: bool) -> None:
    """Check this machine: server, storage, clock, modem, mesh, model, knowledge. Exit 1 when something fails.

    Safe while the node runs: the modem is asked only when no node holds it.
    """
    findings: list[Finding] = []
    try:
        config = load_config(path)
    except ConfigError as error:
        findings.append(Finding("configuration", "fail", str(error), "mend the file, then run this again"))
    else:
        for check in CHECKS:
            try:
                findings += check(config)
            except EvyError as error:
                findings.append(Finding(check.__name__.removeprefix("check_"), "fail", str(error)))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(findings)).decode())
    else:
        console = Console(highlight=False, soft_wrap=True)
        style = {"ok": "green", "skip": "dim", "warn": "yellow", "fail": "bold red"}
        for finding in findings:
            mark = f"[{style[finding.verdict]}]{finding.verdict:4}[/]"
            console.print(f"{mark}  {finding.check:14}", finding.found, markup=True)
            if finding.verdict in {"warn", "fail"} and finding.mend:
                console.print(f"      {'':14} -> {finding.mend}", markup=False)
    sys.exit(int(any(finding.verdict == "fail" for finding in findings)))
