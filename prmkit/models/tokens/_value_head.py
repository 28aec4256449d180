"""A transformer with a scoring head that no class of the library has, and the reading of such a head from a file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers.modeling_outputs import TokenClassifierOutput

from prmkit.models.tokens._presets import HeadLayout


class ValueHeadModel(nn.Module):
    """A transformer, and a head that scores each of its last hidden states.

    Parameters
    ----------
    backbone : transformers model without a head
    score : Module
        From (…, hidden size) to (…, number of outputs).

    Attributes
    ----------
    config : transformers configuration of the backbone
    """

    def __init__(self, backbone: Any, score: nn.Module):
        super().__init__()
        self.config = backbone.config
        self.backbone = backbone
        self.score = score

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> TokenClassifierOutput:
        """Return ``logits`` of shape (batch, n_tokens, n_outputs); further arguments go to the backbone."""
        kwargs.setdefault("use_cache", False)  # keys and values of a finished text are of no use
        output = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        return TokenClassifierOutput(logits=self.score(output.last_hidden_state))

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of the tokens."""
        return self.backbone.get_input_embeddings()


def read_head(
    folder: Path, files: Mapping[str, Path], head: HeadLayout, keys: Collection[str], hidden_size: int
) -> nn.Sequential:
    """Build a head from its weights in a checkpoint.

    Parameters
    ----------
    folder : Path
        Of the checkpoint, for the errors.
    files : mapping of str to Path
        The file of each weight.
    head : HeadLayout
    keys : collection of str
        The weights of the head.
    hidden_size : int
        Features of the first layer.

    Raises
    ------
    ValueError
        If a layer does not fit what comes before it, or the last one has another number of outputs.
    """
    weights = {}
    for key in keys:
        with safe_open(files[key], framework="pt") as opened:
            weights[key] = opened.get_tensor(key)
    modules: list[nn.Module] = []
    width = hidden_size
    for layer in head.layers:
        weight, bias = weights[f"{layer}.weight"], weights.get(f"{layer}.bias")
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
        linear.weight = nn.Parameter(weight)
        if bias is not None:
            linear.bias = nn.Parameter(bias)
        if weight.shape[1] != width:
            raise ValueError(f"{layer}.weight of {folder} reads {weight.shape[1]} features, expected {width}")
        width = weight.shape[0]
        modules += [linear, nn.ReLU()]
    if width != head.n_outputs:
        raise ValueError(
            f"{head.layers[-1]}.weight of {folder} has {width} outputs, expected {head.n_outputs}: choose the preset "
            "of this head, or convert the checkpoint"
        )
    return nn.Sequential(*modules[:-1])
