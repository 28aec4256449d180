"""The detector that needs no features, and that every other one must beat."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from prmkit.data.problem_keys import distinct_problem_keys
from prmkit.data.solution import Solution, as_steps, iter_solutions
from prmkit.uncertainty.shift._base import ShiftDetector
from prmkit.utils.sklearn import fit_context


class LengthShift(ShiftDetector):
    """How unusual the length of a path is, in either direction: the baseline among detectors of unlike paths.

    The score of a path is ``|log(characters / usual)| + |log(steps / usual)|``, where the usual ones are medians over
    training paths: 0.69 means that one of the two is off by a factor of 2. Data sets and generators often differ in
    length first of all, and then **this wins** (PRMBench against ProcessBench's MATH: AUROC 0.80, by embeddings 0.72):
    report it beside any other detector, and claim nothing for one that does not beat it.

    Attributes
    ----------
    usual_characters_, usual_steps_ : float
        Medians over the distinct training solutions, each taken whole.
    usual_step_characters_ : float
        Median over training steps.
    training_problems_ : ndarray of uint64
        Keys of the problems that ``fit`` saw.
    n_calibration_ : int
        Number of problems that ``calibrate`` saw.
    calibration_scores_ : ndarray
        Their paths' scores, ascending.

    See Also
    --------
    MahalanobisShift, NeighborShift : detectors that read the steps.

    Examples
    --------
    >>> from prmkit import Solution, flatten
    >>> X = flatten([Solution(f"{i} + 1?", [f"{i} + 1 =", f"{i + 1}"]) for i in range(10, 20)])
    >>> LengthShift().fit(X).score([Solution("30 + 1?", ["30 + 1 =", "31"]), Solution("2?", ["a" * 10] * 4)]).round(2)
    array([0.  , 2.08])
    """

    _parameter_constraints: dict = {}

    @fit_context
    def fit(self, X, y=None):
        """Learn usual lengths.

        Parameters
        ----------
        X : 1-D array-like of Step or str
            A solution counts whole, once, even where only some of its steps are rows.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If X is not a flat list of steps.
        """
        self._forget_calibration()
        steps = as_steps(X)
        self.training_problems_ = distinct_problem_keys(steps)
        sizes = _sizes([solution for solution, _, _ in iter_solutions(steps)])
        self.usual_characters_, self.usual_steps_ = (float(median) for median in np.median(sizes, axis=0))
        self.usual_step_characters_ = float(np.median([max(len(step.text), 1) for step in steps]))
        return self

    def step_scores(self, X) -> np.ndarray:
        """Say how unusual the length of single steps is: ``|log(characters / usual)|``.

        Parameters
        ----------
        X : 1-D array-like of Step or str

        Returns
        -------
        ndarray of shape (n_steps,)
            Higher is more unlike the training data. The score of a path is not made of these.
        """
        check_is_fitted(self)
        characters = np.array([max(len(step.text), 1) for step in as_steps(X)])
        return np.abs(np.log(characters / self.usual_step_characters_))

    def _score_paths(self, X: list) -> np.ndarray:
        usual = np.array([self.usual_characters_, self.usual_steps_])
        return np.abs(np.log(_sizes(X) / usual)).sum(axis=1)


def _sizes(solutions: list[Solution]) -> np.ndarray:
    """Characters (at least 1) and steps of each solution, shape (n_solutions, 2)."""
    return np.array(
        [(max(sum(map(len, solution.steps)), 1), solution.n_steps) for solution in solutions],
        dtype=np.float64,
    )
