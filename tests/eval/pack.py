"""Area `pack`: octets of packed texts that the model never saw, beside other ways to shorten short texts.

Ours counts its first octet, which says how the rest is to be read; the others are counted bare, without the
octet or two that a frame would need to tell them apart.
"""

import json
import lzma
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import brotli
import numpy as np
import pyppmd
import smaz
import unishox2
import zstandard

from actors.knowledge import Texts, packer
from tests.eval.labelled import DEV, VECTORS
from tests.eval.messages import dev_ids
from tests.eval.pack_texts import held_back, one_line, training
from tests.eval.report import Report, Table, quick

GOAL: Final = 0.5
GOAL_ENGLISH: Final = 0.4
Octets = np.ndarray[Any, np.dtype[np.int64]]


def run() -> Report:
    """Ratios by set and language, with intervals, and what the others reach on the same texts."""
    sets = {name: sorted(set(texts)) for name, texts in _sets()}
    if quick():
        sets = {name: texts[::10] for name, texts in sets.items()}
    ours = packer(Texts.load())
    others = _others()
    rows, mine, beside = [], {}, {}
    wrong = 0
    for name, texts in sets.items():
        plain = [text.encode() for text in texts]
        given = np.array([len(octets) for octets in plain])
        frames = ours.pack(texts)
        wrong += sum(back != text for back, text in zip(ours.unpack(frames), texts, strict=True))
        out = np.array([len(frame) for frame in frames])
        mine[name] = float(out.sum() / given.sum())
        low, high = interval(out, given)
        beside[name] = {other: sum(map(way, texts)) / float(given.sum()) for other, way in others.items()}
        rows.append(
            (
                name,
                str(len(texts)),
                str(given.sum()),
                str(out.sum()),
                f"{mine[name]:.3f} [{low:.3f}, {high:.3f}]",
                f"{np.median(out / given):.3f}",
                *(f"{ratio:.3f}" for ratio in beside[name].values()),
            )
        )
    header = ("texts never learned from", "texts", "octets in", "out", "ratio", "median", *others)
    english = [name for name in mine if name.endswith(" en") or name == "chat"]
    missed = [name for name, ratio in mine.items() if ratio > GOAL]
    dearer = [name for name in english if mine[name] > GOAL_ENGLISH]
    ahead = [name for name in mine if mine[name] < min(beside[name].values())]
    return Report(
        title="lossless packing of short texts",
        tables=(Table("octets out / in, 95 % bootstrap intervals over texts", header, tuple(rows)),),
        figures={"round_trips_wrong": wrong, **{f"ratio {name}": ratio for name, ratio in mine.items()}},
        notes=(
            f"round trips that were not exact: {wrong} of {sum(map(len, sets.values()))}",
            f"goal ≤ {GOAL} in every set: {'MISSED in ' + ', '.join(missed) if missed else 'met'}",
            f"aim ≤ {GOAL_ENGLISH} in English: {'MISSED in ' + ', '.join(dearer) if dearer else 'met'}",
            f"ahead of all others in {len(ahead)} of {len(mine)} sets",
            "no text of these sets was learned from, and none of ours or the public that nearly repeats one",
            "who wrote the vectors of triage, which the model learns from, knew what triage missed in batch1",
            "zstd has a dictionary of 110 KiB of the same training texts; the others come as they are",
        ),
    )


def interval(out: Octets, given: Octets, rounds: int = 2000) -> tuple[float, float]:
    """95 % interval of sum(out) / sum(given) when texts are drawn anew."""
    drawn = np.random.default_rng(1).integers(0, len(out), (rounds, len(out)))
    ratios = out[drawn].sum(axis=1) / given[drawn].sum(axis=1)
    low, high = np.percentile(ratios, (2.5, 97.5))
    return float(low), float(high)


def _sets() -> Iterator[tuple[str, list[str]]]:
    held = [message for message in held_back() if message.id not in dev_ids()]
    for genre, name in (("direct", "messages"), ("social", "posts"), ("news", "news")):
        yield f"{name} en", [one_line(message.text) for message in held if message.genre == genre]
    yield "messages ht, fr", [one_line(m.original) for m in held if m.original.strip()]
    if DEV.exists():
        rows = [json.loads(line) for line in DEV.read_text(encoding="utf-8").splitlines()]
        yield "dev file en", [row["text"] for row in rows if row["source"] == "haiti"]
        yield "dev file ht, fr", [one_line(row["original"]) for row in rows if row["original"]]
        yield "chat", [row["text"] for row in rows if row["source"] == "sms_collection"]
    yield from _by_language("emergencies", sorted((VECTORS / "unseen").glob("*.jsonl")))
    yield from _by_language("questions", [VECTORS / "questions.jsonl"])
    yield from _by_language("answers", sorted((VECTORS / "compression").glob("*.jsonl")))


def _by_language(name: str, paths: Sequence[Any]) -> Iterator[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for path in paths:
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            if "text" in row:
                found.setdefault(row["lang"], []).append(row["text"])
    for lang in sorted(found):
        if len(found[lang]) >= 20:
            yield f"{name} {lang}", found[lang]


def _others() -> Mapping[str, Callable[[str], int]]:
    """Octets that each other way makes of a text."""
    samples = [sample.text.encode() for sample in training()]
    dictionary = zstandard.train_dictionary(112_640, samples)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        19, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=0, write_checksum=0, write_dict_id=0
    )
    zstd = zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters)
    raw = [{"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 16}]

    def ppmd(text: str) -> int:
        encoder = pyppmd.Ppmd7Encoder(6, 1 << 20)
        return len(encoder.encode(text.encode()) + encoder.flush(endmark=False))

    return {
        "unishox2": lambda text: len(unishox2.compress(text)[0]),
        "smaz": lambda text: len(smaz.compress(text)),
        "brotli": lambda text: len(brotli.compress(text.encode(), mode=brotli.MODE_TEXT, quality=11)),
        "zstd, dictionary": lambda text: len(zstd.compress(text.encode())),
        "PPMd": ppmd,
        "LZMA": lambda text: len(lzma.compress(text.encode(), lzma.FORMAT_RAW, filters=raw)),
    }
