"""Measures retrieval on ``tests/vectors/questions.jsonl``, row by row; `rag_fit` fits its confidence.

``python -m tests.bench.bench_rag`` prints the figures.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from actors._retrieval.confidence import SURE, UNSURE
from actors._retrieval.index import KnowledgeIndex
from actors.knowledge import Texts

QUESTIONS = Path(__file__).parents[1] / "vectors" / "questions.jsonl"


def rows() -> list[dict[str, Any]]:
    """Every question with the ids of the articles that answer it; none means: must abstain."""
    return [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]


def report(index: KnowledgeIndex, questions: Sequence[dict[str, Any]], name: str) -> None:
    """Prints recall, abstention and calibration of some rows."""
    outcome = [(row, index.search(row["text"], row["lang"], 1)) for row in questions]
    answerable = [(row, found) for row, found in outcome if row["expect"]]
    other = [(row, found) for row, found in outcome if not row["expect"]]
    first = sum(bool(found) and found[0].id in row["expect"] for row, found in answerable)
    print(f"{name}: {len(answerable)} answerable, recall@1 {first} ({first / len(answerable):.1%})")
    for limit, label in ((UNSURE, "unsure"), (SURE, "sure")):
        said = [(row, found[0]) for row, found in outcome if found and found[0].score >= limit]
        right = sum(best.id in row["expect"] for row, best in said)
        astray = sum(not row["expect"] for row, _ in said)
        quiet = f"abstained on {len(other) - astray}/{len(other)} that have no answer"
        print(f"  >= {label} {limit}: right {right}/{len(answerable)}, {quiet},", end=" ")
        print(f"wrong article {len(said) - right - astray}")
    scores = np.array([found[0].score if found else 0.0 for _, found in outcome])
    hits = np.array([bool(found) and found[0].id in row["expect"] for row, found in outcome])
    print(f"  Brier score {np.mean((scores - hits) ** 2):.3f}")
    for row, found in outcome:
        wrong = found and found[0].score >= UNSURE and found[0].id not in row["expect"]
        lost = row["expect"] and (not found or found[0].score < UNSURE)
        if wrong or lost:
            print(f"    {'wrong' if wrong else 'lost '} {found[0].score:.2f} {found[0].id:18} {row['text']}")


def main() -> None:
    """Prints the figures."""
    questions = rows()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        index = KnowledgeIndex.open(Path(folder), Texts.load())
        built_s = time.perf_counter() - started
        index.close()
        started = time.perf_counter()
        index = KnowledgeIndex.open(Path(folder), Texts.load())
        opened_s = time.perf_counter() - started
        octets = sum(path.stat().st_blocks * 512 for path in Path(folder).rglob("*"))
        tuned, held = ([row for row in questions if row["held_out"] is is_held] for is_held in (False, True))
        report(index, tuned, "tuned on")
        report(index, held, "held out")
        times = []
        for row in questions:
            started = time.perf_counter()
            index.search(row["text"], row["lang"])
            times.append((time.perf_counter() - started) * 1000)
        p50, p99 = np.percentile(times, [50, 99])
        print(f"query p50 {p50:.1f} ms, p99 {p99:.1f} ms; build {built_s:.1f} s, open {opened_s:.2f} s")
        print(f"index {octets / 1024:.0f} KiB on disk, {len(Texts.load().articles())} articles")
        index.close()


if __name__ == "__main__":
    main()
