"""Fixed dropout masks: one sub-network of a torch module that answers each row the same, however it is batched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import numpy as np
import torch

NO_DROPOUT = (
    "the model has no dropout in use: train it with some, as StepMLP(dropout=0.3) or StepTransformer(dropout=0.1), or "
    "pass rate= to drop features of a model that was trained without; or take StepEnsemble, whose members need none"
)


def dropout_layers(module: torch.nn.Module, rate: float | None = None) -> list[torch.nn.Dropout]:
    """Return the dropout layers of a module; without a rate those that drop anything in training."""
    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.Dropout)]
    return [layer for layer in layers if rate is not None or layer.p > 0]


@contextmanager
def sub_network(module: torch.nn.Module, seed: Sequence[int], rate: float | None = None) -> Iterator[None]:
    """Drop the same features for every row and position, as long as the context lasts.

    Each dropout layer multiplies its input's features by a mask of its own, ``keep / (1 - rate)``, drawn from
    ``seed`` and the number of the layer. The module stays in evaluation mode. What has four dimensions are
    attention probabilities, whose last dimension is no feature: they stay whole.

    Parameters
    ----------
    module : torch.nn.Module
    seed : sequence of int
    rate : float in (0, 1), optional
        Of all layers; None: each its own.

    Raises
    ------
    ValueError
        If nothing was dropped.
    """
    layers = dropout_layers(module, rate)
    masks = [
        _FixedMask([*seed, number], layer.p if rate is None else rate) for number, layer in enumerate(layers)
    ]
    hooks = []
    try:
        for layer, mask in zip(layers, masks, strict=True):
            hooks.append(layer.register_forward_hook(mask))
        yield
    finally:
        for hook in hooks:
            hook.remove()
    if not any(mask.drawn for mask in masks):
        raise ValueError(NO_DROPOUT)


class _FixedMask:
    """Forward hook of a dropout layer, which in evaluation hands on its input as it came."""

    def __init__(self, seed: list[int], rate: float):
        self.seed = seed
        self.rate = rate
        self.thread = get_ident()
        self.drawn: dict[Any, torch.Tensor] = {}

    def __call__(self, _layer: torch.nn.Module, _inputs: Any, values: torch.Tensor) -> torch.Tensor:
        if values.ndim > 3 or get_ident() != self.thread:  # others, who use the same model, get it whole
            return values
        kind = values.shape[-1], values.device, values.dtype
        if kind not in self.drawn:
            kept = np.random.default_rng(self.seed).random(values.shape[-1]) >= self.rate
            self.drawn[kind] = torch.as_tensor(kept / (1 - self.rate)).to(values.device, values.dtype)
        return values * self.drawn[kind]
