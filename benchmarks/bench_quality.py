"""How well is a wrong step found, on problems and on data sets that were never seen?

Every model of ``_quality_models.py`` under three protocols, always split by ``problem_key``:

- within: cross-validation inside each data set; the predictions of all folds are judged together;
- pooled: one fifth of the problems of all data sets together is the test part, judged per data set;
- transfer: a family of data sets is left out of training, and its problems wherever they occur.

``prm800k_test`` has no wrong steps: it is trained on, never judged. The largest set is cut to ``--cap``
problems, those whose key hashes lowest. Steps without a rating are context only.

Labels come from weights chosen for macro-F1 on problems that the model did not learn, inside the training
part: three folds by problem for the scikit-learn models, the default's own three folds, the early-stopping
problems (a tenth) of the transformers; "majority" always answers the largest class. Log-loss is that of
P(negative). Intervals resample problems, in pairs for differences; the models stay as they are. Predictions
are kept in ``--work`` and read again by the next run: delete those of a model that changed.

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
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _common import RESULTS, load_steps_table, machine, print_table, versions, write_result
from _quality_models import DEFAULT, GROUPS, LABELS, MODELS, TRAINING, StepTable, predict
from _quality_report import Results, markdown, mean, measure, tables, together, values
from sklearn.model_selection import StratifiedGroupKFold

from prmkit.metrics.bootstrap import BootstrapResult, bootstrap_counts, problem_numbers

FAMILIES = ("prm800k", "processbench", "prmbench", "mr_ben", "bbm")
PROTOCOLS = ("within", "pooled", "transfer")
CAPPED = "prmbench_train_p1_first400"


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
                print(f"{split.protocol} {split.name}: {name}, {len(split.train)} rows, {seconds:.1f} s", flush=True)
                unfinished = path.with_name(f"{path.stem}.part.npz")
                np.savez(unfinished, test=split.test, proba=proba, weights=weights, seconds=[seconds, cpu])
                unfinished.replace(path)


def kept(folder: Path, split: Split, name: str) -> Path:
    model = "".join(letter if letter.isalnum() else "-" for letter in name)
    return folder / f"{split.protocol}-{split.name}-{model}.npz"


def judge(table: StepTable, todo: list[Split], names: list[str], folder: Path, resamples: int) -> Results:
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
            if 0 < (table.y[rows] == 0).sum() < len(rows):
                problems, n_problems = problem_numbers(table.problems[rows])
                measured = {
                    name: measure(table.y[rows], proba[name][rows], weighed[name][rows], problems) for name in names
                }
                rng = np.random.default_rng([0, number])
                results[protocol][dataset] = bootstrap_counts(together(measured), n_problems, resamples, rng)
        if results[protocol]:
            results[protocol]["mean"] = mean(list(results[protocol].values()))
    return results


def counts(table: StepTable) -> list[dict]:
    """What there is of each data set."""
    rows = []
    for dataset in dict.fromkeys(table.datasets.tolist()):
        y = table.y[table.datasets == dataset]
        solutions = sum(s.meta["dataset"] == dataset for s in table.solutions)
        n_problems = len(np.unique(table.problems[table.datasets == dataset]))
        n_of = dict(zip(("negative", "neutral", "positive"), np.bincount(y, minlength=3).tolist(), strict=True))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    path = write_result("quality", {"tables": shown, "values": values(results, names)})
    stamp = [f"`{key}`: {value}" for key, value in (("machine", machine()), ("versions", versions()))]
    command = " ".join(["python benchmarks/bench_quality.py", *sys.argv[1:]])
    notes = [
        f"Written {time.strftime('%Y-%m-%d')} by `{command}`.",
        *(line for text in stamp for line in ("", text)),
        "",
        (__doc__ or "").split("    python")[0].strip(),
        f"Look-ahead transformer and twin: {TRAINING}. {options.resamples} resamples, 95 % intervals.",
    ]
    (RESULTS / "quality.md").write_text(markdown(shown, notes), encoding="utf-8")
    print(f"\nwritten to {path} and quality.md")


if __name__ == "__main__":
    main()
