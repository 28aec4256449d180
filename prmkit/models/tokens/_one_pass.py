"""Marked solutions through a token-level model: each once, with its like in length, results in the order given."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from prmkit.marking.encoding import MarkedTokens, TokenRecord
from prmkit.models.tokens._block_causal import block_causal, unwrapped
from prmkit.utils.batching import token_batches
from prmkit.utils.hardware import best_device, no_more_threads_than_cores


def padded(rows: Sequence[np.ndarray], filler: float) -> np.ndarray:
    """Stack rows of different lengths, filled up on the right: what stands before keeps its position."""
    out = np.full((len(rows), max(1, *map(len, rows))), filler, dtype=rows[0].dtype)
    for line, row in zip(out, rows, strict=True):
        line[: len(row)] = row
    return out


@dataclass(frozen=True, slots=True)
class Readout:
    """What is read of a model's output.

    Parameters
    ----------
    kind : {"tokens", "sequence", "language_model"}
        A score per token, per row, or the logits of the vocabulary.
    reads : {"classes", "reward", "vocabulary"}
        What the loss works on: a logit per class, one raw reward, or the whole vocabulary.
    token_ids : tuple of int or None
        The reward tokens of a language model, worst first.
    by_blocks : bool
        Whether attention is block-causal: a token sees the problem and the steps up to its own.
    """

    kind: str
    reads: str = "classes"
    token_ids: tuple[int, ...] | None = None
    by_blocks: bool = False

    def for_scoring(self) -> Readout:
        """Return the same without what only a loss needs: the logits of the whole vocabulary."""
        return replace(self, reads="classes") if self.reads == "vocabulary" else self


def marked_outputs(model: Any, batch: Mapping[str, torch.Tensor], readout: Readout) -> torch.Tensor:
    """Run the model once and return what it says at ``batch["positions"]``, in float32.

    Parameters
    ----------
    model : transformers model, possibly wrapped for several devices
    batch : mapping
        ``input_ids`` (n_rows, n_tokens), ``attention_mask`` alike, ``positions`` (n_rows, n_marks), and with
        ``by_blocks`` also ``blocks`` (n_rows, n_tokens).
    readout : Readout

    Returns
    -------
    Tensor of shape (n_rows, n_marks) for rewards, (n_rows, n_marks, n_outputs) otherwise
    """
    positions = batch["positions"]
    options, place = _without_cache(model), positions
    if readout.kind == "language_model" and _takes(model, "logits_to_keep"):
        kept, place = torch.unique(positions, return_inverse=True)  # the vocabulary is wide: nowhere else
        options["logits_to_keep"] = kept
    with _attention(model, batch, readout) as mask:
        logits = model(input_ids=batch["input_ids"], **mask, **options).logits
    logits = (
        logits[:, None]
        if readout.kind == "sequence"
        else logits.gather(1, place[..., None].expand(-1, -1, logits.shape[-1]))
    ).float()
    if readout.reads == "vocabulary":
        return logits
    if readout.token_ids is not None:
        logits = logits[..., list(readout.token_ids)]
    if readout.reads == "classes":
        return logits
    return logits[..., 0] if logits.shape[-1] == 1 else logits[..., -1] - logits[..., 0]


@contextmanager
def _attention(model: Any, batch: Mapping[str, torch.Tensor], readout: Readout) -> Iterator[dict[str, Any]]:
    if not readout.by_blocks:
        yield {"attention_mask": batch["attention_mask"]}
        return
    with block_causal(model, batch["blocks"]) as mask:
        yield mask


def _without_cache(model: Any) -> dict[str, Any]:
    """Keys and values of a finished text are of no use."""
    return {"use_cache": False} if _takes(model, "use_cache") else {}


def _takes(model: Any, name: str) -> bool:
    return name in inspect.signature(unwrapped(model).forward).parameters


_SHORT = 64
"""Rows shorter than this count as this long: a batch of many tiny rows is no faster."""
_PER_CPU_THREAD = 512
"""Tokens that keep a thread of a CPU busy: with more, a batch is no faster, and pads rows of less equal length."""


def score_marked(
    model: Any,
    rows: Sequence[MarkedTokens | TokenRecord],
    readout: Readout,
    *,
    pad_token_id: int,
    tokens_per_batch: int = 8192,
    device: str | None = None,
    show_progress: bool = False,
) -> list[np.ndarray]:
    """Return what a model says at the marked positions of each row.

    Parameters
    ----------
    model : transformers model
        Its weights rest on the CPU; they go to ``device`` for the time of the call.
    rows : sequence of MarkedTokens or TokenRecord
    readout : Readout
    pad_token_id : int
    tokens_per_batch : int
        Most padded tokens per pass, on a CPU at most 512 per thread; a longer row is a batch of its own.
    device : str or None
        None: a GPU if there is one.
    show_progress : bool

    Returns
    -------
    list of ndarray, one per row, dtype float32
        Of shape (n_steps,) for rewards, (n_steps, n_outputs) otherwise.
    """
    place = device or best_device()
    lengths = np.array([len(row.input_ids) for row in rows])
    found: list[np.ndarray] = [np.empty(0)] * len(rows)
    bar = tqdm(
        total=len(rows), desc="scoring", unit="solution", delay=2, disable=None if show_progress else True
    )
    with _ready(model, place), torch.inference_mode(), no_more_threads_than_cores(), bar:
        budget = tokens_per_batch
        if torch.device(place).type == "cpu":
            budget = min(budget, _PER_CPU_THREAD * torch.get_num_threads())
        for chosen in token_batches(np.maximum(lengths, _SHORT), budget):
            batch = _batch([rows[i] for i in chosen], pad_token_id, readout.by_blocks)
            outputs = marked_outputs(model, {name: value.to(place) for name, value in batch.items()}, readout)
            for i, output in zip(chosen, outputs.cpu().numpy(), strict=True):
                found[i] = output[: len(rows[i].step_positions)]
            bar.update(len(chosen))
    return found


def _batch(rows: list[Any], pad_token_id: int, by_blocks: bool) -> dict[str, torch.Tensor]:
    columns = {
        "input_ids": padded([row.input_ids for row in rows], pad_token_id),
        "attention_mask": padded([np.ones_like(row.input_ids) for row in rows], 0),
        "positions": padded([row.step_positions for row in rows], 0),
    }
    if by_blocks:
        columns["blocks"] = padded([row.blocks for row in rows], -1)
    return {name: torch.from_numpy(column) for name, column in columns.items()}


@contextmanager
def _ready(model: Any, device: str) -> Iterator[None]:
    """Evaluate on the device, and bring the weights back afterwards."""
    training, home = model.training, next(model.parameters()).device
    model.eval().to(device)
    try:
        yield
    finally:
        model.to(home).train(training)
