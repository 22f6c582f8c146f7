"""`evy hw check` on a machine of simulated parts: each of them well, and each of them broken."""

import json
import os
import pty
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from actors._cli import modem_check
from actors._cli.hw_checks import judge_fsync, measure_disk, mounted_at
from actors._cli.modem_check import Line
from actors._runtime.supervisor import DirectoryLock
from actors.node import board
from simulators.battery import Battery, Gauges

ROOT = Path(__file__).parents[2]


@contextmanager
def modem(tmp_path: Path, *options: str) -> Iterator[None]:
    """The simulated modem at ``tmp_path``/tty, in a process of its own as `evy sim modem` runs it."""
    link = tmp_path / "tty"
    command = [sys.executable, "-m", "simulators.modem", "--link", str(link), *options]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as simulator:
        try:
            until = time.monotonic() + 60
            while not link.exists():
                assert simulator.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
            yield
        finally:
            simulator.terminate()


def machine(tmp_path: Path, percent: float = 70.0, celsius: int = 48, flags: str = "0") -> str:
    """A configuration for a machine under ``tmp_path``."""
    sys_directory = tmp_path / "sys"
    Gauges(Battery(percent=percent, hour=22), sys_directory).show()
    zone = sys_directory / "class" / "thermal" / "thermal_zone0"
    zone.mkdir(parents=True, exist_ok=True)
    (zone / "temp").write_text(f"{celsius}000\n")
    (sys_directory / "class" / "rtc" / "rtc0").mkdir(parents=True, exist_ok=True)
    firmware = sys_directory / board.THROTTLED
    firmware.parent.mkdir(parents=True, exist_ok=True)
    firmware.write_text(f"{flags}\n")
    return f"""
[node]
data_dir = "{tmp_path}/data"

[sms]
device = "{tmp_path}/tty"
connection = "dku2at"
power_key_command = ["{sys.executable}", "--version"]

[power]
sys = "{sys_directory}"
gauge = "power_supply"
"""


def check(tmp_path: Path, tables: str, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the findings by their names, and what was said on the way."""
    path = tmp_path / "evy.toml"
    path.write_text(tables)
    done = subprocess.run(
        [sys.executable, "-m", "actors", "--config", str(path), "hw", "check", "--json", *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=110,
    )
    assert done.stdout, done.stderr
    made = json.loads(done.stdout)
    return done.returncode, {one["check"]: one for one in made["findings"]}, done.stderr


@contextmanager
def radio(answer: bytes) -> Iterator[str]:
    """A serial line with something behind it that answers every line with ``answer``."""
    ours, theirs = pty.openpty()
    tty.setraw(ours)
    tty.setraw(theirs)

    def respond() -> None:
        try:
            while os.read(ours, 64):
                os.write(ours, answer)
        except OSError:
            pass  # closed: the test is over

    thread = threading.Thread(target=respond, daemon=True)
    thread.start()
    try:
        yield os.ttyname(theirs)
    finally:
        os.close(theirs)
        os.close(ours)
        thread.join(10)


@pytest.mark.modem
def test_a_machine_whose_parts_are_well_passes_and_the_report_says_so(tmp_path: Path) -> None:
    with modem(tmp_path), radio(b"+OK\r\n") as line:
        code, found, said = check(
            tmp_path, machine(tmp_path), "--radio", line, "--report", str(tmp_path / "reports" / "pi-7")
        )
    verdicts = {name: one["verdict"] for name, one in found.items()}
    # How fast this disk is and how much memory is free is this machine's own affair.
    measured = {"disk", "disk speed", "fsync", "memory", "clock"}
    assert set(verdicts) >= measured
    rest = {name: verdict for name, verdict in verdicts.items() if name not in measured}
    assert rest == {
        "node": "skip",
        "modem": "ok",
        "modem SIM": "ok",
        "modem network": "ok",
        "modem operator": "ok",
        "modem SMS storage": "ok",
        "modem SMSC": "ok",
        "radio": "ok",
        "battery": "ok",
        "supply": "ok",
        "modem power key": "ok",
        "temperature": "ok",
        **{name: "ok" for name in rest if name == "modem supply"},
    }
    assert "dBm" in found["modem network"]["found"]
    assert "p99" in found["fsync"]["found"]
    assert "70 %" in found["battery"]["found"]
    worst = {"ok": 0, "skip": 0, "warn": 1, "fail": 2}
    assert code == max(worst[verdict] for verdict in verdicts.values())
    report = json.loads((tmp_path / "reports" / "pi-7.json").read_text())
    assert report["findings"] == list(found.values())
    text = (tmp_path / "reports" / "pi-7.md").read_text()
    assert text.startswith("# Hardware check: ")
    assert all(f"| {name} |" in text for name in found)
    assert "checking storage" in said


@pytest.mark.modem
def test_each_broken_part_fails_with_its_fix(tmp_path: Path) -> None:
    tables = machine(tmp_path, percent=9.0, celsius=83, flags="50005")
    tables = tables.replace(f'"{sys.executable}"', '"no-such-gpioset"')
    with modem(tmp_path, "--pin", "1234"), radio(b"?\r\n") as line:
        code, found, _ = check(tmp_path, tables, "--radio", line)
    assert code == 2
    for name, verdict, says, mend in [
        ("modem SIM", "fail", "SIM PIN", "pin_file"),
        ("radio", "fail", "does not answer", "wiring"),
        ("battery", "warn", "9 %", "charge"),
        ("supply", "fail", "under-voltage", "5.1 V"),
        ("modem power key", "fail", "no program no-such-gpioset", "gpiod"),
        ("temperature", "fail", "83 °C", "shade"),
    ]:
        one = found[name]
        assert (one["verdict"], says in one["found"], mend in one["mend"]) == (verdict, True, True), one


def test_a_machine_without_anything_is_told_what_is_missing(tmp_path: Path) -> None:
    tables = f'[node]\ndata_dir = "{tmp_path}/data"\n[power]\nsys = "{tmp_path}"\n'
    code, found, _ = check(tmp_path, tables)
    assert code == 2
    assert found["modem"]["verdict"] == "fail"
    assert {
        found[name]["verdict"] for name in ("radio", "battery", "supply", "power key", "temperature")
    } == {"skip"}
    missing = f'[sms]\ndevice = "{tmp_path}/nothing"\n[power]\ngauge = "ina219"\ni2c = "{tmp_path}/i2c"\n'
    code, found, _ = check(tmp_path, f'[node]\ndata_dir = "{tmp_path}/data"\n{missing}')
    assert "does not exist" in found["modem"]["found"]
    assert "i2c_arm" in found["battery"]["found"]


@pytest.mark.modem
def test_a_running_node_is_not_disturbed(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path / "data")
    try:
        with modem(tmp_path):
            _, found, _ = check(tmp_path, machine(tmp_path))
    finally:
        lock.release()
    assert (found["modem"]["verdict"], "in use" in found["modem"]["found"]) == ("skip", True)
    assert "modem SIM" not in found
    assert "1 MB" in found["disk speed"]["found"]
    assert "of 20 writes" in found["fsync"]["found"]
    assert found["node"]["verdict"] == "warn", "it holds the lock and does not answer"


def test_a_disk_is_measured_and_named(tmp_path: Path) -> None:
    rate, times_ms = measure_disk(tmp_path, 1024 * 1024, 5)
    assert rate > 0
    assert len(times_ms) == 5
    assert mounted_at(Path("/proc"))[0] == "proc"
    assert mounted_at(tmp_path)[0]


class Told(Line):
    """A line to a modem that answers what the test says."""

    def __init__(self, **answers: str) -> None:
        self._answers = answers

    def ask(self, command: str, within_s: float = 0.0) -> str:
        assert within_s >= 0
        return self._answers.get(command.removeprefix("AT+").rstrip("?"), "ERROR")


@pytest.mark.parametrize(
    ("answers", "verdict", "says"),
    [
        ({"CREG": "+CREG: 0,1 OK", "CSQ": "+CSQ: 20,0 OK"}, "ok", "-73 dBm"),
        ({"CREG": "+CREG: 0,5 OK", "CSQ": "+CSQ: 31,0 OK"}, "ok", "roaming"),
        ({"CREG": "+CREG: 0,1 OK", "CSQ": "+CSQ: 3,0 OK"}, "warn", "-107 dBm"),
        ({"CREG": "+CREG: 0,1 OK", "CSQ": "+CSQ: 99,99 OK"}, "fail", "no signal"),
        ({"CREG": "+CREG: 0,3 OK", "CSQ": "+CSQ: 20,0 OK"}, "fail", "denied by the network"),
        ({"CREG": "+CREG: 0,2 OK", "CSQ": "+CSQ: 20,0 OK"}, "fail", "searching"),
        ({}, "fail", "unknown"),
    ],
)
def test_the_network_is_judged_by_registration_and_signal(
    answers: dict[str, str], verdict: str, says: str
) -> None:
    found = modem_check._network("modem", Told(**answers))
    assert found.verdict == verdict
    assert says in found.found


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ('+CPMS: "SM",3,25,"SM",3,25,"SM",3,25 OK', "ok"),
        ('+CPMS: "SM",20,25,"SM",20,25,"SM",20,25 OK', "warn"),
        ('+CPMS: "SM",25,25,"SM",25,25,"SM",25,25 OK', "fail"),
        ('+CPMS: "SM",0,0,"SM",0,0,"SM",0,0 OK', "fail"),
        ("+CMS ERROR: 310", "fail"),
    ],
)
def test_a_full_sms_storage_is_seen(answer: str, verdict: str) -> None:
    assert modem_check._storage("modem", Told(CPMS=answer)).verdict == verdict


@pytest.mark.parametrize(
    ("times_ms", "verdict"),
    [
        ([2.0] * 100, "ok"),
        ([51.0] * 100, "warn"),
        ([2.0] * 97 + [1500.0] * 3, "warn"),
        ([401.0] * 100, "fail"),
    ],
)
def test_a_slow_or_dying_card_is_told(times_ms: list[float], verdict: str) -> None:
    found = judge_fsync(times_ms)
    assert found.verdict == verdict
    assert f"p50 {sorted(times_ms)[50]:.2f} ms" in found.found
