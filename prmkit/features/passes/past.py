"""Keys and values of what a transformer has read, so that a text that grows costs its new tokens alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import DynamicCache

Piece: TypeAlias = "list[tuple[torch.Tensor, torch.Tensor] | None]"
"""Keys and values of neighbouring tokens, of shape (1, heads, tokens, width), per layer. None for a layer without."""


class Past:
    """Keys and values of one text, in pieces that texts with the same beginning share. It never changes.

    A cache of transformers is extended in place and belongs to one text, so each pass gets a new one.
    """

    def __init__(self, pieces: tuple[tuple[int, Piece], ...] = ()) -> None:
        self._pieces = pieces

    def __len__(self) -> int:
        return sum(n for n, _ in self._pieces)

    @property
    def n_bytes(self) -> int:
        """Size of keys and values, shared ones included."""
        return sum(_size(piece) for _, piece in self._pieces)

    @property
    def n_own_bytes(self) -> int:
        """Size of the keys and values of the last tokens that were added."""
        return _size(self._pieces[-1][1]) if self._pieces else 0

    def cut(self, n_tokens: int) -> Past:
        """Return the past of the first tokens, without a copy."""
        kept: list[tuple[int, Piece]] = []
        left = n_tokens
        for n, piece in self._pieces:
            if not left:
                break
            taken = min(n, left)
            whole = taken == n
            kept.append((taken, piece if whole else [layer and _part(layer, 0, taken) for layer in piece]))
            left -= taken
        return Past(tuple(kept))

    def parted(self, n_tokens: int) -> Past:
        """Return the past of one pass in two pieces, so that others can share the first and not keep the second."""
        if len(self._pieces) > 1 or not 0 < n_tokens < len(self):
            return self
        ((n, piece),) = self._pieces
        ends = (0, n_tokens), (n_tokens, n)
        return Past(
            tuple((end - start, [one and _copy(_part(one, start, end)) for one in piece]) for start, end in ends)
        )

    def cache(self) -> DynamicCache:
        """Return all of it as a new cache.

        The layers have no window: the mask hides what is too far away, and a part of the text can be taken back.
        """
        from transformers import DynamicCache

        cache = DynamicCache()
        for layer in range(len(self._pieces[0][1]) if self._pieces else 0):
            parts = [one for _, piece in self._pieces if (one := piece[layer]) is not None]
            if parts:
                keys, values = (torch.cat(tensors, dim=-2) for tensors in zip(*parts, strict=True))
                cache.update(keys, values, layer)
        return cache

    def grown(self, cache: DynamicCache, row: int = 0, padding: int = 0) -> Past:
        """Return the past after a pass that has extended the cache: that of one row, which has padding before it."""
        layers: list[Any] = cache.layers
        before, after = len(self), int(cache.get_seq_length()) - padding
        n_rows = max((len(layer.keys) for layer in layers if layer.keys is not None), default=1)
        piece: Piece = [
            None
            if layer.keys is None
            else _part((layer.keys[row, None], layer.values[row, None]), padding + before, padding + after)
            for layer in layers
        ]
        # Copies, or a piece would keep the whole text before it, and the other rows.
        copied = before or padding or n_rows > 1
        own = [layer and _copy(layer) for layer in piece] if copied else piece
        return Past((*self._pieces, (after - before, own)))


def _size(piece: Piece) -> int:
    return sum(one.numel() * one.element_size() for layer in piece if layer is not None for one in layer)


def joined(pasts: Sequence[Past]) -> DynamicCache:
    """Return the pasts of several texts as one new cache of one row each, with zeros before the shorter ones."""
    from transformers import DynamicCache

    cache, width = DynamicCache(), max(map(len, pasts))
    parts = [one.cache().layers if len(one) else [] for one in pasts]
    for layer in range(max(map(len, parts))):
        known: list[tuple[int, Any]] = [(i, one[layer]) for i, one in enumerate(parts) if one]
        if known[0][1].keys is None:
            continue
        shape = len(pasts), known[0][1].keys.shape[1], width
        keys, values = (tensor.new_zeros(*shape, tensor.shape[-1]) for tensor in (known[0][1].keys, known[0][1].values))
        for i, one in known:
            keys[i, :, width - len(pasts[i]) :], values[i, :, width - len(pasts[i]) :] = one.keys[0], one.values[0]
        cache.update(keys, values, layer)
    return cache


def _part(layer: tuple[torch.Tensor, torch.Tensor], start: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
    return layer[0][..., start:end, :], layer[1][..., start:end, :]


class SharedProblem:
    """Tokens and past of a problem. The first fork that reads it leaves them to all others."""

    def __init__(self) -> None:
        self._ids: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._past = Past()

    def begin(self, ids: npt.NDArray[np.int64], past: Past) -> tuple[npt.NDArray[np.int64], Past]:
        """Return what a fork has read, or the problem if it has read nothing."""
        return (ids, past) if len(past) or not len(self._past) else (self._ids, self._past)

    def leave(self, ids: npt.NDArray[np.int64], past: Past, n_tokens: int) -> Past:
        """Keep the first tokens, those of the problem, unless another fork has. Return the past of the fork."""
        if len(self._past) or not len(past) or not n_tokens:
            return past
        past = past.parted(n_tokens)
        self._ids, self._past = ids[:n_tokens], past.cut(n_tokens)
        return past


def _copy(layer: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return layer[0].clone(), layer[1].clone()


# With these the keys of a token depend on the length of the text.
_BY_LENGTH = ("dynamic", "longrope")


def keys_know_length(config: Any) -> bool:
    """Whether the keys of a token depend on how long the text is, so that those of a beginning are of no use later."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return any(isinstance(one, dict) and one.get("rope_type") in _BY_LENGTH for one in (rope, *rope.values()))


_TRIED: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def grows_like(module: nn.Module, whole: Callable[[], torch.Tensor], in_parts: Callable[[], torch.Tensor]) -> bool:
    """Whether a module gives the same for a text in parts as for the whole. It is tried once per module."""
    if module not in _TRIED:
        try:
            expected, found = whole(), in_parts()
        except Exception:
            # Architectures raise any kind of error for arguments that they do not know.
            _TRIED[module] = False
        else:
            dtype = next(weight.dtype for weight in module.parameters() if weight.is_floating_point())
            tolerance = min(0.1, 256 * torch.finfo(dtype).eps) * expected.abs().max()
            # NaN differs from everything.
            _TRIED[module] = bool((expected - found).abs().max() <= tolerance)
    return _TRIED[module]


def grows_in_parts(
    module: nn.Module, text: torch.Tensor, advance: Callable[[Past, torch.Tensor], tuple[torch.Tensor, Past]]
) -> bool:
    """Whether a module that keeps keys and values gives the same for a text in parts. ``advance`` reads one part."""

    def read(n_parts: int) -> torch.Tensor:
        past, found = Past(), []
        for part in text.chunk(n_parts):
            end = len(past) + len(part)
            outputs, past = advance(past, part)
            if len(past) != end:
                raise ValueError("the model has kept no keys and values")
            found.append(outputs)
        return torch.cat(found)

    return grows_like(module, lambda: read(1), lambda: read(3))
