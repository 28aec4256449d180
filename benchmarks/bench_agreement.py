"""What does agreement with the other solutions of a problem bring for finding wrong steps, beside step statistics?

Boosted trees (``HistGradientBoostingClassifier``) on ``StepStatistics``, with the columns of ``AgreementFeatures`` and
without. Beside them with ``numbers_introduced`` alone, the one of these columns that reads no other solution. Folds by
problem; the risk of a step is the mean over several divisions into folds. AUROC of wrong steps. Gains come with 95 %
intervals that resample problems. The set of a problem is all its solutions in the data set.

The data sets are those of the visible data whose solutions are samples of their own: PRM800K (some 6 solutions per
problem) and Mr-Ben (3). Nothing is measured or claimed on edited data: the solutions of PRMBench and of ReasonEval's
perturbations are edits of one original, so that the others are copies, and agreement would find the edit.

How a number is spelled, and what stands where there is no share, were settled after looking at some variants on PRM800K
and Mr-Ben math (signs or none, the numbers of "Step 3:" or none, -1 or 1 and 0.5), as were the settings of the trees.
On Mr-Ben math the variants moved the gain between +.002 and +.011 with these trees, and between -.001 and +.007 with
scikit-learn's default trees (means over three and four divisions). So the gains of these two are a little favourable.

The cost is that of made problems of 10 solutions each, on one core.

    python benchmarks/bench_agreement.py                   # PRMKIT_DATA, else ../shared/data
    python benchmarks/bench_agreement.py --datasets mr_ben_math --repeats 1 --problems 100 --no-write
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from _common import RESULTS, load_steps_table, machine, print_table, versions
from _quality_report import markdown
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from prmkit import Solution, flatten
from prmkit.features import AgreementFeatures, StepStatistics
from prmkit.metrics.bootstrap import bootstrap_by_problem

DATASETS = ("prm800k_train", "mr_ben_math", "mr_ben_biology", "mr_ben_chemistry")
ALONE, COUNT, BOTH = "statistics", "and numbers_introduced", "and agreement"


def trees(seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=150,
        max_leaf_nodes=15,
        max_bins=63,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )


def risks(rows: np.ndarray, wrong: np.ndarray, problems: np.ndarray, repeats: int) -> np.ndarray:
    """Return P(wrong) of each step by trees that were fitted on other problems, a mean over divisions into folds."""
    found = np.zeros(len(rows))
    for seed in range(repeats):
        for train, test in StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(rows, wrong, problems):
            found[test] += trees(seed).fit(rows[train], wrong[train]).predict_proba(rows[test])[:, 1] / repeats
    return found


def quality(dataset: str, repeats: int, resamples: int) -> list[dict]:
    """Return a row per set of columns."""
    solutions, ratings = load_steps_table([dataset])
    steps = flatten(solutions)
    flat = [rating for of_solution in ratings for rating in of_solution]
    known = np.array([rating is not None for rating in flat])
    wrong = np.array([rating == -1 for rating in flat])[known]
    names = [(solution.meta or {})["problem_key"] for solution in solutions]
    problems = np.unique(np.repeat(names, [solution.n_steps for solution in solutions]), return_inverse=True)[1][known]
    statistics = StepStatistics().transform(steps)[known]
    agreement = AgreementFeatures(solutions).transform(steps)[known]
    columns = {
        ALONE: statistics,
        COUNT: np.hstack([statistics, agreement[:, -1:]]),
        BOTH: np.hstack([statistics, agreement]),
    }
    by = {name: risks(rows, wrong, problems, repeats) for name, rows in columns.items()}

    def statistic(wrong: np.ndarray, *risk: np.ndarray, sample_weight: np.ndarray) -> dict[str, float | None]:
        if len(np.unique(wrong[sample_weight > 0])) < 2:
            return dict.fromkeys(by)
        return {
            name: float(roc_auc_score(wrong, one, sample_weight=sample_weight))
            for name, one in zip(by, risk, strict=True)
        }

    result = bootstrap_by_problem(statistic, problems, wrong, *by.values(), n_resamples=resamples)
    print(f"{dataset}: done", flush=True)
    return [
        {
            "data": dataset,
            "solutions": len(solutions),
            "problems": len(set(names)),
            "steps": len(wrong),
            "introduce a number": f"{(agreement[:, -1] > 0).mean():.0%}",
            "columns": name,
            "AUROC": str(result.interval(name)),
            "gain": "" if name == ALONE else signed(result.difference(name, ALONE)),
        }
        for name in by
    ]


def signed(gain) -> str:
    return f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"


def costs(n_problems: int) -> list[dict]:
    """Return the seconds that the columns of made solutions cost, 10 of each problem."""
    rng = np.random.default_rng(0)
    solutions = []
    for problem in range(n_problems):
        numbers = rng.integers(2, 500, size=(10, 6))
        solutions += [
            Solution(f"Case {problem}", [f"We take {n} of them, that is {n} * 3 = {3 * n} in all." for n in row])
            for row in numbers.tolist()
        ]
    steps = flatten(solutions)
    rows = []
    for what, features in (("solutions in X", AgreementFeatures()), ("fixed set", AgreementFeatures(solutions))):
        begin, cpu = time.perf_counter(), time.process_time()
        features.transform(steps)
        rows.append(
            {
                "set": what,
                "problems": f"{n_problems:,}",
                "solutions": f"{len(solutions):,}",
                "steps": f"{len(steps):,}",
                "seconds": f"{time.perf_counter() - begin:.1f}",
                "CPU seconds": f"{time.process_time() - cpu:.1f}",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="*", default=DATASETS, help="names (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="divisions into 5 folds (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=1000, help="of problems (default: %(default)s)")
    parser.add_argument("--problems", type=int, default=10_000, help="of the cost (default: %(default)s)")
    parser.add_argument("--no-write", action="store_true", help="print only; do not write results/agreement.md")
    options = parser.parse_args()
    shown = {name: quality(name, options.repeats, options.resamples) for name in options.datasets}
    shown["Cost"] = costs(options.problems)
    for title, rows in shown.items():
        print(f"\n{title}\n")
        print_table(rows)
    print(f"\n{machine()}\n{versions()}")
    if options.no_write:
        return
    notes = [
        f"Written {time.strftime('%Y-%m-%d')} by `python benchmarks/bench_agreement.py {' '.join(sys.argv[1:])}`.",
        "",
        f"`machine`: {machine()}",
        "",
        f"`versions`: {versions()}",
        "",
        (__doc__ or "").split("    python")[0].strip(),
    ]
    page = RESULTS / "agreement.md"
    page.write_text(markdown(shown, notes, "Agreement of the steps of sampled solutions"), encoding="utf-8")
    print(f"written to {page.name}")


if __name__ == "__main__":
    main()
