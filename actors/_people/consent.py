"""What a person agreed to: the record of the bucket ``consent``, which `intake` writes."""

import asyncio
import logging
import time
from typing import Any, Final

import msgspec

from actors._runtime.actor import KeyValue
from actors._runtime.bus import BusError
from actors._runtime.state import change, read

log = logging.getLogger("evy.intake")

RENEW_EVERY_S: Final = 86400.0
"""How often the numbers of who wants alerts are written again: the bucket forgets them after a month."""
RETRY_S: Final = 60.0


class Consent(msgspec.Struct, frozen=True, omit_defaults=True):
    """``history`` is the proof of what was asked when: Unix time, command and text id."""

    stopped: bool
    """STOP: nothing that was not asked for, public alerts included."""
    history: tuple[tuple[float, str], ...] = ()
    alerts: bool = False
    """ALERTS: public alerts, until ALERTS OFF."""
    places: tuple[str, ...] = ()
    """Keys of the places that the alerts are wanted for; none: every place of the node."""
    lang: str = ""
    """The person's language when they asked: the session forgets it within a week."""

    @property
    def wants_alerts(self) -> bool:
        """Whether public alerts may be sent."""
        return self.alerts and not self.stopped


async def agree(bucket: KeyValue, ref: str, command: str, text_id: str, **fields: Any) -> None:
    """Writes what a person's text with a command changes; once, also when it is delivered again."""
    note = f"{command} {text_id}"

    def step(before: Consent | None) -> tuple[Consent | None, None]:
        before = before or Consent(stopped=False)
        if before.history and before.history[-1][1] == note:
            return None, None
        history = (*before.history, (time.time(), note))
        return msgspec.structs.replace(before, history=history, **fields), None

    await change(bucket, ref, Consent, step)


async def renew_numbers(consents: KeyValue, numbers: KeyValue) -> None:
    """Keeps the numbers of who wants alerts, once a day, for ever."""
    while True:
        try:
            for ref in await consents.keys():
                consent = await read(consents, ref, Consent)
                number = await numbers.get(ref) if consent and consent.wants_alerts else None
                if number:
                    await numbers.put(ref, number[0])
        except BusError as error:
            log.warning("numbers of who wants alerts are not renewed yet: %s", error)
            await asyncio.sleep(RETRY_S)
        else:
            await asyncio.sleep(RENEW_EVERY_S)
