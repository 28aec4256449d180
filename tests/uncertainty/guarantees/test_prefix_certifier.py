"""Certified prefixes: which steps are kept, what is said where nothing can be, and what never changes."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from prmkit.uncertainty import PrefixCertifier

paths = st.lists(
    st.lists(st.integers(0, 20).map(lambda k: k / 20), min_size=1, max_size=5).flatmap(
        lambda path: st.tuples(st.just(path), st.integers(-1, len(path) - 1))
    ),
    min_size=1,
    max_size=40,
)


def erroneous(n):
    """n paths of two steps whose second is wrong, with M = 0.01, 0.02, …"""
    return [[0.005, (i + 1) / 100] for i in range(n)], [1] * n


@pytest.mark.parametrize("n", [1, 8])
def test_too_few_paths_keep_nothing(n):
    with pytest.warns(UserWarning, match=rf"0.1 is not attainable with {n} paths, at least 9 are needed"):
        certifier = PrefixCertifier(alpha=0.1).fit(*erroneous(n))
    assert certifier.attainable_ is False
    assert certifier.threshold_ == -np.inf
    assert certifier.n_calibration_ == n
    assert certifier.predict([[0.0, 0.0], [0.5]]).tolist() == [0, 0]


@pytest.mark.parametrize("n", [9, 10])
def test_nine_paths_stop_at_the_smallest_risk_of_an_error(n):
    certifier = PrefixCertifier(alpha=0.1).fit(*erroneous(n))
    assert certifier.attainable_ is True
    assert certifier.threshold_ == np.nextafter(0.01, 0)
    assert certifier.predict([[0.0, 0.009, 0.01, 0.0], [0.01], [0.002]]).tolist() == [2, 0, 1]


def test_delta_needs_more_paths_and_keeps_less():
    X, first_errors = erroneous(100)
    sure = PrefixCertifier(alpha=0.1, delta=0.1).fit(X, first_errors)
    average = PrefixCertifier(alpha=0.1).fit(X, first_errors)
    # P(Bin(100, 0.1) <= 5) = 0.058, <= 6: 0.117; expected: floor(10.1) - 1 = 9 failures
    assert sure.threshold_ == np.nextafter(0.06, 0)
    assert average.threshold_ == np.nextafter(0.1, 0)
    with pytest.warns(UserWarning, match=r"0\.1 with confidence 0\.9 is not attainable with 21 .* 22 are needed"):
        PrefixCertifier(alpha=0.1, delta=0.1).fit(*erroneous(21))


def test_paths_without_error_count_and_cannot_fail():
    """With as few errors as are tolerated anyway, everything may be kept."""
    X = [[0.9]] + [[0.5]] * 18
    certifier = PrefixCertifier(alpha=0.1).fit(X, [0] + [-1] * 18)
    assert certifier.n_calibration_ == 19
    assert certifier.threshold_ == np.inf
    assert certifier.predict([[1.0, 1.0, 1.0]]).tolist() == [3]


def test_steps_after_the_first_error_do_not_matter():
    X, first_errors = erroneous(20)
    longer = [[*path, 0.0, 0.99] for path in X]
    assert PrefixCertifier().fit(longer, first_errors).threshold_ == PrefixCertifier().fit(X, first_errors).threshold_


def test_several_paths_share_the_weight_of_their_problem():
    """Twelve problems: one of four erroneous paths, eleven without error; alpha = 0.1 tolerates a sum of 0.3."""
    X = [[0.1], [0.2], [0.3], [0.4]] + [[0.9]] * 11
    first_errors = [0] * 4 + [-1] * 11
    certifier = PrefixCertifier(alpha=0.1).fit(X, first_errors, groups=[0] * 4 + list(range(1, 12)))
    assert certifier.n_calibration_ == 12
    assert certifier.unit_ == "problem"
    assert certifier.threshold_ == np.nextafter(0.2, 0)  # one of the four, a quarter of a failure


def test_evaluate_weighs_problems():
    certifier = PrefixCertifier(alpha=0.3).fit([[0.5]] * 9, [0] * 9)  # keeps what is below 0.5
    report = certifier.evaluate(
        [[0.1, 0.2, 0.9], [0.1, 0.1], [0.9, 0.1], [0.2, 0.2]], [1, -1, 1, 0], groups=["p", "p", "p", "q"]
    )
    assert report["failure_rate"] == pytest.approx((1 / 3 + 1) / 2)
    assert report["kept_fraction"] == pytest.approx(((2 / 3 + 1 + 0) / 3 + 1) / 2)
    assert report["perfect_kept_fraction"] == pytest.approx(((1 / 3 + 1 + 1 / 2) / 3 + 0) / 2)
    assert (report["n_units"], report["n_paths"]) == (2, 4)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(paths, paths, st.randoms(use_true_random=False))
@pytest.mark.filterwarnings("ignore:a failure rate:UserWarning")
def test_nested_in_alpha_and_blind_to_order(calibration, new, random):
    X, first_errors = zip(*calibration, strict=True)
    X_new, first_errors_new = zip(*new, strict=True)
    order = random.sample(range(len(X)), len(X))
    before, failed = np.zeros(len(X_new)), 0.0
    for alpha in (0.05, 0.1, 0.2, 0.35, 0.5, 0.8):
        certifier = PrefixCertifier(alpha=alpha).fit(X, first_errors)
        shuffled = PrefixCertifier(alpha=alpha).fit([X[i] for i in order], [first_errors[i] for i in order])
        assert shuffled.threshold_ == certifier.threshold_
        kept = certifier.predict(X_new)
        rate = certifier.evaluate(X_new, first_errors_new)["failure_rate"]
        assert (kept >= before).all(), "a prefix certified at a smaller alpha is part of it"
        assert rate >= failed, "a tighter threshold never fails more often"
        before, failed = kept, rate
        sure = PrefixCertifier(alpha=alpha, delta=0.1).fit(X, first_errors)
        assert sure.threshold_ <= PrefixCertifier(alpha=alpha, delta=0.4).fit(X, first_errors).threshold_


@settings(deadline=None, max_examples=30, derandomize=True)
@given(paths, st.sampled_from([0.1, 0.3, 0.6]))
@pytest.mark.filterwarnings("ignore:a failure rate:UserWarning")
def test_prefix_ends_before_the_first_risky_step(calibration, alpha):
    X, first_errors = zip(*calibration, strict=True)
    certifier = PrefixCertifier(alpha=alpha).fit(X, first_errors)
    for path, kept in zip(X, certifier.predict(X), strict=True):
        assert all(risk <= certifier.threshold_ for risk in path[:kept])
        assert kept == len(path) or path[kept] > certifier.threshold_


@pytest.mark.slow
def test_a_million_steps_take_seconds():
    from time import process_time

    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 10, 200_000)
    X = np.split(rng.random(lengths.sum()), np.cumsum(lengths)[:-1])
    first_errors = np.where(rng.random(len(X)) < 0.5, -1, rng.integers(0, lengths))
    groups = np.arange(len(X)) // 2
    start = process_time()
    for delta in (None, 0.1):
        PrefixCertifier(delta=delta).fit(X, first_errors, groups).predict(X)
    assert process_time() - start < 10
