"""Agreement between labellings against scikit-learn, a published example and pairs counted by hand."""

import json
from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from prmkit.metrics._agreement import cohen_kappa, fleiss_kappa, rating_agreement

few = settings(deadline=None, max_examples=50, derandomize=True)


@few
@given(st.lists(st.tuples(st.integers(-1, 1), st.integers(-1, 1)), min_size=1, max_size=12))
def test_cohen_is_scikit_learns(rows):
    first, second = zip(*rows, strict=True)
    if len({*first, *second}) < 2:
        assert cohen_kappa(first, second) is None
        return
    for weights in (None, "quadratic"):
        expected = cohen_kappa_score(first, second, weights=weights)
        assert cohen_kappa(first, second, weights=weights) == pytest.approx(expected)
        holes = cohen_kappa([*first, None, 1], [*second, 1, None], weights=weights)
        assert holes == pytest.approx(expected)


def test_fleiss_published_example():
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    assert fleiss_kappa(counts) == pytest.approx(0.210, abs=5e-4)


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
    assert fleiss_kappa([[3, 0], [2, 0]]) is None
    assert fleiss_kappa([[1, 0], [0, 1]]) is None
    assert cohen_kappa([None], [1]) is None
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
        chosen = [
            step["completions"][step["chosen_completion"] or 0] for step in steps if step["completions"]
        ]
        key = (record["question"]["problem"], chosen[0]["text"], chosen[-1]["text"])
        labellings.setdefault(key, []).append([one["rating"] for one in chosen])
    numbers = rating_agreement(list(labellings.values()))
    assert numbers["n_steps"] > 100
    assert 0 < numbers["fleiss_kappa"] < 1
    assert numbers["agreement"] > numbers["fleiss_kappa"]
