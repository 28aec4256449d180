"""The torch modules behind the heads: values (n, positions, features) to logits (n, positions, classes)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn


class ScaledModule(nn.Module):
    """A module that first brings each feature to zero mean and unit deviation."""

    def __init__(self, n_features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("deviation", torch.ones(n_features))

    def scale_to(self, mean: np.ndarray, deviation: np.ndarray) -> None:
        """Set what is subtracted and divided by."""
        self.mean = torch.as_tensor(mean)
        self.deviation = torch.as_tensor(deviation)

    def scaled(self, values: torch.Tensor) -> torch.Tensor:
        """Return the standardised values."""
        return (values - self.mean) / self.deviation


class Perceptron(ScaledModule):
    """Each position by itself."""

    def __init__(self, n_features: int, n_classes: int, hidden_size: int, dropout: float):
        super().__init__(n_features)
        if hidden_size == 0:
            self.layers: nn.Module = nn.Linear(n_features, n_classes)
        else:
            self.layers = nn.Sequential(
                nn.Linear(n_features, hidden_size),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(hidden_size, n_classes),
            )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        logits: torch.Tensor = self.layers(self.scaled(values))
        return logits


class CausalEncoder(ScaledModule):
    """A BERT-family encoder over positions, each seeing itself and those before it."""

    def __init__(self, n_features: int, n_classes: int, backbone: Any, dropout: float):
        super().__init__(n_features)
        config = backbone.config
        self.project = (
            nn.Identity() if n_features == config.hidden_size else nn.Linear(n_features, config.hidden_size)
        )
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(config.hidden_size, n_classes)
        self.last_position = config.max_position_embeddings - 1

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the logits. Padding stands on the right, where no causal position looks."""
        embeds = self.project(self.scaled(values))
        n = embeds.shape[1]
        # A solution longer than the positions the encoder knows keeps the last of them.
        place = torch.arange(n, device=embeds.device).clamp(max=self.last_position)
        hidden = self.backbone(
            inputs_embeds=embeds,
            attention_mask=self.attention_mask(values),
            position_ids=place.expand(len(embeds), n),
        ).last_hidden_state
        logits: torch.Tensor = self.classify(self.dropout(hidden))
        return logits

    def attention_mask(self, values: torch.Tensor) -> torch.Tensor:
        """Return what is added to the attention scores, of shape (n, 1, positions, positions)."""
        n = values.shape[1]
        never = torch.full((n, n), torch.finfo(values.dtype).min, dtype=values.dtype, device=values.device)
        return never.triu(1).expand(len(values), 1, n, n)
