"""What shift detectors share: scores of paths become p-values with a false-alarm rate."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from prmkit.data.problem_keys import problem_keys
from prmkit.data.solution import Solution
from prmkit.fitted import refuse_shared_problems
from prmkit.uncertainty._solutions_input import PathsInput, Steps, units_and_keys, unscored
from prmkit.utils.saved import Contents, SavedModel
from prmkit.utils.sklearn import ReadsSteps

_ROUNDING = 1e-12
Self = TypeVar("Self", bound="ShiftDetector")


class ShiftDetector(SavedModel, ReadsSteps, ABC, BaseEstimator):
    """Base of detectors of paths that are unlike the training data: scores, and p-values from calibration paths.

    A subclass has ``fit``, which sets ``training_problems_`` and calls ``_forget_calibration``, ``step_scores``
    and ``_score_paths``.
    """

    learns = True
    training_problems_: np.ndarray | None
    calibration_scores_: np.ndarray
    calibration_mass_: np.ndarray
    calibration_problems_: np.ndarray
    n_calibration_: int

    @abstractmethod
    def fit(self: Self, X: Steps, y: npt.ArrayLike | None = None) -> Self:
        """Learn what training steps look like."""

    @abstractmethod
    def step_scores(self, X: Steps) -> np.ndarray:
        """Score single steps."""

    @abstractmethod
    def _score_paths(self, X: list[Any]) -> np.ndarray:
        """Score paths. There is at least one."""

    def calibrate(self: Self, solutions: PathsInput, groups: npt.ArrayLike | None = None) -> Self:
        """Store the scores of paths that look as the data in use should, of problems that ``fit`` has not seen.

        Parameters
        ----------
        solutions : list of Solution or ScoredSolution
            Calibration paths. With ``featurizer="precomputed"`` a list of arrays of shape (n_steps, n_features).
        groups : array-like of shape (n_paths,), optional
            Problem of each path. If ``None``, the problem of a solution is its text, and an array is a problem of its
            own.

        Returns
        -------
        self
            The calibrated detector.

        Raises
        ------
        ValueError
            If there are no paths, a path has no steps, groups split a problem, or ``fit`` saw a problem.
        """
        check_is_fitted(self)
        paths = self._read_paths(solutions)
        if not paths:
            raise ValueError("solutions is empty: at least 1 calibration path is required")
        units, keys = self._units(paths, groups)
        refuse_shared_problems(keys, self.training_problems_, "the detector was fitted on")
        scores = _coarse(self._score_paths(paths))
        order = np.argsort(scores, kind="stable")
        # A problem counts once, however many paths it has.
        shares = 1.0 / np.bincount(units)[units]
        self.calibration_scores_ = scores[order]
        self.calibration_mass_ = np.append(np.cumsum(shares[order][::-1])[::-1], 0.0)
        self.n_calibration_ = int(units.max()) + 1
        self.calibration_problems_ = keys
        return self

    def score(self, solutions: PathsInput, groups: npt.ArrayLike | None = None) -> np.ndarray:
        """Score paths.

        Parameters
        ----------
        solutions : list of Solution or ScoredSolution
            Paths. With ``featurizer="precomputed"`` a list of arrays of shape (n_steps, n_features).
        groups : array-like of shape (n_paths,), optional
            Problem of each path. If given, problems of ``fit`` and ``calibrate`` are refused, as ``p_value`` does.

        Returns
        -------
        ndarray of shape (n_paths,)
            Score of each path. Higher is more unlike the training data. The scale is the detector's own (see
            :meth:`p_value`).

        Raises
        ------
        ValueError
            If a path has no steps, a feature is NaN, or groups name a problem that was seen.
        """
        check_is_fitted(self)
        paths = self._read_paths(solutions)
        if groups is not None:
            self._refuse_known(paths, groups)
        return self._score_paths(paths) if paths else np.empty(0)

    def p_value(self, solutions: PathsInput, groups: npt.ArrayLike | None = None) -> np.ndarray:
        """Compute how rare such a score is among calibration paths.

        ``p = (1 + share) / (n + 1)`` with n calibration problems, where ``share`` sums over them the share of their
        paths that score at least as high. With one path per problem it is the number of these paths.

        Parameters
        ----------
        solutions : list of Solution or ScoredSolution
            Paths, as in ``score``.
        groups : array-like of shape (n_paths,), optional
            Problem of each path. It serves to refuse problems that were seen, beside their text.

        Returns
        -------
        ndarray of shape (n_paths,)
            p-value of each path, between 1 / (n + 1) and 1. **Lower** is more unusual. For a path drawn from a new
            problem like those of calibration, P(p <= a) <= a for every a, over draws of calibration and path together.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If ``calibrate`` was not called.
        ValueError
            As ``score``, and if a problem was seen in ``fit`` or ``calibrate``.

        References
        ----------
        Several paths per problem: Y. Lee, R. F. Barber and R. Willett, "Distribution-free inference with hierarchical
        data", arXiv:2306.06342. The new path has the weight of a whole problem, so the bound is on the safe side.
        """
        check_is_fitted(self)
        if not hasattr(self, "calibration_scores_"):
            raise NotFittedError(
                f"this {type(self).__name__} is not calibrated: call calibrate(solutions) with paths of other "
                "problems than those of fit, or score(solutions), which needs none"
            )
        paths = self._read_paths(solutions)
        if not paths:
            return np.empty(0)
        self._refuse_known(paths, groups)
        first = np.searchsorted(self.calibration_scores_, _coarse(self._score_paths(paths)), side="left")
        # Sums of shares such as 1/3 may miss the whole number by rounding, and p would exceed 1.
        return np.minimum((1.0 + self.calibration_mass_[first]) / (self.n_calibration_ + 1), 1.0)

    def flag(self, solutions: PathsInput, alpha: float = 0.05, groups: npt.ArrayLike | None = None) -> np.ndarray:
        """Flag paths whose p-value is at most ``alpha``.

        Parameters
        ----------
        solutions : list of Solution or ScoredSolution
            Paths, as in ``score``.
        alpha : float, default=0.05
            Bound on the share of false alarms among paths like those of calibration.
        groups : array-like of shape (n_paths,), optional
            Problem of each path, as in ``p_value``.

        Returns
        -------
        ndarray of bool, shape (n_paths,)
            True for a path that is flagged. If ``alpha < 1 / (n + 1)`` there are too few calibration problems. Then
            nothing is flagged, with a warning.

        Raises
        ------
        ValueError
            As ``p_value``, and if alpha is not between 0 and 1.
        """
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is {alpha!r}, expected a number between 0 and 1, such as 0.05")
        flagged = self.p_value(solutions, groups) <= alpha + _ROUNDING
        if alpha + _ROUNDING < 1 / (self.n_calibration_ + 1):
            warnings.warn(
                f"alpha={alpha:g} is not attainable with {self.n_calibration_} calibration problems, nothing is "
                f"flagged: calibrate on at least {int(np.ceil(1 / alpha - 1e-9)) - 1}",
                UserWarning,
                stacklevel=2,
            )
        return flagged

    def _contents(self) -> Contents:
        check_is_fitted(self)
        learnt = {name: value for name, value in vars(self).items() if name.endswith("_") and name != "featurizer_"}
        arrays = {name: value for name, value in learnt.items() if getattr(value, "dtype", np.dtype("O")).kind in "iuf"}
        params = {name: value for name, value in self.get_params(deep=False).items() if name != "featurizer"}
        results = {name: value for name, value in learnt.items() if name not in arrays}
        featurizer = getattr(self, "featurizer_", None)
        return Contents({"params": params, "learnt": results}, arrays, parts={"featurizer": featurizer})

    @classmethod
    def _from_contents(cls: type[Self], contents: Contents) -> Self:
        detector = cls(**cls._current_params(contents.settings["params"]))
        if hasattr(detector, "featurizer"):
            detector.featurizer_ = contents.parts["featurizer"]
            detector.featurizer = "precomputed" if detector.featurizer_ is None else detector.featurizer_
        learnt = contents.settings["learnt"]
        detector.__dict__.update({k: np.array(v) if isinstance(v, list) else v for k, v in learnt.items()})
        detector.__dict__.update(contents.arrays)
        return detector

    @classmethod
    def _current_params(cls, params: dict[str, Any]) -> dict[str, Any]:
        """Return the saved parameters in the words of this version."""
        return params

    def _forget_calibration(self) -> None:
        """Drop the calibration of an earlier ``fit``."""
        for name in ("calibration_scores_", "calibration_mass_", "n_calibration_", "calibration_problems_"):
            self.__dict__.pop(name, None)

    def _read_paths(self, X: PathsInput) -> list[Any]:
        """Return paths as a list, each checked."""
        solutions = unscored(X)
        for i, solution in enumerate(solutions):
            if not isinstance(solution, Solution):
                raise TypeError(
                    f"solutions[{i}] is {type(solution).__name__}, expected Solution; single steps go to step_scores"
                )
            if not solution.steps:
                raise ValueError(f"solutions[{i}] has no steps: there is nothing to score; leave it out")
        return solutions

    def _refuse_known(self, paths: list[Any], groups: npt.ArrayLike | None) -> None:
        """Raise if ``fit`` or ``calibrate`` saw a problem."""
        keys = self._units(paths, groups)[1]
        refuse_shared_problems(keys, self.training_problems_, "the detector was fitted on")
        calibrated_on = getattr(self, "calibration_problems_", None)
        refuse_shared_problems(keys, calibrated_on, "the detector was calibrated on")

    def _units(self, paths: list[Any], groups: npt.ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
        """Number the problem of each path from 0, and return the keys of the problems that are known."""
        by_problem = problem_keys(paths) if paths and isinstance(paths[0], Solution) else None
        return units_and_keys(len(paths), by_problem, groups, "path")


def _coarse(values: np.ndarray) -> np.ndarray:
    """Round to what float32 holds: numbers that tie on paper tie whatever batch they were computed in."""
    return np.asarray(values).astype(np.float32).astype(np.float64)
