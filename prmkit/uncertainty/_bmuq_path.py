"""What BMUq calls a path and a step, read as steps of prmkit: strings, or objects that carry their text."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

from prmkit.data._solution import Solution, Step


def path_texts(path: Any) -> tuple[list[Any], list[str]]:
    """Return the steps of a path as they are, and their texts.

    Parameters
    ----------
    path : iterable of str or objects with a text, or an object with these as ``steps``

    Raises
    ------
    TypeError
        For one string, what cannot be iterated, or a step without a text.

    Examples
    --------
    >>> path_texts(Solution("2 + 3 * 4?", ["3 * 4 = 12."]))[1]
    ['3 * 4 = 12.']
    """
    path = getattr(path, "steps", path)
    if isinstance(path, str) or not isinstance(path, Iterable):
        raise TypeError(f"reasoning_path is one {type(path).__name__}, expected a list of steps: [step, …]")
    steps = list(path)
    return steps, [_text(step, f"reasoning_path[{i}]") for i, step in enumerate(steps)]


def place_steps(question: str, path: Any, wanted: Iterable[Any] | None) -> list[Step]:
    """Return the steps that are asked for, each in its path.

    Parameters
    ----------
    question : str
    path : as in :func:`path_texts`
    wanted : iterable of int, str or object with a text, or None
        See the notes of :class:`~prmkit.uncertainty.PRMUncertainty`. None: all steps of the path.

    Raises
    ------
    TypeError, ValueError, IndexError
        If a step has no text, equals several of the path, or is an index that the path does not have.

    Examples
    --------
    >>> [(step.index, step.text) for step in place_steps("2 + 3 * 4?", ["3 * 4 = 12."], [0, "So 14."])]
    [(0, '3 * 4 = 12.'), (1, 'So 14.')]
    """
    steps, texts = path_texts(path)
    whole = Solution(question, tuple(texts))
    if isinstance(wanted, str):
        raise TypeError("steps_to_evaluate is one str, expected a list of steps: [step]")
    wanted = wanted if wanted is None else list(getattr(wanted, "steps", wanted))
    if wanted is None or (
        wanted == texts and steps == texts
    ):  # strings: each in its place, even if two are equal
        return [Step(whole, index) for index in range(len(texts))]
    placed = []
    for step in wanted:
        index = _index_in(step, steps, texts)
        if index is None:
            following = Solution(question, (*texts, _text(step, "step_to_evaluate")))
            placed.append(Step(following, len(texts)))
        else:
            placed.append(Step(whole, index))
    return placed


def _index_in(step: Any, steps: list[Any], texts: list[str]) -> int | None:
    """Return where in the path a step is, None where it is not."""
    if isinstance(step, Integral) and not isinstance(step, bool):
        index = int(step)
        if not 0 <= index < len(texts):
            raise IndexError(f"step {index} of a path with {len(texts)} steps (0-based)")
        return index
    if isinstance(step, str):
        found = [i for i, text in enumerate(texts) if text == step]
    else:  # equal objects may stand in two places: a search repeats a step
        found = [i for i, other in enumerate(steps) if other is step]
    if len(found) > 1:
        raise ValueError(
            f"the steps at {found} of the path are all {step!r:.60}: pass the index of the one you mean"
        )
    return found[0] if found else None


def _text(step: Any, name: str) -> str:
    for text in (step, getattr(step, "content", None), getattr(step, "text", None)):
        if isinstance(text, str):
            return text
    raise TypeError(
        f"{name} is {type(step).__name__}, expected str or an object with its text as content or text"
    )
