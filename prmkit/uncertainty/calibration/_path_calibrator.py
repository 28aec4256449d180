"""Calibration of P(no error) of a path: a product over steps is far off, even if each step is nearly right."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from prmkit.fitted import FittedClassifier, refuse_shared_problems, training_problems
from prmkit.uncertainty._solutions_input import Errors, FirstErrors, Paths, PathsInput
from prmkit.uncertainty._wrapping import KeepsFitted
from prmkit.uncertainty.calibration._methods import calibrate, fit_calibrator
from prmkit.uncertainty.guarantees.base import PathEstimator
from prmkit.utils.saved import Contents, SavedModel
from prmkit.utils.sklearn import HasMethods, StrOptions

# The smallest P(right) of a step, and P(some error) of a path, before the logarithm.
_FLOOR = 1e-15


class PathCalibrator(SavedModel, KeepsFitted, PathEstimator[np.ndarray], BaseEstimator):
    """Calibrate the probability that a reasoning path has no error, on paths of other problems.

    Without calibration it is the product of ``1 - risk`` over the steps, which is mostly too low for long paths.

    ``predict`` returns whether each path is more likely to have no error than to have one. ``fit`` needs paths of both
    kinds.

    Parameters
    ----------
    classifier : fitted classifier over steps, or None, default=None
        Classifier that gives the risks. It is not changed. If ``None``, X is a list of arrays of step risks.
    method : {"logistic", "temperature"}, default="logistic"
        ``"logistic"``: logistic regression (with scikit-learn's penalty, C = 1) on log P(no error) and the number of
        steps. It learns three numbers, and also uses the information in the length alone. ``"temperature"``:
        ``expit(logit P(no error) / T)``. It learns one number, for few paths.

    Attributes
    ----------
    classes_ : ndarray
        ``[False, True]``: the path has an error, or has none.
    coef_ : ndarray of shape (2,)
        Only for ``"logistic"``: coefficients of log P(no error), which is never negative, and of the number of steps.
    intercept_ : float
        Only for ``"logistic"``: the intercept.
    temperature_ : float
        Only for ``"temperature"``: T.
    n_calibration_ : int
        Number of problems (of paths, if no problem is known).
    training_problems_ : ndarray of uint64
        Keys of the problems of the classifier's training (if it remembers them) and of calibration. Predictions refuse
        both.

    Notes
    -----
    Each problem counts once: the weight of a path is one over the number of its problem's paths.

    Among paths of one length the calibrated probability rises with the raw one. It rises strictly, unless the
    coefficient is 0: then the classifier ranks the calibration paths backwards, and ``fit`` warns. With
    ``"temperature"`` it rises among all paths.

    A step's P(right) counts as at least 1e-15.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> risks = [rng.uniform(0, 0.5, size) for size in rng.integers(2, 9, 400)]
    >>> first_errors = [0 if rng.random() < path.mean() else -1 for path in risks]
    >>> paths = PathCalibrator().fit(risks, first_errors)
    >>> raw = np.mean([np.prod(1 - path) for path in risks])
    >>> truth = np.mean(np.array(first_errors) == -1)
    >>> bool(raw < 0.4), bool(abs(paths.p_no_error(risks).mean() - truth) < 0.001), bool(truth > 0.7)
    (True, True, True)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "classifier": [HasMethods(["predict_proba"]), None],
        "method": [StrOptions({"logistic", "temperature"})],
    }
    classes_: np.ndarray
    coef_: np.ndarray
    intercept_: float
    temperature_: float
    n_calibration_: int
    training_problems_: np.ndarray
    method_: str

    def __init__(self, classifier: FittedClassifier | None = None, method: str = "logistic") -> None:
        self.classifier = classifier
        self.method = method

    def p_no_error(self, X: PathsInput, groups: npt.ArrayLike | None = None) -> np.ndarray:
        """Return the calibrated probability that no step is wrong.

        Parameters
        ----------
        X : list of Solution, or list of array-like of shape (n_steps,)
            Paths, as in ``fit``.
        groups : array-like of shape (n_paths,), optional
            Problem of each path. It only serves to refuse problems that were seen.

        Returns
        -------
        ndarray of shape (n_paths,)
            P(no error) of each path. Higher is better. It is NaN for a path that has a step without a score. ``fit``
            leaves such paths out.

        Raises
        ------
        ValueError
            If a problem belongs to the calibration, or to the training of the classifier.
        """
        return self.of_paths(self.read(X, groups))

    def of_paths(self, paths: Paths) -> np.ndarray:
        """Return the calibrated probabilities of paths whose steps have been scored.

        Parameters
        ----------
        paths : Paths
            The risks of the steps, and the problem of each path.

        Returns
        -------
        ndarray of shape (n_paths,)
            P(no error) of each path.
        """
        check_is_fitted(self)
        self._refuse_known(paths.keys)
        if self.method_ == "temperature":
            numbers = {"temperature": np.array([self.temperature_])}
            return calibrate("temperature", numbers, _log_proba(paths))[:, 1]
        log_survival, n_steps = _features(paths).T
        return np.asarray(expit(self.coef_[0] * log_survival + self.coef_[1] * n_steps + self.intercept_))

    def predict_proba(self, X: PathsInput, groups: npt.ArrayLike | None = None) -> np.ndarray:
        """Return the probability of an error and of no error.

        Parameters
        ----------
        X : list of Solution, or list of array-like of shape (n_steps,)
            Paths, as in ``fit``.
        groups : array-like of shape (n_paths,), optional
            Problem of each path, as in ``p_no_error``.

        Returns
        -------
        ndarray of shape (n_paths, 2)
            Columns in the order of ``classes_``.
        """
        right = self.p_no_error(X, groups)
        return np.column_stack([1 - right, right])

    def score(
        self,
        X: PathsInput,
        first_errors: FirstErrors = None,
        groups: npt.ArrayLike | None = None,
        *,
        errors: Errors | None = None,
    ) -> float:
        """Return the mean log-likelihood of "no error" and "some error", at most 0. Higher is better.

        For a search over ``method`` pass folds that keep problems together: a problem of the calibration is refused.

        Parameters
        ----------
        X : list of Solution, or list of array-like of shape (n_steps,)
            Paths, as in ``fit``.
        first_errors : array-like of int, shape (n_paths,), optional
            0-based index of the first wrong step, -1 if a path has no error.
        groups : array-like of shape (n_paths,), optional
            Problem of each path, as in ``p_no_error``.
        errors : array-like of bool, shape (n_paths,), optional
            Whether each path is wrong, in place of ``first_errors``.

        Returns
        -------
        float
            The mean log-likelihood.
        """
        paths = self.read(X, groups)
        no_error = self._read_labels(paths, first_errors, errors) == -1
        right = np.clip(self.of_paths(paths), _FLOOR, 1 - _FLOOR)
        return float(np.mean(np.log(np.where(no_error, right, 1 - right))))

    def _calibrate(self, paths: Paths, first_errors: np.ndarray) -> None:
        scored = ~np.isnan(paths.risks.reduce(np.maximum))
        paths = Paths(paths.risks.take(np.flatnonzero(scored)), paths.units[scored], paths.keys)
        no_error = first_errors[scored] == -1
        n_right = int(no_error.sum())
        if n_right in (0, len(no_error)):
            raise ValueError(
                f"{n_right} of {len(no_error)} paths have no error, expected both kinds: nothing tells how often such "
                "paths are right. Add paths " + ("without" if not n_right else "with") + " an error"
            )
        weight = 1 / np.maximum(np.bincount(paths.units), 1)[paths.units]
        # An earlier fit may have left a temperature.
        self.__dict__.pop("temperature_", None)
        self.method_ = self.method
        if self.method_ == "temperature":
            numbers = fit_calibrator("temperature", _log_proba(paths), no_error.astype(np.int64), weight)
            self.temperature_ = float(numbers["temperature"][0])
        else:
            self.coef_, self.intercept_ = _fit_logistic(paths, no_error, weight)
        self.classes_ = np.array([False, True])
        self.n_calibration_ = paths.n_units
        seen = training_problems(self.classifier)
        self.training_problems_ = paths.keys if seen is None else np.union1d(paths.keys, seen)

    def _decide(self, paths: Paths) -> np.ndarray:
        return self.of_paths(paths) > 0.5

    def _remember(self, keys: np.ndarray, of_scores: bool = False) -> None:
        # The problems are stored by _calibrate, when it has succeeded.
        refuse_shared_problems(keys, training_problems(self.classifier), "the classifier was trained on")

    def _refuse_known(self, keys: np.ndarray) -> None:
        refuse_shared_problems(keys, self.training_problems_, "were trained or calibrated on")

    def _contents(self) -> Contents:
        check_is_fitted(self)
        arrays = {"training_problems": self.training_problems_}
        if self.method_ == "temperature":
            arrays["temperature"] = np.array([self.temperature_])
        else:
            arrays |= {"coef": self.coef_, "intercept": np.array([self.intercept_])}
        models = {} if self.classifier is None else {"classifier": self.classifier}
        settings = {"method": self.method_, "n_calibration": self.n_calibration_}
        return Contents(settings, arrays, models=models)

    @classmethod
    def _from_contents(cls, contents: Contents) -> PathCalibrator:
        settings, arrays = contents.settings, contents.arrays
        model = cls(contents.models.get("classifier"), settings["method"])
        model.method_, model.n_calibration_ = settings["method"], settings["n_calibration"]
        model.classes_ = np.array([False, True])
        model.training_problems_ = arrays["training_problems"]
        if model.method_ == "temperature":
            model.temperature_ = float(arrays["temperature"][0])
        else:
            model.coef_, model.intercept_ = arrays["coef"], float(arrays["intercept"][0])
        return model


def _features(paths: Paths) -> np.ndarray:
    """Return log P(no error) and the number of steps, of shape (n_paths, 2)."""
    log_right = paths.risks.with_values(np.log(np.maximum(1 - paths.risks.values, _FLOOR)))
    return np.column_stack([log_right.reduce(np.add), paths.lengths])


def _log_proba(paths: Paths) -> np.ndarray:
    """Return log P(some error) and log P(no error), of shape (n_paths, 2)."""
    log_survival = _features(paths)[:, 0]
    return np.column_stack([np.log(np.maximum(-np.expm1(log_survival), _FLOOR)), log_survival])


def _fit_logistic(paths: Paths, no_error: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit a logistic regression whose coefficient of log P(no error) is not negative."""
    model = LogisticRegression(solver="newton-cholesky", tol=1e-8)
    features = _features(paths)
    model.fit(features, no_error, weight)
    coef, intercept = model.coef_[0], float(model.intercept_[0])
    if coef[0] >= 0:
        return coef, intercept
    warnings.warn(
        f"among calibration paths of one length those with the higher P(no error) are wrong more often (coefficient "
        f"{coef[0]:.3g}): the length alone is used. Look at the classifier, or at its label_order",
        UserWarning,
        stacklevel=5,
    )
    # The loss is convex: if the best coefficient is negative, the best one that is not negative is 0.
    model.fit(features[:, 1:], no_error, weight)
    return np.array([0.0, model.coef_[0, 0]]), float(model.intercept_[0])
