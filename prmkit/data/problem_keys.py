"""A short key per problem, to find out whether two sets of solutions share a problem."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from prmkit.data.solution import Solution, Step, as_steps, only_solutions

# White space, dollar signs and LaTeX spacing make no other problem.
_NOT_COMPARED = re.compile(r"\s|\$|\\[,;:! ]")


def problem_keys(problems: Iterable[str | Solution | Step]) -> npt.NDArray[np.uint64]:
    """Return a key per problem: the first 8 bytes of the SHA-256 of its text.

    Problems share a key if their texts differ only in case, white space, ``$`` or LaTeX spacing. A solution without a
    problem is known by its first step.
    """
    key_of: dict[str, int] = {}
    keys = []
    for problem in problems:
        text = _text(problem)
        if text not in key_of:
            plain = _NOT_COMPARED.sub("", text.lower()).encode("utf-8", "surrogatepass")
            key_of[text] = int.from_bytes(hashlib.sha256(plain).digest()[:8], "big")
        keys.append(key_of[text])
    return np.array(keys, dtype=np.uint64)


def distinct_problem_keys(X: Iterable[Step | str]) -> npt.NDArray[np.uint64]:
    """Return the sorted keys of the problems of some steps."""
    return np.unique(problem_keys(as_steps(X)))


def problem_groups(X: Iterable[Step | str] | Iterable[Solution]) -> npt.NDArray[np.int64]:
    """Return one integer per step or solution, which is equal where the problems are the same.

    Problems are the same if their texts differ only in case, white space, ``$`` or LaTeX spacing.

    Parameters
    ----------
    X : 1-D array-like of Step or of Solution
        Steps or solutions to group. A plain string has no problem: each distinct string is a problem of its own.

    Returns
    -------
    ndarray of shape (n_steps,), dtype int64
        Number of each row's problem, in order of their first rows.

    Examples
    --------
    >>> from prmkit.data import flatten
    >>> problem_groups(flatten([Solution("p", ["a", "b"]), Solution("q", ["c"])]))
    array([0, 0, 1])
    """
    entries: Any = X
    are_solutions = isinstance(entries, (list, tuple, np.ndarray)) and any(isinstance(one, Solution) for one in entries)
    rows: list[Any] = only_solutions(entries) if are_solutions else as_steps(entries)
    ids: dict[tuple[bool, int], int] = {}
    keys = zip([bool(row.problem) for row in rows], problem_keys(rows).tolist(), strict=True)
    return np.array([ids.setdefault(key, len(ids)) for key in keys], dtype=np.int64)


def joined_groups(ids: list[Any], texts: list[Any]) -> npt.NDArray[np.int64]:
    """Return groups that hold all rows which share an id or a text, numbered by their first rows. None is no text."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    numbers: dict[Any, int] = {}
    a = [numbers.setdefault(("id", problem_id), len(numbers)) for problem_id in ids]
    # A row without a text is tied to its id alone.
    names = [
        ("id", problem_id) if text is None else ("text", text) for problem_id, text in zip(ids, texts, strict=True)
    ]
    b = [numbers.setdefault(name, len(numbers)) for name in names]
    links = coo_array((np.ones(len(a)), (a, b)), shape=(len(numbers), len(numbers)))
    parts = connected_components(links, directed=False)[1][a]
    _, first, groups = np.unique(parts, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[groups].astype(np.int64)


_told = False


def warn_of_plain_strings(steps: list[Step]) -> None:
    """Warn, once per process, if steps were plain strings: no split can keep those of one solution together.

    The filters of ``warnings`` forget what they have shown whenever a filter changes, as it does in each fold.
    """
    global _told
    if _told or not any(step.solution.n_steps == 1 and not step.problem for step in steps):
        return
    _told = True
    warnings.warn(
        "X holds plain strings, which are steps without a problem. Nothing tells which of them belong to one solution, "
        "so each split, such as cv=5, puts steps of a solution on both sides and flatters the model. Pass steps that "
        "know their problem: flatten(solutions), or X, y = StepDataset.from_frame(frame). This is said once",
        UserWarning,
        stacklevel=6,
    )


def _text(problem: str | Solution | Step) -> str:
    if isinstance(problem, str):
        return problem
    solution = problem.solution if isinstance(problem, Step) else problem
    if not isinstance(solution, Solution):
        raise TypeError(f"a problem is {type(problem).__name__}, expected str, Solution or Step")
    return solution.problem or (solution.steps[0] if solution.steps else "")
