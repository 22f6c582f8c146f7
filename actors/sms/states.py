"""What a modem says of itself, as the node and its people read it."""

import re
from typing import Final

from subjects.node_state import ModemCondition, ModemState

_MOST_SIGNAL: Final = 31


def state_of(
    name: str,
    condition: ModemCondition,
    status: dict[str, str],
    *,
    credit: float | None = None,
    credit_text: str = "",
    sent_hour: int | None = None,
    limit_hour: int | None = None,
) -> ModemState:
    """The state from a driver's own words; of a modem that is not there, what it said is history."""
    said = status if condition == "up" else {}
    storage = re.fullmatch(r"(\d+) of (\d+)", said.get("storage", ""))
    registration = said.get("registration", "unknown")
    return ModemState(
        name=name,
        state=condition,
        registered=None if registration == "unknown" else registration.startswith(("home", "roaming")),
        operator=said.get("operator", ""),
        signal_dbm=dbm(said.get("signal", "")),
        storage_used=int(storage[1]) if storage else None,
        storage_size=int(storage[2]) if storage else None,
        credit=credit,
        credit_text=credit_text,
        sent_hour=sent_hour,
        limit_hour=limit_hour,
    )


def dbm(signal: str) -> float | None:
    """Signal strength from AT+CSQ's number: 0 is -113 dBm or less, then steps of 2 dB (TS 27.007 §8.5)."""
    if not signal.isdecimal() or not 0 <= int(signal) <= _MOST_SIGNAL:
        return None
    return -113.0 + 2 * int(signal)
