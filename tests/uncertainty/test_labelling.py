"""What to label next: the rules of the choice, the order of the pool, repetitions, and bad input."""

from collections import Counter

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from prmkit import PRMClassifier
from prmkit.data import Solution, flatten, make_arithmetic_solutions
from prmkit.features import StepStatistics, StepWords
from prmkit.metrics import decompose_uncertainty
from prmkit.uncertainty import StepEnsemble, select_for_labelling

STRATEGIES = ("balanced", "uncertainty", "diversity", "random")


@pytest.fixture(scope="module")
def data():
    return make_arithmetic_solutions(12, 2, random_state=0)


@pytest.fixture(scope="module")
def classifier(data):
    return PRMClassifier(StepStatistics()).fit(data.X, data.y)


@pytest.fixture(scope="module")
def pool():
    return make_arithmetic_solutions(8, 2, random_state=1).solutions


class Says(ClassifierMixin, BaseEstimator):
    """A classifier that reads the risk in the text of a step, one number per member. Nothing else of it is NaN."""

    def __init__(self, too_long=None):
        self.too_long = too_long
        self.classes_ = np.array([-1, 1])

    def __sklearn_is_fitted__(self):
        return True

    def fit(self, X, y):
        return self

    def member_proba(self, X):
        risk = np.array([[float(number) for number in step.text.split()] for step in X]).T
        return np.stack([risk, 1 - risk], axis=2)

    def predict_proba(self, X):
        return self.member_proba(X).mean(axis=0)


def texts(solutions, chosen):
    return [flatten(solutions)[i].text for i in chosen]


def contents(solutions, chosen):
    """The problem, the beginning and the text of each chosen step, or the chosen solutions."""
    if chosen.by == "problem":
        return Counter((solutions[i].problem, solutions[i].steps) for i in chosen)
    return Counter((step.problem, step.prefix, step.text) for step in (flatten(solutions)[i] for i in chosen))


def test_the_largest_entropy_comes_first():
    solutions = [Solution("p", ["0.1", "0.45"]), Solution("q", ["0.8", "0.02"])]
    chosen = select_for_labelling(Says(), solutions, 3, strategy="uncertainty")
    assert texts(solutions, chosen) == ["0.45", "0.8", "0.1"]
    risks = np.array([0.45, 0.8, 0.1])
    np.testing.assert_allclose(chosen.scores, -risks * np.log(risks) - (1 - risks) * np.log(1 - risks))
    # p has the smaller mean of (0.325, 0.688), q that of (0.5, 0.098).
    by_problem = select_for_labelling(Says(), solutions, 1, by="problem", strategy="uncertainty")
    assert list(by_problem) == [0]
    assert by_problem.scores == pytest.approx(np.mean([0.325083, 0.688139]), abs=1e-5)


def test_disagreement_differs_from_doubt():
    """All members doubt the first step alike, and are sure of different things about the second."""
    solutions = [Solution("p", ["0.5 0.5"]), Solution("q", ["0.0 1.0"]), Solution("r", ["0.1 0.2"])]
    chosen = select_for_labelling(Says(), solutions, 2, strategy="disagreement")
    assert list(chosen) == [1, 2]
    parts = decompose_uncertainty(Says().member_proba(flatten(solutions)))
    np.testing.assert_allclose(chosen.scores, parts.epistemic[[1, 2]])
    doubt = select_for_labelling(Says(), solutions, 3, strategy="uncertainty")
    np.testing.assert_allclose(doubt.scores, np.sort(parts.total)[::-1])


@pytest.mark.parametrize("by", ["step", "problem"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_order_of_the_pool_and_a_second_call_make_no_difference(classifier, pool, strategy, by):
    chosen = select_for_labelling(classifier, pool, 6, by=by, strategy=strategy, random_state=3)
    again = select_for_labelling(classifier, pool, 6, by=by, strategy=strategy, random_state=3)
    assert list(again) == list(chosen)
    order = np.random.default_rng(0).permutation(len(pool))
    turned = [pool[i] for i in order]
    other = select_for_labelling(classifier, turned, 6, by=by, strategy=strategy, random_state=3)
    assert contents(turned, other) == contents(pool, chosen)
    assert len(chosen) == 6 if by == "step" else len({pool[i].problem for i in chosen}) == 6
    assert len(set(chosen)) == len(chosen) == len(chosen.reasons) == len(chosen.scores)


@pytest.mark.parametrize("strategy", ["balanced", "diversity", "random"])
def test_a_seed_decides(classifier, pool, strategy):
    found = {
        tuple(select_for_labelling(classifier, pool, 5, strategy=strategy, random_state=seed)) for seed in range(3)
    }
    assert len(found) > 1


def test_a_problem_brings_all_its_solutions(classifier, pool):
    chosen = select_for_labelling(classifier, pool, 4, by="problem", random_state=0)
    problems = {pool[i].problem for i in chosen}
    assert len(problems) == 4
    assert set(chosen) == {i for i, solution in enumerate(pool) if solution.problem in problems}
    assert "step" not in chosen.to_frame().columns


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_equal_step_after_an_equal_beginning_is_chosen_once(classifier, pool, strategy):
    """Samples that share their beginning, and whole copies, of another id: each distinct step can be chosen once."""
    few = pool[:3]
    copies = [Solution(one.problem.upper(), one.steps, id=f"copy {i}") for one in few for i in range(3)]
    branches = [Solution(one.problem, [*one.steps, "So it is 7."]) for one in few]
    solutions = [*copies, *branches, *few]
    n_distinct = len({(one.problem, one.steps[: t + 1]) for one in [*few, *branches] for t in range(one.n_steps)})
    with pytest.warns(UserWarning, match=rf"there are {n_distinct} steps"):
        chosen = select_for_labelling(classifier, solutions, 10_000, strategy=strategy)
    assert chosen.n_pool == len(chosen) == n_distinct
    assert chosen.n_repeated == len(flatten(solutions)) - n_distinct
    steps = [flatten(solutions)[i] for i in chosen]
    assert len({(step.problem.lower(), step.prefix, step.text) for step in steps}) == n_distinct


def test_near_repetitions_do_not_fill_a_batch():
    """Forty steps that read alike are the most uncertain ones. By uncertainty alone, they are the whole batch."""
    alike = [Solution(f"What is {i} plus two?", ["0.49"]) for i in range(10, 50)]
    others = [Solution("Which of these animals can fly, and why? " * k, ["0.3"]) for k in range(1, 9)]
    solutions = [*alike, *others]
    assert set(texts(solutions, select_for_labelling(Says(), solutions, 8, strategy="uncertainty"))) == {"0.49"}
    for strategy in ("balanced", "diversity"):
        chosen = select_for_labelling(Says(), solutions, 8, strategy=strategy, random_state=0)
        assert texts(solutions, chosen).count("0.3") >= 4
        assert len(set(chosen)) == 8


def test_where_nothing_different_is_left_others_fill_the_batch():
    solutions = [Solution(f"{letter}?", ["0.4"]) for letter in "ABCD"]
    chosen = select_for_labelling(Says(), solutions, 3, random_state=0)
    assert len(set(chosen)) == 3
    assert chosen.reasons == ("uncertain, and unlike those before", *["nothing unlike the others is left"] * 2)


def test_balanced_prefers_the_uncertain():
    """Steps of which no two are alike: half of them are surely right, and would teach nothing."""
    solutions = [Solution("ab " * k, [f"0.{4 if k % 2 else 0}{k:02}"]) for k in range(1, 41)]
    chosen = select_for_labelling(Says(), solutions, 10, random_state=0)
    diverse = select_for_labelling(Says(), solutions, 10, strategy="diversity", random_state=0)
    assert chosen.scores.mean() > diverse.scores.mean() + 0.05


def test_problems_of_the_training_are_left_out_and_counted(classifier, data, pool):
    mixed = [*data.solutions, *pool]
    for strategy in ("balanced", "random"):
        chosen = select_for_labelling(classifier, mixed, 5, strategy=strategy, random_state=0)
        assert chosen.n_trained == len({one.problem for one in data.solutions})
        alone = select_for_labelling(classifier, pool, 5, strategy=strategy, random_state=0)
        assert contents(mixed, chosen) == contents(pool, alone)
        assert alone.n_trained == 0
    with pytest.raises(ValueError, match="nothing is left to choose from: 24 solutions were given, and 12 of their"):
        select_for_labelling(classifier, data.solutions, 5)


def test_every_kind_of_classifier_is_asked(data, pool):
    """An ensemble, a pipeline of numbers, one of words, and the default head with views."""
    ensemble = StepEnsemble(PRMClassifier(StepStatistics()), n_members=2, random_state=0).fit(data.X, data.y)
    chosen = select_for_labelling(ensemble, pool, 5, random_state=0)
    steps = [flatten(pool)[i] for i in chosen]
    np.testing.assert_allclose(chosen.scores, ensemble.uncertainty(steps).epistemic, atol=1e-9)
    for features, C in ((StepStatistics(), 1e-3), (StepWords(), 1.0)):
        pipeline = make_pipeline(features, LogisticRegression(C=C, max_iter=2000)).fit(data.X, data.y)
        chosen = select_for_labelling(pipeline, pool, 5, random_state=0)
        assert len(chosen) == 5
        assert chosen.n_trained is None
        assert "unknown problems" in repr(chosen)
        proba = pipeline.predict_proba([flatten(pool)[i] for i in chosen])
        np.testing.assert_allclose(chosen.scores, -(proba * np.log(proba)).sum(axis=1))


def test_the_first_labels_need_no_classifier(pool):
    for strategy in ("diversity", "random"):
        chosen = select_for_labelling(None, pool, 4, strategy=strategy, random_state=0)
        assert len(chosen) == 4
        assert np.isnan(chosen.scores).all()
    with pytest.raises(ValueError, match="classifier is None, and strategy 'balanced' asks one"):
        select_for_labelling(None, pool, 4)


def test_a_frame_for_the_labellers():
    solutions = [Solution("p", ["0.1", "0.45"], id="one"), Solution("q", []), Solution("r", ["0.3"], id="three")]
    frame = select_for_labelling(Says(), solutions, 2, strategy="uncertainty").to_frame()
    assert frame[["solution", "step", "id", "problem", "text"]].values.tolist() == [
        [0, 1, "one", "p", "0.45"],
        [2, 0, "three", "r", "0.3"],
    ]
    assert frame["reason"].tolist() == ["among the most uncertain"] * 2


def test_indices_can_be_used_as_an_array():
    solutions = [Solution("p", ["0.1", "0.45"]), Solution("r", ["0.3"])]
    chosen = select_for_labelling(Says(), solutions, 2, strategy="uncertainty")
    assert np.asarray(chosen).tolist() == [1, 2]
    assert np.arange(3)[np.asarray(chosen)].tolist() == [1, 2]


def test_steps_that_cannot_be_read_are_left_out_and_counted():
    solutions = [Solution("p", ["0.1", "nan"]), Solution("r", ["0.3", "nan"])]
    chosen = select_for_labelling(Says(too_long="nan"), solutions, 2, strategy="uncertainty")
    assert list(chosen) == [2, 0]
    assert (chosen.n_unscored, chosen.n_pool) == (2, 2)
    assert "2 unscored steps" in repr(chosen)
    with pytest.raises(ValueError, match=r"gives NaN for 2 of 4 steps"):
        select_for_labelling(Says(), solutions, 2)
    with pytest.raises(ValueError, match=r"can read none of the 1 steps"):
        select_for_labelling(Says(too_long="nan"), [Solution("p", ["nan"])], 2)


@pytest.mark.parametrize(
    ("budget", "error"),
    [(0, ValueError), (-3, ValueError), (2.0, TypeError), (True, TypeError), ("2", TypeError), (None, TypeError)],
)
def test_budgets_that_are_none(pool, budget, error):
    with pytest.raises(error, match="budget is"):
        select_for_labelling(Says(), pool, budget)


def test_bad_input(pool):
    with pytest.raises(ValueError, match="by is 'solution', expected one of 'step', 'problem'"):
        select_for_labelling(Says(), pool, 1, by="solution")
    with pytest.raises(ValueError, match="strategy is 'entropy', expected one of 'balanced'"):
        select_for_labelling(Says(), pool, 1, strategy="entropy")
    with pytest.raises(NotFittedError):
        select_for_labelling(PRMClassifier(), pool, 1)
    with pytest.raises(TypeError, match="classifier is str"):
        select_for_labelling("model", pool, 1)
    with pytest.raises(TypeError, match=r"solutions\[0\] is Step"):
        select_for_labelling(Says(), flatten(pool), 1)
    for nothing in ([], [Solution("p", [])]):
        with pytest.raises(ValueError, match="nothing is left to choose from"):
            select_for_labelling(Says(), nothing, 1)


def test_disagreement_needs_members(classifier, pool):
    with pytest.raises(ValueError, match="PRMClassifier has no members that could disagree"):
        select_for_labelling(classifier, pool, 1, strategy="disagreement")
    with pytest.raises(ValueError, match="one member"):
        select_for_labelling(Says(), [Solution("p", ["0.4"])], 1, strategy="disagreement")


def test_a_classifier_of_numbers_cannot_be_asked_about_steps():
    data = make_arithmetic_solutions(6, 2, random_state=0)
    numbers = StepStatistics().fit_transform(data.X)
    one = PRMClassifier("precomputed", LogisticRegression(max_iter=1000))
    several = StepEnsemble(one, 2, random_state=0).fit(numbers, data.y)
    for classifier in (one.fit(numbers, data.y), several):
        with pytest.raises(TypeError, match="X holds Step, but featurizer='precomputed' reads numbers"):
            select_for_labelling(classifier, data.solutions, 2)
    with pytest.raises(TypeError, match="X holds Step"):
        several.predict_proba(data.X)
