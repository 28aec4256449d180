"""What searching is worth, on word problems and a policy whose errors are known."""

import numpy as np
import pytest

from prmkit import PRMClassifier
from prmkit.data import make_arithmetic_solutions
from prmkit.decoding import best_of_n
from prmkit.metrics import bootstrap_by_problem

STEPWISE = {"stop_condition": lambda solution: False}


def constant(solutions):
    return [np.full(one.n_steps, 0.5) for one in solutions]


@pytest.fixture(scope="module")
def policy(toy_policy):
    return toy_policy(150, random_state=7)


def is_right(policy, result):
    return policy.is_right(result.solution.problem, result.solution)


def test_a_perfect_reward_model_reaches_pass_at_n(policy):
    right, passed = [], []
    for i, problem in enumerate(policy.problems[:40]):
        found = best_of_n(policy.generator, policy.perfect, problem, n=3, random_state=i, **STEPWISE)
        right.append(is_right(policy, found))
        passed.append(any(policy.is_right(problem, one.solution) for one in found.candidates))
    assert right == passed
    assert 0.5 < np.mean(right) < 1


def test_a_constant_reward_model_is_worth_nothing(policy):
    chances = np.array([policy.accuracy(problem) for problem in policy.problems])
    right = []
    for i, problem in enumerate(policy.problems):
        found = best_of_n(policy.generator, constant, problem, n=2, random_state=i, **STEPWISE)
        right.append(is_right(policy, found))
    # The accuracy of one sample, whose error rates are known.
    deviation = np.sqrt((chances * (1 - chances)).sum())
    assert abs(np.sum(right) - chances.sum()) < 4 * deviation
    assert 0.3 < chances.mean() < 0.7


@pytest.mark.slow
def test_a_trained_reward_model_beats_the_majority_of_the_same_samples(policy):
    known = make_arithmetic_solutions(150, 3, error_rate=0.5, random_state=1)
    assert not {one.problem for one in known.solutions} & set(policy.problems)
    classifier = PRMClassifier(views=("statistics", "words"), random_state=0).fit(known.X, known.y)
    ours, votes = [], []
    for i, problem in enumerate(policy.problems):
        settings = {"n": 8, "random_state": i, **STEPWISE}
        best = best_of_n(policy.generator, classifier, problem, **settings)
        vote = best_of_n(policy.generator, None, problem, choose="majority", **settings)
        assert best.cost.generated_tokens == vote.cost.generated_tokens
        ours.append(is_right(policy, best))
        votes.append(is_right(policy, vote))

    def accuracies(ours, votes, sample_weight):
        return {"prm": np.average(ours, weights=sample_weight), "majority": np.average(votes, weights=sample_weight)}

    found = bootstrap_by_problem(accuracies, policy.problems, ours, votes)
    assert found.interval("majority").high < found.interval("prm").low
    assert found.difference("prm", "majority").low > 0.05
