"""What a row holds beside its own step: the problem, the steps before it, and how they relate."""

from __future__ import annotations

import numpy as np

CONTEXTS = ("none", "problem", "prefix")
"""Values of ``context``, from the least to the most."""

_PARTS = {
    "none": ("step",),
    "problem": ("step", "problem"),
    "prefix": ("step", "problem", "prefix", "previous", "step_x_problem", "step_x_prefix", "step_x_previous"),
}


def context_parts(context: str) -> tuple[str, ...]:
    """Names of the blocks of a row, each as wide as one embedding."""
    return _PARTS[context]


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
    ndarray of shape (n_steps, len(context_parts(context)) * dim)
    """
    if context == "none":
        return steps
    problems = np.broadcast_to(problem, steps.shape)
    if context == "problem":
        return np.hstack([steps, problems])
    previous = np.zeros_like(steps)
    previous[1:] = steps[:-1]
    # A running sum adds in the order of the steps, so a cut solution gives the same bits.
    prefix = np.zeros_like(steps)
    prefix[1:] = np.cumsum(steps[:-1], axis=0, dtype=np.float64) / np.arange(1, len(steps))[:, None]
    return np.hstack([steps, problems, prefix, previous, steps * problems, steps * prefix, steps * previous])
