"""Selective prediction: every number against a plain loop, closed forms, and what no order of rows may change."""

import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.metrics import roc_auc_score

from prmkit.metrics import abstention_floor, augrc, aurc, prr, risk_at_coverage, risk_coverage_curve, selective_report


def eaurc(loss, uncertainty, *, sample_weight=None):
    """The report's number, on repeated rows instead of weights."""
    if sample_weight is not None:
        loss, uncertainty = np.repeat(loss, sample_weight), np.repeat(uncertainty, sample_weight)
    return selective_report(loss, {"u": uncertainty}, n_resamples=0).metrics["u"]["eaurc"].value


fast = settings(deadline=None, max_examples=50, derandomize=True)
AREAS = {
    "aurc": aurc,
    "eaurc": eaurc,
    "augrc": augrc,
    "prr": prr,
    "prr at 50 %": lambda loss, u, **k: prr(loss, u, 0.5, **k),
}


@st.composite
def decisions(draw, losses=(0.0, 0.25, 1.0), min_size=1):
    """Losses and uncertainties with many ties."""
    rows = draw(st.lists(st.tuples(st.sampled_from(losses), st.integers(0, 4)), min_size=min_size, max_size=14))
    loss, uncertainty = zip(*rows, strict=True)
    return np.array(loss), np.array(uncertainty)


def prefix_risks_by_loop(loss, uncertainty):
    """R_k with every decision of a tie replaced by the tie's mean loss."""
    shared = [
        np.mean([other for other, v in zip(loss, uncertainty, strict=True) if v == u]) for u in sorted(uncertainty)
    ]
    return [sum(shared[:k]) / k for k in range(1, len(shared) + 1)]


def by_loop(name, loss, uncertainty):
    if len(set(loss)) == 1:
        return None
    n, risks = len(loss), prefix_risks_by_loop(loss, uncertainty)
    oracle = prefix_risks_by_loop(loss, loss)
    if name == "aurc":
        return sum(risks) / n
    if name == "eaurc":
        return sum(risks) / n - sum(oracle) / n
    if name == "augrc":
        heights = [0.0, *(risk * k / n for k, risk in enumerate(risks, start=1))]
        return float(np.trapezoid(heights, np.arange(n + 1) / n))
    n_areas = int((1.0 if name == "prr" else 0.5) * n)
    if not n_areas:
        return None
    method, best = np.mean(risks[n - n_areas :]), np.mean(oracle[n - n_areas :])
    random = np.mean(loss)
    return None if np.isclose(random, best, atol=1e-13) else (random - method) / (random - best)


@pytest.mark.parametrize("name", AREAS)
@fast
@given(data=decisions())
def test_every_area_agrees_with_a_loop(name, data):
    found, expected = AREAS[name](*data), by_loop(name, *data)
    assert (found is None) == (expected is None)
    assert found is None or found == pytest.approx(expected, abs=1e-10)


@fast
@given(data=decisions(losses=(0.0, 1.0), min_size=2))
def test_augrc_of_right_and_wrong_has_a_closed_form(data):
    loss, uncertainty = data
    if 0 < loss.mean() < 1:
        wrong = loss.mean()
        auroc = roc_auc_score(loss, uncertainty)
        assert augrc(loss, uncertainty) == pytest.approx((1 - auroc) * wrong * (1 - wrong) + wrong**2 / 2)


def test_augrc_is_what_a_drawn_curve_encloses():
    loss, uncertainty = [0, 1, 1, 0, 1], [1, 2, 2, 3, 4]
    # summed loss / n after 0, 1, 3, 4, 5 decisions: 0, 0, 2/5, 2/5, 3/5; ties joined by one line
    expected = np.trapezoid([0, 0, 0.4, 0.4, 0.6], [0, 0.2, 0.6, 0.8, 1.0])
    assert augrc(loss, uncertainty) == pytest.approx(expected)


@pytest.mark.parametrize("name", AREAS)
@fast
@given(data=decisions(), seed=st.integers(0, 1000))
def test_order_of_rows_and_scale_of_uncertainty_change_nothing(name, data, seed):
    loss, uncertainty = data
    expected = AREAS[name](loss, uncertainty)
    order = np.random.default_rng(seed).permutation(len(loss))
    for found in (
        AREAS[name](loss[order], uncertainty[order]),
        AREAS[name](loss, np.exp(uncertainty) - 7.0),
        AREAS[name](loss, np.where(uncertainty == 4, np.inf, uncertainty)),
    ):
        assert found == (None if expected is None else pytest.approx(expected, abs=1e-12))


@pytest.mark.parametrize("name", AREAS)
@fast
@given(data=decisions(), seed=st.integers(0, 1000))
def test_weights_are_repeated_rows(name, data, seed):
    loss, uncertainty = data
    weight = np.random.default_rng(seed).integers(0, 4, len(loss))
    if weight.any():
        found = AREAS[name](loss, uncertainty, sample_weight=weight)
        expected = AREAS[name](np.repeat(loss, weight), np.repeat(uncertainty, weight))
        assert found == (None if expected is None else pytest.approx(expected, abs=1e-12))


@fast
@given(data=decisions())
def test_ties_are_the_mean_over_their_orders(data):
    loss, uncertainty = data
    found = risk_coverage_curve(loss, uncertainty).risks
    rng = np.random.default_rng(0)
    drawn = [
        np.cumsum(loss[np.lexsort((rng.random(len(loss)), uncertainty))]) / np.arange(1, len(loss) + 1)
        for _ in range(2000)
    ]
    np.testing.assert_allclose(found, np.mean(drawn, axis=0), atol=0.06)


@fast
@given(data=decisions())
def test_perfect_and_random_orders_are_the_ends_of_the_scale(data):
    loss, uncertainty = data
    if prr(loss, loss) is None:
        return
    assert prr(loss, loss) == pytest.approx(1.0)
    assert prr(loss, np.zeros(len(loss))) == 0.0
    assert eaurc(loss, loss) == 0.0
    assert aurc(loss, np.zeros(len(loss))) == pytest.approx(loss.mean())
    assert augrc(loss, np.zeros(len(loss))) == pytest.approx(loss.mean() / 2)
    assert prr(loss, uncertainty) <= 1 + 1e-12
    assert eaurc(loss, uncertainty) >= 0


def test_a_hand_example():
    loss, uncertainty = [1, 0, 0, 1], [0.2, 0.1, 0.4, 0.3]  # certain to uncertain: 0, 1, 1, 0
    assert aurc(loss, uncertainty) == pytest.approx((0 + 1 / 2 + 2 / 3 + 2 / 4) / 4)
    assert eaurc(loss, uncertainty) == pytest.approx((5 / 3 - (0 + 0 + 1 / 3 + 1 / 2)) / 4)
    assert prr(loss, uncertainty, 0.5) == pytest.approx((0.5 - (2 / 3 + 1 / 2) / 2) / (0.5 - (1 / 3 + 1 / 2) / 2))


@pytest.mark.parametrize("loss", [[0], [1, 1], [0, 0, 0], [0.5, 0.5]])
def test_equal_losses_say_nothing(loss):
    for area in AREAS.values():
        assert area(loss, np.arange(len(loss))) is None
    assert risk_at_coverage(loss, np.arange(len(loss)), 0.5) == loss[0]


def test_losses_that_differ_by_rounding_are_equal():
    loss = [0.3, 0.1 + 0.2, 0.3]
    assert loss[0] != loss[1]
    for area in AREAS.values():
        assert area(loss, [1, 2, 3]) is None
    report = selective_report(loss, {"model": [1, 2, 3]})
    assert report.metrics["model"]["aurc"].value is None
    assert aurc([0.3, 0.3 + 1e-9], [1, 2]) is not None


def test_rejecting_less_than_one_decision_says_nothing():
    assert prr([0, 0, 1], [1, 2, 3], max_rejection=0.3) is None  # int(0.9) = 0 values of k
    assert prr([0, 0, 1], [1, 2, 3], max_rejection=0.4) is None  # k = n alone: every order keeps all
    assert prr([0, 0, 1], [1, 2, 3], max_rejection=0.7) == 1.0


@fast
@given(data=decisions(), coverage=st.sampled_from([0.1, 0.29, 0.5, 0.7, 0.9, 1.0]))
def test_risk_at_coverage_and_the_curve(data, coverage):
    loss, uncertainty = data
    curve = risk_coverage_curve(loss, uncertainty)
    np.testing.assert_allclose(curve.risks, prefix_risks_by_loop(loss, uncertainty), atol=1e-12)
    np.testing.assert_allclose(curve.coverages, np.arange(1, len(loss) + 1) / len(loss))
    assert curve.thresholds.tolist() == sorted(uncertainty)
    k = math.ceil(round(coverage * len(loss), 9))
    assert risk_at_coverage(loss, uncertainty, coverage) == curve.risks[k - 1]
    assert curve.risks[-1] == pytest.approx(loss.mean())
    expected = aurc(loss, uncertainty)
    assert expected is None or curve.risks.mean() == pytest.approx(expected)
    for threshold in set(uncertainty.tolist()):  # where a threshold really cuts
        kept = uncertainty <= threshold
        assert curve.risks[kept.sum() - 1] == pytest.approx(loss[kept].mean())


@pytest.mark.parametrize("area", [*AREAS.values(), risk_coverage_curve, lambda a, b: risk_at_coverage(a, b, 0.5)])
def test_what_cannot_be_ranked_raises(area):
    with pytest.raises(ValueError, match=r"loss holds 1.5, expected numbers in \[0, 1\]"):
        area([0, 1.5], [1, 2])
    with pytest.raises(ValueError, match="loss holds nan"):
        area([0, float("nan")], [1, 2])
    with pytest.raises(ValueError, match="uncertainty holds 1 NaN"):
        area([0, 1], [1, float("nan")])
    with pytest.raises(ValueError, match="equal length"):
        area([0, 1], [1, 2, 3])
    with pytest.raises(ValueError, match="empty"):
        area([], [])


def test_shares_and_weights_out_of_range_raise():
    for share in (0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="max_rejection"):
            prr([0, 1], [0, 1], share)
        with pytest.raises(ValueError, match="coverage"):
            risk_at_coverage([0, 1], [0, 1], share)
    for weight in ([1, 0.5], [1, -1], [1], [1, float("nan")]):
        with pytest.raises(ValueError, match="whole number"):
            aurc([0, 1], [0, 1], sample_weight=weight)


def test_a_million_decisions_take_seconds():
    rng = np.random.default_rng(0)
    uncertainty = rng.random(1_000_000)
    loss = rng.random(1_000_000) < uncertainty
    start = time.process_time()
    assert 0 < aurc(loss, uncertainty) < loss.mean()
    assert time.process_time() - start < 5


@pytest.fixture(scope="module")
def many():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 5)
    good = rng.random(300)
    loss = (rng.random(300) < good).astype(float)
    return loss, {"model": good, "noise": rng.random(300)}, groups


@pytest.fixture(scope="module")
def report(many):
    return selective_report(*many, n_resamples=200)


def test_report_holds_the_same_numbers_as_the_functions(many, report):
    loss, uncertainties, _ = many
    assert list(report.metrics) == ["model", "noise", "constant"]
    for name, uncertainty in {**uncertainties, "constant": np.zeros(300)}.items():
        found = {metric: interval.value for metric, interval in report.metrics[name].items()}
        expected = {
            "aurc": aurc(loss, uncertainty),
            "eaurc": eaurc(loss, uncertainty),
            "augrc": augrc(loss, uncertainty),
            "prr@1": prr(loss, uncertainty),
            "prr@0.5": prr(loss, uncertainty, 0.5),
            "auroc": roc_auc_score(loss, uncertainty),
            **{f"risk@{c}": risk_at_coverage(loss, uncertainty, c) for c in (0.5, 0.8, 0.9)},
        }
        assert found == pytest.approx(expected)
    assert report.mean_loss.value == pytest.approx(loss.mean())


def test_report_intervals_resample_problems(many, report):
    loss, uncertainties, groups = many
    rng = np.random.default_rng(0)
    replicates = []
    for _ in range(200):
        rows = np.concatenate([np.flatnonzero(groups == g) for g in rng.integers(60, size=60)])
        replicates.append(aurc(loss[rows], uncertainties["model"][rows]))
    interval = report.metrics["model"]["aurc"]
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(replicates, [0.025, 0.975])))
    difference = report.differences["noise"]["prr@1"]
    assert difference.value == pytest.approx(
        report.metrics["model"]["prr@1"].value - report.metrics["noise"]["prr@1"].value
    )
    assert difference.low > 0  # the model knows something, and pairs show it
    assert list(report.differences) == ["noise", "constant"]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("ties", [3, 1000])
def test_every_replicate_of_the_report_is_the_function_of_repeated_rows(binary, ties):
    """With problems of several rows, ties across problems, and coverages that cut ties."""
    rng = np.random.default_rng(0)
    n, groups = 90, rng.integers(0, 25, 90)
    loss = (rng.random(n) < 0.3).astype(float) if binary else rng.integers(0, 5, n) / 4
    uncertainty = rng.integers(0, ties, n)
    report = selective_report(
        loss, {"u": uncertainty}, groups, coverages=(0.33, 0.7), n_resamples=3, confidence_level=0.999998
    )
    numbers = np.unique(groups, return_inverse=True)[1]
    drawn = np.random.default_rng(0)
    rows = []
    for _ in range(3):
        problems = drawn.integers(numbers.max() + 1, size=numbers.max() + 1)
        rows.append(np.concatenate([np.flatnonzero(numbers == p) for p in problems]))
    metrics = {**AREAS, "risk@0.33": lambda a, b: risk_at_coverage(a, b, 0.33)}
    for found, name in (("aurc", "aurc"), ("augrc", "augrc"), ("prr@1", "prr"), ("prr@0.5", "prr at 50 %")):
        values = [metrics[name](loss[r], uncertainty[r]) for r in rows]
        interval = report.metrics["u"][found]
        ends = [*values, interval.value]  # an interval holds its number
        assert (interval.low, interval.high) == pytest.approx((min(ends), max(ends)), abs=1e-5)
        for value, r in zip(values, rows, strict=True):
            assert value == pytest.approx(by_loop(name, loss[r], uncertainty[r]), abs=1e-9)
    risks = [risk_at_coverage(loss[r], uncertainty[r], 0.33) for r in rows]
    interval = report.metrics["u"]["risk@0.33"]
    ends = [*risks, interval.value]
    assert (interval.low, interval.high) == pytest.approx((min(ends), max(ends)), abs=1e-5)


def test_report_prints_target_and_directions(report):
    text = str(report)
    assert "300 decisions of 60 problems" in text
    assert "target: decision is wrong" in text
    assert "rejected first" in text
    assert "lower is better" in text
    lines = text.splitlines()
    header = next(line for line in lines if "constant" in line)
    row = next(line for line in lines if line.startswith("AURC"))
    assert row.index(str(report.metrics["noise"]["aurc"])) == header.index("noise")
    assert "model - noise" in text
    assert json.loads(json.dumps(report.to_dict()))["metrics"]["model"]["aurc"]["value"] > 0


def test_report_without_problems_or_with_losses_between_0_and_1():
    loss, uncertainty = [0.1, 0.9, 0.4], [1, 3, 2]
    report = selective_report(loss, {"model": uncertainty}, target="Brier score of the path")
    assert report.metrics["model"]["auroc"].value is None  # nothing is wrong or right
    assert report.metrics["model"]["prr@1"].value == 1.0
    assert report.metrics["model"]["aurc"].low is None
    assert report.n_problems is None
    assert "no intervals" in str(report)
    assert "Brier score of the path" in str(report)


def test_report_of_equal_losses_is_undefined():
    report = selective_report([0, 0, 0], {"model": [1, 2, 3]}, groups=[0, 1, 2], n_resamples=10)
    assert report.metrics["model"]["aurc"].value is None
    assert report.metrics["model"]["risk@0.5"].value == 0
    assert "undefined" in str(report)


def test_report_refuses_what_it_cannot_read():
    with pytest.raises(ValueError, match="'noise': uncertainty holds 1 NaN"):
        selective_report([0, 1], {"model": [1, 2], "noise": [1, float("nan")]})
    with pytest.raises(TypeError, match=r'\{"model": '):
        selective_report([0, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match="groups has 1 rows"):
        selective_report([0, 1], {"model": [1, 2]}, groups=[0])
    with pytest.raises(ValueError, match="constant"):
        selective_report([0, 1], {"constant": [1, 2]})


def test_abstention_floor():
    """Setting aside wrong cases alone reaches the floor, and nothing less does."""
    for n_wrong, alpha in [(30, 0.1), (90, 0.25), (100, 0.5), (7, 0.0)]:
        aside = next(k for k in range(101) if n_wrong - k <= alpha * (100 - k))
        assert aside - 1 < 100 * abstention_floor(n_wrong / 100, alpha) - 1e-9 < aside
    assert abstention_floor(0.1, 0.1) == abstention_floor(0.0, 0.3) == 0.0
    assert abstention_floor(1.0, 0.2) == 1.0
    with pytest.raises(ValueError, match=r"base_risk is 1.2, expected a number in \[0, 1\]"):
        abstention_floor(1.2, 0.1)
    with pytest.raises(ValueError, match="alpha is 1"):
        abstention_floor(0.5, 1)
