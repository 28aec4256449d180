"""Calibration around a classifier: other problems only, any labels, one pass, and a model like any other."""

import warnings

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline

from prmkit import PRMClassifier, StratifiedProblemKFold
from prmkit.data import Solution, flatten, make_arithmetic_solutions
from prmkit.features import StepStatistics
from prmkit.uncertainty import CalibratedStepClassifier
from prmkit.uncertainty._solutions_input import units_and_keys
from prmkit.uncertainty.calibration._methods import METHODS


def fast():
    return PRMClassifier(StepStatistics())


@pytest.fixture(scope="module")
def data():
    return make_arithmetic_solutions(60, 2, random_state=0)


@pytest.fixture(scope="module")
def other():
    return make_arithmetic_solutions(60, 2, random_state=1)


@pytest.fixture(scope="module")
def new():
    return make_arithmetic_solutions(40, 2, random_state=2)


@pytest.fixture(scope="module")
def fitted(data):
    return fast().fit(data.X, data.y)


class Oracle(ClassifierMixin, BaseEstimator):
    """Reads its scores from the text of the step, and counts how often it is asked."""

    def __init__(self, classes=(-1, 0, 1), sharpness=1.0):
        self.classes = classes
        self.sharpness = sharpness

    def fit(self, X, y):
        self.classes_ = np.array(self.classes)
        self.n_asked_ = 0
        return self

    def predict_proba(self, X):
        self.n_asked_ += 1
        z = np.array([[float(number) for number in step.text.split()] for step in X])
        return softmax(self.sharpness * z, axis=1)


def oracle_steps(n=4000, n_classes=3, seed=0, name="p"):
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, (n, n_classes))
    y = (softmax(z, axis=1).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    texts = [" ".join(map(repr, row.tolist())) for row in z]
    X = flatten([Solution(f"{name}{i}", texts[i : i + 4]) for i in range(0, n, 4)])
    return X, np.minimum(y, n_classes - 1) - 1


def test_known_temperature_through_a_classifier_and_one_pass():
    X, y = oracle_steps(20_000)
    oracle = Oracle(sharpness=2.0).fit(X, y)
    calibrated = CalibratedStepClassifier(oracle).fit(X, y)
    assert calibrated.temperature_ == pytest.approx(2.0, rel=0.03)
    assert oracle.n_asked_ == 1
    assert calibrated.classifier_ is oracle
    assert calibrated.n_calibration_ == 5000


@pytest.mark.parametrize("method", METHODS)
def test_calibration_helps_on_new_problems(method):
    X, y = oracle_steps(6000)
    X_new, y_new = oracle_steps(3000, seed=5, name="q")
    oracle = Oracle(sharpness=3.0).fit(X, y)
    calibrated = CalibratedStepClassifier(oracle, method).fit(X, y)
    before, after = oracle.predict_proba(X_new), calibrated.predict_proba(X_new)
    assert log_loss(y_new, after) < log_loss(y_new, before) - 0.2
    np.testing.assert_allclose(after.sum(axis=1), 1)
    assert (
        set(calibrated.calibrator_)
        == {
            "temperature": {"temperature"},
            "sigmoid": {"slope", "intercept"},
            "isotonic": {"floor", *(f"{what}_{k}" for what in ("log_odds", "probability") for k in range(3))},
            "vector": {"coef", "intercept"},
        }[method]
    )


def test_temperature_keeps_the_likeliest_class_and_binary_rankings(fitted, other, new):
    calibrated = CalibratedStepClassifier(fitted).fit(other.X, other.y)
    before, after = fitted.predict_proba(new.X), calibrated.predict_proba(new.X)
    assert abs(calibrated.temperature_ - 1) > 0.02
    np.testing.assert_array_equal(after.argmax(axis=1), before.argmax(axis=1))
    binary = fast().fit(other.X, np.asarray(other.y) == -1)
    again = CalibratedStepClassifier(binary).fit(new.X, np.asarray(new.y) == -1)
    risks = [one.predict_proba(new.X)[:, 1] for one in (binary, again)]
    negative = np.asarray(new.y) == -1
    assert roc_auc_score(negative, risks[0]) == roc_auc_score(negative, risks[1])
    assert np.abs(risks[0] - risks[1]).max() > 0.001


@pytest.mark.parametrize("method", METHODS)
def test_labels_are_only_names(data, other, new, method):
    """-1/0/1, names and classes of one's own give the same numbers (scikit-learn's temperature would not)."""
    found = []
    for names in ({}, {-1: "negative", 0: "neutral", 1: "positive"}, {-1: "a_bad", 0: "b_fair", 1: "c_good"}):
        y_data, y_other = (np.array([names.get(label, label) for label in part.y]) for part in (data, other))
        inner = PRMClassifier(StepStatistics(), label_order=list(names.values()) or None).fit(data.X, y_data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # isotonic on few rows
            calibrated = CalibratedStepClassifier(inner, method).fit(other.X, y_other)
        assert calibrated.label_order_ == tuple(names.get(label, label) for label in (-1, 0, 1))
        found.append(calibrated.predict_proba(new.X))
    np.testing.assert_allclose(found[1], found[0], atol=1e-12)
    np.testing.assert_allclose(found[2], found[0], atol=1e-12)


def test_an_unfitted_classifier_is_calibrated_out_of_fold_and_fitted_on_all(data, new, fitted):
    calibrated = CalibratedStepClassifier(fast(), cv=4).fit(data.X, data.y)
    np.testing.assert_allclose(calibrated.classifier_.predict_proba(new.X), fitted.predict_proba(new.X))
    rows, probas = [], []
    for train, test in StratifiedProblemKFold(4).split(data.X, data.y):
        part = fast().fit(*data[train])
        rows.append(test)
        probas.append(part.predict_proba(data[test].X))
    y = np.asarray(data.y)[np.concatenate(rows)]

    def loss(temperature):
        return log_loss(y, softmax(np.log(np.concatenate(probas)) / temperature, axis=1))

    best = calibrated.temperature_
    assert loss(best) < min(loss(0.98 * best), loss(1.02 * best))
    same = CalibratedStepClassifier(fast(), cv=StratifiedProblemKFold(4)).fit(data.X, data.y)
    assert same.temperature_ == pytest.approx(best)
    assert calibrated.n_calibration_ == 60
    np.testing.assert_array_equal(calibrated.training_problems_, fitted.training_problems_)


def test_a_fitted_classifier_stays_as_it_is_also_in_clones_and_searches(fitted, other):
    calibrated = CalibratedStepClassifier(fitted)
    assert clone(calibrated).classifier is fitted
    scores = cross_val_score(calibrated, other.X, other.y, cv=StratifiedProblemKFold(3), scoring="neg_log_loss")
    assert np.isfinite(scores).all()
    search = GridSearchCV(
        calibrated, {"method": ["temperature", "vector"]}, cv=StratifiedProblemKFold(3), scoring="neg_log_loss"
    ).fit(other.X, other.y)
    assert search.best_estimator_.classifier_ is fitted
    frozen = CalibratedStepClassifier(FrozenEstimator(fitted)).fit(other.X, other.y)
    assert frozen.temperature_ == calibrated.fit(other.X, other.y).temperature_
    unfitted = clone(CalibratedStepClassifier(fast(), cv=2))
    with pytest.raises(NotFittedError):
        unfitted.predict_proba(other.X)


def test_the_same_problem_on_both_sides_is_refused(fitted, data, other):
    with pytest.raises(ValueError, match="1 of 61 problems"):
        CalibratedStepClassifier(fitted).fit([*other.X, data.X[0]], [*other.y, data.y[0]])
    once = CalibratedStepClassifier(fitted).fit(other.X, other.y)
    assert len(once.training_problems_) == 120
    with pytest.raises(ValueError, match="60 of 60 problems"):
        CalibratedStepClassifier(once).fit(other.X, other.y)
    rows_apart = list(KFold(3).split(data.X))
    with pytest.raises(ValueError, match=r"one problem on both sides.*StratifiedProblemKFold"):
        CalibratedStepClassifier(fast(), cv=rows_apart).fit(data.X, data.y)


def test_a_missing_class_is_named(fitted, other):
    X, y = other[other.y != 0]
    with pytest.raises(ValueError, match=r"no step of class 0 \(found -1: \d+, 0: 0, 1: \d+\).*Add problems"):
        CalibratedStepClassifier(fitted).fit(X, y)
    weight = np.where(np.asarray(other.y) == -1, 0.0, 1.0)
    with pytest.raises(ValueError, match="no step of class -1"):
        CalibratedStepClassifier(fitted).fit(other.X, other.y, sample_weight=weight)


def test_a_class_of_one_problem_cannot_be_out_of_fold(data):
    rare = np.array([2 if step.problem == data.X[0].problem else 1 for step in data.X])
    rare[5:10] = 0
    with pytest.raises(ValueError, match="training part of a fold has no step of class"):
        CalibratedStepClassifier(fast()).fit(data.X, rare)


def test_wrong_input_is_refused(fitted, other):
    with pytest.raises(ValueError, match="y has labels"):
        CalibratedStepClassifier(fitted).fit(other.X, np.where(np.asarray(other.y) == 0, 2, other.y))
    with pytest.raises(ValueError, match="one label per step"):
        CalibratedStepClassifier(fitted).fit(other.X, other.y[:-1])
    with pytest.raises(ValueError, match="already knows its problem"):
        CalibratedStepClassifier(fitted).fit(other.X, other.y, groups=np.arange(len(other.y)))
    with pytest.raises(ValueError, match="method"):
        CalibratedStepClassifier(fitted, "platt").fit(other.X, other.y)
    with pytest.raises(ValueError, match="cv"):
        CalibratedStepClassifier(fast(), cv=1).fit(other.X, other.y)


def test_weights_count_as_repeated_steps(fitted, other):
    times = np.random.default_rng(0).integers(1, 4, len(other.y))
    rows = np.repeat(np.arange(len(other.y)), times)
    for method in ("temperature", "sigmoid"):
        weighted = CalibratedStepClassifier(fitted, method).fit(other.X, other.y, sample_weight=times)
        repeated = CalibratedStepClassifier(fitted, method).fit(*other[rows])
        np.testing.assert_allclose(weighted.predict_proba(other.X), repeated.predict_proba(other.X), atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_saved_and_loaded_it_says_the_same(method, fitted, other, new, tmp_path):
    pytest.importorskip("skops")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calibrated = CalibratedStepClassifier(fitted, method).fit(other.X, other.y)
    calibrated.save(tmp_path / "model")
    assert not list((tmp_path / "model").rglob("*.pkl"))
    loaded = CalibratedStepClassifier.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.predict_proba(new.X), calibrated.predict_proba(new.X), atol=1e-12)
    np.testing.assert_array_equal(loaded.predict(new.X), calibrated.predict(new.X))
    np.testing.assert_array_equal(loaded.training_problems_, calibrated.training_problems_)
    for name in ("method", "label_order_", "n_calibration_", "temperature_", "n_clipped_"):
        assert getattr(loaded, name, None) == getattr(calibrated, name, None)
    with pytest.raises(ValueError, match="60 of 60 problems"):
        CalibratedStepClassifier(loaded).fit(other.X, other.y)


def test_decisions_are_weighed_anew_where_the_classifier_weighs_them(fitted, other, new):
    class Weighs(BaseEstimator, ClassifierMixin):
        def fit(self, X, y):
            self.classes_, self.decision_weights_ = np.unique(y), np.array([5.0, 2.0, 1.0])
            return self

        def predict_proba(self, X):
            return fitted.predict_proba(X)

    calibrated = CalibratedStepClassifier(Weighs().fit(other.X, other.y)).fit(other.X, other.y)
    weights = calibrated.decision_weights_
    assert weights.max() == 1
    expected = calibrated.classes_[(calibrated.predict_proba(new.X) * weights).argmax(axis=1)]
    np.testing.assert_array_equal(calibrated.predict(new.X), expected)
    assert not hasattr(CalibratedStepClassifier(fitted).fit(other.X, other.y), "decision_weights_")


def test_solutions_are_scored_with_the_calibrated_numbers(fitted, other, new):
    calibrated = CalibratedStepClassifier(fitted).fit(other.X, other.y)
    scored = calibrated.score_solutions(new.solutions[:2])
    np.testing.assert_allclose(scored[0].proba, calibrated.predict_proba(flatten(new.solutions[:1])))


def test_a_pipeline_over_steps(data, other):
    pipe = make_pipeline(StepStatistics(), LogisticRegression(max_iter=5000))
    fresh = CalibratedStepClassifier(pipe, "vector").fit(data.X, data.y)
    assert fresh.classifier_ is not pipe
    assert len(fresh.training_problems_) == 60
    kept = CalibratedStepClassifier(pipe.fit(data.X, data.y)).fit(other.X, other.y)
    assert kept.classifier_ is pipe
    assert len(kept.training_problems_) == 60  # the pipeline does not remember its own
    with pytest.raises(TypeError, match="Pipeline, which cannot be saved"):
        kept.save("anywhere")


def test_numbers_with_the_problem_of_each_row():
    rng = np.random.default_rng(0)
    X, y, groups = rng.normal(size=(300, 4)), rng.choice([-1, 0, 1], 300), np.arange(300) // 5
    X[:, 0] += y
    inner = PRMClassifier("precomputed")
    by_row = CalibratedStepClassifier(inner).fit(X, y)
    assert (by_row.n_calibration_, by_row.training_problems_, by_row.n_features_in_) == (300, None, 4)
    by_problem = CalibratedStepClassifier(inner).fit(X, y, groups=groups)
    assert by_problem.n_calibration_ == len(by_problem.training_problems_) == 60
    assert by_problem.temperature_ != by_row.temperature_
    with pytest.raises(ValueError, match="60 of 60 problems"):
        CalibratedStepClassifier(by_problem).fit(X, y, groups=groups)


def test_named_problems_are_known_again_by_the_guarantees():
    rng = np.random.default_rng(0)
    X, y, groups = (rng.normal(size=(200, 2)), rng.choice([-1, 1], 200), np.repeat([f"GSM {i}" for i in range(40)], 5))
    X[:, 0] += y
    calibrated = CalibratedStepClassifier(PRMClassifier("precomputed")).fit(X, y, groups=groups)
    np.testing.assert_array_equal(calibrated.training_problems_, units_and_keys(200, None, groups, "step")[1])


def test_a_new_fit_forgets_the_method_before(fitted, other):
    calibrated = CalibratedStepClassifier(fitted).fit(other.X, other.y)
    calibrated.set_params(method="vector")
    before = calibrated.predict_proba(other.X)  # parameters take effect with fit only
    calibrated.fit(other.X, other.y)
    assert not hasattr(calibrated, "temperature_")
    assert np.abs(calibrated.predict_proba(other.X) - before).max() > 1e-3


def test_answers_that_are_no_probabilities_are_refused_in_use_too(fitted, other, new):
    calibrated = CalibratedStepClassifier(fitted).fit(other.X, other.y)

    class Odd:
        classes_ = fitted.classes_

        def predict_proba(self, X):
            return np.tile([3.0, 0.5, 0.5], (len(X), 1))

    calibrated.classifier_ = Odd()
    with pytest.raises(ValueError, match="expected probabilities"):
        calibrated.predict_proba(new.X[:2])
