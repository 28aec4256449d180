"""What a layout of step labels is to prmkit: how a record of it is recognised, read, and written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prmkit.data.jsonlines import MalformedRecordError
from prmkit.data.solution import Solution

Rating = int | float | None
"""-1, 0 or +1; a float in [0, 1] where the format gives P(right); None where nobody judged the step."""


@dataclass(frozen=True)
class LabelledSolution:
    """One solution as a format gives it.

    Parameters
    ----------
    solution : Solution
        ``meta`` may hold ``answer`` (reference), ``candidate_answer``, ``generator``, ``error_type``, ….
    ratings : tuple of (int, float or None), one per step
    first_error : int or None
        0-based, -1 where no step is wrong, None where it is not known.
    """

    solution: Solution
    ratings: tuple[Rating, ...]
    first_error: int | None


@dataclass(frozen=True)
class Format:
    """A layout of step labels.

    Parameters
    ----------
    name : str
        What ``load(path, format=…)`` calls it.
    description : str
        One line, with what a label means there.
    recognises : callable
        ``recognises(record)``: whether a record, whatever it is, can be of this layout and of no other.
    parse : callable
        ``parse(record, solution_id, counts, **options)`` gives the solutions of a record; it raises
        :class:`~prmkit.data.jsonlines.MalformedRecordError` for one that breaks the layout, and counts what it leaves
        out or finds doubtful in ``counts``.
    across : callable, optional
        ``across(found, counts)`` gets all solutions of one read, as they come, and yields those to keep: for a layout
        that repeats a solution in several records.
    options : mapping of str to value
        The options of ``parse`` with their defaults.
    write : callable, optional
        ``write(labelled)`` gives a record of the layout (or a list of them), or raises MalformedRecordError where it
        cannot hold the solution. None: prmkit does not write this layout.
    as_one : bool
        Whether a file is one JSON value (an array of records) rather than JSON lines, in writing.
    """

    name: str
    description: str
    recognises: Callable[[Any], bool]
    parse: Callable[..., Iterable[LabelledSolution]]
    across: Callable[[Iterator[LabelledSolution], Counter[str]], Iterator[LabelledSolution]] = (
        lambda found, _: found
    )
    options: Mapping[str, Any] = field(default_factory=dict)
    write: Callable[[LabelledSolution], dict[str, Any] | list[dict[str, Any]]] | None = None
    as_one: bool = False


def from_first_error(
    problem: str,
    steps: Sequence[str],
    first_error: int,
    solution_id: str,
    meta: Mapping[str, Any] | None = None,
) -> LabelledSolution:
    """Return a solution whose first error is known: steps before it are right, later ones nobody judged.

    Raises
    ------
    MalformedRecordError
        If there are no steps, or the index is none of them.
    """
    if not steps:
        raise MalformedRecordError("no steps", "the list of steps is empty")
    if not -1 <= first_error < len(steps):
        raise MalformedRecordError(
            "first error beyond the steps", f"0-based index {first_error} of {len(steps)} steps"
        )
    n = len(steps)
    right = n if first_error < 0 else first_error
    ratings: list[Rating] = [1] * right + ([-1] if right < n else []) + [None] * (n - right - 1)
    return LabelledSolution(
        Solution(problem, tuple(steps), id=solution_id, meta=meta), tuple(ratings), first_error
    )


def first_error_of(ratings: Sequence[Rating]) -> int | None:
    """Return the first step rated -1, -1 where all are judged and none is; None where that is not known.

    A step without a rating, or with a soft one, before the first -1 leaves the first error unknown.
    """
    for index, rating in enumerate(ratings):
        if rating is None or isinstance(rating, float):
            return None
        if rating < 0:
            return index
    return -1


def text_field(record: Any, name: str, default: Any = ...) -> Any:
    """Return a field that must be a string.

    Raises
    ------
    MalformedRecordError
        If the record is no object, lacks the field (without a default), or holds something else there.
    """
    value = any_field(record, name, default)
    if value is not default and not isinstance(value, str):
        raise MalformedRecordError(
            f"{name} is no string", f"{name} is {type(value).__name__} ({value!r:.60})"
        )
    return value


def texts_field(record: Any, name: str) -> list[str]:
    """Return a field that must be a list of strings; errors as :func:`text_field`."""
    value = any_field(record, name)
    if not isinstance(value, list):
        raise MalformedRecordError(f"{name} is no list", f"{name} is {type(value).__name__} ({value!r:.60})")
    for i, text in enumerate(value):
        if not isinstance(text, str):
            raise MalformedRecordError(
                f"{name} holds no strings", f"{name}[{i}] is {type(text).__name__} ({text!r:.60})"
            )
    return value


def any_field(record: Any, name: str, default: Any = ...) -> Any:
    """Return a field of a record; errors as :func:`text_field`."""
    if not isinstance(record, Mapping):
        raise MalformedRecordError("no object", f"the record is {type(record).__name__} ({record!r:.60})")
    if name in record:
        return record[name]
    if default is ...:
        raise MalformedRecordError(
            f"without {name}", f"the fields are {', '.join(map(str, record)) or 'none'}"
        )
    return default


def one_based_index(value: Any, name: str) -> int:
    """Return a 1-based index, given as a string or a number, as 0-based; "N/A" as -1.

    Raises
    ------
    MalformedRecordError
        For anything else.
    """
    text = str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    if text == "N/A":
        return -1
    if text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0:
        return int(text) - 1
    raise MalformedRecordError(f"{name} is no index", f'{name} is {value!r:.60}, expected 1, 2, … or "N/A"')
