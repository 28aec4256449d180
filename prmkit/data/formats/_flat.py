"""Flat rows: one step and its label each, as in a table that somebody labelled by hand."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.format import (
    Format,
    LabelledSolution,
    Record,
    check_writable_ratings,
    from_ratings,
    has_fields,
    labels_at,
    wrong_value,
)
from prmkit.data.formats.reading import read, reads
from prmkit.data.formats.sources import OnError, Source
from prmkit.data.labels import NAMES, RATINGS

Label: TypeAlias = str | float | bool
_Key: TypeAlias = tuple[bool, bool, Label]
# A label with two flags, whether it is a text and whether a boolean: 1, True and "1" are different labels.

_RATING_OF: dict[Label, int] = {**dict(zip(NAMES, RATINGS, strict=True)), "-": -1, "+": 1, False: -1, True: 1}

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


def map_of_labels(label_map: Mapping[Any, Any] | None, worst: Label | None = None) -> Callable[[object, str], int]:
    """Return a function of a label and its name that gives the rating by a map, or that of a label that needs none.

    The map is checked at once. The function raises MalformedRecordError for a label that the map lacks.
    """
    ratings = _ratings_of_labels(label_map, worst)

    def rating_of(label: object, name: str) -> int:
        rating = ratings.get(_key(label)) if isinstance(label, (str, int, float)) else None
        if rating is None:
            expected = ", ".join(repr(one) for _, _, one in ratings)
            expected += " (label_map={label: rating, …} declares others)"
            raise wrong_value("unknown label", name, label, expected)
        return rating

    return rating_of


def _ratings_of_labels(label_map: Mapping[Any, Any] | None, worst: Label | None) -> dict[_Key, int]:
    """Return the rating of every label of a map, or of the labels that need none.

    Raises
    ------
    ValueError
        If the map leaves open which class is worst, or has other than two or three classes.
    """
    if label_map is None:
        if worst is not None:
            raise ValueError("worst is given without label_map: pass label_map={label: class number, …} too")
        return {_key(label): rating for label, rating in _RATING_OF.items()}
    if not isinstance(label_map, Mapping) or not label_map:
        raise ValueError(f"label_map is {label_map!r:.60}, expected a mapping from labels to ratings")
    rating_of_name = dict(zip(NAMES, RATINGS, strict=True))
    values = {
        label: rating_of_name.get(value, value) if isinstance(value, str) else value
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
    # CSV writes numbers as texts, and the keys of JSON are texts.
    for label, rating in ratings.items():
        keys.setdefault(_key(_otherwise(label)), rating)
    return keys


def _ordered(values: Mapping[Any, Any], worst: Label) -> dict[Any, int]:
    """Return ratings for two or three class numbers, of which ``worst`` stands at one end."""
    classes = sorted(set(values.values()))
    if worst not in values or values[worst] not in (classes[0], classes[-1]) or len(classes) not in (2, 3):
        raise ValueError(
            f"worst is {worst!r} in the classes {dict(values)}, expected a label at one end of two or three classes"
        )
    if values[worst] == classes[-1]:
        classes.reverse()
    rating_of = dict(zip(classes, (-1, 0, 1) if len(classes) == 3 else (-1, 1), strict=True))
    return {label: rating_of[value] for label, value in values.items()}


def _otherwise(label: Label) -> Label:
    """Return a number as text, as CSV has it, and such a text as a number, because the keys of JSON are texts."""
    if not isinstance(label, str):
        return label if isinstance(label, bool) else str(label)
    return int(label) if re.fullmatch(r"\s*[-+]?\d{1,9}\s*", label) else label


def _key(label: Label) -> _Key:
    # 1 == True to Python, so the key holds the type too.
    return isinstance(label, str), isinstance(label, bool), label.strip() if isinstance(label, str) else label


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
