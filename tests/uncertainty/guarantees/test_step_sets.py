"""Sets of classes for steps: against the conformal quantile, MAPIE, and by class."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from prmkit import PRMClassifier
from prmkit.data import Solution, flatten, make_arithmetic_solutions, problem_groups
from prmkit.features import StepStatistics
from prmkit.uncertainty import StepPredictionSets


@pytest.fixture(scope="module")
def rows():
    """Probabilities and labels of 300 steps, one per problem."""
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([0.5, 0.7, 2.0], 300)
    labels = np.array([rng.choice([-1, 0, 1], p=p) for p in proba])
    return proba, labels


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_lac_agrees_with_mapie(rows, alpha):
    classification = pytest.importorskip("mapie.classification")
    from sklearn.dummy import DummyClassifier
    from sklearn.frozen import FrozenEstimator

    class Given(DummyClassifier):
        def predict_proba(self, X):
            return np.asarray(X)

        def predict(self, X):
            return self.classes_[np.asarray(X).argmax(axis=1)]

    proba, labels = rows
    theirs = classification.SplitConformalClassifier(
        FrozenEstimator(Given().fit(proba[:200], labels[:200])), confidence_level=1 - alpha, conformity_score="lac"
    ).conformalize(proba[:200], labels[:200])
    expected = theirs.predict_set(proba[200:])[1][:, :, 0]
    sets = StepPredictionSets(alpha=alpha).fit(proba[:200], labels[:200])
    quantile = np.sort(theirs.conformity_scores.ravel())[int(np.ceil(201 * (1 - alpha) - 1e-9)) - 1]
    assert sets.thresholds_ == pytest.approx([quantile] * 3)
    found = sets.predict(proba[200:])
    empty = ~expected.any(axis=1)
    assert (found[~empty] == expected[~empty]).all()
    assert (found[empty].sum(axis=1) == 1).all()


@pytest.mark.parametrize("score", ["lac", "aps", "raps"])
@pytest.mark.parametrize("precomputed", [False, True])
def test_mapie_takes_our_classifiers_for_other_scores(score, precomputed):
    """Over steps and over numbers, as the example shows, with one random step per problem."""
    classification = pytest.importorskip("mapie.classification")
    train, other = (make_arithmetic_solutions(n, 1, random_state=i) for i, n in enumerate((60, 250)))
    order = np.random.default_rng(0).permutation(len(other.X))
    rows = order[np.unique(problem_groups(other.X)[order], return_index=True)[1]]
    X_train, X = train.X, np.array([other.X[row] for row in rows], dtype=object)
    if precomputed:
        statistics = StepStatistics().fit(X_train)
        X_train, X = statistics.transform(X_train), statistics.transform(X)
    classifier = PRMClassifier("precomputed" if precomputed else StepStatistics()).fit(X_train, train.y)
    sets = classification.SplitConformalClassifier(
        classifier, confidence_level=0.8, conformity_score=score, prefit=True, random_state=0
    ).conformalize(X[:150], other.y[rows[:150]])
    found = sets.predict_set(X[150:])[1][:, :, 0]
    truth = np.searchsorted(classifier.classes_, other.y[rows[150:]])
    assert 0.65 < found[np.arange(len(truth)), truth].mean() <= 1
    if score == "lac":
        ours = StepPredictionSets(classes=classifier.classes_, alpha=0.2)
        ours.fit(classifier.predict_proba(X[:150]), other.y[rows[:150]])
        expected = ours.predict(classifier.predict_proba(X[150:]))
        full = found.any(axis=1)
        assert (found[full] == expected[full]).all()


def test_last_digits_of_another_batch_change_nothing():
    class InAnotherBatch(ClassifierMixin, BaseEstimator):
        """Says the same of every step, but for the last digits, which depend on how many it is asked about."""

        def fit(self, X, y):
            self.classes_ = np.array([-1, 1])
            return self

        def predict_proba(self, X):
            wrong = np.full(len(X), 0.4 - 1e-9 * (len(X) < 5))
            return np.column_stack([wrong, 1 - wrong])

    data = make_arithmetic_solutions(40, 1, error_rate=1.0, random_state=3)
    wrong_or_not = np.where(data.y < 0, -1, 1)
    sets = StepPredictionSets(InAnotherBatch().fit(None, None), alpha=0.05, class_conditional=True)
    assert sets.fit(data.X, wrong_or_not).attainable_
    new = flatten([Solution("A new problem?", ["1 + 1 = 3."])])
    assert sets.predict(new).tolist() == sets.predict(new * 10)[:1].tolist() == [[True, True]]


def test_problems_weigh_alike_however_many_steps_they_have():
    """A problem of 90 bad steps is one failure of ten, not 90 of 99."""
    proba = np.array([[0.9, 0.1]] * 90 + [[0.2, 0.8]] * 9)
    labels, groups = [1] * 99, [0] * 90 + list(range(1, 10))
    sets = StepPredictionSets(alpha=0.2, classes=[-1, 1]).fit(proba, labels, groups)
    assert sets.n_calibration_ == 10
    assert sets.thresholds_ == pytest.approx([0.2, 0.2])
    assert StepPredictionSets(alpha=0.2, classes=[-1, 1]).fit(proba, labels).thresholds_ == pytest.approx([0.9, 0.9])


def test_joint_takes_the_largest_score_of_a_problem():
    proba = np.array([[0.1, 0.9], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8], [0.15, 0.85]])
    sets = StepPredictionSets(alpha=0.25, joint=True, classes=[-1, 1])
    sets.fit(proba, [1] * 5, ["p", "p", "q", "r", "r"])  # largest scores 0.4, 0.3, 0.2: k = 3
    assert sets.thresholds_ == pytest.approx([0.4, 0.4])
    report = sets.evaluate([[0.7, 0.3], [0.1, 0.9], [0.1, 0.9]], [1, 1, 1], ["a", "a", "b"])
    assert (report["joint_coverage"], report["coverage"]) == (0.5, 0.75)
    assert report["coverage_per_class"] == {-1: None, 1: 0.75}


def test_a_class_with_too_few_problems_is_in_every_set(rows):
    proba, labels = rows
    keep = np.r_[np.flatnonzero(labels == -1)[:4], np.flatnonzero(labels != -1)]
    with pytest.warns(UserWarning, match="4 steps with class -1, at least 9 are needed: it will be in every set"):
        sets = StepPredictionSets(class_conditional=True).fit(proba[keep], labels[keep])
    assert sets.attainable_ is False
    assert sets.thresholds_[0] == np.inf
    assert np.isfinite(sets.thresholds_[1:]).all()
    assert sets.n_calibration_per_class_[0] == 4
    assert sets.predict(proba)[:, 0].all()
    assert not sets.predict(proba)[:, 1].all()


def test_each_class_has_its_own_quantile(rows):
    proba, labels = rows
    sets = StepPredictionSets(class_conditional=True, alpha=0.2).fit(proba, labels)
    for c, label in enumerate([-1, 0, 1]):
        scores = np.sort(1 - proba[labels == label, c])
        assert sets.thresholds_[c] == scores[int(np.ceil((len(scores) + 1) * 0.8 - 1e-9)) - 1]


def test_no_set_is_empty(rows):
    sets = StepPredictionSets(alpha=0.9).fit(*rows)
    found = sets.predict(rows[0])
    assert found.any(axis=1).all()
    assert found[np.arange(300), rows[0].argmax(axis=1)].all()


@pytest.mark.parametrize(
    ("X", "y", "options", "message"),
    [
        ([[0.5, 0.6]], [1], {"classes": [0, 1]}, r"proba\[0\] sums to 1.1"),
        ([[np.nan, 1.0]], [1], {"classes": [0, 1]}, "holds nan"),
        ([[1.2, -0.2]], [1], {"classes": [0, 1]}, "holds 1.2"),
        ([[0.5, 0.5]], [1], {}, r"X has 2 columns, and y has the labels \[1\]: pass classes"),
        ([[0.5, 0.5]], [2], {"classes": [0, 1]}, r"y has labels \[2\]"),
        ([[0.5, 0.5]], [1, 0], {}, "y has 2 labels and X 1 steps"),
        ([0.5, 0.5], [1, 0], {}, r"X has shape \(2,\)"),
        ([[0.5, 0.5]] * 2, [1, 0], {"joint": "yes"}, "joint"),
    ],
)
def test_bad_input_is_named(X, y, options, message):
    with pytest.raises(ValueError, match=message):
        StepPredictionSets(**options).fit(X, y)


def test_groups_of_another_length(rows):
    with pytest.raises(ValueError, match=r"one problem for each step: \(300,\)"):
        StepPredictionSets().fit(*rows, groups=[1, 2])


def test_with_a_classifier_steps_say_their_problem(fitted):
    classifier, calibration, test = fitted
    sets = StepPredictionSets(classifier, alpha=0.2).fit(calibration.X, calibration.y)
    assert sets.n_calibration_ == len({step.problem for step in calibration.X})
    assert (sets.unit_, sets.classes_.tolist()) == ("problem", classifier.classes_.tolist())
    report = sets.evaluate(test.X, test.y)
    assert 0.6 < report["coverage"] <= 1
    assert set(report["coverage_per_class"]) == set(classifier.classes_.tolist())
    with pytest.raises(ValueError, match="StepPredictionSets was calibrated on"):
        sets.predict(calibration.X[:1])
    seen = make_arithmetic_solutions(40, 2, random_state=0)
    with pytest.raises(ValueError, match="classifier was trained on"):
        sets.predict(seen.X)
    with pytest.raises(ValueError, match="classifier was trained on"):
        StepPredictionSets(classifier).fit(seen.X, seen.y)
