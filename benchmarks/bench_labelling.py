"""Does choosing what to label beat drawing it, and how many labelled problems does an evaluation take?

On each data set a third of the problems is the test part, ``--start`` problems are labelled at first, and the rest is
the pool. In each of ``--rounds`` rounds a classifier is fitted, ``select_for_labelling`` chooses, and the recorded
labels of the chosen steps are added. The classifier is a logistic regression on ``StepStatistics``, alone or five of
them as ``StepEnsemble``. Each strategy is compared with random choice by the same classifier, on the same split.
Intervals (95 %, Student's t) are over ``--seeds`` splits by problem. The splits share problems, so the intervals are
somewhat too narrow.

"after" is the result after the last round, "area" the mean over the rounds. By problem the number of labelled steps
differs between strategies, so it is shown.

The second part draws labelled problems of the first data set at random, with all their solutions. It asks
``problems_needed`` for a width, and measures the width at the number that it says. It also stops as soon as the
interval is narrow enough, from 30 problems on, and counts how often the interval then holds the true number.

    python benchmarks/bench_labelling.py
    python benchmarks/bench_labelling.py --data processbench --seeds 2 --rounds 1 --runs 5 --no-write
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from typing import Any

import numpy as np
from _common import RESULTS, load_steps_table, machine, print_table, versions
from _quality_report import markdown
from scipy.stats import t as student
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from prmkit import PRMClassifier, Solution
from prmkit.data import Step, flatten
from prmkit.data.problem_keys import problem_keys
from prmkit.features import StepStatistics
from prmkit.metrics import bootstrap_by_problem, problems_needed
from prmkit.uncertainty import StepEnsemble, select_for_labelling

DATA = ("prm800k_train", "processbench", "mr_ben_math")
ALONE, ENSEMBLE = "one classifier", "five members"
COMPARED = (
    (ALONE, ("random", "uncertainty", "diversity", "balanced")),
    (ENSEMBLE, ("random", "disagreement", "balanced")),
)
METRICS = ("AUROC", "AP", "log loss")
KNOWN: dict[tuple[int, int], np.ndarray] = {}
"""Statistics of each step, computed once, by the solution and the place of the step."""


class KnownStatistics(TransformerMixin, BaseEstimator):
    """Look the statistics up."""

    def fit(self, X: list[Step], y: Any = None) -> KnownStatistics:
        """Learn nothing."""
        return self

    def transform(self, X: list[Step]) -> np.ndarray:
        """Return a row per step."""
        return np.array([KNOWN[id(step.solution), step.index] for step in X])

    def __sklearn_is_fitted__(self) -> bool:
        return True


def load(name: str) -> tuple[list[Solution], dict[tuple[int, int], int]]:
    """Return solutions up to their last labelled step, and the label of each step: -1 for wrong, 1 otherwise."""
    solutions, labels = [], {}
    for given, ratings in zip(*load_steps_table([name]), strict=True):
        last = max((i for i, rating in enumerate(ratings) if rating is not None), default=-1)
        if last < 0 or None in ratings[: last + 1]:
            continue
        solution = Solution(given.problem, given.steps[: last + 1])
        solutions.append(solution)
        labels |= {(id(solution), i): -1 if ratings[i] < 0 else 1 for i in range(last + 1)}
    steps = flatten(solutions)
    for step, row in zip(steps, StepStatistics().transform(steps), strict=True):
        KNOWN[id(step.solution), step.index] = row
    return solutions, labels


def make_classifier(kind: str) -> PRMClassifier | StepEnsemble:
    """Return a classifier that fits in a fraction of a second."""
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=1000))
    classifier = PRMClassifier(KnownStatistics(), head, label_order=[-1, 1])
    return classifier if kind == ALONE else StepEnsemble(classifier, 5, random_state=0)


def simulate(
    solutions: list[Solution],
    labels: dict[tuple[int, int], int],
    kind: str,
    strategy: str,
    by: str,
    seed: int,
    options: Any,
) -> list[dict[str, float]]:
    """Return the metrics after each round."""
    keys = problem_keys(solutions)
    order = np.random.default_rng(seed).permutation(np.unique(keys))
    n_test = len(order) // 3
    is_test, is_first = np.isin(keys, order[:n_test]), np.isin(keys, order[n_test : n_test + options.start])
    test = flatten([solutions[i] for i in np.flatnonzero(is_test)])
    pool = [solutions[i] for i in np.flatnonzero(~is_test)]
    steps = flatten(pool)
    labelled = {
        (id(step.solution), step.index): step for step in flatten([solutions[i] for i in np.flatnonzero(is_first)])
    }
    wrong = np.array([labels[id(step.solution), step.index] < 0 for step in test])
    budget = options.steps if by == "step" else options.problems
    found: list[dict[str, float]] = []
    while True:
        y = [labels[key] for key in labelled]
        with warnings.catch_warnings():
            # A small pool may run out, and members may be of one mind.
            warnings.simplefilter("ignore")
            classifier = make_classifier(kind).fit(list(labelled.values()), y)
            risk = classifier.predict_proba(test)[:, 0]
            found.append(
                {
                    "AUROC": roc_auc_score(wrong, risk),
                    "AP": average_precision_score(wrong, risk),
                    "log loss": log_loss(wrong, risk),
                    "steps": len(y),
                    "wrong": float(np.mean(np.array(y) < 0)),
                }
            )
            if len(found) > options.rounds:
                return found
            chosen = select_for_labelling(classifier, pool, budget, by=by, strategy=strategy, random_state=seed)
        new = [steps[i] for i in chosen] if by == "step" else flatten([pool[i] for i in chosen])
        labelled |= {(id(step.solution), step.index): step for step in new}


def interval(values: np.ndarray) -> str:
    """Return the mean over splits and its 95 % interval."""
    if len(values) < 2:
        return f"{values.mean():+.3f}"
    half = float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return f"{values.mean():+.3f} [{values.mean() - half:+.3f}, {values.mean() + half:+.3f}]"


def comparison(by: str, loaded: dict[str, Any], options: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a row per data set, classifier and strategy, and a row per strategy over all data sets."""
    rows, gains = [], {}
    for name, (solutions, labels) in loaded.items():
        for kind, strategies in COMPARED:
            curves = {
                strategy: [
                    simulate(solutions, labels, kind, strategy, by, seed, options) for seed in range(options.seeds)
                ]
                for strategy in strategies
            }
            for strategy, runs in curves.items():
                row: dict[str, Any] = {"data": name, "classifier": kind, "strategy": strategy}
                row["labelled steps"] = int(np.mean([run[-1]["steps"] for run in runs]))
                row["wrong among them"] = f"{np.mean([run[-1]['wrong'] for run in runs]):.3f}"
                for metric in METRICS:
                    values = np.array([[one[metric] for one in run] for run in runs])
                    base = np.array([[one[metric] for one in run] for run in curves["random"]])
                    row[f"{metric} after"] = f"{values[:, -1].mean():.3f}"
                    row[f"{metric} after, − random"] = ""
                    if strategy != "random":
                        row[f"{metric} after, − random"] = interval(values[:, -1] - base[:, -1])
                        area = values[:, 1:].mean(axis=1) - base[:, 1:].mean(axis=1)
                        gains.setdefault((kind, strategy), {}).setdefault(metric, []).append(area)
                rows.append(row)
    # One number per split is the mean over the data sets.
    means = [
        {"classifier": kind, "strategy": strategy}
        | {f"{metric} area, − random": interval(np.mean(parts, axis=0)) for metric, parts in found.items()}
        for (kind, strategy), found in gains.items()
    ]
    return rows, means


def widths(loaded: dict[str, Any], options: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return how well the needed number of problems is foretold, and the coverage of the interval at the stop."""
    solutions, labels = next(iter(loaded.values()))
    keys = np.unique(problem_keys(solutions), return_inverse=True)[1]
    half = np.isin(keys, np.random.default_rng(0).permutation(keys.max() + 1)[: keys.max() // 2])
    learn = flatten([solutions[i] for i in np.flatnonzero(half)])
    classifier = make_classifier(ALONE).fit(learn, [labels[id(step.solution), step.index] for step in learn])
    rest = np.flatnonzero(~half)
    steps = flatten([solutions[i] for i in rest])
    wrong = np.array([labels[id(step.solution), step.index] < 0 for step in steps])
    risk = classifier.predict_proba(steps)[:, 0]
    right = (risk > 0.5) == wrong
    problem = np.repeat(keys[rest], [solutions[i].n_steps for i in rest])
    rows_of = [np.flatnonzero(problem == one) for one in np.unique(problem)]

    def accuracy(y: np.ndarray, _: np.ndarray, sample_weight: np.ndarray) -> float:
        return float(np.average(y, weights=sample_weight))

    def measured(metric: str, drawn: np.ndarray) -> Any:
        rows = np.concatenate([rows_of[i] for i in drawn])
        groups = np.repeat(np.arange(len(drawn)), [len(rows_of[i]) for i in drawn])
        if metric == "accuracy":
            return bootstrap_by_problem(accuracy, groups, right[rows], risk[rows], n_resamples=200).interval()
        return bootstrap_by_problem(roc_auc_score, groups, wrong[rows], risk[rows], n_resamples=200).interval()

    foretold = []
    for metric, wanted in (("accuracy", 0.06), ("AUROC", 0.1)):
        for n in (30, 60, 120):
            needed, reached = [], []
            for seed in range(options.runs):
                # Problems are drawn with replacement, as if from all problems of their kind.
                order = np.random.default_rng(seed).integers(len(rows_of), size=20_000)
                needed.append(problems_needed(measured(metric, order[:n]), n, wanted))
                then = measured(metric, order[: max(needed[-1], 2)])
                reached.append(np.nan if then.low is None else then.high - then.low)
            foretold.append(
                {"metric": metric, "wanted width": wanted, "problems so far": n}
                | {"needed, median": int(np.median(needed)), "10 % to 90 % of the runs": _between(needed, ".0f")}
                | {"width then, median": float(np.nanmedian(reached)), "10 % to 90 %": _between(reached, ".3f")}
            )
    truth = float(right.mean())
    stops = []
    for wanted in (0.1, 0.06):
        ends, held, n_runs = [], 0, 10 * options.runs
        for seed in range(n_runs):
            order = np.random.default_rng([1, seed]).integers(len(rows_of), size=20_000)
            n = 30
            while (now := measured("accuracy", order[:n])).high - now.low > wanted:
                n = max(n + 10, (n + problems_needed(now, n, wanted)) // 2)
            ends.append(n)
            held += now.low <= truth <= now.high
        stops.append(
            {
                "stop at width": wanted,
                "runs": n_runs,
                "problems at the stop": int(np.mean(ends)),
                "interval holds the accuracy": f"{held / n_runs:.3f} ± {2 * np.sqrt(0.05 * 0.95 / n_runs):.3f}",
            }
        )
    return foretold, stops


def _between(values: list[float], form: str) -> str:
    low, high = np.nanquantile(values, [0.1, 0.9])
    return f"{low:{form}} to {high:{form}}"


def speed(n_steps: int) -> list[dict[str, Any]]:
    """Return the time of a choice without that of the classifier, whose features and probabilities are given."""
    rng = np.random.default_rng(0)
    solutions = [Solution(f"Problem {i}", [f"Step {t}" for t in range(10)]) for i in range(n_steps // 10)]
    rows = rng.normal(size=(n_steps, 79))
    for i, step in enumerate(flatten(solutions)):
        KNOWN[id(step.solution), step.index] = rows[i]
    learn = [Solution(f"Learnt {i}", ["Step"]) for i in range(50)]
    for solution in learn:
        KNOWN[id(solution), 0] = rng.normal(size=79)
    classifier = make_classifier(ALONE).fit(flatten(learn), [-1, 1] * 25)
    found = []
    for strategy in ("uncertainty", "diversity", "balanced"):
        for budget in (100, 1000):
            start = time.perf_counter()
            select_for_labelling(classifier, solutions, budget, strategy=strategy, random_state=0)
            seconds = time.perf_counter() - start
            found.append({"steps": f"{n_steps:,}", "strategy": strategy, "budget": budget, "seconds": seconds})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=list(DATA), metavar="NAME")
    parser.add_argument("--start", type=int, default=20, help="problems labelled at first (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=40, help="of a round by step (default: %(default)s)")
    parser.add_argument("--problems", type=int, default=10, help="of a round by problem (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=8, help="splits (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=20, help="of the second part (default: %(default)s)")
    parser.add_argument("--n-steps", type=int, default=100_000, help="pool of the third part (default: %(default)s)")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args()
    begin = time.perf_counter()
    loaded = {name: load(name) for name in options.data}
    shown: dict[str, list[dict[str, Any]]] = {}
    shown["Data"] = [
        {
            "data": name,
            "problems": len(np.unique(problem_keys(solutions))),
            "solutions": len(solutions),
            "steps": len(labels),
            "wrong": f"{np.mean(np.array(list(labels.values())) < 0):.3f}",
        }
        for name, (solutions, labels) in loaded.items()
    ]
    for by in ("step", "problem"):
        rows, means = comparison(by, loaded, options)
        shown[f"By {by}: area under the curve less that of random choice, mean over the data sets"] = means
        shown[f"By {by}: after the last round"] = rows
    shown["The number of problems that is needed"], shown["Stopping when the interval is narrow enough"] = widths(
        loaded, options
    )
    shown["Time of a choice"] = speed(options.n_steps)
    for title, rows in shown.items():
        print(f"\n{title}\n")
        print_table(rows)
    print(f"\n{time.perf_counter() - begin:.0f} s")
    if options.no_write:
        return
    stamp = [f"`{key}`: {value}" for key, value in (("machine", machine()), ("versions", versions()))]
    command = " ".join(["python benchmarks/bench_labelling.py", *sys.argv[1:]])
    notes = [
        f"Written {time.strftime('%Y-%m-%d')} by `{command}`. Other work ran on the machine beside it.",
        *(line for text in stamp for line in ("", text)),
        "",
        (__doc__ or "").split("    python")[0].strip(),
    ]
    page = RESULTS / "labelling.md"
    page.write_text(markdown(shown, notes, "What to label next"), encoding="utf-8")
    print(f"written to {page.name}")


if __name__ == "__main__":
    main()
