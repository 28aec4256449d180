"""First-error metrics against loops over solutions and against trying every threshold."""

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from prmkit.metrics import (
    bootstrap_by_problem,
    choose_first_error_threshold,
    choose_threshold,
    first_error_f1_score,
    first_error_from_risks,
)
from prmkit.metrics.benchmarks.first_error import first_error_position_accuracy

few = settings(deadline=None, max_examples=50, derandomize=True)
sixths = st.integers(0, 6).map(lambda k: k / 6)
paths = st.lists(st.lists(sixths, min_size=1, max_size=5), min_size=1, max_size=8)


def by_loop(path, threshold, rule="first_above"):
    if rule == "argmax":
        return path.index(max(path)) if max(path) > threshold else -1
    return next((i for i, risk in enumerate(path) if risk > threshold), -1)


def f1_by_hand(y_true, y_pred):
    wrong = [t == p for t, p in zip(y_true, y_pred, strict=True) if t != -1]
    right = [t == p for t, p in zip(y_true, y_pred, strict=True) if t == -1]
    if not wrong or not right:
        return None
    a, b = np.mean(wrong), np.mean(right)
    return 2 * a * b / (a + b) if a + b else 0.0


@few
@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-3, 9) | st.none()), max_size=12))
def test_f1_by_hand(rows):
    y_true, y_pred = [t for t, _ in rows], [p for _, p in rows]
    assert first_error_f1_score(y_true, y_pred) == pytest.approx(f1_by_hand(y_true, y_pred))


def test_conventions_of_zero_and_missing_classes():
    assert first_error_f1_score([1, -1], [0, 0], return_parts=True) == (0.0, 0.0, 0.0)
    assert first_error_f1_score([1, 2], [1, 0], return_parts=True) == (None, 0.5, None)
    assert first_error_f1_score([-1], [-1], return_parts=True) == (None, None, 1.0)
    assert first_error_f1_score([], []) is None
    assert first_error_f1_score([0, 1, -1], [-1, -1, -1]) == 0.0  # constant
    assert first_error_f1_score([0, -1], [np.nan, -1.0]) == 0.0


@pytest.mark.parametrize("bad", [["1", "-1"], np.array(["1", "-1"]), [True, False], [1, "-1"]])
def test_text_and_bools_are_type_errors(bad):
    with pytest.raises(TypeError, match="expected integers"):
        first_error_f1_score([1, -1], bad)


@pytest.mark.parametrize("y_true", [[None, -1], [-2, 0], [0.5, 1], [[0], [1]], [0]])
def test_bad_labels_raise(y_true):
    with pytest.raises(ValueError, match="y_true"):
        first_error_f1_score(y_true, [0, -1])


def test_weights_are_copies_and_the_bootstrap_takes_them():
    y_true, y_pred = np.array([0, 1, -1, -1]), np.array([0, 0, -1, 2])
    weight = np.array([3, 1, 2, 1])
    copies = np.repeat(np.arange(4), weight)
    assert first_error_f1_score(y_true, y_pred, sample_weight=weight) == pytest.approx(
        first_error_f1_score(y_true[copies], y_pred[copies])
    )
    result = bootstrap_by_problem(first_error_f1_score, [0, 1, 2, 3], y_true, y_pred, n_resamples=50)
    assert result.interval().value == 0.5
    assert result.interval().n_undefined > 0


def test_within_one_never_counts_no_error_as_a_position():
    assert first_error_position_accuracy([0, 0, 5, -1], [-1, 1, 3, -1], within=1) == pytest.approx(1 / 3)
    assert first_error_position_accuracy([0, 0], [None, 0]) == 0.5
    assert first_error_position_accuracy([-1], [-1]) is None


@pytest.mark.parametrize("rule", ["first_above", "argmax"])
@few
@given(risks=paths, threshold=sixths, data=st.data())
def test_first_errors_from_risks(rule, risks, threshold, data):
    expected = [by_loop(path, threshold, rule) for path in risks]
    assert first_error_from_risks(risks, threshold, rule).tolist() == expected
    each = [data.draw(sixths) for _ in risks]
    expected = [by_loop(path, t, rule) for path, t in zip(risks, each, strict=True)]
    assert first_error_from_risks(risks, each, rule).tolist() == expected


def test_the_published_rule_for_rewards_is_the_same_with_risks():
    """ProcessBench: the first step whose reward is below 0.5. Ties at the threshold are right."""
    rewards = np.array([0.9, 0.5, 0.49, 0.1])
    assert first_error_from_risks([1 - rewards], 0.5).tolist() == [int(np.argmax(rewards < 0.5))]


@pytest.mark.parametrize("rule", ["first_above", "argmax"])
@few
@given(risks=paths, data=st.data())
def test_the_threshold_is_the_highest_of_the_best(rule, risks, data):
    y_true = [data.draw(st.integers(-1, len(path) - 1)) for path in risks]
    assume(-1 in y_true and max(y_true) > -1)
    distinct = sorted({risk for path in risks for risk in path})
    candidates = [0.0 if distinct[0] > 0 else -np.inf, *distinct]
    scores = [f1_by_hand(y_true, [by_loop(path, t, rule) for path in risks]) for t in candidates]
    best = max(t for t, score in zip(candidates, scores, strict=True) if score >= max(scores) - 1e-12)
    choice = choose_first_error_threshold(y_true, risks, data="drawn", rule=rule)
    assert choice.threshold == best
    assert choice.f1 == pytest.approx(max(scores))
    assert choice.f1_at_half == pytest.approx(f1_by_hand(y_true, [by_loop(p, 0.5, rule) for p in risks]))
    again = first_error_f1_score(y_true, first_error_from_risks(risks, choice.threshold, rule), return_parts=True)
    assert again == pytest.approx((choice.f1, choice.accuracy_erroneous, choice.accuracy_correct))


@few
@given(risks=paths, data=st.data())
def test_one_threshold_means_the_same_to_all_functions(risks, data):
    """A step is wrong if its risk is above, whoever chose the threshold and whoever uses it."""
    y_true = [data.draw(st.integers(-1, len(path) - 1)) for path in risks]
    assume(-1 in y_true and max(y_true) > -1)
    is_wrong = [step == first for first, path in zip(y_true, risks, strict=True) for step in range(len(path))]
    flat = np.concatenate(risks)
    assume(not all(is_wrong))
    for threshold in (
        choose_threshold(is_wrong, flat),
        choose_first_error_threshold(y_true, risks, data="drawn").threshold,
    ):
        verdicts = np.split(flat > threshold, np.cumsum([len(path) for path in risks])[:-1])
        first_flagged = [int(np.argmax(one)) if one.any() else -1 for one in verdicts]
        assert first_error_from_risks(risks, threshold).tolist() == first_flagged


def test_threshold_needs_a_name_both_kinds_and_labels_within():
    for y_true, data, message in (
        ([0, -1], " ", "name of the data"),
        ([0, 0], "x", "2 erroneous and 0 correct"),
        ([2, -1], "x", "has 2 steps"),
    ):
        with pytest.raises(ValueError, match=message):
            choose_first_error_threshold(y_true, [[0.1, 0.2], [0.5]], data=data)


def test_a_million_steps_take_seconds():
    rng = np.random.default_rng(0)
    risks = list(rng.random((100_000, 10)))
    y_true = rng.integers(-1, 10, size=100_000)
    choice = choose_first_error_threshold(y_true, risks, data="drawn")
    assert 0 < choice.threshold < 1
    assert len(first_error_from_risks(risks, choice.threshold)) == 100_000
