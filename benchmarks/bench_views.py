"""What does each view of the default model bring, what does it cost, and does ``views="auto"`` choose well?

The default with all its views, with one of them left out, and with ``views="auto"``, by problem:

- within: folds inside each data set, whose predictions are judged together;
- transfer: a family of data sets is left out of training, and its problems wherever they occur;
- topics: made steps that are wrong by their topic alone. Each noun occurs in one problem, so that words say nothing of
  other problems, and embeddings do. Here ``views="auto"`` must keep them.

AUROC and log loss are those of wrong steps, means over the data sets. Differences are "this row minus all views", with
95 % intervals that resample problems. For these tables each text is encoded once.

- cost: a fit on four fifths of all problems and a prediction of the others, each with an empty cache of embeddings, for
  all views, for ``views="auto"``, and without embeddings, so without a trial of them. Seconds of the clock and of all
  cores. Other work changes the second less.

    python benchmarks/bench_views.py                       # PRMKIT_DATA, else ../shared/data
    python benchmarks/bench_views.py --datasets bbm mr_ben_math --cap 30 --folds 2 --no-write
    python benchmarks/bench_views.py --protocols cost --cap 10000 --no-write   # all problems that there are
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time

import numpy as np
from _common import RESULTS, machine, print_table, versions, write_result
from _quality_models import LABELS, StepTable
from bench_quality import Split, judged, read, splits
from sklearn.metrics import log_loss, roc_auc_score

from prmkit import PRMClassifier, PRMFeaturizer, Solution, Step, flatten
from prmkit.features.encoding.cache import EmbeddingCache
from prmkit.metrics.bootstrap import bootstrap_by_problem

ALL = ("statistics", "words", "embeddings")
ROWS = {
    "all views": ALL,
    "auto (the default)": "auto",
    "without embeddings": ("statistics", "words"),
    "without words": ("statistics", "embeddings"),
    "without statistics": ("words", "embeddings"),
}
PROTOCOLS = ("within", "transfer", "topics", "cost")
# Two fields of meaning. Each noun stands in one problem.
_LIVING = """
otter badger heron salmon beetle lizard panther walrus sparrow trout hedgehog falcon turtle jackal moth mackerel
gorilla pelican ferret crab weasel antelope dolphin owl python squirrel hornet lynx goose shrimp bison raven toad
leopard cricket mole stork eel camel wasp hyena robin squid gazelle donkey newt vulture carp lemur pigeon hamster
shark buffalo gecko swan tuna rabbit crocodile finch octopus moose parrot ant seal jaguar frog hawk pike reindeer
flea ostrich herring puma snail crow giraffe bat lobster kangaroo dove mule spider cod baboon partridge
"""
LIVING = _LIVING.split()
_MADE = """
hammer violin tractor lantern sofa piston kettle ladder helmet printer wrench trumpet bicycle candle wardrobe
gearbox saucepan scaffold bucket keyboard chisel piano lorry mirror armchair turbine teapot crane basket router
pliers flute tram curtain bench carburettor ladle pulley barrel monitor screwdriver cello ferry carpet stool
radiator skillet winch crate modem drill guitar scooter chandelier shelf alternator colander hoist suitcase scanner
spanner oboe yacht pillow cupboard flywheel corkscrew conveyor envelope telephone anvil harp canoe blanket desk
generator whisk elevator parcel camera axe drum airship rug dresser crankshaft funnel forklift briefcase amplifier
"""
MADE = _MADE.split()


def topics(n_problems: int, seed: int) -> tuple[list[Step], np.ndarray]:
    """Return steps that are wrong if they name a made thing, and mostly right if they name a living one."""
    rng = np.random.default_rng(seed)
    living = rng.random(n_problems) < 0.5
    nouns = {kind: rng.permutation(words) for kind, words in ((True, LIVING), (False, MADE))}
    n_of = {True: 0, False: 0}
    solutions, labels = [], []
    for problem, is_living in enumerate(living):
        kind = nouns[bool(is_living)]
        first, second = (kind[(n_of[bool(is_living)] + i) % len(kind)] for i in (0, 1))
        n_of[bool(is_living)] += 2
        solutions.append(Solution(f"Case {problem}", [f"We see the {first}.", f"So it is a {second}."]))
        labels += np.where(rng.random(2) < 0.1, is_living, not is_living).tolist()
    return flatten(solutions), np.where(labels, -1, 1)


def default(views: str | tuple[str, ...], seed: int) -> PRMClassifier:
    return PRMClassifier(views=views, random_state=seed)


def predict(table: StepTable, split: Split, views: str | tuple[str, ...], seed: int) -> tuple[np.ndarray, dict]:
    """Return P(wrong) of the steps of a split, and what it cost."""
    X, y = [table.steps[i] for i in split.train], LABELS[table.y[split.train]]
    start = now()
    model = default(views, seed).fit(X, y)
    fitted = now()
    risks = model.predict_proba([table.steps[i] for i in split.test])[:, 0]
    report = model.view_report_.set_index("view")
    found = {"fit": fitted - start, "predict": now() - fitted, "rows": len(split.train), "judged": len(split.test)}
    return risks, {**found, "kept": ", ".join(report.index[report.kept])}


def now() -> np.ndarray:
    """Return the seconds of the clock and of all cores of this process."""
    return np.array([time.perf_counter(), time.process_time()])


def encode(table: StepTable) -> None:
    """Encode each text once, into the cache."""
    PRMFeaturizer(context="prefix", show_progress=False).fit_transform(table.steps)


def warm_up() -> None:
    """Load what a first use loads, so that no row pays for it."""
    X, y = topics(30, 0)
    default(ALL, 0).fit(X, y)


def quality(table: StepTable, risks: dict[str, np.ndarray], resamples: int) -> list[dict]:
    """Return a row per model: means over data sets, and the differences to all views, resampled by problem."""
    known = ~np.isnan(risks["all views"])
    names = [name for name in judged(table) if (table.y[known & (table.datasets == name)] == 0).sum() > 0]

    def statistic(
        wrong: np.ndarray, datasets: np.ndarray, *columns: np.ndarray, sample_weight: np.ndarray
    ) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for model, risk in zip(risks, columns, strict=True):
            of_sets = [
                (wrong[own], risk[own], sample_weight[own]) for own in (datasets == i for i in range(len(names)))
            ]
            if any(len(np.unique(truth[weight > 0])) < 2 for truth, _, weight in of_sets):
                return {f"{model}:{what}": None for model in risks for what in ("auroc", "log loss")}
            found[f"{model}:auroc"] = float(
                np.mean([roc_auc_score(truth, risk, sample_weight=weight) for truth, risk, weight in of_sets])
            )
            found[f"{model}:log loss"] = float(
                np.mean([log_loss(truth, risk, sample_weight=weight) for truth, risk, weight in of_sets])
            )
        return found

    rows = known & np.isin(table.datasets, names)
    numbers = np.array([names.index(name) for name in table.datasets[rows]])
    arrays = [np.clip(risk[rows], 1e-6, 1 - 1e-6) for risk in risks.values()]
    result = bootstrap_by_problem(
        statistic, table.problems[rows], table.y[rows] == 0, numbers, *arrays, n_resamples=resamples
    )
    return [
        {
            "views": model,
            "AUROC": str(result.interval(f"{model}:auroc")),
            "minus all views": "" if model == "all views" else signed(result, model, "auroc"),
            "log loss": f"{result.estimates[f'{model}:log loss']:.4f}",
            "its difference": "" if model == "all views" else signed(result, model, "log loss"),
        }
        for model in risks
    ]


def signed(result, model: str, what: str) -> str:
    found = result.difference(f"{model}:{what}", f"all views:{what}")
    return f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def costs(table: StepTable, seed: int) -> list[dict]:
    """Return what a cold fit and a cold prediction cost with all views and with those that help."""
    split = next(one for one in splits(table, 2, seed) if one.protocol == "pooled")
    rows: list[dict] = []
    for name in ("all views", "auto (the default)", "without embeddings"):
        EmbeddingCache().clear()
        _, cost = predict(table, split, ROWS[name], seed)
        rows.append({"views": name, "kept": cost["kept"]})
        for part, n_steps in (("fit", cost["rows"]), ("predict", cost["judged"])):
            for i, unit in enumerate(("s", "CPU s")):
                rows[-1] |= {f"{part} {n_steps:,} steps, {unit}": float(cost[part][i])}
    for row in rows:
        row |= {
            f"share, {key.rpartition(', ')[2]} of {key.split()[0]}": row[key] / rows[0][key] for key in list(row)[2:]
        }
    return rows


def made(seed: int) -> StepTable:
    """Return steps of which embeddings decide: nouns of other problems tell what is wrong."""
    steps, labels = topics(2 * (len(LIVING) // 2), seed)
    solutions = list(dict.fromkeys(step.solution for step in steps))
    for solution in solutions:
        object.__setattr__(solution, "meta", {"dataset": "topics", "problem_key": solution.problem})
    ratings = iter(labels.tolist())
    return StepTable(solutions, [[next(ratings) for _ in solution.steps] for solution in solutions])


def judge(table: StepTable, todo: list[Split], resamples: int, seed: int) -> list[dict]:
    """Fit every model on every split; return the table of quality."""
    risks = {name: np.full(len(table.y), np.nan) for name in ROWS}
    n_kept = dict.fromkeys(ROWS, 0)
    for split in todo:
        for name, views in ROWS.items():
            risks[name][split.test], cost = predict(table, split, views, seed)
            n_kept[name] += "embeddings" in cost["kept"]
            print(f"{split.protocol} {split.name}: {name}, {cost['fit'][0]:.1f} s, kept {cost['kept']}", flush=True)
    rows = quality(table, risks, resamples)
    return [{**row, "embeddings kept": f"{n_kept[row['views']]} of {len(todo)} fits"} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="*", help="beginnings of names (default: all)")
    parser.add_argument("--protocols", nargs="*", choices=PROTOCOLS)
    parser.add_argument("--cap", type=int, default=120, help="problems of the largest data set (default: %(default)s)")
    parser.add_argument("--folds", type=int, default=3, help="within a data set (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=500, help="of problems (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--add", action="store_true", help="keep the tables in results/views.json that this run lacks")
    parser.add_argument("--no-write", action="store_true", help="print only; do not write results/views.json")
    options = parser.parse_args()
    # The measured choice of a backend is kept there too.
    cache = tempfile.TemporaryDirectory()
    os.environ["PRMKIT_CACHE_DIR"] = cache.name
    warm_up()
    tables: dict[str, list[dict]] = {}
    protocols = options.protocols or list(PROTOCOLS)
    table = read(options.datasets, options.cap)
    if set(protocols) & {"within", "transfer"}:
        encode(table)
    for protocol in protocols:
        if protocol == "cost":
            tables["cost, nothing cached"] = costs(table, options.seed)
            continue
        of_protocol = made(options.seed) if protocol == "topics" else table
        folds = 3 if protocol == "topics" else options.folds
        wanted = "within" if protocol == "topics" else protocol
        todo = [one for one in splits(of_protocol, folds, options.seed) if one.protocol == wanted]
        if todo:
            tables[f"{protocol}: quality"] = judge(of_protocol, todo, options.resamples, options.seed)
    for title, rows in tables.items():
        print(f"\n{title}\n")
        print_table(rows)
    print(f"\n{machine()}\n{versions()}")
    if not options.no_write:
        known = json.loads((RESULTS / "views.json").read_text())["tables"] if options.add else {}
        print(f"written to {write_result('views', {'tables': known | tables})}")


if __name__ == "__main__":
    main()
