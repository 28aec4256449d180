"""One forward pass, and from it the model's answer at the marked positions alone."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from prmkit.models.tokens._attention import unwrapped
from prmkit.models.tokens._block_causal import block_causal


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
