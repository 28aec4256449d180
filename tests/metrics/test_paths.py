"""Path scores: every rule against a plain loop, and what must hold for any path."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prmkit.metrics import aggregate, entropy, first_error_distribution, margin, p_no_error

BY_LOOP = {
    "min": min,
    "max": max,
    "first": lambda p: p[0],
    "last": lambda p: p[-1],
    "mean": lambda p: sum(p) / len(p),
    "product": math.prod,
    "sum_log": lambda p: sum(math.log(max(x, 1e-15)) for x in p),
    "geometric_mean": lambda p: math.prod(x ** (1 / len(p)) for x in p),
    "length_normalized": lambda p: sum(math.log(max(x, 1e-15)) for x in p) / len(p),
}
probabilities = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0]))
paths = st.lists(st.lists(probabilities, min_size=1, max_size=8), min_size=1, max_size=6)


@pytest.mark.parametrize("how", BY_LOOP)
@settings(deadline=None)
@given(values=paths)
def test_every_rule_agrees_with_a_loop(how, values):
    expected = [BY_LOOP[how](path) for path in values]
    np.testing.assert_allclose(aggregate(values, how), expected, rtol=1e-9, atol=1e-12)


@settings(deadline=None)
@given(values=paths)
def test_product_is_at_most_the_minimum(values):
    assert (aggregate(values, "product") <= aggregate(values, "min")).all()


@pytest.mark.parametrize("how", BY_LOOP)
@settings(deadline=None)
@given(values=paths, seed=st.integers(0, 100))
def test_the_order_of_paths_changes_nothing(how, values, seed):
    order = np.random.default_rng(seed).permutation(len(values))
    shuffled = aggregate([values[i] for i in order], how)
    np.testing.assert_allclose(shuffled, aggregate(values, how)[order], rtol=1e-12)


@settings(deadline=None)
@given(values=paths)
def test_first_error_distribution_follows_the_definition(values):
    for found, risks in zip(first_error_distribution(values), values, strict=True):
        survival = np.concatenate([[1.0], np.cumprod(1 - np.asarray(risks))])
        np.testing.assert_allclose(found, [*(survival[:-1] * risks), survival[-1]], rtol=1e-9, atol=1e-12)
        assert found.sum() == pytest.approx(1)
        assert p_no_error(risks) == pytest.approx(found[-1])
    np.testing.assert_allclose(
        p_no_error(values), [d[-1] for d in first_error_distribution(values)], atol=1e-15
    )


def test_small_risks_are_not_rounded_away():
    risks = np.full(1_000_000, 1e-12)
    assert 1 - p_no_error(risks) == pytest.approx(1e-6, rel=1e-4)


def test_no_paths_and_paths_without_steps():
    assert aggregate([], "min").shape == (0,)
    assert first_error_distribution([]) == []
    for call in (lambda v: aggregate(v, "min"), p_no_error, first_error_distribution):
        with pytest.raises(ValueError, match="path 1 has no steps"):
            call([[0.5], []])
    with pytest.raises(ValueError, match="no steps"):
        p_no_error(np.array([]))


@pytest.mark.parametrize("bad", [float("nan"), 1.5, -0.1, float("inf")])
def test_what_is_no_probability_raises(bad):
    for how in BY_LOOP:
        with pytest.raises(ValueError, match="expected probabilities"):
            aggregate([[0.5, bad]], how)
    for function in (p_no_error, first_error_distribution, margin):
        with pytest.raises(ValueError, match="expected probabilities"):
            function([0.5, bad])
    with pytest.raises(ValueError, match="expected probabilities"):
        entropy([[0.5, bad]])


def test_float32_rounding_is_no_error():
    assert aggregate([np.array([1.0000001], dtype=np.float32)], "product")[0] == 1.0


def test_scores_on_another_scale_allow_only_rules_that_mean_something():
    assert aggregate([[3.0, -2.0]], "min", probabilities=False).tolist() == [-2.0]
    with pytest.raises(ValueError, match="needs probabilities"):
        aggregate([[3.0, -2.0]], "product", probabilities=False)
    with pytest.raises(ValueError, match="NaN"):
        aggregate([[3.0, float("nan")]], "mean", probabilities=False)


def test_mistakes_in_the_call_are_named():
    with pytest.raises(ValueError, match="geometric_mean"):
        aggregate([[0.5]], "average")
    with pytest.raises(ValueError, match=r"pass \[values\]"):
        aggregate([0.5, 0.6], "min")


def test_entropy_and_margin_point_in_opposite_directions():
    proba = np.array([[0.5, 0.5], [0.9, 0.1], [1.0, 0.0]])
    assert (np.diff(entropy(proba)) < 0).all()
    assert (np.diff(margin(proba[:, 0])) > 0).all()
    assert entropy(proba)[0] == pytest.approx(math.log(2))
