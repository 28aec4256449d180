"""Does fine-tuning find wrong steps better than embeddings, and which loss does it best?

One split by problem of PRM800K (sample), ProcessBench math and PRMBench: a fifth of the problems is judged, per data
set, and so is the plain mean of the three. Compared are

- fine-tuned MiniLM-BERT, block-causal, ``TokenPRM()`` with its default settings, all steps in one pass;
- the default classifier, on embeddings, statistics and words;
- the BMUq-style model: a BERT over step embeddings that looks ahead, and its causal twin;
- the majority class and the position of the step.

Then, on fewer problems and one epoch, ``TokenPRM`` with every loss that takes these labels. Losses that know right and
wrong alone count a neutral step as right; their rewards become probabilities by a logistic regression on a fifth of the
training problems. No setting was chosen on these data: learning rate, epochs and batch are ``TokenPRM``'s defaults.

Judged are the steps that lie within the 512 tokens that MiniLM reads; their share is in the first table. Solutions of
problems longer than that by themselves are left out. Label weights
for macro-F1 come from a tenth of the training problems, which ``TokenPRM`` does not learn; the other models choose
theirs as in bench_quality.py. Intervals resample problems, in pairs for differences.

    python benchmarks/bench_token_quality.py --work FOLDER             # PRMKIT_DATA, else ../shared/data
    python benchmarks/bench_token_quality.py --work FOLDER --cap 5 --loss-solutions 40 --no-write
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from _common import RESULTS, machine, print_table, versions, write_result
from _quality_models import CAUSAL, DEFAULT, LABELS, LOOK_AHEAD, StepTable, decision_weights, predict
from _quality_report import CRITERIA, METRICS, markdown, mean, measure, signed, together
from bench_quality import read
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold

from prmkit.features.passes.model_files import load_tokenizer
from prmkit.metrics.bootstrap import BootstrapResult, bootstrap_counts, problem_numbers
from prmkit.models import TokenPRM

DATASETS = ["prm800k_train", "processbench_math", "prmbench_train"]
FINE_TUNED = "TokenPRM()"
MODELS = ("majority", "position", LOOK_AHEAD, CAUSAL, DEFAULT, FINE_TUNED)
LOSSES: dict[str, dict[str, Any]] = {
    "cross entropy": {},
    "cross entropy, wrong × 3": {"loss_options": {"class_weight": [3.0, 1.0, 1.0]}},
    "bce": {"loss": "bce"},
    "mse": {"loss": "mse"},
    "orm": {"loss": "orm"},
    "rank (PQM), ζ = 4": {"loss": "rank"},
    "rank (PQM), ζ = 2": {"loss": "rank", "loss_options": {"zeta": 2.0}},
    "theory_rank": {"loss": "theory_rank"},
    "ablate_rank": {"loss": "ablate_rank"},
}
LOSS = "loss: "


def readable(table: StepTable) -> StepTable:
    """Leave out solutions whose problem alone fills what MiniLM reads."""
    tokenizer = load_tokenizer("all-MiniLM-L6-v2")
    texts = [solution.problem for solution in table.solutions]
    fits = [len(ids) < 500 for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]
    print(f"{len(fits) - sum(fits)} of {len(fits)} solutions left out: their problem alone is too long")
    pairs = [pair for pair, fit in zip(zip(table.solutions, table.ratings, strict=True), fits, strict=True) if fit]
    return StepTable([solution for solution, _ in pairs], [ratings for _, ratings in pairs])


def fine_tuned(table: StepTable, train: np.ndarray, test: np.ndarray, seed: int, **options: Any) -> Any:
    """Fit TokenPRM on rows ``train``, predict rows ``test``; NaN where a step lies beyond what MiniLM reads."""
    splitter = GroupShuffleSplit(1, test_size=0.1, random_state=seed)
    first, second = next(splitter.split(train, groups=table.problems[train]))
    learn, check = train[first], train[second]
    head = TokenPRM(random_state=seed, show_progress=False, too_long="nan", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # steps beyond the limit are counted in the first table
        head.fit([table.steps[i] for i in learn], LABELS[table.y[learn]])
        unseen = head.predict_proba([table.steps[i] for i in check])
        proba = head.predict_proba([table.steps[i] for i in test])
    known = ~np.isnan(unseen[:, 0])
    return proba, decision_weights(table.y[check][known], unseen[known])


def predicted(name: str, table: StepTable, train: np.ndarray, test: np.ndarray, options: Any) -> Any:
    """Predict with one model, or read what an earlier run of this folder predicted."""
    path = options.work / f"{''.join(c if c.isalnum() else '-' for c in name)}.npz"
    if not path.exists():
        start = time.perf_counter()
        if name == FINE_TUNED:
            proba, weights = fine_tuned(table, train, test, options.seed)
        elif name.startswith(LOSS):
            settings = LOSSES[name.removeprefix(LOSS)]
            proba, weights = fine_tuned(table, train, test, options.seed, num_train_epochs=1, **settings)
        else:
            proba, weights = predict(name, table, train, test, options.seed)
        seconds = time.perf_counter() - start
        print(f"{name}: {len(train)} rows, {seconds:.0f} s", flush=True)
        part = path.with_name(f"{path.stem}.part.npz")
        np.savez(part, test=test, proba=proba, weights=weights, seconds=seconds)
        part.replace(path)
    with np.load(path) as saved:
        if not np.array_equal(saved["test"], test):
            sys.exit(f"{path} is of other data: use another --work")
        return saved["proba"], saved["weights"], float(saved["seconds"])


def judge(
    table: StepTable, test: np.ndarray, predictions: dict[str, Any], resamples: int
) -> dict[str, BootstrapResult]:
    """Metrics of every model per data set and their mean, on the rows that all models score."""
    scored = ~np.any([np.isnan(proba[:, 0]) for proba, _, _ in predictions.values()], axis=0)
    results = {}
    for number, dataset in enumerate(dict.fromkeys(table.datasets.tolist())):
        places = np.flatnonzero(scored & (table.datasets[test] == dataset))
        rows = test[places]
        problems, n_problems = problem_numbers(table.problems[rows])
        measured = {
            name: measure(table.y[rows], proba[places], proba[places] * weights, problems)
            for name, (proba, weights, _) in predictions.items()
        }
        rng = np.random.default_rng([0, number])
        results[dataset] = bootstrap_counts(together(measured), n_problems, resamples, rng)
    results["mean"] = mean(list(results.values()))
    return results


def tables(title: str, results: dict[str, BootstrapResult], predictions: dict[str, Any], base: str) -> dict:
    """Per data set and for the mean: the metrics of each model, and what the base has more."""
    shown = {}
    for dataset, result in results.items():
        rows = []
        for name, (_, _, seconds) in predictions.items():
            row: dict[str, Any] = {"model": name.removeprefix(LOSS)}
            row |= {title: f"{result.estimates[f'{name}/{key}']:.3f}" for key, title in METRICS.items()}
            for key in CRITERIA:
                difference = result.difference(f"{base}/{key}", f"{name}/{key}")
                row[f"{base.removeprefix(LOSS)} − it: {METRICS[key]}"] = "" if name == base else signed(difference)
            rows.append(row | {"fit and predict, s": f"{seconds:.0f}"})
        shown[f"{title}: {dataset}"] = rows
    return shown


def counts(table: StepTable, train: np.ndarray, test: np.ndarray, scored: np.ndarray) -> list[dict[str, Any]]:
    """What is learnt and judged of each data set."""
    rows = []
    for dataset in dict.fromkeys(table.datasets.tolist()):
        of_test = table.datasets[test] == dataset
        labels = np.bincount(table.y[test[of_test & scored]], minlength=3)
        rows.append(
            {
                "data set": dataset,
                "training steps": int((table.datasets[train] == dataset).sum()),
                "test steps": int(of_test.sum()),
                "of these within 512 tokens": f"{scored[of_test].mean():.3f}",
                "test problems": len(np.unique(table.problems[test[of_test & scored]])),
                **dict(zip(("negative", "neutral", "positive"), labels.tolist(), strict=True)),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps the predictions")
    parser.add_argument("--cap", type=int, default=120, help="problems of PRMBench (default: %(default)s)")
    parser.add_argument("--loss-problems", type=int, default=250, help="of training (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=500, help="of problems (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-write", action="store_true", help="print only; do not write results/token_quality.*")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)

    table = readable(read(DATASETS, options.cap))
    kinds = np.char.add(table.datasets, table.y.astype(str))
    folding = StratifiedGroupKFold(5, shuffle=True, random_state=options.seed)
    train, test = next(folding.split(kinds, kinds, table.problems))
    models = {name: predicted(name, table, train, test, options) for name in MODELS}
    order = np.random.default_rng(options.seed).permutation(np.unique(table.problems[train]))
    few = train[np.isin(table.problems[train], order[: options.loss_problems])]
    losses = {f"{LOSS}{name}": predicted(f"{LOSS}{name}", table, few, test, options) for name in LOSSES}

    scored = ~np.isnan(models[FINE_TUNED][0][:, 0])
    shown = {"data": counts(table, train, test, scored)}
    shown |= tables("models", judge(table, test, models, options.resamples), models, FINE_TUNED)
    base = f"{LOSS}cross entropy"
    title = f"losses, one epoch on {len(few)} steps of {options.loss_problems} problems"
    shown |= tables(title, judge(table, test, losses, options.resamples), losses, base)
    for name, rows in shown.items():
        print(f"\n{name}\n")
        print_table(rows)
    if options.no_write:
        return
    path = write_result("token_quality", {"tables": shown})
    notes = [
        f"Written {time.strftime('%Y-%m-%d')} by `python benchmarks/bench_token_quality.py {' '.join(sys.argv[1:])}`.",
        *(f"\n`{key}`: {value}" for key, value in (("machine", machine()), ("versions", versions()))),
        "",
        (__doc__ or "").split("    python")[0].strip(),
    ]
    page = markdown(shown, notes, "Quality of fine-tuned models, and of losses")
    (RESULTS / "token_quality.md").write_text(page, encoding="utf-8")
    print(f"\nwritten to {path} and token_quality.md")


if __name__ == "__main__":
    main()
