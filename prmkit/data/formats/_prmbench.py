"""PRMBench: right solutions into which errors of a named class were written, and the solutions as they were."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.format import Format, LabelledSolution, Record, error_at, from_ratings, has_fields
from prmkit.data.formats.label_words import Rating, wrong_value
from prmkit.data.formats.reading import read, reads_benchmark
from prmkit.data.formats.sources import OnError, Source
from prmkit.data.jsonlines import ContradictoryRecordError, MalformedRecordError
from prmkit.data.solution import Solution

_CLASSES = (
    "redundency",  # as published
    "circular",
    "counterfactual",
    "step_contradiction",
    "domain_inconsistency",
    "confidence",
    "missing_condition",
    "deception",
    "multi_solutions",
)
# "7.8 minutes" is no numbering, so a space must follow the full stop.
_NUMBERING = re.compile(r"^\s*(?:step\s+\d+\s*[.:)]|\d+[.)])\s+(?=\S)", re.IGNORECASE)


def _parse(
    record: Record,
    _solution_id: str,
    counts: Counter[str],
    *,
    include_original: bool = True,
    redundancy: str = "negative",
    strip_numbering: bool = False,
) -> list[LabelledSolution]:
    if redundancy not in ("negative", "neutral"):
        raise ValueError(f"redundancy is {redundancy!r}, expected 'negative' or 'neutral'")
    idx, error_type = record.note("idx"), record.text("classification").strip()
    if idx is None:
        raise MalformedRecordError("without idx", "it tells which solutions are of one problem")
    if error_type not in _CLASSES:
        raise wrong_value("unknown classification", "classification", error_type, f"one of {', '.join(_CLASSES)}")
    clean = _without_numbering if strip_numbering else lambda steps: steps
    originals = []
    if include_original:
        problem, steps = record.text("original_question"), record.texts("original_process")
        meta = {"kind": "original", "problem_id": idx}
        originals = [from_ratings(problem, clean(steps), [1] * len(steps), f"{idx}/original", meta)]
    problem, steps = record.text("modified_question"), record.texts("modified_process")
    wrong = _error_steps(record, len(steps), error_type, counts)
    if not wrong and error_type != "multi_solutions":
        counts["dropped: modified solutions without an error step"] += 1
        return originals
    # A redundant step is right but of no use. PRMScore counts it as wrong.
    wrong_rating = 0 if error_type == "redundency" and redundancy == "neutral" else -1
    ratings: list[Rating] = [wrong_rating if i in wrong else 1 for i in range(len(steps))]
    meta = {"kind": "modified", "error_type": error_type, "problem_id": idx}
    return [from_ratings(problem, clean(steps), ratings, f"{idx}/{error_type}", meta), *originals]


def _error_steps(record: Record, n_steps: int, error_type: str, counts: Counter[str]) -> set[int]:
    """Return the wrong steps, 0-based. Indices beyond the last step, which the published files hold, are counted."""
    numbers = record.value("error_steps")
    if not isinstance(numbers, list) or any(isinstance(i, bool) or not isinstance(i, int) or i < 1 for i in numbers):
        raise wrong_value("error_steps is no list of indices", "error_steps", numbers, "whole numbers from 1")
    if numbers and error_type == "multi_solutions":
        raise ContradictoryRecordError(
            "error steps of a right solution", f"error_steps is {numbers!r:.60}, but multi_solutions has no wrong step"
        )
    counts["error steps beyond the last step"] += sum(i > n_steps for i in numbers)
    return {i - 1 for i in numbers if i <= n_steps}


def _without_numbering(steps: list[str]) -> list[str]:
    return [_NUMBERING.sub("", step) for step in steps]


def _originals_once(solutions: Iterator[LabelledSolution], counts: Counter[str]) -> Iterator[LabelledSolution]:
    """Pass modified solutions on. At the end yield one original of each problem, in its most frequent wording."""
    # Each class repeats the original, and some copies differ in a few characters.
    variants: dict[str | None, list[LabelledSolution]] = {}
    ids: set[str | None] = set()
    for labelled in solutions:
        if (labelled.solution.meta or {})["kind"] == "original":
            variants.setdefault(labelled.solution.id, []).append(labelled)
            continue
        counts["doubtful: idx and class not unique"] += labelled.solution.id in ids
        ids.add(labelled.solution.id)
        yield labelled
    for same in variants.values():
        n_of_steps = Counter(labelled.solution.steps for labelled in same)
        n_of = Counter(labelled.solution for labelled in same)
        counts["repeated originals"] += len(same) - 1
        yield min(same, key=lambda labelled: _rank(labelled.solution, n_of_steps, n_of))


def _rank(solution: Solution, n_of_steps: Counter[tuple[str, ...]], n_of: Counter[Solution]) -> tuple[Any, ...]:
    """Sort the most frequent first and equally frequent ones by their text, whatever the order of the files."""
    steps = solution.steps
    return -n_of_steps[steps], json.dumps(steps, ensure_ascii=False), -n_of[solution], solution.problem


PRMBENCH = Format(
    name="prmbench",
    description="PRMBench's modified solutions, wrong at error_steps (1-based) and right elsewhere, and the originals",
    recognises=has_fields({"idx": object, "classification": object, "modified_process": object, "error_steps": object}),
    parse=_parse,
    labels_of=error_at("error_steps"),
    benchmark=True,
    across=_originals_once,
)


@reads_benchmark
def load_prmbench(
    source: Source,
    include_original: bool = True,
    *,
    redundancy: Literal["negative", "neutral"] = "negative",
    strip_numbering: bool = False,
    on_error: OnError = "raise",
    limit: int | None = None,
    split: str | None = None,
) -> StepDataset:
    """Load PRMBench (Song et al. 2025, arXiv:2501.03124).

    ``{"idx": "demo_3", "classification": "circular", "original_question": "2 + 3 * 4?", "modified_question":``
    ``"2 + 3 * 4?", "original_process": ["3 * 4 = 12.", "2 + 12 = 14."], "modified_process": ["Assume it is 14.",``
    ``"3 * 4 = 12.", "2 + 12 = 14."], "error_steps": [1]}``

    Parameters
    ----------
    include_original : bool, default=True
        Whether the unmodified solutions follow the modified ones. Each comes once, in its most frequent wording,
        although every class repeats it. PRMScore leaves them out.
    redundancy : {"negative", "neutral"}, default="negative"
        Rating of the error steps of the class ``redundency``: -1 as in PRMScore, or 0, because they are right but of
        no use.
    strip_numbering : bool, default=False
        Whether "1. " and "Step 1: " are cut off at the start of steps, in originals and modified solutions alike. Some
        were numbered only when they were modified, which gives them away.

    Returns
    -------
    StepDataset
        ``y`` holds -1 at the error steps and +1 elsewhere. After an error, +1 is a convention. Ids are ``idx/class``
        and ``idx/original``. ``groups`` follow ``idx``, because the wording of a problem varies. ``Solution.meta``
        holds ``kind`` ("modified" or "original"), ``error_type`` and ``problem_id``. Error steps beyond the last step,
        which the published files hold, are left out and counted. So is a modified solution without any error step,
        except in ``multi_solutions``.

    Examples
    --------
    >>> row = {
    ...     "idx": "demo_3", "classification": "circular", "original_question": "2 + 3 * 4?",
    ...     "modified_question": "2 + 3 * 4?", "original_process": ["3 * 4 = 12.", "2 + 12 = 14."],
    ...     "modified_process": ["Assume it is 14.", "3 * 4 = 12.", "2 + 12 = 14."], "error_steps": [1],
    ... }
    >>> dataset = load_prmbench([row])
    >>> dataset.y, [solution.id for solution in dataset.solutions]
    (array([-1,  1,  1,  1,  1]), ['demo_3/circular', 'demo_3/original'])
    """
    options = {"redundancy": redundancy, "strip_numbering": strip_numbering}
    settings = {"on_error": on_error, "limit": limit, "split": split, "published": True, **options}
    return read(source, PRMBENCH, include_original=include_original, **settings)
