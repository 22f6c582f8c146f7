"""`evy bench`: measures this machine with the benchmark of the source tree."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import click

from subjects.errors import ConfigError

CHECKOUT = Path(__file__).parents[2]


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Measure this machine: a table on stdout, JSON beside it. `evy bench --help` lists the options.

    It runs the tree's own `tests/bench` in a process of its own, so what is measured starts fresh.
    """
    if not (CHECKOUT / "tests" / "bench" / "__main__.py").is_file():
        raise ConfigError(
            f"no tests/bench in {CHECKOUT}: EVY is installed without its source; "
            "run `make bench` in a checkout"
        )
    if missing := [name for name in ("psutil", "pytest") if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"the benchmark needs {' and '.join(missing)}; run `make setup` in {CHECKOUT}")
    command = [sys.executable, "-m", "tests.bench", *arguments]
    path = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path}
    sys.exit(subprocess.run(command, env=environment, check=False).returncode)
