"""Choosing a rule: by the AUROC that scikit-learn computes, on problems, with honest ties and refusals."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from prmkit.metrics import aggregate, choose_aggregation
from prmkit.metrics.solutions.aggregation import AGGREGATION_RULES


@pytest.fixture(scope="module")
def paths():
    """One wrong step anywhere spoils a path: the minimum knows best, the last step nothing."""
    rng = np.random.default_rng(0)
    values = [rng.uniform(0.6, 1.0, size) for size in rng.integers(2, 8, 200)]
    correct = rng.random(200) < 0.5
    for path, right in zip(values, correct, strict=True):
        if not right:
            path[rng.integers(len(path) - 1)] = rng.uniform(0.3, 0.7)
    return values, correct, np.arange(200) // 4


def test_aurocs_are_scikit_learns(paths):
    values, correct, groups = paths
    choice = choose_aggregation(values, correct, groups, n_resamples=50)
    assert tuple(choice.auroc) == AGGREGATION_RULES
    for rule, interval in choice.auroc.items():
        assert interval.value == pytest.approx(roc_auc_score(correct, aggregate(values, rule)))
        assert interval.low <= interval.value <= interval.high
    assert choice.rule == "min"
    assert choice.rule == max(choice.auroc, key=lambda rule: choice.auroc[rule].value)
    assert (choice.n_paths, choice.n_problems) == (200, 50)


def test_intervals_resample_problems_in_pairs(paths):
    values, correct, groups = paths
    choice = choose_aggregation(values, correct, groups, rules=["min", "last"], n_resamples=100)
    scores = {rule: aggregate(values, rule) for rule in ("min", "last")}
    rng, differences = np.random.default_rng(0), []
    for _ in range(100):
        rows = np.concatenate([np.flatnonzero(groups == g) for g in rng.integers(50, size=50)])
        found = {rule: roc_auc_score(correct[rows], score[rows]) for rule, score in scores.items()}
        differences.append(found["min"] - found["last"])
    difference = choice.differences["last"]
    assert (difference.low, difference.high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])))
    alone = choose_aggregation(values, correct, rules=["min"], n_resamples=10)
    assert alone.n_problems == 200  # without groups each path is a problem of its own


def test_the_first_of_equal_rules_wins(paths):
    values, correct, _ = paths
    logs_first = choose_aggregation(values, correct, rules=["sum_log", "product"], n_resamples=0)
    product_first = choose_aggregation(values, correct, rules=["product", "sum_log"], n_resamples=0)
    assert (logs_first.rule, product_first.rule) == ("sum_log", "product")
    assert logs_first.auroc["product"].low is None
    backwards = choose_aggregation(values, correct, rules=AGGREGATION_RULES[::-1], n_resamples=0)
    assert backwards.rule == "min"  # better, if by little, is not equal


def test_the_order_of_paths_changes_nothing(paths):
    values, correct, groups = paths
    order = np.random.default_rng(1).permutation(200)
    found = choose_aggregation([values[i] for i in order], correct[order], groups[order], n_resamples=20)
    assert found == choose_aggregation(values, correct, groups, n_resamples=20)


def test_it_prints_and_saves_itself(paths):
    values, correct, groups = paths
    choice = choose_aggregation(values, correct, groups, n_resamples=20)
    text = str(choice)
    assert text.startswith(f"min: AUROC {choice.auroc['min']} of 200 paths of 50 problems")
    assert "report it on others" in text
    assert str(choice.differences["last"]) in text
    assert json.loads(json.dumps(choice.to_dict()))["rule"] == "min"


def test_mistakes_are_named():
    values = [[0.5], [0.6], [0.7]]
    with pytest.raises(ValueError, match="all of 3 paths are without an error"):
        choose_aggregation(values, [True, True, True])
    with pytest.raises(ValueError, match="none of 3 paths are without an error"):
        choose_aggregation(values, [False, False, False])
    with pytest.raises(ValueError, match="pass first_errors == -1"):
        choose_aggregation(values, [-1, 0, 2])
    with pytest.raises(ValueError, match="shape"):
        choose_aggregation(values, [True, False])
    with pytest.raises(ValueError, match="groups"):
        choose_aggregation(values, [True, False, True], groups=[0, 1])
    with pytest.raises(ValueError, match="average"):
        choose_aggregation(values, [True, False, True], rules=["average"])
    with pytest.raises(ValueError, match="no steps"):
        choose_aggregation([[0.5], [], [0.7]], [True, False, True])
    with pytest.raises(ValueError, match="rules is empty"):
        choose_aggregation(values, [True, False, True], rules=[])
