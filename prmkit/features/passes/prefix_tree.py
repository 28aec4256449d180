"""Rows with common beginnings as a tree of tokens, and the passes that compute each of its tokens once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from prmkit.marking.encoding import MarkedTokens, TokenRecord

IntArray = npt.NDArray[np.int64]
Row = MarkedTokens | TokenRecord

# Rows share passes if they have this part of the shorter one in common. Less is not worth the bookkeeping.
_WORTH = 1 / 16
# Added to the first token of a block, so that equal keys are equal blocks. Token ids are smaller.
_BLOCK_START = 2**31
_NOTHING: IntArray = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of a row that a pass computes, in one run from token ``start`` on.

    ``queries`` are their places in the pass. ``path`` holds the places of all tokens of the row, up to the last of the
    piece, among the keys of the pass, and ``blocks`` their blocks. A token sees its own block and those before.
    """

    queries: slice
    start: int
    path: IntArray
    blocks: IntArray


@dataclass(slots=True)
class TreePass:
    """Tokens that are computed at once, at ``depths`` of their rows.

    The keys of a pass are those that the pass before has ``kept`` for it, then one per token of its own. ``first`` is
    the number of its first token among those of all passes, ``n_before`` how many keys were kept, and
    ``n_finished`` how many rows end in the pass.
    """

    first: int
    input_ids: IntArray = field(default_factory=lambda: _NOTHING)
    depths: IntArray = field(default_factory=lambda: _NOTHING)
    pieces: list[Piece] = field(default_factory=list)
    n_before: int = 0
    kept: IntArray = field(default_factory=lambda: _NOTHING)
    n_finished: int = 0

    def extended(self, row: Row, end: int, path: IntArray, by_blocks: bool) -> IntArray:
        """Add the tokens of a row up to ``end``, after those on the path, and return the longer path."""
        start, n_own = len(path), len(self.input_ids)
        self.input_ids = np.append(self.input_ids, row.input_ids[start:end])
        self.depths = np.append(self.depths, np.arange(start, end))
        path = np.append(path, self.n_before + np.arange(n_own, len(self.input_ids)))
        blocks = row.blocks[:end] if by_blocks else np.arange(end)
        self.pieces.append(Piece(slice(n_own, len(self.input_ids)), start, path, blocks))
        return path


def shared_beginnings(
    rows: Sequence[Row], by_blocks: bool = False, longest: float = np.inf
) -> tuple[list[int], list[int]]:
    """Return the rows that begin like others, each after one it begins like, and how many tokens it has in common.

    Rows of more than ``longest`` tokens take no part. With ``by_blocks`` a block is shared as a whole or not at all,
    since its tokens see each other.

    >>> rows = [MarkedTokens(np.array(ids), np.array([2]), np.array([0, 0, 1])) for ids in ([5, 6, 7], [1, 1, 1])]
    >>> shared_beginnings([*rows, rows[0]])
    ([0, 2], [0, 3])
    """
    keys = {i: _key(row, by_blocks) for i, row in enumerate(rows) if len(row.input_ids) <= longest}
    # Of all orders, that of a dictionary has the most in common between neighbours.
    order = sorted(keys, key=lambda i: keys[i].astype(">u4").tobytes())
    shared = [_n_shared(keys[one], keys[other], by_blocks) for one, other in pairwise(order)]
    worth = [
        n if n >= max(2, _WORTH * min(len(keys[one]), len(keys[other]))) else 0
        for n, (one, other) in zip(shared, pairwise(order), strict=True)
    ]
    before, after = [0, *worth], [*worth, 0]
    taken = [k for k in range(len(order)) if before[k] or after[k]]
    return [order[k] for k in taken], [before[k] for k in taken]


def _key(row: Row, by_blocks: bool) -> IntArray:
    is_first = np.diff(row.blocks, prepend=-1) > 0
    return row.input_ids + is_first * _BLOCK_START if by_blocks else row.input_ids


def n_common(one: IntArray, other: IntArray) -> int:
    """Return how many tokens two texts have in common at their beginning."""
    size = min(len(one), len(other))
    return int(np.argmin(np.append(one[:size] == other[:size], False)))


def _n_shared(one: IntArray, other: IntArray, by_blocks: bool) -> int:
    n = n_common(one, other)
    if by_blocks and any(n < len(key) and key[n] < _BLOCK_START for key in (one, other)):
        # They part within a block, which differs from its start on.
        return int(np.flatnonzero(one[:n] >= _BLOCK_START)[-1])
    return n


def tree_passes(
    rows: Sequence[Row], shared: Sequence[int], budget: int, by_blocks: bool = False
) -> tuple[list[TreePass], list[IntArray]]:
    """Return passes over rows, and for each row the numbers of its marked tokens among those of all passes.

    Row i begins with the first ``shared[i]`` tokens of row i - 1, which are not computed again. A pass has at most
    ``budget`` tokens. With ``by_blocks`` no block is cut, so one block may be longer.

    >>> row = MarkedTokens(np.arange(5), np.array([1, 4]), np.zeros(5, dtype=int))
    >>> passes, marked = tree_passes([row, row], [0, 3], budget=4)
    >>> [one.input_ids.tolist() for one in passes], marked
    ([[0, 1, 2, 3], [4, 3, 4]], [array([1, 4]), array([1, 6])])
    """
    passes: list[TreePass] = []
    marked: list[IntArray] = []
    n_tokens, room = 0, 0
    # Of the row before: the numbers of its tokens, and where the keys of the last pass hold them.
    numbers = path = np.empty(0, dtype=np.int64)
    for row, start in zip(rows, shared, strict=True):
        length = len(row.input_ids)
        numbers = np.append(numbers[:start], np.arange(n_tokens, n_tokens + length - start))
        marked.append(numbers[row.step_positions])
        ends = np.append(np.flatnonzero(np.diff(row.blocks)) + 1, length) if by_blocks else np.arange(1, length + 1)
        while start < length:
            following = int(ends[np.searchsorted(ends, start, "right")])
            if following - start > room:
                if passes:
                    passes[-1].kept = path[:start]
                passes.append(TreePass(n_tokens, n_before=start))
                path, room = np.arange(start), max(budget, following - start)
            end = int(ends[np.searchsorted(ends, start + room, "right") - 1])
            path = passes[-1].extended(row, end, path[:start], by_blocks)
            n_tokens, room, start = n_tokens + end - start, room - (end - start), end
        passes[-1].n_finished += 1
    return passes, marked
