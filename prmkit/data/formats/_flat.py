"""Flat rows: one step and its label each, as in a table that somebody labelled by hand."""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats._step_labels import from_ratings
from prmkit.data.formats.format import Format, LabelledSolution, any_field, text_field, texts_field
from prmkit.data.formats.reading import read
from prmkit.data.jsonlines import MalformedRecordError
from prmkit.data.labels import NAMES, RATINGS

Key = tuple[bool, bool, Any]
"""A label and whether it is a text or a boolean: 1, True and "1" are different labels."""

_KNOWN: dict[Any, int] = {**dict(zip(NAMES, RATINGS, strict=True)), "-": -1, "+": 1, False: -1, True: 1}


def ratings_of_labels(label_map: Mapping[Any, Any] | None, worst: Any = None) -> dict[Key, int]:
    """Return the rating of every label of a map, or of the labels that need none.

    Raises
    ------
    ValueError
        If the map leaves open which class is worst, or has other than two or three classes.
    """
    if label_map is None:
        if worst is not None:
            raise ValueError("worst is given without label_map: pass label_map={label: class number, …} too")
        return {_key(label): rating for label, rating in _KNOWN.items()}
    if not isinstance(label_map, Mapping) or not label_map:
        raise ValueError(f"label_map is {label_map!r:.60}, expected a mapping from labels to ratings")
    spelt = dict(zip(NAMES, RATINGS, strict=True))
    values = {
        label: spelt.get(value, value) if isinstance(value, str) else value
        for label, value in label_map.items()
    }
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in values.values()):
        raise ValueError(
            f"label_map is {dict(label_map)}, expected ratings as its values: -1, 0, 1 or 'negative', 'neutral', "
            "'positive'"
        )
    if worst is not None:
        ratings = _ordered(values, worst)
    elif set(values.values()) <= set(RATINGS) and -1 in values.values():
        ratings = {label: int(value) for label, value in values.items()}
    else:
        raise ValueError(
            f"label_map is {dict(label_map)}, which leaves open which class is worst: map to ratings, -1 the worst, or "
            "pass worst=<label>"
        )
    keys = {_key(label): rating for label, rating in ratings.items()}
    for label, rating in ratings.items():
        keys.setdefault(_key(_otherwise(label)), rating)
    return keys


def _ordered(values: Mapping[Any, Any], worst: Any) -> dict[Any, int]:
    classes = sorted(set(values.values()))
    if worst not in values or values[worst] not in (classes[0], classes[-1]) or len(classes) not in (2, 3):
        raise ValueError(
            f"worst is {worst!r} in the classes {dict(values)}, expected a label at one end of two or three classes"
        )
    if values[worst] == classes[-1]:
        classes.reverse()
    rating_of = dict(zip(classes, (-1, 0, 1) if len(classes) == 3 else (-1, 1), strict=True))
    return {label: rating_of[value] for label, value in values.items()}


def _otherwise(label: Any) -> Any:
    """Return a number as text, as CSV has it, and such a text as a number, since JSON's keys are texts."""
    if not isinstance(label, str):
        return label if isinstance(label, bool) else str(label)
    return int(label) if re.fullmatch(r"\s*[-+]?\d{1,9}\s*", label) else label


def known_labels(ratings: Mapping[Key, int]) -> str:
    """Return the labels in words, for messages."""
    return (
        ", ".join(repr(label) for _, _, label in ratings) + " (label_map={label: rating, …} declares others)"
    )


def _key(label: Any) -> Key:
    return isinstance(label, str), isinstance(label, bool), label.strip() if isinstance(label, str) else label


_TEXTS = ("step", "text")


def _recognises(record: Any) -> bool:
    return (
        isinstance(record, Mapping)
        and isinstance(record.get("label"), (str, int, float))
        and any(isinstance(record.get(name), str) for name in _TEXTS)
    )


def _parse(
    record: Any,
    solution_id: str,
    _counts: Counter[str],
    *,
    label_map: Mapping[Any, Any] | None = None,
    worst: Any = None,
) -> list[LabelledSolution]:
    text = text_field(record, "step" if "step" in any_object(record) else "text")
    problem, prefix = text_field(record, "problem", ""), _prefix(record)
    label = any_field(record, "label")
    ratings = ratings_of_labels(label_map, worst)
    key = label.strip() if isinstance(label, str) else label
    rating = ratings.get((isinstance(key, str), isinstance(key, bool), key)) if is_scalar(key) else None
    if rating is None:
        raise MalformedRecordError(
            "unknown label", f"label is {label!r:.60}, expected {known_labels(ratings)}"
        )
    meta = {"problem_id": record["problem_id"]} if record.get("problem_id") is not None else None
    if meta is not None and not is_scalar(meta["problem_id"]):
        raise MalformedRecordError("problem_id is no text", f"problem_id is {meta['problem_id']!r:.60}")
    return [from_ratings(problem, [*prefix, text], [None] * len(prefix) + [rating], solution_id, meta)]


def any_object(record: Any) -> Mapping[str, Any]:
    """Return a record that is an object; MalformedRecordError for any other."""
    any_field(record, "", None)
    return record


def is_scalar(value: Any) -> bool:
    """Whether a value is a text or a number."""
    return isinstance(value, (str, int, float))


def _prefix(record: Mapping[str, Any]) -> list[str]:
    prefix = record.get("prefix", [])
    if isinstance(prefix, str):  # a cell of a CSV table
        try:
            prefix = json.loads(prefix) if prefix.strip() else []
        except ValueError:
            raise MalformedRecordError(
                "prefix is no list", f"prefix is {prefix!r:.60}, expected a JSON list"
            ) from None
    return texts_field({"prefix": prefix}, "prefix")


def _write(labelled: LabelledSolution) -> list[dict[str, Any]]:
    if any(isinstance(rating, float) for rating in labelled.ratings):
        raise MalformedRecordError("soft labels", "flat rows hold classes: choose a threshold first")
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
    if not rows:
        raise MalformedRecordError("no rated step", "the solution has no label to write")
    problem_id = (solution.meta or {}).get("problem_id")
    return rows if problem_id is None else [{**row, "problem_id": problem_id} for row in rows]


FLAT = Format(
    name="flat",
    description="one step per row: text and label, or problem, prefix, step and label",
    recognises=_recognises,
    parse=_parse,
    options={"label_map": None, "worst": None},
    write=_write,
)


def load_flat(
    path: Any,
    label_map: Mapping[Any, Any] | None = None,
    *,
    worst: Any = None,
    on_error: str = "raise",
    limit: int | None = None,
    split: str = "train",
) -> StepDataset:
    """Load rows of one step each.

    ``{"text": "3 * 4 = 12.", "label": "positive"}`` or
    ``{"problem": "2 + 3 * 4?", "prefix": ["3 * 4 = 12."], "step": "So 15.", "label": "negative", "problem_id": 7}``

    Parameters
    ----------
    path : path, list of dict, ``datasets.Dataset`` or name on the Hugging Face hub
        A file (JSON lines, a JSON array, CSV with a header, Parquet; also gzipped) or a folder of such. In CSV a prefix
        is a JSON list.
    label_map : mapping, optional
        From each label of the file to its rating, -1, 0 or +1, or "negative", "neutral" or "positive". Other numbers
        only order the labels, and ``worst`` then says at which end the worst is. By default labels are the three names,
        "+" and "-", or booleans; bare numbers need a map, since 0 is wrong to some and neutral to others.
    worst : label, optional
        Where the values of ``label_map`` are class numbers, such as 0, 1, 2: the label of the worst class.
    on_error : {"raise", "skip"}, default="raise"
        What to do with a record that breaks the layout; skipped ones are counted and warned about.
    limit : int, optional
        Read this many records at most.
    split : str, default="train"
        Of a data set on the hub.

    Returns
    -------
    StepDataset
        One row per record, in its order; a text alone is a step without problem and prefix. ``groups`` follow
        ``problem_id`` where every row has one, else the problem texts.

    Raises
    ------
    FileNotFoundError, ConnectionError
        If the source cannot be read.
    ValueError
        For a label that the map lacks, or a map that leaves open which class is worst.

    Warns
    -----
    UserWarning
        If rows have neither a problem nor a ``problem_id``: splitting by problem is then impossible.

    Examples
    --------
    >>> X, y = load_flat([{"problem": "2 + 3?", "step": "2 + 3 = 5.", "label": "good"}], {"good": 1, "bad": -1})
    >>> X[0].text, y
    ('2 + 3 = 5.', array([1]))
    >>> rows = [{"problem": "2 + 3?", "step": "2 + 3 = 6.", "label": "negative"}]
    >>> load_flat(rows, {"negative": 2, "neutral": 1, "positive": 0}, worst="negative").y
    array([-1])
    """
    ratings_of_labels(label_map, worst)
    dataset = read(path, FLAT, on_error=on_error, limit=limit, split=split, label_map=label_map, worst=worst)
    if all(solution.meta for solution in dataset.solutions):
        return dataset
    alone = sum(not solution.problem for solution in dataset.solutions)
    if alone:
        warnings.warn(
            f"{alone} of {len(dataset.X)} rows name no problem: each counts as one of its own, so steps of one problem "
            "may stand on both sides of a split. Add a column problem or problem_id",
            UserWarning,
            stacklevel=2,
        )
    return dataset
