"""Resampling problems: the weights against rows that are really repeated, and what may be undefined."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from prmkit.metrics import Interval, bootstrap_by_problem, problems_needed


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 12, 80)
    y = rng.random(80) < 0.4
    return groups, y, np.round(rng.random(80) * 0.7 + y * 0.3, 1)


def test_replicates_equal_a_bootstrap_of_repeated_rows(rows):
    groups, y, score = rows
    problems = np.unique(groups)
    found = bootstrap_by_problem(roc_auc_score, groups, y, score, n_resamples=30, random_state=3)
    rng = np.random.default_rng(3)
    for replicate in found.replicates["value"]:
        drawn = problems[rng.integers(len(problems), size=len(problems))]
        repeated = np.concatenate([np.flatnonzero(groups == problem) for problem in drawn])
        assert replicate == pytest.approx(roc_auc_score(y[repeated], score[repeated]))
    assert found.interval().value == roc_auc_score(y, score)


def test_the_interval_holds_the_middle_of_the_replicates(rows):
    found = bootstrap_by_problem(roc_auc_score, *rows, n_resamples=200, confidence_level=0.8)
    interval = found.interval()
    np.testing.assert_allclose([interval.low, interval.high], np.quantile(found.replicates["value"], [0.1, 0.9]))


def test_problems_that_repeat_their_rows_are_no_further_evidence():
    rng = np.random.default_rng(0)
    right = rng.random(40) < 0.7
    few = bootstrap_by_problem(accuracy_score, np.arange(40), np.ones(40), right).interval()
    many = bootstrap_by_problem(
        accuracy_score, np.repeat(np.arange(40), 25), np.ones(1000), np.repeat(right, 25)
    ).interval()
    assert many.high - many.low == pytest.approx(few.high - few.low)


def test_paired_differences_are_tighter_than_independent_ones(rows):
    groups, y, score = rows
    better = score + 0.05 * y

    def both(y, first, second, sample_weight):
        return {
            "first": roc_auc_score(y, first, sample_weight=sample_weight),
            "second": roc_auc_score(y, second, sample_weight=sample_weight),
        }

    found = bootstrap_by_problem(both, groups, y, score, better, n_resamples=100)
    difference = found.difference("second", "first")
    assert difference.value == pytest.approx(roc_auc_score(y, better) - roc_auc_score(y, score))
    spread = found.interval("first")
    assert difference.high - difference.low < (spread.high - spread.low) / 2


def test_undefined_replicates_are_counted_and_left_out():
    def share_of_events_in_problem_0(event, groups, sample_weight):
        inside = groups == 0
        return float(np.average(event[inside], weights=sample_weight[inside])) if inside.any() else None

    groups = np.array([0, 1, 2])
    found = bootstrap_by_problem(share_of_events_in_problem_0, groups, [1, 0, 1], groups, n_resamples=300)
    interval = found.interval()
    assert (interval.value, interval.low, interval.high) == (1.0, 1.0, 1.0)
    assert interval.n_undefined == pytest.approx(300 * (2 / 3) ** 3, abs=35)


def test_one_problem_has_no_interval():
    interval = bootstrap_by_problem(accuracy_score, [0, 0], [1, 0], [1, 1]).interval()
    assert (interval.value, interval.low, interval.high) == (0.5, None, None)


def test_same_seed_same_result_and_the_global_generator_is_left_alone(rows):
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = bootstrap_by_problem(roc_auc_score, *rows, n_resamples=20, random_state=1).replicates["value"]
    again = bootstrap_by_problem(roc_auc_score, *rows, n_resamples=20, random_state=1).replicates["value"]
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_bad_input_is_refused_in_words():
    with pytest.raises(ValueError, match="array 1 has 1 rows and groups 2"):
        bootstrap_by_problem(accuracy_score, [0, 1], [0, 1], [1])
    with pytest.raises(ValueError, match="confidence_level is 95"):
        bootstrap_by_problem(accuracy_score, [0, 1], [0, 1], [1, 1], confidence_level=95)


def mean_gap(event, prob, bins, sample_weight):
    """The calibration error of equal bins, from weights."""
    return np.abs(np.bincount(bins, sample_weight * (event - prob))).sum() / sample_weight.sum()


def calibrated(seed, shift, n_problems=50, n_bins=10):
    rng = np.random.default_rng(seed)
    prob = rng.random(4 * n_problems)
    event = rng.random(len(prob)) < np.minimum(prob + shift, 1)
    return np.arange(len(prob)) // 4, event.astype(float), prob, (prob * n_bins).astype(int)


@pytest.mark.parametrize("lifted", [(), ("value",)])
def test_every_interval_holds_its_number(lifted):
    """Resamples of a calibration error are larger than the error, and may all be."""
    outside = 0
    for seed in range(150):
        result = bootstrap_by_problem(mean_gap, *calibrated(seed, 0.0), n_resamples=40, lifted=lifted)
        interval = result.interval()
        assert 0 <= interval.low <= interval.value <= interval.high
        low, high = np.quantile(result.replicates["value"], [0.025, 0.975])
        outside += not low <= interval.value <= high
    assert outside > 5, "the percentiles alone would not hold it"


def test_the_interval_of_a_lifted_number_holds_the_truth_more_often():
    """Events are 0.05 more frequent than said, where there is room: the true error is 0.05 - 0.05² / 2."""
    truth, covered = 0.04875, {False: 0, True: 0}
    for seed in range(120):
        rows = calibrated(seed, 0.05)
        for is_lifted in covered:
            names = ["value"] if is_lifted else []
            interval = bootstrap_by_problem(mean_gap, *rows, n_resamples=60, lifted=names).interval()
            covered[is_lifted] += interval.low <= truth <= interval.high
    assert covered[True] > 0.8 * 120
    assert covered[False] < 0.5 * 120


def test_differences_hold_their_number():
    def both(event, prob, bins, sample_weight):
        blunt = np.full_like(prob, 0.5)
        return {
            "sharp": mean_gap(event, prob, bins, sample_weight),
            "blunt": mean_gap(event, blunt, bins * 0, sample_weight),
        }

    for seed in range(60):
        difference = bootstrap_by_problem(both, *calibrated(seed, 0.0), n_resamples=30).difference("sharp", "blunt")
        assert difference.low <= difference.value <= difference.high


def test_the_reports_hold_their_numbers():
    from prmkit.metrics import calibration_report, step_report

    for seed in range(6):
        groups, event, prob, _ = calibrated(seed, 0.0, n_problems=20)
        y, proba = np.where(event == 1, -1, 1), np.c_[prob, 1 - prob]
        for report in (
            calibration_report(y, proba, groups=groups, n_resamples=60),
            step_report(y, proba, groups=groups, n_resamples=60),
        ):
            for interval in (each for numbers in report.metrics.values() for each in numbers.values()):
                assert interval.low is None or interval.low <= interval.value <= interval.high


def test_problems_needed_for_a_width():
    assert problems_needed(Interval(0.5, 0.4, 0.6), 50, 0.1) == 200
    assert problems_needed(Interval(0.5, 0.4, 0.6), np.int64(50), 0.4) == 13  # it is narrow enough already
    # What is foretold from 60 problems of several rows comes true.
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(240), 3) > rng.random(720)
    groups = np.repeat(np.arange(240), 3)

    def interval(n):
        return bootstrap_by_problem(
            lambda y, sample_weight: np.average(y, weights=sample_weight), groups[: 3 * n], right[: 3 * n]
        ).interval()

    few = interval(60)
    needed = problems_needed(few, 60, (few.high - few.low) / 2)
    assert needed == 240
    assert interval(needed).high - interval(needed).low == pytest.approx((few.high - few.low) / 2, rel=0.2)


@pytest.mark.parametrize(
    ("interval", "n_problems", "width", "error", "message"),
    [
        (0.8, 100, 0.1, TypeError, "interval is float"),
        (Interval(0.8), 100, 0.1, ValueError, "has no ends"),
        (Interval(1.0, 1.0, 1.0), 100, 0.1, ValueError, "has no width"),
        (Interval(0.8, 0.7, 0.9), 1, 0.1, ValueError, "n_problems is 1"),
        (Interval(0.8, 0.7, 0.9), 20.0, 0.1, ValueError, "n_problems is 20.0"),
        (Interval(0.8, 0.7, 0.9), 100, 0, ValueError, "width is 0"),
        (Interval(0.8, 0.7, 0.9), 100, float("nan"), ValueError, "width is nan"),
    ],
)
def test_problems_needed_refuses(interval, n_problems, width, error, message):
    with pytest.raises(error, match=message):
        problems_needed(interval, n_problems, width)
