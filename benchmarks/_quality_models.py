"""The rows and the models that bench_quality.py compares: each model predicts steps of unseen problems."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from prmkit import PRMClassifier, PRMFeaturizer, Solution, Step, flatten
from prmkit.features import StepStatistics, StepWords
from prmkit.features.sequences import StepSequences
from prmkit.models import StepTransformer
from prmkit.models.heads.head import choose_decision_weights

LABELS = np.array([-1, 0, 1])
INNER_FOLDS = 3
EPOCHS = 12
Prediction = tuple[np.ndarray, np.ndarray]  # probabilities (n_rows, 3), decision weights (3,)


@dataclass
class StepTable:
    """The labelled steps of many solutions, and what the models read of them, computed when first asked for.

    Parameters
    ----------
    solutions : list of Solution
        ``meta`` holds ``dataset`` and ``problem_key``.
    ratings : list of list of (-1, 0, +1 or None)
        Steps without a rating are no rows, only context.
    """

    solutions: list[Solution]
    ratings: list[list[int | None]]
    _words: dict[tuple[bytes, bytes], tuple[Any, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        every = flatten(self.solutions)
        rated = [rating for ratings in self.ratings for rating in ratings]
        self._labelled = np.array([rating is not None for rating in rated])
        self.steps: list[Step] = [every[i] for i in np.flatnonzero(self._labelled)]
        self.y = np.array([rating + 1 for rating in rated if rating is not None])  # the column in LABELS
        meta = [solution.meta for solution in self.solutions for _ in solution.steps]
        chosen = [meta[i] for i in np.flatnonzero(self._labelled)]
        self.datasets = np.array([m["dataset"] for m in chosen])
        self.problems = np.unique([m["problem_key"] for m in chosen], return_inverse=True)[1]

    @cached_property
    def positions(self) -> np.ndarray:
        """Index of each step, as one column."""
        return np.array([[step.index] for step in self.steps])

    @cached_property
    def statistics(self) -> np.ndarray:
        """Rows of ``StepStatistics``."""
        return StepStatistics().fit_transform(self.steps)

    @cached_property
    def in_context(self) -> np.ndarray:
        """Embeddings of step, problem and prefix; the step's own come first."""
        return PRMFeaturizer(context="prefix", show_progress=False).fit_transform(self.steps)

    def words(self, train: np.ndarray, test: np.ndarray) -> tuple[Any, Any]:
        """TF-IDF of words (1-2) and character runs (2-5), learnt on ``train``; the last result is kept."""
        key = (train.tobytes(), test.tobytes())
        if key not in self._words:
            words = StepWords()
            learn = words.fit_transform([self.steps[i] for i in train])
            self._words = {key: (learn, words.transform([self.steps[i] for i in test]))}
        return self._words[key]

    @cached_property
    def sequences(self) -> StepSequences:
        """Step embeddings of each whole solution, later and unlabelled steps included."""
        found = StepSequences.from_steps(PRMFeaturizer(show_progress=False), flatten(self.solutions))
        whole = StepSequences(found.values, found.lengths, found.answers[self._labelled], found.problems.copy())
        whole.problems[whole.owners] = self.problems
        return whole

    def sequences_of(self, rows: np.ndarray) -> tuple[StepSequences, np.ndarray]:
        """The sequences that hold some rows, and these rows in the order in which they are answered."""
        part, answered = self.sequences.take(np.unique(self.sequences.owners[rows]))
        wanted = np.isin(answered, rows)  # equal solutions of two data sets are one sequence
        return StepSequences(part.values, part.lengths, part.answers[wanted], part.problems), answered[wanted]


class PlacedTransformer(StepTransformer):
    """A StepTransformer whose positions start as large as the steps they mark.

    Of BERT's own start, deviation 0.02, little is seen beside a step embedding, and a small data set is learnt
    by heart before attention can tell which step is the last: the leak would be understated.
    """

    def _encoder(self, saved):
        encoder = super()._encoder(saved)
        encoder.embeddings.position_embeddings.weight.data.normal_(0.0, 0.5)
        return encoder


class LookAheadTransformer(PlacedTransformer):
    """Attention to every step of the solution, later ones too: what a plain BERT over step embeddings sees."""

    def _build_module(self, n_features, n_classes, backbone=None):
        from prmkit.models.heads._training import CausalEncoder

        class LookAheadEncoder(CausalEncoder):
            def attention_mask(self, values):
                import torch

                n = values.shape[1]
                padding = (values == 0).all(dim=2)  # no text has a zero embedding
                mask = torch.zeros_like(padding, dtype=values.dtype)
                mask[padding] = torch.finfo(values.dtype).min
                return mask[:, None, None, :].expand(len(values), 1, n, n)

        return LookAheadEncoder(n_features, n_classes, self._encoder(backbone), self.dropout)


def majority(table: StepTable, train: np.ndarray, test: np.ndarray, _seed: int) -> Prediction:
    """The shares of the training labels; the largest class is the answer, without weights."""
    shares = np.bincount(table.y[train], minlength=len(LABELS)) / len(train)
    return np.tile(shares, (len(test), 1)), np.ones(len(LABELS))


def on_rows(view: Callable[..., tuple[Any, Any]], estimator: Any) -> Callable[..., Prediction]:
    """A scikit-learn classifier on a view of the rows; its decision weights come from 3 folds by problem."""

    def predict(table: StepTable, train: np.ndarray, test: np.ndarray, seed: int) -> Prediction:
        learn, check = view(table, train, test)
        y = table.y[train]
        unseen = np.zeros((len(train), len(LABELS)))
        folds = StratifiedGroupKFold(INNER_FOLDS, shuffle=True, random_state=seed)
        for inner, outer in folds.split(y, y, table.problems[train]):
            unseen[outer] = _proba(clone(estimator).fit(learn[inner], y[inner]), learn[outer])
        return _proba(clone(estimator).fit(learn, y), check), decision_weights(y, unseen)

    return predict


def on_sequences(kind: type[StepTransformer], **options: Any) -> Callable[..., Prediction]:
    """A transformer over step embeddings; its decision weights come from its early-stopping problems."""

    class Remembering(kind):
        def _split(self, sequences, targets, rng):
            parts = super()._split(sequences, targets, rng)
            self.checked = parts[1] or parts[0]  # too few problems to stop early: those it learnt from
            return parts

    def predict(table: StepTable, train: np.ndarray, test: np.ndarray, seed: int) -> Prediction:
        head = Remembering(random_state=seed, show_progress=False).set_params(**options)
        sequences, rows = table.sequences_of(train)
        head.fit(sequences, table.y[rows])
        unseen = np.zeros((len(head.checked[1].codes), len(LABELS)))
        unseen[:, head.classes_] = head.predict_proba(head.checked[0])
        weights = decision_weights(head.classes_[head.checked[1].codes], unseen)
        sequences, rows = table.sequences_of(test)
        proba = np.zeros((len(test), len(LABELS)))
        place = np.searchsorted(test, rows)
        proba[np.ix_(place, head.classes_)] = head.predict_proba(sequences)
        return proba, weights

    return predict


def default(table: StepTable, train: np.ndarray, test: np.ndarray, seed: int) -> Prediction:
    """``PRMClassifier()`` as a user has it; ``predict`` weighs with what its own training folds chose."""
    clf = PRMClassifier(random_state=seed).fit([table.steps[i] for i in train], LABELS[table.y[train]])
    columns = np.searchsorted(LABELS, clf.classes_)
    weights = np.ones(len(LABELS))
    weights[columns] = clf.head_.decision_weights_
    proba = np.zeros((len(test), len(LABELS)))
    proba[:, columns] = clf.predict_proba([table.steps[i] for i in test])
    return proba, weights


def decision_weights(y: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """The rule of the default model, for any model: weights chosen for macro-F1 on rows it did not learn."""
    present = np.unique(y)
    weights = np.ones(len(LABELS))
    weights[present] = choose_decision_weights(np.searchsorted(present, y), proba[:, present])
    return weights


def _proba(fitted: Any, rows: Any) -> np.ndarray:
    proba = np.zeros((rows.shape[0], len(LABELS)))
    proba[:, fitted.classes_] = fitted.predict_proba(rows)
    return proba


def _logistic(**options: Any) -> LogisticRegression:
    return LogisticRegression(max_iter=150, tol=1e-3, **options)


def _embedded(width: int | None) -> Callable[..., tuple[Any, Any]]:
    return lambda table, train, test: (table.in_context[train, :width], table.in_context[test, :width])


def _position(table: StepTable, train: np.ndarray, test: np.ndarray) -> tuple[Any, Any]:
    return table.positions[train], table.positions[test]


def _statistics(table: StepTable, train: np.ndarray, test: np.ndarray) -> tuple[Any, Any]:
    return table.statistics[train], table.statistics[test]


TREES = HistGradientBoostingClassifier(
    learning_rate=0.06, max_iter=200, max_leaf_nodes=15, l2_regularization=1.0, early_stopping=False, random_state=0
)
POSITION = make_pipeline(OneHotEncoder(min_frequency=10, handle_unknown="infrequent_if_exist"), LogisticRegression())
DEFAULT, LOOK_AHEAD, CAUSAL = "PRMClassifier()", "look-ahead transformer", "its causal twin"
TRAINING = {"max_epochs": EPOCHS, "batch_size": 256, "patience": EPOCHS}
MODELS: dict[str, Callable[..., Prediction]] = {
    "majority": majority,
    "position": on_rows(_position, POSITION),
    "TF-IDF + LR": on_rows(StepTable.words, _logistic(C=1.0)),
    "TF-IDF + LR, balanced": on_rows(StepTable.words, _logistic(C=1.0, class_weight="balanced")),
    "embeddings + LR": on_rows(_embedded(384), make_pipeline(StandardScaler(), _logistic(C=1e-2))),
    "embeddings in context + LR": on_rows(_embedded(None), make_pipeline(StandardScaler(), _logistic(C=1e-3))),
    "trees on statistics": on_rows(_statistics, TREES),
    DEFAULT: default,
    "StepTransformer()": on_sequences(StepTransformer),
    LOOK_AHEAD: on_sequences(LookAheadTransformer, **TRAINING),
    CAUSAL: on_sequences(PlacedTransformer, **TRAINING),
}  # fmt: skip
GROUPS = (list(MODELS)[:7], list(MODELS)[7:8], list(MODELS)[8:])
"""In the order in which they are run: cheap ones, the default, the transformers."""


def predict(name: str, table: StepTable, train: np.ndarray, test: np.ndarray, seed: int) -> Prediction:
    """Fit one model on rows ``train`` and predict rows ``test`` (both sorted)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopped on purpose, as in the default
        return MODELS[name](table, train, test, seed)
