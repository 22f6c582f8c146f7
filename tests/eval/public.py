"""Triage on the public messages: rules, keywords, and TF-IDF with logistic regression, at equal recall.

Our model and the regression are cross-validated in five folds; messages that nearly repeat each other stay in
one fold.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from evy_core import Triager
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from tests.eval import training
from tests.eval.baselines import keyword_help, keyword_needs
from tests.eval.labelled import DEV, Row, dev, precision_at, triager
from tests.eval.messages import MAPPED, URGENT, Message, groups, labels, public
from tests.eval.report import Report, Share, Table, confusion, quick

RULES: Final = "rules"
OURS: Final = "rules + model"
FEWEST: Final = 40
"""Needs with fewer labelled messages in a table are not judged."""

Flags = np.ndarray[Any, np.dtype[np.bool_]]
Scores = np.ndarray[Any, np.dtype[np.float64]]
Fold = tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]]]
"""Rows to train on, rows to test."""


class Answers(msgspec.Struct, frozen=True):
    """A score per message and name of the mapping; `decided` where the system has its own threshold."""

    scores: Scores
    decided: Flags | None = None


def run() -> Report:
    """Tables for all genres, for texts to a short code, and for their originals in other languages."""
    messages = public()
    if quick():
        messages = messages[::20]
    truth = labels(messages)
    parts = folds(messages)
    alone = training.rules_alone()
    ours, originals = crossed(messages, parts)
    systems = {
        RULES: judged(alone, [message.text for message in messages]),
        OURS: ours,
        "keywords": keywords(messages),
        "TF-IDF + LR": regression(messages, truth, parts),
    }
    tables, figures = [mapping_fit(messages)], {"messages": len(messages)}
    direct = np.array([message.genre == "direct" for message in messages])
    for name, rows in (("all genres", np.full(len(messages), fill_value=True)), ("direct", direct)):
        for system in (RULES, OURS):
            table, precisions = equal_recall(name, system, rows, truth, systems)
            tables.append(table)
            figures |= {f"{name}/{key}": value for key, value in precisions.items()}
            tables.append(urgent_confusion(name, system, rows, truth, systems))
    elsewhere = np.array([bool(message.original) for message in messages])
    sent = judged(alone, [message.original for message in messages])
    table, precisions = beside("originals in Haitian Creole and French", elsewhere, truth, sent, originals)
    dev_rows, dev_figures = dev_table(alone)
    tables += [table, dev_rows]
    figures |= precisions | dev_figures
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
            (
                f"{OURS} only adds to what the rules say; «by score» is the one number the model makes of a "
                "text and of what the rules said. Its weights here saw the other folds and our vectors"
            ),
            (
                "the messages of the development file trained no shipped weight; the rules' author and the "
                "thresholds of the model were tuned on that file"
            ),
        ),
    )


def judged(triager: Triager, texts: Sequence[str]) -> Answers:
    """What a triager decides; an emergency counts as urgent too."""
    decided = np.array(
        [
            [triage.priority != "normal" if name == URGENT else name in triage.needs for name in MAPPED]
            for triage in triager.classify(texts)
        ]
    )
    return Answers(decided.astype(float), decided)


def crossed(messages: Sequence[Message], parts: Sequence[Fold]) -> tuple[Answers, Answers]:
    """Rules with a model that saw the other folds: on the texts in English, and on their originals."""
    examples, owners = [], []
    for owner, message in enumerate(messages):
        for example in training.of_messages([message]):
            examples.append(example)
            owners.append(owner)
    for example in training.of_vectors():
        examples.append(example)
        owners.append(-1)
    corpus, owned = training.Corpus(examples), np.array(owners)
    shape = (len(messages), len(MAPPED))
    answers = [Answers(np.zeros(shape), np.zeros(shape, dtype=bool)) for _ in range(2)]
    columns = [list(MAPPED).index(name) for name in training.OUTPUTS]
    for seen, tested in parts:
        triager = training.with_model(corpus.train(np.flatnonzero(np.isin(owned, [*seen, -1]))))
        for answer, texts in zip(
            answers,
            ([messages[i].text for i in tested], [messages[i].original for i in tested]),
            strict=True,
        ):
            said = judged(triager, texts)
            assert said.decided is not None
            assert answer.decided is not None
            answer.decided[tested] = said.decided
            answer.scores[tested] = said.scores
            answer.scores[np.ix_(tested, columns)] = triager.scores(texts)
    return answers[0], answers[1]


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


def folds(messages: Sequence[Message]) -> list[Fold]:
    """Training and tested rows of each fold; near-repeats stay together, in either language."""
    together = groups([message.text for message in messages], [message.original for message in messages])
    return list(GroupKFold(2 if quick() else 5).split(together, groups=together))


def regression(messages: Sequence[Message], truth: Flags, parts: Sequence[Fold]) -> Answers:
    """TF-IDF of words and pairs of words with one logistic regression per name."""
    texts = [message.text for message in messages]
    scores = np.full(truth.shape, -np.inf)
    for seen_rows, tested in parts:
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
        seen = vectorizer.fit_transform([texts[i] for i in seen_rows])
        unseen = vectorizer.transform([texts[i] for i in tested])
        for column in range(truth.shape[1]):
            if truth[seen_rows, column].any():
                model = LogisticRegression(C=10.0, solver="liblinear", random_state=1)
                model.fit(seen, truth[seen_rows, column])
                scores[tested, column] = model.decision_function(unseen)
    return Answers(scores)


def equal_recall(
    title: str, system: str, rows: Flags, truth: Flags, systems: Mapping[str, Answers]
) -> tuple[Table, dict[str, float]]:
    """Precision of everything that scores, at the recall that `system` has with its own threshold."""
    decided = systems[system].decided
    assert decided is not None
    others = [name for name in systems if name != RULES]
    out, figures = [], {}
    for column, name in enumerate(MAPPED):
        labelled, said = truth[rows, column], decided[rows, column]
        if labelled.sum() < FEWEST:
            continue
        found, right = shares(labelled, said)
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
        *(f"{other}{' by score' if other == OURS else ''}: precision" for other in others),
    )
    return Table(f"{title}: precision at the recall of {system}", header, tuple(out)), figures


def urgent_confusion(
    title: str, system: str, rows: Flags, truth: Flags, systems: Mapping[str, Answers]
) -> Table:
    """Urgent (an emergency is urgent too) against normal, as a system decides it."""
    decided = systems[system].decided
    assert decided is not None
    names = ("normal", "urgent")
    column = list(MAPPED).index(URGENT)
    pairs = [
        (names[int(a)], names[int(b)])
        for a, b in zip(truth[rows, column], decided[rows, column], strict=True)
    ]
    return confusion(f"{title}: request as urgent, {system}", ("urgent", "normal"), pairs)


def beside(
    title: str, rows: Flags, truth: Flags, alone: Answers, ours: Answers
) -> tuple[Table, dict[str, float]]:
    """Recall and precision of the rules and of rules with model as each decides."""
    out, figures = [], {}
    for name in training.OUTPUTS:
        column = list(MAPPED).index(name)
        labelled = truth[rows, column]
        cells = [name]
        for system, answers in ((RULES, alone), (OURS, ours)):
            assert answers.decided is not None
            found, right = shares(labelled, answers.decided[rows, column])
            cells += [str(found), str(right)]
            figures |= {f"{title}/{system}/{name}/recall": found.value}
            figures |= {f"{title}/{system}/{name}/precision": right.value}
        out.append(tuple(cells))
    header = ("label", f"{RULES}: recall", "precision", f"{OURS}: recall", "precision")
    return Table(f"{title} ({int(rows.sum())})", header, tuple(out)), figures


def shares(labelled: Flags, said: Flags) -> tuple[Share, Share]:
    """Recall and precision."""
    hits = int((labelled & said).sum())
    return Share(hits, int(labelled.sum())), Share(hits, int(said.sum()))


def dev_table(alone: Triager) -> tuple[Table, dict[str, float]]:
    """The development file: the rules, and the rules with the weights as shipped."""
    rows = dev() if DEV.exists() else []
    labelled = np.array(
        [[row.priority != "normal" if n == URGENT else n in row.needs for n in MAPPED] for row in rows]
    ).reshape(-1, len(MAPPED))
    texts = [row.text for row in rows]
    every = np.full(len(rows), fill_value=True)
    if not rows:
        return Table("development file: not at hand", (), ()), {}
    return beside("development file", every, labelled, judged(alone, texts), judged(triager(), texts))


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
