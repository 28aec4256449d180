"""The shared core against formulas written out, by hand for few units and by brute force for many."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import binom

from prmkit.uncertainty.guarantees.thresholds import (
    Threshold,
    largest_threshold,
    mean_over_units,
    p_values,
    smallest_threshold,
    units_needed,
)


def just_below(number):
    """The largest float that is smaller; infinite numbers stay."""
    return np.nextafter(number, -np.inf) if np.isfinite(number) else number


@pytest.mark.parametrize(
    ("n", "value", "attainable"), [(1, -np.inf, False), (8, -np.inf, False), (9, 0.1, True), (10, 0.1, True)]
)
def test_few_units_by_hand(n, value, attainable):
    """alpha = 0.1: (n + 1) alpha reaches 1, and no failure is tolerated, from n = 9 on."""
    values = np.linspace(0.1, 0.9, n)[::-1]
    assert largest_threshold(values, np.arange(n), 0.1) == Threshold(just_below(value), n, attainable)
    assert smallest_threshold(-values, np.arange(n), 0.1) == Threshold(-value, n, attainable)


def test_failures_tolerated_step_up_where_alpha_times_n_plus_one_is_an_integer():
    for n, m in [(18, 0), (19, 1), (29, 2), (99, 9)]:
        values = np.arange(1, n + 1) / 1000
        assert largest_threshold(values, np.arange(n), 0.1).value == just_below(values[m])


def test_the_first_refused_number_does_not_pass_and_the_next_below_does():
    risks = np.repeat(0.3, 9)
    threshold = largest_threshold(risks, np.arange(9), 0.1).value
    assert 0.3 - 1e-15 < threshold < 0.3
    assert largest_threshold(risks, np.arange(9), 0.1, margin=0.01).value == pytest.approx(0.29)
    assert smallest_threshold(risks, np.arange(9), 0.1).value == 0.3
    assert smallest_threshold(risks, np.arange(9), 0.1, margin=0.01).value == pytest.approx(0.31)


def test_all_pass_that_cannot_fail_and_none_where_units_are_too_few():
    for n, value in ((9, np.inf), (8, -np.inf)):
        for margin in (0.0, 0.1):
            cannot_fail = np.full(n, np.inf)
            assert largest_threshold(cannot_fail, np.arange(n), 0.1, margin=margin).value == value
            assert smallest_threshold(-cannot_fail, np.arange(n), 0.1, margin=margin).value == -value


def test_no_units_are_too_few():
    for delta in (None, 0.5):
        assert largest_threshold(np.empty(0), np.empty(0, dtype=int), 0.5, delta) == Threshold(-np.inf, 0, False)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2, 0.37, 0.5])
def test_one_path_per_unit_is_the_order_statistic_of_crop(alpha):
    """(m + 1)-th smallest M over the erroneous paths, with m = floor(alpha (n + 1)) - 1."""
    rng = np.random.default_rng(0)
    for n in [*range(1, 40), 100, 333]:
        risks = np.round(rng.random(n), rng.integers(1, 4))  # with ties
        wrong = rng.random(n) < rng.random()
        m = math.floor(alpha * (n + 1) + 1e-9) - 1
        smallest = np.sort(risks[wrong])
        expected = -np.inf if m < 0 else smallest[m] if len(smallest) > m else np.inf
        threshold = largest_threshold(np.where(wrong, risks, np.inf), rng.permutation(n), alpha)
        assert threshold.value == just_below(expected)


@pytest.mark.parametrize("recall", [0.5, 0.8, 0.9, 0.95])
def test_one_path_per_unit_is_the_conformal_quantile(recall):
    """k-th smallest value, with k = ceil((n + 1) recall); k > n is not attainable."""
    rng = np.random.default_rng(1)
    for n in range(1, 60):
        values = np.round(rng.random(n), 2)
        k = math.ceil((n + 1) * recall - 1e-9)
        expected = np.inf if k > n else np.sort(values)[k - 1]
        assert smallest_threshold(values, np.arange(n), 1 - recall).value == expected


def by_brute_force(values, units, alpha, delta):
    """Try every number as the first refused one: losses by a loop over units, p-values from scipy.stats."""
    n = len(set(units))
    best = -np.inf
    for refused in [-np.inf, *sorted(set(values)), np.inf]:
        losses = [
            np.mean([v < refused for v, u in zip(values, units, strict=True) if u == unit]) for unit in set(units)
        ]
        total = sum(losses)
        if delta is None:
            passes = (total + 1) / (n + 1) <= alpha + 1e-12
        elif len(values) == n:
            passes = binom.cdf(round(total), n, alpha) <= delta
        else:
            rate = min(total / n, alpha)
            h = sum(a * math.log(a / b) if a else 0 for a, b in [(rate, alpha), (1 - rate, 1 - alpha)])
            bentkus = math.e * binom.cdf(math.ceil(total - 1e-9), n, alpha)
            passes = min(math.exp(-n * h), bentkus) <= delta
        if not passes:
            break
        best = refused
    return best


@pytest.mark.parametrize("delta", [None, 0.1, 0.5])
@pytest.mark.parametrize("several", [False, True])
def test_every_threshold_tried(delta, several):
    rng = np.random.default_rng(2)
    reached = set()
    for _ in range(60):
        n = int(rng.integers(1, 45))
        units = np.repeat(np.arange(n), rng.integers(1, 4, n)) if several else np.arange(n)
        values = np.round(rng.random(len(units)), 1 + rng.integers(2))
        values[rng.random(len(values)) < 0.3] = np.inf
        alpha = float(rng.choice([0.1, 0.2, 0.3, 0.6]))
        expected = by_brute_force(values, units, alpha, delta)
        assert largest_threshold(values, units, alpha, delta).value == just_below(expected)
        assert smallest_threshold(-values, units, alpha, delta).value == -expected
        reached.add(np.isfinite(expected))
    assert reached == {True, False}


@pytest.mark.parametrize("delta", [None, 0.05, 0.1, 0.5])
@pytest.mark.parametrize("alpha", [0.01, 0.1, 1 / 3, 0.5, 0.9])
@pytest.mark.parametrize("copies", [1, 2])
def test_units_needed_is_where_a_level_becomes_attainable(alpha, delta, copies):
    needed = units_needed(alpha, delta)
    for n in (needed - 1, needed):
        units = np.repeat(np.arange(n), copies)
        assert largest_threshold(np.full(len(units), 0.5), units, alpha, delta).attainable == (n >= needed)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 8)), min_size=1, max_size=60),
    st.floats(0.02, 0.9),
    st.sampled_from([None, 0.05, 0.3]),
    st.randoms(use_true_random=False),
)
def test_order_is_nothing_and_confidence_costs(pairs, alpha, delta, random):
    values, units = (np.array(column) for column in zip(*pairs, strict=True))
    threshold = largest_threshold(values / 20, units, alpha, delta)
    order = np.array(random.sample(range(len(pairs)), len(pairs)))
    assert largest_threshold(values[order] / 20, units[order], alpha, delta) == threshold
    assert threshold.value <= largest_threshold(values / 20, units, min(2 * alpha, 0.95), delta).value
    if delta is not None:
        stricter = largest_threshold(values / 20, units, alpha, delta / 10)
        assert stricter.value <= threshold.value


def test_mean_over_units_weighs_problems_not_paths():
    assert mean_over_units(np.array([1, 1, 1, 0]), np.array([7, 7, 7, 9])) == 0.5
    assert mean_over_units(np.empty(0), np.empty(0, dtype=int)) is None


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_p_values_are_those_of_mapie(binary, alpha):
    """With 64 units the means of the losses are exact, so that both round the same number up."""
    methods = pytest.importorskip("mapie.risk_control.methods")
    losses = np.arange(0, 65, 1 if binary else 0.25)
    theirs = methods.compute_hoeffding_bentkus_p_value(losses / 64, 64, alpha, binary=binary)[:, 0]
    np.testing.assert_allclose(p_values(losses, 64, alpha, binary=binary), theirs, rtol=1e-9, atol=1e-300)
