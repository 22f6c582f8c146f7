"""The systemd units start what exists, with options that exist, and systemd knows every key in them."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest

from actors._cli import evy
from actors.infer_large import InferLargeConfig

ROOT = Path(__file__).parents[2]
INSTALLED = "/opt/evy/"
UNITS = sorted((ROOT / "deploy").rglob("*.service"))
TIMERS = sorted((ROOT / "deploy").rglob("*.timer"))


def started(unit: Path) -> list[str]:
    """Words of the command that a unit starts."""
    [line] = re.findall(r"^ExecStart=(.+)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
    return str(line).split()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_what_exists(unit: Path) -> None:
    program, *arguments = started(unit)
    program = program.replace("/opt/evy.previous/", INSTALLED)  # the release before this one
    assert program.startswith(INSTALLED)
    path = ROOT / program.removeprefix(INSTALLED)
    assert os.access(path, os.X_OK), path
    if path.name != "evy":
        return
    command: click.Command = evy
    while isinstance(command, click.Group):
        name = arguments.pop(0)
        found = command.get_command(click.Context(command), name)
        assert found is not None, name
        command = found
    command.make_context(command.name, arguments)  # raises for an option it does not have


@pytest.mark.parametrize("unit", [*UNITS, *TIMERS], ids=lambda unit: unit.name)
def test_systemd_knows_every_key(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze: apt-get install systemd")
    copy = tmp_path / unit.name
    copy.write_text(re.sub(r"^ExecStart=.+$", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False, timeout=60
    )
    assert [line for line in done.stderr.splitlines() if unit.name in line] == []


def test_the_model_servers_listen_where_the_centre_asks() -> None:
    port = str(urlsplit(InferLargeConfig().base_url).port)
    llama = started(ROOT / "deploy" / "systemd" / "evy-llm.service")
    assert llama[llama.index("--port") + 1] == port
    assert f"EVY_VLLM_PORT:-{port}" in (ROOT / "deploy" / "vllm" / "serve").read_text()
