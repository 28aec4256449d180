"""Accept, escalate or reject: both rates, and what happens where the thresholds overlap."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from prmkit.metrics import p_no_error
from prmkit.uncertainty import PathTriage


def test_thresholds_by_hand():
    """Nine errors with risks 0.1 … 0.9 and nine paths without, shifted down: alpha (n + 1) = 1.9, no failure."""
    wrong, right = np.arange(1, 10) / 10, np.arange(0, 9) / 10
    X = [[r] for r in np.r_[wrong, right]]
    triage = PathTriage().fit(X, [0] * 9 + [-1] * 9)
    assert triage.accept_threshold_ == pytest.approx(0.1)
    assert triage.accept_threshold_ < 0.1
    assert triage.reject_threshold_ == pytest.approx(0.8)
    assert triage.predict([[0.05], [0.11], [0.3, 0.3], [0.81], [0.9, 0.9]]).tolist() == [
        "accept", "escalate", "escalate", "reject", "reject",
    ]  # fmt: skip


def test_path_risk_counts_every_step():
    rng = np.random.default_rng(0)
    X = [rng.random(rng.integers(1, 6)) * 0.5 for _ in range(60)]
    triage = PathTriage(accept_error=0.2, reject_error=0.2).fit(X, [-1, 0] * 30)
    risks = 1 - p_no_error(X)
    decided = triage.predict(X)
    assert (risks[decided == "accept"] <= triage.accept_threshold_ + 1e-12).all()
    assert (risks[decided == "reject"] > triage.reject_threshold_ - 1e-12).all()
    assert len(set(decided.tolist())) == 3


def test_too_few_paths_escalate_everything():
    with pytest.warns(UserWarning, match="8 paths") as caught:
        triage = PathTriage().fit([[0.1]] * 8, [-1] * 8)
    assert [str(w.message).rsplit(": ")[-1] for w in caught] == ["no path will be accepted", "no path will be rejected"]
    assert (triage.attainable_, triage.accept_threshold_, triage.reject_threshold_) == (False, -np.inf, np.inf)
    assert triage.predict([[0.0], [1.0]]).tolist() == ["escalate"] * 2


def test_one_rate_may_be_attainable_alone():
    with pytest.warns(UserWarning, match="no path will be rejected"):
        triage = PathTriage(accept_error=0.2, reject_error=0.01).fit([[0.1], [0.9]] * 10, [-1, 0] * 10)
    assert not triage.attainable_
    assert set(triage.predict([[0.0], [1.0]]).tolist()) == {"accept", "escalate"}


def test_overlap_is_decided_by_the_likelier_verdict():
    """A perfect classifier: nothing is escalated, and nothing decided wrongly."""
    X, first_errors = [[0.05]] * 20 + [[0.95]] * 20, [-1] * 20 + [0] * 20
    triage = PathTriage().fit(X, first_errors)
    assert triage.accept_threshold_ > triage.reject_threshold_
    assert triage.predict([[0.0], [0.05], [0.4], [0.6], [0.95], [1.0]]).tolist() == [*["accept"] * 3, *["reject"] * 3]
    report = triage.evaluate(X, first_errors)
    assert (report["escalated"], report["accepted_with_error"], report["rejected_without_error"]) == (0, 0, 0)
    assert (report["accepted"], report["rejected"], report["error_rate_of_accepted"]) == (0.5, 0.5, 0)


def test_no_accepted_path_has_no_error_rate():
    triage = PathTriage().fit([[0.05]] * 20 + [[0.95]] * 20, [-1] * 20 + [0] * 20)
    assert triage.evaluate([[0.9]], [0])["error_rate_of_accepted"] is None


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=10, max_size=60))
@pytest.mark.filterwarnings("ignore:a failure rate:UserWarning")
def test_failures_in_calibration_and_growth_with_the_rates(pairs):
    X, first_errors = [[r / 20] for r, _ in pairs], [0 if wrong else -1 for _, wrong in pairs]
    n, accepted = len(X), np.zeros(len(X), dtype=bool)
    for rate in (0.02, 0.1, 0.3, 0.6):
        triage = PathTriage(accept_error=rate, reject_error=rate).fit(X, first_errors)
        may_accept = np.array([path[0] <= triage.accept_threshold_ for path in X])
        assert may_accept[accepted].all(), "a larger rate accepts no less"
        accepted = may_accept
        decided = triage.predict(X)
        for verdict, error in (("accept", 0), ("reject", -1)):
            failed = ((decided == verdict) & (np.array(first_errors) == error)).sum()
            assert failed <= max(rate * (n + 1) - 1 + 1e-9, 0)
        sure = PathTriage(accept_error=rate, reject_error=rate, delta=0.1).fit(X, first_errors)
        surer = PathTriage(accept_error=rate, reject_error=rate, delta=0.01).fit(X, first_errors)
        assert surer.accept_threshold_ <= sure.accept_threshold_
        assert surer.reject_threshold_ >= sure.reject_threshold_
