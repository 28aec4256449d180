"""What the layouts with one first error share: a number that the verdict on the solution must agree with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prmkit.data._malformed import MalformedRecordError
from prmkit.data.formats._format import any_field, one_based_index


def first_error_field(record: Any, index: str, verdict: str, wrong: str = "wrong") -> int:
    """Return a 1-based first error as 0-based, -1 for "N/A"; the field ``verdict`` must say the same.

    Parameters
    ----------
    record : object
    index, verdict : str
        Names of fields.
    wrong : str
        What the verdict is called where a step is wrong; the other is "correct".

    Raises
    ------
    MalformedRecordError
        If one of the fields is missing or says something else, or the two contradict each other.
    """
    first_error = one_based_index(any_field(record, index), index)
    is_correct = correct_or(record, verdict, wrong)
    if is_correct is None:
        raise MalformedRecordError(f"without {verdict}", f"{verdict} is null, {index} {record[index]!r:.60}")
    if is_correct != (first_error < 0):
        raise MalformedRecordError(
            "contradictory first error", f"{verdict} is {record[verdict]!r}, {index} {record[index]!r:.60}"
        )
    return first_error


def correct_or(record: Any, name: str, wrong: str = "wrong", default: Any = ...) -> bool | None:
    """Return True for "correct", False for ``wrong``, None for null; MalformedRecordError for anything else."""
    value = any_field(record, name, default)
    known = {"correct": True, wrong: False}
    text = value.strip() if isinstance(value, str) else None
    if value is not None and text not in known:
        raise MalformedRecordError(
            f"unknown {name}", f"{name} is {value!r:.60}, expected 'correct' or {wrong!r}"
        )
    return None if text is None else known[text]


def scalar_as_text(record: Any, name: str) -> str | None:
    """Return an answer or an id, which may be a number, as text; None where there is none."""
    value = any_field(record, name, None)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise MalformedRecordError(
            f"{name} is no text",
            f"{name} is {type(value).__name__} ({value!r:.60}), expected a text or a number",
        )
    return str(value)


def known_only(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata without what is not known."""
    return {name: value for name, value in meta.items() if value is not None}
