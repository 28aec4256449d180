"""First errors as a survival analysis: definitions by plain loops, sets by trying all of them, scores by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from prmkit.metrics import (
    credible_set,
    first_error_distribution,
    first_error_log_loss,
    ranked_probability_score,
    survival,
)

fast = settings(deadline=None, max_examples=50, derandomize=True)
probabilities = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0]))
paths = st.lists(st.lists(probabilities, min_size=1, max_size=6), min_size=1, max_size=5)


@fast
@given(values=paths)
def test_survival_follows_the_definition(values):
    for view, risks in zip(survival(values), values, strict=True):
        right, f = 1.0, []
        for t, risk in enumerate(risks):
            f.append(right * risk)
            right *= 1 - risk
            assert view.survival[t] == pytest.approx(right, abs=1e-12)
        f.append(right)
        np.testing.assert_allclose(view.first_error_distribution, f, atol=1e-12)
        assert view.first_error_distribution.sum() == pytest.approx(1)
        assert view.p_no_error == pytest.approx(f[-1], abs=1e-12)
        assert (np.diff(view.survival) <= 0).all()
        np.testing.assert_array_equal(view.hazard, risks)
        reached = [t for t in range(len(risks)) if sum(f[: t + 1]) >= 0.5 - 1e-9]
        assert view.median == (reached[0] if reached else -1)


def test_most_likely_and_median_by_hand():
    view = survival([0.1, 0.5, 0.2])
    assert (view.most_likely, view.median) == (1, 1)
    assert (survival([0.1, 0.1]).most_likely, survival([0.1, 0.1]).median) == (-1, -1)
    assert survival([0.5]).most_likely == 0  # a tie with "no error": the step comes first
    assert survival([0.5]).median == 0
    assert survival([0.0, 1.0, 0.3]).first_error_distribution.tolist() == [0, 1, 0, 0]
    assert "2 steps" in repr(survival([0.1, 0.1]))


def test_one_path_or_several():
    assert survival([]) == []
    assert len(survival([[0.1], [0.2, 0.3]])) == 2
    assert survival(np.array([0.1, 0.2])).survival.shape == (2,)
    with pytest.raises(ValueError, match="path 1 has no steps"):
        survival([[0.1], []])
    with pytest.raises(ValueError, match="without NaN"):
        survival([0.1, float("nan")])


def test_long_paths_keep_small_risks():
    view = survival(np.full(100_000, 1e-12))
    assert 1 - view.p_no_error == pytest.approx(1e-7, rel=1e-4)


@fast
@given(values=paths, level=st.sampled_from([0.3, 0.5, 0.9, 1.0]))
def test_credible_set_is_the_smallest(values, level):
    distributions = first_error_distribution(values)
    for found, f in zip(credible_set(distributions, level), distributions, strict=True):
        mass = sum(f[outcome] for outcome in found)  # f[-1] is "no error"
        assert mass >= level - 1e-9
        smaller = [sum(f[list(chosen)]) for chosen in itertools.combinations(range(len(f)), len(found) - 1)]
        assert max(smaller) < level - 1e-13 or len(found) == 1
        left_out = [f[o] for o in [*range(len(f) - 1), -1] if o not in found]
        assert not left_out or min(f[o] for o in found) >= max(left_out)


@fast
@given(risks=st.lists(probabilities, min_size=1, max_size=6))
def test_credible_sets_grow_with_the_level(risks):
    f = first_error_distribution(risks)
    sets = [credible_set(f, level) for level in (0.2, 0.5, 0.8, 0.95, 1.0)]
    assert all(small <= large for small, large in itertools.pairwise(sets))
    assert credible_set([f, f[::-1]], 0.8)[0] == credible_set(f, 0.8)  # other paths change nothing


def test_credible_set_ties_take_the_earlier_outcome():
    assert credible_set([0.25, 0.25, 0.25, 0.25], 0.5) == {0, 1}
    assert credible_set([0.5, 0.5], 0.5) == {0}
    assert credible_set([0.2, 0.8], 0.8) == {-1}
    assert credible_set([0.1, 0.2, 0.7], 0.9) == {1, -1}  # 0.7 + 0.2 is 0.9 but for rounding
    assert credible_set([0.5, 0.4999999, 0.0], 1.0) == {0, 1}  # what is impossible is never in it
    assert all(type(outcome) is int for outcome in credible_set([0.5, 0.5], 0.9))
    assert credible_set([], 0.5) == []


@pytest.mark.parametrize("bad", [[0.5, 0.4], [0.5, float("nan")], [1.0], [1.2, -0.2]])
def test_credible_set_refuses_what_is_no_distribution(bad):
    with pytest.raises(ValueError, match="expected"):
        credible_set(bad)
    for level in (0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="level"):
            credible_set([0.5, 0.5], level)


@fast
@given(values=paths, seed=st.integers(0, 100))
def test_scores_agree_with_a_loop(values, seed):
    rng = np.random.default_rng(seed)
    truth = [int(rng.integers(-1, len(risks))) for risks in values]
    log_losses, scores = [], []
    for risks, tau in zip(values, truth, strict=True):
        f = first_error_distribution(risks)
        log_losses.append(-math.log(max(f[tau], 1e-15)))
        happened = [0 <= tau <= t for t in range(len(risks))]
        scores.append(sum((sum(f[: t + 1]) - happened[t]) ** 2 for t in range(len(risks))) / len(risks))
    np.testing.assert_allclose(first_error_log_loss(values, truth, per_path=True), log_losses, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ranked_probability_score(values, truth, per_path=True), scores, atol=1e-9)
    assert first_error_log_loss(values, truth) == pytest.approx(np.mean(log_losses))
    assert ranked_probability_score(values, truth) == pytest.approx(np.mean(scores))


def test_scores_of_the_best_and_the_worst():
    assert first_error_log_loss([[0.0, 1.0]], [1]) == 0
    assert first_error_log_loss([[0.0, 1.0]], [-1]) == pytest.approx(-math.log(1e-15))
    assert ranked_probability_score([[0.0, 1.0]], [1]) == 0
    assert ranked_probability_score([[1.0, 0.0]], [-1]) == 1
    near, far = (ranked_probability_score([[0, 0, 0, 1.0]], [tau]) for tau in (2, 0))
    assert near < far  # an ordered score forgives a near miss


def test_true_hazards_have_the_best_scores():
    rng = np.random.default_rng(0)
    risks = rng.uniform(0.05, 0.3, (4000, 5))
    wrong = rng.random(risks.shape) < risks
    truth = np.where(wrong.any(axis=1), wrong.argmax(axis=1), -1)
    for score in (first_error_log_loss, ranked_probability_score):
        assert score(risks, truth) < score(risks**2, truth)
        assert score(risks, truth) < score(np.sqrt(risks), truth)


@pytest.mark.parametrize("score", [first_error_log_loss, ranked_probability_score])
def test_first_errors_must_fit_their_paths(score):
    with pytest.raises(ValueError, match="path 1 has 1 steps"):
        score([[0.1, 0.2], [0.3]], [1, 1])
    with pytest.raises(ValueError, match="shape"):
        score([[0.1, 0.2]], [1, 1])
    with pytest.raises(ValueError, match="expected 0-based indices"):
        score([[0.1, 0.2]], [0.5])
    with pytest.raises(ValueError, match="empty"):
        score([], [])
    with pytest.raises(ValueError, match="without NaN"):
        score([[float("nan")]], [0])


def test_first_errors_may_be_objects():
    risks_of_two = [0.1, 0.5], [0.2]
    expected = first_error_log_loss(risks_of_two, [1, -1])
    for values in ([1, -1], [1.0, -1], [np.int32(1), np.float64(-1)]):
        assert first_error_log_loss(risks_of_two, np.array(values, dtype=object)) == expected


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (np.array([1, None], dtype=object), "None"),
        (np.array([1, "0"], dtype=object), "'0'"),
        (np.array([1, 0.5], dtype=object), "0.5"),
        ([0.0, float("nan")], "nan"),
        ([0.0, float("inf")], "inf"),
    ],
)
def test_the_first_error_that_is_none_is_named(values, found):
    with pytest.raises(ValueError, match=rf"first_errors\[1\] is {found}, expected 0-based .* \(None\)"):
        first_error_log_loss([[0.1, 0.5], [0.2]], values)
