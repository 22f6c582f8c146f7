"""The PDU codec of evy_core: round trips, any octets, and python-gammu as oracle in both directions."""

import contextlib
from datetime import UTC, datetime
from typing import Any

import gammu
import pytest
from evy_core import (
    Deliver,
    PduError,
    StatusReport,
    Submit,
    decode_received,
    decode_submitted,
    encode_pdus,
    join_parts,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.core.test_segment import ALPHABET

SENT_AT = 1_752_228_784.0  # 11 July 2025, 10:13:04 UTC

# Gammu's C strings end at U+0000, and in UCS-2 it trades «~» and U+0001 with Nokia's phones of old.
gsm7_texts = st.text(st.sampled_from(ALPHABET), max_size=70)
ucs2_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\1~"), max_size=30)
texts = gsm7_texts | ucs2_texts
numbers = st.from_regex(r"\+[1-9][0-9]{2,14}", fullmatch=True)
concats = st.none() | st.integers(1, 255).flatmap(
    lambda total: st.tuples(st.integers(0, 0xFFFF), st.just(total), st.integers(1, total))
)


def one(pdu: bytes) -> Deliver | StatusReport:
    (message,) = decode_received([pdu])
    return message


@given(texts, numbers, concats, st.integers(-79, 79), st.sampled_from([None, 0, 2]))
def test_deliver_round_trip(
    text: str, sender: str, concat: tuple[int, int, int] | None, zone: int, message_class: int | None
) -> None:
    coding = None if message_class is None else 0x18 | message_class
    sent = Deliver(
        sender, text, smsc="+12085550100", smsc_at=SENT_AT, zone_quarters=zone, concat=concat, coding=coding
    )
    (pdu,) = encode_pdus([sent])
    read = one(pdu)
    assert isinstance(read, Deliver)
    assert read == sent
    assert (read.text, read.sender, read.concat, read.smsc_at) == (text, sender, concat, SENT_AT)
    assert read.message_class == message_class


@given(texts, numbers, concats)
def test_gammu_reads_what_we_write(text: str, sender: str, concat: tuple[int, int, int] | None) -> None:
    (pdu,) = encode_pdus(
        [Deliver(sender, text, smsc="+12085550100", smsc_at=SENT_AT, zone_quarters=8, concat=concat)]
    )
    read = gammu.DecodePDU(pdu, True)
    # Gammu counts an extension character as two: U+0000 and whatever lay in memory follow the text.
    assert (read["Number"], read["Text"].partition("\0")[0], read["Type"]) == (sender, text, "Deliver")
    assert read["DateTime"] == datetime.fromtimestamp(SENT_AT, UTC)
    if concat:
        reference, total, number = concat
        wide = "ID16bit" if reference > 0xFF else "ID8bit"
        assert (read["UDH"][wide], read["UDH"]["AllParts"], read["UDH"]["PartNumber"]) == (
            reference,
            total,
            number,
        )


@given(texts, numbers, st.none() | st.tuples(st.integers(0, 255), st.just(3), st.integers(1, 3)))
def test_we_read_what_gammu_writes(text: str, number: str, concat: tuple[int, int, int] | None) -> None:
    gsm7 = all(c in ALPHABET for c in text)
    message: dict[str, Any] = {
        "Number": number,
        "Text": text,
        "SMSC": {"Location": 1, "Number": "+12085550100"},
        "Class": -1,
        "Coding": "Default_No_Compression" if gsm7 else "Unicode_No_Compression",
        "Folder": 1,
        "Location": 1,
        "InboxFolder": 1,
        "DateTime": datetime(2025, 7, 11, 10, 13, 4),  # noqa: DTZ001  Gammu takes no zone
    }
    if concat:
        message["UDH"] = {"Type": "UserUDH", "Text": bytes([5, 0, 3, *concat])}
    (read,) = decode_submitted([gammu.EncodePDU(message, "Submit")])
    assert (read.text, read.concat, read.smsc) == (text, concat, "+12085550100")
    assert (read.recipient, read.report) == (number, False)


@given(numbers, st.integers(0, 255), st.integers(0, 255))
def test_status_report_round_trip(recipient: str, reference: int, status: int) -> None:
    sent = StatusReport(
        recipient, reference, status, smsc="+12085550100", smsc_at=SENT_AT, discharged_at=SENT_AT + 4
    )
    read = one(encode_pdus([sent])[0])
    assert isinstance(read, StatusReport)
    assert read == sent
    assert (read.recipient, read.reference, read.status) == (recipient, reference, status)
    assert (read.smsc_at, read.discharged_at) == (SENT_AT, SENT_AT + 4)


@given(st.binary(max_size=200))
def test_any_octets_are_a_message_or_a_typed_error(octets: bytes) -> None:
    for decode in (decode_received, decode_submitted):
        with contextlib.suppress(PduError):
            (message,) = decode([octets])
            assert repr(message)


@pytest.mark.parametrize(
    ("language", "septets", "text"),
    [
        (2, b"est\x1ba", "está"),
        (3, b"cora\x1b\x09\x1b\x7bo", "coração"),
        (1, b"\x1bsi\x1bi", "şiı"),
        (99, b"est\x1ba", "esta"),
    ],
)
def test_national_tables_that_gammu_ignores_are_read(language: int, septets: bytes, text: str) -> None:
    sent = Deliver("+34600111222", data=septets, coding=0, header=[(0x24, bytes([language]))])
    read = one(encode_pdus([sent])[0])
    assert isinstance(read, Deliver)
    assert read.text == text


@pytest.mark.parametrize(
    ("language", "locking", "text"),
    [
        (1, "1D 1B 69 04", "şı€"),
        (3, "53 7B 6F 20 0F 67 75 61", "São água"),
        (4, "1D 46", "জল"),
        (5, "3D 50 26 52", "પાણી"),
        (6, "2F 42 4C 5F 27 59 20 1B 1C 1B 1D", "नमस्ते ०१"),
        (7, "2F 52 44 53", "ನೀರು"),
        (8, "49 58 47 5F 47 01", "വെള്ളം"),
        (9, "3D 50 26 51", "ପାଣି"),
        (10, "3D 50 26 52", "ਪਾਣੀ"),
        (11, "2F 52 44 5F 20 1B 1D", "நீர் ௧"),
        (12, "2F 52 44 53 1B 65", "నీరు€"),
        (13, "3D 4D 00 4E 20 1B 53", "سلام S"),
    ],
)
def test_a_phone_set_to_a_language_is_read(language: int, locking: str, text: str) -> None:
    header = [(0x24, bytes([language])), (0x25, bytes([language]))]
    sent = Deliver("+34600111222", data=bytes.fromhex(locking), coding=0, header=header)
    read = one(encode_pdus([sent])[0])
    assert isinstance(read, Deliver)
    assert read.text == text


def test_a_pair_divided_between_two_parts_is_joined() -> None:
    halves = [
        Deliver("+1", data="A\ud83d".encode("utf-16-be", "surrogatepass"), coding=8, concat=(9, 2, 1)),
        Deliver("+1", data="\ude00B".encode("utf-16-be", "surrogatepass"), coding=8, concat=(9, 2, 2)),
    ]
    assert [half.text for half in halves] == ["A\ufffd", "\ufffdB"]
    assert join_parts([halves, [], [Deliver("+1", "whole")]]) == ["A😀B", "", "whole"]


def test_what_does_not_fit_is_refused_with_its_size() -> None:
    with pytest.raises(PduError, match="user data of 141 octets, at most 140"):
        encode_pdus([Submit("+1", "a" * 161)])
    with pytest.raises(PduError, match="recipient: 21 digits, at most 20"):
        encode_pdus([Submit("1" * 21, "a")])
    with pytest.raises(PduError, match="part number"):
        Submit("+1", "a", concat=(1, 2, 3))
    with pytest.raises(PduError, match="'á' at 1"):
        Submit("+1", "má", coding=0)
    with pytest.raises(PduError, match="sender"):
        encode_pdus([Deliver("A NAME OF TWELVE", "a")])


def test_names_data_and_nonsense_times_survive() -> None:
    name = one(encode_pdus([Deliver("ALERT ES", "x")])[0])
    assert isinstance(name, Deliver)
    assert (name.sender, name.sender_is_name) == ("ALERT ES", True)
    data = one(encode_pdus([Deliver("+1", data=b"\x00\xff", coding=0x04)])[0])
    assert isinstance(data, Deliver)
    assert (data.text, data.data, data.alphabet) == (None, b"\x00\xff", "data")
    pdu = bytearray(encode_pdus([Deliver("+1", "x")])[0])
    pdu[-9:-2] = b"\xff" * 7
    timeless = one(bytes(pdu))
    assert isinstance(timeless, Deliver)
    assert (timeless.smsc_at, timeless.smsc_time, timeless.text) == (None, b"\xff" * 7, "x")
