"""The send ledger: what became of each part of each text, and what to do when nobody knows.

A part goes INTENT → SUBMITTED → DELIVERED, FAILED or EXPIRED. INTENT is on the card before the modem is
asked, with the TP-MR of the submission before it; so after a crash the modem's own memory of its last TP-MR
tells whether the part left:

* last TP-MR as before: it never left → UNSENT, it is sent again;
* one further: it left → SUBMITTED, if the modem kept its power: it counts before it is on the air;
* anything else: nobody knows. A flash text is sent again (twice is better than never), any other is HELD
  until a status report or the next TP-MR settles it, or a person does.

This is exact because one thread submits to a modem, and the next INTENT for it is written only when the last
one is settled. TP-MRs are each modem's own, and so is a ledger: it never touches an entry that another modem
has taken over, whatever reports and references say of it later. It relies on the modem keeping EF_SMSS (3GPP
TS 51.011 §10.5.7) up to date, as that standard asks.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from actors._runtime.actor import KeyValue
from actors._runtime.clock import boot_id
from actors.sms.modem import Report
from subjects.names import Lane

State = Literal["INTENT", "UNSENT", "HELD", "SUBMITTED", "DELIVERED", "FAILED", "EXPIRED"]

DONE: Final = frozenset({"SUBMITTED", "DELIVERED", "FAILED", "EXPIRED"})
"""States in which a part is never submitted again."""
LAST_WRITTEN: Final = 64
"""Entries of each modem looked through at start for one that is open: a crash leaves the open INTENT as the
last but for the few status reports that came during one submission."""

UNKNOWN: Final = "nobody knows whether it left"

Found = tuple["Entry", int]
"""An entry and its revision."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part in the ledger. The number is not in it, only a pseudonym."""

    state: State
    modem: str
    to: str
    lane: Lane
    previous: int | None = None
    """TP-MR of the submission before this one, None when unknown."""
    reference: int | None = None
    """TP-MR that the modem gave this part."""
    tries: int = 1
    boot: str = ""
    """Boot of this machine in which INTENT was written: a modem that draws its power from it fell with it."""
    at: float = 0.0
    note: str = ""
    sent_at: float = 0.0
    """When the modem took it; 0: it did not."""


class Ledger:
    """The ledger of one modem. ``pseudonym`` is the node's, for recipients of status reports."""

    def __init__(self, bucket: KeyValue, modem: str, pseudonym: Callable[[str], str]) -> None:
        self._bucket = bucket
        self._modem = modem
        self._pseudonym = pseudonym
        self._by_reference: dict[int, str] = {}
        """Last key of each TP-MR: 256 of about 60 octets."""
        self.last_reference: int | None = None
        self._held: str = ""
        self._intent: tuple[str, Entry, int] | None = None
        """The INTENT written last with its revision: saves reading back what is known."""
        self._open: list[str] | None = None
        """Keys whose INTENT is to be settled when the modem opens; None until :meth:`load` has looked."""
        self._never_left: set[str] = set()
        """Keys whose INTENT may stand in the ledger though the modem surely did not send: the bus failed
        around it. As many as the worker has slots."""

    async def load(self, recent: Sequence[tuple[str, Entry]]) -> None:
        """Takes up what an earlier run left, before any modem sends: ``recent`` as :func:`last_entries`."""
        mine = [(key, entry) for key, entry in recent if entry.modem == self._modem]
        self._open = [key for key, entry in mine if entry.state == "INTENT"]
        done = []
        for key, entry in mine:
            if entry.reference is not None and entry.state in DONE:
                done.append(entry)
                self._by_reference.setdefault(entry.reference, key)
        for key, intent in mine:
            if intent.state == "INTENT" and any(
                entry.previous == intent.previous and entry.sent_at > intent.at for entry in done
            ):
                self._never_left.add(key)  # the TP-MR after ``previous`` is another part's

    async def read(self, key: str) -> Found | None:
        """Entry and revision."""
        found = await self._bucket.get(key)
        return (msgspec.json.decode(found[0], type=Entry), found[1]) if found else None

    async def intend(self, key: str, to: str, lane: Lane, before: Found | None) -> int | None:
        """Writes INTENT before a submission and gives its revision; None when another worker was faster.

        ``before`` is the entry of an earlier try that did not reach the person, by this modem or another
        one. For a new part the key is *created*: the guard against sending anything twice.
        """
        tries = before[0].tries + 1 if before else 1
        entry = Entry(
            "INTENT", self._modem, to, lane, self.last_reference, None, tries, boot_id(), time.time()
        )
        value = msgspec.json.encode(entry)
        self._never_left.add(key)  # if this fails half-way, the modem was not asked
        if before is None:
            revision = await self._bucket.create(key, value)
        else:
            revision = await self._bucket.update(key, value, before[1])
        self._never_left.discard(key)
        self._intent = None if revision is None else (key, entry, revision)
        return revision

    async def submitted(self, key: str, reference: int) -> Entry:
        """The modem took the part. Settles a HELD part whose fate the new TP-MR reveals."""
        entry = await self._set(key, "SUBMITTED", reference=reference)
        self._by_reference[reference] = key
        self.last_reference = reference
        if self._held:
            held, self._held = self._held, ""
            found = await self._mine(held)
            if found and found[0].state == "HELD" and found[0].previous is not None:
                gap = (reference - found[0].previous) % 256
                if gap == 1:
                    await self._set(held, "UNSENT", note="the next TP-MR shows that it never left")
                elif gap == 2:
                    await self._set(
                        held,
                        "SUBMITTED",
                        reference=(reference - 1) % 256,
                        note="the next TP-MR shows that it left",
                    )
        return entry

    async def _mine(self, key: str) -> Found | None:
        """The entry, unless another modem has taken the part over."""
        found = await self.read(key)
        return found if found and found[0].modem == self._modem else None

    async def unsent(self, key: str, note: str, last_reference: int | None = None) -> None:
        """The part surely did not leave; it may be submitted again.

        A refused submission may have used up a TP-MR: ``last_reference`` is what the modem says of it now,
        and without an answer it is unknown until the next success.
        """
        self.last_reference = last_reference
        self._never_left.add(key)
        await self._set(key, "UNSENT", note=note)
        self._never_left.discard(key)

    async def failed(self, key: str, note: str) -> None:
        """The part will never leave."""
        self._never_left.add(key)
        await self._set(key, "FAILED", note=note)
        self._never_left.discard(key)

    async def opened(self, last_reference: int | None, *, power_kept: bool = True) -> list[tuple[str, Entry]]:
        """Settles what an earlier run left open; gives the entries it had to decide, as they are now.

        ``power_kept`` False: the modem itself was away, not only the process that talked to it.
        """
        if self._open is None:
            await self.load(await last_entries(self._bucket, LAST_WRITTEN))
        if self._intent:
            self._open, self._intent = [*(self._open or ()), self._intent[0]], None
        self.last_reference = last_reference
        self._held = ""
        decided = []
        for key in dict.fromkeys(self._open or ()):
            found = await self._mine(key)
            if found and found[0].state == "INTENT":
                decided.append((key, await self._settle(key, found[0], power_kept=power_kept)))
            elif found and found[0].state == "HELD":
                self._held = key  # given up while the modem was away
        self._open = []
        return decided

    async def settle(self, key: str, found: Found) -> None:
        """Decides an INTENT that was not open when the modem was asked for its last TP-MR: too long ago, the
        bus failed around it, or its modem is no longer there. Never while its submission may be running."""
        entry, revision = found
        if key in self._never_left:
            state, note = "UNSENT", "the modem was not asked"
        elif entry.lane == "flash":
            state, note = "UNSENT", f"{UNKNOWN}; flash is sent again"
        else:
            state, note = "HELD", UNKNOWN
        settled = msgspec.structs.replace(entry, state=state, at=time.time(), note=note)
        await self._bucket.update(key, msgspec.json.encode(settled), revision)  # somebody faster: also fine
        self._never_left.discard(key)

    async def _settle(self, key: str, entry: Entry, *, power_kept: bool) -> Entry:
        """Decides an INTENT whose submission was cut off, by what the modem sent last."""
        if key in self._never_left:
            self._never_left.discard(key)
            return await self._set(key, "UNSENT", note="the modem was not asked")
        left = None if entry.previous is None else (entry.previous + 1) % 256
        if left is not None and self.last_reference == entry.previous:
            return await self._set(key, "UNSENT", note="the modem's TP-MR shows that it never left")
        if left is not None and self.last_reference == left:
            self._by_reference[left] = key
            if power_kept and entry.boot == boot_id():
                return await self._set(
                    key, "SUBMITTED", reference=left, note="the modem's TP-MR shows that it left"
                )
            note = "the modem lost power while sending: TP-MR used, but perhaps not on the air"
        else:
            note = UNKNOWN
            self._held = "" if entry.lane == "flash" else key
        if entry.lane == "flash":
            return await self._set(key, "UNSENT", note=f"{note}; flash is sent again")
        return await self._set(key, "HELD", note=note)

    async def report(self, report: Report) -> str | None:
        """Enters a status report and gives the key of its part, None when it is not one of ours."""
        key = self._by_reference.get(report.reference) or self._held
        found = await self._mine(key) if key else None
        if found is None or found[0].to not in self._names(report.recipient):
            return None
        entry = found[0]
        if entry.state not in {"SUBMITTED", "HELD"} or not report.final:
            return key if entry.state in DONE else None
        if entry.state == "HELD" and entry.previous is not None:
            if report.reference != (entry.previous + 1) % 256:
                return None
            self._held = ""
        state: State = "DELIVERED" if report.delivered else "EXPIRED" if report.status == 0x46 else "FAILED"
        await self._set(key, state, reference=report.reference, note=f"TP-ST {report.status:#04x}")
        return key

    def _names(self, recipient: str) -> set[str]:
        """Pseudonyms of a number with and without its +: networks write it either way."""
        bare = recipient.removeprefix("+")
        return {self._pseudonym(bare), self._pseudonym("+" + bare)}

    async def _set(self, key: str, state: State, *, reference: int | None = None, note: str = "") -> Entry:
        """Moves an entry on, whoever wrote in between; a part that is DELIVERED, or that another modem has
        taken over, stays as it is."""
        intent, self._intent = self._intent, None
        while True:
            if intent is not None and intent[0] == key:
                (_, entry, revision), intent = intent, None
            else:
                found = await self.read(key)
                if found is None:
                    raise KeyError(key)
                entry, revision = found
            if entry.state == "DELIVERED" or entry.modem != self._modem:
                return entry
            now = time.time()
            moved = msgspec.structs.replace(
                entry,
                state=state,
                reference=entry.reference if reference is None else reference,
                at=now,
                sent_at=entry.sent_at or (now if state == "SUBMITTED" else 0.0),
                note=note,
            )
            if await self._bucket.update(key, msgspec.json.encode(moved), revision) is not None:
                return moved


async def last_entries(bucket: KeyValue, count: int) -> list[tuple[str, Entry]]:
    """The entries written last, newest first."""
    return [(key, msgspec.json.decode(value, type=Entry)) for key, value in await bucket.recent(count)]
