"""The centre's library at a hundred thousand passages: recall, times, memory and disk, with and without int8.

``make bench-rag GLOBAL=1``. Embedding so many texts takes an hour, so only a third of the vectors are real:
those that come with EVY and those of `rag_public`'s dictionaries (both known to 6 bits a component). Each
other one lies between a real one and one of its ten nearest, and is moved from there along the directions in
which its neighbourhood spreads, by an angle drawn from the real distances to the nearest one; the output says
how the two kinds compare. Its words are a mixture of both texts'. Questions are real ones, held out.
``REAL=1`` embeds entries of two more dictionaries instead (Debian packages ``dict-gcide`` and ``dict-wn``).
"""

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from qdrant_edge import SparseVector, VectorStorageDatatype
from rich.console import Console
from rich.table import Table

from actors._library import shelf
from actors._library.library import ANY, Library
from actors._library.passages import LibraryPassage, key
from actors._library.shelf import Asked, Layout, Shelf
from actors._library.volumes import Edition, Plan, Terms, Unfinished, Volume
from actors._retrieval.phrases import answering, asked_of, read_phrases
from actors._retrieval.shipped import FILE, Known
from actors._retrieval.store import OWN_VECTORS
from actors._retrieval.vectors import DIMENSIONS, bm25, embedder, plain
from actors.knowledge import Texts
from tests.bench import rag_public

ROOT: Final = Path(__file__).parents[2]
WORK: Final = ROOT / "var" / "bench-library"
PASSAGES: Final = 100_000
HELD_OUT: Final = 300
"""Questions of EVY's own texts whose vectors are left out of the index."""
ASKED: Final = 200
"""Sentences out of dictionary entries, embedded for this bench."""
NEIGHBOURS: Final = 10
WANTED: Final = 10
SEED: Final = 7
MORE: Final = {"dict-gcide": "gcide.dict.dz", "dict-wn": "wn.dict.dz"}

LAYOUTS: Final = {
    "int8, originals on disk": Layout(),
    "16 bits, not quantised": Layout(quantised=False),
    "32 bits, not quantised": Layout(quantised=False, datatype=VectorStorageDatatype.Float32),
}
OURS: Final = next(iter(LAYOUTS))

Rows = NDArray[np.float32]


class Real(NamedTuple):
    """Texts with their own vectors, and questions that are not among them."""

    texts: list[str]
    vectors: Rows
    questions: list[str]
    asked: Rows


def real() -> Real:
    """Everything there is, without an hour of embedding."""
    dice = random.Random(SEED)
    articles, phrases = Texts.load().articles(), read_phrases()
    shipped = Known(FILE)
    asked = list(dict.fromkeys([*asked_of(articles, phrases), *phrases.decoys()]))
    dice.shuffle(asked)
    held, kept = asked[:HELD_OUT], asked[HELD_OUT:]
    own = [answering(article) for article in articles]
    pairs = rag_public.pairs(rag_public.PASSAGES)
    entries = [answering(article) for article in rag_public.articles(pairs)]
    known = Known(rag_public.WORK / "index" / OWN_VECTORS)
    if missing := len(known.missing(entries, asked=False)):
        Console(stderr=True).print(
            f"{missing} dictionary entries are embedded first (`make bench-rag` keeps them)"
        )
    questions = [pair.question for pair in pairs[:ASKED]]
    return Real(
        [*kept, *own, *entries],
        np.concatenate(
            [
                shipped.vectors(kept, asked=True),
                shipped.vectors(own, asked=False),
                known.vectors(entries, asked=False),
            ]
        ),
        [*held, *questions],
        np.concatenate(
            [shipped.vectors(held, asked=True), embedder().queries([plain(q) for q in questions])]
        ),
    )


def neighbours(vectors: Rows) -> tuple[NDArray[np.intp], Rows]:
    """The ten nearest others of each vector, and their cosines."""
    near = np.empty((len(vectors), NEIGHBOURS), dtype=np.intp)
    cosines = np.empty((len(vectors), NEIGHBOURS), dtype=np.float32)
    for start in range(0, len(vectors), 1000):
        block = vectors[start : start + 1000] @ vectors.T
        block[np.arange(len(block)), np.arange(start, start + len(block))] = -1.0
        found = np.argpartition(-block, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        at = np.take_along_axis(block, found, axis=1)
        order = np.argsort(-at, axis=1)
        near[start : start + 1000] = np.take_along_axis(found, order, axis=1)
        cosines[start : start + 1000] = np.take_along_axis(at, order, axis=1)
    return near, cosines


def made(of: Real, count: int) -> tuple[Rows, list[tuple[int, int]], dict[str, list[float]]]:
    """``count`` vectors by the method above, the two real ones that each is of, and how they compare."""
    dice = np.random.default_rng(SEED)
    near, cosines = neighbours(of.vectors)
    angles = np.arccos(np.clip(cosines[:, 0], -1, 1))
    first = dice.integers(len(of.vectors), size=count)
    second = near[first, dice.integers(NEIGHBOURS, size=count)]
    vectors = np.empty((count, DIMENSIONS), dtype=np.float32)
    for start in range(0, count, 5000):
        a, b = first[start : start + 5000], second[start : start + 5000]
        share = dice.uniform(0.2, 0.8, size=(len(a), 1)).astype(np.float32)
        mixed = _unit(of.vectors[a] * share + of.vectors[b] * (1 - share))
        spread = of.vectors[near[a]] - of.vectors[a][:, None]
        weights = dice.normal(size=(len(a), NEIGHBOURS, 1)).astype(np.float32)
        away = (spread * weights).sum(axis=1)
        away = _unit(away - (away * mixed).sum(axis=1, keepdims=True) * mixed)
        turn = angles[dice.integers(len(angles), size=len(a))][:, None]
        vectors[start : start + 5000] = _unit(mixed * np.cos(turn) + away * np.sin(turn))
    sample = dice.choice(count, size=min(count, 2000), replace=False)
    everything = np.concatenate([of.vectors, vectors])
    against = vectors[sample] @ everything.T
    against[np.arange(len(sample)), len(of.vectors) + sample] = -1.0
    of_real = of.vectors[dice.choice(len(of.vectors), size=2000, replace=False)]
    quarters = [10, 50, 90]
    compared = {
        "real, nearest of the real": np.percentile(cosines[:, 0], quarters).tolist(),
        "made, nearest of all": np.percentile(against.max(axis=1), quarters).tolist(),
        "real, any two": np.percentile(of_real[:1000] @ of_real[1000:].T, quarters).tolist(),
        "made, any two": np.percentile(vectors[sample[::2]] @ vectors[sample[1::2]].T, quarters).tolist(),
    }
    return vectors, list(zip(first.tolist(), second.tolist(), strict=True)), compared


def _unit(rows: Rows) -> Rows:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def edition(count: int, *, embed: bool) -> tuple[Edition, dict[str, Any]]:
    """An edition of ``count`` passages as an import would leave it, its index apart; and its questions."""
    plan = Plan(
        Terms("encyclopaedic", f"bench{'-real' if embed else ''}-{count}", "GFDL-1.3", "2026-11-22"), ()
    )
    place = WORK / plan.terms.source / "bench.1"
    about, questions = place.parent / "about.json", place.parent / "questions.npy"
    if not about.exists():
        shutil.rmtree(place.parent, ignore_errors=True)
        of = real()
        texts, vectors, words = of.texts[:count], of.vectors[:count], len(of.texts)
        told: dict[str, Any] = {"passages": count, "questions": len(of.questions), "real": min(count, words)}
        if count > words and embed:
            more = list(dict.fromkeys(_entries()))[: count - words]
            told["real"] = words + len(more)
            texts, vectors = [*texts, *more], np.concatenate([vectors, embedder().passages(more)])
        elif count > words:
            new, parents, told["cosines"] = made(of, count - words)
            vectors = np.concatenate([vectors, new])
            texts = [*texts, *(_mixture(of.texts[a], of.texts[b]) for a, b in parents)]
        _keep(place, plan, texts, vectors)
        np.save(questions, of.asked)
        (place.parent / "questions.json").write_text(json.dumps(of.questions), encoding="utf-8")
        about.write_text(json.dumps(told), encoding="utf-8")
    return Edition(place), json.loads(about.read_text(encoding="utf-8"))


def _entries() -> Iterator[str]:
    for package, file in MORE.items():
        for title, body in rag_public.entries(rag_public.dictionary(package, file)):
            if len(body) > rag_public.SHORT:
                yield f"{title}. {body[:320]}"


def _mixture(a: str, b: str) -> str:
    return f"{a[: len(a) // 2]} {b[len(b) // 2 :]}"


def _keep(place: Path, plan: Plan, texts: Sequence[str], vectors: Rows) -> None:
    making = Unfinished(place, plan)
    for start in range(0, len(texts), 1000):
        some = texts[start : start + 1000]
        passages = [
            LibraryPassage(
                text, text[:40], ("science", "places", "technology")[n % 3], "GFDL-1.3", "2026-11-22", "en"
            )
            for n, text in enumerate(some)
        ]
        making.add(passages, [key(text) for text in some], vectors[start : start + 1000])
    making.settle()
    making.close()
    making.finish(Volume(plan, 1, making.state, {}, {}, "2026-11-22", "2026-11-22"))


def measure(at: Edition, place: Path) -> dict[str, float]:
    """One index, in a process that has done nothing else."""
    before_mb = _resident_mb()
    started = time.perf_counter()
    index = Shelf(place)
    opened_s = time.perf_counter() - started
    asked_rows = np.load(at.place.parent / "questions.npy")
    questions = json.loads((at.place.parent / "questions.json").read_text(encoding="utf-8"))
    asked = [
        Asked(row, bm25("en").embed_query(plain(text)))
        for row, text in zip(asked_rows, questions, strict=True)
    ]
    found, times, dense_times = [], [], []
    for _ in range(2):  # the first round reads the disk
        found, times, dense_times = [], [], []
        for one in asked:
            started = time.perf_counter()
            near, _ = index.search(one, ANY, 50)
            times.append((time.perf_counter() - started) * 1000)
            started = time.perf_counter()
            near = index.search(Asked(one.dense, SparseVector([], [])), ANY, WANTED)[0]
            dense_times.append((time.perf_counter() - started) * 1000)
            found.append(shelf.numbers(near))
    resident_mb = _resident_mb() - before_mb
    anonymous_mb = _status_mb("RssAnon")
    vectors = at.vectors()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    hits = 0
    for one, near in zip(asked, found, strict=True):
        exact = np.argpartition(-(vectors @ one.dense), WANTED)[:WANTED]
        hits += len(set(near) & set(exact.tolist()))
    index.close()
    p50, p99 = np.percentile(times, [50, 99])
    dense50, dense99 = np.percentile(dense_times, [50, 99])
    return {
        "recall_10": hits / (WANTED * len(asked)),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "dense_p50_ms": float(dense50),
        "dense_p99_ms": float(dense99),
        "resident_mb": resident_mb,
        "anonymous_mb": anonymous_mb,
        "opened_s": opened_s,
        "disk_mb": sum(path.stat().st_blocks * 512 for path in place.rglob("*")) / 1e6,
    }


def through(at: Edition) -> dict[str, float]:
    """The library itself: both rankings, fusion, texts from the disk; embedding is another figure."""
    questions = json.loads((at.place.parent / "questions.json").read_text(encoding="utf-8"))
    rows = np.load(at.place.parent / "questions.npy")
    library = Library(at.place.parent)
    times = []
    for row, text in zip(rows, questions, strict=True):
        asked = Asked(row, bm25("en").embed_query(plain(text)))
        started = time.perf_counter()
        found = library._local(asked, ANY, 5)
        times.append((time.perf_counter() - started) * 1000)
        if not found:
            raise SystemExit(f"nothing found for {text!r}")
    embedding = []
    for text in questions[:50]:
        started = time.perf_counter()
        embedder().queries([plain(text)])
        embedding.append((time.perf_counter() - started) * 1000)
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99), "embedding_p50_ms": float(np.median(embedding))}


def _status_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1000


def _resident_mb() -> float:
    return _status_mb("VmRSS")


def _itself(*arguments: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.library", *arguments],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _place(at: Edition, name: str) -> Path:
    return shelf.folder(at) if name == OURS else at.place.parent / name.replace(" ", "-").replace(",", "")


def main(arguments: Sequence[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=ROOT / "var" / "bench-library.json")
    parser.add_argument("--passages", type=int, default=PASSAGES)
    parser.add_argument("--real", action="store_true", help="embed all of them, 35 a second on two cores")
    parser.add_argument("--build", choices=LAYOUTS, help=argparse.SUPPRESS)
    parser.add_argument("--measure", choices=LAYOUTS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    at, about = edition(options.passages, embed=options.real)
    if options.build:
        place = _place(at, options.build)
        shutil.rmtree(place, ignore_errors=True)
        started = time.perf_counter()
        shelf.build(place, shelf.rows(at, about["passages"]), lambda _: None, LAYOUTS[options.build])
        built_s = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_SELF)
        figures = {
            "built_s": built_s,
            "build_cpu_s": time.process_time(),
            "build_peak_mb": used.ru_maxrss / 1000,
        }
        print(json.dumps(figures))
        return
    if options.measure:
        print(json.dumps(measure(at, _place(at, options.measure))))
        return
    console = Console()
    same = (f"--passages={options.passages}", *(["--real"] if options.real else []))
    title = f"{about['passages']:,} passages ({about['real']:,} real vectors), {about['questions']} questions"
    told: dict[str, Any] = dict(about)
    for name in LAYOUTS:
        print(f"{name}: building, then measuring", file=sys.stderr)
        built = _itself("--build", name, *same)
        told[name] = {**_itself("--measure", name, *same), **built}
        print(json.dumps(told[name]), file=sys.stderr)
    table = Table(title=title)
    for head in ("", *LAYOUTS):
        table.add_column(head, justify="right" if head else "left")
    for what in told[OURS]:
        digits = 3 if what == "recall_10" else 1
        table.add_row(what, *(f"{told[name][what]:.{digits}f}" for name in LAYOUTS))
    told["library"] = through(at)
    told["passages_mb"] = (
        sum(path.stat().st_blocks * 512 for path in at.place.iterdir() if path.is_file()) / 1e6
    )
    console.print(table)
    for what, (low, mid, high) in about.get("cosines", {}).items():
        console.print(f"  cosines, {what}: 10 % {low:.3f}, 50 % {mid:.3f}, 90 % {high:.3f}")
    whole = told["library"]
    console.print(
        f"texts, vectors and keys {told['passages_mb']:.0f} MB on disk; a search with its texts "
        f"p50 {whole['p50_ms']:.1f} ms, p99 {whole['p99_ms']:.1f} ms, and {whole['embedding_p50_ms']:.0f} ms "
        "to embed the question; times are of the second round"
    )
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(told, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
