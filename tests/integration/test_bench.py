"""The benchmark runs, measures real parts and says what it found; how fast anything is, is not tested."""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from subjects.messages import Query, decode
from tests.bench.__main__ import AREAS
from tests.bench.bridges.crossing import Arrivals, id_of, queries
from tests.bench.link import LESS_SLOW
from tests.bench.rows import Figure, Goal, Row, percentile, spread
from tests.bench.writes import kind_of, synchronous

pytestmark = pytest.mark.timeout(630)


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile([5, 1, 4, 2, 3], 50) == 3
    assert percentile(range(1, 101), 99) == 99
    assert percentile([7], 1) == 7
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_the_median_of_repeats_decides_about_a_goal() -> None:
    figures = spread([[1, 9], [2, 8], [3, 70]], "ms")
    row = Row("x", "x", figures, (Goal("p99", 10),))
    assert (row.figure("p50").median, row.figure("p99").median, row.figure("p99").high) == (2, 9, 70)
    assert row.met is True
    rate = (Figure("rate", "texts/s", (0.5, 0.7, 0.4)),)
    assert Row("y", "y", rate, (Goal("rate", 0.6, at_least=True),)).met is False
    assert Row("z", "z", skipped="no disk", goals=(Goal("rate", 1),)).met is None


def test_synchronous_writes_are_told_apart_from_others(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text(
        '7 100.0 openat(AT_FDCWD</x>, "/s/WORK_n1/obs/d/o.dat.tmp", O_WRONLY|O_CREAT|O_SYNC|O_CLOEXEC) = 9\n'
        "7 100.1 write(9</s/WORK_n1/obs/d/o.dat.tmp>, 8) = 8\n"
        "8 100.2 fsync(5</s/KV_ledger_n1/msgs/1.blk> <unfinished ...>\n"
        "8 100.3 <... fsync resumed>) = 0\n"
        "8 100.4 pwrite64(5</s/KV_ledger_n1/msgs/1.blk>, 300) = 300\n"
        "8 100.5 write(6<TCP:[127.0.0.1:1->127.0.0.1:2]>, 20) = 20\n"
        "7 100.6 fsync(4</s/FLASH_n1/msgs/2.blk>) = 0\n"
        "7 109.0 fsync(4</s/FLASH_n1/msgs/2.blk>) = 0\n",
        encoding="utf-8",
    )
    kinds = [kind_of(path) for path in synchronous(trace, 100.0, 105.0)]
    assert kinds == ["durables' state", "key-value", "work messages"]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short path: what the benchmark starts has Unix sockets in it, whose names end at 107 octets."""
    with tempfile.TemporaryDirectory(prefix="evy-") as directory:
        yield Path(directory)


def bench(directory: Path, *areas: str) -> dict[str, dict[str, Any]]:
    """Rows by name of a quick run of some areas; everything but the report is gone afterwards."""
    report = directory / "bench.json"
    only = [argument for area in areas for argument in ("--only", area)]
    to = ("--dir", str(directory), "--json", str(report))
    done = subprocess.run(
        [sys.executable, "-m", "actors", "bench", "--quick", *only, *to],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert str(report) in done.stdout
    rows = {row["name"]: row for row in json.loads(report.read_bytes())["rows"]}
    for row in rows.values():
        for figure in row["figures"]:
            # What one thing adds to another is a difference of two measured times: noise takes it below zero.
            assert figure["name"] == "added" or min(figure["repeats"]) >= 0, row
        assert row["what"].split()[0] in done.stdout
    assert list(directory.iterdir()) == [report]
    return rows


def repeats(row: dict[str, Any]) -> dict[str, list[float]]:
    return {figure["name"]: figure["repeats"] for figure in row["figures"]}


LINK = ("tcp", "link", "catch-up", "resume", "link-slow", "wire")


@pytest.mark.nats
@pytest.mark.modem
@pytest.mark.model
def test_a_quick_run_measures_every_row_and_loses_no_text(tmp_path: Path) -> None:
    rows = bench(tmp_path, *(area for area in AREAS if area not in {*LINK, "bridges", "line"}))
    skipped = {name for name, row in rows.items() if row["skipped"]}
    # strace and llama-cpp-python may be missing here; a slow card, a big model and a thin line take minutes.
    assert skipped <= {"writes", "slow", "large", "sync-link", "model-rate-built"}
    measured = {"triage", "route", "compress", "segment", "disk", "gateway", "emergency", "chain", "memory"}
    assert min(repeats(rows["telemetry"])["store"]) > 0
    assert (
        measured
        | {
            "chain-runtime",
            "model-load",
            "model-rate",
            "answer-verbatim",
            "answer-model",
            "large-cost",
            "large-steady",
            "large",
            "start-at",
        }
        <= rows.keys()
    )
    for name in ("sustained-questions", "sustained-emergencies"):
        figures = repeats(rows[name])
        assert figures["lost"] == figures["doubled"] == [0]
        assert min(figures["rate"]) > 0


@pytest.mark.nats
def test_a_quick_run_measures_the_link_and_loses_no_question(tmp_path: Path) -> None:
    rows = bench(tmp_path, *LINK)
    assert not [row for row in rows.values() if row["skipped"]]
    assert repeats(rows["catch-up"])["lost"] == repeats(rows["catch-up"])["doubled"] == [0]
    payload_octets = 1500
    assert min(repeats(rows["wire"])["up"]) > payload_octets  # it does go through the counting relay
    assert repeats(rows["wire-s2"])["up"] < repeats(rows["wire"])["up"]
    assert min(repeats(rows["link-slow"])["p50"]) > 2 * LESS_SLOW.delay_s
    assert {"tcp", "tcp-relay", "link", "uplink", "link-memory", "resume"} <= rows.keys()


@pytest.mark.nats
@pytest.mark.modem
def test_a_quick_run_measures_every_gateway_that_is_installed_on_the_same_line(tmp_path: Path) -> None:
    rows = bench(tmp_path, "line")
    skipped = {name for name, row in rows.items() if row["skipped"]}
    assert skipped <= {"line-gammu-smsd", "line-smstools"}
    assert all("make setup-ops" in rows[name]["skipped"] for name in skipped)
    assert min(repeats(rows["line-direct"])["rate"]) > 0
    assert min(repeats(rows["line-gammu"])["rate"]) > 0
    assert min(repeats(rows["line-gammu"])["sms"]) > 10
    assert min(repeats(rows["line-gammu"])["nats-server"]) > 5
    if shutil.which("strace"):
        assert min(repeats(rows["line-direct"])["fsync"]) > 1


@pytest.mark.nats
def test_a_quick_run_measures_every_bridge_that_is_installed(tmp_path: Path) -> None:
    rows = bench(tmp_path, "bridges")
    skipped = {name for name, row in rows.items() if row["skipped"]}
    assert skipped <= {"bridge-mosquitto", "bridge-rabbitmq"}
    assert all("make setup-ops" in rows[name]["skipped"] for name in skipped)
    for name in rows.keys() - skipped:
        assert repeats(rows[name])["lost"] == [0], name
    assert repeats(rows["bridge-leaf"])["doubled"] == [0]


def test_arrivals_tell_what_is_missing_and_what_came_twice() -> None:
    async def run() -> tuple[int, int]:
        arrivals = Arrivals()
        arrivals.expect(3)
        for query_id in ("a", "b", "b"):
            arrivals.note(query_id)
        await arrivals.all(0)
        return arrivals.missing, arrivals.doubled

    assert asyncio.run(run()) == (1, 1)


def test_questions_of_the_link_are_all_different_and_of_typical_size() -> None:
    payloads = list(queries(200))
    assert len({id_of(payload) for payload in payloads}) == 200
    assert all(decode(payload, Query).id == id_of(payload) for payload in payloads)
    assert 1000 < max(map(len, payloads)) < 2500
