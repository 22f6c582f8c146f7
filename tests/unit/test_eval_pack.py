"""What the packer's model may learn from, and the evaluation's interval."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("brotli", reason="programs of `make eval` are not installed: uv sync --group eval")

from tests.eval import pack, pack_texts


def test_interval_holds_the_ratio_and_narrows_with_more_texts() -> None:
    rng = np.random.default_rng(7)
    given = rng.integers(40, 200, 400)
    out = given // 3 + rng.integers(0, 20, 400)
    low, high = pack.interval(out, given)
    few_low, few_high = pack.interval(out[:20], given[:20])
    assert low < out.sum() / given.sum() < high
    assert high - low < (few_high - few_low) / 2


def test_phrases_are_of_the_languages_that_have_little_else() -> None:
    sources = {sample.source for sample in pack_texts.own()}
    assert {f"phrases {lang}" for lang in ("ar", "es", "fr", "hi", "ht", "pt", "sw", "tl")} < sources


def test_no_text_of_the_evaluation_is_learned_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    never = pack_texts.Sample("Help my son is not  breathing", "own")
    other = pack_texts.Sample("help my son is breathing", "own")
    (tmp_path / "unseen").mkdir()
    (tmp_path / "questions.jsonl").touch()
    (tmp_path / "unseen" / "a.jsonl").write_text('{"text": "help my son is not breathing", "n": 1}\n')
    monkeypatch.setattr(pack_texts, "VECTORS", tmp_path)
    monkeypatch.setattr(pack_texts, "DEV", tmp_path / "absent")
    monkeypatch.setattr(pack_texts, "held_back", tuple)
    for source in ("messages", "udhr", "lingua", "django"):
        monkeypatch.setattr(pack_texts, source, tuple)
    monkeypatch.setattr(pack_texts, "own", lambda: (never, other, other))
    assert pack_texts.training() == [other]
