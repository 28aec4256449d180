"""What are the states of a frozen language model worth, and what do they cost?

Visible data: the sample of PRM800K, PRMBench, ProcessBench (gsm8k, math) and Mr-Ben math, at most ``--cap`` problems of
each data set. Three protocols, always by problem, as in bench_quality.py: within a data set (folds), pooled (a fifth of
all problems) and transfer (a family of data sets is left out of training).

Compared are position and length; log-probabilities; states by pooling and layer; the default model on text; and both
together, as views of one stack and as a sum of standardised log-odds. Layers, thresholds and the scale of log-odds come
from out-of-fold predictions (three folds by problem) on the training part. So macro-F1 is at a threshold that training
problems chose for it, and so is the F1 of first errors ("ProcessBench F1"). Nothing is chosen on what is reported.
Intervals resample problems, in pairs for differences; the models stay as they are.

Every array and prediction is kept in ``--work``. A run that was killed goes on there.

    python benchmarks/bench_states.py --work FOLDER --model FOLDER_OF_SMOLLM2 --device cuda
    python benchmarks/bench_states.py --work FOLDER --random-tiny --limit 6 --resamples 20 --no-write
    python benchmarks/bench_states.py --work FOLDER --random-1.5b --device cuda --dtype bfloat16 --only cost
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from typing import Any

import numpy as np
from _common import RESULTS, machine, print_table, versions, write_result
from _quality_models import LABELS
from _quality_report import markdown, signed
from _state_costs import costs, view_costs
from _state_models import (
    DEFAULT,
    SUMS,
    Data,
    Model,
    add_arguments,
    check_arguments,
    fit,
    models,
    path_of,
    prepare,
    read,
    summed,
    thresholds,
)
from bench_quality import PROTOCOLS, Split, judged, splits
from joblib import Parallel, cpu_count, delayed

from prmkit.metrics.bootstrap import BootstrapResult, bootstrap_counts, problem_numbers
from prmkit.metrics.steps.step_metrics import WeightedStepMetrics

POOLINGS = ("mean", "last", "statistics", "tokens")
METRICS = {"auroc": "AUROC", "average_precision": "AP", "macro_f1": "macro-F1", "first_error": "ProcessBench F1"}
MAJORITY = "majority"
GPU_JOBS = 6


def run(data: Data, todo: list[Split], wanted: list[Model], options: argparse.Namespace) -> list[str]:
    """Fit what the folder does not hold, several models at a time. Those of torch come last."""
    jobs = [
        (split, model)
        for model in wanted
        for split in todo
        if all(map(data.has, model.needs)) and not path_of(data.folder, split, model.name).exists()
    ]
    on_device = (options.device or "cpu") != "cpu"
    # The longest first, so that no core waits for the last of them. Few processes share a GPU.
    jobs.sort(key=lambda job: -len(job[0].train) * len(job[1].candidates))
    told = []
    for wants, n_jobs in ((False, options.jobs), (True, min(options.jobs, GPU_JOBS) if on_device else options.jobs)):
        device = options.device if wants else "cpu"
        told += Parallel(n_jobs=n_jobs)(
            delayed(fit)(options.cap, data.folder, device, split, model, options.seed)
            for split, model in jobs
            if model.on_device == wants
        )
    return [fault for fault in told if fault]


def measure(
    data: Data, rows: np.ndarray, problems: np.ndarray, risk: np.ndarray, called: np.ndarray, flags: np.ndarray
):
    """Return the metrics of one model as a function of how often each problem counts."""
    risk = np.clip(risk, 0.0, 1.0)
    other = (data.table.y[rows] != 0).astype(int)
    steps = WeightedStepMetrics(
        other, np.column_stack([risk, 1 - risk]), (~called).astype(int), problems, ("negative", "other")
    )
    place = np.full(len(data.table.y), -1)
    place[rows] = np.arange(len(rows))
    ends = [(place[own], first) for own, first, _ in data.first_errors if (place[own] >= 0).all()]
    first = np.array([first for _, first in ends], dtype=int)
    of_problem = np.array([problems[own[0]] for own, _ in ends], dtype=int)
    found = np.array([int(flags[own].argmax()) if flags[own].any() else -1 for own, _ in ends], dtype=int)

    def metrics(counts: np.ndarray) -> dict[str, float | None]:
        known = steps(counts)
        values = {name: known[name] for name in ("auroc", "average_precision", "macro_f1")}
        shares = []
        for part in (first >= 0, first < 0):
            weight = counts[of_problem[part]] if len(first) else np.zeros(0)
            right = (found == first)[part]
            shares.append(float((weight * right).sum() / weight.sum()) if weight.sum() else None)
        a, b = shares
        values["first_error"] = None if a is None or b is None else 2 * a * b / (a + b) if a + b else 0.0
        return values

    return metrics


def judge(data: Data, todo: list[Split], names: list[str], options: argparse.Namespace) -> dict[str, dict]:
    """Metrics of every model per protocol and data set, and their mean, with the resamples behind them."""
    results: dict[str, dict[str, BootstrapResult]] = {}
    n_rows = len(data.table.y)
    for protocol in PROTOCOLS:
        own = [split for split in todo if split.protocol == protocol]
        names_here = [name for name in names if all(path_of(data.folder, split, name).exists() for split in own)]
        kept: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {
            name: (np.full(n_rows, np.nan), np.zeros(n_rows, bool), np.zeros(n_rows, bool))
            for name in [MAJORITY, *names_here, *(s for s, parts in SUMS.items() if set(parts) <= set(names_here))]
        }
        for split in own:
            found = {}
            for name in names_here:
                with np.load(path_of(data.folder, split, name)) as saved:
                    if not np.array_equal(saved["test"], split.test):
                        sys.exit(f"{path_of(data.folder, split, name)} is of other data: use another --work")
                    found[name] = {"unseen": saved["unseen"], "risk": saved["risk"]}
            found |= {name: summed(*(found[part] for part in SUMS[name])) for name in kept if name in SUMS}
            for name, one in found.items():
                of_steps, of_first = thresholds(data, split.train, one["unseen"])
                risk, called, flags = kept[name]
                risk[split.test] = one["risk"]
                called[split.test] = one["risk"] > of_steps
                flags[split.test] = one["risk"] > of_first
            kept[MAJORITY][0][split.test] = (data.table.y[split.train] == 0).mean()
        results[protocol] = {}
        for number, dataset in enumerate(judged(data.table)):
            rows = np.flatnonzero((data.table.datasets == dataset) & ~np.isnan(kept[MAJORITY][0]))
            if not 0 < (data.table.y[rows] == 0).sum() < len(rows):
                continue
            problems, n_problems = problem_numbers(data.table.problems[rows])
            if n_problems < 2:
                continue
            measured = {
                name: measure(data, rows, problems, *(array[rows] for array in arrays)) for name, arrays in kept.items()
            }

            def together(counts: np.ndarray, measured: dict[str, Any] = measured) -> dict[str, float | None]:
                return {f"{name}/{key}": value for name, of in measured.items() for key, value in of(counts).items()}

            rng = np.random.default_rng([0, number])
            results[protocol][dataset] = bootstrap_counts(together, n_problems, options.resamples, rng)
        if results[protocol]:
            results[protocol]["mean"] = mean(results[protocol])
    return results


def mean(results: dict[str, BootstrapResult]) -> BootstrapResult:
    """The plain mean over data sets; of the F1 of first errors over those of ProcessBench alone."""
    estimates, replicates = {}, {}
    for name in next(iter(results.values())).estimates:
        parts = [
            one
            for dataset, one in results.items()
            if one.estimates[name] is not None and (dataset.startswith("processbench") or "first_error" not in name)
        ]
        estimates[name] = float(np.mean([one.estimates[name] for one in parts])) if parts else None
        empty = np.full_like(next(iter(results.values())).replicates[name], np.nan)
        replicates[name] = np.mean([one.replicates[name] for one in parts], axis=0) if parts else empty
    return BootstrapResult(estimates, replicates)


def model_names(result: BootstrapResult) -> list[str]:
    return list(dict.fromkeys(name.rpartition("/")[0] for name in result.estimates))


def tables(results: dict[str, dict[str, BootstrapResult]]) -> dict[str, list[dict[str, Any]]]:
    """Every table of quality, by its title."""
    shown: dict[str, list[dict[str, Any]]] = {}
    for protocol, per_dataset in results.items():
        if not per_dataset:
            continue
        average, names = per_dataset["mean"], model_names(per_dataset["mean"])
        rows = []
        for name in names:
            row = {"model": name} | {
                title: average.interval(f"{name}/{key}").to_text("–") for key, title in METRICS.items()
            }
            if DEFAULT in names:
                difference = average.difference(f"{name}/auroc", f"{DEFAULT}/auroc")
                row["AUROC − default's"] = "" if name == DEFAULT else signed(difference)
            rows.append(row)
        shown[f"{protocol}: mean over {len(per_dataset) - 1} data sets"] = rows
        for key in ("auroc", "first_error"):
            shown[f"{protocol}, {METRICS[key]} per data set"] = [
                {"model": name}
                | {dataset: _number(one.estimates[f"{name}/{key}"]) for dataset, one in per_dataset.items()}
                for name in names
            ]
    return shown


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def what_was_chosen(data: Data, todo: list[Split], wanted: list[Model]) -> list[dict[str, Any]]:
    """How often each candidate was chosen inside, by the numbers of the layers, and the seconds of all fits."""
    rows = []
    for model in wanted:
        counts, seconds = Counter(), 0.0
        for split in todo:
            path = path_of(data.folder, split, model.name)
            if path.exists():
                with np.load(path) as saved:
                    counts[str(saved["chosen"])] += 1
                    seconds += float(saved["seconds"])
        if counts:
            named = [f"{_layers(data, text)} ({n}×)" for text, n in counts.most_common() if text]
            rows.append({"model": model.name, "layers chosen inside": ", ".join(named), "seconds of all fits": seconds})
    return rows


def _layers(data: Data, text: str) -> str:
    places = [int(number) for number in text.strip("(),").replace(" ", "").split(",")]
    return " + ".join(str(data.layers[place]) for place in places)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--poolings", nargs="*", choices=POOLINGS, default=list(POOLINGS))
    parser.add_argument("--models", nargs="*", help="beginnings of the names of rows (default: all)")
    parser.add_argument("--protocols", nargs="*", choices=PROTOCOLS, default=list(PROTOCOLS))
    parser.add_argument("--only", choices=("quality", "cost"), help="one part (default: both)")
    parser.add_argument("--cold-views", action="store_true", help="time the default with and without views='auto' too")
    parser.add_argument("--folds", type=int, default=3, help="within a data set (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=cpu_count(), help="processes (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=500, help="of problems (default: %(default)s)")
    parser.add_argument("--name", default="states", help="of the files in benchmarks/results (default: %(default)s)")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args()
    check_arguments(options)

    shown: dict[str, list[dict[str, Any]]] = {}
    numbers: dict[str, Any] = {}
    if options.only != "cost" and not options.random_large:
        data, seconds = prepare(options, options.poolings)
        wanted = models(len(data.layers))
        if options.models:
            wanted = [model for model in wanted if model.name.startswith(tuple(options.models))]
        todo = [
            split._replace(name=f"{split.name}-of-{options.folds}") if split.protocol == "within" else split
            for split in splits(data.table, options.folds, options.seed)
            if split.protocol in options.protocols
        ]
        faults = run(data, todo, wanted, options)
        results = judge(data, todo, [model.name for model in wanted], options)
        shown |= tables(results)
        shown["layers"] = what_was_chosen(data, todo, wanted)
        if faults:
            # The same fault of a model in several splits is one line.
            told = Counter(fault.partition(", ")[2][:300] for fault in faults)
            shown["rows that could not be fitted"] = [{"fault": fault, "splits": n} for fault, n in told.items()]
        numbers = {
            protocol: {
                dataset: {name: _number(value) for name, value in one.estimates.items()}
                for dataset, one in per_dataset.items()
            }
            for protocol, per_dataset in results.items()
        } | {"seconds of reading": seconds}
    if options.only != "quality":
        shown["cost"] = costs(options.model, options.device, options.dtype, large=options.random_large)
    if options.cold_views:
        table = read(options.cap)
        shown["cost of the default's views"] = view_costs(table.steps, LABELS[table.y])
    for title, rows in shown.items():
        print(f"\n{title}\n")
        print_table(rows)
    if options.no_write:
        return
    name = f"{options.name}_1.5b" if options.random_large else options.name
    path = write_result(name, {"model": options.model, "tables": shown, "values": numbers})
    stamp = [f"`{key}`: {value}" for key, value in (("machine", machine()), ("versions", versions()))]
    command = " ".join(["python benchmarks/bench_states.py", *sys.argv[1:]])
    notes = [
        f"Written {time.strftime('%Y-%m-%d')} by `{command}`.",
        *(line for text in stamp for line in ("", text)),
        "",
        (__doc__ or "").split("    python")[0].strip(),
        f"Model: {options.model}. {options.resamples} resamples, 95 % intervals.",
    ]
    title = "What the states of a frozen language model are worth"
    (RESULTS / f"{name}.md").write_text(markdown(shown, notes, title), encoding="utf-8")
    print(f"\nwritten to {path} and {name}.md")


if __name__ == "__main__":
    main()
