"""What a machine does: matrix products, and prmkit's encoding, scoring and training beside the peer's way."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any, TypeAlias

from prmkit.classifier import PRMClassifier
from prmkit.data.arithmetic import make_arithmetic_solutions
from prmkit.data.solution import Solution, flatten
from prmkit.features import PRMFeaturizer, available_backends
from prmkit.features.encoding.backends.backend import candidates
from prmkit.features.encoding.model_path import load_network, resolve_model
from prmkit.metrics.report_table import Record, markdown_table
from prmkit.utils.environment import best_device
from prmkit.utils.machine import machine, versions

_DEFAULT = "all-MiniLM-L6-v2"
# Shares of the time. The rest goes into loading.
_SHARES = {"products": 0.08, "encode": 0.3, "fit": 0.15, "score": 0.2, "train": 0.2}
_TITLES = {
    "products": "Matrix products",
    "encode": "Encode texts",
    "fit": "Fit the default classifier",
    "score": "Score solutions with the default classifier",
    "train": "Train a language model to judge steps, one epoch",
}
_PEERS = {
    "products": "float32, 1 thread",
    "encode": "SentenceTransformer.encode, float32, batches of 32",
    "fit": "the same, texts by SentenceTransformer.encode",
    "score": "one path at a time: SentenceTransformer.encode, then the head",
    "train": "transformers.Trainer, batches of 8",
}
_SIZE, _SMALL_SIZE = 1024, 256
_COUNTED = (
    "Ways take turns, round by round. A rate is the median of the rounds, and a ratio the median of the ratios within "
    "a round. Tokens are the model's, without padding. The share of the peak counts the products of the model alone: "
    "2 operations per weight of its linear layers and token, and 4 per layer, dimension and pair of tokens (3 times as "
    "many in training). The peak is the fastest product above of the same precision, threads and device."
)

Ways: TypeAlias = Mapping[str, Callable[[], object]]
Found: TypeAlias = "tuple[list[MachineRow], str]"


@dataclass(frozen=True)
class MachineRow(Record):
    """One line of a table: a way to do something, and how fast it is.

    ``times`` is the rate over that of the peer. ``share`` is the share of the machine's own peak, ``None`` if the way
    is no matter of products.
    """

    way: str
    rate: float
    unit: str
    times: float | None = None
    share: float | None = None


@dataclass(frozen=True, repr=False)
class MachineReport(Record):
    """What :func:`measure_machine` has found. ``print`` shows it as Markdown.

    Parameters
    ----------
    machine : dict
        Processor, cores, threads, memory, GPU, load.
    versions : dict
        Versions of Python and of the packages that decide the numbers.
    model : str
        The encoder.
    tables : dict of str to list of MachineRow
        One table per part: "products", "encode", "fit", "score" and "train".
    work : dict of str to str
        What each part did in a round, and how many rounds there were.
    notes : list of str
        What was not measured, and why.
    """

    machine: dict[str, Any]
    versions: dict[str, str | None]
    model: str
    tables: dict[str, list[MachineRow]] = field(default_factory=dict)
    work: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        facts = self.machine
        load = facts["load_average"]
        lines = [
            f"**{facts['processor']}**, {facts['cores']} cores, {facts['torch_threads']} threads in use, "
            f"{facts['memory_gib']} GiB, {facts['gpu'] or 'no GPU'}, {facts['system']}, "
            f"load {'unknown' if load is None else load[0]} before.",
            ", ".join(f"{name} {version or 'not installed'}" for name, version in self.versions.items())
            + f"; encoder {self.model}.",
        ]
        for part, rows in self.tables.items():
            cells = [
                [f"{_TITLES[part]} ({self.work[part]})", rows[0].unit, "times as fast", "of the peak"],
                *(_cells(row) for row in rows),
            ]
            n_columns = 4 if any(row.share is not None for row in rows) else 3
            lines += ["", *markdown_table([row[:n_columns] for row in cells])]
        lines += ["", *(f"Not measured: {note}." for note in self.notes), _COUNTED]
        if load is not None and load[0] > 0.5 * facts["cores"]:
            lines.append("Other processes were busy, so the ratios say more than the rates.")
        return "\n".join(lines)

    __repr__ = __str__


def _cells(row: MachineRow) -> list[str]:
    def shown(value: float | None, pattern: str) -> str:
        return "" if value is None else pattern.format(value)

    rate = f"{row.rate:,.0f}" if row.rate >= 10 else f"{row.rate:.2g}"
    return [row.way, rate, shown(row.times, "{:.2f}"), shown(row.share, "{:.0%}")]


def measure_machine(
    seconds: float = 60.0, *, model: str | Path = _DEFAULT, show_progress: bool = True
) -> MachineReport:
    """Measure what this machine does with prmkit and with its peers, in turns.

    Parameters
    ----------
    seconds : float, default=60.0
        About how long it may take, loading included. Every way is run once at least, so a slow machine takes longer.
    model : str or path, default="all-MiniLM-L6-v2"
        Encoder to measure with: the name or the folder of a sentence-transformers model.
    show_progress : bool, default=True
        If True, show a progress bar on a terminal.

    Returns
    -------
    MachineReport
        Its text is Markdown, ready for an issue.

    Raises
    ------
    ValueError
        If ``seconds`` is not positive.
    OSError
        If a model that you have named is nowhere.

    Notes
    -----
    The texts are word problems that prmkit makes, so no data are downloaded. If the default encoder is neither
    installed nor reachable, matrix products alone are measured, and a note says how to get it.

    Examples
    --------
    >>> report = measure_machine(1, show_progress=False)  # doctest: +SKIP
    >>> report.tables["encode"][0].times  # doctest: +SKIP
    1.0
    """
    from tqdm.auto import tqdm

    if not seconds > 0:
        raise ValueError(f"seconds is {seconds}, expected a number above 0")
    report, subject = MachineReport(machine(), versions(), str(model)), None
    shares = dict(_SHARES)
    try:
        folder = resolve_model(model)
    except OSError as error:
        if model != _DEFAULT:
            raise
        # Without an encoder there is still something to measure.
        shares = {"products": _SHARES["products"]}
        report.notes.append(f"encoding, fitting, scoring and training, since there is no {model}. {error}")
    parts = tqdm(shares, desc="bench", unit="part", disable=None if show_progress else True)
    for part in parts:
        parts.set_postfix_str(_TITLES[part])
        with _quietly():
            if part == "products":
                found = _products(shares[part] * seconds)
            else:
                subject = subject or _Subject(folder, report.tables["products"])
                try:
                    found = _MEASURES[part](subject, shares[part] * seconds)
                except (OSError, ValueError, TypeError, ImportError, RuntimeError) as error:
                    report.notes.append(f"{_TITLES[part]}: {' '.join(str(error).split())}")
                    continue
        report.tables[part], report.work[part] = found
    report.notes.extend([] if subject is None else subject.notes)
    return report


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the warnings and bars of libraries off the terminal."""
    from datasets.utils.logging import disable_progress_bar as off, enable_progress_bar as on, is_progress_bar_enabled

    shown = is_progress_bar_enabled()
    off()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if shown:
            on()


def _rounds(ways: Ways, seconds: float, least: int = 1) -> dict[str, list[float]]:
    """Return the seconds of each way, which take turns until the time is spent, in ``least`` rounds at least.

    A way that prepares something returns its own seconds.
    """
    spent: dict[str, list[float]] = {name: [] for name in ways}
    begin = start = time.perf_counter()
    while True:
        for name, way in ways.items():
            before = time.perf_counter()
            own = way()
            spent[name].append(own if isinstance(own, float) else time.perf_counter() - before)
        now = time.perf_counter()
        least -= 1
        if least <= 0 and 2 * now - start - begin > seconds:
            return spent
        start = now


def _rows(
    spent: Mapping[str, Sequence[float]],
    part: str,
    work: Mapping[str, float],
    unit: str,
    shares: Mapping[str, float | None] = MappingProxyType({}),
) -> Found:
    """Return a table of ways that did the same work, and what this was."""
    peer = _PEERS[part]
    rows = []
    for name, times in spent.items():
        ratio = median(one / other for one, other in zip(spent[peer], times, strict=True))
        rows.append(MachineRow(name, work[unit] / median(times), f"{unit}/s", ratio, shares.get(name)))
    did = ", ".join(f"{n:,.0f} {what}" for what, n in work.items())
    return rows, f"{did}; {_times(len(spent[peer]))}"


def _times(n: int) -> str:
    return f"median of {n} rounds" if n > 1 else "one round"


def _products(seconds: float) -> Found:
    """Measure products of square matrices in each precision, on one thread, on those in use, on all cores, on a GPU."""
    import joblib
    import torch

    in_use, device = torch.get_num_threads(), best_device()
    ways: dict[str, Callable[[], object]] = {}
    work: dict[str, float] = {}
    for kind in ("float32", "bfloat16", "float16", "int8"):
        for place in ["cpu"] if device == "cpu" else ["cpu", device]:
            try:
                product, size = _product(kind, place)
            except RuntimeError:  # this build does not have it
                continue
            for threads in sorted({1, in_use, joblib.cpu_count()}) if place == "cpu" else [0]:
                name = f"{kind}, {threads} thread{'s' * (threads > 1)}" if threads else f"{kind}, {place}"

                def run(product: Callable[[], object] = product, threads: int = threads) -> None:
                    torch.set_num_threads(threads or in_use)
                    product()

                ways[name], work[name] = run, 2e-9 * size**3
    try:
        spent = _rounds(ways, seconds, least=5)
    finally:
        torch.set_num_threads(in_use)
    # The fastest round is what the machine can do.
    rates = {name: work[name] / min(times) for name, times in spent.items()}
    base = rates[_PEERS["products"]]
    n_rounds = len(spent[_PEERS["products"]])
    rows = [MachineRow(name, rate, "GFLOP/s", rate / base) for name, rate in rates.items()]
    return rows, f"{_SIZE} × {_SIZE}; fastest of {n_rounds} rounds"


def _product(kind: str, device: str) -> tuple[Callable[[], object], int]:
    """Return a function that multiplies matrices, warmed, and their size. Where a type is slow they are small."""
    import torch

    def made(size: int) -> Callable[[], None]:
        a = torch.ones(size, size, device=device, dtype=getattr(torch, kind))
        # Private, but the only product of eight-bit numbers that torch has.
        multiply = getattr(torch, "_int_mm", None) if kind == "int8" else torch.matmul
        if multiply is None:
            raise RuntimeError("no product of this type")

        def product() -> None:
            multiply(a, a)
            if device != "cpu":
                getattr(torch, device).synchronize()

        return product

    small = made(_SMALL_SIZE)
    small()
    before = time.perf_counter()
    small()
    if time.perf_counter() - before > 0.01:
        return small, _SMALL_SIZE
    large = made(_SIZE)
    large()
    return large, _SIZE


class _Subject:
    """The encoder that is measured, its peer, and texts to read."""

    def __init__(self, folder: Path, products: Sequence[MachineRow]) -> None:
        import torch

        self.model = folder
        self.device = best_device()
        self.threads = torch.get_num_threads()
        self.peaks = {row.way: 1e9 * row.rate for row in products}
        self.network = load_network(folder, None)
        self.cache = tempfile.TemporaryDirectory()
        self.notes: list[str] = []
        self.classifier: PRMClassifier | None = None
        texts = _texts(32)
        self.peer(texts[:4])
        before = time.perf_counter()
        self.peer(texts)
        self.seconds_per_text = (time.perf_counter() - before) / len(texts)

    def peer(self, texts: list[str]) -> Any:
        """Encode as the peer does."""
        return self.network.encode(texts, batch_size=32, device=self.device, show_progress_bar=False)

    def n_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens that the model reads of each text."""
        tokenizer, limit = self.network.tokenizer, self.network.max_seq_length
        ids = tokenizer(list(texts), truncation=limit is not None, max_length=limit, verbose=False)["input_ids"]
        return [len(one) for one in ids]

    def peak(self, dtype: str) -> float | None:
        """Return the operations per second of the fastest product of a type, where the model runs."""
        where = self.device if self.device != "cpu" else f"{self.threads} thread{'s' * (self.threads > 1)}"
        return self.peaks.get(f"{dtype}, {where}")

    def operations(self, n_tokens: Sequence[int]) -> float:
        """Return the operations in the products of the model over texts of these lengths, 0 if it has none."""
        import torch

        body = getattr(self.network[0], "auto_model", None)
        if body is None:
            return 0.0
        weights = sum(one.weight.numel() for one in body.modules() if isinstance(one, torch.nn.Linear))
        width = getattr(body.config, "num_hidden_layers", 0) * getattr(body.config, "hidden_size", 0)
        return float(sum(2 * weights * n + 4 * width * n * n for n in n_tokens))

    def share(self, operations: float, seconds: Sequence[float], dtype: str) -> float | None:
        """Return the share of the peak, None if it is not known."""
        peak = self.peak(dtype)
        return operations / median(seconds) / peak if peak and operations else None

    def featurizer(self, **options: Any) -> PRMFeaturizer:
        """Return prmkit's encoder."""
        return PRMFeaturizer(model=self.model, show_progress=False, **options)

    def peer_featurizer(self) -> PRMFeaturizer:
        """Return a featurizer whose texts are encoded by the peer."""
        encode = self.peer

        class Peer(PRMFeaturizer):
            def _encode(self, texts: list[str], *_: object) -> Any:
                return encode(texts)

        return Peer(model=self.model, cache=False)


def _solutions(n: int) -> tuple[list[Solution], list[list[int]]]:
    """Return solutions whose steps have the lengths of real ones, 12 to 150 tokens, and their labels.

    One to five solutions of word problems are read side by side: a step says what each of them says there.
    """
    data = make_arithmetic_solutions(3 * n, 1, random_state=0)
    labels = iter(data.y.tolist())
    parts = [(one, [next(labels) for _ in one.steps]) for one in data.solutions]
    solutions, all_labels, start = [], [], 0
    for number in range(n):
        taken = parts[start : start + 1 + number % 5]
        start += len(taken)
        steps = [" ".join(texts) for texts in zip(*(one.steps for one, _ in taken), strict=False)]
        problem = " ".join(one.problem for one, _ in taken)
        solutions.append(Solution(problem, steps, id=str(number)))
        all_labels.append([min(at) for at in zip(*(of for _, of in taken), strict=False)])
    return solutions, all_labels


def _texts(n: int) -> list[str]:
    """Return distinct steps of the solutions."""
    texts: dict[str, None] = {}
    for solution in _solutions(max(20, n // 4))[0]:
        texts.update(dict.fromkeys(solution.steps))
    return list(texts)[:n]


def _encode(subject: _Subject, seconds: float) -> Found:
    """Measure the encoding of distinct texts."""
    peer = _PEERS["encode"]
    named = [("auto", "auto")]
    for backend in available_backends():
        # A copy in eight bits is calibrated on the texts of one user.
        named += [way for way in candidates(backend, "auto", subject.device) if way[1] != "int8"]
    texts = _texts(_number(subject.seconds_per_text, 1 + len(named), seconds))
    ways: dict[str, Callable[[], object]] = {peer: lambda: subject.peer(texts)}
    dtypes = {peer: "float32"}
    for backend, dtype in named:
        featurizer = subject.featurizer(cache=False, backend=backend, dtype=dtype)
        try:
            featurizer.transform(texts)  # loads, converts, measures
        except Exception as error:  # a backend may fail on a model in any way
            subject.notes.append(f"encoding by {backend} {dtype}: {' '.join(str(error).split())}")
            continue
        chosen = featurizer.backend_
        name = f"{chosen['name']} {chosen['dtype']}"
        name = f"prmkit, its choice here ({name})" if backend == "auto" else f"prmkit, {name}"
        ways[name], dtypes[name] = partial(featurizer.transform, texts), chosen["dtype"]
    spent = _rounds(ways, seconds)
    tokens = subject.n_tokens(texts)
    work = subject.operations(tokens)
    shares = {name: subject.share(work, times, dtypes[name]) for name, times in spent.items()}
    return _rows(spent, "encode", {"tokens": sum(tokens), "texts": len(texts)}, "tokens", shares)


def _number(seconds_each: float, n_ways: float, seconds: float, least: int = 16, most: int = 4096) -> int:
    """Return of how many texts three rounds take the given time."""
    return max(least, min(most, int(seconds / 3 / n_ways / seconds_each)))


_STEPS = 8  # texts per solution, about: the problem and the steps


def _fit(subject: _Subject, seconds: float) -> Found:
    """Measure the fit of the default classifier."""
    solutions, labels = _solutions(_number(_STEPS * subject.seconds_per_text, 2.5, seconds, least=20, most=300))
    X, y = flatten(solutions), [label for of_solution in labels for label in of_solution]

    def fit(featurizer: PRMFeaturizer) -> PRMClassifier:
        return PRMClassifier(featurizer, random_state=0).fit(X, y)

    subject.classifier = fit(subject.featurizer(cache_dir=subject.cache.name))
    ways: dict[str, Callable[[], object]] = {
        _PEERS["fit"]: lambda: fit(subject.peer_featurizer()),
        "prmkit, nothing cached": lambda: fit(subject.featurizer(cache=False)),
        "prmkit, embeddings on disk": lambda: fit(subject.featurizer(cache_dir=subject.cache.name)),
    }
    return _rows(_rounds(ways, seconds), "fit", {"steps": len(X), "solutions": len(solutions)}, "steps")


def _score(subject: _Subject, seconds: float) -> Found:
    """Measure the default classifier on solutions that it has not seen."""
    peer, cold_way, warm_way = _PEERS["score"], "prmkit, nothing cached", "prmkit, embeddings on disk"
    classifier: Any = subject.classifier
    views = classifier.head_.views_
    warm = views["embeddings"]
    n = _number(_STEPS * subject.seconds_per_text, 2.5, seconds, least=6, most=300)
    solutions = _solutions(300 + n)[0][300:]
    cold, by_path = (
        one.set_params(context=warm.context) for one in (subject.featurizer(cache=False), subject.peer_featurizer())
    )

    def score(embeddings: PRMFeaturizer, batches: list[list[Solution]]) -> None:
        views["embeddings"] = embeddings
        for batch in batches:
            classifier.predict_proba(flatten(batch))

    score(warm, [solutions])  # fills the cache
    score(cold, [solutions[:2]])
    ways = {
        peer: lambda: score(by_path, [[solution] for solution in solutions]),
        cold_way: lambda: score(cold, [solutions]),
        warm_way: lambda: score(warm, [solutions]),
    }
    spent = _rounds(ways, seconds)
    texts = {text for solution in solutions for text in (solution.problem, *solution.steps)}
    work = subject.operations(subject.n_tokens(sorted(texts)))
    shares = {
        peer: subject.share(work, spent[peer], "float32"),
        cold_way: subject.share(work, spent[cold_way], cold.precision),
    }
    n_steps = sum(solution.n_steps for solution in solutions)
    return _rows(spent, "score", {"steps": n_steps, "solutions": n}, "steps", shares)


def _train(subject: _Subject, seconds: float) -> Found:
    """Measure one epoch of fine-tuning, by the same settings in float32."""
    from prmkit.features.passes.model_files import load_tokenizer
    from prmkit.marking.scheme import MarkingScheme
    from prmkit.models.tokens.model_folder import load_token_model

    peer, ours = _PEERS["train"], "prmkit.models.PRMTrainer"
    solutions, labels = _solutions(500)
    rows = [
        {"prompt": one.problem, "completions": list(one.steps), "labels": [label >= 0 for label in of]}
        for one, of in list(zip(solutions, labels, strict=True))[::5]  # the short ones fit into a small model
    ]
    # A forward and a backward pass cost three times as much, by two ways.
    n = _number(_STEPS * subject.seconds_per_text, 6, seconds, least=8, most=len(rows))
    rows = rows[:n]
    tokenizer = load_tokenizer(subject.model)
    model = load_token_model(subject.model, MarkingScheme(), 2)[0]
    lengths = [len(_trl_row(row, tokenizer)["input_ids"]) for row in rows]

    def timed(way: str, some: list[dict[str, Any]]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            trainer = _trainer(way == peer, model, tokenizer, some, folder)
            before = time.perf_counter()
            trainer.train()
            return time.perf_counter() - before

    ways: dict[str, Callable[[], float]] = {way: partial(timed, way, rows) for way in (peer, ours)}
    for way in ways:
        timed(way, rows[:4])  # what is compiled on first use is nobody's running cost
    spent = _rounds(ways, seconds)
    work = 3 * subject.operations(lengths)
    shares = {way: subject.share(work, times, "float32") for way, times in spent.items()}
    return _rows(spent, "train", {"tokens": sum(lengths), "solutions": n}, "tokens", shares)


def _trl_row(row: Mapping[str, Any], tokenizer: Any) -> dict[str, list[int]]:
    """Return a row as plain transformers trains on it: a separator closes each step, and has its label."""

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    tokens = ids(row["prompt"])
    labels = [-100] * len(tokens)
    for step, label in zip(row["completions"], row["labels"], strict=True):
        tokens += ids(step) + ids(_separator(tokenizer))
        labels += [-100] * (len(tokens) - len(labels) - 1) + [int(label)]
    return {"input_ids": tokens, "labels": labels}


def _separator(tokenizer: Any) -> str:
    return str(tokenizer.sep_token or "\n")


def _trainer(plain: bool, model: Any, tokenizer: Any, rows: list[dict[str, Any]], folder: str) -> Any:
    """Return a trainer of a copy of the model: transformers' own, or prmkit's."""
    import copy

    import datasets
    from transformers import DataCollatorForTokenClassification, PrinterCallback, Trainer, TrainingArguments

    from prmkit.models import PRMTrainer, PRMTrainingConfig

    settings: dict[str, Any] = {
        "output_dir": folder,
        "num_train_epochs": 1,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "bf16": False,
    }
    if plain:
        trainer: Any = Trainer(
            copy.deepcopy(model),
            TrainingArguments(per_device_train_batch_size=8, **settings),
            data_collator=DataCollatorForTokenClassification(tokenizer),
            train_dataset=datasets.Dataset.from_list([_trl_row(row, tokenizer) for row in rows]),
        )
    else:
        lengths = [len(_trl_row(row, tokenizer)["input_ids"]) for row in rows]
        config = PRMTrainingConfig(
            step_separator=_separator(tokenizer),
            tokens_per_batch=max(*lengths, 8 * sum(lengths) // len(rows)),
            **settings,
        )
        trainer = PRMTrainer(
            copy.deepcopy(model), config, train_dataset=rows, processing_class=copy.deepcopy(tokenizer)
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


_MEASURES = {"encode": _encode, "score": _score, "fit": _fit, "train": _train}
