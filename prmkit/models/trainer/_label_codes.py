"""Labels of one solution as class codes or probabilities, with what is wrong with a label said in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

IGNORE = -100
"""The label of a token without a target."""


def label_codes(labels: Sequence[Any], classes: Sequence[Any] | None, where: str) -> list[Any]:
    """Return the code of each label, its place among the classes, or its probability; None stays None.

    Parameters
    ----------
    labels : sequence
        Of one solution.
    classes : sequence or None
        Worst first. None: the labels are probabilities of the best class, in [0, 1].
    where : str
        The row, for messages.

    Raises
    ------
    ValueError
        For a label that is none of the classes, or no probability.

    Examples
    --------
    >>> label_codes([1, None, -1], (-1, 0, 1), "row 0")
    [2, None, 0]
    """
    kinds = {isinstance(label, float) for label in labels if label is not None}
    if len(kinds) > 1:
        raise ValueError(
            f"{where}: labels mix floats with others ({list(labels)}), expected one kind: write 1.0, not 1 or True"
        )
    return [None if label is None else _code(label, classes, where) for label in labels]


def _code(label: Any, classes: Sequence[Any] | None, where: str) -> int | float:
    if label == IGNORE:
        raise ValueError(f"{where}: label -100, which only tokens have: write None for a step without label")
    if classes is None:
        if isinstance(label, (bool, int, float)) and 0 <= label <= 1:
            return float(label)
        raise ValueError(
            f"{where}: label {label!r}, expected a probability in [0, 1], or None for a step without label"
        )
    binary = set(classes) == {0, 1}
    # False is 0 to Python, and would be read as neutral among -1, 0 and 1.
    if label in classes and (binary or not isinstance(label, bool)):
        return list(classes).index(label)
    hint = ": ratings need three classes, label_order=[-1, 0, 1]" if label == -1 and binary else ""
    if isinstance(label, float):
        hint = ": probabilities need a data set of them, and a loss that takes them"
    raise ValueError(f"{where}: label {label!r}, expected one of {', '.join(map(repr, classes))}{hint}")


def check_lengths(steps: Sequence[str], labels: Sequence[Any], where: str) -> None:
    """Raise ValueError unless there are steps and one label for each."""
    if not steps:
        raise ValueError(
            f"{where} has no steps (completions is empty), expected one or more: leave the row out"
        )
    if len(labels) != len(steps):
        raise ValueError(
            f"{where} has {len(labels)} labels for {len(steps)} steps (completions), expected one for each, "
            "None for a step without label"
        )
