"""prmkit's own rows: all that a StepDataset says of a solution. ``StepDataset.to_hf`` has the same columns."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.format import Format, LabelledSolution, Record, from_ratings, has_fields, labels_at
from prmkit.data.formats.label_words import Meaning, Rating, check_meaning, meaning_of, rating_of, wrong_value
from prmkit.data.formats.reading import read, reads
from prmkit.data.formats.sources import OnError, Source
from prmkit.data.jsonlines import MalformedRecordError
from prmkit.data.solution_lines import solution_record

# "positions" and "rows" belong to the rows of a StepDataset, which only StepDataset.from_hf restores.
_COLUMNS = {"id", "problem", "steps", "labels", "first_error", "meta", "positions", "rows", "vocabulary"}
_UNDECLARED = "solutions whose labels 0 nothing declares"


def _parse(
    record: Record, solution_id: str, counts: Counter[str], *, labels: Meaning | None = None
) -> list[LabelledSolution]:
    check_meaning(labels)
    problem, steps = record.text("problem"), record.texts("steps")
    values, declared = record.array("labels"), _declared(record)
    if isinstance(declared, list):
        values, declared = _in_own_order(values, declared), "rating"
    meaning = labels or declared or meaning_of(values, "labels")
    ratings = [rating_of(value, f"labels[{i}]", meaning) for i, value in enumerate(values)]
    # prmkit's own files state first errors, and their whole numbers are ratings.
    has_zero = any(value == 0 and type(value) is int for value in values)
    if meaning is None and "first_error" not in record and has_zero:
        counts[_UNDECLARED] += 1
    meta = {
        "answer" if name == "final_answer" else name: value
        for name, value in record.fields.items()
        if name not in _COLUMNS
    }
    solution_id = record.note("id") or solution_id
    labelled = from_ratings(problem, steps, ratings, solution_id, {**meta, **_meta(record)})
    # A field that holds null states that the first error is unknown.
    if "first_error" not in record:
        return [labelled]
    return [replace(labelled, first_error=_first_error(record, labelled))]


def _meta(record: Record) -> Mapping[str, Any]:
    """Return the metadata of a record: an object, or its JSON text as in a column of ``to_hf``."""
    meta = record.value("meta", None)
    if isinstance(meta, str):
        try:
            meta = json.loads(meta)
        except (ValueError, RecursionError):
            raise wrong_value("wrong type", "meta", meta, "an object") from None
    if meta is not None and not isinstance(meta, Mapping):
        raise wrong_value("wrong type", "meta", meta, "an object")
    return meta or {}


def _declared(record: Record) -> Any:
    """Return the vocabulary that a record declares, also as JSON text. None if it declares none."""
    value = record.value("vocabulary", None)
    if isinstance(value, str) and value not in ("rating", "binary", "soft"):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    is_order = isinstance(value, list) and len(value) in (2, 3)
    if value not in (None, "rating", "binary", "soft") and not is_order:
        raise wrong_value(
            "unknown vocabulary", "vocabulary", value, "'rating', 'binary', 'soft' or two or three labels"
        )
    return value


def _in_own_order(values: list[Any], order: list[Any]) -> list[Rating]:
    """Return the ratings of labels of a declared order: two labels are wrong and right."""
    ratings = (-1, 0, 1) if len(order) == 3 else (-1, 1)
    for i, value in enumerate(values):
        if value is not None and value not in order:
            raise wrong_value("unknown label", f"labels[{i}]", value, ", ".join(map(repr, order)))
    return [None if value is None else ratings[order.index(value)] for value in values]


def _settle(solutions: Iterator[LabelledSolution], counts: Counter[str]) -> Iterator[LabelledSolution]:
    """Refuse a source that holds 0 and never -1, and does not say what 0 means: neutral, or wrong."""
    has_wrong = False
    for labelled in solutions:
        has_wrong = has_wrong or -1 in labelled.ratings
        yield labelled
    if counts.pop(_UNDECLARED, 0) and not has_wrong:
        raise ValueError(
            "the labels are 0 and 1, and nothing says what 0 means: pass labels='binary' if it is wrong, or "
            "labels='rating' if it is neutral"
        )


def _first_error(record: Record, labelled: LabelledSolution) -> int | None:
    """Return the stated first error, which must not contradict the ratings."""
    stated, n = record.value("first_error"), labelled.solution.n_steps
    if stated is not None and (isinstance(stated, bool) or not isinstance(stated, int) or not -1 <= stated < n):
        raise MalformedRecordError("first error beyond the steps", f"first_error is {stated!r:.40} of {n} steps")
    implied = labelled.first_error
    if None not in (stated, implied) and stated != implied:
        raise MalformedRecordError("contradictory first error", f"first_error is {stated}, by the labels {implied}")
    return stated


def _write(labelled: LabelledSolution) -> dict[str, Any]:
    solution = labelled.solution
    record = solution_record(solution, labelled.ratings, labelled.first_error, dict(solution.meta or {}))
    is_soft = any(isinstance(rating, float) for rating in labelled.ratings)
    return {**record, "vocabulary": "soft" if is_soft else "rating"}


RATED = Format(
    name="rated",
    description="prmkit's own rows: problem, steps, labels (-1, 0, +1, P(right) as a float, or null)",
    recognises=has_fields({"problem": object, "steps": object, "labels": object}),
    parse=_parse,
    write=_write,
    labels_of=labels_at("labels"),
    across=_settle,
)


@reads
def load_rated(
    source: Source,
    *,
    labels: Meaning | None = None,
    on_error: OnError = "raise",
    limit: int | None = None,
    split: str | None = None,
) -> StepDataset:
    """Load prmkit's own rows, the only format that holds all that a ``StepDataset`` says of its solutions.

    ``{"id": "a", "problem": "2 + 3 * 4?", "steps": ["3 * 4 = 12.", "So 15."], "labels": [1, null],``
    ``"first_error": null, "meta": {"generator": "M"}, "vocabulary": "rating"}``

    ``StepDataset.to_hf`` writes the same columns, so its result is read too.

    Parameters
    ----------
    labels : {"rating", "binary", "soft"}, optional
        Meaning of numbers. "rating": -1 wrong, 0 neutral, 1 right. "binary": 0 wrong, 1 right. "soft": the probability
        that the step is right. If None, the field ``vocabulary`` tells it. Without it, floats are probabilities and
        whole numbers ratings. Labels that are 0 and 1 throughout are refused then, unless a field ``first_error``
        shows that prmkit wrote them.

    Returns
    -------
    StepDataset
        ``y`` holds -1, 0, +1, or floats in [0, 1]. Fields beside those above become ``Solution.meta``
        (``final_answer`` as ``answer``). Without the field ``first_error``, the ratings tell it.

    Examples
    --------
    >>> X, y = load_rated([{"problem": "2 + 3 * 4?", "steps": ["3 * 4 = 12.", "So 15."], "labels": [1, None]}])
    >>> [step.text for step in X], y
    (['3 * 4 = 12.'], array([1]))
    """
    return read(source, RATED, on_error=on_error, limit=limit, split=split, labels=labels)
