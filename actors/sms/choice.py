"""Which modem a text goes by: the one the person texted, else by prefix, else the default one."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from actors.sms.config import ModemConfig


class Chosen(Protocol):
    """What the choice looks at."""

    name: str
    config: ModemConfig


C = TypeVar("C", bound=Chosen)


def in_order(modems: Sequence[C], number: str, home: str) -> list[C]:
    """Modems from the best to the last resort for a text to ``number``.

    ``home`` is the modem that the person texted last: an answer comes from the number that was asked. Then
    the longest prefix wins, then modems without prefixes in the order of the file, then the others.
    """
    digits = _digits(number)

    def rank(modem: C) -> tuple[bool, int, bool]:
        longest = max(
            (len(_digits(prefix)) for prefix in modem.config.prefixes if digits.startswith(_digits(prefix))),
            default=0,
        )
        return modem.name != home, -longest, bool(modem.config.prefixes)

    return sorted(modems, key=rank)


def _digits(number: str) -> str:
    return number.removeprefix("+").removeprefix("00")
