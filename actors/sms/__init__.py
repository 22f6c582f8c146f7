"""sms: texts from the modem into ``sms.in``, texts from ``sms.out`` to the modem, nothing lost, none doubled.

A received SMS is deleted from the modem only after its PubAck (or, a part of a longer text, after it is in
the bucket ``parts``). A text to send is in the ledger before the modem is asked. The actor is the only
writer of the buckets ``ledger`` and ``parts``.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from evy_core import Triager, segment

from actors._runtime.actor import Actor, Emit, KeyValue, Output
from actors._runtime.bus import BusError
from actors._runtime.context import Context
from actors._runtime.identity import Identity
from actors._runtime.state import read
from actors.knowledge import triage_files
from actors.sms.at_modem import AtModem
from actors.sms.gammu_modem import GammuModem, speed_of
from actors.sms.ledger import DONE, Entry, Ledger
from actors.sms.line import Line
from actors.sms.modem import Modem, ModemLostError, Opened, Part, Received, Report, SendFailedError
from actors.sms.outbox import Outbox
from actors.sms.parts import MAX_PARTS, Parts
from actors.sms.reception import LaneOf, OnCall, Reception
from actors.sms.sim import Pin
from actors.sms.turn import Turn
from subjects import names
from subjects.errors import ConfigError, RefusedError, RetryLaterError
from subjects.messages import DeadLetter, Event, OutboundSms
from subjects.names import Lane

log = logging.getLogger("evy.sms")

HOLD_S: Final = 120.0
"""How long a text whose fate is unknown waits for a status report or the next TP-MR, then stays HELD."""
HOLD_CHECK_S: Final = 15.0
REPORT_WAITS_S: Final = (0.0, 0.5, 2.0, 10.0)
"""Waits before each look for the part that a status report is about; after that it is not ours."""


class SmsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[sms]`` table."""

    device: str = ""
    """Serial device of the modem; empty: this node has none. For a modem on USB name it by
    "/dev/serial/by-id/…": "/dev/ttyUSB0" may be "/dev/ttyUSB1" after it was pulled out and put back."""
    driver: Literal["gammu", "at"] = "gammu"
    """"gammu" knows many phones; "at" speaks to modems of the standard (SIM800, SIM7000) directly."""
    pin_file: str = ""
    """File with the SIM's PIN, readable by EVY only; empty: the SIM wants none. A refused PIN is never tried
    again."""
    power_key_command: tuple[str, ...] = ()
    """Command that presses the modem's power key, such as a line of `gpioset`; run when nothing else wakes
    it. Empty: there is none."""
    connection: str = "at115200"
    """Gammu's name of the connection: "at" and the line's speed; "dku2at" for a line without one, such as a
    pseudo terminal, where it opens ten times faster."""
    name: str = "modem"
    """Name of the modem in the ledger."""
    poll_interval_s: float = 0.2
    part_timeout_s: float = 600.0
    """How long a multipart text waits for its missing parts."""
    answer_within_s: float | None = None
    """Overrides [node] answer_within_s for texts of this modem."""
    calls: OnCall = "text"
    """What is done about a call: "text" hangs up and says by text, once an hour to a caller, that only texts
    are read; "reject" hangs up; "ignore" lets it ring."""


class _Stopped(msgspec.Struct, frozen=True):
    stopped: bool


class Sms:
    """Both directions of one modem."""

    def __init__(
        self,
        *,
        config: SmsConfig,
        identity: Identity,
        modem: Modem,
        lane_of: LaneOf,
        ledger: Ledger,
        parts: Parts,
        outbox: Outbox,
        numbers: KeyValue,
        consent: KeyValue,
        publish: Callable[[Output, str], Awaitable[None]],
        dead_letter: Callable[[DeadLetter, str], Awaitable[None]],
        emit: Emit,
        answer_within_s: float = 15.0,
    ) -> None:
        self._config = config
        self._identity = identity
        self._ledger = ledger
        self._outbox = outbox
        self._numbers = numbers
        self._consent = consent
        self._emit = emit
        self._reception = Reception(
            identity=identity,
            lane_of=lane_of,
            parts=parts,
            publish=publish,
            dead_letter=dead_letter,
            tell=self._event,
            answer_within_s=config.answer_within_s or answer_within_s,
            part_timeout_s=config.part_timeout_s,
            calls=config.calls,
        )
        self._turn = Turn()
        self._power_kept = True
        self._line = Line(modem, self, config.poll_interval_s, config.power_key_command)

    async def run(self) -> None:
        """Receives until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._line.run())
            group.create_task(self._reception.release_incomplete(self._config.name))

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
            self._event("settled", lane=entry.lane, part=key, state=entry.state, note=entry.note)
        log.info("modem %s open (last TP-MR %s)", self._config.name, opened.last_reference)
        self._event("modem_up", modem=self._config.name, details=opened.details)

    async def lost(self, reason: str) -> None:
        """Says so; the line opens it again by itself."""
        self._power_kept = False
        self._event("modem_lost", modem=self._config.name, reason=reason)

    async def dead(self, reason: str) -> None:
        """Calls for a person: nothing that a program can do has brought the modem back."""
        log.error("modem %s is dead: %s", self._config.name, reason)
        self._event("modem_dead", modem=self._config.name, reason=reason)

    async def status(self, status: dict[str, str]) -> None:
        """Says how the modem is."""
        self._event("modem_state", modem=self._config.name, details=status)

    async def reported(self, report: Report) -> None:
        """Enters a status report; it may come before its part is written as SUBMITTED."""
        for wait_s in REPORT_WAITS_S:
            await asyncio.sleep(wait_s)
            if key := await self._ledger.report(report):
                break
        if not key:
            self._event(
                "stray_report", modem=self._config.name, reference=report.reference, status=report.status
            )
        elif report.final:
            query_id = key.partition(".")[0]
            kind = "delivered" if report.delivered else "undelivered"
            self._event(kind, query_id=query_id, part=key, status=report.status)

    async def received(self, sms: Received) -> bool:
        """One SMS from storage; True once it may be deleted there."""
        return await self._reception.received(sms, self._config.name)

    # What is to be sent.

    async def handle(self, out: OutboundSms) -> Sequence[Output]:
        """Sends one text, part by part; each part exactly once, whatever dies in between."""
        number = await self._recipient(out)
        if not number:
            return []
        text = await self._with_number(out)
        [cut] = segment([text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")])
        if cut.count > MAX_PARTS:
            raise RefusedError(f"{cut.count} segments; an SMS has at most {MAX_PARTS}")
        reference = hashlib.blake2b(out.ledger_key(0).encode(), digest_size=1).digest()[0]
        held: list[tuple[str, Entry]] = []
        for index, words in enumerate(cut.segments, 1):
            part = Part(number, words, cut.encoding, reference, index, cut.count)
            if entry := await self._send(out, part):
                held.append((out.ledger_key(index), entry))
        for key, _ in held:
            await self._outbox.keep(out, int(key.rpartition(".")[2]))
        for key, entry in held:  # only now: the other parts need not wait for one that may have left
            await self._held(key, entry)
        self._event(
            "sent",
            query_id=out.query_id,
            sender_ref=out.sender_ref,
            lane=out.lane,
            step=out.step,
            purpose=out.kind,
            sources=list(out.sources),
            segments=cut.count,
            encoding=cut.encoding,
            ms=round((time.time() - out.received_at) * 1000) if out.received_at else None,
        )
        return []

    async def _recipient(self, out: OutboundSms) -> str:
        """The number to send to; empty when the person does not want this text."""
        if out.number:
            return out.number
        if out.kind in {"followup", "alert"}:
            consent = await read(self._consent, out.sender_ref, _Stopped)
            if consent and consent.stopped:
                self._event("withheld", query_id=out.query_id, lane=out.lane, reason="STOP", purpose=out.kind)
                return ""
        entry = await self._numbers.get(out.sender_ref)
        if entry is None:
            # A dead letter would keep a text of somebody who was forgotten, and could never be sent.
            reason = "no number: forgotten, or never texted this node"
            self._event("withheld", query_id=out.query_id, lane=out.lane, reason=reason, purpose=out.kind)
            return ""
        return entry[0].decode()

    async def _with_number(self, out: OutboundSms) -> str:
        if not out.about_ref:
            return out.text
        entry = await self._numbers.get(out.about_ref)
        return out.text.replace("{number}", entry[0].decode() if entry else "unknown number")

    async def _send(self, out: OutboundSms, part: Part) -> Entry | None:
        """Brings one part to a state in which it is never submitted again; gives its entry if it is HELD."""
        key = out.ledger_key(part.index)
        new = True  # until creating its entry says otherwise: nearly every part is sent the first time
        while True:
            await self._line.wait_open()
            async with self._turn.take(out.lane):
                if not self._line.is_open:
                    continue
                found = None if new else await self._ledger.read(key)
                new = False
                if found and found[0].state in DONE:
                    return None
                if found and found[0].state == "HELD":
                    return found[0]
                if found and found[0].state == "INTENT":
                    # Cut off in an earlier run, and too long ago to be among the entries settled at start.
                    await self._ledger.settle(key, found[0])
                    continue
                if await self._submit(key, part, out.lane, found):
                    return None

    async def _submit(self, key: str, part: Part, lane: Lane, before: tuple[Entry, int] | None) -> bool:
        """One submission with its ledger entries; False when the line was lost and the fate is open."""
        to = self._identity.sender_ref(part.number)
        if await self._ledger.intend(key, to, lane, before) is None:
            return False
        try:
            reference = await self._line.send(part)
        except SendFailedError as error:
            if error.permanent:
                await self._ledger.failed(key, str(error))
                self._event("failed", lane=lane, query_id=key.partition(".")[0], part=key, reason=str(error))
                raise RefusedError(f"part {part.index} of {part.total}: {error}") from error
            await self._ledger.unsent(key, str(error), error.last_reference)
            raise RetryLaterError(f"part {part.index} of {part.total}: {error}") from error
        except ModemLostError:
            return False  # settled when the line is open again
        while True:
            # The part has left: this must be written, whatever the bus does meanwhile.
            try:
                await self._ledger.submitted(key, reference)
            except BusError as error:
                log.warning("%s: SUBMITTED not written yet: %s", key, error)
                await asyncio.sleep(0.5)
            else:
                return True

    async def _held(self, key: str, entry: Entry) -> None:
        if time.time() - entry.at < HOLD_S:
            raise RetryLaterError(f"{key}: {entry.note}", delay_s=HOLD_CHECK_S)
        log.error("%s is left HELD: %s", key, entry.note)
        self._event("held", lane=entry.lane, query_id=key.partition(".")[0], part=key, note=entry.note)

    def _event(
        self, kind: str, *, query_id: str = "", sender_ref: str = "", lane: Lane = "routine", **fields: object
    ) -> None:
        self._emit(
            Event(
                kind=kind,
                node=self._identity.node,
                actor="sms",
                at=time.time(),
                query_id=query_id,
                sender_ref=sender_ref,
                lane=lane,
                fields=fields,
            )
        )


def triage_lane() -> LaneOf:
    """Lane of a text by the shipped triage."""
    triager = Triager(triage_files())
    return lambda text: names.LANE_OF[triager.classify([text])[0].priority]


def driver_of(config: SmsConfig, directory: Path) -> Modem:
    """The driver that the configuration names; ``directory`` is the node's, for the note on a tried PIN."""
    file = Path(config.pin_file).expanduser() if config.pin_file else None
    pin = Pin(file, directory / f"{config.name}.pin-tried")
    hang_up = config.calls != "ignore"
    if config.driver == "at":
        return AtModem(config.device, speed_of(config.connection), pin=pin, hang_up=hang_up)
    return GammuModem(config.device, config.connection, pin=pin, hang_up=hang_up)


async def build(context: Context) -> Actor:
    """The actor of a node. Raises :class:`ConfigError` when no modem is named."""
    config = context.config.section("sms", SmsConfig)
    if not config.device:
        raise ConfigError(
            'no modem: set [sms] device = "/dev/ttyUSB0" in evy.toml, or try `evy demo` without one'
        )
    identity = context.identity
    entries, numbers = await context.bucket("ledger"), await context.bucket("numbers")
    outbox = Outbox(await context.bucket("outbox"), entries, numbers, context.publish, context.emit)
    sms = Sms(
        config=config,
        identity=identity,
        modem=driver_of(config, context.config.node.directory),
        lane_of=triage_lane(),
        ledger=Ledger(entries, config.name, identity.sender_ref),
        parts=Parts(await context.bucket("parts")),
        outbox=outbox,
        numbers=numbers,
        consent=await context.bucket("consent"),
        publish=context.publish,
        dead_letter=context.dead_letter,
        emit=context.emit,
        answer_within_s=context.config.node.answer_within_s,
    )
    return Actor("sms", {names.SMS_OUT: sms.handle}, tasks=[sms.run], services=outbox.services)
