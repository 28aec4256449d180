"""What a head reads of X, apart from the head: several heads can then share one pass over the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from prmkit.data.solution import problem_groups
from prmkit.features.sequences import StepSequences
from prmkit.utils.sklearn import fit_weighted, safe_indexing


@dataclass(frozen=True)
class StepViews:
    """Rows of the same steps in several views: what a blend reads.

    Parameters
    ----------
    rows : dict of str to matrix of shape (n_steps, n_features)
        Dense or sparse, by the name of the view.
    problems : ndarray of int of shape (n_steps,)
        Equal for steps of one problem.
    """

    rows: dict[str, Any]
    problems: np.ndarray

    def take(self, chosen: Any) -> StepViews:
        """Return the chosen rows of every view."""
        return StepViews({name: rows[chosen] for name, rows in self.rows.items()}, self.problems[chosen])


def learn_input(featurizer: Any, head: Any, X: Any, y: np.ndarray, groups: Any = None) -> tuple[Any, Any]:
    """Fit what stands before the head, and return what the head learns from.

    Parameters
    ----------
    featurizer : unfitted transformer, or None where the head reads X
    head : unfitted classifier
        Its own views are fitted where it has such.
    X, y : the rows of ``fit``, checked
    groups : array-like of shape (n_steps,), optional
        The solution of each row of numbers.

    Returns
    -------
    rows : StepSequences, StepViews, matrix or X itself
    groups : ndarray of shape (n_steps,), or None
        What keeps rows together in a head that sets some apart: the given groups, or the problems.
    """
    if hasattr(head, "fit_views"):
        return head.fit_views(X, y), groups
    if featurizer is not None:
        featurizer.fit(X, y)
    rows = head_input(featurizer, head, X, groups)
    if featurizer is not None and hasattr(head, "fit_sequences"):
        groups = problem_groups(X)
    return rows, groups


def head_input(featurizer: Any, head: Any, X: Any, groups: Any = None) -> Any:
    """Return what a head reads of X, by fitted parts: one pass over the text."""
    if hasattr(head, "read_views"):
        return head.read_views(X)
    if getattr(head, "reads_sequences", False):
        if featurizer is None:
            return StepSequences.from_rows(X, groups)
        return StepSequences.from_steps(featurizer, X)
    return X if featurizer is None else featurizer.transform(X)


def take_rows(rows: Any, chosen: np.ndarray) -> tuple[Any, np.ndarray]:
    """Return the part of ``rows`` that answers the chosen rows of X, and the row of X that each of its rows is.

    Of sequences whole ones are taken, once each: choose all rows of a problem or none.
    """
    if isinstance(rows, StepSequences):
        return rows.take(np.unique(rows.owners[chosen]))
    if isinstance(rows, StepViews):
        return rows.take(chosen), chosen
    return safe_indexing(rows, chosen), chosen


def fit_head(head: Any, rows: Any, y: np.ndarray, sample_weight: Any = None, groups: Any = None) -> Any:
    """Fit a head and return it; None becomes logistic regression on standardised columns.

    Raises
    ------
    ValueError
        If there are weights or groups, and the head takes none.
    """
    if isinstance(rows, StepSequences):
        head.fit_sequences(rows, y, sample_weight)
        return head
    if isinstance(rows, StepViews):
        return head.fit_on_views(rows, y, sample_weight)
    if head is None:
        scaler = StandardScaler(with_mean=not issparse(rows))
        head = make_pipeline(scaler, LogisticRegression(max_iter=1000))
    if hasattr(head, "fit_sequences"):  # a torch head on rows: its validation part is cut by problem
        head.fit(rows, y, sample_weight, groups=groups)
    elif groups is not None:
        raise ValueError(f"groups has no meaning for {type(head).__name__}: it scores each row by itself")
    else:
        fit_weighted(head, rows, y, sample_weight)
    return head


def head_proba(head: Any, rows: Any) -> np.ndarray:
    """Probability of each class, from what ``head_input`` read."""
    if isinstance(rows, StepSequences):
        return head.predict_proba_sequences(rows)
    if isinstance(rows, StepViews):
        return head.predict_proba_views(rows)
    return head.predict_proba(rows)
