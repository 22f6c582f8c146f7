"""What the mesh must not forget: the counters of its encryption and what it holds for others, in one file.

A file and not a bucket, because the radio goes on relaying while the node's own server is away, and because
this must never come back from a backup: an old counter under the same key breaks the encryption.
"""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Final, NamedTuple

from subjects.errors import EvyError

MAGIC: Final = b"EVYMESH1"
MOST_OCTETS: Final = 1024 * 1024
_DIGEST: Final = 16
EPOCH: Final = 1_767_225_600.0
"""2026-01-01. A clock that shows an earlier time was never set."""


class LostError(EvyError):
    """The counters are lost, and without a clock nobody can say where to go on."""


class Start(NamedTuple):
    """Where the state machine begins: with what was kept; or after a loss, ``lost_s`` seconds after
    :data:`EPOCH`, with counters so far ahead that none of them was ever used."""

    state: bytes
    lost_s: int
    why: str = ""
    """What was wrong with the file; empty: nothing."""


class Keep:
    """The file of one address in one network. Its folder belongs to `evy mesh`."""

    def __init__(self, folder: Path, network: int, address: int) -> None:
        self._path = folder / "state"
        self._fresh = folder / "fresh"
        self._head = MAGIC + bytes([network, address])

    def start(self, now: float | None) -> Start:
        """Reads the file. What cannot be read is moved aside. ``now`` is Unix time, None while unknown.

        Raises :class:`LostError` when counters have to be found by the time, and there is none.
        """
        try:
            octets = self._path.read_bytes()
        except FileNotFoundError:
            if self._fresh.exists():
                # A card that was wiped and joins again with its old file is fresh too: with a clock, ahead.
                return Start(b"", max(0, int((now or EPOCH) - EPOCH)))
            return self._ahead(f"{self._path} is missing", now)
        except OSError as error:
            return self._ahead(f"{self._path}: {error}", now)
        state = self._opened(octets)
        if state is not None:
            return Start(state, 0)
        return self._ahead(f"{self._path} is damaged; it is kept as {self.set_aside().name}", now)

    def lost(self, why: str, now: float | None) -> Start:
        """As :meth:`start` where the state machine itself could not read the state."""
        return self._ahead(f"{why}; it is kept as {self.set_aside().name}", now)

    def set_aside(self) -> Path:
        """Moves the file away, for whoever wants to know what happened to it; the last one only."""
        aside = self._path.with_name("state.damaged")
        with contextlib.suppress(OSError):
            self._path.replace(aside)
        return aside

    def write(self, state: bytes) -> None:
        """Returns when the state is on the disk, the former one until then. Raises OSError."""
        body = self._head + state
        draft = self._path.with_name(".state")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(body + _digest(body))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._fresh.unlink(missing_ok=True)

    def _opened(self, octets: bytes) -> bytes | None:
        body, digest = octets[:-_DIGEST], octets[-_DIGEST:]
        whole = len(octets) <= MOST_OCTETS and body.startswith(self._head) and _digest(body) == digest
        return body[len(self._head) :] if whole else None

    @staticmethod
    def _ahead(why: str, now: float | None) -> Start:
        if now is None or now < EPOCH:
            raise LostError(
                f"{why}: the counters of the encryption are lost, and without the time nobody knows where "
                "they were; the radio stays silent until the clock is set (by a text, or a time server)"
            )
        return Start(b"", max(1, int(now - EPOCH)), why)


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST).digest()
