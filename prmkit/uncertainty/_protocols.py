"""The types that this room asks of others: fitted classifiers, and lists of solutions or of step risks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from prmkit.data.solution import Solution, Step
from prmkit.fitted import FittedClassifier
from prmkit.scoring import ScoredSolution

Steps: TypeAlias = Sequence[Step] | npt.ArrayLike
"""Steps in one dimension, or rows of numbers for a classifier of numbers."""
PathsInput: TypeAlias = Iterable[Solution] | Iterable[ScoredSolution] | Iterable[npt.ArrayLike]
"""Solutions, or one array of numbers per path."""
FirstErrors: TypeAlias = npt.ArrayLike | Sequence[int | None] | None
"""0-based index of the first wrong step per path, -1 for none: also as ``StepDataset.first_errors`` is typed."""


class StepClassifier(FittedClassifier, Protocol):
    """A classifier over steps, fitted or not, such as ``PRMClassifier`` or a ``Pipeline``."""

    def fit(self, X: Any, y: Any, /) -> Any:
        """Learn from labelled steps."""


class GivesPValues(Protocol):
    """A calibrated detector of unusual solutions, such as ``MahalanobisShift``."""

    def p_value(self, solutions: Iterable[Solution], /) -> np.ndarray:
        """Return how rare each solution is, of shape (n_paths,)."""
