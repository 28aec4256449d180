"""Uncertainty by members: against loops, scipy and hand-made cases, and what must hold for any probabilities."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import entropy as scipy_entropy

from prmkit.metrics import decompose_uncertainty


def random_proba(shape, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(shape[-1]) / 2, size=shape[:-1])


def test_against_loops_and_scipy():
    proba = random_proba((4, 30, 3))
    found = decompose_uncertainty(proba, worst_column=0)
    for t in range(30):
        rows = [proba[m, t] for m in range(4)]
        total = scipy_entropy(np.mean(rows, axis=0))
        aleatoric = np.mean([scipy_entropy(row) for row in rows])
        votes = [int(np.argmax(row)) for row in rows]
        assert found.total[t] == pytest.approx(total, abs=1e-12)
        assert found.aleatoric[t] == pytest.approx(aleatoric, abs=1e-12)
        assert found.epistemic[t] == pytest.approx(total - aleatoric, abs=1e-12)
        assert found.risk_variance[t] == pytest.approx(np.mean([(r[0] - np.mean(rows, axis=0)[0]) ** 2 for r in rows]))
        assert found.variation_ratio[t] == pytest.approx(1 - max(votes.count(c) for c in range(3)) / 4)


def test_mutual_information_as_divergence_from_the_mean():
    """The same number by another formula: the mean Kullback-Leibler divergence of the members from their mean."""
    proba = random_proba((5, 20, 3))
    divergence = scipy_entropy(proba, proba.mean(axis=0)[None], axis=2).mean(axis=0)
    np.testing.assert_allclose(decompose_uncertainty(proba).epistemic, divergence, atol=1e-12)


def test_ties_in_a_member_vote_for_the_first_class():
    member_proba = [[[0.4, 0.4, 0.2]], [[0.1, 0.8, 0.1]], [[0.9, 0.1, 0.0]]]
    assert decompose_uncertainty(member_proba).variation_ratio[0] == pytest.approx(1 / 3)


def test_one_member_knows_no_disagreement():
    proba = random_proba((1, 10, 3))
    found = decompose_uncertainty(proba, worst_column=2)
    np.testing.assert_array_equal(found.total, found.aleatoric)
    for none in (found.epistemic, found.risk_variance, found.variation_ratio):
        np.testing.assert_array_equal(none, np.zeros(10))


def test_variance_is_of_the_column_named():
    proba = random_proba((6, 8, 3))
    assert decompose_uncertainty(proba).risk_variance is None
    np.testing.assert_allclose(decompose_uncertainty(proba, 1).risk_variance, proba[:, :, 1].var(axis=0))


@settings(deadline=None, max_examples=50, derandomize=True)
@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(2, 4)),
        elements=st.one_of(st.just(0.0), st.floats(1e-300, 1.0)),
    ).filter(lambda weights: (weights.sum(axis=2) > 0).all())
)
def test_for_any_probabilities(weights):
    proba = weights / weights.max(axis=2, keepdims=True)
    proba /= proba.sum(axis=2, keepdims=True)
    found = decompose_uncertainty(proba, worst_column=0)
    n_classes = proba.shape[2]
    assert (found.epistemic >= 0).all()
    np.testing.assert_allclose(found.total, found.aleatoric + found.epistemic, atol=1e-12)
    assert (found.total <= np.log(n_classes) + 1e-12).all()
    assert ((found.risk_variance >= 0) & (found.risk_variance <= 0.25 + 1e-12)).all()
    assert ((found.variation_ratio >= 0) & (found.variation_ratio <= 1 - 1 / n_classes + 1e-12)).all()
    turned = decompose_uncertainty(proba[::-1], worst_column=0)
    for name in ("total", "aleatoric", "epistemic", "risk_variance", "variation_ratio"):
        np.testing.assert_allclose(getattr(turned, name), getattr(found, name), atol=1e-12)


@pytest.mark.parametrize(
    ("member_proba", "column", "words"),
    [
        (np.ones((2, 3)) / 3, None, r"shape \(2, 3\).*at least 1 member"),
        (np.ones((0, 2, 3)) / 3, None, "at least 1 member"),
        ([[[0.5, np.nan]]], None, "without NaN"),
        ([[[1.5, -0.5]]], None, r"expected probabilities in \[0, 1\]"),
        ([[[0.5, 0.5]], [[0.5, 0.2]]], None, "step 0 by member 1 sum to 0.7"),
        ([[[0.5, 0.5]]], 2, "worst_column is 2, expected 0 to 1"),
        ([[[0.5, 0.5]]], -1, "worst_column is -1"),
    ],
)
def test_bad_input(member_proba, column, words):
    with pytest.raises(ValueError, match=words):
        decompose_uncertainty(member_proba, column)


@pytest.mark.parametrize("column", [True, 0.5, 3, -1, "a"])
def test_columns_that_are_none(column):
    with pytest.raises(ValueError, match="worst_column is"):
        decompose_uncertainty(np.full((2, 4, 3), 1 / 3), column)
