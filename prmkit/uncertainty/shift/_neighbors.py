"""Distance from the nearest training steps: no assumption about the shape of the training data."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from prmkit.uncertainty.shift._feature_shift import FeatureShift
from prmkit.utils.sklearn import Interval


class NeighborShift(FeatureShift):
    """Distance of a step to its k-th nearest training step, as a detector of unlike paths.

    Rows are scaled to length 1 first, so distances lie between 0 and 2. Columns of unlike scales want a
    ``StandardScaler`` in the featurizer: ``make_pipeline(StepStatistics(), StandardScaler())``.

    Parameters
    ----------
    featurizer : transformer over steps, "precomputed" or None, default=None
        None: ``PRMFeaturizer()``, the step's own embedding. With ``context="problem"`` unlike problems count
        where their steps are alike, and less of the rest is found.
        ``"precomputed"``: steps are rows of numbers, and a path is an array (n_steps, n_features).
    n_neighbors : int, default=10
        k.
    path_score : {"mean", "max"}, default="mean"
        The score of a path from those of its steps.

    Attributes
    ----------
    training_rows_ : ndarray of shape (n_steps, n_features)
        Every training step, of length 1: time and memory grow with their number, so fit on a part where there are
        millions.
    n_features_ : int
    training_problems_ : ndarray of uint64 or None
        Keys of the problems that ``fit`` saw.
    n_calibration_ : int
        Number of problems that ``calibrate`` saw.
    calibration_scores_ : ndarray
        Their paths' scores, ascending.

    See Also
    --------
    MahalanobisShift : cheaper, and assumes Gaussian classes.
    LengthShift : the baseline to report beside it.

    References
    ----------
    Y. Sun et al. 2022, "Out-of-distribution detection with deep nearest neighbors", arXiv:2204.06507.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> train = rng.normal([5.0, 0.0], 1.0, (200, 2))
    >>> paths = list(rng.normal([5.0, 0.0], 1.0, (99, 4, 2)))
    >>> detector = NeighborShift("precomputed").fit(train).calibrate(paths)
    >>> detector.p_value([np.array([[0.0, 5.0], [-1.0, 5.0]])])
    array([0.01])
    """

    _parameter_constraints: dict = {
        **FeatureShift._parameter_constraints,
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, featurizer=None, n_neighbors=10, *, path_score="mean"):
        self.featurizer = featurizer
        self.n_neighbors = n_neighbors
        self.path_score = path_score

    def _learn(self, rows: np.ndarray, y: np.ndarray | None) -> None:
        if len(rows) < self.n_neighbors:
            raise ValueError(f"n_neighbors is {self.n_neighbors}, but X has {len(rows)} steps only")
        self.training_rows_ = normalize(rows)

    def _distances(self, rows: np.ndarray) -> np.ndarray:
        index = NearestNeighbors(n_neighbors=self.n_neighbors, algorithm="brute").fit(self.training_rows_)
        rows = normalize(rows.astype(self.training_rows_.dtype, copy=False))
        furthest = index.kneighbors(rows)[0][:, -1].astype(np.float64)
        # Squares come from differences of inner products: below their rounding, a distance is 0.
        return np.where(furthest < 1e-6, 0.0, furthest)
