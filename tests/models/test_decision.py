"""The weights under which a rare class is found, by hand."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from prmkit.models.heads.head import choose_decision_weights


def decided(proba, weights):
    return (proba * weights).argmax(axis=1)


def test_probabilities_that_decide_by_themselves_need_no_weights():
    y = np.array([0, 1, 1, 1])
    proba = np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.1, 0.9]])
    np.testing.assert_array_equal(choose_decision_weights(y, proba), [1, 1])


def test_a_rare_class_that_never_is_the_likeliest_is_found():
    y = np.array([0] * 2 + [1] * 18)  # share 1/9 of the larger class
    proba = np.tile([0.05, 0.95], (20, 1))
    proba[:3] = [0.4, 0.6]  # its two rows, and one of the other class
    weights = choose_decision_weights(y, proba)
    assert weights[1] == 1
    assert weights[0] == pytest.approx(9**0.2)  # the least power whose weight exceeds 0.6 / 0.4
    assert decided(proba, weights).tolist() == [0, 0, 0] + [1] * 17


def test_never_worse_than_the_likeliest_class():
    rng = np.random.default_rng(0)
    for _ in range(20):
        y = rng.choice(3, size=80, p=[0.1, 0.2, 0.7])
        proba = rng.dirichlet([1, 2, 7], size=80) * 0.7 + 0.3 * np.eye(3)[y] * rng.random((80, 1))
        proba /= proba.sum(axis=1, keepdims=True)
        weighed = decided(proba, choose_decision_weights(y, proba))
        macro_f1 = [f1_score(y, answer, average="macro", zero_division=0) for answer in (weighed, proba.argmax(1))]
        assert macro_f1[0] >= macro_f1[1]


def test_sample_weight_counts_as_repetition():
    rng = np.random.default_rng(0)
    y = rng.choice(3, size=60, p=[0.1, 0.2, 0.7])
    proba = rng.dirichlet([1, 2, 7], size=60)
    times = rng.integers(1, 4, size=60)
    np.testing.assert_allclose(
        choose_decision_weights(y, proba, times.astype(float)),
        choose_decision_weights(np.repeat(y, times), np.repeat(proba, times, axis=0)),
    )


def test_a_class_without_rows_gets_a_finite_weight():
    proba = np.array([[0.2, 0.3, 0.5], [0.1, 0.6, 0.3]])
    assert np.isfinite(choose_decision_weights(np.array([2, 1]), proba)).all()
