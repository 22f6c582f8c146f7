"""Memory of the Rust core and all it loads, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import psutil

from tests.bench.rows import Figure, Goal, Row, Setting

VECTORS: Final = Path(__file__).parents[1] / "vectors"


def measure(setting: Setting) -> list[Row]:
    """Unique resident memory that the core adds to an interpreter, loaded and after a thousand texts."""
    runs = []
    for _ in range(min(setting.repeats, 3)):
        asked = subprocess.run(
            [sys.executable, "-m", "tests.bench.core_memory"], check=True, capture_output=True, text=True
        )
        runs.append(json.loads(asked.stdout))
    names = ("loaded", "used")
    figures = tuple(Figure(name, "MB", tuple(run[name] for run in runs)) for name in names)
    note = "library, triage, redaction, routes, compression, packing; unique set size with the files read"
    return [Row("core-memory", "memory of the Rust core", figures, (Goal("used", 30),), (note,))]


def _unique_mb() -> float:
    return float(psutil.Process().memory_full_info().uss) / 1e6


def main() -> None:
    """Prints what loading and using took, in MB."""
    lines = (VECTORS / "triage.jsonl").read_text(encoding="utf-8").splitlines()[:1000]
    texts = [json.loads(line)["text"] for line in lines]
    before = _unique_mb()
    import evy_core  # noqa: PLC0415  # what is measured

    library = _unique_mb() - before
    from actors.knowledge import (  # noqa: PLC0415  # likewise
        Texts,
        packer,
        redactor,
        route_rules,
        shipped_compressor,  # the actors around it are not
        triager,
    )

    said = Texts.load()  # Python's own
    before = _unique_mb() - library
    triage, compressor = triager(), shipped_compressor()
    redacting, router = redactor(), evy_core.Router(route_rules())
    packing = packer(said)
    loaded = _unique_mb()
    for text in texts:
        triage.classify([text])
        redacting.redact([text])
        compressor.fit([text * 4], ["en"], [False], [1], ["MORE?"])
        router.decide([evy_core.Situation("normal")])
        evy_core.segment([text])
        packing.unpack(packing.pack([text]))
    used = _unique_mb()
    sys.stdout.write(json.dumps({"loaded": loaded - before, "used": used - before}))


if __name__ == "__main__":
    main()
