"""Solutions that grow: what is asked of each new step, with no more work than the steps before it demand.

A transformer, head or classifier may have a method ``grow(problem)`` that returns a :class:`Growing`. It is then asked
for new steps alone. Whatever has no such method is asked as ever, for new steps in their context.

Several solutions of one model may grow at once, see :func:`extend_together`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from scipy import sparse
from sklearn import get_config

from prmkit.data.solution import Solution, Step


class Growing(Protocol):
    """A solution as a model has read it so far: problem, steps, and what was computed of them."""

    def extend(self, steps: Sequence[str]) -> Any:
        """Read at least one new step, and return the rows of the new steps alone. After an error it is of no use."""

    def fork(self) -> Growing:
        """Return a copy that grows by itself. What was computed is shared where that is possible."""


class InContext:
    """Ask a function of steps for the new ones, each in its context. It may read all earlier steps anew."""

    def __init__(self, ask: Callable[[list[Step]], Any], problem: str) -> None:
        self._ask = ask
        self._solution = Solution(problem, ())

    def extend(self, steps: Sequence[str]) -> Any:
        """Ask for the new steps."""
        return self._ask(self._grown(steps))

    @staticmethod
    def extend_together(grown: Sequence[InContext], steps: Sequence[Sequence[str]]) -> list[Any]:
        """Ask once for the new steps of all."""
        asked = [step for one, new in zip(grown, steps, strict=True) for step in one._grown(new)]
        return _divided(grown[0]._ask(asked), steps)

    def _grown(self, steps: Sequence[str]) -> list[Step]:
        before = self._solution
        self._solution = Solution(before.problem, (*before.steps, *steps))
        return [Step(self._solution, t) for t in range(before.n_steps, self._solution.n_steps)]

    def fork(self) -> InContext:
        """Return a copy."""
        return copy.copy(self)


class Then:
    """Do something with the rows of the new steps, such as predicting from features."""

    def __init__(self, inner: Growing, do: Callable[[Any], Any]) -> None:
        self.inner, self.do = inner, do

    def extend(self, steps: Sequence[str]) -> Any:
        """Return what is made of the rows of the new steps."""
        return self.do(self.inner.extend(steps))

    @staticmethod
    def extend_together(grown: Sequence[Then], steps: Sequence[Sequence[str]]) -> list[Any]:
        """Do it once with the rows of all."""
        rows = extend_together([one.inner for one in grown], steps)
        return _divided(grown[0].do(joined(rows)), steps)

    def fork(self) -> Then:
        """Return a copy that grows by itself."""
        return Then(self.inner.fork(), self.do)


class Together:
    """Several readings of one solution. ``extend`` returns a list: what each of them makes of the new steps."""

    def __init__(self, parts: Sequence[Growing]) -> None:
        self._parts = list(parts)

    def extend(self, steps: Sequence[str]) -> list[Any]:
        """Let all of them read the new steps."""
        return [part.extend(steps) for part in self._parts]

    @staticmethod
    def extend_together(grown: Sequence[Together], steps: Sequence[Sequence[str]]) -> list[list[Any]]:
        """Let each part read the new steps of all."""
        by_part = [extend_together(parts, steps) for parts in zip(*(one._parts for one in grown), strict=True)]
        return [list(rows) for rows in zip(*by_part, strict=True)]

    def fork(self) -> Together:
        """Return a copy that grows by itself."""
        return Together([part.fork() for part in self._parts])


def extend_together(grown: Sequence[Growing], steps: Sequence[Sequence[str]]) -> list[Any]:
    """Let several solutions of one model read their new steps, and return the rows of each.

    A kind of :class:`Growing` that can read them in one batch has a static method of this name. Others read in turn.
    """
    kind: Any = type(grown[0])
    if len(grown) > 1 and hasattr(kind, "extend_together") and all(type(one) is kind for one in grown):
        rows: list[Any] = kind.extend_together(grown, steps)
        return rows
    return [one.extend(new) for one, new in zip(grown, steps, strict=True)]


def joined(parts: Sequence[Any]) -> Any:
    """Return the rows of several solutions as one table: arrays, what can join itself, or lists of these."""
    first = parts[0]
    if isinstance(first, list):
        return [joined(rows) for rows in zip(*parts, strict=True)]
    if hasattr(first, "joined"):
        return first.joined(parts)
    return sparse.vstack(parts, format="csr") if sparse.issparse(first) else np.concatenate(parts)


def _divided(rows: Any, steps: Sequence[Sequence[str]]) -> list[Any]:
    """Return the rows of each solution out of those of all."""
    rows = getattr(rows, "iloc", rows)
    ends = np.cumsum([len(new) for new in steps]).tolist()
    return [rows[end - len(new) : end] for end, new in zip(ends, steps, strict=True)]


def growing(part: Any, problem: str, ask: str = "predict_proba") -> Growing:
    """Return a solution without steps as a fitted part reads it: by its ``grow``, or by its method ``ask``."""
    grow = getattr(part, "grow", None)
    if getattr(part, "_sklearn_output_config", None) or get_config()["transform_output"] != "default":
        # Only the method itself gives the frames that somebody wants.
        grow = None
    grown: Growing = InContext(getattr(part, ask), problem) if grow is None else grow(problem)
    return grown


def grow_head(head: Any, featurizer: Any, problem: str, ask: Callable[[list[Step]], Any]) -> Growing:
    """Return a solution without steps as a head and its featurizer read it.

    A head may have ``grow(problem, featurizer)``. One that has only ``read`` looks at more than rows of features, and
    is asked as ever: ``ask`` gives the probabilities of steps in their context.
    """
    if hasattr(head, "grow"):
        grown: Growing = head.grow(problem, featurizer)
        return grown
    if featurizer is None or hasattr(head, "read"):
        return InContext(ask, problem)
    return Then(growing(featurizer, problem, "transform"), head.predict_proba)
