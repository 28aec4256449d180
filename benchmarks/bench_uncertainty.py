"""What are the probabilities of a step classifier worth on problems, and data sets, that it never saw?

Trained on PRM800K and PRMBench, without the problems that ProcessBench shares; calibrated on one half of the
problems of ProcessBench (gsm8k and math), tested on the other. Labels are "wrong" and "right" (neutral steps are
right), because ProcessBench knows no neutral ones. Nothing is chosen on the test half.

Steps: calibration before and after, ranking, and whether doubtful verdicts are wrong. Paths: P(no error) as it is and
recalibrated, which paths to accept, and guarantees, these over many random halves. Intervals resample problems;
those of the guarantees are the spread over the halves. Beside everything stand position, length and a constant.

The fitted classifier and the ensemble are kept in ``--work`` and read again by the next run.

    python benchmarks/bench_uncertainty.py --work FOLDER         # PRMKIT_DATA, else ../shared/data
    python benchmarks/bench_uncertainty.py --work FOLDER --splits 50 --resamples 50 --no-write
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _common import RESULTS, load_steps_table, print_table, write_result
from _uncertainty_report import guarantees, markdown, paths, shift, steps

from prmkit import PRMClassifier, Solution, Step
from prmkit.data.problem_keys import problem_keys
from prmkit.uncertainty import StepEnsemble

ORDER = ["wrong", "right"]
METHODS = ("temperature", "sigmoid", "isotonic", "vector")


class Paths(NamedTuple):
    """Solutions with the index of their first error, and their problems as numbers."""

    solutions: list[Solution]
    first_errors: np.ndarray
    problems: np.ndarray

    def take(self, rows: np.ndarray) -> Paths:
        """The solutions at these places."""
        return Paths([self.solutions[i] for i in rows], self.first_errors[rows], self.problems[rows])

    def labelled(self) -> tuple[list[Step], np.ndarray, np.ndarray]:
        """Steps up to the first error, their labels, and the row of each among all steps."""
        X, y, rows, start = [], [], [], 0
        for solution, error in zip(self.solutions, self.first_errors.tolist(), strict=True):
            n = solution.n_steps if error < 0 else error + 1
            X += [Step(solution, t) for t in range(n)]
            y += ["wrong" if t == error else "right" for t in range(n)]
            rows += range(start, start + n)
            start += solution.n_steps
        return X, np.array(y), np.array(rows)


def read() -> tuple[tuple[list[Step], np.ndarray], Paths]:
    """Return the steps to learn from, and the paths to calibrate and test on."""
    target, ratings = load_steps_table(["processbench"])
    problems = problem_keys(target)
    first_errors = np.array([of_steps.index(-1) if -1 in of_steps else -1 for of_steps in ratings])
    source, ratings = load_steps_table(["prm800k", "prmbench"])
    shared = np.isin(problem_keys(source), problems)
    known = {solution.meta["problem_key"] for solution in target}
    X, y = [], []
    for solution, of_steps, leaks in zip(source, ratings, shared, strict=True):
        if leaks or solution.meta["problem_key"] in known:
            continue
        rated = [t for t, rating in enumerate(of_steps) if rating is not None]
        X += [Step(solution, t) for t in rated]
        y += ["wrong" if of_steps[t] == -1 else "right" for t in rated]
    return (X, np.array(y)), Paths(target, first_errors, np.unique(problems, return_inverse=True)[1])


def models(work: Path, X: list[Step], y: np.ndarray, members: int) -> tuple[PRMClassifier, StepEnsemble]:
    """Return the classifier and the ensemble, from the folder where it holds them."""
    classifier = PRMClassifier(label_order=ORDER, random_state=0)
    if not (work / "classifier").exists():
        classifier.fit(X, y).save(work / "classifier")
    if not (work / f"ensemble-{members}").exists():
        ensemble = StepEnsemble(classifier, members, random_state=0).fit(X, y)
        ensemble.save(work / f"ensemble-{members}")
    return PRMClassifier.load(work / "classifier"), StepEnsemble.load(work / f"ensemble-{members}")


def halves(problems: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a random half of the problems, and the other rows."""
    chosen = rng.permutation(problems.max() + 1) < (problems.max() + 1) // 2
    return np.flatnonzero(chosen[problems]), np.flatnonzero(~chosen[problems])


def main() -> None:
    """Run everything, print the tables, write them to ``results/uncertainty.{md,json}``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for fitted models")
    parser.add_argument("--members", type=int, default=5, help="of the ensemble")
    parser.add_argument("--splits", type=int, default=1000, help="random halves that judge the guarantees")
    parser.add_argument("--resamples", type=int, default=1000, help="of problems, for intervals")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args()

    (X, y), everything = read()
    classifier, ensemble = models(options.work, X, y, options.members)
    calibration, test = (everything.take(rows) for rows in halves(everything.problems, np.random.default_rng(0)))
    results = {
        "data": {
            "training_steps": len(X),
            "wrong_in_training": float(np.mean(y == "wrong")),
            **{
                f"{name}_{what}": number
                for name, part in (("calibration", calibration), ("test", test))
                for what, number in (
                    ("paths", len(part.solutions)),
                    ("problems", len(np.unique(part.problems))),
                    ("with_error", int((part.first_errors >= 0).sum())),
                    ("labelled_steps", len(part.labelled()[1])),
                )
            },
        },
        **steps(classifier, ensemble, calibration, test, METHODS, options.resamples),
        **paths(classifier, ensemble, calibration, test, options.resamples),
        **guarantees(classifier, everything, halves, options.splits),
        **shift(X, y, calibration, test),
    }
    for name, table in results.items():
        print(f"\n{name}")
        print_table(table if isinstance(table, list) else [table])
    if not options.no_write:
        path = write_result("uncertainty", {"splits": options.splits, **results})
        (RESULTS / "uncertainty.md").write_text(markdown(results, options.splits), encoding="utf-8")
        print(f"\nwrote {path.name} and uncertainty.md")


if __name__ == "__main__":
    main()
