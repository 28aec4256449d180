"""What bench_states.py and bench_learning_curve.py fit: text, log-probabilities and states, kept as arrays in a folder.

Each row of a table is predicted by a model that learned other problems. Three folds by problem inside the training part
give out-of-fold predictions. They choose the layer, the thresholds and the scale of log-odds, so nothing is chosen on
what is reported.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import load_steps_table
from _quality_models import LABELS, StepTable
from _token_models import learn_tokenizer
from bench_quality import Split
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from prmkit import PRMClassifier, PRMFeaturizer
from prmkit.data import ratings_to_first_error
from prmkit.features import StepStatistics, TokenStates
from prmkit.features.states.log_probs import POSITION_COLUMNS
from prmkit.metrics import choose_first_error_threshold, choose_threshold
from prmkit.models import StepBlend, StepProbe

DATASETS = ("prm800k", "processbench", "prmbench", "mr_ben_math")
INNER_FOLDS = 3
DEPTHS = (0.4, 0.53, 0.67, 0.87, 1.0)
"""The layers that are read, as shares of the model's: 12, 16, 20, 26 and 30 of 30."""
PAIRS = ((0, 2), (1, 3))
"""Two of these layers together, by place."""
TOKEN_LAYERS = (0, 2)
"""Of these every token is kept."""
SIZES: dict[str, dict[str, int]] = {
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    # As Qwen2.5-1.5B, with the words of a smaller tokenizer.
    "1.5b": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
    },
}
Fit = Callable[["Data", np.ndarray, np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Data:
    """The steps of a table, with what was read of each of them once, as arrays in ``folder``."""

    table: StepTable
    folder: Path
    device: str | None = None

    def __post_init__(self) -> None:
        for row, step in enumerate(self.table.steps):
            step.solution.meta.setdefault("rows", {})[step.index] = row

    @cached_property
    def first_errors(self) -> list[tuple[np.ndarray, int, int]]:
        """Rows, first error and number of the problem of each solution whose first error is known."""
        known, row = [], 0
        for ratings in self.table.ratings:
            n_rows = sum(rating is not None for rating in ratings)
            first = ratings_to_first_error(ratings)
            if n_rows and first is not None:
                known.append((np.arange(row, row + n_rows), first, int(self.table.problems[row])))
            row += n_rows
        return known

    def has(self, name: str) -> bool:
        """Whether an array was kept."""
        return (self.folder / f"{name}.npy").exists()

    def array(self, name: str) -> np.ndarray:
        """Return a kept array, one row per step."""
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")

    def keep(self, name: str, rows: np.ndarray) -> None:
        """Write an array. A run that is killed leaves no half of one."""
        part = self.folder / f"{name}.part.npy"
        np.save(part, rows)
        part.replace(self.folder / f"{name}.npy")

    @property
    def layers(self) -> list[int]:
        """The layers whose states were kept."""
        return json.loads((self.folder / "layers.json").read_text())


class Known(TransformerMixin, BaseEstimator):
    """A transformer that looks up rows that were computed before. ``kind`` says what they are.

    With ``log_probs``, position, length and log-probabilities stand beside them, as in a featurizer of states.
    """

    def __init__(
        self, path: str, kind: str = "embeddings", columns: tuple[int, ...] | None = None, log_probs: bool = False
    ) -> None:
        self.path = path
        self.kind = kind
        self.columns = columns
        self.log_probs = log_probs

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        values, asked = np.load(self.path, mmap_mode="r"), [step.solution.meta["rows"][step.index] for step in X]
        rows = values[asked] if self.columns is None else values[asked][:, list(self.columns)]
        parts = [np.asarray(rows, dtype=np.float32).reshape(len(rows), -1)]
        if self.log_probs:
            beside = [np.load(Path(self.path).with_name(f"{name}.npy"))[asked] for name in ("position", "log_probs")]
            parts += [beside[0][:, [0, 2]], beside[1]]
        return np.hstack(parts)

    def __sklearn_is_fitted__(self):
        return True


def read_text(data: Data) -> dict[str, float]:
    """Keep position, length and sentence embeddings of each step. Return the seconds of each."""
    seconds = {}
    if not data.has("position"):
        rows = StepStatistics().fit_transform(data.table.steps)
        names = StepStatistics().get_feature_names_out().tolist()
        chosen = rows[:, [names.index(name) for name in ("index", "words", "characters")]]
        data.keep("position", np.column_stack([np.log1p(chosen[:, 0]), chosen]))
    if not data.has("embeddings"):
        start = time.perf_counter()
        try:
            rows = PRMFeaturizer(context="prefix", show_progress=False).fit_transform(data.table.steps)
        except (ImportError, OSError, ValueError) as error:
            print(f"no embeddings, so no rows with them: {str(error)[:200]}", flush=True)
        else:
            data.keep("embeddings", rows)
            seconds["embeddings"] = time.perf_counter() - start
    return seconds


def states_featurizer(model: str, **options: Any) -> PRMFeaturizer:
    """Return the featurizer of states, or stop with what is missing."""
    settings = {name: value for name, value in options.items() if value is not None}
    return PRMFeaturizer(kind="states", model=model, show_progress=False, **settings)


def read_states(data: Data, model: str, poolings: Iterable[str], dtype: str | None) -> dict[str, float]:
    """Keep the states of each step under each pooling, and its log-probabilities. Return the seconds of each pass."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model)
    width, layers = config.hidden_size, sorted({max(1, round(depth * config.num_hidden_layers)) for depth in DEPTHS})
    (data.folder / "layers.json").write_text(json.dumps(layers))
    seconds = {}
    wanted = [pooling for pooling in poolings if not data.has(pooling)]
    if "statistics" in wanted:  # the mean and the last token are a part of them
        wanted = [pooling for pooling in wanted if pooling in ("statistics", "tokens")]
    for pooling in wanted:
        chosen = layers
        if pooling == "tokens":
            chosen = [layers[i] for i in TOKEN_LAYERS if i < len(layers)]
        start = time.perf_counter()
        featurizer = states_featurizer(
            model,
            layer=chosen,
            pooling=pooling,
            log_probs=pooling in ("mean", "statistics"),
            device=data.device,
            dtype=dtype,
        )
        found = featurizer.fit_transform(data.table.steps)
        seconds[pooling] = time.perf_counter() - start
        if pooling == "tokens":
            data.keep("token_lengths", np.asarray(found.lengths))
            data.keep("token_columns", np.nan_to_num(found.columns))
            data.keep("tokens", np.asarray(found.values, dtype=np.float16))
        else:
            found = np.asarray(found, dtype=np.float32)
            n_lost = int(np.isnan(found).any(axis=1).sum())
            if n_lost:
                print(f"{n_lost} of {len(found)} steps were cut: their columns are zeros here", flush=True)
            names, found = featurizer.get_feature_names_out().tolist(), np.nan_to_num(found)
            others = [i for i, name in enumerate(names) if not name.startswith(("layer", *POSITION_COLUMNS))]
            if others:
                data.keep("log_probs", found[:, others])
            of_layers = [[i for i, name in enumerate(names) if name.startswith(f"layer{n}_")] for n in chosen]
            rows = np.stack([found[:, columns] for columns in of_layers], axis=1)
            data.keep(pooling, rows)
            if pooling == "statistics":
                data.keep("mean", rows[..., :width])
                data.keep("last", rows[..., -width:])
        print(f"states, {pooling}, layers {chosen}: {seconds[pooling]:.0f} s", flush=True)
    return seconds


def _columns(data: Data, parts: Sequence[tuple[str, tuple[int, ...] | None]], rows: np.ndarray) -> np.ndarray:
    found = []
    for name, layers in parts:
        array = data.array(name)[rows]
        found.append((array if layers is None else array[:, list(layers)]).reshape(len(rows), -1))
    return np.hstack(found)


def linear(
    data: Data,
    train: np.ndarray,
    test: np.ndarray,
    _seed: int,
    *,
    parts: Sequence[tuple[str, tuple[int, ...] | None]],
    C: float = 1e-3,
) -> np.ndarray:
    """Logistic regression on standardised columns."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=150, tol=1e-3))
    model.fit(_columns(data, parts, train), data.table.y[train] == 0)
    return model.predict_proba(_columns(data, parts, test))[:, 1]


def probe(
    data: Data, train: np.ndarray, test: np.ndarray, seed: int, *, layers: Sequence[int] | None = None, **options: Any
) -> np.ndarray:
    """``StepProbe`` on the tokens of each step, or on its mean in some layers, as a step of one token."""
    head = StepProbe(device=data.device, show_progress=False, random_state=seed, **options)
    every = token_states(data, layers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        head.fit(every[train], (data.table.y[train] == 0).astype(int))
        return head.predict_proba(every[test])[:, 1]


def token_states(data: Data, layers: Sequence[int] | None = None) -> TokenStates:
    """Return the kept states of all tokens, or the means in some layers with position and length."""
    if layers is not None:
        means, position = data.array("mean")[:, list(layers)], data.array("position")
        columns = np.asarray(position[:, [0, 2]], dtype=np.float32)
        lengths = np.ones(len(means), dtype=np.int64)
        return TokenStates(means, lengths, columns, ("index", "words"), data.table.problems)
    columns = data.array("token_columns")
    names = tuple(f"column_{i}" for i in range(columns.shape[1]))
    return TokenStates(data.array("tokens"), data.array("token_lengths"), columns, names, data.table.problems)


def blend(
    data: Data,
    train: np.ndarray,
    test: np.ndarray,
    seed: int,
    *,
    kept: tuple[str, str, tuple[int, ...] | None] | None = None,
    log_probs: bool = False,
    members: Sequence[str] | None = None,
) -> np.ndarray:
    """The default model. ``kept`` is the view that costs a model pass: array, kind and layers."""
    featurizer = None if kept is None else Known(str(data.folder / f"{kept[0]}.npy"), *kept[1:], log_probs)
    # Without members, what is given is obeyed.
    head = StepBlend(featurizer, **({} if members is None else {"members": members}), random_state=seed)
    steps = data.table.steps
    clf = PRMClassifier(head=head).fit([steps[i] for i in train], LABELS[data.table.y[train]])
    column = clf.classes_.tolist().index(-1)
    return clf.predict_proba([steps[i] for i in test])[:, column]


def automatic(data: Data, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """``PRMClassifier()`` as a user has it, which keeps the views that help."""
    steps = data.table.steps
    clf = PRMClassifier(random_state=seed).fit([steps[i] for i in train], LABELS[data.table.y[train]])
    report = clf.view_report_
    print(f"views kept: {report.view[report.kept].tolist()}", flush=True)
    return clf.predict_proba([steps[i] for i in test])[:, clf.classes_.tolist().index(-1)]


@dataclass(frozen=True)
class Model:
    """A row of the table: candidates, of which out-of-fold predictions choose one, and what must have been kept.

    A single candidate that takes long needs no such predictions (``in_folds=False``). Then it has no threshold.
    """

    name: str
    candidates: tuple[tuple[str, Fit], ...]
    needs: tuple[str, ...] = ()
    on_device: bool = False
    in_folds: bool = True


TEXT = ("trees", "statistics", "words")
POSITION, LOG_PROBS = ("position", None), ("log_probs", None)
DEFAULT, WITHOUT_EMBEDDINGS = "default, all text views", "default without embeddings"
AUTO = "PRMClassifier(), views='auto'"
WITH_STATES = "default, states for embeddings"
WITH_LOG_PROBS, OF_LOG_PROBS = "default, states and log-probabilities for embeddings", "log-probabilities + position"
PROBE, STATES = "StepProbe, two layers", "mean, two layers + position"


def layered(name: str, array: str, sets: Sequence[tuple[int, ...]], *, position: bool = False) -> Model:
    """Logistic regression on the states of some layers, which are chosen inside."""
    others = (POSITION,) if position else ()
    candidates = tuple((str(layers), partial(linear, parts=((array, layers), *others))) for layers in sets)
    return Model(name, candidates, (array,))


def models(n_layers: int) -> list[Model]:
    """Return the rows that can be compared."""
    single = tuple((i,) for i in range(n_layers))
    pairs = tuple(pair for pair in PAIRS if max(pair) < n_layers) or single[-1:]
    pooled = tuple((str(pair), partial(probe, layers=pair)) for pair in pairs)
    # Of a version that has views, the default measures them.
    chosen_views = [Model(AUTO, (("", automatic),))] if "views" in inspect.signature(PRMClassifier).parameters else []
    return [
        Model("position and length", (("", partial(linear, parts=(POSITION,), C=1.0)),)),
        Model("log-probabilities", (("", partial(linear, parts=(LOG_PROBS,), C=1.0)),), ("log_probs",)),
        Model(OF_LOG_PROBS, (("", partial(linear, parts=(LOG_PROBS, POSITION), C=1.0)),), ("log_probs",)),
        layered("last token, one layer", "last", single),
        layered("mean, one layer", "mean", single),
        layered("statistics, one layer", "statistics", single[:-1] or single),
        layered("mean, one layer + position", "mean", single, position=True),
        layered(STATES, "mean", pairs, position=True),
        layered("mean, all of these layers + position", "mean", (tuple(range(n_layers)),), position=True),
        Model(PROBE, pooled, ("mean",), on_device=True),
        Model(
            "StepProbe, two layers, linear",
            tuple((str(pair), partial(probe, layers=pair, hidden_size=0)) for pair in pairs),
            ("mean",),
            on_device=True,
        ),
        Model(
            "StepProbe, attention on tokens", (("", partial(probe, pooling="attention")),), ("tokens",), on_device=True
        ),
        Model(WITHOUT_EMBEDDINGS, (("", partial(blend, members=TEXT)),)),
        Model(
            DEFAULT,
            (("", partial(blend, kept=("embeddings", "embeddings", None), members=(*TEXT, "embeddings"))),),
            ("embeddings",),
        ),
        *chosen_views,
        Model(WITH_STATES, tuple((str(p), partial(blend, kept=("mean", "states", p))) for p in pairs), ("mean",)),
        Model(
            WITH_LOG_PROBS,
            tuple((str(p), partial(blend, kept=("mean", "states", p), log_probs=True)) for p in pairs),
            ("mean", "log_probs"),
        ),
    ]


SUMS = {
    f"{first} + {second}": (first, second)
    for first, second in (
        (DEFAULT, PROBE),
        (DEFAULT, STATES),
        (DEFAULT, OF_LOG_PROBS),
        (WITHOUT_EMBEDDINGS, PROBE),
        (WITHOUT_EMBEDDINGS, OF_LOG_PROBS),
    )
}
"""Sums of standardised log-odds."""


def inner_folds(data: Data, train: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the folds by problem inside a training part, as places in it."""
    y, problems = data.table.y[train], data.table.problems[train]
    folding = StratifiedGroupKFold(INNER_FOLDS, shuffle=True, random_state=seed)
    return list(folding.split(train, y == 0, problems))


def nested(data: Data, model: Model, train: np.ndarray, test: np.ndarray, seed: int) -> dict[str, Any]:
    """Fit each candidate on folds of the training part, the best of them on all, and predict.

    The best has the largest AUROC on out-of-fold predictions, as a mean over the data sets of the training part.
    """
    start, folds, best = time.perf_counter(), inner_folds(data, train, seed) if model.in_folds else [], None
    for name, fit in model.candidates:
        unseen = np.full(len(train), np.nan)
        for learn, check in folds:
            unseen[check] = fit(data, train[learn], train[check], seed)
        score = mean_auroc(data, train, unseen) if model.in_folds else 0.0
        if best is None or score > best[0]:
            best = score, name, fit, unseen
    _, chosen, fit, unseen = best
    risk = fit(data, train, test, seed)
    return {"unseen": unseen, "risk": risk, "chosen": chosen, "seconds": time.perf_counter() - start}


def mean_auroc(data: Data, rows: np.ndarray, risk: np.ndarray) -> float:
    """The AUROC of wrong steps, as a mean over the data sets in which some are wrong and some are not."""
    datasets, wrong = data.table.datasets[rows], data.table.y[rows] == 0
    parts = [datasets == name for name in np.unique(datasets)]
    found = [roc_auc_score(wrong[part], risk[part]) for part in parts if 0 < wrong[part].sum() < part.sum()]
    return float(np.mean(found)) if found else 0.5


def log_odds(risk: np.ndarray) -> np.ndarray:
    """Log-odds of a risk, which is kept away from 0 and 1."""
    return logit(np.clip(risk, 1e-6, 1 - 1e-6))


def summed(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Add the log-odds of two models, each in units of its deviation on out-of-fold predictions."""
    total: dict[str, Any] = {"unseen": 0.0, "risk": 0.0}
    for part in (first, second):
        of_unseen = log_odds(part["unseen"])
        for key in total:
            total[key] = total[key] + (log_odds(part[key]) - of_unseen.mean()) / (of_unseen.std() or 1.0) / 2
    return {key: expit(value) for key, value in total.items()}


def thresholds(data: Data, train: np.ndarray, unseen: np.ndarray) -> tuple[float, float]:
    """Choose the threshold of wrong steps (macro-F1) and of first errors (ProcessBench F1) on training problems."""
    of_steps = choose_threshold(data.table.y[train] == 0, unseen)
    known = np.full(len(data.table.y), np.nan)
    known[train] = unseen
    solutions = [(known[rows], first) for rows, first, _ in data.first_errors if not np.isnan(known[rows]).any()]
    try:
        chosen = choose_first_error_threshold(
            [first for _, first in solutions], [risks for risks, _ in solutions], data="training problems, out of fold"
        )
    except ValueError:  # all or none of the solutions have an error
        return of_steps, of_steps
    return of_steps, chosen.threshold


def read(cap: int) -> StepTable:
    """Return the labelled steps of at most ``cap`` problems of each data set, those whose keys hash lowest."""
    solutions, ratings = load_steps_table(DATASETS)
    problems: dict[str, set[str]] = {}
    for solution in solutions:
        problems.setdefault(solution.meta["dataset"], set()).add(solution.meta["problem_key"])
    kept = {
        (dataset, key)
        for dataset, keys in problems.items()
        for key in sorted(keys, key=lambda key: hashlib.sha256(key.encode()).hexdigest())[:cap]
    }
    pairs = [
        (solution, of_steps)
        for solution, of_steps in zip(solutions, ratings, strict=True)
        if (solution.meta["dataset"], solution.meta["problem_key"]) in kept
    ]
    return StepTable([solution for solution, _ in pairs], [of_steps for _, of_steps in pairs])


@lru_cache(maxsize=2)
def data_of(cap: int, folder: Path, device: str | None) -> Data:
    """Return the data, read once by each process."""
    return Data(read(cap), folder, device)


def path_of(folder: Path, split: Split, name: str) -> Path:
    """Where the predictions of a model are kept."""
    letters = "".join(letter if letter.isalnum() else "-" for letter in name)
    return folder / f"{split.protocol}-{split.name}-{letters}.npz"


def fit(cap: int, folder: Path, device: str | None, split: Split, model: Model, seed: int) -> str | None:
    """Fit, predict and keep. Return what went wrong."""
    path = path_of(folder, split, model.name)
    try:
        found = nested(data_of(cap, folder, device), model, split.train, split.test, seed)
    except Exception as error:  # one model must not cost the others
        return f"{split.protocol} {split.name}, {model.name}: {type(error).__name__}: {error}"
    part = path.with_name(f"{path.stem}.part.npz")
    np.savez(part, train=split.train, test=split.test, **found)
    part.replace(path)
    print(f"{split.protocol} {split.name}: {model.name} {found['chosen']}, {found['seconds']:.1f} s", flush=True)
    return None


def random_model(folder: Path, size: str) -> str:
    """Write a Llama of random weights and a tokenizer learnt on the data. Return its folder."""
    target = folder / f"random-{size}"
    if (target / "config.json").exists():
        return str(target)
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    solutions, _ = load_steps_table(["processbench", "prm800k"])
    tokenizer = learn_tokenizer(text for one in solutions for text in (one.problem, *one.steps))
    torch.manual_seed(0)
    config = LlamaConfig(
        **SIZES[size],
        vocab_size=len(tokenizer),
        max_position_embeddings=8192,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    dtype = torch.bfloat16 if size == "1.5b" else torch.float32
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(config)
    tokenizer.save_pretrained(target)
    model.to(dtype).save_pretrained(target)
    return str(target)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what both scripts are asked: data, model, device and folder."""
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps arrays and predictions")
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="name or folder")
    parser.add_argument("--random-tiny", action="store_true", help="a tiny model of random weights, to try the script")
    parser.add_argument(
        "--random-1.5b", dest="random_large", action="store_true", help="1.5B weights drawn: cost alone"
    )
    parser.add_argument("--cap", type=int, default=150, help="problems of each data set (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="the same, for a first try")
    parser.add_argument("--device", help="of the language model and of StepProbe (default: chosen by prmkit)")
    parser.add_argument("--dtype", help="of the language model (default: chosen by prmkit)")
    parser.add_argument("--seed", type=int, default=0)


def check_arguments(options: argparse.Namespace) -> None:
    """Make the folder, and the model of random weights where one is asked for."""
    options.cap = options.limit or options.cap
    options.work.mkdir(parents=True, exist_ok=True)
    if options.random_tiny or options.random_large:
        options.model = random_model(options.work, "1.5b" if options.random_large else "tiny")


def prepare(options: argparse.Namespace, poolings: Iterable[str]) -> tuple[Data, dict[str, float]]:
    """Return the data, with text and states read, and the seconds of what this run has read."""
    letters = "".join(letter if letter.isalnum() else "-" for letter in Path(options.model).name)
    folder = options.work / f"{letters}-cap{options.cap}-seed{options.seed}"
    folder.mkdir(exist_ok=True)
    data = data_of(options.cap, folder, options.device)
    print(f"{len(data.table.y)} steps of {len(np.unique(data.table.problems))} problems", flush=True)
    return data, read_text(data) | read_states(data, options.model, poolings, options.dtype)
