"""Parts of multipart texts: each is on the card before it leaves the SIM, so a long text never fills it."""

import hashlib
from typing import Final

import msgspec

from actors._runtime.actor import KeyValue
from actors._runtime.clock import boot_id, boot_s
from actors.sms.modem import Received

MAX_PARTS: Final = 255
SAME_TEXT_S: Final = 600.0
"""How far apart the service centre gets the parts of one text, at most: a phone sends them in a row, whenever
they are delivered. Parts from further apart under one reference are of two texts."""


class StoredPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part of a text that is not complete yet."""

    sender: str
    total: int
    index: int
    utf16: bytes
    """The text in UTF-16-LE: it may begin or end with half a surrogate pair, which JSON cannot carry."""
    boot_id: str
    at_s: float
    smsc_at: float | None = None

    @property
    def fingerprint(self) -> str:
        """Tells this part from another text's part with the same number: some phones use one reference."""
        what = f"{self.index}:{self.smsc_at}:".encode() + self.utf16
        return hashlib.blake2b(what, digest_size=8).hexdigest()


class Released(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parts of a text that was passed on, by fingerprint: networks deliver some of them twice."""

    fingerprints: tuple[str, ...]
    indexes: tuple[int, ...] = ()
    smsc_at: float | None = None
    """When the service centre had the first of them."""
    flash: bool = False
    """It told of danger: what comes late may hold the address."""


def join(parts: list[StoredPart]) -> str:
    """Text of parts in order; halves of a surrogate pair meet again, a lone half becomes U+FFFD."""
    return b"".join(part.utf16 for part in parts).decode("utf-16-le", "replace")


class Parts:
    """The ``parts`` bucket."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket
        self._started_s = boot_s()

    @staticmethod
    def group(sender_ref: str, reference: int, total: int) -> str:
        """Key of a text: parts belong together by sender, reference and total (TS 23.040 §9.2.3.24.1)."""
        return f"{sender_ref}.{reference}-{total}"

    async def add(self, group: str, sms: Received) -> bool:
        """Keeps a part; False when this very part was passed on already."""
        part = self._stored(sms)
        mark = await self._bucket.get(f"{group}.0")
        if mark and part.fingerprint in msgspec.json.decode(mark[0], type=Released).fingerprints:
            return False
        await self._bucket.put(f"{group}.{part.index}", msgspec.json.encode(part))
        return True

    async def is_of_another_text(self, group: str, sms: Received) -> bool:
        """The place of this part is taken: the phone has begun a new text under an old reference."""
        part = self._stored(sms)
        there = await self._bucket.get(f"{group}.{part.index}")
        return there is not None and _part(there).fingerprint != part.fingerprint

    def _stored(self, sms: Received) -> StoredPart:
        if sms.concat is None:
            raise ValueError("not a part of a multipart text")
        utf16 = sms.text.encode("utf-16-le", "surrogatepass")
        concat = sms.concat
        return StoredPart(sms.sender, concat.total, concat.index, utf16, boot_id(), boot_s(), sms.smsc_at)

    async def of(self, group: str) -> list[StoredPart]:
        """The parts that are there, in order."""
        found = []
        for key in await self._bucket.keys(f"{group}."):
            entry = await self._bucket.get(key)
            if entry and not key.endswith(".0"):
                found.append(_part(entry))
        return sorted(found, key=lambda part: part.index)

    async def count(self, group: str) -> int:
        """How many parts are there."""
        return sum(not key.endswith(".0") for key in await self._bucket.keys(f"{group}."))

    async def _mark(self, group: str) -> Released:
        found = await self._bucket.get(f"{group}.0")
        return msgspec.json.decode(found[0], type=Released) if found else Released(())

    async def fresh(self, group: str, parts: list[StoredPart]) -> list[StoredPart]:
        """Those that were not passed on: a crash may have left some that were."""
        passed = (await self._mark(group)).fingerprints
        return [part for part in parts if part.fingerprint not in passed]

    async def is_rest(self, group: str, parts: list[StoredPart]) -> bool:
        """Whether these are what was missing of a text that was passed on without them, and told of no
        danger."""
        mark = await self._mark(group)
        if mark.smsc_at is None or mark.flash or any(part.index in mark.indexes for part in parts):
            return False
        return all(
            part.smsc_at is not None and abs(part.smsc_at - mark.smsc_at) < SAME_TEXT_S for part in parts
        )

    async def release(
        self, group: str, parts: list[StoredPart], *, flash: bool = False, rest: bool = False
    ) -> None:
        """Forgets the parts of a text that was passed on, and remembers that it was; ``rest`` adds them to
        what was passed on before."""
        times = [part.smsc_at for part in parts if part.smsc_at is not None]
        mark = Released(
            tuple(part.fingerprint for part in parts),
            tuple(part.index for part in parts),
            min(times, default=None),
            flash,
        )
        if rest:
            before = await self._mark(group)
            mark = msgspec.structs.replace(
                before,
                fingerprints=before.fingerprints + mark.fingerprints,
                indexes=before.indexes + mark.indexes,
            )
        await self._bucket.put(f"{group}.0", msgspec.json.encode(mark))
        for part in parts:
            await self._bucket.delete(f"{group}.{part.index}")

    async def waiting(self) -> dict[str, float]:
        """Each text that waits for parts, with the age of its youngest part in seconds."""
        ages: dict[str, float] = {}
        for key in await self._bucket.keys():
            group, _, index = key.rpartition(".")
            entry = await self._bucket.get(key) if index != "0" else None
            if entry:
                age_s = self._age_s(_part(entry))
                ages[group] = min(age_s, ages.get(group, age_s))
        return ages

    def _age_s(self, part: StoredPart) -> float:
        """Age on the boot clock; after a reboot counted from this process's start."""
        return boot_s() - (part.at_s if part.boot_id == boot_id() else self._started_s)


def _part(entry: tuple[bytes, int]) -> StoredPart:
    return msgspec.json.decode(entry[0], type=StoredPart)


def payload_digest(parts: list[StoredPart]) -> bytes:
    """Digest of what was received, for the query id."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.index.to_bytes(1, "big") + part.utf16 + b"\0\0")
    return digest.digest()
