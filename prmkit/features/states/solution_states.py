"""States of solutions: read once, pooled over the tokens of each step, rounded, and kept on disk."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from prmkit.data.problem_keys import problem_keys
from prmkit.data.solution import Solution, Step, iter_solutions, name_solutions
from prmkit.features.encoding.cache import EmbeddingCache
from prmkit.features.encoding.encoder import why_not_finite
from prmkit.features.states.causal_model import CausalModel, TokenReading
from prmkit.features.states.log_probs import LOG_PROB_COLUMNS, POSITION_COLUMNS, log_prob_statistics
from prmkit.features.states.token_states import TokenStates
from prmkit.marking.encoding import MarkedTokens, SolutionEncoder, TokenRecord, fingerprint, token_records
from prmkit.marking.scheme import MarkingScheme
from prmkit.utils.environment import UnscoredWarning
from prmkit.utils.ragged import Ragged

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

POOLINGS: dict[str, tuple[str, ...]] = {
    "mean": ("mean",),
    "last": ("last",),
    "mean_last": ("mean", "last"),
    "statistics": ("mean", "std", "min", "max", "last"),
    "tokens": (),
}
"""What each pooling makes of the tokens of a step, per layer and dimension."""

_NUMBERS = ("logprob_mean", "logprob_min", "logprob_lowest_tenth")
MORE_COLUMNS: dict[str, str] = {
    "entropy_mean": "mean entropy of the prediction of its tokens",
    "surprisal_minus_entropy": "mean surprise at its tokens, beyond what the predictions expect",
    "number_tokens": "log(1 + tokens that hold a digit)",
    **{f"number_{name}": f"{LOG_PROB_COLUMNS[name]}, of tokens that hold a digit" for name in _NUMBERS},
    "number_entropy_mean": "mean entropy of the prediction of tokens that hold a digit",
    "number_surprisal_minus_entropy": "mean surprise at tokens that hold a digit, beyond what is expected",
}
"""What a model that reads a step says of it beyond the log-probabilities of its tokens. 0 where there is no token."""

STATES_FORMAT = 1
"""A new rule of pooling or of the columns gets a new number, so that no version reads rows of another one."""
_LARGEST = float(np.finfo(np.float16).max)
# Tokens of solutions whose states are held at once.
_TOKENS_AT_ONCE = 16384
# Solutions whose tokens are kept in memory, about 5 kB each.
_SOLUTIONS_KNOWN = 8192


class HasLayers(Protocol):
    """A language model, or a folder of its states."""

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are read, as numbers from 0 on."""

    @property
    def width(self) -> int:
        """Length of a state."""


@dataclass(frozen=True)
class SolutionStates:
    """What is known of the steps of one solution, up to the last one that was asked for.

    ``values`` are float16: of shape (n_steps, n_features), or (n_tokens, n_layers, width) for ``pooling="tokens"``.
    ``lengths`` are the tokens of each step. ``columns`` are the log-probability columns, float32. Row ``rows[i]`` of X
    is step ``steps[i]``.
    """

    values: npt.NDArray[np.float16]
    lengths: npt.NDArray[np.int64]
    columns: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]


def column_names(log_probs: bool) -> tuple[str, ...]:
    """Return the names of the columns beside the states."""
    return (*POSITION_COLUMNS, *([*LOG_PROB_COLUMNS, *MORE_COLUMNS] if log_probs else []))


def state_names(model: HasLayers, pooling: str) -> list[str]:
    """Return the names of the columns of pooled states."""
    return [
        f"layer{layer}_{kind}_{i}" for kind in POOLINGS[pooling] for layer in model.layers for i in range(model.width)
    ]


def solution_states(
    model: CausalModel,
    steps: Sequence[Step],
    *,
    scheme: MarkingScheme,
    pooling: str,
    max_length: int | None,
    tokens_per_batch: int,
    cache: EmbeddingCache | None,
    show_progress: bool = False,
) -> Iterator[SolutionStates]:
    """Yield the states of each distinct solution, those that the cache holds first.

    A solution that is longer than the model reads loses its last steps. Steps without a state are in no result.
    """
    from tqdm.auto import tqdm

    limit, (encoder, marking) = model.token_limit(max_length), _shared_encoder(model.tokenizer, scheme)
    records = token_records(model.tokenizer, steps, scheme, limit, "nan", encoder)
    warn_of_lost(steps, records, limit)
    namespace = _namespace(model, [marking, asdict(scheme)], pooling)
    names = [_name(record) for record in records]
    known = (
        [None] * len(records)
        if cache is None
        else cache.get_bytes(namespace, names, [_n_bytes(model, one, pooling) for one in records])
    )
    missing = []
    for i, (record, blob) in enumerate(zip(records, known, strict=True)):
        if blob is None:
            missing.append(i)
        else:
            yield _unpacked(model, record, pooling, blob)
    disable = None if show_progress else True
    with tqdm(total=len(missing), unit="solution", desc="states", delay=1.0, disable=disable) as bar:
        for part in _portions(records, missing):
            computed: dict[int, SolutionStates] = {}
            for i, reading in model.read([records[i] for i in part], tokens_per_batch):
                computed[part[i]] = pooled_states(model, records[part[i]], reading, pooling)
                bar.update()
            if cache is not None:
                cache.put_bytes(namespace, [names[i] for i in computed], [_packed(one) for one in computed.values()])
            yield from computed.values()


def feature_rows(states: Iterator[SolutionStates], steps: Sequence[Step], n_features: int) -> npt.NDArray[np.float32]:
    """Return a row per step: pooled states, position, length, log-probabilities. NaN for a step that was cut off."""
    out = np.full((len(steps), n_features), np.nan, dtype=np.float32)
    for one in states:
        out[one.rows] = np.hstack([one.values[one.steps].astype(np.float32), _columns(one, steps)])
    return out


def token_states(
    states: Iterator[SolutionStates], steps: Sequence[Step], n_layers: int, width: int, log_probs: bool
) -> TokenStates:
    """Return the states of the tokens of all steps, in the order of the steps."""
    names = column_names(log_probs)
    lengths = np.zeros(len(steps), dtype=np.int64)
    columns = np.full((len(steps), len(names)), np.nan, dtype=np.float32)
    found = list(states)
    for one in found:
        lengths[one.rows], columns[one.rows] = one.lengths[one.steps], _columns(one, steps)
    rows = Ragged(np.empty((int(lengths.sum()), n_layers, width), dtype=np.float16), lengths)
    for one in found:
        rows.values[rows.places(one.rows)] = Ragged(one.values, one.lengths).take(one.steps).values
    return TokenStates(rows.values, lengths, columns, names, _problem_numbers(steps))


def _columns(one: SolutionStates, steps: Sequence[Step]) -> npt.NDArray[np.float32]:
    # A step without tokens is read over, so the number of a step here may be less than its place in the solution.
    places = [steps[row].index for row in one.rows.tolist()]
    position = np.column_stack([np.log1p(places), np.log1p(one.lengths[one.steps])])
    return np.hstack([position.astype(np.float32), one.columns[one.steps]])


def _problem_numbers(steps: Sequence[Step]) -> npt.NDArray[np.int64]:
    """Return the same number for steps of one problem. Steps without a problem belong to their solution."""
    keys = problem_keys(steps)
    own = {}
    for i, step in enumerate(steps):
        own[i] = (0, int(keys[i])) if step.problem else (1, hash(step.solution))
    numbers: dict[tuple[int, int], int] = {}
    return np.array([numbers.setdefault(own[i], len(numbers)) for i in range(len(steps))], dtype=np.int64)


def _portions(records: Sequence[TokenRecord], indices: Sequence[int]) -> Iterator[list[int]]:
    """Yield solutions that are read together: those with the same beginning, and no more than can be held."""
    order = sorted(indices, key=lambda i: records[i].input_ids.astype(">u4").tobytes())
    part: list[int] = []
    n_tokens = 0
    for i in order:
        part.append(i)
        n_tokens += len(records[i].input_ids)
        if n_tokens >= _TOKENS_AT_ONCE:
            yield part
            part, n_tokens = [], 0
    if part:
        yield part


def warn_of_lost(steps: Sequence[Step], found: Iterable[TokenRecord | SolutionStates], limit: int | None) -> None:
    """Warn of the rows that are in no record."""
    lost = np.ones(len(steps), dtype=bool)
    for one in found:
        lost[one.rows] = False
    if lost.any():
        solutions = list(iter_solutions(steps))
        concerned = [i for i, (_, rows, _) in enumerate(solutions) if lost[rows].any()]
        firsts = [next((row for row in rows if lost[row]), rows[0]) for _, rows, _ in solutions]
        names = name_solutions([one for one, _, _ in solutions], concerned, firsts)
        warnings.warn(
            f"{int(lost.sum())} step(s) in {names} have no states, so their rows are NaN: they lie beyond the {limit} "
            "tokens that are read, or have no token. Pass max_length above it if the model takes more, or "
            "scheme=MarkingScheme(max_prompt_length=…) to cut long problems on the left. Most classifiers refuse NaN: "
            "HistGradientBoostingClassifier reads it, StepProbe and the default head count it",
            UnscoredWarning,
            stacklevel=6,
        )


class _RememberingEncoder(SolutionEncoder):
    """It remembers solutions. Each fold of a search reads the same ones from the disk, and tokenising costs more."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, scheme: MarkingScheme) -> None:
        super().__init__(tokenizer, scheme)
        self._known = lru_cache(_SOLUTIONS_KNOWN)(super().encode)

    def encode(self, solution: Solution, n_steps: int) -> MarkedTokens:
        return self._known(solution, n_steps)


@lru_cache(maxsize=2)
def _shared_encoder(tokenizer: PreTrainedTokenizerBase, scheme: MarkingScheme) -> tuple[SolutionEncoder, str]:
    """Return what encodes for all featurizers of this process, and the fingerprint of its marking."""
    return _RememberingEncoder(tokenizer, scheme), fingerprint(tokenizer, scheme)


def _namespace(model: CausalModel, marking: list[Any], pooling: str) -> str:
    settings = json.dumps([marking, model.layers, pooling, model.log_probs])
    return f"states{STATES_FORMAT}-{model.digest}-{hashlib.sha256(settings.encode()).hexdigest()[:16]}"


def _name(record: TokenRecord) -> bytes:
    return record.input_ids.astype("<i8").tobytes() + b"\0" + record.blocks.astype("<i8").tobytes()


def _lengths(record: TokenRecord) -> npt.NDArray[np.int64]:
    return np.bincount(record.blocks, minlength=len(record.step_positions) + 1)[1:].astype(np.int64)


def _shapes(model: CausalModel, record: TokenRecord, pooling: str) -> tuple[tuple[int, ...], tuple[int, int]]:
    n_steps, n_layers = len(record.step_positions), len(model.layers)
    n_columns = len(column_names(model.log_probs)) - len(POSITION_COLUMNS)
    if pooling == "tokens":
        return (int((record.blocks > 0).sum()), n_layers, model.width), (n_steps, n_columns)
    return (n_steps, len(POOLINGS[pooling]) * n_layers * model.width), (n_steps, n_columns)


def _packed(one: SolutionStates) -> bytes:
    return one.values.astype("<f2").tobytes() + one.columns.astype("<f4").tobytes()


def _n_bytes(model: CausalModel, record: TokenRecord, pooling: str) -> int:
    values, columns = _shapes(model, record, pooling)
    return 2 * int(np.prod(values)) + 4 * int(np.prod(columns))


def _unpacked(model: CausalModel, record: TokenRecord, pooling: str, blob: bytes) -> SolutionStates:
    values, columns = _shapes(model, record, pooling)
    n_bytes = 2 * int(np.prod(values))
    return SolutionStates(
        np.frombuffer(blob[:n_bytes], dtype="<f2").reshape(values).astype(np.float16),
        _lengths(record),
        np.frombuffer(blob[n_bytes:], dtype="<f4").reshape(columns).astype(np.float32),
        record.rows,
        record.steps,
    )


def pooled_states(model: CausalModel, record: TokenRecord, reading: TokenReading, pooling: str) -> SolutionStates:
    """Return the states of a reading, pooled and rounded to float16, whether they come from the cache or not."""
    if not np.isfinite(reading.states).all():
        reason = why_not_finite(model.precision)
        raise FloatingPointError(f"{model.model} computes NaN or infinity in {model.precision}: {reason}")
    lengths = _lengths(record)
    values = pooled_rows(reading.states, lengths, pooling)
    columns = step_columns(model, record, reading)
    sizes = np.abs(values).reshape(-1, len(model.layers), model.width).max(axis=(0, 2), initial=0)
    if (sizes > _LARGEST).any():
        layer, size = model.layers[int(sizes.argmax())], float(sizes.max())
        raise ValueError(
            f"layer {layer} of {model.model} holds a state of {size:.5g} in a solution of {len(lengths)} step(s), and "
            f"float16, in which states are kept, ends at {_LARGEST:.0f}: pass another layer"
        )
    return SolutionStates(values.astype(np.float16), lengths, columns, record.rows, record.steps)


def step_columns(model: CausalModel, record: TokenRecord, reading: TokenReading) -> npt.NDArray[np.float32]:
    """Return the log-probability columns of each step, none without log-probabilities. Some look at earlier steps."""
    lengths = _lengths(record)
    if reading.log_probs is None or reading.entropies is None:
        return np.zeros((len(lengths), 0), dtype=np.float32)
    ids = record.input_ids[record.blocks > 0]
    is_number = model.number_tokens[np.minimum(ids, len(model.number_tokens) - 1)]
    return _log_prob_columns(reading.log_probs, reading.entropies, is_number, lengths)


def pooled_rows(
    states: npt.NDArray[np.float32], lengths: npt.NDArray[np.int64], pooling: str
) -> npt.NDArray[np.float32]:
    """Return a row per step of what a pooling makes of its tokens, in the order of ``state_names``.

    >>> pooled_rows(np.array([[[1.0]], [[3.0]], [[5.0]]], dtype=np.float32), np.array([2, 1]), "mean")
    array([[2.],
           [5.]], dtype=float32)
    """
    if pooling == "tokens":
        return states
    table = states.reshape(len(states), -1)
    ends = np.cumsum(lengths)
    rows = [table[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    of: dict[str, Any] = {
        "mean": lambda one: one.mean(axis=0, dtype=np.float64),
        "std": lambda one: one.std(axis=0, dtype=np.float64),
        "min": lambda one: one.min(axis=0),
        "max": lambda one: one.max(axis=0),
        "last": lambda one: one[-1],
    }
    nothing = np.zeros(table.shape[1])
    return np.stack(
        [np.concatenate([of[kind](one) if len(one) else nothing for kind in POOLINGS[pooling]]) for one in rows]
    ).astype(np.float32)


def _log_prob_columns(
    log_probs: npt.NDArray[np.float32],
    entropies: npt.NDArray[np.float32],
    is_number: npt.NDArray[np.bool_],
    lengths: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    # Nothing stands before the very first token of a text without a problem, so nothing predicts it.
    known = ~np.isnan(log_probs)
    numbers = known & is_number
    steps = np.repeat(np.arange(len(lengths)), lengths)

    def sizes(kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        return np.bincount(steps[kept], minlength=len(lengths)).astype(np.int64)

    def means(values: npt.NDArray[np.float32], kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        return np.bincount(steps[kept], values[kept], len(lengths)) / np.maximum(sizes(kept), 1)

    every = log_prob_statistics(log_probs[known], sizes(known))
    of_numbers = log_prob_statistics(log_probs[numbers], sizes(numbers))
    order = list(LOG_PROB_COLUMNS)
    more = [means(entropies, known), means(-log_probs - entropies, known), np.log1p(sizes(numbers))]
    more += [of_numbers[:, order.index(name)] for name in _NUMBERS]
    more += [means(entropies, numbers), means(-log_probs - entropies, numbers)]
    return np.column_stack([every, *more]).astype(np.float32)
