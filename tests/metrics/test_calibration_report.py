"""The calibration report: every number against scikit-learn, on all rows and in resamples; pairs; degenerate input."""

import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from prmkit.data import Solution, flatten
from prmkit.metrics import calibration_report, expected_calibration_error, reliability_curve


def maximum_calibration_error(event, prob, n_bins=15, strategy="uniform"):
    event, prob = np.asarray(event, dtype=float), np.asarray(prob)
    mean, share, _ = reliability_curve(event, prob, n_bins, strategy)
    return np.abs(mean - share).max()


def made_up_rows(n=600, n_classes=3, seed=0, sharpness=2.0):
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.2, (n, n_classes))
    truth, said = (np.exp(z * s) / np.exp(z * s).sum(axis=1, keepdims=True) for s in (1.0, sharpness))
    y = (truth.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=n_classes - 1)
    return y, said, truth, rng.integers(0, 50, n)


def by_hand(y, proba, n_bins, strategy):
    event, risk = y == 0, proba[:, 0]
    mean, share, counts = reliability_curve(event.astype(float), risk, n_bins, strategy)
    part, overall = counts / len(y), event.mean()
    ece = [expected_calibration_error(y == k, proba[:, k], n_bins, strategy) for k in range(proba.shape[1])]
    return {
        "ece": ece[0],
        "ece_classwise": np.mean(ece),
        "mce": maximum_calibration_error(event, risk, n_bins, strategy),
        "log_loss": log_loss(y, proba, labels=range(proba.shape[1])),
        "brier": np.square(proba - np.eye(proba.shape[1])[y]).sum(axis=1).mean(),
        "brier_negative": brier_score_loss(event, risk),
        "brier_reliability": (part * (mean - share) ** 2).sum(),
        "brier_resolution": (part * (share - overall) ** 2).sum(),
        "brier_uncertainty": overall * (1 - overall),
        "auroc": roc_auc_score(event, risk),
    }


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_all_numbers_agree_with_scikit_learn_and_the_definitions(n_classes, strategy):
    y, said, truth, groups = made_up_rows(n_classes=n_classes)
    report = calibration_report(
        y, {"before": said, "after": truth}, groups=groups, n_bins=10, strategy=strategy, n_resamples=0
    )
    for name, proba in (("before", said), ("after", truth)):
        found = {metric: interval.value for metric, interval in report.metrics[name].items()}
        assert found == pytest.approx(by_hand(y, proba, 10, strategy))
    shares = np.tile(np.bincount(y) / len(y), (len(y), 1))
    constant = report.metrics["constant"]
    assert constant["log_loss"].value == pytest.approx(log_loss(y, shares))
    assert constant["auroc"].value == 0.5
    assert report.differences["after"]["ece"].value == pytest.approx(
        report.metrics["after"]["ece"].value - report.metrics["before"]["ece"].value
    )


def test_the_parts_of_the_brier_score_add_up_where_bins_hold_one_value():
    y, said, _, _ = made_up_rows()
    risk = (np.floor(said[:, 0] * 10) + 0.5) / 10
    proba = np.c_[risk, (1 - risk) / 2, (1 - risk) / 2]
    found = calibration_report(y, proba, n_bins=10).metrics["model"]
    parts = [found[f"brier_{name}"].value for name in ("reliability", "resolution", "uncertainty")]
    assert parts[0] - parts[1] + parts[2] == pytest.approx(found["brier_negative"].value)


def test_a_resample_is_the_report_of_its_rows():
    """Intervals from sums per problem are those of the rows themselves, drawn with their problems."""
    y, said, _, groups = made_up_rows(n=150)
    report = calibration_report(y, said, groups=groups, n_resamples=40, random_state=3)
    rng = np.random.default_rng(3)
    names, numbers = np.unique(groups, return_inverse=True)
    found = []
    for _ in range(40):
        drawn = rng.integers(len(names), size=len(names))
        rows = np.concatenate([np.flatnonzero(numbers == problem) for problem in drawn])
        found.append(by_hand(y[rows], said[rows], 15, "uniform"))
    for metric in found[0]:
        low, high = np.quantile([one[metric] for one in found], [0.025, 0.975])
        interval = report.metrics["model"][metric]
        if metric in ("ece", "ece_classwise", "mce", "brier_reliability", "brier_resolution"):
            # Chance lifts these above the truth, and lifts resamples as far above them.
            low, high = max(2 * interval.value - high, 0), 2 * interval.value - low
        expected = min(low, interval.value), max(high, interval.value)
        np.testing.assert_allclose([interval.low, interval.high], expected, err_msg=metric)


def test_pairs_are_resampled_together():
    y, said, _, groups = made_up_rows(n=200)
    report = calibration_report(y, {"one": said, "same": said}, groups=groups, n_resamples=50)
    assert all((one.low, one.high) == (0, 0) for one in report.differences["same"].values())


def test_calibration_that_helps_shows():
    y, said, truth, groups = made_up_rows(n=4000)
    report = calibration_report(y, {"before": said, "after": truth}, groups=groups, n_resamples=200)
    for metric in ("ece", "ece_classwise", "log_loss", "brier", "brier_reliability"):
        assert report.differences["after"][metric].high < 0, metric


def test_undefined_numbers_are_none():
    _, said, _, groups = made_up_rows(n=60)
    report = calibration_report(np.full(60, 2), said, classes=[0, 1, 2], groups=groups, n_resamples=10)
    assert report.metrics["model"]["auroc"].value is None
    assert report.metrics["model"]["brier_uncertainty"].value == 0
    assert "undefined" in str(report)


def test_labels_are_only_names():
    y, said, _, _ = made_up_rows(n=100)
    ratings = calibration_report(y - 1, said)
    names = np.array(["negative", "neutral", "positive"])
    named = calibration_report(names[y], said)
    assert named.metrics["model"] == ratings.metrics["model"]
    turned = calibration_report(names[y], said[:, ::-1], classes=names[::-1])
    assert turned.metrics["model"]["ece"] == ratings.metrics["model"]["ece"]


def test_steps_give_the_problems():
    steps = flatten([Solution(f"p{i}", ["a", "b"]) for i in range(10)])
    y, said, _, _ = made_up_rows(n=20)
    report = calibration_report(y, said, classes=[0, 1, 2], steps=steps, n_resamples=20)
    assert report.n_problems == 10
    assert report.metrics["model"]["ece"].low is not None


def test_it_shows_itself():
    y, said, truth, groups = made_up_rows(n=200)
    report = calibration_report(y - 1, {"before": said, "<after>": truth}, groups=groups, n_bins=7, n_resamples=20)
    text = str(report)
    assert "7 bins of equal width" in text
    assert "Brier (sum over classes)" in text
    assert "200 steps of 49 problems" in text or "200 steps of 50 problems" in text
    header, first = text.splitlines()[3:5]
    assert header.index("<after>") == first.index(str(report.metrics["<after>"]["ece"]))
    assert "&lt;after&gt;" in report._repr_html_()
    assert json.loads(json.dumps(report.to_dict()))["metrics"]["before"]["ece"]["value"] is not None
    frame = report.to_frame()
    assert frame.loc["ece", ("before", "value")] == report.metrics["before"]["ece"].value
    without = str(calibration_report(y - 1, said))
    assert "no intervals" in without


def test_wrong_input_is_refused():
    y, said, _, _ = made_up_rows(n=50)
    with pytest.raises(ValueError, match="added by itself"):
        calibration_report(y, {"constant": said})
    with pytest.raises(ValueError, match="added by itself"):
        calibration_report(y, {})
    with pytest.raises(ValueError, match="n_bins"):
        calibration_report(y, said, n_bins=0)
    with pytest.raises(ValueError, match="strategy"):
        calibration_report(y, said, strategy="equal")
    with pytest.raises(ValueError, match="NaN"):
        calibration_report(y, np.where(said > 0.9, np.nan, said))


def test_the_largest_gap_and_the_curve_agree_with_scikit_learn():
    y, said, _, _ = made_up_rows()
    event = (y == 0).astype(float)
    share, mean = calibration_curve(event, said[:, 0], n_bins=12)
    found = reliability_curve(event, said[:, 0], 12)
    np.testing.assert_allclose(found[:2], (mean, share))
    assert found[2].sum() == len(y)
    assert maximum_calibration_error(event, said[:, 0], 12) == pytest.approx(np.abs(mean - share).max())


def test_ece_agrees_with_mapie():
    mapie = pytest.importorskip("mapie.metrics.calibration")
    y, said, _, _ = made_up_rows()
    event = (y == 0).astype(int)
    expected = mapie.expected_calibration_error(  # its num_bins counts edges
        event, said[:, 0], num_bins=16, split_strategy="uniform"
    )
    assert expected_calibration_error(event, said[:, 0], n_bins=15) == pytest.approx(expected)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(
    rows=st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=40),
    n_bins=st.integers(1, 20),
    strategy=st.sampled_from(["uniform", "quantile"]),
)
def test_the_expected_error_never_exceeds_the_largest(rows, n_bins, strategy):
    event, prob = map(list, zip(*rows, strict=True))
    ece = expected_calibration_error(event, prob, n_bins, strategy)
    assert 0 <= ece <= maximum_calibration_error(event, prob, n_bins, strategy) + 1e-12 <= 1 + 1e-9
