"""One modem of the node: its line, its ledger, its quota, and how it is."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from actors._runtime.actor import KeyValue
from actors._runtime.bus import BusError
from actors.sms.config import ModemConfig
from actors.sms.credit import Credit
from actors.sms.ledger import Entry, Found, Ledger
from actors.sms.line import Line
from actors.sms.modem import Modem, ModemLostError, Opened, Part, Received, Report, SendFailedError
from actors.sms.quota import Limits, Quota, Saved
from actors.sms.reception import Tell
from actors.sms.states import state_of
from actors.sms.turn import Turn
from subjects.errors import RefusedError, RetryLaterError
from subjects.names import Lane
from subjects.node_state import ModemCondition, ModemState

log = logging.getLogger("evy.sms")

REPORT_WAITS_S: Final = (0.0, 0.5, 2.0, 10.0)
"""Waits before each look for the part that a status report is about; after that it is not ours."""
TELL_EVERY_S: Final = 60.0
"""How often the modem's state is told when nothing changes: who joins late knows it within a minute."""


class Changes:
    """Wakes whoever waits for a modem to come, go or be free again."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        """Something has changed."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, within_s: float) -> None:
        """Until the next change, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if math.isinf(within_s) else within_s):
                await self._event.wait()


class Station:
    """Sends by one modem, and tells of it. ``modems`` is the bucket for what outlives a restart.

    ``received`` takes an SMS and the modem's name, and gives True once it is safe.
    """

    def __init__(
        self,
        config: ModemConfig,
        *,
        modem: Modem,
        ledger: Ledger,
        modems: KeyValue,
        pseudonym: Callable[[str], str],
        received: Callable[[Received, str], Awaitable[bool]],
        tell: Tell,
        changes: Changes,
        poll_interval_s: float,
    ) -> None:
        self.config = config
        self.name = config.name
        self._ledger = ledger
        self._modems = modems
        self._pseudonym = pseudonym
        self._take = received
        self._tell = tell
        self._changes = changes
        self._line = Line(modem, self, poll_interval_s, config.power_key_command, changes.tell)
        self._turn = Turn()
        self._quota = Quota(Limits(config.per_minute, config.per_hour, config.per_day))
        self._credit = (
            Credit(
                config.credit,
                modem=self.name,
                ask=self._line.ussd,
                is_free=lambda: self._line.is_open and self._turn.is_free,
                changed=self.tell_state,
                tell=tell,
            )
            if config.credit
            else None
        )
        self._is_full = False
        self._power_kept = True
        self._condition: ModemCondition = "away"
        self._away_since_s = time.monotonic()
        self._status: dict[str, str] = {}
        self._told: ModemState | None = None

    async def load(self, recent: list[tuple[str, Entry]]) -> None:
        """Takes up what an earlier run left in the ledger, before any modem sends."""
        await self._ledger.load(recent)
        found = await self._modems.get(self._saved_at)
        saved = msgspec.json.decode(found[0], type=Saved) if found else None
        sent_at = [entry.sent_at for _, entry in recent if entry.modem == self.name and entry.sent_at]
        self._quota.restore(saved, sent_at, time.monotonic(), time.time())

    @property
    def _saved_at(self) -> str:
        return f"quota.{self.name}"

    async def run(self) -> None:
        """Keeps the line until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._line.run())
            group.create_task(self._tell_regularly())
            if self._credit:
                group.create_task(self._credit.run())

    # What the line tells us.

    async def opened(self, opened: Opened) -> None:
        """Settles what an earlier run or a lost line left open, before anything is sent."""
        while True:
            try:
                decided = await self._ledger.opened(opened.last_reference, power_kept=self._power_kept)
                break
            except BusError as error:
                log.warning("the ledger waits for the bus: %s", error)
                await asyncio.sleep(0.5)
        self._power_kept = True
        for key, entry in decided:
            log.warning("%s: %s (%s)", key, entry.state, entry.note)
            query_id = key.partition(".")[0]
            self._tell(
                "settled", lane=entry.lane, query_id=query_id, part=key, state=entry.state, note=entry.note
            )
        log.info("modem %s open (last TP-MR %s)", self.name, opened.last_reference)
        self._tell("modem_up", modem=self.name, details=opened.details)
        self._condition, self._status = "up", opened.details
        self.tell_state()

    async def lost(self, reason: str) -> None:
        """Says so; the line opens it again by itself."""
        self._power_kept = False
        self._tell("modem_lost", modem=self.name, reason=reason)
        if self._condition == "up":
            self._condition, self._away_since_s = "away", time.monotonic()
        self.tell_state()
        self._changes.tell()

    async def dead(self, reason: str) -> None:
        """Calls for a person: nothing that a program can do has brought the modem back."""
        log.error("modem %s is dead: %s", self.name, reason)
        self._tell("modem_dead", modem=self.name, reason=reason)
        self._condition = "dead"
        self.tell_state()
        self._changes.tell()

    async def status(self, status: dict[str, str]) -> None:
        """Says how the modem is."""
        self._status = {**self._status, **status}
        self.tell_state()
        state = self.state()
        was_full, self._is_full = (
            self._is_full,
            bool(state.storage_size and (state.storage_used or 0) >= state.storage_size),
        )
        if self._is_full and not was_full:
            # What the bus takes leaves the SIM at once: then the bus is full too, or the network sends a lot.
            self._tell("storage_full", modem=self.name, used=state.storage_used, size=state.storage_size)

    async def received(self, sms: Received) -> bool:
        """One SMS from storage; True once it may be deleted there."""
        return await self._take(sms, self.name)

    async def reported(self, report: Report) -> None:
        """Enters a status report; it may come before its part is written as SUBMITTED."""
        key = None
        for wait_s in REPORT_WAITS_S:
            await asyncio.sleep(wait_s)
            if key := await self._enter(report):
                break
        if not key:
            self._tell("stray_report", modem=self.name, reference=report.reference, status=report.status)
        elif report.final:
            query_id = key.partition(".")[0]
            kind = "delivered" if report.delivered else "undelivered"
            self._tell(kind, query_id=query_id, part=key, status=report.status)

    async def _enter(self, report: Report) -> str | None:
        while True:
            try:
                return await self._ledger.report(report)
            except BusError as error:
                log.warning("a status report waits for the bus: %s", error)
                await asyncio.sleep(0.5)

    # How it is.

    def state(self) -> ModemState:
        """As it is told to the node."""
        now_s = time.monotonic()
        return state_of(
            self.name,
            self._condition,
            self._status,
            credit=self._credit.amount if self._credit else None,
            credit_text=self._credit.text if self._credit else "",
            sent_hour=self._quota.sent_hour(now_s),
            limit_hour=self._quota.limit_hour(now_s),
        )

    def tell_state(self, *, again: bool = False) -> None:
        """Tells the node how the modem is, when that changed or ``again`` asks for it."""
        state = self.state()
        if not again and self._told == state:
            return
        self._told = state
        fields = msgspec.structs.asdict(state)
        self._tell("modem_state", modem=fields.pop("name"), **fields)

    async def _tell_regularly(self) -> None:
        while True:
            self.tell_state(again=True)
            await asyncio.sleep(TELL_EVERY_S)

    # Sending.

    @property
    def is_up(self) -> bool:
        """Whether the modem is there now."""
        return self._line.is_open

    def away_s(self) -> float:
        """For how long nothing can be sent by it; endless when only a person can help."""
        if self.is_up:
            return 0.0
        return math.inf if self._condition == "dead" else time.monotonic() - self._away_since_s

    def wait_s(self, lane: Lane, to: str) -> float:
        """How long a text to the pseudonym ``to`` must wait; endless while the modem is away."""
        return self._quota.wait_s(lane, to, time.monotonic()) if self.is_up else math.inf

    async def settle(self, key: str, lane: Lane) -> None:
        """Decides an INTENT of this modem that was not open when the line was opened."""
        async with self._turn.take(lane):
            found = await self._ledger.read(key)
            if self.is_up and found and found[0].state == "INTENT" and found[0].modem == self.name:
                await self._ledger.settle(key, found)

    async def abandon(self, key: str, found: Found) -> None:
        """Decides an INTENT without asking the modem, which is gone."""
        await self._ledger.settle(key, found)

    async def send(self, key: str, part: Part, lane: Lane, before: Found | None) -> Entry | None:
        """One submission with its ledger entries; None when it did not come to that, or its fate is open.

        Raises :class:`RefusedError` when it will never be taken, :class:`RetryLaterError` when not now.
        """
        to = self._pseudonym(part.number)
        async with self._turn.take(lane):
            if self.wait_s(lane, to) > 0:
                return None
            if await self._ledger.intend(key, to, lane, before) is None:
                return None
            try:
                reference = await self._line.send(part)
            except SendFailedError as error:
                raise await self._refused(key, part, to, lane, error) from error
            except ModemLostError:
                return None  # settled when the line is open again
            self._quota.sent(time.monotonic())
            while True:
                # The part has left: this must be written, whatever the bus does meanwhile.
                try:
                    entry = await self._ledger.submitted(key, reference)
                except BusError as error:
                    log.warning("%s: SUBMITTED not written yet: %s", key, error)
                    await asyncio.sleep(0.5)
                else:
                    break
        if self._quota.is_unsaved:
            await self._save_quota()
        return entry

    async def _refused(
        self, key: str, part: Part, to: str, lane: Lane, error: SendFailedError
    ) -> RefusedError | RetryLaterError:
        """What becomes of a part that did not leave."""
        reason = f"part {part.index} of {part.total}: {error}"
        if error.refusal and self._quota.refused(error.refusal.scope, to, time.monotonic()):
            limit = self._quota.limit_hour(time.monotonic())
            log.warning("modem %s: the carrier lets no more through, %s an hour", self.name, limit)
            self._tell("limit_learned", modem=self.name, limit_hour=limit, reason=str(error))
            self.tell_state()
            await self._save_quota()
        if self._credit and error.refusal and error.refusal.is_about_credit:
            self._credit.doubt(str(error))
        if error.permanent:
            await self._ledger.failed(key, str(error))
            query_id = key.partition(".")[0]
            self._tell("failed", lane=lane, query_id=query_id, part=key, modem=self.name, reason=str(error))
            return RefusedError(reason)
        await self._ledger.unsent(key, str(error), error.last_reference)
        self._tell("refused", lane=lane, query_id=key.partition(".")[0], modem=self.name, reason=str(error))
        return RetryLaterError(reason)

    async def _save_quota(self) -> None:
        saved = self._quota.save(time.monotonic(), time.time())
        try:
            await self._modems.put(self._saved_at, msgspec.json.encode(saved))
        except BusError as error:
            log.warning("what modem %s has sent is not written down yet: %s", self.name, error)
