"""Marked solutions through a token-level model: each once, with its like in length, results in the order given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from prmkit.features._batching import token_batches
from prmkit.features._hardware import best_device, no_more_threads_than_cores
from prmkit.features.marking._records import MarkedTokens, TokenRecord
from prmkit.models.tokens._readout import Readout, marked_outputs

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
            batch = _padded([rows[i] for i in chosen], pad_token_id, readout.by_blocks)
            outputs = marked_outputs(model, {name: value.to(place) for name, value in batch.items()}, readout)
            for i, output in zip(chosen, outputs.cpu().numpy(), strict=True):
                found[i] = output[: len(rows[i].step_positions)]
            bar.update(len(chosen))
    return found


def _padded(rows: list[Any], pad_token_id: int, by_blocks: bool) -> dict[str, torch.Tensor]:
    """Pad on the right: positions and what a token sees stay as they are without padding."""
    batch = {
        "input_ids": _stacked([row.input_ids for row in rows], pad_token_id),
        "attention_mask": _stacked([np.ones_like(row.input_ids) for row in rows], 0),
        "positions": _stacked([row.step_positions for row in rows], 0),
    }
    if by_blocks:
        batch["blocks"] = _stacked([row.blocks for row in rows], -1)
    return batch


def _stacked(values: list[np.ndarray], filler: int) -> torch.Tensor:
    out = np.full((len(values), max(map(len, values))), filler, dtype=np.int64)
    for line, value in zip(out, values, strict=True):
        line[: len(value)] = value
    return torch.from_numpy(out)


@contextmanager
def _ready(model: Any, device: str) -> Iterator[None]:
    """Evaluate on the device, and bring the weights back afterwards."""
    training, home = model.training, next(model.parameters()).device
    model.eval().to(device)
    try:
        yield
    finally:
        model.to(home).train(training)
