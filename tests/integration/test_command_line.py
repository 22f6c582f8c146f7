"""The evy command as people and scripts use it: exit codes, one-line reasons, JSON that parses."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import serial

from actors._cli.stage import write_configuration
from subjects.registry import WORK
from subjects.services import SERVICES
from tests.conftest import free_port

ROOT = Path(__file__).resolve().parents[2]


def evy(
    *arguments: str, stdin: str = "", env: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "actors", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=100,
        env={**os.environ, **(env or {})},
    )


def jsonl(command: Sequence[str], *lines: object) -> list[dict[str, Any]]:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    done = evy(*command, "--jsonl", stdin=text)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


BAD_LINES: list[tuple[object, str]] = [
    ("{broken", "JSON"),
    ("[1, 2]", "object"),
    ({"id": "no text"}, "text"),
    ({"id": 3, "text": 5}, "text"),
    ({"id": 4, "text": "x" * 50_000}, "40000"),
    ({"id": 5, "text": "x", "max_segments": 0}, "max_segments"),
]


@pytest.fixture(scope="module", autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator["subprocess.Popen[str]"]:
    """An actor without a server, begun with the first test of this file: it gives up after half a minute."""
    directory = tmp_path_factory.mktemp("alone")
    config = directory / "evy.toml"
    config.write_text(f'[node]\ndata_dir = "{directory}"\nnats_port = {free_port()}\n')
    with subprocess.Popen(
        [sys.executable, "-m", "actors", "--config", str(config), "run", "intake"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        yield process
        process.kill()


def test_help_lists_every_command_and_each_teaches() -> None:
    done = evy("--help")
    assert done.returncode == 0
    for command in (
        "up",
        "run",
        "demo",
        "phone",
        "ask",
        "triage",
        "compress",
        "subjects",
        "dlq",
        "outbox",
        "link",
        "trace",
        "logs",
        "stats",
        "doctor",
        "sim",
        "bench",
    ):
        assert f"  {command} " in done.stdout
        assert len(evy(command, "--help").stdout.splitlines()) > 4


def test_subjects_prints_the_contract_for_people_and_programs() -> None:
    shown = evy("subjects").stdout
    rows = json.loads(evy("subjects", "--json").stdout)
    for row in WORK:
        assert row.subject in shown
    for service in SERVICES:
        assert f".{service.name}" in shown
    assert {row["subject"] for row in rows} == {subject for row in WORK for _, subject in row.subjects()}
    assert len({row["durable"] for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "nobody"), "no actor nobody; there are"),
        (("--config", "/nonexistent.toml", "up"), "no such file"),
        (("triage",), "give a text, or --jsonl"),
    ],
)
def test_mistakes_are_one_line_with_the_mend(arguments: tuple[str, ...], says: str) -> None:
    done = evy(*arguments)
    assert done.returncode != 0
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_triage_jsonl_keeps_order_and_ids_and_answers_bad_lines() -> None:
    found = jsonl(
        ["triage"],
        {"id": "a", "text": "my husband is bleeding a lot from his leg"},
        *(line for line, _ in BAD_LINES),
        {"id": 7, "text": "good morning"},
    )
    assert found[0]["id"] == "a"
    assert (found[0]["priority"], found[0]["template"], found[0]["lang"]) == ("emergency", "bleeding", "en")
    assert "medical" in found[0]["needs"]
    assert 0 < found[0]["confidence"] <= 1
    for (_, reason), line in zip(BAD_LINES, found[1:-1], strict=True):
        assert reason in line["error"]
    assert found[2 + 1]["id"] == "no text"
    assert (found[-1]["id"], found[-1]["priority"], found[-1]["template"]) == (7, "normal", None)


def test_compress_jsonl_obeys_the_line_before_the_flag() -> None:
    long = "Boil the water for 1 minute. " * 20
    found = jsonl(
        ["compress", "--max-segments", "3"],
        {"id": 1, "text": long},
        {"id": 2, "text": long, "max_segments": 1, "lang": "en"},
        {"id": 3, "text": "short"},
        {"id": 4, "text": "¿Qué hago? " * 20, "lang": "es", "max_segments": 1},
        {"id": 5, "text": "No le dé agua si no está despierto. Lave la herida con agua limpia."},
        {"id": 6, "text": "Okay.", "lang": "en-GB"},
        *(line for line, _ in BAD_LINES),
    )
    assert [line["id"] for line in found[:6]] == [1, 2, 3, 4, 5, 6]
    assert [line["lang"] for line in found[1:6]] == ["en", "und", "es", "es", "en"]
    assert found[0]["segments"] <= 3
    assert found[1]["segments"] == 1
    assert (found[2]["text"], found[2]["segments"], found[2]["encoding"]) == ("short", 1, "gsm7")
    assert found[3]["segments"] == 1
    for (_, reason), line in zip(BAD_LINES, found[6:], strict=True):
        assert reason in line["error"]


def test_pack_jsonl_comes_back_as_it_was() -> None:
    texts = ["we are 5 people on the roof, water is rising", "🆘 पानी", ""]
    packed = jsonl(
        ["pack"], *({"id": text, "text": text} for text in texts), *(line for line, _ in BAD_LINES)
    )
    assert [line["id"] for line in packed[:3]] == texts
    assert [line["octets_in"] for line in packed[:3]] == [len(text.encode()) for text in texts]
    assert all(line["octets_out"] <= line["octets_in"] + 1 for line in packed[:3])
    assert packed[0]["octets_out"] < packed[0]["octets_in"] / 2
    for (_, reason), line in zip(BAD_LINES, packed[3:], strict=True):
        assert reason in line["error"]
    back = jsonl(
        ["pack", "--unpack"],
        *({"text": line["frame"]} for line in packed[:3]),
        {"text": "zz"},
        {"text": "ff"},
    )
    assert [line["text"] for line in back[:3]] == texts
    assert all(line["error"] for line in back[3:])


@pytest.mark.model
def test_ask_jsonl_answers_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVY_DATA", str(tmp_path))
    found = jsonl(
        ["ask"],
        {"id": "e", "text": "my brother is bleeding badly from his arm"},
        {"id": "q", "text": "how do I make river water safe to drink"},
        {"id": "x", "text": "which visa do i need to work in canada"},
        {"id": "s", "text": "how do I make river water safe to drink", "max_segments": 1},
        {"id": "l", "text": "mi hermano sangra mucho de la pierna", "lang": "es"},
        {"id": "2", "text": "how long do i boil water and how much water per person per day"},
        {"id": "b", "text": "and for a baby?", "before": "my child has a fever what do i do"},
        *(line for line, _ in BAD_LINES),
    )
    by_id = {line["id"]: line for line in found[:7]}
    assert by_id["e"]["step"] == "template"
    assert (by_id["2"]["step"], len(by_id["2"]["sources"]), by_id["2"]["segments"]) == ("joined", 2, 2)
    assert by_id["b"]["step"] == "verbatim"
    assert "baby" in by_id["b"]["answer"].lower()
    assert by_id["e"]["segments"] <= 2
    assert by_id["q"]["step"] == "verbatim"
    assert by_id["q"]["sources"]
    assert "boil" in by_id["q"]["answer"].lower()
    assert by_id["x"]["step"] in {"unsure", "model"}
    assert by_id["s"]["segments"] == 1
    assert (by_id["l"]["step"], by_id["l"]["lang"]) == ("template", "es")
    for (_, reason), line in zip(BAD_LINES, found[7:], strict=True):
        assert reason in line["error"]


def test_doctor_names_what_is_wrong_and_the_mend(tmp_path: Path) -> None:
    config = tmp_path / "evy.toml"
    config.write_text(
        f'[node]\ndata_dir = "{tmp_path}"\nnats_port = {free_port()}\n[sms]\ndevice = "/dev/none"\n'
    )
    done = evy("--config", str(config), "doctor", "--json")
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 1
    assert findings["modem"]["verdict"] == "fail"
    assert "plug it in" in findings["modem"]["mend"]
    assert findings["bus"]["verdict"] == "warn"
    assert findings["fsync"]["found"].startswith("median")
    assert findings["model"]["verdict"] == "ok"
    assert findings["nats-server"]["verdict"] == "ok"
    config.write_text("[node]\nnam = 1\n")
    done = evy("--config", str(config), "doctor")
    assert done.returncode == 1
    assert "unknown field `nam`" in done.stdout


@pytest.mark.nats
@pytest.mark.modem
def test_up_starts_answers_the_doctor_and_stops_cleanly(tmp_path: Path) -> None:
    config = write_configuration(tmp_path)
    assert config.path is not None
    log = tmp_path / "up.log"
    command = [sys.executable, "-m", "actors", "--config", str(config.path)]
    with log.open("wb") as output, subprocess.Popen([*command, "up"], stderr=output, cwd=ROOT) as node:
        until = time.monotonic() + 60
        while time.monotonic() < until and log.read_text().count(" ready") < 3:
            assert node.poll() is None, log.read_text()
            time.sleep(0.1)
        second = evy("--config", str(config.path), "up")
        checked = evy("--config", str(config.path), "subjects", "--check")
        node.send_signal(signal.SIGINT)
        assert node.wait(40) == 0, log.read_text()
    assert second.returncode == 1
    assert "another `evy up` runs on" in second.stderr
    assert checked.returncode == 0, checked.stdout
    assert "Traceback" not in log.read_text()
    assert log.read_text().rstrip().endswith("stopped")


@pytest.mark.nats
@pytest.mark.modem
def test_phone_shows_what_evy_answers_to_each_line() -> None:
    done = evy("phone", stdin="HELP\nhow long do i boil water\n")
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    assert "In danger?" in shown
    assert "boil" in shown.lower()
    assert "(command, 1 SMS)" in shown


@pytest.mark.modem
def test_sim_modem_appears_at_its_link_and_leaves_nothing(tmp_path: Path) -> None:
    link = tmp_path / "modem"
    with subprocess.Popen(
        [sys.executable, "-m", "actors", "sim", "modem", "--link", str(link)], cwd=ROOT
    ) as simulator:
        until = time.monotonic() + 20
        while not link.exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        with serial.Serial(str(link), timeout=2) as line:
            line.write(b"AT+CGMM\r")
            assert b"SIM800C" in line.read_until(b"OK")
        simulator.terminate()
        assert simulator.wait(10) == 0
    assert not link.is_symlink()


def test_run_without_a_server_says_how_to_start_one(alone: "subprocess.Popen[str]") -> None:
    _, errors = alone.communicate(timeout=60)
    assert alone.returncode == 1
    assert "start it with `evy up`" in errors
    assert "Traceback" not in errors
