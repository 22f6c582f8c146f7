"""Any octets from a modem are a message of some kind, and who sent a picture is found in it."""

import pytest
from evy_core import Deliver, encode_pdus
from hypothesis import given
from hypothesis import strategies as st

from actors.sms.kinds import FATES, kind_of, writer
from actors.sms.modem import Received
from actors.sms.stored import read_pdu

octets = st.binary(max_size=120)
elements = st.lists(
    st.tuples(st.sampled_from([0, 1, 4, 5, 8, 0x23, 0x24, 0x25, 0x70]), st.binary(max_size=6)), max_size=3
)


@given(
    octets, st.integers(0, 255), st.integers(0, 255), elements, st.sampled_from(["+34600111222", "3020", "A"])
)
def test_a_message_of_any_coding_protocol_and_header_has_a_kind(
    data: bytes, coding: int, protocol: int, header: list[tuple[int, bytes]], sender: str
) -> None:
    body = bytes(octet & 0x7F for octet in data)  # septets, if the coding says so
    (pdu,) = encode_pdus([Deliver(sender, data=body, coding=coding, protocol=protocol, header=header)])
    read = read_pdu(1, pdu.hex())
    assert isinstance(read, Received)
    assert read.kind == "text" or read.kind in FATES
    assert read.kind != "text" or not read.error
    assert read.kind == "text" or not read.text


def test_a_name_of_digits_is_not_the_number() -> None:
    (pdu,) = encode_pdus([Deliver("A" * 9, "you won")])
    septets = "".join(f"{ord(c):07b}"[::-1] for c in "600111222").ljust(64, "0")
    name = bytes(int(septets[at : at + 8][::-1], 2) for at in range(0, 64, 8))
    letters = "".join(f"{ord(c):07b}"[::-1] for c in "A" * 9).ljust(64, "0")
    forged = pdu.replace(bytes(int(letters[at : at + 8][::-1], 2) for at in range(0, 64, 8)), name)
    assert forged != pdu
    read = read_pdu(1, forged.hex())
    assert isinstance(read, Received)
    assert (read.sender, read.text) == ('"600111222"', "you won")


@given(st.binary(max_size=200) | st.text(max_size=80).map(str.encode))
def test_any_octets_are_read(stored: bytes) -> None:
    for shown in (stored.hex(), stored.decode("latin-1")):
        read_pdu(1, shown)


@pytest.mark.parametrize(
    ("sender", "writes"),
    [
        (b"\x89\x18\x80+34600111222/TYPE=PLMN\0", "+34600111222"),
        (b"\x89\x1f\x20\x80+34600111222/TYPE=PLMN\0", "+34600111222"),
        (b"\x89\x1a\x80\x18\xea+34600111222/TYPE=PLMN\0", "+34600111222"),
        (b"\x89\x0a\x80600111222/TYPE=PLMN\0", "600111222"),
        (b"\x89\x01\x81", ""),
        (b"\x89\x10\x80ana@example.org\0", ""),
        (b"\x89\x18\x80+34600111222/TYPE=IPv4\0", ""),
        (b"\x89\x18\x80+34600111222/TYPE=PLMN", ""),
        (b"", ""),
    ],
)
def test_who_sent_a_picture(sender: bytes, writes: str) -> None:
    data = b"\x01\x06\x01\xbe\x8c\x82\x98T\0\x8d\x90" + sender
    message = Deliver("+12085550199", data=data, coding=4, header=[(5, b"\x0b\x84\0\0")])
    assert (kind_of(message), writer(message, "picture")) == ("picture", writes)
