"""Which ratings a step may have: sets of classes that hold the true one at a stated rate."""

from __future__ import annotations

from typing import Any, ClassVar, TypedDict

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from prmkit.data.labels import check_labels, class_codes
from prmkit.data.problem_keys import problem_keys
from prmkit.data.solution import as_steps
from prmkit.metrics.calibration.calibration import check_class_probabilities
from prmkit.uncertainty._solutions_input import StepClassifier, Steps, units_and_keys
from prmkit.uncertainty.guarantees.base import CLASSIFIER, RATE, Guarantee, share_of
from prmkit.uncertainty.guarantees.thresholds import mean_over_units, smallest_threshold, warn_if_unattainable
from prmkit.utils.sklearn import fit_context


class StepSetReport(TypedDict):
    """What :meth:`StepPredictionSets.evaluate` returns."""

    coverage: float | None
    joint_coverage: float | None
    mean_size: float | None
    singletons: float | None
    coverage_per_class: dict[Any, float | None]
    n_units: int
    n_steps: int


class StepPredictionSets(Guarantee):
    """Predict for each step the set of classes that it may have.

    The guarantee: the set of a random step of a new problem holds its class with probability at least ``1 - alpha``.
    With ``joint=True`` the sets of *all* steps of a new problem hold their classes together with this probability. With
    ``class_conditional=True`` the guarantee holds within each class, so that the rare negative class is not sacrificed.
    No set is empty: the most likely class is always in it. A step without a score (NaN) has the full set.

    Parameters
    ----------
    classifier : fitted classifier over steps, or None, default=None
        Classifier that gives the probabilities. If ``None``, X holds class probabilities, of shape
        (n_steps, n_classes).
    alpha : float, default=0.1
        Share of sets that may miss the truth (share of problems, with ``joint``), in (0, 1).
    class_conditional : bool, default=False
        Whether each class has its own threshold, calibrated on the problems that have steps of it. A class with too few
        problems is in every set.
    joint : bool, default=False
        Whether the guarantee is about all steps of a problem together.
    classes : array-like of shape (n_classes,) or None, default=None
        Labels of the columns of X, if there is no classifier. If ``None``, they are the sorted labels of y.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels of the columns that ``predict`` returns.
    thresholds_ : ndarray of shape (n_classes,)
        A class is in the set if ``1 - P(class)`` is at most its threshold. With ``inf`` it is in every set.
    n_calibration_ : int
        Number of calibration units.
    n_calibration_per_class_ : ndarray of int of shape (n_classes,)
        Number of units with steps of each class.
    attainable_ : bool
        False if there are too few units for this ``alpha``. Every set is then full, or holds the class that is too
        rare.

    Notes
    -----
    The score is ``1 - P(class)`` (LAC). The loss of a problem is the share of its steps whose set misses, and conformal
    risk control (arXiv:2208.02814) bounds its mean. With one step per problem this is split conformal prediction.
    ``joint`` takes the largest score of each problem.

    Sets with other scores (APS, RAPS) come from MAPIE, whose ``SplitConformalClassifier`` takes a fitted
    :class:`~prmkit.PRMClassifier`. Its guarantee needs one step per problem.

    Examples
    --------
    >>> proba = [[0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.1, 0.9], [0.9, 0.1]]
    >>> sets = StepPredictionSets(alpha=0.4).fit(proba, [-1, 1, 1, 1, -1], groups=["p", "p", "q", "r", "s"])
    >>> sets.n_calibration_, sets.thresholds_.round(6).tolist()
    (4, [0.3, 0.3])
    >>> sets.predict([[0.15, 0.85], [0.7, 0.3]]).tolist()
    [[False, True], [True, False]]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "classifier": CLASSIFIER,
        "alpha": RATE,
        "class_conditional": ["boolean"],
        "joint": ["boolean"],
        "classes": ["array-like", None],
    }
    classes_: np.ndarray
    thresholds_: np.ndarray
    n_calibration_per_class_: np.ndarray

    def __init__(
        self,
        classifier: StepClassifier | None = None,
        alpha: float = 0.1,
        *,
        class_conditional: bool = False,
        joint: bool = False,
        classes: npt.ArrayLike | None = None,
    ) -> None:
        self.classifier = classifier
        self.alpha = alpha
        self.class_conditional = class_conditional
        self.joint = joint
        self.classes = classes

    @fit_context
    def fit(self, X: Steps, y: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> StepPredictionSets:
        """Find the thresholds on problems that the classifier has not seen.

        Parameters
        ----------
        X : list of Step, or array-like of shape (n_steps, n_classes)
            Steps. If there is no classifier, their class probabilities.
        y : array-like of shape (n_steps,)
            Label of each step.
        groups : array-like of shape (n_steps,), optional
            Problem of each row. If ``None``, the problem of a step is its text, and each row of numbers is a unit of
            its own. So pass groups wherever rows share a problem.

        Returns
        -------
        self
            The calibrated sets.

        Raises
        ------
        TypeError, ValueError
            If X is of another kind, a row is no probability, a label is no class, or the classifier was trained on a
            problem.
        """
        proba, units, keys = self._read(X, groups)
        labels = check_labels(y, len(proba), label_order=())
        self.classes_ = self._find_classes(labels, proba.shape[1])
        n_classes = len(self.classes_)
        proba = check_class_probabilities(proba, (len(labels), n_classes), unscored=True)
        columns = class_codes(labels, self.classes_)
        self._remember(keys)
        self.unit_ = "problem" if len(keys) else "step"
        self.n_calibration_ = int(units.max(initial=-1)) + 1
        # A class counts once per unit, however many steps of the unit have it.
        pairs = np.unique(units * n_classes + columns)
        self.n_calibration_per_class_ = np.bincount(pairs % n_classes, minlength=n_classes)
        scores = 1 - proba[np.arange(len(columns)), columns]
        self._calibrate(np.where(np.isnan(scores), -np.inf, scores), columns, units)
        return self

    def predict(self, X: Steps, groups: npt.ArrayLike | None = None) -> np.ndarray:
        """Return which classes are in the set of each step.

        Parameters
        ----------
        X : list of Step, or array-like of shape (n_steps, n_classes)
            Steps of new problems, as in ``fit``.
        groups : array-like of shape (n_steps,), optional
            Problem of each row. It only serves to refuse problems of the calibration.

        Returns
        -------
        ndarray of bool of shape (n_steps, n_classes)
            Columns in the order of ``classes_``.

        Raises
        ------
        TypeError, ValueError
            As in ``fit``, and if a problem belongs to the calibration.
        """
        return self._sets(X, groups)[0]

    def evaluate(self, X: Steps, y: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> StepSetReport:
        """Report how often sets hold the truth, and how large they are, on labelled steps of new problems.

        Parameters
        ----------
        X : list of Step, or array-like of shape (n_steps, n_classes)
            Steps of new problems, as in ``fit``.
        y : array-like of shape (n_steps,)
            Label of each step.
        groups : array-like of shape (n_steps,), optional
            Problem of each row, as in ``fit``.

        Returns
        -------
        dict
            ``coverage`` and ``mean_size``: means over units of the mean over their steps. ``joint_coverage``: share
            of units whose steps are all covered. ``singletons``: share of sets with one class.
            ``coverage_per_class``: dict from label to the mean over the units that have it, ``None`` if none has.
            ``n_units`` and ``n_steps``.

        Raises
        ------
        TypeError, ValueError
            As in ``fit``, and if a problem belongs to the calibration.
        """
        sets, units = self._sets(X, groups)
        columns = class_codes(check_labels(y, len(sets), label_order=()), self.classes_)
        covered = sets[np.arange(len(sets)), columns]
        n_units = len(np.unique(units))
        n_missed = len(np.unique(units[~covered]))
        return {
            "coverage": mean_over_units(covered, units),
            "joint_coverage": 1 - n_missed / n_units if n_units else None,
            "mean_size": mean_over_units(sets.sum(axis=1), units),
            "singletons": share_of(sets.sum(axis=1) == 1),
            "coverage_per_class": {
                label: mean_over_units(covered[columns == c], units[columns == c])
                for c, label in enumerate(self.classes_.tolist())
            },
            "n_units": n_units,
            "n_steps": len(sets),
        }

    @classmethod
    def _current_params(cls, params: dict[str, Any]) -> dict[str, Any]:
        # Sets that were saved before APS and RAPS left have two more settings.
        score = params.get("score", "lac")
        if score != "lac":
            raise ValueError(
                f"the saved sets have score={score!r}, which an earlier version of prmkit computed by MAPIE: calibrate "
                "mapie.classification.SplitConformalClassifier over the classifier, or StepPredictionSets anew"
            )
        return {name: value for name, value in params.items() if name not in ("score", "random_state")}

    def _calibrate(self, scores: np.ndarray, columns: np.ndarray, units: np.ndarray) -> None:
        """Set ``thresholds_`` and ``attainable_`` from the scores of the true classes."""
        n_classes = len(self.classes_)
        parts = [columns == c for c in range(n_classes)] if self.class_conditional else [columns >= 0]
        self.attainable_, thresholds = True, []
        for c, rows in enumerate(parts):
            part_scores, part_units = scores[rows], units[rows]
            if self.joint:
                # A problem misses if any of its steps does: its largest score counts.
                part_units, numbers = np.unique(part_units, return_inverse=True)
                largest = np.full(len(part_units), -np.inf)
                np.maximum.at(largest, numbers, part_scores)
                part_scores = largest
            threshold = smallest_threshold(part_scores, part_units, self.alpha, margin=self._margin)
            thresholds.append(threshold.value)
            self.attainable_ &= threshold.attainable
            counted, instead = f"{self.unit_}s", "every set will be full"
            if self.class_conditional:
                label = self.classes_.tolist()[c]
                counted, instead = f"{counted} with class {label!r}", "it will be in every set"
            warn_if_unattainable(threshold, counted, self.alpha, None, instead)
        self.thresholds_ = np.broadcast_to(thresholds, n_classes).astype(np.float64)

    def _sets(self, X: Steps, groups: npt.ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the sets of steps, and the unit of each step."""
        check_is_fitted(self)
        proba, units, keys = self._read(X, groups)
        self._refuse_known(keys)
        proba = check_class_probabilities(proba, (len(proba), len(self.classes_)), unscored=True)
        # Nothing is known of a step without a score: its set is full.
        sets = (1 - proba <= self.thresholds_) | np.isnan(proba)
        sets[np.arange(len(proba)), proba.argmax(axis=1)] = True
        return sets, units

    def _read(self, X: Any, groups: npt.ArrayLike | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return probabilities, the unit of each row, and the keys of the problems."""
        if self.classifier is not None:
            check_is_fitted(self.classifier)
        proba = np.asarray(X if self.classifier is None else self.classifier.predict_proba(X), dtype=np.float64)
        if proba.ndim != 2:
            raise ValueError(f"X has shape {proba.shape}, expected probabilities of shape (n_steps, n_classes)")
        has_steps = self.classifier is not None and np.asarray(X).ndim == 1
        by_problem = problem_keys(as_steps(X)) if has_steps else None
        units, keys = units_and_keys(len(proba), by_problem, groups, "step")
        return proba, units, keys

    def _find_classes(self, labels: np.ndarray, n_columns: int) -> np.ndarray:
        """Return the labels of the columns of the probabilities."""
        if self.classifier is not None:
            return np.asarray(self.classifier.classes_)
        classes = np.unique(labels) if self.classes is None else np.asarray(self.classes)
        if len(classes) != n_columns:
            source = "y has the labels" if self.classes is None else "classes is"
            raise ValueError(
                f"X has {n_columns} columns, and {source} {classes.tolist()}: pass classes=[…], one label per column"
            )
        return classes

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        settings = {"classes": self.classes_, "classes_dtype": self.classes_.dtype.str}
        return settings, {"thresholds": self.thresholds_, "n_per_class": self.n_calibration_per_class_}

    def _restore(self, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.classes_ = np.array(settings["classes"], dtype=settings["classes_dtype"])
        self.thresholds_, self.n_calibration_per_class_ = arrays["thresholds"], arrays["n_per_class"]
