"""What can be known of a model's attention before a pass: whether it looks ahead, and whether a mask can stop it."""

from __future__ import annotations

from typing import Any

import torch

INSTEAD = "choose a decoder-only model, or scheme='prefix' (one row and one pass per step)"
_DENSE_ATTENTION = (None, "eager", "sdpa")  # what adds a given mask to the scores
_ENCODERS_ALL_THE_SAME = (
    "bert-generation",
)  # listed as a causal language model, an encoder unless is_decoder
_NEITHER = {"xlnet": "its attention goes both ways, in an order of its own"}


def is_causal(model: Any) -> bool:
    """Whether the model's own attention never looks ahead, so that it needs no block mask.

    Read from the configuration and from what transformers lists as causal and as masked language models, whatever
    head the model has. An architecture in neither list is causal if all its attention layers say so.

    Parameters
    ----------
    model : transformers model
        May be wrapped: PEFT adapters, several devices, a compiled module.

    Raises
    ------
    ValueError
        For an encoder-decoder, and for XLNet: neither a decoder nor an encoder that takes a block mask.

    Examples
    --------
    >>> from transformers import BertConfig, BertModel
    >>> sizes = {"vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1}
    >>> is_causal(BertModel(BertConfig(**sizes))), is_causal(BertModel(BertConfig(**sizes, is_decoder=True)))
    (False, True)
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    inner = unwrapped(model)
    _refuse_other_kinds(inner)
    config = inner.config.get_text_config()
    looks_both_ways = getattr(config, "use_bidirectional_attention", None) in (True, "all")
    if looks_both_ways or getattr(config, "is_causal", True) is False:  # a decoder made an encoder
        return False
    if getattr(config, "is_decoder", False) or getattr(config, "causal", False):  # an encoder made a decoder
        return True
    kind = config.model_type
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES or kind in _ENCODERS_ALL_THE_SAME:
        return False
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return True
    return {layer.is_causal for layer in inner.modules() if hasattr(layer, "is_causal")} == {True}


def unwrapped(model: Any) -> Any:
    """Return the transformers model inside adapters, the wrapper for several devices, or a compiled module.

    Raises
    ------
    TypeError
        If there is none.
    """
    while True:
        if hasattr(model, "get_base_model"):
            model = model.get_base_model()
            continue
        inside = getattr(model, "module", getattr(model, "_orig_mod", None))
        if not isinstance(inside, torch.nn.Module):
            break
        model = inside
    if not hasattr(model, "config"):
        raise TypeError(f"model is {type(model).__name__} without a config, expected a transformers model")
    return model


def local_window(config: Any) -> int | None:
    """Return how far a local layer sees to either side, inclusive (ModernBERT); None without local layers."""
    has_local_layers = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    return config.sliding_window if has_local_layers else None


def score_dtype(inner: Any, device: torch.device) -> torch.dtype:
    """Return the dtype of the attention scores, as far as it can be seen from outside."""
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return next((weight.dtype for weight in inner.parameters() if weight.is_floating_point()), torch.float32)


def refuse_attention(config: Any) -> None:
    """Raise where an encoder takes no dense mask, or looks ahead by other ways than attention.

    Raises
    ------
    ValueError
    """
    attention = getattr(config, "_attn_implementation", None)
    if attention not in _DENSE_ATTENTION:
        raise ValueError(
            f"attention implementation {attention!r} takes no block-causal mask: load {config.model_type} with "
            "attn_implementation='sdpa' (or 'eager')"
        )
    if (
        getattr(config, "attention_type", None) == "block_sparse"
    ):  # BigBird; it falls back on short texts alone
        raise ValueError(
            f"attention_type='block_sparse' takes no block-causal mask: load {config.model_type} with "
            "attention_type='original_full'"
        )
    if config.model_type == "deberta-v2" and (getattr(config, "conv_kernel_size", 0) or 0) > 0:
        raise ValueError(
            f"deberta-v2 with a convolution layer (conv_kernel_size={config.conv_kernel_size}) looks ahead whatever "
            f"the mask: {INSTEAD}"
        )


def _refuse_other_kinds(inner: Any) -> None:
    why = _NEITHER.get(inner.config.model_type)
    if getattr(inner.config, "is_encoder_decoder", False) and any(
        name.rpartition(".")[2] == "decoder" for name, _ in inner.named_modules()
    ):  # a T5 for token classification says so too, but has the encoder alone
        why = "it is an encoder-decoder"
    if why is not None:
        raise ValueError(f"{inner.config.model_type} cannot answer all steps in one pass: {why}; {INSTEAD}")
