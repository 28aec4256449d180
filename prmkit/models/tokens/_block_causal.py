"""Attention in blocks, so that one pass of a bidirectional encoder answers all steps without look-ahead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


__all__ = ["block_causal", "check_block_causal", "is_causal"]


@contextmanager
def block_causal(model: Any, blocks: torch.Tensor) -> Iterator[dict[str, Any]]:
    """Within the context, a token sees the tokens of its own block and of the blocks before, and no others.

    Parameters
    ----------
    model : transformers model
        An encoder of the BERT family, possibly wrapped; its weights stay as they are. A causal model is given its
        ordinary mask, since it never looks ahead.
    blocks : Tensor of int64 of shape (n_rows, n_tokens)
        0 for the problem, t + 1 for step t, -1 for padding (on the right, seen by nobody but itself).

    Yields
    ------
    dict
        Keyword arguments beside ``input_ids`` for calls of the model, to be made within the context.

    Raises
    ------
    ValueError
        If blocks have another shape or padding elsewhere, if the attention implementation takes no dense mask
        (flash, flex), or if the architecture looks ahead by other ways than attention.

    Notes
    -----
    What is added to the attention scores is 0, or the smallest number of the model's (or autocast's) dtype. Layers
    with a local window keep it. Memory grows with ``n_rows * n_tokens ** 2``.

    Examples
    --------
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
        raise ValueError(
            "padding (block -1) before a token: pad on the right, an encoder counts its positions"
        )
    inner = unwrapped(model)
    refuse_attention(inner.config)
    seen = visible_tokens(blocks)
    if inner.config.model_type in ("deberta", "deberta-v2"):
        with _embeddings_without_mask(inner):
            yield {"attention_mask": seen}
    else:
        yield {"attention_mask": _added_to_scores(inner, seen)}


def visible_tokens(blocks: torch.Tensor) -> torch.Tensor:
    """Return which tokens (last axis) each token (middle axis) sees; itself always, or softmax has no value.

    Parameters
    ----------
    blocks : Tensor of int64 of shape (n_rows, n_tokens)

    Returns
    -------
    Tensor of bool of shape (n_rows, n_tokens, n_tokens)

    Examples
    --------
    >>> visible_tokens(torch.tensor([[0, 1, -1]])).int().tolist()
    [[[1, 0, 0], [1, 1, 0], [0, 0, 1]]]
    """
    seen, seeing = blocks[:, None, :], blocks[:, :, None]
    itself = torch.eye(blocks.shape[1], dtype=torch.bool, device=blocks.device)
    return ((seen >= 0) & (seen <= seeing)) | itself


def check_block_causal(model: Any) -> None:
    """Try on a few random tokens that :func:`block_causal` keeps this model from looking ahead, and does no more.

    Earlier outputs must not change when later tokens are others (equal shapes: equal to the last bits in any dtype),
    nor when they are cut off (equal up to rounding); and all tokens being one block, the model must compute what it
    computes without the mask, local windows included. It runs in evaluation mode without gradient; the mode and the
    global random generators are left as found.

    Parameters
    ----------
    model : transformers model
        With its weights in place; they may be of any dtype.

    Raises
    ------
    ValueError
        If the architecture does not take the mask, or looks ahead in spite of it.

    Examples
    --------
    >>> from transformers import BertConfig, BertModel
    >>> config = BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1)
    >>> check_block_causal(BertModel(config))
    """
    inner = unwrapped(model)
    kind = inner.config.model_type
    window = None if is_causal(model) else local_window(inner.config)
    if not is_causal(model):
        refuse_attention(inner.config)
    n_tokens = 12 if window is None else 3 * (window + 2)  # past the window, or it would not be tried
    kept = 2 * n_tokens // 3
    try:
        weight = inner.get_input_embeddings().weight
        whole, changed = _random_rows(inner.config, weight.shape[0], n_tokens, kept).to(weight.device)
        blocks = torch.arange(3, device=weight.device).repeat_interleave(n_tokens // 3)
        with _undisturbed(model, weight.device), _dtypes_met(model) as dtypes:
            answer = _outputs(model, whole, blocks)
            after_change = _outputs(model, changed, blocks)
            after_cut = _outputs(model, whole[:kept], blocks[:kept])
            one_block = _outputs(model, whole, torch.zeros_like(blocks))
            plain = _outputs(model, whole, None)
    except Exception as error:  # any: what an architecture says of arguments that it does not know
        raise ValueError(
            f"{kind} does not take a block-causal mask ({type(error).__name__}: {error}): {INSTEAD}"
        ) from error
    rounding = max(torch.finfo(dtype).eps for dtype in dtypes)
    loose = min(256 * rounding, 0.1)

    def differ(one: torch.Tensor, other: torch.Tensor, tolerance: float) -> bool:
        return not (one - other).abs().max() <= tolerance * answer.abs().max()  # NaN differs

    if differ(answer[:kept], after_change[:kept], 8 * rounding) or differ(answer[:kept], after_cut, loose):
        raise ValueError(f"{kind} looks ahead in spite of a block-causal mask: {INSTEAD}")
    if differ(one_block, plain, loose):
        raise ValueError(f"{kind} reads a block-causal mask in another way than its own: {INSTEAD}")


def _added_to_scores(inner: Any, seen: torch.Tensor) -> Any:
    dtype = score_dtype(inner, seen.device)

    def added(seen: torch.Tensor) -> torch.Tensor:
        zeros = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        return zeros.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]  # one for all attention heads

    window = local_window(inner.config)
    if window is None:
        return added(seen)
    place = torch.arange(seen.shape[-1], device=seen.device)
    near = (place[:, None] - place).abs() <= window
    return {"full_attention": added(seen), "sliding_attention": added(seen & near)}


@contextmanager
def _embeddings_without_mask(inner: Any) -> Iterator[None]:
    """Let DeBERTa's encoder have a mask per pair of tokens, which its embeddings would multiply with.

    They take theirs to blank padding, which nobody sees anyway. The hook holds nothing of the batch, so that copies
    of the model on several devices may share it.
    """
    embeddings = next(
        module.embeddings
        for module in inner.modules()
        if hasattr(module, "embeddings") and hasattr(module, "encoder")
    )
    hook = embeddings.register_forward_pre_hook(
        lambda _, args, options: (args, {**options, "mask": None}), with_kwargs=True
    )
    try:
        yield
    finally:
        hook.remove()


def _random_rows(config: Any, n_ids: int, n_tokens: int, kept: int) -> torch.Tensor:
    """Return two rows of token ids, equal up to ``kept`` and without padding tokens."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(n_ids - 1, (2, n_tokens), generator=generator)
    pad = getattr(config, "pad_token_id", None)
    ids += ids >= (n_ids if pad is None else pad)
    ids[1, :kept] = ids[0, :kept]
    return ids


def _outputs(model: Any, ids: torch.Tensor, blocks: torch.Tensor | None) -> torch.Tensor:
    """Return the last hidden states of one row, in float32."""
    if blocks is None:
        states = model(
            input_ids=ids[None], attention_mask=torch.ones_like(ids[None]), output_hidden_states=True
        )
    else:
        with block_causal(model, blocks[None]) as mask:
            states = model(input_ids=ids[None], output_hidden_states=True, **mask)
    last: torch.Tensor = states.hidden_states[-1][0]
    return last.float()


@contextmanager
def _dtypes_met(model: Any) -> Iterator[set[torch.dtype]]:
    """Collect the dtypes of what the modules return: a forward may switch autocast on where nobody sees it."""
    dtypes = {torch.float32}

    def note(_module: Any, _args: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.is_floating_point():
            dtypes.add(output.dtype)

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        yield dtypes
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _undisturbed(model: Any, device: torch.device) -> Iterator[None]:
    """Evaluate without gradient, and leave the mode of each module and the global generators as they were."""
    modes = {module: module.training for module in model.modules()}
    devices = [] if device.type == "cpu" else [device]
    try:
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices, device_type="cuda" if not devices else device.type),
        ):
            model.eval()
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
