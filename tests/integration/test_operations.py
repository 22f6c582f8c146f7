"""docs/operations.md: every example on a real node and a real centre, in the order of the page."""

import asyncio
import json
import os
import re
import shutil
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

import pytest

from actors._llm import llm_config
from actors._runtime.config import Config
from actors._runtime.context import TABLES
from actors._runtime.telemetry import TelemetryConfig
from actors.infer_large.providers import ProviderConfig
from tests.conftest import free_port
from tests.linked import Linked, running

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "operations.md"
NODE: Final = "valley-1"
Place = Literal["node", "centre"]

LOOKS_AGAIN: Final = re.compile(
    r"(curl|evy (link|trace|logs|stats|report)|"
    r"nats( --context \w+)? (stream (subjects|info|get)|consumer|server|sub)) "
)
"""Commands that only look may have to look again: what they shall show is on its way."""


class Example(NamedTuple):
    """One command of the page and what it shall show."""

    place: Place
    line: int
    command: str
    shows: tuple[str, ...]


def examples(page: str) -> Iterator[Example]:
    """Commands of all fenced blocks. Raises ValueError for a block that names no place: nothing runs it."""
    place: Place | None = None
    command, shows, began, settings = "", [], 0, False
    for number, line in enumerate(page.splitlines(), 1):
        if line == "```toml" or settings:  # see test_settings_on_the_page_are_known
            settings = line != "```"
        elif line.startswith("```"):
            if command and place:
                yield Example(place, began, command, tuple(shows))
            command, shows = "", []
            if place:
                place = None
                continue
            found = next((name for name in get_args(Place) if line == f"```sh {name}"), None)
            if found is None:
                raise ValueError(f"line {number}: {line!r} is not ```sh node or ```sh centre")
            place = found
        elif place and line.startswith("#>"):
            shows.append(line.removeprefix("#>").strip())
        elif place and line:
            if command:
                yield Example(place, began, command, tuple(shows))
            command, shows, began = line, [], number


def test_every_block_names_its_place_and_most_examples_say_what_they_show() -> None:
    found = list(examples(PAGE.read_text(encoding="utf-8")))
    assert len(found) > 25
    assert sum(bool(example.shows) for example in found) > 0.8 * len(found)
    with pytest.raises(ValueError, match="line 1"):
        list(examples("```sh\nnats rtt\n```\n"))


def test_settings_on_the_page_are_known() -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        config = Config(tomllib.loads(block))
        config.check_sections(TABLES)
        config.section("telemetry", TelemetryConfig)
        llm_config(config, {})
        config.section("providers", dict[str, ProviderConfig])


def command_line() -> Path | None:
    """Folder of the `nats` program: this checkout's, or one on PATH."""
    own = ROOT / ".ops" / "bin"
    found = shutil.which("nats", path=os.pathsep.join([str(own), os.environ.get("PATH", "")]))
    return Path(found).parent if found else None


class Machines:
    """A node and a centre on which the page's commands run."""

    def __init__(self, directory: Path, linked: Linked, program: Path) -> None:
        self._directory = directory
        self._linked = linked
        self._program = program
        self._metrics_port = free_port()
        (directory / "bin").mkdir()
        evy = directory / "bin" / "evy"
        evy.write_text(f'#!/bin/sh\nexec {sys.executable} -m actors "$@"\n')
        evy.chmod(0o755)
        for place in get_args(Place):
            scheme, port = ("nats", self._port(place)) if place == "node" else ("tls", self._port(place))
            table = {
                "name": NODE if place == "node" else "hub",
                "profile": "lilevy" if place == "node" else "bigevy",
                "data_dir": str(self._data(place)),
                "nats_url": f"{scheme}://127.0.0.1:{port}",
                "nats_port": port,
            }
            lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
            if place == "node":
                lines += ["[telemetry]", f"metrics_port = {self._metrics_port}"]
                lines += ["[bulletin.places.lakeside]", 'name = "Lakeside"']
                lines += ["latitude = 38.48", "longitude = -119.95"]
            (directory / f"{place}.toml").write_text("\n".join(["[node]", *lines]))
        (directory / "backup").mkdir()
        (self._data("centre") / "keys").symlink_to(linked.directory / "keys")

    def _data(self, place: Place) -> Path:
        return self._linked.directory / (NODE if place == "node" else "hub1")

    def _port(self, place: Place) -> int:
        return self._linked.edges[NODE].port if place == "node" else self._linked.hubs["hub1"].port

    def here(self, place: Place, text: str) -> str:
        """A text of the page with the paths and the port of this test."""
        replaced = {
            "/var/lib/evy": str(self._data(place)),
            "127.0.0.1:4222": f"127.0.0.1:{self._port(place)}",
            "127.0.0.1:9464": f"127.0.0.1:{self._metrics_port}",
            "/tmp/backup": str(self._directory / "backup"),  # noqa: S108  # the page's
        }
        for said, meant in replaced.items():
            text = text.replace(said, meant)
        return text

    async def start(self, place: Place, *arguments: str) -> asyncio.subprocess.Process:
        """A program of a place with the page's environment."""
        return await asyncio.create_subprocess_exec(
            *arguments,
            cwd=ROOT,
            env={
                **os.environ,
                "PATH": os.pathsep.join(
                    map(str, (self._directory / "bin", self._program, os.environ["PATH"]))
                ),
                "EVY_CONFIG": str(self._directory / f"{place}.toml"),
                "XDG_CONFIG_HOME": str(self._directory / f"{place}.config"),
                "HOME": str(self._directory),
                "NO_COLOR": "1",
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def run(self, example: Example) -> tuple[bool, str]:
        """Runs an example; whether it did as the page says, and what it printed."""
        until = asyncio.get_running_loop().time() + 20
        while True:
            command = self.here(example.place, example.command)
            process = await self.start(example.place, "bash", "-o", "pipefail", "-c", command)
            out = (await process.communicate())[0].decode()
            shown = all(self.here(example.place, fragment) in out for fragment in example.shows)
            # evy link ends with 1 where the page's own examples leave work that nobody does
            well = shown and (process.returncode == 0 or example.command == "evy link")
            if well or not LOOKS_AGAIN.match(example.command) or asyncio.get_running_loop().time() > until:
                return well, f"exit code {process.returncode}\n{out}"
            await asyncio.sleep(0.3)


@asynccontextmanager
async def machines(directory: Path, program: Path) -> AsyncIterator[Machines]:
    """Servers of both, and the actors of the node that need neither modem nor model."""
    linked = Linked(directory, edges=(NODE,))
    async with running(linked), AsyncExitStack() as stack:
        made = Machines(directory, linked, program)
        log = (directory / "actors.log").open("wb")
        stack.callback(log.close)
        working = ("intake", "route", "compress", "alert", "link", "mesh", "analytics")
        started: list[tuple[Place, tuple[str, ...]]] = [("node", working), ("centre", ("analytics",))]
        for place, names in started:
            actors = await made.start(place, "evy", "run", *names)
            reading = asyncio.create_task(actors.stdout.read() if actors.stdout else asyncio.sleep(0))
            stack.callback(reading.cancel)
            stack.push_async_callback(actors.wait)
            stack.callback(actors.terminate)
        yield made


@pytest.mark.nats
@pytest.mark.timeout(300)
async def test_every_example_does_what_the_page_says(tmp_path: Path) -> None:
    program = command_line()
    if program is None:
        pytest.skip("no `nats` command line: make setup-ops")
    async with machines(tmp_path, program) as made:
        for example in examples(PAGE.read_text(encoding="utf-8")):
            if example.command.startswith("curl ") and not shutil.which("curl"):
                continue
            well, out = await made.run(example)
            assert well, f"{PAGE.name}:{example.line}: {example.command}\nshall show {example.shows}\n{out}"
