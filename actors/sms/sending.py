"""What is to be sent: by which modem, and each part once, whatever dies in between.

A text goes by one modem: parts that come from two numbers are never joined by a phone. So when a modem dies
in the middle of a text for good, the whole text goes by another one, and its first part's entry in the ledger
says which modem a text belongs to.
"""

import asyncio
import contextlib
import hashlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
from evy_core import segment

from actors._people.consent import Consent
from actors._runtime.actor import KeyValue
from actors._runtime.state import read
from actors.sms import elsewhere as mesh
from actors.sms.choice import in_order
from actors.sms.elsewhere import Elsewhere
from actors.sms.ledger import DONE, Entry, Found, Ledger
from actors.sms.modem import Part
from actors.sms.outbox import Outbox
from actors.sms.parts import MAX_PARTS
from actors.sms.reception import Tell
from actors.sms.station import Changes, Station
from actors.sms.validity import validity_s
from subjects.errors import RefusedError, RetryLaterError
from subjects.messages import OutboundSms

log = logging.getLogger("evy.sms")

HOLD_S: Final = 120.0
"""How long a text whose fate is unknown waits for a status report or the next TP-MR, then stays HELD."""
HOLD_CHECK_S: Final = 15.0
PATIENCE_S: Final = 15.0
"""A text that must wait longer for its modem is put back, and its slot is free for others."""
LONGEST_S: Final = 300.0
"""Longest time that a text is put back for: deliveries are counted, and a day of tries is wanted."""
LEAST_VALID_S: Final = 300
"""The shortest time that TP-VP can say."""
LOOK_S: Final = 5.0
"""How often a text looks again whether its own modem is back, while another one is there."""


class _Over(msgspec.Struct, frozen=True):
    """What is read of a public alert, which `bulletin` writes."""

    over: str = ""


class Sending:
    """The handler of ``sms.out``."""

    def __init__(
        self,
        stations: Sequence[Station],
        *,
        ledger: Ledger,
        changes: Changes,
        homes: KeyValue,
        outbox: Outbox,
        numbers: KeyValue,
        consent: KeyValue,
        pseudonym: Callable[[str], str],
        tell: Tell,
        failover_after_s: float,
        bulletins: KeyValue,
        elsewhere: Elsewhere | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``ledger`` reads entries of any modem; ``homes`` holds the modem that each person texted last;
        ``elsewhere`` is asked when none here sends what saves."""
        self._stations: Mapping[str, Station] = {station.name: station for station in stations}
        self._ledger = ledger
        self._changes = changes
        self._homes = homes
        self._outbox = outbox
        self._numbers = numbers
        self._consent = consent
        self._pseudonym = pseudonym
        self._tell = tell
        self._failover_after_s = failover_after_s
        self._bulletins = bulletins
        self._elsewhere = elsewhere
        self._now = now

    async def handle(self, out: OutboundSms) -> None:
        """Sends one text, part by part; each part exactly once, whatever dies in between."""
        number = await self._recipient(out)
        if not number:
            return
        text = await self._with_number(out)
        [cut] = segment([text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")])
        if cut.count > MAX_PARTS:
            raise RefusedError(f"{cut.count} segments; an SMS has at most {MAX_PARTS}")
        reference = hashlib.blake2b(out.ledger_key(0).encode(), digest_size=1).digest()[0]
        valid_s = validity_s(out.lane, out.kind)
        if out.expires_at:
            valid_s = max(LEAST_VALID_S, min(valid_s, math.ceil(out.expires_at - self._now())))
        parts = [
            Part(number, words, cut.encoding, reference, index, cut.count, valid_s)
            for index, words in enumerate(cut.segments, 1)
        ]
        modem, held = await self._send(out, parts, text)
        for key, _ in held:
            await self._outbox.keep(out, int(key.rpartition(".")[2]))
        for key, entry in held:  # only now: the other parts need not wait for one that may have left
            self._held(key, entry)
        self._tell(
            "sent",
            query_id=out.query_id,
            sender_ref=out.sender_ref,
            lane=out.lane,
            step=out.step,
            purpose=out.kind,
            sources=list(out.sources),
            segments=cut.count,
            encoding=cut.encoding,
            modem=modem,
            ms=round((time.time() - out.received_at) * 1000) if out.received_at else None,
        )

    async def _recipient(self, out: OutboundSms) -> str:
        """The number to send to; empty when the person does not want this text."""
        if out.number:
            return out.number
        if out.kind in {"followup", "alert"} and (reason := await self._unwanted(out)):
            self._tell("withheld", query_id=out.query_id, lane=out.lane, reason=reason, purpose=out.kind)
            return ""
        entry = await self._numbers.get(out.sender_ref)
        if entry is None:
            # A dead letter would keep a text of somebody who was forgotten, and could never be sent.
            reason = "no number: forgotten, or never texted this node"
            self._tell("withheld", query_id=out.query_id, lane=out.lane, reason=reason, purpose=out.kind)
            return ""
        return entry[0].decode()

    async def _unwanted(self, out: OutboundSms) -> str:
        """Why a text that nobody asked for must not go now; empty: it may."""
        consent = await read(self._consent, out.sender_ref, Consent)
        if consent and consent.stopped:
            return "STOP"
        if not out.bulletin:
            return ""
        if not (consent and consent.alerts):
            return "asked for no public alerts"
        if out.expires_at and out.expires_at <= self._now():
            return "the alert expired"
        kept = await read(self._bulletins, f"alert.{out.bulletin}", _Over)
        return f"the alert was {kept.over}" if kept and kept.over else ""

    async def _with_number(self, out: OutboundSms) -> str:
        if not out.about_ref:
            return out.text
        entry = await self._numbers.get(out.about_ref)
        return out.text.replace("{number}", entry[0].decode() if entry else "unknown number")

    async def _send(
        self, out: OutboundSms, parts: Sequence[Part], text: str
    ) -> tuple[str, list[tuple[str, Entry]]]:
        """Brings every part to a state in which it is never submitted again; gives the modem that sent it,
        and the parts that are HELD."""
        keys = [out.ledger_key(part.index) for part in parts]
        found: list[Found | None] = [None] * len(parts)
        # Nothing is read until creating an entry says otherwise: nearly every part is sent the first time.
        order = await self._order(out, parts[0].number)
        while True:
            begun = found[0][0].modem if found[0] else ""
            if begun and (held := _finished(found, begun)) is not None:
                return begun, [(keys[index], entry) for index, entry in held]
            if await self._settle_open(keys, found, begun):
                found = [await self._ledger.read(key) for key in keys]
                continue
            station = await self._station(out, parts[0].number, text, order, begun)
            if station is None:
                return mesh.MODEM, []
            if begun and station.name != begun:
                log.warning("%s goes by modem %s: %s is away", keys[0], station.name, begun)
                self._tell(
                    "failover", query_id=out.query_id, lane=out.lane, modem=station.name, instead_of=begun
                )
            for index in _missing(found, station.name):
                try:
                    entry = await station.send(keys[index], parts[index], out.lane, found[index])
                except RetryLaterError:
                    if out.lane != "flash" or not self._is_free(out, parts[0].number, station):
                        raise
                    entry = None  # another modem has it at once
                if entry is None:
                    found = [await self._ledger.read(key) for key in keys]
                    break
                found[index] = (entry, 0)

    async def _order(self, out: OutboundSms, number: str) -> list[Station]:
        """Modems for this text, the best one first."""
        stations = list(self._stations.values())
        if len(stations) == 1:
            return stations
        home = await self._homes.get(f"home.{out.sender_ref}") if out.sender_ref else None
        return in_order(stations, number, home[0].decode() if home else "")

    async def _settle_open(self, keys: Sequence[str], found: Sequence[Found | None], begun: str) -> bool:
        """Settles what was cut off between INTENT and SUBMITTED; True when the ledger must be read again."""
        for key, entry in zip(keys, found, strict=True):
            if entry is None or entry[0].state != "INTENT":
                continue
            station = self._stations.get(entry[0].modem)
            if station is None:
                log.warning("%s: its modem %s is no longer configured", key, entry[0].modem)
                await next(iter(self._stations.values())).abandon(key, entry)
                return True
            if station.is_up:
                await station.settle(key, entry[0].lane)
                return True
            rest_is_missing = any(part is None or part[0].state == "UNSENT" for part in found)
            if entry[0].lane == "flash" or rest_is_missing or len(self._stations) == 1:
                continue  # sent again; or the phone cannot have joined it; or there is nothing but to wait
            if time.time() - entry[0].at < HOLD_S:
                raise RetryLaterError(f"{key}: modem {begun} is away, nobody knows", delay_s=HOLD_CHECK_S)
            await station.abandon(key, entry)
            return True
        return False

    async def _station(  # as :meth:`_free`
        self, out: OutboundSms, number: str, text: str, order: Sequence[Station], begun: str
    ) -> Station | None:
        """As :meth:`_free`; None when meanwhile another node has a text that saves, of which nothing was
        submitted here."""
        if out.lane != "flash" or self._elsewhere is None:
            return await self._free(out, number, order, begun)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(mesh.LOOK_S):
                    return await self._free(out, number, order, begun)
            away = all(station.away_s() >= mesh.AFTER_S for station in order)
            if away and not begun and await self._elsewhere.has(out, number, text):
                return None

    async def _free(self, out: OutboundSms, number: str, order: Sequence[Station], begun: str) -> Station:
        """The modem that sends this text, once it can. Raises :class:`RetryLaterError` if that takes long."""
        to = self._pseudonym(number)
        order = sorted(order, key=lambda station: station.name != begun)
        while True:
            own, *others = order
            waits = {station.name: station.wait_s(out.lane, to) for station in order}
            wait_s = waits[own.name]
            if wait_s == 0:
                return own
            free = next((station for station in others if waits[station.name] == 0), None)
            away_s = own.away_s()
            give_up = away_s >= self._failover_after_s if away_s else wait_s > self._failover_after_s
            if free and (out.lane == "flash" or give_up):
                return free
            if free:
                left_s = self._failover_after_s - away_s if away_s else wait_s
                raise RetryLaterError(
                    f"modem {own.name} is {'away' if away_s else 'not to send more now'}",
                    delay_s=max(0.1, min(LOOK_S, left_s)),
                )
            soonest_s = min(waits.values())
            if soonest_s > PATIENCE_S and not math.isinf(soonest_s):
                raise RetryLaterError(
                    f"modem {own.name} is not to send more now", delay_s=min(soonest_s, LONGEST_S)
                )
            await self._changes.wait(soonest_s)

    def _is_free(self, out: OutboundSms, number: str, but: Station) -> bool:
        to = self._pseudonym(number)
        return any(one.wait_s(out.lane, to) == 0 for one in self._stations.values() if one is not but)

    def _held(self, key: str, entry: Entry) -> None:
        if time.time() - entry.at < HOLD_S:
            raise RetryLaterError(f"{key}: {entry.note}", delay_s=HOLD_CHECK_S)
        log.error("%s is left HELD: %s", key, entry.note)
        self._tell("held", lane=entry.lane, query_id=key.partition(".")[0], part=key, note=entry.note)


def _missing(found: Sequence[Found | None], modem: str) -> list[int]:
    """Parts that ``modem`` has still to send: those that were never sent, and those that another one sent."""
    return [
        index
        for index, part in enumerate(found)
        if part is None or part[0].state == "UNSENT" or part[0].modem != modem
    ]


def _finished(found: Sequence[Found | None], modem: str) -> list[tuple[int, Entry]] | None:
    """The HELD parts of a text of which nothing more is to be sent; None when something is."""
    if _missing(found, modem):
        return None
    entries = [(index, part[0]) for index, part in enumerate(found) if part]
    if any(entry.state not in DONE and entry.state != "HELD" for _, entry in entries):
        return None
    return [(index, entry) for index, entry in entries if entry.state == "HELD"]
