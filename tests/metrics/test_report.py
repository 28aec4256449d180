"""The step report: every number against scikit-learn, on all rows and in every resample."""

import json
import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from prmkit.data import Solution, flatten
from prmkit.metrics import expected_calibration_error, step_report
from prmkit.metrics.steps.rows import position_baseline_out_of_fold
from prmkit.metrics.steps.step_metrics import WeightedStepMetrics


def made_up_rows(n=300, n_classes=3, n_problems=25, seed=0, rounded=True):
    rng = np.random.default_rng(seed)
    y = rng.choice(n_classes, n, p=np.array([0.3, 0.15, 0.55] if n_classes == 3 else [0.3, 0.7]))
    logits = rng.normal(size=(n, n_classes)) + 1.2 * np.eye(n_classes)[y]
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if rounded:  # ties
        proba = np.round(proba * 8) + 0.5
        proba /= proba.sum(axis=1, keepdims=True)
    return y, proba, rng.integers(0, n_problems, n)


def by_scikit_learn(y, proba, decided, weight=None):
    """All metrics the report has; class numbers from worst to best."""
    event, risk, labels = y == 0, proba[:, 0], np.arange(proba.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        precision, recall, f1, _ = sk.precision_recall_fscore_support(
            y, decided, labels=labels, sample_weight=weight, zero_division=np.nan
        )
        expected = {
            "accuracy": sk.accuracy_score(y, decided, sample_weight=weight),
            "macro_f1": sk.f1_score(y, decided, labels=labels, average="macro", sample_weight=weight),
            "balanced_accuracy": sk.balanced_accuracy_score(y, decided, sample_weight=weight),
            "auroc": sk.roc_auc_score(event, risk, sample_weight=weight),
            "average_precision": sk.average_precision_score(event, risk, sample_weight=weight),
            "brier": np.average(np.square(proba - np.eye(len(labels))[y]).sum(axis=1), weights=weight),
            "log_loss": sk.log_loss(y, proba, labels=labels, sample_weight=weight),
        }
        weighted = sk.precision_recall_fscore_support(
            y, decided, average="weighted", sample_weight=weight, zero_division=0
        )
        expected |= dict(zip(("weighted_precision", "weighted_recall", "weighted_f1"), weighted[:3], strict=True))
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        expected |= {f"{name}[{label}]": value for label, value in zip(labels, values, strict=True)}
    return expected


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("rounded", [True, False])
def test_all_numbers_agree_with_scikit_learn(n_classes, rounded):
    y, proba, groups = made_up_rows(n_classes=n_classes, rounded=rounded)
    report = step_report(y, proba, classes=list(range(n_classes)), groups=groups, n_resamples=0)
    found = {name: interval.value for name, interval in report.metrics["model"].items()}
    assert found.pop("ece") == pytest.approx(expected_calibration_error(y == 0, proba[:, 0]))
    assert found == pytest.approx(by_scikit_learn(y, proba, proba.argmax(axis=1)), nan_ok=True)


def test_weighted_means_as_bmuq_prints_them():
    """The weighted recall is the accuracy, and a class that is never predicted has the precision 0."""
    y, risk = [1, 1, 1, 1, -1], np.array([0.1, 0.2, 0.1, 0.3, 0.4])
    report = step_report(y, np.column_stack([risk, 1 - risk]))
    found = {name: interval.value for name, interval in report.metrics["model"].items()}
    assert found["weighted_recall"] == found["accuracy"] == pytest.approx(0.8)
    assert found["weighted_precision"] == pytest.approx(0.8 * 0.8)
    assert found["weighted_f1"] == pytest.approx(0.8 * 2 * 0.8 / 1.8)
    for name in ("weighted precision", "weighted recall", "weighted F1"):
        assert name in str(report)
        assert name in report._repr_html_()


def test_multiclass_brier_and_binary_brier():
    y, proba, _ = made_up_rows(n_classes=2)
    value = step_report(y, proba).metrics["model"]["brier"].value
    assert value == pytest.approx(2 * sk.brier_score_loss(y, proba[:, 1]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rounded", [True, False])
def test_weighted_metrics_equal_those_of_repeated_rows(seed, rounded):
    y, proba, groups = made_up_rows(n=80, n_problems=10, seed=seed, rounded=rounded)
    decided = proba.argmax(axis=1)
    counts = np.bincount(np.random.default_rng(seed).integers(10, size=10), minlength=10).astype(float)
    found = WeightedStepMetrics(y, proba, decided, groups, range(3))(counts)
    rows = np.repeat(np.arange(len(y)), counts[groups].astype(int))
    assert found.pop("ece") == pytest.approx(expected_calibration_error(y[rows] == 0, proba[rows, 0]))
    repeated = by_scikit_learn(y[rows], proba[rows], decided[rows])
    assert found == pytest.approx(repeated, nan_ok=True)
    weighted = by_scikit_learn(y, proba, decided, weight=counts[groups])
    assert {name: found[name] for name in ("auroc", "brier")} == pytest.approx(
        {name: weighted[name] for name in ("auroc", "brier")}
    )


def test_names_order_and_column_order_do_not_matter():
    y, proba, groups = made_up_rows()
    reports = [
        step_report(y - 1, proba, groups=groups, n_resamples=20),
        step_report(np.array(["negative", "neutral", "positive"])[y], proba, groups=groups, n_resamples=20),
        step_report(
            np.array(["z", "m", "a"])[y],
            proba[:, ::-1],
            classes=["a", "m", "z"],
            label_order=["z", "m", "a"],
            groups=groups,
            n_resamples=20,
        ),
    ]
    assert [report.classes[0] for report in reports] == [-1, "negative", "z"]
    first = {name: reports[0].metrics["model"][name] for name in ("auroc", "ece", "brier", "average_precision")}
    for report in reports[1:]:
        for name, interval in first.items():
            found = report.metrics["model"][name]
            assert (found.value, found.low) == pytest.approx((interval.value, interval.low))


def test_permuting_rows_changes_nothing():
    y, proba, groups = made_up_rows()
    order = np.random.default_rng(1).permutation(len(y))
    first = step_report(y, proba, groups=groups, n_resamples=50)
    second = step_report(y[order], proba[order], groups=groups[order], n_resamples=50)
    for name, interval in first.metrics["model"].items():
        found = second.metrics["model"][name]
        assert (found.value, found.low, found.high) == pytest.approx((interval.value, interval.low, interval.high))


def test_majority_baseline_and_its_difference():
    y, proba, groups = made_up_rows()
    report = step_report(y, proba, groups=groups, n_resamples=50)
    majority = report.metrics["majority"]
    assert majority["accuracy"].value == np.bincount(y).max() / len(y)
    assert majority["auroc"].value == 0.5
    assert majority["precision[0]"].value is None
    assert majority["macro_f1"].value == pytest.approx(sk.f1_score(y, np.full(len(y), 2), average="macro"))
    difference = report.differences["majority"]["auroc"]
    assert difference.value == pytest.approx(report.metrics["model"]["auroc"].value - 0.5)
    assert difference.low > 0


def test_position_baseline_sees_where_solutions_go_wrong():
    rng = np.random.default_rng(0)
    solutions = [Solution(f"problem {i}", ["step"] * 6) for i in range(60)]
    steps = flatten(solutions)
    positions = np.array([step.index for step in steps])
    y = np.where(rng.random(len(steps)) < 0.1 + 0.15 * positions, -1, 1)
    proba = np.full((len(steps), 2), 0.5)
    report = step_report(y, proba, steps=steps, n_resamples=50)
    assert report.n_problems == 60
    assert 0.65 < report.metrics["position"]["auroc"].value < 0.85
    assert report.metrics["model"]["auroc"].value == 0.5
    assert report.differences["position"]["auroc"].high < 0
    assert "out of fold by problem" in report.baseline_source
    by_hand = step_report(y, proba, positions=positions, groups=np.repeat(range(60), 6), n_resamples=50)
    assert by_hand.metrics == report.metrics
    reference = step_report(y, proba, steps=steps, reference=(steps, y), n_resamples=0)
    assert reference.metrics["position"]["auroc"].value == pytest.approx(
        sk.roc_auc_score(y == -1, [np.mean(y[positions == p] == -1) for p in positions]), abs=0.02
    )
    assert "360 reference steps" in reference.baseline_source


def test_position_baseline_never_sees_its_own_problem():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), 5)
    y = np.repeat(rng.integers(0, 2, 200), 5)  # a problem's steps all share one label: only leakage could tell
    proba = position_baseline_out_of_fold(np.tile(np.arange(5), 200), y, 2, groups=groups)
    assert sk.roc_auc_score(y == 0, proba[:, 0]) < 0.55


def test_a_threshold_decides_and_is_printed_with_its_data():
    y, proba, groups = made_up_rows()
    report = step_report(y, proba, groups=groups, threshold=0.3, threshold_source="gsm8k", n_resamples=0)
    flagged = proba[:, 0] > 0.3
    assert report.metrics["model"]["recall[0]"].value == pytest.approx(flagged[y == 0].mean())
    decided = np.where(flagged, 0, 1 + proba[:, 1:].argmax(axis=1))
    assert report.metrics["model"]["accuracy"].value == pytest.approx((decided == y).mean())
    assert "above 0.3 (chosen on gsm8k)" in str(report)
    assert report.to_dict()["threshold"] == 0.3


def test_undefined_numbers_are_none():
    proba = np.array([[0.3, 0.7], [0.6, 0.4]])
    report = step_report([1, 1], proba, classes=[-1, 1], groups=[0, 1], n_resamples=10)
    model = report.metrics["model"]
    assert (model["auroc"].value, model["average_precision"].value, model["recall[-1]"].value) == (None,) * 3
    assert model["macro_f1"].value == pytest.approx(2 / 3)  # of the class that occurs
    assert "no step has that label" in str(report)
    only_wrong = step_report([-1, -1], proba, classes=[-1, 1], groups=[0, 1], n_resamples=10)
    assert only_wrong.metrics["model"]["auroc"].value is None
    assert only_wrong.metrics["model"]["average_precision"].value == 1.0


def test_resamples_without_a_class_are_counted():
    y = [-1, 1, 1, 1]
    report = step_report(y, [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]], groups=[0, 1, 2, 3], n_resamples=400)
    auroc = report.metrics["model"]["auroc"]
    assert (auroc.value, auroc.low, auroc.high) == (1.0, 1.0, 1.0)
    assert auroc.n_undefined == pytest.approx(400 * ((3 / 4) ** 4 + (1 / 4) ** 4), abs=45)
    assert report.metrics["model"]["macro_f1"].n_undefined == auroc.n_undefined


def test_without_groups_there_are_no_intervals_and_it_says_so():
    y, proba, _ = made_up_rows()
    report = step_report(y, proba)
    assert report.metrics["model"]["auroc"].low is None
    assert report.n_problems is None
    assert "no intervals: pass groups or steps" in str(report)
    assert set(report.metrics) == {"model", "majority"}


def test_text_frame_dict_and_html_say_the_same():
    y, proba, groups = made_up_rows()
    report = step_report(y, proba, groups=groups, positions=np.arange(len(y)) % 7, n_resamples=30)
    auroc = report.metrics["model"]["auroc"]
    shown = f"{auroc.value:.3f} [{auroc.low:.3f}, {auroc.high:.3f}]"
    line = next(line for line in str(report).splitlines() if line.startswith("AUROC"))
    assert shown in line
    assert "300 steps of 25 problems" in str(report)
    assert shown in report._repr_html_()
    assert report.to_frame().loc["auroc", ("model", "low")] == auroc.low
    read = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert read["metrics"]["model"]["auroc"]["high"] == auroc.high
    assert read["metrics"]["position"]["ece"]["value"] == report.metrics["position"]["ece"].value


def test_html_of_labels_is_escaped():
    y, proba, _ = made_up_rows(n_classes=2)
    label = "<script>"
    html = step_report(np.array([label, "good"])[y], proba, classes=[label, "good"], label_order=[label, "good"])
    assert "<script>" not in html._repr_html_()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_true": [1, -1]}, "2 labels and proba 3 rows"),
        ({"y_true": [1, -1, None], "classes": [-1, 1]}, "None, expected only"),
        ({"y_true": [1, -1, 0], "classes": [-1, 1]}, "0, expected only"),
        ({"y_true": [1, 1, 1]}, "pass classes=classifier.classes_"),
        ({"y_true": ["a", "b", "a"]}, "pass label_order="),
        ({"proba": [0.1, 0.2, 0.3]}, r"np.c_\[risk, 1 - risk\]"),
        ({"proba": [[0.1, 0.9], [0.5, 0.4], [0.5, 0.5]]}, r"proba\[1\] sums to 0.9"),
        ({"proba": [[0.1, 0.9], [float("nan"), 0.4], [0.5, 0.5]]}, "NaN"),
        ({"groups": [1, 2]}, "groups has shape"),
        ({"positions": [0.5, 1, 2]}, "0-based"),
        ({"y_true": [], "proba": np.empty((0, 2))}, "empty"),
    ],
)
def test_bad_input_is_refused_in_words(change, message):
    call = {"y_true": [1, -1, 1], "proba": [[0.1, 0.9], [0.6, 0.4], [0.5, 0.5]]} | change
    with pytest.raises(ValueError, match=message):
        step_report(call.pop("y_true"), call.pop("proba"), **call)


def test_own_predictions_replace_the_likeliest_class():
    y, risk = [-1, 1, 1, -1], np.array([0.4, 0.1, 0.2, 0.3])
    proba = np.column_stack([risk, 1 - risk])
    likeliest, own = step_report(y, proba), step_report(y, proba, y_pred=[-1, 1, 1, -1])
    assert likeliest.metrics["model"]["accuracy"].value == 0.5
    assert own.metrics["model"]["accuracy"].value == 1.0
    assert own.metrics["model"]["auroc"] == likeliest.metrics["model"]["auroc"]
    assert "own predictions" in str(own)
    with pytest.raises(ValueError, match="expected one of them"):
        step_report(y, proba, y_pred=y, threshold=0.5)
    with pytest.raises(ValueError, match="y_pred"):
        step_report(y, proba, y_pred=[-1, 1])
