"""What the centre keeps of unanswered questions: one SQLite file, bounded, and what people decided on them.

The actor `collect` writes questions and drafts, `evy knowledge review` decisions; each in one transaction.
Nobody is shown a wording before its cluster is large enough. Once a person has decided, the wordings go.
"""

import contextlib
import datetime as dt
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np

from actors._collected.clusters import Centre, by_closeness, nearest
from actors._people.texts import visible
from actors._retrieval.vectors import DIMENSIONS, Vectors
from subjects.errors import EvyError, RefusedError
from subjects.messages import Passage, Unanswered

FILE: Final = "collected.sqlite3"
BUSY_S: Final = 10.0
"""How long a writer waits for another one."""

MOST_QUESTIONS: Final = 50_000
"""2 kB each, 100 MB; of more the oldest go."""
MOST_CLUSTERS: Final = 5_000
"""3 kB each; of more the smallest go that nobody decided on, the oldest first."""
MOST_A_DAY: Final = 600
"""Questions of one node in a day; further ones are counted and dropped."""
SHOWN: Final = 12
"""Wordings of a cluster that are shown."""
LATER_DAYS: Final = 7
TRY_AGAIN_DAYS: Final = 3
"""After a draft that could not be used: passages change."""

_CREATE: Final = """
    CREATE TABLE clusters (
        id INTEGER PRIMARY KEY AUTOINCREMENT, lang TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'open',
        sum BLOB NOT NULL, members INTEGER NOT NULL, until TEXT NOT NULL DEFAULT '',
        drafted TEXT NOT NULL DEFAULT '', draft TEXT NOT NULL DEFAULT ''
    );
    CREATE INDEX clusters_by_lang ON clusters (lang, state);
    CREATE TABLE questions (
        node TEXT NOT NULL, id TEXT NOT NULL, cluster INTEGER NOT NULL REFERENCES clusters (id),
        came TEXT NOT NULL, day TEXT NOT NULL, text TEXT NOT NULL, near INTEGER NOT NULL,
        needs TEXT NOT NULL, regions TEXT NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (node, id)
    ) WITHOUT ROWID;
    CREATE INDEX questions_by_cluster ON questions (cluster);
    CREATE INDEX questions_by_day ON questions (came, node);
    CREATE TABLE decisions (
        id INTEGER PRIMARY KEY AUTOINCREMENT, cluster INTEGER NOT NULL, lang TEXT NOT NULL,
        what TEXT NOT NULL, by TEXT NOT NULL, at TEXT NOT NULL, article TEXT NOT NULL, asked INTEGER NOT NULL
    );
    PRAGMA user_version = 1;
"""

What = Literal["accept", "reject", "merge", "later"]
"""What a person decides: a new article; none, now and for what is asked alike; its questions belong to an
article there is; ask again in a week."""

_STATE: Final[dict[What, str]] = {
    "accept": "answered",
    "merge": "answered",
    "reject": "rejected",
    "later": "later",
}


class StoreError(EvyError):
    """The file cannot be used now."""


class Draft(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the big model made of some passages; no ``text`` that may be used, and ``why``."""

    passages: tuple[Passage, ...]
    title: str = ""
    text: str = ""
    used: tuple[str, ...] = ()
    """Ids of the passages it rests on."""
    why: str = ""


class Cluster(msgspec.Struct, frozen=True, omit_defaults=True):
    """Questions of one meaning, as a person may see them."""

    id: int
    lang: str
    state: str
    asked: int
    near: int
    """How many of those who asked were sent a passage that may fit."""
    days: int
    nodes: dict[str, int]
    regions: dict[str, int]
    first: str
    last: str
    wordings: tuple[str, ...]
    draft: Draft | None = None


class Decision(msgspec.Struct, frozen=True):
    """Who decided what, and when (UTC)."""

    cluster: int
    lang: str
    what: What
    by: str
    at: str
    article: str
    asked: int


Kept = Literal["kept", "known", "rejected", "flood"]
"""What became of a question: kept, here already, of a meaning that was rejected, one too many of its node."""

MAX_NAME: Final = 80


class Collected:
    """The file. Its methods block; one instance is used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file. Raises :class:`StoreError`."""
        self.path: Final = path
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")  # what is acknowledged is on the disk
            self._connection.execute("PRAGMA secure_delete = ON")
            with self._writing():
                [[version]] = self._connection.execute("PRAGMA user_version")
                if version == 0:
                    for statement in _CREATE.split(";"):
                        self._connection.execute(statement)
                elif version != 1:
                    raise StoreError(f"{path} is of version {version}, and this EVY knows 1")

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def add(self, asked: Unanswered, vector: Vectors, today: dt.date) -> Kept:
        """Keeps a question; twice the same message changes nothing."""
        came = today.isoformat()
        with self._writing():
            if self._one("SELECT count(*) FROM questions WHERE node = ? AND id = ?", asked.node, asked.id):
                return "known"
            count = self._one("SELECT count(*) FROM questions WHERE came = ? AND node = ?", came, asked.node)
            if count >= MOST_A_DAY:
                return "flood"
            cluster = nearest(vector, self._centres(asked.lang))
            if cluster is None:
                row = self._run(
                    "INSERT INTO clusters (lang, sum, members) VALUES (?, ?, 1)", asked.lang, _blob(vector)
                )
                cluster = row.lastrowid
            else:
                [[sum_, members, state]] = self._run(
                    "SELECT sum, members, state FROM clusters WHERE id = ?", cluster
                ).fetchall()
                if state == "rejected":
                    return "rejected"
                self._run(
                    "UPDATE clusters SET sum = ?, members = ? WHERE id = ?",
                    _blob(_vector(sum_) + vector),
                    members + 1,
                    cluster,
                )
            self._run(
                "INSERT INTO questions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                asked.node,
                asked.id,
                cluster,
                came,
                asked.day,
                asked.text,
                int(asked.near),
                " ".join(asked.needs),
                " ".join(asked.regions),
                _blob(vector),
            )
        return "kept"

    def prune(self, today: dt.date, keep_days: int) -> int:
        """Takes out what is too old or too much; gives how many questions."""
        oldest = (today - dt.timedelta(days=keep_days)).isoformat()
        with self._writing():
            gone = self._run("DELETE FROM questions WHERE came < ?", oldest).rowcount
            surplus = self._one("SELECT count(*) FROM questions") - MOST_QUESTIONS
            if surplus > 0:
                gone += self._run(
                    "DELETE FROM questions WHERE (node, id) IN "
                    "(SELECT node, id FROM questions ORDER BY came, node, id LIMIT ?)",
                    surplus,
                ).rowcount
            crowd = self._one("SELECT count(*) FROM clusters WHERE state = 'open'") - MOST_CLUSTERS
            if crowd > 0:
                small = "(SELECT id FROM clusters WHERE state = 'open' ORDER BY members, id LIMIT ?)"
                gone += self._run(
                    f"DELETE FROM questions WHERE cluster IN {small}",  # noqa: S608  # a constant
                    crowd,
                ).rowcount
            if gone:
                self._shrink()
        return gone

    def clusters(self, least: int, today: dt.date, *, every: bool = False) -> list[Cluster]:
        """Clusters that a person may see, the most asked first. ``every``: those put off, too."""
        states = ("open", "later")
        rows = self._run(
            "SELECT id, lang, state, sum, until, draft FROM clusters WHERE state IN (?, ?)", *states
        ).fetchall()
        found = []
        for id_, lang, state, sum_, until, draft in rows:
            if state == "later" and until > today.isoformat() and not every:
                continue
            cluster = self._cluster(id_, lang, state, _vector(sum_), draft)
            if is_visible(cluster, least):
                found.append(cluster)
        # A question that got a passage which may fit is half a sign.
        return sorted(found, key=lambda one: (one.state == "later", -(one.asked - one.near / 2), one.id))

    def cluster(self, id_: int, least: int) -> Cluster:
        """One cluster. Raises :class:`RefusedError` when there is none to decide on, or not for anybody's
        eyes yet."""
        rows = self._run("SELECT lang, state, sum, draft FROM clusters WHERE id = ?", id_).fetchall()
        if rows:
            [[lang, state, sum_, draft]] = rows
            if state not in ("open", "later"):
                raise RefusedError(f"cluster {id_} is {state} already; nothing was changed")
            cluster = self._cluster(id_, lang, state, _vector(sum_), draft)
            if is_visible(cluster, least):
                return cluster
        raise RefusedError(
            f"no cluster {id_}: `evy knowledge review --list` shows those with {least} questions or more, "
            "from two days or two nodes"
        )

    def next_to_draft(self, least: int, today: dt.date) -> Cluster | None:
        """The most asked cluster that has no usable draft and was not tried of late."""
        late = (today - dt.timedelta(days=TRY_AGAIN_DAYS)).isoformat()
        tried = dict(self._run("SELECT id, drafted FROM clusters WHERE drafted > ?", late).fetchall())
        for cluster in self.clusters(least, today):
            if cluster.id not in tried and not (cluster.draft and cluster.draft.text):
                return cluster
        return None

    def drafted(self, id_: int, draft: Draft, today: dt.date) -> None:
        """Keeps what became of a draft; one that a person decided on meanwhile stays as it is."""
        with self._writing():
            self._run(
                "UPDATE clusters SET draft = ?, drafted = ? WHERE id = ? AND state IN ('open', 'later')",
                msgspec.json.encode(draft).decode(),
                today.isoformat(),
                id_,
            )

    def decide(self, cluster: Cluster, what: What, by: str, at: dt.datetime, article: str = "") -> None:
        """Records a person's decision. But for "later" the wordings go. Raises :class:`RefusedError` when
        somebody was faster, or ``by`` is no name."""
        name = reviewer(by)
        until = (at.date() + dt.timedelta(days=LATER_DAYS)).isoformat() if what == "later" else ""
        with self._writing():
            changed = self._run(
                "UPDATE clusters SET state = ?, until = ?, draft = CASE ? WHEN 'later' THEN draft ELSE '' "
                "END WHERE id = ? AND state IN ('open', 'later')",
                _STATE[what],
                until,
                what,
                cluster.id,
            ).rowcount
            if not changed:
                raise RefusedError(f"cluster {cluster.id} was decided by somebody else; nothing was changed")
            self._run(
                "INSERT INTO decisions (cluster, lang, what, by, at, article, asked) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                cluster.id,
                cluster.lang,
                what,
                name,
                at.isoformat(timespec="seconds"),
                article,
                cluster.asked,
            )
            if what != "later":
                self._run("DELETE FROM questions WHERE cluster = ?", cluster.id)
                self._run("DELETE FROM clusters WHERE state = 'answered'")

    def decisions(self) -> list[Decision]:
        """All decisions, the oldest first."""
        rows = self._run("SELECT cluster, lang, what, by, at, article, asked FROM decisions ORDER BY id")
        return [Decision(*row) for row in rows]

    def waiting(self, least: int) -> tuple[int, int]:
        """How many questions there are, and how many of them lie in clusters too small to be seen."""
        questions = self._one("SELECT count(*) FROM questions")
        visible = sum(cluster.asked for cluster in self.clusters(least, dt.date.min, every=True))
        return questions, questions - visible

    def _cluster(self, id_: int, lang: str, state: str, sum_: Vectors, draft: str) -> Cluster:
        rows = self._run(
            "SELECT node, day, came, text, near, regions, vector FROM questions WHERE cluster = ?", id_
        ).fetchall()
        texts = [(row[3], _vector(row[6])) for row in rows]
        came = sorted(row[2] for row in rows)
        return Cluster(
            id=id_,
            lang=lang,
            state=state,
            asked=len(rows),
            near=sum(row[4] for row in rows),
            days=len({row[1] for row in rows if row[1]}),
            nodes=dict(Counter(row[0] for row in rows).most_common()),
            regions=dict(Counter(region for row in rows for region in row[5].split()).most_common()),
            first=came[0] if came else "",
            last=came[-1] if came else "",
            wordings=tuple(by_closeness(texts, sum_)[:SHOWN]),
            draft=msgspec.json.decode(draft, type=Draft) if draft else None,
        )

    def _centres(self, lang: str) -> list[Centre]:
        rows = self._run("SELECT id, sum, members FROM clusters WHERE lang = ? ORDER BY id", lang)
        return [Centre(id_, _vector(sum_), members) for id_, sum_, members in rows]

    def _shrink(self) -> None:
        """Sums of what is left; a cluster of nobody goes, but for what was rejected."""
        emptied = "SELECT 1 FROM questions WHERE cluster = clusters.id"
        self._run(f"DELETE FROM clusters WHERE state <> 'rejected' AND NOT EXISTS ({emptied})")  # noqa: S608  # a constant
        rows = self._run(
            "SELECT id, members, (SELECT count(*) FROM questions WHERE cluster = clusters.id) FROM clusters "
            "WHERE state <> 'rejected'"
        ).fetchall()
        for id_, members, left in rows:
            if left != members:
                vectors = self._run("SELECT vector FROM questions WHERE cluster = ?", id_).fetchall()
                total: Vectors = np.stack([_vector(row[0]) for row in vectors]).sum(axis=0)
                self._run("UPDATE clusters SET sum = ?, members = ? WHERE id = ?", _blob(total), left, id_)

    def _one(self, statement: str, *values: object) -> int:
        [[value]] = self._run(statement, *values).fetchall()
        return int(value)

    def _run(self, statement: str, *values: object) -> sqlite3.Cursor:
        with self._errors():
            return self._connection.execute(statement, values)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction: all of it or nothing."""
        self._run("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._run("ROLLBACK")
            raise
        self._run("COMMIT")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self.path}: {error}") from error


def reviewer(by: str) -> str:
    """A name as it stands in articles and decisions. Raises :class:`RefusedError` for none."""
    name = " ".join(visible(by).split())
    if not 1 <= len(name) <= MAX_NAME:
        raise RefusedError(f"who reviews? Give a name of 1 to {MAX_NAME} characters: --as NAME")
    return name


def is_visible(cluster: Cluster, least: int) -> bool:
    """Whether a cluster is of so many that a wording points at nobody."""
    return cluster.asked >= least and (cluster.days >= 2 or len(cluster.nodes) >= 2)


def path_in(directory: Path) -> Path:
    """The file of a centre with that data directory."""
    return directory / FILE


def _blob(vector: Vectors) -> bytes:
    return vector.astype("<f4").tobytes()


def _vector(blob: Any) -> Vectors:
    vector: Vectors = np.frombuffer(blob, dtype="<f4").astype(np.float32)
    return vector.reshape(DIMENSIONS)
