"""MahalanobisShift measures what scikit-learn's shrinkage covariance measures, class by class."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from prmkit import PRMFeaturizer, Solution, flatten
from prmkit.features import StepStatistics
from prmkit.uncertainty import MahalanobisShift


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    y = rng.integers(-1, 2, 300)
    mixing = rng.normal(size=(6, 6))
    return rng.normal(size=(300, 6)) @ mixing * [1, 10, 100, 1, 0.01, 1] + 3 * y[:, None], y


def reference(rows, y, new):
    """By scikit-learn: centre by class, scale, shrink, and measure to every class mean."""
    means = np.stack([rows[y == label].mean(axis=0) for label in np.unique(y)])
    centred = np.concatenate([rows[y == label] - mean for label, mean in zip(np.unique(y), means, strict=True)])
    scale = centred.std(axis=0)
    fitted = LedoitWolf(assume_centered=True).fit(centred / scale)
    return np.stack([fitted.mahalanobis((new - mean) / scale) for mean in means])


def test_agrees_with_scikit_learn(rows):
    X, y = rows
    new = np.random.default_rng(1).normal(size=(50, 6)) * 5
    detector = MahalanobisShift("precomputed").fit(X, y)
    np.testing.assert_allclose(detector.step_scores(new), reference(X, y, new).min(axis=0), rtol=1e-9)


def test_without_labels_there_is_one_class(rows):
    X, y = rows
    np.testing.assert_allclose(
        MahalanobisShift("precomputed").fit(X).step_scores(X), reference(X, 0 * y, X)[0], rtol=1e-9
    )


def test_scale_of_a_column_does_not_matter(rows):
    X, y = rows
    factors = np.array([1e-6, 1.0, 1e6, 7.0, 1e3, 1.0])
    np.testing.assert_allclose(
        MahalanobisShift("precomputed").fit(X * factors, y).step_scores(X * factors),
        MahalanobisShift("precomputed").fit(X, y).step_scores(X),
        rtol=1e-6,
    )


def test_constant_and_equal_columns():
    """A column without spread, and one twice: finite distances, and the constant's change is noticed."""
    rng = np.random.default_rng(0)
    column = rng.normal(size=(100, 1))
    X = np.hstack([column, column, np.ones((100, 1)), rng.normal(size=(100, 1))])
    detector = MahalanobisShift("precomputed").fit(X)
    usual = detector.step_scores(X)
    assert np.isfinite(usual).all()
    for change in ([0, 0, 50, 0], [9, -9, 0, 0]):
        assert detector.step_scores(X[:1] + np.array(change))[0] > usual.max()
    all_the_same = MahalanobisShift("precomputed").fit(np.ones((5, 2)))
    assert all_the_same.step_scores(np.ones((1, 2))) == 0


@pytest.mark.parametrize("path_score", ["mean", "max"])
def test_path_score(rows, path_score):
    X, y = rows
    detector = MahalanobisShift("precomputed", path_score=path_score).fit(X, y)
    paths = [X[:3], X[3:4], X[4:9]]
    expected = [getattr(np, path_score)(detector.step_scores(path)) for path in paths]
    np.testing.assert_allclose(detector.score(paths), expected, rtol=1e-12)


def test_prose_is_found_among_word_problems(arithmetic, prose):
    train, calibration, more = arithmetic
    detector = clone(MahalanobisShift(StepStatistics())).fit(train.X, train.y)
    detector.calibrate(calibration)
    scores = detector.score([*more, *prose])
    unlike = np.repeat([False, True], [len(more), len(prose)])
    assert roc_auc_score(unlike, scores) > 0.9
    assert detector.flag(prose, alpha=0.1).mean() > 0.8
    assert detector.flag(more, alpha=0.1).mean() < 0.2


def test_default_featurizer_reads_steps_and_by_choice_problems(arithmetic, prose):
    """Embeddings of steps; with the problem in the rows, an unlike problem counts where the steps are alike."""
    train, calibration, _ = arithmetic
    usual, X = calibration[:15], flatten(train.solutions[:40])
    unlike = np.repeat([0, 1], 15)
    by_step = MahalanobisShift().fit(X)
    assert roc_auc_score(unlike, by_step.score([*usual, *prose[:15]])) > 0.9
    moved = [Solution(other.problem, one.steps) for one, other in zip(usual, prose, strict=False)]
    np.testing.assert_allclose(by_step.score(moved), by_step.score(usual), rtol=1e-6)
    by_problem = MahalanobisShift(PRMFeaturizer(context="problem")).fit(X)
    assert roc_auc_score(unlike, by_problem.score([*usual, *moved])) > 0.9
