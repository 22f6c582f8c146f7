"""The Rust core as Python calls it: one text per call, the call's own cost included."""

import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import evy_core

from actors.knowledge import Texts, packer, redactor, route_rules, shipped_compressor, triage_files
from subjects.names import Priority
from tests.bench.rows import Figure, Goal, Row, Setting, spread

VECTORS = Path(__file__).parents[1] / "vectors"
T = TypeVar("T")


def texts_of_people() -> list[str]:
    """What people text: every vector of triage and of retrieval."""
    lines = [
        line
        for name in ("triage.jsonl", "questions.jsonl")
        for line in (VECTORS / name).read_text(encoding="utf-8").splitlines()
    ]
    return [json.loads(line)["text"] for line in lines]


def timed(
    setting: Setting, call: Callable[[T], object], arguments: Sequence[T], count: int = 0
) -> list[list[float]]:
    """Microseconds of each of ``count`` calls in each repeat, the arguments in turn."""
    clock = time.perf_counter_ns
    for argument in arguments[:100]:
        call(argument)
    runs = []
    for _ in range(setting.repeats):
        run = []
        for argument in itertools.islice(itertools.cycle(arguments), count or setting.count(5000, 500)):
            started = clock()
            call(argument)
            run.append((clock() - started) / 1000)
        runs.append(run)
    return runs


def triage(setting: Setting) -> list[Row]:
    """One text judged."""
    triager = evy_core.Triager(triage_files())
    texts = texts_of_people()
    runs = timed(setting, lambda text: triager.classify([text]), texts)
    note = f"{len(texts)} texts of tests/vectors, {sum(map(len, texts)) // len(texts)} characters on average"
    pool = " ".join(texts)
    long = [pool[at : at + 10_000] for at in range(0, len(pool) - 10_000, 3000)]
    slow = timed(setting, lambda text: triager.classify([text]), long, 200)
    return [
        Row("triage", "triage of one SMS, from Python", spread(runs, "µs"), (Goal("p99", 50),), (note,)),
        Row("triage-long", "triage of 10,000 characters", spread(slow, "µs"), (Goal("p99", 5000),)),
    ]


def redact(setting: Setting) -> list[Row]:
    """One text without what tells who wrote it, as before it crosses the link."""
    redacting = redactor()
    lines = (VECTORS / "pii.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    runs = timed(setting, lambda text: redacting.redact([text]), texts)
    length = sum(map(len, texts)) // len(texts)
    note = f"{len(texts)} texts of tests/vectors/pii.jsonl, {length} characters on average"
    what = "redaction of one SMS, from Python"
    return [Row("redact", what, spread(runs, "µs"), (Goal("p99", 100),), (note,))]


def route(setting: Setting) -> list[Row]:
    """One decision of the ladder, its argument built anew each time as the actor does."""
    router = evy_core.Router(route_rules())
    priorities: tuple[Priority, ...] = ("emergency", "urgent", "normal")
    cases = list(itertools.product(priorities, (False, True), (None, 0.1, 0.6, 0.95)))

    def decide(case: tuple[Priority, bool, float | None]) -> None:
        priority, has_needs, confidence = case
        router.decide([evy_core.Situation(priority, has_needs=has_needs, confidence=confidence)])

    runs = timed(setting, decide, cases)
    return [Row("route", "route decision, from Python", spread(runs, "µs"), (Goal("p99", 100),))]


def compress(setting: Setting) -> list[Row]:
    """What the actor asks of the core for a model's answer: check, fit, check again."""
    compressor = shipped_compressor()
    articles = [article for article in Texts.load().articles() if article.lang in compressor.languages]
    # An answer of a small model: two reviewed passages run together with its usual courtesy.
    answers = [
        (f"Sure! Here is what you can do. {a.text} {b.text} I hope this helps.", [a.text, b.text], a.lang)
        for a, b in itertools.pairwise(articles)
        if a.lang == b.lang
    ]

    turn = itertools.count(10_000)

    def one(answer: tuple[str, list[str], str]) -> None:
        text, passages, lang = answer
        compressor.check([text], [passages], [lang])
        # A hint of its own each time: nothing comes from the cache.
        [fitted] = compressor.fit([text], [lang], [False], [2], [f"MORE{next(turn) % 100_000}"])
        compressor.check([fitted.text], [passages], [lang])

    runs = timed(setting, one, answers)
    note = (
        f"{len(answers)} answers of {sum(len(a[0]) for a in answers) // len(answers)} characters on average "
        "into two segments: post-check, fitting, post-check"
    )
    return [
        Row("compress", "compress one answer, from Python", spread(runs, "µs"), (Goal("p99", 1000),), (note,))
    ]


def pack(setting: Setting) -> list[Row]:
    """One text into a frame, and back."""
    packing = packer(Texts.load())
    texts = [text for text in texts_of_people() if len(text) >= 40]
    frames = packing.pack(texts)
    out, back = (
        timed(setting, lambda text: packing.pack([text]), texts),
        timed(setting, lambda frame: packing.unpack([frame]), frames),
    )
    characters = sum(map(len, texts)) // len(texts)
    note = (
        f"{len(texts)} texts of tests/vectors, {characters} characters on average; "
        f"the model takes {packing.memory_octets / (1 << 20):.1f} MiB"
    )
    return [
        Row("pack", "pack one SMS, from Python", spread(out, "µs"), (Goal("p99", 1000),), (note,)),
        Row("unpack", "unpack one SMS, from Python", spread(back, "µs"), (Goal("p99", 1000),)),
    ]


def segmentation(setting: Setting) -> list[Row]:
    """Texts divided per second, a hundred a call: what people text, and answers of two SMS and more."""
    short = (texts_of_people() * 100)[:100]
    longer = [article.text for article in Texts.load().articles()]
    longer = [f"{a} {b}" for a, b in itertools.pairwise(longer)][:100]
    return [
        _divided(
            setting, "segment", "SMS segmentation, texts of people", short, Goal("rate", 1_000_000, True)
        ),
        _divided(setting, "segment-long", "SMS segmentation, two articles together", longer),
    ]


def _divided(setting: Setting, name: str, what: str, texts: Sequence[str], *goals: Goal) -> Row:
    rates = []
    for _ in range(setting.repeats):
        rounds = setting.count(200, 20)
        started = time.perf_counter()
        for _ in range(rounds):
            for cut in evy_core.segment(texts):
                _ = cut.segments
        rates.append(rounds * len(texts) / (time.perf_counter() - started))
    note = f"{len(texts)} texts a call, {sum(map(len, texts)) // len(texts)} characters on average, one core"
    return Row(name, what, (Figure("rate", "texts/s", tuple(rates)),), goals, (note,))
