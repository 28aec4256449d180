"""How well is a wrong step found, on problems and on data sets that were never seen?

Every model of ``_quality_models.py`` under three protocols, always split by ``problem_key``:

- within: cross-validation inside each data set; the predictions of all folds are judged together;
- pooled: one fifth of the problems of all data sets together is the test part, judged per data set;
- transfer: a family of data sets is left out of training, and its problems wherever they occur.

``prm800k_test`` has no wrong steps: it is trained on, never judged. The largest set is cut to ``--cap``
problems, those whose key hashes lowest. Steps without a rating are context only.

Labels come from weights chosen for macro-F1 on problems that the model did not learn, inside the training
part: three folds by problem for the scikit-learn models, the default's own three folds, the early-stopping
problems (a tenth) of the transformers. Log-loss is that of P(negative). Intervals resample problems, in pairs
for differences; the models stay as they are. Predictions are kept in ``--work`` and read again by the next
run: delete those of a model that changed.

    python benchmarks/bench_quality.py --work FOLDER             # PRMKIT_DATA, else ../shared/data
    python benchmarks/bench_quality.py --work FOLDER --datasets bbm --folds 3 --resamples 50 --no-write
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _common import RESULTS, load_steps_table, machine, print_table, versions, write_result
from _quality_models import (
    CAUSAL,
    DEFAULT,
    EPOCHS,
    EPOCHS_SMALL,
    GROUPS,
    LABELS,
    LOOK_AHEAD,
    MODELS,
    SMALL,
    StepTable,
    predict,
)
from sklearn.model_selection import StratifiedGroupKFold

from prmkit.metrics._bootstrap import BootstrapResult, Interval, bootstrap_counts, problem_numbers
from prmkit.metrics._step_metrics import WeightedStepMetrics

FAMILIES = ("prm800k", "processbench", "prmbench", "mr_ben", "bbm")
PROTOCOLS = ("within", "pooled", "transfer")
CAPPED, LEAKY = "prmbench_train_p1_first400", "prm800k_train"
METRICS = {
    "auroc": "AUROC",
    "average_precision": "AP",
    "macro_f1": "macro-F1",
    "macro_f1_likeliest": "macro-F1, likeliest class",
    "accuracy": "accuracy",
    "log_loss": "log-loss",
}
CRITERIA = tuple(METRICS)[:3]


class Split(NamedTuple):
    """Rows to learn and rows to judge, sorted."""

    protocol: str
    name: str
    train: np.ndarray
    test: np.ndarray


def read(datasets: list[str] | None, cap: int | None) -> StepTable:
    """Return the labelled steps, the largest data set cut to ``cap`` problems."""
    solutions, ratings = load_steps_table(datasets)
    keys = {s.meta["problem_key"] for s in solutions if s.meta["dataset"] == CAPPED}
    kept = sorted(keys, key=lambda key: hashlib.sha256(key.encode()).hexdigest())[:cap]
    left_out = keys - set(kept)
    pairs = [
        (solution, of_steps)
        for solution, of_steps in zip(solutions, ratings, strict=True)
        if solution.meta["dataset"] != CAPPED or solution.meta["problem_key"] not in left_out
    ]
    return StepTable([solution for solution, _ in pairs], [of_steps for _, of_steps in pairs])


def splits(table: StepTable, folds: int, seed: int) -> Iterator[Split]:
    """Yield what is learnt and judged, protocol by protocol."""
    every = np.arange(len(table.y))
    for dataset in judged(table):
        rows = every[table.datasets == dataset]
        y, problems = table.y[rows], table.problems[rows]
        folding = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        for number, (train, test) in enumerate(folding.split(rows, y, problems)):
            yield Split("within", f"{dataset}-{number}", rows[train], rows[test])
    kinds = np.char.add(table.datasets, table.y.astype(str))  # a fifth of each label of each data set
    folding = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    yield Split("pooled", "all", *next(folding.split(every, kinds, table.problems)))
    for family in FAMILIES:
        left_out = np.char.startswith(table.datasets, family)
        known = np.isin(table.problems, table.problems[left_out])
        if left_out.any() and not known.all():
            yield Split("transfer", family, every[~known], every[left_out])


def judged(table: StepTable) -> list[str]:
    """The data sets with wrong steps, in the order of the file."""
    return [d for d in dict.fromkeys(table.datasets.tolist()) if (table.y[table.datasets == d] == 0).any()]


def run(table: StepTable, todo: list[Split], names: list[str], folder: Path, seed: int) -> None:
    """Fit and predict what the folder does not hold yet."""
    for group in GROUPS:
        for split in todo:
            for name in (name for name in group if name in names):
                path = kept(folder, split, name)
                if path.exists():
                    continue
                start, busy = time.perf_counter(), time.process_time()
                proba, weights = predict(name, table, split.train, split.test, seed)
                seconds, cpu = time.perf_counter() - start, time.process_time() - busy
                print(
                    f"{split.protocol} {split.name}: {name}, {len(split.train)} rows, {seconds:.1f} s",
                    flush=True,
                )
                unfinished = path.with_name(f"{path.stem}.part.npz")
                np.savez(unfinished, test=split.test, proba=proba, weights=weights, seconds=[seconds, cpu])
                unfinished.replace(path)


def kept(folder: Path, split: Split, name: str) -> Path:
    model = "".join(letter if letter.isalnum() else "-" for letter in name)
    return folder / f"{split.protocol}-{split.name}-{model}.npz"


def judge(table: StepTable, todo: list[Split], names: list[str], folder: Path, resamples: int):
    """Metrics of every model per protocol and data set, and their mean, with the resamples behind them."""
    results: dict[str, dict[str, BootstrapResult]] = {}
    for protocol in PROTOCOLS:
        proba = {name: np.full((len(table.y), len(LABELS)), np.nan) for name in names}
        weighed = {name: rows.copy() for name, rows in proba.items()}
        for split in (split for split in todo if split.protocol == protocol):
            for name in names:
                with np.load(kept(folder, split, name)) as saved:
                    if not np.array_equal(saved["test"], split.test):
                        sys.exit(f"{kept(folder, split, name)} is of other data: use another --work")
                    proba[name][split.test] = saved["proba"]
                    weighed[name][split.test] = saved["proba"] * saved["weights"]
        results[protocol] = {}
        for number, dataset in enumerate(judged(table)):
            rows = np.flatnonzero((table.datasets == dataset) & ~np.isnan(proba[names[0]][:, 0]))
            if len(rows):
                problems, n_problems = problem_numbers(table.problems[rows])
                measured = {
                    name: measure(table.y[rows], proba[name][rows], weighed[name][rows], problems)
                    for name in names
                }
                results[protocol][dataset] = bootstrap_counts(
                    lambda counts, measured=measured: {
                        f"{name}/{metric}": value
                        for name, metrics in measured.items()
                        for metric, value in metrics(counts).items()
                    },
                    n_problems,
                    resamples,
                    np.random.default_rng([0, number]),
                )
        if results[protocol]:
            results[protocol]["mean"] = mean(list(results[protocol].values()))
    return results


def measure(y: np.ndarray, proba: np.ndarray, weighed: np.ndarray, problems: np.ndarray):
    """The metrics of one model as a function of how often each problem counts."""
    negative, risk = (y != 0).astype(int), proba[:, 0]
    decided = WeightedStepMetrics(y, proba, weighed.argmax(axis=1), problems, LABELS)
    likeliest = WeightedStepMetrics(y, proba, proba.argmax(axis=1), problems, LABELS)
    of_risk = WeightedStepMetrics(
        negative, np.column_stack([risk, 1 - risk]), negative, problems, ("negative", "other")
    )

    def metrics(counts: np.ndarray) -> dict[str, float]:
        found = decided(counts)
        found["macro_f1_likeliest"] = likeliest(counts)["macro_f1"]
        found["log_loss"] = of_risk(counts)["log_loss"]
        return {name: found[name] for name in METRICS}

    return metrics


def mean(results: list[BootstrapResult]) -> BootstrapResult:
    """The plain mean over data sets, resampled independently of each other."""
    names = list(results[0].estimates)
    return BootstrapResult(
        {name: float(np.mean([result.estimates[name] for result in results])) for name in names},
        {name: np.mean([result.replicates[name] for result in results], axis=0) for name in names},
    )


def lost(result: BootstrapResult, name: str, metric: str) -> bool:
    """Whether the interval of default minus the other lies on the wrong side of 0."""
    difference = result.difference(f"{DEFAULT}/{metric}", f"{name}/{metric}")
    if difference.low is None:
        return False
    return difference.low > 0 if metric == "log_loss" else difference.high < 0


def tables(results: dict[str, dict[str, BootstrapResult]], names: list[str]) -> dict[str, list[dict]]:
    """Every table of the report, by its title."""
    shown: dict[str, list[dict]] = {}
    others = [name for name in names if name != DEFAULT]
    for protocol, per_dataset in results.items():
        average = per_dataset["mean"]
        rows = []
        for name in names:
            row = {"model": name} | {
                shown_as: f"{average.estimates[f'{name}/{metric}']:.3f}"
                for metric, shown_as in METRICS.items()
            }
            for metric in CRITERIA:
                difference = average.difference(f"{DEFAULT}/{metric}", f"{name}/{metric}")
                row[f"default − it: {METRICS[metric]}"] = "" if name == DEFAULT else signed(difference)
            rows.append(row)
        shown[f"{protocol}: mean over {len(per_dataset) - 1} data sets"] = rows
        for metric in CRITERIA:
            shown[f"{protocol}, {METRICS[metric]} per data set"] = [
                {"data set": dataset} | {name: f"{r.estimates[f'{name}/{metric}']:.3f}" for name in names}
                for dataset, r in per_dataset.items()
            ]
    shown["clearly lost: the interval of default − other lies on the wrong side of 0"] = [
        {
            "protocol": protocol,
            "metric": METRICS[metric],
            "data set": dataset,
            "to": name,
            "default": f"{result.estimates[f'{DEFAULT}/{metric}']:.3f}",
            "other": f"{result.estimates[f'{name}/{metric}']:.3f}",
            "difference": signed(result.difference(f"{DEFAULT}/{metric}", f"{name}/{metric}")),
        }
        for protocol, per_dataset in results.items()
        for metric in CRITERIA
        for dataset, result in per_dataset.items()
        for name in others
        if lost(result, name, metric)
    ]
    if {CAUSAL, LOOK_AHEAD} <= set(names):
        shown["the leak: look-ahead − causal transformer"] = list(leak(results))
    return shown


def leak(results: dict[str, dict[str, BootstrapResult]]) -> Iterator[dict]:
    """What seeing later steps gains where solutions end at their first error, and elsewhere."""
    for protocol, per_dataset in results.items():
        elsewhere = [r for dataset, r in per_dataset.items() if dataset not in (LEAKY, "mean")]
        for place, parts in ((LEAKY, [per_dataset.get(LEAKY)]), ("mean of the others", elsewhere)):
            if not parts or parts[0] is None:
                continue
            result = mean(parts)
            row = {"protocol": protocol, "on": place}
            for metric in CRITERIA[:2]:
                names = [f"{name}/{metric}" for name in (LOOK_AHEAD, CAUSAL, DEFAULT)]
                for shown_as, name in zip(("look-ahead", "causal", "default"), names, strict=True):
                    row[f"{METRICS[metric]}, {shown_as}"] = f"{result.estimates[name]:.3f}"
                row[f"{METRICS[metric]}, look-ahead − causal"] = signed(result.difference(*names[:2]))
            yield row


def signed(difference: Interval) -> str:
    return f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


def counts(table: StepTable) -> list[dict]:
    """What there is of each data set."""
    rows = []
    for dataset in dict.fromkeys(table.datasets.tolist()):
        y = table.y[table.datasets == dataset]
        solutions = sum(s.meta["dataset"] == dataset for s in table.solutions)
        n_problems = len(np.unique(table.problems[table.datasets == dataset]))
        n_of = dict(
            zip(("negative", "neutral", "positive"), np.bincount(y, minlength=3).tolist(), strict=True)
        )
        rows.append({"data set": dataset, "solutions": solutions, "problems": n_problems, **n_of})
    return rows


def time_default(sizes: list[int], datasets: list[str] | None, seed: int) -> list[dict]:
    """Seconds that the default takes to fit, embeddings cached, on whole problems of the uncut data."""
    table = read(datasets, None)
    order = np.random.default_rng(seed).permutation(table.problems.max() + 1)[table.problems]
    rows = []
    for size in sorted(sizes):
        chosen = np.sort(np.argsort(order, kind="stable")[:size])
        load, busy, start = os.getloadavg()[0], time.process_time(), time.perf_counter()
        MODELS[DEFAULT](table, chosen, chosen[:1], seed)
        seconds, cpu = time.perf_counter() - start, time.process_time() - busy
        rows.append({"rows": len(chosen), "seconds": seconds, "processor seconds": cpu, "load before": load})
    return rows


def markdown(shown: dict[str, list[dict]], notes: list[str]) -> str:
    lines = ["# Quality of the default model beside its baselines", "", *notes]
    for title, rows in shown.items():
        lines += ["", f"## {title}", ""]
        if not rows:
            lines.append("None.")
            continue
        lines += ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
        cells = ([f"{v:.1f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows)
        lines += ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps the predictions")
    parser.add_argument("--datasets", nargs="*", help="beginnings of names (default: all)")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS), metavar="NAME")
    parser.add_argument("--cap", type=int, default=120, help=f"problems of {CAPPED} (default: %(default)s)")
    parser.add_argument("--folds", type=int, default=5, help="within a data set (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=500, help="of problems (default: %(default)s)")
    parser.add_argument("--fit-rows", type=int, nargs="*", default=[], help="also time fits of the default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-write", action="store_true", help="print only; do not write results/quality.*")
    options = parser.parse_args()
    names = [name for name in MODELS if name in options.models]

    table = read(options.datasets, options.cap)
    todo = list(splits(table, options.folds, options.seed))
    folder = options.work / f"cap{options.cap}-folds{options.folds}-seed{options.seed}-rows{len(table.y)}"
    folder.mkdir(parents=True, exist_ok=True)
    run(table, todo, names, folder, options.seed)
    if DEFAULT not in names:
        print(f"kept in {folder}; nothing to compare without {DEFAULT}")
        return
    results = judge(table, todo, names, folder, options.resamples)
    shown = {"data": counts(table), **tables(results, names)}
    if options.fit_rows:
        shown["fit of the default"] = time_default(options.fit_rows, options.datasets, options.seed)
    for title, rows in shown.items():
        print(f"\n{title}\n")
        print_table(rows)
    if options.no_write:
        return
    intervals = {
        protocol: {
            dataset: {
                name: {
                    metric: {
                        "value": asdict(r.interval(f"{name}/{metric}")),
                        "default_minus_it": asdict(r.difference(f"{DEFAULT}/{metric}", f"{name}/{metric}")),
                    }
                    for metric in METRICS
                }
                for name in names
            }
            for dataset, r in per_dataset.items()
        }
        for protocol, per_dataset in results.items()
    }
    path = write_result("quality", {"epochs": EPOCHS, "tables": shown, "intervals": intervals})
    stamp = [f"`{key}`: {value}" for key, value in (("machine", machine()), ("versions", versions()))]
    command = " ".join(["python", *sys.argv])
    notes = [
        f"Written {time.strftime('%Y-%m-%d')} by `{command}`.",
        *(line for text in stamp for line in ("", text)),
        "",
        (__doc__ or "").split("    python")[0].strip(),
        f"Transformers: {EPOCHS} epochs, {EPOCHS_SMALL} on up to {SMALL} rows. {options.resamples} resamples.",
    ]
    (RESULTS / "quality.md").write_text(markdown(shown, notes), encoding="utf-8")
    print(f"\nwritten to {path} and quality.md")


if __name__ == "__main__":
    main()
