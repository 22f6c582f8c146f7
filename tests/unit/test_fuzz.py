"""The fuzzer starts from input that is well-formed: damage done to rubbish finds nothing."""

import ast
import importlib
from pathlib import Path

import pytest
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


@pytest.mark.parametrize("target", ["at_lines", "envelopes"])
def test_what_a_target_names_is_there(target: str) -> None:
    """The targets run with the fuzzer only, which the tests do without."""
    tree = ast.parse((Path(__file__).parents[1] / "fuzz" / f"{target}.py").read_text(encoding="utf-8"))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    assert imported
    for node in imported:
        module = importlib.import_module(node.module or "")
        for alias in node.names:
            assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}")
