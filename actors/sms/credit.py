"""What a prepaid card has left: how the network is asked, and what its answer means."""

import re

import msgspec


class CreditConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``credit`` table of a modem."""

    ussd: str
    """Code that the carrier answers with the balance, such as "*100#"."""
    amount: str = r"(\d+(?:[.,]\d+)?)"
    """Regular expression whose first group is the amount in that answer."""
    every_s: float = 6 * 3600.0
    """How often it is asked; also at once when a refusal looks like an empty card."""
    warn_below: float = 2.0
    """Below so much an event `credit_low` calls for a person; in the card's own currency."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9*#+]{1,32}", self.ussd):
            raise ValueError(f"ussd = {self.ussd!r}: a code such as *100#")
        if self.every_s < 60:
            raise ValueError(f"every_s = {self.every_s}: carriers block who asks more than once a minute")
        try:
            if re.compile(self.amount).groups < 1:
                raise ValueError(f"amount = {self.amount!r}: put the digits in a group, such as (\\d+)")
        except re.error as error:
            raise ValueError(f"amount = {self.amount!r}: {error}") from error


def amount_in(text: str, pattern: str) -> float | None:
    """The amount in a carrier's answer; None when the pattern does not find one."""
    found = re.search(pattern, text[:1000])
    if found is None or found[1] is None:
        return None
    digits = re.sub(r"[^\d.,]", "", found[1])
    # «1.234,50» and «1,234.50»: the last of the two signs divides, the other one groups.
    divides = max(digits.rfind("."), digits.rfind(","))
    whole, part = (digits, "") if divides < 0 else (digits[:divides], digits[divides + 1 :])
    try:
        return float(f"{re.sub('[.,]', '', whole) or 0}.{part or 0}")
    except ValueError:
        return None
