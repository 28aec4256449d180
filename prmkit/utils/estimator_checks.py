"""The guarantees of prmkit as checks for any estimator over steps.

scikit-learn's ``check_estimator`` covers numeric input. These checks need steps: a score does not look ahead, batches
and order are invisible, and a solution costs one pass. ``path_checks`` holds those of estimators over whole solutions.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
from sklearn.base import BaseEstimator, clone

from prmkit.data.solution import Solution, Step, as_steps, flatten
from prmkit.utils._registry import REGISTRY

__all__ = [
    "check_no_lookahead",
    "check_one_pass_per_solution",
    "check_step_order_invariance",
    "check_step_subset_invariance",
    "registered_estimators",
]

TOLERANCE = 1e-5
"""Largest difference allowed in a feature or probability computed in float32."""

HALF_TOLERANCE = 2e-2
"""Largest difference allowed for a model in bfloat16, of which a head may be a steep function."""

ROUNDED_TOLERANCE = 1e-3
"""Largest share of a value that is allowed beside ``TOLERANCE`` for states in float32: a unit of float16, in which they
are kept."""


# The default encoder takes a token, of about four characters, through 36 linear layers.
_POSITIONS_PER_CHARACTER = 9


def registered_estimators() -> list[tuple[str, type]]:
    """Return name and class of every estimator of prmkit.

    Examples
    --------
    >>> [name for name, _ in registered_estimators()][:2]
    ['PRMClassifier', 'StepBlend']
    """
    return [(entry.name, type(entry.make(entry.a_setting))) for entry in REGISTRY]


def check_no_lookahead(estimator: Any, X: Sequence[Step], y: Sequence[Any], *, atol: float | None = None) -> None:
    """Check that cutting a solution after a step, or changing the later steps, leaves the step's score unchanged.

    X needs solutions of more than one step. ``atol`` is the allowed difference, by default ``TOLERANCE``, or
    ``HALF_TOLERANCE`` for models in bfloat16. Without it, states in float32 may also differ by ``ROUNDED_TOLERANCE`` of
    their size. AssertionError names the step whose score changed most.

    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> check_no_lookahead(StepStatistics(), *make_arithmetic_solutions(2, 1, random_state=0))
    """
    X, answer, allowed = _prepared(estimator, X, y, atol)
    whole = answer(X)
    cut = [_cut(step, ()) for step in X]
    changed = [_cut(step, ("But wait, that was wrong: the answer is 7.", "# Answer\n\n7")) for step in X]
    for what, other in (("its solution is cut after it", cut), ("other steps follow it", changed)):
        _compare(whole, answer(other), X, f"changes when {what}: it looks ahead", allowed)


def check_step_subset_invariance(
    estimator: Any, X: Sequence[Step], y: Sequence[Any], *, atol: float | None = None
) -> None:
    """Check that a step alone, and a part of the steps, score as they do among all, whatever the batches."""
    X, answer, allowed = _prepared(estimator, X, y, atol)
    whole = answer(X)
    alone = np.vstack([answer([step]) for step in X[:20]])
    _compare(whole[:20], alone, X[:20], "differs when it is scored alone", allowed)
    _compare(whole[::3], answer(X[::3]), X[::3], "differs when a third of the steps is scored", allowed)


def check_step_order_invariance(
    estimator: Any, X: Sequence[Step], y: Sequence[Any], *, atol: float | None = None
) -> None:
    """Check that shuffled steps keep their scores, and that a step that is given twice gets the same score twice."""
    X, answer, allowed = _prepared(estimator, X, y, atol)
    whole = answer(X)
    order = np.random.default_rng(0).permutation(len(X))
    shuffled = [X[i] for i in order]
    _compare(whole[order], answer(shuffled), shuffled, "differs when the steps are shuffled", allowed)
    twice = answer([X[0], *X, X[0]])
    _compare(twice[:1], twice[-1:], X[:1], "differs when the step is given twice", allowed)


def check_one_pass_per_solution(estimator: Any, X: Sequence[Step], y: Sequence[Any]) -> None:
    """Check that the work of a solution grows with its steps and not with their square, and nothing is computed twice.

    The work is the number of positions in torch's linear layers and of characters in prmkit's text encoder. It is
    counted and not timed. AssertionError names the counts.
    """
    _, answer, _ = _prepared(estimator, X, y, None)
    long = tuple(f"Add {t} to get {t * (t + 1) // 2}." for t in range(32))  # short: no encoder cuts it
    half, full = (flatten([Solution("How many?", long[:n])]) for n in (16, 32))
    work_half, work_full = _work(answer, half), _work(answer, full)
    assert work_full <= 3 * work_half, (
        f"{_name(estimator)} spends {work_full} on a solution of 32 steps and {work_half} on its first 16: one pass "
        "costs about twice as much, a pass per step four times"
    )
    work_twice = _work(answer, [*full, *full, *flatten([Solution("How many?", long)])])
    assert work_twice <= 1.1 * work_full, (
        f"{_name(estimator)} spends {work_twice} on a solution given three times and {work_full} on it given once"
    )


def _prepared(
    estimator: Any, X: Sequence[Step], y: Sequence[Any], atol: float | None
) -> tuple[list[Step], Callable[[list[Step]], np.ndarray], tuple[float, float]]:
    """Return the steps as a list, what a fitted copy answers to steps, and the difference allowed."""
    steps = as_steps(X)
    fitted = clone(estimator).fit(steps, y)
    return steps, _answers(fitted), _allowed(fitted, atol)


def _answers(fitted: Any) -> Callable[[list[Step]], np.ndarray]:
    names = ("predict_proba", "transform", "step_scores")
    method = next(getattr(fitted, name) for name in names if hasattr(fitted, name))

    def answer(steps: list[Step]) -> np.ndarray:
        out = method(steps)
        rows = out.toarray() if hasattr(out, "toarray") else np.asarray(out)
        return rows.reshape(len(steps), -1)

    return answer


def _cut(step: Step, later: tuple[str, ...]) -> Step:
    meta = dict(step.solution.meta or {})
    if (log_probs := meta.get("token_logprobs")) is not None:  # of each step: they follow the steps
        meta["token_logprobs"] = [*log_probs[: step.index + 1], *([-2.0, -4.0] for _ in later)]
    return Step(Solution(step.problem, (*step.prefix, step.text, *later), meta=meta), step.index)


def _compare(expected: np.ndarray, found: np.ndarray, X: list[Step], what: str, allowed: tuple[float, float]) -> None:
    (atol, share), expected = allowed, np.asarray(expected, dtype=float)
    gaps = np.abs(expected - found) - share * np.abs(expected)
    unknown = np.isnan(expected) == np.isnan(found)  # NaN is the same as NaN, and far from any number
    difference = np.where(np.isnan(gaps), np.where(unknown, 0.0, np.inf), gaps).reshape(len(X), -1).max(axis=1)
    worst = int(difference.argmax())
    assert difference[worst] <= atol, (
        f"the score of step {X[worst].index} ({X[worst].text!r:.60}) {what} "
        f"(by {difference[worst]:.2g}, allowed {atol:g}{f', beyond {share:g} of it' if share else ''})"
    )


def _allowed(fitted: Any, atol: float | None) -> tuple[float, float]:
    """Return the difference that is allowed, and the share of a value that is allowed beside it."""
    from prmkit.features import PRMFeaturizer

    read = [part for part in _parts(fitted) if isinstance(part, PRMFeaturizer)]
    half = any(part.kind in ("states", "embeddings") and part.precision != "float32" for part in read)
    if atol is not None or half:
        return HALF_TOLERANCE if atol is None else atol, 0.0
    return TOLERANCE, ROUNDED_TOLERANCE if any(part.kind == "states" for part in read) else 0.0


def _parts(fitted: Any) -> Iterator[Any]:
    """Yield an estimator and all that it holds."""
    inside = [fitted]
    while inside:
        part = inside.pop()
        yield part
        if isinstance(part, BaseEstimator):
            inside += vars(part).values()
        elif isinstance(part, (dict, list, tuple)):
            inside += part.values() if isinstance(part, dict) else part


def _name(estimator: Any) -> str:
    return type(estimator).__name__


def _work(answer: Callable[[list[Step]], np.ndarray], steps: list[Step]) -> int:
    """Positions through linear layers plus characters through the text encoder, with an empty cache."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, PRMKIT_CACHE_DIR=folder),
        _counted() as count,
    ):
        answer(steps)
    return count["positions"] + _POSITIONS_PER_CHARACTER * count["characters"]


@contextmanager
def _counted() -> Iterator[dict[str, int]]:
    import torch

    from prmkit.features.encoding.encoder import TextEncoder

    count = {"positions": 0, "characters": 0}
    iter_encode, encodes = TextEncoder.iter_encode, False

    def counting(self: Any, texts: Sequence[str]) -> Iterator[Any]:
        nonlocal encodes
        count["characters"] += sum(map(len, texts))
        # The positions of an encoder include padding, which would hide how the work grows. It computes ahead, in
        # threads of its own.
        encodes = True
        try:
            yield from iter_encode(self, texts)
        finally:
            encodes = False

    def before_forward(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if isinstance(module, torch.nn.Linear) and args and not encodes:
            count["positions"] += args[0].numel() // max(1, args[0].shape[-1])

    hook = torch.nn.modules.module.register_module_forward_pre_hook(before_forward)
    try:
        with mock.patch.object(TextEncoder, "iter_encode", counting):
            yield count
    finally:
        hook.remove()
