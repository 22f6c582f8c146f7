"""The linear model beside the rules: it only adds, shows where, and refuses weights that are not whole."""

import json
import unicodedata
from functools import cache
from pathlib import Path

import pytest
from evy_core import DataError, Triager

from actors.knowledge.engines import triage_files

NAME = "model.tsv"
ALARM = "alarm.tsv"
UNSEEN = Path(__file__).parents[1] / "vectors" / "unseen" / "batch2.jsonl"
VECTORS = sorted((Path(__file__).parents[1] / "vectors").glob("triage*.jsonl"))


@cache
def triager(*, model: bool = True) -> Triager:
    return Triager([(name, text) for name, text in triage_files() if model or not name.endswith(".tsv")])


def texts() -> list[str]:
    return [json.loads(line)["text"] for path in VECTORS for line in path.read_bytes().splitlines()]


def weights() -> str:
    return dict(triage_files())[NAME]


def test_it_only_adds() -> None:
    said = texts()
    added = 0
    for text, alone, both in zip(
        said, triager(model=False).classify(said), triager().classify(said), strict=True
    ):
        assert alone.priority != "emergency" or (both.priority, both.template) == (
            "emergency",
            alone.template,
        ), text
        assert alone.priority != "urgent" or both.priority != "normal"
        assert set(alone.needs) - {"none"} <= set(both.needs)
        assert set(alone.why) <= set(both.why)
        added += both.needs != alone.needs
    assert added


def test_an_alarm_is_only_raised_and_says_why() -> None:
    said = [*texts(), *(json.loads(line)["text"] for line in UNSEEN.read_bytes().splitlines())]
    alone = Triager([(name, text) for name, text in triage_files() if name != ALARM])
    raised = 0
    for before, after in zip(alone.classify(said), triager().classify(said), strict=True):
        if before.priority == after.priority:
            assert before == after
            continue
        raised += 1
        assert (after.priority, after.template) == ("emergency", "general_danger")
        assert after.needs == before.needs
        assert "model:emergency" in {cue for cue, _, _ in after.why}
    assert 3 <= raised <= 0.02 * len(said)


def test_a_question_that_goes_on_from_another_raises_no_alarm() -> None:
    rows = [json.loads(line) for line in (UNSEEN.parents[1] / "calm.jsonl").read_bytes().splitlines()]
    found = triager().classify([row["text"] for row in rows])
    known = [row["text"] for row, got in zip(rows, found, strict=True) if got.priority == "emergency"]
    assert len({row["lang"] for row in rows}) == len(triager().langs)
    assert len(known) <= 0.05 * len(rows), known


def test_what_the_rules_took_back_raises_no_alarm() -> None:
    text = "he was fixing the fuse box there was a bang now hes on the ground and smoke off his hand"
    assert triager().classify([text])[0].priority == "emergency"
    assert triager().classify([f"in the song {text}, and the fire is out"])[0].priority == "normal"


def test_what_it_adds_it_shows() -> None:
    said = texts()
    shown = 0
    for text, got in zip(said, triager().classify(said), strict=True):
        added = {cue.removeprefix("model:") for cue, start, end in got.why if cue.startswith("model:")}
        assert added <= {*got.needs, got.priority}, text
        assert all(text[start:end].strip() for _, start, end in got.why)
        shown += bool(added)
    assert shown >= 5


def test_composed_and_decomposed_letters_get_the_same_scores() -> None:
    text = "Nou bezwen dlo, manjé ak tant pou timoun yo, n ap dòmi atè"
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC")]
    scores = triager().scores(forms)
    assert len(scores[0]) == len(triager().outputs)
    assert scores[0] == scores[1] == scores[2]


def test_scores_are_whole_numbers_that_stay_the_same() -> None:
    assert triager().scores(texts()) == Triager(triage_files()).scores(texts())


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[: len(text) // 2], "checksum"),
        (lambda text: text.replace("\t1", "\t2", 2), "version"),
        (lambda text: text.replace("\n!urgent\t", "\n!urgent\t1"), "checksum"),
        (lambda _: "lang = 'en'\n", "version"),
        (lambda _: "", "version"),
    ],
)
def test_weights_that_are_not_whole_are_refused(damage, reason: str) -> None:  # type: ignore[no-untyped-def]
    files = [(name, damage(text) if name == NAME else text) for name, text in triage_files()]
    with pytest.raises(DataError, match=reason):
        Triager(files)


def test_the_file_is_small_and_holds_no_numbers() -> None:
    assert len(weights().encode()) <= 400_000
    rows = weights().splitlines()[6:]
    assert not any(c.isnumeric() for row in rows for c in row.split("\t")[0])


def test_without_a_model_there_are_no_scores() -> None:
    assert triager(model=False).outputs == []
    assert triager(model=False).scores(["help"]) == [[]]
