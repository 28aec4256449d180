"""P(no error) of a path is a product, and products of small mistakes are far off: mend it as one number per path."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from prmkit.metrics.solutions.first_errors import check_first_errors
from prmkit.scoring.fitted import training_problems
from prmkit.uncertainty._saving import load_model, save_model
from prmkit.uncertainty._solutions_input import Paths, read_paths, refuse_shared_problems
from prmkit.uncertainty._wrapping import KeepsFitted
from prmkit.uncertainty.calibration._methods import calibrate, fit_calibrator
from prmkit.utils.sklearn import HasMethods, StrOptions, fit_context

_FLOOR = 1e-15  # under a step's P(right), and under P(some error) of a path, before the logarithm


class PathCalibrator(KeepsFitted, BaseEstimator):
    """Calibrate the probability that a reasoning path has no error, on paths of other problems.

    Raw, it is the product of ``1 - risk`` over the steps, mostly too low for long paths.

    Parameters
    ----------
    classifier : fitted classifier over steps, or None, default=None
        It stays as it is. None: X is a list of arrays of step risks.
    method : {"logistic", "temperature"}, default="logistic"
        ``"logistic"``: logistic regression (with scikit-learn's penalty, C = 1) on log P(no error) and the number of
        steps, three numbers; what the length alone says is used too. ``"temperature"``:
        ``expit(logit P(no error) / T)``, one number, for few paths.

    Attributes
    ----------
    classes_ : ndarray
        ``[False, True]``: has an error, has none.
    coef_ : ndarray of shape (2,)
        Only for ``"logistic"``: of log P(no error), never negative, and of the number of steps.
    intercept_ : float
        Only for ``"logistic"``.
    temperature_ : float
        Only for ``"temperature"``.
    n_calibration_ : int
        Problems (paths, where problems are not known).
    training_problems_ : ndarray of uint64
        Keys of the problems of the classifier's training (where it remembers them) and of calibration: neither may
        be predicted.

    Notes
    -----
    Each problem counts once: a path weighs one over the number of its problem's paths.

    Among paths of one length the calibrated probability rises with the raw one (strictly, unless the coefficient is 0:
    then the classifier ranks the calibration paths backwards, and ``fit`` warns). With ``"temperature"`` it does so
    among all paths.

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

    _parameter_constraints = {
        "classifier": [HasMethods(["predict_proba"]), None],
        "method": [StrOptions({"logistic", "temperature"})],
    }

    def __init__(self, classifier=None, method="logistic"):
        self.classifier = classifier
        self.method = method

    @fit_context
    def fit(self, X, first_errors, groups=None):
        """Calibrate on paths whose first error is known.

        Parameters
        ----------
        X : list of Solution, or, without a classifier, of 1-D arrays of step risks
        first_errors : array-like of int, shape (n_paths,)
            0-based; -1 where a path has no error.
        groups : array-like of shape (n_paths,), optional
            The problem of each path; None: solutions say it, and each array is a problem of its own.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If all paths have an error, or none has, or a problem is also among those that the classifier learnt from.
        """
        paths = read_paths(self.classifier, X, groups)
        no_error = check_first_errors(first_errors, paths.lengths) == -1
        seen = training_problems(self.classifier)
        refuse_shared_problems(paths.keys, seen, "the classifier was trained on")
        n_right = int(no_error.sum())
        if n_right in (0, len(no_error)):
            raise ValueError(
                f"{n_right} of {len(no_error)} paths have no error, expected both kinds: nothing tells how often such "
                "paths are right. Add paths " + ("without" if not n_right else "with") + " an error"
            )
        weight = 1 / np.bincount(paths.units)[paths.units]
        self.__dict__.pop("temperature_", None)  # of an earlier fit
        self.method_ = self.method
        if self.method_ == "temperature":
            learnt = fit_calibrator("temperature", _log_proba(paths), no_error.astype(np.int64), weight)
            self.temperature_ = float(learnt["temperature"][0])
        else:
            self.coef_, self.intercept_ = _fit_logistic(paths, no_error, weight)
        self.classes_ = np.array([False, True])
        self.n_calibration_ = paths.n_units
        self.training_problems_ = paths.keys if seen is None else np.union1d(paths.keys, seen)
        return self

    def p_no_error(self, X, groups=None) -> np.ndarray:
        """Calibrated probability that no step is wrong, of shape (n_paths,); higher is better.

        Parameters
        ----------
        X, groups : as in ``fit``

        Raises
        ------
        ValueError
            If a problem was calibrated on, or is among those that the classifier learnt from.
        """
        check_is_fitted(self)
        return self.of_paths(read_paths(self.classifier, X, groups))

    def of_paths(self, paths: Paths) -> np.ndarray:
        """As ``p_no_error``, of paths whose steps have been scored already."""
        check_is_fitted(self)
        refuse_shared_problems(paths.keys, self.training_problems_, "were trained or calibrated on")
        if self.method_ == "temperature":
            numbers = {"temperature": np.array([self.temperature_])}
            return calibrate("temperature", numbers, _log_proba(paths))[:, 1]
        log_survival, n_steps = _features(paths).T
        return expit(self.coef_[0] * log_survival + self.coef_[1] * n_steps + self.intercept_)

    def predict_proba(self, X, groups=None) -> np.ndarray:
        """Probability of an error and of none, of shape (n_paths, 2), in the order of ``classes_``."""
        right = self.p_no_error(X, groups)
        return np.column_stack([1 - right, right])

    def predict(self, X, groups=None) -> np.ndarray:
        """Whether a path has no error, more likely than not: bool of shape (n_paths,)."""
        return self.p_no_error(X, groups) > 0.5

    def score(self, X, first_errors, groups=None) -> float:
        """Mean log-likelihood of "no error" and "some error", at most 0; higher is better.

        For a search over ``method`` pass folds that keep problems together: a problem of the calibration is refused.
        """
        check_is_fitted(self)
        paths = read_paths(self.classifier, X, groups)
        no_error = check_first_errors(first_errors, paths.lengths) == -1
        right = np.clip(self.of_paths(paths), _FLOOR, 1 - _FLOOR)
        return float(np.mean(np.log(np.where(no_error, right, 1 - right))))

    def save(self, path: str | Path) -> None:
        """Write the calibration, and the classifier by its own ``save``, to a folder; no pickle.

        Raises
        ------
        TypeError
            If the classifier has no ``save``.
        """
        check_is_fitted(self)
        arrays = {"training_problems": self.training_problems_}
        if self.method_ == "temperature":
            arrays["temperature"] = np.array([self.temperature_])
        else:
            arrays |= {"coef": self.coef_, "intercept": np.array([self.intercept_])}
        models = {} if self.classifier is None else {"classifier": self.classifier}
        settings = {"method": self.method_, "n_calibration": self.n_calibration_}
        save_model(type(self).__name__, path, settings=settings, arrays=arrays, models=models)

    @classmethod
    def load(cls, path: str | Path) -> PathCalibrator:
        """Read a saved calibration. Runs no code from the folder.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such model, or it is incomplete or damaged.
        """
        settings, arrays, models = load_model(cls.__name__, path)
        model = cls(models.get("classifier"), settings["method"])
        model.method_, model.n_calibration_ = settings["method"], settings["n_calibration"]
        model.classes_ = np.array([False, True])
        model.training_problems_ = arrays["training_problems"]
        if model.method_ == "temperature":
            model.temperature_ = float(arrays["temperature"][0])
        else:
            model.coef_, model.intercept_ = arrays["coef"], float(arrays["intercept"][0])
        return model


def _features(paths: Paths) -> np.ndarray:
    """Log P(no error) and the number of steps, of shape (n_paths, 2)."""
    log_right = paths.risks.with_values(np.log(np.maximum(1 - paths.risks.values, _FLOOR)))
    return np.column_stack([log_right.reduce(np.add), paths.lengths])


def _log_proba(paths: Paths) -> np.ndarray:
    """Log P(some error) and log P(no error), of shape (n_paths, 2)."""
    log_survival = _features(paths)[:, 0]
    return np.column_stack([np.log(np.maximum(-np.expm1(log_survival), _FLOOR)), log_survival])


def _fit_logistic(paths: Paths, no_error: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Logistic regression whose coefficient of log P(no error) is not negative."""
    model = LogisticRegression(solver="newton-cholesky", tol=1e-8)
    features = _features(paths)
    model.fit(features, no_error, weight)
    coef, intercept = model.coef_[0], float(model.intercept_[0])
    if coef[0] >= 0:
        return coef, intercept
    warnings.warn(
        f"among calibration paths of one length those with the higher P(no error) are wrong more often (coefficient "
        f"{coef[0]:.3g}): the length alone is used. Look at the classifier, or at what its worst class is",
        UserWarning,
        stacklevel=4,
    )
    # The loss is convex: where the best coefficient is negative, the best one that is not is 0.
    model.fit(features[:, 1:], no_error, weight)
    return np.array([0.0, model.coef_[0, 0]]), float(model.intercept_[0])
