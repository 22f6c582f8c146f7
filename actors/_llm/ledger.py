"""What outside calls cost, and the trail of every one of them: a SQLite file of the centre.

Money is reserved before a call and settled after it, each in one transaction that no other process can come
between (``BEGIN IMMEDIATE``); a call whose end nobody saw stays counted at the most it can have cost. Every
step is also an entry of a chain: its hash covers the entry and the hash before it, so that a changed, a
removed or an added entry is found. Money is whole micro-cents. The file holds no text, no person, no query.
"""

import contextlib
import datetime as dt
import hashlib
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from actors._llm import shown
from subjects.errors import EvyError
from subjects.messages import Privacy

FILE: Final = "outside.sqlite3"
BUSY_S: Final = 10.0
LEAST_LEFT: Final = 10
"""Below one such part of the budget no outside call is made."""
MOST_OF_REST: Final = 20
"""A call may cost at most one such part of what is left."""
WINDOW_S: Final = 60.0
LOST_AFTER_S: Final = 3600.0
"""A call that has no end by then has none: its process died. No call may take a sixth of this."""

Outcome = Literal[
    "answered",  # the post-check supports it
    "unsupported",  # the post-check does not
    "unknown",  # the model says that it does not know
    "unusable",  # words that are not the JSON that was asked for
    "garbled",  # a body that is not the API's JSON
    "cut",  # an answer without its end
    "timeout",
    "busy",  # 429
    "failed",  # another error of the server
    "refused",  # a request it will never take
    "unreachable",
    "lost",  # its process died in between
]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS months (
    month TEXT PRIMARY KEY, committed INTEGER NOT NULL DEFAULT 0, alerted INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY AUTOINCREMENT, month TEXT NOT NULL, at REAL NOT NULL, class TEXT NOT NULL,
    provider TEXT NOT NULL, model TEXT NOT NULL, reserved INTEGER NOT NULL, cost INTEGER, outcome TEXT,
    prompt_tokens INTEGER, completion_tokens INTEGER, ms INTEGER
);
CREATE INDEX IF NOT EXISTS calls_by_time ON calls (provider, at);
CREATE INDEX IF NOT EXISTS calls_by_month ON calls (month);
CREATE TABLE IF NOT EXISTS chain (seq INTEGER PRIMARY KEY, entry BLOB NOT NULL, hash BLOB NOT NULL);
"""
_BEGIN: Final = bytes(32)


class LedgerError(EvyError):
    """The file cannot be read or written now: no outside call is made."""


class Ask(msgspec.Struct, frozen=True):
    """A call that is about to be made. ``worst`` is the most it can cost, ``text`` the redacted question."""

    provider: str
    model: str
    privacy: Privacy
    worst: int
    octets: int
    text: str


class Reserved(NamedTuple):
    """Permission for one call."""

    call: int
    worst: int


class Refused(NamedTuple):
    """No permission. ``wait_s`` is when it may be asked again; None: not before the money is other."""

    reason: str
    wait_s: float | None = None


class Ending(msgspec.Struct, frozen=True):
    """How a call ended. ``cost`` None: nobody knows, so the most it can have been."""

    outcome: Outcome
    cost: int | None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ms: int = 0


class Standing(NamedTuple):
    """A month's money after a step, in micro-cents."""

    month: str
    committed: int
    crossed: bool = False
    """This step is the month's first at or above the alert threshold."""
    head: str = ""
    """Head of the chain after it, ``<entries>:<hash>``: what keeps it elsewhere can prove the chain."""


class Call(NamedTuple):
    """One row for the report."""

    month: str
    at: float
    privacy: str
    provider: str
    model: str
    reserved: int
    cost: int | None
    outcome: Outcome | None
    prompt_tokens: int
    completion_tokens: int
    ms: int


class Verdict(msgspec.Struct, frozen=True):
    """What a look through the chain found. ``head`` is ``<entries>:<hash>``, to be noted elsewhere."""

    entries: int
    head: str
    problems: tuple[str, ...]


class Ledger:
    """One open file; its methods block, and may be called from any thread."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, audit_all: bool = True) -> None:
        self.path = path
        self._connection = connection
        self._audit_all = audit_all
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, *, audit_all: bool = True) -> "Ledger":
        """Opens or makes the file. Raises :class:`LedgerError`."""
        with _errors(f"open {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # a reservation outlives a power cut
            connection.executescript(_SCHEMA)
        return cls(path, connection, audit_all=audit_all)

    @classmethod
    def read(cls, path: Path) -> "Ledger":
        """Opens the file to look. Raises :class:`LedgerError`, also when there is none."""
        if not path.is_file():
            raise LedgerError(f"{path}: there is none, so no outside call was ever made")
        with _errors(f"open {path}"):
            uri = f"{path.absolute().as_uri()}?mode=ro"
            connection = sqlite3.connect(
                uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            connection.execute("BEGIN")  # all that is read belongs to one moment of a centre that goes on
        return cls(path, connection)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    def reserve(self, ask: Ask, budget: int, per_minute: int, now: float) -> Reserved | Refused:
        """Takes the worst price of a call out of the month's budget, or says why not.

        ``now`` is Unix time. Raises :class:`LedgerError`.
        """
        with self._step() as change:
            month = self._month(now)
            refused = self._obstacle(ask, month, budget, per_minute, now)
            if refused:
                if self._audit_all:
                    self._refusal(ask.provider, ask.privacy, ask.text, refused.reason, now)
                return refused
            row = (month, now, ask.privacy, ask.provider, ask.model, ask.worst)
            added = change(
                "INSERT INTO calls (month, at, class, provider, model, reserved) VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
            call = int(added.lastrowid or 0)
            change("INSERT OR IGNORE INTO months (month) VALUES (?)", (month,))
            change("UPDATE months SET committed = committed + ? WHERE month = ?", (ask.worst, month))
            self._chain(
                "asked",
                now,
                call=call,
                month=month,
                privacy=ask.privacy,
                provider=ask.provider,
                model=ask.model,
                reserved=ask.worst,
                octets=ask.octets,
                text=_digest(ask.text),
            )
            return Reserved(call, ask.worst)

    def settle(self, call: int, ending: Ending, now: float, alert_at: int = 0) -> Standing:
        """Puts what a call cost in the place of what was reserved; a second time changes nothing.

        ``alert_at`` is the sum from which the month is worth an alert; 0: never. Raises :class:`LedgerError`.
        """
        with self._step() as change:
            found = change("SELECT month, reserved, cost FROM calls WHERE id = ?", (call,)).fetchone()
            if found is None:
                raise LedgerError(f"{self.path}: there is no call {call}")
            month, reserved, settled = found
            if settled is None:
                cost = reserved if ending.cost is None else ending.cost
                change(
                    "UPDATE calls SET cost = ?, outcome = ?, prompt_tokens = ?, completion_tokens = ?, "
                    "ms = ? WHERE id = ?",
                    (cost, ending.outcome, ending.prompt_tokens, ending.completion_tokens, ending.ms, call),
                )
                change(
                    "UPDATE months SET committed = committed + ? WHERE month = ?", (cost - reserved, month)
                )
                self._chain(
                    "ended",
                    now,
                    call=call,
                    outcome=ending.outcome,
                    cost=cost,
                    prompt_tokens=ending.prompt_tokens,
                    completion_tokens=ending.completion_tokens,
                    ms=ending.ms,
                )
            [[committed, alerted]] = change("SELECT committed, alerted FROM months WHERE month = ?", (month,))
            crossed = bool(alert_at and committed >= alert_at and not alerted)
            if crossed:
                change("UPDATE months SET alerted = 1 WHERE month = ?", (month,))
            return Standing(month, committed, crossed, self._head())

    def refuse(self, provider: str, privacy: Privacy, text: str, reason: str, now: float) -> None:
        """Notes that no call was made, where everything is audited. Raises :class:`LedgerError`."""
        if self._audit_all:
            with self._step():
                self._refusal(provider, privacy, text, reason, now)

    def end_lost(self, now: float) -> int:
        """Settles calls that will never end at their worst price; gives how many."""
        with self._lock, _errors(f"read {self.path}"):
            before = (now - LOST_AFTER_S,)
            found = self._connection.execute("SELECT id FROM calls WHERE cost IS NULL AND at < ?", before)
            lost = [call for (call,) in found]
        for call in lost:
            self.settle(call, Ending("lost", None), now)
        return len(lost)

    def standing(self, now: float) -> Standing:
        """The month's money. Raises :class:`LedgerError`."""
        with self._lock, _errors(f"read {self.path}"):
            month = self._month(now)
            return Standing(month, self._committed(month))

    def calls(self, month: str = "") -> list[Call]:
        """Calls of a month, or of all, in order. Raises :class:`LedgerError`."""
        with self._lock, _errors(f"read {self.path}"):
            rows = self._connection.execute(
                "SELECT month, at, class, provider, model, reserved, cost, outcome, "
                "COALESCE(prompt_tokens, 0), COALESCE(completion_tokens, 0), COALESCE(ms, 0) FROM calls "
                "WHERE ? IN ('', month) ORDER BY id",
                (month,),
            )
            return [Call(*row) for row in rows]

    def refusals(self, month: str = "") -> dict[str, int]:
        """How often no call was made, by reason. Raises :class:`LedgerError`."""
        counts: dict[str, int] = defaultdict(int)
        for entry in self.entries():
            if entry["what"] == "not asked" and month in ("", _month_of(entry["at"])):
                counts[entry["reason"]] += 1
        return dict(counts)

    def entries(self) -> Iterator[dict[str, Any]]:
        """The trail, oldest first. Raises :class:`LedgerError`."""
        for _, entry, _ in self._rows():
            yield msgspec.json.decode(entry)

    def verify(self, head: str = "") -> Verdict:
        """Goes through the whole chain and holds the accounts against it.

        ``head`` is one that was noted earlier: the chain must still go through it, which tells when its end
        was cut off together with the accounts. Raises :class:`LedgerError`.
        """
        problems, previous, last = [], _BEGIN, 0
        reserved: dict[int, int] = {}
        costs: dict[int, int] = {}
        months: dict[int, str] = {}
        noted = head.partition(":")
        seen = not head
        for seq, entry, digest in self._rows():
            if seq != last + 1:
                problems.append(f"entry {seq} follows entry {last}: what was between is gone")
            if _link(previous, entry) != digest:
                problems.append(f"entry {seq} is not what was written, or not in its place")
            previous, last = digest, seq
            seen = seen or (str(seq), digest.hex()) == (noted[0], noted[2])
            try:
                _account(msgspec.json.decode(entry), reserved, costs, months)
            except (msgspec.DecodeError, KeyError, TypeError) as error:
                problems.append(f"entry {seq} cannot be read: {error}")
        if not seen:
            problems.append(f"the chain does not go through {head}: entries were removed or written anew")
        problems += self._differences(reserved, costs, months)
        return Verdict(last, f"{last}:{previous.hex()}", tuple(problems))

    def _differences(
        self, reserved: dict[int, int], costs: dict[int, int], months: dict[int, str]
    ) -> Iterator[str]:
        """Where the accounts say something else than the chain."""
        with self._lock, _errors(f"read {self.path}"):
            kept = {
                call: (most, cost)
                for call, most, cost in self._connection.execute("SELECT id, reserved, cost FROM calls")
            }
            sums = dict(self._connection.execute("SELECT month, committed FROM months"))
        for call in sorted(kept.keys() | reserved.keys()):
            if kept.get(call) != (reserved.get(call), costs.get(call)):
                yield f"call {call}: the accounts and the chain disagree"
        due: dict[str, int] = defaultdict(int)
        for call, month in months.items():
            due[month] += costs.get(call, reserved[call])
        for month in sorted(sums.keys() | due.keys()):
            if sums.get(month, 0) != due.get(month, 0):
                kept_sum, chained = shown(sums.get(month, 0)), shown(due.get(month, 0))
                yield f"{month}: the accounts say {kept_sum}, the chain {chained}"

    def _rows(self) -> Iterator[tuple[int, bytes, bytes]]:
        last = 0
        while True:
            with self._lock, _errors(f"read {self.path}"):
                page = self._connection.execute(
                    "SELECT seq, CAST(entry AS BLOB), CAST(hash AS BLOB) FROM chain WHERE seq > ? "
                    "ORDER BY seq LIMIT 1000",
                    (last,),
                ).fetchall()
            if not page:
                return
            yield from page
            last = page[-1][0]

    def _obstacle(self, ask: Ask, month: str, budget: int, per_minute: int, now: float) -> Refused | None:
        left = budget - self._committed(month)
        if left * LEAST_LEFT < budget or left <= 0:
            return Refused("less than a tenth of the budget is left" if budget else "there is no budget")
        if ask.worst * MOST_OF_REST > left:
            return Refused("it may cost more than a twentieth of what is left")
        [[over]] = self._connection.execute(
            "SELECT EXISTS (SELECT 1 FROM calls WHERE month = ? AND provider = ? AND cost > reserved)",
            (month, ask.provider),
        )
        if over:
            return Refused("it billed more than a call can cost: check its prices, and its bill")
        recent = self._connection.execute(
            "SELECT at FROM calls WHERE provider = ? AND at > ? AND at <= ? ORDER BY at DESC LIMIT ?",
            (ask.provider, now - WINDOW_S, now + WINDOW_S, per_minute),
        ).fetchall()
        if len(recent) >= per_minute:
            return Refused("its requests of this minute are used up", recent[-1][0] + WINDOW_S - now)
        return None

    def _month(self, now: float) -> str:
        """The month to account in: never an earlier one than before, so that a clock that was set back opens
        no budget a second time."""
        [[latest]] = self._connection.execute("SELECT COALESCE(MAX(month), '') FROM months")
        return max(str(latest), _month_of(now))

    def _committed(self, month: str) -> int:
        found = self._connection.execute("SELECT committed FROM months WHERE month = ?", (month,)).fetchone()
        return int(found[0]) if found else 0

    def _refusal(self, provider: str, privacy: Privacy, text: str, reason: str, now: float) -> None:
        self._chain("not asked", now, provider=provider, privacy=privacy, reason=reason, text=_digest(text))

    def _head(self) -> str:
        seq, digest = self._last()
        return f"{seq}:{digest.hex()}"

    def _last(self) -> tuple[int, bytes]:
        found = self._connection.execute("SELECT seq, hash FROM chain ORDER BY seq DESC LIMIT 1").fetchone()
        return (int(found[0]), bytes(found[1])) if found else (0, _BEGIN)

    def _chain(self, what: str, now: float, **fields: object) -> None:
        seq, previous = self._last()
        entry = msgspec.json.encode({"what": what, "at": round(now, 3), **fields})
        row = (seq + 1, entry, _link(previous, entry))
        self._connection.execute("INSERT INTO chain (seq, entry, hash) VALUES (?, ?, ?)", row)

    @contextlib.contextmanager
    def _step(self) -> Iterator[Any]:
        """One transaction that nothing comes between, in this process or another."""
        with self._lock, _errors(f"write {self.path}"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection.execute
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise


def _account(
    entry: dict[str, Any], reserved: dict[int, int], costs: dict[int, int], months: dict[int, str]
) -> None:
    if entry["what"] == "asked":
        reserved[entry["call"]] = entry["reserved"]
        months[entry["call"]] = entry["month"]
    elif entry["what"] == "ended":
        costs[entry["call"]] = entry["cost"]


def _month_of(now: float) -> str:
    return dt.datetime.fromtimestamp(now, dt.UTC).strftime("%Y-%m")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _link(previous: bytes, entry: bytes) -> bytes:
    return hashlib.sha256(previous + entry).digest()


@contextlib.contextmanager
def _errors(doing: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(f"cannot {doing}: {error}") from error
