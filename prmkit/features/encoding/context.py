"""Embeddings of a step in its context: the rows of ``PRMFeaturizer(kind="embeddings")``, and their names."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence, Set as AbstractSet
from typing import TypeAlias

import numpy as np

from prmkit.utils.environment import one_thread

Encode: TypeAlias = Callable[[list[str], Callable[[AbstractSet[str]], str]], np.ndarray]
"""Gives the embeddings of texts. The second argument says where texts stand that were cut."""

# The values of ``context``, from the least text to the most.
CONTEXTS = ("none", "problem", "prefix")

_BLOCKS = {"none": ("step",), "problem": ("step", "problem"), "prefix": ("step", "problem", "prefix", "previous")}
_LIKENESSES = (
    "step_like_problem",
    "step_like_prefix",
    "step_like_previous",
    "step_like_nearest",
    "step_like_farthest",
    "previous_like_problem",
)


def context_names(context: str, width: int) -> list[str]:
    """Return the column names of :func:`context_rows` for embeddings of ``width`` numbers."""
    names = [f"{block}_{i}" for block in _BLOCKS[context] for i in range(width)]
    return names + list(_LIKENESSES) if context == "prefix" else names


def context_rows(problem: np.ndarray, steps: np.ndarray, context: str, start: int = 0) -> np.ndarray:
    """Return one row per step, from ``start`` on. Row t reads the embeddings of the problem and the steps 0..t, and no
    later step.
    """
    if context == "none":
        return steps[start:]
    problems = np.broadcast_to(problem, steps.shape)
    if context == "problem":
        return np.hstack([steps[start:], problems[start:]])
    previous, prefix = np.zeros_like(steps), np.zeros_like(steps)
    previous[1:] = steps[:-1]
    # A running sum adds in the order of the steps, so a cut solution gives the same bits.
    prefix[1:] = np.cumsum(steps[:-1], axis=0, dtype=np.float64) / np.arange(1, len(steps))[:, None]
    nearest, farthest = _extreme_products(steps, start)
    likenesses = [
        steps @ problem,
        (steps * prefix).sum(axis=1),
        (steps * previous).sum(axis=1),
        nearest,
        farthest,
        previous @ problem,
    ]
    return np.hstack([rows[start:] for rows in (steps, problems, prefix, previous, np.column_stack(likenesses))])


# So many steps are compared with all earlier ones in one product: it is far faster than a product per step.
_ROWS_AT_ONCE = 64


def _extreme_products(steps: np.ndarray, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest and the smallest product of each step with an earlier one, 0 for the first step.

    Those of the steps before ``first`` need not be right.
    """
    n, n_single = len(steps), min(len(steps), _ROWS_AT_ONCE)
    nearest, farthest = np.zeros((2, n), dtype=steps.dtype)
    for t in range(max(1, first), n_single):
        products = steps[:t] @ steps[t]
        nearest[t], farthest[t] = products.max(), products.min()
    if n == n_single:
        return nearest, farthest
    # The last bits of a product depend on its shape, so every block is full: a cut solution gives the same bits.
    full = np.pad(steps, ((0, -n % _ROWS_AT_ONCE), (0, 0)))
    not_earlier = ~np.tri(_ROWS_AT_ONCE, k=-1, dtype=bool)
    with one_thread():
        for start in range(max(n_single, first - first % _ROWS_AT_ONCE), n, _ROWS_AT_ONCE):
            end = start + _ROWS_AT_ONCE
            products = full[start:end] @ full[:end].T
            products[:, start:][not_earlier] = -np.inf
            nearest[start:end] = products.max(axis=1)[: n - start]
            products[:, start:][not_earlier] = np.inf
            farthest[start:end] = products.min(axis=1)[: n - start]
    return nearest, farthest


class GrowingEmbeddings:
    """A solution whose embeddings are kept. A new step costs its own text, and sums and products of vectors."""

    def __init__(self, encode: Encode, context: str, problem: str) -> None:
        self._encode, self._context, self._problem = encode, context, problem
        self._vectors: tuple[np.ndarray, np.ndarray] | None = None

    def extend(self, steps: Sequence[str]) -> np.ndarray:
        """Return the rows of the new steps."""
        return self._of_vectors(self._encode([*self._unread_problem, *steps], lambda _: ""))

    @staticmethod
    def extend_together(grown: Sequence[GrowingEmbeddings], steps: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Encode the new texts of all at once."""
        texts = [[*one._unread_problem, *new] for one, new in zip(grown, steps, strict=True)]
        places = {text: i for i, text in enumerate(dict.fromkeys(text for part in texts for text in part))}
        vectors = grown[0]._encode(list(places), lambda _: "")
        return [
            one._of_vectors(vectors[[places[text] for text in part]]) for one, part in zip(grown, texts, strict=True)
        ]

    @property
    def _unread_problem(self) -> list[str]:
        """The problem, which is encoded with the first steps if it is part of the rows."""
        return [] if self._vectors or self._context == "none" or not self._problem else [self._problem]

    def _of_vectors(self, new: np.ndarray) -> np.ndarray:
        """Return the rows of new steps, given the embeddings of what is new."""
        n_problems = len(self._unread_problem)
        if self._vectors is None:
            nothing = np.zeros(new.shape[1], dtype=np.float32)
            self._vectors = (new[0] if n_problems else nothing), new[:0]
        problem, before = self._vectors
        self._vectors = problem, np.concatenate([before, new[n_problems:]])
        return context_rows(*self._vectors, self._context, len(before))

    def fork(self) -> GrowingEmbeddings:
        """Return a copy, which shares the embeddings so far."""
        return copy.copy(self)
