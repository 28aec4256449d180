"""LengthShift knows lengths alone, and treats long and short alike."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from prmkit import Solution, flatten
from prmkit.uncertainty import LengthShift


def solution(problem, n_steps, characters):
    return Solution(problem, ["x" * characters] * n_steps)


@pytest.fixture
def detector():
    return LengthShift().fit(flatten([solution(f"p{n}", n, 10) for n in (2, 4, 4, 4, 9)]))


def test_by_hand(detector):
    paths = [
        solution("a", 4, 10),
        solution("b", 8, 10),
        solution("c", 2, 10),
        solution("d", 4, 20),
        Solution("e", [""]),
    ]
    expected = [0, 2 * np.log(2), 2 * np.log(2), np.log(2), np.log(40) + np.log(4)]
    np.testing.assert_allclose(detector.score(paths), expected, atol=1e-12)
    np.testing.assert_allclose(detector.step_scores(["x" * 10, "x" * 20, "x" * 5, ""]), np.log([1, 2, 2, 10]))


def test_a_solution_counts_once_and_whole():
    """Rows that are left out (unlabelled steps) and solutions with many rows do not weigh differently."""
    solutions = [solution("p", 1, 5), solution("q", 3, 5), solution("r", 50, 5)]
    some = flatten(solutions)
    one = LengthShift().fit(some)
    other = LengthShift().fit([some[0], some[1], some[-1]])
    assert one.usual_steps_ == other.usual_steps_ == 3
    assert one.usual_characters_ == other.usual_characters_ == 15


def test_words_change_nothing(detector):
    one, other = Solution("a", ["2 + 2 = 4.", "So 4."]), Solution("b", ["@@@@@@@@@@", "?????"])
    assert len(set(detector.score([one, other]))) == 1


def test_it_is_the_baseline_that_finds_longer_paths(arithmetic):
    train, calibration, more = arithmetic
    detector = clone(LengthShift()).fit(train.X, train.y).calibrate(calibration)
    longer = [Solution(f"longer {s.problem}", s.steps * 3) for s in more]
    assert roc_auc_score(np.repeat([0, 1], [len(more), len(longer)]), detector.score([*more, *longer])) > 0.9
    assert detector.flag(longer, alpha=0.1).mean() > 0.8
    assert detector.flag(more, alpha=0.1).mean() < 0.2
