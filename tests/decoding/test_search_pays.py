"""What searching is worth, on word problems and a policy whose errors are known."""

from functools import partial

import numpy as np
import pytest

from prmkit import PRMClassifier
from prmkit.data import make_arithmetic_solutions
from prmkit.decoding import (
    CallableGenerator,
    beam_search,
    best_of_n,
    diverse_beam_search,
    lookahead_search,
    particle_filter,
    rollout_search,
)
from prmkit.features import StepStatistics
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


SEARCHES = {
    "beam": partial(beam_search, beam_width=2, beam_factor=2),
    "diverse beams": partial(diverse_beam_search, beam_width=2, beam_factor=2),
    "lookahead": partial(lookahead_search, beam_width=1, beam_factor=2),
    "rollouts": partial(rollout_search, beam_width=1, beam_factor=2),
    "particles": partial(particle_filter, n_particles=4),
}


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
def test_every_search_finds_what_is_right_if_it_has_drawn_it_and_the_scorer_is_perfect(policy, search):
    right, drawn = [], []
    for i, problem in enumerate(policy.problems[:20]):
        found = search(policy.generator, policy.perfect, problem, random_state=i)
        right.append(is_right(policy, found))
        drawn.append(any(one.is_complete and policy.is_right(problem, one.solution) for one in found.candidates))
    assert right == drawn
    # Two or four draws of each step: better than the policy by far.
    assert np.mean(right) > np.mean([policy.accuracy(problem) for problem in policy.problems[:20]]) + 0.15


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
def test_no_search_is_better_than_the_policy_if_the_scorer_is_constant(policy, search):
    chances = np.array([policy.accuracy(problem) for problem in policy.problems[:25]])
    results = [search(policy.generator, constant, p, random_state=i) for i, p in enumerate(policy.problems[:25])]
    right = [is_right(policy, found) for found in results]
    assert abs(np.sum(right) - chances.sum()) < 3.5 * np.sqrt((chances * (1 - chances)).sum())


def test_beam_search_that_reads_new_steps_alone_scores_a_third_of_the_tokens():
    def write(problem, steps, n, seed):
        numbers = np.random.default_rng(seed).integers(10, 99, size=(n, 3))
        return [(f"so {a} + {b} = {a + c}.", "eos" if len(steps) == 11 else "stop") for a, b, c in numbers]

    known = make_arithmetic_solutions(20, 2, random_state=1)
    classifier = PRMClassifier(StepStatistics(), random_state=0).fit(known.X, known.y)

    def whole_texts(solutions):
        return [one.rewards for one in classifier.score_solutions(solutions)]

    search = partial(beam_search, CallableGenerator(write), beam_width=4, beam_factor=4, random_state=0)
    ours, peers = (search(scorer, "Add the numbers, two at a time.") for scorer in (classifier, whole_texts))
    assert ours.solution == peers.solution
    assert ours.solution.n_steps == 12
    assert ours.cost.generated_tokens == peers.cost.generated_tokens
    assert peers.cost.scored_tokens >= 3 * ours.cost.scored_tokens
    # Each new step once, and the problem once for all candidates.
    assert ours.cost.scored_tokens <= 12 * 16 * 6 + 7
