"""Packing with the shipped model: exact, bounded, and the same octets as ever."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from evy_core import CoreError, DataError, Packer, PackError
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.knowledge import SHIPPED, Texts, packer
from subjects.errors import ConfigError

VECTORS = Path(__file__).parents[1] / "vectors"
MODEL = (SHIPPED / "pack.model").read_bytes()
TEXTS = Texts.load()
PACKER = packer(TEXTS)
PINNED = [json.loads(line) for line in (VECTORS / "pack.jsonl").read_text(encoding="utf-8").splitlines()]
MEBIBYTE = 1 << 20


@pytest.mark.parametrize("pinned", PINNED, ids=[pinned["why"] for pinned in PINNED])
def test_octets_never_change_under_one_number(pinned: dict[str, str]) -> None:
    """A node of last year must read it: another model or coder takes another number."""
    assert PACKER.pack([pinned["text"]])[0].hex() == pinned["frame"]
    assert PACKER.unpack([bytes.fromhex(pinned["frame"])]) == [pinned["text"]]


@settings(max_examples=300)
@given(st.lists(st.text(max_size=300), max_size=4))
def test_any_text_comes_back_at_most_one_octet_longer(texts: Sequence[str]) -> None:
    for to_same in (False, True):
        frames = PACKER.pack(texts, to_same=to_same)
        assert PACKER.unpack(frames) == texts
        assert all(len(frame) <= len(text.encode()) + 1 for frame, text in zip(frames, texts, strict=True))


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda rest: b"\x11" + rest)))
def test_any_octets_are_a_text_or_an_error(frame: bytes) -> None:
    try:
        [text] = PACKER.unpack([frame])
    except PackError:
        return
    assert len(text) <= 65_535


def test_own_texts_go_by_name_to_who_says_the_same_and_in_full_to_others() -> None:
    texts = TEXTS.whole()
    named = PACKER.pack(texts, to_same=True)
    assert max(map(len, named)) == 5
    assert PACKER.unpack(named) == texts
    other = packer(Texts.load(emergency_number="911"))
    assert other.known_id != PACKER.known_id
    assert other.unpack(PACKER.pack(texts)) == texts
    changed = next(frame for frame, text in zip(named, texts, strict=True) if "112" in text)
    with pytest.raises(PackError, match="does not know"):
        other.unpack([changed])


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "empty frame"),
        (b"\x00\xff", "no UTF-8"),
        (b"\x20abc", "no name"),
        (b"\x20abcd", "does not know"),
        (b"\x1f", "model 15, this node has model"),
        (b"\x10", "model 0, this node has model"),
        (b"\xff", "not known"),
    ],
)
def test_a_frame_that_is_none_is_refused_with_the_reason(frame: bytes, reason: str) -> None:
    with pytest.raises(PackError, match=reason):
        PACKER.unpack([frame])


@pytest.mark.parametrize("octet", [b"\x00", b"\xff", b"\x55", b"\xa9"])
def test_endless_octets_never_make_more_text_than_the_limit(octet: bytes) -> None:
    with pytest.raises(PackError, match=r"too long|no character|behind the end"):
        PACKER.unpack([PACKER.pack(["water"])[0][:1] + octet * 100_000])


def test_long_and_torn_texts_are_refused() -> None:
    with pytest.raises(PackError, match="65536 octets"):
        PACKER.pack(["é" * 32_768])
    with pytest.raises(PackError, match="10000000 octets"):
        PACKER.pack(["a" * 10_000_000])
    with pytest.raises(UnicodeEncodeError):
        PACKER.pack(["torn \ud83d"])


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    for wrong in (b"", MODEL[:-1], MODEL[:5000] + b"x" + MODEL[5001:], b"EVYPACK\x10" + MODEL[8:]):
        with pytest.raises(DataError, match="pack model"):
            Packer(wrong)
    with pytest.raises(ConfigError, match=r"pack\.model"):
        packer(TEXTS, tmp_path)
    assert issubclass(PackError, CoreError)


def test_the_model_is_small_on_the_card_and_in_memory() -> None:
    assert len(MODEL) < 1.5 * MEBIBYTE
    assert PACKER.memory_octets < 20 * MEBIBYTE


def test_packing_is_worth_it() -> None:
    """A coarse hold on the ratio; `make eval` measures it on texts that nobody learned from."""
    lines = (VECTORS / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [row["text"] for row in map(json.loads, lines) if row["lang"] == "en"]
    octets = sum(map(len, PACKER.pack(texts)))
    assert octets < 0.42 * sum(len(text.encode()) for text in texts)
