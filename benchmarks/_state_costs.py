"""What states cost: the rate of extraction, a grid over heads, the bytes of the cache; and models of random weights."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from _common import load_steps_table
from _state_models import DEPTHS, states_featurizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from prmkit import PRMClassifier, Solution, Step, StratifiedProblemKFold, flatten, problem_groups

N_HEADS, N_FOLDS = 6, 5


def product_rate(dtype: str, device: str) -> float:
    """Return the operations per second of a product of two matrices of 2,048 by 2,048, the best of some."""
    import torch

    size = 8192 if device.startswith("cuda") else 2048
    left, right = (torch.randn(size, size, device=device).to(getattr(torch, dtype)) for _ in range(2))

    def product() -> None:
        torch.matmul(left, right)
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    product()
    return 2 * size**3 / min(_seconds(product) for _ in range(7))


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def operations(model: str, lengths: Sequence[tuple[int, int]]) -> float:
    """Return the operations of one pass over beginnings and what follows, without the layer that names words.

    ``lengths`` holds the tokens of a solution, and those before it that were computed already.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model)
    width, head = config.hidden_size, config.hidden_size // config.num_attention_heads
    keys = 2 * head * config.num_key_value_heads
    weights = width * (2 * width + keys + 3 * config.intermediate_size)
    total = 0.0
    for own, before in lengths:
        # Each token meets itself and those before it, twice: once for the weights and once for the values.
        pairs = own * before + own * (own + 1) / 2
        total += config.num_hidden_layers * (2 * weights * own + 4 * width * pairs)
    return total


def costs(model: str, device: str | None, dtype: str | None, *, large: bool) -> list[dict[str, Any]]:
    """Measure the cost of states on solutions of ProcessBench."""
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    rows: list[dict[str, Any]] = []
    solutions, ratings = load_steps_table(["processbench"])
    n_solutions = len(solutions) if device != "cpu" else 40
    dtype = dtype or ("bfloat16" if large else "float32")
    shuffled = np.random.default_rng(0).permutation(len(solutions)).tolist()
    order = shuffled[:n_solutions]
    chosen = [solutions[i] for i in order]
    # One solution of a problem shares no beginning with another one.
    alone = list({solutions[i].problem: solutions[i] for i in shuffled}.values())[:n_solutions]
    for name, of_rate in (("some share a problem", chosen), ("none share a problem", alone)):
        rows += _rate(model, device, dtype, of_rate, name)
    if large:
        return rows
    X, y = _labelled(chosen, [ratings[i] for i in order])
    return rows + _grid(model, device, dtype, X, y, len(chosen))


def _labelled(solutions: Sequence[Solution], ratings: Sequence[Sequence[int | None]]) -> tuple[list[Step], np.ndarray]:
    every, rated = flatten(solutions), [rating for of_solution in ratings for rating in of_solution]
    known = [i for i, rating in enumerate(rated) if rating is not None]
    return [every[i] for i in known], np.array([rated[i] for i in known]) == -1


def _rate(model: str, device: str, dtype: str, solutions: list[Solution], name: str) -> list[dict[str, Any]]:
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = tokenizer(["\n\n".join(one.steps) for one in solutions], verbose=False)["input_ids"]
    problems = dict.fromkeys(one.problem for one in solutions)
    of_problem = {text: len(tokenizer(text, verbose=False)["input_ids"]) for text in problems}
    own = [(len(one), of_problem[solution.problem]) for one, solution in zip(ids, solutions, strict=True)]
    lengths = own + [(n, 0) for n in of_problem.values()]
    layer = max(1, round(DEPTHS[2] * AutoConfig.from_pretrained(model).num_hidden_layers))
    n_layers = AutoConfig.from_pretrained(model).num_hidden_layers
    X = flatten(solutions)
    featurizer = states_featurizer(model, layer=n_layers, pooling="mean", device=device, dtype=dtype, cache=False)
    featurizer.fit_transform(flatten(solutions[:2]))  # loads the weights
    peak = product_rate(dtype, device)
    seconds = min(_seconds(lambda: featurizer.transform(X)) for _ in range(2))
    peak = max(peak, product_rate(dtype, device))
    tokens = sum(n for n, _ in lengths)
    rate = operations(model, lengths) / seconds
    return [
        {"what": f"extraction, {dtype}, {name}: tokens per second", "value": tokens / seconds},
        {"what": f"extraction, {dtype}, {name}: 10^9 operations per second", "value": rate / 1e9},
        {"what": f"matrix product, {dtype}: 10^9 operations per second", "value": peak / 1e9},
        {"what": f"extraction as a share of the matrix product, {name}", "value": rate / peak},
        {"what": f"of {n_layers} layers; layer {layer} alone needs", "value": layer / n_layers},
    ]


def _grid(model: str, device: str, dtype: str, X: list[Step], y: np.ndarray, n_solutions: int) -> list[dict[str, Any]]:
    """Time 6 heads in 5 folds with an empty cache, beside one extraction and the fits alone."""
    from transformers import AutoConfig

    layer = max(1, round(DEPTHS[2] * AutoConfig.from_pretrained(model).num_hidden_layers))
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=100, tol=1e-3))
    grid = {"C": [10.0**-power for power in range(N_HEADS)]}
    options = {"layer": layer, "pooling": "mean", "device": device, "dtype": dtype}
    folds = StratifiedProblemKFold(N_FOLDS)

    with _empty_cache() as folder:
        featurizer = states_featurizer(model, **options)
        featurizer.fit_transform(X[:2])  # loads the weights
        start = time.perf_counter()
        rows = featurizer.transform(X)
        extraction = time.perf_counter() - start
        bytes_kept = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    splits = list(folds.split(X, y, problem_groups(X)))
    alone = GridSearchCV(head, {f"logisticregression__{k}": v for k, v in grid.items()}, cv=splits, scoring="roc_auc")
    fits = _seconds(lambda: alone.fit(rows, y))
    with _empty_cache():
        clf = PRMClassifier(states_featurizer(model, **options), head)
        names = {f"head__logisticregression__{k}": v for k, v in grid.items()}
        search = GridSearchCV(clf, names, cv=folds, scoring="roc_auc")
        whole = _seconds(lambda: search.fit(X, y))
    return [
        {"what": f"one extraction of {n_solutions} solutions, seconds", "value": extraction},
        {"what": f"the fits of {N_HEADS} heads × {N_FOLDS} folds alone, seconds", "value": fits},
        {"what": "the same through PRMClassifier with an empty cache, seconds", "value": whole},
        {"what": "(all − the fits) / one extraction", "value": (whole - fits) / extraction},
        {"what": "cache of one pooled layer, MB per 1,000 solutions", "value": bytes_kept / 1e3 / n_solutions},
    ]


def view_costs(steps: list[Step], y: np.ndarray) -> list[dict[str, Any]]:
    """Time the default with all views and with those that help, each with an empty cache, on nine tenths of the steps.

    The last tenth is predicted, which is cold too.
    """
    problems = problem_groups(steps)
    known = problems % 10 > 0
    learn, check = ([steps[i] for i in np.flatnonzero(part)] for part in (known, ~known))
    rows = []
    for views in (("statistics", "words", "embeddings"), "auto"):
        with _empty_cache():
            clf = PRMClassifier(views=views, random_state=0)
            fit = _seconds(lambda clf=clf: clf.fit(learn, y[known]))
            predict = _seconds(lambda clf=clf: clf.predict_proba(check))
        report = clf.view_report_
        kept = ", ".join(report.view[report.kept])
        rows += [
            {"what": f"views={views!r}: cold fit of {len(learn)} steps, seconds (kept: {kept})", "value": fit},
            {"what": f"views={views!r}: cold prediction, ms per step", "value": 1e3 * predict / max(1, len(check))},
        ]
    return rows


@contextmanager
def _empty_cache() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, PRMKIT_CACHE_DIR=folder):
        yield folder
