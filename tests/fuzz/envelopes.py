"""Any octets on a subject: the message that the registry promises, or an error that says why not."""

import sys

import atheris

with atheris.instrument_imports(include=["subjects", "actors._runtime"]):
    from actors._runtime.telemetry import TRACEPARENT, Spans
    from subjects.messages import DeadLetter, Event, decode, encode
    from subjects.registry import WORK

from subjects.errors import MessageError

SPANS = Spans("n1", lambda _: None)
TYPES = (*dict.fromkeys(row.message for row in WORK), Event, DeadLetter)


def one(octets: bytes) -> None:
    """Reads the octets as each message there is; what was read is written so that it reads the same."""
    for of in TYPES:
        try:
            message = decode(octets, of)
        except MessageError as error:
            if str(len(octets)) not in str(error) and "version" not in str(error):
                raise AssertionError(f"it does not say what is wrong: {error}") from error
        else:
            assert isinstance(message.person, str)
            assert decode(encode(message), of) == message
    hop = SPANS.begin({TRACEPARENT: octets.decode("latin-1")}, "routine", "q")
    assert len(hop.trace) == 32


atheris.Setup(sys.argv, one)
atheris.Fuzz()
