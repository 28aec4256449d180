"""Attention along the branches of a tree of tokens, so that common beginnings of rows are computed once."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from prmkit.features.passes.block_causal import score_dtype, unwrapped
from prmkit.features.passes.prefix_tree import Row, TreePass, tree_passes
from prmkit.marking.encoding import MarkedTokens

Forward = Callable[[Mapping[str, torch.Tensor]], torch.Tensor]

_LOG = logging.getLogger(__name__)
# These implementations of attention take a mask of any form.
_DENSE_ATTENTION = ("sdpa", "eager")
_NAME = "prmkit_tree_"


class _Branches:
    """Keys and values of each attention layer, from one pass to the next, and how the pass in hand uses them."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.layers: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}

    def begin(self, one: TreePass) -> None:
        """Get ready for a pass."""
        self.n_before, self.kept = one.n_before, _places(one.kept, self.device)
        self.hidden = [piece.blocks > piece.blocks[piece.start :, None] for piece in one.pieces]
        self.paths = [(piece.queries, _places(piece.path, self.device)) for piece in one.pieces]
        self.masks: list[torch.Tensor] = []

    def attend(
        self,
        attention: Callable[..., Any],
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        options: Mapping[str, Any],
    ) -> torch.Tensor:
        """Let each token see the tokens on its own path."""
        if self.n_before:
            key, value = (torch.cat(pair, dim=2) for pair in zip(self.layers[module], (key, value), strict=True))
        self.layers[module] = key[:, :, self.kept], value[:, :, self.kept]
        if not self.masks or self.masks[0].dtype != query.dtype:
            self.masks = [self._mask(hidden, query.dtype) for hidden in self.hidden]
        seen = [
            attention(module, query[:, :, own], key[:, :, path], value[:, :, path], mask, **options)
            for (own, path), mask in zip(self.paths, self.masks, strict=True)
        ]
        return torch.cat([output for output, *_ in seen], dim=1)

    def _mask(self, hidden: npt.NDArray[np.bool_], dtype: torch.dtype) -> torch.Tensor:
        """Return numbers to add to the attention scores."""
        seen = torch.zeros(hidden.shape, dtype=dtype)
        return seen.masked_fill_(torch.from_numpy(hidden), torch.finfo(dtype).min).to(self.device)[None, None]


def _places(path: npt.NDArray[np.int64], device: torch.device) -> slice | torch.Tensor:
    """Return an index of the places, a slice if they are neighbours, which copies nothing."""
    if len(path) and path[-1] - path[0] == len(path) - 1:
        return slice(int(path[0]), int(path[-1]) + 1)
    return torch.from_numpy(path).to(device)


_IN_HAND: ContextVar[_Branches | None] = ContextVar("_IN_HAND", default=None)
# Configurations in use by :func:`_attending`, with the number of users and the implementation to restore.
_CHANGED: dict[int, tuple[int, str]] = {}
_LOCK = threading.Lock()
# What :func:`position_offset` found, per implementation of attention, precision, and its switches.
_OFFSETS: WeakKeyDictionary[nn.Module, dict[tuple[str, torch.dtype, bool, bool], int | None]] = WeakKeyDictionary()


def tree_outputs(
    model: nn.Module,
    rows: Sequence[Row],
    shared: Sequence[int],
    forward: Forward,
    *,
    budget: int,
    by_blocks: bool,
    offset: int,
    device: torch.device,
    progress: Callable[[int], object] = id,
) -> tuple[list[torch.Tensor], int]:
    """Return the outputs at the marked tokens of each row, and how many tokens were computed.

    Row i begins with ``shared[i]`` tokens of the row before. ``forward`` runs the model, and gives the outputs at the
    ``positions`` of a batch. ``offset`` is what :func:`position_offset` found. ``progress`` is told the number of rows
    that a pass has finished.
    """
    passes, marked = tree_passes(rows, shared, budget, by_blocks)
    wanted = np.unique(np.concatenate(marked))
    found = []
    with _attending(model, device) as branches:
        for one in passes:
            branches.begin(one)
            n_own = len(one.input_ids)
            own = wanted[(wanted >= one.first) & (wanted < one.first + n_own)] - one.first
            batch = {"input_ids": one.input_ids, "position_ids": one.depths + offset, "positions": own}
            found.append(forward({name: torch.from_numpy(ids)[None].to(device) for name, ids in batch.items()})[0])
            progress(one.n_finished)
    outputs = torch.cat(found)
    return [outputs[torch.from_numpy(np.searchsorted(wanted, numbers)).to(device)] for numbers in marked], sum(
        len(one.input_ids) for one in passes
    )


@contextmanager
def _attending(model: nn.Module, device: torch.device) -> Iterator[_Branches]:
    """Replace the attention of a model within the context, for the passes of this thread alone."""
    inner = unwrapped(model)
    configs: dict[int, Any] = {id(one.config): one.config for one in inner.modules() if hasattr(one, "config")}
    branches = _Branches(device)
    with _LOCK:
        for key, config in configs.items():
            n_users, own = _CHANGED.get(key, (0, config._attn_implementation))
            _CHANGED[key] = n_users + 1, own
            config._attn_implementation = _registered(own)
    token = _IN_HAND.set(branches)
    try:
        yield branches
    finally:
        _IN_HAND.reset(token)
        with _LOCK:
            for key, config in configs.items():
                n_users, own = _CHANGED.pop(key)
                if n_users > 1:
                    _CHANGED[key] = n_users - 1, own
                else:
                    config._attn_implementation = own


def _registered(own: str) -> str:
    """Register an implementation of attention that is ``own``, but for passes over a tree. Return its name."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

    name = _NAME + own
    if name in ALL_ATTENTION_FUNCTIONS:
        return name

    def attend(
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **options: Any,
    ) -> Any:
        # The eager implementation of an architecture stands beside its layers.
        attention = ALL_ATTENTION_FUNCTIONS.get(own) or sys.modules[type(module).__module__].eager_attention_forward
        branches = _IN_HAND.get()
        if branches is None:
            return attention(module, query, key, value, attention_mask, **options)
        return branches.attend(attention, module, query, key, value, options), None

    def mask(*args: Any, **options: Any) -> Any:
        return ALL_MASK_ATTENTION_FUNCTIONS[own](*args, **options) if _IN_HAND.get() is None else None

    AttentionMaskInterface.register(name, mask)
    AttentionInterface.register(name, attend)
    return name


def longest_shared(model: nn.Module) -> float:
    """Return the length up to which no layer's window hides a token of its own row."""
    config = unwrapped(model).config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return min([window for window in windows if window], default=np.inf)


def position_offset(
    model: nn.Module, forward: Forward, by_blocks: bool, last_only: bool, device: torch.device
) -> int | None:
    """Return the position of a row's first token, or None if the model cannot compute common beginnings once.

    It is tried once per model on random tokens: rows must have the same outputs alone and in a tree. ``forward``
    returns outputs as the model computes them, for the last token of a row alone if ``last_only``.
    """
    inner = unwrapped(model)
    own = str(inner.config._attn_implementation).removeprefix(_NAME)
    key = own, score_dtype(inner, device), by_blocks, last_only
    known = _OFFSETS.setdefault(model, {})
    if key not in known:
        known[key] = _try_offsets(model, forward, by_blocks, last_only, device) if own in _DENSE_ATTENTION else None
        able = "computes each row by itself" if known[key] is None else "computes common beginnings once"
        _LOG.debug("%s with attention %r in %s %s", inner.config.model_type, *key[:2], able)
    return known[key]


def _try_offsets(
    model: nn.Module, forward: Forward, by_blocks: bool, last_only: bool, device: torch.device
) -> int | None:
    inner = unwrapped(model)
    pad = inner.config.get_text_config().pad_token_id
    try:
        weight = cast("torch.Tensor", inner.get_input_embeddings().weight)
        rows = _random_rows(weight.shape[0], pad, last_only)
        alone = [
            forward(
                {
                    "input_ids": torch.from_numpy(row.input_ids)[None].to(device),
                    "attention_mask": torch.ones(1, len(row.input_ids), dtype=torch.long, device=device),
                    "blocks": torch.from_numpy(row.blocks)[None].to(device),
                    "positions": torch.from_numpy(row.step_positions)[None].to(device),
                }
            )[0]
            for row in rows
        ]
    except Exception as error:
        _LOG.debug("%s cannot be tried: %s", inner.config.model_type, error)
        return None
    tolerance = min(1024 * torch.finfo(weight.dtype).eps, 0.1)
    # RoBERTa and its kin count positions from the number of their padding token.
    for offset in (0, pad + 1) if by_blocks and pad is not None else (0,):
        try:
            shared = [0, 8, 8, 8, 12]
            # Small passes, so that keys are handed on too.
            found, _ = tree_outputs(
                model, rows, shared, forward, budget=10, by_blocks=by_blocks, offset=offset, device=device
            )
        except Exception as error:
            # Architectures raise any kind of error for arguments that they do not know.
            _LOG.debug("%s takes no tree: %s", inner.config.model_type, error)
            continue
        expected, actual = torch.stack(alone), torch.stack(found)
        # Each row counts by itself, or a fault of one could hide behind the others. NaN is below nothing.
        errors = (actual - expected).square().mean((1, 2)).sqrt()
        if bool((errors <= tolerance * (expected - expected.mean((0, 1))).square().mean().sqrt()).all()):
            return offset
    return None


def _random_rows(n_ids: int, pad: int | None, last_only: bool) -> list[MarkedTokens]:
    """Return rows of four blocks, of which the first two blocks are the same, marked everywhere or at the end."""
    generator = np.random.default_rng(0)
    ids = generator.integers(n_ids - 1, size=(5, 16))
    ids += ids >= (n_ids if pad is None else pad)
    ids[:, :8] = ids[0, :8]
    ids[4, 8:12] = ids[3, 8:12]
    marks = np.arange(15 if last_only else 0, 16)
    return [MarkedTokens(row, marks, np.repeat(np.arange(4), 4)) for row in ids]
