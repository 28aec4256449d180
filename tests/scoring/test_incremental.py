"""IncrementalScorer: a growing solution has the scores of scoring afresh, at the cost of what is new."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from prmkit import PRMClassifier, Solution, score_solutions
from prmkit.data import make_arithmetic_solutions
from prmkit.features import StepStatistics, StepWords
from prmkit.models import StepBlend, StepMLP, StepTransformer
from prmkit.scoring import IncrementalScorer
from prmkit.uncertainty import CalibratedStepClassifier, MCDropout, StepEnsemble

PROBLEM = "Ann has 3 boxes of 14 pens. She gives 5 away. How many are left?"
TEXTS = [
    "3 boxes of 14 pens are 3 * 14 = 42 pens.",
    "",
    "She gives 5 away, so 42 - 5 = 37 are left.",
    "Wait, 3 * 14 = 44.\n\nSo 44 - 5 = 39.",
    "The answer is 37.",
    "Step 2: therefore x = 37 − 0",
]


@pytest.fixture(scope="module")
def data():
    return make_arithmetic_solutions(30, 2, random_state=0)


def plain(data):
    return PRMClassifier(StepStatistics()).fit(data.X, data.y)


def mlp(data):
    head = StepMLP(hidden_size=16, max_epochs=2, random_state=0)
    return PRMClassifier(StepStatistics(), head).fit(data.X, data.y)


def calibrated(data):
    inner = PRMClassifier(StepStatistics(), random_state=0)
    return CalibratedStepClassifier(inner, method="temperature").fit(data.X, data.y)


class Lengths(TransformerMixin, BaseEstimator):
    """The characters of a step and of those before. A step may break it."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        if any(step.text == "fail" for step in X):
            raise RuntimeError("this one not")
        return np.array([[len(step.text), sum(map(len, step.prefix))] for step in X])


KINDS = {
    "rows": plain,
    "pipeline": lambda data: make_pipeline(StepWords(), LogisticRegression()).fit(data.X, data.y),
    "features in a pipeline": lambda data: PRMClassifier(make_pipeline(StepWords()), LogisticRegression()).fit(
        data.X, data.y
    ),
    "blend": lambda data: PRMClassifier(head=StepBlend(StepStatistics(), n_trees=5)).fit(data.X, data.y),
    "mlp": mlp,
    "transformer": lambda data: PRMClassifier(
        StepStatistics(), StepTransformer(hidden_size=16, n_layers=2, n_heads=2, max_epochs=1, random_state=0)
    ).fit(data.X, data.y),
    "calibrated": calibrated,
    "ensemble": lambda data: StepEnsemble(PRMClassifier(StepStatistics()), n_members=3, random_state=0).fit(
        data.X, data.y
    ),
    "dropout": lambda data: MCDropout(mlp(data), n_members=3),
}


@pytest.fixture(scope="module", params=KINDS)
def classifier(request, data):
    return KINDS[request.param](data)


@pytest.fixture(scope="module")
def fitted(data):
    return plain(data)


def afresh(classifier, scorer):
    (scored,) = score_solutions(classifier, [Solution(scorer.problem, scorer.steps)], scorer.label_order)
    return scored


def grow_and_compare(classifier, rng, *, texts=TEXTS, problems=(PROBLEM, ""), n_rounds=12, most_steps=8, atol=1e-5):
    """Extend and fork at random, two problems in turns, and compare every scorer with scoring afresh."""
    scorers = [IncrementalScorer(classifier, problem) for problem in problems]
    for _ in range(n_rounds):
        scorer = scorers[rng.integers(len(scorers))]
        if rng.random() < 0.4:
            scorer = scorer.fork()
            scorers.append(scorer)
        new = [texts[i] for i in rng.integers(len(texts), size=rng.integers(4))]
        if scorer.n_steps + len(new) > most_steps:
            continue
        before = scorer.steps
        rewards = scorer.extend(iter(new))
        assert scorer.steps == (*before, *new)
        assert rewards.shape == (len(new),)
        np.testing.assert_array_equal(rewards, scorer.rewards[len(before) :])
    for scorer in scorers:
        if scorer.n_steps:
            expected = afresh(classifier, scorer)
            np.testing.assert_allclose(scorer.proba, expected.proba, atol=atol)
            np.testing.assert_allclose(scorer.risks, expected.risks, atol=atol)
            assert scorer.scored().aggregates == pytest.approx(expected.aggregates, abs=10 * atol)
    assert sum(scorer.n_steps > 2 for scorer in scorers) >= 2


def test_random_growth_equals_scoring_afresh(classifier):
    grow_and_compare(classifier, np.random.default_rng(3))


class TestTheScorer:
    def test_one_call_or_one_step_at_a_time(self, fitted):
        at_once, by_step = fitted.incremental(PROBLEM), fitted.incremental(PROBLEM)
        rewards = at_once.extend(TEXTS)
        assert [by_step.extend([text])[0] for text in TEXTS] == pytest.approx(rewards)
        assert by_step.steps == at_once.steps == tuple(TEXTS)
        assert by_step.problem == PROBLEM

    def test_no_steps(self, fitted):
        scorer = fitted.incremental(PROBLEM)
        assert scorer.extend([]).shape == (0,)
        assert (scorer.n_steps, scorer.proba.shape, scorer.rewards.shape) == (0, (0, 3), (0,))
        with pytest.raises(ValueError, match="no steps"):
            scorer.scored()

    def test_forks_do_not_see_each_other(self, fitted):
        scorer = fitted.incremental(PROBLEM)
        scorer.extend(TEXTS[:2])
        one = scorer.fork()
        two = one.fork()
        one.extend(["It is 1."])
        two.extend(["It is 2.", "It is 3."])
        assert [s.steps[2:] for s in (scorer, one, two)] == [(), ("It is 1.",), ("It is 2.", "It is 3.")]

    def test_what_it_gives_away_is_a_copy(self, fitted):
        scorer = fitted.incremental(PROBLEM)
        scorer.extend(TEXTS[:2])
        scorer.proba[:] = 0.0
        scorer.risks[:] = 0.0
        assert (scorer.proba > 0).all()
        assert (scorer.risks > 0).all()

    @pytest.mark.parametrize(("steps", "named"), [("3 + 4 = 7.", "one string"), (["fine", 3], r"steps\[1\]")])
    def test_steps_that_are_no_texts(self, fitted, steps, named):
        scorer = fitted.incremental(PROBLEM)
        with pytest.raises(TypeError, match=named):
            scorer.extend(steps)
        assert scorer.n_steps == 0

    def test_settings_are_checked(self, fitted):
        with pytest.raises(TypeError, match="problem"):
            fitted.incremental(None)
        with pytest.raises(ValueError, match="too_long"):
            fitted.incremental(PROBLEM, too_long="drop")
        with pytest.raises(ValueError, match="label_order"):
            fitted.incremental(PROBLEM, [0, 1])

    def test_unfitted_classifiers_are_refused(self):
        with pytest.raises(ValueError, match="not fitted"):
            PRMClassifier().incremental(PROBLEM)

    def test_the_order_of_labels_can_be_given(self, data):
        names = np.array(["x", "y", "z"])[np.asarray(data.y) + 1]
        classifier = PRMClassifier(StepStatistics()).fit(data.X, names)
        scorer = classifier.incremental(PROBLEM, ["y", "z", "x"])
        scorer.extend(TEXTS[:1])
        assert scorer.risks[0] == scorer.proba[0, 1]
        with pytest.raises(ValueError, match="order"):
            classifier.incremental(PROBLEM)

    def test_another_fit_is_noticed(self, data):
        classifier = CalibratedStepClassifier(plain(data), method="temperature")
        other = make_arithmetic_solutions(20, 2, random_state=5)
        classifier.fit(other.X, other.y)
        scorer = classifier.incremental(PROBLEM)
        scorer.extend(TEXTS[:1])
        fork = scorer.fork()
        classifier.classifier_.fit(data.X, data.y)
        for one in (scorer, fork):
            with pytest.raises(ValueError, match="fitted again"):
                one.extend(TEXTS[1:2])
            assert one.n_steps == 1

    def test_an_error_leaves_the_scorer_where_it_stood(self, data):
        classifier = PRMClassifier(Lengths(), LogisticRegression()).fit(data.X, data.y)
        scorer = classifier.incremental(PROBLEM)
        scorer.extend(TEXTS[:2])
        with pytest.raises(RuntimeError, match="this one not"):
            scorer.extend([TEXTS[2], "fail", TEXTS[3]])
        fork = scorer.fork()
        assert (scorer.n_steps, fork.n_steps) == (2, 2)
        for one in (scorer, fork):
            one.extend(TEXTS[3:5])
            np.testing.assert_allclose(one.proba, afresh(classifier, one).proba, atol=1e-8)

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda scorer: pickle.loads(pickle.dumps(scorer))])
    def test_copies_grow_too(self, classifier, copied):
        scorer = IncrementalScorer(classifier, PROBLEM)
        scorer.extend(TEXTS[:2])
        other = copied(scorer)
        other.extend(TEXTS[2:4])
        assert scorer.n_steps == 2
        np.testing.assert_allclose(other.proba, afresh(classifier, other).proba, atol=1e-5)
