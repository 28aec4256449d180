"""Votes against counting by hand, and their accuracy against all subsets."""

import itertools
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.special import expit

from prmkit.metrics import pass_at_k, vote, vote_accuracy

few = settings(deadline=None, max_examples=50, derandomize=True)


def by_hand(answers, weights):
    sums = {}
    for answer, weight in zip(answers, weights, strict=True):
        sums[answer] = sums.get(answer, 0) + weight
    best = max(sums.values())
    return answers.index(next(answer for answer in sums if sums[answer] == best))  # dicts keep first-seen order


@few
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), min_size=1, max_size=9))
def test_counting(rows):
    answers, weights = map(list, zip(*rows, strict=True))
    assert vote(answers) == by_hand(answers, [1] * len(answers))
    assert vote(answers, weights) == by_hand(answers, weights)
    # Tenths do not add up exactly in binary, and still tie.
    assert vote(answers, [w / 10 for w in weights]) == by_hand(answers, weights)


def test_missing_answers_do_not_agree_with_each_other():
    assert vote(["5", None, None, float("nan")]) == 0
    assert vote([None, "5", "5", None, None]) == 1
    assert vote([None, None]) == 0
    assert vote([None, "5"], missing="drop") == 1
    assert vote([None, None], weights=[0.1, 0.9], missing="drop") == 0


def test_the_best_scored_represents_its_group():
    assert vote("abb", [0.1, 0.2, 0.9], representative="best") == 2
    assert vote("abb", [0.1, 0.9, 0.9], representative="best") == 1
    assert vote("abb", [0.1, 0.2, 0.9]) == 1


def test_weights_may_be_sigmoids_of_scores():
    scores = [3.0, -0.2, 0.4]
    assert vote("abb", expit(scores)) == 1  # 0.95 against 0.45 + 0.60
    assert vote("abb", expit([3.0, -2.0, -1.0])) == 0


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (([],), {}),
        ((["a"], [1, 2]), {}),
        ((["a"], [np.nan]), {}),
        ((["a"],), {"missing": "?"}),
        ((["a"],), {"representative": "?"}),
    ],
)
def test_bad_votes(arguments, options):
    with pytest.raises(ValueError, match=r"expected|empty"):
        vote(*arguments, **options)


@pytest.mark.parametrize("weighted", [False, True])
def test_random_subsets_approach_all_subsets(weighted):
    rng = np.random.default_rng(0)
    answers = [[str(a) for a in rng.integers(0, 3, size=12)] for _ in range(20)]
    correct = [[a == "1" for a in row] for row in answers]
    weights = list(rng.random((20, 12))) if weighted else None
    exact = np.mean(
        [
            correct[i][subset[vote([answers[i][j] for j in subset], weights[i][list(subset)] if weighted else None)]]
            for i in range(20)
            for subset in combinations(range(12), 4)
        ]
    )
    result = vote_accuracy(answers, correct, 4, weights, n_subsets=400)
    assert 0 < result.standard_error < 0.01, "495 subsets are more than 400"
    assert abs(result.value - exact) < 4 * result.standard_error
    again = vote_accuracy(answers, correct, 4, weights, n_subsets=400)
    assert again.value == result.value
    bound = np.mean([pass_at_k(sum(row), 12, 4) for row in correct])
    assert result.value <= bound + 0.05


def test_one_voter_all_voters_and_the_first():
    answers, correct = [["a", "b", "b"], ["b", "a"]], [[True, False, False], [False, True]]
    everyone = vote_accuracy([answers[0]], [correct[0]], 3)
    assert (everyone.value, everyone.standard_error) == (0.0, 0.0)
    first = vote_accuracy(answers, correct, 2, method="prefix")
    assert first.per_problem.tolist() == [1.0, 0.0]
    assert vote_accuracy([], [], 2).value is None
    with pytest.raises(ValueError, match="problem 1 has 2 answers"):
        vote_accuracy(answers, correct, 3)


@pytest.mark.parametrize("weighted", [False, True])
def test_shared_ties_are_the_mean_over_all_orders_of_the_candidates(weighted):
    rng = np.random.default_rng(0)
    for _ in range(40):
        answers = [["a", "b", "c", None][i] for i in rng.integers(0, 4, 4)]
        correct = rng.random(4) < 0.5
        weights = rng.integers(1, 3, 4) / 2 if weighted else None
        # Ties among members of one answer go to the lower index, so only whole answers are put in another order.
        groups = {}
        for i, answer in enumerate(answers):
            groups.setdefault((answer, i if answer is None else 0), []).append(i)
        found = []
        for order in itertools.permutations(groups.values()):
            rows = [i for group in order for i in group]
            found.append(
                vote_accuracy(
                    [[answers[i] for i in rows]], [correct[rows]], 4, None if weights is None else [weights[rows]]
                ).value
            )
        shared = vote_accuracy([answers], [correct], 4, None if weights is None else [weights], ties="average").value
        assert shared == pytest.approx(np.mean(found))


def test_ties_are_first_or_average():
    with pytest.raises(ValueError, match="ties is 'last'"):
        vote_accuracy([["a"]], [[True]], 1, ties="last")


def test_shared_ties_of_two_voters_are_their_mean():
    answers, correct = [["a", "b", "c", "d", "e"]], [np.array([True, True, False, False, False])]
    found = vote_accuracy(answers, correct, 2, ties="average")
    assert found.value == pytest.approx(0.4)  # any two differ, and share the vote


def share_of_right_votes(answers, correct, weights, ties, missing):
    """Count one vote by hand, in fractions. Return the share of the winners that are right."""
    support, members = {}, {}
    for i, answer in enumerate(answers):
        if answer is None and missing == "drop":
            continue
        key = ("alone", i) if answer is None else answer
        support[key] = support.get(key, 0) + (1 if weights is None else weights[i])
        members.setdefault(key, []).append(i)
    if not support:
        return Fraction(int(correct[0]))
    winners = [key for key in support if support[key] == max(support.values())]
    chosen = [max(members[key], key=lambda i: (0 if weights is None else weights[i], -i)) for key in winners]
    chosen = chosen if ties == "average" else chosen[:1]
    return Fraction(sum(int(correct[i]) for i in chosen), len(chosen))


@pytest.mark.parametrize("ties", ["first", "average"])
@pytest.mark.parametrize("missing", ["alone", "drop"])
@pytest.mark.parametrize("weighted", [False, True])
def test_votes_of_few_candidates_are_exact(ties, missing, weighted):
    """Every n of up to 8 candidates, with ties, equal weights and missing answers, against all subsets by hand."""
    rng = np.random.default_rng(0)
    for n_candidates in range(1, 9):
        answers = [["a", "b", "c", None][i] for i in rng.integers(0, 4, n_candidates)]
        correct = rng.random(n_candidates) < 0.5
        weights = [Fraction(int(i), 10) for i in rng.integers(0, 4, n_candidates)] if weighted else None
        given_weights = None if weights is None else [[float(weight) for weight in weights]]
        for n in range(1, n_candidates + 1):
            found = vote_accuracy([answers], [correct], n, given_weights, ties=ties, missing=missing, n_subsets=70)
            by_hand = [
                share_of_right_votes(
                    [answers[i] for i in subset],
                    correct[list(subset)],
                    None if weights is None else [weights[i] for i in subset],
                    ties,
                    missing,
                )
                for subset in combinations(range(n_candidates), n)
            ]
            assert found.value == pytest.approx(float(sum(by_hand) / len(by_hand)), abs=1e-12)
            assert found.standard_error == 0
