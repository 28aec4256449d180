"""What the layouts with a label per step share: as many labels as steps, plus and minus, where step 1 begins."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from prmkit.data.formats.format import LabelledSolution, Rating, any_field, first_error_of, one_based_index
from prmkit.data.jsonlines import MalformedRecordError
from prmkit.data.solution import Solution


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


_RATING_OF_SIGN = {"+": 1, "-": -1}


def from_ratings(
    problem: str,
    steps: Sequence[str],
    ratings: Sequence[Rating],
    solution_id: str,
    meta: Mapping[str, Any] | None = None,
) -> LabelledSolution:
    """Return a solution whose steps are rated one by one.

    Raises
    ------
    MalformedRecordError
        If there are no steps, or not one rating for each.
    """
    if not steps:
        raise MalformedRecordError("no steps", "the list of steps is empty")
    if len(ratings) != len(steps):
        raise MalformedRecordError("unequal lengths", f"{len(ratings)} labels for {len(steps)} steps")
    solution = Solution(problem, tuple(steps), id=solution_id, meta=meta)
    return LabelledSolution(solution, tuple(ratings), first_error_of(ratings))


def rating_of_sign(label: Any, name: str) -> int:
    """Return +1 for "+", -1 for "-", compared exactly after stripping white space.

    Raises
    ------
    MalformedRecordError
        For anything else.
    """
    rating = _RATING_OF_SIGN.get(label.strip()) if isinstance(label, str) else None
    if rating is None:
        raise MalformedRecordError("unknown label", f"{name} is {label!r:.60}, expected '+' or '-'")
    return rating


def probability(value: Any, name: str) -> float:
    """Return a number in [0, 1] as float.

    Raises
    ------
    MalformedRecordError
        For anything else, NaN and booleans included.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise MalformedRecordError(
        "no probability", f"{name} is {value!r:.60}, expected a number from 0 to 1: P(the step is right)"
    )


def signs_of(labelled: LabelledSolution) -> tuple[list[str], list[str]]:
    """Return the steps up to the last rated one, and "+" or "-" for each; neutral steps are right, so "+".

    Raises
    ------
    MalformedRecordError
        Where "+" and "-" cannot say it: probabilities, or a step before the last rated one without a rating.
    """
    rated = [i for i, rating in enumerate(labelled.ratings) if rating is not None]
    if not rated:
        raise MalformedRecordError("no rated step", "the solution has no label to write")
    ratings = labelled.ratings[: rated[-1] + 1]
    if len(rated) < len(ratings):
        raise MalformedRecordError("steps without a label", "this layout labels every step")
    if any(isinstance(rating, float) for rating in ratings):
        raise MalformedRecordError("soft labels", "this layout holds + and - alone: choose a threshold first")
    return list(labelled.solution.steps[: len(ratings)]), ["-" if rating == -1 else "+" for rating in ratings]


def split_problem(
    text: str, step_separator: str | re.Pattern[str] | None, counts: Counter[str]
) -> tuple[str, str]:
    """Cut "problem step 1" where the separator stands first; without one the problem is "", and the row doubtful.

    Raises
    ------
    MalformedRecordError
        If the separator does not occur.
    TypeError
        If it is neither text nor a compiled pattern.
    """
    if step_separator is None:
        counts["doubtful: problem not separated from step 1"] += 1
        return "", text.strip()
    if isinstance(step_separator, str) and step_separator:
        pattern = re.compile(re.escape(step_separator))
    elif isinstance(step_separator, re.Pattern):
        pattern = step_separator
    else:
        raise TypeError(f"step_separator is {step_separator!r}, expected a text, re.compile(…) or None")
    found = pattern.search(text)
    if found is None:
        raise MalformedRecordError(
            "no separator", f"{pattern.pattern!r} does not occur between problem and step 1: {text!r:.60}"
        )
    return text[: found.start()].strip(), text[found.end() :].strip()
