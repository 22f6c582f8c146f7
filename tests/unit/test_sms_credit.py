"""What a carrier's answer says, and what is made of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.sms.credit import CreditConfig, amount_in
from actors.sms.ussd import decoded
from simulators.modem.ussd import packed

BALANCE = "Your balance is 1.234,50 €.\nValid until 31/12."


@pytest.mark.parametrize(
    ("said", "pattern", "amount"),
    [
        ("Saldo: 12,50 EUR", r"(\d+(?:[.,]\d+)?)", 12.5),
        ("12.5", r"(\d+(?:[.,]\d+)?)", 12.5),
        (BALANCE, r"balance is ([\d.,]+)", 1234.5),
        ("Balance 1,234.50", r"([\d.,]+)", 1234.5),
        ("Balance KSh 7", r"KSh (\d+)", 7.0),
        ("no number at all", r"(\d+)", None),
        ("....", r"([.]+)", 0.0),
        ("", r"(\d+)?", None),
        ("٣٤", r"(\d+)", 34.0),
    ],
)
def test_the_amount(said: str, pattern: str, amount: float | None) -> None:
    assert amount_in(said, pattern) == amount


@pytest.mark.parametrize(
    "table",
    [
        {"ussd": "*100#; rm"},
        {"ussd": ""},
        {"ussd": "*1#", "amount": r"\d+"},
        {"ussd": "*1#", "amount": "("},
        {"ussd": "*1#", "every_s": 1},
    ],
)
def test_a_wrong_table_is_refused_with_the_mend(table: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"such as|once a minute|amount ="):
        CreditConfig(**table)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    ("said", "coding", "charset"),
    [
        (BALANCE, 15, "IRA"),
        (BALANCE.encode("utf-16-be").hex().upper(), 72, "IRA"),
        (BALANCE.encode("utf-16-be").hex(), 15, "UCS2"),
        (packed(BALANCE).hex().upper(), 15, "GSM"),
    ],
)
def test_an_answer_in_every_form(said: str, coding: int, charset: str) -> None:
    assert decoded(said, coding, charset) == " ".join(BALANCE.split())


def test_a_bare_number_is_no_packed_text() -> None:
    assert decoded("1050", 15, "IRA") == "1050"


WORDS = st.text("abcXYZ 0189,.:€@", min_size=12, max_size=80).map(str.strip)


@given(WORDS.filter(lambda text: len(text) >= 12 and not text.endswith("@")))  # «@» may be spare bits
def test_packed_septets_come_back(text: str) -> None:
    assert decoded(packed(text).hex(), 15, "GSM") == " ".join(text.split())


@given(st.text(max_size=400), st.integers(0, 255), st.sampled_from(["", "IRA", "UCS2", "HEX"]))
def test_nothing_that_a_network_says_is_an_error(said: str, coding: int, charset: str) -> None:
    decoded(said, coding, charset)
