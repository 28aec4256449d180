"""The chosen threshold against trying them all."""

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from prmkit.metrics import choose_threshold

CRITERIA = {
    "macro_f1": lambda y, d: f1_score(y, d, average="macro", labels=[0, 1], zero_division=0),
    "f1": lambda y, d: f1_score(y, d, zero_division=0),
    "balanced_accuracy": balanced_accuracy_score,
    "accuracy": accuracy_score,
}


@pytest.mark.parametrize("criterion", CRITERIA)
@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 10).map(lambda k: k / 10)), min_size=2, max_size=15))
def test_it_is_the_lowest_of_the_best(criterion, rows):
    y, risk = map(np.array, zip(*rows, strict=True))
    assume(0 < y.sum() < len(y))
    candidates = [-np.inf, *np.unique(risk)] if risk.min() == 0 else [0.0, *np.unique(risk)]
    scores = [CRITERIA[criterion](y, (risk > t).astype(int)) for t in candidates]
    expected = next(t for t, score in zip(candidates, scores, strict=True) if score >= max(scores) - 1e-9)
    assert choose_threshold(y, risk, criterion=criterion) == expected


def test_ties_take_the_lowest_threshold():
    assert choose_threshold([0, 0, 1, 1], [0.1, 0.2, 0.7, 0.9], criterion="accuracy") == 0.2
    assert choose_threshold([0, 1], [0.4, 0.4], criterion="balanced_accuracy") == 0.0  # nothing to choose by


def test_one_kind_of_step_and_unknown_criteria_are_refused():
    with pytest.raises(ValueError, match="0 of 2 steps are wrong"):
        choose_threshold([0, 0], [0.1, 0.2])
    with pytest.raises(ValueError, match="macro_f1, f1"):
        choose_threshold([0, 1], [0.1, 0.2], criterion="recall")
    with pytest.raises(ValueError, match="pass y =="):
        choose_threshold([-1, 1], [0.1, 0.2])
