"""The README promises nothing that is not there."""

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from actors._cli import COMMANDS, evy
from actors._cli.demo import SCENES
from actors._people.contacts import AlertConfig
from actors._runtime.config import load_config
from actors._runtime.context import ACTORS
from actors.intake import IntakeConfig
from actors.sms import SmsConfig

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)\b(?= {2,}|`|$)", README, re.MULTILINE)) <= targets
    assert {"make demo", "make test"} <= set(re.findall(r"make (?:demo|test)\b", README))


def test_every_evy_command_exists() -> None:
    listed = README.partition("## Commands")[2].partition("## Map")[0]
    named = {
        word.strip().split()[0]
        for line in re.findall(r"^ {4}evy ([a-z |]+)", listed, re.MULTILINE)
        for word in line.split("|")
    }
    assert named == set(COMMANDS)


def test_the_commands_of_a_centre_are_understood() -> None:
    block = README.partition("## A centre")[2].partition("\n## ")[0]
    lines = re.findall(r"^ {4}(?:\.venv/bin/)?evy (.+?)(?: {2,}#.*)?$", block, re.MULTILINE)
    assert len(lines) >= 6
    for line in lines:
        command: click.Command = evy
        words = line.split()
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), words.pop(0))
            assert found is not None, line
            command = found
        command.make_context(line, words)  # raises for an option or a choice that there is not


def test_every_path_of_the_map_exists() -> None:
    lines = README.partition("## Map")[2].partition("## Honest limits")[0].splitlines()
    found = [re.match(r"^( {4}| {6})([a-z_]+/)", line) for line in lines]
    paths = [("actors/" if match[1] == " " * 6 else "") + match[2] for match in found if match]
    assert len(paths) > 8
    assert [path for path in paths if not (ROOT / path).is_dir()] == []
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_its_configuration_is_read(tmp_path: Path) -> None:
    block = re.search(r"<<'END'\n(.*?)\n +END", README, re.DOTALL)
    assert block
    path = tmp_path / "evy.toml"
    path.write_text("\n".join(line.strip() for line in block[1].splitlines()))
    config = load_config(path)
    config.check_sections(frozenset({"node", *ACTORS}))
    assert config.section("sms", SmsConfig).device == "/dev/ttyUSB0"
    assert config.section("intake", IntakeConfig).own_numbers
    assert config.section("alert", AlertConfig).contacts == "contacts.toml"


def test_the_transcript_shows_the_texts_of_the_demo() -> None:
    words = " ".join(README.split())
    for scene in SCENES[:3]:
        assert scene.text in words


def test_the_systemd_unit_is_well_formed(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on this machine")
    unit = (ROOT / "deploy" / "systemd" / "evy.service").read_text()
    assert "ExecStart=/opt/evy/.venv/bin/evy up" in unit
    here = tmp_path / "evy.service"
    here.write_text(unit.replace("/opt/evy/.venv/bin/evy", "/bin/true").replace("/opt/evy/", "/"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(here)], capture_output=True, text=True, check=False
    )
    assert "evy.service" not in done.stderr, done.stderr
