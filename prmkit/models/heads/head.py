"""The protocol of heads: how a classifier gives its steps to a head, how heads share one reading, and decisions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter

from prmkit.data.growing import joined
from prmkit.data.solution import Step, iter_solutions
from prmkit.features import PRMFeaturizer
from prmkit.features.sequences import StepSequences
from prmkit.utils.sklearn import fit_weighted, safe_indexing

Label: TypeAlias = "str | int | float | bool"
"""A class of steps, such as ``-1`` or ``"negative"``."""
Matrix: TypeAlias = Any
"""Dense or sparse matrix of shape (n_steps, n_features). scipy has no common type for both."""


class Featurizer(Protocol):
    """A transformer over steps, such as ``PRMFeaturizer``."""

    def fit(self, X: Sequence[Step], y: npt.ArrayLike | None = None, /) -> object:
        """Learn from steps."""

    def transform(self, X: Sequence[Step], /) -> Matrix:
        """Return one row of features per step."""


class Classifier(Protocol):
    """A classifier in the manner of scikit-learn."""

    classes_: np.ndarray

    def fit(self, X: Any, y: npt.ArrayLike, /) -> object:
        """Learn from labelled rows."""

    def predict_proba(self, X: Any, /) -> np.ndarray:
        """Return the probability of each class for each row."""


@dataclass(frozen=True)
class StepViews:
    """Rows of the same steps in several views: one dense or sparse matrix per name, the number of each step's problem,
    and what is known of the views, also of those that were left out.
    """

    rows: dict[str, Matrix]
    problems: np.ndarray
    report: dict[str, Any] = field(default_factory=dict)

    def take(self, chosen: np.ndarray) -> StepViews:
        """Return the chosen rows of every view."""
        return StepViews({name: rows[chosen] for name, rows in self.rows.items()}, self.problems[chosen], self.report)

    @staticmethod
    def joined(parts: Sequence[StepViews]) -> StepViews:
        """Return the rows of several as one."""
        rows = {name: joined([part.rows[name] for part in parts]) for name in parts[0].rows}
        return StepViews(rows, np.concatenate([part.problems for part in parts]), parts[0].report)


Rows: TypeAlias = "StepSequences | StepViews | Sequence[Step] | Matrix"
"""What a head reads: its ``read`` makes it, its ``fit`` and ``predict_proba`` take it."""


class Head:
    """Base of heads that decide by themselves what they read of steps.

    A head is a classifier in the manner of scikit-learn. One that does not derive from this class gets what the
    featurizer makes of the steps, or the steps themselves if there is no featurizer. A head that needs more derives
    from this class and has ``_read``. Its ``fit`` and ``predict_proba`` take the result of ``read``, and plain
    arrays or steps too.

    ``reads`` names what the head looks at: single ``"rows"`` of features, ``"sequences"`` of them in the order of the
    solution, or the ``"steps"`` with their text, by a featurizer of its own.
    """

    reads: Literal["rows", "sequences", "steps"] = "rows"
    # Fitted attributes that ``read`` uses. Heads that have the same objects there can share one reading.
    read_by: ClassVar[tuple[str, ...]] = ()
    # Whether embeddings computed in bfloat16 change a probability by less than .02, so that the encoder may choose it.
    # A tree jumps at a threshold, by more than a tenth.
    is_smooth: ClassVar[bool] = False

    def read(
        self,
        featurizer: Featurizer | None,
        X: Sequence[Step] | Matrix,
        y: np.ndarray | None = None,
        groups: npt.ArrayLike | None = None,
    ) -> Rows:
        """Return what ``fit`` and ``predict_proba`` take.

        Parameters
        ----------
        featurizer : fitted transformer over steps, or None
            Gives the features. ``None`` if X is numeric, or if the head reads steps.
        X : list of Step, or matrix of shape (n_steps, n_features)
            Steps or their features.
        y : ndarray of shape (n_steps,), default=None
            Labels, before ``fit``: a head with views of its own fits them. ``None`` in use.
        groups : array-like of shape (n_steps,), default=None
            Solution of each row of a numeric X.

        Returns
        -------
        StepSequences, StepViews, list of Step or matrix
            What the head looks at.
        """
        return self._read(featurizer, X, y, groups)

    def _read(
        self,
        featurizer: Featurizer | None,
        X: Sequence[Step] | Matrix,
        y: np.ndarray | None = None,
        groups: npt.ArrayLike | None = None,
    ) -> Rows:
        """Do the work of ``read`` in a subclass."""
        raise NotImplementedError


def share_reading(head: object, other: object) -> None:
    """Make a head read by the fitted parts of another one of its kind, which has read the rows of ``fit``."""
    if isinstance(head, Head):
        for name in head.read_by:
            setattr(head, name, getattr(other, name))


def reads_like(head: object, other: object) -> bool:
    """Whether a head reads of steps the same as another one. All that read plain rows or steps do."""
    if not isinstance(head, Head):
        return True
    return type(other) is type(head) and all(getattr(head, name) is getattr(other, name) for name in head.read_by)


def reads(head: object) -> Literal["rows", "sequences", "steps"]:
    """Return what a head looks at, as :attr:`Head.reads` says it; any other classifier takes rows."""
    return head.reads if isinstance(head, Head) else "rows"


def featurizer_for(head: object, featurizer: Featurizer | None = None) -> Featurizer:
    """Return an unfitted copy of a featurizer, by default ``PRMFeaturizer()``, with the context that a head needs.

    A context that the user has chosen is kept, and so is a precision. The encoder chooses bfloat16 by itself only for a
    head that is known to change little by it.
    """
    own = PRMFeaturizer() if featurizer is None else clone(featurizer)
    # States in a folder have the precision in which they were computed.
    is_open = isinstance(own, PRMFeaturizer) and own.dtype == "auto" and own.states is None
    if is_open and not own.backend.endswith("-int8"):
        own.set_params(dtype="auto" if getattr(head, "is_smooth", False) else "float32")
    if isinstance(own, PRMFeaturizer) and own.kind == "embeddings" and own.context is None:
        # Heads over sequences see the earlier steps themselves.
        own.set_params(context="none" if reads(head) == "sequences" else "prefix")
    return own


def read_rows(
    head: Head | Classifier | None,
    featurizer: Featurizer | None,
    X: Sequence[Step] | Matrix,
    y: np.ndarray | None = None,
    groups: npt.ArrayLike | None = None,
) -> Rows:
    """Return what any head takes of X, as :meth:`Head.read` does.

    Groups for a head that scores each row by itself raise ValueError.
    """
    if isinstance(head, Head):
        return head.read(featurizer, X, y, groups)
    if groups is not None:
        name = "the default head" if head is None else type(head).__name__
        raise ValueError(f"groups has no meaning for {name}: it scores each row by itself")
    return X if featurizer is None else featurizer.transform(X)


def read_unlabelled(head: object, featurizer: Featurizer | None, X: Sequence[Step]) -> Any:
    """Return what the ``unlabelled`` of a head takes. Of a head that learns nothing of it, TypeError says so."""
    if not has_fit_parameter(head, "unlabelled"):
        name = "the default head" if head is None else type(head).__name__
        raise TypeError(
            f"unlabelled holds solutions whose outcome is learnt, and {name} learns none: choose head=TokenPRM(…) or "
            "head=StepProbe(…) with outcome_weight, or leave unlabelled out"
        )
    if isinstance(head, Head) and head.reads != "steps":
        if featurizer is None:
            raise TypeError("unlabelled holds solutions, and X numbers: pass X as steps, and a featurizer")
        # What is read for ``fit`` holds the further targets too. That labels are given says so, and these say nothing.
        return head.read(featurizer, X, np.zeros(len(X)))
    return [solution for solution, _, _ in iter_solutions(X)]


def take_rows(rows: Rows, chosen: np.ndarray) -> tuple[Rows, np.ndarray]:
    """Return the part of ``rows`` that answers the chosen rows of X, and the row of X that each of its rows is.

    Whole sequences are taken, once each: choose all rows of a problem or none.
    """
    if isinstance(rows, StepSequences):
        return rows.take(np.unique(rows.owners[chosen]))
    if isinstance(rows, StepViews):
        return rows.take(chosen), chosen
    return safe_indexing(rows, chosen), chosen


_ROUNDS = 1000


def fit_head(
    head: Classifier | None, rows: Rows, y: np.ndarray, sample_weight: np.ndarray | None = None, **further: Any
) -> Classifier:
    """Fit a head on what it has read, and return it. ``None`` becomes logistic regression on standardised columns.

    What is ``further`` goes to the ``fit`` of the head.
    """
    if head is None:
        scaler = StandardScaler(with_mean=not issparse(rows))
        head = make_pipeline(scaler, LogisticRegression(max_iter=_ROUNDS))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            fit_weighted(head, rows, y, sample_weight)
        for one in caught:
            if not issubclass(one.category, ConvergenceWarning):
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
        if any(issubclass(one.category, ConvergenceWarning) for one in caught):
            # scikit-learn's advice names a parameter that the user has not got.
            warnings.warn(
                f"the default head, a logistic regression, was stopped after {_ROUNDS:,} rounds, before its best fit: "
                "pass a head, such as head=make_pipeline(StandardScaler(), LogisticRegression(C=0.1))",
                ConvergenceWarning,
                stacklevel=5,
            )
        return head
    fit_weighted(head, rows, y, sample_weight, **further)
    return head


_POWERS = np.linspace(0, 1, 11)


def choose_decision_weights(y: np.ndarray, proba: np.ndarray, sample_weight: np.ndarray | None = None) -> np.ndarray:
    """Return the class weights under which the weighted likeliest class has the best macro-F1. The largest is 1.

    A class weighs its share to the power ``-p``. With p = 0 the likeliest class wins, which on step labels is nearly
    always "positive". With p = 1 the class wins whose probability rises most above its share. One number p is chosen,
    on predictions for rows that the model has not seen. A tie takes the smaller p. ``y`` holds columns of ``proba``.
    """
    shares = np.bincount(y, weights=sample_weight, minlength=proba.shape[1])
    shares = np.maximum(shares / shares.max(), 1e-12)
    scores = [
        f1_score(
            y, (proba * shares**-power).argmax(axis=1), average="macro", sample_weight=sample_weight, zero_division=0
        )
        for power in _POWERS
    ]
    weights: np.ndarray = shares ** -_POWERS[int(np.argmax(np.round(scores, 6)))]
    return weights


def most_probable(classes: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Return the class of the largest number in each row, (n_rows, n_classes). A row of NaN raises ValueError.

    >>> most_probable(np.array(["bad", "good"]), np.array([[0.9, 0.1], [0.2, 0.8]])).tolist()
    ['bad', 'good']
    """
    if lost := int(np.isnan(proba).any(axis=1).sum()):
        raise ValueError(
            f"{lost} of {len(proba)} steps have no probabilities (NaN), for they do not fit into the model: they have "
            "no class. Leave them out, or raise max_length if the model has room"
        )
    labels: np.ndarray = classes[proba.argmax(axis=1)]
    return labels
