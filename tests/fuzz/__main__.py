"""`make fuzz`: damages what comes over the air, the serial line and the bus until something breaks.

Coverage-guided: libFuzzer on the Rust core, atheris (libFuzzer for Python) on the rest. A finding is a file
that brings the failure back, and an exit status of 1.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Column, Table

from tests.fuzz.seeds import SEEDS

ROOT: Final = Path(__file__).parents[2]
CRATE: Final = ROOT / "rust_ext" / "fuzz"
KEPT: Final = ROOT / "var" / "fuzz"
RUST: Final = ("pdu", "text", "packed", "frame")
MOST_OCTETS: Final = {
    "pdu": 300,
    "text": 2000,
    "packed": 400,
    "frame": 700,
    "at_lines": 1500,
    "envelopes": 1000,
}
INSTRUMENT: Final = (
    "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 "
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters "
    "-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
)
"""What `cargo fuzz` gives rustc on a stable toolchain, without an address sanitizer: the core has no unsafe
code, so panics are what there is to find."""


def build() -> Path:
    """Builds the Rust targets; gives their directory. The host is named so that build scripts, which have no
    fuzzer to link, are left alone."""
    asked = subprocess.run(["rustc", "--print", "host-tuple"], capture_output=True, text=True, check=True)
    host = asked.stdout.strip()
    flags = " ".join(filter(None, (os.environ.get("RUSTFLAGS"), INSTRUMENT)))
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--target", host]
    subprocess.run(command, cwd=CRATE, env={**os.environ, "RUSTFLAGS": flags}, check=True)
    return CRATE / "target" / host / "release"


def command_of(target: str, built: Path) -> list[str]:
    """Command line of a target, without what libFuzzer is told."""
    if target in RUST:
        return [str(built / target)]
    return [sys.executable, "-m", f"tests.fuzz.{target}"]


def fuzz(target: str, command: list[str], seconds: int) -> Mapping[str, str]:
    """Runs one target; gives its figures. What it learns is kept for the next run."""
    corpus, found = KEPT / target / "corpus", KEPT / target / "found"
    for directory in (corpus, found):
        directory.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[target]()):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = {
        "max_total_time": seconds,
        "max_len": MOST_OCTETS[target],
        "timeout": 20,
        "rss_limit_mb": 2048,
        "print_final_stats": 1,
        "artifact_prefix": f"{found}/",
    }
    log = KEPT / target / "log"
    with log.open("wb") as out:
        told = [f"-{name}={value}" for name, value in options.items()]
        done = subprocess.run(
            [*command, *told, str(corpus)],
            cwd=ROOT,
            stdout=out,
            stderr=out,
            timeout=seconds + 300,
            check=False,
        )
    said = log.read_text(encoding="utf-8", errors="replace")
    runs = re.findall(r"Done (\d+) runs", said)
    covered = re.findall(r"cov: (\d+)", said)
    broke = re.findall(rf"written to ({re.escape(str(found))}\S+)", said)
    if done.returncode and not broke:
        print(said[-3000:], file=sys.stderr)
    return {
        "runs": runs[-1] if runs else "",
        "covered": f"{covered[0]} to {covered[-1]}" if covered else "",
        "found": " ".join(broke) or ("" if done.returncode == 0 else f"ended with {done.returncode}: {log}"),
    }


def main() -> int:
    """Fuzzes the targets named, all of them by default; 1 when something was found."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="time for each target (default 60)")
    parser.add_argument(
        "--core", action="store_true", help="the Rust core only, and nothing where no C++ compiler is"
    )
    parser.add_argument("--only", action="append", choices=sorted(SEEDS), help="this target; may be repeated")
    asked = parser.parse_args()
    console = Console()
    targets = asked.only or [target for target in SEEDS if target in RUST or not asked.core]
    if asked.core and not shutil.which(os.environ.get("CXX", "c++")):
        console.print("fuzzing skipped: libFuzzer needs a C++ compiler, apt-get install g++")
        return 0
    built = build() if set(targets) & set(RUST) else CRATE
    table = Table("target", "runs", "branches reached, from seeds to end", Column("found", overflow="fold"))
    failed = False
    for target in targets:
        console.print(f"{target}: {asked.seconds} s …")
        command = command_of(target, built)
        figures = fuzz(target, command, asked.seconds)
        failed |= bool(figures["found"])
        table.add_row(target, figures["runs"], figures["covered"], figures["found"] or "nothing")
        if figures["found"]:
            console.print(f"  again: {' '.join(command)} {figures['found']}", soft_wrap=True)
    console.print(table)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
