"""What every path-level estimator reads: solutions with a fitted classifier, or arrays of risks without one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from prmkit.data.problem_keys import problem_keys
from prmkit.data.solution import Solution, as_solutions
from prmkit.metrics.solutions.aggregation import concatenate_paths
from prmkit.scoring.scored_solution import ScoredSolution
from prmkit.scoring.scoring import step_risks


@dataclass(frozen=True)
class Paths:
    """The step risks of several paths, end to end, and what each path belongs to.

    Parameters
    ----------
    risks : ndarray of shape (n_steps_in_all,)
    lengths : ndarray of shape (n_paths,)
    units : ndarray of shape (n_paths,)
        The unit of each path as 0..n_units-1: its problem where that is known, else the path itself.
    keys : ndarray of uint64, shape (n_keys,)
        Keys of the problems, by which the same problem on two sides is found; empty where none is known.
    """

    risks: np.ndarray
    lengths: np.ndarray
    units: np.ndarray
    keys: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """Where each path begins in ``risks``."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def n_units(self) -> int:
        """Number of problems (or paths)."""
        return int(self.units.max(initial=-1)) + 1

    @property
    def path_of_step(self) -> np.ndarray:
        """The path of each step, shape (n_steps_in_all,)."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def place(self) -> np.ndarray:
        """The 0-based index of each step in its path, shape (n_steps_in_all,)."""
        return np.arange(len(self.risks)) - np.repeat(self.starts, self.lengths)


def read_paths(classifier: Any, X: Any, groups: Any = None) -> Paths:
    """Read the step risks of paths.

    Parameters
    ----------
    classifier : fitted classifier over steps, or None
    X : list of Solution, or, without a classifier, of 1-D arrays of step risks
    groups : array-like of shape (n_paths,), optional
        The problem of each path. None: solutions say it themselves; each array is a problem of its own.

    Raises
    ------
    TypeError, ValueError
        If X is not what the classifier (or its absence) asks for, a path has no steps, a risk is no
        probability, or groups has another length.
    """
    if not hasattr(X, "__len__") and not hasattr(X, "solutions") and hasattr(X, "__iter__"):
        X = list(X)
    by_problem = None
    if classifier is None:
        _refuse_solutions(X)
        risks, lengths = concatenate_paths(_as_list(X), True)
    else:
        check_is_fitted(classifier)
        # Scored ones are scored again: nothing tells whether this classifier did it.
        found = [one.solution if isinstance(one, ScoredSolution) else one for one in as_solutions(X)]
        risks, lengths, found = step_risks(classifier, found)
        by_problem = problem_keys(found)
    units, keys = units_and_keys(len(lengths), by_problem, groups, "path")
    return Paths(risks, lengths, units, keys)


def units_and_keys(
    n: int, by_problem: np.ndarray | None, groups: Any, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the unit of each row as 0..n_units-1, and the keys by which its problem is known again.

    Parameters
    ----------
    n : int
        Number of rows.
    by_problem : ndarray of uint64 of shape (n,), or None
        Keys of the problem texts, where there are texts.
    groups : array-like of shape (n,), or None
        The problem of each row, as the user names it.
    what : str
        What a row is, for the error.

    Raises
    ------
    ValueError
        If groups has another length, or parts a problem into several.
    """
    keys, units = np.empty(0, dtype=np.uint64), np.arange(n)
    if by_problem is not None:
        keys, units = np.unique(by_problem, return_inverse=True)
    if groups is None:
        return units, keys
    named, numbers = np.unique(check_groups(groups, n, what), return_inverse=True)
    parted = 0 if by_problem is None else len(np.unique(units * len(named) + numbers)) - len(keys)
    if parted:
        raise ValueError(
            f"groups puts the {what}s of one problem into several groups ({parted} more than there are problems): "
            "they are not independent; give every problem one group, or leave groups out"
        )
    # Beside the texts, not in their place: later calls may know one of the two only.
    return numbers, np.union1d(keys, group_keys(named))


def check_groups(groups: Any, n: int, what: str) -> np.ndarray:
    """Return the names of problems as integers or strings, of shape (n,); 1.0 is 1.

    Raises
    ------
    ValueError
        For another length, or a name that is missing (None, NaN).
    """
    names = np.asarray(groups)
    if names.shape != (n,):
        raise ValueError(f"groups has shape {names.shape}, expected one problem for each {what}: ({n},)")
    if names.dtype.kind in "iuUS":
        return names
    values = [int(name) if isinstance(name, float) and name.is_integer() else name for name in names.tolist()]
    if missing := [i for i, name in enumerate(values) if name is None or name != name]:
        raise ValueError(
            f"groups[{missing[0]}] is {values[missing[0]]} ({len(missing)} such): every {what} needs the name of its "
            "problem"
        )
    return np.array([str(name) for name in values])


def group_keys(named: np.ndarray) -> np.ndarray:
    """Return the key of each problem that the user named, of dtype uint64; names are taken as they are."""
    names = [f"group {name}".encode("utf-8", "surrogatepass") for name in named.tolist()]
    digests = [int.from_bytes(hashlib.sha256(name).digest()[:8], "big") for name in names]
    return np.array(digests, dtype=np.uint64)


def refuse_shared_problems(keys: np.ndarray, seen: np.ndarray | None, what: str) -> None:
    """Raise where problems are also among those that were ``seen``.

    Parameters
    ----------
    keys, seen : ndarray of uint64, or None where not known
    what : str
        What saw them, as "the classifier was trained on".

    Raises
    ------
    ValueError
        Saying how many.
    """
    if seen is None or not len(seen) or not len(keys):
        return
    shared = int(np.isin(np.unique(keys), seen).sum())
    if shared:
        raise ValueError(
            f"{shared} of {len(np.unique(keys))} problems are also among those that {what}: numbers on them say "
            "nothing about new problems, and no guarantee holds. Leave them out here; split_by_problem(dataset, …) "
            "makes parts that share none"
        )


def _as_list(X: Any) -> Sequence[Any]:
    if isinstance(X, np.ndarray) and X.dtype != object and X.ndim != 2:
        raise ValueError(f"X has shape {X.shape}, expected a list of 1-D arrays, one per path: [risks]")
    return list(X)


def _refuse_solutions(X: Any) -> None:
    first = next(iter(X), None) if hasattr(X, "__iter__") else X
    if hasattr(X, "solutions"):
        raise TypeError(
            "X is a whole data set, and classifier is None: pass a fitted classifier and dataset.solutions"
        )
    if isinstance(first, (Solution, ScoredSolution)) or isinstance(X, Solution):
        raise TypeError(
            "X holds solutions, and classifier is None: pass a fitted classifier, or arrays of step risks"
        )
