"""`make eval`: how well triage, compression and answers do, beside simpler ways. Prints tables, writes JSON.

A missed goal is said, never an error.
"""

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from tests.eval.report import ROOT, Report, SkippedError, show


def area(module: str) -> Callable[[], Report]:
    """`run` of a module of this package, imported when it is called: an area pays only for what it uses."""

    def run() -> Report:
        report = importlib.import_module(f"tests.eval.{module}").run()
        assert isinstance(report, Report)
        return report

    return run


def held() -> Report:
    """The area ``answers`` on the questions that are run once for a release."""
    answers = importlib.import_module("tests.eval.answers")
    report = answers.run(answers.HELD)
    assert isinstance(report, Report)
    return report


AREAS: Final[Mapping[str, Callable[[], Report]]] = {
    "triage": area("triage"),
    "public": area("public"),
    "unseen": area("unseen"),
    "pack": area("pack"),
    "compression": area("compression"),
    "metamorphic": area("metamorphic"),
    "answers": area("answers"),
    "attacks": area("attacks"),
    "held": held,
}

ON_DEMAND: Final = frozenset({"held"})
"""Areas that are only measured by name."""


def measure(name: str) -> Report:
    """Report of one area; one that says why when it cannot be measured here."""
    try:
        return AREAS[name]()
    except SkippedError as error:
        return Report(title="not measured", skipped=str(error))


def main(arguments: Sequence[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="make eval", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few folds of little: does it run at all")
    parser.add_argument("--only", action="append", choices=AREAS, metavar="NAME", help=", ".join(AREAS))
    parser.add_argument(
        "--json", type=Path, default=ROOT / "var" / "eval-latest.json", help="where JSON goes"
    )
    options = parser.parse_args(arguments)
    os.environ["EVY_EVAL_QUICK"] = "1" if options.quick else "0"
    progress = Console(stderr=True, highlight=False)
    console = Console(width=None if sys.stdout.isatty() else 170)
    reports: dict[str, Report] = {}
    for name in AREAS:
        if name in (options.only or AREAS.keys() - ON_DEMAND):
            progress.print(f"evaluating {name} …", style="dim")
            reports[name] = measure(name)
            show(name, reports[name], console)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    document = {"at": time.time(), "quick": options.quick, "areas": reports}
    options.json.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1))
    console.print(f"JSON: {options.json}", soft_wrap=True)


if __name__ == "__main__":
    main(sys.argv[1:])
