"""ReasonEval's tables against loops over steps and scikit-learn."""

import pytest
from hypothesis import given, settings, strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from prmkit.metrics import reasoneval_scores

few = settings(deadline=None, max_examples=50, derandomize=True)
quarters = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


def macro(y, verdicts):
    return f1_score(y, verdicts, labels=[0, 1], average="macro", zero_division=0) if len(set(y)) == 2 else None


def auc(y, scores):
    return roc_auc_score(y, scores) if len(set(y)) == 2 else None


@few
@given(st.lists(st.lists(quarters, min_size=1, max_size=4), min_size=1, max_size=8), st.data())
def test_invalid(risks, data):
    values = [[1 - risk for risk in row] for row in risks]  # the publication's validity scores
    y_true = [data.draw(st.integers(-1, len(v) - 1)) for v in values]
    labels, scores = [], []
    for first, v in zip(y_true, values, strict=True):
        for t in range(len(v) if first == -1 else first + 1):
            labels.append(int(t != first))
            scores.append(v[t])
    good, lowest = [int(t == -1) for t in y_true], [min(v) for v in values]
    verdict = [2 if low == 0.5 else int(low > 0.5) for low in lowest]
    assert reasoneval_scores(y_true, risks) == pytest.approx(
        {
            "solution_macro_f1": macro(good, verdict),
            "solution_auroc": auc(good, lowest),
            "step_macro_f1": macro(labels, [int(s > 0.5) for s in scores]),
            "step_auroc": auc(labels, scores),
        }
    )


def test_redundant_at_the_threshold():
    ratings, redundancy = [[1, 0], [1, 1], [1]], [[0.1, 0.6], [0.15, 0.0], [0.05]]
    scores = reasoneval_scores(ratings, redundancy, task="redundant")
    assert scores["solution_macro_f1"] == pytest.approx((1 + 2 / 3) / 2)  # 0.15 is neither: a miss
    assert scores["step_macro_f1"] == pytest.approx((2 / 3 + 6 / 7) / 2)  # but it counts as redundant here
    assert scores["solution_auroc"] == scores["step_auroc"] == 1.0


@pytest.mark.parametrize(
    ("y_true", "task", "message"),
    [
        ([2], "invalid", "has 2 steps"),
        ([[1]], "redundant", "1 ratings and 2 risks"),
        ([[1, 2]], "redundant", "other values"),
        ([0, 0], "invalid", "2 solutions and risks 1"),
        ([0], "valid", "task is 'valid'"),
    ],
)
def test_bad_input(y_true, task, message):
    with pytest.raises(ValueError, match=message):
        reasoneval_scores(y_true, [[0.1, 0.2]], task=task)


def test_weights_are_copies():
    y_true, risks = [0, -1, 1], [[0.6, 0.1], [0.4, 0.2], [0.3, 0.4]]
    copies = [0, 0, 1, 1, 1, 2]
    assert reasoneval_scores(y_true, risks, sample_weight=[2, 3, 1]) == pytest.approx(
        reasoneval_scores([y_true[i] for i in copies], [risks[i] for i in copies])
    )


def test_nothing_is_undefined():
    assert set(reasoneval_scores([], []).values()) == {None}
