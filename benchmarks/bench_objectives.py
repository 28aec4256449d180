"""Does the outcome help the steps, on problems that were never seen?

``TokenPRM`` learns the steps of ProcessBench, alone or with the outcome of each solution as a second objective
(``outcome_weight``). In the second part only a share of the training problems has labelled steps. Of the others nothing
but the outcome is known, and they are learnt from as ``unlabelled``. Each part is repeated with several splits by
problem. AUROC of wrong steps on the test problems of all splits, beside how many steps stand before (a later step is
wrong more often), and AUROC of the outcome at last steps. Intervals resample problems, in pairs for the differences.

    python benchmarks/bench_objectives.py                                 # PRMKIT_DATA, else ../shared/data
    python benchmarks/bench_objectives.py --limit 60 --splits 1 --epochs 1 --weights 1 --no-write
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from _common import data_folder, print_table, write_result
from sklearn.metrics import roc_auc_score

from prmkit import StepDataset, TokenPRM, flatten
from prmkit.data import load_processbench
from prmkit.data.problem_keys import problem_keys

RESAMPLES = 500


def main() -> None:
    """Train, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--part", default="gsm8k", help="file of ProcessBench")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.25, 1.0])
    parser.add_argument("--labelled", type=float, default=0.25, help="share of labelled problems in the second part")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--limit", type=int, help="first solutions alone")
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()

    data = load_processbench(data_folder() / "processbench" / f"{options.part}.json", limit=options.limit)
    runs = {("all", 0.0): [], ("few", 0.0): []} | {(p, w): [] for w in options.weights for p in ("all", "few")}
    positions = []
    for seed in range(options.splits):
        train, test = data.split_by_problem(0.6, 0.4, random_state=seed)
        few, rest = train.split_by_problem(options.labelled, 1 - options.labelled, random_state=seed)
        positions.append(judged(test, np.array([step.index for step in test.X], dtype=float), None))
        for (part, weight), found in runs.items():
            start = time.perf_counter()
            head = TokenPRM(
                options.model,
                outcome_weight=weight,
                num_train_epochs=options.epochs,
                learning_rate=options.learning_rate,
                too_long="nan",
                random_state=seed,
                show_progress=False,
            )
            learnt = train if part == "all" else few
            head.fit(learnt.X, learnt.y, unlabelled=rest.solutions if part == "few" and weight else ())
            risks = head.predict_proba(test.X)[:, list(head.classes_).index(-1)]
            ends = [flatten([solution])[-1] for solution in test.solutions]
            found.append(judged(test, risks, head.predict_objective(ends)[:, 1] if weight else None))
            print(f"split {seed}, {part}, weight {weight:g}: {time.perf_counter() - start:.0f} s", flush=True)
    rows = [row("position of the step", positions, None)]
    rows += [
        row(f"{part} problems labelled, outcome_weight={weight:g}", found, runs[part, 0.0] if weight else None)
        for (part, weight), found in sorted(runs.items())
    ]
    print_table(rows)
    if not options.no_write:
        settings = vars(options) | {"steps": len(data.X), "solutions": len(data.solutions)}
        write_result("objectives", {"settings": settings, "rows": rows})


def judged(test: StepDataset, risks: np.ndarray, outcomes: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return labels, scores and problems of the steps, and of the outcomes, where both are known."""
    known = np.isfinite(risks)
    found = {"y": (test.y == -1)[known], "s": risks[known], "g": np.asarray(problem_keys(test.X))[known]}
    if outcomes is not None:
        right = np.array([solution.meta["final_answer_correct"] for solution in test.solutions], dtype=float)
        kept = np.isfinite(right) & np.isfinite(outcomes)
        found |= {"right": right[kept], "outcomes": outcomes[kept]}
    return found


def row(name: str, runs: list[dict[str, np.ndarray]], baseline: list[dict[str, np.ndarray]] | None) -> dict:
    """Return a row of the table: mean AUROC over the splits, and its difference from the baseline."""
    wrong = [roc_auc_score(run["y"], run["s"]) for run in runs]
    cells = {"model": name, "AUROC of wrong steps": round(float(np.mean(wrong)), 3), "change": "", "outcome AUROC": ""}
    if baseline is not None:
        low, high = np.quantile([resampled(runs, baseline, seed) for seed in range(RESAMPLES)], [0.025, 0.975])
        change = np.mean(wrong) - np.mean([roc_auc_score(run["y"], run["s"]) for run in baseline])
        cells["change"] = f"{change:+.3f} [{low:+.3f}, {high:+.3f}]"
    if all("right" in run for run in runs):
        cells["outcome AUROC"] = round(float(np.mean([roc_auc_score(r["right"], r["outcomes"]) for r in runs])), 3)
    return cells


def resampled(runs: list[dict[str, np.ndarray]], baseline: list[dict[str, np.ndarray]], seed: int) -> float:
    """Return the mean change of AUROC for problems drawn with replacement, the same draw for all splits and models."""
    problems = np.unique(np.concatenate([run["g"] for run in (*runs, *baseline)]))
    counts = np.random.default_rng(seed).multinomial(len(problems), np.full(len(problems), 1 / len(problems)))

    def auroc(run: dict[str, np.ndarray]) -> float:
        return roc_auc_score(run["y"], run["s"], sample_weight=counts[np.searchsorted(problems, run["g"])])

    return float(np.mean([auroc(one) - auroc(other) for one, other in zip(runs, baseline, strict=True)]))


if __name__ == "__main__":
    main()
