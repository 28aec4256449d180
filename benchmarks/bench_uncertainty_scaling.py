"""How does the time for calibrating, summing up and certifying reasoning paths grow with their number?

Made-up step probabilities, 10,000 to 1,000,000 steps: paths of 1 to 20 steps, four of each problem, labels drawn from
the probabilities after a temperature. One core.

Beside each number of prmkit, whose time includes its checks, stands the plain way, up to ``--loop-up-to`` steps: a
Python loop over paths without any checks (for the temperature scikit-learn's own), and the largest difference between
the two answers; of sets it is the share that differs.

Guarantees are calibrated on one half of the problems and predict the other.

    python benchmarks/bench_uncertainty_scaling.py                      # about a minute
    python benchmarks/bench_uncertainty_scaling.py --steps 1000 10000 --rounds 1 --no-write
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from _common import machine, print_table, versions, write_result
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from threadpoolctl import threadpool_limits

from prmkit.metrics import aggregate, aurc, expected_calibration_error, first_error_distribution, p_no_error
from prmkit.uncertainty import CalibratedStepClassifier, ErrorDetector, FirstErrorSet, PrefixCertifier

ALPHA, TEMPERATURE, FLOOR = 0.1, 1.8, 1e-15
RULES = ("min", "max", "first", "last", "mean", "product", "sum_log", "geometric_mean", "length_normalized")


class Paths(NamedTuple):
    """Paths as prmkit reads them; ``proba``, ``labels`` and ``problems`` by step, the rest by path."""

    risks: list[np.ndarray]
    rewards: list[np.ndarray]
    first_errors: np.ndarray
    groups: np.ndarray
    proba: np.ndarray
    labels: np.ndarray
    problems: np.ndarray

    def half(self, second: bool) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Risks, first errors and groups of one half of the problems."""
        middle = int(np.searchsorted(self.groups, self.groups[-1] // 2 + 1))
        part = slice(middle, None) if second else slice(middle)
        return self.risks[part], self.first_errors[part], self.groups[part]


class GivenProbabilities(ClassifierMixin, BaseEstimator):
    """A classifier whose input is its answer."""

    def fit(self, X, y):
        """Learn the classes."""
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        """Return X."""
        return X

    def predict(self, X):
        """Return the likeliest class."""
        return self.classes_[X.argmax(axis=1)]


def make_paths(n_steps: int, per_problem: int, seed: int) -> Paths:
    """Draw paths of ``n_steps`` steps in all."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 21, size=n_steps // 5)
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), n_steps)) + 1]
    lengths[-1] -= lengths.sum() - n_steps
    groups = np.arange(len(lengths)) // per_problem
    problems = np.repeat(groups, lengths)
    logits = rng.normal([-3.0, 0.0, 1.5], 1.5, size=(n_steps, 3)) + rng.normal(size=(groups[-1] + 1, 3))[problems]
    said, true = softmax(logits * TEMPERATURE, axis=1), softmax(logits, axis=1)
    labels = (rng.random((n_steps, 1)) > true.cumsum(axis=1)[:, :2]).sum(axis=1) - 1
    ends = np.cumsum(lengths)
    place = np.arange(n_steps) - np.repeat(ends - lengths, lengths)
    first = np.minimum.reduceat(np.where(labels < 0, place, 20), ends - lengths)
    risks, rewards = (np.split(values, ends[:-1]) for values in (said[:, 0], 1 - said[:, 0]))
    return Paths(risks, rewards, np.where(first == 20, -1, first), groups, said, labels, problems)


# The plain way -------------------------------------------------------------------------------------------------------


def loop_aggregate(paths: list[np.ndarray], how: str) -> list[float]:
    rules: dict[str, Callable[[np.ndarray], float]] = {
        "min": np.min,
        "max": np.max,
        "first": lambda path: path[0],
        "last": lambda path: path[-1],
        "mean": np.mean,
        "product": np.prod,
        "sum_log": lambda path: np.sum(np.log(np.maximum(path, FLOOR))),
        "geometric_mean": lambda path: np.prod(path) ** (1 / len(path)),
        "length_normalized": lambda path: np.mean(np.log(np.maximum(path, FLOOR))),
    }
    return [rules[how](path) for path in paths]


def loop_first_error(risks: list[np.ndarray]) -> list[np.ndarray]:
    distributions = []
    for path in risks:
        survival, distribution = 1.0, []
        for risk in path.tolist():
            distribution.append(survival * risk)
            survival *= 1 - risk
        distributions.append(np.array([*distribution, survival]))
    return distributions


def loop_cut(values: list[tuple[float, int]], groups: np.ndarray, wanted: list[bool]) -> float:
    """Conformal risk control, one path after the other: values of paths that may fail, with their problem."""
    sizes = Counter(group for group, counts in zip(groups.tolist(), wanted, strict=True) if counts)
    tolerated, failing = ALPHA * (len(sizes) + 1) - 1, 0.0
    if tolerated < -1e-9:
        return -math.inf
    for value, group in sorted(values):
        failing += 1 / sizes[group]
        if failing > tolerated + 1e-9:
            return value
    return math.inf


def loop_certify(paths: Paths) -> list[int]:
    risks, first_errors, groups = paths.half(False)
    values = [
        (max(path[: error + 1].tolist()), group)
        for path, error, group in zip(risks, first_errors.tolist(), groups.tolist(), strict=True)
        if error >= 0
    ]
    cut = loop_cut(values, groups, [True] * len(groups))
    certified = []
    for path in paths.half(True)[0]:
        length = 0
        for risk in path.tolist():
            if risk >= cut:
                break
            length += 1
        certified.append(length)
    return certified


def loop_detect(paths: Paths) -> list[bool]:
    risks, first_errors, groups = paths.half(False)
    wrong = (first_errors >= 0).tolist()
    values = [
        (max(path.tolist()), group) for path, group, counts in zip(risks, groups.tolist(), wrong, strict=True) if counts
    ]
    cut = loop_cut(values, groups, wrong)
    return [max(path.tolist()) >= cut for path in paths.half(True)[0]]


def loop_sets(paths: Paths) -> list[set[int]]:
    risks, first_errors, groups = paths.half(False)
    truths = [
        (float(distribution[error]), group)
        for distribution, error, group in zip(
            loop_first_error(risks), first_errors.tolist(), groups.tolist(), strict=True
        )
    ]
    least = loop_cut([(probability - 1, group) for probability, group in truths], groups, [True] * len(groups)) + 1
    sets = []
    for distribution in loop_first_error(paths.half(True)[0]):
        outcomes = [*range(len(distribution) - 1), -1]
        kept = {outcome for outcome, p in zip(outcomes, distribution.tolist(), strict=True) if p >= least - 1e-12}
        sets.append(kept or {outcomes[int(distribution.argmax())]})
    return sets


def loop_aurc(loss: np.ndarray, uncertainty: np.ndarray) -> float:
    total = area = 0.0
    for k, (_, one) in enumerate(sorted(zip(uncertainty.tolist(), loss.tolist(), strict=True)), start=1):
        total += one
        area += total / k
    return area / len(loss)


def loop_ece(event: np.ndarray, prob: np.ndarray, n_bins: int = 15) -> float:
    sums = [[0.0, 0.0] for _ in range(n_bins)]
    for happened, p in zip(event.tolist(), prob.tolist(), strict=True):
        of_bin = sums[max(math.ceil(p * n_bins) - 1, 0)]
        of_bin[0] += happened
        of_bin[1] += p
    return sum(abs(happened - said) for happened, said in sums) / len(prob)


def sklearn_temperature(paths: Paths) -> np.ndarray:
    codes = paths.labels + 1  # scikit-learn 1.9 takes labels for columns, and -1 for the last one
    given = FrozenEstimator(GivenProbabilities().fit(paths.proba, codes))
    calibrated = CalibratedClassifierCV(given, method="temperature", cv=2).fit(paths.proba, codes)
    return calibrated.predict_proba(paths.proba)


# prmkit's ways -------------------------------------------------------------------------------------------------------


def calibrate_temperature(paths: Paths) -> np.ndarray:
    given = GivenProbabilities().fit(paths.proba, paths.labels)
    calibrated = CalibratedStepClassifier(given).fit(paths.proba, paths.labels, groups=paths.problems)
    return calibrated.predict_proba(paths.proba)


def with_guarantee(guarantee: Any, paths: Paths) -> Any:
    guarantee.fit(*paths.half(False))
    risks, _, groups = paths.half(True)
    return guarantee.predict(risks, groups)


def decisions(paths: Paths) -> tuple[np.ndarray, np.ndarray]:
    """Whether each verdict is wrong, and how unsure it was."""
    return (paths.proba.argmax(axis=1) - 1 != paths.labels).astype(float), 1 - paths.proba.max(axis=1)


class Task(NamedTuple):
    """One number, or array, two ways."""

    name: str
    prmkit: Callable[[Paths], Any]
    plain: Callable[[Paths], Any]


TASKS = [
    *(
        Task(
            f"aggregate, {rule}",
            lambda paths, rule=rule: aggregate(paths.rewards, rule),
            lambda paths, rule=rule: loop_aggregate(paths.rewards, rule),
        )
        for rule in RULES
    ),
    Task(
        "P(no error)",
        lambda paths: p_no_error(paths.risks),
        lambda paths: [float(np.prod(1 - path)) for path in paths.risks],
    ),
    Task(
        "first-error distributions",
        lambda paths: first_error_distribution(paths.risks),
        lambda paths: loop_first_error(paths.risks),
    ),
    Task("temperature, fit and apply", calibrate_temperature, sklearn_temperature),
    Task("PrefixCertifier", lambda paths: with_guarantee(PrefixCertifier(alpha=ALPHA), paths), loop_certify),
    Task("ErrorDetector", lambda paths: with_guarantee(ErrorDetector(recall=1 - ALPHA), paths), loop_detect),
    Task("FirstErrorSet", lambda paths: with_guarantee(FirstErrorSet(alpha=ALPHA), paths), loop_sets),
    Task("AURC of steps", lambda paths: aurc(*decisions(paths)), lambda paths: loop_aurc(*decisions(paths))),
    Task(
        "ECE of steps",
        lambda paths: expected_calibration_error(paths.labels < 0, paths.proba[:, 0]),
        lambda paths: loop_ece(paths.labels < 0, paths.proba[:, 0]),
    ),
]


def timed(work: Callable[[Paths], Any], paths: Paths, rounds: int) -> tuple[float, Any]:
    """Median seconds, and the answer."""
    spent = []
    for _ in range(rounds):
        start = time.perf_counter()
        answer = work(paths)
        spent.append(time.perf_counter() - start)
    return median(spent), answer


def largest_difference(ours: Any, theirs: Any) -> float:
    """Between two answers of one kind; of sets the share that differs."""
    if isinstance(ours, list) and isinstance(ours[0], set):
        return float(np.mean([one != other for one, other in zip(ours, theirs, strict=True)]))
    if isinstance(ours, list):
        ours, theirs = np.concatenate(ours), np.concatenate(theirs)
    return float(np.abs(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)).max())


def bench(task: Task, sizes: dict[int, Paths], rounds: int, loop_up_to: int) -> dict[str, Any]:
    """Time one task at each size, both ways."""
    seconds, plain, difference = {}, {}, 0.0
    for n_steps, paths in sizes.items():
        task.prmkit(sizes[min(sizes)])  # what is loaded on first use is nobody's running cost
        seconds[n_steps], ours = timed(task.prmkit, paths, rounds)
        if n_steps <= loop_up_to:
            plain[n_steps], theirs = timed(task.plain, paths, 1)
            difference = max(difference, largest_difference(ours, theirs))
    low, high = min(seconds), max(seconds)
    growth = math.log(seconds[high] / seconds[low]) / math.log(high / low) if high > low else None
    return {
        "task": task.name,
        "seconds": seconds,
        "growth": growth,
        "plain_seconds": plain,
        "times_as_fast": plain[max(plain)] / seconds[max(plain)] if plain else None,
        "largest_difference": difference if plain else None,
    }


def as_row(result: dict[str, Any]) -> dict[str, Any]:
    """One line of the table."""
    return {
        "task": result["task"],
        **{f"{n:,} steps, s": value for n, value in result["seconds"].items()},
        "growth": result["growth"],
        **{f"plain, {n:,}, s": value for n, value in result["plain_seconds"].items()},
        "times as fast": result["times_as_fast"],
        "difference": result["largest_difference"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--per-problem", type=int, default=4, help="paths of each problem (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts (default: %(default)s)")
    parser.add_argument("--loop-up-to", type=int, default=100_000, help="steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args()

    sizes = {n: make_paths(n, options.per_problem, options.seed) for n in sorted(options.steps)}
    results = []
    with threadpool_limits(1):
        for task in TASKS:
            results.append(bench(task, sizes, options.rounds, options.loop_up_to))
            print(f"{task.name}: {max(results[-1]['seconds'].values()):.3g} s", flush=True)

    print(f"\n{machine()}\n{versions()}")
    for n, paths in sizes.items():
        print(f"{n:,} steps: {len(paths.risks):,} paths of {paths.groups[-1] + 1:,} problems", end="; ")
    print("one core; growth: exponent of the time in the number of steps, smallest to largest\n")
    print_table([as_row(result) for result in results])
    if not options.no_write:
        settings = {name: getattr(options, name) for name in ("steps", "per_problem", "rounds", "seed")}
        path = write_result("uncertainty_scaling", {**settings, "threads": 1, "results": results})
        print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
