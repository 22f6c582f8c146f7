"""The fuzzer starts from input that is well-formed: damage done to rubbish finds nothing."""

from evy_core import PduError, decode_received, decode_submitted

from subjects.errors import MessageError
from subjects.messages import DeadLetter, Event, Message, decode
from subjects.registry import WORK
from tests.fuzz.seeds import SEEDS, envelopes, pdu


def reads(octets: bytes, of: type[Message]) -> bool:
    try:
        decode(octets, of)
    except MessageError:
        return False
    return True


def test_every_message_of_the_registry_has_a_seed() -> None:
    types = {row.message for row in WORK} | {Event, DeadLetter}
    read = {of for octets in envelopes() for of in types if reads(octets, of)}
    assert read == types


def test_every_seed_is_a_pdu() -> None:
    for octets in pdu():
        try:
            decode_received([octets])
        except PduError:
            assert decode_submitted([octets])


def test_no_target_starts_from_nothing() -> None:
    assert all(list(make()) for make in SEEDS.values())
