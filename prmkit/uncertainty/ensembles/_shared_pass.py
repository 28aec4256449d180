"""Members of an ensemble read the text once: one featurizer for all, and a head for each."""

from __future__ import annotations

from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from prmkit.classifier import PRMClassifier
from prmkit.models.heads.head_input import fit_head, head_proba, learn_input, take_rows
from prmkit.utils.sklearn import has_fit_parameter


def fit_members(
    members: list[Any], X: Any, y: np.ndarray, draws: list[np.ndarray | None], groups: Any, n_jobs: int | None
) -> list[Any]:
    """Fit members on rows drawn for each.

    Parameters
    ----------
    members : list of unfitted classifiers, alike but for their seeds
    X, y : the rows of ``fit``, checked
    draws : list of ndarray of int of shape (n_rows,), or None
        How often each row counts for a member; None: all rows, once.
    groups : ndarray of shape (n_rows,), or None
        Given to heads that keep rows of one group together.
    n_jobs : int or None
        Of joblib.

    Returns
    -------
    list of fitted classifiers
        Those of ``PRMClassifier`` share their fitted featurizer, or the views of their default head.
    """
    shared = all(type(member) is PRMClassifier for member in members)
    if not shared:
        keeps_groups = groups if hasattr(members[0], "fit_sequences") else None
        return _fit_parallel(members, X, y, draws, keeps_groups, n_jobs)
    for member in members:
        member._validate_params()
        rows_of_X, y = member._begin(X, y, None)
    first = members[0]
    keeps_groups = groups if hasattr(first.head_, "fit_sequences") else None
    rows, keeps_groups = learn_input(first.featurizer_, first.head_, rows_of_X, y, keeps_groups)
    # Copies without the views that learn_input fitted: they would travel to the workers and back with every head.
    heads = [None if member.head_ is None else clone(member.head_) for member in members]
    heads = _fit_parallel(heads, rows, y, draws, keeps_groups, n_jobs)
    views = getattr(first.head_, "views_", None)
    for member, head in zip(members, heads, strict=True):
        member.head_ = head
        if views is not None:
            head.views_ = views
    share_parts(members)
    return members


def share_parts(members: list[Any]) -> None:
    """Let all members read by the first one's fitted parts; equal ones, as after loading."""
    if not all(type(member) is PRMClassifier for member in members):
        return
    for member in members[1:]:
        member.featurizer_ = members[0].featurizer_
        if hasattr(member.head_, "views_"):
            member.head_.views_ = members[0].head_.views_


def stacked_proba(members: list[Any], X: Any, groups: Any = None) -> np.ndarray:
    """Return what each fitted member says, of shape (n_members, n_steps, n_classes)."""
    if not all(_reads_alike(member, members[0]) for member in members):
        options = {} if groups is None else {"groups": groups}
        return np.stack([member.predict_proba(X, **options) for member in members])
    rows = members[0]._read(X, groups)
    return np.stack([head_proba(member.head_, rows) for member in members])


def _reads_alike(member: Any, first: Any) -> bool:
    return (
        type(member) is PRMClassifier
        and member.featurizer_ is first.featurizer_
        and getattr(member.head_, "views_", None) is getattr(first.head_, "views_", None)
    )


def _fit_parallel(
    heads: list[Any],
    rows: Any,
    y: np.ndarray,
    draws: list[np.ndarray | None],
    groups: Any,
    n_jobs: int | None,
) -> list[Any]:
    return Parallel(n_jobs=n_jobs)(
        delayed(_fit_drawn)(head, rows, y, draw, groups) for head, draw in zip(heads, draws, strict=True)
    )


def _fit_drawn(head: Any, rows: Any, y: np.ndarray, draw: np.ndarray | None, groups: Any) -> Any:
    """Fit on the rows drawn: with the number of draws as weight, or repeated where the head takes no weights."""
    if draw is None:
        return fit_head(head, rows, y, None, groups)
    weighted = _takes_weights(head)
    chosen = np.flatnonzero(draw) if weighted else np.repeat(np.arange(len(y)), draw)
    part, origin = take_rows(rows, chosen)
    weight = draw[origin].astype(np.float64) if weighted else None
    return fit_head(head, part, y[origin], weight, None if groups is None else np.asarray(groups)[origin])


def _takes_weights(head: Any) -> bool:
    last = head.steps[-1][1] if isinstance(head, Pipeline) else head
    return last is None or has_fit_parameter(last, "sample_weight")
