"""Ten times as many samples take ten times as long: counted in calls, comparisons and bytes, not in seconds."""

import sys
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from prmkit import Solution
from prmkit.data import Candidates
from prmkit.data.sampled import CandidateSet
from prmkit.metrics import selection_report
from prmkit.uncertainty import SelectiveRisk, sample_uncertainty

N_SAMPLES = 4
FEW, MANY = 60, 600


class CountedKey(str):
    """A key that counts how often it is compared with another."""

    n_compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        CountedKey.n_compared += 1
        return str.__eq__(self, other)


def made(n_problems: int, key: Callable[[str], str] = str) -> tuple[Candidates, np.ndarray]:
    rng = np.random.default_rng(0)
    right = rng.random((n_problems, N_SAMPLES)) < 0.6
    sets = []
    for i, row in enumerate(right.tolist()):
        keys = tuple(key("1" if hit else f"wrong {rng.integers(3)}") for hit in row)
        solutions = (Solution(f"Problem {i}", ["A step."]),) * N_SAMPLES
        sets.append(CandidateSet(f"Problem {i}", solutions, tuple(row), keys, keys, None, str(i)))
    return Candidates(sets), (right.ravel() + rng.random(right.size)).round(2) / 2


def n_calls(work: Callable[[], object]) -> int:
    """Return how many functions are called, those of C among them."""
    n = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal n
        n += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return n


def peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def agreement(n_problems: int) -> Callable[[], object]:
    candidates, scores = made(n_problems)
    return lambda: sample_uncertainty(candidates, scores)


def report(n_problems: int) -> Callable[[], object]:
    candidates, scores = made(n_problems)
    return lambda: selection_report(candidates, {"score": scores}, sizes=[2], n_resamples=20)


def threshold(n_problems: int) -> Callable[[], object]:
    candidates, scores = made(n_problems)
    errors, groups = ~candidates.correct, candidates.groups
    return lambda: SelectiveRisk(alpha=0.3).fit(1 - scores, errors, groups).predict(1 - scores)


def test_answers_are_not_compared_in_pairs():
    counts = []
    for n_problems in (FEW, MANY):
        candidates, _ = made(n_problems, CountedKey)
        CountedKey.n_compared = 0
        sample_uncertainty(candidates)
        counts.append(CountedKey.n_compared)
    assert 0 < counts[0] <= 3 * FEW * N_SAMPLES
    assert counts[1] <= 3 * MANY * N_SAMPLES


@pytest.mark.parametrize("task", [agreement, report, threshold])
def test_work_grows_with_the_number_of_samples(task):
    task(FEW)()  # what is imported and kept at the first call
    times = MANY / FEW
    assert n_calls(task(MANY)) <= 1.2 * times * n_calls(task(FEW))
    assert peak(task(MANY)) <= 1.2 * times * peak(task(FEW))
