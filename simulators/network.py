"""A GSM network with phones behind it: a service centre that loses nothing and remembers everything.

The log is the ground truth of tests: each text a phone sent, each SUBMIT the network took from the modem
(time, number, TP-MR), each text a phone could read after its parts were joined, each status report. Chance
comes from a seeded generator and time from a clock that is an argument.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import msgspec
from evy_core import Deliver, StatusReport, Submit, decode_submitted, encode_pdus, join_parts, segment

SMSC: Final = "+12085550100"
UCS2: Final = 0x08
DELIVERED: Final = 0x00
LAST_DELIVERED: Final = 0x1F
"""TP-ST values up to this one mean that the phone has the text (3GPP TS 23.040 §9.2.3.15)."""
EXTENSION: Final = "\f^{}\\[~]|€"
"""Characters of GSM 7-bit that cost two septets."""
What = Literal["sent", "submitted", "read", "reported"]


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something the network saw. ``number`` is the phone's, whichever way the text went."""

    what: What
    at: float
    number: str
    text: str = ""
    mr: int | None = None
    part: int = 1
    parts: int = 1
    status: int | None = None
    number_from: str = ""
    """``sent``: what stands as the sender when it is not the phone's number."""


class Subscriber(Protocol):
    """What the network needs of a modem."""

    def take_deliver(self, pdu: bytes) -> bool:
        """Stores an SMS-DELIVER; False when there is no room or no power, and the network tries again."""

    def take_report(self, pdu: bytes) -> bool:
        """Passes an SMS-STATUS-REPORT on; False when there is no power."""


class Disorder(msgspec.Struct, frozen=True):
    """What the network does to texts that phones send: chances from 0 to 1, each by itself."""

    twice: float = 0.0
    """Of each part: it comes again, as when the modem's acknowledgement got lost."""
    late: float = 0.0
    """Of each part: it comes after the others."""
    shuffled: float = 0.0
    """Of each text: its parts come in any order."""
    up_to_s: float = 0.0
    """Longest time until what is late or comes again."""


@dataclass
class Phone:
    """A phone that shows whole texts. ``status`` is the TP-ST of reports about texts to it."""

    number: str
    status: int = DELIVERED
    inbox: list[str] = field(default_factory=list)
    parts: dict[tuple[int, int], dict[int, Submit]] = field(default_factory=dict)

    def read(self, part: Submit) -> tuple[str, int] | None:
        """Text and number of parts once the last part is there."""
        concat = part.concat
        if concat is None:
            whole = [part]
        else:
            reference, total, number = concat
            waiting = self.parts.setdefault((reference, total), {})
            waiting[number] = part
            if len(waiting) < total:
                return None
            whole = [waiting[n] for n in range(1, total + 1)]
            del self.parts[reference, total]
        (text,) = join_parts([whole])
        self.inbox.append(text)
        return text, len(whole)


def divide(text: str, *, ucs2: bool, wide: bool) -> list[str]:
    """Parts as a phone makes them, with an 8-bit or ``wide`` reference; no character is divided."""

    def cost(c: str) -> int:
        return len(c.encode("utf-16-be")) // 2 if ucs2 else 1 + (c in EXTENSION)

    single, part = (70, 67 - wide) if ucs2 else (160, 153 - wide)
    if sum(map(cost, text)) <= single:
        return [text]
    parts, used = [""], 0
    for c in text:
        if used + cost(c) > part:
            parts.append("")
            used = 0
        parts[-1] += c
        used += cost(c)
    return parts


class Network:
    """The service centre, its phones, and one modem that is registered with it.

    ``report_delay_s`` passes between a SUBMIT and its status report, ``retry_s`` before the network offers
    again what the modem could not take.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
        zone_quarters: int = 0,
        report_delay_s: float = 0.0,
        retry_s: float = 1.0,
    ) -> None:
        self.phones: dict[str, Phone] = {}
        self.log: list[Entry] = []
        self.listeners: list[Callable[[Entry], None]] = []
        self._random = random.Random(seed)  # noqa: S311  reproducible, guards nothing
        self._clock = clock
        self._zone_quarters = zone_quarters
        self._report_delay_s = report_delay_s
        self._retry_s = retry_s
        self._modem: Subscriber | None = None
        self._waiting: deque[bytes] = deque()
        self._reports: deque[tuple[bytes, Entry]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._late: set[asyncio.TimerHandle] = set()
        self.disorder = Disorder()

    def register(self, modem: Subscriber) -> None:
        """The modem is in the network; what waits for it is delivered."""
        self._modem = modem
        self.offer()

    def phone(self, number: str) -> Phone:
        """The phone of a number, made at its first use."""
        return self.phones.setdefault(number, Phone(number))

    def _record(self, entry: Entry) -> None:
        self.log.append(entry)
        for listener in self.listeners:
            listener(entry)

    def send(
        self,
        number: str,
        text: str,
        *,
        sender: str = "",
        coding: int | None = None,
        wide_reference: bool = False,
        drop: Collection[int] = (),
        late: Collection[int] = (),
        late_s: float = 0.0,
        shuffle: bool = False,
        times: int = 1,
        smsc_at: float | None = None,
    ) -> list[bytes]:
        """A phone texts the modem; gives the PDUs in the order they are delivered.

        ``sender`` replaces the number, for names. ``coding`` forces TP-DCS. Parts in ``drop`` (from 1) get
        lost on the way, those in ``late`` come ``late_s`` after the others, ``shuffle`` mixes the others,
        ``times`` delivers everything again with the same service centre time, as networks do when an
        acknowledgement got lost. To all this the :class:`Disorder` of the network is added.
        """
        self._record(Entry("sent", self._clock(), number, text, number_from=sender))
        ucs2 = segment([text])[0].encoding == "ucs2" or (coding is not None and coding & 0x0C == UCS2)
        if ucs2 and coding is None:
            coding = UCS2
        parts = divide(text, ucs2=ucs2, wide=wide_reference)
        reference = self._random.randrange(0x10000 if wide_reference else 0x100)
        pdus = encode_pdus(
            [
                Deliver(
                    sender or number,
                    part,
                    smsc=SMSC,
                    smsc_at=self._clock() if smsc_at is None else smsc_at,
                    zone_quarters=self._zone_quarters,
                    coding=coding,
                    concat=(reference, len(parts), n) if len(parts) > 1 else None,
                    wide_reference=wide_reference,
                )
                for n, part in enumerate(parts, start=1)
            ]
        )
        disorder, chance = self.disorder, self._random
        kept = [pdu for n, pdu in enumerate(pdus, start=1) if n not in drop and n not in late]
        if shuffle or chance.random() < disorder.shuffled:
            chance.shuffle(kept)
        kept *= times
        prompt = []
        for pdu in kept:
            if chance.random() < disorder.late:
                self._deliver_late(pdu, chance.uniform(0, disorder.up_to_s))
            else:
                prompt.append(pdu)
            if chance.random() < disorder.twice:
                self._deliver_late(pdu, chance.uniform(0, disorder.up_to_s))
        for n in late:
            self._deliver_late(pdus[n - 1], late_s)
        self.deliver(prompt)
        return kept

    def _deliver_late(self, pdu: bytes, after_s: float) -> None:
        def deliver() -> None:
            self._late.discard(timer)
            self.deliver([pdu])

        timer = asyncio.get_running_loop().call_later(after_s, deliver)
        self._late.add(timer)

    def deliver(self, pdus: Sequence[bytes]) -> None:
        """Hands PDUs to the modem as they are, broken ones too, in order, until it takes them."""
        self._waiting.extend(pdus)
        self.offer()

    def waiting(self) -> int:
        """Texts and reports that the modem has not taken yet, without those that come later."""
        return len(self._waiting) + len(self._reports)

    def offer(self) -> None:
        """Tries to hand over what waits: at once when the modem has room again, else every ``retry_s``."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        modem = self._modem
        while modem and self._reports and modem.take_report(self._reports[0][0]):
            self._record(self._reports.popleft()[1])
        while modem and self._waiting and modem.take_deliver(self._waiting[0]):
            self._waiting.popleft()
        if self.waiting():
            self._timer = asyncio.get_running_loop().call_later(self._retry_s, self.offer)

    def submit(self, pdu: bytes, mr: int) -> None:
        """Takes a SUBMIT from the modem, whose TP-MR is ``mr``. Raises PduError when it is none."""
        (message,) = decode_submitted([pdu])
        number = message.recipient
        _, parts, part = message.concat or (0, 1, 1)
        now = self._clock()
        self._record(Entry("submitted", now, number, message.text or "", mr, part, parts))
        phone = self.phone(number)
        if phone.status <= LAST_DELIVERED and (read := phone.read(message)):
            self._record(Entry("read", now, number, read[0], parts=read[1]))
        if message.report:
            asyncio.get_running_loop().call_later(
                self._report_delay_s, self._report, number, mr, phone.status, now
            )

    def _report(self, number: str, mr: int, status: int, taken_at: float) -> None:
        now = self._clock()
        report = StatusReport(
            number,
            mr,
            status,
            smsc=SMSC,
            smsc_at=taken_at,
            discharged_at=now,
            zone_quarters=self._zone_quarters,
        )
        self._reports.append((encode_pdus([report])[0], Entry("reported", now, number, mr=mr, status=status)))
        self.offer()

    def close(self) -> None:
        """Stops trying."""
        for timer in self._late:
            timer.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
