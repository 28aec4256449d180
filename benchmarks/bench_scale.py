"""How do time and memory grow with the number of steps, and with the length of a solution?

Made-up solutions: 1 to 19 steps, eight of each problem. Every task and size runs in a process of its own, on one core.
Memory is what the task adds to the process at its peak, beside the texts. Growth is the exponent of the CPU time in
the number of steps, fitted to the sizes from 3,000 on.

- data: ``flatten``, ``StepDataset`` and its groups, five folds by problem. Beside it records as dictionaries, groups by
  the text of the problem, and scikit-learn's ``StratifiedGroupKFold``.
- table: ``StepDataset.from_frame``. Beside it pandas' ``groupby`` into dictionaries, without any check.
- warm fit, warm predict: the default classifier with all embeddings in the cache. They are drawn, not encoded. Beside
  it TF-IDF of words and logistic regression on the same texts. Predictions are made in blocks of 10,000 steps. A fit
  holds 6 kB of features per step in memory, so a million steps do not fit into a laptop.
- long: one solution of the default, in a warm ``score_solutions``. The likeness to the nearest and the farthest
  earlier step is a product per pair of steps: 768 additions and multiplications, 64 steps at a time. So the time is not
  linear: the part of all pairs shows beyond some thousand steps. ``StepTransformer`` attends to all pairs in each
  layer, and so does every language model.

The warm fit must not grow faster than steps ** 1.1: else the command ends with status 1.

    python benchmarks/bench_scale.py             # some eight minutes on an idle machine
    python benchmarks/bench_scale.py --quick --no-write
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from _common import machine, print_table, versions, write_result

from prmkit import PRMClassifier, PRMFeaturizer, Solution, Step, StepDataset, StratifiedProblemKFold, flatten
from prmkit.features.encoding.cache import EmbeddingCache, encode_cached

SIZES = {
    "data": (1_000, 10_000, 100_000, 1_000_000),
    "table": (1_000, 10_000, 100_000, 1_000_000),
    "warm fit": (1_000, 3_000, 10_000, 30_000),
    "warm predict": (1_000, 10_000, 30_000),
    "long": (500, 1_000, 2_000, 5_000, 10_000),
    "long, StepTransformer": (500, 1_000, 2_000),
}
QUICK = {
    "data": (3_000, 30_000),
    "table": (3_000, 30_000),
    "warm fit": (1_500, 3_000, 6_000),
    "warm predict": (1_500, 3_000, 6_000),
    "long": (500, 1_000, 2_000),
    "long, StepTransformer": (500, 1_000),
}
MOST_GROWTH, FITTED_FROM, N_BLOCK, LARGEST_PEER = 1.1, 3_000, 10_000, 100_000
WORDS = ("then", "now", "so", "we", "know", "the", "sum", "of", "apples", "pears", "is", "half", "each", "bag", "some")

Work = Callable[[], object]


class DrawnVectors:
    """An encoder whose vectors follow from a checksum of the text. The cache cannot tell the difference."""

    fingerprint, dimension, token_limit = "drawn-vectors", 384, None

    def iter_encode(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield one batch."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for i, text in enumerate(texts):
            vectors[i] = np.random.default_rng(zlib.crc32(text.encode())).normal(size=self.dimension)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        yield np.arange(len(texts)), vectors, np.zeros(len(texts), dtype=bool)


class Drawn(PRMFeaturizer):
    """The featurizer with drawn vectors: all but the encoding."""

    def _encode(self, texts: list[str], place: Any = None) -> np.ndarray:
        return encode_cached(DrawnVectors(), texts, EmbeddingCache(), place)


def make_solutions(n_steps: int, seed: int = 0) -> tuple[list[Solution], np.ndarray]:
    """Return solutions with ``n_steps`` steps in all, and the ratings of their steps."""
    rng = np.random.default_rng(seed)
    solutions: list[Solution] = []
    n = 0
    while n < n_steps:
        length = int(min(rng.integers(1, 20), n_steps - n))
        numbers = rng.integers(1, 1000, size=(length, 2)).tolist()
        words = rng.integers(len(WORDS), size=(length, 12))
        steps = [
            f"{' '.join(WORDS[w] for w in row)}: {a} + {b} = {a + b + (a % 9 == 0)}."
            for (a, b), row in zip(numbers, words, strict=True)
        ]
        solutions.append(Solution(f"Problem {len(solutions) // 8}: how many are there in the end?", steps))
        n += length
    wrong = np.array([int(text.rsplit(": ", 1)[1].split()[0]) % 9 == 0 for one in solutions for text in one.steps])
    return solutions, np.where(wrong, -1, np.where(rng.random(n) < 0.3, 0, 1))


def data(n: int, peer: bool) -> Work:
    solutions, y = make_solutions(n)

    def ours() -> object:
        dataset = StepDataset(flatten(solutions), y)
        return dataset, list(StratifiedProblemKFold(5).split(dataset.X, dataset.y))

    def theirs() -> object:
        from sklearn.model_selection import StratifiedGroupKFold

        records = [
            {"problem": one.problem, "prefix": one.steps[:t], "step": step, "solution": number}
            for number, one in enumerate(solutions)
            for t, step in enumerate(one.steps)
        ]
        groups = [record["problem"] for record in records]
        return records, list(StratifiedGroupKFold(5).split(records, y, groups))

    return theirs if peer else ours


def table(n: int, peer: bool) -> Work:
    solutions, y = make_solutions(n)
    frame = StepDataset(flatten(solutions), y, solutions=solutions).to_frame()
    frame = frame[["problem", "solution", "index", "text", "y"]]

    def ours() -> object:
        return StepDataset.from_frame(frame, step="text", order="index", label="y", solution="solution")

    def theirs() -> object:
        ordered = frame.sort_values(["solution", "index"])
        return [
            {"problem": problem, "steps": part["text"].tolist(), "labels": part["y"].tolist()}
            for (_, problem), part in ordered.groupby(["solution", "problem"], sort=False)
        ]

    return theirs if peer else ours


def plain_model() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=150))


def default_model(X: list[Step]) -> PRMClassifier:
    """Return the default classifier, not fitted, with the vectors of all texts in its cache."""
    featurizer = Drawn(show_progress=False, context="prefix")
    for start in range(0, len(X), N_BLOCK):
        featurizer.transform(X[start : start + N_BLOCK])
    return PRMClassifier(featurizer, random_state=0)


def warm_fit(n: int, peer: bool) -> Work:
    solutions, y = make_solutions(n)
    X = flatten(solutions)
    if peer:
        return lambda: plain_model().fit([step.text for step in X], y)
    model = default_model(X)
    return lambda: model.fit(X, y)


def warm_predict(n: int, peer: bool) -> Work:
    (learnt, y), (solutions, _) = make_solutions(2_000, seed=1), make_solutions(n)
    X, learn = flatten(solutions), flatten(learnt)
    if peer:
        plain = plain_model().fit([step.text for step in learn], y)
        return lambda: plain.predict_proba([step.text for step in X])
    model = default_model(learn + X).fit(learn, y)
    return lambda: [model.predict_proba(X[start : start + N_BLOCK]) for start in range(0, n, N_BLOCK)]


def long(n: int, head: Any = None) -> Work:
    learnt, y = make_solutions(2_000, seed=1)
    steps = [text for one in make_solutions(n, seed=2)[0] for text in one.steps]
    solution, learn = Solution("How many are there in the end?", steps), flatten(learnt)
    model = default_model(learn + flatten([solution]))
    if head is not None:
        model.set_params(head=head, featurizer__context=None)
    model.fit(learn, y)
    return lambda: model.score_solutions([solution])


def run_one(task: str, n: int, peer: bool) -> dict[str, float]:
    """Do the work of one task, and return its time and memory."""
    if task.startswith("long"):
        from prmkit.models import StepTransformer

        work = long(n, StepTransformer(max_epochs=1, show_progress=False) if "Transformer" in task else None)
    else:
        makers = {"data": data, "table": table, "warm fit": warm_fit, "warm predict": warm_predict}
        work = makers[task](n, peer)
    unit = 1024 if sys.platform != "darwin" else 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    del result
    added = max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before)
    return {"cpu_seconds": cpu, "seconds": wall, "memory_mb": added / 1e6}


def in_process(task: str, n: int, peer: bool) -> dict[str, float]:
    """Run a task in a new process with one thread."""
    command = [sys.executable, __file__, "--one", task, str(n), *(["--peer"] if peer else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def growth(cpu: dict[int, float]) -> float | None:
    """Return the exponent of the time in the number of steps, fitted to the sizes that are not too small."""
    sizes = [n for n in cpu if n >= FITTED_FROM] if max(cpu) > FITTED_FROM else list(cpu)
    if len(sizes) < 2:
        return None
    return float(np.polyfit(np.log(sizes), np.log([cpu[n] for n in sizes]), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, about two minutes")
    parser.add_argument("--tasks", nargs="+", choices=list(SIZES), default=list(SIZES), metavar="TASK")
    parser.add_argument("--no-write", action="store_true", help="print only")
    parser.add_argument("--one", nargs=2, metavar=("TASK", "N"), help=argparse.SUPPRESS)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["PRMKIT_CACHE_DIR"] = folder
            print(json.dumps(run_one(options.one[0], int(options.one[1]), options.peer)))
        return
    rows: list[dict[str, Any]] = []
    for task in options.tasks:
        ways = [False] if task.startswith("long") else [False, True]
        found: dict[bool, dict[int, dict[str, float]]] = {peer: {} for peer in ways}
        for n in (QUICK if options.quick else SIZES)[task]:
            for peer in ways:
                if not peer or n <= LARGEST_PEER:
                    found[peer][n] = in_process(task, n, peer)
            one, other = found[False][n], found.get(True, {}).get(n, {})
            rows.append(
                {
                    "task": task,
                    "steps": n,
                    "seconds": one["seconds"],
                    "CPU us per step": 1e6 * one["cpu_seconds"] / n,
                    "MB": one["memory_mb"],
                    "growth": growth({n: m["cpu_seconds"] for n, m in found[False].items()}),
                    "peer's seconds": other.get("seconds"),
                    "peer's MB": other.get("memory_mb"),
                }
            )
            print(f"{task}, {n:,} steps: {one['seconds']:.3g} s", flush=True)
    print(f"\n{machine()}\n{versions()}\n")
    print_table(rows)
    if not options.no_write:
        path = write_result("scale", {"threads": 1, "growth_fitted_from": FITTED_FROM, "rows": rows})
        print(f"\nwritten to {path}")
    fits = [row["growth"] for row in rows if row["task"] == "warm fit" and row["growth"] is not None]
    if fits and fits[-1] > MOST_GROWTH:
        sys.exit(f"the warm fit grows as steps ** {fits[-1]:.2f}, expected {MOST_GROWTH} at most")


if __name__ == "__main__":
    main()
