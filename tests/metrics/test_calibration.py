"""Expected calibration error against its definition, spelled out."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from prmkit.metrics import expected_calibration_error


def brute_force(event, prob, n_bins, strategy):
    n = len(prob)
    if strategy == "uniform":
        bins = [[] for _ in range(n_bins)]
        for i, p in enumerate(prob):
            inside = [k for k in range(n_bins) if k / n_bins < p <= (k + 1) / n_bins]
            bins[inside[0] if inside else 0].append(i)
    else:
        order = sorted(range(n), key=lambda i: prob[i])
        bins, start = [], 0
        for k in range(n_bins):
            size = n // n_bins + (k < n % n_bins)
            bins.append(order[start : start + size])
            start += size
    return sum(
        len(rows) / n * abs(np.mean([prob[i] for i in rows]) - np.mean([event[i] for i in rows]))
        for rows in bins
        if rows
    )


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.booleans(), st.one_of(st.floats(0, 1), st.integers(0, 20).map(lambda k: k / 20))),
        min_size=1,
        max_size=40,
    ),
    n_bins=st.integers(1, 20),
    strategy=st.sampled_from(["uniform", "quantile"]),
)
def test_agrees_with_the_definition(rows, n_bins, strategy):
    event, prob = map(list, zip(*rows, strict=True))
    found = expected_calibration_error(event, prob, n_bins, strategy)
    assert found == pytest.approx(brute_force(event, prob, n_bins, strategy), abs=1e-12)


def test_a_probability_on_an_edge_belongs_to_the_bin_below():
    # 0.07 * 100 is above 7 in binary; 0.07 shares a bin with 0.065, where the two errors cancel out.
    assert expected_calibration_error([0, 1], [0.07, 0.93], n_bins=100) == pytest.approx(0.07)
    assert expected_calibration_error([0, 1], [0.065, 0.07], n_bins=100) == pytest.approx(0.5 - 0.0675)


def test_zero_lies_in_the_first_bin():
    assert expected_calibration_error([1, 0], [0.0, 0.1], n_bins=10) == pytest.approx(0.45)


def test_row_order_does_not_matter():
    rng = np.random.default_rng(0)
    event, prob = rng.random(500) < 0.3, rng.random(500)
    order = rng.permutation(500)
    for strategy in ("uniform", "quantile"):
        first = expected_calibration_error(event, prob, strategy=strategy)
        assert first == pytest.approx(expected_calibration_error(event[order], prob[order], strategy=strategy))


@pytest.mark.parametrize(
    ("event", "prob", "message"),
    [
        ([0, 1], [0.1, float("nan")], "without NaN"),
        ([0, 1], [0.1, 1.1], "1.1"),
        ([0, 1, 1], [0.1, 0.2], "3 rows and prob 2"),
        ([], [], "empty"),
        ([-1, 1], [0.1, 0.2], "pass y == "),
        (["negative", "positive"], [0.1, 0.2], "pass y == "),
        ([0, 1], [[0.1, 0.9], [0.2, 0.8]], "1-D"),
    ],
)
def test_bad_input_is_refused_in_words(event, prob, message):
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(event, prob)


def test_unknown_bins_are_refused():
    with pytest.raises(ValueError, match="uniform"):
        expected_calibration_error([0, 1], [0.1, 0.2], strategy="width")
    with pytest.raises(ValueError, match="n_bins"):
        expected_calibration_error([0, 1], [0.1, 0.2], n_bins=0)


def test_events_may_be_objects():
    for events in ([True, False], [1, 0], [np.True_, np.False_], [1.0, 0.0]):
        assert expected_calibration_error(np.array(events, dtype=object), [0.75, 0.5]) == 0.375
    with pytest.raises(ValueError, match="y_true holds None, expected a binary event"):
        expected_calibration_error(np.array([True, None], dtype=object), [0.75, 0.5])
    with pytest.raises(ValueError, match="y_true holds 2, expected") as error:
        expected_calibration_error(np.array([2, 2], dtype=object), [0.75, 0.5])
    assert "(0/1)" in str(error.value)


@pytest.mark.parametrize("n_bins", [None, float("inf"), float("nan"), 2.5, 0, -1, True, "10"])
def test_what_is_no_number_of_bins_is_one_clear_error(n_bins):
    with pytest.raises(ValueError, match=r"n_bins is .*, expected an integer of at least 1"):
        expected_calibration_error([0, 1], [0.1, 0.2], n_bins=n_bins)
