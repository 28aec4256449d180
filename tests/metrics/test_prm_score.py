"""PRMScore and MR-Score's parts against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.metrics import f1_score, matthews_corrcoef

from prmkit.metrics.benchmarks.first_error import mr_score_parts
from prmkit.metrics.benchmarks.step_benchmarks import prm_score, prm_score_by_class

few = settings(deadline=None, max_examples=50, derandomize=True)


@few
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=15))
def test_it_is_the_mean_of_two_f1(rows):
    y_true, y_pred = [t for t, _ in rows], [p for _, p in rows]
    expected = None
    if set(y_true) == {True, False}:
        expected = f1_score(y_true, y_pred, average="macro", labels=[False, True], zero_division=0)
    assert prm_score(y_true, y_pred) == pytest.approx(expected)
    signs = [2 * t - 1 for t in y_true], [int(p) for p in y_pred]
    assert prm_score(*signs) == prm_score(y_true, y_pred)


def test_a_constant_scores_half_of_one_f1():
    assert prm_score([1, 1, 1, 0], [1, 1, 1, 1]) == pytest.approx((6 / 7) / 2)


@pytest.mark.parametrize("bad", [[0, 1, -1], [0.4, 1, 1], [1, None, 1], ["+", "-", "+"], [[1], [0], [1]]])
def test_other_values_raise(bad):
    with pytest.raises(ValueError, match="y_pred"):
        prm_score([1, 0, 1], bad)


def test_classes_groups_and_the_pool():
    rng = np.random.default_rng(0)
    classes = np.repeat(["redundency", "circular", "deception", "multi_solutions"], 30)
    y_true = rng.random(120) < 0.7
    y_true[90:] = True
    y_pred = rng.random(120) < 0.6
    scores = prm_score_by_class(y_true, y_pred, classes)
    assert scores["overall"] == prm_score(y_true, y_pred)
    for name in ("redundency", "circular", "deception"):
        assert scores[name] == pytest.approx(prm_score(y_true[classes == name], y_pred[classes == name]))
    assert scores["multi_solutions"] == pytest.approx(f1_score(y_true[90:], y_pred[90:]))
    assert scores["simplicity"] == pytest.approx((scores["redundency"] + scores["circular"]) / 2)
    assert scores["sensitivity"] == pytest.approx((scores["deception"] + scores["multi_solutions"]) / 2)
    assert "soundness" not in scores


def test_an_undefined_class_makes_its_group_undefined():
    scores = prm_score_by_class([1, 1, 0, 1], [1, 1, 0, 1], ["circular"] * 2 + ["redundency"] * 2)
    assert (scores["circular"], scores["redundency"], scores["simplicity"]) == (None, 1.0, None)
    assert prm_score_by_class([], [], []) == {"overall": None}


def test_unknown_class_names_the_known():
    with pytest.raises(ValueError, match=r"'redundancy'.*redundency"):
        prm_score_by_class([1], [1], ["redundancy"])


@few
@given(st.lists(st.tuples(st.integers(-1, 2), st.integers(-1, 2)), min_size=1, max_size=15))
def test_mr_parts(rows):
    y_true, y_pred = map(np.array, zip(*rows, strict=True))
    parts = mr_score_parts(y_true, y_pred)
    right, judged = y_true == -1, y_pred == -1
    defined = len(set(right)) == 2 and len(set(judged)) == 2
    assert parts["mcc"] == pytest.approx(matthews_corrcoef(right, judged) if defined else None)
    wrong = ~right
    assert parts["acc_step"] == pytest.approx((y_pred == y_true)[wrong].mean() if wrong.any() else None)


def test_no_prediction_is_the_wrong_verdict():
    assert mr_score_parts([-1, 0], [None, None])["mcc"] == -1.0
