"""Trains the linear model beside the rules of triage, and writes its weights: `make train-triage`.

One logistic regression per output over the n-grams that the core finds in a text (`Triager.ngrams`) and what
the rules say of it, on the public messages, their originals in Haitian Creole and French, and our own vectors
in these languages that are not held back. The most telling n-grams are kept, fitted again, rounded to int8.
Nothing is drawn by chance: a second run writes the same octets.
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from evy_core import Triager

from actors.knowledge.engines import triage_files
from actors.knowledge.loader import SHIPPED
from tests.eval.labelled import NEEDS, PRIORITIES, VECTORS
from tests.eval.messages import MAPPED, URGENT, Message, dev_ids, groups, public

FILE: Final = SHIPPED / "triage" / "model.tsv"
MAGIC: Final = "evy-triage-model\t1\n"
OUTPUTS: Final = (URGENT, "medical", "water", "food", "shelter", "hazard_info")
"""What the model helps on messages it has not seen; of other needs labels are few or mean other things."""

LANGS: Final = ("en", "fr", "ht")
"""Languages there are labelled messages in; of texts in others the model says nothing."""
ROWS: Final = 8_000
"""N-grams kept; one costs about 25 octets of the file."""
FEWEST: Final = 5
"""An n-gram of fewer messages is no evidence, and may name a person."""
YES: Final[Mapping[str, float]] = dict.fromkeys(OUTPUTS, 0.5) | {URGENT: 0.7, "hazard_info": 0.6}
"""Probability from which the model adds; higher where the public categories are further from ours.

Tuned on the development file: lower values of the two cost precision there."""
LOGIT: Final = 1 << 16
SAID: Final = tuple(f"!{name}" for name in (*PRIORITIES, *NEEDS))
"""What the rules may say, as the file writes it."""


class Example(msgspec.Struct, frozen=True):
    """A text, and for each of :data:`OUTPUTS` whether it applies; None where nobody has said."""

    text: str
    labels: tuple[bool | None, ...]


def of_messages(messages: Sequence[Message]) -> Iterator[Example]:
    """Each message, and its original where it was sent in another language."""
    columns = [list(MAPPED).index(name) for name in OUTPUTS]
    for message in messages:
        labels = tuple(message.labels[column] for column in columns)
        yield Example(message.text, labels)
        if message.original:
            yield Example(message.original, labels)


def of_vectors() -> Iterator[Example]:
    """Our own texts that no test holds back: whether they are urgent or worse is all they say."""
    for path in sorted(VECTORS.glob("triage*.jsonl")):
        for line in path.read_bytes().splitlines():
            row = msgspec.json.decode(line)
            if row["lang"] in LANGS and not row.get("held"):
                urgent = row["priority"] != "normal"
                yield Example(row["text"], (urgent, *([None] * (len(OUTPUTS) - 1))))


class Corpus:
    """Examples with what the core finds in them, reckoned once for all trainings on parts of them."""

    def __init__(self, examples: Sequence[Example]) -> None:
        texts = [example.text for example in examples]
        self.examples = examples
        self.ngrams = [sorted(set(ngrams)) for ngrams in Triager.ngrams(texts)]
        said = rules_alone().classify(texts)
        self.said = np.array(
            [[float(name[1:] == got.priority or name[1:] in got.needs) for name in SAID] for got in said]
        )

    def train(self, rows: Sequence[int]) -> str:
        """The file of weights for some of the examples."""
        from scipy import sparse  # noqa: PLC0415  only the group eval has it

        counts = Counter(ngram for row in rows for ngram in self.ngrams[row])
        known = sorted(
            ngram
            for ngram, count in counts.items()
            if count >= FEWEST and not any(c.isnumeric() for c in ngram)
        )
        column = {ngram: at for at, ngram in enumerate(known)}
        places = [[column[ngram] for ngram in self.ngrams[row] if ngram in column] for row in rows]
        starts = np.cumsum([0, *map(len, places)])
        present = sparse.csr_matrix(
            (np.ones(starts[-1]), np.concatenate(places), starts), (len(rows), len(known))
        )
        said = sparse.csr_matrix(self.said[rows])
        labels = list(zip(*(self.examples[row].labels for row in rows), strict=True))
        weights, _ = _fitted(present, said, labels, tolerance=1e-2)
        frequent = np.sqrt(np.array([counts[ngram] for ngram in known]))
        telling = (np.abs(weights[:, : len(known)]) * frequent).max(axis=0)
        kept = np.sort(np.argsort(-telling, kind="stable")[:ROWS])
        weights, biases = _fitted(present[:, kept], said, labels, tolerance=1e-4)
        return written([*(known[at] for at in kept), *SAID], weights, biases, YES, LANGS)


def rules_alone() -> Triager:
    """Triage without a model."""
    return Triager([(name, text) for name, text in triage_files() if not name.endswith(".tsv")])


def with_model(weights: str) -> Triager:
    """Triage with other weights than the shipped ones."""
    return Triager(
        [*((name, text) for name, text in triage_files() if not name.endswith(".tsv")), (FILE.name, weights)]
    )


def _fitted(
    present: Any, said: Any, labels: Sequence[Sequence[bool | None]], *, tolerance: float
) -> tuple[Any, Any]:
    """Weights and biases, a row per output; a text's n-grams share a weight of one, as in the core."""
    from scipy import sparse  # noqa: PLC0415  only the group eval has it
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    counts = np.maximum(np.asarray(present.sum(axis=1)).ravel(), 1)
    matrix = sparse.hstack([sparse.diags(1 / np.sqrt(counts)) @ present, said]).tocsr()
    weights, biases = [], []
    for wanted in labels:
        rows = np.array([at for at, label in enumerate(wanted) if label is not None])
        model = LogisticRegression(C=1.0, solver="liblinear", max_iter=300, tol=tolerance, random_state=1)
        model.fit(matrix[rows], np.array([wanted[at] for at in rows], dtype=bool))
        weights.append(model.coef_[0])
        biases.append(model.intercept_[0])
    return np.array(weights), np.array(biases)


def written(
    names: Sequence[str], weights: Any, biases: Any, yes: Mapping[str, float], langs: Sequence[str]
) -> str:
    """The file: head, then one n-gram a line with its weights, empty where they are 0.

    A row of weights and a probability of ``yes`` per output; a column of weights per name.
    """
    scales = np.maximum(np.ceil(np.abs(weights).max(axis=1) / 127 * LOGIT), 1).astype(int)
    small = np.rint(weights * LOGIT / scales[:, None]).astype(int)
    head = {
        "outputs": tuple(yes),
        "langs": langs,
        "scale": scales,
        "bias": np.rint(biases * LOGIT).astype(int),
        "yes": [_logit(probability) for probability in yes.values()],
    }
    lines = ["\t".join([name, *map(str, cells)]) for name, cells in head.items()]
    for name, row in zip(names, small.T, strict=True):
        if row.any():
            lines.append("\t".join([name, *(str(cell) if cell else "" for cell in row)]).rstrip("\t"))
    body = "\n".join(lines) + "\n"
    return f"{MAGIC}checksum\t{_checksum(body):016x}\n{body}"


def _logit(probability: float) -> int:
    return round(math.log(probability / (1 - probability)) * LOGIT)


def _checksum(text: str) -> int:
    """FNV-1a, 64 bits, as the core reckons it."""
    total = 0xCBF29CE484222325
    for octet in text.encode():
        total = (total ^ octet) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return total


def shippable() -> list[Message]:
    """The public messages without those of the development file and their near-repeats."""
    messages = public()
    together = groups([message.text for message in messages], [message.original for message in messages])
    barred = {group for group, message in zip(together, messages, strict=True) if message.id in dev_ids()}
    return [message for group, message in zip(together, messages, strict=True) if group not in barred]


def main() -> None:
    """Trains on everything but the development file and writes the weights."""
    parser = argparse.ArgumentParser(prog="make train-triage", description=__doc__)
    parser.add_argument("--to", type=Path, default=FILE, help="where the weights go")
    options = parser.parse_args()
    examples = [*of_messages(shippable()), *of_vectors()]
    weights = Corpus(examples).train(range(len(examples)))
    with_model(weights)
    options.to.write_text(weights, encoding="utf-8")
    print(f"{options.to}: {len(weights.encode())} octets, {len(examples)} texts")
    print("figures on messages it has not seen: make eval ONLY=public")


if __name__ == "__main__":
    main()
