"""Splits that keep all steps of a problem on one side, because they look alike. They read the problems from X.

scikit-learn cannot hand ``groups`` to the splitter inside ``CalibratedClassifierCV`` or ``StackingClassifier``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from numbers import Number
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold

from prmkit.data.dataset import StepDataset
from prmkit.data.problem_keys import problem_groups
from prmkit.data.solution import Solution, Step

Split: TypeAlias = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]
RandomState: TypeAlias = int | np.random.RandomState | None


def split_by_problem(
    dataset: StepDataset, *shares: float, random_state: int | np.random.Generator | None = None
) -> tuple[StepDataset, ...]:
    """Divide a data set at random into parts that share no problem, as its method ``split_by_problem`` does.

    Parameters
    ----------
    dataset : StepDataset
        Data set to divide.
    *shares : float
        Share of the problems for each part. Shares are positive and add up to 1.
    random_state : int, Generator or None, default=None
        Seed of the random order of problems. An int gives the same parts on each call.

    Returns
    -------
    tuple of StepDataset
        One data set per share, as the method returns them.

    Raises
    ------
    TypeError, ValueError
        If ``dataset`` is no StepDataset, or the method refuses the shares.

    Examples
    --------
    >>> from prmkit.data import make_arithmetic_solutions
    >>> data = make_arithmetic_solutions(10, 3, random_state=0)
    >>> train, test = split_by_problem(data, 0.8, 0.2, random_state=0)
    >>> len(train.solutions), len(test.solutions)
    (24, 6)
    """
    if not isinstance(dataset, StepDataset):
        raise TypeError(f"dataset is {type(dataset).__name__}, expected StepDataset, as loaders return it")
    return dataset.split_by_problem(*shares, random_state=random_state)


class _ByProblem:
    """The ``split`` of both splitters."""

    n_splits: int

    def split(
        self,
        X: Iterable[Step | str] | Iterable[Solution] | npt.ArrayLike,
        y: npt.ArrayLike | None = None,
        groups: npt.ArrayLike | None = None,
    ) -> Iterator[Split]:
        """Yield the rows to train on and the rows to test on.

        Parameters
        ----------
        X : 1-D array-like of Step or of Solution, shape (n_rows,)
            Steps, or whole solutions, to split. Numbers of shape (n_steps, n_features) need ``groups``.
        y : array-like of shape (n_rows,), optional
            Labels to balance over the folds. `ProblemShuffleSplit` does not need them.
        groups : array-like of shape (n_rows,), optional
            Group of each row, to use in place of the problems of X.

        Returns
        -------
        iterator of (train, test)
            Two integer arrays of row numbers for each split.

        Raises
        ------
        ValueError
            If there are fewer problems than folds, folds lack ``y``, or X holds numbers and ``groups`` is missing.
        """
        if not isinstance(self, StratifiedGroupKFold):
            groups = _groups(X, groups, at_least=2, needed_for="a train and a test part")
        elif y is not None:
            groups = _groups(X, groups, at_least=self.n_splits, needed_for=f"n_splits={self.n_splits}")
        else:
            raise ValueError(
                "y is None: StratifiedProblemKFold balances labels, call split(X, y). "
                "ProblemShuffleSplit splits without them."
            )
        splits: Iterator[Split] = super().split(X, y, groups)  # type: ignore[misc]
        return splits


class StratifiedProblemKFold(_ByProblem, StratifiedGroupKFold):
    """Folds with about equal shares of each label, where no problem is in two folds.

    Use it in place of ``cv=5`` wherever scikit-learn accepts a splitter.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=False
        Whether to shuffle the problems before they are dealt out.
    random_state : int, RandomState or None, default=None
        Seed of the shuffle. An int gives the same folds on each call.

    Examples
    --------
    >>> from prmkit.data import Solution, flatten
    >>> X = flatten([Solution(problem, ["a", "b"]) for problem in "pqpr"])
    >>> y = [1, -1] * 4
    >>> for train, test in StratifiedProblemKFold(n_splits=3).split(X, y):
    ...     print(sorted({X[i].problem for i in train}), sorted({X[i].problem for i in test}))
    ['q', 'r'] ['p']
    ['p', 'r'] ['q']
    ['p', 'q'] ['r']
    """

    def __init__(self, n_splits: int = 5, *, shuffle: bool = False, random_state: RandomState = None) -> None:
        super().__init__(n_splits=n_splits, shuffle=shuffle, random_state=random_state)


class ProblemShuffleSplit(_ByProblem, GroupShuffleSplit):
    """Random train and test parts that share no problem.

    Parameters
    ----------
    n_splits : int, default=10
        Number of random splits.
    test_size : float or int, default=None
        Share or number of *problems*, not of steps, to test on. By default those that ``train_size`` leaves, or 0.2.
    train_size : float or int, default=None
        Share or number of problems to train on. By default those that ``test_size`` leaves.
    random_state : int, RandomState or None, default=None
        Seed of the splits. An int gives the same splits on each call.

    Examples
    --------
    >>> from prmkit.data import Solution, flatten
    >>> X = flatten([Solution(problem, ["a", "b"]) for problem in "pqpr"])
    >>> train, test = next(ProblemShuffleSplit(n_splits=1, test_size=1, random_state=0).split(X))
    >>> {X[i].problem for i in train} & {X[i].problem for i in test}
    set()
    """

    def __init__(
        self,
        n_splits: int = 10,
        *,
        test_size: float | None = None,
        train_size: float | None = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(n_splits=n_splits, test_size=test_size, train_size=train_size, random_state=random_state)


def _groups(X: Any, groups: npt.ArrayLike | None, at_least: int, needed_for: str) -> npt.ArrayLike:
    """Return ``groups``, or one per row read from X, and check that there are enough of them."""
    source = "groups" if groups is not None else "X"
    if groups is None:
        if holds_numbers(X):
            raise ValueError(
                "X holds numbers, which name no problem, and groups is None: pass groups=, one value per "
                "row, such as problem_groups(steps) of the steps that the rows were computed from"
            )
        groups = problem_groups(X)
    n_problems = len(np.unique(np.asarray(groups)))
    if n_problems < at_least:
        raise ValueError(
            f"{source} has {n_problems} distinct problem{'s' * (n_problems != 1)}, expected at least "
            f"{at_least} for {needed_for}: steps of one problem are never split. Pass more problems"
            + (f", or n_splits={n_problems}." if n_problems > 1 else ".")
        )
    return groups


def holds_numbers(X: object) -> bool:
    """Return whether X is a table of numbers, rather than a list of steps."""
    if getattr(X, "ndim", 1) == 2:
        return True
    # A whole data set is refused by the reader of steps, in its own words.
    if hasattr(X, "solutions"):
        return False
    first = next(iter(X), None) if isinstance(X, Iterable) else None
    return isinstance(first, (Number, list, tuple, np.ndarray))
