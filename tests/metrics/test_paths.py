"""Path scores: every rule against a plain loop, and what must hold for any path."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from prmkit.metrics import aggregate, credible_set, first_error_distribution, p_no_error, survival
from prmkit.metrics.solutions.aggregation import entropy, ragged_first_error_distribution
from prmkit.utils.ragged import Ragged

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
    np.testing.assert_allclose(p_no_error(values), [d[-1] for d in first_error_distribution(values)], atol=1e-15)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(values=paths)
def test_rules_keep_their_order(values):
    of = {how: aggregate(values, how) for how in BY_LOOP}
    tolerance = 1e-12
    assert (of["geometric_mean"] <= of["mean"] + tolerance).all()
    for how in ("mean", "geometric_mean", "first", "last"):
        assert (of["min"] <= of[how] + tolerance).all()
        assert (of[how] <= of["max"] + tolerance).all()
    assert (of["sum_log"] <= of["length_normalized"]).all()
    certain = aggregate([[*path, 1.0] for path in values], "product")  # a certain step changes no product
    np.testing.assert_allclose(certain, of["product"], rtol=1e-12)


@pytest.mark.parametrize("how", ["min", "first", "mean", "product", "sum_log", "geometric_mean"])
@settings(deadline=None, max_examples=50, derandomize=True)
@given(values=paths, part=st.floats(0, 1))
def test_a_better_step_never_makes_a_path_worse(how, values, part):
    better = [[step + part * (1 - step) for step in path] for path in values]
    assert (aggregate(better, how) >= aggregate(values, how) - 1e-12).all()


def test_equal_steps_and_single_steps():
    for how in ("min", "max", "first", "last", "mean", "geometric_mean"):
        np.testing.assert_allclose(aggregate([[0.3], [0.3, 0.3, 0.3]], how), 0.3)
    np.testing.assert_allclose(aggregate([[0.3], [0.3, 0.3, 0.3]], "length_normalized"), math.log(0.3))


@settings(deadline=None, max_examples=50, derandomize=True)
@given(values=paths)
def test_paths_end_to_end_are_the_paths_one_by_one(values):
    ragged = Ragged.from_arrays(values)
    for found, path in zip(ragged_first_error_distribution(ragged).split(), values, strict=True):
        np.testing.assert_array_equal(found, first_error_distribution(path))
    np.testing.assert_array_equal(ragged.cumsum(), np.concatenate([np.cumsum(p) for p in values]))


def test_a_path_leaves_nothing_in_the_next():
    """No rounding error of a long path, and no infinity of a certain error, reaches the path after it."""
    flat = np.array([1.0, 0.5, *np.full(1000, 0.9), 1e-14])
    found = ragged_first_error_distribution(Ragged(flat, np.array([2, 1000, 1]))).values
    assert found[:3].tolist() == [1.0, 0.0, 0.0]
    assert found[-2:].tolist() == [1e-14, 1 - 1e-14]


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
    for function in (p_no_error, first_error_distribution):
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


def test_entropy_falls_with_certainty():
    proba = np.array([[0.5, 0.5], [0.9, 0.1], [1.0, 0.0]])
    assert (np.diff(entropy(proba)) < 0).all()
    assert entropy(proba)[0] == pytest.approx(math.log(2))


@pytest.mark.parametrize("length", [2, 3, 7, 30])
@pytest.mark.parametrize("value", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("how", ["mean", "geometric_mean"])
def test_means_of_like_steps_are_those_steps(how, value, length):
    assert aggregate([[value] * length, [0.2]], how)[0] == value


def same(found, expected):
    np.testing.assert_array_equal(np.asarray(found, dtype=float), np.asarray(expected, dtype=float))


@pytest.mark.parametrize("view", [p_no_error, first_error_distribution, lambda x: survival(x).survival])
def test_a_path_may_be_a_series_or_a_generator(view):
    risks = [0.1, 0.5, 0.2]
    expected = view(np.array(risks))
    for path in (pd.Series(risks, index=[5, 6, 7]), (risk for risk in risks), tuple(risks)):
        same(view(path), expected)


@pytest.mark.parametrize("view", [p_no_error, first_error_distribution, lambda x: [v.survival for v in survival(x)]])
def test_paths_may_be_a_series_or_a_generator(view):
    risks = [[0.1, 0.5], [0.2, 0.3]]
    expected = view(risks)
    for several in (pd.Series(risks, index=[5, 6]), (path for path in risks)):
        same(view(several), expected)
    series = pd.Series([0.2, 0.3], index=[1, 2])
    same(view([pd.Series([0.1, 0.5], index=[3, 4]), series]), expected)


def test_credible_sets_of_series_and_generators():
    distribution = [0.1, 0.45, 0.09, 0.36]
    for one in (pd.Series(distribution, index=[4, 5, 6, 7]), (p for p in distribution)):
        assert credible_set(one, 0.8) == {-1, 1}
    assert credible_set((part for part in [distribution]), 0.8) == [{-1, 1}]
    assert credible_set(pd.Series([distribution], index=[3]), 0.8) == [{-1, 1}]


@pytest.mark.parametrize("wrong", ["0.5", {"risk": [0.1]}, pd.DataFrame({"risk": [0.1]})])
@pytest.mark.parametrize(
    "view", [p_no_error, first_error_distribution, survival, credible_set, lambda x: aggregate(x, "min")]
)
def test_what_is_no_path_is_named(view, wrong):
    name = type(wrong).__name__
    with pytest.raises(TypeError, match=f"X is a {name}, expected a 1-D array"):
        view(wrong)
    if name != "str":  # a list of strings is a path of wrong numbers
        with pytest.raises(TypeError, match=f"path 1 is a {name}, expected a 1-D array"):
            view([[0.1, 0.9], wrong])
