"""A short key per problem, to find out whether two sets of solutions share one: what leaks begin with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from prmkit.data.solution import Solution, Step, as_steps

_UNREAD = re.compile(r"\s|\$|\\[,;:! ]")  # white space, dollar signs, LaTeX spacing


def problem_keys(problems: Iterable[Any]) -> np.ndarray:
    """Return a key per problem; texts that differ in case, white space, ``$`` or LaTeX spacing share it.

    Parameters
    ----------
    problems : iterable of str, Solution or Step
        A solution without a problem is known by its first step.

    Returns
    -------
    ndarray of shape (n_problems,), dtype uint64
        The first 8 bytes of a SHA-256.

    Examples
    --------
    >>> a, b, c = problem_keys(["What is $2 + 2$?", "what is 2+2?", "What is 3 + 2?"])
    >>> bool(a == b), bool(a == c)
    (True, False)
    """
    known: dict[str, int] = {}
    keys = []
    for problem in problems:
        text = _text(problem)
        if text not in known:
            digest = hashlib.sha256(_UNREAD.sub("", text.lower()).encode("utf-8", "surrogatepass")).digest()
            known[text] = int.from_bytes(digest[:8], "big")
        keys.append(known[text])
    return np.array(keys, dtype=np.uint64)


def distinct_problem_keys(X: Any) -> np.ndarray:
    """Return the sorted keys of the problems of steps (or strings)."""
    return np.unique(problem_keys(as_steps(X)))


def _text(problem: Any) -> str:
    if isinstance(problem, str):
        return problem
    solution = problem.solution if isinstance(problem, Step) else problem
    if not isinstance(solution, Solution):
        raise TypeError(f"a problem is {type(problem).__name__}, expected str, Solution or Step")
    return solution.problem or (solution.steps[0] if solution.steps else "")
