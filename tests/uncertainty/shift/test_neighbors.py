"""NeighborShift is the k-th nearest distance between directions, and nothing else."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from prmkit.features import StepStatistics
from prmkit.uncertainty import NeighborShift


@pytest.mark.parametrize("k", [1, 3, 10])
def test_agrees_with_brute_force(k):
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(80, 5)), rng.normal(size=(30, 5)) * 4
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (new, X)]
    expected = np.sort(cdist(*unit), axis=1)[:, k - 1]
    np.testing.assert_allclose(NeighborShift("precomputed", k).fit(X).step_scores(new), expected, atol=1e-12)


def test_a_training_step_is_at_distance_zero():
    X = np.random.default_rng(0).normal(size=(200, 384))
    for dtype in (np.float64, np.float32):
        detector = NeighborShift("precomputed", 1).fit(X.astype(dtype))
        assert (detector.step_scores(3 * X.astype(dtype)) == 0).all()


def test_labels_change_nothing():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3))
    one, other = (
        NeighborShift("precomputed").fit(X),
        NeighborShift("precomputed").fit(X, rng.integers(0, 2, 50)),
    )
    np.testing.assert_array_equal(one.step_scores(X), other.step_scores(X))


def test_too_few_training_steps():
    with pytest.raises(ValueError, match="X has 9 steps"):
        NeighborShift("precomputed").fit(np.ones((9, 2)))


def test_prose_is_found_among_word_problems(arithmetic, prose):
    train, calibration, more = arithmetic
    detector = NeighborShift(make_pipeline(StepStatistics(), StandardScaler()), n_neighbors=5).fit(train.X)
    detector.calibrate(calibration)
    unlike = np.repeat([False, True], [len(more), len(prose)])
    assert roc_auc_score(unlike, detector.score([*more, *prose])) > 0.9
    assert detector.flag(prose, alpha=0.1).mean() > 0.8
    assert detector.flag(more, alpha=0.1).mean() < 0.2
