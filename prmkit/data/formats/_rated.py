"""prmkit's own rows: all that a StepDataset says of a solution. ``StepDataset.to_hf`` has the same columns."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from prmkit.data.dataset import StepDataset, solution_record
from prmkit.data.formats.format import (
    Format,
    LabelledSolution,
    Rating,
    Record,
    from_ratings,
    has_fields,
    probability,
    refuse_mixed,
    wrong_value,
)
from prmkit.data.formats.reading import read, reads
from prmkit.data.formats.sources import OnError, Source
from prmkit.data.jsonlines import MalformedRecordError

# "positions" and "rows" belong to the rows of a StepDataset, which only StepDataset.from_hf restores.
_COLUMNS = {"id", "problem", "steps", "labels", "first_error", "meta", "positions", "rows"}


def _parse(record: Record, solution_id: str, _counts: Counter[str]) -> list[LabelledSolution]:
    problem, steps = record.text("problem"), record.texts("steps")
    labels = record.array("labels")
    ratings = [_rating(label, f"labels[{i}]") for i, label in enumerate(labels)]
    refuse_mixed(ratings, "labels")
    meta = {
        "answer" if name == "final_answer" else name: value
        for name, value in record.fields.items()
        if name not in _COLUMNS
    }
    own_id = record.value("id", None)
    solution_id = own_id if isinstance(own_id, str) else solution_id
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
        except ValueError:
            raise wrong_value("wrong type", "meta", meta, "an object") from None
    if meta is not None and not isinstance(meta, Mapping):
        raise wrong_value("wrong type", "meta", meta, "an object")
    return meta or {}


def _rating(label: object, name: str) -> Rating:
    if label is None or (isinstance(label, int) and not isinstance(label, bool) and label in (-1, 0, 1)):
        return label
    if isinstance(label, float):
        return probability(label, name)
    raise wrong_value("unknown label", name, label, "-1, 0, 1, a float or null")


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
    return solution_record(solution, labelled.ratings, labelled.first_error, dict(solution.meta or {}))


RATED = Format(
    name="rated",
    description="prmkit's own rows: problem, steps, labels (-1, 0, +1, P(right) as a float, or null)",
    recognises=has_fields({"problem": object, "steps": object, "labels": object}),
    parse=_parse,
    write=_write,
)


@reads
def load_rated(
    source: Source, *, on_error: OnError = "raise", limit: int | None = None, split: str = "train"
) -> StepDataset:
    """Load prmkit's own rows, the only format that holds all that a ``StepDataset`` says of its solutions.

    ``{"id": "a", "problem": "2 + 3 * 4?", "steps": ["3 * 4 = 12.", "So 15."], "labels": [1, null],``
    ``"first_error": null, "meta": {"generator": "M"}}``

    ``StepDataset.to_hf`` writes the same columns, so its result is read too.

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
    return read(source, RATED, on_error=on_error, limit=limit, split=split)
