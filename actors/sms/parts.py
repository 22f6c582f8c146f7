"""Parts of multipart texts: each is on the card before it leaves the SIM, so a long text never fills it."""

import hashlib
from typing import Final

import msgspec

from actors._runtime.actor import KeyValue
from actors._runtime.clock import boot_id, boot_s
from actors.sms.modem import Received

LATE_WITHIN_S: Final = 3600.0
"""A part of a text that was released so long ago or less is late; after that its reference may be reused."""
MAX_PARTS: Final = 255


class StoredPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part, or with index 0 the mark that its text was released."""

    sender: str
    total: int
    index: int
    utf16: bytes
    """The text in UTF-16-LE: it may begin or end with half a surrogate pair, which JSON cannot carry."""
    boot_id: str
    at_s: float
    smsc_at: float | None = None


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
        """Keeps a part; False when it belongs to a text that was released already."""
        concat = sms.concat
        if concat is None:
            raise ValueError("not a part of a multipart text")
        mark = await self._bucket.get(f"{group}.0")
        if mark and self._age_s(msgspec.json.decode(mark[0], type=StoredPart)) < LATE_WITHIN_S:
            return False
        utf16 = sms.text.encode("utf-16-le", "surrogatepass")
        part = StoredPart(sms.sender, concat.total, concat.index, utf16, boot_id(), boot_s(), sms.smsc_at)
        await self._bucket.put(f"{group}.{concat.index}", msgspec.json.encode(part))
        return True

    async def of(self, group: str) -> list[StoredPart]:
        """The parts that are there, in order."""
        found = []
        for key in await self._bucket.keys(f"{group}."):
            entry = await self._bucket.get(key)
            if entry and not key.endswith(".0"):
                found.append(msgspec.json.decode(entry[0], type=StoredPart))
        return sorted(found, key=lambda part: part.index)

    async def release(self, group: str, parts: list[StoredPart]) -> None:
        """Forgets the parts of a text that was passed on, and remembers that it was."""
        first = parts[0]
        mark = StoredPart(first.sender, first.total, 0, b"", boot_id(), boot_s())
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
                age_s = self._age_s(msgspec.json.decode(entry[0], type=StoredPart))
                ages[group] = min(age_s, ages.get(group, age_s))
        return ages

    def _age_s(self, part: StoredPart) -> float:
        """Age on the boot clock; after a reboot counted from this process's start."""
        return boot_s() - (part.at_s if part.boot_id == boot_id() else self._started_s)


def payload_digest(parts: list[StoredPart]) -> bytes:
    """Digest of what was received, for the query id."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.index.to_bytes(1, "big") + part.utf16 + b"\0\0")
    return digest.digest()
