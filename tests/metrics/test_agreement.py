"""Agreement between labellings against published examples and pairs counted by hand."""

import json
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from prmkit.metrics import rating_agreement

few = settings(deadline=None, max_examples=50, derandomize=True)


def labellings_of(counts):
    """One solution of one step for each row of numbers of ratings per label."""
    return [[[label] for label, n in enumerate(row) for _ in range(n)] for row in counts]


def test_fleiss_published_example():
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    assert rating_agreement(labellings_of(counts))["fleiss_kappa"] == pytest.approx(0.210, abs=5e-4)


def test_krippendorff_published_example():
    """Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C: nominal data with missing ratings."""
    raters = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    assert rating_agreement([raters])["krippendorff_alpha"] == pytest.approx(0.743, abs=5e-4)


@few
@given(st.lists(st.lists(st.integers(-1, 1), min_size=2, max_size=5), min_size=1, max_size=8))
def test_alpha_compares_pairs_within_and_across_steps(steps):
    """One minus observed over expected disagreement, counted by loops over pairs of ratings."""
    everything = [rating for ratings in steps for rating in ratings]
    assume(len(set(everything)) > 1)
    observed = sum(sum(a != b for a, b in permutations(ratings, 2)) / (len(ratings) - 1) for ratings in steps) / len(
        everything
    )
    expected = np.mean([a != b for a, b in permutations(everything, 2)])
    alpha = rating_agreement([[[rating] for rating in ratings] for ratings in steps])["krippendorff_alpha"]
    assert alpha == pytest.approx(1 - observed / expected)


@few
@given(st.lists(st.lists(st.integers(-1, 1), min_size=2, max_size=5), min_size=1, max_size=8))
def test_agreement_counts_pairs(steps):
    labellings = [[[rating] for rating in ratings] for ratings in steps]
    numbers = rating_agreement(labellings)
    pairs = [np.mean([a == b for a, b in combinations(ratings, 2)]) for ratings in steps]
    assert numbers["agreement"] == pytest.approx(np.mean(pairs))
    assert numbers["n_steps"] == numbers["n_solutions"] == len(steps)
    assume(len({r for ratings in steps for r in ratings}) > 1)
    shares = [np.mean([np.mean([r == label for r in ratings]) for ratings in steps]) for label in (-1, 0, 1)]
    chance = np.square(shares).sum()
    assert numbers["fleiss_kappa"] == pytest.approx((np.mean(pairs) - chance) / (1 - chance))


def test_degenerate_input_is_undefined():
    for counts in ([[3, 0], [2, 0]], [[1, 0], [0, 1]]):
        numbers = rating_agreement(labellings_of(counts))
        assert numbers["fleiss_kappa"] is numbers["krippendorff_alpha"] is None
    assert rating_agreement([])["agreement"] is None
    assert rating_agreement([[[1, 1]], [[None], [1]]])["n_steps"] == 0


def test_ratings_that_end_early_and_first_errors():
    numbers = rating_agreement([[[1, -1], [1, 1, 1]], [[None, 0], [1, 0]]])
    assert numbers["n_steps"] == 3
    assert numbers["agreement"] == pytest.approx(2 / 3)
    assert rating_agreement([[[2], [-1]], [[0], [0]]])["agreement"] == 0.5


def test_repeated_labels_of_prm800k(data_folder):
    labellings = {}
    for line in (data_folder / "prm800k" / "repeated_labels.jsonl").read_text().splitlines():
        record = json.loads(line)
        steps = record["label"]["steps"]
        chosen = [step["completions"][step["chosen_completion"] or 0] for step in steps if step["completions"]]
        key = (record["question"]["problem"], chosen[0]["text"], chosen[-1]["text"])
        labellings.setdefault(key, []).append([one["rating"] for one in chosen])
    numbers = rating_agreement(list(labellings.values()))
    assert numbers["n_steps"] > 100
    assert 0 < numbers["fleiss_kappa"] < 1
    assert numbers["agreement"] > numbers["fleiss_kappa"]
    assert 0 < numbers["krippendorff_alpha"] < numbers["agreement"]
