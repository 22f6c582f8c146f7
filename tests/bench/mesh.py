"""The mesh against Meshtastic's managed flooding, and that flooding against its makers' simulator.

``make bench-mesh``; ``ROWS='60/*/broadcast/static' RUNS=5`` for a part of it.
"""

import argparse
import fnmatch
import json
import statistics
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.bench import mesh_rows, mesh_theirs
from tests.bench.mesh_rows import Figures, Row, Strategy

ROOT: Final = Path(__file__).parents[2]
OURS: Final[Strategy] = "evy"
WAYS: Final[tuple[Strategy, ...]] = ("flood", OURS)
WORKERS: Final = 2
"""The core lets go of the interpreter while it runs."""


def compare(row: Row, theirs: list[Figures], ours: list[Figures]) -> dict[str, Any]:
    """A row of the JSON: means of both, their paired differences, the verdict."""
    found: dict[str, Any] = {"row": row.name, "runs": len(ours)}
    for name, runs in (("flood", theirs), ("ours", ours)):
        means = (statistics.fmean(values) for values in zip(*runs, strict=True))
        found[name] = dict(zip(Figures._fields, means, strict=True))
    differences = {
        field: mesh_rows.difference(*([getattr(run, field) for run in runs] for runs in (ours, theirs)))
        for field in Figures._fields
    }
    found["difference"] = {field: apart._asdict() for field, apart in differences.items()}
    found["verdict"] = mesh_rows.verdict(row, differences["delivery"], differences["airtime_ms"])
    return found


def rows(chosen: Iterable[Row], runs: int, progress: Progress) -> list[dict[str, Any]]:
    """Every chosen row, both strategies on each seed from 1 on, two runs at a time."""
    chosen = list(chosen)
    seeds = {row: range(1, mesh_rows.runs_of(row, runs) + 1) for row in chosen}
    task = progress.add_task("rows", total=2 * sum(len(each) for each in seeds.values()))

    def one(row: Row, strategy: Strategy, seed: int) -> Figures:
        measured = mesh_rows.measure(row, strategy, seed)
        progress.advance(task)
        return measured

    with ThreadPoolExecutor(WORKERS) as pool:
        jobs = [
            (row, [[pool.submit(one, row, way, seed) for seed in seeds[row]] for way in WAYS])
            for row in chosen
        ]
        return [compare(row, *([job.result() for job in side] for side in sides)) for row, sides in jobs]


def rows_table(found: list[dict[str, Any]]) -> Table:
    """Flooding, ours, and the paired difference where a verdict hangs on it."""
    table = Table(
        "row", "delivered %", "apart", "median s", "p95 s", "air ms each", "apart", "energy J each", "verdict"
    )

    def both(row: dict[str, Any], field: str, form: str) -> str:
        return f"{row['flood'][field]:{form}} → {row['ours'][field]:{form}}"

    def apart(row: dict[str, Any], field: str, form: str) -> str:
        difference = row["difference"][field]
        return f"{difference['mean']:+{form}} ± {difference['half']:{form}}"

    for row in found:
        table.add_row(
            row["row"],
            both(row, "delivery", ".1f"),
            apart(row, "delivery", ".1f"),
            both(row, "median_s", ".1f"),
            both(row, "p95_s", ".1f"),
            both(row, "airtime_ms", ".0f"),
            apart(row, "airtime_ms", ".0f"),
            both(row, "energy_j", ".2f"),
            row["verdict"],
        )
    return table


def baseline(runs: int, progress: Progress) -> list[dict[str, Any]]:
    """The baseline on the ground of its makers' simulator, with its time on air and the true one."""
    found = []
    for row in progress.track(mesh_theirs.ROWS, description="baseline"):
        shares = mesh_theirs.delivery(row, mesh_theirs.THEIR_CODING_RATE, runs)
        found.append(
            row._asdict()
            | {
                "here": statistics.fmean(shares),
                "spread": statistics.stdev(shares) if runs > 1 else 0.0,
                "at_4_5": statistics.fmean(mesh_theirs.delivery(row, 5, runs)),
                "runs": runs,
            }
        )
    return found


def baseline_table(found: list[dict[str, Any]]) -> Table:
    """Theirs as once run and as rebuilt, and ours."""
    table = Table("nodes", "every s", "theirs, one run", "rebuilt, ten", "here", "apart", "at 4/5 as on air")
    for row in found:
        table.add_row(
            str(row["nodes"]),
            f"{row['period_s']:.0f}",
            f"{row['theirs']:.1f} %",
            f"{row['rebuilt']:.1f} ± {row['rebuilt_spread']:.1f} %",
            f"{row['here']:.1f} ± {row['spread']:.1f} %",
            f"{row['here'] - row['rebuilt']:+.1f}",
            f"{row['at_4_5']:.1f} %",
        )
    return table


def main(arguments: list[str]) -> int:
    """Print the tables and write the JSON; 0 whatever the verdicts, 2 for a pattern without a row."""
    parser = argparse.ArgumentParser(prog="make bench-mesh", description=__doc__)
    parser.add_argument(
        "--runs",
        type=int,
        default=20,
        help="seeds of each row (default 20), ten times as many of those with ten nodes",
    )
    parser.add_argument(
        "--rows",
        default="*",
        help="only rows like this, * for any: NODES/SECONDS/broadcast|unicast/"
        "static|dying|healed|returning|deaf",
    )
    parser.add_argument("--no-baseline", action="store_true", help="leave the makers' simulator out")
    parser.add_argument(
        "--json", type=Path, default=ROOT / "var" / "bench-mesh.json", help="where the JSON goes"
    )
    chosen = parser.parse_args(arguments)
    some = [row for row in mesh_rows.ROWS if fnmatch.fnmatch(row.name, chosen.rows)]
    if not some or chosen.runs < 1:
        print(f"no run: --rows {chosen.rows} has {len(some)} rows, --runs {chosen.runs}", file=sys.stderr)
        return 2
    with Progress(console=Console(stderr=True)) as progress:
        theirs = [] if chosen.no_baseline else baseline(chosen.runs, progress)
        found = rows(some, chosen.runs, progress)
    console = Console(width=None if sys.stdout.isatty() else 200)
    if theirs:
        console.print(baseline_table(theirs))
    console.print(rows_table(found))
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps({"baseline": theirs, "rows": found}, indent=1), encoding="utf-8")
    print(f"JSON: {chosen.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
