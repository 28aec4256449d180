"""How every path-level estimator reads its input: solutions with a classifier, or arrays of risks without one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from prmkit.data.problem_keys import problem_keys
from prmkit.data.sampled import HOW_TO_KNOW, Candidates
from prmkit.data.solution import Solution, Step, as_solutions
from prmkit.fitted import FittedClassifier
from prmkit.metrics.calibration.calibration import from_objects
from prmkit.metrics.solutions.aggregation import ragged_scores
from prmkit.metrics.solutions.first_errors import check_first_errors
from prmkit.scoring.incremental import IncrementalScorer
from prmkit.scoring.scored_solution import ScoredSolution
from prmkit.scoring.scoring import checked, step_risks
from prmkit.utils.ragged import Ragged

Steps: TypeAlias = Sequence[Step] | npt.ArrayLike
"""Steps in one dimension, or rows of numbers for a classifier of numbers."""
PathsInput: TypeAlias = (
    Iterable[Solution] | Iterable[ScoredSolution] | Iterable[IncrementalScorer] | Iterable[npt.ArrayLike] | Candidates
)
"""Solutions, scorers of solutions that grow, or one number or array of numbers per path."""
FirstErrors: TypeAlias = npt.ArrayLike | Sequence[int | None] | None
"""0-based index of the first wrong step per path, -1 for none: also as ``StepDataset.first_errors`` is typed."""
Errors: TypeAlias = npt.ArrayLike | Sequence[bool | None]
"""Whether each path is wrong."""


class StepClassifier(FittedClassifier, Protocol):
    """A classifier over steps, fitted or not, such as ``PRMClassifier`` or a ``Pipeline``."""

    def fit(self, X: Any, y: Any, /) -> Any:
        """Learn from labelled steps."""


@dataclass(frozen=True)
class Paths:
    """The step risks of several paths, a row per path, and their problems. A step without a score has the risk NaN.

    ``units`` numbers the unit of each path from 0: its problem if that is known, otherwise the path itself. ``keys``
    (uint64) are keys of the problems, by which the same problem is found on two sides. They are empty if no problem
    is known. With ``are_scores`` each path has one number, a risk of the whole path that need not be a probability.
    """

    risks: Ragged
    units: np.ndarray
    keys: np.ndarray
    are_scores: bool = False

    @property
    def lengths(self) -> np.ndarray:
        """Number of steps of each path."""
        return self.risks.lengths

    @property
    def n_units(self) -> int:
        """Number of problems, or of paths if no problem is known."""
        return int(self.units.max(initial=-1)) + 1


def read_paths(
    classifier: FittedClassifier | None, X: PathsInput, groups: npt.ArrayLike | None = None, *, scores: bool = False
) -> Paths:
    """Return the step risks of solutions, or of arrays of risks if there is no classifier, and their problems.

    With ``scores`` X may also hold one number per path, if there is no classifier. A ``PathClassifier`` gives the
    probability that a whole solution is wrong.
    """
    if getattr(classifier, "scores_paths", False):
        return _read_samples(classifier, X, groups)
    paths: Any = X
    if not hasattr(paths, "__len__") and not hasattr(paths, "solutions") and hasattr(paths, "__iter__"):
        paths = list(paths)
    by_problem = None
    if classifier is None and scores and (numbers := _numbers_of_paths(paths)) is not None:
        risks = Ragged(numbers, np.ones(len(numbers), dtype=np.int64))
        return Paths(risks, *units_and_keys(len(risks), None, groups, "path"), are_scores=True)
    if classifier is None:
        _refuse_solutions(paths)
        risks = ragged_scores(_as_list(paths), True)
    else:
        check_is_fitted(classifier)
        values, lengths, solutions = _risks_of(classifier, paths)
        risks = Ragged(values, lengths)
        by_problem = problem_keys(solutions)
    units, keys = units_and_keys(len(risks), by_problem, groups, "path")
    return Paths(risks, units, keys)


def _risks_of(classifier: FittedClassifier, paths: Any) -> tuple[np.ndarray, np.ndarray, list[Solution]]:
    """Return what ``step_risks`` does. Scorers of solutions that grow know their risks so far."""
    if not any(isinstance(path, IncrementalScorer) for path in as_solutions(paths)):
        # Scored solutions are scored again, because nothing tells whether this classifier scored them.
        return step_risks(classifier, unscored(paths))
    _, order = checked(classifier, [], None)
    for i, path in enumerate(paths):
        if not isinstance(path, IncrementalScorer) or path.classifier is not classifier or path.label_order != order:
            raise ValueError(
                f"X[{i}] is {path!r:.200}, and X holds scorers of solutions that grow: all of them must be made by the "
                "classifier of this estimator, estimator.classifier.incremental(problem)"
            )
    scored = [path.scored() for path in paths]
    lengths = np.array([one.solution.n_steps for one in scored], dtype=np.int64)
    return np.concatenate([one.risks for one in scored]), lengths, [one.solution for one in scored]


def read_first_errors(first_errors: FirstErrors, paths: Paths) -> np.ndarray:
    """Return the first error of each path, -1 if there is none."""
    if first_errors is None:
        raise ValueError(
            "first_errors is None, expected one number per path: the 0-based index of its first wrong step, or -1 if "
            "no step is wrong. If it is dataset.first_errors, the data set has no labels of whole solutions: pass "
            "first_errors=[…]. Where only right or wrong is known, most guarantees take errors=[…]"
        )
    labels: Any = first_errors
    return check_first_errors(labels, paths.lengths)


def read_errors(errors: Errors, n: int) -> np.ndarray:
    """Return whether each path is wrong, as booleans."""
    values = from_objects(np.asarray(errors))
    if values.shape != (n,):
        raise ValueError(f"errors has shape {values.shape}, expected one value for each of the {n} paths")
    if not n:
        raise ValueError("X is empty: at least 1 path is required")
    if values.dtype.kind in "biuf" and np.isin(values, (0, 1)).all():
        return values.astype(bool)
    plain = values.tolist()
    i = next(i for i, value in enumerate(plain) if not isinstance(value, (bool, int, float)) or value not in (0, 1))
    raise ValueError(
        f"errors[{i}] is {plain[i]!r}, expected True (wrong) or False (right) for each path: leave out paths of which "
        f"neither is known ({HOW_TO_KNOW}), and pass indices of first errors as first_errors=[…]"
    )


def unscored(X: Any) -> list[Any]:
    """Return paths as a list, scored solutions without their scores."""
    return [path.solution if isinstance(path, ScoredSolution) else path for path in as_solutions(X)]


def units_and_keys(
    n: int, by_problem: np.ndarray | None, groups: npt.ArrayLike | None, kind: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the unit of each row as 0..n_units-1, and the keys by which its problem is recognised.

    ``by_problem`` holds keys of the texts of the problems, if there are texts. ``kind`` is the name of a row in
    errors.
    """
    keys, units = np.empty(0, dtype=np.uint64), np.arange(n)
    if by_problem is not None:
        keys, units = np.unique(by_problem, return_inverse=True)
    if groups is None:
        return units, keys
    names, numbers = np.unique(check_groups(groups, n, kind), return_inverse=True)
    n_split = 0 if by_problem is None else len(np.unique(units * len(names) + numbers)) - len(keys)
    if n_split:
        raise ValueError(
            f"groups puts the {kind}s of one problem into several groups ({n_split} more than there are problems): "
            "they are not independent. Give every problem one group, or leave groups out"
        )
    # The keys of the texts stay beside those of the groups: a later call may know only one of the two.
    return numbers, np.union1d(keys, group_keys(names))


def check_groups(groups: npt.ArrayLike, n: int, kind: str) -> np.ndarray:
    """Return the names of problems as integers or strings, of shape (n,). The name 1.0 becomes 1."""
    names = np.asarray(groups)
    if names.shape != (n,):
        raise ValueError(f"groups has shape {names.shape}, expected one problem for each {kind}: ({n},)")
    if names.dtype.kind in "iuUS":
        return names
    values = [int(name) if isinstance(name, float) and name.is_integer() else name for name in names.tolist()]
    if missing := [i for i, name in enumerate(values) if name is None or name != name]:
        raise ValueError(
            f"groups[{missing[0]}] is {values[missing[0]]} ({len(missing)} such): every {kind} needs the name of its "
            "problem"
        )
    return np.array([str(name) for name in values])


def group_keys(names: np.ndarray) -> np.ndarray:
    """Return the key of each problem that the user named, of dtype uint64. Names are not normalised."""
    digests = (hashlib.sha256(f"group {name}".encode("utf-8", "surrogatepass")) for name in names.tolist())
    return np.array([int.from_bytes(digest.digest()[:8], "big") for digest in digests], dtype=np.uint64)


def _read_samples(classifier: Any, X: Any, groups: npt.ArrayLike | None) -> Paths:
    """Return what a classifier of whole solutions says of them, NaN for those that lack a feature."""
    samples = X if isinstance(X, Candidates) else unscored(X)
    risks = classifier.predict_proba(samples, groups)[:, list(classifier.classes_).index(False)]
    by_problem = problem_keys(samples.solutions if isinstance(samples, Candidates) else samples)
    units, keys = units_and_keys(len(risks), by_problem, groups, "path")
    return Paths(Ragged(risks, np.ones(len(risks), dtype=np.int64)), units, keys, are_scores=True)


def _numbers_of_paths(X: Any) -> np.ndarray | None:
    """Return one number per path, NaN where there is none, or None if X holds something else."""
    if isinstance(X, np.ndarray) and X.dtype != object:
        is_flat = X.ndim == 1 and X.dtype.kind in "biuf"
    else:
        is_flat = hasattr(X, "__iter__") and all(value is None or isinstance(value, Real) for value in X)
    # Infinite thresholds mean "all" and "none", so no score is infinite itself.
    largest = np.finfo(np.float64).max
    return np.clip(np.asarray(X, dtype=np.float64), -largest, largest) if is_flat else None


def _as_list(X: Any) -> list[Any]:
    """Return arrays of risks as a list."""
    if isinstance(X, np.ndarray) and X.dtype != object and X.ndim != 2:
        raise ValueError(f"X has shape {X.shape}, expected a list of 1-D arrays, one per path: [risks]")
    return list(X) if np.iterable(X) else X


def _refuse_solutions(X: Any) -> None:
    """Raise if solutions are passed where there is no classifier to score them."""
    first = next(iter(X), None) if np.iterable(X) else X
    if hasattr(X, "solutions"):
        raise TypeError("X is a whole data set, and classifier is None: pass a fitted classifier and dataset.solutions")
    if isinstance(first, (Solution, ScoredSolution, IncrementalScorer)) or isinstance(X, Solution):
        raise TypeError("X holds solutions, and classifier is None: pass a fitted classifier, or arrays of step risks")
