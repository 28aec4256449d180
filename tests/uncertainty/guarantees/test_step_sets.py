"""Sets of classes for steps: against the conformal quantile, MAPIE, and by class."""

import builtins

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from prmkit.data import Solution, flatten, make_arithmetic_solutions
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
        FrozenEstimator(Given().fit(proba[:200], labels[:200])),
        confidence_level=1 - alpha,
        conformity_score="lac",
    ).conformalize(proba[:200], labels[:200])
    expected = theirs.predict_set(proba[200:])[1][:, :, 0]
    sets = StepPredictionSets(alpha=alpha).fit(proba[:200], labels[:200])
    quantile = np.sort(theirs.conformity_scores.ravel())[int(np.ceil(201 * (1 - alpha) - 1e-9)) - 1]
    assert sets.thresholds_ == pytest.approx([quantile] * 3)
    found = sets.predict(proba[200:])
    empty = ~expected.any(axis=1)
    assert (found[~empty] == expected[~empty]).all()
    assert (found[empty].sum(axis=1) == 1).all()


@pytest.mark.parametrize("score", ["aps", "raps"])
def test_aps_and_raps_by_mapie(rows, score):
    pytest.importorskip("mapie")
    proba, labels = np.tile(rows[0], (4, 1)), np.tile(rows[1], 4)
    groups = np.tile(np.arange(300), 4)  # four like steps per problem, of which one counts
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    sets = StepPredictionSets(alpha=0.1, score=score, random_state=0).fit(proba, labels, groups)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    assert sets.attainable_
    assert sets.n_calibration_ == 300
    rng = np.random.default_rng(1)
    new = rng.dirichlet([0.5, 0.7, 2.0], 2000)
    truth = np.array([rng.choice([-1, 0, 1], p=p) for p in new])
    report = sets.evaluate(new, truth)
    assert 0.86 <= report["coverage"] <= 1
    assert 1 <= report["mean_size"] < 3
    again = StepPredictionSets(alpha=0.1, score=score, random_state=0).fit(proba, labels, groups)
    assert (again.predict(new) == sets.predict(new)).all()
    with pytest.warns(UserWarning, match="is not attainable with 9 units, at least"):
        few = StepPredictionSets(alpha=0.1, score=score).fit(proba[:90], labels[:90], np.arange(90) // 10)
    assert not few.attainable_
    assert few.predict(new).all()


@pytest.mark.parametrize(
    ("score", "alpha", "needed"),
    [("aps", 0.1, 10), ("raps", 0.1, 91), ("raps", 0.2, 41), ("raps", 0.3, 31), ("raps", 0.5, 21)],
)
def test_units_that_mapie_needs(rows, score, alpha, needed):
    pytest.importorskip("mapie")
    proba, labels = rows
    sets = StepPredictionSets(alpha=alpha, score=score, random_state=0)
    assert sets.fit(proba[:needed], labels[:needed]).attainable_
    with pytest.warns(UserWarning, match=f"at least {needed} are needed: every set will be full"):
        sets.fit(proba[: needed - 1], labels[: needed - 1])
    assert not sets.attainable_
    assert sets.predict(proba).all()


@pytest.mark.parametrize("score", ["aps", "raps"])
def test_classes_that_mapie_cannot_do_without(rows, score):
    pytest.importorskip("mapie")
    proba, labels = rows
    kept = labels != 0
    with pytest.raises(
        ValueError, match=f"'{score}', which needs 3 classes, and there are 2: use score=\"lac\""
    ):
        StepPredictionSets(score=score).fit(np.c_[proba[kept, 0], 1 - proba[kept, 0]], labels[kept])
    with pytest.raises(ValueError, match=r"drawn, one per unit, 0 have class 0, .* more problems"):
        StepPredictionSets(score=score, classes=[-1, 0, 1]).fit(proba[kept], labels[kept])


def test_raps_wants_two_steps_of_a_class(rows):
    pytest.importorskip("mapie")
    proba, labels = rows
    kept = np.r_[np.flatnonzero(labels == 0)[:1], np.flatnonzero(labels != 0)]
    with pytest.raises(ValueError, match="1 have class 0, which is too few"):
        StepPredictionSets(score="raps").fit(proba[kept], labels[kept])
    assert StepPredictionSets(score="aps").fit(proba[kept], labels[kept]).attainable_


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


def test_without_mapie_the_extra_is_named(rows, monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("mapie"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r'pip install "prmkit\[mapie\]"'):
        StepPredictionSets(score="aps").fit(*rows)
    StepPredictionSets().fit(*rows)


def test_problems_weigh_alike_however_many_steps_they_have():
    """A problem of 90 bad steps is one failure of ten, not 90 of 99."""
    proba = np.array([[0.9, 0.1]] * 90 + [[0.2, 0.8]] * 9)
    labels, groups = [1] * 99, [0] * 90 + list(range(1, 10))
    sets = StepPredictionSets(alpha=0.2, classes=[-1, 1]).fit(proba, labels, groups)
    assert sets.n_calibration_ == 10
    assert sets.thresholds_ == pytest.approx([0.2, 0.2])
    assert StepPredictionSets(alpha=0.2, classes=[-1, 1]).fit(proba, labels).thresholds_ == pytest.approx(
        [0.9, 0.9]
    )


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
    with pytest.warns(
        UserWarning, match="4 steps with class -1, at least 9 are needed: it will be in every set"
    ):
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
        ([[0.5, 0.5]] * 2, [1, 0], {"score": "aps", "joint": True}, "score is 'aps'"),
        ([[0.5, 0.5]] * 2, [1, 0], {"score": "best"}, "score"),
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
