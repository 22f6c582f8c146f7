"""Retrieval among ten thousand passages that anybody can fetch, beside exact search and BM25 alone.

Passages: entries of the Free On-line Dictionary of Computing and of the Jargon File (Debian packages
``dict-foldoc``, GNU FDL, and ``dict-jargon``, public domain), fetched by name into ``var/bench-rag``, never
committed. A question is one sentence taken out of an entry, and the entry without it is the right answer
(inverse cloze): nobody chose the pairs. The first run makes ten thousand vectors, a quarter of an hour
on two cores; later ones use them.
"""

import argparse
import gzip
import json
import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from qdrant_edge import Query, QueryRequest
from rich.console import Console
from rich.table import Table

from actors._retrieval import store
from actors._retrieval.index import KnowledgeIndex
from actors._retrieval.phrases import answering
from actors._retrieval.shipped import Known
from actors._retrieval.vectors import bm25, embedder, plain
from actors.knowledge import Article, Texts

ROOT: Final = Path(__file__).parents[2]
WORK: Final = ROOT / "var" / "bench-rag"
PACKAGES: Final = {"dict-foldoc": "foldoc.dict.dz", "dict-jargon": "jargon.dict.dz"}
PASSAGES: Final = 10_000
QUESTIONS: Final = 500
SEED: Final = 6

SHORT: Final = 15
"""A sentence of no more characters asks nothing."""

MEMORY_MB: Final = 500
"""What a node may take with 10,000 articles."""


class Pair(NamedTuple):
    """A passage under its title, and the sentence of it that asks."""

    title: str
    passage: str
    question: str


class Way(NamedTuple):
    """What one way to search found: places of the right answers (None: not among five), and milliseconds."""

    name: str
    places: list[int | None]
    times_ms: list[float]

    def recall(self, at: int) -> float:
        """Share of the questions whose answer is among the first ``at``."""
        return sum(place is not None and place < at for place in self.places) / len(self.places)


def pairs(most: int) -> list[Pair]:
    """Entries of at least two sentences, each with one of them taken out; always the same ones."""
    dice = random.Random(SEED)
    found = []
    for title, body in [entry for packed in PACKAGES.items() for entry in entries(dictionary(*packed))]:
        sentences = [s for s in re.split(r"(?<=[.!?])\s+", body) if len(s) > SHORT]
        if len(sentences) < 2:
            continue
        asks = dice.randrange(len(sentences))
        rest = " ".join(sentences[:asks] + sentences[asks + 1 :])
        found.append(Pair(title, rest[:290], sentences[asks][:160]))
    if len(found) < most:
        raise SystemExit(f"{', '.join(PACKAGES)}: only {len(found)} passages")
    dice.shuffle(found)
    return found[:most]


def dictionary(package: str, name: str) -> str:
    """The text of a Debian package of one dictionary, fetched at the first call."""
    unpacked = WORK / package
    path = unpacked / "usr" / "share" / "dictd" / name
    if not path.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-q", package], cwd=WORK, check=True, capture_output=True)
        [file] = WORK.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", file, unpacked], check=True)
    return gzip.decompress(path.read_bytes()).decode("utf-8", "replace")


def entries(text: str) -> list[tuple[str, str]]:
    """Headword and text of each entry: a line at the margin, then indented ones."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line and not line[0].isspace():
            found.append((line.split("%%%")[0].strip(), []))
        elif found:
            found[-1][1].append(line.strip())
    clean = ((title, re.sub(r"[{}]", "", " ".join(" ".join(lines).split()))) for title, lines in found)
    return [(title, re.sub(r"^<[^>]*> ", "", body)) for title, body in clean]


def articles(of: Sequence[Pair]) -> list[Article]:
    """The passages as articles; what a passage lacks is taken from a shipped one."""
    [model, *_] = Texts.load().articles()
    return [
        Article(
            id=f"p{number}",
            area="public",
            lang="en",
            title=pair.title,
            text=pair.passage,
            questions=(),
            tags=(),
            source=model.source,
            review=model.review,
        )
        for number, pair in enumerate(of)
    ]


def measure(name: str, of: Sequence[Pair], search: Callable[[str], Sequence[int]]) -> Way:
    """Every question once, after a few that are not counted."""
    asked = list(enumerate(of))[:QUESTIONS]
    for _, pair in asked[-5:]:
        search(pair.question)
    places, times = [], []
    for number, pair in asked:
        started = time.perf_counter()
        found = list(search(pair.question))
        times.append((time.perf_counter() - started) * 1000)
        places.append(found.index(number) if number in found else None)
    return Way(name, places, times)


def ours(of: Sequence[Pair], index: KnowledgeIndex) -> tuple[Way, int]:
    """EVY's search, and the megabytes that the process takes after it."""

    def search(text: str) -> list[int]:
        return [int(article.id[1:]) for article, _ in index.evidence(text, "en")[:5]]

    way = measure("EVY: dense and BM25, RRF", of, search)
    return way, _resident_mb()


def others(of: Sequence[Pair], made: Sequence[Article], index: KnowledgeIndex) -> list[Way]:
    """Exact search over unquantised vectors in numpy, and the engine's BM25 alone."""
    rows = Known(WORK / "index" / store.OWN_VECTORS).vectors([answering(a) for a in made], asked=False)

    def exact(text: str) -> list[int]:
        cosines = rows @ embedder().queries([plain(text)])[0]
        return [int(number) for number in np.argsort(-cosines)[:5]]

    def words(text: str) -> list[int]:
        query = Query.Nearest(bm25("en").embed_query(plain(text)), using="bm25")
        # The same engine, one of its rankings.
        found = index._shard.query(QueryRequest(limit=5, query=query, with_payload=["article"]))
        return [(point.payload or {})["article"] for point in found]

    return [measure("numpy, exact", of, exact), measure("BM25 alone", of, words)]


def _resident_mb() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return round(pages * resource.getpagesize() / 1e6)


def main(arguments: Sequence[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=ROOT / "var" / "bench-rag.json")
    parser.add_argument("--build-only", action="store_true", help="make the index and end")
    parser.add_argument("--passages", type=int, default=PASSAGES)
    options = parser.parse_args(arguments)
    of = pairs(options.passages)
    made = articles(of)
    if options.build_only:
        KnowledgeIndex.open(WORK / "index", Texts([], {}, made, [], {})).close()
        return
    # Built in a process of its own: what building takes is not what a node that searches takes.
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "tests.bench.rag_public", "--build-only", f"--passages={len(of)}"],
        check=True,
        cwd=ROOT,
    )
    built_s = time.perf_counter() - started
    started = time.perf_counter()
    index = KnowledgeIndex.open(WORK / "index", Texts([], {}, made, [], {}))
    opened_s = time.perf_counter() - started
    mine, resident_mb = ours(of, index)
    ways = [mine, *others(of, made, index)]
    disk_mb = sum(path.stat().st_blocks * 512 for path in (WORK / "index").rglob("*")) / 1e6
    index.close()
    asked = len(mine.places)
    table = Table(title=f"{len(of):,} passages of {', '.join(PACKAGES)}, {asked} questions")
    for head in ("", "recall@1", "recall@5", "p50 ms", "p99 ms"):
        table.add_column(head, justify="right" if head else "left")
    figures: dict[str, object] = {"passages": len(of), "questions": asked}
    for way in ways:
        p50, p99 = np.percentile(way.times_ms, [50, 99])
        cells = (f"{way.recall(1):.3f}", f"{way.recall(5):.3f}", f"{p50:.1f}", f"{p99:.1f}")
        table.add_row(way.name, *cells)
        figures[way.name] = dict(
            zip(("recall_1", "recall_5", "p50_ms", "p99_ms"), map(float, cells), strict=True)
        )
    figures |= {"resident_mb": resident_mb, "disk_mb": disk_mb, "built_s": built_s, "opened_s": opened_s}
    console = Console()
    console.print(table)
    console.print(
        f"memory {resident_mb} MB (goal {MEMORY_MB}), index {disk_mb:.0f} MB on disk, "
        f"built in {built_s:.0f} s, opened in {opened_s:.1f} s"
    )
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
