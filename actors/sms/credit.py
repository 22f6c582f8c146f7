"""What a prepaid card has left: how the network is asked, and what its answer means."""

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from actors.sms.modem import ModemLostError, UssdError
from actors.sms.reception import Tell

log = logging.getLogger("evy.sms")

FIRST_S: Final = 20.0
"""How long after its start a node asks for the first time: texts that wait come first."""
AGAIN_S: Final = 120.0
"""How soon it is asked again when a text came between, or the network did not answer."""
SUSPECT_S: Final = 900.0
"""How often refusals that look like an empty card may have it asked."""
TEXT_CHARACTERS: Final = 160


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


class Credit:
    """What one card has left. ``ask`` puts a code to the network, ``is_free`` says whether nothing is to be
    sent, ``changed`` is called when there is news."""

    def __init__(
        self,
        config: CreditConfig,
        *,
        modem: str,
        ask: Callable[[str], Awaitable[str]],
        is_free: Callable[[], bool],
        changed: Callable[[], None],
        tell: Tell,
    ) -> None:
        self.amount: float | None = None
        self.text = ""
        self._config = config
        self._modem = modem
        self._ask = ask
        self._is_free = is_free
        self._changed = changed
        self._tell = tell
        self._is_low = False
        self._doubt = asyncio.Event()

    def doubt(self, refusal: str) -> None:
        """A refusal looks like an empty card: says so once, and has it asked."""
        if not self._doubt.is_set():
            self._doubt.set()
            self._tell("credit_low", modem=self._modem, credit=self.amount, reason=refusal)

    async def run(self) -> None:
        """Asks now and then until cancelled."""
        wait_s = FIRST_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._doubt.wait()
            doubted = self._doubt.is_set()
            wait_s = self._config.every_s if await self._look() else AGAIN_S
            if doubted:
                await asyncio.sleep(min(SUSPECT_S, wait_s))  # carriers block who asks all the time
                self._doubt.clear()

    async def _look(self) -> bool:
        """Asks once, if nothing is to be sent; True when there was an answer."""
        if not self._is_free():
            return False
        try:
            said = await self._ask(self._config.ussd)
        except ModemLostError:
            return False
        except UssdError as error:
            log.warning("modem %s: credit unknown: %s", self._modem, error)
            return False
        self.text, self.amount = said[:TEXT_CHARACTERS], amount_in(said, self._config.amount)
        if self.amount is None:
            log.warning("modem %s: [sms] credit amount finds none in %r", self._modem, said)
        was_low, self._is_low = (
            self._is_low,
            self.amount is not None and self.amount < self._config.warn_below,
        )
        if self._is_low and not was_low:
            log.warning("modem %s: %s left on its card", self._modem, self.amount)
            self._tell("credit_low", modem=self._modem, credit=self.amount, reason=self.text)
        self._changed()
        return True
