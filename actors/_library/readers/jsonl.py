"""JSON lines, one document each."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from actors._library.documents import MAX_LINE, Refusal, UnreadableError, lines, opened

T = TypeVar("T")


def records(file: Path, of: type[T]) -> Iterator[tuple[str, T] | Refusal]:
    """Each line as ``of``, with where it stands; a line that is none is refused by itself.

    Raises :class:`UnreadableError` when a packed file breaks off.
    """
    decoder = msgspec.json.Decoder(of)
    with opened(file) as stream:
        try:
            for number, line in lines(stream):
                where = f"line {number}"
                if line is None:
                    yield Refusal(where, f"more than {MAX_LINE} octets")
                elif line.strip():
                    try:
                        record = decoder.decode(line.removeprefix(b"\xef\xbb\xbf"))
                    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                        yield Refusal(where, str(error))
                    else:
                        yield where, record
        except (OSError, EOFError) as error:
            raise UnreadableError(f"cannot be read on: {error}") from error
