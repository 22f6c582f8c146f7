"""Triage in each language, on texts as people there send them: `tests/vectors/triage_<lang>.jsonl`.

`held` texts were written before their author saw what the rules make of them; no rule was changed for them.
"""

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from evy_core import Triage, Triager

from actors.knowledge.engines import triage_files

FILES = sorted((Path(__file__).parents[1] / "vectors").glob("triage_*.jsonl"))
BY_LANGUAGE = pytest.mark.parametrize(
    "path", FILES, ids=[path.stem.removeprefix("triage_") for path in FILES]
)
Judged = tuple[dict[str, Any], Triage]


@cache
def triager() -> Triager:
    return Triager(triage_files())


@cache
def judged(path: Path) -> list[Judged]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return list(zip(rows, triager().classify([row["text"] for row in rows]), strict=True))


def of(path: Path, priority: str, *, held: bool | None = None) -> list[Judged]:
    return [
        (row, got) for row, got in judged(path) if row["priority"] == priority and held in {None, row["held"]}
    ]


@BY_LANGUAGE
def test_the_vectors_cover_what_they_should(path: Path) -> None:
    rows = [row for row, _ in judged(path)]
    topics = Counter(row["template"] for row in rows if row["priority"] == "emergency")
    assert {topic: topics[topic] for topic in triager().topics if topics[topic] < 3} == {}
    assert set(topics) <= {*triager().topics, "general_danger"}
    assert len(rows) >= 120
    assert sum(row["priority"] == "normal" for row in rows) >= 40
    assert sum(row["held"] for row in rows) >= len(rows) // 4
    assert len({row["text"] for row in rows}) == len(rows)


@BY_LANGUAGE
def test_emergencies_are_recognised(path: Path) -> None:
    tuned = of(path, "emergency", held=False)
    missed = [row["text"] for row, got in tuned if got.priority != "emergency"]
    assert len(missed) <= 0.015 * len(tuned), missed


@BY_LANGUAGE
def test_emergencies_nobody_tuned_on_are_recognised(path: Path) -> None:
    held = of(path, "emergency", held=True)
    missed = [row["text"] for row, got in held if got.priority != "emergency"]
    assert len(missed) <= 0.15 * len(held), missed


@BY_LANGUAGE
def test_the_wrong_template_is_rare(path: Path) -> None:
    rows = of(path, "emergency")
    wrong = [
        (row["text"], got.template)
        for row, got in rows
        if got.priority == "emergency"
        and got.template not in {row["template"], "general_danger", *row.get("also", [])}
    ]
    assert len(wrong) <= 0.05 * len(rows), wrong


@BY_LANGUAGE
def test_false_alarms_are_rare(path: Path) -> None:
    alarms = {
        held: [row["text"] for row, got in of(path, "normal", held=held) if got.priority == "emergency"]
        for held in (False, True)
    }
    assert alarms[False] == []
    assert len(alarms[True]) <= 0.15 * len(of(path, "normal", held=True)), alarms


@BY_LANGUAGE
def test_needs_of_hours_or_days_are_seen(path: Path) -> None:
    rows = of(path, "urgent")
    unseen = [row["text"] for row, got in rows if got.priority == "normal"]
    assert len(unseen) <= 0.2 * len(rows), unseen


def test_languages_are_told_apart() -> None:
    rows = [pair for path in FILES for pair in judged(path) if len(re.findall(r"\w+", pair[0]["text"])) > 2]
    wrong = [(row["text"], row["lang"], got.lang) for row, got in rows if got.lang != row["lang"]]
    assert len(wrong) <= 0.03 * len(rows), wrong
