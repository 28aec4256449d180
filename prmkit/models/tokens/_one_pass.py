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
from prmkit.models.tokens._readout import Readout, marked_outputs, padded

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
