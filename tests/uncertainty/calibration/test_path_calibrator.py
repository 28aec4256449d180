"""P(no error) of paths: known truth is found again, problems are the unit, other problems only."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV

from prmkit import PRMClassifier
from prmkit.data import Solution, make_arithmetic_solutions
from prmkit.features import StepStatistics
from prmkit.metrics import p_no_error
from prmkit.uncertainty import PathCalibrator

TRUTH = {"logistic": None, "temperature": 1.8}


def draw(n=4000, temperature=None, seed=0):
    """Paths of risks; the truth is their product at this temperature, or depends on the length too."""
    rng = np.random.default_rng(seed)
    risks = [expit(rng.normal(rng.normal(-3, 1.5), 1, size)) for size in rng.integers(1, 12, n)]
    raw, lengths = p_no_error(risks), np.array([len(path) for path in risks])
    truth = expit(0.4 * np.log(raw) + 0.1 * lengths + 0.5) if temperature is None else expit(logit(raw) / temperature)
    right = rng.random(n) < truth
    return risks, np.where(right, -1, rng.integers(0, lengths)), truth


def test_the_true_temperature_is_recovered():
    risks, first_errors, truth = draw(20_000, temperature=1.8)
    paths = PathCalibrator(method="temperature").fit(risks, first_errors)
    assert paths.temperature_ == pytest.approx(1.8, rel=0.03)
    np.testing.assert_allclose(paths.p_no_error(risks), truth, atol=0.01)


def test_the_true_regression_is_recovered():
    risks, first_errors, truth = draw(20_000)
    paths = PathCalibrator().fit(risks, first_errors)
    np.testing.assert_allclose(paths.coef_, [0.4, 0.1], atol=0.03)
    np.testing.assert_allclose(paths.p_no_error(risks), truth, atol=0.02)
    X = np.c_[np.log(p_no_error(risks)), [len(path) for path in risks]]
    expected = LogisticRegression(solver="newton-cg", tol=1e-9).fit(X, first_errors == -1).predict_proba(X)
    np.testing.assert_allclose(paths.predict_proba(risks), expected, atol=1e-5)


@pytest.mark.parametrize("method", ["logistic", "temperature"])
def test_it_helps_on_new_paths(method):
    risks, first_errors, _ = draw(seed=1, temperature=TRUTH[method])
    new, new_errors, _ = draw(seed=2, temperature=TRUTH[method])
    paths = PathCalibrator(method=method).fit(risks, first_errors)
    before, after = p_no_error(new), paths.p_no_error(new)
    assert log_loss(new_errors == -1, after) < log_loss(new_errors == -1, before) - 0.03
    np.testing.assert_array_equal(paths.classes_, [False, True])
    np.testing.assert_allclose(paths.predict_proba(new).sum(axis=1), 1)
    np.testing.assert_array_equal(paths.predict(new), after > 0.5)


@pytest.mark.parametrize("method", ["logistic", "temperature"])
def test_of_two_paths_of_one_length_the_better_stays_the_better(method):
    risks, first_errors, _ = draw(temperature=TRUTH[method])
    paths = PathCalibrator(method=method).fit(risks, first_errors)
    of_four = [path for path in risks if len(path) == 4]
    order = np.argsort(p_no_error(of_four))
    assert (np.diff(paths.p_no_error(of_four)[order]) > 0).all()


def test_risks_that_point_the_wrong_way_leave_the_length_alone():
    risks, first_errors, _ = draw()
    turned = np.where(first_errors == -1, 0, -1)
    with pytest.warns(UserWarning, match="the length alone"):
        paths = PathCalibrator().fit(risks, turned)
    assert paths.coef_[0] == 0
    lengths = np.array([len(path) for path in risks])
    for length in (1, 5):
        found = paths.p_no_error([path for path in risks if len(path) == length])
        assert np.ptp(found) == 0
        assert found[0] == pytest.approx(np.mean(turned[lengths == length] == -1), abs=0.08)


def test_each_problem_counts_once():
    risks, first_errors, _ = draw(300)
    paths = [risks[0]] * 5 + risks
    errors = np.concatenate([[first_errors[0]] * 5, first_errors])
    groups = np.concatenate([np.zeros(6), np.arange(1, 300)])
    grouped = PathCalibrator().fit(paths, errors, groups=groups)
    single = PathCalibrator().fit(risks, first_errors)
    assert grouped.n_calibration_ == single.n_calibration_ == 300
    np.testing.assert_allclose(grouped.p_no_error(risks, groups=np.arange(300) + 500), single.p_no_error(risks))
    order = np.random.default_rng(0).permutation(len(paths))
    shuffled = PathCalibrator().fit([paths[i] for i in order], errors[order], groups=groups[order])
    np.testing.assert_allclose(shuffled.p_no_error(risks), grouped.p_no_error(risks), atol=1e-9)


def test_the_same_problem_on_both_sides_is_refused():
    risks, first_errors, _ = draw(100)
    groups = np.arange(100) // 2
    paths = PathCalibrator().fit(risks, first_errors, groups=groups)
    with pytest.raises(ValueError, match=r"50 of 50 problems.*calibrated on"):
        paths.p_no_error(risks, groups=groups)
    data, other, new = (make_arithmetic_solutions(60, 2, random_state=seed) for seed in range(3))
    clf = PRMClassifier(StepStatistics()).fit(data.X, data.y)
    with pytest.raises(ValueError, match="60 of 60 problems"):
        PathCalibrator(clf).fit(data.solutions, data.first_errors)
    on_solutions = PathCalibrator(clf).fit(other.solutions, other.first_errors)
    assert on_solutions.n_calibration_ == 60
    assert on_solutions.p_no_error(new.solutions).shape == (120,)
    assert clone(on_solutions).classifier is clf
    for seen in (data, other):
        with pytest.raises(ValueError, match="problems are also among"):
            on_solutions.predict(seen.solutions)


def test_what_cannot_be_learnt_from_is_refused():
    risks, first_errors, _ = draw(50)
    with pytest.raises(ValueError, match=r"50 of 50 paths have no error.*with an error"):
        PathCalibrator().fit(risks, [-1] * 50)
    with pytest.raises(ValueError, match=r"0 of 50 paths have no error.*without an error"):
        PathCalibrator().fit(risks, [0] * 50)
    with pytest.raises(ValueError, match="one number for each"):
        PathCalibrator().fit(risks, first_errors[:-1])
    with pytest.raises(TypeError, match="classifier is None"):
        PathCalibrator().fit([Solution("p", ["s"])], [0])
    with pytest.raises(ValueError, match="without NaN"):
        PathCalibrator().fit([[0.1, np.nan], [0.2]], [0, -1])


@pytest.mark.parametrize("method", ["logistic", "temperature"])
def test_certain_steps_stay_finite(method):
    risks, first_errors, _ = draw(500, temperature=TRUTH[method])
    paths = PathCalibrator(method=method).fit(risks, first_errors)
    found = paths.p_no_error([[1.0, 0.2], [0.0, 0.0], [1.0] * 400])
    assert np.isfinite(found).all()
    assert found[0] < found[1]


@pytest.mark.parametrize("method", ["logistic", "temperature"])
def test_saved_and_loaded_it_says_the_same(method, tmp_path):
    risks, first_errors, _ = draw(200, temperature=TRUTH[method])
    paths = PathCalibrator(method=method).fit(risks, first_errors, groups=np.arange(200) // 2)
    paths.save(tmp_path / "paths")
    loaded = PathCalibrator.load(tmp_path / "paths")
    np.testing.assert_allclose(loaded.p_no_error(risks), paths.p_no_error(risks), atol=1e-12)
    assert loaded.n_calibration_ == 100
    with pytest.raises(ValueError, match="100 of 100"):
        loaded.p_no_error(risks, groups=np.arange(200) // 2)


def test_saved_with_its_classifier(tmp_path):
    pytest.importorskip("skops")
    data, other, new = (make_arithmetic_solutions(40, 2, random_state=seed) for seed in range(3))
    clf = PRMClassifier(StepStatistics()).fit(data.X, data.y)
    paths = PathCalibrator(clf).fit(other.solutions, other.first_errors)
    paths.save(tmp_path / "paths")
    loaded = PathCalibrator.load(tmp_path / "paths")
    np.testing.assert_allclose(loaded.p_no_error(new.solutions), paths.p_no_error(new.solutions), atol=1e-12)


def test_score_is_the_mean_log_likelihood_and_can_be_searched_by():
    rng = np.random.default_rng(0)
    risks = [rng.uniform(0, 0.6, n) for n in rng.integers(1, 8, 300)]
    first_errors = np.array([0 if rng.random() < path.mean() else -1 for path in risks])
    paths = PathCalibrator().fit(risks, first_errors)
    assert paths.score(risks, first_errors) == pytest.approx(
        -log_loss(first_errors == -1, paths.p_no_error(risks)), abs=1e-12
    )
    search = GridSearchCV(PathCalibrator(), {"method": ["logistic", "temperature"]}).fit(risks, first_errors)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
