"""What all guarantees share: which problems they have seen, how they read paths, and how they are saved and loaded."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from numbers import Real
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from prmkit.fitted import refuse_shared_problems, training_problems
from prmkit.metrics.report_table import html_table
from prmkit.uncertainty._solutions_input import (
    Errors,
    FirstErrors,
    Paths,
    PathsInput,
    StepClassifier,
    read_errors,
    read_first_errors,
    read_paths,
)
from prmkit.uncertainty._wrapping import KeepsFitted
from prmkit.utils.saved import Contents, SavedModel
from prmkit.utils.sklearn import HasMethods, Interval, fit_context

_FOR_SCORES = "For whole paths, right or wrong, take SelectiveRisk, PathTriage or ErrorDetector"
# More than float32 risks change from one batch to another.
_MARGIN = 1e-6
CLASSIFIER = [HasMethods(["fit", "predict_proba"]), None]
RATE = [Interval(Real, 0, 1, closed="neither")]
Self = TypeVar("Self", bound="Guarantee")
PathSelf = TypeVar("PathSelf", bound="PathEstimator[Any]")
Decisions = TypeVar("Decisions")


class PathEstimator(ABC, Generic[Decisions]):
    """Base of estimators that learn from paths with known errors, and decide about paths of new problems."""

    # Whether it matters where the first error is, and whether a path may be given by one number.
    _needs_places: ClassVar[bool] = False
    _reads_scores: ClassVar[bool] = False
    classifier: Any

    @fit_context
    def fit(
        self: PathSelf,
        X: PathsInput,
        first_errors: FirstErrors = None,
        groups: npt.ArrayLike | None = None,
        *,
        errors: Errors | None = None,
    ) -> PathSelf:
        """Calibrate on problems that the classifier has not seen.

        Parameters
        ----------
        X : list of Solution, list of array-like of shape (n_steps,), or array-like of shape (n_paths,)
            Solutions. If the estimator has no classifier, the risks of the steps of each path. Estimators that need no
            steps also take one number per path, higher for paths that are more likely wrong, and NaN for none.
        first_errors : array-like of int of shape (n_paths,), optional
            0-based index of the first wrong step of each path, -1 if no step is wrong.
        groups : array-like of shape (n_paths,), optional
            Problem of each path. If ``None``, the problem of a solution is its text, and each array of risks is a
            problem of its own.
        errors : array-like of bool of shape (n_paths,), optional
            Whether each path is wrong, in place of ``first_errors``. It is enough for all estimators but those that say
            where the first error is.

        Returns
        -------
        self
            The calibrated estimator.

        Raises
        ------
        TypeError, ValueError
            If X is of another kind, not one of ``first_errors`` and ``errors`` is given, the risk of a step is NaN or
            outside [0, 1], a path does not have its first error, or the classifier was trained on a problem and
            remembers it (prmkit's classifiers do).
        """
        paths = self._read_paths(X, groups)
        labels = self._read_labels(paths, first_errors, errors)
        self._remember(paths.keys, paths.are_scores)
        self._calibrate(paths, labels)
        return self

    def predict(self, X: PathsInput, groups: npt.ArrayLike | None = None) -> Decisions:
        """Decide about paths of new problems.

        Parameters
        ----------
        X : list of Solution, list of array-like of shape (n_steps,), or array-like of shape (n_paths,)
            Paths, as in ``fit``. Solutions that grow may be given by their scorers, which the classifier has made
            (:class:`~prmkit.scoring.IncrementalScorer`): the decision is about the steps so far, which are not scored
            again.
        groups : array-like of shape (n_paths,), optional
            Problem of each path. It only serves to refuse problems of the calibration.

        Returns
        -------
        ndarray or list, length n_paths
            Decision about each path. The docstring of the class says what a decision is.

        Raises
        ------
        TypeError, ValueError
            As in ``fit``, and if a problem belongs to the calibration.
        """
        return self.decide(self.read(X, groups))

    def read(self, X: PathsInput, groups: npt.ArrayLike | None = None) -> Paths:
        """Compute the step risks of paths of new problems, for :meth:`decide`.

        Parameters
        ----------
        X : list of Solution, list of array-like of shape (n_steps,), or array-like of shape (n_paths,)
            Paths, as in ``fit``.
        groups : array-like of shape (n_paths,), optional
            Problem of each path. It only serves to refuse problems of the calibration.

        Returns
        -------
        Paths
            The risks of all steps, and the problem of each path.

        Raises
        ------
        TypeError, ValueError
            As in ``fit``, and if a problem belongs to the calibration.
        """
        check_is_fitted(self)
        paths = self._read_paths(X, groups)
        refuse_other_kind(paths, getattr(self, "of_scores_", False))
        self._refuse_known(paths.keys)
        return paths

    def decide(self, paths: Paths) -> Decisions:
        """Decide about paths whose steps have been scored.

        Parameters
        ----------
        paths : Paths
            The result of :meth:`read`.

        Returns
        -------
        ndarray or list, length n_paths
            Decision about each path, as ``predict`` returns it.
        """
        check_is_fitted(self)
        return self._decide(paths)

    def _read_paths(self, X: PathsInput, groups: npt.ArrayLike | None) -> Paths:
        """Return paths, one number each only if the estimator can do with that."""
        paths = read_paths(self.classifier, X, groups, scores=True)
        if paths.are_scores and not self._reads_scores and len(paths.lengths):
            raise ValueError(
                f"X holds one number per path, and {type(self).__name__} reads the risks of steps: pass a list of 1-D "
                f"arrays, one per path, or solutions and a classifier of steps. {_FOR_SCORES}"
            )
        return paths

    def _read_labels(self, paths: Paths, first_errors: FirstErrors, errors: Errors | None) -> np.ndarray:
        """Return the first error of each path. Where no place is needed, that of a wrong path is 0."""
        if errors is None:
            return read_first_errors(first_errors, paths)
        if first_errors is not None:
            raise ValueError("first_errors and errors are both given: pass one of them")
        if self._needs_places:
            raise ValueError(
                f"errors says whether a path is wrong, and {type(self).__name__} needs to know where: pass "
                f"first_errors=[…]. {_FOR_SCORES}"
            )
        return np.where(read_errors(errors, len(paths.lengths)), 0, -1)

    @abstractmethod
    def _decide(self, paths: Paths) -> Decisions:
        """Return the decision about each path."""

    @abstractmethod
    def _calibrate(self, paths: Paths, first_errors: np.ndarray) -> None:
        """Set the learnt attributes."""

    @abstractmethod
    def _remember(self, keys: np.ndarray, of_scores: bool = False) -> None:
        """Store the problems of ``fit``, after refusing those of the classifier's training."""

    @abstractmethod
    def _refuse_known(self, keys: np.ndarray) -> None:
        """Raise if problems were seen before."""


class Guarantee(SavedModel, KeepsFitted, BaseEstimator):
    """Base of estimators whose promise holds for problems that neither they nor their classifier have seen.

    ``unit_`` is the unit that is counted ("problem" if it is known, otherwise "path" or "step"), ``settings_`` the
    parameters at the time of calibration, ``of_scores_`` whether paths were given by one number each.
    """

    # Names of the fitted thresholds, which ``save`` writes.
    _thresholds: ClassVar[tuple[str, ...]] = ("threshold_",)
    classifier: StepClassifier | None
    calibration_problems_: np.ndarray
    n_calibration_: int
    attainable_: bool
    of_scores_: bool
    settings_: dict[str, Any]
    unit_: str

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        """Return what a notebook shows: what is promised, at which level, and what the calibration found."""
        if not hasattr(self, "settings_"):
            unfitted: dict[str, str] = super()._repr_mimebundle_(**kwargs)
            return unfitted
        promise = (inspect.getdoc(type(self)) or "").partition("\n\n")[0].replace("``", "")
        numbers = {name: getattr(self, name) for name in self._thresholds if hasattr(self, name)}
        facts = {**self.settings_, **numbers, f"calibration {self.unit_}s": self.n_calibration_}
        rows = [[name, f"{value:.4g}" if isinstance(value, float) else str(value)] for name, value in facts.items()]
        doubt = [] if self.attainable_ else ["The level is not attainable with so few: nothing is decided."]
        html = html_table([["", type(self).__name__], *rows], [promise], doubt)
        return {"text/plain": repr(self), "text/html": html}

    def _contents(self) -> Contents:
        check_is_fitted(self)
        learnt, arrays = self._state()
        settings = {
            "params": self.settings_,
            "unit": self.unit_,
            "n_calibration": self.n_calibration_,
            "attainable": self.attainable_,
            "of_scores": self.of_scores_,
            **learnt,
        }
        arrays["calibration_problems"] = self.calibration_problems_
        models = {} if self.classifier is None else {"classifier": self.classifier}
        return Contents(settings, arrays, models=models)

    @classmethod
    def _from_contents(cls: type[Self], contents: Contents) -> Self:
        settings, arrays = dict(contents.settings), dict(contents.arrays)
        params = cls._current_params(settings["params"])
        self = cls(classifier=contents.models.get("classifier"), **params)
        self.settings_ = params
        self.unit_ = settings["unit"]
        self.n_calibration_ = settings["n_calibration"]
        self.attainable_ = settings["attainable"]
        self.of_scores_ = settings.get("of_scores", False)  # earlier versions knew step risks only
        self.calibration_problems_ = arrays["calibration_problems"]
        self._restore(settings, arrays)
        return self

    @classmethod
    def _current_params(cls, params: dict[str, Any]) -> dict[str, Any]:
        """Return the saved parameters in the words of this version."""
        return params

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return the settings and arrays to save. Thresholds are arrays because JSON has no infinity."""
        return {}, {name: np.array([getattr(self, name)]) for name in self._thresholds}

    def _restore(self, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Undo ``_state``."""
        for name in self._thresholds:
            setattr(self, name, float(arrays[name][0]))

    @property
    def _margin(self) -> float:
        """Distance to a threshold that counts as equal to it. Given risks are exact, computed ones are not."""
        return 0.0 if self.classifier is None else _MARGIN

    def _remember(self, keys: np.ndarray, of_scores: bool = False) -> None:
        """Store the problems and the settings of the calibration, after refusing problems of the training."""
        refuse_shared_problems(keys, training_problems(self.classifier), "the classifier was trained on")
        self.calibration_problems_ = np.unique(keys)
        self.settings_ = {name: value for name, value in self.get_params(deep=False).items() if name != "classifier"}
        self.unit_ = "problem" if len(keys) else "path"
        self.of_scores_ = of_scores

    def _refuse_known(self, keys: np.ndarray) -> None:
        """Raise if problems are also in the training of the classifier or in the calibration."""
        refuse_shared_problems(keys, training_problems(self.classifier), "the classifier was trained on")
        refuse_shared_problems(keys, self.calibration_problems_, f"{type(self).__name__} was calibrated on")


class PathGuarantee(Guarantee, PathEstimator[Decisions]):
    """Base of guarantees about paths.

    To add one, write a file in this folder with a subclass. Its ``_calibrate`` sets ``attainable_``,
    ``n_calibration_`` and the thresholds that the class attribute ``_thresholds`` names. Its docstring says what is
    promised, what a decision is and what ``evaluate`` reports. If it matters where the first error is, set
    ``_needs_places``. If a path may be given by one number, set ``_reads_scores``, and read ``path_risks``. A step
    without a score has the risk NaN: decide then as for a path of which nothing is known, and treat it in the same
    way in the calibration. Add a line to ``prmkit/utils/_registry.py`` (the common checks then try it), the name to
    ``__init__.pyi`` of this folder and of its room, and a test which shows that the promise holds over random splits.
    """

    def evaluate(
        self,
        X: PathsInput,
        first_errors: FirstErrors = None,
        groups: npt.ArrayLike | None = None,
        *,
        errors: Errors | None = None,
    ) -> dict[str, float | int | None]:
        """Report how often the guarantee fails and what it costs, on labelled paths of new problems.

        Parameters
        ----------
        X : list of Solution, list of array-like of shape (n_steps,), or array-like of shape (n_paths,)
            Paths, as in ``fit``.
        first_errors : array-like of int of shape (n_paths,), optional
            0-based index of the first wrong step of each path, -1 if no step is wrong.
        groups : array-like of shape (n_paths,), optional
            Problem of each path, as in ``fit``.
        errors : array-like of bool of shape (n_paths,), optional
            Whether each path is wrong, in place of ``first_errors``, as in ``fit``.

        Returns
        -------
        dict
            The numbers that the docstring of the class names, and ``n_units`` and ``n_paths``. A mean is over units of
            the mean over their paths, and ``None`` if there is nothing to average.

        Raises
        ------
        TypeError, ValueError
            As in ``fit``, and if a problem belongs to the calibration.
        """
        paths = self.read(X, groups)
        report = self._report(paths, self._read_labels(paths, first_errors, errors))
        return {**report, "n_units": paths.n_units, "n_paths": len(paths.lengths)}

    @abstractmethod
    def _report(self, paths: Paths, first_errors: np.ndarray) -> dict[str, float | int | None]:
        """Return the numbers of ``evaluate`` apart from the counts."""


def largest_risks(paths: Paths, until: np.ndarray | None = None) -> np.ndarray:
    """Return the largest step risk of each path, of shape (n_paths,).

    With ``until`` only the steps 0 to ``until`` of each path count. A step without a score has the risk ``inf``.
    """
    risks = paths.risks.with_values(np.where(np.isnan(paths.risks.values), np.inf, paths.risks.values))
    if until is not None:
        counts = risks.positions <= risks.spread(until)
        risks = risks.with_values(np.where(counts, risks.values, -np.inf))
    return risks.reduce(np.maximum)


def path_risks(paths: Paths) -> np.ndarray:
    """Return ``1 - P(no error)`` of each path, or its own number, of shape (n_paths,). It is NaN without a score."""
    if paths.are_scores:
        return paths.risks.values
    # The logarithm of a risk of 1 is -inf, and the risk of its path is then 1, as it should be.
    with np.errstate(divide="ignore"):
        log_right = paths.risks.with_values(np.log1p(-paths.risks.values))
        return np.asarray(-np.expm1(log_right.reduce(np.add)))


def refuse_other_kind(paths: Paths, of_scores: bool) -> None:
    """Raise if paths are given by one number each after a calibration on step risks, or the other way round."""
    if paths.are_scores != of_scores and len(paths.lengths):
        kinds = ("the risks of the steps of each path", "one number per path")
        raise ValueError(
            f"X holds {kinds[paths.are_scores]}, and the calibration had {kinds[of_scores]}: pass the same"
        )


def share_of(true: np.ndarray) -> float | None:
    """Return the share of entries that are true, or None if there are no entries."""
    return float(true.mean()) if len(true) else None
