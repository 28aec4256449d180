"""Which ratings a step may have: sets of classes that hold the true one at a stated rate."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from prmkit.data.labels import check_labels, class_codes
from prmkit.data.problem_keys import problem_keys
from prmkit.data.solution import as_steps
from prmkit.metrics.calibration.calibration import check_class_probabilities
from prmkit.uncertainty._solutions_input import units_and_keys
from prmkit.uncertainty.guarantees._base import Guarantee, share_of
from prmkit.uncertainty.guarantees._cut import largest_cut, mean_over_units, warn_unattainable
from prmkit.uncertainty.guarantees._mapie_sets import MapieSets
from prmkit.utils.sklearn import HasMethods, Interval, StrOptions, fit_context


class StepPredictionSets(Guarantee):
    """Predict for each step the set of classes that it may have.

    The guarantee: the set of a random step of a new problem holds its class with probability at least ``1 - alpha``;
    with ``joint=True`` the sets of *all* steps of a new problem hold their classes together; with
    ``class_conditional=True`` it holds within each class, so that the rare negative one is not sacrificed. No set is
    empty: the likeliest class is always in it.

    Parameters
    ----------
    classifier : fitted classifier over steps, or None, default=None
        None: X holds class probabilities, of shape (n_steps, n_classes), in place of steps.
    alpha : float, default=0.1
        Share of sets (of problems, with ``joint``) that may miss the truth, in (0, 1).
    class_conditional : bool, default=False
        One threshold per class, from the problems that have steps of it. A class with too few is in every set.
    score : {"lac", "aps", "raps"}, default="lac"
        ``"lac"``: ``1 - P(class)``. ``"aps"`` and ``"raps"`` add up probabilities from the largest down, and are
        calibrated by MAPIE (the extra ``mapie``) on one random step per problem; they need 3 classes.
    joint : bool, default=False
    classes : array-like of shape (n_classes,) or None, default=None
        Without a classifier: the labels of the columns. None: the sorted labels of y.
    random_state : int, RandomState or None, default=None
        Draws the steps for ``"aps"`` and ``"raps"``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Columns of what ``predict`` returns.
    thresholds_ : ndarray of shape (n_classes,)
        inf: a class is in every set. ``"lac"``: it is in the set where ``1 - P(class)`` is at most this. ``"aps"`` and
        ``"raps"``: one number for all classes, MAPIE's quantile of summed probabilities; classes enter from the
        likeliest down until their sum (with the penalty of ``"raps"``) reaches it. The one that reaches it is
        included always, not at random, so these sets are conservative: they hold the class more often than asked.
    n_calibration_ : int
        Number of calibration units.
    n_calibration_per_class_ : ndarray of int of shape (n_classes,)
        Number of units with steps of each class.
    attainable_ : bool
        False: too few units for this ``alpha``, and sets are full (of a class: it is in every set).
    unit_ : {"problem", "step"}
        What was counted: the problem where it is known, else the step.
    settings_ : dict
        The level that was calibrated for, whatever the parameters say by now.
    calibration_problems_ : ndarray of uint64
        Keys of the problems of the calibration; predictions refuse them.

    Notes
    -----
    The loss of a problem is the share of its steps whose set misses, and conformal risk control (arXiv:2208.02814)
    bounds its mean; with one step per problem this is split conformal prediction. ``joint`` takes the largest score
    of each problem.

    Examples
    --------
    >>> proba = [[0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.1, 0.9], [0.9, 0.1]]
    >>> sets = StepPredictionSets(alpha=0.4).fit(proba, [-1, 1, 1, 1, -1], groups=["p", "p", "q", "r", "s"])
    >>> sets.n_calibration_, sets.thresholds_.round(6).tolist()
    (4, [0.3, 0.3])
    >>> sets.predict([[0.15, 0.85], [0.7, 0.3]]).tolist()
    [[False, True], [True, False]]
    """

    _thresholds = ()
    _parameter_constraints = {
        "classifier": [HasMethods(["fit", "predict_proba"]), None],
        "alpha": [Interval(Real, 0, 1, closed="neither")],
        "class_conditional": ["boolean"],
        "score": [StrOptions({"lac", "aps", "raps"})],
        "joint": ["boolean"],
        "classes": ["array-like", None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        classifier: Any = None,
        alpha: float = 0.1,
        *,
        class_conditional: bool = False,
        score: str = "lac",
        joint: bool = False,
        classes: Any = None,
        random_state: Any = None,
    ) -> None:
        self.classifier = classifier
        self.alpha = alpha
        self.class_conditional = class_conditional
        self.score = score
        self.joint = joint
        self.classes = classes
        self.random_state = random_state

    @fit_context
    def fit(self, X: Any, y: Any, groups: Any = None) -> StepPredictionSets:
        """Find the thresholds on problems that the classifier has not seen.

        Parameters
        ----------
        X : list of Step; without a classifier array-like of shape (n_steps, n_classes)
            Steps, or their class probabilities.
        y : array-like of shape (n_steps,)
        groups : array-like of shape (n_steps,), optional
            The problem of each row. None: steps say it themselves; each row of numbers is a unit of its own,
            so give it wherever rows share a problem.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            For another kind of X, rows that are no probabilities, labels that are no classes, problems that the
            classifier was trained on, ``class_conditional`` or ``joint`` with another score than "lac", or another
            score with fewer than 3 classes, or with a class that the drawn steps lack.
        ImportError
            If ``score`` needs MAPIE and it is not installed.
        """
        if self.score != "lac" and (self.class_conditional or self.joint):
            raise ValueError(
                f'score is {self.score!r}: class_conditional and joint are there for score="lac"'
            )
        proba, units, keys = self._read(X, groups)
        labels = check_labels(y, len(proba), label_order=())
        self.classes_ = self._find_classes(labels, proba.shape[1])
        if self.score != "lac" and len(self.classes_) < 3:
            raise ValueError(
                f"score is {self.score!r}, which needs 3 classes, and there are {len(self.classes_)}: "
                'use score="lac"'
            )
        proba = check_class_probabilities(proba, (len(labels), len(self.classes_)))
        columns = class_codes(labels, self.classes_)
        self._remember(keys)
        self.unit_ = "problem" if len(keys) else "step"
        self.n_calibration_ = int(units.max(initial=-1)) + 1
        n_classes = len(self.classes_)
        pairs = np.unique(units * n_classes + columns)  # each class once per unit
        self.n_calibration_per_class_ = np.bincount(pairs % n_classes, minlength=n_classes)
        self.mapie_ = None
        if self.score == "lac":
            self._fit_lac(1 - proba[np.arange(len(columns)), columns], columns, units)
        else:
            self.mapie_ = MapieSets.calibrate(
                proba, columns, units, self.classes_, self.score, self.alpha, self.random_state
            )
            self.thresholds_ = np.full(n_classes, self.mapie_.threshold)
            self.attainable_ = bool(np.isfinite(self.mapie_.threshold))
        return self

    def predict(self, X: Any, groups: Any = None) -> np.ndarray:
        """Return which classes are in the set of each step.

        Parameters
        ----------
        X, groups : as in ``fit``
            ``groups`` serves to refuse problems of the calibration only.

        Returns
        -------
        ndarray of bool of shape (n_steps, n_classes)
            Columns in the order of ``classes_``.

        Raises
        ------
        TypeError, ValueError
            As in ``fit``, and for problems of the calibration.
        """
        return self._sets(X, groups)[0]

    def evaluate(self, X: Any, y: Any, groups: Any = None) -> dict[str, Any]:
        """Return how often sets hold the truth, and how large they are, on labelled steps of new problems.

        Returns
        -------
        dict
            ``coverage`` and ``mean_size``, means over units of the mean over their steps; ``joint_coverage``, the
            share of units whose steps are all covered; ``singletons``, the share of sets with one class;
            ``coverage_per_class``, a dict from label to the mean over the units that have it, None where none has;
            ``n_units``, ``n_steps``.
        """
        sets, units = self._sets(X, groups)
        columns = class_codes(check_labels(y, len(sets), label_order=()), self.classes_)
        covered = sets[np.arange(len(sets)), columns]
        n_units = len(np.unique(units))
        missed = len(np.unique(units[~covered]))
        return {
            "coverage": mean_over_units(covered, units),
            "joint_coverage": 1 - missed / n_units if n_units else None,
            "mean_size": mean_over_units(sets.sum(axis=1), units),
            "singletons": share_of(sets.sum(axis=1) == 1),
            "coverage_per_class": {
                label: mean_over_units(covered[columns == c], units[columns == c])
                for c, label in enumerate(self.classes_.tolist())
            },
            "n_units": n_units,
            "n_steps": len(sets),
        }

    def _fit_lac(self, scores: np.ndarray, columns: np.ndarray, units: np.ndarray) -> None:
        n_classes = len(self.classes_)
        parts = [columns == c for c in range(n_classes)] if self.class_conditional else [columns >= 0]
        self.attainable_, thresholds = True, []
        for c, rows in enumerate(parts):
            values, of = -scores[rows], units[rows]
            if self.joint:
                of, numbers = np.unique(of, return_inverse=True)
                lowest = np.full(len(of), np.inf)
                np.minimum.at(lowest, numbers, values)
                values = lowest
            cut = largest_cut(values, of, self.alpha)  # missed where the score exceeds minus the cut
            thresholds.append(self._margin - cut.value)
            self.attainable_ &= cut.attainable
            if not cut.attainable:
                counted, instead = f"{self.unit_}s", "every set will be full"
                if self.class_conditional:
                    label = self.classes_.tolist()[c]
                    counted, instead = f"{counted} with class {label!r}", "it will be in every set"
                warn_unattainable(cut.n_units, counted, self.alpha, None, instead)
        self.thresholds_ = np.broadcast_to(thresholds, n_classes).astype(np.float64)

    def _sets(self, X: Any, groups: Any) -> tuple[np.ndarray, np.ndarray]:
        check_is_fitted(self)
        proba, units, keys = self._read(X, groups)
        self._refuse_known(keys)
        proba = check_class_probabilities(proba, (len(proba), len(self.classes_)))
        if self.mapie_ is None or not self.attainable_:
            sets = 1 - proba <= self.thresholds_
        else:
            sets = self.mapie_.predict(proba)
        sets[np.arange(len(proba)), proba.argmax(axis=1)] = True
        return sets, units

    def _read(self, X: Any, groups: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return probabilities, the unit of each row, and the keys of the problems."""
        if self.classifier is not None:
            check_is_fitted(self.classifier)
        proba = np.asarray(
            X if self.classifier is None else self.classifier.predict_proba(X), dtype=np.float64
        )
        if proba.ndim != 2:
            raise ValueError(
                f"X has shape {proba.shape}, expected probabilities of shape (n_steps, n_classes)"
            )
        known = self.classifier is not None and np.ndim(X) == 1
        units, keys = units_and_keys(len(proba), problem_keys(as_steps(X)) if known else None, groups, "step")
        return proba, units, keys

    def _find_classes(self, labels: np.ndarray, n_columns: int) -> np.ndarray:
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
        arrays = {"thresholds": self.thresholds_, "n_per_class": self.n_calibration_per_class_}
        return settings, arrays | (self.mapie_.state() if self.mapie_ else {})

    def _restore(self, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.classes_ = np.array(settings["classes"], dtype=settings["classes_dtype"])
        self.thresholds_, self.n_calibration_per_class_ = arrays["thresholds"], arrays["n_per_class"]
        self.mapie_ = None if self.score == "lac" else MapieSets.restore(arrays, self.score, self.alpha)
