"""What a row holds beside its own step: the problem, the steps before it, and how alike they are."""

from __future__ import annotations

import numpy as np

CONTEXTS = ("none", "problem", "prefix")
"""Values of ``context``, from the least to the most."""

_BLOCKS = {
    "none": ("step",),
    "problem": ("step", "problem"),
    "prefix": ("step", "problem", "prefix", "previous"),
}
_LIKENESSES = (
    "step_like_problem",
    "step_like_prefix",
    "step_like_previous",
    "step_like_nearest",
    "step_like_farthest",
    "previous_like_problem",
)


def context_names(context: str, width: int) -> list[str]:
    """Names of the columns of :func:`context_rows` for embeddings of ``width`` numbers."""
    names = [f"{block}_{i}" for block in _BLOCKS[context] for i in range(width)]
    return names + list(_LIKENESSES) if context == "prefix" else names


def context_rows(problem: np.ndarray, steps: np.ndarray, context: str) -> np.ndarray:
    """Return one row per step; row t reads the problem and steps 0..t, nothing later.

    Parameters
    ----------
    problem : ndarray of shape (dim,)
    steps : ndarray of shape (n_steps, dim)
        The embeddings of a solution's steps from the first one on.
    context : {"none", "problem", "prefix"}

    Returns
    -------
    ndarray of shape (n_steps, len(context_names(context, dim)))
    """
    if context == "none":
        return steps
    problems = np.broadcast_to(problem, steps.shape)
    if context == "problem":
        return np.hstack([steps, problems])
    previous, prefix = np.zeros_like(steps), np.zeros_like(steps)
    previous[1:] = steps[:-1]
    # A running sum adds in the order of the steps, so a cut solution gives the same bits.
    prefix[1:] = np.cumsum(steps[:-1], axis=0, dtype=np.float64) / np.arange(1, len(steps))[:, None]
    nearest, farthest = _extreme_products(steps)
    likenesses = [
        steps @ problem,
        (steps * prefix).sum(axis=1),
        (steps * previous).sum(axis=1),
        nearest,
        farthest,
        previous @ problem,
    ]
    return np.hstack([steps, problems, prefix, previous, np.column_stack(likenesses)])


def _extreme_products(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest and smallest product of each step with one before it; 0 for the first."""
    nearest, farthest = np.zeros((2, len(steps)), dtype=steps.dtype)
    for t in range(1, len(steps)):
        products = steps[:t] @ steps[t]
        nearest[t], farthest[t] = products.max(), products.min()
    return nearest, farthest
