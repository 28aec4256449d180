"""A token classifier for the architectures to which transformers gives none, in the form that it gives to others."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import TokenClassifierOutput
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_TASK = "ForTokenClassification"


class WithTokenHead:
    """Give an architecture a linear layer ``score`` on its last hidden states. The weights have transformers' names."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)  # type: ignore[call-arg]
        model: Any = self
        setattr(model, model.base_model_prefix, AutoModel.from_config(config))  # type: ignore[no-untyped-call]
        self.score = nn.Linear(state_width(config), int(config.num_labels or 0))
        model.post_init()

    def forward(self, input_ids: torch.Tensor, **kwargs: Any) -> TokenClassifierOutput:
        """Return ``logits`` of shape (batch, n_tokens, n_outputs). Further arguments go to the transformer."""
        model: Any = self
        output = model.base_model(input_ids=input_ids, **kwargs)
        return TokenClassifierOutput(
            logits=self.score(output.last_hidden_state), hidden_states=getattr(output, "hidden_states", None)
        )


def state_width(config: PreTrainedConfig) -> int:
    """Return the width of the last hidden states of a transformer."""
    text_config: Any = config.get_text_config()
    # OPT projects its states back to the width of its embeddings.
    return int(getattr(text_config, "word_embed_proj_dim", None) or text_config.hidden_size)


@cache
def token_classifier(config_class: Any) -> type[PreTrainedModel] | None:
    """Return the class of a token classifier, or None for an architecture that reads no text from left to right.

    It is a class of transformers in all but its origin: it is saved and loaded as those are, by safetensors alone.
    """
    kind = config_class.model_type
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return None
    mapping = AutoModel._model_mapping
    if config_class not in mapping or getattr(config_class(), "is_encoder_decoder", False):
        return None
    backbone: Any = mapping[config_class]
    parent = next(base for base in backbone.__mro__ if base.__name__.endswith("PreTrainedModel"))
    name = backbone.__name__.removesuffix("Model") + _TASK
    fields = {"__module__": __name__, "config_class": config_class}
    return cast("type[PreTrainedModel]", type(name, (WithTokenHead, parent), fields))


def new_token_classifier(config: PreTrainedConfig) -> PreTrainedModel:
    """Build a token classifier with random weights. A pickle names this function, since it cannot name the class."""
    config_class: Any = type(config)
    kind = token_classifier(config_class)
    if kind is None:
        raise TypeError(f"no token classifier for a {config.model_type}")
    return kind(config)
