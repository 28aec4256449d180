"""Best-of-N against all subsets, one by one."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from prmkit.metrics import best_of_n_accuracy, pass_at_k

few = settings(deadline=None, max_examples=50, derandomize=True)
rows = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=6)
TIES = ("first", "average")


def chosen(scores, correct, ties):
    best = [c for s, c in zip(scores, correct, strict=True) if s == max(scores)]
    return float(best[0]) if ties == "first" else float(np.mean(best))


def by_enumeration(row, n, ties):
    subsets = combinations(row, n)
    return np.mean([chosen(*zip(*subset, strict=True), ties) for subset in subsets])


@pytest.mark.parametrize("ties", TIES)
@few
@given(row=rows, data=st.data())
def test_exact_is_the_mean_over_subsets(ties, row, data):
    n = data.draw(st.integers(1, len(row)))
    scores, correct = zip(*row, strict=True)
    value = best_of_n_accuracy([scores], [correct], n, ties=ties)
    assert value == pytest.approx(by_enumeration(row, n, ties))
    assert value <= pass_at_k(sum(correct), len(row), n) + 1e-12
    assert best_of_n_accuracy([scores], [correct], 1, ties=ties) == pytest.approx(np.mean(correct))
    whole = best_of_n_accuracy([scores], [correct], len(row), ties=ties)
    assert whole == best_of_n_accuracy([scores], [correct], len(row), "prefix", ties)


@few
@given(row=rows, data=st.data())
def test_averaged_ties_do_not_see_the_order(row, data):
    n = data.draw(st.integers(1, len(row)))
    mixed = data.draw(st.permutations(row))
    values = [best_of_n_accuracy([[s for s, _ in r]], [[c for _, c in r]], n, ties="average") for r in (row, mixed)]
    assert values[0] == pytest.approx(values[1])


@pytest.mark.parametrize("ties", TIES)
def test_prefix_and_blocks(ties):
    rng = np.random.default_rng(0)
    scores, correct = rng.integers(0, 4, size=(30, 8)), rng.random((30, 8)) < 0.4
    first = [chosen(s[:3], c[:3], ties) for s, c in zip(scores, correct, strict=True)]
    second = [chosen(s[3:6], c[3:6], ties) for s, c in zip(scores, correct, strict=True)]
    assert best_of_n_accuracy(scores, correct, 3, "prefix", ties) == pytest.approx(np.mean(first))
    assert best_of_n_accuracy(scores, correct, 3, "blocks", ties) == pytest.approx(np.mean([first, second]))


@pytest.mark.parametrize("method", ["exact", "prefix", "blocks"])
@pytest.mark.parametrize("ties", TIES)
def test_short_rows_are_as_if_alone(method, ties):
    rng = np.random.default_rng(1)
    scores, correct = rng.integers(0, 3, size=(20, 7)).astype(float), rng.random((20, 7)) < 0.5
    lengths = rng.integers(2, 8, size=20)
    alone = [
        best_of_n_accuracy([s[:m]], [c[:m]], 2, method, ties) for s, c, m in zip(scores, correct, lengths, strict=True)
    ]
    scores[np.arange(7) >= lengths[:, None]] = np.nan
    values = best_of_n_accuracy(scores, correct, 2, method, ties, per_problem=True)
    np.testing.assert_allclose(values, alone)


def test_many_candidates_stay_exact():
    n = 2000
    correct = np.arange(n)[None, :] == 900
    value = best_of_n_accuracy(-np.arange(n)[None, :].astype(float), correct, 3)
    assert value == pytest.approx(comb(n - 901, 2) / comb(n, 3), rel=1e-9)
    assert best_of_n_accuracy([[-np.inf, -np.inf]], [[False, True]], 2, ties="average") == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0, 2.0]], [[True, True]], 3), "has 2 candidates"),
        (([[1.0, 2.0]], [[True, True]], 0), "n is 0"),
        (([[np.nan, 2.0]], [[True, True]], 1), "before a number"),
        (([[1.0, 2.0]], [[True, None]], 1), "other values"),
        (([[1.0, 2.0]], [[True]], 1), "shape"),
        (([[1.0, 2.0]], [[True, True]], 1, "suffix"), "method"),
        (([[1.0, 2.0]], [[True, True]], 1, "exact", "last"), "ties"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        best_of_n_accuracy(*arguments)


def test_no_problems_is_undefined():
    assert best_of_n_accuracy(np.empty((0, 4)), np.empty((0, 4)), 2) is None


@few
@given(st.integers(1, 12).flatmap(lambda m: st.tuples(st.integers(0, m), st.just(m), st.integers(1, m))))
def test_pass_at_k(numbers):
    c, m, k = numbers
    assert pass_at_k(c, m, k) == pytest.approx(1 - comb(m - c, k) / comb(m, k), abs=1e-12)


def test_pass_at_k_is_stable_and_broadcasts():
    assert pass_at_k(1, 10**9, 1) == pytest.approx(1e-9, rel=1e-12)
    assert pass_at_k(3, 5000, 2) == pytest.approx(1 - comb(4997, 2) / comb(5000, 2), rel=1e-12)
    values = pass_at_k([0, 1, 4], [4, 4, 4], 2)
    assert isinstance(values, np.ndarray)
    np.testing.assert_allclose(values, [0, 0.5, 1])
    assert pass_at_k([1, 2], 4, [[1], [2]]).shape == (2, 2)
    assert pass_at_k([], [], 1).shape == (0,)
    assert isinstance(pass_at_k(1, 2, 1), float)


@pytest.mark.parametrize("bad", [(5, 4, 1), (-1, 4, 1), (1, 4, 5), (1, 4, 0), (0.5, 4, 1)])
def test_pass_at_k_refuses(bad):
    with pytest.raises(ValueError, match="expected"):
        pass_at_k(*bad)
