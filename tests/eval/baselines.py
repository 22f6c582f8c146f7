"""Two simpler ways to triage, to see what ours is worth: keywords, and TF-IDF with logistic regression."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer

from tests.eval.labelled import NEEDS, Row
from tests.eval.report import quick

_WORDS: Final = tomllib.loads(Path(__file__).with_name("keywords.toml").read_text(encoding="utf-8"))


def _pattern(words: Sequence[str]) -> re.Pattern[str]:
    parts = (re.escape(word).replace(r"\*", r"\w*") for word in words)
    return re.compile(rf"(?<!\w)(?:{'|'.join(parts)})(?!\w)", re.IGNORECASE)


_EMERGENCY: Final = _pattern(_WORDS["emergency"]["en"])
_ANY_EMERGENCY: Final = _pattern([word for words in _WORDS["emergency"].values() for word in words])
_URGENT: Final = _pattern(_WORDS["urgent"])
_NEEDS: Final = {need: _pattern(words) for need, words in _WORDS["needs"].items()}


def keyword_alarms(rows: Sequence[Row], *, langs: bool = False) -> list[float]:
    """How many different emergency words each text has: in English, or with ``langs`` in any language."""
    pattern = _ANY_EMERGENCY if langs else _EMERGENCY
    return [float(len({hit.casefold() for hit in pattern.findall(row.text)})) for row in rows]


def keyword_priorities(rows: Sequence[Row]) -> list[str]:
    """Emergency where one emergency word is, else urgent where one word of need is."""
    return [
        "emergency" if _EMERGENCY.search(row.text) else "urgent" if _URGENT.search(row.text) else "normal"
        for row in rows
    ]


def keyword_help(rows: Sequence[Row]) -> list[float]:
    """How many different words of emergency or need each text has."""
    return [
        alarm + len({hit.casefold() for hit in _URGENT.findall(row.text)})
        for row, alarm in zip(rows, keyword_alarms(rows), strict=True)
    ]


def keyword_needs(rows: Sequence[Row]) -> list[list[str]]:
    """The needs whose words a text has, at most three."""
    return [
        [need for need, pattern in _NEEDS.items() if pattern.search(row.text)][:3] or ["none"] for row in rows
    ]


def _features() -> FeatureUnion:
    """Words and pairs of words, and letters within words: the latter forgive misspellings."""
    return FeatureUnion(
        [
            ("words", TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)),
            ("letters", TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True)),
        ]
    )


def _regression() -> LogisticRegression:
    return LogisticRegression(C=10.0, class_weight="balanced", max_iter=500)


def fitted(rows: Sequence[Row]) -> Pipeline:
    """TF-IDF with logistic regression on the priority of ``rows``."""
    model = make_pipeline(_features(), _regression())
    return model.fit([row.text for row in rows], [row.priority for row in rows])


def probabilities(model: Pipeline, rows: Sequence[Row]) -> np.ndarray[Any, Any]:
    """For each text the probability of emergency, urgent and normal, in this order."""
    columns = {name: position for position, name in enumerate(model.classes_)}
    given = model.predict_proba([row.text for row in rows])
    return np.column_stack(
        [
            given[:, columns[name]] if name in columns else np.zeros(len(rows))
            for name in ("emergency", "urgent", "normal")
        ]
    )


def crossed(rows: Sequence[Row], also: Sequence[Row] = ()) -> np.ndarray[Any, Any]:
    """Probabilities of each row by a model that saw the other folds of ``rows`` and all of ``also``."""
    folds = StratifiedKFold(2 if quick() else 5, shuffle=True, random_state=1)
    out = np.zeros((len(rows), 3))
    for training, tested in folds.split(np.zeros(len(rows)), [row.priority for row in rows]):
        model = fitted([*(rows[i] for i in training), *also])
        out[tested] = probabilities(model, [rows[i] for i in tested])
    return out


def crossed_needs(rows: Sequence[Row]) -> list[list[str]]:
    """Needs of each row by one regression per need that saw the other folds; at most three, else none."""
    folds = StratifiedKFold(2 if quick() else 5, shuffle=True, random_state=1)
    named = [need for need in NEEDS if need != "none" and any(need in row.needs for row in rows)]
    truth = MultiLabelBinarizer(classes=named).fit_transform(
        [[n for n in row.needs if n in named] for row in rows]
    )
    out: list[list[str]] = [[] for _ in rows]
    for training, tested in folds.split(np.zeros(len(rows)), [row.priority for row in rows]):
        seen = [column for column in range(len(named)) if truth[training, column].any()]
        model = make_pipeline(_features(), OneVsRestClassifier(_regression()))
        model.fit([rows[i].text for i in training], truth[training][:, seen])
        scores = model.predict_proba([rows[i].text for i in tested])
        for i, row_scores in zip(tested, scores, strict=True):
            ranked = sorted(zip(row_scores, seen, strict=True), reverse=True)[:3]
            out[i] = [named[column] for score, column in ranked if score >= 0.5] or ["none"]
    return out
