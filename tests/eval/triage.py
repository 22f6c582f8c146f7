"""Area `triage`: the 400 real messages, ours beside keywords and TF-IDF with logistic regression."""

from typing import Final

from tests.eval import baselines
from tests.eval.labelled import PRIORITIES, Row, dev, equal_recall, f1_rows, ours, vectors
from tests.eval.report import Report, Table, confusion, precision, recall

TRAINING: Final = "triage.jsonl"
"""Vectors the rules are written against: what a learner may see as well."""


def run() -> Report:
    """Confusion of priorities, needs, and precision at equal recall. Skipped where the messages are not."""
    rows = dev()
    verdicts = ours(rows)
    answered = [got.priority for got in verdicts]
    learned = baselines.crossed(rows)
    stronger = baselines.crossed(rows, vectors(TRAINING))
    keywords = baselines.keyword_priorities(rows)
    tables: list[Table] = []
    figures: dict[str, float | int | str] = {"rows": len(rows)}
    for name, chosen in (
        ("clear rows", [i for i, row in enumerate(rows) if row.clear]),
        ("all rows", list(range(len(rows)))),
    ):
        pairs = [(rows[i].priority, answered[i]) for i in chosen]
        tables.append(confusion(f"ours, {name}", PRIORITIES, pairs))
        for label in PRIORITIES:
            share = recall(label, pairs)
            key = f"{name.split()[0]}_{label}"
            figures[f"{key}_recall"], figures[f"{key}_precision"] = share.value, precision(label, pairs).value
    best = [PRIORITIES[int(line.argmax())] for line in stronger]
    tables.append(confusion("keywords, all rows", PRIORITIES, _pairs(rows, keywords)))
    tables.append(
        confusion("TF-IDF + regression (dev and vectors), all rows", PRIORITIES, _pairs(rows, best))
    )
    helped = [row.priority != "normal" for row in rows]
    compared, more = equal_recall(
        "emergency or urgent, all rows: precision where recall reaches ours",
        helped,
        [priority != "normal" for priority in answered],
        {
            "keywords": baselines.keyword_help(rows),
            "tfidf dev": [1 - line[2] for line in learned],
            "tfidf dev+vectors": [1 - line[2] for line in stronger],
        },
    )
    tables.append(compared)
    figures |= {f"help_{key}".replace(" ", "_"): value for key, value in more.items()}
    compared, more = equal_recall(
        "emergency, all rows: precision where recall reaches ours",
        [row.priority == "emergency" for row in rows],
        [priority == "emergency" for priority in answered],
        {
            "keywords": baselines.keyword_alarms(rows),
            "tfidf dev": [line[0] for line in learned],
            "tfidf dev+vectors": [line[0] for line in stronger],
        },
    )
    tables.append(compared)
    figures |= {f"emergency_{key}".replace(" ", "_"): value for key, value in more.items()}
    needs, scores = f1_rows(
        [row.needs for row in rows],
        {
            "ours": [got.needs for got in verdicts],
            "keywords": baselines.keyword_needs(rows),
            "tfidf": baselines.crossed_needs(rows),
        },
    )
    tables.append(needs)
    return Report(
        "400 real messages (one labeller), priorities and needs",
        tuple(tables),
        figures | scores,
        (
            "Emergencies are 8 rows: one message is 12.5 points. Read the counts.",
            "The rules were written with these messages at hand: figures of ours are tuned, not unseen.",
            f"TF-IDF saw the other folds (stratified, seed 1), «dev+vectors» also tests/vectors/{TRAINING}.",
        ),
    )


def _pairs(rows: list[Row], answers: list[str]) -> list[tuple[str, str]]:
    return [(row.priority, answer) for row, answer in zip(rows, answers, strict=True)]
