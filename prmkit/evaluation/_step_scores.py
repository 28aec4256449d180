"""What a model says of steps, and no more than the tables need: P(wrong), and P(neutral) where it knows that class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prmkit.data import Solution, flatten
from prmkit.metrics._score_solutions import score_solutions


@dataclass(frozen=True, eq=False)
class StepScores:
    """Scores of the steps of a benchmark, all solutions end to end.

    Parameters
    ----------
    risks : ndarray of shape (n_steps,)
        P(step is wrong); NaN where a model could not read the step; no table gets such.
    neutral : ndarray of shape (n_steps,), optional
        P(step is neutral), of models with three classes.
    """

    risks: np.ndarray
    neutral: np.ndarray | None = None

    @property
    def rewards(self) -> np.ndarray:
        """``1 - risks``; higher is better."""
        return 1.0 - self.risks

    def rows(self, kept: np.ndarray) -> StepScores:
        """Return the steps where ``kept`` is True."""
        return StepScores(self.risks[kept], None if self.neutral is None else self.neutral[kept])

    def paths(self, lengths: np.ndarray) -> list[np.ndarray]:
        """Return the rewards of each solution."""
        return np.split(self.rewards, np.cumsum(lengths)[:-1])


def score_steps(classifier: Any, solutions: Sequence[Solution]) -> StepScores:
    """Score solutions with a fitted classifier; a row of NaN is a step that it could not read.

    Errors as :func:`prmkit.metrics.score_solutions`.
    """
    proba = np.array(classifier.predict_proba(flatten(solutions)), dtype=np.float64)
    unread = np.flatnonzero(np.isnan(proba).all(axis=1))
    proba[unread] = 1 / proba.shape[1]  # so that all else is checked
    scored = score_solutions(classifier, solutions, proba=proba)
    proba = np.concatenate([one.proba for one in scored])
    proba[unread] = np.nan
    order = scored[0].label_order or ()
    columns = [scored[0].classes.index(label) for label in order]
    return StepScores(proba[:, columns[0]], proba[:, columns[1]] if len(columns) == 3 else None)
