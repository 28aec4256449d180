"""Members of an ensemble read the text once: one featurizer for all, and a head for each."""

from __future__ import annotations

from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from prmkit.classifier import PRMClassifier
from prmkit.models.heads.head import Head, fit_head, read_rows, take_rows


def fit_members(
    members: list[Any], X: Any, y: np.ndarray, draws: list[np.ndarray | None], groups: Any, n_jobs: int | None
) -> list[Any]:
    """Fit members of one kind, each on the rows drawn for it.

    ``draws`` says how often each row counts for a member, ``None`` that all rows count once. Members that are
    ``PRMClassifier`` share their fitted featurizer, or the views of their default head.
    """
    if not all(type(member) is PRMClassifier for member in members):
        return _fit_parallel(members, X, y, draws, groups, n_jobs)
    for member in members:
        member._validate_params()
        rows_of_X, y = member.begin_fit(X, y)
    first = members[0]
    if first.featurizer_ is not None:
        first.featurizer_.fit(rows_of_X, y)
    own_groups = groups if isinstance(first.head_, Head) else None
    rows = read_rows(first.head_, first.featurizer_, rows_of_X, y, own_groups)
    # Copies without the views that reading has fitted: they would travel to the workers and back with every head.
    heads = [None if member.head_ is None else clone(member.head_) for member in members]
    heads = _fit_parallel(heads, rows, y, draws, None, n_jobs)
    for member, head in zip(members, heads, strict=True):
        if isinstance(head, Head):
            head.share_reading(first.head_)
        member.head_ = head
    share_parts(members)
    return members


def share_parts(members: list[Any]) -> None:
    """Make all members use the fitted parts of the first one. Theirs are equal, for example after loading."""
    if not all(type(member) is PRMClassifier for member in members):
        return
    for member in members[1:]:
        member.featurizer_ = members[0].featurizer_
        if isinstance(member.head_, Head):
            member.head_.share_reading(members[0].head_)


def stacked_proba(members: list[Any], X: Any, groups: Any = None) -> np.ndarray:
    """Return the probabilities of each fitted member, of shape (n_members, n_steps, n_classes)."""
    if not all(_reads_alike(member, members[0]) for member in members):
        options = {} if groups is None else {"groups": groups}
        return np.stack([member.predict_proba(X, **options) for member in members])
    rows = members[0].read(X, groups)
    return np.stack([member.head_.predict_proba(rows) for member in members])


def _reads_alike(member: Any, first: Any) -> bool:
    """Return whether a member reads its rows with the same fitted parts as the first one."""
    if type(member) is not PRMClassifier or member.featurizer_ is not first.featurizer_:
        return False
    return not isinstance(member.head_, Head) or member.head_.reads_like(first.head_)


def _fit_parallel(
    heads: list[Any],
    rows: Any,
    y: np.ndarray,
    draws: list[np.ndarray | None],
    groups: Any,
    n_jobs: int | None,
) -> list[Any]:
    """Fit each head on its draw, in processes of their own."""
    tasks = (
        delayed(_fit_drawn)(head, rows, y, draw, groups) for head, draw in zip(heads, draws, strict=True)
    )
    return list(Parallel(n_jobs=n_jobs)(tasks))


def _fit_drawn(head: Any, rows: Any, y: np.ndarray, draw: np.ndarray | None, groups: Any) -> Any:
    """Fit on the drawn rows: with the number of draws as weight, or repeated if the head takes no weights."""
    if draw is None:
        return _fit(head, rows, y, None, groups)
    weighted = _takes_weights(head)
    chosen = np.flatnonzero(draw) if weighted else np.repeat(np.arange(len(y)), draw)
    part, origin = take_rows(rows, chosen)
    weight = draw[origin].astype(np.float64) if weighted else None
    return _fit(head, part, y[origin], weight, None if groups is None else np.asarray(groups)[origin])


def _fit(head: Any, rows: Any, y: np.ndarray, weight: np.ndarray | None, groups: Any) -> Any:
    """Fit a head, or a whole member that is no PRMClassifier. Only torch heads take groups."""
    if groups is None or not isinstance(head, Head):
        return fit_head(head, rows, y, weight)
    torch_head: Any = head
    return torch_head.fit(rows, y, weight, groups)


def _takes_weights(head: Any) -> bool:
    """Return whether the head, or the last step of a pipeline, takes ``sample_weight``."""
    last = head.steps[-1][1] if isinstance(head, Pipeline) else head
    return last is None or has_fit_parameter(last, "sample_weight")
