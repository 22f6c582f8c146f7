"""Triage on the public messages: rules, keywords, and TF-IDF with logistic regression, at equal recall.

The regression is cross-validated in five folds; messages that nearly repeat each other stay in one fold.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from tests.eval.baselines import keyword_help, keyword_needs
from tests.eval.labelled import DEV, Row, dev, ours, precision_at
from tests.eval.messages import MAPPED, URGENT, Message, groups, labels, public
from tests.eval.report import Report, Share, Table, confusion, quick

FEWEST: Final = 40
"""Needs with fewer labelled messages in a table are not judged."""

Flags = np.ndarray[Any, np.dtype[np.bool_]]
Scores = np.ndarray[Any, np.dtype[np.float64]]


class Answers(msgspec.Struct, frozen=True):
    """A score per message and name of the mapping; `decided` where the system has its own threshold."""

    scores: Scores
    decided: Flags | None = None


def run() -> Report:
    """Tables for all genres and for texts to a short code alone; the mapping's fit to labels made by hand."""
    messages = public()
    if quick():
        messages = messages[::20]
    truth = labels(messages)
    systems = {
        "rules": rules(messages),
        "keywords": keywords(messages),
        "TF-IDF + LR": regression(messages, truth),
    }
    tables, figures = [mapping_fit(messages)], {"messages": len(messages)}
    direct = np.array([message.genre == "direct" for message in messages])
    for name, rows in (("all genres", np.full(len(messages), fill_value=True)), ("direct", direct)):
        for system in ("rules",):
            table, precisions = equal_recall(name, system, rows, truth, systems)
            tables.append(table)
            figures |= {f"{name}/{key}": value for key, value in precisions.items()}
        tables.append(urgent_confusion(name, rows, truth, systems))
    return Report(
        title=f"{len(messages)} public messages, cross-validated",
        tables=tuple(tables),
        figures=figures,
        notes=(
            (
                "urgent stands for the public category request, needs for the categories named in "
                "tests/eval/messages.py; the first table says how far that agrees with labels made by hand"
            ),
            f"needs with fewer than {FEWEST} labelled messages are left out of a table",
        ),
    )


def rules(messages: Sequence[Message]) -> Answers:
    """Ours as decided; an emergency counts as urgent too."""
    got = ours(_rows(messages))
    decided = np.array(
        [
            [triage.priority != "normal" if name == URGENT else name in triage.needs for name in MAPPED]
            for triage in got
        ]
    )
    return Answers(decided.astype(float), decided)


def keywords(messages: Sequence[Message]) -> Answers:
    """The keyword baseline: how many words of need for urgent, a need's words or none of them for needs."""
    rows = _rows(messages)
    needs = keyword_needs(rows)
    help_words = keyword_help(rows)
    scores = [
        [words if name == URGENT else float(name in found) for name in MAPPED]
        for words, found in zip(help_words, needs, strict=True)
    ]
    return Answers(np.array(scores, dtype=float))


def folds(messages: Sequence[Message]) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Training and tested rows of each fold; near-repeats, and rows with the same original, stay together."""
    together = groups([message.text for message in messages])
    return list(GroupKFold(2 if quick() else 5).split(together, groups=together))


def regression(messages: Sequence[Message], truth: Flags) -> Answers:
    """TF-IDF of words and pairs of words with one logistic regression per name."""
    texts = [message.text for message in messages]
    scores = np.full(truth.shape, -np.inf)
    for training, tested in folds(messages):
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
        seen = vectorizer.fit_transform([texts[i] for i in training])
        unseen = vectorizer.transform([texts[i] for i in tested])
        for column in range(truth.shape[1]):
            if truth[training, column].any():
                model = LogisticRegression(C=10.0, solver="liblinear", random_state=1)
                model.fit(seen, truth[training, column])
                scores[tested, column] = model.decision_function(unseen)
    return Answers(scores)


def equal_recall(
    title: str, system: str, rows: Flags, truth: Flags, systems: Mapping[str, Answers]
) -> tuple[Table, dict[str, float]]:
    """Precision of every system at the recall that `system` has with its own threshold."""
    decided = systems[system].decided
    assert decided is not None
    others = [name for name in systems if name != system]
    out, figures = [], {}
    for column, name in enumerate(MAPPED):
        labelled, said = truth[rows, column], decided[rows, column]
        if labelled.sum() < FEWEST:
            continue
        hits = int((labelled & said).sum())
        found, right = Share(hits, int(labelled.sum())), Share(hits, int(said.sum()))
        cells = [name, str(found), str(right)]
        figures |= {f"{system}/{name}/recall": found.value, f"{system}/{name}/precision": right.value}
        for other in others:
            _, precision = precision_at(labelled, systems[other].scores[rows, column], found.value)
            cells.append(f"{precision.value:.3f}")
            figures[f"{other}/{name}/precision at {system} recall"] = precision.value
        out.append(tuple(cells))
    header = (
        "label",
        f"{system}: recall",
        f"{system}: precision",
        *(f"{other}: precision" for other in others),
    )
    return Table(f"{title}: precision at the recall of {system}", header, tuple(out)), figures


def urgent_confusion(title: str, rows: Flags, truth: Flags, systems: Mapping[str, Answers]) -> Table:
    """Urgent (an emergency is urgent too) against normal, as the rules decide it."""
    decided = systems["rules"].decided
    assert decided is not None
    names = ("normal", "urgent")
    column = list(MAPPED).index(URGENT)
    pairs = [
        (names[int(a)], names[int(b)])
        for a, b in zip(truth[rows, column], decided[rows, column], strict=True)
    ]
    return confusion(f"{title}: request as urgent, rules", ("urgent", "normal"), pairs)


def mapping_fit(messages: Sequence[Message]) -> Table:
    """How far the public categories agree with the labels made by hand of the development file."""
    by_id = {f"haiti-{message.id}": message for message in messages}
    rows = [(row, by_id[row.id]) for row in dev() if row.id in by_id] if DEV.exists() else []
    out = []
    for column, name in enumerate(MAPPED):
        by_hand = [row.priority != "normal" if name == URGENT else name in row.needs for row, _ in rows]
        by_crowd = [message.labels[column] for _, message in rows]
        both = sum(a and b for a, b in zip(by_hand, by_crowd, strict=True))
        said = (str(Share(both, sum(by_hand))), str(Share(both, sum(by_crowd))))
        out.append((name, " or ".join(MAPPED[name]), *said))
    header = ("ours", "public categories", "by hand, also by crowd", "by crowd, also by hand")
    return Table(f"the mapping beside {len(rows)} messages labelled by hand", header, tuple(out))


def _rows(messages: Sequence[Message]) -> list[Row]:
    return [Row(message.text, "") for message in messages]
