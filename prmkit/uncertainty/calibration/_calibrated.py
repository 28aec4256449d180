"""Calibration of the probabilities of a step classifier, on problems that it has not seen."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import BaseCrossValidator, check_cv
from sklearn.utils import column_or_1d
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from prmkit.data.growing import Growing, Then, growing
from prmkit.data.labels import check_labels, class_codes
from prmkit.data.problem_keys import problem_keys
from prmkit.data.solution import as_steps
from prmkit.data.splitters import StratifiedProblemKFold, holds_numbers
from prmkit.fitted import (
    FittedClassifier,
    Label,
    decision_weights,
    known_label_order,
    refuse_shared_problems,
    training_problems,
)
from prmkit.metrics.calibration.calibration import check_class_probabilities
from prmkit.models.heads.head import choose_decision_weights
from prmkit.uncertainty._solutions_input import StepClassifier, Steps, check_groups, group_keys
from prmkit.uncertainty._wrapping import KeepsFitted, WrapsClassifier, is_fitted
from prmkit.uncertainty.calibration._methods import METHODS, calibrate, count_clipped, fit_calibrator, log_probabilities
from prmkit.utils.saved import Contents
from prmkit.utils.sklearn import HasMethods, Interval, StrOptions, fit_context, fit_weighted, safe_indexing


def problems_of_rows(X: Any, groups: Any) -> tuple[np.ndarray | None, Any]:
    """Return the key of each row's problem (None if not known), and X with steps as a list."""
    if hasattr(X, "__array__") and not hasattr(X, "__iter__"):
        X = np.asarray(X)
    if not holds_numbers(X):
        if groups is not None:
            raise ValueError("groups is for numeric X: a Step already knows its problem")
        X = as_steps(X)
        return problem_keys(X), X
    if groups is None:
        return None, X
    names, numbers = np.unique(check_groups(groups, len(X), "row"), return_inverse=True)
    return group_keys(names)[numbers], X


class CalibratedStepClassifier(KeepsFitted, WrapsClassifier, BaseEstimator):
    """Calibrate the probabilities of a step classifier on solutions of other problems.

    Parameters
    ----------
    classifier : classifier over steps
        Classifier to calibrate. If it is fitted (or in a ``FrozenEstimator``), it is not changed, and ``fit`` needs
        steps of problems that it has not seen. If it is not fitted, ``fit`` calibrates its predictions out of fold,
        by problem, and fits a copy on all steps.
    method : {"temperature", "sigmoid", "isotonic", "vector"}, default="temperature"
        ``"temperature"``: one number. It keeps the order of the classes of a step, and is enough if wrong steps are as
        frequent as in training. ``"sigmoid"``: two numbers per class, which also correct another frequency.
        ``"isotonic"``: any monotone curve per class, for 1,000 steps of each class or more. ``"vector"``: logistic
        regression on the log-probabilities of all classes, which also corrects classes that are mixed up.
    cv : int, splitter or iterable of (train, test), default=3
        Folds for a classifier that is not fitted. An int is the number of folds by problem (by row for numeric X
        without groups).

    Attributes
    ----------
    classifier_ : fitted classifier
        The classifier, or its fitted copy.
    classes_ : ndarray of shape (n_classes,)
        Labels of the columns of ``predict_proba``.
    label_order_ : tuple or None
        Labels from worst to best.
    calibrator_ : dict of str to ndarray
        The learnt numbers: ``temperature``; or ``slope`` and ``intercept``; or the knots of the curves; or ``coef`` and
        ``intercept``.
    temperature_ : float
        Only for ``"temperature"``: above 1 the classifier was over-confident, below 1 under-confident.
    n_clipped_ : int
        Only for ``"isotonic"``: number of calibration steps with a probability of 0 or 1. It is moved by
        ``1 / (n_steps + 2)``, because an exact 0 makes the log-probability of a path infinite.
    n_calibration_ : int
        Number of calibration problems (of rows, if no problem is known).
    training_problems_ : ndarray of uint64, or None
        Keys of the problems of training (if the classifier remembers them) and of calibration.
    decision_weights_ : ndarray of shape (n_classes,)
        Only if the classifier weighs its decisions: weights for the calibrated probabilities.
    n_features_in_ : int
        Only for numeric X: number of columns.

    See Also
    --------
    PathCalibrator : calibrates P(no error) of whole paths, which calibrated steps may still leave too low.
    prmkit.metrics.calibration_report : ECE, Brier score and log-loss before and after.

    Notes
    -----
    Probabilities below 1e-15 count as 1e-15. With several classes temperature keeps the order *within* each step. With
    two classes it also keeps the order of the steps, and so every AUROC.

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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "classifier": [HasMethods(["fit", "predict_proba"])],
        "method": [StrOptions(set(METHODS))],
        "cv": [Interval(Integral, 2, None, closed="left"), HasMethods(["split", "get_n_splits"]), Iterable],
    }

    classifier_: FittedClassifier
    classes_: np.ndarray
    label_order_: tuple[Label, ...] | None
    calibrator_: dict[str, np.ndarray]
    temperature_: float
    n_clipped_: int
    n_calibration_: int
    training_problems_: np.ndarray | None
    decision_weights_: np.ndarray
    n_features_in_: int

    def __init__(
        self,
        classifier: StepClassifier,
        method: str = "temperature",
        *,
        cv: int | BaseCrossValidator | Iterable[tuple[npt.ArrayLike, npt.ArrayLike]] = 3,
    ) -> None:
        self.classifier = classifier
        self.method = method
        self.cv = cv

    @fit_context
    def fit(
        self,
        X: Steps,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
        groups: npt.ArrayLike | None = None,
    ) -> CalibratedStepClassifier:
        """Calibrate, after fitting the classifier if it is not fitted.

        Parameters
        ----------
        X : 1-D array-like of Step, or array-like of shape (n_steps, n_features)
            Steps, or rows of numbers for a classifier of numbers.
        y : array-like of shape (n_steps,)
            Label of each step.
        sample_weight : array-like of shape (n_steps,), optional
            Weight of each step. If ``None``, all steps weigh the same.
        groups : array-like of shape (n_steps,), optional
            Problem of each row. Only for numeric X.

        Returns
        -------
        self
            The calibrated classifier.

        Raises
        ------
        ValueError
            If the fitted classifier was trained on a problem, a class is missing, the fitted classifier does not know a
            label, or ``cv`` puts a problem on both sides.
        """
        problems, rows_of_X = problems_of_rows(X, groups)
        keep = is_fitted(self.classifier)
        classifier: StepClassifier = self.classifier if keep else clone(self.classifier)
        if keep and problems is not None:
            refuse_shared_problems(problems, training_problems(classifier), "the classifier was trained on")
        weight: np.ndarray | None = None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, rows_of_X, ensure_non_negative=True)
        if not keep:
            # Before anything else: it checks X and y.
            fit_weighted(classifier, rows_of_X, y, weight)
        self.classes_ = classifier.classes_
        self.label_order_ = known_label_order(classifier)
        labels = column_or_1d(y) if problems is None else check_labels(y, len(rows_of_X), self.label_order_)
        codes = class_codes(labels, self.classes_)
        if keep:
            rows, proba = np.arange(len(codes)), classifier.predict_proba(rows_of_X)
        else:
            rows, proba = self._out_of_fold(rows_of_X, labels, codes, weight, problems)
        weight = None if weight is None else weight[rows]
        codes = codes[rows]
        proba = check_class_probabilities(proba, (len(codes), len(self.classes_)))
        self._refuse_missing_classes(codes, weight)
        self.classifier_ = classifier
        self._learn(proba, codes, weight)
        self._remember(problems, rows, keep)
        return self

    def predict_proba(self, X: Steps) -> np.ndarray:
        """Return the calibrated probability of each class.

        Parameters
        ----------
        X : 1-D array-like of Step, or array-like of shape (n_steps, n_features)
            Steps, as in ``fit``.

        Returns
        -------
        ndarray of shape (n_steps, n_classes)
            Columns in the order of ``classes_``.
        """
        check_is_fitted(self)
        return self._calibrated(self.classifier_.predict_proba(X))

    def grow(self, problem: str) -> Growing:
        """Return a solution of a problem that grows: the way of :meth:`incremental`.

        Parameters
        ----------
        problem : str
            Text of the problem.

        Returns
        -------
        Growing
            Its ``extend(steps)`` returns the calibrated probabilities of the new steps.
        """
        check_is_fitted(self)
        return Then(growing(self.classifier_, problem), self._calibrated)

    def _calibrated(self, proba: npt.ArrayLike) -> np.ndarray:
        proba = np.array(proba, dtype=np.float64)
        # A token model may have no answer for a step: NaN stays NaN.
        answered = ~np.isnan(proba).any(axis=-1)
        proba[answered] = check_class_probabilities(proba[answered], (int(answered.sum()), len(self.classes_)))
        return calibrate(self.method_, self.calibrator_, log_probabilities(proba))

    def _contents(self) -> Contents:
        check_is_fitted(self)
        arrays = {f"calibrator.{name}": value for name, value in self.calibrator_.items()}
        for name in ("training_problems_", "decision_weights_"):
            if getattr(self, name, None) is not None:
                arrays[name] = getattr(self, name)
        settings = {"method": self.method_, "n_calibration": self.n_calibration_}
        settings["n_clipped"] = getattr(self, "n_clipped_", None)
        return Contents(settings, arrays, models={"classifier": self.classifier_})

    @classmethod
    def _from_contents(cls, contents: Contents) -> CalibratedStepClassifier:
        settings, arrays = contents.settings, contents.arrays
        model = cls(contents.models["classifier"], settings["method"])
        model.classifier_, model.method_ = model.classifier, model.method
        model.classes_ = model.classifier_.classes_
        model.label_order_ = known_label_order(model.classifier_)
        model.n_calibration_ = settings["n_calibration"]
        model.calibrator_ = {
            name.removeprefix("calibrator."): value for name, value in arrays.items() if name.startswith("calibrator.")
        }
        model.training_problems_ = arrays.get("training_problems_")
        if "decision_weights_" in arrays:
            model.decision_weights_ = arrays["decision_weights_"]
        model._name_the_numbers(settings["n_clipped"])
        return model

    def _out_of_fold(
        self, X: Any, y: Any, codes: np.ndarray, sample_weight: np.ndarray | None, problems: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return rows, and their probabilities by classifiers that have not seen their problems."""
        cv: Any = self.cv
        by_problem = isinstance(cv, Integral) and problems is not None
        splitter = StratifiedProblemKFold(cv) if by_problem else check_cv(cv, y, classifier=True)
        groups = problems
        if problems is not None:
            # Number the problems as they occur: the folds are then those of the splitter on X alone.
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
        """Raise if a class has no step."""
        counts = np.bincount(codes, weights=weight, minlength=len(self.classes_))
        if missing := [label for label, n in zip(self.classes_.tolist(), counts, strict=True) if not n]:
            found = ", ".join(f"{label!r}: {n:g}" for label, n in zip(self.classes_.tolist(), counts, strict=True))
            raise ValueError(
                f"{where} has no step of class {', '.join(map(repr, missing))} (found {found}): its probability cannot "
                "be calibrated. Add problems with such steps, or use a classifier without that class"
                + ("" if where == "the calibration data" else "; or pass fewer folds")
            )

    def _learn(self, proba: np.ndarray, codes: np.ndarray, weight: np.ndarray | None) -> None:
        """Fit the calibrator on probabilities and the columns of the labels."""
        # An earlier fit may have left these.
        for name in ("temperature_", "n_clipped_", "decision_weights_"):
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
        """Set the attributes that repeat a learnt number under a name of its own."""
        if self.method_ == "temperature":
            self.temperature_ = float(self.calibrator_["temperature"][0])
        if n_clipped is not None:
            self.n_clipped_ = n_clipped
        if hasattr(self.classifier_, "n_features_in_"):
            self.n_features_in_ = self.classifier_.n_features_in_

    def _remember(self, problems: np.ndarray | None, rows: np.ndarray, keep: bool) -> None:
        """Store the problems of training and calibration."""
        calibrated_on = rows if problems is None else np.unique(problems[rows])
        self.n_calibration_ = len(calibrated_on)
        trained_on = training_problems(self.classifier_) if keep else problems
        parts = [part for part in (trained_on, problems) if part is not None]
        self.training_problems_ = np.unique(np.concatenate(parts)) if parts else None
