"""What all guarantees share: which problems they have seen, and how they are saved and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from prmkit.metrics.solutions.first_errors import check_first_errors
from prmkit.uncertainty._saving import load_model, save_model
from prmkit.uncertainty._solutions_input import (
    Paths,
    read_paths,
    refuse_shared_problems,
    training_problems,
)
from prmkit.uncertainty._wrapping import KeepsFitted
from prmkit.utils.sklearn import fit_context

_MARGIN = 1e-6  # more than float32 risks change from one batch to another
Self = TypeVar("Self", bound="Guarantee")
PathSelf = TypeVar("PathSelf", bound="PathGuarantee")


class Guarantee(KeepsFitted, BaseEstimator):
    """Base of estimators whose promise holds for problems that neither they nor their classifier have seen."""

    _thresholds: tuple[str, ...] = ("threshold_",)
    classifier: Any
    calibration_problems_: np.ndarray
    n_calibration_: int
    attainable_: bool
    settings_: dict[str, Any]
    unit_: str

    def save(self, path: str | Path) -> None:
        """Write a folder: the level, unit and size of the calibration, thresholds, and the classifier inside.

        Raises
        ------
        FileExistsError
            If something else stands at ``path``.
        TypeError
            If the classifier is none of prmkit's.
        """
        check_is_fitted(self)
        classifier = self.classifier
        learnt, arrays = self._state()
        settings = {
            "params": self.settings_,
            "unit": self.unit_,
            "n_calibration": self.n_calibration_,
            "attainable": self.attainable_,
            **learnt,
        }
        arrays["calibration_problems"] = self.calibration_problems_
        models = {} if classifier is None else {"classifier": classifier}
        save_model(type(self).__name__, path, settings=settings, arrays=arrays, models=models)

    @classmethod
    def load(cls: type[Self], path: str | Path) -> Self:
        """Read what ``save`` wrote. Runs no code from the folder.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such model, or it is incomplete or damaged.
        """
        settings, arrays, models = load_model(cls.__name__, path)
        try:
            self = cls(classifier=models.get("classifier"), **settings["params"])
            self.settings_ = settings["params"]
            self.unit_ = settings["unit"]
            self.n_calibration_ = settings["n_calibration"]
            self.attainable_ = settings["attainable"]
            self.calibration_problems_ = arrays["calibration_problems"]
            self._restore(settings, arrays)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}): copy or save the model again") from error
        return self

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Settings and arrays that ``save`` writes; thresholds are arrays, for JSON has no infinity."""
        return {}, {name: np.array([getattr(self, name)]) for name in self._thresholds}

    def _restore(self, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        for name in self._thresholds:
            setattr(self, name, float(arrays[name][0]))

    @property
    def _margin(self) -> float:
        return 0.0 if self.classifier is None else _MARGIN

    def _remember(self, keys: np.ndarray) -> None:
        refuse_shared_problems(keys, training_problems(self.classifier), "the classifier was trained on")
        self.calibration_problems_ = np.unique(keys)
        self.settings_ = {
            name: value for name, value in self.get_params(deep=False).items() if name != "classifier"
        }
        self.unit_ = "problem" if len(keys) else "path"

    def _refuse_known(self, keys: np.ndarray) -> None:
        refuse_shared_problems(keys, training_problems(self.classifier), "the classifier was trained on")
        refuse_shared_problems(keys, self.calibration_problems_, f"{type(self).__name__} was calibrated on")


class PathGuarantee(Guarantee):
    """Base of guarantees about paths; a subclass says in ``_calibrate`` what it learns of them."""

    @fit_context
    def fit(self: PathSelf, X: Any, first_errors: Any, groups: Any = None) -> PathSelf:
        """Find the threshold on problems that the classifier has not seen.

        Parameters
        ----------
        X : list of Solution; without a classifier list of array-like of shape (n_steps,)
            Solutions, or the risks of their steps.
        first_errors : array-like of int of shape (n_paths,)
            0-based index of the first wrong step, -1 where no step is wrong.
        groups : array-like of shape (n_paths,), optional
            The problem of each path. None: solutions say it themselves; each array is a problem of its own.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            For another kind of X, risks that are NaN or outside [0, 1], first errors that a path does not have, or
            problems that the classifier was trained on, where it remembers them (prmkit's do).
        """
        paths = read_paths(self.classifier, X, groups)
        first_errors = check_first_errors(first_errors, paths.lengths)
        self._remember(paths.keys)
        self._calibrate(paths, first_errors)
        return self

    def _calibrate(self, paths: Paths, first_errors: np.ndarray) -> None:
        raise NotImplementedError

    def _new_paths(self, X: Any, groups: Any) -> Paths:
        """Read paths of problems that must be new."""
        check_is_fitted(self)
        paths = read_paths(self.classifier, X, groups)
        self._refuse_known(paths.keys)
        return paths

    def _test_paths(self, X: Any, first_errors: Any, groups: Any) -> tuple[Paths, np.ndarray]:
        """Read labelled paths of problems that must be new."""
        paths = self._new_paths(X, groups)
        return paths, check_first_errors(first_errors, paths.lengths)


def largest_risks(paths: Paths, until: np.ndarray | None = None) -> np.ndarray:
    """Return the largest step risk of each path, shape (n_paths,); ``until``: among its steps 0..until only."""
    risks = paths.risks
    if until is not None:
        risks = np.where(paths.place <= np.repeat(until, paths.lengths), risks, -np.inf)
    return np.maximum.reduceat(risks, paths.starts)


def path_risks(paths: Paths) -> np.ndarray:
    """Return ``1 - P(no error)`` of each path, shape (n_paths,)."""
    with np.errstate(divide="ignore"):  # a risk of 1 makes the path's risk 1
        return -np.expm1(np.add.reduceat(np.log1p(-paths.risks), paths.starts))


def share_of(true: np.ndarray) -> float | None:
    """Return the share that is true; None of nothing."""
    return float(true.mean()) if len(true) else None
