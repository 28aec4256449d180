"""How fast are reasoning paths scored, and what does cross-validation cost?

Scoring, on real solutions, every way with the same fitted head (a causal transformer over step embeddings):

- path at a time: ``SentenceTransformer.encode`` of one solution's texts, then the head on that solution, as
  the scripts do that prmkit replaces;
- prmkit cold: ``score_solutions`` with the cache off;
- prmkit warm: ``score_solutions`` with the embeddings on disk.

The ways take turns, round by round, so that a busy moment of the machine hits all of them.

The default classifier, which also reads words and statistics, stands beside them. For batches of six solutions, nothing
cached, it stands beside ``SentenceTransformer.encode`` of one solution's texts and its own head on that solution.

Growth: the work of one solution with its number of steps, counted in positions of the head and of the encoder,
and timed; a pass per prefix would read n(n + 1)/2 steps.

Cross-validation: ``cross_val_score`` over five folds without and with the cache (empty at the start), beside
the least it could cost: one encode of the distinct texts and five fits of the head, on a plain head and on the
default classifier.

    python benchmarks/bench_scoring.py                   # PRMKIT_DATA, else ../shared/data
    python benchmarks/bench_scoring.py --solutions 60 --rounds 1 --cv-solutions 30
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from _common import load_steps_table, machine, print_table, versions, write_result
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from prmkit import PRMClassifier, PRMFeaturizer, Solution, StratifiedProblemKFold, flatten
from prmkit.data import make_arithmetic_solutions
from prmkit.features.encoding.encoder import TextEncoder
from prmkit.features.encoding.model_path import resolve_model
from prmkit.features.sequences import StepSequences
from prmkit.models import StepTransformer

BATCH = 6
PATH_AT_A_TIME, COLD, WARM = "path at a time", "prmkit, cold", "prmkit, warm cache"
DEFAULT_COLD, DEFAULT_WARM = "default classifier, cold", "default classifier, warm cache"


def labelled(solutions, ratings):
    """Flat X and y of the steps that have a rating."""
    X, y = [], []
    for solution, of_steps in zip(solutions, ratings, strict=True):
        for step, rating in zip(flatten([solution]), of_steps, strict=True):
            if rating is not None:
                X.append(step)
                y.append(rating)
    return X, np.array(y)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def path_at_a_time(sentence_transformer, clf: PRMClassifier, solutions: list[Solution]) -> list[np.ndarray]:
    """Encode and score one solution after the other; the head and its input are prmkit's."""
    proba = []
    for solution in solutions:
        values = sentence_transformer.encode([solution.problem, *solution.steps], show_progress_bar=False)
        n = solution.n_steps
        path = StepSequences(values, np.array([n + 1]), np.arange(1, n + 1), np.zeros(1, dtype=int))
        proba.append(clf.head_.predict_proba(path))
    return proba


def bench_scoring(train, solutions: list[Solution], rounds: int, folder: str) -> dict:
    from sentence_transformers import SentenceTransformer

    featurizer = PRMFeaturizer(cache_dir=folder, show_progress=False)
    head = StepTransformer(max_epochs=2, show_progress=False)
    clf = PRMClassifier(featurizer, head, random_state=0).fit(*labelled(*train))
    sentence_transformer = SentenceTransformer(str(resolve_model(featurizer.model)), device="cpu")

    default = PRMClassifier(clone(featurizer).set_params(context="prefix"), random_state=0).fit(*labelled(*train))

    def score(cache: bool, wanted: list[Solution], scorer: PRMClassifier = clf) -> list[np.ndarray]:
        encoder = scorer.featurizer_ or scorer.head_.views_["embeddings"]
        encoder.set_params(cache=cache)
        return [scored.proba for scored in scorer.score_solutions(wanted)]

    ways = {
        PATH_AT_A_TIME: lambda wanted: path_at_a_time(sentence_transformer, clf, wanted),
        COLD: lambda wanted: score(False, wanted),
        WARM: lambda wanted: score(True, wanted),
        DEFAULT_COLD: lambda wanted: score(False, wanted, default),
        DEFAULT_WARM: lambda wanted: score(True, wanted, default),
    }
    for way in ways.values():  # what is loaded and compiled on first use is nobody's running cost
        way(solutions[:8])
    score(True, solutions)  # fills the cache
    spent: dict[str, list[float]] = {name: [] for name in ways}
    answers: dict[str, list[np.ndarray]] = {}
    for number in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            answers[name] = way(solutions)
            spent[name].append(time.perf_counter() - start)
            print(f"round {number + 1} of {rounds}: {name} {spent[name][-1]:.2f} s", flush=True)
    n_steps = sum(solution.n_steps for solution in solutions)
    rows = [
        {
            "scoring": name,
            "seconds": median(spent[name]),
            "solutions/s": len(solutions) / median(spent[name]),
            "steps/s": n_steps / median(spent[name]),
            "times as fast": median(
                [one / other for one, other in zip(spent[PATH_AT_A_TIME], spent[name], strict=True)]
            ),
            "largest difference": None
            if name.startswith("default")
            else float(
                max(
                    np.abs(ours - theirs).max()
                    for ours, theirs in zip(answers[name], answers[PATH_AT_A_TIME], strict=True)
                )
            ),
        }
        for name in ways
    ]
    texts = {text for solution in solutions for text in (solution.problem, *solution.steps)}
    batches = [solutions[i : i + BATCH] for i in range(0, min(len(solutions), 10 * BATCH), BATCH)]
    small: dict[str, list[float]] = {PATH_AT_A_TIME: [], DEFAULT_COLD: []}
    for batch in batches * rounds:
        X, paths = flatten(batch), [flatten([one]) for one in batch]
        default.head_.views_["embeddings"].set_params(cache=True)
        start = time.perf_counter()
        for one, path in zip(batch, paths, strict=True):
            sentence_transformer.encode([one.problem, *one.steps], show_progress_bar=False)
            default.predict_proba(path)  # its texts are in the cache
        small[PATH_AT_A_TIME].append(time.perf_counter() - start)
        default.head_.views_["embeddings"].set_params(cache=False)
        small[DEFAULT_COLD].append(seconds(lambda X=X: default.predict_proba(X)))
    usual = sum(small[PATH_AT_A_TIME])
    in_sixes = [
        {"six solutions at a time": name, "seconds": sum(spent) / rounds, "times as fast": usual / sum(spent)}
        for name, spent in small.items()
    ]
    return {
        "rows": rows,
        "in_sixes": in_sixes,
        "rounds": spent,
        "solutions": len(solutions),
        "steps": n_steps,
        "distinct": len(texts),
    }


def bench_cosine(solutions: list[Solution]) -> dict:
    """How far the default precision is from float32, over the distinct texts."""
    texts = sorted({text for solution in solutions for text in (solution.problem, *solution.steps)})
    exact, fast = TextEncoder(dtype="float32").encode(texts), TextEncoder().encode(texts)
    norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(fast, axis=1)
    cosines = (exact.astype(float) * fast).sum(axis=1) / norms
    return {"texts": len(texts), "minimum": float(cosines.min()), "median": float(np.median(cosines))}


def bench_growth(lengths=(10, 20, 40, 80)) -> list[dict]:
    """Work and time of one solution as it gets longer, nothing cached."""
    featurizer = PRMFeaturizer(cache=False, show_progress=False)
    clf = PRMClassifier(featurizer, StepTransformer(max_epochs=1, show_progress=False), random_state=0)
    clf.fit(*make_arithmetic_solutions(20, 2, random_state=0))
    tokenizer = TextEncoder().tokenizer
    rows = []
    for n in lengths:
        solution = Solution(
            "How many apples are left?", [f"Then {t} + {t + 1} = {2 * t + 1} apples." for t in range(n)]
        )
        clf.score_solutions([solution])
        spent = [seconds(lambda solution=solution: clf.score_solutions([solution])) for _ in range(5)]
        texts = [solution.problem, *solution.steps]
        rows.append(
            {
                "steps": n,
                "texts encoded": len(set(texts)),
                "tokens read": sum(map(len, tokenizer(texts)["input_ids"])),
                "tokens by prefix": sum(len(tokenizer(" ".join(texts[: t + 1]))["input_ids"]) for t in range(1, n + 1)),
                "head positions": n + 1,
                "ms": 1000 * median(spent),
                "ms per step": 1000 * median(spent) / n,
            }
        )
    return rows


def bench_cross_validation(solutions, ratings, rounds: int) -> dict:
    """Cost of five folds beside one encode and five fits, for a plain head and for the default classifier."""
    X, y = labelled(solutions, ratings)
    splitter = StratifiedProblemKFold(5)
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=300))
    kinds = {"linear head": (linear, "problem"), "default classifier": (None, "prefix")}
    encoder = TextEncoder()
    texts = sorted({text for step in X for text in (step.problem, *step.prefix, step.text)})
    encoder.encode(texts[:8])

    def make(kind: str, **kwargs) -> PRMClassifier:
        head, context = kinds[kind]
        return PRMClassifier(PRMFeaturizer(context=context, show_progress=False, **kwargs), head, random_state=0)

    def five_fits(kind: str, folder: str) -> None:
        for train, _ in splitter.split(X, y):
            make(kind, cache_dir=folder).fit([X[i] for i in train], y[train])

    def cross_validate(kind: str, **kwargs) -> None:
        cross_val_score(make(kind, **kwargs), X, y, cv=splitter, scoring="accuracy")

    rows, all_spent = [], {}
    with tempfile.TemporaryDirectory() as full:
        for kind in kinds:
            make(kind, cache_dir=full).fit(X, y)
            spent: dict[str, list[float]] = {"encode": [], "fits": [], "cache": [], "no cache": []}
            for _ in range(rounds):
                with tempfile.TemporaryDirectory() as empty:
                    spent["encode"].append(seconds(lambda: encoder.encode(texts)))
                    spent["fits"].append(seconds(lambda kind=kind: five_fits(kind, full)))
                    spent["cache"].append(seconds(lambda kind=kind, empty=empty: cross_validate(kind, cache_dir=empty)))
                    spent["no cache"].append(seconds(lambda kind=kind: cross_validate(kind, cache=False)))
            encode, fits, with_cache, without = (median(times) for times in spent.values())
            for name, value in (
                ("one encode + five fits", encode + fits),
                ("cross_val_score, cache", with_cache),
                ("cross_val_score, no cache", without),
            ):
                rows.append(
                    {
                        "model": kind,
                        "cross-validation": name,
                        "seconds": value,
                        "times the least": value / (encode + fits),
                    }
                )
            all_spent[kind] = spent
    return {"rows": rows, "rounds": all_spent, "steps": len(X), "distinct": len(texts)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="*", default=["processbench", "prm800k"], help="beginnings of names")
    parser.add_argument("--solutions", type=int, default=600, help="to score (default: %(default)s)")
    parser.add_argument("--cv-solutions", type=int, default=300, help="to cross-validate on (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-write", action="store_true", help="print only; do not write results/scoring.json")
    options = parser.parse_args()

    solutions, ratings = load_steps_table(options.datasets)
    order = random.Random(options.seed).sample(range(len(solutions)), len(solutions))
    chosen = order[: options.solutions]
    for_fit = order[options.solutions : options.solutions + 100]
    train = [solutions[i] for i in for_fit], [ratings[i] for i in for_fit]
    scored = [solutions[i] for i in chosen]
    with tempfile.TemporaryDirectory() as folder:
        scoring = bench_scoring(train, scored, options.rounds, folder)
    cosine, growth = bench_cosine(scored), bench_growth()
    part = order[: options.cv_solutions]
    cross_validation = bench_cross_validation([solutions[i] for i in part], [ratings[i] for i in part], options.rounds)

    print(f"\n{machine()}\n{versions()}")
    print(f"data: {', '.join(options.datasets)}; {scoring['solutions']} solutions, {scoring['steps']} steps, ", end="")
    print(f"{scoring['distinct']} distinct texts; medians of {options.rounds} rounds\n")
    print_table(scoring["rows"])
    print()
    print_table(scoring["in_sixes"])
    print(f"\ncosine of embeddings to float32: minimum {cosine['minimum']:.6f} over {cosine['texts']} texts\n")
    print_table(growth)
    print()
    print_table(cross_validation["rows"])
    if not options.no_write:
        result = {
            "data": options.datasets,
            "scoring": scoring,
            "cosine": cosine,
            "growth": growth,
            "cross_validation": cross_validation,
        }
        print(f"\nwritten to {write_result('scoring', result)}")


if __name__ == "__main__":
    main()
