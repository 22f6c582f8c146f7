"""What a modem stores and shows in PDU mode, read by EVY's codec: the same for every driver."""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from evy_core import PduError, StatusReport, decode_received

from actors.sms.kinds import kind_of, writer
from actors.sms.modem import Concat, Received, Report

log = logging.getLogger("evy.sms")

GARBLED_TRIES: Final = 3
"""How often a PDU of the wrong length is read again: it was garbled on the line, or is stored like that."""

MAX_SHOWN: Final = 500
"""Shown texts and calls that may wait for the bus, below 1 kB each; what is stored waits on the SIM."""

_LISTED: Final = re.compile(r"\+CMGL: ?(\d+),")


def listed(lines: Sequence[str]) -> Iterator[tuple[int, str, bool]]:
    """Location, PDU and whether it came whole of each entry in an answer to AT+CMGL (TS 27.005 §3.4.2)."""
    for head, pdu in pairwise([*lines, ""]):
        if entry := _LISTED.match(head):
            # A slot without octets shows the next entry, or the end, in their place.
            stored = "" if _LISTED.match(pdu) else pdu
            yield int(entry[1]), stored, is_whole(head, stored)


def is_whole(head: str, pdu: str) -> bool:
    """Whether a PDU has the length that the line before it states: without the service centre in front."""
    try:
        octets = bytes.fromhex(pdu)
        stated = int(head.rpartition(",")[2])
    except ValueError:
        return False
    return stated == (max(0, len(octets) - 1 - octets[0]) if octets else 0)


def read_pdu(location: int, pdu: str) -> Received | Report:
    """One SMS or status report from its PDU in hexadecimal; what cannot be read is kept with the reason.

    Text in UCS-2 keeps half a surrogate pair: its other half is in the next part.
    """
    try:
        raw = bytes.fromhex(pdu)
        (message,) = decode_received([raw])
    except PduError as error:
        return Received(location, raw=raw, error=str(error), kind="unreadable")
    except ValueError:
        return Received(location, raw=pdu.encode(), error="the PDU is not hexadecimal", kind="unreadable")
    if isinstance(message, StatusReport):
        delivered, final = message.outcome == "delivered", message.outcome != "pending"
        return Report(message.reference, message.recipient, delivered, final, message.status)
    kind = kind_of(message)
    if kind != "text":
        return Received(location, writer(message, kind), smsc_at=message.smsc_at, raw=raw, kind=kind)
    text = message.text or ""
    if message.alphabet == "ucs2":
        text = message.data[: len(message.data) & ~1].decode("utf-16-be", "surrogatepass")
    concat = Concat(*message.concat) if message.concat else None
    return Received(location, writer(message, kind), text, message.smsc_at, concat, raw)


class Storage:
    """What is on the SIM as far as it was read, and what the modem showed without storing it."""

    def __init__(self) -> None:
        self._texts: dict[int, Received] = {}
        """By location: as many as the SIM has slots. Below 0 what was shown and not stored."""
        self._reports: list[Report] = []
        self._shown = 0
        self._garbled: Counter[int] = Counter()
        """How often in a row a location was read with a wrong length."""

    @property
    def has_reports(self) -> bool:
        """Whether status reports wait to be offered."""
        return bool(self._reports)

    def clear(self) -> None:
        """The line is closed: what is on the SIM is read anew. What was only shown is nowhere else."""
        self._texts = self._only_shown()
        self._reports.clear()

    def _only_shown(self) -> dict[int, Received]:
        return {location: sms for location, sms in self._texts.items() if location < 0}

    def take(self, location: int, pdu: str) -> bool:
        """Keeps an SMS or a status report; True for a report."""
        sms = read_pdu(location, pdu)
        if isinstance(sms, Report):
            self._reports.append(replace(sms, location=max(0, location)))
            return True
        self._texts[location] = sms
        return False

    def show(self, pdu: str) -> int | None:
        """Keeps what was shown and not stored, as reports and class 0 are: EVY's only copy.

        Its location below 0, or 0 for a status report; None when there is no room for it.
        """
        place = self._place_for_shown()
        return None if place is None else 0 if self.take(place, pdu) else place

    def ring(self, number: str, at: float) -> None:
        """Keeps a call; an empty number is a hidden one."""
        if (place := self._place_for_shown()) is not None:
            self._texts[place] = Received(place, number, smsc_at=at, kind="call")

    def _place_for_shown(self) -> int | None:
        if len(self._only_shown()) >= MAX_SHOWN:
            log.error("no room for what the modem shows: %d wait for the bus", MAX_SHOWN)
            return None
        self._shown -= 1
        return self._shown

    def relist(self, lines: Sequence[str]) -> bool:
        """Takes in an answer to AT+CMGL; True when the list must be read once more."""
        self._texts = self._only_shown()
        self._reports = [report for report in self._reports if not report.location]
        before, self._garbled = self._garbled, Counter()
        for location, pdu, whole in listed(lines):
            if not whole and before[location] < GARBLED_TRIES:
                self._garbled[location] = before[location] + 1
            else:
                self.take(location, pdu)
        return bool(self._garbled)

    def forget(self, location: int) -> None:
        """The SMS is safe elsewhere."""
        self._texts.pop(location, None)

    def offer(self, in_hand: frozenset[int]) -> tuple[list[Received], list[Report]]:
        """Texts and reports that came since the last call, except what is ``in_hand``."""
        reports = [report for report in self._reports if report.location not in in_hand]
        self._reports = []
        return [sms for location, sms in self._texts.items() if location not in in_hand], reports
