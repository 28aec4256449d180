"""What does each view of the default model bring, what does it cost, and does ``views="auto"`` choose well?

The default with all its views, with one of them left out, and with ``views="auto"``, by problem:

- within: folds inside each data set, whose predictions are judged together;
- transfer: a family of data sets is left out of training, and its problems wherever they occur;
- topics: made steps that are wrong by their topic alone. Each noun occurs in one problem, so that words say nothing of
  other problems, and embeddings do. Here ``views="auto"`` must keep them.

AUROC and log loss are those of wrong steps, means over the data sets. Differences are "this row minus all views", with
95 % intervals that resample problems. Seconds are those of fits and predictions with an empty cache of embeddings, one
after the other on one machine.

    python benchmarks/bench_views.py                       # PRMKIT_DATA, else ../shared/data
    python benchmarks/bench_views.py --datasets bbm mr_ben_math --cap 30 --folds 2 --no-write
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

import numpy as np
from _common import machine, print_table, versions, write_result
from _quality_models import LABELS, StepTable
from bench_quality import Split, judged, read, splits
from sklearn.metrics import log_loss, roc_auc_score

from prmkit import PRMClassifier, Solution, Step, flatten
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
    """Return P(wrong) of the steps of a split, and what it cost, with an empty cache of embeddings."""
    X, y = [table.steps[i] for i in split.train], LABELS[table.y[split.train]]
    EmbeddingCache().clear()
    start = time.perf_counter()
    model = default(views, seed).fit(X, y)
    fitted = time.perf_counter()
    risks = model.predict_proba([table.steps[i] for i in split.test])[:, 0]
    cost = {"fit": fitted - start, "predict": time.perf_counter() - fitted}
    kept = model.view_report_.set_index("view")["kept"]
    return risks, {**cost, "embeddings kept": bool(kept.get("embeddings", False)), "rows": len(split.train)}


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


def costs(spent: dict[str, list[dict]]) -> list[dict]:
    """Return a row per model with the seconds of all its fits and predictions, and their shares of all views."""
    sums = {
        name: {part: sum(one[part] for one in of_splits) for part in ("fit", "predict")}
        for name, of_splits in spent.items()
    }
    whole = sums["all views"]
    return [
        {
            "views": name,
            "fit s": seconds["fit"],
            "predict s": seconds["predict"],
            "share of fit": seconds["fit"] / whole["fit"],
            "share of both": sum(seconds.values()) / sum(whole.values()),
            "embeddings kept": f"{sum(one['embeddings kept'] for one in spent[name])} of {len(spent[name])}",
        }
        for name, seconds in sums.items()
    ]


def made(resamples: int, seed: int) -> tuple[list[dict], list[dict]]:
    """Return quality and cost where embeddings decide: nouns of other problems tell what is wrong."""
    steps, labels = topics(2 * (len(LIVING) // 2), seed)
    solutions = list(dict.fromkeys(step.solution for step in steps))
    for solution in solutions:
        object.__setattr__(solution, "meta", {"dataset": "topics", "problem_key": solution.problem})
    ratings = iter(labels.tolist())
    table = StepTable(solutions, [[next(ratings) for _ in solution.steps] for solution in solutions])
    return judge(table, [one for one in splits(table, 3, seed) if one.protocol == "within"], resamples, seed)


def judge(table: StepTable, todo: list[Split], resamples: int, seed: int) -> tuple[list[dict], list[dict]]:
    """Fit every model on every split; return the tables of quality and of cost."""
    risks = {name: np.full(len(table.y), np.nan) for name in ROWS}
    spent: dict[str, list[dict]] = {name: [] for name in ROWS}
    for split in todo:
        for name, views in ROWS.items():
            risks[name][split.test], cost = predict(table, split, views, seed)
            spent[name].append(cost)
            print(f"{split.protocol} {split.name}: {name}, {cost}", flush=True)
    return quality(table, risks, resamples), costs(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="*", help="beginnings of names (default: all)")
    parser.add_argument("--protocols", nargs="*", choices=("within", "transfer", "topics"))
    parser.add_argument("--cap", type=int, default=120, help="problems of the largest data set (default: %(default)s)")
    parser.add_argument("--folds", type=int, default=3, help="within a data set (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=500, help="of problems (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-write", action="store_true", help="print only; do not write results/views.json")
    options = parser.parse_args()
    protocols = options.protocols or ["within", "transfer", "topics"]
    # The measured choice of a backend is kept there. The embeddings are deleted before each fit.
    cache = tempfile.TemporaryDirectory()
    os.environ["PRMKIT_CACHE_DIR"] = cache.name
    warm_up()
    tables: dict[str, list[dict]] = {}
    for protocol in protocols:
        if protocol == "topics":
            found = made(options.resamples, options.seed)
        else:
            table = read(options.datasets, options.cap)
            todo = [one for one in splits(table, options.folds, options.seed) if one.protocol == protocol]
            found = judge(table, todo, options.resamples, options.seed)
        tables[f"{protocol}: quality"], tables[f"{protocol}: cost, nothing cached"] = found
    for title, rows in tables.items():
        print(f"\n{title}\n")
        print_table(rows)
    print(f"\n{machine()}\n{versions()}")
    if not options.no_write:
        print(f"written to {write_result('views', {'tables': tables})}")


if __name__ == "__main__":
    main()
