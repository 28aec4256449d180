"""Flat rows: one step and its label each, as in a table that somebody labelled by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.format import (
    Format,
    LabelledSolution,
    Record,
    check_writable_ratings,
    from_ratings,
    has_fields,
    labels_at,
)
from prmkit.data.formats.label_words import Label, map_of_labels, wrong_value
from prmkit.data.formats.reading import read, reads
from prmkit.data.formats.sources import OnError, Source
from prmkit.data.labels import NAMES, RATINGS

_has_step = has_fields({"step": str, "label": (str, int, float)})
_has_text = has_fields({"text": str, "label": (str, int, float)})


def _recognises(value: object) -> bool:
    return _has_step(value) or _has_text(value)


def _parse(
    record: Record,
    solution_id: str,
    _counts: Counter[str],
    *,
    label_map: Mapping[Any, Any] | None = None,
    worst: Label | None = None,
) -> list[LabelledSolution]:
    text = record.text("step" if "step" in record else "text")
    problem, prefix = record.text("problem", ""), _prefix(record)
    rating = map_of_labels(label_map, worst)(record.value("label"), "label")
    problem_id = record.value("problem_id", None)
    if not isinstance(problem_id, (str, int, float)):
        problem_id = record.note("problem_id")
    meta = None if problem_id is None else {"problem_id": problem_id}
    return [from_ratings(problem, [*prefix, text], [None] * len(prefix) + [rating], solution_id, meta)]


def _prefix(record: Record) -> list[str]:
    prefix = record.value("prefix", [])
    if isinstance(prefix, str):  # a cell of a CSV table
        try:
            prefix = json.loads(prefix) if prefix.strip() else []
        except (ValueError, RecursionError):
            raise wrong_value("prefix is no list", "prefix", prefix, "a JSON list") from None
    return Record({"prefix": prefix}).texts("prefix")


def _write(labelled: LabelledSolution) -> list[dict[str, Any]]:
    check_writable_ratings(labelled, hard_only="flat rows hold classes")
    solution, name_of = labelled.solution, dict(zip(RATINGS, NAMES, strict=True))
    rows = [
        {
            "problem": solution.problem,
            "prefix": list(solution.steps[:index]),
            "step": solution.steps[index],
            "label": name_of[int(rating)],
        }
        for index, rating in enumerate(labelled.ratings)
        if rating is not None
    ]
    problem_id = (solution.meta or {}).get("problem_id")
    return rows if problem_id is None else [{**row, "problem_id": problem_id} for row in rows]


FLAT = Format(
    name="flat",
    description="one step per row: text and label, or problem, prefix, step and label",
    recognises=_recognises,
    parse=_parse,
    write=_write,
    labels_of=labels_at("label"),
)


@reads
def load_flat(
    source: Source,
    label_map: Mapping[Any, Any] | None = None,
    *,
    worst: str | float | bool | None = None,
    on_error: OnError = "raise",
    limit: int | None = None,
    split: str | None = None,
) -> StepDataset:
    """Load rows of one step each.

    ``{"text": "3 * 4 = 12.", "label": "positive"}`` or
    ``{"problem": "2 + 3 * 4?", "prefix": ["3 * 4 = 12."], "step": "So 15.", "label": "negative", "problem_id": 7}``

    In CSV a prefix is a JSON list.

    Parameters
    ----------
    label_map : mapping, optional
        Rating of each label of the file: -1, 0 or +1, or "negative", "neutral" or "positive". Other numbers only order
        the labels, and ``worst`` then says at which end the worst is. If None, labels are the three names, "+" and
        "-", or booleans. Bare numbers need a map, because 0 is wrong in some files and neutral in others.
    worst : label, optional
        Label of the worst class, where the values of ``label_map`` are class numbers such as 0, 1, 2.

    Returns
    -------
    StepDataset
        One row per record, in its order. A text alone is a step without problem and prefix. ``groups`` follow
        ``problem_id`` if every row has one, else the problem texts.

    Warns
    -----
    UserWarning
        If rows have neither a problem nor a ``problem_id``. Splitting by problem is then impossible.

    Examples
    --------
    >>> X, y = load_flat([{"problem": "2 + 3?", "step": "2 + 3 = 5.", "label": "good"}], {"good": 1, "bad": -1})
    >>> X[0].text, y
    ('2 + 3 = 5.', array([1]))
    >>> rows = [{"problem": "2 + 3?", "step": "2 + 3 = 6.", "label": "negative"}]
    >>> load_flat(rows, {"negative": 2, "neutral": 1, "positive": 0}, worst="negative").y
    array([-1])
    """
    return read(source, FLAT, on_error=on_error, limit=limit, split=split, label_map=label_map, worst=worst)
