"""The detectors of unlike paths: by length, which is the baseline, and by distance in the space of features."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.covariance import LedoitWolf
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from prmkit.data.labels import check_labels
from prmkit.data.problem_keys import distinct_problem_keys
from prmkit.data.solution import Solution, as_steps, flatten, iter_solutions, refuse_steps
from prmkit.features import PRMFeaturizer
from prmkit.features.sequences import Transformer
from prmkit.metrics.solutions.aggregation import aggregate_ragged
from prmkit.uncertainty._solutions_input import PathsInput, Steps, unscored
from prmkit.uncertainty.shift._base import ShiftDetector
from prmkit.utils.ragged import Ragged
from prmkit.utils.sklearn import HasMethods, StrOptions, fit_context


class LengthShift(ShiftDetector):
    """Detect paths of unusual length, in either direction: the baseline among detectors of unlike paths.

    The score of a path is ``|log(characters / usual)| + |log(steps / usual)|``, where the usual numbers are medians
    over training paths. A score of 0.69 means that one of the two is off by a factor of 2. Data sets and generators
    often differ in length first of all, and then **this detector wins** (PRMBench against ProcessBench's MATH: AUROC
    0.80, by embeddings 0.72). So report it beside any other detector, and claim nothing for one that does not beat
    it.

    Attributes
    ----------
    usual_characters_ : float
        Median number of characters of the distinct training solutions.
    usual_steps_ : float
        Median number of steps of the distinct training solutions.
    usual_step_characters_ : float
        Median number of characters of the training steps.
    training_problems_ : ndarray of uint64
        Keys of the problems that ``fit`` saw.
    n_calibration_ : int
        Number of problems that ``calibrate`` saw.
    calibration_scores_ : ndarray
        Scores of the calibration paths, ascending.

    See Also
    --------
    MahalanobisShift : detector that reads the steps.

    Examples
    --------
    >>> from prmkit import Solution, flatten
    >>> X = flatten([Solution(f"{i} + 1?", [f"{i} + 1 =", f"{i + 1}"]) for i in range(10, 20)])
    >>> LengthShift().fit(X).score([Solution("30 + 1?", ["30 + 1 =", "31"]), Solution("2?", ["a" * 10] * 4)]).round(2)
    array([0.  , 2.08])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}
    usual_characters_: float
    usual_steps_: float
    usual_step_characters_: float

    @fit_context
    def fit(self, X: Steps, y: npt.ArrayLike | None = None) -> LengthShift:
        """Learn usual lengths.

        Parameters
        ----------
        X : 1-D array-like of Step or str
            Training steps. A solution counts once and as a whole, even if only some of its steps are rows.
        y : ignored
            Not used. It is there for scikit-learn's conventions.

        Returns
        -------
        self
            The fitted detector.

        Raises
        ------
        TypeError, ValueError
            If X is not a flat list of steps.
        """
        self._forget_calibration()
        samples: Any = X
        steps = as_steps(samples)
        self.training_problems_ = distinct_problem_keys(steps)
        sizes = _sizes([solution for solution, _, _ in iter_solutions(steps)])
        self.usual_characters_, self.usual_steps_ = (float(median) for median in np.median(sizes, axis=0))
        self.usual_step_characters_ = float(np.median([max(len(step.text), 1) for step in steps]))
        return self

    def step_scores(self, X: Steps) -> np.ndarray:
        """Score how unusual the length of single steps is: ``|log(characters / usual)|``.

        Parameters
        ----------
        X : 1-D array-like of Step or str
            Steps.

        Returns
        -------
        ndarray of shape (n_steps,)
            Score of each step. Higher is more unlike the training data. The score of a path is not made of these.
        """
        check_is_fitted(self)
        samples: Any = X
        characters = np.array([max(len(step.text), 1) for step in as_steps(samples)])
        return np.asarray(np.abs(np.log(characters / self.usual_step_characters_)))

    def _score_paths(self, X: list[Any]) -> np.ndarray:
        usual = np.array([self.usual_characters_, self.usual_steps_])
        return np.asarray(np.abs(np.log(_sizes(X) / usual)).sum(axis=1))


class MahalanobisShift(ShiftDetector):
    """Detect unlike paths by the squared Mahalanobis distance of a step to the nearest training class.

    Each class has its own mean. All classes share one covariance, which is shrunk by Ledoit and Wolf's rule. Before
    that every column is scaled to unit spread within classes, because shrinkage would favour wide columns.

    Parameters
    ----------
    featurizer : transformer over steps, "precomputed" or None, default=None
        Transformer that turns steps into rows of numbers. If ``None``, it is ``PRMFeaturizer()``, the step's own
        embedding. With ``PRMFeaturizer(context="problem")`` unlike problems are found even if their steps are alike,
        and fewer other paths. If ``"precomputed"``, steps are rows of numbers, and a path is an array
        (n_steps, n_features).
    path_score : {"mean", "max"}, default="mean"
        How the scores of its steps make the score of a path.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels of y. Without y there is one class, 0.
    means_ : ndarray of shape (n_classes, n_features)
        Mean of each class.
    scale_ : ndarray of shape (n_features,)
        Spread within classes. It is 1 for columns without spread.
    whitening_ : ndarray of shape (n_features, n_features)
        Distances are Euclidean after ``(row - mean) / scale_ @ whitening_``.
    n_features_ : int
        Number of columns.
    training_problems_ : ndarray of uint64 or None
        Keys of the problems that ``fit`` saw.
    n_calibration_ : int
        Number of problems that ``calibrate`` saw.
    calibration_scores_ : ndarray
        Scores of the calibration paths, ascending.

    See Also
    --------
    LengthShift : the baseline to report beside it.

    Notes
    -----
    Fitted on 147 and calibrated on 150 solutions of ProcessBench's MATH problems, by default settings, it tells 146
    others from 120 each of GSM8K, Mr-Ben mathematics and biology, logical deduction and PRMBench with an AUROC of 0.96,
    0.83, 1.00, 0.99 and 0.72. :class:`LengthShift` reaches 0.49, 0.66, 0.44, 0.40 and 0.80. This is one split, so trust
    the first digit only. At ``alpha=0.1`` it flagged 10 % of the 146.

    References
    ----------
    K. Lee et al. 2018, arXiv:1807.03888 (section 2.1).

    Examples
    --------
    >>> from prmkit import Solution
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> train, calibration = (make_arithmetic_solutions(60, 1, random_state=seed) for seed in (0, 1))
    >>> detector = MahalanobisShift(StepStatistics()).fit(train.X, train.y).calibrate(calibration.solutions)
    >>> essay = Solution("Was Hamlet mad?", ["He says that he feigns it.", "The court is not so sure, and nor are we."])
    >>> detector.flag([essay])
    array([ True])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "featurizer": [StrOptions({"precomputed"}), HasMethods(["fit", "transform"]), None],
        "path_score": [StrOptions({"max", "mean"})],
    }
    classes_: np.ndarray
    means_: np.ndarray
    scale_: np.ndarray
    whitening_: np.ndarray
    n_features_: int

    def __init__(self, featurizer: Transformer | str | None = None, *, path_score: str = "mean") -> None:
        self.featurizer = featurizer
        self.path_score = path_score

    @fit_context
    def fit(self, X: Steps, y: npt.ArrayLike | None = None) -> MahalanobisShift:
        """Learn where the training steps lie.

        Parameters
        ----------
        X : 1-D array-like of Step or str, or array-like of shape (n_steps, n_features)
            Steps that the classifier learnt from: ``flatten(solutions)``, or the labelled ones. With
            ``featurizer="precomputed"`` rows of numbers.
        y : array-like of shape (n_steps,), optional
            Class of each step.

        Returns
        -------
        self
            The fitted detector.

        Raises
        ------
        TypeError, ValueError
            If X is not a flat list of steps, y has another length, or a feature is NaN.
        """
        self._forget_calibration()
        self.featurizer_: Any = None
        self.training_problems_ = None
        samples: Any = X
        if not self._precomputed:
            samples = as_steps(samples)
            self.training_problems_ = distinct_problem_keys(samples)
            featurizer = PRMFeaturizer() if self.featurizer is None else clone(self.featurizer)
            self.featurizer_ = featurizer.fit(samples, y)
        rows = self._rows(samples)
        self.n_features_ = rows.shape[1]
        labels = np.zeros(len(rows), dtype=int) if y is None else check_labels(y, len(rows))
        self.classes_, label = np.unique(labels, return_inverse=True)
        means = [rows[label == k].mean(axis=0, dtype=np.float64) for k in range(len(self.classes_))]
        self.means_ = np.stack(means)
        self.scale_, self.whitening_ = _spread(rows - self.means_[label])
        return self

    def step_scores(self, X: Steps) -> np.ndarray:
        """Measure how far single steps lie from the training steps.

        Parameters
        ----------
        X : 1-D array-like of Step or str, or array-like of shape (n_steps, n_features)
            Steps, as in ``fit``.

        Returns
        -------
        ndarray of shape (n_steps,)
            Score of each step. Higher is more unlike the training data.

        Raises
        ------
        TypeError, ValueError
            If X is not a flat list of steps, or a feature is NaN.
        """
        check_is_fitted(self)
        rows = self._rows(X)
        if rows.shape[1] != self.n_features_:
            raise ValueError(f"X has {rows.shape[1]} features, expected {self.n_features_} as in fit")
        nearest = np.full(len(rows), np.inf)
        for mean in self.means_:
            whitened = (rows - mean) / self.scale_ @ self.whitening_
            nearest = np.minimum(nearest, np.einsum("ij,ij->i", whitened, whitened))
        return nearest

    @classmethod
    def _current_params(cls, params: dict[str, Any]) -> dict[str, Any]:
        # Detectors that were saved before ``relative`` left have that setting.
        if params.get("relative"):
            raise ValueError(
                "the saved detector has relative=True, which an earlier version of prmkit offered: fit it anew"
            )
        return {name: value for name, value in params.items() if name != "relative"}

    @property
    def _precomputed(self) -> bool:
        return isinstance(self.featurizer, str)

    def _rows(self, X: Any) -> np.ndarray:
        """Return the features of steps."""
        if self._precomputed:
            refuse_steps(X)
        else:
            X = self.featurizer_.transform(as_steps(X))
        return np.asarray(check_array(X, dtype=(np.float64, np.float32), input_name="X"))

    def _read_paths(self, X: PathsInput) -> list[Any]:
        if not self._precomputed:
            return super()._read_paths(X)
        if isinstance(X, np.ndarray) and X.dtype != object and X.ndim != 3:
            raise ValueError(f"X has shape {X.shape}, expected a list of arrays (n_steps, n_features), one per path")
        rows = unscored(X)
        refuse_steps(next(iter(rows), None))
        paths = [np.asarray(path) for path in rows]
        for i, path in enumerate(paths):
            if path.ndim != 2 or not len(path):
                raise ValueError(
                    f"path {i} has shape {path.shape}, expected (n_steps, n_features) with at least 1 step"
                )
        return paths

    def _score_paths(self, X: list[Any]) -> np.ndarray:
        lengths = np.array([len(path) if self._precomputed else path.n_steps for path in X])
        scores = self.step_scores(np.concatenate(X) if self._precomputed else flatten(X))
        return aggregate_ragged(Ragged(scores, lengths), self.path_score)


def _sizes(solutions: list[Solution]) -> np.ndarray:
    """Return the characters (at least 1) and steps of each solution, of shape (n_solutions, 2)."""
    return np.array(
        [(max(sum(map(len, solution.steps)), 1), solution.n_steps) for solution in solutions], dtype=np.float64
    )


def _spread(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the spread of each column, and the matrix that whitens the scaled columns."""
    scale = np.sqrt(np.mean(centred**2, axis=0))
    scale[scale == 0] = 1.0
    shrunk = LedoitWolf(store_precision=False, assume_centered=True).fit(centred / scale)
    values, vectors = np.linalg.eigh(shrunk.covariance_)
    # A direction without any spread says nothing where nothing was shrunk, as in a pseudo-inverse.
    has_spread = values > values.max(initial=0.0) * len(values) * np.finfo(float).eps
    return scale, vectors * np.where(has_spread, 1.0 / np.sqrt(np.where(has_spread, values, 1.0)), 0.0)
