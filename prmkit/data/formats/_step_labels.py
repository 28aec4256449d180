"""What the layouts with a label per step share: as many labels as steps, plus and minus, where step 1 begins."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from prmkit.data._malformed import MalformedRecordError
from prmkit.data._solution import Solution
from prmkit.data.formats._format import LabelledSolution, Rating, first_error_of

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
