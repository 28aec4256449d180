"""The types that this room asks of others: fitted classifiers, and lists of solutions or of step risks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from prmkit.data.solution import Solution, Step

if TYPE_CHECKING:
    from prmkit.scoring import ScoredSolution

Steps: TypeAlias = "Sequence[Step] | npt.ArrayLike"
"""Steps in one dimension, or rows of numbers for a classifier of numbers."""
Paths: TypeAlias = "Iterable[Solution] | Iterable[ScoredSolution] | Iterable[npt.ArrayLike]"
"""Solutions, or one array of numbers per path."""


class StepClassifier(Protocol):
    """A classifier over steps, such as ``PRMClassifier`` or a ``Pipeline`` that ends in a classifier."""

    @property
    def classes_(self) -> np.ndarray:
        """Labels of the columns of ``predict_proba``, once it is fitted."""

    def fit(self, X: Any, y: Any, /) -> Any:
        """Learn from labelled steps."""

    def predict_proba(self, X: Any, /) -> np.ndarray:
        """Return the probability of each class for each step, of shape (n_steps, n_classes)."""


class GivesPValues(Protocol):
    """A calibrated detector of unusual solutions, such as ``MahalanobisShift``."""

    def p_value(self, solutions: Iterable[Solution], /) -> np.ndarray:
        """Return how rare each solution is, of shape (n_paths,)."""
