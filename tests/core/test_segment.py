"""evy_core.segment against the standard, and against python-gammu and smsutil as oracles."""

import re

import gammu
import pytest
import smsutil
from evy_core import Segmentation, segment
from hypothesis import given
from hypothesis import strategies as st

LIMITS = {"gsm7": (160, 153), "ucs2": (70, 67)}
EXTENSION = "\f^{}\\[~]|€"
# 3GPP TS 23.038 §6.2.1, written out a second time on purpose.
ALPHABET = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà" + EXTENSION
)

# Where Gammu goes its own way and the standard has no such rule: its C strings end at U+0000, and it moves a
# combining mark of these five blocks to the next part together with the character before it.
GAMMU_DIFFERS = re.compile("[\0\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")

gsm7_texts = st.text(st.sampled_from(ALPHABET) | st.sampled_from(EXTENSION + "a"), max_size=1000)
ucs2_texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("á😀𝄞a"), max_size=500)
texts = gsm7_texts | ucs2_texts


def one(text: str) -> Segmentation:
    (result,) = segment([text])
    return result


def units(text: str, encoding: str) -> int:
    if encoding == "ucs2":
        return len(text.encode("utf-16-be")) // 2
    return len(text) + sum(text.count(c) for c in EXTENSION)


def gammu_segments(text: str, encoding: str) -> list[str]:
    entry = {"ID": "ConcatenatedTextLong", "Buffer": text}
    parts = gammu.EncodeSMS({"Class": -1, "Unicode": encoding == "ucs2", "Entries": [entry]})
    return [part["Text"] for part in parts]


@given(texts)
def test_segments_join_to_the_text_and_fit(text: str) -> None:
    result = one(text)
    parts = result.segments
    assert "".join(parts) == text
    assert len(parts) == result.count
    assert result.units == units(text, result.encoding)
    single, part = LIMITS[result.encoding]
    assert max(units(p, result.encoding) for p in parts) <= (single if result.count == 1 else part)
    assert result.encoding == ("gsm7" if set(text) <= set(ALPHABET) else "ucs2")


@given(texts.filter(lambda text: text and "\x1b" not in text))
def test_agrees_with_smsutil(text: str) -> None:
    # Not compared: an empty text, which smsutil calls UCS-2, and U+001B, which it takes for a character
    # although the standard makes that code the escape.
    oracle = smsutil.split(text)
    result = one(text)
    assert result.encoding == {"gsm0338": "gsm7", "utf_16_be": "ucs2"}[oracle.encoding]
    assert result.segments == [part.content for part in oracle.parts]


@given(texts.filter(lambda text: not GAMMU_DIFFERS.search(text)))
def test_agrees_with_gammu(text: str) -> None:
    result = one(text)
    assert result.segments == gammu_segments(text, result.encoding)
    coding = "Default_No_Compression" if result.encoding == "gsm7" else "Unicode_No_Compression"
    count, _free = gammu.SMSCounter(text, Coding=coding)
    assert result.count == count


@pytest.mark.parametrize(
    ("text", "encoding", "lengths"),
    [
        ("", "gsm7", [0]),
        ("a" * 160, "gsm7", [160]),
        ("a" * 161, "gsm7", [153, 8]),
        ("a" * 306, "gsm7", [153, 153]),
        ("a" * 158 + "€", "gsm7", [159]),
        ("a" * 159 + "€", "gsm7", [153, 7]),
        ("a" * 152 + "€" + "a" * 10, "gsm7", [152, 11]),
        ("á" * 70, "ucs2", [70]),
        ("á" * 71, "ucs2", [67, 4]),
        ("a" * 68 + "😀", "ucs2", [69]),
        ("a" * 69 + "😀", "ucs2", [67, 3]),
        ("a" * 66 + "😀" + "a" * 10, "ucs2", [66, 11]),
    ],
)
def test_boundaries(text: str, encoding: str, lengths: list[int]) -> None:
    result = one(text)
    assert result.encoding == encoding
    assert [len(part) for part in result.segments] == lengths
    assert result.segments == gammu_segments(text, encoding)


def test_order_and_length_are_kept() -> None:
    results = segment(["a" * 161, "", "á"])
    assert [r.count for r in results] == [2, 1, 1]
    assert segment([]) == []


def test_results_are_frozen() -> None:
    result = one("a")
    with pytest.raises(AttributeError):
        result.count = 2  # type: ignore[misc]


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        segment(["\ud800"])
