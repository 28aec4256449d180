"""Steps through a token-level model: each solution once, in batches of similar length, results in the given order."""

from __future__ import annotations

import inspect
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from tqdm.auto import tqdm

from prmkit.data.solution import Step, iter_solutions, name_solutions
from prmkit.features.passes.block_causal import block_causal, unwrapped
from prmkit.features.passes.prefix_tree import shared_beginnings
from prmkit.features.passes.tree_attention import longest_shared, position_offset, tree_outputs
from prmkit.marking.encoding import MarkedTokens, TokenRecord, token_records
from prmkit.marking.scheme import MarkingScheme
from prmkit.models.tokens._classifier_head import WithTokenHead, new_token_classifier, state_width
from prmkit.utils.environment import (
    UnscoredWarning,
    best_device,
    kept_generators,
    no_more_threads_than_cores,
    on_device,
    safe_after_fork,
)
from prmkit.utils.ragged import token_batches

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedTokenizerBase

_LOG = logging.getLogger(__name__)
OUTCOME = "outcome"
"""Name of the objective that a solution's final answer is right."""
OBJECTIVES = "objectives"
"""Name of the layer that further objectives are read from, in a model."""
# A batch of many tiny rows is no faster, so shorter rows count as this long.
_SHORT = 64
# Tokens that keep a CPU thread busy. A larger batch is no faster, and pads rows of less equal length.
_PER_CPU_THREAD = 512


@dataclass(frozen=True, slots=True)
class Readout:
    """Say which of a model's outputs are the scores.

    ``kind``: a score per token ("tokens"), per row ("sequence"), or the logits of the vocabulary ("language_model").
    ``reads`` is the input of the loss: a logit per class ("classes"), one raw reward ("reward"), the whole
    "vocabulary", or the logits of all further objectives, side by side ("objectives").
    ``token_ids`` are a language model's reward tokens, worst first. ``by_blocks``: attention is
    block-causal.
    """

    kind: str
    reads: str = "classes"
    token_ids: tuple[int, ...] | None = None
    by_blocks: bool = False

    def for_scoring(self) -> Readout:
        """Return the same without the logits of the whole vocabulary, which only a loss needs."""
        return replace(self, reads="classes") if self.reads == "vocabulary" else self


class NotFiniteError(ValueError):
    """A model's outputs are no numbers, which says nothing of a step and is not a matter of its length."""


@dataclass(frozen=True)
class TokenScorer:
    """A model with all that is needed to score steps. ``classes`` are the labels of the outputs, worst first.

    ``objectives`` are the classes of further objectives by name, in the order of their outputs.
    A pickle holds configuration and weights in place of the module, whose hooks cannot be pickled.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    scheme: MarkingScheme
    readout: Readout
    max_length: int | None
    classes: tuple[Any, ...]
    objectives: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def objective(self, name: str, *args: Any, **kwargs: Any) -> npt.NDArray[np.float32]:
        """Return the logits of one further objective, for the arguments of ``outputs``."""
        before = list(self.objectives)[: list(self.objectives).index(name)]
        start = sum(len(self.objectives[other]) for other in before)
        reader = replace(self, readout=replace(self.readout, reads="objectives"))
        return reader.outputs(*args, **kwargs)[:, start : start + len(self.objectives[name])]

    def outputs(
        self, steps: Sequence[Step], *, too_long: str, tokens_per_batch: int, device: str | None, show_progress: bool
    ) -> npt.NDArray[np.float32]:
        """Return the model's outputs in the order of the steps, of shape (n_steps,) for rewards, (n_steps, n_outputs)
        otherwise.

        Steps that do not fit are NaN with ``too_long="nan"``, else an error. A NotFiniteError says that the model
        itself overflows.
        """
        records = token_records(self.tokenizer, steps, self.scheme, self.max_length, too_long)
        record_outputs = score_marked(
            self.model,
            records,
            self.readout,
            pad_token_id=self.tokenizer.pad_token_id,
            tokens_per_batch=tokens_per_batch,
            device=device,
            show_progress=show_progress,
        )
        return self.step_outputs(steps, records, record_outputs, too_long)

    def step_outputs(
        self,
        steps: Sequence[Step],
        records: Sequence[TokenRecord],
        record_outputs: Sequence[npt.NDArray[np.float32]],
        too_long: str,
    ) -> npt.NDArray[np.float32]:
        """Bring the outputs at the marked positions of each record into the order of the steps, as ``outputs`` does."""
        n_outputs = len(self.classes)
        if self.readout.reads == "objectives":
            n_outputs = sum(map(len, self.objectives.values()))
        shape = () if self.readout.reads == "reward" else (n_outputs,)
        step_outputs = np.full((len(steps), *shape), np.nan, dtype=np.float32)
        n_failed = 0
        for record, output in zip(records, record_outputs, strict=True):
            step_outputs[record.rows] = output[record.steps]
            n_failed += int((~np.isfinite(output[record.steps].reshape(len(record.rows), -1))).any(axis=1).sum())
        if n_failed:
            raise NotFiniteError(self._not_finite(n_failed, len(steps)))
        n_lost = len(steps) - sum(len(record.rows) for record in records)
        if n_lost and too_long != "nan":
            raise ValueError(
                f"{n_lost} of {len(steps)} steps lie beyond the {self.max_length} tokens that are read: raise "
                "max_length if the model has room, or choose too_long='nan' to have no score for these"
            )
        return step_outputs

    def _not_finite(self, n_failed: int, n_steps: int) -> str:
        weights = [value for value in self.model.parameters() if value.is_floating_point()]
        where = f"the model gives NaN or infinity for {n_failed} of {n_steps} steps"
        if not all(bool(value.isfinite().all()) for value in weights):
            return f"{where}, because its weights are not finite: train it again, or restore its files"
        precision = str(weights[0].dtype).removeprefix("torch.")
        advice = "look at the model" if precision == "float32" else "load it with dtype='float32'"
        return f"{where}: its activations overflow in {precision}. Too long steps have nothing to do with it: {advice}"

    def __getstate__(self) -> dict[str, Any]:
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        model = state.pop("model")
        kind = new_token_classifier if isinstance(model, WithTokenHead) else type(model)
        return {**state, "kind": kind, "config": model.config, "weights": model.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        kind, config, weights = (state.pop(name) for name in ("kind", "config", "weights"))
        dtype = next(value.dtype for value in weights.values() if value.is_floating_point())
        # Initial weights are drawn, only to be overwritten: the caller's generator must not notice.
        with kept_generators():
            model = kind(config).to(dtype)
        if objectives := state.get("objectives"):
            add_objectives(model, objectives)
        model.load_state_dict(weights)
        for name, value in {**state, "model": model.eval()}.items():
            object.__setattr__(self, name, value)


def warn_of_unscored(steps: Sequence[Step], outputs: npt.NDArray[np.float32], *, stacklevel: int) -> None:
    """Warn of steps whose outputs are NaN because they do not fit, and name their solutions."""
    without = np.asarray(np.isnan(outputs.reshape(len(outputs), -1)).any(axis=1))
    if not without.any():
        return
    found = list(iter_solutions(steps))
    concerned = [i for i, (_, rows, _) in enumerate(found) if without[rows].any()]
    names = name_solutions([one for one, _, _ in found], concerned, [rows[0] for _, rows, _ in found])
    warnings.warn(
        f"{int(without.sum())} of {len(outputs)} steps do not fit into the model, in {names}: they are NaN. "
        "Raise max_length if the model has room, or leave them out",
        UnscoredWarning,
        stacklevel=stacklevel,
    )


def score_marked(
    model: nn.Module,
    rows: Sequence[MarkedTokens | TokenRecord],
    readout: Readout,
    *,
    pad_token_id: int,
    tokens_per_batch: int = 8192,
    device: str | None = None,
    show_progress: bool = False,
    share: bool = True,
) -> list[npt.NDArray[np.float32]]:
    """Return the outputs of a model at the marked positions of each row: an array with a line per step.

    Common beginnings of rows are computed once if the model allows it, unless ``share`` is False.

    The weights rest on the CPU, and go to ``device`` for the time of the call. A batch has at most
    ``tokens_per_batch`` tokens, padding included. A longer row is a batch of its own.
    """
    place = device or best_device()
    lengths = np.array([len(row.input_ids) for row in rows])
    row_outputs: list[npt.NDArray[np.float32]] = [np.empty(0, dtype=np.float32)] * len(rows)
    bar = tqdm(total=len(rows), desc="scoring", unit="solution", delay=2, disable=None if show_progress else True)
    with safe_after_fork(), no_more_threads_than_cores(), ready(model, place), torch.inference_mode(), bar:
        budget = tokens_per_batch
        if torch.device(place).type == "cpu":
            budget = min(budget, _PER_CPU_THREAD * torch.get_num_threads())
        by_itself = np.arange(len(rows))
        # A sequence classifier takes padding for no token, a tree does not.
        if share and (readout.kind != "sequence" or all(row.input_ids[-1] != pad_token_id for row in rows)):
            in_tree = _score_beginnings_once(model, rows, readout, budget, torch.device(place), row_outputs, bar.update)
            by_itself = np.setdiff1d(by_itself, in_tree)
        for batch_rows in token_batches(np.maximum(lengths[by_itself], _SHORT), budget):
            indices = by_itself[batch_rows]
            batch = _batch([rows[i] for i in indices], pad_token_id, readout.by_blocks)
            outputs = marked_outputs(model, {name: value.to(place) for name, value in batch.items()}, readout)
            for i, output in zip(indices, outputs.cpu().numpy(), strict=True):
                row_outputs[i] = output[: len(rows[i].step_positions)]
            bar.update(len(indices))
    return row_outputs


def _score_beginnings_once(
    model: nn.Module,
    rows: Sequence[MarkedTokens | TokenRecord],
    readout: Readout,
    budget: int,
    device: torch.device,
    row_outputs: list[npt.NDArray[np.float32]],
    progress: Callable[[int], object],
) -> list[int]:
    """Fill in the outputs of rows with common beginnings, where the model allows it, and return which these are."""
    indices, shared = shared_beginnings(rows, readout.by_blocks, longest_shared(model))
    if not indices:
        return []
    raw = replace(readout, reads="vocabulary")
    last_only = readout.kind == "sequence"
    offset = position_offset(model, partial(marked_outputs, model, readout=raw), readout.by_blocks, last_only, device)
    if offset is None:
        return []
    chosen = [rows[i] for i in indices]
    forward = partial(marked_outputs, model, readout=readout)
    outputs, n_computed = tree_outputs(
        model,
        chosen,
        shared,
        forward,
        budget=budget,
        by_blocks=readout.by_blocks,
        offset=offset,
        device=device,
        progress=progress,
    )
    n_tokens = sum(len(row.input_ids) for row in chosen)
    _LOG.debug("%d rows of %d tokens are scored as a tree of %d", len(chosen), n_tokens, n_computed)
    for i, output in zip(indices, outputs, strict=True):
        row_outputs[i] = output.cpu().numpy()
    return indices


def marked_outputs(
    model: nn.Module, batch: Mapping[str, torch.Tensor], readout: Readout, cache: DynamicCache | None = None
) -> torch.Tensor:
    """Run the model once and return its outputs at ``batch["positions"]``, in float32.

    A batch has ``input_ids``, ``attention_mask`` and, with ``by_blocks``, ``blocks`` of shape (n_rows, n_tokens), and
    ``positions`` of shape (n_rows, n_marks). Within a tree of rows it has ``position_ids`` in place of a mask. The
    result has the shape of the positions for rewards, with a last axis of outputs otherwise.

    With a ``cache`` of earlier tokens, mask and blocks are those of all tokens, and the cache is extended.
    """
    if readout.reads == "objectives":
        return marked_objectives(model, batch, replace(readout, reads="classes"))[1]
    positions = batch["positions"]
    # Keys and values of a finished text are of no use.
    options: dict[str, Any] = {"use_cache": cache is not None} if _takes(model, "use_cache") else {}
    if cache is not None:
        options["past_key_values"] = cache
    columns = positions
    if readout.kind == "language_model" and _takes(model, "logits_to_keep"):
        # The vocabulary is wide: its logits are computed at marked positions only.
        options["logits_to_keep"], columns = torch.unique(positions, return_inverse=True)
    in_tree = "position_ids" in batch
    with _attention(model, batch, readout) as mask, _kept_scores(model, readout) as token_scores:
        logits: torch.Tensor = model(input_ids=batch["input_ids"], **mask, **options).logits
    if readout.kind == "sequence" and in_tree:
        # The model picks the last token of a row. Rows end within a tree.
        (logits,) = token_scores
    logits = (
        logits[:, None]
        if readout.kind == "sequence" and not in_tree
        else logits.gather(1, columns[..., None].expand(-1, -1, logits.shape[-1]))
    ).float()
    if readout.reads == "vocabulary":
        return logits
    if readout.token_ids is not None:
        logits = logits[..., list(readout.token_ids)]
    if readout.reads == "classes":
        return logits
    return logits[..., 0] if logits.shape[-1] == 1 else logits[..., -1] - logits[..., 0]


def marked_objectives(
    model: nn.Module, batch: Mapping[str, torch.Tensor], readout: Readout
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what :func:`marked_outputs` does, and beside it the logits of all further objectives at the positions."""
    with _kept_objectives(model) as kept:
        outputs = marked_outputs(model, batch, readout)
    (logits,) = kept
    return outputs, logits.gather(1, batch["positions"][..., None].expand(-1, -1, logits.shape[-1])).float()


def add_objectives(model: nn.Module, objectives: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """Give a model a linear layer on its last states, with a logit per class of each objective. Return its weights.

    It begins at zero: nothing is drawn, so all other weights are those of a model without it.
    """
    inner = unwrapped(model)
    if inner.base_model is inner:
        raise ValueError(
            f"a {type(inner).__name__} does not tell its last states apart, and further objectives read them: leave "
            "outcome_weight and extra_targets out, or choose another model"
        )
    n_outputs = sum(map(len, objectives.values()))
    layer = nn.Linear(state_width(inner.config), n_outputs, dtype=inner.dtype, device="meta")
    layer = layer.to_empty(device=inner.device)
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    setattr(inner, OBJECTIVES, layer)
    return tuple(f"{OBJECTIVES}.{name}" for name, _ in layer.named_parameters())


@contextmanager
def _kept_objectives(model: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Keep what the layer of further objectives gives for every token, in this thread."""
    inner, kept, thread = unwrapped(model), [], threading.get_ident()

    def keep(_module: nn.Module, _args: object, output: Any) -> None:
        if threading.get_ident() == thread:
            kept.append(getattr(inner, OBJECTIVES)(output[0]))

    def give(_module: nn.Module, _args: object, output: Any) -> None:
        # On several devices a weight counts as unused, unless an output of the model leads to it.
        if threading.get_ident() == thread:
            output["hidden_states"] = (kept[-1],)

    hooks = [inner.base_model.register_forward_hook(keep), inner.register_forward_hook(give)]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _attention(model: nn.Module, batch: Mapping[str, torch.Tensor], readout: Readout) -> Iterator[dict[str, Any]]:
    """Give the attention mask as keyword arguments of the model."""
    if "position_ids" in batch:
        yield {"position_ids": batch["position_ids"]}
        return
    if not readout.by_blocks:
        yield {"attention_mask": batch["attention_mask"]}
        return
    n_known = batch["blocks"].shape[1] - batch["input_ids"].shape[1]
    with block_causal(model, batch["blocks"], n_known) as mask:
        yield mask


@contextmanager
def _kept_scores(model: nn.Module, readout: Readout) -> Iterator[list[torch.Tensor]]:
    """Keep what the head of a sequence classifier gives for every token, in this thread."""
    kept: list[torch.Tensor] = []
    head = getattr(unwrapped(model), "score", None)
    if readout.kind != "sequence" or not isinstance(head, nn.Module):
        yield kept
        return
    thread = threading.get_ident()

    def keep(_module: nn.Module, _args: object, output: torch.Tensor) -> None:
        if threading.get_ident() == thread:
            kept.append(output)

    hook = head.register_forward_hook(keep)
    try:
        yield kept
    finally:
        hook.remove()


def _takes(model: nn.Module, name: str) -> bool:
    return name in inspect.signature(unwrapped(model).forward).parameters


def _batch(rows: Sequence[MarkedTokens | TokenRecord], pad_token_id: int, by_blocks: bool) -> dict[str, torch.Tensor]:
    columns = {
        "input_ids": padded([row.input_ids for row in rows], pad_token_id),
        "attention_mask": padded([np.ones_like(row.input_ids) for row in rows], 0),
        "positions": padded([row.step_positions for row in rows], 0),
    }
    if by_blocks:
        columns["blocks"] = padded([row.blocks for row in rows], -1)
    return {name: torch.from_numpy(column) for name, column in columns.items()}


def padded(rows: Sequence[npt.NDArray[Any]], filler: float) -> npt.NDArray[Any]:
    """Stack rows of different lengths, filled up on the right, so that every token keeps its position."""
    table = np.full((len(rows), max(1, *map(len, rows))), filler, dtype=rows[0].dtype)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table


@contextmanager
def ready(model: nn.Module, device: str) -> Iterator[None]:
    """Evaluate on the device, and bring the weights back afterwards."""
    training = model.training
    try:
        with on_device(model.eval(), device):
            yield
    finally:
        model.train(training)
