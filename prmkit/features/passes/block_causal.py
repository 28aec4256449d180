"""Attention in blocks, so that one pass of a bidirectional encoder answers all steps without look-ahead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from prmkit.utils.environment import kept_generators

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

INSTEAD = "choose a decoder-only model, or scheme='prefix' (one row and one pass per step)"
# These implementations of attention add a given mask to the scores.
_DENSE_ATTENTION = (None, "eager", "sdpa")
# It is listed as a causal language model, but is an encoder unless is_decoder.
_LISTED_AS_CAUSAL = ("bert-generation",)
_NEITHER = {"xlnet": "its attention goes both ways, in an order of its own"}


def is_causal(model: nn.Module) -> bool:
    """Return whether the model's own attention never looks ahead, so that it needs no block mask.

    The answer comes from the configuration and from transformers' lists of causal and of masked language models,
    whatever head the model has. An architecture in neither list is causal if all its attention layers say so. An
    encoder-decoder or XLNet is refused.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    inner = unwrapped(model)
    _refuse_other_kinds(inner)
    config = inner.config.get_text_config()
    looks_both_ways = getattr(config, "use_bidirectional_attention", None) in (True, "all")
    # A decoder can be configured as an encoder, and an encoder as a decoder.
    if looks_both_ways or getattr(config, "is_causal", True) is False:
        return False
    if getattr(config, "is_decoder", False) or getattr(config, "causal", False):
        return True
    kind = config.model_type
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES or kind in _LISTED_AS_CAUSAL:
        return False
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return True
    return {layer.is_causal for layer in inner.modules() if hasattr(layer, "is_causal")} == {True}


def unwrapped(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model inside adapters, a wrapper for several devices, or a compiled module."""
    inner: Any = model
    while True:
        if hasattr(inner, "get_base_model"):
            inner = inner.get_base_model()
            continue
        inside = getattr(inner, "module", getattr(inner, "_orig_mod", None))
        if not isinstance(inside, nn.Module):
            break
        inner = inside
    if not hasattr(inner, "config"):
        raise TypeError(f"model is {type(inner).__name__} without a config, expected a transformers model")
    return cast("PreTrainedModel", inner)


def local_window(config: PreTrainedConfig) -> int | None:
    """Return how far a local layer sees to either side, inclusive (ModernBERT), or None without local layers."""
    has_local_layers = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    return getattr(config, "sliding_window", None) if has_local_layers else None


def score_dtype(inner: PreTrainedModel, device: torch.device) -> torch.dtype:
    """Return the dtype of the attention scores, as far as one can tell from outside the model."""
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return next((weight.dtype for weight in inner.parameters() if weight.is_floating_point()), torch.float32)


def refuse_attention(config: PreTrainedConfig) -> None:
    """Raise ValueError if an encoder takes no dense mask, or looks ahead by other ways than attention."""
    attention = getattr(config, "_attn_implementation", None)
    if attention not in _DENSE_ATTENTION:
        raise ValueError(
            f"attention implementation {attention!r} takes no block-causal mask: load {config.model_type} with "
            "attn_implementation='sdpa' (or 'eager')"
        )
    # BigBird falls back to full attention, but only on short texts.
    if getattr(config, "attention_type", None) == "block_sparse":
        raise ValueError(
            f"attention_type='block_sparse' takes no block-causal mask: load {config.model_type} with "
            "attention_type='original_full'"
        )
    if config.model_type == "deberta-v2" and (getattr(config, "conv_kernel_size", 0) or 0) > 0:
        raise ValueError(
            f"deberta-v2 with a convolution layer (conv_kernel_size={getattr(config, 'conv_kernel_size', 0)}) looks "
            f"ahead whatever the mask: {INSTEAD}"
        )


def _refuse_other_kinds(inner: PreTrainedModel) -> None:
    """Raise ValueError for models that are neither decoders nor encoders."""
    why = _NEITHER.get(inner.config.model_type)
    # A T5 for token classification is configured as an encoder-decoder too, but has only the encoder.
    has_decoder = any(name.rpartition(".")[2] == "decoder" for name, _ in inner.named_modules())
    if getattr(inner.config, "is_encoder_decoder", False) and has_decoder:
        why = "it is an encoder-decoder"
    if why is not None:
        raise ValueError(f"{inner.config.model_type} cannot answer all steps in one pass: {why}; {INSTEAD}")


@contextmanager
def block_causal(model: nn.Module, blocks: torch.Tensor, start: int = 0) -> Iterator[dict[str, Any]]:
    """Let each token see only the tokens of its own block and of the blocks before, within the context.

    The context gives keyword arguments for calls of the model, beside ``input_ids``. ``blocks`` of shape (n_rows,
    n_tokens) are 0 for the problem, t + 1 for step t, -1 for padding, which must be on the right. The mask adds 0 to
    the attention scores, or the smallest number of the model's (or autocast's) dtype. Layers with a local window keep
    it. A causal model gets its ordinary mask. Memory grows with ``n_rows * n_tokens ** 2``. The tokens before ``start``
    are those whose keys and values are known, so the mask has no rows for them.

    >>> from transformers import BertConfig, BertModel
    >>> config = BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1)
    >>> with block_causal(BertModel(config), torch.tensor([[0, 0, 1, -1]])) as mask:
    ...     (mask["attention_mask"][0, 0] == 0).int().tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    """
    if blocks.ndim != 2 or blocks.is_floating_point():
        raise ValueError(
            f"blocks has shape {tuple(blocks.shape)} and dtype {blocks.dtype}, expected integers (n_rows, n_tokens)"
        )
    if is_causal(model):
        yield {"attention_mask": (blocks >= 0).long()}
        return
    if ((blocks[:, :-1] < 0) & (blocks[:, 1:] >= 0)).any():
        raise ValueError("padding (block -1) before a token: pad on the right, an encoder counts its positions")
    inner = unwrapped(model)
    refuse_attention(inner.config)
    seen = visible_tokens(blocks)[:, start:]
    if inner.config.model_type in ("deberta", "deberta-v2"):
        with _embeddings_without_mask(inner):
            yield {"attention_mask": seen}
    else:
        yield {"attention_mask": _added_to_scores(inner, seen)}


def visible_tokens(blocks: torch.Tensor) -> torch.Tensor:
    """Return which tokens (last axis) each token (middle axis) sees. It always sees itself: softmax over nothing has no
    value.
    """
    key_blocks, query_blocks = blocks[:, None, :], blocks[:, :, None]
    diagonal = torch.eye(blocks.shape[1], dtype=torch.bool, device=blocks.device)
    return ((key_blocks >= 0) & (key_blocks <= query_blocks)) | diagonal


def check_block_causal(model: nn.Module) -> None:
    """Check on a few random tokens that :func:`block_causal` keeps this model from looking ahead, and does no more.

    Earlier outputs must not change if later tokens change (equal to the last bits in any dtype) or are cut off (equal
    up to rounding). If all tokens are one block, the model must compute the same as without the mask, local windows
    included. The mode of the model and the global random generators stay as they are.
    """
    inner = unwrapped(model)
    kind = inner.config.model_type
    window = None if is_causal(model) else local_window(inner.config)
    if not is_causal(model):
        refuse_attention(inner.config)
    # More tokens than the window, or the window would not be tried.
    n_tokens = 12 if window is None else 3 * (window + 2)
    n_kept = 2 * n_tokens // 3
    try:
        weight = cast(torch.Tensor, inner.get_input_embeddings().weight)
        tokens, changed = random_rows(inner.config, weight.shape[0], n_tokens, n_kept).to(weight.device)
        blocks = torch.arange(3, device=weight.device).repeat_interleave(n_tokens // 3)
        with _undisturbed(model), _dtypes_met(model) as dtypes:
            answer = _outputs(model, tokens, blocks)
            after_change = _outputs(model, changed, blocks)
            after_cut = _outputs(model, tokens[:n_kept], blocks[:n_kept])
            one_block = _outputs(model, tokens, torch.zeros_like(blocks))
            plain = _outputs(model, tokens, None)
    except Exception as error:
        # Architectures raise any kind of error for arguments that they do not know.
        raise ValueError(
            f"{kind} does not take a block-causal mask ({type(error).__name__}: {error}): {INSTEAD}"
        ) from error
    rounding = max(torch.finfo(dtype).eps for dtype in dtypes)
    loose = min(256 * rounding, 0.1)

    def differ(first: torch.Tensor, second: torch.Tensor, tolerance: float) -> bool:
        # NaN differs from everything.
        return not bool((first - second).abs().max() <= tolerance * answer.abs().max())

    before = answer[:n_kept]
    if differ(before, after_change[:n_kept], 8 * rounding) or differ(before, after_cut, loose):
        raise ValueError(f"{kind} looks ahead in spite of a block-causal mask: {INSTEAD}")
    if differ(one_block, plain, loose):
        raise ValueError(f"{kind} reads a block-causal mask in another way than its own: {INSTEAD}")


def _added_to_scores(inner: PreTrainedModel, seen: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
    """Return the mask as numbers to add to the attention scores, one mask per kind of layer."""
    dtype = score_dtype(inner, seen.device)

    def added(seen: torch.Tensor) -> torch.Tensor:
        zeros = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        # All attention heads share one mask.
        return zeros.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]

    window = local_window(inner.config)
    if window is None:
        return added(seen)
    index = torch.arange(seen.shape[-1], device=seen.device)
    near = (index[-seen.shape[-2] :, None] - index).abs() <= window
    return {"full_attention": added(seen), "sliding_attention": added(seen & near)}


@contextmanager
def _embeddings_without_mask(inner: PreTrainedModel) -> Iterator[None]:
    """Keep from DeBERTa's embeddings the mask per pair of tokens that its encoder gets: they would multiply by it.

    They use a mask to blank padding, which no token sees here. The hook holds nothing of the batch, so copies of the
    model on several devices may share it.
    """
    embeddings: Any = next(
        module.embeddings for module in inner.modules() if hasattr(module, "embeddings") and hasattr(module, "encoder")
    )
    hook = embeddings.register_forward_pre_hook(
        lambda _, args, options: (args, {**options, "mask": None}), with_kwargs=True
    )
    try:
        yield
    finally:
        hook.remove()


def random_rows(config: PreTrainedConfig, n_ids: int, n_tokens: int, n_kept: int) -> torch.Tensor:
    """Return two rows of token ids that share their first ``n_kept``, without padding tokens."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(n_ids - 1, (2, n_tokens), generator=generator)
    pad = getattr(config, "pad_token_id", None)
    ids += ids >= (n_ids if pad is None else pad)
    ids[1, :n_kept] = ids[0, :n_kept]
    return ids


def _outputs(model: nn.Module, ids: torch.Tensor, blocks: torch.Tensor | None) -> torch.Tensor:
    """Return the last hidden states of one row, in float32."""
    if blocks is None:
        states = model(input_ids=ids[None], attention_mask=torch.ones_like(ids[None]), output_hidden_states=True)
    else:
        with block_causal(model, blocks[None]) as mask:
            states = model(input_ids=ids[None], output_hidden_states=True, **mask)
    last: torch.Tensor = states.hidden_states[-1][0]
    return last.float()


@contextmanager
def _dtypes_met(model: nn.Module) -> Iterator[set[torch.dtype]]:
    """Collect the dtypes that the modules return, since a forward may switch autocast on by itself."""
    dtypes = {torch.float32}

    def note(_module: nn.Module, _args: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.is_floating_point():
            dtypes.add(output.dtype)

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        yield dtypes
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluate without gradient, and leave the mode of each module and the global generators as they were."""
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad(), kept_generators():
            model.eval()
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
