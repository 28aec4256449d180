"""A data set in parts that share no problem: to learn from, to calibrate on, to test on."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from prmkit.data._dataset import StepDataset
from prmkit.data._problem_keys import problem_keys


def split_by_problem(
    dataset: StepDataset, *shares: float, random_state: int | np.random.Generator | None = None
) -> tuple[StepDataset, ...]:
    """Divide a data set at random into parts that share no problem.

    Parameters
    ----------
    dataset : StepDataset
    *shares : float
        Of the problems, one per part; positive, with a sum of 1.
    random_state : int, Generator or None, default=None

    Returns
    -------
    tuple of StepDataset
        Solutions and rows in their order, with ``first_errors`` and ``rows`` where the data set has them. Problems
        whose texts differ only in case, white space or LaTeX spacing stay together.

    Raises
    ------
    TypeError
        If ``dataset`` is no StepDataset.
    ValueError
        If there are fewer than two shares, they do not add up to 1, or a part would have no problem.

    Examples
    --------
    >>> from prmkit.data import make_arithmetic_solutions
    >>> data = make_arithmetic_solutions(10, 3, random_state=0)
    >>> train, calibration, test = split_by_problem(data, 0.6, 0.2, 0.2, random_state=0)
    >>> [len(part.solutions) for part in (train, calibration, test)]
    [18, 6, 6]
    """
    if not isinstance(dataset, StepDataset):
        raise TypeError(f"dataset is {type(dataset).__name__}, expected StepDataset, as loaders return it")
    numbers = all(isinstance(share, Real) for share in shares)
    if len(shares) < 2 or not numbers or not min(shares) > 0 or not abs(sum(shares) - 1) <= 1e-9:
        raise ValueError(f"shares are {shares}, expected two or more that add up to 1: 0.6, 0.2, 0.2")
    keys = problem_keys(dataset.solutions)
    distinct, problems = np.unique(keys, return_inverse=True)
    ends = np.round(np.cumsum(shares) * len(distinct)).astype(int)
    if (np.diff(ends, prepend=0) < 1).any():
        raise ValueError(f"{len(distinct)} problems are too few for parts of {shares}: one would be empty")
    place = np.random.default_rng(random_state).permutation(len(distinct))
    part_of_solution = np.searchsorted(ends, place[problems], side="right")
    position = {solution: i for i, solution in enumerate(dataset.solutions)}
    part_of_row = part_of_solution[[position[step.solution] for step in dataset.X]]
    return tuple(_part(dataset, part_of_row == i, part_of_solution == i) for i in range(len(shares)))


def _part(dataset: StepDataset, rows: np.ndarray, solutions: np.ndarray) -> StepDataset:
    def kept(values: Any) -> list[Any]:
        return [values[i] for i in np.flatnonzero(solutions)]

    return StepDataset(
        [dataset.X[i] for i in np.flatnonzero(rows)],
        dataset.y[rows],
        groups=dataset.groups[rows],
        solutions=kept(dataset.solutions),
        description=dataset.description,
        first_errors=None if dataset.first_errors is None else kept(dataset.first_errors),
        rows={name: column[rows] for name, column in dataset.rows.items()},
    )
