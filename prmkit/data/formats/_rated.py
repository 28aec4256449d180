"""prmkit's own rows: what a StepDataset says of a solution, with nothing left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats._step_labels import from_ratings, probability
from prmkit.data.formats.format import (
    Format,
    LabelledSolution,
    Rating,
    any_field,
    first_error_of,
    text_field,
    texts_field,
)
from prmkit.data.formats.reading import read
from prmkit.data.jsonlines import MalformedRecordError

_READ = {"id", "problem", "steps", "labels", "first_error", "meta"}


def _recognises(record: Any) -> bool:
    return isinstance(record, Mapping) and set(record) >= {"problem", "steps", "labels"}


def _parse(record: Any, solution_id: str, _counts: Counter[str]) -> list[LabelledSolution]:
    problem, steps = text_field(record, "problem"), texts_field(record, "steps")
    labels, nested = any_field(record, "labels"), any_field(record, "meta", {})
    if not isinstance(labels, list) or not isinstance(nested, Mapping):
        raise MalformedRecordError("wrong type", "expected labels as a list, and meta, if any, as an object")
    ratings = [_rating(label, f"labels[{i}]") for i, label in enumerate(labels)]
    if len({isinstance(rating, float) for rating in ratings if rating is not None}) > 1:
        raise MalformedRecordError("mixed labels", f"labels mix floats with ratings ({labels!r:.60})")
    meta = {"answer" if key == "final_answer" else key: record[key] for key in record if key not in _READ}
    own_id = record.get("id")
    labelled = from_ratings(
        problem, steps, ratings, own_id if isinstance(own_id, str) else solution_id, {**meta, **nested}
    )
    if "first_error" not in record:
        return [labelled]
    return [LabelledSolution(labelled.solution, labelled.ratings, _first_error(record, labelled))]


def _rating(label: Any, name: str) -> Rating:
    if label is None or (isinstance(label, int) and not isinstance(label, bool) and label in (-1, 0, 1)):
        return label
    if isinstance(label, float):
        return probability(label, name)
    raise MalformedRecordError(
        "unknown label", f"{name} is {label!r:.60}, expected -1, 0, 1, a float or null"
    )


def _first_error(record: Mapping[str, Any], labelled: LabelledSolution) -> int | None:
    """Return the stated first error; what the ratings say must not contradict it."""
    stated, n = record["first_error"], labelled.solution.n_steps
    if stated is not None and (
        isinstance(stated, bool) or not isinstance(stated, int) or not -1 <= stated < n
    ):
        raise MalformedRecordError(
            "first error beyond the steps", f"first_error is {stated!r:.40} of {n} steps"
        )
    implied = first_error_of(labelled.ratings)
    if None not in (stated, implied) and stated != implied:
        raise MalformedRecordError(
            "contradictory first error", f"first_error is {stated}, by the labels {implied}"
        )
    return stated


def _write(labelled: LabelledSolution) -> dict[str, Any]:
    solution = labelled.solution
    return {
        "id": solution.id,
        "problem": solution.problem,
        "steps": list(solution.steps),
        "labels": list(labelled.ratings),
        "first_error": labelled.first_error,
        "meta": dict(solution.meta or {}),
    }


RATED = Format(
    name="rated",
    description="prmkit's own rows: problem, steps, labels (-1, 0, +1, P(right) as a float, or null)",
    recognises=_recognises,
    parse=_parse,
    write=_write,
)


def load_rated(
    path: Any, *, on_error: str = "raise", limit: int | None = None, split: str = "train"
) -> StepDataset:
    """Load prmkit's own rows, the only layout that holds all that a ``StepDataset`` says of its solutions.

    ``{"id": "a", "problem": "2 + 3 * 4?", "steps": ["3 * 4 = 12.", "So 15."], "labels": [1, null],``
    ``"first_error": null, "meta": {"generator": "M"}}``

    Parameters
    ----------
    path : path, list of dict, ``datasets.Dataset`` or name on the Hugging Face hub
        A file (JSON lines, a JSON array, Parquet; also gzipped) or a folder of such.
    on_error : {"raise", "skip"}, default="raise"
        What to do with a record that breaks the layout; skipped ones are counted and warned about.
    limit : int, optional
        Read this many records at most.
    split : str, default="train"
        Of a data set on the hub.

    Returns
    -------
    StepDataset
        ``y`` holds -1, 0, +1, or floats in [0, 1]. Fields beside those above become ``Solution.meta``
        (``final_answer`` as ``answer``); without ``first_error`` the ratings tell it.

    Raises
    ------
    FileNotFoundError, ConnectionError
        If the source cannot be read.
    ValueError
        For an unknown label, unequal numbers of labels and steps, or a first error that the labels contradict.

    Examples
    --------
    >>> X, y = load_rated([{"problem": "2 + 3 * 4?", "steps": ["3 * 4 = 12.", "So 15."], "labels": [1, None]}])
    >>> [step.text for step in X], y
    (['3 * 4 = 12.'], array([1]))
    """
    return read(path, RATED, on_error=on_error, limit=limit, split=split)
