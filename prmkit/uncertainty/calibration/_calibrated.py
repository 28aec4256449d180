"""Probabilities that mean what they say: a classifier of steps, mended on problems that it has not seen."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import check_cv
from sklearn.utils import column_or_1d
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from prmkit.data.labels import check_labels, class_codes
from prmkit.data.problem_keys import problem_keys
from prmkit.data.solution import as_steps
from prmkit.data.splitters import StratifiedProblemKFold, holds_numbers
from prmkit.metrics.calibration.calibration import check_class_probabilities
from prmkit.models.heads.decision import choose_decision_weights
from prmkit.scoring.fitted import decision_weights, known_label_order, training_problems
from prmkit.uncertainty._saving import load_model, save_model
from prmkit.uncertainty._solutions_input import check_groups, group_keys, refuse_shared_problems
from prmkit.uncertainty._wrapping import KeepsFitted, WrapsClassifier, is_fitted
from prmkit.uncertainty.calibration._methods import (
    METHODS,
    calibrate,
    count_clipped,
    fit_calibrator,
    log_probabilities,
)
from prmkit.utils.sklearn import HasMethods, Interval, StrOptions, fit_context, fit_weighted, safe_indexing


def problems_of_rows(X: Any, groups: Any) -> tuple[np.ndarray | None, Any]:
    """Return the key of each row's problem, where it is known, and X, steps as a list.

    Raises
    ------
    TypeError, ValueError
        If X is not a flat list of steps, or groups has another length, or comes with steps.
    """
    if hasattr(X, "__array__") and not hasattr(X, "__iter__"):
        X = np.asarray(X)
    if not holds_numbers(X):
        if groups is not None:
            raise ValueError("groups is for numeric X: a Step already knows its problem")
        X = as_steps(X)
        return problem_keys(X), X
    if groups is None:
        return None, X
    named, numbers = np.unique(check_groups(groups, len(X), "row"), return_inverse=True)
    return group_keys(named)[numbers], X


class CalibratedStepClassifier(KeepsFitted, WrapsClassifier, BaseEstimator):
    """Calibrate the probabilities of a step classifier on solutions of other problems.

    Parameters
    ----------
    classifier : classifier over steps
        Fitted (or in a ``FrozenEstimator``): it stays as it is, and ``fit`` wants steps of problems that it has not
        seen. Not fitted: ``fit`` calibrates its predictions out of fold, by problem, and fits it on all steps.
    method : {"temperature", "sigmoid", "isotonic", "vector"}, default="temperature"
        ``"temperature"``: one number, and no step's classes change their order; enough where wrong steps are as
        frequent as in training. ``"sigmoid"``: two numbers per class, which also mend another frequency.
        ``"isotonic"``: any monotone curve per class, for 1,000 steps of each class or more. ``"vector"``: logistic
        regression on all classes' log-probabilities, which also mends classes that are mixed up.
    cv : int, splitter or iterable of (train, test), default=3
        For a classifier that is not fitted. An int: so many folds by problem (by row for numeric X without groups).

    Attributes
    ----------
    classifier_ : fitted classifier
    classes_ : ndarray of shape (n_classes,)
    label_order_ : tuple or None
        From worst to best.
    calibrator_ : dict of str to ndarray
        The numbers learnt: ``temperature``; ``slope`` and ``intercept``; knots; ``coef`` and ``intercept``.
    temperature_ : float
        Only for ``"temperature"``: above 1 the classifier was over-confident, below 1 under-confident.
    n_clipped_ : int
        Only for ``"isotonic"``: calibration steps whose probability was 0 or 1, and is now ``1 / (n_steps + 2)``
        away from it, for an exact 0 makes a path's log-probability infinite.
    n_calibration_ : int
        Problems calibrated on (rows, where problems are not known).
    training_problems_ : ndarray of uint64, or None
        Keys of the problems of training (where the classifier remembers them) and calibration.
    decision_weights_ : ndarray of shape (n_classes,)
        Only where the classifier weighs its decisions: chosen anew on the calibrated probabilities.
    n_features_in_ : int
        Only for numeric X.

    See Also
    --------
    PathCalibrator : mends P(no error) of whole paths, where calibrated steps still leave it too low.
    prmkit.metrics.calibration_report : ECE, Brier and log-loss before and after.

    Notes
    -----
    Probabilities below 1e-15 count as 1e-15. Over several classes temperature keeps the order *within* each step; with
    two classes also the order of the steps, and so every AUROC.

    Examples
    --------
    >>> from prmkit import PRMClassifier
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> train, other = (make_arithmetic_solutions(60, 2, random_state=seed) for seed in (0, 1))
    >>> clf = PRMClassifier(StepStatistics()).fit(train.X, train.y)
    >>> calibrated = CalibratedStepClassifier(clf).fit(other.X, other.y)
    >>> 0.5 < calibrated.temperature_ < 5, calibrated.n_calibration_
    (True, 60)
    """

    _parameter_constraints = {
        "classifier": [HasMethods(["fit", "predict_proba"])],
        "method": [StrOptions(set(METHODS))],
        "cv": [Interval(Integral, 2, None, closed="left"), HasMethods(["split", "get_n_splits"]), Iterable],
    }

    def __init__(self, classifier, method="temperature", *, cv=3):
        self.classifier = classifier
        self.method = method
        self.cv = cv

    @fit_context
    def fit(self, X, y, sample_weight=None, groups=None):
        """Calibrate, after fitting the classifier where it is not fitted.

        Parameters
        ----------
        X : 1-D array-like of Step; array-like (n_steps, n_features) for a classifier of numbers
        y : array-like of shape (n_steps,)
            One label per step.
        sample_weight : array-like of shape (n_steps,), optional
        groups : array-like of shape (n_steps,), optional
            Only for numeric X: the problem of each row.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a problem is also among those that a fitted classifier learnt from, a class is missing, a label is
            unknown to a fitted classifier, or ``cv`` puts a problem on both sides.
        """
        problems, X = problems_of_rows(X, groups)
        keep = is_fitted(self.classifier)
        classifier = self.classifier if keep else clone(self.classifier)
        if keep and problems is not None:
            refuse_shared_problems(problems, training_problems(classifier), "the classifier was trained on")
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        if not keep:
            fit_weighted(classifier, X, y, sample_weight)  # first: it checks X and y
        self.classes_ = classifier.classes_
        self.label_order_ = known_label_order(classifier)
        y = column_or_1d(y) if problems is None else check_labels(y, len(X), self.label_order_)
        codes = class_codes(y, self.classes_)
        if keep:
            rows, proba = np.arange(len(codes)), classifier.predict_proba(X)
        else:
            rows, proba = self._out_of_fold(X, y, codes, sample_weight, problems)
        weight = None if sample_weight is None else sample_weight[rows]
        codes = codes[rows]
        proba = check_class_probabilities(proba, (len(codes), len(self.classes_)))
        self._refuse_missing_classes(codes, weight)
        self.classifier_ = classifier
        self._learn(proba, codes, weight)
        self._remember(problems, rows, keep)
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Calibrated probability of each class, of shape (n_steps, n_classes)."""
        check_is_fitted(self)
        proba = np.asarray(self.classifier_.predict_proba(X), dtype=np.float64)
        known = ~np.isnan(proba).any(axis=-1)  # a token model may have no answer for a step: NaN stays NaN
        proba[known] = check_class_probabilities(proba[known], (int(known.sum()), len(self.classes_)))
        return calibrate(self.method_, self.calibrator_, log_probabilities(proba))

    def save(self, path: str | Path) -> None:
        """Write classifier and calibration to a folder, by the classifier's own ``save``; no pickle.

        Raises
        ------
        TypeError
            If the classifier has no ``save``.
        """
        check_is_fitted(self)
        arrays = {f"calibrator.{name}": value for name, value in self.calibrator_.items()}
        for name in ("training_problems_", "decision_weights_"):
            if getattr(self, name, None) is not None:
                arrays[name] = getattr(self, name)
        settings = {"method": self.method_, "n_calibration": self.n_calibration_}
        settings["n_clipped"] = getattr(self, "n_clipped_", None)
        save_model(
            type(self).__name__,
            path,
            settings=settings,
            arrays=arrays,
            models={"classifier": self.classifier_},
        )

    @classmethod
    def load(cls, path: str | Path) -> CalibratedStepClassifier:
        """Read a saved model, its ``classifier`` fitted. Runs no code from the folder.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such model, or it is incomplete or damaged.
        """
        settings, arrays, models = load_model(cls.__name__, path)
        model = cls(models["classifier"], settings["method"])
        model.classifier_, model.method_ = model.classifier, model.method
        model.classes_ = model.classifier_.classes_
        model.label_order_ = model.classifier_.label_order_
        model.n_calibration_ = settings["n_calibration"]
        model.calibrator_ = {
            name.removeprefix("calibrator."): value
            for name, value in arrays.items()
            if name.startswith("calibrator.")
        }
        model.training_problems_ = arrays.get("training_problems_")
        if "decision_weights_" in arrays:
            model.decision_weights_ = arrays["decision_weights_"]
        model._name_the_numbers(settings["n_clipped"])
        return model

    def _out_of_fold(
        self, X: Any, y: Any, codes: np.ndarray, sample_weight: np.ndarray | None, problems: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return rows, and what classifiers that have not seen their problems say of them."""
        cv = self.cv
        by_problem = isinstance(cv, Integral) and problems is not None
        splitter = StratifiedProblemKFold(cv) if by_problem else check_cv(cv, y, classifier=True)
        groups = problems
        if problems is not None:  # numbered as they occur: the folds are those of the splitter on X alone
            _, first, groups = np.unique(problems, return_index=True, return_inverse=True)
            groups = first[groups]
        all_rows, probas = [], []
        for train, test in splitter.split(X, y, groups):
            if problems is not None and np.isin(problems[test], problems[train]).any():
                raise ValueError(
                    f"{cv!r} puts steps of one problem on both sides: pass cv=StratifiedProblemKFold(3), or a number"
                )
            self._refuse_missing_classes(codes[train], None, "the training part of a fold")
            weight = None if sample_weight is None else sample_weight[train]
            part = fit_weighted(clone(self.classifier), safe_indexing(X, train), y[train], weight)
            all_rows.append(test)
            probas.append(part.predict_proba(safe_indexing(X, test)))
        return np.concatenate(all_rows), np.concatenate(probas)

    def _refuse_missing_classes(
        self, codes: np.ndarray, weight: np.ndarray | None, where: str = "the calibration data"
    ) -> None:
        counts = np.bincount(codes, weights=weight, minlength=len(self.classes_))
        if missing := [label for label, n in zip(self.classes_.tolist(), counts, strict=True) if not n]:
            found = ", ".join(
                f"{label!r}: {n:g}" for label, n in zip(self.classes_.tolist(), counts, strict=True)
            )
            raise ValueError(
                f"{where} has no step of class {', '.join(map(repr, missing))} (found {found}): its probability cannot "
                "be calibrated. Add problems with such steps, or take a classifier without that class"
                + ("" if where == "the calibration data" else "; or pass fewer folds")
            )

    def _learn(self, proba: np.ndarray, codes: np.ndarray, weight: np.ndarray | None) -> None:
        for name in ("temperature_", "n_clipped_", "decision_weights_"):  # of an earlier fit
            self.__dict__.pop(name, None)
        log_proba = log_probabilities(proba)
        self.method_ = self.method
        self.calibrator_ = fit_calibrator(self.method_, log_proba, codes, weight)
        isotonic = self.method_ == "isotonic"
        self._name_the_numbers(count_clipped(self.calibrator_, log_proba) if isotonic else None)
        if decision_weights(self.classifier_) is not None:
            calibrated = calibrate(self.method_, self.calibrator_, log_proba)
            self.decision_weights_ = choose_decision_weights(codes, calibrated, weight)

    def _name_the_numbers(self, n_clipped: int | None) -> None:
        if self.method_ == "temperature":
            self.temperature_ = float(self.calibrator_["temperature"][0])
        if n_clipped is not None:
            self.n_clipped_ = n_clipped
        if hasattr(self.classifier_, "n_features_in_"):
            self.n_features_in_ = self.classifier_.n_features_in_

    def _remember(self, problems: np.ndarray | None, rows: np.ndarray, keep: bool) -> None:
        calibrated_on = rows if problems is None else np.unique(problems[rows])
        self.n_calibration_ = len(calibrated_on)
        known = training_problems(self.classifier_) if keep else problems
        parts = [part for part in (known, problems) if part is not None]
        self.training_problems_ = np.unique(np.concatenate(parts)) if parts else None
